"""The Handle: a real future of the standard library, which can also be awaited, and is settled once, and only by its chain.

It is at the same time the machine's record of what is queued, so that a queued save is one object.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextvars import Context
from typing import Any, NoReturn, TypeVar

from ._machine import Chain
from ._pace import Pace
from ._states import OUTCOMES, SaveState
from ._work import Host, Work
from .operation import Answer
from .policies import FailureRule, Outcome, RetryPolicy
from .protocols import Driver

__all__ = ["NOTHING_NEW", "PENDING", "Handle"]

logger = logging.getLogger("chained_models")

T = TypeVar("T")

# Guards the moment in which a handle gets its Condition; see Handle._heard. Re-entrant for signal handlers.
_making = threading.RLock()

NOTHING_NEW = Answer()
"""Stands for "accepted, nothing new": one for all, for most saves are answered so, and an object each is dear at depth."""

PENDING = "PENDING"
_FINISHED = "FINISHED"
_CANCELLED = "CANCELLED_AND_NOTIFIED"


class _Audience:
    """Who waits for a handle, in the form in which `concurrent.futures` expects it. Most handles never have one."""

    __slots__ = ("callbacks", "condition", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], Any]] = []


class Handle(Future[T]):
    """A future that its chain settles exactly once.

    Works with `concurrent.futures.wait` and `as_completed`, and can be awaited. ``await handle`` is shielded: cancelling
    the waiter never cancels the write; only :meth:`cancel` does, and only before the first attempt.
    """

    # Future.__init__ is not called: it makes a Condition and two lists, five times as dear as all the rest of a handle,
    # and most handles are never waited for. What every handle has is in slots; what few have is a class attribute until
    # it is set, and the handle's dict is made only then.
    __slots__ = (
        "_answer",
        "_audience",
        "_host",
        "_result",
        "_state",
        "attempts",
        "chain",
        "context",
        "delivery",
        "place",
        "policy",
        "port",
        "seq",
        "started",
        "state",
        "timeout",
        "token",
        "work",
    )

    _exception: BaseException | None = None
    _followers: list[Callable[[Any], object]] | None = None
    attended = False
    """Whether somebody has awaited it; who does so needs no Condition, and is told by :meth:`when_settled`."""

    # Who carries it out, and how; set by whoever makes the handle.
    work: Work
    port: Any
    policy: RetryPolicy
    timeout: float
    on_failure: FailureRule | None = None
    context: Context
    delivery: Any
    # Facts of the machine; see `chained_models._machine.Save`.
    state: SaveState
    seq: int
    place: int
    token: int
    attempts: int
    started: float
    spent = 0.0
    due = False
    doubted = False
    passes_halt = False
    own: Collection[str] = ()
    fronted = False
    pace: Pace | None = None
    riders: Sequence[Any] = ()
    open = False
    manual = False
    """Whether its attempt goes on when the work has returned, until somebody says that it is over."""
    chain: Chain | None
    # Filled as it goes on.
    _answer: Answer | None
    error: BaseException | None = None
    superseded_by: Any = None
    """The one that took its place; this one ends as that one does."""
    retried_by: Any = None
    """The one that was sent again for it, by hand."""
    replaced: Any = ()
    """Those whose place this one took, and which end as it does."""
    after: tuple[Any, ...] = ()
    """The handles of other chains that it waits for."""
    waits = 0
    wakes = 0.0
    interrupt: BaseException | None = None
    trace: Any = None
    """Where and when it was asked for, if anybody wants to know; see :mod:`chained_models.telemetry`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._state = PENDING
        self._result: T | None = None
        self._audience: _Audience | None = None
        self.state = SaveState.PREPARING
        self.seq = self.place = self.token = self.attempts = 0
        self.started = 0.0
        self.chain = self._answer = None

    @property
    def id(self) -> str:
        """Unique; empty until it is accepted."""
        return self.work.id_of(self.seq) if self.seq else ""

    @property
    def answer(self) -> Answer | None:
        """What the backend answered, once it has."""
        return Answer() if self._answer is NOTHING_NEW else self._answer

    @answer.setter
    def answer(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return OUTCOMES.get(self.state)

    @property
    def why_waiting(self) -> str | None:
        """Why it is not done yet, as one sentence for people; None if it is."""
        why = self._host.why(self)
        return None if why is None else why.removeprefix("is ")

    def done(self) -> bool:
        """Whether it is settled. Looked at without the lock, and its Condition is not made for it."""
        return self._state in (_FINISHED, _CANCELLED)

    def running(self) -> bool:
        """Whether it was attempted and has not settled."""
        return not self.done() and self.attempts > 0

    # What the engine asks of any handle; each kind of handle has its own answers.

    @property
    def subject(self) -> Any:
        """The object that it is about, of which events tell."""
        return None

    @property
    def value(self) -> T | None:
        """Its result, if it succeeds."""
        return None

    @property
    def destination(self) -> str:
        """Where it goes, by name."""
        return type(self).__name__

    @property
    def action(self) -> str:
        """What was asked for, in a word."""
        return ""

    @property
    def thing(self) -> Any:
        """What only one attempt at a time may be about."""
        return self.chain

    @property
    def line(self) -> Any:
        """The key of the chain that it is in, or was in last; None if it never was in one."""
        return None if self.chain is None else self.chain.key

    @property
    def company(self) -> object | None:
        """What it has in common with others that may be sent in one call with it; None if it goes alone."""
        return None

    @property
    def drivers(self) -> Iterable[Driver]:
        """Those that it waits for: its own, and others of its chain."""
        return (self.port.driver,)

    @property
    def receivers(self) -> Any:
        """Receivers of that object's events, or None."""
        return None

    # What `concurrent.futures` looks for in a future.

    def _heard(self) -> _Audience:
        """Its audience, made when somebody waits; one for all of them, thanks to the module's lock.

        Whoever waits makes it first, and then looks whether the handle is settled; whoever settles it says so first, and then
        looks whether there is an audience. So either the one is told, or the other sees it, and neither needs a lock for that.
        """
        if self._audience is None:
            made = _Audience()  # not under the lock: a signal handler, or a finalizer, may come at any moment, and save
            with _making:
                if self._audience is None:
                    self._audience = made
        audience = self._audience
        assert audience is not None
        return audience

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        return self._heard().condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._heard().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], Any]]:
        return self._heard().callbacks

    @property
    def awaited(self) -> bool:
        """Whether somebody has waited for it or asked to be called."""
        return self._audience is not None or self.attended

    @property
    def heard(self) -> bool:
        """Whether what it is about, or somebody who asked that, may want to hear of its events."""
        return self.receivers is not None

    @property
    def calls_back(self) -> bool:
        """Whether somebody asked to be called."""
        return self._audience is not None and bool(self._audience.callbacks)

    def result(self, timeout: float | None = None) -> T:
        """Wait until it is settled, and return its value.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Raises:
            TimeoutError: It is not settled yet; the save goes on.
            WouldDeadlock: This thread is the one that would do the work.
            CancelledError: It was cancelled.
            Exception: Why it failed.
        """
        self._await_end(timeout)
        try:
            if self._state == _CANCELLED:
                raise CancelledError
            if self._exception is not None:
                raise self._exception
            return self._result  # type: ignore[return-value]
        finally:
            self = None  # type: ignore[assignment]  # noqa: PLW0642 - breaks the cycle with the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait until it is settled, and return why it failed, or None. Raises as :meth:`result` does."""
        self._await_end(timeout)
        if self._state == _CANCELLED:
            raise CancelledError
        return self._exception

    def _await_end(self, timeout: float | None) -> None:
        if self._state in (_FINISHED, _CANCELLED):
            self._host.catch_up(self)
        elif not self._host.wait(self, timeout):
            raise TimeoutError("not settled yet; the save goes on")

    def cancel(self) -> bool:
        """Take it out of its chain, if it was never attempted. False if it is too late."""
        return self._host.cancel(self)

    def __await__(self) -> Generator[Any, None, T]:
        return self._awaited().__await__()

    async def _awaited(self) -> T:
        if self._state not in (_FINISHED, _CANCELLED):
            await self._host.wait_async(self)
        if self._state == _CANCELLED:
            # asyncio's CancelledError would say that the *waiter* is to end.
            raise CancelledError
        return self.result(0)

    def settle(self, value: T | None = None, error: BaseException | None = None, *, cancelled: bool = False) -> None:
        """For the dispatcher: end it, wake who waits, call who asked. Later calls are a bug, and raise.

        An interrupt (KeyboardInterrupt, SystemExit) that a callback raises comes out when all have been called.
        """
        if self._state is not PENDING:
            raise InvalidStateError(f"{self!r} was settled twice")
        self._end(value, error, cancelled=cancelled)
        interrupts = self._tell_all()
        if interrupts:
            raise interrupts[0]

    def land(self) -> None:
        """For the engine, with its lock held: it has succeeded. Whoever waits is told by :meth:`tell`, without the lock."""
        self._result = self.value
        self._state = _FINISHED

    def tell(self) -> None:
        """After :meth:`land`: wake who waits, call who asked, tell what depends on it; an interrupt is kept for later."""
        if self._audience is not None or self._followers is not None:
            for interrupt in self._tell_all():
                self.interrupt = interrupt

    def _tell_all(self) -> list[BaseException]:
        """It is settled: everybody is told. Returns what interrupted the callbacks."""
        audience = self._audience
        if audience is None:
            return self._call_followers()
        with audience.condition:
            for waiter in audience.waiters:
                if self._state == _CANCELLED:
                    waiter.add_cancelled(self)
                elif self._exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            audience.condition.notify_all()
        return self._call_all(audience.callbacks) + self._call_followers()

    def _call_followers(self) -> list[BaseException]:
        if self._followers is None:
            return []
        with _making:  # whoever has taken them calls them
            followers, self._followers = self._followers, None
        return self._call_all(followers or ())

    def when_settled(self, call: Callable[[Any], object]) -> None:
        """For what depends on it: call `call` with it when it is settled, at once if it is.

        Not a done callback, which would count as somebody who listens to its failure.
        """
        with _making:
            self._followers = [] if self._followers is None else self._followers
            self._followers.append(call)
        if self._state in (_FINISHED, _CANCELLED):  # asked after that, as in :meth:`_heard`
            interrupts = self._call_followers()
            if interrupts:
                raise interrupts[0]

    def _end(self, value: T | None, error: BaseException | None, *, cancelled: bool) -> None:
        self._result = value
        if error is not None:
            self._exception = error
        self._state = _CANCELLED if cancelled else _FINISHED

    def _call_all(self, callbacks: Iterable[Callable[[Any], object]]) -> list[BaseException]:
        # Not the standard library's loop: there, a BaseException in one callback keeps the later ones from being called.
        interrupts: list[BaseException] = []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                logger.exception("a callback of %r raised; the chain goes on", self)
            except BaseException as raised:  # noqa: BLE001 - raised again when all have been called
                interrupts.append(raised)
        return interrupts

    def disown(self) -> None:
        """In a forked child: the parent carries it out; here it counts as cancelled, and nobody is called."""
        self.state = SaveState.CANCELLED
        for one in (self, *self.replaced):
            one._audience = None
            one._end(None, None, cancelled=True)

    def set_result(self, result: T) -> NoReturn:
        """Not for use: only the chain settles a handle."""
        raise InvalidStateError("only its chain settles a save; use cancel() to take it out")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Not for use: only the chain settles a handle."""
        raise InvalidStateError("only its chain settles a save; use cancel() to take it out")

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Not for use: only the chain starts a save."""
        raise InvalidStateError("only its chain starts a save")


def after_fork() -> None:
    """In a forked child: the lock may have been held at the fork."""
    global _making  # noqa: PLW0603
    _making = threading.RLock()
