"""What a batch leaves to the unit of work, and what becomes of a batch that fails: on SQLite, where the suite over all
databases (tests/contract/test_execute_many.py) need not look."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    mapped_column,
    relationship,
    sessionmaker,
    validates,
)
from sqlalchemy.pool import StaticPool
from sqlmodel import Session as SQLModelSession

from chained_models import registry
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends import _sql_batch, _sql_plain
from chained_models.backends._sql_errors import would_befall_each
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.exceptions import Conflict, Gone, InDoubt, Rejected, Unavailable
from chained_models.operation import Answer, Method, Operation


class Base(DeclarativeBase):
    pass


class Note(Base):
    """Plain."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    more: Mapped[str | None]


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    more: Mapped[str | None]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    children: Mapped[list[Child]] = relationship(cascade="all, delete-orphan", back_populates="parent")


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("parent.id"))
    parent: Mapped[Parent | None] = relationship(back_populates="children")
    seen: Mapped[list[Parent]] = relationship(viewonly=True, overlaps="parent")


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column()
    text: Mapped[str | None]
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(sa.ForeignKey("animal.id"), primary_key=True)
    breed: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Ordered(Base):
    """Its version is somebody else's to count."""

    __tablename__ = "ordered"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1", server_onupdate=sa.FetchedValue())
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}


def _from_text(context: Any) -> str:
    return f"of {context.get_current_parameters()['text']}"


class Slugged(Base):
    """Its default looks at the statement."""

    __tablename__ = "slugged"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    slug: Mapped[str | None] = mapped_column(default=_from_text, onupdate=_from_text)


class Following(Base):
    """What it gets at an update depends on the row."""

    __tablename__ = "following"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    old: Mapped[str | None]


Following.__table__.c.old.onupdate = sa.ColumnDefault(Following.__table__.c.text)  # type: ignore[attr-defined]


class Hidden(Base):
    """A column of the table that the class does not know gets a value at every update."""

    __table__ = sa.Table(
        "hidden",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String),
        sa.Column("touched", sa.Integer, default=0, onupdate=itertools.count(1).__next__),
    )
    __mapper_args__ = {"exclude_properties": ["touched"]}
    id: InstrumentedAttribute[int]


class Wrapped(sa.types.UserDefinedType[str]):
    """Its values pass through a function of SQL."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "TEXT"

    def bind_expression(self, bindvalue: Any) -> Any:
        return sa.func.upper(bindvalue, type_=self)


class Loud(Base):
    __tablename__ = "loud"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(Wrapped)
    more: Mapped[str | None]


class Mutated(Base):
    __tablename__ = "mutated"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(sa.JSON))
    touched: Mapped[int] = mapped_column(default=0, onupdate=5)


class Twofold(Base):
    """An attribute that is an expression, and one that is deferred."""

    __tablename__ = "twofold"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(deferred=True)
    loud = column_property(sa.func.upper(text))


class Hashed(Base):
    __tablename__ = "hashed"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]

    @validates("text")
    def hashed(self, key: str, value: str) -> str:
        raise AssertionError("a validator has seen the value before")


class Dated(MappedAsDataclass, Base):
    """A dataclass, with a default of its own."""

    __tablename__ = "dated"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    text: Mapped[str | None] = mapped_column(default=None)
    more: Mapped[str] = mapped_column(default="made")


class Named(Base):
    """Its key is text in which capitals do not count."""

    __tablename__ = "named"
    id: Mapped[str] = mapped_column(sa.String(collation="NOCASE"), primary_key=True)
    text: Mapped[str | None]


class Keys(Base):
    """Called as the rows that are sent are called in the statements; so are the next two."""

    __tablename__ = "v"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Rows(Base):
    __tablename__ = "r"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Source(Base):
    __tablename__ = "s"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Unread(Base):
    """An answer that cannot be had by RETURNING."""

    __tablename__ = "unread"
    __table_args__ = {"implicit_returning": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


MODELS = [
    Note, Counted, Parent, Child, Animal, Dog, Ordered, Slugged, Following, Hidden, Loud, Mutated, Twofold, Hashed,
    Dated, Named, Keys, Rows, Source, Unread,
]  # fmt: skip
REGISTERED = {model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model)) for model in MODELS}
_serial = itertools.count(1)


def operation(
    model: type, method: Method, identity: Any = None, values: dict[str, Any] | None = None, version: Any = None
) -> Operation:
    """An operation as the dispatcher would make it; all values count as changed."""
    seq, values = next(_serial), values or {}
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
    )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], sa.Engine]]:
    """Makes databases with all tables."""
    engines = []

    def made() -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{tmp_path / str(len(engines))}.db", connect_args={"timeout": 0.05})
        Base.metadata.create_all(engine)
        engines.append(engine)
        return engine

    yield made
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(make: Callable[[], sa.Engine]) -> sa.Engine:
    return make()


def rows(engine: sa.Engine, model: Any) -> list[dict[str, Any]]:
    """What the table of `model` holds, past the mapper."""
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(model.__table__).order_by("id"))]


def commits(engine: sa.Engine) -> list[None]:
    """One for every COMMIT from now on."""
    seen: list[None] = []
    sa.event.listen(engine, "commit", lambda connection: seen.append(None))
    return seen


class Uow:
    """How many operations went one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        inner = _sql_batch.carry_out

        def counted(*arguments: Any, **options: Any) -> Answer:
            self.count += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(_sql_batch, "carry_out", counted)


@pytest.fixture
def uow(monkeypatch: pytest.MonkeyPatch) -> Uow:
    return Uow(monkeypatch)


# What is plain, and what is not


def _life(model: type, first: Any, second: Any, version: int | None = None) -> list[list[Operation]]:
    """Batches in which two rows of a class are made, changed, read and deleted."""
    ids = (1, 2) if model is not Named else ("a", "b")
    return [
        [operation(model, Method.CREATE, at, {"id": at, "text": first}) for at in ids],
        [operation(model, Method.PATCH, at, {"text": second}, version) for at in ids],
        [operation(model, Method.READ, at) for at in ids],
        [operation(model, Method.DELETE, at) for at in ids],
    ]


ONE_BY_ONE = {
    # creates, updates, reads, deletes
    Note: (0, 0, 0, 0),
    Counted: (0, 0, 0, 0),
    Parent: (0, 0, 0, 2),
    Child: (0, 0, 0, 0),
    Animal: (2, 2, 0, 2),
    Dog: (2, 2, 0, 2),
    Ordered: (2, 2, 0, 2),
    Slugged: (2, 2, 0, 0),
    Following: (0, 2, 0, 0),
    Hidden: (0, 2, 0, 0),
    Loud: (0, 2, 0, 0),
    Mutated: (0, 0, 0, 0),
    Twofold: (0, 0, 0, 0),
    Hashed: (0, 0, 0, 0),
    Dated: (2, 0, 0, 0),
    Named: (0, 0, 0, 0),
    Keys: (0, 0, 0, 0),
    Rows: (0, 0, 0, 0),
    Source: (0, 0, 0, 0),
    Unread: (2, 2, 0, 2),
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_kind_of_class_is_written_as_execute_writes_it(
    make: Callable[[], sa.Engine], model: Any, uow: Uow
) -> None:
    """Whatever is not plain goes through the unit of work, and nothing else does."""
    together, apart = make(), make()
    many, one = SQLAlchemyBackend(together), SQLAlchemyBackend(apart)
    values = ({"a": 1}, {"b": 2}) if model is Mutated else ("first", "second")
    went = []
    for batch in _life(model, *values, version=1 if hasattr(model, "version") else None):
        before = uow.count
        assert many.execute_many(batch) == [one.execute(item) for item in batch]
        went.append(uow.count - before)
        if model is not Hidden:  # one counter counts for both
            assert rows(together, model) == rows(apart, model)
    assert tuple(went) == ONE_BY_ONE[model]
    if model is Hidden:
        assert went[1] == 2


def test_whether_a_class_gains_is_known_beforehand() -> None:
    """Without a connection, so that what would go one by one need not stand in one line for it."""
    backend = SQLAlchemyBackend(sessionmaker())
    methods = (Method.CREATE, Method.PATCH, Method.READ, Method.DELETE)
    gains = {model: [backend.batches(model, method) for method in methods] for model in (Note, Parent, Dog)}
    assert gains == {
        Note: [True, True, True, True],
        Parent: [True, True, True, False],
        Dog: [False, False, True, False],
    }
    listener = lambda *arguments: None  # noqa: E731
    sa.event.listen(Note, "before_update", listener)
    try:
        assert not backend.batches(Note, Method.PATCH)
    finally:
        sa.event.remove(Note, "before_update", listener)


def test_rows_of_a_table_called_v_are_deleted_together(engine: sa.Engine, uow: Uow) -> None:
    """In one statement, as those of any other table."""
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(Keys, Method.CREATE, at, {"id": at}) for at in (1, 2, 3)])
    backend.execute_many([operation(Keys, Method.DELETE, at) for at in (1, 3)])
    assert ([row["id"] for row in rows(engine, Keys)], uow.count) == ([2], 0)


@pytest.mark.parametrize("moment", ["before_insert", "after_update", "before_delete"])
def test_events_of_the_mapper_are_heard(engine: sa.Engine, uow: Uow, moment: str) -> None:
    """They are part of how the class is written, whenever they were added."""
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(Note, Method.CREATE, at, {"id": at}) for at in (1, 2)])
    assert uow.count == 0
    heard: list[Any] = []
    hear = lambda mapper, connection, target: heard.append(target.id)  # noqa: E731
    sa.event.listen(Note, moment, hear)
    try:
        backend.execute_many([operation(Note, Method.CREATE, at, {"id": at}) for at in (3, 4)])
        backend.execute_many([operation(Note, Method.PATCH, at, {"text": "t"}) for at in (1, 2)])
        backend.execute_many([operation(Note, Method.DELETE, at) for at in (1, 2)])
    finally:
        sa.event.remove(Note, moment, hear)
    assert heard == ([3, 4] if moment == "before_insert" else [1, 2])
    assert uow.count == 6


@pytest.mark.parametrize("target, moment", [(Note, "refresh_flush"), (Note, "expire"), (Note.text, "modified")])
def test_events_of_the_class_are_heard(engine: sa.Engine, uow: Uow, target: Any, moment: str) -> None:
    """Where the unit of work would signal one, it is the one to write."""
    listener = lambda *arguments: None  # noqa: E731
    sa.event.listen(target, moment, listener)
    try:
        SQLAlchemyBackend(engine).execute_many([operation(Note, Method.CREATE, at, {"id": at}) for at in (1, 2)])
    finally:
        sa.event.remove(target, moment, listener)
    assert uow.count == 2


class Watching(Session):
    """Has a say in every flush."""

    flushed = 0

    def flush(self, objects: Any = None) -> None:
        Watching.flushed += 1
        super().flush(objects)


def test_a_session_that_has_a_say_is_asked(engine: sa.Engine, uow: Uow) -> None:
    """Events of the Session and methods of a subclass; a Session of SQLModel has none to speak of."""
    batch = [operation(Note, Method.CREATE, values={"text": "t"}) for _ in range(2)]
    SQLAlchemyBackend(sessionmaker(engine, class_=SQLModelSession)).execute_many(batch)
    assert uow.count == 0
    SQLAlchemyBackend(sessionmaker(engine, class_=Watching)).execute_many(batch)
    assert (uow.count, Watching.flushed >= 2) == (2, True)
    listening = sessionmaker(engine)
    heard: list[Session] = []
    sa.event.listen(listening, "before_flush", lambda session, *rest: heard.append(session))
    SQLAlchemyBackend(listening).execute_many(batch)
    assert (uow.count, len(heard)) == (4, 2)
    SQLAlchemyBackend(sessionmaker(engine, twophase=False)).execute_many(batch)
    assert uow.count == 4
    assert len(rows(engine, Note)) == 8


def test_what_is_around_the_connection_is_respected(engine: sa.Engine, uow: Uow) -> None:
    """A transaction of the caller's, and names of schemas that are translated: there the unit of work knows its way."""
    batch = [operation(Note, Method.CREATE, values={"text": "t"}) for _ in range(2)]
    with engine.connect() as connection, connection.begin():
        SQLAlchemyBackend(sessionmaker(connection)).execute_many(batch)
    assert uow.count == 2
    translated = engine.execution_options(schema_translate_map={"other": "main"})
    SQLAlchemyBackend(translated).execute_many(batch)
    assert (uow.count, len(rows(engine, Note))) == (4, 4)


def test_every_database_has_its_own_transaction(make: Callable[[], sa.Engine], uow: Uow) -> None:
    """Classes that are bound to another engine than the first one's are not part of its transaction."""
    one, other = make(), make()
    backend = SQLAlchemyBackend(sessionmaker(binds={Note: one, Counted: other}))
    batch = [operation(model, Method.CREATE, values={"text": "t"}) for model in (Note, Counted, Note)]
    assert [type(result) for result in backend.execute_many(batch)] == [Answer] * 3
    assert (uow.count, len(rows(one, Note)), len(rows(other, Counted))) == (1, 2, 1)


def test_a_view_is_no_table(engine: sa.Engine, uow: Uow) -> None:
    """What is sent to it is carried out by its triggers, which need not say how many rows they found."""
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE note RENAME TO stored")
        connection.exec_driver_sql("CREATE VIEW note AS SELECT * FROM stored")
    backend = SQLAlchemyBackend(engine)
    results = backend.execute_many([operation(Note, Method.PATCH, at, {"text": "t"}) for at in (1, 2)])
    assert ([type(result) for result in results], uow.count) == ([Rejected, Rejected], 2)


def test_a_database_without_such_statements_runs_one_for_each_row(
    engine: sa.Engine, uow: Uow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a count of the rows at least; where it is short, one by one tells which one was missing."""
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(Counted, Method.CREATE, at, {"id": at, "text": "a"}) for at in range(4)])
    monkeypatch.setattr(engine.dialect, "server_version_info", (3, 30))
    backend = SQLAlchemyBackend(engine)
    some = [{"text": "t"}, {"more": "m"}, {"text": "t", "more": "m"}]
    seen = commits(engine)
    answers = backend.execute_many([operation(Counted, Method.PATCH, at, some[at], 1) for at in range(3)])
    assert ([answer.version for answer in answers if isinstance(answer, Answer)], len(seen), uow.count) == (
        [2] * 3,
        1,
        0,
    )
    assert [(row["text"], row["more"]) for row in rows(engine, Counted)] == [
        ("t", None), ("a", "m"), ("t", "m"), ("a", None),
    ]  # fmt: skip
    results = backend.execute_many([operation(Counted, Method.PATCH, at, {"text": "u"}, 2) for at in (0, 1, 3, 9)])
    assert [type(result) for result in results] == [Answer, Answer, Conflict, Gone]
    assert [row["version"] for row in rows(engine, Counted)] == [3, 3, 2, 1]
    backend.execute_many([operation(Counted, Method.DELETE, at) for at in (0, 1)])
    backend.execute_many(
        [operation(Counted, Method.DELETE, 2, version=2), operation(Counted, Method.DELETE, 3, version=1)]
    )
    assert rows(engine, Counted) == []


def test_rows_of_other_spelling_are_told_one_by_one(engine: sa.Engine) -> None:
    """Two operations on one row, which only the database's collation knows; and a missing one beside them."""
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(Named, Method.CREATE, name, {"id": name}) for name in ("a", "b")])
    names = ("a", "A", "B", "c")
    results = backend.execute_many([operation(Named, Method.PATCH, name, {"text": f"by {name}"}) for name in names])
    assert [type(result) for result in results] == [Answer, Answer, Answer, Gone]
    assert [row["text"] for row in rows(engine, Named)] == ["by A", "by B"]


def test_more_columns_than_a_mask_has_bits() -> None:
    """Then the rows of each set of columns have their own statement."""

    class Own(DeclarativeBase):
        pass

    columns = {f"c{at}": mapped_column(sa.Integer) for at in range(70)}
    wide: Any = type(
        "Wide", (Own,), {"__tablename__": "wide", "id": mapped_column(sa.Integer, primary_key=True), **columns}
    )
    REGISTERED[wide] = registry.register(wide, ADAPTER, ("id",))
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    Own.metadata.create_all(engine)
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(wide, Method.CREATE, at, {"id": at}) for at in range(3)])
    some = [{f"c{at}": at for at in range(70)}, {"c1": 5}, {"c69": 5}]
    backend.execute_many([operation(wide, Method.PATCH, at, some[at]) for at in range(3)])
    written = [{name: value for name, value in row.items() if value is not None} for row in rows(engine, wide)]
    assert written == [{"id": at} | some[at] for at in range(3)]
    engine.dispose()


# What becomes of a batch that fails


def test_a_bug_in_a_hook_is_of_one_operation(engine: sa.Engine) -> None:
    """What `execute` would raise, whatever it is, stands in the place of its answer, and the others have theirs."""
    sessions = sessionmaker(engine)

    @sa.event.listens_for(sessions, "before_commit")
    def look(session: Session) -> None:
        if session.execute(sa.select(Note.id).where(Note.text == "bad")).first():
            raise RuntimeError("boom")

    backend = SQLAlchemyBackend(sessions)
    results = backend.execute_many(
        [operation(Note, Method.CREATE, values={"text": text}) for text in ("a", "bad", "b")]
    )
    assert [type(result) for result in results] == [Answer, RuntimeError, Answer]
    assert [row["text"] for row in rows(engine, Note)] == ["a", "b"]


def test_a_hook_that_raises_after_the_commit_takes_nothing_back(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """All are saved, once, and the error is logged."""
    sessions = sessionmaker(engine)

    @sa.event.listens_for(sessions, "after_commit")
    def broken(session: Session) -> None:
        raise RuntimeError("boom")

    with caplog.at_level(logging.ERROR, "chained_models"):
        results = SQLAlchemyBackend(sessions).execute_many([operation(Note, Method.CREATE) for _ in range(3)])
    assert [type(result) for result in results] == [Answer] * 3
    assert (len(rows(engine, Note)), caplog.text.count("boom") > 0) == (3, True)


def test_a_locked_database_is_waited_for_once(engine: sa.Engine, uow: Uow, tmp_path: Path) -> None:
    """One after the other they would wait as long each; none was applied."""
    batch = [operation(Note, Method.CREATE) for _ in range(3)]
    with sqlite3.connect(tmp_path / "0.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            SQLAlchemyBackend(engine).execute_many(batch)
        other.execute("ROLLBACK")
    other.close()
    assert (uow.count, rows(engine, Note)) == (0, [])
    assert len(SQLAlchemyBackend(engine).execute_many(batch)) == 3


def test_after_an_outage_nothing_more_is_tried(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are carried out one by one, too: what was saved is saved, the rest was not applied."""
    done: list[Operation] = []

    def broken(session: Session, *, operation: Operation, keys: Any) -> Answer:
        done.append(operation)
        if len(done) == 2:
            raise Unavailable("cut") from ConnectionResetError()
        return Answer()

    monkeypatch.setattr(_sql_batch, "carry_out", broken)
    results = SQLAlchemyBackend(engine).execute_many(
        [operation(Animal, Method.CREATE, at, {"id": at}) for at in range(4)]
    )
    assert [type(result) for result in results] == [Answer, Unavailable, Unavailable, Unavailable]
    assert len(done) == 2


def test_who_waits_has_time_left(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, each gets a part of what is left; what comes after the end of the time is not tried."""
    now = [0.0]
    monkeypatch.setattr(_sql_batch.time, "monotonic", lambda: now[0])
    given: list[float] = []

    def slow(session: Session, *, operation: Operation, keys: Any) -> Answer:
        given.append(operation.timeout)
        now[0] += 20 if len(given) == 2 else 10
        return Answer()

    monkeypatch.setattr(_sql_batch, "carry_out", slow)
    batch = [operation(Animal, Method.CREATE, at, {"id": at}) for at in range(4)]
    results = SQLAlchemyBackend(engine).execute_many(batch)
    assert given == [7.5, 5.0]
    assert [type(result) for result in results] == [Answer, Answer, Unavailable, Unavailable]
    assert [one.timeout for one in batch] == [30.0] * 4


def test_a_doubt_about_one_is_of_that_one(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all was rolled back and one COMMIT of those that followed was not answered."""
    commit, calls = engine.dialect.do_commit, itertools.count()

    def lost(connection: Any) -> None:
        commit(connection)
        if next(calls) == 1:
            raise EOFError

    monkeypatch.setattr(engine.dialect, "do_commit", lost)
    results = SQLAlchemyBackend(engine).execute_many(
        [operation(Animal, Method.CREATE, at, {"id": at, "text": "t"}) for at in range(3)]
    )
    assert [type(result) for result in results] == [Answer, InDoubt, Answer]
    assert len(rows(engine, Animal)) == 3


@pytest.mark.parametrize(
    "error, each",
    [
        (ConnectionResetError(), True),
        (sa.exc.TimeoutError(), True),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
        (Unavailable("no cause"), False),
        (sa.exc.OperationalError("s", {}, Exception("no code")), True),
        (sa.exc.IntegrityError("s", {}, Exception("no code")), False),
    ],
    ids=repr,
)
def test_what_would_befall_each(error: BaseException, each: bool) -> None:
    """An outage does; what one row brings about does not."""
    assert would_befall_each(error) is each


@pytest.mark.parametrize(
    "state, each",
    [("40001", False), ("40P01", False), ("57014", False), ("55P03", False), ("57P01", True), ("08006", True)],
)
def test_what_would_befall_each_by_code(state: str, each: bool) -> None:
    """A deadlock, a serialization failure and a row that is held are of one row."""
    cause = type("Driver", (Exception,), {"sqlstate": state})()
    assert would_befall_each(sa.exc.OperationalError("s", {}, cause)) is each


# Odds and ends


def test_of_nothing_to_write_nothing_is_sent() -> None:
    """Neither together nor one by one: an empty patch needs no connection."""
    nowhere = sa.create_engine("sqlite:////nowhere/at/all.db")
    results = SQLAlchemyBackend(nowhere).execute_many([operation(Note, Method.PATCH, 1, {}, version=3)])
    assert results == [Answer(version=3)]


def test_identities_that_name_no_row(engine: sa.Engine) -> None:
    """None, one of the wrong width, and one that cannot be hashed: what `execute` says, and the others are saved."""
    backend = SQLAlchemyBackend(engine)
    backend.execute_many([operation(Note, Method.CREATE, at, {"id": at}) for at in (1, 2)])
    batch = [operation(Note, Method.PATCH, identity, {"text": "t"}) for identity in (1, None, (1, 2), [1], 2)]
    expected = []
    for one in batch:
        try:
            expected.append(type(backend.execute(one)))
        except Exception as error:  # noqa: BLE001 - whatever it says
            expected.append(type(error))
    assert [type(result) for result in backend.execute_many(batch)] == expected
    assert [row["text"] for row in rows(engine, Note)] == ["t", "t"]


def test_a_class_that_is_gone_is_of_one_operation(engine: sa.Engine) -> None:
    """Its name is not registered any more: the others are saved."""
    batch = [operation(Note, Method.CREATE) for _ in range(3)]
    batch[1] = dataclasses.replace(batch[1], model="nobody.Knows")
    results = SQLAlchemyBackend(engine).execute_many(batch)
    assert [type(result) for result in results] == [Answer, LookupError, Answer]


def test_one_connection_for_all_sessions(uow: Uow) -> None:
    """In memory; and a write that somebody else's rollback took away is not answered."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    backend = SQLAlchemyBackend(engine)
    assert [type(one) for one in backend.execute_many([operation(Note, Method.CREATE) for _ in range(3)])] == [
        Answer
    ] * 3
    taken: list[None] = []

    def take_away(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "UPDATE" in statement and not taken:
            taken.append(None)
            connection.connection.dbapi_connection.rollback()

    sa.event.listen(engine, "after_cursor_execute", take_away)
    results = backend.execute_many([operation(Note, Method.PATCH, at, {"text": "t"}) for at in (1, 2, 3)])
    assert [type(one) for one in results] == [Answer] * 3
    assert (uow.count, [row["text"] for row in rows(engine, Note)]) == (3, ["t"] * 3)
    engine.dispose()


def test_tables_are_forgotten_when_there_are_too_many(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may make engines without end, one for each tenant; and changed columns in any mixture."""
    monkeypatch.setattr(_sql_plain, "_MOST_TABLES", 1)
    monkeypatch.setattr(_sql_plain, "_MOST_SHAPES", 1)
    tables = _sql_plain.PlainTables()
    note = tables.of(Note, engine.dialect)
    assert tables.of(Note, engine.dialect) is note
    tables.of(Counted, engine.dialect)
    assert tables.of(Note, engine.dialect) is not note
    for values in ({"text": "t"}, {"more": "t"}, {"text": "t", "more": "t"}):
        assert note.shape(operation(Note, Method.PATCH, 1, values)) == tuple(values)
    assert len(note._shapes) == 1
