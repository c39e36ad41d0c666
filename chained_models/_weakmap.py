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
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class WeakIdMap(Generic[K, V]):
    """A mapping from live objects, by identity, to values; an entry goes when its object does.

    A value must not refer to its own key, or the key would live for ever. Single operations are atomic under the GIL.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Callable[[], K | None], V]] = {}

    def get(self, key: K) -> V | None:
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def setdefault(self, key: K, value: V) -> V:
        """The value of `key`; `value` if it had none. The first of two racing threads wins for both."""
        where, entries = id(key), self._entries

        def forget(gone: weakref.ref[K]) -> None:
            entry = entries.get(where)
            if entry is not None and entry[0] is gone:
                del entries[where]

        watch: Callable[[], K | None]
        try:
            watch = weakref.ref(key, forget)
        except TypeError:  # a slots class without __weakref__: it is kept for ever, which is better than refusing it
            watch = partial(_same, key)
        mine = (watch, value)
        kept = entries.setdefault(where, mine)
        if kept is not mine and kept[0]() is not key:  # pragma: no cover - the old object's callback has not run yet
            entries[where] = kept = mine
        return kept[1]

    def pop(self, key: K) -> None:
        entry = self._entries.get(id(key))
        if entry is not None and entry[0]() is key:
            self._entries.pop(id(key), None)

    def values(self) -> Iterator[V]:
        return iter([value for _, value in list(self._entries.values())])

    def __len__(self) -> int:
        return len(self._entries)


def _same(key: K) -> K:
    return key
