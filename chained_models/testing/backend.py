"""Backends that do what a test says: hold, release, fail, delay, answer late, lose the answer, crash."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from .._lane import Lane
from ..backends.memory import KEYS_REMEMBERED, MemoryBackend
from ..exceptions import InvalidOption, Unavailable
from ..handle import SaveHandle
from ..mixin import ChainedSaveMixin
from ..operation import Answer, Guarantee, Method, Operation
from ..registry import model as registered_model
from .driver import suspension
from .flight import Flight, sleep_all

__all__ = ["AsyncScriptedBackend", "Flight", "Rule", "ScriptedBackend", "Which"]

Which: TypeAlias = Method | type | ChainedSaveMixin | SaveHandle[Any] | Callable[[Operation], bool]
"""What a rule is about: a method, a class of models, one model, one save, or whatever a function of the operation says."""


class Rule:
    """What the backend does with the operations that it is about. Made by the verbs of :class:`ScriptedBackend`."""

    def __init__(self, which: tuple[Which, ...], act: Callable[[Flight], object], times: int | None, skip: int) -> None:
        if times is not None and not _counts(times, 1):
            raise InvalidOption(f"times={times!r}: 1 or more, or None for as long as the rule stands")
        if not _counts(skip, 0):
            raise InvalidOption(f"skip={skip!r}: 0 or more")
        for one in which:
            if not (isinstance(one, Method | type | ChainedSaveMixin | SaveHandle) or callable(one)):
                raise InvalidOption(
                    f"{one!r}: a Method, a class of models, a model, a save or a function of the operation"
                )
        self.which = which
        self.left = times
        self._act = act
        self._skip = skip
        self._spared: list[tuple[Which, ...]] = []

    def takes(self, operation: Operation) -> bool:
        """Whether it is about this operation, which counts towards `skip` and `times`."""
        if self.left == 0 or not matches(operation, self.which):
            return False
        if any(matches(operation, which) for which in self._spared):
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True

    def act(self, flight: Flight) -> None:
        """Do it."""
        self._act(flight)

    def spare(self, which: tuple[Which, ...]) -> None:
        """It takes no more operations that are what all of these ask for."""
        self._spared.append(which)

    def stop(self) -> None:
        """It takes no more operations."""
        self.left = 0


def _counts(number: object, least: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


def matches(operation: Operation, which: tuple[Which, ...]) -> bool:
    """Whether the operation is what all of these ask for."""
    return all(_is_about(operation, one) for one in which)


def _alike(which: tuple[Which, ...], others: tuple[Which, ...]) -> bool:
    """Whether they ask for the same. Two models may be equal, and are not the same one."""
    pairs = zip(which, others, strict=False)
    return len(which) == len(others) and all(
        one is other or (not isinstance(one, ChainedSaveMixin) and one == other) for one, other in pairs
    )


def _is_about(operation: Operation, which: Which) -> bool:
    match which:
        case Method():
            return operation.method is which
        case SaveHandle():
            return _belongs_to(operation, which)
        case type():
            return issubclass(registered_model(operation.model).type, which)
        case ChainedSaveMixin():
            save = which.chain.in_flight
            return save is not None and _belongs_to(operation, save)
        case _:
            return which(operation)


def _belongs_to(operation: Operation, save: SaveHandle[Any]) -> bool:
    """Whether it is an attempt of that save, or what it asks after a conflict."""
    return operation.idempotency_key == save.idempotency_key or operation.id.partition("-read-")[0] == save.id


class ScriptedBackend(MemoryBackend):
    """Stores models in memory, and answers how and when a test says. Without a script it answers at once.

    The first rule that is about an operation decides; of two, the one that was given last. Rules and verbs may be used
    from any thread. With a :class:`~chained_models.testing.SteppedDriver` (so in a
    :class:`~chained_models.testing.Harness`) a held attempt blocks nothing, and seconds are virtual; with other drivers it
    blocks the thread that works for it, and seconds are real.

    Args:
        guarantee: What it offers, and keeps; PLAIN if left out.
        lane: How many saves may be in flight at once.
        keys_remembered: So many of the latest idempotency keys are known again, if any are.
        gathers: Whether it can carry out several operations in one call (`execute_many`). For rules and verbs each of them
            is an attempt like any other; but the client hears of none before the last of its call has ended. If all end
            with one and the same exception object, the call raises that.

    Attributes:
        gathers: As it was given; to be changed before the first save, if at all.
        ledger: Every attempt that it has seen, in the order in which they came.
        has_forgotten: Whether a crash has made it forget idempotency keys.
    """

    def __init__(
        self,
        *,
        guarantee: Guarantee = Guarantee.PLAIN,
        lane: Lane | None = None,
        keys_remembered: int = KEYS_REMEMBERED,
        gathers: bool = False,
    ) -> None:
        super().__init__(lane=lane, guarantee=guarantee, keys_remembered=keys_remembered)
        self.gathers = gathers
        self.ledger: list[Flight] = []
        self.lock = threading.RLock()
        self._rules: list[Rule] = []
        self._holds: list[Rule] = []
        self.has_forgotten = False
        self._down = False
        self._writes = 0
        self._ticks: Iterator[int] = itertools.count(1)

    # What it has seen

    @property
    def held(self) -> list[Flight]:
        """The attempts that have not ended, in the order in which they came."""
        return [flight for flight in self.ledger if flight.held]

    @property
    def seen(self) -> list[Operation]:
        """Every operation that it was asked for, attempts of the same save one by one."""
        return [flight.operation for flight in self.ledger]

    @property
    def applied(self) -> list[Operation]:
        """The operations that took effect, in the order in which they did; one that was applied twice is there twice."""
        effects = [(tick, flight.operation) for flight in list(self.ledger) for tick in flight.applied]
        return [operation for _, operation in sorted(effects, key=lambda effect: effect[0])]

    def tick(self) -> int:
        """The next moment: what is seen, applied and answered is numbered, so that it can be compared."""
        return next(self._ticks)

    # What it is to do

    def hold(self, *which: Which, times: int | None = None, skip: int = 0) -> Rule:
        """Attempts from now on do not end, until they are released.

        Args:
            *which: What they must be, all of it; nothing for any attempt. A :class:`Method`, a class of models, a model, a
                save, or a function of the operation.
            times: So many of them; None for all.
            skip: After so many of them.
        """
        rule = self._rule(which, _leave, times, skip)
        self._holds.append(rule)
        return rule

    def release(self, *which: Which) -> None:
        """Answer what is held, and hold no more of it.

        Args:
            *which: As for :meth:`hold`; nothing for all that is held.
        """
        with self.lock:
            for rule in list(self._holds):
                if not which or _alike(rule.which, which):
                    rule.stop()
                    self._holds.remove(rule)
                else:
                    rule.spare(which)
        for flight in self.held:
            if matches(flight.operation, which):
                flight.answer()

    def fail(
        self, error: BaseException | type[BaseException], *which: Which, times: int | None = 1, skip: int = 0
    ) -> Rule:
        """Attempts get this error, and are not applied; which and how many, as for :meth:`hold`."""
        make = _maker(error)
        return self._rule(which, lambda flight: flight.fail(make()), times, skip)

    def delay(self, seconds: float, *which: Which, times: int | None = None, skip: int = 0) -> Rule:
        """Attempts take so long: the request is on the way until then, is applied, and answered at once."""
        _check_seconds(seconds)
        return self._rule(which, lambda flight: _take(flight, seconds), times, skip)

    def answer_late(self, seconds: float, *which: Which, times: int | None = 1, skip: int = 0) -> Rule:
        """Attempts are applied at once, and answered so much later; past their timeout nobody waits for it any more."""
        _check_seconds(seconds)

        def act(flight: Flight) -> None:
            flight.apply()
            _take(flight, seconds)

        return self._rule(which, act, times, skip)

    def lose(
        self,
        *which: Which,
        error: BaseException | type[BaseException] | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> Rule:
        """Attempts are applied, and get this error (default: InDoubt) instead of an answer."""
        make: Callable[[], BaseException | None] = _nothing if error is None else _maker(error)
        return self._rule(which, lambda flight: flight.lose(make()), times, skip)

    def crash(self, *, forget: bool = False) -> None:
        """Be gone, until :meth:`restart`: what is held ends in doubt, what comes is Unavailable.

        Args:
            forget: Whether it loses its memory of idempotency keys.
        """
        with self.lock:
            self._down = True
            if forget:
                self._answers.clear()
                self.has_forgotten = True
        for flight in self.held:
            flight.drop()

    def restart(self) -> None:
        """Be there again, with all that was applied."""
        self._down = False

    def _rule(self, which: tuple[Which, ...], act: Callable[[Flight], object], times: int | None, skip: int) -> Rule:
        rule = Rule(which, act, times, skip)
        with self.lock:
            self._rules.append(rule)
        return rule

    # Carrying out

    def execute(self, operation: Operation) -> Any:
        flight = self._begin(operation)
        if flight.held:
            suspended = suspension()
            if suspended is not None:
                flight.suspend(suspended)
                return suspended
            flight.block()
        return flight.say()

    @property
    def execute_many(self) -> Callable[[Sequence[Operation]], Any] | None:
        """Carries out several operations in one call; None unless it was asked to gather them."""
        return self._execute_many if self.gathers else None

    def _execute_many(self, operations: Sequence[Operation]) -> Any:
        began = time.monotonic()
        flights = self._begin_all(operations)
        held = [flight for flight in flights if flight.held]
        if held:
            suspended = suspension()
            if suspended is not None:
                for flight in held:
                    flight.end_by_itself(suspended)
                suspended.timed = all(flight.seconds is not None for flight in held)
                _when_all_over(held, partial(suspended.end, partial(_said, flights)))
                return suspended
            for flight in held:
                flight.block(time.monotonic() - began)
        return _said(flights)

    def _begin_all(self, operations: Sequence[Operation]) -> tuple[Flight, ...]:
        flights = tuple(map(self._begin, operations))
        for flight in flights:
            flight.company = flights
        return flights

    def _begin(self, operation: Operation) -> Flight:
        """Note the attempt, and do with it what the rules say."""
        with self.lock:
            flight = Flight(self, operation)
            self.ledger.append(flight)
            down = self._down
            rule = None if down else next((one for one in reversed(self._rules) if one.takes(operation)), None)
        if down:
            flight.fail(Unavailable("the backend has crashed"))
        elif rule is None:
            flight.answer()
        else:
            rule.act(flight)
        return flight

    def carry_out(self, flight: Flight) -> Callable[[], Answer]:
        """For a flight whose request is here: apply it, and return what gives the reply."""
        with self.lock:
            before = self._writes
            try:
                answer = super().execute(flight.operation)
            except BaseException as error:  # noqa: BLE001 - it is the reply
                refusal = error

                def refused() -> Answer:
                    raise refusal

                return refused
            if self._writes != before:
                flight.applied.append(self.tick())
            return lambda: answer

    def _apply(self, operation: Operation) -> Answer:
        answer = super()._apply(operation)
        self._writes += operation.method is not Method.READ
        return answer


def _when_all_over(flights: Sequence[Flight], call: Callable[[], object]) -> None:
    """Call it once, when the last of them has ended."""
    left = iter(range(len(flights) - 1, -1, -1))

    def one_less() -> None:
        if next(left) == 0:
            call()

    for flight in flights:
        flight.when_over(one_less)


def _said(flights: Sequence[Flight]) -> list[Answer | BaseException]:
    """What a call gets that they shared, which is now."""
    for flight in flights:
        flight.heard()
    first = flights[0].error
    if first is not None and all(flight.error is first for flight in flights):
        raise first
    return [flight.say() if flight.error is None else flight.error for flight in flights]


def _maker(error: BaseException | type[BaseException]) -> Callable[[], BaseException]:
    """What makes the error of an attempt: of a class one of its own each time."""
    if isinstance(error, type) and issubclass(error, BaseException):
        return error
    if not isinstance(error, BaseException):
        raise InvalidOption(f"{error!r}: an error is needed, or a class of errors; what it is about comes after it")
    return lambda: error


def _nothing() -> None:
    return None


def _check_seconds(seconds: object) -> None:
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidOption(f"{seconds!r}: seconds, 0 or more")


def _leave(flight: Flight) -> None:
    """It is held."""


def _take(flight: Flight, seconds: float) -> None:
    flight.seconds = seconds


class AsyncScriptedBackend(ScriptedBackend):
    """As :class:`ScriptedBackend`, for event loops: a held attempt leaves its loop free. Seconds are real."""

    async def execute(self, operation: Operation) -> Answer:  # type: ignore[override]
        flight = self._begin(operation)
        if flight.held:
            await flight.sleep()
        return flight.say()

    @property
    def execute_many(self) -> Callable[[Sequence[Operation]], Any] | None:
        """As :attr:`ScriptedBackend.execute_many`; a coroutine function, as `execute` is here."""
        return super().execute_many

    async def _execute_many(self, operations: Sequence[Operation]) -> Any:
        flights = self._begin_all(operations)
        await sleep_all([flight for flight in flights if flight.held])
        return _said(flights)
