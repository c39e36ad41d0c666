"""The inline driver: a save is carried out before `save()` returns, in the thread that called it.

Each thread works off its own list of jobs, so that a save from inside a receiver comes after the present one and the stack
stays flat however many there are. Times that are due are looked at in any verb, in `result()`, `await` and `flush()`.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..protocols import Job
from ._steps import drive


class Clock(Protocol):
    """Where the inline driver gets its time; a test gives one that it moves by hand."""

    def now(self) -> float:
        """Seconds; never runs backwards."""
        ...

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait, with the condition held, for a notification or for the time to pass."""
        ...


class SystemClock:
    """The real time."""

    now = staticmethod(time.monotonic)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait(seconds)


class _Here(threading.local):
    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.working = False


class InlineDriver:
    """Runs jobs in the caller.

    Args:
        clock: Where the time comes from. One that has a `serve(driver)` is told who goes by it, so that what is due is done as
            its time is moved; one that has a `skip(seconds)` is moved by whoever waits.
    """

    overlaps = False

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.now = self.clock.now
        self._here = _Here()
        # Jobs of a thread that was interrupted in the middle: whoever comes next does them.
        self._left: deque[Job] = deque()
        self._wakes: list[tuple[float, int, Callable[[], Iterable[Job]]]] = []
        self._number = itertools.count()
        self._lock = threading.RLock()
        serve = getattr(self.clock, "serve", None)
        if serve is not None:
            serve(self)

    @staticmethod
    def lost() -> None:
        """Never: threads end with the process, not before."""

    def supports(self, backend: Any) -> bool:
        return not inspect.iscoroutinefunction(getattr(backend, "execute", None))

    def claim(self) -> None:
        """Nothing to claim: work belongs to whoever calls. Who does is asked to do what is due."""
        if self._wakes or self._left:
            self.help()

    def owns_thread(self) -> bool:
        return self._here.working

    @property
    def waits(self) -> int:
        """How many times are waited for."""
        return len(self._wakes)

    def start(self, *jobs: Job) -> None:
        here = self._here
        here.jobs += jobs
        if not here.working:
            self._work()
            if self._wakes:
                self.help()  # what has become due by it

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        entry = (when, next(self._number), call)
        with self._lock:
            heapq.heappush(self._wakes, entry)

        def cancel() -> None:
            with self._lock:
                if entry in self._wakes:
                    self._wakes.remove(entry)
                    heapq.heapify(self._wakes)

        return cancel

    def help(self) -> float | None:
        """Do what is due now; returns seconds until the next thing is, or None."""
        here = self._here
        if here.working or not (self._wakes or here.jobs or self._left):
            return None
        while True:
            with self._lock:
                due = self._wakes[0][0] - self.now() if self._wakes else None
                call = heapq.heappop(self._wakes)[2] if due is not None and due <= 0 else None
            if call is not None:
                self._work(call)
            elif here.jobs or self._left:
                self._work()
            else:
                return due

    def next_wake(self) -> float | None:
        """When the next thing is due, by its clock; None if nothing is."""
        with self._lock:
            return self._wakes[0][0] if self._wakes else None

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        self.clock.wait(condition, seconds)

    def skip_ahead(self, seconds: float) -> bool:
        skip = getattr(self.clock, "skip", None)
        if skip is None:
            return False
        skip(seconds)
        return True

    def rest(self) -> None:
        """Nothing runs by itself."""

    def close(self) -> None:
        with self._lock:
            self._wakes.clear()

    def after_fork(self) -> None:
        """The child has none of the parent's work."""
        self.__init__(self.clock)  # type: ignore[misc]

    def _work(self, call: Callable[[], Iterable[Job]] | None = None) -> None:
        here = self._here
        here.working = True  # also while a wake-up is made: the next one that is due must not be made inside it
        try:
            if call is not None:
                here.jobs.extend(call())
            while here.jobs or self._left:
                try:
                    job = here.jobs.popleft() if here.jobs else self._left.popleft()
                except IndexError:  # pragma: no cover - another thread took the last one left over
                    break
                if following := self._run(job):
                    here.jobs.extend(following)
        finally:
            here.working = False
            if here.jobs:
                self._left.extend(here.jobs)
                here.jobs.clear()

    def _run(self, job: Job) -> Iterable[Job]:
        return job.context.run(drive, job)
