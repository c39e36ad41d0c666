"""State kept beside objects, not in them.

A model's private bookkeeping must not show up in its dump, its copies, its comparison or its pickle, and a slots class
has no room for it. `weakref.WeakKeyDictionary` will not do: it compares keys with `==`, and pydantic models and
dataclasses are unhashable. So: a dict by `id`, where each entry watches its object and leaves with it. An id can be used
again only after the weak reference's callback has run, and every look-up checks that the object is the same one.

Rejected: an attribute in the instance's `__dict__`. It has to be hidden from copy, deepcopy and pickle, each in another
way for each kind of model, and there is none in a slots class.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Watched(weakref.ref[K], Generic[K, V]):
    """The entry of one object: the reference to it, and its value, in one object. There may be a million of them."""

    __slots__ = ("value", "where")

    value: V
    where: int
    """The id that the object has, or had: the reference is asked for it when the object is gone."""


class _Kept(Generic[K, V]):
    """The entry of an object of a slots class without `__weakref__`: it is kept for ever, which is better than refusing it."""

    __slots__ = ("_key", "value", "where")

    value: V
    where: int

    def __init__(self, key: K) -> None:
        self._key = key

    def __call__(self) -> K:
        return self._key


class WeakIdMap(Generic[K, V]):
    """A mapping from live objects, by identity, to values; an entry goes when its object does.

    A value must not refer to its own key, or the key would live for ever. Single operations are atomic under the GIL.

    Args:
        gone: Called with the value of an object that is gone: at any time, in any thread, whatever lock that holds.
    """

    __slots__ = ("_entries", "_forget")

    def __init__(self, gone: Callable[[V], object] | None = None) -> None:
        entries: dict[int, _Watched[K, V] | _Kept[K, V]] = {}

        def forget(entry: _Watched[K, V]) -> None:
            if entries.get(entry.where) is entry:
                del entries[entry.where]
            if gone is not None:
                gone(entry.value)

        self._entries = entries
        self._forget = forget
        """The callback of every entry: one for all, for a function of its own takes more than the entry."""

    def get(self, key: K) -> V | None:
        entry = self._entries.get(id(key))
        return entry.value if entry is not None and entry() is key else None

    def setdefault(self, key: K, value: V) -> V:
        """The value of `key`; `value` if it had none. The first of two racing threads wins for both."""
        mine: _Watched[K, V] | _Kept[K, V]
        try:
            mine = _Watched(key, self._forget)
        except TypeError:
            mine = _Kept(key)
        mine.value = value
        mine.where = where = id(key)
        kept = self._entries.setdefault(where, mine)
        if kept is not mine and kept() is not key:  # pragma: no cover - the old object's callback has not run yet
            self._entries[where] = kept = mine
        return kept.value

    def pop(self, key: K) -> None:
        entry = self._entries.get(id(key))
        if entry is not None and entry() is key:
            self._entries.pop(id(key), None)

    def values(self) -> Iterator[V]:
        return iter([entry.value for entry in list(self._entries.values())])

    def __len__(self) -> int:
        return len(self._entries)
