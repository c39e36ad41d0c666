"""Handles: what a save gives back. Real futures of the standard library, which can also be awaited.

:class:`Handle` is the future, settled once and only by its chain; :class:`SaveHandle` adds the facts of a save. A handle is
at the same time the machine's record of the save, so that a queued save is one object.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextvars import Context
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from ._machine import Chain
from ._pace import Pace
from ._record import Record, Verb
from ._snapshot import Snapshot, Theirs
from ._states import OUTCOMES, SaveState
from ._work import Host, Work
from .operation import Answer, Method, Operation
from .policies import Coalesce, ConflictRule, FailureRule, OnConflict, Outcome, RetryPolicy
from .protocols import Driver

__all__ = ["Handle", "Host", "SaveHandle"]

logger = logging.getLogger("chained_models")

T = TypeVar("T")

# Guards the moment in which a handle gets its Condition; see Handle._condition. Re-entrant for signal handlers.
_making = threading.RLock()

_FINISHED = "FINISHED"
_CANCELLED = "CANCELLED_AND_NOTIFIED"


class Handle(Future[T]):
    """A future that its chain settles exactly once.

    Works with `concurrent.futures.wait` and `as_completed`, and can be awaited. ``await handle`` is shielded: cancelling
    the waiter never cancels the write; only :meth:`cancel` does, and only before the first attempt.
    """

    # Future.__init__ is not called: it makes a Condition and two lists, five times as dear as all the rest of a handle,
    # and most handles are never waited for. These class attributes are what it would set.
    _state = "PENDING"
    _result: T | None = None
    _exception: BaseException | None = None
    _made: threading.Condition | None = None
    _followers: list[Callable[[Any], object]] | None = None

    # Who carries it out, and how; set by whoever makes the handle.
    work: Work
    port: Any
    policy: RetryPolicy
    timeout: float
    on_failure: FailureRule | None = None
    context: Context
    delivery: Any = None
    # Facts of the machine; see `chained_models._machine.Save`.
    state: SaveState = SaveState.PREPARING
    seq = 0
    place = 0
    token = 0
    attempts = 0
    started = 0.0
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
    chain: Chain | None = None
    # Filled as it goes on.
    id = ""
    answer: Answer | None = None
    error: BaseException | None = None
    superseded_by: Any = None
    """The one that took its place; this one ends as that one does."""
    retried_by: Any = None
    """The one that was sent again for it, by hand."""
    replaced: list[Any]
    """Those whose place this one took, and which end as it does."""
    after: tuple[Any, ...] = ()
    """The handles of other chains that it waits for."""
    waits = 0
    wakes = 0.0
    interrupt: BaseException | None = None

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Any], Any]] = []
        self.replaced = []

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return OUTCOMES.get(self.state)

    @property
    def why_waiting(self) -> str | None:
        """Why it is not done yet, as one sentence for people; None if it is."""
        why = self._host.why(self)
        return None if why is None else why.removeprefix("is ")

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
    def thing(self) -> Any:
        """What only one attempt at a time may be about."""
        return self.chain

    @property
    def drivers(self) -> Iterable[Driver]:
        """Those that it waits for: its own, and others of its chain."""
        return (self.port.driver,)

    @property
    def receivers(self) -> Any:
        """Receivers of that object's events, or None."""
        return None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """Made when somebody waits.

        Whoever waits has made it under the module's lock, and `settle` looks under the same lock: so either it finds the
        Condition, or the waiter finds the handle settled.
        """
        made = self._made
        if made is None:
            with _making:
                made = self._made
                if made is None:
                    made = self._made = threading.Condition()
        return made

    @property
    def awaited(self) -> bool:
        """Whether somebody has waited for it or asked to be called."""
        return self._made is not None or bool(self._done_callbacks)

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
        followers: list[Callable[[Any], object]] | None = None
        with _making:
            if self._state in (_FINISHED, _CANCELLED):
                raise InvalidStateError(f"{self!r} was settled twice")
            made = self._made
            if made is None:
                self._end(value, error, cancelled=cancelled)
                followers, self._followers = self._followers, None
        if made is not None:
            with made:
                self._end(value, error, cancelled=cancelled)
                for waiter in self._waiters:
                    if cancelled:
                        waiter.add_cancelled(self)
                    elif error is not None:
                        waiter.add_exception(self)
                    else:
                        waiter.add_result(self)
                made.notify_all()
            with _making:  # whoever comes after this finds it settled
                followers, self._followers = self._followers, None
        interrupts = self._call_all(self._done_callbacks) if self._done_callbacks else []
        if followers:
            interrupts += self._call_all(followers)
        if interrupts:
            raise interrupts[0]

    def when_settled(self, call: Callable[[Any], object]) -> None:
        """For what depends on it: call `call` with it when it is settled, at once if it is.

        Not a done callback, which would count as somebody who listens to its failure.
        """
        with _making:
            if self._state not in (_FINISHED, _CANCELLED):
                self._followers = [] if self._followers is None else self._followers
                self._followers.append(call)
                return
        call(self)

    def _end(self, value: T | None, error: BaseException | None, *, cancelled: bool) -> None:
        self._result = value
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
            one._made = None
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


class SaveHandle(Handle[T]):
    """One queued write of one model; its result is the model.

    Attributes:
        id: Unique; also the idempotency key, unless it is a retry by hand.
        model: The object that was saved.
        verb: What was asked for.
        method: What it became; None before the first attempt.
        snapshot: The values that are (to be) sent, by attribute name; none once another save has taken its place. Not to
            be changed.
        state: Where it is in its life.
        attempts: Attempts made so far.
        answer: What the backend answered, once it has.
        error: Why it failed, or was abandoned; None otherwise.
        superseded_by: The save that took its place, or None.
    """

    # Filled as the save goes on.
    idempotency_key = ""
    snapshot: Snapshot = MappingProxyType({})
    before: SaveHandle[Any] | None = None
    """The save of the same object in front of this one, while its answer may still move values of this one."""
    became: Snapshot | None = None
    """What the values became by the answer; None while that is open."""
    moves: tuple[tuple[Snapshot, Snapshot], ...] = ()
    """What refreshes that overtook this save found: the values they are about, and what those are now."""
    method: Method | None = None
    operation: Operation | None = None
    understood: Mapping[str, Any] | None = None
    """The answer's values in field types; None if there were none, or they did not fit."""
    update_fields: frozenset[str] | None = None
    always: frozenset[str] = frozenset()
    """Names that a patch sends whether they differ from the base or not."""
    slots: Mapping[str, tuple[Any, Any]] = MappingProxyType({})
    """Attributes that get the identity of another save: that save, and the value they had at the call."""
    orphaned: BaseException | None = None
    """Why one of those that it waited for was not saved."""
    coalesce = Coalesce.EVERY
    force_insert = False
    discard = False
    on_conflict: ConflictRule = OnConflict.FAIL
    rounds = 0
    """How many conflicts were resolved before it came to this save."""
    unconditional = False
    """Whether it is sent without a version, to overwrite what is there."""
    theirs: Theirs | None = None
    """What was found stored, and is to be merged before this save is sent."""
    unseen: Snapshot = MappingProxyType({})
    """What others changed after the snapshot was taken, found out by a save in front: name to the value before that."""

    def __init__(
        self,
        host: Host,
        *,
        work: Work,
        model: T,
        verb: Verb,
        port: Any,
        backend: Any,
        record: Record,
        facts: Any,
        binding: Any,
        policy: RetryPolicy,
        timeout: float,
        on_failure: FailureRule | None,
        context: Context,
        delivery: Any,
    ) -> None:
        super().__init__(host)
        self.work = work
        self.model = model
        self.verb = verb
        self.port = port
        self.backend = backend
        self.record = record
        self.facts = facts
        self.binding = binding
        self.policy = policy
        self.timeout = timeout
        self.on_failure = on_failure
        self.context = context
        self.delivery = delivery

    @property
    def identity(self) -> Any:
        """The identity of the stored thing, as soon as it is known."""
        return self.record.current().identity

    @property
    def subject(self) -> T:
        """The object that was saved."""
        return self.model

    @property
    def value(self) -> T:
        """Its result: the object."""
        return self.model

    @property
    def thing(self) -> Any:
        """Its record."""
        return self.record.current()

    @property
    def receivers(self) -> Any:
        """Receivers of the object's events, or None."""
        return self.facts.receivers

    def __repr__(self) -> str:
        attempts = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return f"<SaveHandle {self} is {self.state.value}{attempts}>"

    def __str__(self) -> str:
        return f"{self.verb.value} {self.seq} of {self.record.current()}"
