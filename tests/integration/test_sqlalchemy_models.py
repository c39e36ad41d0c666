"""Mapped objects that save themselves: adapter, chain and backend together, on a SQLite file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chained_models import AttachedInstance, BaseUnknown, ChainedSaveMixin, Conflict, Dispatcher, Gone, Method, Outcome
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend


class Base(DeclarativeBase):
    pass


class Note(ChainedSaveMixin, Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="untitled")
    text: Mapped[str | None]
    tags: Mapped[list[str] | None] = mapped_column(sa.JSON)
    state: Mapped[str] = mapped_column(server_default="fresh")
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Line(ChainedSaveMixin, Base):
    __tablename__ = "line"
    number: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class Watched:
    """The statements that write, since it was last asked."""

    def __init__(self, engine: sa.Engine) -> None:
        self._statements: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", self._watch)

    def _watch(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("SELECT", "PRAGMA", "BEGIN")):
            self._statements.append(statement)

    def __call__(self) -> list[str]:
        taken, self._statements = self._statements, []
        return taken


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=["inline", "threads"])
def dispatcher(request: pytest.FixtureRequest, engine: sa.Engine) -> Iterator[Dispatcher]:
    with Dispatcher(request.param) as dispatcher:
        for model in (Note, Line):
            model.bind(SQLAlchemyBackend(engine), dispatcher=dispatcher)
        yield dispatcher


@pytest.fixture
def written(engine: sa.Engine, dispatcher: Dispatcher) -> Watched:
    return Watched(engine)


def test_a_new_object_is_inserted_once_and_then_updated(dispatcher: Dispatcher, written: Watched) -> None:
    """Three saves at once: one INSERT, then UPDATEs of what changed, with the version each one before has given."""
    note = Note(text="a")
    note.chain.pause()
    first = note.save()
    note.text = "b"
    second = note.save()
    note.tags = ["x"]
    third = note.save()
    note.chain.resume()
    third.result(10)
    assert [save.method for save in (first, second, third)] == [Method.CREATE, Method.UPDATE, Method.UPDATE]
    assert (note.id, note.title, note.text, note.tags, note.state, note.version) == (
        1,
        "untitled",
        "b",
        ["x"],
        "fresh",
        3,
    )
    insert, one, other = written()
    assert insert.startswith("INSERT")
    assert "SET text=?, version=?" in one
    assert "SET tags=?, version=?" in other
    assert note.chain.unsaved_changes() == {}
    assert sa.inspect(note).detached


def test_answers_reach_a_save_behind_those_that_were_called_before_the_first_answer(
    engine: sa.Engine, written: Watched
) -> None:
    """Two saves that know no version yet stand between the create and a save that knows the create's."""
    created, go_on = threading.Event(), threading.Event()

    def hold(save: Any) -> None:
        created.set()
        assert go_on.wait(10)

    with Dispatcher("threads") as dispatcher:
        Note.bind(SQLAlchemyBackend(engine), dispatcher=dispatcher)
        note = Note(text="a")
        note.chain.pause()
        first = note.save()
        first.add_done_callback(hold)
        note.save({"text": "b"})
        note.save({"text": "c"})
        note.chain.resume()
        assert created.wait(10)
        assert note.version == 1
        fourth = note.save({"text": "d"})
        go_on.set()
        fourth.result(10)
        assert (note.version, note.chain.unsaved_changes()) == (4, {})
        assert note.save({"text": "e"}).result(10).version == 5


def test_a_saved_object_can_join_a_session(dispatcher: Dispatcher, engine: sa.Engine, written: Watched) -> None:
    """It is clean there: the commit writes nothing, and later edits are written as usual."""
    note = Note(text="a")
    note.save().result(10)
    written()
    with Session(engine) as session:
        session.add(note)
        session.commit()
        assert written() == []
        note.text = "b"
        session.commit()
        assert len(written()) == 1
        assert note.version == 2


def test_an_object_of_a_session_is_saved_past_it(dispatcher: Dispatcher, engine: sa.Engine, written: Watched) -> None:
    """Loaded, edited and saved: only the change is written, and the Session that holds it does not write it again."""
    Note(text="a", tags=["x"]).save().result(10)
    written()
    with Session(engine) as session:
        note = session.get_one(Note, 1)
        note.text = "b"
        session.rollback()  # ends the read transaction; what was edited is expired with the rest
        note.text = "c"
        handle = note.save()
        assert handle.result(10) is note
        assert handle.method is Method.UPDATE
        (update,) = written()
        assert update.startswith("UPDATE")
        assert "title" not in update
        assert not session.is_modified(note)
        assert (note.text, note.version) == ("c", 2)
        session.commit()
        assert written() == []
        note.text = "d"
        note.save().result(10)
        # The list may have been loaded anew by the Session, or changed in place: it counts as changed.
        assert "SET text=?, tags=?, version=?" in written()[0]


def test_a_json_list_edited_in_place_is_saved(dispatcher: Dispatcher, engine: sa.Engine) -> None:
    """The Session would not notice; the snapshot does."""
    Note(tags=["x"]).save().result(10)
    with Session(engine, expire_on_commit=False) as session:
        note = session.get_one(Note, 1)
        session.commit()
        assert note.tags is not None
        note.tags.append("y")
        note.save().result(10)
        session.expire_all()
        assert note.tags == ["x", "y"]


def test_two_objects_of_one_row_conflict(dispatcher: Dispatcher, engine: sa.Engine) -> None:
    """Each carries the version it was loaded with; after a refresh the other one may write."""
    Note(text="a").save().result(10)
    with Session(engine) as one, Session(engine) as two:
        mine, theirs = one.get_one(Note, 1), two.get_one(Note, 1)
        one.expunge_all()
        two.expunge_all()
    theirs.text = "theirs"
    theirs.save().result(10)
    mine.title = "mine"
    with pytest.raises(Conflict):
        mine.save().result(10)
    mine.refresh().result(10)
    assert (mine.text, mine.title, mine.version) == ("theirs", "mine", 2)
    mine.save().result(10)
    assert mine.version == 3


def test_an_object_that_its_session_writes_is_refused(dispatcher: Dispatcher, engine: sa.Engine) -> None:
    """Nothing is queued, and after the commit it can be saved."""
    with Session(engine) as session:
        note = Note(text="a")
        session.add(note)
        with pytest.raises(AttachedInstance):
            note.save()
        session.flush()
        with pytest.raises(AttachedInstance):
            note.save()
        session.commit()
        note.text = "b"
        assert note.save().result(10).text == "b"


def test_a_versioned_object_made_by_hand_has_no_version_to_write_with(dispatcher: Dispatcher) -> None:
    """Told that it is stored, it must be refreshed before it can be fenced."""
    Note(text="a").save().result(10)
    note = Note(id=1, text="b")
    note.chain.mark_saved()
    note.text = "c"
    with pytest.raises(BaseUnknown):
        note.save().result(10)
    note.refresh(discard=True).result(10)
    note.text = "c"
    note.save().result(10)
    assert note.version == 2


def test_deleting(dispatcher: Dispatcher, engine: sa.Engine) -> None:
    """A deleted row is gone for its other objects."""
    note = Note(text="a")
    note.save().result(10)
    with Session(engine) as session:
        other = session.get_one(Note, 1)
        session.expunge(other)
    assert note.delete().result(10) is note
    other.text = "b"
    handle = other.refresh()
    assert isinstance(handle.exception(10), Gone)
    assert handle.outcome is Outcome.FAILED


def test_a_composite_identity_is_the_clients(dispatcher: Dispatcher, engine: sa.Engine) -> None:
    """Created under the key it was given, then updated by it."""
    line = Line(number=2, note_id=1, text="a")
    assert line.save().result(10).text == "a"
    line.text = "b"
    handle = line.save()
    handle.result(10)
    assert (handle.identity, handle.method) == ((2, 1), Method.UPDATE)
    with engine.connect() as connection:
        assert connection.execute(sa.select(Line.__table__)).all() == [(2, 1, "b")]


def test_the_asynchronous_backend_saves_too(tmp_path: Path) -> None:
    """The same model, awaited."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with Dispatcher() as dispatcher:
            Note.bind(AsyncSQLAlchemyBackend(engine), dispatcher=dispatcher)
            note = Note(text="a")
            first = note.save()
            note.text = "b"
            await note.save()
            assert (first.method, note.id, note.version) == (Method.CREATE, 1, 2)
        await engine.dispose()

    asyncio.run(main())
