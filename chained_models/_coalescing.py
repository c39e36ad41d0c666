"""Coalescing: a newer save of an object in the place of one that waits. Pure.

Only neighbours in a chain, only of the same object, and never one that was attempted: whoever saves ten times while the
first save is on its way then sends twice. What the waiting one would have carried, the newer one carries.
"""

from __future__ import annotations

from typing import Any

from ._record import Verb
from ._states import SaveState

__all__ = ["absorb", "replaceable"]

_WRITES = (Verb.SAVE, Verb.PATCH)


def replaceable(older: Any, newer: Any) -> bool:
    """Whether `newer` may take the place of `older`, which stands right before it.

    A delete takes the place of any write of the same thing; a write only of one of the same object, for what another object
    carries is not in this one's snapshot. A forced insert stays what it is. A save that waits for others takes nobody's
    place: one of those might be waiting for the one it replaces.
    """
    if older.state is not SaveState.QUEUED or older.verb not in _WRITES or older.force_insert:
        return False
    if newer.verb is Verb.DELETE:
        return older.record.current() is newer.record.current() and not newer.after
    return newer.verb in _WRITES and older.facts is newer.facts and not newer.force_insert and not newer.after


def absorb(older: Any, newer: Any) -> None:
    """Let `newer` carry what `older` would have carried, and build on what that one would have built on."""
    if newer.before is older:
        newer.before, older.before = older.before, None
    if newer.verb is Verb.DELETE:
        return
    newer.after, newer.waits, newer.slots = older.after, older.waits, older.slots
    newer.orphaned = older.orphaned
    newer.moves = (*older.moves, *newer.moves)
    named = [fields for fields in (older.update_fields, newer.update_fields) if fields is not None]
    if newer.update_fields is not None:
        newer.snapshot = {**older.snapshot, **{name: newer.snapshot[name] for name in newer.update_fields}}
    newer.always = older.always.union(newer.always, *named)
    whole = Verb.SAVE in (older.verb, newer.verb)
    newer.update_fields = newer.always if len(named) == 2 and not whole else None
    newer.verb = Verb.SAVE if whole else Verb.PATCH
