"""Waiting for a save or for all of them, without ever waiting for oneself."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from typing import Any

from ._announcer import Announcer, running_loop
from ._merge import catch_up_here
from .exceptions import WouldDeadlock
from .handle import Handle
from .protocols import Driver

__all__ = ["Patience"]

LOOK_UP = 0.5
"""Seconds after which a wait looks up at the latest: whether a loop was closed that nobody announced as closed."""


class Patience:
    """How threads and loops wait for one dispatcher."""

    def __init__(self, drivers: Iterable[Driver], announcer: Announcer) -> None:
        self._drivers = drivers
        self._announcer = announcer
        self._news = threading.Condition()
        self._changes = 0
        self._flushing = 0
        self._abroad: Counter[Patience] = Counter()

    # Saves of ours may wait for saves of another dispatcher, whose work may be nobody's but of who waits.

    def rely_on(self, other: Patience) -> None:
        """A save of ours waits for one of that dispatcher."""
        with self._news:
            self._abroad[other] += 1

    def rely_no_more_on(self, other: Patience) -> None:
        """That one has ended."""
        with self._news:
            self._abroad[other] -= 1
            if not self._abroad[other]:
                del self._abroad[other]

    def _help(self, drivers: Iterable[Driver]) -> list[tuple[float, Driver]]:
        """Do what is due, of these drivers and of those that ours rely on: when something will be due again, and of whom."""
        reached = [self]
        for one in reached:
            reached += [other for other in list(one._abroad) if other not in reached]
        working = [*drivers, *(driver for one in reached[1:] for driver in one._drivers)]
        return [(pause, driver) for driver in working if (pause := driver.help()) is not None]

    def changed(self) -> None:
        """Something has settled, or was held: those who flush look again."""
        if self._flushing:
            with self._news:
                self._changes += 1
                self._news.notify_all()

    def check(self) -> None:
        """Raise WouldDeadlock if this thread is the one that would do the work."""
        if self._announcer.receiving or any(driver.owns_thread() for driver in self._drivers):
            raise WouldDeadlock

    def wait(self, handle: Handle[Any], timeout: float | None) -> bool:
        """Block until `handle` is done; False if the time is over first.

        Raises:
            WouldDeadlock: This thread is the one that would do the work.
        """
        driver: Driver = handle.port.driver
        if self._announcer.receiving or any(one.owns_thread() for one in handle.drivers):
            raise WouldDeadlock
        now = _clock(driver)
        ends = math.inf if timeout is None else now() + timeout
        deliveries, condition = self._announcer.deliveries, handle._condition
        with deliveries.waking(_notifying(condition)):
            while True:
                deliveries.make_calls()
                pauses = self._help(handle.drivers)
                handle.work.catch_up(handle)
                self._announcer.rescue()
                if handle.done():
                    handle.work.catch_up(handle)
                    return True
                left = ends - now()
                if left <= 0:
                    return False
                with condition:
                    if not handle.done() and not deliveries.has_calls:
                        _nap(condition, pauses, left, driver)

    async def wait_async(self, handle: Handle[Any]) -> None:
        """Wait in an event loop until `handle` is done, without cancelling it if the waiter is cancelled."""
        handle.attended = True
        if handle.port.driver.owns_thread():
            # What this loop carries out, and what does not wait for anything there, is done after one turn of it.
            await _turn()
            if handle.done():
                return
        import asyncio

        loop = asyncio.get_running_loop()
        settled = loop.create_future()

        def tell() -> None:
            if not settled.done():  # cancelled, with the waiter
                settled.set_result(None)

        def wake(_: object) -> None:
            if running_loop() is loop:
                tell()
                return
            with contextlib.suppress(RuntimeError):  # the loop was closed while we waited
                loop.call_soon_threadsafe(tell)

        handle.when_settled(wake)
        own = self._announcer.of_loop()  # not the target: it may itself wait for what awaits here
        assert own is not None  # a loop is running
        # Only who waits for another loop looks up by itself: there may be thousands who wait for their own.
        foreign = handle.delivery is not None and handle.delivery is not self._announcer.delivery()
        with self._announcer.deliveries.standing_in(own):
            while not handle.done():
                pauses = self._help(handle.drivers)
                pause = min(pauses, key=_soonest)[0] if pauses else None
                self._announcer.rescue()
                if handle.done():
                    break
                if pause is not None and min(pauses, key=_soonest)[1].skip_ahead(pause):
                    await _turn()
                    continue
                if foreign:
                    pause = LOOK_UP if pause is None else min(LOOK_UP, pause)
                if pause is None:
                    await settled
                else:
                    await asyncio.wait([settled], timeout=pause)

    def flush(
        self, unfinished: Callable[[], tuple[bool, list[Handle[Any]]]], timeout: float | None
    ) -> tuple[bool, list[Handle[Any]]]:
        """Wait as long as something moves.

        Args:
            unfinished: Says whether something still moves, and what cannot move by itself.
            timeout: Seconds, or None.

        Returns:
            Whether the end was reached before the time was over, and what cannot move by itself.
        """
        self.check()
        first = next(iter(self._drivers), None)
        now = _clock(first)
        ends = math.inf if timeout is None else now() + timeout
        deliveries = self._announcer.deliveries
        with self._news:
            self._flushing += 1
        try:
            with deliveries.waking(_notifying(self._news)):
                while True:
                    deliveries.make_calls()
                    pauses = self._help(self._drivers)
                    self._announcer.rescue()
                    with self._news:
                        seen = self._changes
                    moving, held = unfinished()
                    catch_up_here()
                    if not moving:
                        return True, held
                    left = ends - now()
                    if left <= 0:
                        return False, held
                    with self._news:
                        if self._changes == seen and not deliveries.has_calls:
                            _nap(self._news, pauses, left, first)
        finally:
            with self._news:
                self._flushing -= 1


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the running loop turn once, as `asyncio.sleep(0)` does."""
    yield


def _clock(driver: Driver | None) -> Callable[[], float]:
    """What those who wait for that driver count their seconds by: the real time, if that is what passes."""
    return time.monotonic if driver is None or not driver.skip_ahead(0) else driver.now


def _nap(
    condition: threading.Condition, pauses: list[tuple[float, Driver]], left: float, otherwise: Driver | None
) -> None:
    """Wait, with the condition held, until it is notified, something is due, or nobody waits any more."""
    pause, driver = min(pauses, key=_soonest, default=(math.inf, otherwise))
    seconds = min(pause, left)
    if driver is None:
        condition.wait(min(seconds, LOOK_UP))
    elif not driver.skip_ahead(seconds):
        driver.wait(condition, min(seconds, LOOK_UP))


def _soonest(pause: tuple[float, Driver]) -> float:
    return pause[0]


def _notifying(condition: threading.Condition) -> Callable[[object], None]:
    def notify(_: object) -> None:
        with condition:
            condition.notify_all()

    return notify
