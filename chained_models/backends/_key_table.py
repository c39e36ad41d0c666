"""The table of idempotency keys: what makes a write happen exactly once.

Its row is inserted first, in the transaction that also holds the write. Who repeats the write meets the row: at once if
the first attempt was committed; if that is still committing (its connection broke, and the server has not noticed yet),
the database makes the second INSERT wait until it is known. Rejected: looking for the row first, which in that moment
would see nothing, and do the write again.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Connection, DateTime, MetaData, String, Table, Text, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from .._snapshot import MISSING, same
from ..exceptions import InvalidOption
from ..operation import Answer

__all__ = ["KeyTable", "key_table"]


def key_table(name: str = "chained_models_keys", metadata: MetaData | None = None) -> Table:
    """The table of idempotency keys, for your own MetaData, so that your migrations create it.

    Rows are never removed by this library: one that is older than the longest time in which a save may be tried again
    (`RetryPolicy.timeout`, and any retry by hand) may go.
    """
    return Table(
        name,
        MetaData() if metadata is None else metadata,
        Column("key", String(255), primary_key=True),
        Column("answer", Text),
        Column("created_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
    )


class KeyTable:
    """A key table in use.

    Args:
        table: True for a table of the default name, a name, or a table made like :func:`key_table`'s.
    """

    def __init__(self, table: Table | str | bool) -> None:
        if isinstance(table, Table):
            lacking = {"key", "answer"} - set(table.columns.keys())
            if lacking:
                raise InvalidOption(
                    f"key_table: the table {table.name!r} has no column {', '.join(sorted(lacking))}; "
                    "make it with chained_models.backends.sqlalchemy.key_table(name, metadata)"
                )
            self.table = table
        else:
            self.table = key_table(table) if isinstance(table, str) else key_table()

    def claim(self, connection: Connection, key: str) -> bool:
        """Insert the row. False if there is one already: the write has happened, and the transaction is to be left."""
        try:
            connection.execute(insert(self.table).values(key=key))
        except IntegrityError:
            return False
        return True

    def keep(self, connection: Connection, key: str, answer: Answer) -> None:
        """Write down what was answered, in the same transaction."""
        text = _written(answer)
        connection.execute(update(self.table).where(self.table.c.key == key).values(answer=text))

    def answers(self, connection: Connection, keys: Sequence[str]) -> dict[str, Answer]:
        """What was answered to the writes with these keys; those that have not happened yet are left out."""
        statement = select(self.table.c.key, self.table.c.answer).where(self.table.c.key.in_(keys))
        return {row.key: _read(row.answer) for row in connection.execute(statement)}

    def keep_all(self, connection: Connection, answers: Mapping[str, Answer]) -> None:
        """Insert the rows of several writes with what was answered, in the same transaction.

        Raises:
            IntegrityError: One of them has happened already, or is just about to: the transaction is to be rolled back.
        """
        statement: Any = insert(self.table)
        if connection.dialect.insert_executemany_returning:
            statement = statement.returning(self.table.c.key)  # many rows in one statement, where a driver loops
        rows = [{"key": key, "answer": _written(answer)} for key, answer in answers.items()]
        connection.execute(statement, rows)

    def answer(self, connection: Connection, key: str) -> Answer | None:
        """What was answered to the write with this key; None if there was none."""
        row = connection.execute(select(self.table.c.answer).where(self.table.c.key == key)).one_or_none()
        return None if row is None else _read(row.answer)


# A value of another type than JSON's is written as {_TAG: its type, "value": text}.
_TAG: Final = "chained_models"
_TO_TEXT: Final[Mapping[type, Callable[[Any], str]]] = {
    dt.datetime: dt.datetime.isoformat,
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    dt.timedelta: lambda span: f"{span // dt.timedelta(microseconds=1)}",
    Decimal: str,
    UUID: str,
    bytes: lambda data: base64.b64encode(data).decode("ascii"),
}
_FROM_TEXT: Final[Mapping[str, Callable[[str], Any]]] = {
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda text: dt.timedelta(microseconds=int(text)),
    "Decimal": Decimal,
    "UUID": UUID,
    "bytes": base64.b64decode,
}


def _tagged(value: Any) -> dict[str, str]:
    to_text = _TO_TEXT.get(type(value))
    if to_text is None:
        raise TypeError(type(value).__name__)
    return {_TAG: type(value).__name__, "value": to_text(value)}


def _untagged(members: dict[str, Any]) -> Any:
    from_text = _FROM_TEXT.get(members.get(_TAG, ""))
    return members if from_text is None else from_text(members["value"])


def _as_text(value: Any) -> str | None:
    """`value` as JSON; None if that would not read back as the same."""
    try:
        text = json.dumps(value, default=_tagged)
        return text if same(json.loads(text, object_hook=_untagged), value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _written(answer: Answer) -> str:
    """The answer as JSON. A value that could not be read back is left out: the object has what it sent anyway."""
    members = {name: _as_text(value) for name, value in (answer.values or {}).items()}
    values = ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items() if text is not None)
    return f'{{"version": {_as_text(answer.version) or "null"}, "values": {{{values}}}}}'


def _read(text: str | None) -> Answer:
    members = json.loads(text or "{}", object_hook=_untagged)
    values = members.get("values", MISSING)
    return Answer(values=values or None, version=members.get("version"))
