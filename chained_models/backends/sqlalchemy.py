"""SQLAlchemy backends: rows of mapped classes, one transaction per attempt.

Every attempt has a Session of its own, never yours: your half-done work is not committed by a save, and one of your
rollbacks takes no save with it. Two transactions on one row wait for one another, so commit what you flushed before you
save the same object (the save says so: `AttachedInstance`).

::

    engine = create_engine("postgresql+psycopg://...")

    class User(ChainedSaveMixin, Base): ...
    User.bind(SQLAlchemyBackend(engine))

Deleting an object does what `Session.delete` would do, cascades of the mapping included; everything else concerns the
columns of its own row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .._lane import Lane
from ..exceptions import InvalidOption, MissingExtra
from ..operation import Answer, Guarantee, Method, Operation
from ..registry import RegisteredModel

try:
    import sqlalchemy
except ImportError as error:
    raise MissingExtra("SQLAlchemy", "sqlalchemy") from error

from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from ._key_table import KeyTable, key_table
from ._sql_batch import advance, carry_out_many
from ._sql_plain import PlainTables
from ._sql_work import carry_out

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session

__all__ = ["AsyncSQLAlchemyBackend", "SQLAlchemyBackend", "key_table"]


_STATEMENTS = {
    Method.CREATE: "INSERT INTO",
    Method.UPDATE: "UPDATE",
    Method.PATCH: "UPDATE",
    Method.DELETE: "DELETE FROM",
    Method.READ: "SELECT FROM",
}


class _Declared:
    """What both colours declare."""

    lane: Lane
    _keys: KeyTable | None
    _tables: PlainTables

    def _declare(self, bind: Any, lane: Lane | None, table: sqlalchemy.Table | str | bool | None) -> None:
        if lane is None:
            # A StaticPool is a single connection, and so can hold a single transaction. A file of SQLite has a single
            # writer: a second one only waits, polling for the lock, and larger batches are made in half the time.
            dialect = getattr(bind, "dialect", None)
            single = isinstance(getattr(bind, "pool", None), StaticPool) or getattr(dialect, "name", "") == "sqlite"
            lane = Lane(max_in_flight=1) if single else Lane()
        self.lane = lane
        self._tables = PlainTables()
        self._keys = KeyTable(table) if table is not None and table is not False else None

    def guarantee(self, model_type: type) -> Guarantee:
        """FENCED where the mapper has a version column; TRANSACTIONAL with a key table."""
        fenced = sqlalchemy.inspect(model_type).version_id_col is not None
        return (Guarantee.FENCED if fenced else Guarantee.PLAIN) | (
            Guarantee.TRANSACTIONAL if self._keys is not None else Guarantee.PLAIN
        )

    def describe(self, method: Method, model: RegisteredModel, resource: str) -> str:
        """What is sent, as one line for people."""
        return f"{_STATEMENTS[method]} {sqlalchemy.inspect(model.type).persist_selectable}"

    def batches(self, model_type: type, method: Method) -> bool:
        """Whether `execute_many` carries them out together with others, as far as the class tells; else one by one."""
        return self._tables.may_be_plain(model_type, method)


class SQLAlchemyBackend(_Declared):
    """Writes rows of mapped classes.

    Args:
        sessionmaker_or_engine: A `sessionmaker` (its events and binds hold for our Sessions too), or an `Engine`.
        lane: How many saves may be in flight at once; by default as many as :class:`~chained_models.Lane` says, and
            one on SQLite, which has one writer, or on an engine with a single connection.
        key_table: With one, a write happens exactly once, even if the answer to COMMIT was lost. True for a table
            named "chained_models_keys", or its name, or a table made by :func:`key_table`. Create it with
            :meth:`create_key_table`, or with your migrations.
    """

    def __init__(
        self,
        sessionmaker_or_engine: sessionmaker[Any] | sqlalchemy.Engine,
        *,
        lane: Lane | None = None,
        key_table: sqlalchemy.Table | str | bool | None = None,
    ) -> None:
        source: Any = sessionmaker_or_engine
        if isinstance(source, sqlalchemy.Engine):
            source = sessionmaker(source)
        elif isinstance(source, scoped_session):
            source = source.session_factory
        if not isinstance(source, sessionmaker):
            raise InvalidOption(_WANTED.format("SQLAlchemyBackend", "sessionmaker", "an Engine", type(source).__name__))
        self._sessions: sessionmaker[Session] = source
        self._declare(source.kw.get("bind"), lane, key_table)

    def execute(self, operation: Operation) -> Answer:
        """Carry it out in a transaction of its own."""
        with self._sessions(expire_on_commit=False) as session:
            return carry_out(session, operation, self._keys)

    def execute_many(self, operations: Sequence[Operation]) -> list[Answer | Exception]:
        """Carry them out in one transaction, as far as that makes no difference but in time; the others one by one.

        Gives an answer or an error for each, in their order: what `execute` would have returned or raised. If the answer
        to COMMIT is lost, it is InDoubt for each that was part of it.

        Args:
            operations: On different objects; of several on one row, the first is carried out first.

        Raises:
            Unavailable: None of them was applied.
        """
        steps = carry_out_many(operations, self._keys, self._tables)
        call = advance(partial(next, steps))
        while not isinstance(call, list):
            try:
                with self._sessions(expire_on_commit=False) as session:
                    done = call(session)
            except Exception as error:  # noqa: BLE001 - it goes to who asked for it
                call = advance(partial(steps.throw, error))
            else:
                call = advance(partial(steps.send, done))
        return call

    def create_key_table(self) -> None:
        """Create the key table, unless it is there. Does nothing without one."""
        if self._keys is not None:
            with self._sessions.begin() as session:
                self._keys.table.create(session.connection(), checkfirst=True)


class AsyncSQLAlchemyBackend(_Declared):
    """:class:`SQLAlchemyBackend` for an `async_sessionmaker` or an `AsyncEngine`; the same work, run by `run_sync`."""

    def __init__(
        self,
        sessionmaker_or_engine: async_sessionmaker[Any] | AsyncEngine,
        *,
        lane: Lane | None = None,
        key_table: sqlalchemy.Table | str | bool | None = None,
    ) -> None:
        if find_spec("greenlet") is None:  # SQLAlchemy would say so only at the first attempt
            raise MissingExtra("greenlet", "asyncio")
        from sqlalchemy.ext.asyncio import AsyncEngine, async_scoped_session, async_sessionmaker

        source: Any = sessionmaker_or_engine
        if isinstance(source, AsyncEngine):
            source = async_sessionmaker(source)
        elif isinstance(source, async_scoped_session):
            source = source.session_factory
        if not isinstance(source, async_sessionmaker):
            raise InvalidOption(
                _WANTED.format("AsyncSQLAlchemyBackend", "async_sessionmaker", "an AsyncEngine", type(source).__name__)
            )
        self._sessions: async_sessionmaker[AsyncSession] = source
        self._declare(source.kw.get("bind"), lane, key_table)

    async def execute(self, operation: Operation) -> Answer:
        """Carry it out in a transaction of its own."""
        async with self._sessions(expire_on_commit=False) as session:
            return await session.run_sync(carry_out, operation, self._keys)

    async def execute_many(self, operations: Sequence[Operation]) -> list[Answer | Exception]:
        """As :meth:`SQLAlchemyBackend.execute_many`."""
        steps = carry_out_many(operations, self._keys, self._tables)
        call = advance(partial(next, steps))
        while not isinstance(call, list):
            try:
                async with self._sessions(expire_on_commit=False) as session:
                    done = await session.run_sync(call)
            except Exception as error:  # noqa: BLE001 - it goes to who asked for it
                call = advance(partial(steps.throw, error))
            else:
                call = advance(partial(steps.send, done))
        return call

    async def create_key_table(self) -> None:
        """Create the key table, unless it is there. Does nothing without one."""
        if self._keys is not None:
            async with self._sessions.begin() as session:
                await (await session.connection()).run_sync(self._keys.table.create, checkfirst=True)


_WANTED = "{0} takes a {1} or {2}, not a {3}: it needs a Session of its own for every attempt"
