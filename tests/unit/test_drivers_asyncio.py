"""The asyncio driver: jobs are tasks of one loop, the owner; whose that is, and what happens when it goes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from chained_models import WrongLoop
from chained_models.drivers import asyncio as module
from chained_models.drivers._background import Background
from chained_models.drivers.asyncio import AsyncioDriver
from chained_models.protocols import Job

from ..contract.scripted import PATIENCE, AsyncScripted, Scripted, threads_of_ours
from .test_drivers_threads import Note


@pytest.fixture(autouse=True)
def background(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A background loop that no other test shares, and no thread left behind."""
    before = threading.enumerate()
    monkeypatch.setattr(module, "_background", Background())
    yield
    assert threads_of_ours(since=before) == []


@pytest.fixture
def driver(background: None) -> Iterator[AsyncioDriver]:
    """One that is closed."""
    made = AsyncioDriver()
    yield made
    made.close()


def job(
    call: Callable[[], Any],
    following: Callable[[], Iterable[Job]] = tuple,
    *,
    seconds: float | None = None,
    failed: Callable[[BaseException], object] | None = None,
) -> Job:
    """A job that makes one call; tells `failed` if it raises."""

    def steps() -> Any:
        try:
            yield call, seconds
        except GeneratorExit:
            raise
        except BaseException as error:
            if failed is None:
                raise
            failed(error)
        return following()

    return Job(steps, contextvars.copy_context())


def test_it_runs_coroutine_backends_only(driver: AsyncioDriver) -> None:
    """A blocking one would stop the loop."""
    assert driver.supports(AsyncScripted())
    assert not driver.supports(Scripted())
    assert driver.overlaps


def test_plain_code_gets_a_background_loop(driver: AsyncioDriver) -> None:
    """Claimed once; jobs, coroutines or not, and their followers run in its thread, which must not wait."""
    note = Note()
    driver.claim()
    driver.claim()

    async def work() -> None:
        note((driver.owns_thread(), threading.current_thread().name))

    driver.start(job(work, lambda: [job(lambda: note("follower"))]))
    assert note.wait(2) == [(True, "chained-models-loop"), "follower"]
    assert not driver.owns_thread()
    assert driver.help() is None


def test_two_drivers_share_the_background_loop() -> None:
    """It is stopped when the last of them closes, and closing twice is once."""
    one, two = AsyncioDriver(), AsyncioDriver()
    one.claim()
    two.claim()
    assert one._owner is two._owner
    one.close()
    one.close()
    note = Note()
    two.start(job(note))
    note.wait(1)
    assert module._background._thread is not None
    two.close()
    assert module._background._thread is None


def test_a_driver_that_is_dropped_gives_the_background_loop_back() -> None:
    """Nobody closes one whose backend is gone; the loop stays for the others, and ends with the last."""
    one, two = AsyncioDriver(), AsyncioDriver()
    one.claim()
    two.claim()
    thread = module._background._thread
    assert thread is not None
    del one
    gc.collect()
    two.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert module._background._thread is None


def test_the_background_loop_can_be_left_from_its_own_thread() -> None:
    """It does not wait for itself."""
    driver = AsyncioDriver()
    driver.claim()
    driver.start(job(driver.close))


def test_a_loop_may_go_on_in_another_thread(driver: AsyncioDriver) -> None:
    """The thread that claimed it is then like any other: it hops in, and may wait."""
    loop = asyncio.new_event_loop()

    async def claim() -> None:
        driver.claim()
        assert driver.owns_thread()

    loop.run_until_complete(claim())
    turning = threading.Event()
    loop.call_soon(turning.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert turning.wait(5)
        assert not driver.owns_thread()
        done = threading.Event()
        driver.wake_at(0, lambda: done.set() or ())
        assert done.wait(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def test_a_running_loop_becomes_the_owner(driver: AsyncioDriver) -> None:
    """Jobs are its tasks; another open loop is refused, plain threads are not; a thread that waits looks again."""

    async def main() -> None:
        driver.claim()
        assert driver.owns_thread()
        assert driver.help() is None
        assert await asyncio.to_thread(driver.help) == module.LOOK_AGAIN
        done = asyncio.Event()
        driver.start(job(done.set))
        await done.wait()
        await asyncio.to_thread(driver.claim)

        async def other() -> None:
            with pytest.raises(WrongLoop):
                driver.claim()

        await asyncio.to_thread(asyncio.run, other())

    asyncio.run(main())


def test_a_call_has_its_seconds(driver: AsyncioDriver) -> None:
    """Then TimeoutError is thrown into the steps."""
    note = Note()
    driver.claim()
    driver.start(job(lambda: asyncio.sleep(PATIENCE), seconds=0.001, failed=lambda error: note(type(error))))
    assert note.wait(1) == [TimeoutError]


def test_a_coroutine_that_cancels_itself_is_a_failure(driver: AsyncioDriver) -> None:
    """CancelledError out of a backend is no end of the loop."""
    note = Note()

    async def cancel() -> None:
        raise asyncio.CancelledError

    driver.claim()
    driver.start(job(cancel, failed=lambda error: note(type(error))))
    assert note.wait(1) == [asyncio.CancelledError]


def test_wake_ups_come_at_their_time(driver: AsyncioDriver) -> None:
    """In the loop, with the jobs they return; a cancelled one does not come."""
    note = Note()
    driver.claim()
    late = driver.wake_at(driver.now() + 3600, lambda: note("late"))
    driver.wake_at(driver.now() + 0.002, lambda: [job(lambda: note("job"))])
    cancelled = driver.wake_at(driver.now() + 0.001, lambda: note("cancelled"))
    cancelled()
    assert note.wait(1) == ["job"]
    late()
    assert driver._owner is not None
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), driver._owner).result(PATIENCE)
    assert all(timer.cancelled() for timer in driver._owner._scheduled)  # type: ignore[attr-defined]


def test_a_wake_up_keeps_nothing_of_the_callers_context(driver: AsyncioDriver) -> None:
    """A backend that is bound there would live as long as the lane that holds the wake-up."""
    here: contextvars.ContextVar[str] = contextvars.ContextVar("here")
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    driver.claim()
    context = contextvars.copy_context()
    context.run(here.set, "kept")
    context.run(driver.wake_at, 0, lambda: told.put(here.get("nothing")) or ())
    assert told.get(timeout=5) == "nothing"


def test_a_wake_up_cancelled_before_the_loop_knew_of_it_is_not_armed(driver: AsyncioDriver) -> None:
    """Nor one that is cancelled as it comes."""
    note = Note()
    driver.claim()
    held, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        held.wait(PATIENCE)

    driver.start(job(hold))
    assert inside.wait(PATIENCE)
    driver.wake_at(driver.now(), lambda: note("cancelled"))()
    held.set()
    driver.start(job(lambda: note("after")))
    assert note.wait(1) == ["after"]


def test_without_an_owner_nothing_is_done(driver: AsyncioDriver) -> None:
    """Work for a loop that was forgotten meanwhile is nobody's."""
    note = Note()
    driver.start(job(note))
    driver.wake_at(driver.now(), note)()
    driver.rest()
    assert note.made == []


def test_a_closed_owner_is_noticed(driver: AsyncioDriver) -> None:
    """Once, by whoever comes next: a claim, a wait, or a start; the next user owns it."""
    lost: list[int] = []
    driver.lost = lambda: lost.append(1)

    async def main() -> None:
        driver.claim()

    for notice in (driver.help, lambda: driver.start(job(lambda: None)), driver.claim):
        asyncio.run(main())
        notice()
        driver.help()
    assert lost == [1, 1, 1]


def test_a_loop_that_is_shut_down_is_forgotten(driver: AsyncioDriver, caplog: pytest.LogCaptureFixture) -> None:
    """It cancels its tasks first: the steps are closed, and the loss is told once."""
    lost: list[int] = []
    driver.lost = lambda: lost.append(1)

    async def main() -> None:
        driver.claim()
        driver.start(job(lambda: asyncio.sleep(PATIENCE)), job(lambda: asyncio.sleep(PATIENCE)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert lost == [1]
    assert driver._owner is None


def test_the_background_loop_survives_an_interrupt(driver: AsyncioDriver, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next job runs."""
    note = Note()

    def storm() -> None:
        raise KeyboardInterrupt

    driver.claim()
    driver.start(job(storm))
    driver.start(job(note))
    note.wait(1)
    assert "goes on" in caplog.text


def test_closing_cancels_what_hangs_in_the_background_loop() -> None:
    """No task is left pending in a closed loop."""
    driver, note = AsyncioDriver(), Note()

    async def hang() -> None:
        try:
            note("in")
            await asyncio.sleep(PATIENCE)
        finally:
            note("out")

    driver.claim()
    driver.start(job(hang))
    note.wait(1)
    driver.close()
    assert note.wait(2) == ["in", "out"]


def test_a_forked_child_has_none_of_it() -> None:
    """Neither owner nor background loop: its thread is the parent's."""
    driver = AsyncioDriver()
    driver.claim()
    background = module._background
    driver.after_fork()
    assert driver._owner is None
    assert module._background is not background
    background.leave()


def test_it_waits_for_a_notification(driver: AsyncioDriver) -> None:
    """Or for the seconds to pass."""
    condition = threading.Condition()
    with condition:
        driver.wait(condition, 0)
