"""One mapped class, saved by us and worked with in the user's own Session, in every state that an object can be in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from chained_models import AttachedInstance, ChainedSaveMixin, Conflict, Dispatcher, Method, UsageError
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


class Book(ChainedSaveMixin, Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(default="untitled")
    pages: orm.Mapped[int] = orm.mapped_column(default=0)
    notes: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON, default=None)
    shelf: orm.Mapped[str] = orm.mapped_column(server_default="new")
    author_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey("authors.id"), default=None)
    author: orm.Mapped[Author | None] = orm.relationship()
    version: orm.Mapped[int] = orm.mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}


class Line(ChainedSaveMixin, Base):
    __tablename__ = "lines"
    order_id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    amount: orm.Mapped[int] = orm.mapped_column(default=1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A fresh SQLite file; Book and Line are bound to it."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'books.db'}")
    Base.metadata.create_all(engine)
    with Dispatcher() as dispatcher:
        backend = SQLAlchemyBackend(engine)
        Book.bind(backend, dispatcher=dispatcher)
        Line.bind(backend, dispatcher=dispatcher)
        yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[orm.Session]:
    """The user's own Session."""
    with orm.Session(engine) as session:
        yield session


def row(engine: sa.Engine, identity: int) -> dict[str, Any]:
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT * FROM books WHERE id = :id"), {"id": identity}).mappings().one()
        return dict(found)


class Statements:
    """Counts the writes that a Session sends."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seen: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            self.seen.append(statement)


def test_transient_becomes_detached_with_what_the_database_gave(engine: sa.Engine) -> None:
    """After its create a new object has key, version and server defaults, is detached, and can be merged into a Session."""
    book = Book(title="a")
    assert book.chain.is_new
    book.save().result(10)
    assert (book.id, book.version, book.shelf, book.pages) == (1, 1, "new", 0)
    assert sa.inspect(book).detached
    assert not book.chain.is_new
    assert book.chain.unsaved_changes() == {}
    with orm.Session(engine) as session:
        session.add(book)
        statements = Statements(engine)
        session.commit()
        assert statements.seen == []


def test_saves_in_a_row_carry_the_version_and_only_what_changed(engine: sa.Engine) -> None:
    """Each versioned update carries the version that the one before it gave, and the columns that differ."""
    book = Book(title="a")
    first = book.save()
    book.pages = 10
    second = book.save()
    book.title = "b"
    third = book.save()
    third.result(10)
    operations = [save.operation for save in (first, second, third)]
    assert [operation.version for operation in operations if operation] == [None, 1, 2]
    assert [set(operation.changed) for operation in operations if operation][1:] == [{"pages"}, {"title"}]
    assert row(engine, 1)["version"] == book.version == 3


def test_persistent_is_saved_and_not_written_again(engine: sa.Engine, session: orm.Session) -> None:
    """A loaded object's base is what the mapper loaded; after the save the user's Session has nothing left to write."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    book.pages = 5
    assert book.chain.unsaved_changes() == {"pages": 5}
    session.rollback()
    book = session.get_one(Book, 1)
    session.commit()
    book.pages = 5
    handle = book.save()
    handle.result(10)
    assert handle.operation is not None
    assert (handle.method, handle.operation.changed) == (Method.UPDATE, {"pages"})
    assert book.version == 2
    statements = Statements(engine)
    session.commit()
    assert statements.seen == []
    assert row(engine, 1)["pages"] == 5


def test_an_attached_object_is_touched_by_its_own_thread_only(engine: sa.Engine, session: orm.Session) -> None:
    """The save settles at once; what it was answered waits for a wait or a flush in the thread of the Session."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    session.commit()
    settled = threading.Event()
    book.save({"pages": 5}).add_done_callback(lambda _: settled.set())
    assert settled.wait(10)
    assert book.version == 1
    other = threading.Thread(target=Book.__chained_binding__.dispatcher.flush)
    other.start()
    other.join()
    assert book.version == 1
    Book.__chained_binding__.dispatcher.flush(10)
    assert book.version == 2
    statements = Statements(engine)
    session.commit()
    assert statements.seen == []


def test_what_was_edited_meanwhile_stays_dirty(engine: sa.Engine, session: orm.Session) -> None:
    """A column that was changed after the save is still the Session's to write."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    session.commit()
    book.pages = 5
    book.chain.pause()
    handle = book.save()
    book.pages = 6
    book.chain.resume()
    handle.result(10)
    assert book.pages == 6
    session.commit()
    assert row(engine, 1)["pages"] == 6


def test_a_value_changed_in_place_is_written(engine: sa.Engine) -> None:
    """An in-place change of a JSON value is found by comparing with the base."""
    book = Book(title="a", notes={"x": 1})
    book.save().result(10)
    assert book.notes is not None
    book.notes["y"] = 2
    handle = book.save()
    handle.result(10)
    assert handle.operation is not None
    assert handle.operation.changed == {"notes"}
    assert row(engine, 1)["notes"] == '{"x": 1, "y": 2}'


def test_a_value_that_was_loaded_anew_is_not_taken_for_unchanged(engine: sa.Engine, session: orm.Session) -> None:
    """Set back to what we stored once, after somebody else's value was loaded, it is written again."""
    book = Book(title="a", notes={"x": 1})
    book.save().result(10)
    session.add(book)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE books SET notes = '{\"x\": 2}'"))
    session.refresh(book)
    session.commit()
    book.save({"notes": {"x": 1}}).result(10)
    assert row(engine, 1)["notes"] == '{"x": 1}'


def test_pending_is_refused(engine: sa.Engine, session: orm.Session) -> None:
    """An object that the Session will insert is refused, with the remedy; expunged, it is saved."""
    book = Book(title="a")
    session.add(book)
    with pytest.raises(AttachedInstance, match=r"commit|expunge"):
        book.save()
    session.expunge(book)
    assert book.save().result(10).id == 1


def test_flushed_is_refused_until_the_commit(engine: sa.Engine, session: orm.Session) -> None:
    """An object that was flushed in the open transaction is refused; after the commit it is saved."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    book.title = "b"
    session.flush()
    with pytest.raises(AttachedInstance):
        book.save()
    session.commit()
    assert book.save({"pages": 3}).result(10).version == 3


def test_deleted_is_refused(engine: sa.Engine, session: orm.Session) -> None:
    """An object that the Session deletes is refused."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    session.delete(book)
    with pytest.raises(AttachedInstance):
        book.save()
    session.flush()
    with pytest.raises(AttachedInstance):
        book.save()


def test_expired_is_loaded_at_the_call(engine: sa.Engine, session: orm.Session) -> None:
    """Expired attributes of an attached object are loaded in the caller's thread."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    session.commit()
    handle = book.save({"pages": 9})
    handle.result(10)
    assert handle.snapshot["title"] == "a"
    assert row(engine, 1)["pages"] == 9


def test_expired_and_detached_is_a_clear_error(engine: sa.Engine, session: orm.Session) -> None:
    """Nothing can be read from an object that is expired and detached; the error says what to do."""
    Book(title="a").save().result(10)
    book = session.get_one(Book, 1)
    session.commit()
    session.expunge(book)
    with pytest.raises(UsageError, match="expire_on_commit"):
        book.save()
    assert len(book.chain) == 0


async def _expired_in_async_session(url: str) -> None:
    engine = create_async_engine(url)
    Book.bind(AsyncSQLAlchemyBackend(engine))
    try:
        async with AsyncSession(engine) as session:
            book = await session.get_one(Book, 1)
            await session.commit()
            with pytest.raises(UsageError, match="expire"):
                book.save()
            await session.refresh(book)
            await session.commit()
        async with AsyncSession(engine, expire_on_commit=False) as session:
            book = await session.get_one(Book, 1)
            await session.commit()
            await book.save({"pages": 4})
            assert book.version == 2
    finally:
        await engine.dispose()


def test_expired_under_an_async_session_is_a_clear_error(engine: sa.Engine, tmp_path: Path) -> None:
    """What would have to be loaded under an AsyncSession is refused before any I/O is tried."""
    import asyncio

    Book(title="a").save().result(10)
    asyncio.run(_expired_in_async_session(f"sqlite+aiosqlite:///{tmp_path / 'books.db'}"))
    assert row(engine, 1)["pages"] == 4


def test_a_stale_object_conflicts_and_refresh_helps(engine: sa.Engine, session: orm.Session) -> None:
    """Somebody else's write in between is a Conflict; a refresh brings version and values."""
    book = Book(title="a")
    book.save().result(10)
    other = session.get_one(Book, 1)
    other.title = "theirs"
    session.commit()
    book.pages = 7
    assert isinstance(book.save().exception(10), Conflict)
    book.refresh().result(10)
    assert (book.title, book.pages, book.version) == ("theirs", 7, 2)
    book.save().result(10)
    assert row(engine, 1)["pages"] == 7


def test_relationships_are_left_alone(engine: sa.Engine, session: orm.Session) -> None:
    """Only columns are saved; a related object is neither copied nor written."""
    book = Book(title="a", author=Author(id=3))
    handle = book.save()
    handle.result(10)
    assert "author" not in handle.snapshot
    assert session.scalars(sa.select(Author)).all() == []


def test_composite_keys(engine: sa.Engine) -> None:
    """A composite key is given by the program, in mapper order, and fixed once confirmed."""
    line = Line(order_id=1, number=2)
    handle = line.save()
    handle.result(10)
    assert (handle.method, handle.identity) == (Method.CREATE, (1, 2))
    assert Line(order_id=1, number=2, amount=5).save().result(10).amount == 5
    line.refresh().result(10)
    assert line.amount == 5
    line.delete().result(10)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM lines")).scalar_one() == 0


def test_what_one_database_was_sent_is_not_believed_of_another(engine: sa.Engine, tmp_path: Path) -> None:
    """The mapper keeps one account for each object; it is about the backend that the object was first saved to."""
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    Base.metadata.create_all(other)
    elsewhere = SQLAlchemyBackend(other)

    def amounts() -> list[Any]:
        asked = []
        for database in (engine, other):
            with database.connect() as connection:
                asked.append(connection.execute(sa.text("SELECT amount FROM lines")).scalar())
        return asked

    line = Line(order_id=1, number=1, amount=5)
    line.save().result(5)
    with Line.bound(elsewhere):
        assert line.save(force_insert=True).result(5) is line
    assert amounts() == [5, 5]
    line.amount = 6
    with Line.bound(elsewhere):
        line.save().result(5)
        assert line.chain.unsaved_changes() == {}
    assert amounts() == [5, 6]
    assert line.chain.unsaved_changes() == {"amount": 6}
    line.save().result(5)
    assert amounts() == [6, 6]
    with other.begin() as connection:
        connection.execute(sa.text("UPDATE lines SET amount = 0"))
    with Line.bound(SQLAlchemyBackend(other)):
        line.save().result(5)
    assert amounts() == [6, 6]
    other.dispose()


def test_what_is_set_back_is_no_change(engine: sa.Engine, session: orm.Session) -> None:
    """After `revert()` of an object in a Session neither we nor that Session would write anything."""
    session.add(Book(title="a"))
    session.commit()
    book = session.get_one(Book, 1)
    session.expire_on_commit = False
    session.commit()
    with orm.Session(engine) as other:
        other.get_one(Book, 1).title = "theirs"
        other.commit()
    assert isinstance(book.save({"title": "ours"}).exception(10), Conflict)
    book.refresh().result(10)
    assert book.chain.unsaved_changes() == {"title": "ours"}
    book.chain.revert()
    assert (book.title, book.version, book.chain.unsaved_changes()) == ("theirs", 2, {})
    statements = Statements(engine)
    assert book.save(patch=True).result(10) is book
    session.commit()
    assert statements.seen == []
