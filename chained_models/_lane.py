"""The Lane: how many attempts of one backend may be in flight at once, and who is next. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

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
        self._watchers: list[Callable[[], None]] = []

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
            for resumed in list(self._watchers):
                resumed()

    def watch(self, resumed: Callable[[], None]) -> None:
        """For the dispatcher: call `resumed` whenever the lane goes on."""
        self._watchers.append(resumed)

    def unwatch(self, resumed: Callable[[], None]) -> None:
        """For the dispatcher: the opposite of :meth:`watch`."""
        if resumed in self._watchers:
            self._watchers.remove(resumed)

    def __repr__(self) -> str:
        return f"<Lane max_in_flight={self.max_in_flight}{' paused' if self._paused else ''}>"


class LaneState(Generic[C]):
    """One dispatcher's use of a lane: the chains that are ready, first come, first served, and the slots taken.

    A chain asks anew after each of its saves and so goes to the end of the line: one that always has work starves nobody.
    Slots are counted by token, so that an attempt can give back only its own, and only once.
    """

    __slots__ = ("lane", "ready", "slots")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.ready: OrderedDict[C, None] = OrderedDict()
        self.slots: set[object] = set()

    def request(self, chain: C) -> None:
        """`chain` has a save that could be sent."""
        self.ready[chain] = None

    def withdraw(self, chain: C) -> None:
        """`chain` has none any more."""
        self.ready.pop(chain, None)

    def grant(self) -> C | None:
        """The chain that may send now; the caller takes a slot for it. None if there is none, or no room."""
        if not self.ready or self.lane.paused or len(self.slots) >= self.lane.max_in_flight:
            return None
        chain, _ = self.ready.popitem(last=False)
        return chain

    def take(self, token: object) -> None:
        """An attempt starts."""
        self.slots.add(token)

    def give_back(self, token: object) -> bool:
        """An attempt is over. False if it held no slot (any more)."""
        if token not in self.slots:
            return False
        self.slots.discard(token)
        return True
