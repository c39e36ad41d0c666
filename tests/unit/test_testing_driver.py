"""The driver that can leave a call where it is: the rest of the program goes on beside it, in the same thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from chained_models.protocols import Job
from chained_models.testing import AsyncScriptedBackend, ScriptedBackend, SteppedDriver, VirtualClock
from chained_models.testing.driver import Suspension, suspension


class Worker:
    """Makes calls that suspend, and notes what comes of them."""

    def __init__(self, driver: SteppedDriver) -> None:
        self.driver = driver
        self.left: list[Suspension] = []
        self.said: list[Any] = []

    def start(self, *calls: Callable[[], Any], then: Callable[[], Iterable[Job]] = tuple) -> None:
        """As one job, one call after the other."""

        def steps() -> Any:
            for call in calls:
                try:
                    self.said.append((yield call, None))
                except BaseException as error:
                    self.said.append(error)
            return then()

        self.driver.start(Job(steps, contextvars.copy_context()))

    def suspend(self) -> Suspension:
        suspended = suspension()
        assert suspended is not None
        self.left.append(suspended)
        return suspended


@pytest.fixture
def worker() -> Worker:
    return Worker(SteppedDriver())


def test_it_has_a_clock_of_its_own_unless_one_is_given() -> None:
    """And shows it."""
    clock = VirtualClock()
    assert SteppedDriver(clock).virtual is clock
    assert SteppedDriver().virtual is not SteppedDriver().virtual


def test_it_runs_backends_of_plain_functions() -> None:
    """A coroutine would need a loop. Attempts of different chains overlap, for one may be left."""
    assert SteppedDriver().supports(ScriptedBackend())
    assert not SteppedDriver().supports(AsyncScriptedBackend())
    assert SteppedDriver().overlaps


def test_a_call_that_answers_is_an_ordinary_one(worker: Worker) -> None:
    """Nothing is left of it."""
    worker.start(lambda: 1, lambda: 2)
    assert worker.said == [1, 2]


def test_a_suspended_call_leaves_the_thread_free(worker: Worker) -> None:
    """Other jobs run; when it is ended, its steps go on where they were, to the next call."""
    worker.start(worker.suspend, lambda: "after it")
    worker.start(lambda: "beside it")
    assert not worker.driver.owns_thread()
    assert worker.said == ["beside it"]
    worker.left[0].end(lambda: "answer")
    assert worker.said == ["beside it", "answer", "after it"]


def test_it_may_end_with_an_error(worker: Worker) -> None:
    """The steps get it where they made the call."""
    error = ValueError()

    def fail() -> None:
        raise error

    worker.start(worker.suspend, lambda: "next")
    worker.left[0].end(fail)
    assert worker.said == [error, "next"]


def test_steps_may_be_left_more_than_once(worker: Worker) -> None:
    """Each call may suspend."""
    worker.start(worker.suspend, worker.suspend)
    worker.left[0].end(lambda: 1)
    assert worker.said == [1]
    worker.left[1].end(lambda: 2)
    assert worker.said == [1, 2]


def test_one_that_was_ended_before_it_was_left(worker: Worker) -> None:
    """By the call itself: the steps go on all the same."""

    def call() -> Suspension:
        suspended = worker.suspend()
        suspended.end(lambda: "at once")
        return suspended

    worker.start(call, lambda: "next")
    assert worker.said == ["at once", "next"]


def test_jobs_that_follow_a_left_job(worker: Worker) -> None:
    """Run when its steps are over."""
    followers: list[str] = []

    def then() -> Iterable[Job]:
        def steps() -> Any:
            yield lambda: followers.append("follower"), None
            return ()

        return [Job(steps, contextvars.copy_context())]

    worker.start(worker.suspend, then=then)
    assert followers == []
    worker.left[0].end(lambda: None)
    assert followers == ["follower"]


def test_the_context_is_the_same_before_and_after(worker: Worker) -> None:
    """That of the job."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    tenant.set("anne")
    worker.start(tenant.get, worker.suspend, tenant.get)
    tenant.set("bert")
    worker.left[0].end(lambda: None)
    assert worker.said == ["anne", None, "anne"]


def test_it_may_end_by_itself_after_some_time(worker: Worker) -> None:
    """By virtual time; not any more if it has ended before."""

    def call() -> Suspension:
        suspended = worker.suspend()
        suspended.after(3, lambda: suspended.end(lambda: worker.driver.now()))
        return suspended

    worker.start(call, call)
    worker.driver.virtual.advance(2)
    assert worker.said == []
    worker.driver.virtual.advance(2)
    assert worker.said == [3.0]
    worker.left[1].end(lambda: "early")
    worker.driver.virtual.run_until_idle()
    assert worker.said == [3.0, "early"]
    assert worker.driver.timers() == []


def test_it_may_be_ended_by_another_thread(worker: Worker) -> None:
    """The steps go on there."""
    worker.start(worker.suspend, threading.get_ident)
    thread = threading.Thread(target=worker.left[0].end, args=(lambda: None,))
    thread.start()
    thread.join(5)
    assert worker.said == [None, thread.ident]


def test_outside_a_job_nothing_can_be_left() -> None:
    """As with every other driver; nor in a job of a driver that runs inside another thread."""
    assert suspension() is None
    driver = SteppedDriver()
    found: list[Any] = []

    def aside() -> None:
        thread = threading.Thread(target=lambda: found.append(suspension()))
        thread.start()
        thread.join(5)

    Worker(driver).start(aside)
    assert found == [None]
    assert suspension() is None


def test_its_timers_in_their_order(worker: Worker) -> None:
    """What will be due, and when."""
    driver = worker.driver
    calls = [lambda: (), lambda: (), lambda: ()]
    driver.wake_at(5, calls[0])
    driver.wake_at(2, calls[1])
    driver.wake_at(5, calls[2])
    assert driver.timers() == [(2, calls[1]), (5, calls[0]), (5, calls[2])]
    assert driver.next_wake() == 2


def test_who_waits_moves_the_time(worker: Worker) -> None:
    """In a thread always, in an event loop unless something is left that a coroutine may be about to end."""
    driver = worker.driver
    assert driver.skip_ahead(2)
    assert driver.now() == 2

    async def program() -> None:
        assert driver.skip_ahead(1)
        worker.start(worker.suspend)
        assert not driver.skip_ahead(1)
        assert driver.skip_ahead(0)  # asks whether the time is virtual
        worker.left[0].end(lambda: None)
        assert driver.skip_ahead(1)

    asyncio.run(program())
    assert driver.now() == 4
    worker.start(worker.suspend)
    assert driver.skip_ahead(1)
