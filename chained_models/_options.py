"""Options of single chains, kept by ordering key: also while the chain is empty, and as long as its key lives. Pure."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["Options"]


class Options:
    """What chains have otherwise than the classes of their saves, by name.

    A Record is held weakly: what was said of its chain goes when the last object of it does, and nothing of it is queued.
    A key of the user's own (a number, a name) can be used again at any time, so what was said of it stays.
    """

    __slots__ = ("_of_keys", "_of_records", "any")

    def __init__(self) -> None:
        self._of_records: weakref.WeakKeyDictionary[Any, Mapping[str, Any]] = weakref.WeakKeyDictionary()
        self._of_keys: dict[Hashable, Mapping[str, Any]] = {}
        self.any = False
        """Whether any chain ever had some: asked before every attempt, and most programs never set any."""

    def of(self, key: Hashable) -> Mapping[str, Any]:
        """The options of that chain; never changed in place."""
        if not self.any:
            return _NONE
        found = self._of_keys.get(key)
        if found is None and _can_be_held_weakly(key):
            found = self._of_records.get(key)
        return _NONE if found is None else found

    def set(self, key: Hashable, options: Mapping[str, Any]) -> None:
        """Replace the options of that chain."""
        self.any = True
        if _can_be_held_weakly(key):
            self._of_records[key] = options
        else:
            self._of_keys[key] = options

    def join(self, key: Hashable, other: Hashable) -> None:
        """The chain of `key` has become that of `other`; what was said of that one goes first."""
        mine = self.of(key)
        if mine and key is not other:
            self.set(other, {**mine, **self.of(other)})

    def __len__(self) -> int:
        return len(self._of_keys) + len(self._of_records)


_NONE: Mapping[str, Any] = MappingProxyType({})


def _can_be_held_weakly(key: Hashable) -> bool:
    return type(key).__weakrefoffset__ != 0
