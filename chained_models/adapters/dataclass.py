"""Dataclasses: slotted, frozen and generic ones too. They do not validate, so neither does a snapshot.

JSON is cattrs' business. It is imported when there is something to turn, so that values which are JSON already, and
answers that fit as they are, need no extra. Containers and nested models are turned here, only leaves by cattrs: it goes
by the declared class, and would drop the fields that a subclass adds.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import functools
import types
import typing
import uuid
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ..exceptions import MissingExtra
from ._copying import Typer, is_json
from ._fields import Layout, layout_of
from ._plain import PlainAdapter

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["ADAPTER", "DataclassAdapter"]


class DataclassAdapter(PlainAdapter):
    """Knows classes made by `dataclasses.dataclass`."""

    def accepts(self, model_type: type) -> bool:
        return dataclasses.is_dataclass(model_type)

    def fields(self, model_type: type) -> tuple[str, ...]:
        return cast("Layout", layout_of(model_type)).names

    def server_given(self, model_type: type, names: tuple[str, ...]) -> bool:
        declared = {field.name: field for field in dataclasses.fields(model_type)}
        if len(names) != 1 or (field := declared.get(names[0])) is None:
            return False
        made = field.default_factory
        return field.default is None or (made is not dataclasses.MISSING and made() is None)

    def load(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        hints = _hints(model_type)
        typed = Typer().walk(self.named(model_type, values))
        return {name: _structure(value, hints.get(name, Any)) for name, value in typed.items()}

    def named(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that are about fields, by name."""
        return {name: values[name] for name in self.fields(model_type) if name in values}

    def dump(self, model_type: type, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _json(value, f"{model_type.__qualname__}.{name}") for name, value in values.items()}


def _hints(model_type: type) -> Mapping[str, Any]:
    """The types of the fields; none, and so nothing is converted, if a name in them is not found."""
    try:
        return _resolved(model_type)
    except Exception:  # noqa: BLE001 - annotations are code
        return {}


# A failure is not kept: the name may be defined by the next time.
_resolved = functools.lru_cache(maxsize=256)(typing.get_type_hints)


def _structure(value: Any, hint: Any) -> Any:
    return value if _fits(value, hint) else _converter().structure(value, hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of this type, as far as that can be told by looking at it."""
    if isinstance(hint, typing.NewType):
        return _fits(value, hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, typing.TypeVar, typing.ForwardRef)):
        return True
    if origin in (typing.Annotated, typing.Final):
        return _fits(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    kind = origin or hint
    if not isinstance(kind, type) or typing.is_typeddict(kind):
        return False
    if kind in (int, float):
        return type(value) is kind  # True is no number, and 1 where a float is due would be another value
    try:
        if not isinstance(value, kind):
            return False
    except TypeError:
        return True  # a protocol: it cannot be told
    if isinstance(value, tuple) and origin is tuple:
        if arguments[1:] == (...,):
            arguments = arguments[:1] * len(value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if isinstance(value, Mapping) and len(arguments) == 2:
        key, item = arguments
        return all(_fits(one, key) and _fits(other, item) for one, other in value.items())
    if isinstance(value, (list, set, frozenset)) and len(arguments) == 1:
        return all(_fits(item, arguments[0]) for item in value)
    return True


def _json(value: Any, field: str) -> Any:
    """The value in JSON's types; `field` is for the error."""
    if is_json(value):
        return value
    if isinstance(value, enum.Enum):
        return _json(value.value, field)
    if isinstance(value, Mapping):
        return {_key(key, field): _json(item, field) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [_json(item, field) for item in value]
    for kind in (str, int, float):  # of a subclass, because of itself it would be JSON already
        if isinstance(value, kind):
            return kind(value)
    written = _converter().unstructure(value)
    if not is_json(written):
        raise TypeError(f"{field} holds a {type(value).__qualname__}, which has no form in JSON")
    return written


def _key(key: Any, field: str) -> str:
    """A key as `json.dumps` would write it, for it knows the keys that are no text, but not all of ours."""
    match written := _json(key, field):
        case str():
            return written
        case None | bool():
            return {None: "null", True: "true", False: "false"}[written]
        case _:
            return str(written)


@functools.cache
def _converter() -> Converter:
    """cattrs' converter for JSON, with the leaves it does not know, and without its leniency.

    cattrs calls the type: None becomes the text "None", 3.7 becomes 3, and the text "false" is true. An answer that does
    not fit must not be merged.
    """
    try:
        from cattrs.preconf.json import make_converter
    except ImportError:
        raise MissingExtra("cattrs", "rest") from None
    converter = make_converter()
    for kind, write in _WRITTEN.items():
        converter.register_unstructure_hook(kind, write)
    known = {kind: converter.get_structure_hook(kind) for kind in (datetime.datetime, datetime.date)}
    for kind, read in {**_READ, **known}.items():
        converter.register_structure_hook(kind, functools.partial(_read, kind, read))
    return converter


def _read(leaf: Any, read: Any, value: Any, kind: Any) -> Any:
    if type(value) is kind:
        return value
    # cattrs takes this hook for subclasses as well: an IntEnum is made of a whole number, a StrEnum of text.
    return read(value, leaf) if kind is leaf else kind(_read(leaf, read, value, leaf))


def _misfit(value: Any, kind: Any) -> typing.NoReturn:
    raise TypeError(f"{type(value).__qualname__} does not fit {kind.__qualname__}")


def _whole(value: Any, kind: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) else _misfit(value, kind)  # text: an id from a URL, a key


def _number(value: Any, kind: Any) -> float:
    return float(value) if type(value) in (int, str) else _misfit(value, kind)


def _decimal(value: Any, kind: Any) -> decimal.Decimal:
    try:
        return decimal.Decimal(str(value)) if isinstance(value, (str, int, float)) else _misfit(value, kind)
    except decimal.InvalidOperation:
        _misfit(value, kind)


_READ: Final[Mapping[Any, Any]] = {
    str: _misfit,
    bool: _misfit,
    int: _whole,
    float: _number,
    decimal.Decimal: _decimal,
    uuid.UUID: lambda value, _: uuid.UUID(value),
    bytes: lambda value, _: base64.b64decode(value, validate=True),
    datetime.time: lambda value, _: datetime.time.fromisoformat(value),
    datetime.timedelta: lambda value, _: datetime.timedelta(seconds=value),
}
_WRITTEN: Final[Mapping[Any, Any]] = {
    decimal.Decimal: str,
    uuid.UUID: str,
    bytes: lambda value: base64.b64encode(value).decode(),  # cattrs' own base 85 is read by few others
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
}

ADAPTER: Final = DataclassAdapter()
