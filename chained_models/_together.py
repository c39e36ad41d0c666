"""Attempts of several saves together: each as it would be alone, but for the call that sends it, which they share.

An attempt is steps that yield calls. They are taken to where each wants to send, all that is to be sent goes to the backend's
`execute_many` as one, and each goes on with its own answer, or error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

from ._jobs import Ended
from ._machine import Start
from .operation import Answer
from .protocols import Call, Execution

__all__ = ["attempt_together"]


class _Line:
    """The steps of one attempt, and where they are."""

    __slots__ = ("answer", "error", "sends", "start", "steps")

    def __init__(self, start: Start, announce: Callable[[Any], None] | None) -> None:
        self.start = start
        self.steps = start.save.work.attempt(start.save, announce)
        self.sends: tuple[Execution, float | None] | None = None
        self.answer: Answer | None = None
        self.error: BaseException | None = None

    def go_on(self, result: Any = None, error: BaseException | None = None) -> Generator[Call, Any, None]:
        """Go on until it wants to send, or is over."""
        self.sends = None
        try:
            while True:
                call, seconds = self.steps.send(result) if error is None else self.steps.throw(error)
                if type(call) is Execution:
                    self.sends = call, seconds
                    return
                result, error = None, None
                try:
                    result = yield call, seconds
                except GeneratorExit:
                    raise
                except BaseException as raised:  # noqa: BLE001 - the steps decide
                    error = raised
        except StopIteration as stop:
            self.answer = stop.value
        except GeneratorExit:
            raise
        except BaseException as raised:  # noqa: BLE001 - it ends this attempt, and none of the others
            self.error = raised

    @property
    def ended(self) -> Ended:
        return Ended(self.start.save, self.start.token, self.answer, self.error)


def attempt_together(
    starts: Iterable[Start], announce: Callable[[Any], None] | None
) -> Generator[Call, Any, list[Ended]]:
    """Make these attempts, as steps; all of one backend, which has an `execute_many`.

    Args:
        starts: Which; all of them still count.
        announce: Called with each save just before it is sent, if it is given.
    """
    lines = [_Line(start, announce) for start in starts]
    for line in lines:
        yield from line.go_on()
    sending = [line for line in lines if line.sends is not None]
    if sending:
        backend = sending[0].start.save.backend
        results = yield from _sent(backend, [line.sends for line in sending if line.sends is not None])
        for line, result in zip(sending, results, strict=True):
            if isinstance(result, BaseException):
                yield from line.go_on(error=result)
            else:
                yield from line.go_on(result)
    return [line.ended for line in lines]


def _sent(backend: Any, sends: Sequence[tuple[Execution, float | None]]) -> Generator[Call, Any, Sequence[Any]]:
    """What became of each."""
    (first, _), *others = sends
    seconds = min((seconds for _, seconds in sends if seconds is not None), default=None)
    call: Callable[[], Any] = first
    if others:
        call = partial(backend.execute_many, [one.args[0] for one, _ in sends])
    try:
        returned = yield call, seconds
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - each attempt decides what it means
        return [error] * len(sends)
    if not others:
        return [returned]
    if isinstance(returned, Sequence) and len(returned) == len(sends):
        return returned
    wrong = TypeError(f"execute_many() returns one answer, or error, for each of {len(sends)} operations")
    return [wrong] * len(sends)
