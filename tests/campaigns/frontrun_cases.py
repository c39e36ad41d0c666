"""Two threads in one critical section, in every order that is tried: for `test_threads.py`, which runs this in a process of its own.

Not collected by itself. It needs `--frontrun-patch-locks`, which exchanges the locks of the whole process for ones that let
another thread go on instead of blocking; without that flag frontrun skips everything, and says nothing.

Threads change places between any two bytecodes of the library and of this file. The work runs inline, in the two threads
themselves: what a third thread does would not be under control.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import frontrun
import pytest

from chained_models import (
    CallChain,
    ChainedSaveMixin,
    Dispatcher,
    DispatcherClosed,
    Guarantee,
    Lane,
    Operation,
    Outcome,
)
from chained_models import _deciding as deciding
from chained_models import _future as future
from chained_models import _merge as merge
from chained_models.drivers import threads as threads_driver
from chained_models.protocols import Job

from .campaign import Campaign

_latches: weakref.WeakKeyDictionary[merge.Facts, Any] = weakref.WeakKeyDictionary()


def _know(facts: merge.Facts, record: Any) -> None:
    _latches[facts] = threading.RLock()
    _really_know(facts, record)


# Facts are a lock themselves, which the flag does not exchange.
_really_know = merge.Facts.__init__
merge.Facts.__init__ = _know  # type: ignore[method-assign]
merge.Facts.__enter__ = lambda facts: _latches[facts].__enter__()  # type: ignore[method-assign,assignment]
merge.Facts.__exit__ = lambda facts, *raised: _latches[facts].__exit__(*raised)  # type: ignore[method-assign]

LONG = 5.0
"""Seconds that nothing takes; who waits for that long waits for ever."""


class Backend:
    guarantee = Guarantee.PLAIN

    def __init__(self) -> None:
        self.lane = Lane(max_in_flight=1, long_after=math.inf)
        self.sent: list[int] = []
        self.running = 0
        self.overlaps = 0

    def execute(self, operation: Operation) -> None:
        self.overlaps += self.running  # the lane lets one at a time come here, so this needs no lock
        self.running += 1
        self.sent.append(operation.values["n"])
        self.running -= 1


@dataclasses.dataclass
class Line(ChainedSaveMixin, identity_by="client"):
    id: int = 1
    n: int = 0


class World:
    """Two objects of one thing, a third of another, and a chain of calls that end when somebody says so."""

    def __init__(self) -> None:
        self.backend = Backend()
        self.dispatcher = Dispatcher("inline")

        class Bound(Line):
            pass

        Bound.bind(self.backend, dispatcher=self.dispatcher)
        self.one, self.same, self.other = Bound(), Bound(), Bound(id=2)
        self.turns: list[Any] = []
        self.calls = CallChain(lambda item, turn: self.turns.append(turn), manual=True, dispatcher=self.dispatcher)
        self.saves: list[Any] = []
        self.said: list[Any] = []

    def save(self, model: Line, n: int) -> None:
        self.saves.append(model.save({"n": n}))

    @property
    def quiet(self) -> bool:
        """All that was accepted has ended, and nothing is left of it."""
        lanes = list(self.dispatcher._engine._lanes.values())
        return (
            all(save.done() for save in self.saves)
            and len(self.dispatcher) == 0
            and not any(lane.slots for lane in lanes)
            and self.backend.overlaps == 0
        )

    @property
    def all_saved(self) -> bool:
        mine = [save.snapshot["n"] for save in self.saves if save.outcome is Outcome.SAVED]
        return self.quiet and sorted(mine) == sorted(self.backend.sent)


class Held(World):
    """Something waits in a chain that is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.one.chain.pause()
        self.save(self.one, 1)


class InFlight(World):
    """A call is in flight, until its turn is told."""

    def __init__(self) -> None:
        super().__init__()
        self.saves.append(self.calls.add("first"))


class Leaving:
    """A worker thread of the threads driver that looks for a job, and leaves in a moment if there is none."""

    def __init__(self) -> None:
        self.driver = threads_driver.ThreadsDriver()
        self.driver._linger = 1e-6  # not 0: then it would go without having waited
        self.taken: list[Any] = []
        self.job = Job(lambda: iter(()), None)  # type: ignore[arg-type]

    def look(self) -> None:
        self.driver._workers.add(threading.current_thread())
        seat = threads_driver._Seat()
        while (job := self.driver._next_job(seat)) is not None:
            self.taken.append(job)

    @property
    def attended(self) -> bool:
        hired = [worker for worker in self.driver._workers if not worker.is_alive()]
        return len(self.taken) == 1 or bool(hired)


@dataclasses.dataclass
class Case:
    """What two threads do, and what must be so afterwards."""

    world: Callable[[], Any]
    first: Callable[[Any], object]
    second: Callable[[Any], object]
    holds: Callable[[Any], bool]


def close_or_save(world: World) -> None:
    with contextlib.suppress(DispatcherClosed):
        world.save(world.one, 2)


def result(world: World) -> None:
    world.said.append(world.saves[0].exception(LONG))


def cancel(world: World) -> None:
    world.said.append(world.saves[0].cancel())


def ended(world: World) -> None:
    world.saves[0].when_settled(lambda save: world.said.append(save.done()))


def called(world: World) -> None:
    world.saves[0].add_done_callback(lambda save: world.said.append(save.outcome))


def flush(world: World) -> None:
    world.dispatcher.flush(LONG)
    world.said.append(world.saves[0].done())


def condition(world: World) -> None:
    world.said.append(world.saves[0]._condition)


def resume(world: World) -> None:
    world.one.chain.resume()


def pause_and_resume(world: World) -> None:
    world.one.chain.pause()
    world.one.chain.resume()


def done(world: World) -> None:
    world.turns[0].done()


def add(world: World) -> None:
    world.saves.append(world.calls.add("second"))


def cancelled_or_sent(world: World) -> bool:
    sent = 1 in world.backend.sent
    return world.quiet and world.said == [not sent] and world.saves[0].cancelled() is not sent


CASES = {
    "two threads save one object": Case(
        World,
        lambda world: world.save(world.one, 1),
        lambda world: world.save(world.one, 2),
        lambda world: world.all_saved,
    ),
    "two threads save two objects of one thing": Case(
        World,
        lambda world: world.save(world.one, 1),
        lambda world: world.save(world.same, 2),
        lambda world: world.all_saved,
    ),
    "a slot of the lane is given back and taken": Case(
        World,
        lambda world: world.save(world.one, 1),
        lambda world: world.save(world.other, 2),
        lambda world: world.all_saved,
    ),
    "one is added while the one in front of it ends": Case(
        InFlight, done, add, lambda world: world.saves[0].done() and len(world.turns) == 2 and len(world.calls) == 1
    ),
    "two threads add to a chain that is idle": Case(
        World,
        add,
        add,
        lambda world: len(world.turns) == 1 and len(world.calls) == 2,
    ),
    "a save and a cancel": Case(
        Held,
        lambda world: world.save(world.same, 2),
        cancel,
        lambda world: world.said == [True] and len(world.one.chain) == 1 and not world.saves[1].done(),
    ),
    "a cancel and a start": Case(Held, resume, cancel, cancelled_or_sent),
    "a save while the chain is paused and resumed": Case(
        World, lambda world: world.save(world.one, 1), pause_and_resume, lambda world: world.all_saved
    ),
    "a wait for the result and the end": Case(
        Held, resume, result, lambda world: world.all_saved and world.said == [None]
    ),
    "a wait and the end of a call": Case(InFlight, done, result, lambda world: world.quiet and world.said == [None]),
    "a callback and the end": Case(InFlight, done, called, lambda world: world.quiet and world.said == [Outcome.SAVED]),
    "a follower and the end": Case(InFlight, done, ended, lambda world: world.quiet and world.said == [True]),
    "a flush and the end": Case(InFlight, done, flush, lambda world: world.quiet and world.said == [True]),
    "a close and a save": Case(
        World, lambda world: world.dispatcher.close(LONG), close_or_save, lambda world: world.all_saved
    ),
    "two threads make the condition of a handle": Case(
        Held, condition, condition, lambda world: world.said[0] is world.said[1]
    ),
    "a job comes while its worker leaves": Case(
        Leaving, lambda world: world.driver.start(world.job), Leaving.look, lambda world: world.attended
    ),
}


@pytest.fixture(autouse=True)
def as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two things that are otherwise under frontrun 0.7 than with real threads."""
    condition = threading.Condition
    # A Condition without a lock of its own gets one that is not re-entrant; Python's is, and a future relies on that.
    monkeypatch.setattr(
        threading, "Condition", lambda lock=None: condition(threading.RLock() if lock is None else lock)
    )
    # A third thread would not be under control. That it would have been started is what counts.
    monkeypatch.setattr(threads_driver, "_begin", lambda thread: True)
    monkeypatch.setattr(threads_driver, "LINGER", 0.0)


class Unlocked:
    """A lock that lets everybody in."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def without_the_lock_of_the_scheduling(patch: pytest.MonkeyPatch) -> None:
    def enter(self: deciding.Deciding) -> Any:
        self._ledger.machine.now = self._clock()
        return self._ledger

    patch.setattr(deciding.Deciding, "__enter__", enter)
    patch.setattr(deciding.Deciding, "__exit__", lambda self, *_: None)


def without_the_lock_of_handles(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(future, "_making", Unlocked())


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "two threads add to a chain that is idle": without_the_lock_of_the_scheduling,
    "two threads make the condition of a handle": without_the_lock_of_handles,
    "a follower and the end": without_the_lock_of_handles,
}


def dpor(tries: int, changes: int = 1) -> dict[str, Any]:
    """In order: which accesses conflict is followed up, with so many forced changes of threads in a run."""
    return {"strategy": "dpor", "max_executions": tries, "preemption_bound": changes}


def at_random(tries: int, seed: int) -> dict[str, Any]:
    """By the dice: the threads may change places at every bytecode."""
    return {"strategy": "random", "max_attempts": tries, "max_ops": 6000, "seed": seed}


def explored(case: Case, how: dict[str, Any]) -> Any:
    return frontrun.explore(
        setup=case.world,
        workers=[case.first, case.second],
        invariant=case.holds,
        detect_io=False,
        clock="virtual",  # who waits for a time is woken when nobody else can go on
        reproduce_on_failure=0,
        timeout_per_run=60.0,
        deadlock_timeout=30.0,  # the cores may be busy with other things
        **how,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("strategy", ["dpor", "random"])
def test_holds(name: str, strategy: str, campaign: Campaign, record_property: Callable[[str, object], None]) -> None:
    """In no order that was tried is anything lost, stranded, doubled or waited for in vain."""
    how = dpor(campaign.pick(2, 20, 60)) if strategy == "dpor" else at_random(campaign.pick(2, 25, 100), campaign.seed)
    found = explored(CASES[name], how)
    record_property("explored", found.num_explored)
    found.assert_holds()


@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str, record_property: Callable[[str, object], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lock taken out the same search finds an order that breaks it."""
    MUTANTS[name](monkeypatch)
    found = explored(CASES[name], dpor(300, changes=1 if name.endswith("idle") else 2))
    record_property("explored", found.num_explored)
    assert found.property_holds is False, found.inconclusive_reason
    assert found.explanation
