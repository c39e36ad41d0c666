"""Many threads save many models into a real database; the database itself says in which order it was written."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

from chained_models import ChainedSaveMixin, Dispatcher, Guarantee, Lane, RetryPolicy
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend

THREADS, MODELS, SAVES = 8, 200, 50


class Base(orm.DeclarativeBase):
    pass


class Counter(ChainedSaveMixin, Base):
    __tablename__ = "counters"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    value: orm.Mapped[int]


# The ground truth: every write that took effect, numbered by the database.
SQLITE_LOG = [
    "CREATE TABLE log (number INTEGER PRIMARY KEY AUTOINCREMENT, counter INTEGER, value INTEGER)",
    "CREATE TRIGGER inserted AFTER INSERT ON counters BEGIN "
    "INSERT INTO log (counter, value) VALUES (new.id, new.value); END",
    "CREATE TRIGGER updated AFTER UPDATE ON counters BEGIN "
    "INSERT INTO log (counter, value) VALUES (new.id, new.value); END",
]
POSTGRES_LOG = [
    "CREATE TABLE log (number SERIAL PRIMARY KEY, counter INTEGER, value INTEGER)",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN INSERT INTO log (counter, value) VALUES (new.id, new.value); RETURN new; END'",
    "CREATE TRIGGER noted AFTER INSERT OR UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION note()",
]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An SQLite file with a log of its writes."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'counters.db'}")

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # the order is on trial here, not the disk

    yield from prepared(engine, SQLITE_LOG)


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[sa.Engine]:
    """A PostgreSQL database with a log of its writes."""
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        for statement in ("DROP TABLE IF EXISTS log, counters", "DROP FUNCTION IF EXISTS note()"):
            connection.exec_driver_sql(statement)
    yield from prepared(engine, POSTGRES_LOG)


def prepared(engine: sa.Engine, log: list[str]) -> Iterator[sa.Engine]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in log:
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


def save_from_threads(backend: Any, models: int, saves: int) -> None:
    """Eight threads, each with its own share of the models, save them all again and again as fast as they can."""
    with Dispatcher() as dispatcher:
        Counter.bind(backend, dispatcher=dispatcher, retry=RetryPolicy(attempts=20, wait_initial=0.01, timeout=120))
        mistakes: list[BaseException] = []

        def work(share: range) -> None:
            try:
                counters = [Counter(name=f"counter {number}", value=0) for number in share]
                for value in range(1, saves + 1):
                    for counter in counters:
                        counter.value = value
                        handle = counter.save()
                        if value == saves:
                            handle.add_done_callback(
                                lambda done: done.exception() and mistakes.append(done.exception())
                            )
            except BaseException as error:
                mistakes.append(error)
                raise

        threads = [threading.Thread(target=work, args=(range(start, models, THREADS),)) for start in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        dispatcher.flush(300)
        assert mistakes == []


def check(engine: sa.Engine, models: int, saves: int) -> None:
    """Per counter every value exactly once, in order; the final state is the last one."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT counter, value FROM log ORDER BY number").all()
        final = connection.exec_driver_sql("SELECT name, value FROM counters").all()
    written: defaultdict[int, list[int]] = defaultdict(list)
    for counter, value in rows:
        written[counter].append(value)
    assert len(written) == models
    for counter, values in written.items():
        assert values == list(range(1, saves + 1)), f"counter {counter}"
    assert {value for _, value in final} == {saves}
    assert len({name for name, _ in final}) == models


def test_sqlite(sqlite: sa.Engine) -> None:
    """10,000 saves from 8 threads reach an SQLite file: in order for each row, none lost, none twice."""
    save_from_threads(SQLAlchemyBackend(sqlite, lane=Lane(max_in_flight=2)), MODELS, SAVES)
    check(sqlite, MODELS, SAVES)


def test_postgres(postgres: sa.Engine) -> None:
    """10,000 saves from 8 threads reach PostgreSQL: in order for each row, none lost, none twice."""
    save_from_threads(SQLAlchemyBackend(postgres, lane=Lane(max_in_flight=5)), MODELS, SAVES)
    check(postgres, MODELS, SAVES)


def test_postgres_with_coroutines(postgres: sa.Engine, postgres_url: str) -> None:
    """The same through the asynchronous backend, from threads without a loop: 2,000 saves."""
    engine = create_async_engine(postgres_url, poolclass=sa.NullPool)
    save_from_threads(AsyncSQLAlchemyBackend(engine, lane=Lane(max_in_flight=5)), MODELS, 10)
    check(postgres, MODELS, 10)


def test_postgres_with_keys(postgres: sa.Engine) -> None:
    """The same with a key table, 2,000 saves: each has its key row, in the same transaction."""
    backend = SQLAlchemyBackend(postgres, lane=Lane(max_in_flight=5), key_table="keys_of_counters")
    backend.create_key_table()
    assert backend.guarantee(Counter) & Guarantee.TRANSACTIONAL
    save_from_threads(backend, MODELS, 10)
    check(postgres, MODELS, 10)
    with postgres.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM keys_of_counters").scalar_one() == MODELS * 10
        connection.exec_driver_sql("DROP TABLE keys_of_counters")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sqlite_ten_times(sqlite: sa.Engine) -> None:
    """100,000 saves reach an SQLite file, in order."""
    save_from_threads(SQLAlchemyBackend(sqlite, lane=Lane(max_in_flight=2)), MODELS, SAVES * 10)
    check(sqlite, MODELS, SAVES * 10)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_postgres_ten_times(postgres: sa.Engine) -> None:
    """100,000 saves reach PostgreSQL, in order."""
    save_from_threads(SQLAlchemyBackend(postgres, lane=Lane(max_in_flight=5)), MODELS, SAVES * 10)
    check(postgres, MODELS, SAVES * 10)
