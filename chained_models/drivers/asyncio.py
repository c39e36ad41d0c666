"""The asyncio driver: jobs are tasks of one event loop, the owner.

The owner is the loop of the first user, or a background loop in a daemon thread when called from plain code. Other threads
hop in; other loops only if the owner is the background loop. A closed loop is forgotten, and the next user owns the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any

from ..exceptions import WrongLoop
from ..protocols import Job, Steps
from ._steps import leaked

logger = logging.getLogger("chained_models")

LOOK_AGAIN = 0.2
"""Seconds after which a thread that waits looks whether the loop was closed: a closed loop tells nobody."""


class _Background:
    """A loop in a daemon thread, shared by all who need one, stopped when the last of them closes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def join(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        with self._lock:
            self._users += 1
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._turn, args=(self._loop,), name="chained-models-loop", daemon=True
                )
                self._thread.start()
            return self._loop, self._thread

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._loop is None or self._thread is None:
                return
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(1.0)

    @staticmethod
    def _turn(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while not _turned(loop):
                pass
            for task in (left := asyncio.all_tasks(loop)):
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _turned(loop: asyncio.AbstractEventLoop) -> bool:
    """Turn the loop until it is stopped; False if it was interrupted, which is nobody's wish for a loop that all share."""
    try:
        loop.run_forever()
    except BaseException:
        logger.exception("a job raised; the background loop goes on")
        return False
    return True


_background = _Background()


def _give_back(background: _Background, loop: asyncio.AbstractEventLoop) -> None:
    """A driver that nobody closed was collected. Left in the loop itself, for here we may be in the middle of anything."""
    with contextlib.suppress(RuntimeError):  # it has ended
        loop.call_soon_threadsafe(background.leave)


class AsyncioDriver:
    """Runs jobs as tasks of the loop that owns them."""

    overlaps = True

    def __init__(self) -> None:
        self.lost: Callable[[], None] = lambda: None
        """Called when the owner was closed: what was in flight there has no end, and what is queued no place."""
        self._reset()

    def _reset(self) -> None:
        self._owner: asyncio.AbstractEventLoop | None = None
        self._borrowed: weakref.finalize[..., AsyncioDriver] | None = None
        """Set while the owner is the background loop; gives that back if this driver is collected before it is closed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming = threading.RLock()

    def supports(self, backend: Any) -> bool:
        return inspect.iscoroutinefunction(getattr(backend, "execute", None))

    def claim(self) -> None:
        """Find the owner for work that is asked for now, in this thread.

        Raises:
            WrongLoop: Called in a loop, while another one owns the backend.
        """
        self._look()
        running = asyncio._get_running_loop()
        with self._claiming:
            owner = self._owner
            if owner is None:
                if running is not None:
                    self._owner = running
                else:
                    self._owner, _ = _background.join()
                    self._borrowed = weakref.finalize(self, _give_back, _background, self._owner)
                    self._borrowed.atexit = False
            elif running is not None and running is not owner and not self._borrowed:
                raise WrongLoop

    def owns_thread(self) -> bool:
        # Asked of the loop, not of the thread that claimed it: a loop may go on in another one.
        owner = self._owner
        return owner is not None and asyncio._get_running_loop() is owner

    def now(self) -> float:
        return time.monotonic()

    def start(self, *jobs: Job) -> None:
        for job in jobs:
            self._call(partial(self._spawn, job))

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        timers: list[asyncio.TimerHandle] = []
        cancelled = False

        def wake() -> None:
            if not cancelled:
                for job in call():
                    self._spawn(job)

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

    def help(self) -> float | None:
        """Look whether the owner is still open; returns when to look again."""
        self._look()
        return LOOK_AGAIN if self._owner is not None and not self._borrowed else None

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait(seconds)

    def skip_ahead(self, seconds: float) -> bool:
        return False

    def rest(self) -> None:
        """Tasks end by themselves; the background loop stays, for the backend's connections belong to it."""

    def close(self) -> None:
        borrowed, self._borrowed, self._owner = self._borrowed, None, None
        if borrowed is not None:
            borrowed.detach()
            _background.leave()

    def after_fork(self) -> None:
        """The child has no thread that would turn the parent's loop."""
        global _background  # noqa: PLW0603 - the parent's lock may have been held at the fork
        _background = _Background()
        if self._borrowed is not None:
            self._borrowed.detach()
        self._reset()

    # Inside

    def _call(self, function: Callable[[], object]) -> None:
        owner = self._owner
        if owner is None:
            self.lost()  # closed since the work was accepted
            return
        if self.owns_thread():
            function()
            return
        try:
            owner.call_soon_threadsafe(function)
        except RuntimeError:
            self._look()

    def _spawn(self, job: Job) -> None:
        owner = self._owner
        if owner is None:
            return
        task = owner.create_task(self._run(job.steps()), context=job.context)
        self._tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("a job raised; the loop goes on", exc_info=error)

    async def _run(self, steps: Steps) -> None:
        task = asyncio.current_task()
        try:
            call, seconds = next(steps)
            while True:
                try:
                    async with asyncio.timeout(seconds):
                        result = call()
                        if inspect.isawaitable(result):
                            result = await result
                except BaseException as error:
                    if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                        # Only a loop that is being shut down cancels our tasks.
                        self._forget()
                        steps.close()
                        raise
                    if isinstance(error, GeneratorExit) and _current_task() is task:
                        # Raised by the call; thrown in from outside, when the task is dropped, it ends the steps.
                        error = leaked(error)
                    call, seconds = steps.throw(error)
                else:
                    call, seconds = steps.send(result)
        except StopIteration as stop:
            following: Iterable[Job] = stop.value
            for job in following:
                self._spawn(job)

    def _look(self) -> None:
        owner = self._owner
        if owner is not None and owner.is_closed():
            self._forget()

    def _forget(self) -> None:
        with self._claiming:
            owner, self._owner = self._owner, None
            borrowed, self._borrowed = self._borrowed, None
            if borrowed is not None:
                borrowed.detach()
            self._tasks = set()
        if owner is not None:
            logger.warning("an event loop was closed while saves belonged to it; those that it had are given up")
            self.lost()


def _current_task() -> asyncio.Task[Any] | None:
    return None if asyncio._get_running_loop() is None else asyncio.current_task()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
