"""One operation, in one transaction of a Session that nobody else uses.

The same function serves both colours: a Session runs it as it is, an AsyncSession through `run_sync`.

Rows are written by the mapper's own unit of work, through a *stand-in*: an instance that holds the values to be written
and the identity and version they are meant for, made without `__init__` and filled without "set" events, so that no
validator sees a value twice. That costs one INSERT or UPDATE and no SELECT, and joined tables, version columns, defaults,
column types, the class's mapper events and several binds all work as its author declared them. Rejected: Core statements
on the mapper's tables, which are a third faster and would be a second, poorer unit of work; `Session.merge`, which reads
the row first.

Nothing is tried again here. A transaction that failed is repeated as a whole, in a new Session, by the chain: one layer
of retries, one back-off.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, event, func, inspect, select
from sqlalchemy.orm import InstanceState, Mapper, Session, attributes, make_transient_to_detached
from sqlalchemy.orm.exc import StaleDataError

from .. import registry
from ..exceptions import Conflict, Gone, Unavailable
from ..operation import Answer, Method, Operation
from ._key_table import KeyTable
from ._sql_errors import raise_mapped

__all__ = ["begin", "carry_out", "close", "commit", "in_sqlite_transaction"]

logger = logging.getLogger("chained_models")

_MOST_MILLISECONDS: Final = 2**31 - 1
"""PostgreSQL's longest timeout: three weeks and a half. Zero would be none at all."""


def carry_out(session: Session, operation: Operation, keys: KeyTable | None = None) -> Answer:
    """Carry out `operation` in a transaction of `session`, a fresh one, and close it, which rolls back if need be.

    Raises:
        BackendError: How it failed.
    """
    try:
        return _carried_out(session, operation, keys)
    finally:
        close(session)


def close(session: Session) -> None:
    """Give the connections back. What is wrong with one of them by now has no part in how the operation went."""
    try:
        session.close()
    except Exception as error:  # noqa: BLE001 - it would take the place of what was raised, or of the answer
        logger.debug("a connection could not be rolled back (%s), and is thrown away", type(error).__name__)
        session.invalidate()


def _carried_out(session: Session, operation: Operation, keys: KeyTable | None) -> Answer:
    work = _Work(session, operation)
    if work.is_nothing:
        return Answer(version=operation.version)
    try:
        connection = work.begin()
        if operation.method is Method.READ:
            return work.read()
        if keys is None:
            answer = work.write()
        elif keys.claim(connection, operation.idempotency_key):
            answer = work.write()
            keys.keep(connection, operation.idempotency_key, answer)
        else:
            session.rollback()
            answered = keys.answer(work.begin(), operation.idempotency_key)
            if answered is None:
                raise Unavailable("the idempotency key was there, and is gone")
            return answered
        if in_sqlite_transaction(connection) is False:
            # All Sessions on an in-memory database share one connection (StaticPool). Another one was closed meanwhile,
            # and its rollback took our write with it: a COMMIT of nothing must not pass for a success.
            raise Unavailable("another Session on the same connection has rolled our transaction back")
    except Exception as error:  # noqa: BLE001 - mapped, or raised as it is
        raise_mapped(error, committing=False)
    commit(session, connection)
    return answer


def begin(
    session: Session,
    mapper: Mapper[Any],
    *,
    writes: bool,
    timeout: float,
    asked: Sequence[ColumnElement[Any]] = (),
) -> tuple[Connection, Sequence[Any]]:
    """The connection of a class's tables, in a transaction that knows whether it writes, and how long it may take.

    And the answers to what was `asked`: by PostgreSQL, which is sent something in any case; nobody else has any.
    """
    answers: Sequence[Any] = ()
    connection = session.connection(bind_arguments={"mapper": mapper})
    match connection.dialect.name:
        case "sqlite" if writes and in_sqlite_transaction(connection) is False:
            # To become a writer only at the first write would fail at once, whatever the busy timeout, if somebody
            # else has written since our first read. The drivers begin by themselves, deferred, at the first write;
            # they leave that where a transaction is open. An engine that begins by its own "begin" hook is obeyed.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        case "postgresql":
            milliseconds = max(1, int(min(timeout * 1000, _MOST_MILLISECONDS)))
            limit = func.set_config("statement_timeout", str(milliseconds), True)
            _, *answers = connection.execute(select(limit, *asked)).one()
    return connection, answers


def commit(session: Session, connection: Connection) -> None:
    """Commit, and know afterwards whether COMMIT was sent, and whether it returned.

    What decides is the database's answer to COMMIT. Hooks (`before_commit`, `after_commit`) run around it in the same
    call, and may raise.
    """
    sent: list[Connection] = []
    event.listen(connection, "commit", sent.append)  # signalled right before the driver is called
    try:
        session.commit()
    except Exception as error:
        if not sent:
            raise_mapped(error, committing=False)
        if connection.get_transaction() is not None:  # it stays, as one whose COMMIT raised
            _end(connection)
            raise_mapped(error, committing=True)
        logger.exception("A hook raised after the transaction was committed; the write counts as saved")


def _end(connection: Connection) -> None:
    """End, in the database, a transaction whose COMMIT raised.

    For SQLAlchemy it is over, and the connection would go back to the pool as it is. After SQLITE_BUSY that is with
    our writes still pending, and the next to commit on that connection would commit them too.
    """
    if connection.invalidated:
        return
    try:
        connection.connection.rollback()
    except Exception:  # noqa: BLE001 - whatever it is, nobody may get this connection again
        connection.invalidate()


class _Work:
    """An operation, and what the mapper of its class says about it."""

    def __init__(self, session: Session, operation: Operation) -> None:
        model = registry.model(operation.model)
        self.session = session
        self.operation = operation
        self.model_type: Any = model.type
        self.mapper: Mapper[Any] = inspect(model.type)
        self.columns: dict[str, list[Column[Any]]] = {
            attribute.key: columns
            for attribute in self.mapper.column_attrs
            if (columns := [column for column in attribute.columns if isinstance(column, Column)])
        }
        self.identity_names = [self._name(column) for column in self.mapper.primary_key]
        version = self.mapper.version_id_col
        self.version_name = None if version is None else self._name(version)

    @property
    def identity(self) -> tuple[Any, ...]:
        identity = self.operation.identity
        return identity if isinstance(identity, tuple) else (identity,)

    @property
    def is_nothing(self) -> bool:
        """Whether there is no column to write, and so no statement to send."""
        return self.operation.method in (Method.UPDATE, Method.PATCH) and not self._written()

    def begin(self) -> Connection:
        """The connection of this class's tables, in a transaction that knows what it is for."""
        writes = self.operation.method is not Method.READ
        return begin(self.session, self.mapper, writes=writes, timeout=self.operation.timeout)[0]

    def write(self) -> Answer:
        try:
            match self.operation.method:
                case Method.CREATE:
                    return self._create()
                case Method.UPDATE | Method.PATCH:
                    return self._update()
                case _:
                    return self._delete()
        except StaleDataError as error:
            # The failed flush has ended the transaction; whether the row is still there is asked in the next.
            self.session.rollback()
            if self._select(self.identity_names, self.identity) is None and self.operation.method is not Method.DELETE:
                raise Gone(f"there is no such {self.model_type.__qualname__} any more") from error
            if self.operation.version is None or self.operation.method is Method.DELETE:
                raise Unavailable("somebody else has written the row between our reading and writing it") from error
            raise Conflict("somebody else has written the row since it was read") from error

    def read(self) -> Answer:
        values = self._select(list(self.columns), self.identity)
        if values is None:
            raise Gone(f"there is no such {self.model_type.__qualname__}")
        return self._answer(values)

    def _create(self) -> Answer:
        given = dict(zip(self.identity_names, self.identity, strict=False)) | dict(self.operation.values)
        instance = self._stand_in(
            {
                name: value
                for name, value in given.items()
                if self._writable(name) and not (value is None and name in self.identity_names)
            }
        )
        if isinstance(self.mapper.polymorphic_on, Column):  # else it is an expression, and nothing to write
            name = self._name(self.mapper.polymorphic_on)
            attributes.set_committed_value(instance, name, self.mapper.polymorphic_identity)
        self.session.add(instance)
        self.session.flush()
        # A column without any default that was not sent is NULL.
        defaults = [name for name in self.columns if self._has(name, "default", "server_default")]
        return self._answer(self._row(instance, self.columns, defaults))

    def _update(self) -> Answer:
        values = dict(zip(self.identity_names, self.identity, strict=True))
        if self.version_name is not None:
            version = self.operation.version
            if version is None:  # to overwrite whatever is there; its version is counted on all the same
                stored = self._select([self.version_name], self.identity)
                if stored is None:
                    raise Gone(f"there is no such {self.model_type.__qualname__}")
                version = stored[self.version_name]
            values[self.version_name] = version
        written = self._written()
        instance = self._stand_in(values | {name: self.operation.values[name] for name in written})
        make_transient_to_detached(instance)
        self.session.add(instance)
        for name in written:
            attributes.flag_modified(instance, name)
        self.session.flush()
        moved = [
            name for name in self.columns if name == self.version_name or self._has(name, "onupdate", "server_onupdate")
        ]
        return self._answer(self._row(instance, {*moved, *values, *written}, moved))

    def _delete(self) -> Answer:
        # Loaded, not stood in for: the row may be one of a subclass, and may be gone already, which is as it should be.
        # What the mapping says of related rows (cascades, foreign keys set to NULL) happens as with any Session.
        instance = self.session.get(self.model_type, self.identity)
        if instance is None:
            return Answer()
        expected = self.operation.version
        if self.version_name and expected is not None and getattr(instance, self.version_name) != expected:
            raise Conflict("somebody else has written the row since it was read")
        self.session.delete(instance)
        self.session.flush()
        return Answer()

    def _stand_in(self, values: dict[str, Any]) -> Any:
        instance = self.mapper.class_manager.new_instance()
        for name, value in values.items():
            # Copied, because mapper events may edit what they see, and an operation is the same at every attempt.
            attributes.set_committed_value(instance, name, deepcopy(value))
        return instance

    def _written(self) -> list[str]:
        """Names of the columns that an update writes. Never the key, which says which row is meant."""
        changed, values = self.operation.changed, self.operation.values
        return [
            name
            for name in self.columns
            if name in changed and name in values and name not in self.identity_names and self._writable(name)
        ]

    def _writable(self, name: str) -> bool:
        """Versions are counted by the mapper, computed columns by the database."""
        columns = self.columns.get(name)
        return columns is not None and name != self.version_name and all(column.computed is None for column in columns)

    def _has(self, name: str, *kinds: str) -> bool:
        """Whether the column gets a value of that kind by itself; a computed one has both of the server's kinds."""
        return any(getattr(column, kind) is not None for column in self.columns[name] for kind in kinds)

    def _row(self, instance: Any, names: Iterable[str], read_back: Collection[str]) -> dict[str, Any]:
        """What the row holds after the flush: as sent, as the mapper made it, or, in `read_back`, as the database did."""
        state: InstanceState[Any] = inspect(instance)
        values = state.dict
        unknown = [name for name in names if name not in values]
        asked = [name for name in unknown if name in read_back]
        read = (self._select(asked, state.identity or ()) or {}) if asked else {}
        return {name: values[name] if name in values else read.get(name) for name in names}

    def _select(self, names: Sequence[str], identity: Sequence[Any]) -> dict[str, Any] | None:
        """Columns of the row, as Python values; None if there is no such row."""
        statement = select(*(getattr(self.model_type, name) for name in names))
        for name, value in zip(self.identity_names, identity, strict=True):
            statement = statement.where(getattr(self.model_type, name) == value)
        row = self.session.execute(statement).one_or_none()
        return None if row is None else dict(zip(names, row, strict=True))

    def _answer(self, values: dict[str, Any]) -> Answer:
        return Answer(values=values, version=None if self.version_name is None else values.get(self.version_name))

    def _name(self, column: Any) -> str:
        return self.mapper.get_property_by_column(column).key


def in_sqlite_transaction(connection: Connection) -> bool | None:
    """Whether the driver is inside a transaction; None if that is not SQLite, or a driver that does not say."""
    if connection.dialect.name != "sqlite":
        return None
    return getattr(connection.connection.driver_connection, "in_transaction", None)
