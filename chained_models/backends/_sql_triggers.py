"""What only the database knows of a table: whether it is one, and whether somebody waits for certain columns."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, Table, text

__all__ = ["Seen", "look"]


class Seen(NamedTuple):
    """How a table presents itself."""

    plain: bool
    """It is a table, and no view, and no rule rewrites what is sent to it."""
    masks: bool
    """A statement may name columns that a row keeps: no trigger is there that asks which ones were named (`UPDATE OF`)."""
    exact: bool
    """Text that is not the same is not equal either: no column has a collation of its own."""


_POSTGRES = text(
    "SELECT c.relkind IN ('r', 'p') AND NOT c.relhasrules, NOT EXISTS ("
    " SELECT FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgattr::text <> ''"
    " AND (t.tgrelid = c.oid OR t.tgrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid))) "
    "FROM pg_class c WHERE c.oid = to_regclass(CAST(:name AS text))"
)
_SQLITE = (
    "SELECT type, sql FROM {0}.sqlite_master WHERE lower(name) = lower(:name) OR (type = 'trigger' AND lower(tbl_name) = lower(:name)) "
    "UNION ALL "
    "SELECT type, sql FROM sqlite_temp_master WHERE lower(name) = lower(:name) OR (type = 'trigger' AND lower(tbl_name) = lower(:name))"
)


def look(connection: Connection, table: Table) -> Seen:
    """Ask the database."""
    preparer = connection.dialect.identifier_preparer
    match connection.dialect.name:
        case "postgresql":
            row = connection.execute(_POSTGRES, {"name": preparer.format_table(table)}).one_or_none()
            return Seen(False, False, False) if row is None else Seen(row[0], row[1], False)
        case "sqlite":
            statement = text(_SQLITE.format(preparer.quote(table.schema or "main")))
            rows = connection.execute(statement, {"name": table.name}).all()
            # What a trigger asks for, and a column's collation, SQLite tells by their text only.
            types = [row.type for row in rows]
            exact = not any("collate" in (row.sql or "").lower() for row in rows)
            return Seen(types.count("table") == 1 and "view" not in types, "trigger" not in types, exact)
        case _:
            return Seen(True, False, False)
