"""An SQLite file that is slow to reach, and whose triggers write down what arrived."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, create_engine, event

from .baskets import Base
from .tally import Row, Write

__all__ = ["Database"]

_LOG = """
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER, name TEXT, step INTEGER, created INTEGER);
CREATE TRIGGER created AFTER INSERT ON baskets
    BEGIN INSERT INTO log (id, name, step, created) VALUES (NEW.id, NEW.name, NEW.step, 1); END;
CREATE TRIGGER updated AFTER UPDATE ON baskets
    BEGIN INSERT INTO log (id, name, step, created) VALUES (NEW.id, NEW.name, NEW.step, 0); END;
"""


class Database:
    """A fresh database in `path`, with an engine while its ``with`` block is open.

    Args:
        path: A file that does not exist yet.
        seed: Decides about delays.
        connections: How many there may be at once.
    """

    def __init__(self, path: Path, seed: int, connections: int) -> None:
        self._path = path
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.engine: Engine = create_engine(
            f"sqlite:///{path}", pool_size=connections, pool_timeout=60, connect_args={"timeout": 30}
        )
        Base.metadata.create_all(self.engine)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_LOG)
        event.listen(self.engine, "begin", self._travel)

    def _travel(self, _connection: Connection) -> None:
        """The way to a database that is far away; nothing is locked in it yet."""
        with self._lock:
            seconds = self._random.uniform(0.01, 0.09)
        time.sleep(seconds)

    def log(self) -> list[Write]:
        """What arrived, in order."""
        with closing(sqlite3.connect(self._path)) as connection:
            found = connection.execute("SELECT name, id, step, created FROM log ORDER BY seq").fetchall()
        return [Write(name, row, step, bool(created)) for name, row, step, created in found]

    def rows(self) -> dict[int, Row]:
        """What is stored."""
        with closing(sqlite3.connect(self._path)) as connection:
            found = connection.execute("SELECT id, step, items FROM baskets").fetchall()
        return {row: Row(step, json.loads(items)) for row, step, items in found}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.engine.dispose()
