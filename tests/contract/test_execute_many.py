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
from chained_models.exceptions import BackendError, Conflict, Gone, InDoubt, Rejected, Unavailable
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

    @settings(max_examples=25)
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


def test_a_batch_is_one_transaction_and_answers_in_order(store: Store) -> None:
    """One COMMIT for all that is plain; what the database gave comes back with the operation that it was given to."""
    creates = [operation(Thing, Method.CREATE, values={"title": f"new {at}", "tags": [at]}) for at in range(7)]
    updates = [operation(Thing, Method.PATCH, at, {"title": f"u{at}"}, version=3) for at in range(4)]
    others = [
        operation(Line, Method.DELETE, (1, "n0")),
        operation(Line, Method.PATCH, (1, "n1"), {"count": 5}),
        operation(Line, Method.CREATE, (2, "n9"), {"order": 2, "number": "n9"}),
    ]
    if store.engine.dialect.name == "postgresql":  # the things are there with explicit keys
        store.run("SELECT setval(pg_get_serial_sequence('\"batch thing\"', 'the id'), 100)")
    before = store.commits
    answers = store.all_saved([item for pair in zip(creates, [*updates, *others], strict=False) for item in pair])
    assert store.commits == before + 1
    stored = {row["the id"]: row["name"] for row in store.rows(Thing)}
    for made in answers[:14:2]:
        assert made.values is not None
        assert stored[made.values["id"]] == made.values["title"]
        assert made.values["length"] == len(made.values["title"])
        assert (made.version, made.values["state"], made.values["touched"]) == (1, "fresh", 0)
    assert [answer.version for answer in answers[1:9:2]] == [4] * 4
    assert [row["number"] for row in store.rows(Line)] == ["n1", "n2", "n3", "n9"]


def test_only_the_guilty_one_gets_the_error(store: Store) -> None:
    """A statement that fails takes nobody else with it, and the others have exactly one effect."""
    batch = [operation(Thing, Method.PATCH, at, {"title": f"u{at}"}, version=3) for at in range(5)]
    batch[2] = operation(Thing, Method.PATCH, 2, {"title": None}, version=3)
    results = store.many(batch)
    assert [type(result) for result in results] == [Answer, Answer, Rejected, Answer, Answer]
    rows = store.rows(Thing)
    assert [row["name"] for row in rows] == ["u0", "u1", "t2", "u3", "u4"]
    assert [row["version"] for row in rows] == [4, 4, 3, 4, 4]


def test_a_commit_that_is_refused_is_the_fault_of_one(store: Store) -> None:
    """The database looks at a deferred constraint when COMMIT is sent; all is rolled back, and done again one by one."""
    batch = [
        operation(Child, Method.CREATE, at, {"id": at, "parent": parent}) for at, parent in enumerate([0, 99, None, 1])
    ]
    results = store.many(batch)
    assert [type(result) for result in results] == [Answer, Rejected, Answer, Answer]
    assert [row["id"] for row in store.rows(Child)] == [0, 2, 3]


def test_a_stale_version_and_a_missing_row_are_found_one_by_one(store: Store) -> None:
    """They fail by themselves, in the transaction in which the others are saved; nothing comes back to life."""
    store.run('DELETE FROM "batch thing" WHERE "the id" = 1', 'UPDATE "batch thing" SET version = 9 WHERE "the id" = 2')
    batch = [operation(Thing, Method.UPDATE, at, {"title": f"u{at}"}, version=3) for at in range(4)]
    batch += [
        operation(Line, Method.UPDATE, (1, "gone"), {"text": "z"}),
        operation(Thing, Method.DELETE, 77, version=1),
    ]
    before = store.commits
    results = store.many(batch)
    assert [type(result) for result in results] == [Answer, Gone, Conflict, Answer, Gone, Answer]
    assert store.commits <= before + 2  # one for the batch, and one of the delete that found nothing
    assert [row["name"] for row in store.rows(Thing)] == ["u0", "t2", "u3", "t4"]
    assert len(store.rows(Line)) == 4


def test_what_is_not_sent_is_not_written(store: Store) -> None:
    """Each row in its own columns: what somebody else wrote into another one stays, whatever the snapshot says of it."""
    store.run("UPDATE \"batch thing\" SET loud = 'THEIRS', state = 'theirs', version = 3")
    columns = [{"title"}, {"loud"}, {"title", "state"}, {"price"}]
    old = {"title": "new", "loud": "mine", "state": "mine", "price": Decimal(5)}
    store.all_saved([operation(Thing, Method.UPDATE, at, old, some, version=3) for at, some in enumerate(columns)])
    assert [(row["name"], row["loud"], row["state"], row["price"]) for row in store.rows(Thing)[:4]] == [
        ("new", "theirs", "theirs", None),
        ("t1", "mine", "theirs", None),
        ("new", "theirs", "mine", None),
        ("t3", "theirs", "theirs", Decimal("5.00")),
    ]


def test_operations_on_one_row_keep_their_order(store: Store) -> None:
    """The second one finds what the first has left, whatever both are."""
    results = store.many(
        [
            operation(Line, Method.PATCH, (1, "n0"), {"text": "first"}),
            operation(Line, Method.PATCH, (1, "n1"), {"text": "other"}),
            operation(Line, Method.PATCH, (1, "n0"), {"text": "second"}),
            operation(Line, Method.READ, (1, "n0")),
            operation(Line, Method.DELETE, (1, "n0")),
            operation(Line, Method.PATCH, (1, "n0"), {"text": "third"}),
        ]
    )
    assert [type(result) for result in results] == [Answer] * 5 + [Gone]
    assert isinstance(results[3], Answer)
    assert results[3].values == {"order": 1, "number": "n0", "text": "second", "count": None}
    assert [row["number"] for row in store.rows(Line)] == ["n1", "n2", "n3"]


def test_many_more_than_fit_into_a_statement(store: Store) -> None:
    """Databases bound the parameters of a statement, and a batch may have more."""
    count = 2500
    store.run(sa.delete(Thing.__table__))
    rows = [{"the id": at, "name": f"t{at}", "tags": [], "touched": 0, "version": 1} for at in range(count)]
    with store.engine.begin() as connection:
        connection.execute(sa.insert(Thing.__table__), rows)
    values = [{"title": f"u{at}", "price": Decimal(at) if at % 2 else at, "share": 0.5} for at in range(count)]
    before = store.commits
    answers = store.all_saved([operation(Thing, Method.UPDATE, at, values[at], version=1) for at in range(count)])
    assert store.commits == before + 1
    assert [answer.version for answer in answers] == [2] * count
    assert [(row["name"], row["price"]) for row in store.rows(Thing)] == [
        (f"u{at}", Decimal(at)) for at in range(count)
    ]
    answers = store.all_saved([operation(Thing, Method.READ, at) for at in range(count)])
    assert [(answer.values or {})["title"] for answer in answers] == [f"u{at}" for at in range(count)]
    store.all_saved([operation(Thing, Method.DELETE, at, version=2) for at in range(count)])
    assert (store.rows(Thing), store.commits) == ([], before + 2)


def lose_answer(monkeypatch: pytest.MonkeyPatch, store: Store, times: int = 1) -> None:
    """Let the connection break right after the next COMMITs took effect."""
    dialect = store.written_by.dialect
    commit, left = dialect.do_commit, [None] * times

    def lost(connection: Any) -> None:
        commit(connection)
        if left:
            left.pop()
            raise ConnectionResetError

    monkeypatch.setattr(dialect, "do_commit", lost)


def test_a_commit_without_an_answer_is_in_doubt_for_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not repeated, nor is anything done after it: whether it was applied nobody here can say."""
    lose_answer(monkeypatch, store)
    before = store.commits
    batch = [operation(Thing, Method.PATCH, at, {"title": "u"}, version=3) for at in range(3)]
    batch += [operation(Thing, Method.READ, at) for at in (3, 4)]
    results = store.many([*batch, operation(Thing, Method.PATCH, 0, {"title": "v"}, version=4)])
    assert [type(result) for result in results] == [InDoubt] * 3 + [Answer] * 2 + [Unavailable]
    assert store.commits == before + 1
    assert [row["version"] for row in store.rows(Thing)] == [4, 4, 4, 3, 3]


def test_after_a_doubt_the_keys_tell(make: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent again under their keys, all of them answer what the first time gave, and the new ones are carried out."""
    store = make(keyed=True)
    store.fill()
    lose_answer(monkeypatch, store)
    batch = [operation(Line, Method.CREATE, (at, "k"), {"order": at, "number": "k", "count": at}) for at in range(5, 8)]
    batch += [operation(Thing, Method.PATCH, at, {"title": "u"}, version=3) for at in range(3)]
    assert {type(result) for result in store.many(batch)} == {InDoubt}
    new = operation(Thing, Method.PATCH, 4, {"title": "new"}, version=3)
    answers = store.all_saved([*batch, new])
    assert [answer.version for answer in answers] == [None] * 3 + [4] * 4
    assert answers[0].values == {"order": 5, "number": "k", "text": None, "count": 5}
    assert [row["version"] for row in store.rows(Thing)] == [4, 4, 4, 3, 4]
    assert len(store.rows(Line)) == 7


def test_an_outage_is_met_once(store: Store) -> None:
    """Where there is no connection to be had, the operations are not tried one after the other: none was applied."""
    asked: list[str] = []

    def broken(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)
        if "UPDATE" in statement:
            raise ConnectionResetError

    sa.event.listen(store.written_by, "before_cursor_execute", broken)
    batch = [operation(Thing, Method.PATCH, at, {"title": "u"}, version=3) for at in range(3)]
    with pytest.raises(BackendError) as caught:
        store.many(batch)
    assert type(caught.value) is Unavailable
    assert sum("UPDATE" in statement for statement in asked) == 1
    sa.event.remove(store.written_by, "before_cursor_execute", broken)
    assert [row["version"] for row in store.rows(Thing)] == [3] * 5
    assert len(store.all_saved(batch)) == 3


def test_a_trigger_on_a_column_fires_for_who_writes_it(store: Store) -> None:
    """Such a trigger asks which columns the statement names, so rows that write others are written by another statement."""
    store.run("CREATE TABLE fired (id INTEGER)")
    if store.engine.dialect.name == "postgresql":
        store.run(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO fired VALUES (NEW.\"the id\"); RETURN NEW; END'",
            'CREATE TRIGGER note AFTER UPDATE OF price ON "batch thing" FOR EACH ROW EXECUTE FUNCTION note()',
        )
    else:
        store.run(
            'CREATE TRIGGER note AFTER UPDATE OF price ON "batch thing" '
            'BEGIN INSERT INTO fired VALUES (NEW."the id"); END'
        )
    values = [{"title": "u"}, {"price": 1}, {"title": "u", "price": 2}, {"loud": "u"}]
    before = store.commits
    store.all_saved([operation(Thing, Method.PATCH, at, some, version=3) for at, some in enumerate(values)])
    assert store.commits == before + 1
    with store.engine.connect() as connection:
        fired = connection.execute(sa.text("SELECT id FROM fired ORDER BY id")).scalars().all()
    assert fired == [1, 2]
    store.run("DROP TABLE fired")


def test_one_and_none(store: Store) -> None:
    """A batch of one is `execute`, and a batch of nothing is nothing."""
    before = store.commits
    assert store.many([]) == []
    (result,) = store.many([operation(Thing, Method.PATCH, 0, {"title": None}, version=3)])
    assert isinstance(result, Rejected)
    (answer,) = store.all_saved([operation(Thing, Method.PATCH, 0, {"title": "u"}, version=3)])
    assert (answer.version, store.commits) == (4, before + 1)
