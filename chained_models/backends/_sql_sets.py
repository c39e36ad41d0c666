"""Statements that update or delete many rows of one table at once, each row in its own columns.

::

    UPDATE item AS r SET name = CASE WHEN v.m & 1 <> 0 THEN v.c0 ELSE r.name END, ...
    FROM unnest(%s::INTEGER[], ...) AS v (o, k0, x, w, m, c0, ...) WHERE r.id = v.k0 AND r.version = v.x RETURNING v.o

A bit of the mask says whether the row's column is written; a column that is not keeps what is stored at that moment, which
may be somebody else's. A statement for each set of columns costs three times as much. The text is made here, once for a
set of columns, and sent past the statement compiler, which looks at each of a thousand parameters one by one; values go
through the column types' own bind processors all the same.

PostgreSQL takes the rows as an array for each column: one text for any number of rows, and few parameters to adapt.
Where the driver is not psycopg, or the values of a column are not of one type, and in SQLite, the rows are VALUES.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from sqlalchemy import Column, Dialect, Enum, Table, bindparam, delete, update
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["MOST_MASKED", "Arrays", "Sets", "sets"]

MOST_MASKED: Final = 62
"""Bits of a mask, which is a signed integer of 64."""

_MOST_TEXTS: Final = 500
_NONE: Final = type(None)

# The casts of PostgreSQL, by what CREATE TABLE calls the column's type. Without lengths: a cast to VARCHAR(2) cuts, where
# an assignment refuses. What is not here (citext, domains, ranges, arrays) is left to the unit of work.
_CASTS: Final[Mapping[str, str]] = {
    **{name: name for name in ("INTEGER", "SMALLINT", "BIGINT", "NUMERIC", "DOUBLE PRECISION", "BOOLEAN", "BYTEA")},
    **{name: name for name in ("DATE", "INTERVAL", "JSON", "JSONB", "UUID")},
    **{name: name for name in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITHOUT TIME ZONE")},
    **{name: name for name in ("TIME WITH TIME ZONE", "TIME WITHOUT TIME ZONE")},
    **dict.fromkeys(("TEXT", "VARCHAR", "CHAR"), "TEXT"),
    **dict.fromkeys(("FLOAT", "REAL", "DOUBLE"), "DOUBLE PRECISION"),
    "DECIMAL": "NUMERIC",
}
_LENGTH_OR_COLLATION: Final = re.compile(r"\([\d, ]*\)| COLLATE .*", re.DOTALL)

Arrays = list[list[Any]]
"""A list for each column of the row source, all of one length."""


def sets(table: Table, keys: Sequence[Column[Any]], version: Column[Any] | None, dialect: Dialect) -> Sets | None:
    """The maker of statements for that table; None for a database that does not say how many rows it has found."""
    if dialect.name == "postgresql":
        return _Postgres(table, keys, version, dialect)
    if dialect.name == "sqlite" and (dialect.server_version_info or ()) >= (3, 35):
        return _SQLite(table, keys, version, dialect)
    if dialect.supports_sane_multi_rowcount:
        return _Anywhere(table, keys, version, dialect)
    return None


class Sets:
    """Makes and sends the statements of one table in one dialect.

    Args:
        table: The table.
        keys: Its primary key.
        version: The column that must have the expected version, and gets the new one; None without one.
        dialect: Of the connections.
    """

    most_parameters: int
    can_mask = True
    """Whether rows that write different columns may go into one statement."""

    def __init__(
        self, table: Table, keys: Sequence[Column[Any]], version: Column[Any] | None, dialect: Dialect
    ) -> None:
        self._dialect = dialect
        preparer = dialect.identifier_preparer
        self.table = table
        self._table = preparer.format_table(table)
        self._names = {column: preparer.format_column(column) for column in table.columns}
        self.keys = tuple(keys)
        self.version = version
        self._texts: dict[Any, str] = {}

    def takes(self, column: Column[Any]) -> bool:
        """Whether values of that column can be sent like this."""
        parameter = bindparam("x", type_=column.type)
        return column.type.dialect_impl(self._dialect).bind_expression(parameter) is None

    def processor(self, column: Column[Any]) -> Callable[[Any], Any] | None:
        """What makes of a value what the driver takes; None if that is the value itself."""
        processor: Callable[[Any], Any] | None = column.type.dialect_impl(self._dialect).bind_processor(self._dialect)
        return processor

    @property
    def most_rows(self) -> int:
        """So many rows surely fit into one statement, whichever of the table's columns it writes."""
        return max(1, min(1000, self.most_parameters // (len(self._names) + len(self.keys) + 4)))

    def update(
        self,
        connection: Any,
        columns: Sequence[Column[Any]],
        others: Mapping[Column[Any], str],
        arrays: Arrays,
        *,
        masked: bool,
        telling: bool,
        exact: bool,
    ) -> Sequence[int] | None:
        """Write rows; gives the indices of those that were there, None if that cannot be told.

        Args:
            connection: In a transaction.
            columns: What is written.
            others: SQL for the columns that get a value by themselves in every row that does not write them.
            arrays: The keys, the expected and the new versions (if there are any), the masks (if `masked`), and the cells
                of `columns`; processed.
            masked: Whether a row writes only the columns whose bits are set; else all of them.
            telling: Whether it is worth something to be told which rows were there; else only if all of them were.
            exact: Whether keys of text are equal only if they are the same; see `Seen.exact`.
        """
        types: list[Column[Any] | str] = [*self.keys]
        types += [] if self.version is None else [self.version, self.version]
        types += ["BIGINT"] if masked else []
        kind = "update", tuple(columns), masked, telling
        return self._send(connection, kind, [*types, *columns], others, arrays, exact=exact)

    def delete(self, connection: Any, arrays: Arrays, *, versioned: bool, exact: bool) -> Sequence[int] | None:
        """Delete rows; gives the indices of those that were there, None if that cannot be told.

        Args:
            connection: In a transaction.
            arrays: The keys, and the expected versions if `versioned`; processed.
            versioned: Whether the rows must have the expected version.
            exact: As for :meth:`update`.
        """
        types: list[Column[Any] | str] = [*self.keys]
        types += [self.version] if versioned and self.version is not None else []
        return self._send(connection, ("delete", versioned), types, {}, arrays, exact=exact)

    def _send(
        self,
        connection: Any,
        kind: tuple[Any, ...],
        types: Sequence[Column[Any] | str],
        others: Mapping[Column[Any], str],
        arrays: Arrays,
        *,
        exact: bool,
    ) -> Sequence[int] | None:
        raise NotImplementedError

    def _text(
        self, form: Any, kind: tuple[Any, ...], others: Mapping[Column[Any], str], make: Callable[[], str]
    ) -> str:
        text = self._texts.get((form, kind))
        if text is None:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            text = self._texts[form, kind] = self._statement(kind, others, make())
        return text

    def _statement(self, kind: tuple[Any, ...], others: Mapping[Column[Any], str], source: str) -> str:
        raise NotImplementedError

    def _assignments(self, columns: Sequence[Column[Any]], others: Mapping[Column[Any], str], *, masked: bool) -> str:
        assigned = [] if self.version is None else [f"{self._names[self.version]} = v.w"]
        for bit, column in enumerate(columns):
            value, name = f"v.c{bit}", self._names[column]
            if masked:
                kept = others.get(column) or f"r.{name}"
                value = f"CASE WHEN (v.m & {1 << bit}) <> 0 THEN {value} ELSE {kept} END"
            assigned.append(f"{name} = {value}")
        assigned += [f"{self._names[column]} = {sql}" for column, sql in others.items() if column not in columns]
        return ", ".join(assigned)

    def _condition(self, *, versioned: bool) -> str:
        terms = [f"r.{self._names[column]} = v.k{at}" for at, column in enumerate(self.keys)]
        if versioned and self.version is not None:
            terms.append(f"r.{self._names[self.version]} = v.x")
        return " AND ".join(terms)

    def _labels(self, kind: tuple[Any, ...]) -> list[str]:
        """The names of the row source's columns, in the order of the arrays."""
        labels = [f"k{at}" for at in range(len(self.keys))]
        match kind:
            case ("update", columns, masked, _):
                labels += [] if self.version is None else ["x", "w"]
                labels += ["m"] if masked else []
                return labels + [f"c{at}" for at in range(len(columns))]
            case _:
                return labels + (["x"] if kind[1] else [])


class _Postgres(Sets):
    most_parameters = 65_535

    def takes(self, column: Column[Any]) -> bool:
        return super().takes(column) and _cast(column.type, self._dialect) is not None

    def _send(
        self,
        connection: Any,
        kind: tuple[Any, ...],
        types: Sequence[Column[Any] | str],
        others: Mapping[Column[Any], str],
        arrays: Arrays,
        *,
        exact: bool,
    ) -> Sequence[int] | None:
        count = len(arrays[0])
        arrays = [list(range(count)), *arrays]
        parameters: tuple[Any, ...]
        if (
            self._dialect.driver.startswith("psycopg")
            and self._dialect.driver != "psycopg2"
            and all(map(_even, arrays))
        ):
            text = self._text("arrays", kind, others, lambda: self._unnested(types))
            parameters = tuple(arrays)
        else:
            size = _rounded(count)
            text = self._text(size, kind, others, lambda: self._values(types, size))
            parameters = tuple(chain.from_iterable(zip(*_padded(arrays, size), strict=True)))
        return list(connection.exec_driver_sql(text, parameters).scalars())

    def _unnested(self, types: Sequence[Column[Any] | str]) -> str:
        return f"unnest(%s::INTEGER[], {', '.join(f'%s::{self._cast(of)}[]' for of in types)})"

    def _values(self, types: Sequence[Column[Any] | str], size: int) -> str:
        casts = ["INTEGER", *map(self._cast, types)]
        numbered = self._dialect.paramstyle.startswith("numeric")
        rows = (
            ", ".join(
                f"${row * len(casts) + at + 1}::{cast}" if numbered else f"%s::{cast}" for at, cast in enumerate(casts)
            )
            for row in range(size)
        )
        return f"(VALUES {', '.join(f'({row})' for row in rows)})"

    def _statement(self, kind: tuple[Any, ...], others: Mapping[Column[Any], str], source: str) -> str:
        source = f"{source} AS v (o, {', '.join(self._labels(kind))})"
        match kind:
            case ("update", columns, masked, _):
                assignments, condition = (
                    self._assignments(columns, others, masked=masked),
                    self._condition(versioned=True),
                )
                return f"UPDATE {self._table} AS r SET {assignments} FROM {source} WHERE {condition} RETURNING v.o"  # noqa: S608 - quoted names only
            case _:
                condition = self._condition(versioned=kind[1])
                return f"DELETE FROM {self._table} AS r USING {source} WHERE {condition} RETURNING v.o"  # noqa: S608 - quoted names only

    def _cast(self, of: Column[Any] | str) -> str:
        return of if isinstance(of, str) else _cast(of.type, self._dialect) or "TEXT"


class _SQLite(Sets):
    most_parameters = 32_766

    def _send(
        self,
        connection: Any,
        kind: tuple[Any, ...],
        types: Sequence[Column[Any] | str],
        others: Mapping[Column[Any], str],
        arrays: Arrays,
        *,
        exact: bool,
    ) -> Sequence[int] | None:
        count = len(arrays[0])
        size = _rounded(count)
        row = f"({', '.join('?' * len(types))})"
        text = self._text(size, kind, others, lambda: f"VALUES {', '.join([row] * size)}")
        parameters = tuple(chain.from_iterable(zip(*_padded(arrays, size), strict=True)))
        result = connection.exec_driver_sql(text, parameters)
        if kind[0] == "update" and not kind[-1]:
            return range(count) if result.rowcount == count else None
        rows = result.all()
        if len(rows) == count:
            return range(count)
        # RETURNING knows the table only, so a row is known by its key: unless another spelling may be equal to it.
        keys = arrays[: len(self.keys)]
        places = {key: at for at, key in enumerate(zip(*keys, strict=True))}
        found = list(map(tuple, rows))
        known = (int, str) if exact else (int,)
        if any(type(value) not in known for key in keys for value in key) or not places.keys() >= set(found):
            return None
        return [places[key] for key in found]

    def _statement(self, kind: tuple[Any, ...], others: Mapping[Column[Any], str], source: str) -> str:
        # The WITH stands inside: sqlite3 counts the rows only of what begins with UPDATE, and outside its name would hide
        # a table that is called like that.
        source = f"(WITH s ({', '.join(self._labels(kind))}) AS ({source}) SELECT * FROM s) AS v"  # noqa: S608 - names of ours
        returned = f"RETURNING {', '.join(self._names[column] for column in self.keys)}"
        match kind:
            case ("update", columns, masked, telling):
                assignments = self._assignments(columns, others, masked=masked)
                condition = self._condition(versioned=True) + (f" {returned}" if telling else "")
                return f"UPDATE {self._table} AS r SET {assignments} FROM {source} WHERE {condition}"  # noqa: S608 - quoted names only
            case _:
                # SQLite has no DELETE ... USING; the rows are found by their keys first.
                keys = ", ".join(self._names[column] for column in self.keys)
                picked = ", ".join(f"r.{self._names[column]}" for column in self.keys)
                chosen = (
                    f"SELECT {picked} FROM {source} JOIN {self._table} AS r ON {self._condition(versioned=kind[1])}"  # noqa: S608
                )
                return f"DELETE FROM {self._table} WHERE ({keys}) IN ({chosen}) {returned}"  # noqa: S608 - quoted names only


class _Anywhere(Sets):
    """One statement with parameters for each row; whether all rows were there is all that it knows."""

    most_parameters = 1_000_000
    can_mask = False

    def takes(self, column: Column[Any]) -> bool:
        return True

    def processor(self, column: Column[Any]) -> None:
        return None  # these statements are compiled, and their values processed, by SQLAlchemy

    def _send(
        self,
        connection: Any,
        kind: tuple[Any, ...],
        types: Sequence[Column[Any] | str],
        others: Mapping[Column[Any], str],
        arrays: Arrays,
        *,
        exact: bool,
    ) -> Sequence[int] | None:
        labels = self._labels(kind)
        rows = [dict(zip(labels, row, strict=True)) for row in zip(*arrays, strict=True)]
        count = connection.execute(self._compiled(kind), rows).rowcount
        return range(count) if count == len(rows) else None

    def _compiled(self, kind: tuple[Any, ...]) -> Any:
        terms = [column == bindparam(f"k{at}") for at, column in enumerate(self.keys)]
        if self.version is not None and (kind[0] == "update" or kind[1]):
            terms.append(self.version == bindparam("x"))
        if kind[0] == "delete":
            return delete(self.table).where(*terms)
        values: dict[Any, Any] = {column: bindparam(f"c{at}") for at, column in enumerate(kind[1])}
        if self.version is not None:
            values[self.version] = bindparam("w")
        return update(self.table).where(*terms).values(values)


def _cast(type_: TypeEngine[Any], dialect: Dialect) -> str | None:
    """What PostgreSQL is told that a value of the type is; None if the type is none of those that are known here.

    What the column is there, CREATE TABLE says: a variant, a decorator or the class itself may have another type for it.
    """
    try:
        name = dialect.type_compiler_instance.process(type_)
    except Exception:  # noqa: BLE001 - a type that has no name here, or one of somebody's own
        return None
    cast = _CASTS.get(_LENGTH_OR_COLLATION.sub("", name))
    if cast is None:
        there = type_.dialect_impl(dialect)
        while isinstance(there, TypeDecorator):
            there = there.load_dialect_impl(dialect)
        if isinstance(there, Enum) and there.native_enum:
            cast = name
    return cast


def _even(array: list[Any]) -> bool:
    """Whether the driver takes the values as an array: they are of one type, with a time zone or without, and no arrays."""
    types = set(map(type, array))
    types.discard(_NONE)
    if not types:
        return True
    kind = types.pop()
    if types or issubclass(kind, (list, tuple)):  # unnest() takes nested ones apart
        return False
    if issubclass(kind, (dt.datetime, dt.time)):
        return len({value.tzinfo is None for value in array if value is not None}) == 1
    return True


def _rounded(count: int) -> int:
    """`count` or a little more: a text for each number would be too many to be kept, here and in the driver."""
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step


def _padded(arrays: Arrays, size: int) -> Arrays:
    """With rows whose key is NULL, and which are therefore nobody's."""
    lacking = size - len(arrays[0])
    return [array + [None] * lacking for array in arrays] if lacking else arrays
