"""What can be written without the mapper's unit of work, because that would do nothing but send the same values.

Everything that could tell the difference is looked for: events of the mapper, of the class and of the Session, several
tables, subclasses, cascades, expressions around the parameters. What is not plain is left to the unit of work; that is
never wrong, only slower.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, Final

from sqlalchemy import Column, Connection, Dialect, Table, insert, inspect
from sqlalchemy.orm import Mapper, RelationshipDirection, Session
from sqlalchemy.sql import ClauseElement, elements, functions, visitors

from ..operation import Method, Operation
from ._sql_sets import Sets, sets
from ._sql_triggers import oid

__all__ = ["LEAVES", "NotPlain", "PlainTable", "PlainTables", "copied", "made", "plain_connection", "plain_session"]

_MOST_TABLES: Final = 1000
_MOST_SHAPES: Final = 1000
LEAVES: Final = frozenset(
    {type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID, dt.datetime, dt.date, dt.time, dt.timedelta}
)
_FLUSHED: Final = ("flush", "add", "delete", "get", "execute", "connection", "commit")
# All that a flush, an add or a load signals. What is about the transaction is signalled for a batch too.
_SESSION_EVENTS: Final = (
    "before_flush", "after_flush", "after_flush_postexec", "before_attach", "after_attach", "transient_to_pending",
    "pending_to_persistent", "persistent_to_deleted", "deleted_to_detached", "detached_to_persistent",
    "loaded_as_persistent", "persistent_to_detached", "do_orm_execute",
)  # fmt: skip
_WRITE_EVENTS: Final = (
    "before_insert",
    "after_insert",
    "before_update",
    "after_update",
    "before_delete",
    "after_delete",
)
_CONSTANT_SQL: Final = (
    functions.FunctionElement,
    elements.ClauseList,
    elements.Grouping,
    elements.BindParameter,
    elements.Cast,
    elements.TypeClause,
)


class NotPlain(Exception):
    """This operation is one for the unit of work after all."""


class _NoContext:
    """Handed to a default's function: one that looks at the statement is one for SQLAlchemy."""

    def __getattr__(self, name: str) -> Any:
        raise NotPlain(name)


_NO_CONTEXT: Final = _NoContext()


def plain_session(session: Session) -> bool:
    """Whether nobody watches, or has a say in, how this Session writes."""
    kind = type(session)
    return (
        not session.twophase
        and getattr(session, "connection_callable", None) is None
        and all(getattr(kind, name) is getattr(Session, name) or _of_sqlmodel(kind, name) for name in _FLUSHED)
        and not any(getattr(session.dispatch, name, None) for name in _SESSION_EVENTS)
    )


def _of_sqlmodel(kind: type, name: str) -> bool:
    """SQLModel's Session has an `execute` of its own, which only says that `exec` is better."""
    return name == "execute" and getattr(kind.execute, "__module__", "").startswith("sqlmodel.")  # type: ignore[attr-defined]


def plain_connection(connection: Connection) -> bool:
    """Whether a ROLLBACK on it undoes everything, and the names of the tables mean what they say."""
    if connection.get_execution_options().get("schema_translate_map"):
        return False
    if connection.dialect.name == "sqlite":  # there BEGIN was sent, or the driver would not be in a transaction
        return getattr(connection.connection.driver_connection, "in_transaction", None) is True
    # Nothing public tells how the engine was made. Where the driver says so itself, that is seen below.
    made = getattr(connection.dialect, "_on_connect_isolation_level", None)
    level = connection.get_execution_options().get("isolation_level", made)
    raw = (connection.connection.dbapi_connection, connection.connection.driver_connection)
    return level != "AUTOCOMMIT" and not any(map(_commits_by_itself, raw))


def _commits_by_itself(connection: Any) -> bool:
    """Whether a connection of a driver is in autocommit mode: an attribute of most, a method of MySQL's."""
    asked = getattr(connection, "get_autocommit", None)
    return bool(asked()) if callable(asked) else getattr(connection, "autocommit", False) is True


class PlainTables:
    """The plain tables that a backend has met, by class and dialect."""

    def __init__(self) -> None:
        self._tables: dict[tuple[type, Dialect], PlainTable] = {}
        self._classes: dict[tuple[type, Method], bool] = {}

    def may_be_plain(self, model_type: type, method: Method) -> bool:
        """Whether the mapping has nothing against it. Needs no connection; listeners and columns are looked at later."""
        if method is Method.READ:
            return True
        plain = self._classes.get((model_type, method))
        if plain is None:
            mapper: Mapper[Any] = inspect(model_type)
            plain = _is_single_table(mapper) and (
                method is not Method.DELETE or not any(map(_bears_on_deletes, mapper.relationships))
            )
            self._classes[model_type, method] = plain
        return plain and not any(getattr(inspect(model_type).dispatch, name) for name in _WRITE_EVENTS)

    def of(self, model_type: type, dialect: Dialect) -> PlainTable:
        key = (model_type, dialect)
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= _MOST_TABLES:  # an engine for each tenant, made and thrown away
                self._tables.clear()
            table = self._tables[key] = PlainTable(model_type, dialect)
        return table


class PlainTable:
    """The table of a mapped class, and how its rows are written without the unit of work."""

    def __init__(self, model_type: type, dialect: Dialect) -> None:
        self.model_type = model_type
        self.dialect = dialect
        self.mapper: Mapper[Any] = inspect(model_type)
        mapper = self.mapper
        self.columns: dict[str, Column[Any]] = {
            attribute.key: columns[0]
            for attribute in mapper.column_attrs
            if (columns := [column for column in attribute.columns if isinstance(column, Column)])
        }
        self.names = {column: name for name, column in self.columns.items()}
        self.identity_names = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        version: Any = mapper.version_id_col
        self.version_name = None if version is None else mapper.get_property_by_column(version).key
        self._plain = _is_single_table(mapper) and all(
            sum(isinstance(column, Column) for column in attribute.columns) <= 1 for attribute in mapper.column_attrs
        )
        self.sets: Sets | None = None
        self.updatable = self.deletable = self.creatable = False
        if self._plain:
            self._look_closer()

    def _look_closer(self) -> None:
        mapper = self.mapper
        assert isinstance(mapper.local_table, Table)
        table: Any = mapper.local_table
        self.table: Table = table
        primary_key: Any = mapper.primary_key
        version: Any = mapper.version_id_col
        self.next_version: Callable[[Any], Any] = mapper.version_id_generator  # type: ignore[assignment]
        counted = version is None or (version in self.names and callable(self.next_version))
        self.sets = sets(table, primary_key, version, self.dialect)
        self.oid = oid(table, self.dialect)
        self.creatable = counted and self.dialect.insert_executemany_returning_sort_by_parameter_order
        if self.sets is None or not all(map(self.sets.takes, self._where())):
            return
        self.processors = {column: self.sets.processor(column) for column in self._where()}
        self.deletable = counted and not any(map(_bears_on_deletes, mapper.relationships))
        self.updatable = counted and self._look_at_updates()

    def _where(self) -> list[Column[Any]]:
        columns: list[Any] = [*self.mapper.primary_key, self.mapper.version_id_col]
        return [column for column in columns if column is not None]

    def _look_at_updates(self) -> bool:
        assert self.sets is not None
        given = {column for column in self.table.columns if column.onupdate is not None and column not in self._where()}
        if not all(column in self.names for column in given):
            return False  # the mapper does not know the column, and its table fills it in all the same
        writable = [
            column for column in self.columns.values() if column.computed is None and column not in self._where()
        ]
        self.settable = {self.names[column]: column for column in writable if self.sets.takes(column)}
        self._beyond = frozenset(self.names[column] for column in writable) - self.settable.keys()
        self.processors |= {column: self.sets.processor(column) for column in writable}
        self.touched: dict[str, Any] = {}  # by a Python function or constant at every update
        self.expressions: dict[Column[Any], str] = {}  # by SQL
        for column in given:
            onupdate: Any = column.onupdate
            if onupdate.is_callable or onupdate.is_scalar:
                if self.names[column] not in self.settable:
                    return False
                self.touched[self.names[column]] = onupdate
            elif (text := _constant_sql(onupdate, self.dialect)) is not None:
                self.expressions[column] = text
            else:
                return False
        self.reread = frozenset(
            name
            for name, column in self.columns.items()
            if name != self.version_name and (column.server_onupdate is not None or column in self.expressions)
        )
        self.order = {name: at for at, name in enumerate(self.settable)}.__getitem__
        self._shapes: dict[frozenset[str], tuple[str, ...]] = {}
        return True

    def undisturbed(self) -> bool:
        """Whether nobody listens. Asked for every batch, since a listener may be added at any time."""
        mapper, manager = self.mapper, self.mapper.class_manager
        return (
            self._plain
            and not any(getattr(mapper.dispatch, name) for name in _WRITE_EVENTS)
            and not _listened(manager.dispatch.refresh_flush)
            and not manager.dispatch.expire
            and not any(manager[name].dispatch.modified for name in self.columns)
        )

    def loads_unheard(self) -> bool:
        """Whether nobody would notice that an object is not loaded before it is deleted."""
        dispatch = self.mapper.class_manager.dispatch
        return not _listened(dispatch.load) and not _listened(dispatch.refresh)

    def key(self, operation: Operation) -> tuple[Any, ...]:
        identity = operation.identity
        key = identity if type(identity) is tuple else (identity,)
        if None in key or len(key) != len(self.identity_names):
            raise NotPlain
        return key

    def shape(self, operation: Operation) -> tuple[str, ...]:
        """Names of the columns that an update is to write, in the table's order; see `_Work._written`."""
        changed = operation.changed
        shape = self._shapes.get(changed) or self._shape(changed)
        if not operation.values.keys() >= changed:
            shape = tuple(name for name in shape if name in operation.values)
        return shape

    def _shape(self, changed: frozenset[str]) -> tuple[str, ...]:
        if changed & self._beyond:
            raise NotPlain
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        shape = tuple(sorted(changed & self.settable.keys(), key=self.order))
        self._shapes[changed] = shape
        return shape

    def new_row(self, operation: Operation) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        """Parameters of the INSERT, what is answered, and the names of what the database is asked for besides.

        As the unit of work has it: None is no value where there is a default, and a column that was not sent and has no
        default is NULL.
        """
        identity = operation.identity
        given = dict(zip(self.identity_names, identity if isinstance(identity, tuple) else (identity,), strict=False))
        values: dict[str, Any] = {**given, **operation.values}
        row: dict[str, Any] = {}
        answer: dict[str, Any] = {}
        asked: list[str] = []
        for name, column in self.columns.items():
            if name == self.version_name:
                row[column.key] = answer[name] = self.next_version(None)
            elif column.computed is not None:
                asked.append(name)
            elif name in values and ((value := values[name]) is not None or _writes_none(column)):
                row[column.key] = answer[name] = copied(value)
            elif dataclasses.is_dataclass(self.model_type) and not column.primary_key:
                raise NotPlain  # the dataclass may have a default of its own
            elif column.default is not None:
                default: Any = column.default
                if default.is_scalar or default.is_callable:
                    row[column.key] = answer[name] = made(default)
                else:
                    asked.append(name)
            elif column.primary_key or column.server_default is not None:
                asked.append(name)
            else:
                answer[name] = None
                if not column.type.should_evaluate_none:  # which would write it as a value: JSON's null
                    row[column.key] = None
        return row, answer, tuple(asked)

    def insert(self, connection: Connection, rows: list[dict[str, Any]], asked: Sequence[str]) -> Sequence[Any]:
        """Insert rows that have the same columns; gives for each, in their order, what was `asked`."""
        names = asked or self.identity_names
        statement = insert(self.table).returning(*(self.columns[name] for name in names), sort_by_parameter_order=True)
        return connection.execute(statement, rows).all()


def copied(value: Any) -> Any:
    """The answer shares nothing with the operation."""
    return value if type(value) in LEAVES else deepcopy(value)


def made(default: Any) -> Any:
    """The value of a default in Python."""
    return default.arg(_NO_CONTEXT) if default.is_callable else default.arg


def _is_single_table(mapper: Mapper[Any]) -> bool:
    table = mapper.local_table
    return (
        isinstance(table, Table)
        and mapper.persist_selectable is table
        and mapper.inherits is None
        and mapper.polymorphic_on is None
        and len(list(mapper.self_and_descendants)) == 1
        and table.implicit_returning
        and set(mapper.primary_key) == set(table.primary_key.columns)
    )


def _bears_on_deletes(relationship: Any) -> bool:
    """Whether deleting an object touches what it is related to."""
    if relationship.viewonly:
        return False
    return relationship.direction is not RelationshipDirection.MANYTOONE or relationship.cascade.delete


def _writes_none(column: Column[Any]) -> bool:
    return not column.primary_key and column.type.should_evaluate_none


def _listened(listeners: Iterable[Any]) -> bool:
    """By anybody but MutableDict and its kin, which wrap the value on an object that we have not."""
    return any(getattr(listener, "__module__", "") != "sqlalchemy.ext.mutable" for listener in listeners)


def _constant_sql(default: Any, dialect: Dialect) -> str | None:
    """SQL that says the same in every statement; None if it names columns, or is text that might."""
    if not default.is_clause_element:
        return None
    clause: ClauseElement = default.arg
    if not all(isinstance(node, _CONSTANT_SQL) for node in visitors.iterate(clause)):
        return None
    try:
        return str(clause.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    except Exception:  # noqa: BLE001 - whatever it lacks, SQLAlchemy's own statement has it
        return None
