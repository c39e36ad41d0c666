"""The SQLAlchemy backends on SQLite, one operation at a time: both colours carry out the same work."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
    validates,
)
from sqlalchemy.pool import NullPool, QueuePool, StaticPool
from sqlmodel import Field, SQLModel

from chained_models import registry
from chained_models._lane import Lane
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.backends import _key_table
from chained_models.backends._sql_errors import backend_error
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend, key_table
from chained_models.exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    InvalidOption,
    MissingExtra,
    Rejected,
    Unavailable,
)
from chained_models.operation import Answer, Guarantee, Method, Operation


class Base(DeclarativeBase):
    pass


class Colour(Enum):
    RED = "red"


class Shout(sa.TypeDecorator[str]):
    """Stored in capitals, read in small letters."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()


class Item(Base):
    """One column of every kind that gets a value by itself."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column("name")
    note: Mapped[str | None]
    tags: Mapped[list[str] | None] = mapped_column(sa.JSON)
    loud: Mapped[str | None] = mapped_column(Shout)
    colour: Mapped[Colour | None]
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    state: Mapped[str] = mapped_column(server_default="fresh")
    token: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    length: Mapped[int | None] = mapped_column(sa.Computed("length(name)"))
    touched: Mapped[int] = mapped_column(default=0, onupdate=itertools.count(1).__next__)
    stamped: Mapped[str | None] = mapped_column(onupdate=sa.func.upper("stamp"))


class Doc(Base):
    __tablename__ = "doc"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int] = mapped_column()
    pages: Mapped[list[Page]] = relationship(cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version}


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    doc_id: Mapped[int] = mapped_column(sa.ForeignKey("doc.id"))


class Stamped(Base):
    """The version is a server's business: a trigger counts it."""

    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1", server_onupdate=sa.FetchedValue())
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}


class Line(Base):
    __tablename__ = "line"
    number: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column()
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "person", "version_id_col": version}


class Manager(Person):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    bonus: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Guest(Person):
    host: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "guest"}


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]

    @validates("password")
    def hashed(self, key: str, value: str) -> str:
        raise AssertionError("a validator has seen the value before")

    def __init__(self) -> None:
        raise AssertionError("nobody asked for a new object")


class Hero(SQLModel, table=True):
    metadata = Base.metadata
    id: int | None = Field(default=None, primary_key=True)
    name: str
    born: dt.date | None = None


REGISTERED = {
    model: registry.register(model, ADAPTER, ADAPTER.identity_fields(model))
    for model in (Item, Doc, Stamped, Line, Person, Manager, Guest, User, Hero)
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
        idempotency_key=key or str(uuid.uuid4()),
        attempt=1,
    )


Execute = Callable[[Operation], Answer]
TRIGGER = (
    "CREATE TRIGGER count AFTER UPDATE OF text ON stamped "
    "BEGIN UPDATE stamped SET version = old.version + 1 WHERE id = old.id; END"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.05})
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(TRIGGER)
    yield engine
    engine.dispose()


def in_own_loop(path: Path, use: Callable[[AsyncSQLAlchemyBackend], Awaitable[Any]], **options: Any) -> Any:
    """Use an asynchronous backend on the file, in a loop and with an engine made for this."""

    async def main() -> Any:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 0.05})
        try:
            return await use(AsyncSQLAlchemyBackend(engine, **options))
        finally:
            await engine.dispose()

    return asyncio.run(main())


@pytest.fixture(params=["sync", "async"])
def execute(request: pytest.FixtureRequest, engine: sa.Engine, path: Path) -> Execute:
    """One operation, by a backend of either colour, without a key table."""
    if request.param == "sync":
        return SQLAlchemyBackend(engine).execute
    return lambda operation: in_own_loop(path, lambda backend: backend.execute(operation))


@pytest.fixture(params=["sync", "async"])
def execute_keyed(request: pytest.FixtureRequest, engine: sa.Engine, path: Path) -> Execute:
    """The same with a key table."""
    backend = SQLAlchemyBackend(engine, key_table=True)
    backend.create_key_table()
    if request.param == "sync":
        return backend.execute
    return lambda operation: in_own_loop(path, lambda backend: backend.execute(operation), key_table=True)


def rows(engine: sa.Engine, model: Any) -> list[dict[str, Any]]:
    """What the table of `model` holds, past the mapper."""
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(model.__table__))]


# Create, read, update, delete


def test_a_create_answers_with_everything_the_insert_gave(execute: Execute, engine: sa.Engine) -> None:
    """Keys, server and Python defaults, computed columns; what was not sent and has no default is NULL."""
    values = {"title": "pear", "tags": ["a"], "loud": "hey", "colour": Colour.RED, "price": Decimal("1.50")}
    answer = execute(operation(Item, Method.CREATE, values=values))
    assert answer.values is not None
    assert isinstance(answer.values["token"], uuid.UUID)
    assert answer.values == values | {
        "id": 1, "note": None, "state": "fresh", "token": answer.values["token"], "length": 4, "touched": 0,
        "stamped": None,
    }  # fmt: skip
    (row,) = rows(engine, Item)
    assert (row["name"], row["loud"], row["colour"], row["tags"]) == ("pear", "hey", Colour.RED, ["a"])
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT loud, colour FROM item").one() == ("HEY", "RED")


def test_an_answer_shares_nothing_with_the_snapshot(execute: Execute) -> None:
    """The snapshot becomes the base of the object; what is merged into the object must not be the same list."""
    tags = ["a"]
    answer = execute(operation(Item, Method.CREATE, values={"title": "t", "tags": tags}))
    assert answer.values is not None
    assert answer.values["tags"] == tags
    assert answer.values["tags"] is not tags


def test_an_identity_of_none_is_left_to_the_database(execute: Execute) -> None:
    """An SQLModel's id is None until it is stored; an explicit identity is used."""
    answer = execute(operation(Hero, Method.CREATE, values={"id": None, "name": "H", "born": None}))
    assert answer.values == {"id": 1, "name": "H", "born": None}
    answer = execute(operation(Hero, Method.CREATE, identity=9, values={"name": "I"}))
    assert answer.values == {"id": 9, "name": "I", "born": None}


def test_an_update_writes_the_changed_columns_only(execute: Execute, engine: sa.Engine) -> None:
    """What somebody else wrote into another column stays; what the update itself gave comes back."""
    execute(operation(Item, Method.CREATE, values={"title": "pear", "note": "n"}))
    with engine.begin() as connection:
        connection.execute(sa.update(Item.__table__).values(note="theirs"))
    values = {"id": 1, "title": "apples", "note": "n", "length": 4}
    answer = execute(operation(Item, Method.UPDATE, 1, values, {"title", "length"}))
    (row,) = rows(engine, Item)
    assert (row["name"], row["note"], row["length"]) == ("apples", "theirs", 6)
    assert answer.values is not None
    assert answer.values["touched"] > 0
    assert {name: answer.values[name] for name in ("id", "title", "length", "stamped")} == {
        "id": 1, "title": "apples", "length": 6, "stamped": "STAMP",
    }  # fmt: skip
    assert "note" not in answer.values


def test_a_patch_is_such_an_update_too(execute: Execute, engine: sa.Engine) -> None:
    """For rows there is no difference: only what changed is ever written."""
    execute(operation(Item, Method.CREATE, values={"title": "pear", "note": "n"}))
    execute(operation(Item, Method.PATCH, 1, {"title": "x", "note": None}, {"note"}))
    (row,) = rows(engine, Item)
    assert (row["name"], row["note"]) == ("pear", None)


def test_an_update_of_nothing_sends_nothing() -> None:
    """Neither an empty `changed`, nor one of the key, the version and computed columns, needs a connection."""
    engine = sa.create_engine("sqlite:////nowhere/at/all.db")
    backend = SQLAlchemyBackend(engine, key_table=True)
    values = {"id": 7, "text": "t", "version": 3}
    assert backend.execute(operation(Doc, Method.UPDATE, 7, values, set(), 3)) == Answer(version=3)
    assert backend.execute(operation(Doc, Method.PATCH, 7, values, {"id", "version"}, 3)) == Answer(version=3)
    engine.dispose()


def test_a_read_answers_with_all_columns(execute: Execute) -> None:
    """As Python values, deferred ones included."""
    created = execute(operation(Item, Method.CREATE, values={"title": "pear", "loud": "hey"}))
    assert execute(operation(Item, Method.READ, 1)) == created


def test_a_delete_removes_the_row_and_may_be_repeated(execute: Execute, engine: sa.Engine) -> None:
    """A row that is gone already is as it should be."""
    execute(operation(Item, Method.CREATE, values={"title": "pear"}))
    assert execute(operation(Item, Method.DELETE, 1)) == Answer()
    assert rows(engine, Item) == []
    assert execute(operation(Item, Method.DELETE, 1)) == Answer()


def test_a_missing_row_is_gone(execute: Execute) -> None:
    """For reading and for writing, with a version and without."""
    for lost in (
        operation(Item, Method.READ, 1),
        operation(Item, Method.UPDATE, 1, {"title": "x"}),
        operation(Doc, Method.UPDATE, 1, {"text": "x"}, version=1),
        operation(Doc, Method.UPDATE, 1, {"text": "x"}),
    ):
        with pytest.raises(Gone):
            execute(lost)


def test_a_composite_identity_is_a_tuple_in_the_mappers_order(execute: Execute, engine: sa.Engine) -> None:
    """All four verbs find the row by it."""
    execute(operation(Line, Method.CREATE, (1, 2), {"number": 1, "order": 2}))
    execute(operation(Line, Method.CREATE, (2, 1), {"number": 2, "order": 1}))
    execute(operation(Line, Method.UPDATE, (1, 2), {"text": "x"}))
    assert execute(operation(Line, Method.READ, (1, 2))).values == {"number": 1, "order": 2, "text": "x"}
    execute(operation(Line, Method.DELETE, (2, 1)))
    assert rows(engine, Line) == [{"number": 1, "order": 2, "text": "x"}]


def test_joined_tables_are_written_together(execute: Execute, engine: sa.Engine) -> None:
    """One version for both tables, whichever of them changes."""
    values = {"name": "Ann", "bonus": 1}
    created = execute(operation(Manager, Method.CREATE, values=values))
    assert created == Answer({"id": 1, "kind": "manager", "version": 1, **values}, version=1)
    for number, changes in enumerate(({"bonus": 2}, {"name": "Bob"}, {"name": "Cyd", "bonus": 3}), start=1):
        answer = execute(operation(Manager, Method.UPDATE, 1, changes, version=number))
        assert answer.version == number + 1
    assert execute(operation(Manager, Method.READ, 1)).values == {
        "id": 1, "kind": "manager", "version": 4, "name": "Cyd", "bonus": 3,
    }  # fmt: skip
    with pytest.raises(Conflict):
        execute(operation(Manager, Method.UPDATE, 1, {"bonus": 9}, version=1))
    execute(operation(Person, Method.DELETE, 1))
    assert rows(engine, Person) == rows(engine, Manager) == []


def test_a_single_table_holds_its_subclasses(execute: Execute) -> None:
    """The discriminator is written, and a row of another class is not one of this."""
    answer = execute(operation(Guest, Method.CREATE, values={"name": "Ann", "host": "Bob"}))
    assert answer.values == {"id": 1, "kind": "guest", "name": "Ann", "version": 1, "host": "Bob"}
    assert execute(operation(Guest, Method.UPDATE, 1, {"host": None}, version=1)).version == 2
    with pytest.raises(Gone):
        execute(operation(Manager, Method.READ, 1))


def test_a_delete_cascades_as_the_mapping_says(execute: Execute, engine: sa.Engine) -> None:
    """What Session.delete would do to related rows."""
    execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    with engine.begin() as connection:
        connection.execute(sa.insert(Page.__table__).values(doc_id=1))
    execute(operation(Doc, Method.DELETE, 1, version=1))
    assert rows(engine, Doc) == rows(engine, Page) == []


def test_neither_init_nor_validators_see_a_value_again(execute: Execute) -> None:
    """They saw it when the user's object was made; a hash would be hashed."""
    execute(operation(User, Method.CREATE, values={"password": "p"}))
    assert execute(operation(User, Method.UPDATE, 1, {"password": "q"})).values == {"id": 1, "password": "q"}


def test_mapper_events_fire_once_and_cannot_edit_the_snapshot(engine: sa.Engine) -> None:
    """They are part of how the class is written; what they change is answered."""

    def stamp(mapper: Any, connection: Any, target: Item) -> None:
        assert target.tags is not None
        target.tags.append("stamped")

    backend, tags = SQLAlchemyBackend(engine), ["a"]
    sa.event.listen(Item, "before_insert", stamp)
    try:
        answer = backend.execute(operation(Item, Method.CREATE, values={"title": "t", "tags": tags}))
    finally:
        sa.event.remove(Item, "before_insert", stamp)
    assert answer.values is not None
    assert answer.values["tags"] == ["a", "stamped"]
    assert tags == ["a"]


# Versions


def test_the_version_is_counted_by_the_mapper(execute: Execute, engine: sa.Engine) -> None:
    """The attribute in the values is never written, whatever it says."""
    created = execute(operation(Doc, Method.CREATE, values={"text": "a", "version": 77}))
    assert created == Answer({"id": 1, "text": "a", "version": 1}, version=1)
    updated = execute(operation(Doc, Method.UPDATE, 1, {"text": "b", "version": 77}, version=1))
    assert updated == Answer({"id": 1, "text": "b", "version": 2}, version=2)
    assert rows(engine, Doc) == [{"id": 1, "text": "b", "version": 2}]


def test_an_old_version_is_a_conflict(execute: Execute, engine: sa.Engine) -> None:
    """For an update and for a delete; the row stays what the other writer made it."""
    execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    execute(operation(Doc, Method.UPDATE, 1, {"text": "theirs"}, version=1))
    for stale in (
        operation(Doc, Method.UPDATE, 1, {"text": "mine"}, version=1),
        operation(Doc, Method.DELETE, 1, version=1),
    ):
        with pytest.raises(Conflict):
            execute(stale)
    assert rows(engine, Doc) == [{"id": 1, "text": "theirs", "version": 2}]


def test_without_a_version_the_row_is_overwritten_and_its_version_counted(execute: Execute) -> None:
    """on_conflict=OVERWRITE: other writers still notice."""
    execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    execute(operation(Doc, Method.UPDATE, 1, {"text": "b"}, version=1))
    assert execute(operation(Doc, Method.UPDATE, 1, {"text": "c"})).version == 3
    execute(operation(Doc, Method.DELETE, 1))


@pytest.mark.parametrize("method", [Method.UPDATE, Method.DELETE])
@pytest.mark.parametrize("theirs", ["UPDATE doc SET version = 9", "DELETE FROM doc"])
def test_who_writes_between_our_reading_and_writing_makes_us_try_again(
    engine: sa.Engine, method: Method, theirs: str
) -> None:
    """Nobody stated a version, so it is no conflict. It takes a database that lets others write at that moment."""
    sessions = sessionmaker(engine)
    backend = SQLAlchemyBackend(sessions)
    backend.execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    sa.event.listen(
        sessions, "before_flush", lambda session, *_: session.connection().exec_driver_sql(theirs), once=True
    )
    with pytest.raises(Unavailable, match="between"):
        backend.execute(operation(Doc, method, 1, {"text": "b"}))
    backend.execute(operation(Doc, method, 1, {"text": "b"}))
    assert [row["text"] for row in rows(engine, Doc)] == ([] if method is Method.DELETE else ["b"])


def test_a_version_made_by_the_server_is_read_back(execute: Execute) -> None:
    """`version_id_generator=False`: a trigger counts."""
    assert execute(operation(Stamped, Method.CREATE, values={"text": "a"})).version == 1
    answer = execute(operation(Stamped, Method.UPDATE, 1, {"text": "b"}, version=1))
    assert execute(operation(Stamped, Method.READ, 1)).version == 2
    # SQLite's RETURNING is evaluated before the trigger: what comes back may be the older version, and no newer one.
    assert answer.version in (1, 2)


# Failures


def test_a_broken_constraint_is_rejected(execute: Execute, engine: sa.Engine) -> None:
    """For ever, and nothing is left of it; the error names the driver's class, not the values."""
    execute(operation(Doc, Method.CREATE, values={"text": "secret"}))
    with pytest.raises(Rejected, match="IntegrityError") as caught:
        execute(operation(Doc, Method.CREATE, values={"text": "secret"}))
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, sa.exc.IntegrityError)
    assert len(rows(engine, Doc)) == 1


@pytest.mark.parametrize("price", ["much", object()])
def test_a_value_the_column_cannot_take_is_rejected(execute: Execute, price: Any) -> None:
    """Whether the column's type refuses it or the driver does."""
    with pytest.raises(Rejected):
        execute(operation(Item, Method.CREATE, values={"title": "t", "price": price}))


@pytest.mark.parametrize("title", [2**70, "\ud800", object(), None])
def test_what_the_driver_refuses_is_rejected(execute: Execute, title: Any) -> None:
    """Drivers raise built-in errors of their own."""
    with pytest.raises(Rejected):
        execute(operation(Item, Method.CREATE, values={"title": title}))


def test_a_missing_table_is_rejected(path: Path) -> None:
    """An OperationalError of SQLite, but no attempt will ever be better."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with pytest.raises(Rejected):
        SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    engine.dispose()


def test_a_locked_database_is_unavailable_and_then_is_not(execute: Execute, path: Path) -> None:
    """Two connections: while one writes, the other waits for the engine's busy timeout and gives up unharmed."""
    execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="SQLITE_BUSY"):
        execute(operation(Doc, Method.UPDATE, 1, {"text": "b"}, version=1))
    other.execute("ROLLBACK")
    assert execute(operation(Doc, Method.UPDATE, 1, {"text": "b"}, version=1)).version == 2
    other.close()


@pytest.mark.parametrize("method", [Method.UPDATE, Method.DELETE])
def test_no_write_begins_as_a_reader(execute: Execute, engine: sa.Engine, path: Path, method: Method) -> None:
    """A read that becomes a write fails at once, busy timeout or not, if somebody wrote in between: begin as a writer."""
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    intruder = sqlite3.connect(path, timeout=0, isolation_level=None)
    tried: list[str] = []

    def intrude(state: Any) -> None:
        """Between our first SELECT and what comes after it."""
        if state.is_select and not tried:
            try:
                intruder.execute("UPDATE doc SET text = 'theirs'")
            except sqlite3.OperationalError as error:
                tried.append(error.sqlite_errorname)

    sa.event.listen(Session, "do_orm_execute", intrude)
    try:
        execute(operation(Doc, method, 1, {"text": "mine"}))  # without a version it is read first
    finally:
        sa.event.remove(Session, "do_orm_execute", intrude)
    assert tried == ["SQLITE_BUSY"]
    intruder.close()


def test_an_engine_that_begins_by_itself_is_obeyed(path: Path) -> None:
    """SQLAlchemy's own recipe for SQLite emits BEGIN in an engine event; there is no second one."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    Base.metadata.create_all(engine)
    assert SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "a"})).version == 1
    engine.dispose()


def test_an_autocommit_engine_still_writes_in_one_transaction(path: Path) -> None:
    """The key row and the write stand or fall together."""
    engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    Base.metadata.create_all(engine)
    backend = SQLAlchemyBackend(engine, key_table=True)
    backend.create_key_table()
    with pytest.raises(Rejected):
        backend.execute(operation(Doc, Method.CREATE, values={"text": None}, key="k"))
    backend.execute(operation(Doc, Method.CREATE, values={"text": "a"}, key="k"))
    assert len(rows(engine, Doc)) == 1
    engine.dispose()


def test_an_exhausted_pool_is_unavailable(path: Path) -> None:
    """Surely not applied: there was no connection to apply it with."""
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with engine.connect(), pytest.raises(Unavailable):
        SQLAlchemyBackend(engine).execute(operation(Doc, Method.READ, 1))
    engine.dispose()


def test_an_unreachable_database_is_unavailable() -> None:
    """Nobody was there to apply it."""
    engine = sa.create_engine("sqlite:////nowhere/at/all.db")
    with pytest.raises(Unavailable):
        SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    engine.dispose()


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_unknown_error_is_raised_as_it_is_after_a_rollback(engine: sa.Engine, kind: type[BaseException]) -> None:
    """A bug in a hook is nobody's refusal."""

    def broken(mapper: Any, connection: Any, target: Any) -> None:
        raise kind("boom")

    sa.event.listen(Doc, "after_insert", broken)
    try:
        with pytest.raises(kind, match="boom"):
            SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    finally:
        sa.event.remove(Doc, "after_insert", broken)
    assert rows(engine, Doc) == []


# Whether COMMIT was sent, and answered


@pytest.mark.parametrize("hook", ["before_commit", "after_commit"])
def test_a_raising_hook_does_not_decide_whether_it_was_saved(
    engine: sa.Engine, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before COMMIT its error is raised and nothing is stored; after it the write is saved, and the error is logged."""

    def broken(session: Session) -> None:
        raise RuntimeError("boom")

    sessions = sessionmaker(engine)
    sa.event.listen(sessions, hook, broken)
    create = operation(Doc, Method.CREATE, values={"text": "t"})
    if hook == "before_commit":
        with pytest.raises(RuntimeError, match="boom"):
            SQLAlchemyBackend(sessions).execute(create)
        assert rows(engine, Doc) == []
    else:
        with caplog.at_level(logging.ERROR, "chained_models"):
            assert SQLAlchemyBackend(sessions).execute(create).version == 1
        assert "boom" in caplog.text
        assert len(rows(engine, Doc)) == 1


def test_a_failing_flush_in_a_commit_hook_is_no_commit(engine: sa.Engine) -> None:
    """What a hook adds is written before COMMIT is sent; if that fails all is rolled back."""
    sessions = sessionmaker(engine)

    @sa.event.listens_for(sessions, "before_commit")
    def add(session: Session) -> None:
        session.add(Doc(text="t"))

    with pytest.raises(Rejected):
        SQLAlchemyBackend(sessions).execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    assert rows(engine, Doc) == []


class Sqlite(sqlite3.Connection):
    """A connection whose next COMMIT fails."""

    failure: BaseException | None = None
    applied = False
    stuck = False

    def commit(self) -> None:
        failure, Sqlite.failure = Sqlite.failure, None
        if failure is None or Sqlite.applied:
            super().commit()
        if failure is not None:
            raise failure

    def rollback(self) -> None:
        stuck, Sqlite.stuck = Sqlite.stuck, False
        if stuck:
            raise sqlite_error(sqlite3.SQLITE_IOERR)
        super().rollback()


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("text that nobody reads")
    error.sqlite_errorcode = code
    error.sqlite_errorname = f"code {code}"
    return error


@pytest.mark.parametrize(
    ("failure", "applied", "expected"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), False, Unavailable),
        (sqlite_error(sqlite3.SQLITE_FULL), False, Unavailable),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT), False, Rejected),
        (sqlite_error(sqlite3.SQLITE_IOERR), True, InDoubt),
        (sqlite3.OperationalError("no code"), True, InDoubt),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), True, InDoubt),
        (ConnectionResetError("reset"), True, InDoubt),
    ],
)
def test_what_comes_instead_of_the_answer_to_commit(
    path: Path, failure: Exception, applied: bool, expected: type[BackendError]
) -> None:
    """What the database itself reports is rolled back; anything else may have been applied."""
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"factory": Sqlite})
    Base.metadata.create_all(engine)
    Sqlite.failure, Sqlite.applied = failure, applied
    with pytest.raises(expected):
        SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    assert len(rows(engine, Doc)) == applied
    engine.dispose()


def test_a_connection_that_cannot_be_rolled_back_is_given_up(path: Path) -> None:
    """A refused COMMIT leaves our writes pending on it, and the next to commit would commit them too."""
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"factory": Sqlite})
    Base.metadata.create_all(engine)
    Sqlite.failure, Sqlite.applied, Sqlite.stuck = sqlite_error(sqlite3.SQLITE_BUSY), False, True
    backend = SQLAlchemyBackend(engine)
    with pytest.raises(Unavailable):
        backend.execute(operation(Doc, Method.CREATE, values={"text": "t"}))
    assert rows(engine, Doc) == []
    backend.execute(operation(Doc, Method.CREATE, values={"text": "u"}))
    assert [row["text"] for row in rows(engine, Doc)] == ["u"]
    engine.dispose()


class Driver(Exception):
    """An error as a driver raises it, with the code under one of the names in use."""

    def __init__(self, **codes: str) -> None:
        super().__init__("text that nobody reads")
        self.__dict__.update(codes)


def wrapped(kind: Any = sa.exc.OperationalError, lost: bool = False, **codes: str) -> Exception:
    return kind("SELECT", {}, Driver(**codes), connection_invalidated=lost)


@pytest.mark.parametrize(
    ("error", "before", "committing"),
    [
        (wrapped(sqlstate="40001"), Unavailable, Unavailable),
        (wrapped(pgcode="40P01"), Unavailable, Unavailable),
        (wrapped(sqlstate="40001", lost=True), Unavailable, Unavailable),
        (wrapped(sqlstate="40003"), Unavailable, InDoubt),
        (wrapped(sqlstate="55P03"), Unavailable, Unavailable),
        (wrapped(sqlstate="57014"), Unavailable, Unavailable),
        (wrapped(sqlstate="57P01", lost=True), Unavailable, InDoubt),
        (wrapped(sqlstate="08006"), Unavailable, InDoubt),
        (wrapped(sqlstate="53300"), Unavailable, Unavailable),
        (wrapped(sqlstate="42P01", kind=sa.exc.ProgrammingError), Rejected, Rejected),
        (wrapped(sqlstate="23505", kind=sa.exc.IntegrityError), Rejected, Rejected),
        (wrapped(sqlstate="22021", kind=sa.exc.DataError), Rejected, Rejected),
        (wrapped(), Unavailable, InDoubt),
        (wrapped(kind=sa.exc.InterfaceError), Rejected, InDoubt),
        (wrapped(kind=sa.exc.InterfaceError, lost=True), Unavailable, InDoubt),
        (sa.exc.TimeoutError(), Unavailable, InDoubt),
        (sa.exc.InvalidRequestError(), Rejected, InDoubt),
        (TimeoutError(), Unavailable, InDoubt),
        (ValueError(), Rejected, InDoubt),
        (Gone(), Gone, Gone),
        (RuntimeError(), type(None), InDoubt),
    ],
)
def test_errors_are_told_apart_by_type_and_code(error: Exception, before: type, committing: type) -> None:
    """The table of the design, before COMMIT was sent and in place of its answer."""
    assert type(backend_error(error, committing=False)) is before
    assert type(backend_error(error, committing=True)) is committing


# The key table


def test_a_second_execution_under_one_key_has_no_second_effect(execute_keyed: Execute, engine: sa.Engine) -> None:
    """It answers what the first one answered."""
    create = operation(Item, Method.CREATE, values={"title": "t", "colour": Colour.RED, "tags": ["a"]}, key="c")
    first, second = execute_keyed(create), execute_keyed(create)
    assert len(rows(engine, Item)) == 1
    assert first.values is not None
    # The one that JSON cannot say, and that would not be read back as the same, is left out.
    assert second.values == {name: value for name, value in first.values.items() if name != "colour"}
    assert isinstance(second.values["token"], uuid.UUID)


def test_a_repeated_update_answers_with_the_version_it_gave(execute_keyed: Execute, engine: sa.Engine) -> None:
    """Without the key it would be a conflict with itself."""
    execute_keyed(operation(Doc, Method.CREATE, values={"text": "a"}))
    update = operation(Doc, Method.UPDATE, 1, {"text": "b"}, version=1)
    assert execute_keyed(update) == execute_keyed(update) == Answer({"id": 1, "text": "b", "version": 2}, version=2)
    assert rows(engine, Doc) == [{"id": 1, "text": "b", "version": 2}]


def test_a_repeated_delete_deletes_no_successor(execute_keyed: Execute, engine: sa.Engine) -> None:
    """The row of that key may have been made anew meanwhile."""
    execute_keyed(operation(Doc, Method.CREATE, values={"id": 1, "text": "a"}))
    delete = operation(Doc, Method.DELETE, 1)
    assert execute_keyed(delete) == Answer()
    execute_keyed(operation(Doc, Method.CREATE, values={"id": 1, "text": "a"}))
    assert execute_keyed(delete) == Answer()
    assert len(rows(engine, Doc)) == 1


def test_a_failed_write_leaves_no_key(execute_keyed: Execute, engine: sa.Engine) -> None:
    """One transaction: the next attempt under the key is a first one."""
    execute_keyed(operation(Doc, Method.CREATE, values={"text": "a"}))
    update = operation(Doc, Method.UPDATE, 1, {"text": "b"}, version=9)
    with pytest.raises(Conflict):
        execute_keyed(update)
    update.version = 1
    assert execute_keyed(update).version == 2


def test_a_read_needs_no_key(execute_keyed: Execute) -> None:
    """It has no effect that could happen twice."""
    execute_keyed(operation(Doc, Method.CREATE, values={"text": "a"}))
    read = operation(Doc, Method.READ, 1)
    assert execute_keyed(read) == execute_keyed(read)


def test_a_key_that_vanished_is_tried_again(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody removed old rows in that very moment; the next attempt is a first one."""
    backend = SQLAlchemyBackend(engine, key_table=True)
    backend.create_key_table()
    monkeypatch.setattr(_key_table.KeyTable, "claim", lambda *_: False)
    with pytest.raises(Unavailable):
        backend.execute(operation(Doc, Method.CREATE, values={"text": "a"}))


@pytest.mark.parametrize(
    "value",
    [
        None, 1, 1.5, "t", [1, {"a": None}], dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC), dt.date(2024, 1, 2),
        dt.time(1, 2), dt.timedelta(days=-1, microseconds=1), Decimal("1.50"), uuid.UUID(int=1), b"\x00", {"value": 1},
    ],
)  # fmt: skip
def test_a_kept_answer_is_read_back_as_the_same(value: Any) -> None:
    """With the types of Python, whatever the column's type would make of text."""
    kept = _key_table._read(_key_table._written(Answer({"v": value}, version=value)))
    assert kept == Answer({"v": value}, version=value)
    assert kept.values is not None
    assert type(kept.values["v"]) is type(value)


@pytest.mark.parametrize("value", [object(), (1, 2), {1: 2}, {"chained_models": "UUID", "value": "x"}, float("nan")])
def test_what_would_not_be_read_back_is_not_kept(value: Any) -> None:
    """Better no value than another one."""
    assert _key_table._read(_key_table._written(Answer({"v": value, "w": 1}))) == Answer({"w": 1})


def test_the_key_table_can_live_in_the_users_metadata(engine: sa.Engine) -> None:
    """Then migrations create it, and know it."""
    metadata = sa.MetaData()
    table = key_table("our_keys", metadata)
    metadata.create_all(engine)
    backend = SQLAlchemyBackend(engine, key_table=table)
    backend.execute(operation(Doc, Method.CREATE, values={"text": "a"}, key="k"))
    with engine.connect() as connection:
        row = connection.execute(sa.select(table)).one()
    assert row.key == "k"
    assert row.created_at is not None


def test_a_named_key_table_is_created_once(engine: sa.Engine, path: Path) -> None:
    """Calling it again does nothing; without a key table there is nothing to do."""
    for backend in (SQLAlchemyBackend(engine, key_table="named"), SQLAlchemyBackend(engine)):
        backend.create_key_table()
        backend.create_key_table()
    assert sa.inspect(engine).has_table("named")

    async def create(backend: AsyncSQLAlchemyBackend) -> None:
        await backend.create_key_table()

    in_own_loop(path, create, key_table="other")
    in_own_loop(path, create)
    assert sa.inspect(engine).has_table("other")


def test_a_table_of_another_shape_is_refused() -> None:
    """At once, with the way to make the right one."""
    with pytest.raises(InvalidOption, match="answer"):
        SQLAlchemyBackend(sa.create_engine("sqlite://"), key_table=sa.Table("t", sa.MetaData(), sa.Column("key")))


# What it is made from, and what it declares


def test_guarantees_are_declared_per_class() -> None:
    """A version column fences, a key table makes it exactly once."""
    engine = sa.create_engine("sqlite://")
    plain, keyed = SQLAlchemyBackend(engine), SQLAlchemyBackend(engine, key_table=True)
    assert plain.guarantee(Item) == Guarantee.PLAIN
    assert plain.guarantee(Doc) == Guarantee.FENCED
    assert keyed.guarantee(Item) == Guarantee.TRANSACTIONAL
    assert keyed.guarantee(Manager) == Guarantee.FENCED | Guarantee.TRANSACTIONAL
    engine.dispose()


def test_sessions_are_made_by_the_users_sessionmaker(engine: sa.Engine) -> None:
    """Its options and events hold, and whatever it says, the values are there after the commit."""
    made: list[Session] = []

    class Own(Session):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    sessions = sessionmaker(engine, class_=Own)
    for source in (sessions, scoped_session(sessions)):
        SQLAlchemyBackend(source).execute(operation(Doc, Method.CREATE, values={"text": str(len(made))}))
    assert len(made) == 2
    assert not any(session.expire_on_commit for session in made)


def test_a_session_is_no_source_of_sessions(engine: sa.Engine) -> None:
    """The user's own one least of all, nor an engine of the other colour."""
    asynchronous = create_async_engine("sqlite+aiosqlite://")
    with Session(engine) as session, pytest.raises(InvalidOption, match="sessionmaker or an Engine, not a Session"):
        SQLAlchemyBackend(session)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="AsyncEngine"):
        SQLAlchemyBackend(asynchronous)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="async_sessionmaker"):
        AsyncSQLAlchemyBackend(engine)  # type: ignore[arg-type]
    sessions = async_sessionmaker(asynchronous)
    AsyncSQLAlchemyBackend(async_scoped_session(sessions, asyncio.current_task))
    AsyncSQLAlchemyBackend(sessions)


def test_one_connection_is_one_in_flight() -> None:
    """Of SQLite, which has one writer, as of any engine with one connection; a lane of the user's own is kept."""
    single = sa.create_engine("sqlite://", poolclass=StaticPool)
    assert SQLAlchemyBackend(single).lane.max_in_flight == 1
    assert AsyncSQLAlchemyBackend(create_async_engine("sqlite+aiosqlite://")).lane.max_in_flight == 1
    assert SQLAlchemyBackend(sa.create_engine("sqlite:///x", poolclass=NullPool)).lane.max_in_flight == 1
    assert SQLAlchemyBackend(sa.create_engine("postgresql+psycopg://", poolclass=StaticPool)).lane.max_in_flight == 1
    assert SQLAlchemyBackend(sa.create_engine("postgresql+psycopg://")).lane.max_in_flight == 8
    assert SQLAlchemyBackend(sessionmaker()).lane.max_in_flight == 8
    lane = Lane(max_in_flight=3)
    assert SQLAlchemyBackend(single, lane=lane).lane is lane


def test_memory_databases_work_in_both_colours() -> None:
    """One connection, kept open by a StaticPool."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    create = operation(Doc, Method.CREATE, values={"text": "a"})
    assert SQLAlchemyBackend(engine).execute(create).version == 1
    engine.dispose()

    async def main() -> Answer:
        engine = create_async_engine("sqlite+aiosqlite://")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        answer = await AsyncSQLAlchemyBackend(async_sessionmaker(engine, class_=AsyncSession)).execute(create)
        await engine.dispose()
        return answer

    assert asyncio.run(main()).version == 1


def test_a_commit_of_nothing_is_no_success() -> None:
    """A Session that is closed on the one shared connection rolls our write back: that is noticed."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)

    def close_another(*_: Any) -> None:
        with Session(engine) as session:
            session.execute(sa.text("SELECT 1"))

    sa.event.listen(Doc, "after_insert", close_another)
    try:
        with pytest.raises(Unavailable, match="same connection"):
            SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "a"}))
    finally:
        sa.event.remove(Doc, "after_insert", close_another)
    assert rows(engine, Doc) == []
    engine.dispose()


def test_the_users_session_is_left_alone(engine: sa.Engine) -> None:
    """Its half-done work is neither committed nor seen."""
    with Session(engine, expire_on_commit=False) as session:
        session.add(Doc(text="mine"))
        SQLAlchemyBackend(engine).execute(operation(Doc, Method.CREATE, values={"text": "a"}))
        assert [row["text"] for row in rows(engine, Doc)] == ["a"]
        assert session.new


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings them."""
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from chained_models.exceptions import MissingExtra\n"
        "try: import chained_models.backends.sqlalchemy\n"
        "except MissingExtra as error: assert 'chained-models[sqlalchemy]' in str(error)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(MissingExtra, match=r"chained-models\[asyncio\]"):
        AsyncSQLAlchemyBackend(create_async_engine("sqlite+aiosqlite://"))


@pytest.fixture
def broken_rollbacks(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection that was cut, after our statements went out on it, cannot be rolled back either."""
    used: list[str] = []

    def noted(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        used.extend(name for name in ("item", "doc") if name in statement)

    def rolled_back(dialect: Any, connection: Any) -> None:
        if used:
            raise sqlite3.OperationalError("the connection is gone")
        connection.rollback()

    monkeypatch.setattr(DefaultDialect, "do_rollback", rolled_back)
    sa.event.listen(sa.Engine, "before_cursor_execute", noted)
    yield
    sa.event.remove(sa.Engine, "before_cursor_execute", noted)


@pytest.mark.usefixtures("broken_rollbacks")
def test_a_failing_rollback_does_not_hide_an_answer(engine: sa.Engine) -> None:
    """Neither what was committed, nor what was read."""
    execute = SQLAlchemyBackend(engine).execute
    assert execute(operation(Doc, Method.CREATE, values={"text": "a"})).version == 1
    answer = execute(operation(Doc, Method.READ, identity=1))
    assert answer.values is not None
    assert answer.values["text"] == "a"
