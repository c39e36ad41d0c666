"""The Lane: how many attempts of one backend may be in flight at once, who is next, and what is done when they take long. Pure."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from .exceptions import InvalidOption

__all__ = ["Lane", "LaneState", "Renew", "Signal"]

C = TypeVar("C")

_LOOKED_AT = 4
"""So many times as many as fit into a batch are looked at: where ten thousand wait that do not fit, not at all of them, each time."""


class Lane:
    """What the chains of one backend share. Give one to a backend: ``RestBackend(url, lane=Lane(max_in_flight=4))``.

    An attempt that has been pending for `long_after` seconds is *long*. When `max_long` of those in flight are, the lane is
    *congested*: running attempts go on, new ones start one at a time. It has *recovered* when none of those in flight is
    long any more, not as soon as they are fewer than `max_long`, so that it does not flip to and fro. Quick requests of a
    lane that is not congested run side by side.

    The options are plain attributes, and may be changed at any time.

    Where the backend can carry out several operations in one call (`execute_many`), the chains that are ready when a slot
    comes free share it: while one transaction is under way, the next batch gathers by itself. A save that is alone is sent
    alone, and at once.

    Args:
        max_in_flight: How many attempts may be in flight at once: saves of different chains, or batches of them.
        max_batch: How many saves of different chains may share an attempt, if the backend can do that; 1 for never.
        long_after: Seconds after which an attempt is long; `math.inf` for never.
        max_long: With so many long attempts in flight the lane is congested; a number above `max_in_flight` means never.
        on_congested: Called with the :class:`~chained_models.SaveEvent` once each time the lane becomes congested, where
            the receivers of that save are called, and before them: to warn, or to redirect. What it raises is logged.

    Raises:
        InvalidOption: Nothing could ever be sent, or an option makes no sense.
    """

    def __init__(
        self,
        max_in_flight: int = 8,
        *,
        max_batch: int = 100,
        long_after: float = 3.0,
        max_long: int = 3,
        on_congested: Callable[[Any], object] | None = None,
    ) -> None:
        if not _is_number(max_in_flight, int) or max_in_flight < 1:
            raise InvalidOption(f"Lane(max_in_flight={max_in_flight!r}): at least 1, or nothing could ever be sent")
        if not _is_number(max_batch, int) or max_batch < 1:
            raise InvalidOption(f"Lane(max_batch={max_batch!r}): at least 1, which sends every save alone")
        if not _is_number(long_after, int, float) or not long_after > 0:
            raise InvalidOption(
                f"Lane(long_after={long_after!r}): seconds, above 0; math.inf if no attempt shall be long"
            )
        if not _is_number(max_long, int) or max_long < 1:
            raise InvalidOption(f"Lane(max_long={max_long!r}): at least 1; use long_after=math.inf to turn it off")
        if on_congested is not None and not callable(on_congested):
            raise InvalidOption("Lane(on_congested=...): a callable that takes the event, or None")
        self.max_in_flight = max_in_flight
        self.max_batch = max_batch
        self.long_after = long_after
        self.max_long = max_long
        self.on_congested = on_congested
        self._paused = False
        self._watchers: list[weakref.WeakMethod[Callable[[Lane], None]]] = []
        self._uses: list[weakref.ref[LaneState[Any]]] = []

    @property
    def paused(self) -> bool:
        """Whether nothing new is sent: by `pause()`, or because our credentials were refused and could not be renewed."""
        return self._paused

    @property
    def congested(self) -> bool:
        """Whether new attempts start one at a time, because too many take long; in any dispatcher that uses the lane."""
        uses = [use() for use in list(self._uses)]
        return any(use is not None and use.congested for use in uses)

    @property
    def why_waiting(self) -> str | None:
        """Why what is ready does not start, as one sentence for people; None if nothing of the kind."""
        reasons = [use.why for use in (use() for use in list(self._uses)) if use is not None and use.ready]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None and self._paused:
            reason = "paused until resume()"
        return None if reason is None else f"the lane is {reason}"

    def pause(self) -> None:
        """Send nothing new through this lane (offline, or before signing in again). What is in flight goes on."""
        self._paused = True

    def resume(self) -> None:
        """Go on. Does nothing if the lane is not paused."""
        if self._paused:
            self._paused = False
            for watcher in list(self._watchers):
                resumed = watcher()
                if resumed is None:
                    self._watchers.remove(watcher)
                else:
                    resumed(self)

    def watch(self, resumed: Callable[[Lane], None]) -> None:
        """For the dispatcher: call the method `resumed` whenever the lane goes on, as long as its object lives."""
        watcher = weakref.WeakMethod(resumed)
        if watcher not in self._watchers:
            self._watchers.append(watcher)

    def used_by(self, state: LaneState[Any]) -> None:
        """For the dispatcher: what it knows of the lane's attempts; held weakly."""
        self._uses = [use for use in self._uses if use() is not None]
        self._uses.append(weakref.ref(state))

    def __repr__(self) -> str:
        words = [word for word in ("paused", "congested") if getattr(self, word)]
        return f"<{' '.join([f'Lane max_in_flight={self.max_in_flight}', *words])}>"


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


@dataclass(slots=True)
class Signal:
    """Tell that the attempt of this save has become long, that its lane is congested by it, or has recovered by its end."""

    name: Literal["long_running", "congested", "recovered"]
    save: Any


@dataclass(slots=True)
class Renew:
    """Have the backend of this save renew its credentials, and say so with this token when it has, or could not."""

    save: Any
    token: int


class LaneState(Generic[C]):
    """One dispatcher's use of a lane: the chains that are ready, first come, first served, and the slots taken.

    A chain asks anew after each of its saves and so goes to the end of the line: one that always has work starves nobody.
    Slots are counted by token, so that an attempt can give back only its own, and only once. Attempts that were started
    together share a slot, until the last of them is over.

    An attempt that was given up while it still runs keeps its slot, but is *stranded*: up to `max_in_flight` stranded
    attempts are replaced, so that one hanging connection does not stop the lane; more than that would be a flood. It is no
    longer in flight, and so not long either: nobody waits for it.
    """

    __slots__ = (
        "__weakref__",
        "_alone",
        "_long",
        "_riding",
        "_shared",
        "_stranded",
        "congested",
        "lane",
        "look_at",
        "ready",
        "renewing",
        "signals",
        "slots",
        "unlook",
    )

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        lane.used_by(self)
        self.ready: OrderedDict[C, None] = OrderedDict()
        self.slots: dict[int, Any] = {}
        """Token of every attempt that is running, and its save."""
        self._shared: dict[int, set[int]] = {}
        """Token of every running attempt that was started with others, and those of them that run still."""
        self._riding = 0
        """How many slots more than attempts there are, because some share theirs."""
        self.look_at = math.inf
        """When somebody will look for attempts that are over their time."""
        self.unlook: Callable[[], object] = lambda: None
        """Says that nobody need look."""
        self._stranded: set[int] = set()
        self.congested = False
        """Whether new attempts start one at a time."""
        self._long: set[int] = set()
        """Tokens of attempts in flight that have been pending for long. Not empty while the lane is congested."""
        self._alone = 0
        """Token of the attempt in flight that was started since the lane is congested; there is never more than one."""
        self.signals: list[Signal] = []
        """What has come about and was not told yet."""
        self.renewing: dict[int, tuple[Any, float]] = {}
        """Token of every renewal of credentials that runs; the save that asked for it, and until when it has time."""

    @property
    def paused(self) -> bool:
        """Whether nothing new is sent until somebody says `resume()`."""
        return self.lane.paused

    @property
    def full(self) -> bool:
        """Whether as many attempts run as may."""
        most = self.lane.max_in_flight
        running = len(self.slots) - self._riding
        if running < most or not self._stranded:
            return running >= most
        return running - min(len(self._stranded) - self._riding_stranded(), most) >= most

    def _riding_stranded(self) -> int:
        """How many of those that were given up do not count, because they share a slot with another one."""
        flights = {id(one): one for one in map(self._shared.get, self._stranded) if one is not None}
        given_up = sum(len(one & self._stranded) for one in flights.values())
        return given_up - sum(one <= self._stranded for one in flights.values())

    def _flights(self, tokens: Collection[int]) -> int:
        """How many attempts these are, those that were started together being one."""
        if not self._shared:
            return len(tokens)
        return len({id(self._shared.get(token, token)) for token in tokens})

    @property
    def stranded(self) -> int:
        """How many attempts still run although they were given up."""
        return len(self._stranded)

    @property
    def open(self) -> bool:
        """Whether an attempt may start."""
        lane = self.lane
        if lane._paused or self._alone or self.renewing:
            return False
        return len(self.slots) < lane.max_in_flight or not self.full

    def request(self, chain: C) -> None:
        """`chain` has a save that could be sent. Asking again keeps its place in line."""
        self.ready.setdefault(chain, None)

    def withdraw(self, chain: C) -> None:
        """`chain` has none any more."""
        self.ready.pop(chain, None)

    def grant(self) -> C | None:
        """The chain that may send now; the caller takes a slot for it. None if there is none, or no room."""
        if not self.ready or not self.open:
            return None
        chain, _ = self.ready.popitem(last=False)
        return chain

    def beside(self, fits: Callable[[C], bool]) -> list[C]:
        """The chains that may send in one call with the one that was granted: they leave the line for it."""
        # At most those that are there: a lane may have no bound (`math.inf`), or one that no `islice` takes (`sys.maxsize`).
        room = min(self.lane.max_batch - 1, len(self.ready))
        if self.congested or room < 1:
            return []
        chosen = list(islice(filter(fits, islice(self.ready, _LOOKED_AT * (room + 1))), room))
        for chain in chosen:
            del self.ready[chain]
        return chosen

    def take(self, token: int, save: Any) -> None:
        """An attempt starts."""
        self.slots[token] = save
        if self.congested:
            self._alone = token

    def share(self, tokens: Iterable[int]) -> None:
        """These attempts, which have each taken a slot, started as one."""
        together = set(tokens)
        self._shared.update(dict.fromkeys(together, together))
        self._riding += len(together) - 1

    def give_back(self, token: int) -> None:
        """An attempt is over. Does nothing if it held no slot (any more)."""
        save = self.slots.pop(token, None)
        if self._shared and (together := self._shared.pop(token, None)) is not None:
            together.discard(token)
            if together:
                self._riding -= 1
        if self._stranded:
            self._stranded.discard(token)
        if self._long:
            self._no_more(token, save)

    def strand(self, token: int) -> None:
        """An attempt was given up and still runs."""
        if token in self.slots:
            self._stranded.add(token)
            self._no_more(token, self.slots[token])

    def look(self, now: float) -> float | None:
        """See which attempts in flight have become long; returns when the next one will, or None."""
        next_look: float | None = None
        for token, save in self.slots.items():
            if token in self._long or token in self._stranded:
                continue
            becomes = save.started + self.lane.long_after
            if now >= becomes:
                self._lengthen(token, save)
            elif next_look is None or becomes < next_look:
                next_look = becomes
        return next_look

    def _lengthen(self, token: int, save: Any) -> None:
        self._long.add(token)
        self.signals.append(Signal("long_running", save))
        # A batch is one attempt: a slow transaction of a hundred saves is no reason to slow down.
        if not self.congested and self._flights(self._long) >= self.lane.max_long:
            self.congested = True
            self.signals.append(Signal("congested", save))

    def _no_more(self, token: int, save: Any) -> None:
        """That attempt is no longer in flight."""
        self._long.discard(token)
        if self._alone == token:
            self._alone = 0
        if self.congested and not self._long:
            self.congested = False
            self._alone = 0
            self.signals.append(Signal("recovered", save))

    def seen(self) -> dict[str, Any]:
        """What it is at, as plain data."""
        lane = self.lane
        return {
            "id": id(lane),
            "in_flight": self._flights(self.slots),
            "saves_in_flight": len(self.slots),
            "max_in_flight": lane.max_in_flight,
            "max_batch": lane.max_batch,
            "long": self._flights(self._long),
            "given_up": len(self._stranded),
            "ready": len(self.ready),
            "congested": self.congested,
            "paused": lane.paused,
            "signing_in": bool(self.renewing),
        }

    @property
    def stopped(self) -> bool:
        """Whether chains are ready, and nothing that runs will make room for them."""
        if not self.ready or not (self.lane._paused or self._stranded):
            return False
        return self.lane._paused or (self.full and self.stranded == len(self.slots))

    @property
    def why(self) -> str | None:
        """What keeps a chain that is ready waiting, in words that follow "the lane is"; None if nothing does."""
        if self.lane.paused:
            return "paused until resume()"
        if self.renewing:
            return "held until its backend has renewed the credentials"
        if self.full:
            given_up = f", {self.stranded} of them given up and still running" if self.stranded else ""
            return f"full: {self._flights(self.slots)} attempts run{given_up}"
        return "congested, and starts one attempt at a time" if self.congested else None

    def holds(self, save: Any) -> bool:
        """Whether an attempt of that save is running."""
        return save is not None and self.slots.get(save.token) is save
