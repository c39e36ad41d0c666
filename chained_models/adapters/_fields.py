"""Where the instances of a class keep the values of their fields, worked out once for each class.

What is worked out is kept in the class itself, under a name of ours: a look-up there is a third of one in a weak mapping,
and it goes when the class goes.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import operator
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from .._snapshot import MISSING

__all__ = [
    "LEAF_BASES",
    "LEAVES",
    "FieldsOf",
    "Layout",
    "fields_of",
    "fill",
    "is_leaf",
    "is_named",
    "layout_of",
    "values_of",
]

# Immutable all the way down; found by exact type, because a subclass may carry attributes of its own.
LEAVES: Final = frozenset({
    type(None), bool, int, float, complex, str, bytes, range,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
    decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, type(Ellipsis), type(NotImplemented),
    type, types.FunctionType, types.BuiltinFunctionType,
})  # fmt: skip

# Of these, subclasses and members too.
LEAF_BASES: Final = (enum.Enum, pathlib.PurePath, type)

_KEPT: Final = "__chained_models_layout__"


def is_leaf(kind: type) -> bool:
    """Whether values of exactly this kind are immutable all the way down."""
    return kind in LEAVES or issubclass(kind, LEAF_BASES)


class _Named(NamedTuple):
    """As they all are."""


# Of each class another function, but of the same code.
_MAKE: Final = vars(_Named)["_make"].__func__.__code__


def is_named(kind: Any) -> bool:
    """Whether values of this class are named tuples: their items and nothing else, made and copied as such."""
    return (
        issubclass(kind, tuple)
        and isinstance(getattr(kind, "_fields", None), tuple)
        and getattr(getattr(kind, "_make", None), "__code__", None) is _MAKE
        and not kind.__dictoffset__
        and kind.__iter__ is tuple.__iter__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not hasattr(kind, "__deepcopy__")
    )


class FieldsOf(dict[str, Any]):
    """The fields of a nested model: an ordinary dict that remembers the class, so that the model can be made again.

    Rejected: plain dicts only. Making the model again would then mean to guess the class (of a union, of a subclass)
    and to run the user's validators on values that went through them before.

    It has no `__init__` of its own, which would cost more than filling the dict: set `model_type` once it is made.
    """

    __slots__ = ("model_type",)

    model_type: type

    def __reduce__(self) -> tuple[Any, ...]:
        return fields_of, (self.model_type,), None, None, iter(self.items())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FieldsOf) and other.model_type is not self.model_type:
            return False  # a Cat that became a Dog has changed, even if only the name counts
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        # A frozen model may sit in a set or be a key. Equal only to what is a FieldsOf too, or unhashable; and as to dict, the
        # order makes no difference.
        return hash((self.model_type, frozenset((name, _hash(value)) for name, value in self.items())))


def _hash(value: Any) -> int:
    """A hash of anything: the same for all that is equal, also to something that has none of its own."""
    if isinstance(value, (bytes, frozenset, FieldsOf)):
        return 0  # as of the bytearray, set or dict to which it may be equal
    if isinstance(value, tuple):
        return hash((*map(_hash, value),))
    try:
        return hash(value)
    except TypeError:
        return 0


def fields_of(model_type: type, values: Mapping[str, Any] = types.MappingProxyType({})) -> FieldsOf:
    """These values, as those of a model of this class."""
    made = FieldsOf(values)
    made.model_type = model_type
    return made


class Layout:
    """Where the instances of one class keep the values of their fields.

    Attributes:
        names: The fields, in order of declaration.
        direct: Whether an attribute is what stands in the instance's `__dict__`, and no descriptor's business.
        pydantic: Whether they are pydantic models, which may hold more than is declared.
        schema: What this was worked out from, if that may change (pydantic rebuilds classes); else None.
    """

    __slots__ = ("_get", "direct", "names", "pydantic", "schema")

    def __init__(self, kind: Any, names: tuple[str, ...], *, pydantic: bool = False) -> None:
        self.names = names
        self.pydantic = pydantic
        self.direct = pydantic or _direct(kind, names)
        self.schema = kind.__pydantic_core_schema__ if pydantic else None
        self._get: Callable[[Any], tuple[Any, ...]] | None = operator.attrgetter(*names) if len(names) > 1 else None

    def whole(self, model: Any) -> dict[str, Any] | None:
        """A copy of the `__dict__`, if that holds all of the fields in order, and there is nothing but the fields."""
        if self.direct:
            # Copied first: another thread may edit the model between one line and the next.
            values: dict[str, Any] = model.__dict__.copy()
            if (*values,) == self.names and not (self.pydantic and model.__pydantic_extra__):
                return values
        return None

    def values(self, model: Any) -> dict[str, Any]:
        """The values of the fields that are set, not copied, in a dict of the caller's own."""
        values = self.whole(model)
        if values is not None:
            return values
        if self.pydantic:
            held, extra = model.__dict__, model.__pydantic_extra__
            return {name: held[name] for name in self.names if name in held} | (extra or {})
        if self._get is not None and not self.direct:
            try:
                return dict(zip(self.names, self._get(model), strict=True))
            except AttributeError:
                pass  # one is not set
        return set_attributes(model, self.names)


def layout_of(kind: Any) -> Layout | None:
    """The layout of a class of pydantic models, dataclass or attrs class; None for any other."""
    layout: Layout | None = kind.__dict__.get(_KEPT)
    if layout is not None and (layout.schema is None or layout.schema is kind.__pydantic_core_schema__):
        return layout
    # In this order: a pydantic dataclass has pydantic's list of fields too, but keeps its values like a dataclass.
    if hasattr(kind, "__dataclass_fields__"):
        layout = Layout(kind, tuple(field.name for field in dataclasses.fields(kind)))
    elif (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        layout = Layout(kind, tuple(attribute.name for attribute in attributes))
    elif (declared := getattr(kind, "__pydantic_fields__", None)) is not None:
        layout = Layout(kind, tuple(declared), pydantic=True)
    else:
        return None
    type.__setattr__(kind, _KEPT, layout)  # past the metaclass, which may have ideas about new attributes
    return layout


def values_of(model: Any) -> dict[str, Any] | None:
    """The fields that are set of a pydantic model, dataclass or attrs instance, not copied; None for anything else."""
    layout = layout_of(type(model))
    return None if layout is None else layout.values(model)


def _direct(kind: Any, names: Iterable[str]) -> bool:
    if kind.__getattribute__ is not object.__getattribute__ or not kind.__dictoffset__:
        return False
    return not any(_is_data_descriptor(kind, name) for name in names)


def _is_data_descriptor(kind: type, name: str) -> bool:
    for each in kind.__mro__:
        if name in each.__dict__:
            found = type(each.__dict__[name])
            return hasattr(found, "__set__") or hasattr(found, "__delete__")
    return False


def set_attributes(model: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes of these names that are set."""
    found = {name: getattr(model, name, MISSING) for name in names}
    return {name: value for name, value in found.items() if value is not MISSING}


def fill(model: Any, values: Mapping[str, Any]) -> None:
    """Give an empty instance exactly these values: no `__init__`, validator, default or `__post_init__` is run.

    Rejected for pydantic: `model_construct`, which reads aliases before names, fills in the defaults of fields that are
    left out on purpose, and calls `model_post_init`, where models open connections and register themselves.
    """
    put = object.__setattr__  # frozen models too
    kind: Any = type(model)
    declared = getattr(kind, "__pydantic_fields__", None)
    if declared is None or hasattr(kind, "__dataclass_fields__"):
        for name, value in values.items():
            put(model, name, value)
        return
    extra = {name: value for name, value in values.items() if name not in declared}
    private = {name: given.get_default() for name, given in kind.__private_attributes__.items()}
    put(model, "__dict__", {name: value for name, value in values.items() if name in declared})
    put(model, "__pydantic_extra__", extra if kind.model_config.get("extra") == "allow" else None)
    put(model, "__pydantic_fields_set__", set(values))
    put(model, "__pydantic_private__", private or None)
