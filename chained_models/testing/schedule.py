"""One schedule of a scenario: who may do what next, and what must hold whatever is done."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

from .._lane import Lane
from ..exceptions import InvalidOption, Unavailable, UsageError
from ..operation import Guarantee, Method
from ._writing import history_of
from .backend import Flight, ScriptedBackend
from .checker import violations
from .driver import SteppedDriver
from .harness import Harness
from .play import Play, Scenario

__all__ = ["Ending", "Schedule", "World", "broken_promises", "named"]

Way: TypeAlias = Literal["answer", "lose", "drop", "fail", "apply", "late", "twice"]
Ending: TypeAlias = Way | type[BaseException] | BaseException
"""What may become of a request; see :func:`~chained_models.testing.explore`."""

logger = logging.getLogger("chained_models")

WAYS: tuple[Way, ...] = get_args(Way)
TIME_PASSES = "time passes"

DEFAULT_GUARANTEE = Guarantee.IDEMPOTENT | Guarantee.FENCED
"""What the backend of a scenario offers, unless it is told otherwise: as a harness's own."""


@dataclass(frozen=True, slots=True)
class World:
    """In what world the schedules of a scenario are played.

    Attributes:
        guarantee: What the backend offers, and keeps.
        seed: Spreads retries.
        endings: What may become of a request: the name of each choice, and the error if it is one.
        timeouts: Whether attempts may run out of their time.
        faults: Most requests of one schedule that end otherwise than with an answer; None for any number.
    """

    guarantee: Guarantee
    seed: int
    endings: Mapping[str, BaseException | type[BaseException] | None]
    timeouts: bool
    faults: int | None


def named(endings: Iterable[Ending]) -> dict[str, BaseException | type[BaseException] | None]:
    """What may become of a request, by the names of the choices.

    Raises:
        InvalidOption: One of them is none.
    """
    return dict(_named(one) for one in endings)


def _named(ending: Ending) -> tuple[str, BaseException | type[BaseException] | None]:
    match ending:
        case "fail":
            return "fail", Unavailable
        case str() if ending in WAYS:
            return ending, None
        case type() if issubclass(ending, BaseException):
            return f"fail {ending.__name__}", ending
        case BaseException():
            return f"fail {ending!r}", ending
    raise InvalidOption(f"{ending!r}: a request ends in one of {', '.join(WAYS)}, or with an error that you give")


class _Listener(logging.Filter):
    """Hears what was raised in receivers and callbacks, which the library logs and survives; and keeps the rest quiet."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet
        self.raised: BaseException | None = None

    def __enter__(self) -> None:
        """Hear also where the program, or its tests, have switched logging off; then nobody else does."""
        manager = logger.manager
        self._before = logger.disabled, logger.level, manager.disable
        self._quiet = self._quiet or not logger.isEnabledFor(logging.ERROR)
        logger.addFilter(self)
        logger.disabled, manager.disable = False, logging.NOTSET
        logger.setLevel(min(logger.getEffectiveLevel(), logging.ERROR))  # and it forgets what it knew of `disable`

    def __exit__(self, *raised: object) -> None:
        logger.removeFilter(self)
        level: int
        logger.disabled, level, logger.manager.disable = self._before
        logger.setLevel(level)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and self.raised is None:
            self.raised = record.exc_info[1]
        return not self._quiet


@dataclass(slots=True, eq=False)
class _Request:
    """One attempt, as it is named in scripts.

    Attributes:
        flight: The attempt.
        name: Its name, the same in every run.
        ends: When the client waits for it no longer.
        dropped: Whether it was lost on the way, so that it may still arrive.
    """

    flight: Flight
    name: str
    ends: float
    dropped: bool = False


def _another(error: BaseException) -> BaseException:
    """A copy; the same one where its class cannot be made again from its message."""
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 - it is the user's class
        return error.with_traceback(None)


class Schedule:
    """A scenario under way: what may happen next, and what has. A context manager.

    Args:
        scenario: What is played.
        world: Where.
        reduced: Whether to leave out choices after which nothing is otherwise than after another one that is there.
        quiet: Whether what the library logs is left out: failed saves of thousands of schedules are nobody's news.
    """

    def __init__(self, scenario: Scenario, world: World, *, reduced: bool, quiet: bool) -> None:
        self._scenario = scenario
        self._world = world
        self._reduced = reduced
        self._listener = _Listener(quiet=quiet)
        self._open = ExitStack()
        self._requests: list[_Request] = []
        self._numbers: dict[str, int] = {}
        self._faults = 0
        self._just_applied: _Request | None = None
        self.may_end = False
        """Whether nothing is left that must happen; what arrives late, or twice, need not."""

    def __enter__(self) -> Self:
        world = self._world
        self._backend = ScriptedBackend(guarantee=world.guarantee, lane=Lane(long_after=math.inf))
        self._backend.hold()
        # What is stuck is seen at the end, and needs no timer: it would be one more thing to happen at any time.
        self._chained = Harness(self._backend, seed=world.seed, stuck_after=math.inf, leftovers_allowed=True)
        with ExitStack() as opening:
            opening.enter_context(self._listener)
            opening.enter_context(self._chained)
            self._play = Play(self._chained)
            never_run = self._scenario(self._play)
            if inspect.isgenerator(never_run) or inspect.isawaitable(never_run):
                never_run.close()  # type: ignore[union-attr]
                raise UsageError(
                    "a scenario is a plain function: it makes models and says who does what; what is done with a yield in "
                    "between belongs to a function of its own, with @play.actor"
                )
            self._heard()
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    # What may happen

    def choices(self) -> dict[str, Callable[[], object]]:
        """What may happen next, by name, always in the same order; nothing if nothing can."""
        self._notice()
        choices: dict[str, Callable[[], object]] = {
            f"call {name}": actor.step for name, actor in self._play.actors.items() if actor.ready
        }
        about = [(request, way) for request in self._requests for way in self._ways(request)]
        time_passes = self._time_may_pass()
        self.may_end = not choices and not time_passes and not any(request.flight.held for request, _ in about)
        if self._reduced:
            # Applied and answered at once is the same as answered: something else must be able to come in between.
            alone = not choices and not time_passes and len({request for request, _ in about}) == 1
            applied = self._just_applied
            about = [
                (request, way)
                for request, way in about
                if (way != "apply" or not alone) and (request is not applied or way == "twice" or alone)
            ]
        for request, way in about:
            choices[f"{way} {request.name}"] = partial(self._end, request, way)
        if time_passes:
            choices[TIME_PASSES] = self._let_time_pass
        return choices

    def _notice(self) -> None:
        """See what the backend was asked for since."""
        for flight in self._backend.ledger[len(self._requests) :]:
            operation = flight.operation
            name = f"{operation.method.value} {operation.seq} of {operation.key}"
            if operation.attempt > 1:
                name += f", attempt {operation.attempt}"
            number = self._numbers[name] = self._numbers.get(name, 0) + 1
            name += f" ({number})" if number > 1 else ""
            self._requests.append(_Request(flight, name, self._now() + (operation.timeout or math.inf)))

    def _ways(self, request: _Request) -> Iterator[str]:
        """What may become of a request now."""
        flight, reads = request.flight, request.flight.operation.method is Method.READ
        faults_left = self._world.faults is None or self._faults < self._world.faults
        for way in self._world.endings:
            match way:
                case "answer":
                    possible = flight.held
                case "apply":
                    possible = flight.held and not flight.arrived
                case "lose":
                    # Of what changes nothing, nobody can tell which way it was lost.
                    known = self._reduced and reads and not flight.arrived and "drop" in self._world.endings
                    possible = faults_left and flight.held and not known
                case "late":
                    possible = faults_left and request.dropped and not flight.arrived and not reads
                case "twice":
                    possible = faults_left and flight.arrived == 1 and not reads
                case _:  # drop, or an error: surely not applied, so not if it was
                    possible = faults_left and flight.held and not flight.arrived
            if possible:
                yield way

    def _time_may_pass(self) -> bool:
        """Whether something will be due, and may come."""
        self._chained.dispatcher._engine.look_no_more()  # where nothing is in flight, nothing runs out of its time
        if self._world.timeouts:
            return self._driver.next_wake() not in (None, math.inf)
        next_event = self._next_event()
        return next_event < min((one.ends for one in self._requests if one.flight.held), default=math.inf)

    def _next_event(self) -> float:
        """When something is due that is not the end of a request's time."""
        looks = self._chained.dispatcher._engine._look
        return next((when for when, call in self._driver.timers() if getattr(call, "func", None) != looks), math.inf)

    # Taking a choice

    def take(self, choice: Callable[[], object]) -> None:
        """Make one of the choices, and see that nothing is wrong.

        Raises:
            BaseException: What is wrong.
        """
        self._just_applied = None
        choice()
        self._heard()
        for check in self._play.checks:
            check()

    def _end(self, request: _Request, way: str) -> None:
        flight = request.flight
        self._faults += way not in ("answer", "apply")
        match way:
            case "answer":
                flight.answer()
            case "lose":
                flight.lose()
            case "drop":
                request.dropped = True
                flight.drop()
            case "apply":
                flight.apply()
                self._just_applied = request
            case "late" | "twice":
                flight.apply()
            case _:
                error = self._world.endings[way]
                assert error is not None
                # One of its own for each schedule: they gather tracebacks.
                flight.fail(error() if isinstance(error, type) else _another(error))

    def _let_time_pass(self) -> None:
        """Up to when something moves; who only looks whether something is over its time does not count."""
        clock = self._driver.virtual
        if not self._world.timeouts:
            ends = self._next_event()
            while clock.time < ends and clock.step():
                pass
            return
        before = self._moment()
        while clock.step() and self._moment() == before:
            pass

    def _moment(self) -> Any:
        machine = self._chained.dispatcher._engine.ledger.machine
        saves: list[Any] = [save for chain in machine for save in chain.saves.values()]
        return len(self._backend.ledger), [(save.seq, save.state, save.token, save.due) for save in saves]

    def _heard(self) -> None:
        raised, self._listener.raised = self._listener.raised, None
        if raised is not None:
            raise raised

    def finish(self) -> None:
        """See that all is as it must be when nothing can happen any more.

        Raises:
            BaseException: What is not.
        """
        dispatcher = self._chained.dispatcher
        moving, _ = dispatcher._engine.unfinished(None, dispatcher._engine.ledger.machine.last_seq)
        if moving:
            raise AssertionError("nothing can happen any more, and yet not settled: " + "; ".join(self._leftovers()))
        waiting: list[Any] = [save for chain in dispatcher for save in dispatcher.pending(chain._key)]
        known = {one for save in waiting for one in (save, *save.replaced)}
        lost = [str(save) for save in self._chained.saves if not save.done() and save not in known]
        if lost:
            raise AssertionError("neither settled nor waiting: " + ", ".join(lost))
        broken = broken_promises(self._chained)
        if broken:
            raise AssertionError("\n".join(broken))
        for check in self._play.ends:
            check()
        self._heard()

    def _leftovers(self) -> list[str]:
        return self._chained.leftovers()

    @property
    def _driver(self) -> SteppedDriver:
        driver, *_ = self._chained.dispatcher._drivers
        assert isinstance(driver, SteppedDriver)
        return driver

    def _now(self) -> float:
        return self._driver.virtual.time


def broken_promises(chained: Harness) -> Sequence[str]:
    """What the history of a schedule that is over shows to be wrong, in words. Asked once after each schedule."""
    return violations(history_of(chained))
