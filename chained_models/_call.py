"""One call of a CallChain, and the turn that ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from ._pace import Pace
from ._work import Work
from .exceptions import InvalidOption
from .handle import Handle, Host
from .operation import Answer
from .policies import RetryPolicy
from .protocols import Driver

__all__ = ["CallHandle", "Turn", "name_of"]

T = TypeVar("T")

_ONCE = RetryPolicy(attempts=1, timeout=0.0)
"""Nothing is tried again by itself, and the time for all attempts is that of one."""


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called; never what it was given, which may be anything."""
    while isinstance(function, partial):
        function = function.func
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name


class CallHandle(Handle[T]):
    """One item of a CallChain; its result is what the worker returned, or what its turn was given.

    Attributes:
        id: Unique.
        name: The name it was added under, or None.
        item: What was added: a copy, unless it is a callable or the chain does not copy.
        state: Where it is in its life.
        attempts: Attempts made so far; those that a turn asked for again are counted.
        error: Why it failed, or was abandoned; None otherwise.
        superseded_by: The one that took its place, or None.
    """

    listed = False
    """Whether the worker gets a list."""
    returned: Any = None

    def __init__(
        self,
        host: Host,
        *,
        work: Work,
        calls: Any,
        item: Any,
        function: Callable[..., Any],
        port: Any,
        pace: Pace | None,
        name: str | None,
        timeout: float | None,
        context: Context,
        delivery: Any,
    ) -> None:
        super().__init__(host)
        self.policy = _ONCE
        self.timeout = math.inf
        self.work = work
        self.calls = calls
        self.item = item
        self.function = function
        self.alone = callable(item)
        """Whether it is carried out by itself: it is its own work."""
        self.port = port
        self.pace: Pace | None = pace
        self.name = name
        self.given_timeout = timeout
        self.context = context
        self.delivery = delivery

    @property
    def subject(self) -> Any:
        """Its CallChain."""
        return self.calls

    @property
    def value(self) -> Any:
        """What it returned."""
        return self.returned

    @property
    def destination(self) -> str:
        """The name of its worker."""
        return name_of(self.function)

    @property
    def action(self) -> str:
        """It is called."""
        return "call"

    @property
    def drivers(self) -> Iterable[Driver]:
        """Of both colours, if both are in its chain."""
        drivers: Iterable[Driver] = self.calls._drivers
        return drivers

    @property
    def receivers(self) -> Any:
        """Receivers of its chain's events, or None."""
        return self.calls._receivers

    def __repr__(self) -> str:
        attempts = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return f"<Handle of {self} is {self.state.value}{attempts}>"

    def __str__(self) -> str:
        return f"call {self.seq}" if self.name is None else f"call {self.seq} ({self.name})"


class Turn:
    """What a worker of a manual CallChain gets beside its item: it says how the attempt ended, from wherever it likes.

    It ends its own attempt only, and only once. A second call of any of its methods, and one after the timeout, changes
    nothing; it is told as a `stale` event. In a batch it is the turn of all its items.
    """

    __slots__ = ("_call", "_token")

    def __init__(self, call: CallHandle[Any], token: int) -> None:
        self._call = call
        self._token = token

    def done(self, value: Any = None) -> None:
        """The item is done: its handle gets `value`, and the next one may start, also if the worker still runs."""
        self._end(Answer(value), None)

    def retry(self) -> None:
        """Do it once more, after the chain's `delay`. It keeps its place in front of all others, and has all its time anew."""
        host: Any = self._call._host
        host.calls.again(self._call, self._token)

    def fail(self, error: BaseException) -> None:
        """The item has failed with that error.

        Raises:
            InvalidOption: It is not an exception.
        """
        if not isinstance(error, BaseException):
            raise InvalidOption(f"turn.fail({error!r}): an exception is needed, for the handle raises it")
        self._end(None, error)

    def _end(self, answer: Answer | None, error: BaseException | None) -> None:
        host: Any = self._call._host
        host.calls.end(self._call, self._token, answer, error)

    def __repr__(self) -> str:
        return f"<Turn of {self._call}>"
