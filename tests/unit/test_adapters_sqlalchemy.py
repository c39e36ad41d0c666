"""The adapter of mapped classes, in every state an object can be in towards a Session."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import Mutable, MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    composite,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
    validates,
)
from sqlalchemy.pool import StaticPool
from sqlmodel import Field, SQLModel

from chained_models._snapshot import MISSING
from chained_models.adapters.sqlalchemy import ADAPTER
from chained_models.exceptions import AttachedInstance, SnapshotError
from chained_models.protocols import Origin


class Base(DeclarativeBase):
    pass


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("full_name")
    bio: Mapped[str | None]
    tags: Mapped[list[str] | None] = mapped_column(sa.JSON)
    watched: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(sa.JSON))
    portrait: Mapped[bytes | None] = deferred(mapped_column(sa.LargeBinary))
    version: Mapped[int] = mapped_column()
    books: Mapped[list[Book]] = relationship(back_populates="author")
    shout = column_property(sa.func.upper(name))
    alias = synonym("name")
    __mapper_args__ = {"version_id_col": version}

    @hybrid_property
    def twice(self) -> str:
        return self.name * 2


class Book(Base):
    __tablename__ = "book"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
    price: Mapped[Decimal | None]
    printed: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None]
    colour: Mapped[Colour | None]
    kept: Mapped[dt.timedelta | None]
    blob: Mapped[bytes | None]
    ok: Mapped[bool | None]
    ratio: Mapped[float | None]
    pages: Mapped[int | None]
    author: Mapped[Author | None] = relationship(back_populates="books")


class Line(Base):
    __tablename__ = "line"
    number: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int] = mapped_column(primary_key=True)


class Country(Base):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(primary_key=True, default="XX")


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column()
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "person"}


class Manager(Person):
    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    bonus: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Guest(Person):
    host: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "guest"}


class Point(MappedAsDataclass, Base):
    __tablename__ = "point"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    x: Mapped[int] = mapped_column(default=0)


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(alias="heroName")
    seen: dt.datetime | None = None


class Plain:
    def __init__(self, name: str) -> None:
        self.name = name


_plain_table = sa.Table(
    "plain", Base.metadata, sa.Column("pk", sa.Integer, primary_key=True), sa.Column("title", sa.String)
)
registry(metadata=Base.metadata).map_imperatively(
    Plain, _plain_table, properties={"id": _plain_table.c.pk, "name": _plain_table.c.title}
)


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def stored_author(session: Session, **values: Any) -> Author:
    """A persistent author whose attributes a commit has expired."""
    author = Author(**{"name": "Ann", "tags": ["a"], "watched": {"k": [1]}, **values})
    session.add(author)
    session.commit()
    return author


# Which classes, which fields


@pytest.mark.parametrize("model_type", [Author, Manager, Guest, Point, Hero, Plain])
def test_every_way_of_mapping_is_accepted(model_type: type) -> None:
    """Declarative, dataclass, SQLModel and imperative mappings are all one kind to the adapter."""
    assert ADAPTER.accepts(model_type)


@pytest.mark.parametrize(
    "model_type", [int, Base, SQLModel, Colour, type("Unmapped", (Author,), {"__abstract__": True})]
)
def test_what_is_not_mapped_is_not_accepted(model_type: type) -> None:
    """Bases, abstract classes and foreign classes are left to other adapters."""
    assert not ADAPTER.accepts(model_type)


def test_asking_imports_nothing() -> None:
    """A program without SQLAlchemy can ask whether a class is mapped, and SQLAlchemy is not imported for it."""
    program = (
        "import sys; from chained_models.adapters.sqlalchemy import ADAPTER; "
        "assert not ADAPTER.accepts(int); assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_asking_does_not_configure_the_mappers() -> None:
    """A class whose relationship names a class that does not exist yet can be asked about."""
    early = type(
        "Early",
        (type("EarlyBase", (DeclarativeBase,), {}),),
        {
            "__tablename__": "early",
            "id": mapped_column(sa.Integer, sa.ForeignKey("late.id"), primary_key=True),
            "late": relationship("Late"),
        },
    )
    assert ADAPTER.accepts(early)


def test_fields_are_the_columns_by_attribute_name() -> None:
    """Renamed and deferred columns are fields; relationships, SQL expressions, hybrids and synonyms are not."""
    assert ADAPTER.fields(Author) == ("id", "name", "bio", "tags", "watched", "portrait", "version")
    assert set(ADAPTER.fields(Manager)) == {"id", "kind", "name", "bonus"}
    assert set(ADAPTER.fields(Guest)) == {"id", "kind", "name", "host"}
    assert ADAPTER.fields(Plain) == ("id", "name")


def test_the_identity_is_the_primary_key_in_the_mappers_order() -> None:
    """Attribute names, not column names."""
    assert ADAPTER.identity_fields(Line) == ("number", "order")
    assert ADAPTER.identity_fields(Plain) == ("id",)
    assert ADAPTER.identity_fields(Manager) == ("id",)


@pytest.mark.parametrize(
    ("model_type", "given"),
    [
        (Author, True),
        (Book, True),
        (Manager, True),
        (Hero, True),
        (Point, True),
        (Plain, True),
        (Line, False),
        (Country, False),
    ],
)
def test_who_gives_the_identity(model_type: type, given: bool) -> None:
    """Autoincrement and defaults that count give it at the insert; composite and natural keys are the client's."""
    assert ADAPTER.server_given(model_type, ADAPTER.identity_fields(model_type)) is given


def test_a_name_that_is_no_column_is_the_clients() -> None:
    """An identity option that names something else is not given by the insert."""
    assert ADAPTER.server_given(Author, ("nothing",)) is False


# The snapshot, state by state


def test_a_transient_object_leaves_out_what_was_never_set() -> None:
    """So that defaults apply to it at the insert; None, once set, is a value."""
    assert ADAPTER.snapshot(Author(name="Ann", bio=None)) == {"name": "Ann", "bio": None}
    assert ADAPTER.peek(Author(), "name") is MISSING


def test_a_snapshot_shares_nothing() -> None:
    """Values are deep copies, and containers that report to a Session become plain ones."""
    author = Author(tags=["a"], watched={"k": [1]})
    snapshot = ADAPTER.snapshot(author)
    author.tags.append("b")
    author.watched["k"].append(2)
    assert snapshot == {"tags": ["a"], "watched": {"k": [1]}}
    assert type(snapshot["watched"]) is dict


def test_a_value_that_cannot_be_copied_is_named() -> None:
    """A lock in a column is the caller's mistake, and the error says where."""
    with pytest.raises(SnapshotError, match=r"Author\.tags"):
        ADAPTER.snapshot(Author(tags=[threading.Lock()]))


def test_an_sql_expression_is_no_value() -> None:
    """What only the database can compute cannot be frozen at the call."""
    with pytest.raises(SnapshotError, match="SQL expression"):
        ADAPTER.snapshot(Author(version=Author.version + 1))


def test_expired_attributes_are_loaded_at_the_call(session: Session) -> None:
    """After a commit the object is empty; its snapshot is not."""
    author = stored_author(session, portrait=b"x")
    author_id = sa.inspect(author).identity[0]
    session.expire(author)
    assert ADAPTER.peek(author, "id") == author_id
    assert ADAPTER.peek(author, "name") is MISSING
    snapshot = ADAPTER.snapshot(author)
    assert snapshot.pop("portrait", b"x") == b"x"  # expired with the rest, SQLAlchemy 2.1 loads it with the rest
    assert snapshot == {
        "id": author_id, "name": "Ann", "bio": None, "tags": ["a"], "watched": {"k": [1]}, "version": 1,
    }  # fmt: skip


def test_a_deferred_attribute_is_not_loaded_for_a_save(session: Session) -> None:
    """It has surely not changed; once it was loaded, or set, it is saved like any other."""
    author_id = stored_author(session, portrait=b"x").id
    session.expunge_all()
    author = session.get_one(Author, author_id)
    assert "portrait" not in ADAPTER.snapshot(author)
    author.portrait = b"y"
    assert ADAPTER.snapshot(author)["portrait"] == b"y"
    assert "portrait" not in (ADAPTER.origin(author).base or {})


def test_a_clean_persistent_object_is_its_own_base(session: Session) -> None:
    """What was loaded is what is stored, except for values that could have been edited in place."""
    author_id = stored_author(session).id
    session.expunge_all()
    author = session.get_one(Author, author_id)
    assert ADAPTER.origin(author) == Origin({"id": author.id, "name": "Ann", "bio": None, "version": 1}, True, 1)
    assert ADAPTER.attached(author)


def test_a_dirty_persistent_object_has_the_loaded_values_as_base(session: Session) -> None:
    """The base is what the mapper has loaded, the snapshot is what the object holds."""
    author = stored_author(session)
    ADAPTER.snapshot(author)
    author.name, author.bio = "Bob", "b"
    assert ADAPTER.snapshot(author)["name"] == "Bob"
    base = ADAPTER.origin(author).base
    assert base is not None
    assert (base["name"], base["bio"]) == ("Ann", None)


def test_zero_is_a_version(session: Session) -> None:
    """A generator of the user's own may begin there."""
    author = stored_author(session)
    session.execute(sa.update(Author.__table__).values(version=0))
    ADAPTER.snapshot(author)
    assert ADAPTER.origin(author).version == 0


def test_setting_an_expired_attribute_leaves_its_base_unknown(session: Session) -> None:
    """Then nobody has seen the stored value, so the attribute counts as changed."""
    author = stored_author(session)
    author.name = "Bob"
    assert "name" not in (ADAPTER.origin(author).base or {})


def test_the_origin_does_no_io(session: Session) -> None:
    """An expired object knows that it is stored, and nothing more, until somebody loads it."""
    author = stored_author(session)
    assert ADAPTER.origin(author) == Origin({}, True, None)
    assert "name" not in sa.inspect(author).dict


def test_a_value_edited_in_place_counts_as_changed(session: Session) -> None:
    """A JSON column without MutableDict has no history; it is left out of the base, replaced or not."""
    author = stored_author(session)
    ADAPTER.snapshot(author)
    author.tags.append("b")
    assert "tags" not in (ADAPTER.origin(author).base or {})
    author.tags = ["c"]
    assert "tags" not in (ADAPTER.origin(author).base or {})


def test_a_pending_object_is_refused(session: Session) -> None:
    """Its Session is about to insert it."""
    author = Author(name="Ann")
    session.add(author)
    with pytest.raises(AttachedInstance, match="pending"):
        ADAPTER.snapshot(author)
    assert ADAPTER.origin(author).stored is False


def test_a_deleted_object_is_refused_before_and_after_the_flush(session: Session) -> None:
    """Its Session is about to delete it, or has, and has not committed."""
    author = stored_author(session)
    session.delete(author)
    with pytest.raises(AttachedInstance, match="deleted"):
        ADAPTER.snapshot(author)
    session.flush()
    with pytest.raises(AttachedInstance, match="deleted"):
        ADAPTER.snapshot(author)


@pytest.mark.parametrize("savepoint", ["none", "around", "released", "after"])
def test_a_flushed_object_is_refused_until_the_commit(session: Session, savepoint: str) -> None:
    """An INSERT or UPDATE that is not committed holds the row, in whatever savepoint it was sent."""
    author = stored_author(session)
    author.name = "Bob"
    if savepoint == "none":
        session.flush()
    elif savepoint == "after":
        session.flush()
        session.begin_nested()
    else:
        nested = session.begin_nested()
        session.flush()
        if savepoint == "released":
            nested.commit()
    with pytest.raises(AttachedInstance, match="flushed"):
        ADAPTER.snapshot(author)
    session.commit()
    if savepoint != "none":
        session.commit()
    assert ADAPTER.snapshot(author)["name"] == "Bob"


def test_a_flushed_insert_is_refused_until_the_commit(session: Session) -> None:
    """The row of a new object is nobody else's before the commit."""
    author = Author(name="Ann")
    session.add(author)
    session.flush()
    with pytest.raises(AttachedInstance, match="flushed"):
        ADAPTER.snapshot(author)
    session.commit()
    assert ADAPTER.snapshot(author)["name"] == "Ann"


def test_other_objects_of_the_open_transaction_are_free(session: Session) -> None:
    """Only the flushed object itself is refused."""
    one, other = stored_author(session), stored_author(session)
    one.name = "Bob"
    session.flush()
    assert ADAPTER.snapshot(other)["name"] == "Ann"


def test_a_detached_object_is_saved_as_it_is(engine: sa.Engine) -> None:
    """Loaded and then detached: all is known."""
    with Session(engine, expire_on_commit=False) as session:
        author = stored_author(session)
    assert not ADAPTER.attached(author)
    assert ADAPTER.snapshot(author)["name"] == "Ann"
    origin = ADAPTER.origin(author)
    assert (origin.stored, origin.version) == (True, 1)


def test_detached_and_expired_is_a_clear_error(engine: sa.Engine) -> None:
    """No DetachedInstanceError, and none in a worker: the call says what to do."""
    with Session(engine) as session:
        author = stored_author(session)
    with pytest.raises(SnapshotError, match="expire_on_commit=False"):
        ADAPTER.snapshot(author)


def test_expired_under_an_async_session_is_a_clear_error() -> None:
    """The remedy comes before any I/O is tried, so no MissingGreenlet leaks; once refreshed it works."""

    async def main() -> None:
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with async_sessionmaker(engine)() as session:
            author = Author(name="Ann")
            session.add(author)
            with pytest.raises(AttachedInstance):
                ADAPTER.snapshot(author)
            await session.flush()
            with pytest.raises(AttachedInstance, match="flushed"):
                ADAPTER.snapshot(author)
            await session.commit()
            with pytest.raises(SnapshotError, match=r"await session\.refresh"):
                ADAPTER.snapshot(author)
            assert ADAPTER.origin(author) == Origin({}, True, None)
            await session.refresh(author)
            assert ADAPTER.snapshot(author)["name"] == "Ann"
        await engine.dispose()

    asyncio.run(main())


# Merging


def test_an_assigned_value_is_seen_by_no_validator() -> None:
    """A validator that hashes a password would hash the hash that comes back."""

    class Local(DeclarativeBase):
        pass

    class User(Local):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        password: Mapped[str]

        @validates("password")
        def hashed(self, key: str, value: str) -> str:
            return f"hash({value})"

    user = User(password="p")
    ADAPTER.assign(user, "password", "hash(p)")
    assert user.password == "hash(p)"


def test_an_assigned_container_still_reports_to_its_session(session: Session) -> None:
    """A MutableDict stays one, so that later edits in place reach the user's own commits too."""
    author = stored_author(session)
    ADAPTER.snapshot(author)
    ADAPTER.assign(author, "watched", {"k": 2})
    ADAPTER.stored(author, ["watched"])
    assert isinstance(author.watched, MutableDict)
    assert not session.is_modified(author)
    author.watched["k"] = 3
    assert session.is_modified(author)


def test_an_assigned_value_is_a_change_until_it_is_stored(session: Session) -> None:
    """If the save that carries it fails, the user's Session still has it to write."""
    author = stored_author(session)
    ADAPTER.snapshot(author)
    ADAPTER.assign(author, "name", "Bob")
    assert session.is_modified(author)
    assert "name" not in (ADAPTER.origin(author).base or {})
    ADAPTER.stored(author, ["name"])
    assert not session.is_modified(author)
    assert (ADAPTER.origin(author).base or {})["name"] == "Bob"


def test_a_stored_transient_object_becomes_detached(engine: sa.Engine) -> None:
    """After its create the object is one that a Session can take in: what was stored is clean, later edits are not."""
    author = Author(name="Ann", bio="old")
    with Session(engine) as session:
        session.execute(sa.insert(Author.__table__).values(id=7, full_name="Ann", bio="old", version=1))
        session.commit()
    author.bio = "new"
    ADAPTER.assign(author, "id", 7)
    ADAPTER.assign(author, "version", 1)
    ADAPTER.stored(author, ["id", "name"])
    assert sa.inspect(author).detached
    assert ADAPTER.origin(author) == Origin({"id": 7, "name": "Ann", "version": 1}, True, 1)
    assert ADAPTER.snapshot(author)["bio"] == "new"
    assert author.tags is None  # was never set, and can still be read
    with Session(engine) as session:
        session.add(author)
        session.commit()
        assert (author.bio, author.version) == ("new", 2)


def test_without_an_identity_a_transient_object_stays_transient() -> None:
    """A backend that did not say which identity it gave leaves nothing to be known by."""
    author = Author(name="Ann")
    ADAPTER.stored(author, ["name"])
    assert sa.inspect(author).transient


def test_an_object_added_to_a_session_meanwhile_is_left_to_it(session: Session) -> None:
    """Whoever added it while its save was on its way is in charge of it now."""
    author = Author(id=1, name="Ann")
    session.add(author)
    ADAPTER.stored(author, ["id", "name"])
    assert sa.inspect(author).pending


def test_stored_names_are_not_written_again(session: Session) -> None:
    """The user's Session writes only what was edited after the save, with the version the save has given."""
    author = stored_author(session)
    ADAPTER.snapshot(author)
    author.name, author.bio = "Bob", "b"
    session.expunge(author)
    session.execute(sa.update(Author.__table__).values(full_name="Bob", version=2))
    session.commit()
    session.add(author)
    ADAPTER.assign(author, "version", 2)
    ADAPTER.stored(author, ["name"])
    statements: list[str] = []
    sa.event.listen(session.get_bind(), "before_cursor_execute", lambda *call: statements.append(call[2]))
    session.commit()
    assert len(statements) == 1
    assert "full_name" not in statements[0]
    assert (author.name, author.bio, author.version) == ("Bob", "b", 3)


# Values from and to JSON


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("id", uuid.UUID(int=7), str(uuid.UUID(int=7))),
        ("price", Decimal("1.50"), "1.50"),
        ("printed", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2024-01-02T03:04:05+00:00"),
        ("day", dt.date(2024, 1, 2), "2024-01-02"),
        ("colour", Colour.RED, "red"),
        ("colour", Colour.BLUE, 2),
        ("kept", dt.timedelta(seconds=1.5), 1.5),
        ("blob", b"\x00\xff", "AP8="),
        ("ok", True, True),
        ("ratio", 1.5, 1.5),
        ("pages", 3, 3),
        ("pages", None, None),
    ],
)
def test_what_is_dumped_is_loaded_back(name: str, value: Any, written: Any) -> None:
    """Both ways through JSON, with the type that the column says."""
    assert ADAPTER.dump(Book, {name: value}) == {name: written}
    loaded = ADAPTER.load(Book, {name: written})
    assert loaded == {name: value}
    assert type(loaded[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("colour", "BLUE", Colour.BLUE),
        ("pages", "12", 12),
        ("pages", 12.0, 12),
        ("ok", 1, True),
        ("price", 1.5, Decimal("1.5")),
        ("ratio", 2, 2.0),
        ("day", dt.date(2024, 1, 2), dt.date(2024, 1, 2)),
    ],
)
def test_answers_in_other_words_are_understood(name: str, value: Any, expected: Any) -> None:
    """Whatever can only mean one thing for the column is taken."""
    loaded = ADAPTER.load(Book, {name: value})[name]
    assert (loaded, type(loaded)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", "x"), ("price", "x"), ("printed", "soon"), ("colour", "green"), ("pages", 1.5), ("ok", 2), ("blob", "?")],
)
def test_an_answer_that_does_not_fit_raises(name: str, value: Any) -> None:
    """By the attribute's name, without its value."""
    with pytest.raises(ValueError, match=rf"Book\.{name}"):
        ADAPTER.load(Book, {name: value})


def test_unknown_names_are_ignored_and_containers_copied() -> None:
    """What the model does not have cannot be merged; what it has is shared with nobody."""
    tags = ["a"]
    loaded = ADAPTER.load(Author, {"tags": tags, "shout": "ANN", "new": 1})
    assert loaded == {"tags": ["a"]}
    assert loaded["tags"] is not tags


def test_a_decorated_type_keeps_its_own_values() -> None:
    """A TypeDecorator says what it stores, not what its values are; only text for a moment or a UUID is surely JSON."""

    class Code(sa.TypeDecorator[str]):
        impl = sa.Integer
        cache_ok = True

    class Moment(sa.TypeDecorator[dt.datetime]):
        impl = sa.DateTime
        cache_ok = True

    class Local(DeclarativeBase):
        pass

    class Thing(Local):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(Code)
        at: Mapped[dt.datetime] = mapped_column(Moment)
        tags: Mapped[list[str]] = mapped_column(MutableList.as_mutable(sa.PickleType))

    loaded = ADAPTER.load(Thing, {"code": "17", "at": "2024-01-02T00:00:00", "tags": ["a"]})
    assert loaded == {"code": "17", "at": dt.datetime(2024, 1, 2), "tags": ["a"]}
    assert ADAPTER.load(Thing, {"at": "soon"}) == {"at": "soon"}


def test_an_sqlmodel_is_written_by_its_aliases() -> None:
    """And understood by them; other mapped classes know their attribute names only."""
    assert ADAPTER.dump(Hero, {"name": "H", "id": 1}) == {"heroName": "H", "id": 1}
    assert ADAPTER.load(Hero, {"heroName": "H", "seen": "2024-01-02T00:00:00Z"}) == {
        "name": "H",
        "seen": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    }


def test_an_sqlmodel_is_not_validated() -> None:
    """A table model takes name=3, and so does its snapshot."""
    hero = Hero(name=3)
    assert ADAPTER.snapshot(hero)["name"] == 3
    assert ADAPTER.load(Hero, {"name": 3}) == {"name": 3}
    ADAPTER.assign(hero, "id", 5)
    ADAPTER.stored(hero, ADAPTER.fields(Hero))
    assert (hero.id, sa.inspect(hero).detached) == (5, True)


def test_what_json_cannot_say_is_refused_by_name() -> None:
    """Better than text that nobody could read back."""
    with pytest.raises(TypeError, match=r"Author\.tags"):
        ADAPTER.dump(Author, {"tags": [object()]})
    assert ADAPTER.dump(Author, {"tags": {"a": (dt.date(2024, 1, 2), {1})}}) == {"tags": {"a": ["2024-01-02", [1]]}}


class Money(Mutable):
    """A value of the user's own that reports its changes."""

    def __init__(self, amount: int) -> None:
        self.amount = amount


def test_values_of_the_users_own_are_copied_whole() -> None:
    """A mutable one that is no container, a tuple, a model in a column: what is copied shares nothing."""
    for value in (Money(1), (1, [2]), Hero(name="H")):
        copied = ADAPTER.plain(Author, "tags", value)
        assert type(copied) is type(value)
        assert copied is not value
    assert ADAPTER.plain(Author, "tags", (1, 2)) == (1, 2)
    assert ADAPTER.dump(Author, {"tags": [pydantic.create_model("Tag", name=str)(name="n")]}) == {
        "tags": [{"name": "n"}]
    }


def test_a_plain_value_is_a_copy() -> None:
    """What goes into a base is shared with nobody."""
    tags = ["a"]
    plain = ADAPTER.plain(Author, "tags", tags)
    assert plain == tags
    assert plain is not tags


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Shape(Base):
    __tablename__ = "shape"
    id: Mapped[int] = mapped_column(primary_key=True)
    centre: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))


def test_a_composite_shows_what_was_answered_of_its_columns() -> None:
    """It is made of them once, and kept; an answer to one of them makes it anew."""
    shape = Shape(id=1, centre=Point(1, 2))
    assert shape.centre == Point(1, 2)
    names = [name for name in ADAPTER.fields(Shape) if name != "id"]
    ADAPTER.assign(shape, names[0], 9)
    assert shape.centre == Point(9, 2)
