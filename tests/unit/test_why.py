"""Why a save waits, as one plain sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import CallChain, Coalesce, Dispatcher, Lane, OnFailure, Outcome, Rejected, RetryPolicy, Unavailable
from chained_models._why import DEPTH, _Until

from ..contract.scripted import PATIENCE, Basket, Inline, RunningLoop, Threads, World

CLOCK = re.compile(r"\d\d:\d\d:\d\d")
ONCE = RetryPolicy(wait_initial=4, wait_jitter=0)


def why(handle: Any) -> str | None:
    """With the clock on the wall replaced."""
    text: str | None = handle.why_waiting
    return None if text is None else CLOCK.sub("hh:mm:ss", text)


def paused(basket: Basket, world: World) -> Any:
    basket.chain.pause()
    return basket.save()


def lane_paused(basket: Basket, world: World) -> Any:
    world.backend.lane.pause()
    return basket.save()


def halted(basket: Basket, world: World) -> Any:
    basket.chain.update(on_failure=OnFailure.HALT)
    world.backend.failures.append(Rejected())
    basket.save()
    return basket.save()


def backs_off(basket: Basket, world: World) -> Any:
    world.backend.failures.append(Unavailable())
    return basket.save()


def follows(basket: Basket, world: World) -> Any:
    backs_off(basket, world)
    return basket.save()


def held_and_due(basket: Basket, world: World) -> Any:
    handle = backs_off(basket, world)
    basket.chain.pause()
    world.advance(4.0)
    return handle


def depends(basket: Basket, world: World) -> Any:
    return basket.save(after=[paused(world.bind()(id=3), world)])


def superseded(basket: Basket, world: World) -> Any:
    basket.chain.update(coalesce=Coalesce.LATEST)
    handle = paused(basket, world)
    basket.save()
    basket.save()
    return handle


def too_many(basket: Basket, world: World) -> Any:
    """A line that is longer than anybody reads."""
    handle = paused(world.bind()(id=0), world)
    for number in range(1, DEPTH + 3):
        handle = world.bind()(id=number).save(after=[handle])
    return handle


def is_saved(basket: Basket, world: World) -> Any:
    return basket.save()


def has_failed(basket: Basket, world: World) -> Any:
    world.backend.failures.append(Rejected())
    return basket.save()


def is_cancelled(basket: Basket, world: World) -> Any:
    handle = paused(basket, world)
    handle.cancel()
    return handle


STATES: dict[Callable[[Basket, World], Any], str | None] = {
    paused: "held: its chain is paused until resume()",
    lane_paused: "waits for its lane, which is paused until resume()",
    halted: "held: its chain was halted by save 1 of Bound 7 (Rejected); use retry(), skip() or clear()",
    backs_off: "backing off after attempt 1 until hh:mm:ss (4.0 s from now)",
    follows: "queued behind save 1 of Bound 7, which is backing off after attempt 1 until hh:mm:ss (4.0 s from now)",
    held_and_due: "held: its chain is paused until resume()",
    depends: "waits for save 1 of Bound 3, which is held: its chain is paused until resume()",
    superseded: "replaced by save 3 of Bound 7, which is held: its chain is paused until resume()",
    too_many: "".join(f"waits for save {10 - n} of Bound {9 - n}, which " for n in range(DEPTH)) + "waits in turn",
    is_saved: None,
    has_failed: None,
    is_cancelled: None,
}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_sentence(state: Callable[[Basket, World], Any]) -> None:
    """Of each state, with the way out where there is one."""
    world = Inline()
    basket = world.bind(retry=ONCE)(id=7)
    basket.chain.mark_saved()
    handle = state(basket, world)
    assert why(handle) == STATES[state]
    assert (handle.why_waiting is None) is handle.done()


def test_in_flight_and_full_lanes() -> None:
    """How long, and how many."""
    world = Threads()
    world.backend.lane = Lane(max_in_flight=1)
    model = world.bind(timeout=3)
    world.backend.hold()
    handle, other = model(id=1).save(), model(id=2).save()
    behind = model(id=1).save()
    world.driver.time = 2.0
    assert why(handle) == "in flight: attempt 1, for 2.0 s"
    assert why(other) == "waits for its lane, which is full: 1 attempts run"
    assert why(behind) == "queued behind save 1 of Bound 1, which is in flight: attempt 1, for 2.0 s"
    world.advance(2.0)
    assert why(handle) == "over its time, and attempt 1 still runs after 4.0 s"
    world.backend.release()
    assert behind.result(PATIENCE).id == 1
    world.close()


def test_while_receivers_are_told() -> None:
    """Of itself, and behind it."""
    world = Inline()
    basket = world.bind()(id=7)
    said: list[Any] = []
    basket.chain.on("sync", lambda event: said.append((why(event.save), why(basket.save()))) if not said else None)
    basket.save()
    world.dispatcher.flush()
    assert said == [("has ended, and its receivers are being told", "waits for the receivers of save 1 of Bound 7")]


def test_while_its_snapshot_is_taken() -> None:
    """It has its place, and nothing else."""
    calls: CallChain = CallChain(print, dispatcher=Dispatcher("inline"))
    said: list[Any] = []

    class Slow:
        def __deepcopy__(self, memo: Any) -> Any:
            said.append(calls.why_waiting)
            return self

    calls.add(Slow())
    assert said == ["call 1 is being prepared: its snapshot is not taken yet"]


def test_of_another_dispatcher() -> None:
    """It is named; its own handle tells more."""
    here, there = Inline(), Inline()
    parent = paused(here.bind()(id=1), here)
    child = there.bind()(id=2).save(after=[parent])
    assert why(child) == "waits for save 1 of Bound 1, of another dispatcher"
    parent.cancel()
    assert child.outcome is Outcome.FAILED


def test_chains_and_views_tell_it_too() -> None:
    """Of the first save, and of each."""
    world = Inline()
    basket = world.bind()(id=7)
    assert basket.chain.why_waiting is None
    basket.chain.pause()
    basket.save()
    basket.save()
    assert basket.chain.why_waiting == "save 1 of Bound 7 is held: its chain is paused until resume()"
    assert [view.why_waiting for view in basket.chain] == [
        "held: its chain is paused until resume()",
        "queued behind save 1 of Bound 7, which is held: its chain is paused until resume()",
    ]
    basket.chain.resume()
    assert basket.chain.why_waiting is None


class Unspeakable:
    """An identity that cannot be written down."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.locked: list[bool] = []

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __repr__(self) -> str:
        self.locked.append(self.world.dispatcher._engine.deciding._inside)
        raise RuntimeError("no words")

    __str__ = __repr__


def test_an_identity_that_cannot_be_written() -> None:
    """Nothing raises, nothing is written while the lock is held, and the chain goes on."""
    world = Inline()
    model = world.bind(max_pending=2, on_failure=OnFailure.HALT)
    identity: Any = Unspeakable(world)
    basket = model(id=identity)
    basket.chain.pause()
    handle, behind = basket.save(), basket.save()
    assert (
        why(behind) == "queued behind save 1 of Bound (Unspeakable), which is held: its chain is paused until resume()"
    )
    assert str(handle) == "save 1 of Bound (Unspeakable)"
    assert repr(basket.chain) == "<Chain of Bound (Unspeakable): 2 saves, paused>"
    with pytest.raises(Exception, match="max_pending=2"):
        basket.save()
    with pytest.raises(Exception, match="stands in the same chain"):
        basket.save(after=[handle])
    child = model(id=2).save(after=[handle])
    assert why(child) == "waits for save 1 of Bound (Unspeakable), which is held: its chain is paused until resume()"
    handle.cancel()
    assert child.outcome is Outcome.FAILED
    basket.chain.resume()
    assert behind.outcome is Outcome.SAVED
    assert identity.locked
    assert not any(identity.locked)


def test_a_wait_longer_than_there_are_years() -> None:
    """A policy may say so; the sentence does without the moment."""
    assert str(_Until(1e15)) == "1000000000000000.0 s from now"
    assert CLOCK.sub("hh:mm:ss", str(_Until(-3.0))) == "hh:mm:ss (0.0 s from now)"


def test_in_a_loop() -> None:
    """It asks nobody, and so can be asked everywhere."""
    world = RunningLoop()

    async def body() -> None:
        basket = world.bind()(id=7)
        handle = basket.save()
        assert handle.why_waiting == "in flight: attempt 1, for 0.0 s"
        await handle
        assert handle.why_waiting is None

    world.play(body())


def test_of_a_dispatcher_that_is_closed() -> None:
    """There is nothing to wait for any more."""
    dispatcher = Dispatcher("inline")
    world = Inline()
    world.dispatcher = dispatcher
    handle = paused(world.bind()(id=1), world)
    dispatcher.close(0)
    assert handle.why_waiting is None
