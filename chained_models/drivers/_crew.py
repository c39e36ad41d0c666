"""The workers of one event loop: tasks that take jobs from one line, so that a burst of jobs is not as many tasks.

A worker that comes to wait for something keeps its job, for the user's code may have taken note of its task; whoever is left
in line then gets other workers. Each that comes to wait hires two, so a hundred jobs that all wait are under way within a
few turns of the loop, and jobs that never wait are all done by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context

from ..protocols import Job, Steps
from ._coroutine import Waiting, advance, waited

logger = logging.getLogger("chained_models")

JOBS = 100
"""Jobs that a worker does before it lets the loop turn once."""

TURN = 0.005
"""Seconds after which it does so in any case."""


class Crew:
    """The line of jobs of one loop, and who does them.

    Args:
        loop: Where they work.
        lost: Called when the loop is being shut down: what is in line and in flight has no end.

    Everything but :meth:`call` is for the loop's thread only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[Crew], None]) -> None:
        self.loop = loop
        self._lost = lost
        self._jobs: deque[Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
        self._coming: set[asyncio.Task[None]] = set()
        """Workers that will look for a job in the next turn of the loop."""
        self._taking = False
        """Whether a worker is at a job, and has not come to wait for anything: it will look for the next one, or hire."""
        self._called = False

    def put(self, jobs: Iterable[Job]) -> None:
        """Have these jobs done soon."""
        self._jobs.extend(jobs)
        if not (self._taking or self._coming):
            self._hire()

    def call(self, jobs: Iterable[Job]) -> None:
        """As :meth:`put`, from another thread. One call wakes the loop for all that come before it does.

        Raises:
            RuntimeError: The loop is closed.
        """
        self._jobs.extend(jobs)
        if not self._called:
            try:
                self._called = True
                self.loop.call_soon_threadsafe(self._come)
            except BaseException:
                self._called = False
                raise

    def dismiss(self) -> None:
        """Nobody will do what is in line."""
        self._jobs.clear()

    def _come(self) -> None:
        self._called = False  # before the look at the line: who comes after it calls again
        if self._jobs:
            self.put(())

    def _hire(self, number: int = 1) -> None:
        for _ in range(number):
            # In no context: that of the caller may hold the backend, which would then live as long as the worker. And not by
            # the loop's factory: an eager one would begin the jobs in here, each inside of the one before it.
            task = asyncio.Task(self._labour(), loop=self.loop, context=Context())
            self._coming.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A worker has ended in any other way than for want of jobs."""
        self._workers.discard(task)
        if task in self._coming:
            # Cancelled before it came to a job: the loop is being shut down.
            self._coming.discard(task)
            self._lost(self)
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("a job raised; the loop goes on", exc_info=error)
        if self._jobs:
            self.put(())

    async def _labour(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._workers.add(task)
        self._coming.discard(task)
        time = self.loop.time
        left, until = JOBS, None
        while self._jobs:
            job = self._jobs.popleft()
            steps = job.steps()
            self._taking = True
            try:
                reached = job.context.run(advance, steps.__next__, steps, time)
                if isinstance(reached, Waiting):
                    reached = await self._wait_out(reached, steps, job.context)
                    left, until = JOBS, None
                self._jobs.extend(reached)
            except asyncio.CancelledError:
                if task.cancelling():
                    # Only a loop that is being shut down cancels our tasks.
                    self._lost(self)
                    steps.close()
                    raise
            except GeneratorExit:  # the task was dropped
                steps.close()
                raise
            except (KeyboardInterrupt, SystemExit):
                raise  # for whoever runs the loop
            except BaseException:
                logger.exception("a job raised; the loop goes on")
            finally:
                self._taking = False
            if task.cancelling():
                return  # a call has cancelled it, and that is not to hit the next one
            job = steps = reached = None  # type: ignore[assignment]  # nobody else keeps what has been done
            if not self._jobs:
                break
            left -= 1
            if until is None:
                until = time() + TURN  # not before: most often there is one job, and nobody to be kept waiting
            elif left <= 0 or time() >= until:
                if self._coming:
                    break  # another one goes on, in the next turn
                self._coming.add(task)
                await asyncio.sleep(0)
                self._coming.discard(task)
                left, until = JOBS, None
        # A plain end, of which nobody need be told.
        self._workers.discard(task)
        task.remove_done_callback(self._ended)

    async def _wait_out(self, waiting: Waiting, steps: Steps, context: Context) -> Iterable[Job]:
        """The rest of a job that waits for something; returns the jobs that follow it."""
        while True:
            self._taking = False
            self._hire(min(2, len(self._jobs) - len(self._coming)))
            move = await waited(waiting, steps, context)
            self._taking = True
            reached = context.run(advance, move, steps, self.loop.time)
            if not isinstance(reached, Waiting):
                return reached
            waiting = reached
