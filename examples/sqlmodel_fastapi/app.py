"""Drafts of articles: an editor in a browser sends every few words, several tabs and impatient retries included.

Handlers answer as soon as a save is accepted; the saves of one draft are written in the order in which they came.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlmodel import Field, Session, SQLModel

from chained_models import ChainedSaveMixin, Dispatcher
from chained_models.backends.sqlalchemy import SQLAlchemyBackend


class Draft(ChainedSaveMixin, SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    title: str
    text: str = ""


class Change(BaseModel):
    text: str


class Desk:
    """The drafts that are being written: one object each, which all requests share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._drafts: dict[int, Draft] = {}
        self._lock = threading.Lock()

    def add(self, draft: Draft) -> None:
        assert draft.id is not None
        with self._lock:
            self._drafts[draft.id] = draft

    def get(self, number: int) -> Draft:
        with self._lock:
            draft = self._drafts.get(number)
            if draft is None:
                with Session(self._engine) as session:
                    draft = session.get(Draft, number)
                if draft is None:
                    raise HTTPException(404)
                self._drafts[number] = draft
            return draft


def make_app(engine: Engine) -> FastAPI:
    """The app for one database."""
    dispatcher = Dispatcher()
    # SQLModel keeps class keywords for itself, so the class is bound here.
    Draft.bind(SQLAlchemyBackend(engine), dispatcher=dispatcher)
    desk = Desk(engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        SQLModel.metadata.create_all(engine)
        async with dispatcher:  # when the app stops, what was accepted is written
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/drafts", status_code=201)
    async def create(draft: Draft) -> Draft:
        await draft.save()  # the answer needs the id
        desk.add(draft)
        return draft

    @app.put("/drafts/{number}", status_code=202)
    def change(number: int, change: Change) -> dict[str, Any]:
        draft = desk.get(number)
        draft.save({"text": change.text})  # accepted; written in its turn
        return {"waiting": len(draft.chain)}

    @app.get("/drafts/{number}")
    async def read(number: int) -> Draft:
        return desk.get(number)

    return app
