"""Facts: what a history is made of. Plain frozen records; nothing in them refers to a live object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..operation import Guarantee, Method
from ..policies import Outcome

__all__ = ["Attempt", "Ending", "History", "Hold", "Known", "Save", "Values", "fingerprint", "fingerprints"]

Values: TypeAlias = Mapping[str, int]
"""Attribute to fingerprint of its value."""


def fingerprint(value: Any) -> int:
    """A number that is the same for values that are the same, within this process."""
    try:
        return hash((type(value), value))
    except Exception:  # noqa: BLE001 - lists and dicts, and whatever else cannot be hashed
        return hash(repr(value))


def fingerprints(values: Mapping[str, Any]) -> Values:
    """The fingerprint of each value."""
    return {name: fingerprint(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One save that was accepted.

    Attributes:
        id: Its id.
        number: Its place among all saves of its dispatcher.
        chain: Number of the chain that it stands in.
        record: Number of the thing that it is about.
        object: Number of the object that was saved.
        verb: "save", "patch", "delete" or "refresh".
        key: Its idempotency key.
        values: Its snapshot at the call; None for what was made after a conflict.
        named: The attributes that it was to send, if they were named.
        tick: When it was called for.
        after: Ids of saves that must be saved first.
        instead_of: Id of the one that it goes on for, after a conflict or by hand.
        by_hand: Whether `retry()` has made it.
        passes: Whether it may go in front of what a halt stops: a refresh.
        forced: Whether it is a forced insert.
        unfenced: Whether it is to overwrite whatever is there.
        moved: Whether it was moved to its chain from another one, or is about what turned out to be something else.
        replaced: Whether a newer save has taken its place.
        filled: Names of attributes that other saves give.
        visible: Whether it can still be seen in its chain.
        outcome: How it has ended, by now.
        ended_as: Id of the save that has taken its place in the end, and as which it ends.
    """

    id: str
    number: int
    chain: int = 0
    record: int = 0
    object: int = 0
    verb: str = "save"
    key: str = ""
    values: Values | None = None
    named: frozenset[str] | None = None
    tick: int = 0
    after: tuple[str, ...] = ()
    instead_of: str | None = None
    by_hand: bool = False
    passes: bool = False
    forced: bool = False
    unfenced: bool = False
    moved: bool = False
    replaced: bool = False
    filled: frozenset[str] = frozenset()
    visible: bool = False
    outcome: Outcome | None = None
    ended_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, as the backend has seen it.

    Attributes:
        save: Id of the save that it was made for.
        operation: Id that the operation goes by; a retry by hand sends the one of the save that failed.
        key: The idempotency key that was sent.
        number: 1 for the first attempt of its save.
        method: What was asked for.
        values: The values that were sent, of those that would be written.
        payload: Fingerprint of all that was sent.
        version: Fingerprint of the version that was sent; None for none.
        question: Whether it only asks what is stored, after a conflict.
        began: When it came, as a tick.
        applied: When it took effect; more than once if it was delivered more than once.
        ended: When the client got an answer or an error; None while it has not.
        error: Name of the class of that error; None for an answer.
        doubtful: Whether that error leaves it open if it was applied.
        answered: The values that were answered.
        answered_version: Fingerprint of the version that was answered.
    """

    save: str
    operation: str
    key: str
    number: int = 1
    method: Method = Method.UPDATE
    values: Values
    payload: int = 0
    version: int | None = None
    question: bool = False
    began: int
    applied: tuple[int, ...] = ()
    ended: int | None = None
    error: str | None = None
    doubtful: bool = False
    answered: Values
    answered_version: int | None = None

    def __str__(self) -> str:
        asked = "asked what is stored" if self.question else self.method.value
        how = "not ended" if self.ended is None else f"{self.error or 'answered'} at {self.ended}"
        applied = f", applied at {', '.join(map(str, self.applied))}" if self.applied else ""
        return f"attempt {self.number} ({asked}, from {self.began}{applied}, {how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A save was settled.

    Attributes:
        save: Its id.
        tick: When.
        decided: When that was decided; its receivers are told in between, and callbacks called.
        outcome: As what.
        error: Name of the class of its error.
    """

    save: str
    tick: int
    decided: int | None = None
    outcome: Outcome | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A chain was held back.

    Attributes:
        chain: Its number; None for all.
        why: "paused" or "halted".
        since: From when on, as a tick.
        until: When it was let go; None if it was not.
        running: Id of the save of which an attempt was in flight then, and the number of that attempt.
    """

    chain: int | None
    why: str
    since: int
    until: int | None = None
    running: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What one object knew to be stored in the end, and what was.

    Attributes:
        object: Its number.
        record: Number of the thing that it stands for.
        base: What it knew.
        stored: What was there.
    """

    object: int
    record: int
    base: Values
    stored: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that has happened.

    Attributes:
        guarantee: What the backend offered.
        remembers: Whether it has remembered all idempotency keys, if it remembers any.
        finished: Whether nothing more will happen: all faults have stopped, and time has passed.
        saves: In the order of their places.
        attempts: In the order in which they came.
        endings: In the order in which saves were settled.
        holds: What was paused and halted.
        known: Of each object, what it knew.
        left: What was left when nothing more was to happen: timers, slots, chains.
    """

    guarantee: Guarantee = Guarantee.PLAIN
    remembers: bool = True
    finished: bool = False
    saves: tuple[Save, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    endings: tuple[Ending, ...] = ()
    holds: tuple[Hold, ...] = ()
    known: tuple[Known, ...] = ()
    left: tuple[str, ...] = ()
