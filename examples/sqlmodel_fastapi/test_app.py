"""How to test such an app: with a database of its own, and plain SQL at the end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from .app import make_app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drafts.sqlite"


def test_what_was_sent_last_is_what_is_stored(path: Path) -> None:
    """Fifty quick changes, answered at once; leaving the app writes them all, and the last one is in the database."""
    engine = create_engine(f"sqlite:///{path}")
    with TestClient(make_app(engine)) as client:
        number = client.post("/drafts", json={"title": "News"}).json()["id"]
        for count in range(50):
            assert client.put(f"/drafts/{number}", json={"text": "word " * count}).status_code == 202
        assert client.get(f"/drafts/{number}").json()["text"] == "word " * 49
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id, title, text FROM draft").fetchall() == [(number, "News", "word " * 49)]


def test_an_unknown_draft_is_not_found(path: Path) -> None:
    """Nothing is queued for it."""
    engine = create_engine(f"sqlite:///{path}")
    with TestClient(make_app(engine)) as client:
        assert client.put("/drafts/1", json={"text": "x"}).status_code == 404
    engine.dispose()
