"""Coroutines stepped by hand: what the user's code sees of it, which is nothing."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import pytest

from chained_models.drivers._coroutine import Waiting, advance, waited
from chained_models.protocols import Steps

here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")


class Heard:
    """Steps that make these calls, and write down what each has come to."""

    def __init__(self, *calls: Callable[[], Any], seconds: float | None = None) -> None:
        self.ends: list[Any] = []
        self.closed = False
        self._calls = calls
        self._seconds = seconds
        self.steps = self._run()

    def _run(self) -> Steps:
        for call in self._calls:
            try:
                self.ends.append((yield call, self._seconds))
            except GeneratorExit:
                self.closed = True
                raise
            except BaseException as error:
                self.ends.append(error)
        return ()


async def played(heard: Heard, context: contextvars.Context | None = None) -> list[Any]:
    """What the calls came to, driven in this task and in that context."""
    context = contextvars.copy_context() if context is None else context
    time = asyncio.get_running_loop().time
    reached = context.run(advance, heard.steps.__next__, heard.steps, time)
    while isinstance(reached, Waiting):
        move = await waited(reached, heard.steps, context)
        reached = context.run(advance, move, heard.steps, time)
    assert reached == ()
    return heard.ends


async def at_once(value: Any) -> Any:
    return value


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def raising(error: BaseException, *, late: bool = False) -> None:
    if late:
        await asyncio.sleep(0)
    raise error


def test_what_waits_for_nothing_needs_no_loop() -> None:
    """Plain calls and coroutines that have their result at once are gone through in one go."""
    heard = Heard(lambda: 1, lambda: at_once(2), lambda: at_once(3), seconds=1)
    assert advance(heard.steps.__next__, heard.steps, lambda: 0.0) == ()
    assert heard.ends == [1, 2, 3]


def test_what_waits_gets_its_result() -> None:
    """Coroutines, futures and whatever else can be awaited."""

    class Odd:
        def __await__(self) -> Generator[Any, Any, str]:
            yield from asyncio.sleep(0).__await__()
            return "odd"

    async def main() -> list[Any]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")
        return await played(Heard(lambda: later(1), Odd, lambda: future, lambda: asyncio.sleep(0.001, "timed")))

    assert asyncio.run(main()) == [1, "odd", "future", "timed"]


def test_a_job_has_its_context_from_its_start_to_its_end() -> None:
    """What a call sets is there after it has waited, and for the next call; the task that steps it has none of it."""
    seen: list[str] = []

    async def work() -> None:
        seen.append(here.get())
        here.set("set")
        await asyncio.sleep(0)
        seen.append(here.get())
        await asyncio.create_task(child())

    async def child() -> None:
        seen.append(here.get())

    async def main() -> None:
        context = contextvars.Context()
        context.run(here.set, "given")
        await played(Heard(work, lambda: seen.append(here.get())), context)
        assert here.get() == "nowhere"

    asyncio.run(main())
    assert seen == ["given", "set", "set", "set"]


def test_what_needs_a_task_finds_one() -> None:
    """Timeouts and groups of the user's work, whether they are entered before or after the first time it waits."""
    tasks: list[Any] = []

    async def work() -> str:
        tasks.append(asyncio.current_task())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(3600)
        async with asyncio.TaskGroup() as group:
            one = group.create_task(later("in a group"))
        tasks.append(asyncio.current_task())
        return one.result()

    async def main() -> list[Any]:
        ends = await played(Heard(work, seconds=3600))
        mine = asyncio.current_task()
        assert tasks == [mine, mine]
        assert mine is not None and not mine.cancelling()
        return ends

    assert asyncio.run(main()) == ["in a group"]


def test_the_time_of_a_call_is_counted_from_its_start() -> None:
    """Not from the moment in which it comes to wait, though nothing is armed before that."""
    now = 100.0

    async def slow() -> None:
        nonlocal now
        now += 7
        await asyncio.sleep(0)

    heard = Heard(slow, seconds=10)
    reached = advance(heard.steps.__next__, heard.steps, lambda: now)
    assert isinstance(reached, Waiting)
    assert reached.ends == 110
    reached.coroutine.close()


def test_a_call_that_has_had_its_time_is_ended() -> None:
    """TimeoutError is thrown into the steps, the coroutine is ended first, and the task goes on as if nothing had been."""
    ended: list[type] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(3600)
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> list[Any]:
        ends = await played(Heard(hang, lambda: later("next"), seconds=0.001))
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        return ends

    first, second = asyncio.run(main())
    assert (type(first), second, ended) == (TimeoutError, "next", [asyncio.CancelledError])


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after it has waited"])
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), StopAsyncIteration()])
def test_what_a_coroutine_raises_is_thrown_into_the_steps(error: BaseException, late: bool) -> None:
    """Also a CancelledError, if nobody has cancelled the task."""
    assert asyncio.run(played(Heard(lambda: raising(error, late=late), lambda: 2, seconds=3600))) == [error, 2]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after it has waited"])
def test_a_generator_exit_out_of_a_coroutine_is_a_failure(late: bool) -> None:
    """It does not end the steps, as one does that comes from outside."""
    heard = Heard(lambda: raising(GeneratorExit(), late=late), lambda: 2)
    first, second = asyncio.run(played(heard))
    assert isinstance(first, RuntimeError)
    assert isinstance(first.__cause__, GeneratorExit)
    assert (second, heard.closed) == (2, False)


def test_a_cancelled_task_leaves_the_steps_where_they_are() -> None:
    """The cancellation goes through the coroutine, which may clean up, and comes out; what it says is not asked."""
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append("up")

    async def main() -> Heard:
        heard = Heard(work, seconds=3600)
        task = asyncio.create_task(played(heard))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return heard

    heard = asyncio.run(main())
    assert (heard.ends, cleaned) == ([], ["up"])


class Forever:
    """Waits, and needs no loop for it."""

    def __await__(self) -> Generator[None, Any, None]:
        yield


def test_a_task_that_is_dropped_closes_its_coroutine() -> None:
    """In the context of the job, and without asking the steps."""
    closed: list[str] = []

    async def work() -> None:
        try:
            await Forever()
        except GeneratorExit:
            closed.append(here.get())
            raise

    context = contextvars.Context()
    context.run(here.set, "given")
    heard = Heard(work)
    reached = context.run(advance, heard.steps.__next__, heard.steps, lambda: 0.0)
    assert isinstance(reached, Waiting)
    rest = waited(reached, heard.steps, context)
    rest.send(None)
    rest.close()
    assert (closed, heard.ends, heard.closed) == (["given"], [], False)
