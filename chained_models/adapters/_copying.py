"""Plain values: made from typed ones, and turned back.

A plain value shares nothing with the model it was taken from but immutable leaves. Containers keep their kind, a nested
pydantic model, dataclass or attrs instance becomes a :class:`FieldsOf`, and everything else is deep-copied. What is inside of
that is its own business: there models stay models, and nothing in there is the same thing as something outside. Only into
subclasses of containers one looks, for they are written like any container.

What is flat is copied whole, and then looked at: a container or model that holds leaves only needs no look at each of
them in Python. Copying first also means that nobody can edit it in between.

Rejected: pydantic-core's serializer. It forgets the class of a nested model, makes two of what is there twice, passes
subclasses of leaves by reference, and is no faster than copying flat models in bulk. Rejected: to use `copium`, where it
is installed, for objects of other classes. It does so in a third of the time, but goes down without regard to the
recursion limit, and in a thread with a small stack it ends the process. Whoever accepts that can patch `copy` with it,
which is why `copy.deepcopy` is looked up at every call.
"""

from __future__ import annotations

import copy
import operator
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from .._snapshot import MISSING
from ..exceptions import SnapshotError
from ._fields import LEAF_BASES, LEAVES, FieldsOf, Layout, fields_of, fill, is_leaf, is_named, layout_of

__all__ = ["Copier", "Group", "Met", "Signature", "Typer", "copied", "copied_in", "is_json", "plain"]

# A torn container ("changed size during iteration") is copied again, from the start; after that somebody edits the
# model all the time, and there is no moment of which a snapshot could be taken.
_TRIES: Final = 5

# So many of a kind are copied faster together than one by one.
_MANY: Final = 4

_held: Final = operator.attrgetter("__dict__")
_extra: Final = operator.attrgetter("__pydantic_extra__")


class _Walk:
    """Rebuilds containers around what `_other` makes of the rest: what is there twice stays one thing, a cycle a cycle."""

    __slots__ = ("_keep", "_memo", "_others")

    def __init__(self) -> None:
        self._memo: dict[int, Any] = {}
        # For the id of something that a property made for us could be given to the next thing.
        self._keep: Callable[[Any], None] = [].append
        self._others: dict[type, bool] = {}  # and whether they are named tuples

    def walk(self, value: Any) -> Any:
        """What `value` becomes."""
        kind: type = type(value)
        if kind in LEAVES:
            return value
        known = self._memo.get(id(value), MISSING)
        if known is not MISSING:
            return known
        container = _CONTAINERS.get(kind)
        return self._other(value) if container is None else container(self, value)

    def _other(self, value: Any) -> Any:
        kind = type(value)
        named = self._others.get(kind)
        if named is None:
            named = self._others[kind] = is_named(kind)
        return self._immutable(value) if named else value

    def _remember(self, value: Any, copied: Any) -> Any:
        self._memo[id(value)] = copied
        self._keep(value)
        return copied

    def _remember_all(self, items: list[Any], copies: list[Any]) -> bool:
        """Remember them if none of them was met before; else, and if one is there twice, do nothing and say False."""
        made = dict(zip(map(id, items), copies))  # noqa: B905 - they are of one length
        if len(made) < len(items) or not self._memo.keys().isdisjoint(made.keys()):
            return False
        self._memo |= made
        self._keep(items)
        return True

    def _alike(self, kind: type, items: list[Any]) -> list[Any] | None:
        """Copies of many things of one kind at once; None if they have to be copied one by one."""
        if kind is dict:
            copies = [*map(dict.copy, items)]
            if (
                LEAVES.issuperset(map(type, chain.from_iterable(copies)))
                and LEAVES.issuperset(map(type, chain.from_iterable(map(dict.values, copies))))
                and self._remember_all(items, copies)
            ):
                return copies
        return None

    def _update(self, copied: dict[Any, Any], value: Mapping[Any, Any]) -> dict[Any, Any]:
        for key, item in value.items():
            copied[key if type(key) is str else self.walk(key)] = item if type(item) in LEAVES else self.walk(item)
        return copied

    def _items(self, value: Iterable[Any]) -> list[Any]:
        return [item if type(item) in LEAVES else self.walk(item) for item in value]

    def _dict(self, value: dict[Any, Any]) -> Any:
        copied = value.copy()
        if LEAVES.issuperset(map(type, copied)) and LEAVES.issuperset(map(type, copied.values())):
            return self._remember(value, copied)
        return self._update(self._remember(value, {}), copied)

    def _dict_of_a_kind(self, value: dict[Any, Any]) -> Any:
        return self._update(self._remember(value, type(value)()), value)

    def _defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        return self._update(self._remember(value, defaultdict(value.default_factory)), value)

    def _mappingproxy(self, value: Mapping[Any, Any]) -> Any:
        behind: dict[Any, Any] = {}
        proxy = self._remember(value, types.MappingProxyType(behind))
        self._update(behind, value)
        return proxy

    def _fields(self, value: FieldsOf) -> Any:
        return self._update(self._remember(value, fields_of(value.model_type)), value)

    def _list(self, value: list[Any]) -> Any:
        items = value.copy()
        kinds = {*map(type, items)}
        if LEAVES.issuperset(kinds):
            return self._remember(value, items)
        copied: list[Any] = self._remember(value, [])
        copies = self._alike(kinds.pop(), items) if len(kinds) == 1 and len(items) >= _MANY else None
        copied += self._items(items) if copies is None else copies
        return copied

    def _deque(self, value: deque[Any]) -> Any:
        copied: deque[Any] = self._remember(value, deque(maxlen=value.maxlen))
        copied += self._items(value)
        return copied

    def _set(self, value: set[Any]) -> Any:
        items = value.copy()
        if LEAVES.issuperset(map(type, items)):
            return self._remember(value, items)
        copied: set[Any] = self._remember(value, set())
        copied.update(self._items(items))
        return copied

    def _immutable(self, value: Any) -> Any:
        """A tuple, named or not, or frozenset: made only when its items are, and a cycle through them may have made it by then."""
        if LEAVES.issuperset(map(type, value)):
            return value
        items = list(value)
        copies = self._items(items)
        known = self._memo.get(id(value), MISSING)
        if known is not MISSING:
            return known
        unchanged = all(one is other for one, other in zip(items, copies, strict=True))
        base: Any = frozenset if type(value) is frozenset else tuple
        return self._remember(value, value if unchanged else base.__new__(type(value), copies))


_CONTAINERS: Final[dict[type, Callable[[Any, Any], Any]]] = {
    dict: _Walk._dict,
    OrderedDict: _Walk._dict_of_a_kind,
    Counter: _Walk._dict_of_a_kind,
    defaultdict: _Walk._defaultdict,
    types.MappingProxyType: _Walk._mappingproxy,
    FieldsOf: lambda walk, value: walk._fields(value),  # the one that a subclass overrides
    list: _Walk._list,
    deque: _Walk._deque,
    set: _Walk._set,
    tuple: _Walk._immutable,
    frozenset: _Walk._immutable,
}

_HOLDERS: Final[tuple[Any, ...]] = (dict, list, tuple, set, frozenset, deque)

Signature: TypeAlias = tuple[type, ...]
"""The types of the values of a model's fields, in order."""


class Group(NamedTuple):
    """Some of what a copier met: nested models of one class, or values of one kind that it does not know.

    Attributes:
        layout: The layout of their class, if it is one of models.
        values: They themselves.
        copies: What became of them.
        signatures: For models of which every one has all of its fields, all leaves: the types of these; else None.
    """

    layout: Layout | None
    values: list[Any]
    copies: list[Any]
    signatures: set[Signature] | None = None

    @property
    def kind(self) -> Any:
        """Their class."""
        return type(self.values[0])


class Copier(_Walk):
    """Typed values into plain ones. One per snapshot.

    Attributes:
        met: Every nested model and every value of unknown kind so far, what was inside of another one first.
    """

    __slots__ = ("_deep", "_looker", "met")

    def __init__(self) -> None:
        super().__init__()
        self.met: list[Group] = []
        # Not the memo of the walk: to deepcopy a model becomes a model, and to the walk its fields.
        self._deep: dict[int, Any] | None = None
        self._looker: _Looker | None = None

    def _other(self, value: Any) -> Any:
        kind = type(value)
        named = self._others.get(kind)
        if named is None:
            if issubclass(kind, LEAF_BASES):
                return value
            layout = layout_of(kind)
            if layout is not None:
                copied = self._model(kind, layout, value)
                self.met.append(Group(layout, [value], [copied]))
                return copied
            named = self._others[kind] = is_named(kind)
        return self._immutable(value) if named else self._opaque(value)

    def _opaque(self, value: Any) -> Any:
        copied = copy.deepcopy(value, self._deep or self._begun())
        self.met.append(Group(None, [value], [copied]))
        if isinstance(copied, _HOLDERS):
            if self._looker is None:
                self._looker = _Looker()
            self._looker.met = self.met
            self._looker.walk(copied)
        return copied

    def _opaque_all(self, values: list[Any]) -> list[Any]:
        deepcopy, memo = copy.deepcopy, self._deep or self._begun()
        copies = [deepcopy(value, memo) for value in values]
        self.met.append(Group(None, values, copies))
        return copies

    def _begun(self) -> dict[int, Any]:
        memo = self._deep = {}
        memo[id(memo)] = []  # What it keeps alive. By itself it finds out by an exception that there is none yet.
        return memo

    def _model(self, kind: type, layout: Layout, value: Any) -> FieldsOf:
        values = layout.values(value)
        if LEAVES.issuperset(map(type, values.values())):
            copied = FieldsOf(values)
            copied.model_type = kind
            self._remember(value, copied)
            return copied
        copied = fields_of(kind)
        self._remember(value, copied)
        self._update(copied, values)
        return copied

    def _alike(self, kind: type, items: list[Any]) -> list[Any] | None:
        if kind in _CONTAINERS:
            return super()._alike(kind, items)
        if issubclass(kind, LEAF_BASES):
            return items
        layout = layout_of(kind)
        if layout is not None:
            return self._models(kind, layout, items)
        return None if issubclass(kind, _HOLDERS) else self._opaque_all(items)

    def _models(self, kind: type, layout: Layout, models: list[Any]) -> list[Any] | None:
        """Flat models of one class, in few passes over the fields of all of them."""
        names, many = layout.names, len(models)
        if not (names and layout.direct) or (layout.pydantic and any(map(_extra, models))):
            return None
        copies = [*map(FieldsOf, map(_held, models))]
        if [*chain.from_iterable(copies)] != [*names] * many:
            return None
        types_ = [*map(type, chain.from_iterable(map(dict.values, copies)))]
        first = types_[: len(names)]
        uniform = types_ == first * many
        signatures: set[Signature] = {(*first,)} if uniform else {*zip(*[iter(types_)] * len(names), strict=True)}
        kinds = {*first}.union(*signatures)
        if not LEAVES.issuperset(kinds) and not all(map(is_leaf, kinds)):
            return None
        for copied in copies:
            copied.model_type = kind
        if not self._remember_all(models, copies):
            return None
        self.met.append(Group(layout, models, copies, signatures))
        return copies


class _Looker(Copier):
    """Goes through what only deepcopy could copy, to meet what is in there: in the copy, which nobody edits meanwhile."""

    __slots__ = ()

    def _opaque(self, value: Any) -> Any:
        self.met.append(Group(None, [value], [value]))
        base = next((base for base in _HOLDERS if isinstance(value, base)), None)
        if base is not None:
            self._remember(value, value)
            parts = chain(base.keys(value), base.values(value)) if base is dict else base.__iter__(value)
            for part in parts:
                self.walk(part)
        return value

    def _opaque_all(self, values: list[Any]) -> list[Any]:
        self.met.append(Group(None, values, values))
        return values


class Typer(_Walk):
    """Plain values back into typed ones: a :class:`FieldsOf` becomes a model, containers are copied, leaves stay."""

    __slots__ = ()

    def _fields(self, value: FieldsOf) -> Any:
        made = self._remember(value, object.__new__(value.model_type))
        fill(made, self._update({}, value))
        return made


Met: TypeAlias = dict[str, list[Group]]
"""What was met in each field that is no leaf."""


def copied(model_type: type, values: dict[str, Any]) -> tuple[dict[str, Any], Met]:
    """Plain values of a model's fields, and what was :attr:`met <Copier.met>` in each field. `values` may be given back.

    Raises:
        SnapshotError: A field cannot be copied. It is named, its value is not.
    """
    if LEAVES.issuperset(map(type, values.values())):
        return values, {}
    return copied_in(model_type, values, [name for name, value in values.items() if type(value) not in LEAVES])


def copied_in(model_type: type, values: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], Met]:
    """As :func:`copied`, where it is known which fields do not hold leaves."""
    tries = 0
    while True:
        tries += 1
        name, copier, copies, met = "", Copier(), values.copy(), Met()
        try:
            for name in names:
                copies[name] = copier.walk(values[name])
                if copier.met:
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
