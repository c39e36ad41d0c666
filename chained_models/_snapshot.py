"""Snapshots: comparing them, carrying answers into waiting ones, and merging an answer into a model.

A snapshot is a plain dict, attribute name to plain value. Nobody changes one after it was taken; every function here
returns a new dict, or the same one if there was nothing to change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["MISSING", "Missing", "Snapshot", "Theirs", "carried", "differing", "rebased", "same"]

Snapshot = Mapping[str, Any]


class Missing(Enum):
    """The absence of a value, where None is a value."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING

_NO_NAMES: frozenset[str] = frozenset()


def same(one: Any, other: Any) -> bool:
    """Identical, or of the same type and equal. A comparison that raises, or cannot say, means different.

    The type counts because ``1 == True == 1.0``, yet a backend may store three different things.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - what cannot be compared is different
        return False


def differing(values: Snapshot, base: Snapshot | None) -> frozenset[str]:
    """Names whose value is not what `base` says; all of them where there is no base."""
    if base is None:
        return frozenset(values)
    known = base.get
    # Most values have not changed, and are still the same object: asked first, it saves a call for each.
    names = [
        name for name, value in values.items() if value is not (was := known(name, MISSING)) and not same(value, was)
    ]
    return frozenset(names) if names else _NO_NAMES


def carried(snapshot: Snapshot, before: Snapshot, became: Snapshot) -> Snapshot:
    """`snapshot`, with what the backend itself gave to the save in front of it.

    Where the user changed nothing between two snapshots of one object (`before` and `snapshot` hold the same value),
    whatever the answer to the first made of that value holds for the second: an id, a version, a computed total. Also where
    neither holds one, because the attribute was never set: else a third snapshot, which has the value of an answer that came
    before it was taken, would not learn of the answers between.

    Args:
        snapshot: The waiting snapshot.
        before: The snapshot of the same object that was taken just before it.
        became: What the values of `before` became, once their save was over; `before` itself if nothing moved.
    """
    if became is before:
        return snapshot
    moved = {
        name: value
        for name, value in became.items()
        if not same(value, was := before.get(name, MISSING)) and same(snapshot.get(name, MISSING), was)
    }
    return {**snapshot, **moved} if moved else snapshot


@dataclass(slots=True, frozen=True)
class Theirs:
    """What was found stored after a conflict.

    Attributes:
        values: Plain values by name.
        version: Their version.
        taken: The typed values that the object shall have, where the user has not touched it since.
    """

    values: Snapshot
    version: Any
    taken: Mapping[str, Any]


def rebased(ours: Snapshot, changed: Iterable[str], base: Snapshot | None, theirs: Snapshot) -> Snapshot | None:
    """Merge three ways: `theirs`, with our changes on top of it; None if both have changed a value, and differ.

    Args:
        ours: The snapshot that met the conflict.
        changed: Names of what it was to write.
        base: What was known to be stored when it was taken.
        theirs: What is stored now. A name that is not in it is taken as unchanged.
    """
    known = base or {}
    mine = {name for name in changed if not same(ours[name], known.get(name, MISSING))}
    for name in mine & theirs.keys():
        if not same(theirs[name], known.get(name, MISSING)) and not same(theirs[name], ours[name]):
            return None
    return {**ours, **{name: value for name, value in theirs.items() if name not in mine}}


def without(values: Snapshot, names: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` in which `names` are unknown."""
    dropped = set(names)
    return {name: value for name, value in values.items() if name not in dropped}
