"""Steps, driven in an event loop by a task that does many jobs one after the other, each of them in its own context.

The coroutine that a call returns is stepped here as its loop would step it. One that never waits for anything, as most
fakes and caches are, then costs neither a timer nor a turn of the loop. When it first waits for something, its deadline is
armed, and what it yields is passed on to the loop by the task that steps it: that is the task which the user's code finds
as the current one, and which `asyncio.timeout` and the like cancel.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextvars import Context
from functools import partial
from typing import Any, TypeAlias

from ..protocols import Call, Job, Steps
from ._steps import leaked

Move: TypeAlias = Callable[[], Call]
"""What brings steps to their next call."""


class Waiting:
    """Steps in the middle of a call whose coroutine waits for something.

    Attributes:
        coroutine: That one.
        yielded: What it has yielded, for the loop.
        ends: When the call has had its time, on the loop's clock; None if it may take as long as it likes.
    """

    __slots__ = ("coroutine", "ends", "yielded")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], yielded: Any, ends: float | None) -> None:
        self.coroutine = coroutine
        self.yielded = yielded
        self.ends = ends


def advance(move: Move, steps: Steps, time: Callable[[], float]) -> Iterable[Job] | Waiting:
    """Make the calls of `steps`, in the present context, until one waits for something, or to the end.

    Args:
        move: Brings them to the next call: their `__next__`, or what :func:`waited` returned.
        steps: What yields the calls.
        time: The loop's clock. The seconds of a call are counted from its start, whenever it comes to wait.

    Returns:
        What is waited for, or the jobs that are to run next.

    Raises:
        CancelledError: The task was cancelled; the steps are left where they are.
        BaseException: What the steps raise.
    """
    try:
        call, seconds = move()
        while True:
            ends = None if seconds is None else time() + seconds
            try:
                result = call()
                if type(result) is types.CoroutineType or inspect.isawaitable(result):
                    coroutine = result if type(result) is types.CoroutineType else _awaiting(result)
                    try:
                        yielded = coroutine.send(None)
                    except StopIteration as stop:
                        result = stop.value
                    else:
                        return Waiting(coroutine, yielded, ends)
            except BaseException as error:  # noqa: BLE001 - the steps decide, and settle the save in every case
                call, seconds = steps.throw(_for_steps(error))
            else:
                call, seconds = steps.send(result)
    except StopIteration as stop:
        following: Iterable[Job] = stop.value
        return following


async def waited(waiting: Waiting, steps: Steps, context: Context) -> Move:
    """Await the rest of the call, in the job's context, within its time; returns what brings the steps to the next one.

    Raises:
        CancelledError: The task was cancelled; the steps are left where they are.
        GeneratorExit: The task was dropped.
    """
    try:
        if waiting.ends is None:
            result = await _carried(waiting, context)
        else:
            async with asyncio.timeout_at(waiting.ends):
                result = await _carried(waiting, context)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        return partial(steps.throw, _for_steps(error))
    return partial(steps.send, result)


@types.coroutine
def _carried(waiting: Waiting, context: Context) -> Generator[Any, Any, Any]:
    """What the coroutine returns: passes on what it yields to the loop, and to it what the loop sends or throws in."""
    coroutine, yielded = waiting.coroutine, waiting.yielded
    while True:
        try:
            sent = yield yielded
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation: what becomes of it is the coroutine's to say
            move = partial(coroutine.throw, error)
        else:
            move = partial(coroutine.send, sent)
        try:
            yielded = context.run(move)
        except StopIteration as stop:
            return stop.value
        except GeneratorExit as error:
            raise leaked(error) from error


async def _awaiting(result: Awaitable[Any]) -> Any:
    return await result


def _for_steps(error: BaseException) -> BaseException:
    """What is thrown into the steps for what a call raised. Raises it if it says that the task was cancelled."""
    if isinstance(error, GeneratorExit):
        return leaked(error)
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
    return error
