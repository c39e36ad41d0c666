"""Found by attacking what was built for speed around the backends; each of these fails."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from chained_models import ChainedSaveMixin, Lane, registry
from chained_models.adapters.sqlalchemy import ADAPTER as MAPPED
from chained_models.backends import _sql_batch
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.rest import RestBackend
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.exceptions import Rejected
from chained_models.operation import Answer, Method, Operation

from ..answering_server import AnsweringServer
from ..rest_operations import operation

CANARY = "canary-4711"


# Group commit


class Base(DeclarativeBase):
    pass


class Note(ChainedSaveMixin, Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]


class V(Base):
    """Called like the rows' source in the statement that deletes."""

    __tablename__ = "v"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_a_subclass_that_overrides_execute_is_asked_for_each_save(engine: sa.Engine) -> None:
    """Whether others are waiting, too, or not: else it depends on the load whether an audit is written."""

    class Audited(SQLAlchemyBackend):
        audited: list[str]

        def execute(self, operation: Operation) -> Answer:
            self.audited.append(operation.id)
            return super().execute(operation)

    lane = Lane(max_in_flight=1)
    backend = Audited(engine, lane=lane)
    backend.audited = []
    Note.bind(backend)
    lane.pause()
    saves = [Note(text=f"{at}").save() for at in range(3)]
    lane.resume()
    for save in saves:
        save.result()
    assert len(backend.audited) == 3


_serial = itertools.count(1)


def _delete(model: type, identity: Any) -> Operation:
    registered = registry.register(model, MAPPED, MAPPED.identity_fields(model))
    _held.append(registered)
    return Operation(
        id=f"s{next(_serial)}",
        key="test",
        seq=1,
        model=registered.name,
        method=Method.DELETE,
        resource="",
        identity=identity,
        values={},
        changed=frozenset(),
        version=None,
        idempotency_key=str(uuid.uuid4()),
        attempt=1,
        timeout=10.0,
    )


_held: list[Any] = []


def test_rows_of_a_table_called_v_are_deleted_together(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one statement, as those of any other table."""
    alone: list[Operation] = []
    inner = _sql_batch.carry_out
    monkeypatch.setattr(
        _sql_batch,
        "carry_out",
        lambda session, operation, keys: alone.append(operation) or inner(session, operation, keys),
    )
    with engine.begin() as connection:
        connection.execute(sa.insert(V.__table__), [{"id": 1}, {"id": 2}])
    SQLAlchemyBackend(engine).execute_many([_delete(V, 1), _delete(V, 2)])
    assert alone == []


# REST


def _texts_in_frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        if (
            "chained_models" in traceback.tb_frame.f_code.co_filename
            and "test" not in traceback.tb_frame.f_code.co_name
        ):
            for value in traceback.tb_frame.f_locals.values():
                if isinstance(value, (str, dict)):
                    yield repr(value)
        traceback = traceback.tb_next


async def _carry_out(backend: AiohttpBackend) -> Answer:
    one = operation(Method.CREATE)
    one.payload = backend.encode(one)
    return await backend.execute(one)


def _by_requests(url: str, **options: Any) -> Answer:
    backend = RestBackend(url, **options)
    try:
        return backend.execute(operation(Method.CREATE))
    finally:
        backend.close()


def _by_aiohttp(url: str, **options: Any) -> Answer:
    return asyncio.run(_carry_out(AiohttpBackend(url, **options)))


@pytest.mark.parametrize("send", [_by_requests, _by_aiohttp])
def test_an_error_that_is_kept_does_not_lead_to_the_token(send: Callable[..., Answer]) -> None:
    """Errors are kept with the handles of failed saves, and reported with the local variables of each frame."""
    with AnsweringServer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as server:
        with pytest.raises(Rejected) as caught:
            send(f"http://127.0.0.1:{server.port}/api", auth=lambda: CANARY)
    assert not [text for text in _texts_in_frames(caught.value.__traceback__) if CANARY in text]
