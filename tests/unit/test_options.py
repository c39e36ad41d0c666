"""Options of single chains."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from chained_models import ChainFull, Coalesce, InvalidOption, OnFailure, Outcome, Rejected, RetryPolicy, Unavailable
from chained_models._options import Options
from chained_models._record import Record

from ..contract.scripted import Basket, Inline, World, everywhere


def test_of_a_key_of_the_users_they_stay() -> None:
    """It can be used again at any time."""
    options = Options()
    options.set((1, "a"), {"timeout": 1.0})
    assert options.of((1, "a")) == {"timeout": 1.0}
    assert options.of((1, "b")) == {}
    assert len(options) == 1


def test_of_a_record_they_go_with_it() -> None:
    """Nothing else would ever ask for them."""
    options, record = Options(), Record("Basket")
    options.set(record, {"timeout": 1.0})
    assert options.of(record) == {"timeout": 1.0}
    del record
    gc.collect()
    assert len(options) == 0


def test_joining() -> None:
    """What was said of the chain that goes on comes first."""
    options, mine, other = Options(), Record("Basket"), Record("Basket", 7)
    options.set(mine, {"timeout": 1.0, "max_pending": 3})
    options.set(other, {"timeout": 2.0})
    options.join(mine, other)
    assert options.of(other) == {"timeout": 2.0, "max_pending": 3}


# Through the chain


@everywhere
async def test_they_act_from_the_next_attempt(world: World) -> None:
    """Also of saves that wait already; an attempt that runs keeps its own."""
    basket = world.bind(retry=RetryPolicy(attempts=2, wait_initial=1, wait_jitter=0))()
    world.watch(basket, "retry")
    world.backend.failures += [Unavailable(), Rejected(), None]
    first, second = basket.save(), basket.save()
    await world.until(lambda: bool(world.heard("retry")))
    await world.armed(1.0)
    running = first.policy, first.timeout
    basket.chain.update(timeout=3.5, retry=RetryPolicy(attempts=1), on_failure=OnFailure.HALT)
    assert (first.policy, first.timeout) == running
    world.advance(1.0)
    await world.end(first)
    assert basket.chain.halted is first
    assert second.outcome is None
    basket.chain.skip()
    await world.end(second)
    assert [operation.timeout for operation in world.backend.ledger] == [30.0, 3.5, 3.5]


@everywhere
async def test_what_was_given_for_one_save_stays(world: World) -> None:
    """Its own timeout is nearer than the chain's."""
    basket = world.bind()()
    basket.chain.update(timeout=3.5)
    await world.end(basket.save(timeout=1.5), basket.save())
    assert [operation.timeout for operation in world.backend.ledger] == [1.5, 3.5]


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": ({"retires": 3}, TypeError, "a chain has no option 'retires'; its options are coalesce, max_pending"),
    "of the class": ({"resource": "baskets"}, TypeError, "a chain has no option 'resource'"),
    "no time": ({"timeout": 0}, InvalidOption, "timeout=0 makes no sense"),
    "below zero": ({"max_pending": -1}, InvalidOption, "max_pending=-1 makes no sense"),
    "none at all": ({"max_pending": 0}, InvalidOption, "max_pending=0 makes no sense"),
    "a word": ({"coalesce": "latest"}, InvalidOption, "coalesce='latest' makes no sense"),
    "one good, one bad": ({"max_pending": 1, "overflow": True}, InvalidOption, "overflow=True makes no sense"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_options(what: str) -> None:
    """A clear error, and nothing has changed."""
    world = Inline()
    basket = world.bind()()
    given, error, message = BAD[what]
    with pytest.raises(error, match=message):
        basket.chain.update(**given)
    assert len(world.dispatcher._engine.ledger.machine.options) == 0
    basket.chain.pause()
    basket.save()
    basket.save()
    assert len(basket.chain) == 2


@everywhere
async def test_they_outlive_what_is_in_the_chain(world: World) -> None:
    """Empty or not, with an identity or without."""
    basket = world.bind()()
    basket.chain.update(coalesce=Coalesce.LATEST)
    await world.end(basket.save())
    assert basket.id == 1
    basket.chain.pause()
    basket.save()
    basket.save()
    assert len(basket.chain) == 1
    basket.chain.resume()
    await world.flush()


@everywhere
async def test_they_move_to_the_record_that_the_object_turns_out_to_be(world: World) -> None:
    """By its identity, set by hand; whatever is queued then."""
    model = world.bind()
    known = model(id=7)
    known.chain.mark_saved()
    basket = model()
    basket.chain.update(max_pending=1)
    basket.id = 7
    known.chain.pause()
    assert basket.chain.paused
    known.save()
    with pytest.raises(ChainFull, match="max_pending=1"):
        basket.save()
    known.chain.resume()
    await world.flush()


def test_a_chain_that_has_only_options_is_none() -> None:
    """It is not counted, iterated, or waited for."""
    world = Inline()
    baskets = [world.bind()(id=number) for number in range(3)]
    for basket in baskets:
        basket.chain.update(timeout=3.5)
    assert len(world.dispatcher) == 0
    assert list(world.dispatcher) == []
    assert repr(world.dispatcher) == "<Dispatcher 0 saves in 0 chains>"
    world.dispatcher.flush()
    assert not world.dispatcher._engine.ledger.machine.chains


def test_they_go_with_the_last_object() -> None:
    """Ten thousand objects, each with options of its own, saved or not, leave nothing."""
    world = Inline()
    model = world.bind()
    machine = world.dispatcher._engine.ledger.machine

    def use(basket: Basket, *, saved: bool) -> None:
        basket.chain.update(timeout=3.5)
        if saved:
            assert basket.save().outcome is Outcome.SAVED

    for number in range(10_000):
        use(model(id=number % 100 if number % 3 else None), saved=number % 10 == 0)
    gc.collect()
    assert len(machine.options) == 0
    assert not machine.chains
    assert not machine.held
