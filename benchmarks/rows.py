"""One table, as one class that saves itself and as one that does not; and what is to be written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Column, Engine, Float, Integer, String, Table, delete, insert, select
from sqlalchemy.orm import DeclarativeBase

from chained_models import ChainedSaveMixin

__all__ = ["COLUMNS", "Base", "Change", "Plain", "Saved", "Workload", "prepared", "stored", "table"]


class Base(DeclarativeBase):
    """Of this table only."""


table = Table(
    "things",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String),
    Column("email", String),
    Column("street", String),
    Column("city", String),
    Column("country", String),
    Column("count", Integer),
    Column("price", Float),
    Column("active", Boolean),
    Column("note", String),
)
COLUMNS = tuple(table.columns.keys())
Values = dict[str, Any]


class Plain(Base):
    """For `session.merge`."""

    __table__ = table


class Saved(ChainedSaveMixin, Base):
    """Ours."""

    __table__ = table


@dataclass(frozen=True, slots=True)
class Change:
    """What is set before one save, and all columns as they are then."""

    model: int
    changed: Values
    row: Values


class Workload:
    """The same changes for everybody: `saves` of each of `models`, in turn, of one to three columns each.

    Attributes:
        first: The rows as they are before.
        changes: In the order in which they are saved.
        last: The rows as they must be in the end.
    """

    def __init__(self, models: int, saves: int) -> None:
        chance = random.Random(20_26)
        rows = [_row(identity, chance) for identity in range(1, models + 1)]
        self.first = [dict(row) for row in rows]
        self.changes = list(_changes(rows, saves, chance))
        self.last = rows

    def __len__(self) -> int:
        return len(self.changes)


def _changes(rows: list[Values], saves: int, chance: random.Random) -> Iterator[Change]:
    for number in range(saves):
        for model, row in enumerate(rows):
            fresh = _row(row["id"], chance, number)
            changed = {name: fresh[name] for name in chance.sample(COLUMNS[1:], chance.randint(1, 3))}
            row.update(changed)
            yield Change(model, changed, dict(row))


def _row(identity: int, chance: random.Random, number: int = -1) -> Values:
    """Values that differ from those of any other number."""
    texts = {
        name: f"{name} {number} {chance.randrange(10**6)}"
        for name in COLUMNS
        if name not in ("id", "count", "price", "active")
    }
    return {
        name: {"id": identity, "count": number, "price": number / 4, "active": bool(number % 2), **texts}[name]
        for name in COLUMNS
    }


def prepared(engine: Engine, rows: list[Values]) -> None:
    """The table has these rows, and no others."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(delete(table))
        connection.execute(insert(table), rows)


def stored(engine: Engine) -> list[Values]:
    """What is there, by identity."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]
