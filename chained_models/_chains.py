"""Chains, what the machine sees of the saves in them, and the effects that it asks for. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ._lane import LaneState, Renew, Signal
from ._pace import Pace, Rest, Unrest
from ._states import SaveState
from .policies import RetryPolicy

__all__ = ["Chain", "Effect", "Idle", "Save", "Settled", "Start", "Together", "Wake", "time_left"]


class Save(Protocol):
    """What the machine sees of a save; the handle that the user holds is one. The machine fills all but the first three."""

    policy: RetryPolicy
    timeout: float
    """Seconds one attempt has."""
    passes_halt: bool
    """Whether it may be sent although its chain is halted (a refresh)."""
    waits: int
    """How many saves of other chains it still waits for."""
    seq: int
    place: int
    """Its key in the chain: its number, or that of the save whose place it took."""
    state: SaveState
    chain: Chain | None
    token: int
    """The current attempt; 0 before the first. Whatever carries another token is stale."""
    attempts: int
    started: float
    """When the current attempt started."""
    spent: float
    """Seconds used up by earlier attempts and waits."""
    own: Collection[str]
    """Names of options that were given for it alone: those of its chain do not replace them."""
    wakes: float
    """When the wait for the next attempt is over."""
    due: bool
    """Whether the wait for the next attempt is over."""
    doubted: bool
    """Whether it may have been applied by an attempt that is over."""
    fronted: bool
    """Whether it was put in front of others."""
    pace: Pace | None
    """How its chain goes, if it is a call."""
    riders: Sequence[Any]
    """Those that are carried out with it, right behind it in line."""
    open: bool
    """Whether the work of its attempt has returned, and somebody else will say how it ended."""

    @property
    def company(self) -> object | None:
        """What it has in common with saves of other chains that may be sent in one call with it; None if it goes alone."""


def time_left(save: Save) -> float:
    """Seconds that are left for the attempts of `save`; never less in all than one attempt may take."""
    return max(save.policy.timeout, save.timeout) - save.spent


# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_QUEUED = SaveState.QUEUED
_MAY_START_AGAIN = SaveState.BACKING_OFF, SaveState.IN_DOUBT


class Chain:
    """The serial queue of one ordering key. A chain only orders; it knows nothing of identities."""

    __slots__ = ("active", "finishing", "halted", "key", "lane", "pace", "paused", "saves", "telling")

    def __init__(self, key: Hashable, lane: LaneState[Chain]) -> None:
        self.key = key
        self.lane = lane
        self.saves: OrderedDict[int, Save] = OrderedDict()
        """Every unsettled save by its place, in order, the active one first."""
        self.active: Save | None = None
        """The one that was started and has not settled: never more than one."""
        self.finishing: Save | None = None
        """The one that has settled and whose receivers still run: it keeps the next one back."""
        self.telling = 0
        """Of how many the receivers still run: of that one and its riders, which may be told in different threads."""
        self.paused = False
        self.halted: Save | None = None
        """The failed save that stopped the chain."""
        self.pace: Pace | None = None
        """How calls follow each other; None for saves."""

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self.saves and not self.paused and self.halted is None and self.finishing is None

    @property
    def held(self) -> bool:
        """Whether there is something to send, and it cannot go on by itself: no attempt runs, and no time is waited for."""
        head = self.active or self.head
        if head is None or self.finishing is not None or self.lane.holds(head):
            return False
        waiting = (head.state is SaveState.QUEUED or head.due) and not (self.pace is not None and self.pace.resting)
        return waiting and self.startable() is None

    @property
    def head(self) -> Save | None:
        return next(iter(self.saves.values()), None)

    def startable(self) -> Save | None:
        """The save that could be sent now, were there room in the lane."""
        if self.paused or self.finishing is not None or (self.pace is not None and self.pace.resting):
            return None
        head = self.active
        if head is None:
            head = self.head
        if head is None or head.waits or (self.halted is not None and not head.passes_halt):
            return None
        if head.state is _QUEUED or (head.due and head.state in _MAY_START_AGAIN):
            return head
        return None


# Effects are values, and nobody changes one; but a frozen dataclass takes twice as long to make.


@dataclass(slots=True)
class Start:
    """Begin an attempt."""

    save: Any
    token: int


@dataclass(slots=True)
class Together:
    """Begin these attempts at once, as one call of a backend that can carry out several operations."""

    starts: list[Start]


@dataclass(slots=True)
class Wake:
    """Call :meth:`Machine.woke` with these, `delay` seconds from now."""

    save: Any
    token: int
    delay: float


@dataclass(slots=True)
class Settled:
    """The save has its outcome. If `release` is set, call :meth:`Machine.released` when its receivers have run."""

    save: Any
    release: bool


@dataclass(slots=True)
class Idle:
    """Nothing is queued and nothing is in flight in this chain any more."""

    chain: Chain


Effect: TypeAlias = Start | Together | Wake | Settled | Idle | Signal | Renew | Rest | Unrest
