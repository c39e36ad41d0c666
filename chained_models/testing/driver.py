"""The inline driver, for attempts that may be held: the rest of the program goes on beside them, in the same thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

from ..drivers._steps import run
from ..drivers.inline import InlineDriver
from ..protocols import Call, Job, Steps
from .clock import VirtualClock

__all__ = ["SteppedDriver", "Suspension", "suspension"]


class Suspension:
    """What a call returns to the driver instead of an answer: there is none yet. `end` says, once, what came of it."""

    __slots__ = ("_cancels", "_driver", "_go_on", "_said", "timed")

    def __init__(self, driver: SteppedDriver) -> None:
        self._driver = driver
        self._go_on: Callable[[Callable[[], Any]], None] | None = None
        self._said: Callable[[], Any] | None = None
        self._cancels: list[Callable[[], None]] = []
        self.timed = False
        """Whether it ends by itself, when its time has come."""

    def then(self, go_on: Callable[[Callable[[], Any]], None]) -> None:
        """For the driver: call this with what `end` is, or was, called with."""
        if self._said is not None:
            go_on(self._said)
        self._go_on = go_on

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Unless it has ended by then, make this call after so many seconds of virtual time. Several are all made."""

        def due() -> Iterable[Job]:
            call()
            return ()

        self.timed = True
        self._cancels.append(self._driver.wake_at(self._driver.now() + seconds, due))

    def end(self, say: Callable[[], Any]) -> None:
        """Go on with the attempt: `say` returns what the call returns, or raises what it raises."""
        for cancel in self._cancels:
            cancel()
        self._said = say
        if self._go_on is not None:
            self._go_on(say)


class _Here(threading.local):
    driver: SteppedDriver | None = None


_here = _Here()


def suspension() -> Suspension | None:
    """Inside a call: what it may return instead of an answer; None where the driver can do nothing but wait for it."""
    return None if _here.driver is None else Suspension(_here.driver)


class SteppedDriver(InlineDriver):
    """Runs jobs in the caller, by a virtual clock; a call that is suspended is left where it is until it is ended.

    Args:
        clock: Where the time comes from; a new one if left out.
    """

    overlaps = True

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.virtual = VirtualClock() if clock is None else clock
        super().__init__(self.virtual)
        self._parked = 0

    def timers(self) -> list[tuple[float, Callable[[], Iterable[Job]]]]:
        """What will be due, and when; the next one first."""
        with self._lock:
            return [(when, call) for when, _, call in sorted(self._wakes, key=lambda wake: wake[:2])]

    def skip_ahead(self, seconds: float) -> bool:
        # A coroutine may be about to end what is held: time that passed meanwhile would end it first, as a timeout.
        if seconds and self._parked and _in_event_loop():
            return False
        self.virtual.skip(seconds)
        return True

    def _run(self, job: Job) -> Iterable[Job]:
        before, _here.driver = _here.driver, self
        try:
            return run(job, partial(self._park, job))
        finally:
            _here.driver = before

    def _park(self, job: Job, steps: Steps, result: Any) -> bool:
        """Whether the result is none yet, so that the steps wait for it."""
        if not isinstance(result, Suspension):
            return False

        held = not result.timed

        def go_on(say: Callable[[], Any]) -> None:
            self._parked -= held
            self.start(Job(partial(_resumed, steps, say), job.context))

        self._parked += held
        result.then(go_on)
        return True


def _in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _resumed(steps: Steps, say: Callable[[], Any]) -> Generator[Call, Any, Iterable[Job]]:
    """The steps from where they were left: what was called there has ended with `say`."""
    call: Call = say, None
    try:
        while True:
            try:
                result = yield call
            except BaseException as error:  # noqa: BLE001 - the steps decide
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as stop:
        following: Iterable[Job] = stop.value
        return following
