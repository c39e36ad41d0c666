"""A few quick saves of each kind: what is run against the built wheel."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import responses
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import chained_models
from chained_models import ChainedSaveMixin, Dispatcher
from chained_models.backends.memory import MemoryBackend
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend

pytestmark = pytest.mark.smoke


class Basket(ChainedSaveMixin, BaseModel, resource="baskets"):
    id: int | None = None
    items: list[str] = []


@dataclass(slots=True)
class Box(ChainedSaveMixin, resource="boxes"):
    id: int | None = None
    items: list[str] = field(default_factory=list)


class Base(DeclarativeBase):
    pass


class Row(ChainedSaveMixin, Base):
    __tablename__ = "smoke_rows"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def save_thrice(model: Any) -> None:
    for items in (["apple"], ["apple", "pear"], []):
        last = model.save({"items": items})
    assert last.result(10) is model


@pytest.mark.skipif("CHAINED_MODELS_TEST_WHEEL" not in os.environ, reason="only where the built wheel is tested")
def test_the_wheel_is_what_is_tested() -> None:
    """The checkout is not importable where this variable is set."""
    assert "site-packages" in Path(chained_models.__file__).parts


@pytest.mark.parametrize("kind", [Basket, Box])
def test_memory(kind: Any) -> None:
    """A pydantic model, and a dataclass with slots."""
    backend = MemoryBackend()
    with Dispatcher() as dispatcher:
        kind.bind(backend, resource="things", dispatcher=dispatcher)
        model = kind()
        save_thrice(model)
    assert backend.stored("things") == {1: {"id": 1, "items": []}}
    assert model.id == 1


def test_rest() -> None:
    """One POST, then PUTs with the id that it gave."""
    backend = RestBackend("https://shop.example/api")
    with responses.RequestsMock() as shop, Dispatcher() as dispatcher:
        shop.post("https://shop.example/api/baskets", json={"id": 7}, status=201)
        shop.put("https://shop.example/api/baskets/7", json={})
        Basket.bind(backend, resource="baskets", dispatcher=dispatcher)
        save_thrice(Basket())
        assert [call.request.method for call in shop.calls] == ["POST", "PUT", "PUT"]
    backend.close()


def test_sqlalchemy(tmp_path: Path) -> None:
    """One INSERT, then UPDATEs."""
    engine = create_engine(f"sqlite:///{tmp_path / 'smoke.sqlite'}")
    Base.metadata.create_all(engine)
    with Dispatcher() as dispatcher:
        Row.bind(SQLAlchemyBackend(engine), dispatcher=dispatcher)
        row = Row(title="one")
        row.save()
        row.save({"title": "two"})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id, title FROM smoke_rows")).all() == [(1, "two")]
    engine.dispose()
    assert row.id == 1


def test_sqlalchemy_with_asyncio(tmp_path: Path) -> None:
    """The same in an event loop."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def run() -> list[Any]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'smoke.sqlite'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with Dispatcher() as dispatcher:
            Row.bind(AsyncSQLAlchemyBackend(engine), dispatcher=dispatcher)
            row = Row(title="one")
            row.save()
            assert await row.save({"title": "two"}) is row
        async with engine.connect() as connection:
            found = (await connection.execute(text("SELECT id, title FROM smoke_rows"))).all()
        await engine.dispose()
        return [tuple(each) for each in found]

    assert asyncio.run(run()) == [(1, "two")]
