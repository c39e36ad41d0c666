"""The scripted backend where it gathers: rules and verbs are about single operations, calls are of many."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from chained_models import (
    ChainedSaveMixin,
    Dispatcher,
    Guarantee,
    InDoubt,
    Lane,
    Outcome,
    Rejected,
    RetryPolicy,
    Unavailable,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import AsyncScriptedBackend, Harness, Play, ScriptedBackend, explore

PATIENCE = 5.0
SAVED, FAILED, ABANDONED = Outcome.SAVED, Outcome.FAILED, Outcome.ABANDONED


@dataclasses.dataclass
class Basket(ChainedSaveMixin, backend=MemoryBackend(), retry=RetryPolicy(attempts=2)):
    id: int | None = None
    title: str = ""


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with Harness(ScriptedBackend(gathers=True, lane=Lane(max_in_flight=1)), leftovers_allowed=True) as chained:
        yield chained.backend


def together(backend: ScriptedBackend, count: int = 3) -> list[Any]:
    """Saves that come in one call."""
    backend.lane.pause()
    handles = [Basket(title=str(number)).save() for number in range(count)]
    backend.lane.resume()
    return handles


def outcomes(handles: list[Any]) -> list[Outcome | None]:
    return [handle.outcome for handle in handles]


def test_it_does_not_gather_unless_it_is_told_to() -> None:
    """Whoever wrote a test without batches meets none."""
    with Harness() as chained:
        assert chained.backend.execute_many is None
        together(chained.backend)
        assert [len(flight.company) for flight in chained.backend.ledger] == [1, 1, 1]


def test_each_operation_is_an_attempt(backend: ScriptedBackend) -> None:
    """The ledger tells of each what was seen and applied, and which came together."""
    assert outcomes(together(backend)) == [SAVED] * 3
    first, *_ = backend.ledger
    assert first.company == tuple(backend.ledger)
    assert [operation.values["title"] for operation in backend.seen] == list("012")
    assert backend.applied == backend.seen
    assert len({flight.ended for flight in backend.ledger}) == 3


def test_the_call_is_over_when_the_last_of_it_is(backend: ScriptedBackend) -> None:
    """One that is held keeps all of them waiting, whatever became of the others."""
    backend.hold(lambda operation: operation.values["title"] == "1")
    handles = together(backend)
    assert [flight.held for flight in backend.ledger] == [False, True, False]
    assert len(backend.applied) == 2
    assert outcomes(handles) == [None] * 3
    backend.release()
    assert outcomes(handles) == [SAVED] * 3


def test_rules_take_single_operations(backend: ScriptedBackend) -> None:
    """One of a batch fails, one loses its answer, one is saved."""
    backend.fail(Rejected)
    backend.lose(skip=1)
    assert outcomes(together(backend)) == [FAILED, ABANDONED, SAVED]
    assert len(backend.applied) == 2


def test_one_error_for_all_is_raised_by_the_call(backend: ScriptedBackend) -> None:
    """The same object for each is what a transaction that failed raises; the saves end as they would alone."""
    error = InDoubt("COMMIT")
    backend.fail(error, times=3)
    handles = together(backend)
    assert outcomes(handles) == [ABANDONED] * 3
    assert {id(handle.error.__cause__) for handle in handles} == {id(error)}


def test_a_crash_ends_a_call(backend: ScriptedBackend) -> None:
    """What is held of it is in doubt, what was answered is not."""
    backend.hold(skip=1)
    handles = together(backend)
    backend.crash()
    assert outcomes(handles) == [SAVED, ABANDONED, ABANDONED]


def test_delays_pass_by_virtual_time(backend: ScriptedBackend) -> None:
    """A call takes as long as the longest of it; what ends earlier by hand ends, and its timer does nothing."""
    backend.delay(5, times=1)
    backend.delay(2, skip=1, times=2)
    handles = together(backend)
    clock: Any = handles[0].port.driver.virtual
    clock.advance(2)
    assert [flight.held for flight in backend.ledger] == [True, False, False] and outcomes(handles) == [None] * 3
    backend.held[0].answer()
    assert outcomes(handles) == [SAVED] * 3
    ended = [flight.ended for flight in backend.ledger]
    clock.advance(3)
    assert [flight.ended for flight in backend.ledger] == ended


def test_flush_lets_the_time_of_a_call_pass(backend: ScriptedBackend) -> None:
    """Where all that is held ends by itself."""
    backend.delay(2)
    handles = together(backend)
    handles[0].port.driver.virtual.run_until_idle(lambda: None)
    assert outcomes(handles) == [SAVED] * 3


def test_a_thread_is_held_as_long_as_the_longest() -> None:
    """With real time, too."""
    backend = ScriptedBackend(gathers=True, lane=Lane(max_in_flight=1))
    backend.hold(times=1, skip=1)
    backend.delay(0.01, times=1)
    with Harness(backend, driver="threads"):
        handles = together(backend)
        backend.release()
        assert [handle.result(PATIENCE) for handle in handles] == [handle.model for handle in handles]
    assert len(backend.ledger[0].company) == 3


def test_a_loop_is_left_free() -> None:
    """A call of coroutines that is held suspends."""
    backend = AsyncScriptedBackend(gathers=True, lane=Lane(max_in_flight=1))

    class Bound(Basket):
        pass

    async def play() -> list[Any]:
        backend.hold(times=1)
        Bound.bind(backend, dispatcher=dispatcher)
        backend.lane.pause()
        handles = [Bound(title=str(number)).save() for number in range(3)]
        backend.lane.resume()
        while len(backend.ledger) < 3:
            await asyncio.sleep(0)
        assert [flight.held for flight in backend.ledger].count(True) == 1
        backend.release()
        async with asyncio.timeout(PATIENCE):
            return [await handle for handle in handles]

    with closing(Dispatcher()) as dispatcher:
        assert len(asyncio.run(play())) == 3
    assert len(backend.ledger[0].company) == 3


def test_every_order_of_a_batch_is_explored() -> None:
    """A scenario says that its backend gathers; each of a call ends in every way, and nothing is wrong in any of them."""
    calls: set[int] = set()

    def scenario(play: Play) -> None:
        play.backend.gathers = True
        play.backend.lane.max_in_flight = 1
        baskets = [Basket(title=title) for title in "abc"]
        for basket in baskets:
            play.do(basket.title, basket.save)
        play.at_end(lambda: calls.update(len(flight.company) for flight in play.backend.ledger))

    explored = explore(scenario, answers=("answer", "lose", Unavailable), guarantee=Guarantee.PLAIN)
    assert explored.complete
    assert calls == {1, 2}


def test_a_wrong_library_is_found_by_exploring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answers of a batch are swapped, one of the schedules says so."""
    from chained_models import _together

    right = _together._sent

    def sent(*given: Any) -> Any:
        returned = yield from right(*given)
        return returned[::-1]

    monkeypatch.setattr(_together, "_sent", sent)
    with pytest.raises(AssertionError, match=r"V9|V12"):
        test_every_order_of_a_batch_is_explored()
