"""Group commit with real databases: two hundred objects and several saves of each, and the end is what was saved last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from chained_models import ChainedSaveMixin, Dispatcher, Lane, Operation, Outcome, SaveHandle
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend

OBJECTS = 200
ROUNDS = 4
PATIENCE = 60.0


class Base(DeclarativeBase):
    pass


class Reading(ChainedSaveMixin, MappedAsDataclass, Base):
    __tablename__ = "chained_group_reading"
    id: Mapped[int | None] = mapped_column(primary_key=True, default=None)
    sensor: Mapped[str] = mapped_column(default="", unique=True)
    n: Mapped[int] = mapped_column(default=0)


class Rare(ChainedSaveMixin, MappedAsDataclass, Base):
    """Written by an expression of its mapper, and so by the unit of work."""

    __tablename__ = "chained_group_rare"
    id: Mapped[int | None] = mapped_column(primary_key=True, default=None)
    n: Mapped[int] = mapped_column(default=0)
    parent: Mapped[int | None] = mapped_column(sa.ForeignKey("chained_group_rare.id"), default=None)


@sa.event.listens_for(Rare, "before_insert")
def _listened_to(mapper: Any, connection: Any, target: Any) -> None:
    """Whoever listens wants to be asked row by row."""


Database = tuple[sa.Engine, Callable[[], Any]]


class Counting(SQLAlchemyBackend):
    """Counts how many operations come in each call."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.sizes: Counter[int] = Counter()

    def execute(self, operation: Operation) -> Any:
        self.sizes[1] += 1
        return super().execute(operation)

    def execute_many(self, operations: Sequence[Operation]) -> Any:
        self.sizes[len(operations)] += 1
        return super().execute_many(operations)


class AsyncCounting(AsyncSQLAlchemyBackend):
    """The same, of coroutines."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.sizes: Counter[int] = Counter()

    async def execute(self, operation: Operation) -> Any:
        self.sizes[1] += 1
        return await super().execute(operation)

    async def execute_many(self, operations: Sequence[Operation]) -> Any:
        self.sizes[len(operations)] += 1
        return await super().execute_many(operations)


@pytest.fixture(params=["SQLite", "SQLite asynchronous", "PostgreSQL", "PostgreSQL asynchronous"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A way in for the test, and what makes a backend with a key table."""
    name: str = request.param
    is_async = name.endswith("asynchronous")
    if name.startswith("SQLite"):
        url = f"sqlite:///{tmp_path / 'group.db'}"
        async_url = url.replace("sqlite:", "sqlite+aiosqlite:")
    else:
        url = async_url = request.getfixturevalue("postgres_url")
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    SQLAlchemyBackend(engine, key_table=True).create_key_table()

    def backend() -> Any:
        if not is_async:
            return Counting(engine, lane=Lane(max_in_flight=1), key_table=True)
        from_loops = create_async_engine(async_url, poolclass=sa.NullPool)
        return AsyncCounting(from_loops, lane=Lane(max_in_flight=1), key_table=True)

    yield engine, backend
    Base.metadata.drop_all(engine)
    engine.dispose()


def all_saved(handles: Sequence[SaveHandle[Any]], dispatcher: Dispatcher) -> None:
    dispatcher.flush(PATIENCE)
    assert {handle.outcome for handle in handles} == {Outcome.SAVED}, [h.error for h in handles if h.error][:3]


def test_what_was_saved_last_is_stored(database: Database) -> None:
    """Creates, updates and patches of all of them, in fewer transactions; each row is there once, with its last value."""
    engine, make = database
    backend = make()
    with Dispatcher() as dispatcher:
        Reading.bind(backend, dispatcher=dispatcher)
        readings = [Reading(sensor=f"s{number}") for number in range(OBJECTS)]
        handles = [
            reading.save({"n": n * (number + 1)}, patch=n % 2 == 0)
            for n in range(1, ROUNDS + 1)
            for number, reading in enumerate(readings)
        ]
        all_saved(handles, dispatcher)
        gone = [reading.delete() for reading in readings[:50]]
        all_saved(gone, dispatcher)
    with engine.connect() as connection:
        stored = {row.sensor: (row.id, row.n) for row in connection.execute(sa.select(Reading.__table__))}
    assert stored == {f"s{n}": (readings[n].id, ROUNDS * (n + 1)) for n in range(50, OBJECTS)}
    assert sum(size * times for size, times in backend.sizes.items()) == len(handles) + len(gone)
    assert backend.sizes.total() < len(handles) / 4
    assert max(backend.sizes) <= 100


def test_a_subclass_that_overrides_execute_is_asked_for_each_save(database: Database) -> None:
    """Whether others are waiting, too, or not: else it depends on the load whether an audit is written."""
    engine, _ = database
    audited: list[str] = []

    class Audited(SQLAlchemyBackend):
        def execute(self, operation: Operation) -> Any:
            audited.append(operation.id)
            return super().execute(operation)

    backend = Audited(engine, lane=Lane(max_in_flight=1))
    with Dispatcher() as dispatcher:
        Reading.bind(backend, dispatcher=dispatcher)
        backend.lane.pause()
        handles = [Reading(sensor=f"s{number}").save() for number in range(3)]
        backend.lane.resume()
        all_saved(handles, dispatcher)
    assert len(audited) == 3


def test_what_must_be_written_row_by_row_is_sent_alone(database: Database) -> None:
    """The backend knows of whom, and says so: nobody else waits in a call for it. What is read gains by it all the same."""
    engine, make = database
    backend = make()
    with Dispatcher() as dispatcher:
        Rare.bind(backend, dispatcher=dispatcher)
        rares = [Rare(n=number) for number in range(20)]
        all_saved([rare.save() for rare in rares], dispatcher)
        assert backend.sizes == {1: 20}
        all_saved([rare.refresh() for rare in rares], dispatcher)
    assert backend.sizes[1] < 25
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Rare.__table__)) == 20
