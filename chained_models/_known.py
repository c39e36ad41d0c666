"""Records by type and identity, so that all objects of one identity have one record. None is kept alive by being known.

A weak reference to each record would do, and takes as much as the record. But a record stays as long as its objects do, and
those are watched already. So an entry is the Facts of one object, which refer to the record; when that object goes, a weak
reference to the record takes their place, for the record may have other objects, or a chain that is paused. A look-up finds
what it would have found with a weak reference from the beginning.

A record that is known never becomes another one: only those without an identity do.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

from ._merge import Facts
from ._record import Record

__all__ = ["Known"]


class _Reference(weakref.ref[Record]):
    """Stands for a record when the object is gone whose Facts had stood for it."""

    __slots__ = ("among", "identity")

    among: dict[Any, Any]
    identity: Any


class Known:
    """The records of one backend that have an identity. All but :meth:`gone` is called with the dispatcher's lock held."""

    __slots__ = ("_busy", "_gone", "_of")

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[type, dict[Any, Facts | _Reference]] = weakref.WeakKeyDictionary()
        # An end comes at any time, in any thread, whatever that one is at: it is noted, and seen to as soon as nobody else
        # changes entries. Nobody waits for that, so that it cannot come to a deadlock.
        self._gone: deque[Facts | _Reference] = deque()
        self._busy = threading.RLock()

    def get(self, model_type: type, identity: Any) -> Record | None:
        """The record of that identity, if there is one."""
        among = self._of.get(model_type)
        found = None if among is None else among.get(identity)
        if found is None or isinstance(found, _Reference):
            return None if found is None else found()
        record: Record = found.record
        return record

    def put(self, model_type: type, record: Record, facts: Facts) -> None:
        """Have the record found by its identity, of which there is no other.

        Args:
            model_type: The type that it is looked up by.
            record: The record.
            facts: Those of an object that is alive. If the object stands for the record, they are the entry.
        """
        among = self._of.get(model_type)
        if among is None:
            among = self._of[model_type] = {}
        with self._busy:
            record.among = among
            if facts.record is record:
                among[record.identity] = facts
            else:
                self._refer(record, among)
        self._see_to()

    def forget(self, model_type: type, record: Record) -> None:
        """An object of that identity is a new thing from now on."""
        if self.get(model_type, record.identity) is record:
            with self._busy:
                among, record.among = record.among, None
                assert among is not None
                among.pop(record.identity, None)
            self._see_to()

    def leave(self, facts: Facts) -> None:
        """The object of these Facts is about to stand for another record."""
        with self._busy:
            self._end(facts)
        self._see_to()

    def gone(self, one: Facts | _Reference) -> None:
        """The object of these Facts is gone, or the record of this reference."""
        self._gone.append(one)
        self._see_to()

    def _see_to(self) -> None:
        while self._gone and self._busy.acquire(blocking=False):
            try:
                while self._gone:
                    self._end(self._gone.popleft())
            finally:
                self._busy.release()

    def _end(self, one: Facts | _Reference) -> None:
        if isinstance(one, _Reference):
            if one.among.get(one.identity) is one:
                del one.among[one.identity]
            return
        record: Record = one.record
        if record.among is not None and record.among.get(record.identity) is one:
            self._refer(record, record.among)

    def _refer(self, record: Record, among: dict[Any, Any]) -> None:
        reference = _Reference(record, self.gone)
        reference.among, reference.identity = among, record.identity
        among[record.identity] = reference

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))
