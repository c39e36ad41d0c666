"""Time that passes when a test says so, and no sooner."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..exceptions import InvalidOption, WouldDeadlock

if TYPE_CHECKING:
    from ..drivers.inline import InlineDriver

__all__ = ["VirtualClock"]

MOST_STEPS = 100_000
"""More than so many timers in a row are taken for a program that never comes to rest."""


class VirtualClock:
    """The time of the inline driver and its kin, in a test: whoever waits for it to pass, moves it.

    ``handle.result(timeout)``, ``await handle`` and ``flush(timeout)`` count by it, and take no real time.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self._drivers: weakref.WeakSet[InlineDriver] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<VirtualClock {self.time:g} s>"

    def now(self) -> float:
        """Seconds since it was made."""
        return self.time

    @property
    def timers(self) -> int:
        """How many there are that are not due yet."""
        return sum(driver.waits for driver in list(self._drivers))

    def serve(self, driver: InlineDriver) -> None:
        """Called by a driver that goes by this clock: what it has to do is done as time passes."""
        self._drivers.add(driver)

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever becomes due meanwhile is done, in its order and at its time.

        Args:
            seconds: How many, 0 or more.

        Raises:
            InvalidOption: Time does not run backwards, and has no end.
        """
        if not _passes(seconds):
            raise InvalidOption(
                f"advance({seconds!r}): time passes in seconds, 0 or more; run_until_idle() lets all of it pass that matters"
            )
        ends = self.time + seconds
        while (due := self.due()) is not None and due <= ends:
            self.time = max(self.time, due)
        self.time = max(self.time, ends)  # who waits inside what was due may have moved it further

    def run_until_idle(self, tidy: Callable[[], object] = lambda: None) -> None:
        """Let time pass until nothing is due any more; returns at once if nothing is.

        Args:
            tidy: Called before each step, to take back timers that nobody needs.

        Raises:
            RuntimeError: It never comes to rest: something sets a new timer whenever one is over.
        """
        for _ in range(MOST_STEPS):
            tidy()
            if not self.step():
                return
        raise RuntimeError(f"after {MOST_STEPS} timers, at {self.time:g} s, there is still something due")

    def step(self) -> bool:
        """Let time pass up to the next timer, and do what is due then; returns whether there was one."""
        due = self.due()
        if due is None:
            return False
        self.time = max(self.time, due)
        self.due()
        return True

    def due(self) -> float | None:
        """Do what is due now; returns when the next thing will be, or None."""
        # Not by the pause that help() returns: added to the time, it may fall short of the timer by a rounding error.
        times = [driver.next_wake() for driver in list(self._drivers) if driver.help() is not None]
        return min((time for time in times if time is not None and time < math.inf), default=None)

    def skip(self, seconds: float) -> None:
        """Let the seconds pass at once; what becomes due by that is not done here, but by whoever waits.

        Raises:
            WouldDeadlock: It would be for ever: nothing is due, and nobody else is there to change that.
        """
        if seconds == math.inf:
            raise WouldDeadlock(
                "nothing is due, so no time that passes would ever end this wait; release() what the backend holds, or "
                "resume() what is paused"
            )
        self.time += max(0.0, seconds)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """As :meth:`skip`, with the condition held; None is for ever."""
        self.skip(math.inf if seconds is None else seconds)


def _passes(seconds: object) -> bool:
    """Whether so much time can pass."""
    return isinstance(seconds, int | float) and 0 <= seconds < math.inf
