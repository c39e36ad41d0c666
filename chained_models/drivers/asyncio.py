"""The asyncio driver: jobs are done by tasks of one event loop, the owner.

The owner is the loop of the first user, or a background loop in a daemon thread when called from plain code. Other threads
hop in; other loops only if the owner is the background loop. A closed loop is forgotten, and the next user owns the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any

from ..exceptions import WrongLoop
from ..protocols import Job
from ._background import Background
from ._crew import Crew

LOOK_AGAIN = 0.2
"""Seconds after which a thread that waits looks whether the loop was closed: a closed loop tells nobody."""

_background = Background()


def _give_back(background: Background, loop: asyncio.AbstractEventLoop) -> None:
    """A driver that nobody closed was collected. Left in the loop itself, for here we may be in the middle of anything."""
    with contextlib.suppress(RuntimeError):  # it has ended
        loop.call_soon_threadsafe(background.leave)


class AsyncioDriver:
    """Runs jobs in tasks of the loop that owns them."""

    overlaps = True

    def __init__(self) -> None:
        self.lost: Callable[[], None] = lambda: None
        """Called when the owner was closed: what was in flight there has no end, and what is queued no place."""
        self._reset()

    def _reset(self) -> None:
        self._crew: Crew | None = None
        self._borrowed: weakref.finalize[..., AsyncioDriver] | None = None
        """Set while the owner is the background loop; gives that back if this driver is collected before it is closed."""
        self._claiming = threading.RLock()

    @property
    def _owner(self) -> asyncio.AbstractEventLoop | None:
        crew = self._crew
        return None if crew is None else crew.loop

    def supports(self, backend: Any) -> bool:
        return inspect.iscoroutinefunction(getattr(backend, "execute", None))

    def claim(self) -> None:
        """Find the owner for work that is asked for now, in this thread.

        Raises:
            WrongLoop: Called in a loop, while another one owns the backend.
        """
        running = asyncio._get_running_loop()
        crew = self._crew
        if crew is not None and running is crew.loop:
            return  # one that runs is not closed
        self._look()
        with self._claiming:
            owner = self._owner
            if owner is None:
                if running is None:
                    running = _background.join()
                    self._borrowed = weakref.finalize(self, _give_back, _background, running)
                    self._borrowed.atexit = False
                # Weakly: a crew lives as long as its workers, and one that hangs must not keep its driver.
                self._crew = Crew(running, partial(_lost, weakref.ref(self)))
            elif running is not None and running is not owner and not self._borrowed:
                raise WrongLoop

    def owns_thread(self) -> bool:
        # Asked of the loop, not of the thread that claimed it: a loop may go on in another one.
        crew = self._crew
        return crew is not None and asyncio._get_running_loop() is crew.loop

    def now(self) -> float:
        return time.monotonic()

    def start(self, *jobs: Job) -> None:
        crew = self._crew
        if crew is None:
            self.lost()  # closed since the work was accepted
        elif asyncio._get_running_loop() is crew.loop:
            crew.put(jobs)
        else:
            try:
                crew.call(jobs)
            except RuntimeError:
                self._look()

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        timers: list[asyncio.TimerHandle] = []
        cancelled = False

        def wake() -> None:
            if not cancelled and (jobs := tuple(call())):
                self.start(*jobs)

        def arm() -> None:
            owner = self._owner
            if not cancelled and owner is not None:
                # In no context: that of the caller may hold the backend, which would then live as long as its lane.
                timers.append(owner.call_later(max(0.0, when - self.now()), wake, context=Context()))

        def disarm() -> None:
            for timer in timers:
                timer.cancel()

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            self._call(disarm)

        self._call(arm)
        return cancel

    def _call(self, function: Callable[[], object]) -> None:
        owner = self._owner
        if owner is None:
            self.lost()  # as above
        elif self.owns_thread():
            function()
        else:
            try:
                owner.call_soon_threadsafe(function)
            except RuntimeError:
                self._look()

    def help(self) -> float | None:
        """Look whether the owner is still open; returns when to look again. In the owner itself, it is."""
        if self.owns_thread():
            return None
        self._look()
        return LOOK_AGAIN if self._crew is not None and not self._borrowed else None

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait(seconds)

    def skip_ahead(self, seconds: float) -> bool:
        return False

    def rest(self) -> None:
        """Workers end by themselves; the background loop stays, for the backend's connections belong to it."""

    def close(self) -> None:
        borrowed, self._borrowed, self._crew = self._borrowed, None, None
        if borrowed is not None:
            borrowed.detach()
            _background.leave()

    def after_fork(self) -> None:
        """The child has no thread that would turn the parent's loop."""
        global _background  # noqa: PLW0603 - the parent's lock may have been held at the fork
        _background = Background()
        if self._borrowed is not None:
            self._borrowed.detach()
        self._reset()

    def _look(self) -> None:
        crew = self._crew
        if crew is not None and crew.loop.is_closed():
            self._forget(crew)

    def _forget(self, crew: Crew) -> None:
        with self._claiming:
            if crew is not self._crew:
                return  # known already
            borrowed, self._borrowed, self._crew = self._borrowed, None, None
            if borrowed is not None:
                borrowed.detach()
            crew.dismiss()
        self.lost()


def _lost(driver: weakref.ref[AsyncioDriver], crew: Crew) -> None:
    its = driver()
    if its is not None:
        its._forget(crew)
