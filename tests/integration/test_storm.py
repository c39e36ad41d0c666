"""Every verb from several threads at once, on a backend that fails in every way: all settles, in order, and nothing is left."""

from __future__ import annotations

import dataclasses
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import pytest

from chained_models import (
    ChainedSaveMixin,
    Deleted,
    Dispatcher,
    Gone,
    Guarantee,
    InDoubt,
    Lane,
    Method,
    Operation,
    Rejected,
    RetryPolicy,
    SaveHandle,
    Stuck,
    Unauthenticated,
    Unavailable,
)

THREADS, CALLS = 4, 1500


class Stormy:
    """Fails one time in seven, by the dice; keeps the order in which writes of known things came first."""

    guarantee = Guarantee.IDEMPOTENT

    def __init__(self, seed: int) -> None:
        self.lane = Lane(max_in_flight=4)
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._last_id = 1000
        self._latest: dict[str, int] = {}
        self.disorder: list[tuple[str, int, int]] = []

    def execute(self, operation: Operation) -> Any:
        with self._lock:
            dice = self._dice.random()
            self._watch(operation)
            self._last_id += 1
            answer = {"id": self._last_id} if operation.method is Method.CREATE else None
        for error, until in (
            (Unavailable("storm", retry_after=0), 0.05),
            (InDoubt("storm"), 0.08),
            (Rejected("storm"), 0.11),
            (ValueError("storm"), 0.13),
            (Gone("storm"), 0.14),
            (Unauthenticated("storm"), 0.145),
        ):
            if dice < until:
                raise error
        return answer

    def _watch(self, operation: Operation) -> None:
        by_hand = operation.idempotency_key != operation.id  # a retry goes first, whatever its number
        if operation.attempt > 1 or by_hand or operation.identity is None or operation.method is Method.READ:
            return
        latest = self._latest.get(operation.key, 0)
        if operation.seq < latest:
            self.disorder.append((operation.key, latest, operation.seq))
        self._latest[operation.key] = max(latest, operation.seq)


class AsyncStormy(Stormy):
    async def execute(self, operation: Operation) -> Any:
        return super().execute(operation)


@dataclasses.dataclass
class Boat(ChainedSaveMixin):
    id: int | None = None
    course: int = 0


class Sailor:
    """Calls the verbs of a shared fleet, as the dice will have it."""

    def __init__(self, seed: int, fleet: list[Boat], handles: list[SaveHandle[Any]], calls: int = CALLS) -> None:
        self._dice = random.Random(seed)
        self._calls = calls
        self._fleet = fleet
        self._handles = handles
        self.error: BaseException | None = None

    def sail(self) -> None:
        verbs: list[tuple[int, Callable[[Boat], object]]] = [
            (55, lambda boat: boat.save({"course": self._dice.randrange(9)}, patch=self._dice.random() < 0.3)),
            (3, lambda boat: boat.refresh()),
            (1, lambda boat: boat.delete()),
            (4, lambda boat: boat.chain.pause()),
            (10, lambda boat: boat.chain.resume()),
            (2, lambda boat: boat.chain.clear()),
            (4, lambda boat: boat.chain.skip()),
            (4, lambda boat: boat.chain.retry()),
            (4, lambda boat: Boat.__chained_binding__.backend.lane.resume()),
            (4, lambda boat: self._handle().cancel()),
            (3, lambda boat: self._handle().exception(0)),
            (1, lambda boat: self._fleet.__setitem__(self._dice.randrange(len(self._fleet)), Boat())),
            (5, lambda boat: (list(boat.chain), len(boat.chain), repr(boat.chain), boat.chain.in_flight)),
        ]
        weights = [weight for weight, _ in verbs]
        try:
            for _ in range(self._calls):
                ((_, verb),) = self._dice.choices(verbs, weights)
                with suppress(Deleted, CancelledError, TimeoutError):
                    done = verb(self._dice.choice(self._fleet))
                    if isinstance(done, SaveHandle):
                        self._handles.append(done)
        except BaseException as error:
            self.error = error

    def _handle(self) -> SaveHandle[Any]:
        return self._dice.choice(self._handles)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", [Stormy, AsyncStormy])
def test_storm(quick_switches: None, kind: type[Stormy], seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """When the storm is over and every chain may go on, all handles are settled and nothing is left."""
    caplog.set_level(logging.CRITICAL, "chained_models")
    storm(kind(seed), seed)


def storm(backend: Stormy, seed: int, crew: int = THREADS, calls: int = CALLS) -> list[SaveHandle[Any]]:
    """Let so many threads make so many calls each, and check what must hold when all may go on; returns the handles."""
    with Dispatcher() as dispatcher:
        Boat.bind(
            backend, dispatcher=dispatcher, identity_by="server", retry=RetryPolicy(attempts=3, wait_initial=0.001)
        )
        # Two objects of each known thing, and some new ones.
        fleet = [Boat(id=number % 4) if number < 8 else Boat() for number in range(12)]
        handles: list[SaveHandle[Any]] = [boat.save() for boat in fleet]
        sailors = [Sailor(seed * 100 + number, fleet, handles, calls) for number in range(crew)]
        threads = [threading.Thread(target=sailor.sail) for sailor in sailors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [sailor.error for sailor in sailors] == [None] * crew
        for _ in range(1000):
            backend.lane.resume()
            for chain in dispatcher:
                chain.resume()
                chain.skip()
            with suppress(Stuck):
                dispatcher.flush(0.5)
                break
        assert len(dispatcher) == 0
        assert [handle for handle in handles if not handle.done()] == []
        assert all(not lane.slots for lane in dispatcher._engine._lanes.values())
    assert backend.disorder == []
    return handles
