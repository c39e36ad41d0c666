"""Coalescing: a newer save of an object in the place of one that waits. Pure.

Only neighbours in a chain, only of the same object, and never one that was attempted: whoever saves ten times while the
first save is on its way then sends twice. What the waiting one would have carried, the newer one carries.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from ._record import Verb
from ._snapshot import MISSING, same
from ._states import SaveState

__all__ = ["absorb", "replaceable"]

_WRITES = (Verb.SAVE, Verb.PATCH)
_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})


def replaceable(older: Any, newer: Any) -> bool:
    """Whether `newer` may take the place of `older`, which stands right before it.

    A delete takes the place of any write of the same thing; a write only of one of the same object, for what another object
    carries is not in this one's snapshot. A forced insert stays what it is. A save that waits for others takes nobody's
    place: one of those might be waiting for the one it replaces. One that is sent again, by hand or after a conflict, may have
    been applied before.
    """
    if older.state is not SaveState.QUEUED or older.verb not in _WRITES or older.force_insert:
        return False
    if older.operation is not None or older.rounds or older.doubted:
        return False  # it goes on for one that was attempted: after a conflict, or sent again by hand
    if newer.verb is Verb.DELETE:
        return older.record.current() is newer.record.current() and not newer.after
    return newer.verb in _WRITES and older.facts is newer.facts and not newer.force_insert and not newer.after


def absorb(older: Any, newer: Any) -> None:
    """Let `newer` carry what `older` would have carried, and build on what that one would have built on.

    `older` keeps nothing: ten thousand saves in a row are ten thousand handles at most, and one snapshot.
    """
    if newer.before is older:
        newer.given = _given(older, newer)
        newer.before, older.before = older.before, None
    values, older.snapshot = older.snapshot, _NOTHING
    if newer.verb is Verb.DELETE:
        return
    newer.after, newer.waits, newer.slots = older.after, older.waits, older.slots
    newer.orphaned = older.orphaned
    newer.moves = (*older.moves, *newer.moves)
    named = [fields for fields in (older.update_fields, newer.update_fields) if fields is not None]
    if newer.update_fields is not None:
        newer.snapshot = {**values, **{name: newer.snapshot[name] for name in newer.update_fields}}
        left = {name: value for name, value in older.unseen.items() if name not in newer.update_fields}
        newer.unseen = {**left, **newer.unseen}
    newer.always = older.always.union(newer.always, *named)
    whole = Verb.SAVE in (older.verb, newer.verb)
    newer.update_fields = newer.always if len(named) == 2 and not whole else None
    newer.verb = Verb.SAVE if whole else Verb.PATCH


def _given(older: Any, newer: Any) -> dict[str, Any]:
    """What answers have made of the values that `newer` has, since the snapshot in front of both.

    Of what `older` had edited, nothing: what answers made of the edit is, seen from there, an edit itself.
    """
    if older.before is None:
        return {}
    known = {**older.before.snapshot, **older.given}
    named_only = newer.verb is not Verb.DELETE and newer.update_fields is not None
    given = {
        name: value
        for name, value in newer.given.items()
        if (not named_only or name in newer.update_fields)
        and same(older.snapshot.get(name, MISSING), known.get(name, MISSING))
    }
    return {**older.given, **given}
