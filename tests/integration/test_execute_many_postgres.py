"""Batches on a real PostgreSQL: rows that somebody holds, connections that break, types and engines of its own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, INET, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from chained_models import registry
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends import _sql_batch
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.exceptions import Rejected, Unavailable
from chained_models.operation import Answer, Method, Operation


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "chained_batch_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(unique=True)
    note: Mapped[str | None]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Rich(Base):
    """Types that are cast, and types that are left to the unit of work."""

    __tablename__ = "chained_batch_rich"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=sa.text("gen_random_uuid()"))
    number: Mapped[int] = mapped_column()
    extra: Mapped[Any] = mapped_column(JSONB, nullable=True)
    small: Mapped[int | None] = mapped_column(sa.SmallInteger)
    short: Mapped[str | None] = mapped_column(sa.CHAR(3))
    second: Mapped[Any] = mapped_column(TIMESTAMP(timezone=True, precision=0), nullable=True)
    words: Mapped[Any] = mapped_column(ARRAY(sa.Text), nullable=True)
    name: Mapped[Any] = mapped_column(CITEXT, nullable=True)
    address: Mapped[Any] = mapped_column(INET, nullable=True)
    changed: Mapped[Any] = mapped_column(sa.DateTime(timezone=True), onupdate=sa.func.now(), nullable=True)


REGISTERED = {model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model)) for model in (Account, Rich)}
_serial = itertools.count(1)


def operation(
    model: type, method: Method, identity: Any = None, version: Any = None, timeout: float = 10.0, **values: Any
) -> Operation:
    """An operation as the dispatcher would make it; all values count as changed."""
    seq = next(_serial)
    return Operation(
        id=f"s{seq}",
        key="test",
        seq=seq,
        model=REGISTERED[model].name,
        method=method,
        resource="",
        identity=identity,
        values=values,
        changed=frozenset(values),
        version=version,
        idempotency_key=str(uuid.uuid4()),
        attempt=1,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """The tests' own way in, and the backends'."""
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS citext")
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    SQLAlchemyBackend(engine, key_table="chained_batch_keys").create_key_table()
    yield engine
    Base.metadata.drop_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE chained_batch_keys")
    engine.dispose()


@pytest.fixture(autouse=True)
def clean(engine: sa.Engine) -> None:
    """Every test begins with five accounts."""
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE chained_batch_account, chained_batch_rich")
        connection.exec_driver_sql("ALTER SEQUENCE chained_batch_account_id_seq RESTART WITH 100")
        connection.execute(
            sa.insert(Account.__table__), [{"id": at, "owner": f"o{at}", "version": 1} for at in range(5)]
        )


def accounts(engine: sa.Engine) -> list[tuple[str | None, int]]:
    with engine.connect() as connection:
        table = Account.__table__
        return [(row.note, row.version) for row in connection.execute(sa.select(table).order_by(table.c.id))]


def test_a_row_that_somebody_holds_holds_up_itself_only(engine: sa.Engine) -> None:
    """The batch gives up in time, and the others are saved one by one; the held one was not applied."""
    batch = [operation(Account, Method.PATCH, at, 1, 0.8, note="n") for at in range(5)]
    with engine.connect() as holder:
        holder.execute(sa.text("SELECT * FROM chained_batch_account WHERE id = 1 FOR UPDATE"))
        results = SQLAlchemyBackend(engine).execute_many(batch)
        holder.rollback()
    assert [type(result) for result in results] == [Answer, Unavailable, Answer, Answer, Answer]
    assert accounts(engine) == [("n", 2), (None, 1), ("n", 2), ("n", 2), ("n", 2)]


def test_a_connection_that_breaks_before_the_commit_has_applied_nothing(engine: sa.Engine) -> None:
    """The server says so; all may be tried again, and nobody was tried alone."""
    sessions = sessionmaker(engine)

    @sa.event.listens_for(sessions, "before_commit", once=True)
    def kill(session: Session) -> None:
        number = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with engine.connect() as killer:
            killer.execute(sa.select(sa.func.pg_terminate_backend(number)))
        session.connection().exec_driver_sql("SELECT 1")

    batch = [operation(Account, Method.PATCH, at, 1, note="n") for at in range(5)]
    backend = SQLAlchemyBackend(sessions)
    with pytest.raises(Unavailable):
        backend.execute_many(batch)
    assert accounts(engine) == [(None, 1)] * 5
    assert [type(result) for result in backend.execute_many(batch)] == [Answer] * 5


def test_two_batches_under_the_same_keys_have_one_effect(engine: sa.Engine) -> None:
    """At the same time, as when the answer to the first is lost while it is still committing."""
    backend = SQLAlchemyBackend(engine, key_table="chained_batch_keys")
    for turn in range(5):
        batch = [operation(Account, Method.PATCH, at, turn + 1, note=f"n{turn}") for at in range(5)]
        batch.append(operation(Account, Method.CREATE, owner=f"new {turn}"))
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(backend.execute_many, [batch, batch])
        assert one == other
        assert [type(result) for result in one] == [Answer] * 6
        assert accounts(engine)[:5] == [(f"n{turn}", turn + 2)] * 5
        assert len(accounts(engine)) == 5 + turn + 1


def test_an_engine_without_transactions_has_one_effect_too(engine: sa.Engine) -> None:
    """With AUTOCOMMIT nothing could be rolled back, and so nothing may be tried together."""
    own = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT")
    batch = [operation(Account, Method.PATCH, at, 1, note="n") for at in range(4)]
    batch.append(operation(Account, Method.PATCH, 4, 1, owner="o1"))
    results = SQLAlchemyBackend(own).execute_many(batch)
    assert [type(result) for result in results] == [Answer] * 4 + [Rejected]
    assert accounts(engine) == [("n", 2)] * 4 + [(None, 1)]
    own.dispose()


VALUES: list[dict[str, Any]] = [
    {"extra": None, "small": 3},
    {"extra": {"a": [None, "x"]}, "short": "ab"},
    {"extra": ["b"], "short": None},
    {"extra": "text", "second": "2026-01-02 03:04:05.6+02"},
    {"small": 2**20},
    {"short": "four"},
    {"words": ["a", "b"]},
    {"name": "N"},
    {"address": "10.0.0.1"},
]


def test_values_of_its_own_types(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cast is neither cut nor rounded, and what is not known to be cast well is left to the unit of work."""
    alone: list[Operation] = []
    inner = _sql_batch.carry_out
    monkeypatch.setattr(
        _sql_batch,
        "carry_out",
        lambda session, operation, keys: alone.append(operation) or inner(session, operation, keys),
    )
    backend = SQLAlchemyBackend(engine)
    made = backend.execute_many([operation(Rich, Method.CREATE, number=at) for at in range(len(VALUES))])
    ids = [result.values["id"] for result in made if isinstance(result, Answer) and result.values]
    assert alone == []
    with engine.connect() as connection:
        assert {row.number: row.id for row in connection.execute(sa.select(Rich))} == dict(enumerate(ids))
    fine = [operation(Rich, Method.PATCH, ids[at], **VALUES[at]) for at in (0, 1, 2, 6, 7, 8)]
    assert [type(result) for result in backend.execute_many(fine)] == [Answer] * 6
    assert {name for one in alone for name in one.changed} == {"words", "name", "address"}
    bad = [operation(Rich, Method.PATCH, ids[at], **VALUES[at]) for at in (3, 4, 5)]
    results = backend.execute_many(bad)
    assert [type(result) for result in results[1:]] == [Rejected, Rejected]
    with engine.connect() as connection:
        rows = {row.number: row for row in connection.execute(sa.select(Rich))}
    assert [rows[at].extra for at in range(3)] == [None, {"a": [None, "x"]}, ["b"]]
    assert [rows[at].short for at in (1, 5)] == ["ab ", None]
    assert (rows[6].words, rows[7].name, str(rows[8].address)) == (["a", "b"], "N", "10.0.0.1")
    assert all(rows[at].changed is not None for at in (0, 1, 2))


def test_a_batch_repeats_the_expression_of_each_row(engine: sa.Engine) -> None:
    """A column that the database fills in at each update comes back with the update."""
    backend = SQLAlchemyBackend(engine)
    made = backend.execute_many([operation(Rich, Method.CREATE, number=at) for at in range(3)])
    ids = [result.values["id"] for result in made if isinstance(result, Answer) and result.values]
    results = backend.execute_many([operation(Rich, Method.PATCH, one, number=9) for one in ids])
    with engine.connect() as connection:
        (stored,) = set(connection.execute(sa.select(Rich.changed)).scalars())
    assert [(result.values or {})["changed"] for result in results if isinstance(result, Answer)] == [stored] * 3
