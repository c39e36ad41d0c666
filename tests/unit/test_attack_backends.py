"""Found by attacking what was built for speed around the backends; each of these fails."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from chained_models import ChainedSaveMixin, Lane, registry
from chained_models.adapters.sqlalchemy import ADAPTER as MAPPED
from chained_models.backends import _sql_batch
from chained_models.backends.sqlalchemy import SQLAlchemyBackend
from chained_models.operation import Answer, Method, Operation

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
