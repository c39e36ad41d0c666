"""The inline driver: jobs in the caller, on a flat stack, and times that somebody has to look at."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest

from chained_models.drivers.inline import InlineDriver, SystemClock
from chained_models.protocols import Job
from chained_models.testing import VirtualClock

from ..contract.scripted import AsyncScripted, Scripted


def job(call: Callable[[], Any], following: Callable[[], Iterable[Job]] = tuple) -> Job:
    """A job that makes one call, and has these following it."""

    def steps() -> Any:
        yield call, None
        return following()

    return Job(steps, contextvars.copy_context())


def test_it_runs_blocking_backends_only() -> None:
    """A coroutine would need a loop."""
    driver = InlineDriver()
    assert driver.supports(Scripted())
    assert not driver.supports(AsyncScripted())
    assert not driver.overlaps


def test_jobs_run_before_start_returns() -> None:
    """In their order, and what follows them too."""
    driver, done = InlineDriver(), []
    driver.start(job(lambda: done.append(1), lambda: [job(lambda: done.append(3))]), job(lambda: done.append(2)))
    assert done == [1, 2, 3]


def test_a_job_started_inside_a_job_comes_after_it() -> None:
    """The stack stays flat; meanwhile the thread counts as the one that works."""
    driver, done = InlineDriver(), []

    def outer() -> None:
        driver.start(job(lambda: done.append("inner")))
        assert driver.owns_thread()
        assert driver.help() is None
        done.append("outer")

    driver.claim()
    driver.start(job(outer))
    assert done == ["outer", "inner"]
    assert not driver.owns_thread()


def test_what_an_interrupt_left_is_done_by_whoever_comes_next() -> None:
    """The interrupt comes out of the call, and no job is lost."""
    driver, done = InlineDriver(), []

    def storm() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.start(job(storm), job(lambda: done.append(1)))
    assert done == []
    thread = threading.Thread(target=driver.help)
    thread.start()
    thread.join(5)
    assert done == [1]


def test_wake_ups_are_made_when_somebody_helps() -> None:
    """In the order of their times; help says how long until the next."""
    clock = VirtualClock()
    driver, done = InlineDriver(clock), []
    driver.wake_at(2, lambda: [job(lambda: done.append("second"))])
    driver.wake_at(1, lambda: done.append("first") or ())
    assert driver.help() == 1
    clock.time = 1.5
    assert driver.help() == 0.5
    assert done == ["first"]
    clock.time = 3
    assert driver.help() is None
    assert done == ["first", "second"]


def test_wake_ups_that_are_due_together_are_made_on_a_flat_stack() -> None:
    """Starting the job of one does not make the next one inside it: after a long pause there may be thousands."""
    clock = VirtualClock()
    driver, done = InlineDriver(clock), []

    def wake(n: int) -> Iterable[Job]:
        driver.start(job(lambda: done.append(n)))
        return ()

    for n in range(5_000):
        driver.wake_at(1, partial(wake, n))
    clock.time = 1
    assert driver.help() is None
    assert done == list(range(5_000))


def test_a_cancelled_wake_up_is_not_made() -> None:
    """Cancelling again, or after it was made, does nothing."""
    clock = VirtualClock()
    driver, done = InlineDriver(clock), []
    cancel = driver.wake_at(1, lambda: done.append("cancelled") or ())
    kept = driver.wake_at(1, lambda: done.append("kept") or ())
    cancel()
    cancel()
    clock.time = 1
    assert driver.help() is None
    kept()
    assert done == ["kept"]


def test_close_and_fork_forget() -> None:
    """There is nothing to wake for any more."""
    for forget in (InlineDriver.close, InlineDriver.after_fork):
        driver = InlineDriver(VirtualClock())
        driver.wake_at(1, tuple)
        driver.rest()
        assert driver.help() == 1
        forget(driver)
        assert driver.help() is None


def test_it_waits_by_its_clock() -> None:
    """The real one if none is given."""
    clock = VirtualClock()
    driver = InlineDriver(clock)
    condition = threading.Condition()
    driver.wait(condition, 5)
    assert driver.now() == 5
    real = SystemClock()
    before = real.now()
    with condition:
        real.wait(condition, 0)
    assert real.now() >= before
