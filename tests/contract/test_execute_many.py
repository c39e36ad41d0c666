"""`execute_many`, over every backend that has it: a batch is what its operations are one by one, only faster.

Two stores of the same content stand side by side. In one the operations are carried out together, in the other one by
one, by `execute`; then the answers and the rows must be the same.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chained_models import registry
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from chained_models.exceptions import BackendError, Conflict, Gone, InDoubt, Rejected
from chained_models.operation import Answer, Method, Operation


class Base(DeclarativeBase):
    pass


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Shout(sa.TypeDecorator[str]):
    """Stored in capitals, read in small letters."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()


class Thing(Base):
    """Columns of many types, under other names than the attributes, some of which get a value by themselves."""

    __tablename__ = "batch thing"
    id: Mapped[int] = mapped_column("the id", primary_key=True)
    title: Mapped[str] = mapped_column("name", sa.String(20))
    loud: Mapped[str | None] = mapped_column(Shout)
    tags: Mapped[Any] = mapped_column(sa.JSON)
    colour: Mapped[Colour | None]
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    made: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
    day: Mapped[dt.date | None]
    flag: Mapped[bool | None]
    share: Mapped[float | None]
    token: Mapped[uuid.UUID | None]
    raw: Mapped[bytes | None] = mapped_column(deferred=True)
    state: Mapped[str | None] = mapped_column(server_default="fresh")
    touched: Mapped[int] = mapped_column(default=0, onupdate=7)
    stamped: Mapped[str | None] = mapped_column(onupdate=sa.func.upper("100%"))
    length: Mapped[int | None] = mapped_column(sa.Computed("length(name)", persisted=True))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Line(Base):
    """No version, and a key of two columns."""

    __tablename__ = "batch_line"
    order: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    count: Mapped[int | None]


class Child(Base):
    """Whether its parent is there is looked at by COMMIT."""

    __tablename__ = "batch_child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int | None] = mapped_column(
        sa.ForeignKey("batch thing.the id", deferrable=True, initially="DEFERRED")
    )
    text: Mapped[str | None]


REGISTERED = {
    model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model)) for model in (Thing, Line, Child)
}
_serial = itertools.count(1)


def operation(
    model: type,
    method: Method,
    identity: Any = None,
    values: dict[str, Any] | None = None,
    changed: set[str] | None = None,
    version: Any = None,
    key: str | None = None,
) -> Operation:
    """An operation as the dispatcher would make it; without `changed`, all values count as changed."""
    values, seq = values or {}, next(_serial)
    return Operation(
        id=f"s{seq}",
        key="test",
        seq=seq,
        model=REGISTERED[model].name,
        method=method,
        resource="",
        identity=identity,
        values=values,
        changed=frozenset(values if changed is None else changed),
        version=version,
        idempotency_key=key or f"key {seq}",
        attempt=1,
        timeout=10.0,
    )


class Store:
    """A database of its own, and a backend of one colour on it."""

    def __init__(self, stack: ExitStack, url: str, colour: str, *, keyed: bool, **options: Any) -> None:
        self.engine = sa.create_engine(url, **options)
        stack.callback(self.engine.dispose)
        self.commits = 0
        self._run: Callable[[Any], Any] = lambda result: result
        if colour == "sync":
            engine = self.engine
            self.backend: Any = SQLAlchemyBackend(engine, key_table=keyed)
        else:
            runner = stack.enter_context(asyncio.Runner())
            made = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"), **options)
            stack.callback(lambda: runner.run(made.dispose()))
            engine = made.sync_engine
            self.backend = AsyncSQLAlchemyBackend(made, key_table=keyed)
            self._run = runner.run
        self.written_by = engine
        for one in {self.engine, engine}:
            if one.dialect.name == "sqlite":
                sa.event.listen(one, "connect", _enforce)
        sa.event.listen(engine, "commit", self._committed)
        Base.metadata.drop_all(self.engine)
        Base.metadata.create_all(self.engine)
        if keyed:
            self._run(self.backend.create_key_table())

    def _committed(self, connection: sa.Connection) -> None:
        self.commits += 1

    def one(self, operation: Operation) -> Answer | Exception:
        """What `execute` answers, or raises."""
        try:
            answer: Answer = self._run(self.backend.execute(operation))
        except BackendError as error:
            return error
        return answer

    def many(self, operations: Sequence[Operation]) -> list[Answer | Exception]:
        """What `execute_many` says."""
        results: list[Answer | Exception] = self._run(self.backend.execute_many(operations))
        return results

    def all_saved(self, operations: Sequence[Operation]) -> list[Answer]:
        """The answers, where no operation may fail."""
        results = self.many(operations)
        assert [result for result in results if not isinstance(result, Answer)] == []
        return [result for result in results if isinstance(result, Answer)]

    def rows(self, model: Any) -> list[dict[str, Any]]:
        """What the table holds, past the mapper, in the order of its key."""
        table = model.__table__
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(table).order_by(*table.primary_key))
            return [{str(name): value for name, value in row._mapping.items()} for row in rows]

    def run(self, *statements: Any) -> None:
        """Do something behind the backend's back."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement) if isinstance(statement, str) else statement)

    def fill(self) -> None:
        """Five things and four lines, and nothing else."""
        self.run(*(sa.delete(table) for table in reversed(Base.metadata.sorted_tables)))
        things = [{"the id": at, "name": f"t{at}", "tags": [at], "touched": 0, "version": 3} for at in range(5)]
        self.run(sa.insert(Thing.__table__).values(things))
        self.run(sa.insert(Line.__table__).values([{"order": 1, "number": f"n{at}", "text": "x"} for at in range(4)]))


def _enforce(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = on")
    cursor.close()


@pytest.fixture(params=["SQLite", "SQLite async", "PostgreSQL", "PostgreSQL async"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Makes stores, in one kind of database and of one colour."""
    database, _, colour = request.param.partition(" ")
    names = (f"batch_{number}" for number in itertools.count())
    with ExitStack() as stack:

        def made(*, keyed: bool = False, **options: Any) -> Store:
            name = next(names)
            if database == "SQLite":
                return Store(stack, f"sqlite:///{tmp_path / name}.db", colour or "sync", keyed=keyed, **options)
            url = request.getfixturevalue("postgres_url")
            admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
                connection.exec_driver_sql(f"CREATE SCHEMA {name}")
            admin.dispose()
            options["connect_args"] = {"options": f"-csearch_path={name}"}
            return Store(stack, url, colour or "sync", keyed=keyed, **options)

        yield made


@pytest.fixture
def store(make: Callable[..., Store]) -> Store:
    """A filled store."""
    store = make()
    store.fill()
    return store


# The same as one by one

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": st.sampled_from(["a", "b'\"%s\\", ""]),
    "loud": st.sampled_from(["hey", None]),
    "tags": st.sampled_from([None, [], ["a", None], {"k": {"n": 1.5}}, "text"]),
    "colour": st.sampled_from([*Colour, None]),
    "price": st.sampled_from([Decimal("1.50"), Decimal("1.005"), 2, None]),
    "made": st.sampled_from([dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), dt.datetime(2026, 1, 2), None]),
    "day": st.sampled_from([dt.date(2026, 1, 2), None]),
    "flag": st.sampled_from([True, False, None]),
    "share": st.sampled_from([0.1, 3, None]),
    "token": st.sampled_from([uuid.UUID(int=5), None]),
    "raw": st.sampled_from([b"\x00\xff", b"", None]),
    "state": st.sampled_from(["stale", None]),
    "touched": st.sampled_from([0, 1]),
    "stamped": st.sampled_from(["s", None]),
    "length": st.just(99),
    "version": st.sampled_from([1, 3]),
}


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """Any method on any of a few rows, most of which are there, and in the right version."""
    methods = [Method.PATCH, Method.UPDATE, Method.UPDATE, Method.UPDATE, Method.CREATE, Method.DELETE, Method.READ]
    method = draw(st.sampled_from(methods))
    rows = st.sampled_from([4, 5, 6, 7] if method is Method.CREATE else [0, 1, 2, 3, 4])
    if draw(st.integers(0, 3)) == 0:
        identity = (1, f"n{draw(rows)}")
        optional = {"text": st.sampled_from(["y", None]), "count": st.integers(0, 3)}
        some = draw(st.fixed_dictionaries({}, optional=optional))
        return operation(Line, method, identity, {"order": 1, "number": identity[1]} | some, set(some))
    at = draw(rows)
    some = draw(st.fixed_dictionaries({}, optional=_VALUES))
    if draw(st.integers(0, 30)) == 0:
        some["title"] = draw(st.sampled_from([None, "x" * 21, 5]))
    if method is Method.CREATE:
        some = {"title": "new", "tags": []} | some
    changed = draw(st.sets(st.sampled_from(sorted(some)))) if some and draw(st.booleans()) else set(some)
    version = draw(st.sampled_from([3, 3, 3, 3, 3, 2, None])) if method is not Method.CREATE else None
    return operation(Thing, method, at, {"id": at} | some, changed, version)


_MOST = 8


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_a_batch_is_what_its_operations_are_one_by_one(make: Callable[..., Store], keyed: bool) -> None:
    """The same answers, the same errors and the same rows; and so again if some are repeated under their keys."""
    together, apart = make(keyed=keyed), make(keyed=keyed)

    @settings(max_examples=40)
    @given(
        first=st.lists(operations(), min_size=2, max_size=_MOST),
        second=st.lists(operations(), max_size=_MOST),
        again=st.data(),
    )
    def compare(first: list[Operation], second: list[Operation], again: st.DataObject) -> None:
        together.fill()
        apart.fill()
        repeated = (
            again.draw(st.lists(st.sampled_from(first), unique_by=lambda one: one.id, max_size=_MOST)) if keyed else []
        )
        # Keys are never used for something else, so examples that Hypothesis repeats get new ones.
        fresh = str(uuid.uuid4())
        for one in {one.id: one for one in [*first, *second]}.values():
            one.idempotency_key = f"{one.id} {fresh}"
        for batch in (first, [*repeated, *second]):
            assert shown(together.many(batch)) == shown([apart.one(one) for one in batch])
            for model in (Thing, Line):
                assert together.rows(model) == apart.rows(model)

    compare()


def shown(results: Sequence[Answer | Exception]) -> list[Any]:
    """The answers with the types of their values, the errors by class and message."""
    return [
        (
            {name: (type(value), value) for name, value in (result.values or {}).items()},
            result.identity,
            result.version,
        )
        if isinstance(result, Answer)
        else (type(result), str(result))
        for result in results
    ]
