"""Bounded chains: what a verb does when the chain holds as many unsettled saves as it may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import (
    ChainFull,
    Coalesce,
    DispatcherClosed,
    OnFailure,
    Outcome,
    Overflow,
    Rejected,
    RetryPolicy,
    Unavailable,
    WouldDeadlock,
)

from .scripted import PATIENCE, Inline, RunningLoop, Threads, World, everywhere, where_attempts_can_be_held

SAVED = Outcome.SAVED
BLOCK = Overflow.BLOCK


@everywhere
async def test_raise(world: World) -> None:
    """The error names what to do; nothing is queued, and what is known of the object is as it was."""
    basket = world.bind(max_pending=2)()
    world.watch(basket, "cancelled", "sync")
    basket.chain.pause()
    handles = [basket.save(), basket.save()]
    facts, record = basket.chain._facts, basket.chain._record
    before = (facts.last, facts.unsettled, facts.base, record.unsettled, record.life, record.chain_key, record.patches)
    for verb in (basket.save, lambda: basket.save(patch=True), basket.refresh):
        with pytest.raises(ChainFull, match=r"max_pending=2; wait for one of them, or choose overflow=Overflow.BLOCK"):
            verb()
    after = (facts.last, facts.unsettled, facts.base, record.unsettled, record.life, record.chain_key, record.patches)
    assert after == before
    assert [view.id for view in basket.chain] == [handle.id for handle in handles]
    assert world.events == []
    basket.chain.resume()
    await world.end(*handles)
    basket.n = 5
    assert await world.end(basket.save()) == [SAVED]
    assert world.backend.values == [0, 0, 5]


@everywhere
async def test_attributes_stay_set(world: World) -> None:
    """As if they had been assigned before the call: no edit of the user's is lost, and the next save carries it."""
    basket = world.bind(max_pending=1)(id=7)
    basket.chain.mark_saved()
    basket.chain.pause()
    first = basket.save()
    with pytest.raises(ChainFull):
        basket.save({"n": 9})
    assert basket.n == 9
    basket.chain.resume()
    await world.end(first)
    assert basket.chain.unsaved_changes() == {"n": 9}


@everywhere
async def test_the_one_in_flight_counts(world: World) -> None:
    """It is unsettled, too."""
    basket = world.bind(max_pending=1, retry=RetryPolicy(wait_initial=1, wait_jitter=0))()
    world.watch(basket, "retry")
    world.backend.failures.append(Unavailable())
    first = basket.save()
    await world.until(lambda: bool(world.heard("retry")))
    with pytest.raises(ChainFull):
        basket.save()
    await world.armed(1.0)
    world.advance(1.0)
    await world.end(first)


@everywhere
async def test_latest_takes_the_place_that_is_there(world: World) -> None:
    """A save that replaces a waiting one needs no room; one that cannot, does."""
    basket = world.bind(max_pending=1, coalesce=Coalesce.LATEST)()
    basket.chain.pause()
    basket.save()
    for n in range(5):
        basket.n = n
        last = basket.save()
    with pytest.raises(ChainFull):
        basket.save(force_insert=True)
    assert len(basket.chain) == 1
    basket.chain.resume()
    assert await world.end(last) == [SAVED]
    assert world.backend.values == [4]


@everywhere
async def test_a_way_out_of_a_halt_is_never_barred(world: World) -> None:
    """Neither the retry nor the refresh of a full, halted chain."""
    basket = world.bind(max_pending=1, on_failure=OnFailure.HALT)(id=7)
    world.backend.failures.append(Rejected())
    await world.end(basket.save())
    basket.save()
    assert await world.end(basket.refresh()) == [SAVED]
    assert basket.chain.retry() is not None
    await world.flush()


@everywhere
async def test_update_changes_the_bound(world: World) -> None:
    """For the next verb."""
    basket = world.bind()()
    basket.chain.update(max_pending=1)
    basket.chain.pause()
    basket.save()
    with pytest.raises(ChainFull):
        basket.save()
    basket.chain.update(max_pending=None)
    basket.save()
    assert len(basket.chain) == 2
    basket.chain.resume()
    await world.flush()


# BLOCK


def blocked(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that makes the call, and what it returned or raised."""
    ended: list[Any] = []

    def make() -> None:
        try:
            ended.append(call())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    return thread, ended


def waits(world: World, number: int = 1) -> None:
    """Until so many threads wait for room."""
    patience = world.dispatcher._engine.patience
    give_up = threading.Event()
    for _ in range(500):
        if patience._flushing >= number:
            return
        give_up.wait(0.01)
    raise AssertionError("nobody waits for room")


def test_block_waits_for_room() -> None:
    """While the one in flight is merged: the object's latch is free meanwhile."""
    world = Threads()
    world.backend.during = lambda operation: {"total": operation.values["n"]}
    basket = world.bind(max_pending=1, overflow=BLOCK)()
    world.backend.hold()
    first = basket.save({"n": 1})
    thread, ended = blocked(lambda: basket.save({"n": 2}))
    waits(world)
    assert len(basket.chain) == 1
    world.backend.release()
    thread.join(PATIENCE)
    assert first.result(PATIENCE) is basket
    assert ended[0].result(PATIENCE) is basket
    assert world.backend.values == [1, 2]
    assert basket.total == 2
    world.close()


def test_many_blocked_threads_keep_to_the_bound() -> None:
    """Each takes a place when there is one; never are there more."""
    world = Threads()
    basket = world.bind(max_pending=2, overflow=BLOCK)()
    most = 0

    def look(operation: Any) -> None:
        nonlocal most
        most = max(most, len(basket.chain))

    world.backend.during = look
    world.backend.hold()
    basket.save()
    basket.save()
    threads = [blocked(basket.save) for _ in range(12)]
    waits(world, 12)
    world.backend.release()
    for thread, ended in threads:
        thread.join(PATIENCE)
        assert ended[0].result(PATIENCE) is basket
    assert most <= 2
    assert len(world.backend.ledger) == 14
    world.close()


def test_block_inline_carries_out_what_makes_room() -> None:
    """The one that backs off is sent again by whoever waits, when its time has come."""
    world = Inline()
    basket = world.bind(max_pending=1, overflow=BLOCK, retry=RetryPolicy(wait_initial=8, wait_jitter=0))()
    world.backend.failures.append(Unavailable())
    first = basket.save({"n": 1})
    assert not first.done()
    second = basket.save({"n": 2})
    assert world.clock.time >= 8
    assert first.done()
    assert second.done()
    assert world.backend.values == [1, 1, 2]
    world.close()


def test_block_inline_waits_for_a_parent_that_moves() -> None:
    """A chain that waits for another one is full only until that one has come."""
    world = Inline()
    model = world.bind(max_pending=1, overflow=BLOCK, retry=RetryPolicy(wait_initial=8, wait_jitter=0))
    parent, child = model(name="p"), model(name="c")
    world.backend.failures.append(Unavailable())
    child.save(after=[parent.save()])
    child.save()
    world.dispatcher.flush()
    assert world.backend.values_of("c") == [0, 0]
    world.close()


@pytest.mark.parametrize("hold", ["chain", "lane", "halt"])
def test_block_inline_on_a_chain_that_is_held(hold: str) -> None:
    """Nobody else would make room, so that it would wait for ever: it raises."""
    world = Inline()
    basket = world.bind(max_pending=1, overflow=BLOCK, on_failure=OnFailure.HALT)(id=7)
    if hold == "halt":
        world.backend.failures.append(Rejected())
        basket.save()
    else:
        (basket.chain if hold == "chain" else world.backend.lane).pause()
    basket.save()
    with pytest.raises(ChainFull, match="is held, and nothing else runs"):
        basket.save()
    assert len(basket.chain) == 1
    world.backend.lane.resume()
    basket.chain.resume()
    basket.chain.skip()
    world.close()


def test_block_in_threads_waits_for_a_resume() -> None:
    """Another thread may always come."""
    world = Threads()
    basket = world.bind(max_pending=1, overflow=BLOCK)()
    basket.chain.pause()
    basket.save()
    thread, ended = blocked(basket.save)
    waits(world)
    basket.chain.resume()
    thread.join(PATIENCE)
    assert ended[0].result(PATIENCE) is basket
    world.close()


@where_attempts_can_be_held
async def test_block_in_a_receiver(world: World) -> None:
    """It would wait for the chain that it holds up."""
    basket = world.bind(max_pending=1, overflow=BLOCK)()
    raised: list[Any] = []

    def again(event: Any) -> None:
        other.save()
        try:
            other.save()
        except WouldDeadlock as error:
            raised.append(error)

    other = world.bind(max_pending=1, overflow=BLOCK)(name="b")
    other.chain.pause()
    basket.chain.on("sync", again)
    await world.end(basket.save())
    assert len(raised) == 1
    other.chain.resume()
    await world.flush()


def test_block_on_the_driving_loop() -> None:
    """It would wait for itself."""
    world = RunningLoop()

    async def body() -> None:
        basket = world.bind(max_pending=1, overflow=BLOCK)()
        first = basket.save()
        with pytest.raises(WouldDeadlock):
            basket.save()
        await world.end(first)

    world.play(body())


def test_closing_while_somebody_waits_for_room() -> None:
    """Who waits is told that it is too late, and close() does not wait for it."""
    world = Threads()
    basket = world.bind(max_pending=1, overflow=BLOCK)()
    basket.chain.pause()
    basket.save()
    thread, ended = blocked(basket.save)
    waits(world)
    world.dispatcher.close(0.1)
    thread.join(PATIENCE)
    assert isinstance(ended[0], DispatcherClosed)
    assert len(world.dispatcher) == 0
