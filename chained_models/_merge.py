"""Merging: what an answer changes in the model, in the base, and in the snapshots that still wait.

For each attribute the answer is *about* a value: the one that was sent, or, if the attribute was not sent, the one the
object last knew to be stored. Where the live value is still that one, the answer's value is taken; where it is not, the
user has changed it meanwhile, and the live value stays. The base moves in both cases.
"""

from __future__ import annotations

import threading
import weakref
from _thread import RLock
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from ._snapshot import MISSING, Snapshot, differing, same, without
from .protocols import Adapter, Origin

__all__ = ["Facts", "Merged", "assign_answer", "became"]


MOST_UNSURE = 8
"""So many of the latest abandoned saves are known again in what is stored; an older one is taken for somebody else's."""


class _Unusual:
    """Of what one object knows, that which most objects never know: made when there is some."""

    __slots__ = ("behind", "deferred", "failed", "given", "in_doubt", "outdated", "receivers", "unsure")

    def __init__(self) -> None:
        self.behind = False
        self.deferred: list[tuple[weakref.ref[Any], Callable[[Any], object]]] = []
        self.failed: Snapshot = {}
        self.given: Snapshot = {}
        self.in_doubt: frozenset[str] = _NO_NAMES
        self.outdated: Mapping[str, tuple[Any, Any]] = {}
        self.receivers: Any = None
        self.unsure: tuple[tuple[Snapshot, Snapshot], ...] = ()


def _unusual(name: str, usual: Any) -> Any:
    """An attribute of Facts that most have as `usual`; to set it to that makes nothing."""
    of = attrgetter(name)

    def get(facts: Facts) -> Any:
        unusual = facts.unusual
        return usual if unusual is None else of(unusual)

    def put(facts: Facts, value: Any) -> None:
        if facts.unusual is None and (value is None or value == usual):
            return
        with facts:  # receivers may be connected by any thread
            if facts.unusual is None:
                facts.unusual = _Unusual()
        setattr(facts.unusual, name, value)

    return property(get, put)


_NO_NAMES: frozenset[str] = frozenset()
_NO_VALUES: Snapshot = MappingProxyType({})


class Facts(RLock):  # type: ignore[misc] # it is not final where it is made
    """What one object knows of one backend. Kept beside the object, never in it, and as small as can be: there may be a million.

    It is a latch, and held (``with facts:``) while a snapshot is taken and while an answer is merged, so that neither sees half
    of the other. It belongs to one object and is never held while waiting; the dispatcher's lock is only taken inside it. A lock
    of its own beside it would take half as much again; one that several objects share could make two threads wait for each
    other, for it is held while code of the user's runs.

    Attributes:
        record: The thing that the object stands for.
        base: What the object last knew to be stored, name to plain value; a name that is not in it is unknown. None: no
            base at all.
        version: The version that came with the base.
        in_doubt: Names that an abandoned save carried: what is stored of them is not known, whatever the model's own
            library believes.
        unsure: What each abandoned versioned save wanted to change, and all that would be stored by it, while it is not known
            which version is stored: the one that is known, or the one that such a save has made.
        failed: The values that the latest failed saves carried and that are not stored, by name.
        outdated: What the model's own library takes for stored although we know better, by name: that, and what is stored.
        behind: Whether the model's own library was not told of what is stored, because more saves of the object were on their way.
        last: The latest save of the object whose answer may still move values of the next one.
        given: What answers have made since of the object's values that were still those of that save's snapshot.
        unsettled: How many of its saves have not settled.
        thread: The thread that last used one of the object's verbs.
        deferred: Assignments that were left for that thread.
        receivers: Receivers of the object's events, or None.
        unusual: Where `behind`, `in_doubt`, `unsure`, `failed`, `outdated`, `given`, `deferred` and `receivers` are; None as long as there
            was nothing of the kind. Whoever is in a hurry asks this first.
    """

    __slots__ = ("base", "last", "record", "thread", "unsettled", "unusual", "version")

    behind: bool = _unusual("behind", False)
    deferred: list[tuple[weakref.ref[Any], Callable[[Any], object]]] = _unusual("deferred", [])
    failed: Snapshot = _unusual("failed", _NO_VALUES)
    given: Snapshot = _unusual("given", _NO_VALUES)
    in_doubt: frozenset[str] = _unusual("in_doubt", _NO_NAMES)
    outdated: Mapping[str, tuple[Any, Any]] = _unusual("outdated", MappingProxyType({}))
    receivers: Any = _unusual("receivers", None)
    unsure: tuple[tuple[Snapshot, Snapshot], ...] = _unusual("unsure", ())

    def __init__(self, record: Any) -> None:
        self.record = record
        self.base: Snapshot | None = None
        self.version: Any = None
        self.last: Any = None
        self.unsettled = 0
        self.thread = 0
        self.unusual: _Unusual | None = None

    def adopt(self, origin: Origin, *, attached: bool) -> None:
        """Believe the model's own library, as long as nothing of ours is under way.

        What it cannot tell (values that may have been changed in place) stays what we last knew ourselves; but not of an
        object in a Session, which may have loaded it anew since, and then nobody knows.
        """
        base = {**({} if attached else self.base or {}), **(origin.base or {})}
        base.update((name, now) for name, (was, now) in self.outdated.items() if same(base.get(name, MISSING), was))
        self.base = without(base, self.in_doubt) if self.in_doubt else base
        self.version = None if self.unsure else origin.version

    def confirm(self, sent: Snapshot, answered: Snapshot, version: Any) -> None:
        """A write was confirmed: the base is what it was, then what was sent, then what was answered."""
        base = self.base
        if not answered and (base is None or base.keys() <= sent.keys()):
            self.base = sent
        else:
            self.base = {**(base or {}), **sent, **answered}
        self.version = version
        unusual = self.unusual
        if unusual is not None:
            unusual.unsure = ()
            if unusual.in_doubt:
                unusual.in_doubt = unusual.in_doubt - sent.keys() - answered.keys()
            if unusual.failed:
                unusual.failed = without(unusual.failed, sent)

    def declare(self, base: Snapshot | None, version: Any) -> None:
        """The user, or a delete, says what is stored: nothing is in doubt any more."""
        self.base, self.version = base, version
        self.in_doubt, self.unsure = _NO_NAMES, ()
        self.failed = {}

    def outdo(self, outdated: Mapping[str, tuple[Any, Any]], stored: Snapshot) -> None:
        """The model's own library was not told of all that is stored: of an edited attribute it keeps what it loaded."""
        if outdated or self.outdated:
            left = {name: pair for name, pair in self.outdated.items() if name not in stored}
            self.outdated = {**left, **outdated}

    def give(self, moved: Iterable[tuple[str, Any, Any]]) -> None:
        """An answer has moved values of the object: the next snapshot will have them, unlike that of the save before it."""
        if self.last is not None:
            known = {**self.last.snapshot, **self.given}
            given = {name: now for name, was, now in moved if same(was, known.get(name, MISSING))}
            if given:
                self.given = {**self.given, **given}

    def refuse(self, values: Snapshot) -> None:
        """A save that carried these values has failed, or was abandoned: see `failed`."""
        self.failed = {**self.failed, **{name: values[name] for name in differing(values, self.base)}}

    def forget(self, carried: Snapshot, wanted: Snapshot | None) -> None:
        """It is not known whether a write was applied: what it carried counts as changed from now on.

        The version stays: without one the next write would overwrite whatever somebody else has stored meanwhile.

        Args:
            carried: What it carried.
            wanted: What it wanted to change, if it was versioned.
        """
        if wanted is not None:
            self.unsure = (*self.unsure, (wanted, {**(self.base or {}), **carried}))[-MOST_UNSURE:]
        self.in_doubt = self.in_doubt.union(carried)
        if self.base is not None:
            self.base = without(self.base, carried)

    def defer(self, model: weakref.ref[Any], assign: Callable[[Any], object]) -> None:
        """Leave an assignment for the thread that works with the object."""
        with self:
            self.deferred = [*self.deferred, (model, assign)]
        _left.setdefault(self.thread, weakref.WeakSet()).add(self)

    def catch_up(self) -> None:
        """Make the assignments that were left for this thread."""
        if not self.deferred or threading.get_ident() != self.thread:
            return
        with self:
            _left.get(self.thread, set()).discard(self)
            waiting, self.deferred = self.deferred, []
            for model, assign in waiting:
                live = model()
                if live is not None:
                    assign(live)


_left: dict[int, weakref.WeakSet[Facts]] = {}
"""For each thread, the objects with assignments that were left for it."""


def catch_up_here() -> None:
    """Make all assignments that were left for this thread."""
    for facts in list(_left.pop(threading.get_ident(), ())):
        facts.catch_up()


@dataclass(slots=True)
class Merged:
    """What an answer did to an object."""

    taken: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    moved: tuple[tuple[str, Any, Any], ...] = ()
    """Of what was taken: the name, the value until then, and the plain value since."""


def assign_answer(
    adapter: Adapter,
    model: Any,
    about: Snapshot,
    answer: Mapping[str, Any],
    plain: Snapshot | None = None,
    *,
    discard: bool = False,
) -> Merged:
    """Give `model` the answer's values, where the user has not changed what they are about.

    Args:
        adapter: Knows the model.
        model: The live object.
        about: The plain value that the answer is about, for each name.
        answer: Typed values.
        plain: The same as plain values, if they are known already.
        discard: Take all, whatever the user has changed.
    """
    merged = Merged()
    for name, value in answer.items():
        live = adapter.peek(model, name)
        now = adapter.plain(type(model), name, value) if plain is None else plain[name]
        if live is now or same(live, now):
            continue  # Assigning an equal value would mark it as changed, and cut what else refers to it.
        untouched = same(live, about.get(name, MISSING))
        taken = discard or untouched
        if taken:
            try:
                adapter.assign(model, name, value)
            except Exception:  # noqa: BLE001 - frozen, or a validator that refuses: the user's value stays
                taken = False
        if taken:
            merged.taken += (name,)
            if untouched:  # else it undoes an edit, which saves in front carry, and so is one itself
                merged.moved += ((name, live, now),)
        else:
            merged.kept += (name,)
    return merged


def became(values: Snapshot, about: Snapshot, answered: Snapshot) -> Snapshot:
    """What the values of a snapshot are after the answer: only those move which the answer is about.

    What was never set is not in the snapshot, and moves like any other value: from nothing to what was answered.
    """
    moved = {
        name: value
        for name, value in answered.items()
        if (was := values.get(name, MISSING)) is not value
        and same(was, about.get(name, MISSING))
        and not same(was, value)
    }
    return {**values, **moved} if moved else values
