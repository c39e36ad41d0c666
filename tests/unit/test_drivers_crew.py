"""The workers of a loop: few for what never waits, enough for what does, and none that is not to be used again."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

import pytest

from chained_models.drivers import _crew as module
from chained_models.drivers._crew import Crew
from chained_models.protocols import Job

from .test_drivers_asyncio import job


class Play:
    """A crew in a loop that is running, and what it lost."""

    def __init__(self) -> None:
        self.lost: list[Crew] = []
        self.loop = asyncio.get_running_loop()
        self.crew = Crew(self.loop, self.lost.append)
        self.turns = 0
        self._ticking = True
        self._tick()

    def _tick(self) -> None:
        self.turns += 1
        if self._ticking:
            self.loop.call_soon(self._tick)

    async def until(self, reached: Callable[[], bool], turns: int = 10_000) -> int:
        """How many turns of the loop it takes."""
        before = self.turns
        while not reached():
            assert self.turns - before < turns
            await asyncio.sleep(0)
        return self.turns - before

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking = False
        await asyncio.sleep(0)


def played(body: Callable[[Play], Awaitable[Any]]) -> Any:
    """What `body` returns, with a crew of its own in a loop of its own."""

    async def main() -> Any:
        async with Play() as play:
            return await body(play)

    return asyncio.run(main())


def test_jobs_that_never_wait_are_done_by_one_task() -> None:
    """In the order they came, followers at the end of the line."""
    tasks: set[Any] = set()
    done: list[Any] = []

    def doing(what: Any) -> Callable[[], Any]:
        async def work() -> None:
            tasks.add(asyncio.current_task())
            done.append(what)

        return work

    async def body(play: Play) -> None:
        play.crew.put([job(doing(0), lambda: [job(doing("after 0"))])])
        for number in range(1, 50):
            play.crew.put([job(doing(number))])
        assert done == []
        await play.until(lambda: len(done) == 51)

    played(body)
    assert done == [*range(50), "after 0"]
    assert len(tasks) == 1


def test_jobs_that_wait_are_soon_under_way_together() -> None:
    """A hundred of them within few turns of the loop, each in a task of its own, and none is left when they have ended."""
    tasks: set[Any] = set()
    ended: list[int] = []

    async def body(play: Play) -> int:
        go = asyncio.Event()

        async def work() -> None:
            tasks.add(asyncio.current_task())
            await go.wait()
            ended.append(1)

        play.crew.put([job(work, seconds=3600) for _ in range(100)])
        turns = await play.until(lambda: len(tasks) == 100)
        go.set()
        await play.until(lambda: len(ended) == 100)
        await play.until(lambda: not (play.crew._workers or play.crew._coming))
        return turns

    assert played(body) <= 10


def test_what_stands_behind_a_job_that_waits_goes_on() -> None:
    """Also what comes when all workers wait; and each job has the context that it came with."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    seen: list[str] = []

    def coming(what: str, call: Callable[[], Any]) -> Job:
        made = job(call)
        made.context.run(name.set, what)
        return made

    async def body(play: Play) -> None:
        go = asyncio.Event()

        async def hold() -> None:
            await go.wait()
            seen.append(name.get())

        play.crew.put([coming("held", hold), coming("behind", lambda: seen.append(name.get()))])
        await play.until(lambda: seen == ["behind"])
        play.crew.put([coming("late", lambda: seen.append(name.get()))])
        await play.until(lambda: seen == ["behind", "late"])
        go.set()
        await play.until(lambda: seen == ["behind", "late", "held"])

    played(body)


def test_a_burst_lets_the_loop_turn() -> None:
    """After so many jobs, and after so much time."""
    done: list[int] = []

    async def body(play: Play) -> int:
        done.clear()
        play.crew.put([job(lambda: done.append(1)) for _ in range(20)])
        return await play.until(lambda: len(done) == 20)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TURN", 3600)
        patch.setattr(module, "JOBS", 5)
        assert played(body) >= 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TURN", 1e-9)
        assert played(body) >= 10


def test_a_worker_that_rests_leaves_the_rest_to_one_that_comes() -> None:
    """Two do not take turns where one does."""
    done: list[int] = []

    async def body(play: Play) -> None:
        async def wait() -> None:
            await asyncio.sleep(0)
            done.append(0)

        play.crew.put([job(wait), job(wait), *(job(lambda: done.append(1)) for _ in range(20))])
        await play.until(lambda: len(done) == 22)
        await play.until(lambda: len(asyncio.all_tasks()) == 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "JOBS", 2)
        played(body)


def test_other_threads_wake_the_loop_once() -> None:
    """For all that they bring before it comes; and again for what they bring afterwards."""

    async def body(play: Play) -> None:
        done: list[int] = []
        calls: list[Any] = []
        hop = play.loop.call_soon_threadsafe

        def counted(call: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(call)
            return hop(call, *args, **kwargs)

        play.loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
        for times in (1, 2):
            thread = threading.Thread(target=lambda: [play.crew.call([job(lambda: done.append(1))]) for _ in range(10)])
            thread.start()
            thread.join()
            await play.until(lambda times=times: len(done) == 10 * times)  # type: ignore[misc]
            assert len(calls) == times

    played(body)


def test_a_loop_that_refuses_is_asked_again() -> None:
    """A call that did not get through is not taken for one that is on its way."""
    loop = asyncio.new_event_loop()
    crew = Crew(loop, lambda crew: None)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            crew.call([job(lambda: None)])


def test_a_job_that_raises_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; a CancelledError that nobody has asked for is not even that."""
    done: list[int] = []

    def storm(error: BaseException) -> Callable[[], Any]:
        def call() -> None:
            raise error

        return call

    async def body(play: Play) -> None:
        errors: list[BaseException] = [ValueError("no"), asyncio.CancelledError()]
        play.crew.put([*(job(storm(error)) for error in errors), job(lambda: done.append(1))])
        await play.until(lambda: bool(done))
        assert play.lost == []

    played(body)
    assert [record.getMessage() for record in caplog.records] == ["a job raised; the loop goes on"]


def test_an_interrupt_comes_out_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever runs it wants to know; when it runs again, the others are done."""
    done: list[int] = []

    def storm() -> None:
        raise KeyboardInterrupt

    loop = asyncio.new_event_loop()
    crew = Crew(loop, lambda crew: None)
    loop.call_soon(crew.put, [job(storm), job(lambda: done.append(1))])
    loop.call_later(3600, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert done == []
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert done == [1]
    assert "a job raised" in caplog.text


def test_a_call_that_cancels_its_task_does_not_hit_the_next_job() -> None:
    """That has another task, and nothing is taken for lost."""
    tasks: list[Any] = []

    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        task.cancel()

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        await asyncio.sleep(0)
        tasks.append(task)

    async def body(play: Play) -> None:
        play.crew.put([job(cancel), job(work)])
        await play.until(lambda: len(tasks) == 2)
        assert play.lost == []

    played(body)
    assert tasks[0] is not tasks[1]


@pytest.mark.parametrize("turns", [0, 1], ids=["before it began", "in the middle"])
def test_a_loop_that_is_shut_down_is_told(turns: int) -> None:
    """Whether its workers had come to a job or not; the steps are closed."""
    closed: list[bool] = []

    def steps() -> Any:
        try:
            yield lambda: asyncio.sleep(3600), None
        except GeneratorExit:
            closed.append(True)
            raise

    async def body(play: Play) -> None:
        play.crew.put([Job(steps, contextvars.copy_context())])
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await play.until(lambda: bool(play.lost))
        play.crew.dismiss()
        await play.until(lambda: len(asyncio.all_tasks()) == 1)

    played(body)
    assert closed == [True] * turns


def test_nobody_keeps_what_has_been_done() -> None:
    """While its worker waits in the next job, a job and what it called are gone."""

    class Big:
        def __call__(self) -> None:
            """Nothing."""

    async def body(play: Play) -> None:
        go = asyncio.Event()
        big = Big()
        watch = weakref.ref(big)

        async def hold() -> None:
            await go.wait()

        def following() -> Iterable[Job]:
            return [job(hold)]

        play.crew.put([job(big, following)])
        del big
        await play.until(lambda: not play.crew._jobs and bool(play.crew._workers))
        await asyncio.sleep(0)
        gc.collect()
        assert watch() is None
        go.set()

    played(body)
