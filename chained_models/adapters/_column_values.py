"""Values of columns: copied for a snapshot, written as JSON, and read back from what a server answered."""

from __future__ import annotations

import base64
import copy
import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ._fields import LEAVES

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

__all__ = ["constant", "fitted", "json_value", "plain_copy", "plain_view"]


def constant(value: Any) -> bool:
    """Whether nobody can change `value` in place."""
    if type(value) in LEAVES or isinstance(value, Enum):
        return True
    return type(value) in (tuple, frozenset) and all(map(constant, value))


def plain_view(value: Any) -> Any:
    """`value` itself; a container that reports its changes to a Session (MutableDict and its kin) as the built-in one."""
    if constant(value) or type(value) in (dict, list, set):
        return value
    from sqlalchemy.ext.mutable import Mutable

    if isinstance(value, Mutable):
        for built_in in (dict, list, set):
            if isinstance(value, built_in):
                return built_in(value)
    return value


def plain_copy(value: Any) -> Any:
    """A deep copy that reports to no Session."""
    return value if constant(value) else copy.deepcopy(plain_view(value))


def json_value(value: Any) -> Any:
    """`value` in JSON's own types.

    Dates, times: ISO 8601. Decimal, UUID: text. bytes: Base64. A span of time: seconds. An Enum: its value.

    Raises:
        TypeError: There is no form for it that could be read back.
    """
    match value:
        case Enum():
            return json_value(value.value)
        case None | bool() | int() | float() | str():
            return value
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal() | UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return {str(key): json_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [json_value(item) for item in value]
        case _ if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__qualname__} has no form in JSON; give the column a type of plain values")


def fitted(column_type: TypeEngine[Any], value: Any) -> Any:
    """`value` as an attribute with a column of this type holds it; converted only where JSON could not say it better.

    Raises:
        ValueError, TypeError: It is nothing that such a column could hold.
    """
    if not isinstance(value, (str, int, float)):
        return plain_copy(value)
    wanted = _python_type(column_type)
    if isinstance(value, wanted):
        return _undecorated(column_type, value)
    if issubclass(wanted, Enum):
        return _member(wanted, value)
    reader = _READERS.get(wanted)
    return reader(value) if reader is not None else value


def _python_type(column_type: TypeEngine[Any]) -> type:
    """The type of the column's Python values; object if it does not say."""
    try:
        return column_type.python_type
    except NotImplementedError:
        return object


def _undecorated(column_type: TypeEngine[Any], value: Any) -> Any:
    """`value`, unless it is text from JSON for a TypeDecorator that does not say its type.

    What it decorates says how it is stored; its Python values may or may not be of that type too. Text where a moment
    or a UUID is stored is most likely JSON's; a number may stand for anything.
    """
    from sqlalchemy.types import TypeDecorator

    if not isinstance(value, str) or not isinstance(column_type, TypeDecorator):
        return value
    wanted = _python_type(column_type.impl_instance)
    if wanted not in (dt.datetime, dt.date, dt.time, UUID):
        return value
    try:
        return _READERS[wanted](value)
    except ValueError:
        return value


def _member(choices: type[Enum], value: Any) -> Enum:
    """By value, as `json_value` writes it; else by name, as SQLAlchemy stores it."""
    for member in choices:
        if json_value(member.value) == value:
            return member
    return choices[value]


def _whole(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError("not a whole number")
    return number


def _truth(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError("neither true nor false")


# str is missing: SQLAlchemy and most databases take other things for text, and an SQLModel table checks nothing.
_READERS: Mapping[type, Callable[[Any], Any]] = {
    bool: _truth,
    int: _whole,
    float: float,
    Decimal: lambda value: Decimal(str(value)),
    UUID: UUID,
    bytes: lambda value: base64.b64decode(value, validate=True),
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    dt.timedelta: lambda value: dt.timedelta(seconds=float(value)),
}
