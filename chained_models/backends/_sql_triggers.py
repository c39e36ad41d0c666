"""What only the database knows of a table: whether it is one, and whether somebody waits for certain columns.

It is kept with the connection, and under what the table is there: a name may mean another table in the next transaction
(`search_path`), and another connection of the same engine may lead to another database.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Dialect, Table, cast, func, text

__all__ = ["Seen", "oid", "seen"]

_KEPT: Final = "chained_models.tables"
_MOST_KEPT: Final = 1000
_SEEN_FOR: Final = 60.0
"""Seconds for which a table is taken to be what it was found to be."""


class Seen(NamedTuple):
    """How a table presents itself."""

    plain: bool
    """It is a table, and no view, and no rule rewrites what is sent to it."""
    masks: bool
    """A statement may name columns that a row keeps: no trigger is there that asks which ones were named (`UPDATE OF`)."""
    exact: bool
    """Text that is not the same is not equal either: no column has a collation of its own."""


# The triggers are those of the table, and of all that are below it, partitions or heirs.
_POSTGRES = text(
    "WITH RECURSIVE tree (oid) AS (SELECT CAST(:oid AS oid)"
    " UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid) "
    "SELECT c.relkind IN ('r', 'p') AND NOT c.relhasrules, NOT EXISTS ("
    " SELECT FROM pg_trigger t JOIN tree ON t.tgrelid = tree.oid WHERE t.tgattr::text <> '') "
    "FROM pg_class c WHERE c.oid = CAST(:oid AS oid)"
)
_SQLITE = (
    "SELECT type, sql FROM {0}.sqlite_master WHERE lower(name) = lower(?1) OR (type = 'trigger' AND lower(tbl_name) = lower(?1)) "
    "UNION ALL "
    "SELECT type, sql FROM sqlite_temp_master WHERE lower(name) = lower(?1) OR (type = 'trigger' AND lower(tbl_name) = lower(?1))"
)


def oid(table: Table, dialect: Dialect) -> ColumnElement[Any] | None:
    """What to ask in each transaction to know which table the name means there; None where it means the same in all."""
    if dialect.name != "postgresql":
        return None
    preparer = dialect.identifier_preparer
    name = preparer.format_table(table)
    if "%%" in preparer.quote_identifier("%"):  # doubled for the text of a statement, and this is none
        name = name.replace("%%", "%")
    return cast(func.to_regclass(name), BigInteger)


def seen(connection: Connection, table: Table, oid: Any = None) -> Seen:
    """What the database says of the table; asked again now and then, as somebody may add a trigger.

    Args:
        connection: In a transaction.
        table: Which.
        oid: The answer to what :func:`oid` asks.
    """
    kept: dict[Any, tuple[float, Seen]] = connection.info.setdefault(_KEPT, {})
    key = oid or (table.schema, table.name)
    now = time.monotonic()
    if key not in kept or now - kept[key][0] > _SEEN_FOR:
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        kept[key] = now, _look(connection, table, oid)
    return kept[key][1]


def _look(connection: Connection, table: Table, oid: Any) -> Seen:
    match connection.dialect.name:
        case "postgresql":
            row = connection.execute(_POSTGRES, {"oid": oid}).one_or_none()
            return Seen(False, False, False) if row is None else Seen(row[0], row[1], False)
        case "sqlite":
            statement = _SQLITE.format(connection.dialect.identifier_preparer.quote(table.schema or "main"))
            rows = connection.exec_driver_sql(statement, (table.name,)).all()
            # What a trigger asks for, and a column's collation, SQLite tells by their text only.
            types = [row.type for row in rows]
            exact = not any("collate" in (row.sql or "").lower() for row in rows)
            return Seen(types.count("table") == 1 and "view" not in types, "trigger" not in types, exact)
        case _:
            return Seen(True, False, False)
