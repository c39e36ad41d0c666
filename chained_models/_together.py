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
from .operation import Answer, Operation
from .protocols import Call, Execution

__all__ = ["Line", "attempt_together", "first_error"]


class Line:
    """The steps of one attempt, and where they are.

    Attributes:
        start: Which attempt.
        call: What it wants to be called next; None once it is over.
    """

    __slots__ = ("_answer", "_error", "_steps", "call", "start")

    def __init__(self, start: Start, announce: Callable[[Any], None] | None) -> None:
        self.start = start
        self.call: Call | None = None
        self._steps = start.save.work.attempt(start.save, announce)
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def go_on(self, result: Any = None, error: BaseException | None = None) -> None:
        """Take what came of its call, and go on to the next one, or to its end."""
        self.call = None
        try:
            self.call = self._steps.send(result) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self._answer = stop.value
        except BaseException as raised:  # noqa: BLE001 - it ends this attempt, and none of the others
            self._error = raised

    def calls(self, *, all_of_them: bool = True) -> Generator[Call, Any, None]:
        """Make its calls, to its end; or only up to the one that may be shared."""
        while self.call is not None and (all_of_them or type(self.call[0]) is not Execution):
            try:
                result = yield self.call
            except GeneratorExit:
                raise  # its loop is gone; whoever noticed has settled the save
            except BaseException as raised:  # noqa: BLE001 - the steps decide
                self.go_on(error=raised)
            else:
                self.go_on(result)

    def leave(self) -> None:
        """Make none of its calls any more."""
        self.call = None
        self._steps.close()

    @property
    def ended(self) -> Ended:
        """How it ended."""
        return Ended(self.start.save, self.start.token, self._answer, self._error)


def attempt_together(
    starts: Iterable[Start], announce: Callable[[Any], None] | None
) -> Generator[Call, Any, list[Line]]:
    """Make these attempts, as steps; all of one backend, which has an `execute_many`.

    Returns:
        All of them. Those that want to call something else now that they have their answer (to look what is stored, after a
        conflict) are not over: the others must not wait for that.

    Args:
        starts: Which; all of them still count.
        announce: Called with each save just before it is sent, if it is given.
    """
    lines = [Line(start, announce) for start in starts]
    for line in lines:
        line.go_on()
        yield from line.calls(all_of_them=False)
    sending = [(line, line.call) for line in lines if line.call is not None]
    if sending:
        results = yield from _sent(sending[0][0].start.save.backend, [call for _, call in sending])
        for (line, _), result in zip(sending, results, strict=True):
            if isinstance(result, BaseException):
                line.go_on(error=result)
            else:
                line.go_on(result)
    return lines


def first_error(lines: Iterable[Line]) -> BaseException | None:
    """What the first of these attempts that has failed did so with."""
    errors = (line.ended.error for line in lines)
    return next((error for error in errors if error is not None), None)


def _sent(backend: Any, sends: Sequence[tuple[Any, float | None]]) -> Generator[Call, Any, Sequence[Any]]:
    """What became of each."""
    (first, _), *others = sends
    seconds = min((seconds for _, seconds in sends if seconds is not None), default=None)
    call: Callable[[], Any] = first
    if others:
        call = partial(_execute_many, backend, [one.args[0] for one, _ in sends])
    try:
        returned = yield call, seconds
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - each attempt decides what it means
        return [error] * len(sends)
    if not others:
        return [returned]
    try:
        results = list(returned) if isinstance(returned, Sequence) else []
    except Exception as error:  # noqa: BLE001 - a sequence of the backend's own
        return [error] * len(sends)
    if len(results) == len(sends):
        return results
    wrong = TypeError(f"execute_many() returns one answer, or error, for each of {len(sends)} operations")
    return [wrong] * len(sends)


def _execute_many(backend: Any, operations: Sequence[Operation]) -> Any:
    """Looked up when it is called: whatever is wrong with it is then the end of these attempts."""
    return backend.execute_many(operations)
