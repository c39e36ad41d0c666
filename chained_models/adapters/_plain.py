"""Plain values: made from typed ones, turned back, and what the adapters of in-memory models have in common.

A plain value shares nothing with the model it was taken from but immutable leaves. Containers keep their kind, a nested
pydantic model, dataclass or attrs instance becomes a :class:`FieldsOf`, and everything else is deep-copied.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from .._snapshot import MISSING, Missing
from ..exceptions import SnapshotError
from ..protocols import Origin

__all__ = ["Copier", "FieldsOf", "PlainAdapter", "Typer", "copied", "is_json", "plain", "values_of"]

# Immutable all the way down; found by exact type, because a subclass may carry attributes of its own.
LEAVES: Final = frozenset({
    type(None), bool, int, float, complex, str, bytes, range,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
    decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, type(Ellipsis), type(NotImplemented),
    type, types.FunctionType, types.BuiltinFunctionType,
})  # fmt: skip
_LEAF_BASES: Final = (enum.Enum, pathlib.PurePath, type)

# A torn container ("changed size during iteration") is copied again, from the start; after that somebody edits the
# model all the time, and there is no moment of which a snapshot could be taken.
_TRIES: Final = 5


class FieldsOf(dict[str, Any]):
    """The fields of a nested model: an ordinary dict that remembers the class, so that the model can be made again.

    Rejected: plain dicts only. Making the model again would then mean to guess the class (of a union, of a subclass)
    and to run the user's validators on values that went through them before.
    """

    __slots__ = ("model_type",)

    def __init__(self, model_type: type) -> None:
        super().__init__()
        self.model_type = model_type

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model_type,), None, None, iter(self.items())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FieldsOf) and other.model_type is not self.model_type:
            return False  # a Cat that became a Dog has changed, even if only the name counts
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        # A frozen model may sit in a set or be a key. Equal only to what is a FieldsOf too, or unhashable.
        try:
            return hash((self.model_type, *self.values()))
        except TypeError:
            return hash(self.model_type)


def values_of(model: Any) -> dict[str, Any] | None:
    """The fields that are set of a pydantic model, dataclass or attrs instance, not copied; None for anything else."""
    kind = type(model)
    # In this order: a pydantic dataclass has pydantic's list of fields too, but keeps its values like a dataclass.
    if hasattr(kind, "__dataclass_fields__"):
        return set_attributes(model, [field.name for field in dataclasses.fields(model)])
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return set_attributes(model, [attribute.name for attribute in attributes])
    if (declared := getattr(kind, "__pydantic_fields__", None)) is not None:
        held = model.__dict__
        return {name: held[name] for name in declared if name in held} | (model.__pydantic_extra__ or {})
    return None


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


class _Walk:
    """Rebuilds containers around what `_other` makes of the rest: what is there twice stays one thing, a cycle a cycle."""

    __slots__ = ("_memo",)

    def __init__(self) -> None:
        # In deepcopy's form, with which it is shared: id to copy, and under its own id whatever must outlive the walk,
        # for the id of something that a property made for us could be given to the next thing.
        self._memo: dict[int, Any] = {}
        self._memo[id(self._memo)] = []

    def __call__(self, value: Any) -> Any:
        kind: type = type(value)
        if kind in LEAVES:
            return value
        known = self._memo.get(id(value), MISSING)
        if known is not MISSING:
            return known
        container = _CONTAINERS.get(kind)
        return self._other(value) if container is None else container(self, value)

    def _other(self, value: Any) -> Any:
        return value

    def _remember(self, value: Any, copied: Any) -> Any:
        self._memo[id(value)] = copied
        self._memo[id(self._memo)].append(value)
        return copied

    def _update(self, copied: dict[Any, Any], value: Mapping[Any, Any]) -> dict[Any, Any]:
        for key, item in value.items():
            copied[self(key)] = self(item)
        return copied

    def _dict(self, value: dict[Any, Any]) -> Any:
        return self._update(self._remember(value, type(value)()), value)

    def _defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        return self._update(self._remember(value, defaultdict(value.default_factory)), value)

    def _mappingproxy(self, value: Mapping[Any, Any]) -> Any:
        behind: dict[Any, Any] = {}
        proxy = self._remember(value, types.MappingProxyType(behind))
        self._update(behind, value)
        return proxy

    def _fields(self, value: FieldsOf) -> Any:
        return self._update(self._remember(value, FieldsOf(value.model_type)), value)

    def _list(self, value: list[Any]) -> Any:
        copied: list[Any] = self._remember(value, [])
        copied.extend(self(item) for item in value)
        return copied

    def _deque(self, value: deque[Any]) -> Any:
        copied: deque[Any] = self._remember(value, deque(maxlen=value.maxlen))
        copied.extend(self(item) for item in value)
        return copied

    def _set(self, value: set[Any]) -> Any:
        copied: set[Any] = self._remember(value, set())
        copied.update(self(item) for item in value)
        return copied

    def _immutable(self, value: Any) -> Any:
        """A tuple or frozenset: made only when its items are, and a cycle through them may have made it by then."""
        items = list(value)
        copies = [self(item) for item in items]
        known = self._memo.get(id(value), MISSING)
        if known is not MISSING:
            return known
        unchanged = all(one is other for one, other in zip(items, copies, strict=True))
        return self._remember(value, value if unchanged else type(value)(copies))


_CONTAINERS: Final[dict[type, Callable[[Any, Any], Any]]] = {
    dict: _Walk._dict,
    OrderedDict: _Walk._dict,
    Counter: _Walk._dict,
    defaultdict: _Walk._defaultdict,
    types.MappingProxyType: _Walk._mappingproxy,
    FieldsOf: lambda walk, value: walk._fields(value),  # the one that a subclass overrides
    list: _Walk._list,
    deque: _Walk._deque,
    set: _Walk._set,
    tuple: _Walk._immutable,
    frozenset: _Walk._immutable,
}


class Copier(_Walk):
    """Typed values into plain ones. One per snapshot.

    Attributes:
        met: Every nested model and every value of unknown kind so far, each with what became of it.
    """

    __slots__ = ("met",)

    def __init__(self) -> None:
        super().__init__()
        self.met: list[tuple[Any, Any]] = []

    def _other(self, value: Any) -> Any:
        if isinstance(value, _LEAF_BASES):
            return value
        values = values_of(value)
        if values is None:
            copied = copy.deepcopy(value, self._memo)
        else:
            copied = self._update(self._remember(value, FieldsOf(type(value))), values)
        self.met.append((value, copied))
        return copied


class Typer(_Walk):
    """Plain values back into typed ones: a :class:`FieldsOf` becomes a model, containers are copied, leaves stay."""

    __slots__ = ()

    def _fields(self, value: FieldsOf) -> Any:
        made = self._remember(value, object.__new__(value.model_type))
        fill(made, self._update({}, value))
        return made


Met: TypeAlias = dict[str, list[tuple[Any, Any]]]


def copied(model_type: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], Met]:
    """Plain values of a model's fields, and what was :attr:`met <Copier.met>` in each field.

    Raises:
        SnapshotError: A field cannot be copied. It is named, its value is not.
    """
    nested = [(name, value) for name, value in values.items() if type(value) not in LEAVES]
    if not nested:
        return dict(values), {}
    tries = 0
    while True:
        tries += 1
        name, copier, copies, met = "", Copier(), dict(values), Met()
        try:
            for name, value in nested:
                copies[name] = copier(value)
                met[name], copier.met = copier.met, []
        except Exception as error:
            torn = isinstance(error, RuntimeError) and not isinstance(error, RecursionError)
            if not torn or tries == _TRIES:
                raise SnapshotError(
                    f"{model_type.__qualname__}.{name} cannot be copied ({type(error).__name__}); keep locks, files, "
                    "generators and endless structures out of the declared fields, in private attributes"
                ) from error
        else:
            return copies, met


def plain(model_type: type, name: str, value: Any) -> Any:
    """The plain value of one field, copied."""
    return value if type(value) in LEAVES else copied(model_type, {name: value})[0][name]


def is_json(value: Any) -> bool:
    """Whether it is made of JSON's own types only."""
    match value:
        case None | bool() | int() | float() | str():
            return type(value) in LEAVES
        case list():
            return type(value) is list and all(map(is_json, value))
        case dict():
            return type(value) is dict and all(type(key) is str and is_json(item) for key, item in value.items())
        case _:
            return False


class PlainAdapter:
    """What the adapters of models that live in memory only have in common: nobody but us knows what is stored."""

    def values(self, model: Any) -> dict[str, Any]:
        """The live values of the fields that are set."""
        values = values_of(model)
        assert values is not None, "asked only of models that the adapter accepts"
        return values

    def identity_fields(self, model_type: type) -> tuple[str, ...] | None:
        return None

    def fields(self, model_type: type) -> tuple[str, ...]:
        raise NotImplementedError

    def snapshot(self, model: Any, *, check: bool = True) -> dict[str, Any]:
        return copied(type(model), self.values(model))[0]

    def peek(self, model: Any, name: str) -> Any | Missing:
        value = getattr(model, name, MISSING)
        try:
            return plain(type(model), name, value)
        except SnapshotError:
            # What can no longer be copied has changed since the snapshot, and compares as different as it is.
            return value

    def plain(self, model_type: type, name: str, value: Any) -> Any:
        return plain(model_type, name, value)

    def assign(self, model: Any, name: str, value: Any) -> None:
        setattr(model, name, value)

    def edit(self, model: Any, name: str, value: Any) -> None:
        if name not in self.fields(type(model)) and not hasattr(type(model), name):
            raise AttributeError(f"{type(model).__qualname__} has no attribute {name!r} to save")
        setattr(model, name, value)

    def origin(self, model: Any) -> Origin | None:
        return None

    def version_name(self, model_type: type) -> str | None:
        return None

    def attached(self, model: Any) -> bool:
        return False

    def stored(self, model: Any, names: Iterable[str]) -> None:
        pass
