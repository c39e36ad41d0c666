"""The Lane: how many attempts of one backend may be in flight at once, and who is next. Pure."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .exceptions import InvalidOption

__all__ = ["Lane", "LaneState"]

C = TypeVar("C")


class Lane:
    """What the chains of one backend share. Give one to a backend: ``RestBackend(url, lane=Lane(max_in_flight=4))``.

    Args:
        max_in_flight: How many saves of different chains may be in flight at once.
    """

    def __init__(self, max_in_flight: int = 8) -> None:
        if max_in_flight < 1:
            raise InvalidOption(f"Lane(max_in_flight={max_in_flight}): at least 1, or nothing could ever be sent")
        self.max_in_flight = max_in_flight
        self._paused = False
        self._watchers: list[weakref.WeakMethod[Callable[[Lane], None]]] = []

    @property
    def paused(self) -> bool:
        """Whether nothing new is sent: by `pause()`, or because the backend refused our credentials."""
        return self._paused

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

    def __repr__(self) -> str:
        return f"<Lane max_in_flight={self.max_in_flight}{' paused' if self._paused else ''}>"


class LaneState(Generic[C]):
    """One dispatcher's use of a lane: the chains that are ready, first come, first served, and the slots taken.

    A chain asks anew after each of its saves and so goes to the end of the line: one that always has work starves nobody.
    Slots are counted by token, so that an attempt can give back only its own, and only once.

    An attempt that was given up while it still runs keeps its slot, but is *stranded*: up to `max_in_flight` stranded
    attempts are replaced, so that one hanging connection does not stop the lane; more than that would be a flood.
    """

    __slots__ = ("__weakref__", "_stranded", "lane", "look_at", "ready", "slots", "unlook")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.ready: OrderedDict[C, None] = OrderedDict()
        self.slots: dict[int, Any] = {}
        """Token of every attempt that is running, and its save."""
        self.look_at = math.inf
        """When somebody will look for attempts that are over their time."""
        self.unlook: Callable[[], object] = lambda: None
        """Says that nobody need look."""
        self._stranded: set[int] = set()

    def request(self, chain: C) -> None:
        """`chain` has a save that could be sent. Asking again keeps its place in line."""
        self.ready.setdefault(chain, None)

    def withdraw(self, chain: C) -> None:
        """`chain` has none any more."""
        self.ready.pop(chain, None)

    def grant(self) -> C | None:
        """The chain that may send now; the caller takes a slot for it. None if there is none, or no room."""
        most = self.lane.max_in_flight
        if not self.ready or self.lane.paused or len(self.slots) - min(len(self._stranded), most) >= most:
            return None
        chain, _ = self.ready.popitem(last=False)
        return chain

    def take(self, token: int, save: Any) -> None:
        """An attempt starts."""
        self.slots[token] = save

    def give_back(self, token: int) -> None:
        """An attempt is over. Does nothing if it held no slot (any more)."""
        self.slots.pop(token, None)
        self._stranded.discard(token)

    def strand(self, token: int) -> None:
        """An attempt was given up and still runs."""
        if token in self.slots:
            self._stranded.add(token)

    @property
    def stopped(self) -> bool:
        """Whether chains are ready, and nothing that runs will make room for them."""
        return bool(self.ready) and self.lane.paused

    def holds(self, save: Any) -> bool:
        """Whether an attempt of that save is running."""
        return save is not None and self.slots.get(save.token) is save
