"""Real threads that race, switched as often as the interpreter can: order, overlap, loss."""

from __future__ import annotations

import random
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from chained_models import Dispatcher, Outcome, RetryPolicy, Unavailable

from ..contract.scripted import Basket, Scripted, baskets, threads_of_ours

THREADS = 8
LONG = 60.0


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """A thread switch may come anywhere, and does."""
    before, threads = sys.getswitchinterval(), threading.enumerate()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        assert threads_of_ours(since=threads) == []


def together(*calls: Callable[[], Any]) -> None:
    """Make the calls at the same time, each in a thread; raises what one of them raised."""
    barrier = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], Any]) -> None:
        barrier.wait(LONG)
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_threads_that_share_models_lose_and_overtake_nothing() -> None:
    """Per object: attempts in the order of the calls, one at a time, each save once, and the last one is what stays."""
    backend = Scripted()
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        models = [kind(name=str(number)) for number in range(10)]
        handles: list[Any] = []

        def save(seed: int) -> None:
            chance = random.Random(seed)
            for number in range(60):
                handles.append(chance.choice(models).save({"n": seed * 1000 + number}))

        together(*(lambda seed=seed: save(seed) for seed in range(THREADS)))
        dispatcher.flush(LONG)
        assert {handle.outcome for handle in handles} == {Outcome.SAVED}
        assert len(backend.ledger) == THREADS * 60
        assert backend.overlaps == []
        for model in models:
            mine = sorted((handle for handle in handles if handle.model is model), key=lambda handle: handle.seq)
            assert backend.values_of(model.name) == [handle.snapshot["n"] for handle in mine]
        assert len({model.id for model in models}) == len(models)
        assert dispatcher._engine.ledger.machine.chains == {}


def test_saves_race_with_every_verb() -> None:
    """Whatever cancels, clears, pauses and resumes meanwhile: each handle ends once, and what was not cancelled was sent."""
    backend = Scripted()
    ends: dict[int, int] = defaultdict(int)
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        models = [kind(name=str(number)) for number in range(3)]
        handles: list[Any] = []

        def save(seed: int) -> None:
            for number in range(80):
                handle = models[(seed + number) % 3].save({"n": seed * 1000 + number})
                handle.add_done_callback(lambda done: ends.__setitem__(done.seq, ends[done.seq] + 1))
                handles.append(handle)

        def disturb(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(80):
                chain = chance.choice(models).chain
                match chance.randrange(5):
                    case 0:
                        chain.pause()
                        chain.resume()
                    case 1:
                        chain.clear()
                    case 2 if handles:
                        chance.choice(handles).cancel()
                    case 3:
                        for save in chain:
                            assert save.state.value != "saved"
                    case _:
                        assert len(chain) >= 0

        together(
            *(lambda seed=seed: save(seed) for seed in range(4)),
            *(lambda seed=seed: disturb(seed) for seed in range(4)),
        )
        for model in models:
            model.chain.resume()
        dispatcher.flush(LONG)
        assert len(handles) == 320
        assert all(count == 1 for count in ends.values())
        assert len(ends) == 320
        outcomes = {handle.seq: handle.outcome for handle in handles}
        sent = [operation.seq for operation in backend.ledger]
        assert sorted(sent) == sorted(seq for seq, outcome in outcomes.items() if outcome is Outcome.SAVED)
        assert set(outcomes.values()) <= {Outcome.SAVED, Outcome.CANCELLED}
        assert backend.overlaps == []
        for model in models:
            seqs = [operation.seq for operation in backend.ledger if operation.values["name"] == model.name]
            assert seqs == sorted(seqs)


def test_many_threads_wait_for_one_save() -> None:
    """All of them, and every callback, get the same result, however they wait."""
    backend = Scripted()
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        for number in range(20):
            model = kind(name=str(number))
            handle = model.save()
            results: list[Any] = []
            together(
                *[lambda: results.append(handle.result(LONG))] * 3,
                *[lambda: results.append(handle.exception(LONG) or model)] * 2,
                *[lambda: results.append(wait([handle], LONG).done.pop().result(0))] * 2,
                lambda: handle.add_done_callback(lambda done: results.append(done.result(0))),
            )
            dispatcher.flush(LONG)
            assert results == [model] * 8


def test_cancelling_races_with_starting() -> None:
    """A save was either cancelled or sent, never both and never neither, and `cancel()` says which."""
    backend = Scripted()
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        for number in range(60):
            model = kind(name=str(number))
            model.chain.pause()
            handle = model.save()
            said: list[bool] = []
            together(model.chain.resume, lambda: said.append(handle.cancel()), lambda: said.append(handle.cancel()))
            try:
                handle.result(LONG)
            except CancelledError:
                assert said == [True, True]
                assert backend.values_of(model.name) == []
            else:
                assert said == [False, False]
                assert len(backend.values_of(model.name)) == 1


def test_closing_races_with_saving() -> None:
    """Every save that was accepted has ended, every other one was refused."""
    from chained_models import DispatcherClosed

    for _ in range(10):
        backend = Scripted()
        dispatcher = Dispatcher("threads")
        kind = baskets(backend, dispatcher=dispatcher)
        handles: list[Any] = []

        def save(name: str) -> None:
            model = kind(name=name)
            try:
                for n in range(50):
                    handles.append(model.save({"n": n}))
            except DispatcherClosed:
                pass

        together(*(lambda name=name: save(name) for name in "abc"), lambda: dispatcher.close(LONG))
        assert all(handle.done() for handle in handles)
        assert len(backend.ledger) == len([handle for handle in handles if handle.outcome is Outcome.SAVED])


def test_retries_race_with_saves() -> None:
    """Saves that fail at random and come again stay in their place."""
    chance = random.Random(1)
    backend = Scripted()

    def during(operation: Any) -> None:
        if chance.random() < 0.3:
            raise Unavailable

    backend.during = during
    with Dispatcher("threads") as dispatcher:
        kind: type[Basket] = baskets(
            backend, dispatcher=dispatcher, retry=RetryPolicy(attempts=50, wait_initial=0.0001, wait_max=0.0001)
        )
        models = [kind(name=str(number)) for number in range(6)]
        together(*(lambda model=model: [model.save({"n": n}) for n in range(30)] for model in models))
        dispatcher.flush(LONG)
    for model in models:
        values = backend.values_of(model.name)
        assert values == sorted(values)
        assert sorted(set(values)) == list(range(30))
    assert backend.overlaps == []
