"""The threads driver: jobs run in daemon threads of our own, made when there is work and gone soon after it.

Not a ThreadPoolExecutor: its threads are joined before `atexit` runs, and it refuses new work by then, so a chain would
lose everything behind the save in flight. Ours still run while the exit flush waits; and where no thread can be made any
more (Python 3.12 and later, at exit), whoever waits does the work itself, in :meth:`ThreadsDriver.help`.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..protocols import Job
from ._steps import run

logger = logging.getLogger("chained_models")

MAX_THREADS = 512
"""A net under the lanes, which are the limit. All lanes share it: were it as tight as they are, a few backends that hang, and
whose threads nobody can take back, would keep all others waiting."""

LINGER = 1.0
"""Seconds that a thread without work stays."""


class _Seat:
    """Where a worker waits for its bell."""

    __slots__ = ("bell", "thread")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.thread = threading.current_thread()


class ThreadsDriver:
    """Runs jobs in worker threads, and wakes at times from one timer thread."""

    overlaps = True

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # re-entrant for signal handlers
        self._jobs: deque[Job] = deque()
        self._workers: set[threading.Thread] = set()
        self._idents: set[int] = set()
        self._busy: set[threading.Thread] = set()
        self._idle: list[_Seat] = []
        self._coming = 0
        """Workers that were called or made, and have not come to the line yet; the first of them will call the next one."""
        self._times = threading.Condition()
        self._wakes: list[tuple[float, int, Callable[[], Iterable[Job]]]] = []
        self._number = itertools.count()
        self._timer: threading.Thread | None = None
        self._linger = LINGER

    @staticmethod
    def lost() -> None:
        """Never: threads end with the process, not before."""

    def supports(self, backend: Any) -> bool:
        return not inspect.iscoroutinefunction(getattr(backend, "execute", None))

    def claim(self) -> None:
        """Nothing to claim: any thread may ask for work."""

    def owns_thread(self) -> bool:
        return threading.get_ident() in self._idents

    def now(self) -> float:
        return time.monotonic()

    # Jobs

    def start(self, *jobs: Job) -> None:
        with self._lock:
            self._jobs.extend(jobs)
            self._linger = LINGER
            self._hire()

    def _hire(self) -> None:
        """Under the lock: see to it that somebody comes for what is in line. Never left to one that is at a job."""
        if self._coming:
            return
        # Counted after they are called: a count that an interrupt has left too low is made good when they come.
        if self._idle:
            self._idle.pop().bell.release()  # the last one: the others may go home
        elif len(self._workers) >= MAX_THREADS:
            return
        else:
            worker = threading.Thread(target=self._labour, name="chained-models-worker", daemon=True)
            self._workers.add(worker)
            if not _begin(worker):
                self._workers.discard(worker)
                return
        self._coming += 1

    def _labour(self) -> None:
        seat = _Seat()
        self._idents.add(threading.get_ident())
        job = self._next_job(seat, called=True)
        while job is not None:
            following: Sequence[Job] = ()
            try:
                following = tuple(run(job))
            except BaseException:
                # The steps settle their save whatever happens, so this is a bug of ours; the worker must survive it.
                logger.exception("a job raised; its worker goes on")
            # Nobody keeps a job that is done, or that is another's, while it waits.
            job = None
            if len(following) == 1 and not self._jobs:
                (job,) = following  # nobody stands in line before it
                continue
            if following:
                with self._lock:
                    self._jobs.extend(following)
                following = ()
            job = self._next_job(seat)

    def _next_job(self, seat: _Seat, *, called: bool = False) -> Job | None:
        """The next job, in the order they came; None if the worker is to go."""
        while True:
            with self._lock:
                if called:
                    self._coming = max(0, self._coming - 1)
                if self._jobs:
                    self._busy.add(seat.thread)
                    job = self._jobs.popleft()
                    if self._jobs:
                        self._hire()
                    return job
                self._busy.discard(seat.thread)
                linger = self._linger
                if not linger:
                    self._leave()
                    return None
                self._idle.append(seat)
            if not seat.bell.acquire(timeout=linger):
                with self._lock:
                    if seat in self._idle:
                        self._idle.remove(seat)
                        self._leave()
                        return None
                    seat.bell.acquire(blocking=False)  # called at the last moment
            called = True

    def _leave(self) -> None:
        self._workers.discard(threading.current_thread())
        self._idents.discard(threading.get_ident())

    # Times

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        entry = (when, next(self._number), call)
        with self._times:
            heapq.heappush(self._wakes, entry)
            if self._timer is None:
                self._timer = threading.Thread(target=self._keep_time, name="chained-models-timer", daemon=True)
                if not _begin(self._timer):
                    self._timer = None
            elif self._wakes[0] is entry:
                self._times.notify()

        def cancel() -> None:
            with self._times:
                if entry in self._wakes:
                    self._wakes.remove(entry)
                    heapq.heapify(self._wakes)
                    self._times.notify()

        return cancel

    def _keep_time(self) -> None:
        while True:
            with self._times:
                if not self._wakes:
                    self._timer = None
                    self._times.notify_all()
                    return
                left = self._wakes[0][0] - self.now()
                if left > 0:
                    self._times.wait(min(left, threading.TIMEOUT_MAX))
                    continue
            self._wake_due()

    def _wake_due(self) -> float | None:
        """Make the calls that are due; returns seconds until the next one, or None."""
        while True:
            with self._times:
                if not self._wakes:
                    return None
                left = self._wakes[0][0] - self.now()
                if left > 0:
                    return left
                call = heapq.heappop(self._wakes)[2]
            try:
                self.start(*call())
            except BaseException:
                # An interrupt out of a receiver; the timer must survive it, for it is the only one.
                logger.exception("a wake-up raised; the timer goes on")

    # Waiting and ending

    def help(self) -> float | None:
        """Only where no thread could be made: do in this thread what they would do."""
        with self._lock:
            unattended = bool(self._jobs) and not self._workers
        if unattended:
            for following in iter(self._help_once, None):
                self.start(*following)
        with self._times:
            timed = bool(self._wakes) and self._timer is None
        return self._wake_due() if timed else None

    def _help_once(self) -> Iterable[Job] | None:
        with self._lock:
            job = self._jobs.popleft() if self._jobs else None
        return None if job is None else run(job)

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        condition.wait(seconds)

    def skip_ahead(self, seconds: float) -> bool:
        return False

    def rest(self) -> None:
        """Let idle threads go now instead of later."""
        with self._lock:
            if not self._jobs:
                self._linger = 0.0
                going, self._idle = self._idle, []
                for seat in going:
                    seat.bell.release()
                self._coming += len(going)

    def close(self) -> None:
        with self._times:
            self._wakes.clear()
            self._times.notify_all()
            while self._timer is not None and self._timer is not threading.current_thread():
                if not self._times.wait(1.0):
                    break
        self.rest()
        with self._lock:
            # Only those who have nothing to do; one that hangs in a backend cannot be waited for.
            going = set() if self._jobs else self._workers - self._busy
        ends = self.now() + 1.0
        for worker in going:
            worker.join(max(0.0, ends - self.now()))

    def after_fork(self) -> None:
        """The child has none of the parent's threads, and its locks may have been held."""
        self._reset()


def _begin(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        # "can't start new thread": at exit, or out of threads. The work stays in line for whoever waits, or comes next.
        return False
    return True
