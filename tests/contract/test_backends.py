"""Every backend, through the whole stack: one suite over all of them.

A case binds a model class to its backend, can make the next attempts fail, and can look at what is stored behind the
library's back: in the server's own store, with plain SQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine

from chained_models import (
    BackendError,
    ChainedSaveMixin,
    Conflict,
    Dispatcher,
    Gone,
    Guarantee,
    InDoubt,
    Method,
    Operation,
    Outcome,
    RetryPolicy,
    Unavailable,
)
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.memory import MemoryBackend
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import AsyncSQLAlchemyBackend, SQLAlchemyBackend
from chained_models.testing import AsyncScriptedBackend, ScriptedBackend
from tests.integration.rest_server import RestServer

QUICK = RetryPolicy(attempts=3, wait_initial=0.001, wait_max=0.002)


class Case:
    """One backend, and a model class that is bound to it."""

    model: type[Any]
    backend: Any
    fenced = True

    def new(self, **values: Any) -> Any:
        """A new object."""
        return self.model(**values)

    def stored(self, identity: Any) -> dict[str, Any] | None:
        """What the backend has, seen from outside; None if there is nothing."""
        raise NotImplementedError

    def count(self) -> int:
        """How many things are stored."""
        raise NotImplementedError

    def change(self, identity: Any, title: str) -> None:
        """Somebody else writes."""
        raise NotImplementedError

    def remove(self, identity: Any) -> None:
        """Somebody else deletes."""
        raise NotImplementedError


class Faulty:
    """Wraps the verbs of a backend, so that attempts fail on cue, before or after they took effect."""

    def __init__(self, backend: Any) -> None:
        self.before: list[BackendError] = []
        self.after: list[BackendError] = []
        self.attempts: list[Operation] = []
        inner = backend.execute
        if asyncio.iscoroutinefunction(inner):

            async def execute(operation: Operation) -> Any:
                self._enter(operation)
                return self._leave(await inner(operation))

            backend.execute = execute
        else:
            backend.execute = lambda operation: self._around(operation, inner)

    def _around(self, operation: Operation, inner: Callable[[Operation], Any]) -> Any:
        self._enter(operation)
        return self._leave(inner(operation))

    def _enter(self, operation: Operation) -> None:
        self.attempts.append(operation)
        if self.before:
            raise self.before.pop(0)

    def _leave(self, answer: Any) -> Any:
        if self.after:
            raise self.after.pop(0)
        return answer


class MemoryCase(Case):
    def __init__(self, stack: ExitStack, tmp_path: Path) -> None:
        class Note(ChainedSaveMixin, pydantic.BaseModel):
            id: int | None = None
            title: str = ""
            body: str = ""

        self.model = Note
        self.backend = self.make()

    def make(self) -> Any:
        return MemoryBackend()

    def stored(self, identity: Any) -> dict[str, Any] | None:
        values = self.backend.stored("notes").get(identity)
        return None if values is None else dict(values)

    def count(self) -> int:
        return len(self.backend.stored("notes"))

    def change(self, identity: Any, title: str) -> None:
        row = self.backend._collections["notes"].rows[identity]
        row.values["title"] = title
        row.version += 1

    def remove(self, identity: Any) -> None:
        del self.backend._collections["notes"].rows[identity]


class ScriptedCase(MemoryCase):
    """The fake of the testing kit, without a script: it answers as the real ones do."""

    def make(self) -> Any:
        return ScriptedBackend(guarantee=Guarantee.IDEMPOTENT | Guarantee.FENCED)


class ForgetfulScriptedCase(MemoryCase):
    def make(self) -> Any:
        return ScriptedBackend(guarantee=Guarantee.FENCED)


class AsyncScriptedCase(MemoryCase):
    def make(self) -> Any:
        return AsyncScriptedBackend(guarantee=Guarantee.IDEMPOTENT | Guarantee.FENCED)


class RestCase(Case):
    def __init__(self, stack: ExitStack, tmp_path: Path) -> None:
        class Note(ChainedSaveMixin, pydantic.BaseModel):
            id: int | None = None
            title: str = ""
            body: str = ""

        self.model = Note
        self.server = stack.enter_context(RestServer())
        self.server.remembers_keys = True
        self.backend = self.make(stack)

    def make(self, stack: ExitStack) -> Any:
        backend = RestBackend(self.server.url, conditional=True, guarantee=Guarantee.IDEMPOTENT)
        stack.callback(backend.close)
        return backend

    def stored(self, identity: Any) -> dict[str, Any] | None:
        return self.server.store.get(f"/notes/{identity}")

    def count(self) -> int:
        return len(self.server.store)

    def change(self, identity: Any, title: str) -> None:
        self.server.store[f"/notes/{identity}"]["title"] = title
        self.server._versions[f"/notes/{identity}"] += 1

    def remove(self, identity: Any) -> None:
        del self.server.store[f"/notes/{identity}"]


class AiohttpCase(RestCase):
    """Nobody closes it: its connections end with the loop in which the dispatcher works."""

    def make(self, stack: ExitStack) -> Any:
        return AiohttpBackend(self.server.url, conditional=True, guarantee=Guarantee.IDEMPOTENT)


class SQLCase(Case):
    """SQLite files, read and changed with plain SQL."""

    def __init__(self, stack: ExitStack, tmp_path: Path) -> None:
        class Base(orm.DeclarativeBase):
            pass

        class Note(ChainedSaveMixin, Base):
            __tablename__ = "notes"
            id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
            title: orm.Mapped[str] = orm.mapped_column(default="")
            body: orm.Mapped[str] = orm.mapped_column(default="")
            version: orm.Mapped[int] = orm.mapped_column(nullable=False)
            __mapper_args__ = {"version_id_col": version}

        self.model = Note
        url = f"sqlite:///{tmp_path / 'notes.db'}"
        self.engine = sa.create_engine(url)
        stack.callback(self.engine.dispose)
        Base.metadata.create_all(self.engine)
        self.backend = self.make(stack, tmp_path)

    def make(self, stack: ExitStack, tmp_path: Path) -> Any:
        return SQLAlchemyBackend(self.engine)

    def stored(self, identity: Any) -> dict[str, Any] | None:
        with self.engine.connect() as connection:
            row = connection.execute(sa.text("SELECT * FROM notes WHERE id = :id"), {"id": identity}).mappings().first()
            return None if row is None else dict(row)

    def count(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM notes")).scalar_one())

    def change(self, identity: Any, title: str) -> None:
        statement = sa.text("UPDATE notes SET title = :title, version = version + 1 WHERE id = :id")
        with self.engine.begin() as connection:
            connection.execute(statement, {"title": title, "id": identity})

    def remove(self, identity: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM notes WHERE id = :id"), {"id": identity})


class KeyedSQLCase(SQLCase):
    def make(self, stack: ExitStack, tmp_path: Path) -> Any:
        backend = SQLAlchemyBackend(self.engine, key_table=True)
        backend.create_key_table()
        return backend


class AsyncSQLCase(SQLCase):
    def make(self, stack: ExitStack, tmp_path: Path) -> Any:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'notes.db'}", poolclass=sa.NullPool)
        return AsyncSQLAlchemyBackend(engine)


CASES: list[Callable[[ExitStack, Path], Case]] = [
    MemoryCase,
    ScriptedCase,
    ForgetfulScriptedCase,
    AsyncScriptedCase,
    RestCase,
    AiohttpCase,
    SQLCase,
    KeyedSQLCase,
    AsyncSQLCase,
]


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A backend with a bound model class."""
    with ExitStack() as stack:
        made: Case = request.param(stack, tmp_path)
        dispatcher = stack.enter_context(Dispatcher())
        made.model.bind(made.backend, resource="notes", retry=QUICK, timeout=5.0, dispatcher=dispatcher)
        yield made


def test_create_then_update(case: Case) -> None:
    """Saves made at once arrive as one create and updates with its identity, and the last state is what is stored."""
    note = case.new(title="a")
    first = note.save()
    note.title = "b"
    second = note.save()
    note.title = "c"
    third = note.save()
    assert third.result(10) is note
    assert [save.method for save in (first, second, third)] == [Method.CREATE, Method.UPDATE, Method.UPDATE]
    assert note.id is not None
    stored = case.stored(note.id)
    assert stored is not None
    assert stored["title"] == "c"
    assert case.count() == 1


def test_patch_writes_the_difference_only(case: Case) -> None:
    """A patch leaves alone what it does not carry, whoever wrote it."""
    note = case.new(title="a", body="mine")
    note.save().result(10)
    case.change(note.id, "theirs")
    note.refresh().result(10)
    assert note.title == "theirs"
    note.body = "new"
    handle = note.save(patch=True)
    handle.result(10)
    assert handle.method is Method.PATCH
    assert handle.operation is not None
    assert handle.operation.changed == {"body"}
    stored = case.stored(note.id)
    assert stored is not None
    assert (stored["title"], stored["body"]) == ("theirs", "new")


def test_delete(case: Case) -> None:
    """A deleted thing is gone; deleting what somebody else has deleted is a success."""
    one, two = case.new(title="a"), case.new(title="b")
    one.save().result(10)
    two.save().result(10)
    assert one.delete().result(10) is one
    case.remove(two.id)
    assert two.delete().result(10) is two
    assert case.count() == 0


def test_refresh_takes_what_is_stored(case: Case) -> None:
    """A refresh brings the values and the version that somebody else has written."""
    note = case.new(title="a")
    note.save().result(10)
    case.change(note.id, "theirs")
    assert note.refresh().result(10).title == "theirs"
    note.title = "mine"
    note.save().result(10)
    stored = case.stored(note.id)
    assert stored is not None
    assert stored["title"] == "mine"


def test_a_stale_write_is_a_conflict(case: Case) -> None:
    """Somebody else wrote in between: FAILED with Conflict, the queued saves of the object too, and nothing is overwritten."""
    note = case.new(title="a")
    note.save().result(10)
    case.change(note.id, "theirs")
    note.chain.pause()
    first, second = note.save({"title": "b"}), note.save({"title": "c"})
    note.chain.resume()
    assert isinstance(first.exception(10), Conflict)
    assert second.exception(10) is first.exception(10)
    stored = case.stored(note.id)
    assert stored is not None
    assert stored["title"] == "theirs"
    note.refresh().result(10)
    assert note.save().result(10) is note


def test_a_write_to_what_is_gone_fails(case: Case) -> None:
    """Somebody else deleted it: FAILED with Gone, queued saves with the same cause, and it is not brought back."""
    note = case.new(title="a")
    note.save().result(10)
    case.remove(note.id)
    note.chain.pause()
    first, second = note.save({"title": "b"}), note.save({"title": "c"})
    note.chain.resume()
    assert isinstance(first.exception(10), Gone)
    assert second.exception(10) is first.exception(10)
    assert isinstance(note.refresh().exception(10), Gone)
    assert case.count() == 0


def test_unavailable_then_fine(case: Case) -> None:
    """An attempt that surely was not applied is made again, with the same key, and in its place."""
    faulty = Faulty(case.backend)
    faulty.before = [Unavailable("not now"), Unavailable("not now")]
    note = case.new(title="a")
    first = note.save()
    note.title = "b"
    assert note.save().result(10) is note
    assert (first.outcome, first.attempts) == (Outcome.SAVED, 3)
    assert len({operation.idempotency_key for operation in faulty.attempts[:3]}) == 1
    assert case.count() == 1


def test_unavailable_too_often(case: Case) -> None:
    """Attempts are bounded; then the save has FAILED, and the next one becomes the create."""
    faulty = Faulty(case.backend)
    faulty.before = [Unavailable("not now")] * 3
    note = case.new(title="a")
    first, second = note.save(), note.save()
    assert isinstance(first.exception(10), Unavailable)
    assert (second.result(10), second.method) == (note, Method.CREATE)
    assert case.count() == 1


def test_a_lost_answer_to_an_update(case: Case) -> None:
    """An update whose answer was lost is sent again, the same; where the fence then refuses, it is read, and recognised."""
    note = case.new(title="a")
    note.save().result(10)
    faulty = Faulty(case.backend)
    faulty.after = [InDoubt("lost")]
    handle = note.save({"title": "b"})
    assert handle.result(10) is note
    methods = [operation.method for operation in faulty.attempts]
    remembers = bool(_guarantee(case) & (Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL))
    assert methods == [Method.UPDATE, Method.UPDATE, *([] if remembers else [Method.READ])]
    stored = case.stored(note.id)
    assert stored is not None
    assert stored["title"] == "b"


def test_a_lost_answer_to_a_create(case: Case) -> None:
    """A create whose answer was lost has one effect: sent again with its key, or not again and the chain halts."""
    faulty = Faulty(case.backend)
    faulty.after = [InDoubt("lost")]
    note = case.new(title="a")
    handle, behind = note.save(), note.save({"title": "b"})
    handle.exception(10)
    if _guarantee(case) & (Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL):
        assert handle.outcome is Outcome.SAVED
        assert behind.result(10) is note
    else:
        assert handle.outcome is Outcome.ABANDONED
        assert note.chain.halted is handle
        note.chain.clear()
        assert behind.cancelled()
    assert case.count() == 1


def _guarantee(case: Case) -> Guarantee:
    declared = case.backend.guarantee
    return declared(case.model) if callable(declared) else declared
