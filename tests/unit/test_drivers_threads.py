"""The threads driver: workers and a timer that come when there is something to do, and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chained_models.drivers import threads as module
from chained_models.drivers.threads import ThreadsDriver

from ..contract.scripted import PATIENCE, AsyncScripted, Scripted, threads_of_ours
from .test_drivers_inline import job


@pytest.fixture
def driver() -> Iterator[ThreadsDriver]:
    """One that leaves no thread behind."""
    before = threading.enumerate()
    made = ThreadsDriver()
    yield made
    made.close()
    assert threads_of_ours(since=before) == []


def ended(driver: ThreadsDriver) -> bool:
    """Whether all threads of this driver are gone, given a moment."""
    for thread in [*driver._workers, *([] if driver._timer is None else [driver._timer])]:
        thread.join(PATIENCE)
    return not driver._workers and driver._timer is None


class Note:
    """What was done, and a way to wait for it."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._news = threading.Condition()

    def __call__(self, what: Any = None) -> tuple[()]:
        with self._news:
            self.made.append(what)
            self._news.notify_all()
        return ()

    def wait(self, number: int) -> list[Any]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.made) >= number, PATIENCE)
        return self.made


def test_it_runs_blocking_backends_only(driver: ThreadsDriver) -> None:
    """A coroutine would need a loop."""
    driver.claim()
    assert driver.supports(Scripted())
    assert not driver.supports(AsyncScripted())
    assert driver.overlaps


def test_jobs_run_in_workers_at_the_same_time(driver: ThreadsDriver) -> None:
    """Two jobs that wait for each other both end; their thread knows that it works."""
    barrier, note = threading.Barrier(2), Note()

    def meet() -> None:
        barrier.wait(PATIENCE)
        note(driver.owns_thread())

    driver.start(job(meet), job(meet))
    assert note.wait(2) == [True, True]
    assert not driver.owns_thread()


def test_followers_run_too(driver: ThreadsDriver) -> None:
    """All that a job returns is carried out."""
    note = Note()
    driver.start(job(note, lambda: [job(note), job(note)]))
    note.wait(3)


def test_a_worker_survives_a_job_that_raises(driver: ThreadsDriver, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next job runs."""
    note = Note()

    def storm() -> None:
        raise SystemExit

    driver.start(job(storm))
    driver.start(job(note))
    note.wait(1)
    driver.close()
    assert ended(driver)
    assert "its worker goes on" in caplog.text


def test_there_is_an_end_to_the_number_of_workers(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs beyond it wait for a worker."""
    monkeypatch.setattr(module, "MAX_THREADS", 1)
    held, note = threading.Event(), Note()
    driver.start(job(lambda: held.wait(PATIENCE)))
    driver.start(job(note))
    assert len(driver._workers) == 1
    held.set()
    note.wait(1)


def test_an_idle_worker_goes_by_itself(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without work."""
    monkeypatch.setattr(module, "LINGER", 0.001)
    note = Note()
    driver.start(job(note))
    note.wait(1)
    assert ended(driver)


def until_idle(driver: ThreadsDriver, number: int = 1) -> None:
    """Until so many workers have nothing to do."""
    ends = driver.now() + PATIENCE
    while len(driver._idle) < number:
        assert driver.now() < ends
        time.sleep(0)


def test_a_job_does_not_wait_for_a_busy_worker(driver: ThreadsDriver) -> None:
    """However many are busy; and it gets an idle one before a new one is made."""
    held, note = threading.Event(), Note()

    def hold() -> None:
        note("held")
        held.wait(PATIENCE)

    for number in range(1, 4):
        driver.start(job(hold))
        note.wait(number)
    driver.start(job(lambda: note("past them")))
    assert note.wait(4)[-1] == "past them"
    until_idle(driver)
    driver.start(job(lambda: note("again")))
    assert note.wait(5)[-1] == "again"
    assert len(driver._workers) == 4
    held.set()


def test_a_job_that_follows_alone_is_done_by_the_same_worker(driver: ThreadsDriver) -> None:
    """Nobody else is woken for it."""
    note = Note()

    def where() -> None:
        note(threading.get_ident())

    driver.start(job(where, lambda: [job(where, lambda: [job(where)])]))
    assert len(set(note.wait(3))) == 1
    assert len(driver._workers) == 1


def test_what_follows_stands_behind_what_came_before_it(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a chain that always has work would keep the others waiting."""
    monkeypatch.setattr(module, "MAX_THREADS", 1)
    held, note = threading.Event(), Note()
    driver.start(job(lambda: held.wait(PATIENCE), lambda: [job(lambda: note("follower"))]))
    driver.start(job(lambda: note("before it")))
    held.set()
    assert note.wait(2) == ["before it", "follower"]


def test_an_interrupt_in_the_middle_of_a_call_leaves_the_line_attended(driver: ThreadsDriver) -> None:
    """A worker that was called, and not counted, is not missed later."""
    note = Note()
    with driver._lock:
        driver.start(job(note))
        driver._coming = 0
    note.wait(1)
    until_idle(driver)
    assert driver._coming == 0
    driver.start(job(note))
    note.wait(2)


def test_a_worker_that_is_called_as_it_goes_stays(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job it was called for is done by it."""
    note, wanted = Note(), job(lambda: None)

    class Late:
        """A bell that rings when its owner has just stopped listening."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if blocking:
                driver.start(wanted)
            note(blocking)
            return not blocking

        def release(self) -> None:
            note("rung")

    seat = module._Seat()
    seat.bell = Late()  # type: ignore[assignment]
    assert driver._next_job(seat) is wanted
    assert note.made == ["rung", True, False]
    assert driver._coming == 0


def test_rest_lets_idle_workers_go_at_once(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they would have stayed."""
    monkeypatch.setattr(module, "LINGER", 3600.0)
    note = Note()
    driver.start(job(note))
    note.wait(1)
    until_idle(driver)
    driver.rest()
    assert ended(driver)


def test_rest_lets_idle_workers_go_but_not_busy_ones(driver: ThreadsDriver) -> None:
    """And does nothing while there are jobs in line."""
    held, note = threading.Event(), Note()
    driver.start(job(lambda: held.wait(PATIENCE)))
    driver.rest()
    held.set()
    driver.start(job(note))
    note.wait(1)
    driver._workers, kept = set(), driver._workers
    driver._jobs.append(job(note))
    driver.rest()
    driver._jobs.clear()
    driver._workers = kept


def test_the_timer_wakes_in_order_and_goes(driver: ThreadsDriver) -> None:
    """An earlier time that is added later comes first; what is cancelled does not come."""
    note, now = Note(), driver.now()
    late = driver.wake_at(now + 3600, lambda: note("late"))
    driver.wake_at(now + 0.002, lambda: note("soon"))
    driver.wake_at(now, lambda: [job(lambda: note("at once"))])
    assert sorted(note.wait(2)) == ["at once", "soon"]
    late()
    late()
    timer = driver._timer
    if timer is not None:
        timer.join(PATIENCE)
    assert driver._timer is None
    assert len(note.made) == 2


def test_the_timer_survives_a_wake_up_that_raises(driver: ThreadsDriver, caplog: pytest.LogCaptureFixture) -> None:
    """It is the only one there is."""
    note = Note()

    def storm() -> Any:
        raise KeyboardInterrupt

    driver.wake_at(driver.now(), storm)
    driver.wake_at(driver.now(), note)
    note.wait(1)
    assert "the timer goes on" in caplog.text


def test_close_ends_a_waiting_timer(driver: ThreadsDriver) -> None:
    """Whatever it was waiting for."""
    driver.wake_at(driver.now() + 3600, tuple)
    driver.close()
    assert ended(driver)


def test_close_does_not_wait_for_what_hangs(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a worker in a backend nor for a timer in a receiver."""
    held, inside = threading.Event(), Note()

    def hang() -> Any:
        inside()
        held.wait(PATIENCE)
        return ()

    driver.start(job(hang))
    inside.wait(1)
    driver.wake_at(driver.now(), hang)
    inside.wait(2)
    driver._times.wait = lambda seconds: False  # type: ignore[method-assign]
    driver.close()
    held.set()


def test_where_no_thread_can_be_made_the_one_that_waits_does_the_work(
    driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the exit of newer Pythons: jobs, their followers and wake-ups that are due are done in `help()`."""
    monkeypatch.setattr(module, "_begin", lambda thread: False)
    note = Note()
    driver.start(job(lambda: note("job"), lambda: [job(lambda: note("follower"))]))
    driver.wake_at(driver.now(), lambda: note("wake"))
    driver.wake_at(driver.now() + 3600, lambda: note("late"))
    pause = driver.help()
    assert note.made == ["job", "follower", "wake"]
    assert pause is not None
    assert 3590 < pause <= 3600
    driver._wakes.clear()
    assert driver.help() is None


def test_being_out_of_threads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work stays in line."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    assert not module._begin(Refused())


def test_it_waits_for_a_notification() -> None:
    """Or for the seconds to pass."""
    condition = threading.Condition()
    with condition:
        ThreadsDriver().wait(condition, 0)


def test_a_forked_child_has_none_of_it(driver: ThreadsDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither jobs nor times."""
    monkeypatch.setattr(module, "_begin", lambda thread: False)
    note = Note()
    driver.start(job(note))
    driver.wake_at(driver.now(), note)
    driver.after_fork()
    assert driver.help() is None
    assert note.made == []
