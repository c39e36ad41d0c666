"""What is held for too long is reported: once for each stoppage, with no timer while nothing is held."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import Dispatcher, InvalidOption, OnFailure, Rejected, RetryPolicy, Unauthenticated, Unavailable, on

from ..contract.scripted import (
    PATIENCE,
    AsyncScripted,
    Basket,
    Inline,
    Scripted,
    Threads,
    World,
    baskets,
    threads_of_ours,
    where_things_happen_meanwhile,
)

BOUND = 60.0


class Watched(Inline):
    """A world in which stoppages are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self.bind(
            on_failure=OnFailure.HALT, retry=RetryPolicy(wait_initial=600, wait_max=600, wait_jitter=0, timeout=900)
        )

    def basket(self, number: int) -> Basket:
        basket = self.model(id=number)
        self.watch(basket, "stuck")
        return basket

    @property
    def stuck(self) -> list[str]:
        return [str(event.save) for event in self.heard("stuck")]

    @property
    def timers(self) -> int:
        return len(self.driver._wakes)


def pause(world: Watched, basket: Basket) -> None:
    basket.chain.pause()
    basket.save()


def pause_when_queued(world: Watched, basket: Basket) -> None:
    world.backend.lane.pause()
    basket.save()
    basket.chain.pause()
    world.backend.lane.resume()


def halt(world: Watched, basket: Basket) -> None:
    world.backend.failures.append(Rejected())
    basket.save()
    basket.save()


def depend(world: Watched, basket: Basket) -> None:
    parent = world.model(id=99)
    parent.chain.pause()
    basket.save(after=[parent.save()])


def pause_lane(world: Watched, basket: Basket) -> None:
    world.backend.lane.pause()
    basket.save()


def refuse_credentials(world: Watched, basket: Basket) -> None:
    world.backend.failures.append(Unauthenticated())
    basket.save()


def go_on(world: Watched, basket: Basket) -> None:
    for one in (basket, world.model(id=99)):
        one.chain.resume()
        one.chain.skip()
    world.backend.lane.resume()
    world.dispatcher.flush()


STOPPAGES = [pause, pause_when_queued, halt, depend, pause_lane, refuse_credentials]


@pytest.mark.parametrize("stop", STOPPAGES)
def test_once_for_each_stoppage(stop: Callable[[Watched, Basket], None], caplog: pytest.LogCaptureFixture) -> None:
    """As an event and as a warning that says why; again when it has moved and stands still another time."""
    world = Watched()
    basket = world.basket(1)
    for times in (1, 2):
        stop(world, basket)
        waiting = next(view for view in basket.chain if view.state.value != "failed")
        world.advance(BOUND - 1)
        assert len(world.stuck) == times - 1
        world.advance(1)
        assert len(world.stuck) == times
        assert world.stuck[-1] == f"{waiting.verb.value} {waiting.seq} of Bound 1"
        basket.save()
        world.advance(10 * BOUND)
        assert len(world.stuck) == times
        assert world.timers == 0
        go_on(world, basket)
    warnings = [one.getMessage() for one in caplog.records if "has not moved for 60 s: it " in one.getMessage()]
    assert len([one for one in warnings if "of Bound 1 has" in one]) == 2
    assert {one.levelno for one in caplog.records if "has not moved" in one.getMessage()} == {logging.WARNING}
    assert not world.dispatcher._engine.ledger.machine.told
    assert not world.dispatcher._engine.ledger.machine.held


def test_one_that_stops_while_others_have_been_reported() -> None:
    """Each has its own bound."""
    world = Watched()
    for number in range(3):
        pause(world, world.basket(number))
        world.advance(BOUND - 10)
    world.advance(20 * BOUND)
    assert world.stuck == [f"save {number + 1} of Bound {number}" for number in range(3)]
    pause(world, world.basket(3))
    world.advance(BOUND)
    assert len(world.stuck) == 4


def test_no_timer_where_nothing_is_held() -> None:
    """Neither for what backs off nor for what has gone on; one for all that is."""
    world = Watched()
    world.backend.failures.append(Unavailable())
    backing_off = world.basket(1)
    backing_off.save()
    backing_off.save()
    assert world.timers == 1, "that of the next attempt"
    others = [world.basket(number) for number in range(2, 5)]
    for other in others:
        pause(world, other)
    assert world.timers == 2
    for other in others:
        other.chain.resume()
    assert world.timers == 1
    world.advance(599)
    assert world.stuck == []
    world.advance(1)
    assert world.timers == 0


def test_pausing_what_waits_in_a_paused_lane() -> None:
    """It is the chain that is held then, and the lane no more."""
    world = Watched()
    world.backend.lane.pause()
    basket = world.basket(1)
    basket.save()
    basket.chain.pause()
    world.advance(BOUND)
    assert len(world.stuck) == 1
    assert len(world.dispatcher._engine.ledger.machine.told) == 1
    basket.chain.clear()
    basket.chain.resume()
    assert world.timers == 0
    assert not world.dispatcher._engine.ledger.machine.told


def test_an_empty_chain_is_not_stuck() -> None:
    """Paused or not: there is nothing to send."""
    world = Watched()
    world.basket(1).chain.pause()
    assert world.timers == 0


@where_things_happen_meanwhile
async def test_what_is_in_flight_is_not_stuck(world: World) -> None:
    """Its time is looked after by others."""
    basket = world.bind(timeout=900)()
    world.watch(basket, "stuck")
    world.backend.hold()
    handle = basket.save()
    basket.chain.pause()
    world.advance(10 * BOUND)
    assert world.heard("stuck") == []
    basket.chain.resume()
    world.backend.release()
    await world.end(handle)


@where_things_happen_meanwhile
async def test_in_each_driver(world: World) -> None:
    """By its own timers."""
    basket = world.bind()()
    world.watch(basket, "stuck")
    basket.chain.pause()
    handle = basket.save()
    await world.armed(BOUND)
    world.advance(BOUND)
    await world.until(lambda: len(world.heard("stuck")) == 1)
    basket.chain.resume()
    await world.end(handle)
    assert not [when for when, _ in world.driver.alarms if when <= world.driver.time]


def test_a_receiver_for_all() -> None:
    """With the reason on the save."""
    world = Watched()
    said: list[Any] = []
    disconnect = on("stuck", lambda event: said.append(event.save.why_waiting), model=world.model)
    pause(world, world.model(id=1))
    world.advance(BOUND)
    disconnect()
    assert said == ["held: its chain is paused until resume()"]


def test_a_receiver_that_sets_it_going_again() -> None:
    """The timer goes on, and so does the chain."""
    world = Watched()
    basket, other = world.basket(1), world.basket(2)
    basket.chain.on("stuck", lambda event: basket.chain.resume())
    basket.chain.on("stuck", lambda event: 1 / 0)
    pause(world, basket)
    pause(world, other)
    world.advance(BOUND)
    assert len(basket.chain) == 0
    assert len(world.stuck) == 2


def test_an_identity_that_cannot_be_written_ends_no_timer(caplog: pytest.LogCaptureFixture) -> None:
    """The others are reported too."""

    class Unspeakable:
        def __deepcopy__(self, memo: Any) -> Any:
            return self

        def __repr__(self) -> str:
            raise RuntimeError("no words")

    world = Watched()
    for identity in (Unspeakable(), 2):
        pause(world, world.basket(identity))  # type: ignore[arg-type]
    world.advance(BOUND)
    assert world.stuck == ["save 1 of Bound (Unspeakable)", "save 2 of Bound 2"]


def test_the_timer_thread_ends() -> None:
    """With the last thing that was held, reported or not."""
    before = threading.enumerate()
    for reported in (True, False):
        dispatcher = Dispatcher("threads", stuck_after=0.01 if reported else 600.0)
        basket = baskets(Scripted(), dispatcher=dispatcher)()
        heard = threading.Event()
        basket.chain.on("stuck", lambda event: heard.set())
        basket.chain.pause()
        handle = basket.save()
        if reported:
            assert heard.wait(PATIENCE)
        else:
            basket.chain.resume()
            handle.result(PATIENCE)
            dispatcher.flush(PATIENCE)  # nothing is in flight that could take too long
        timer = [one for one in threading.enumerate() if one.name == "chained-models-timer" and one not in before]
        for one in timer:
            one.join(PATIENCE)
            assert not one.is_alive()
        basket.chain.resume()
        dispatcher.close(PATIENCE)
    assert not threads_of_ours(since=before)


def test_a_timer_that_was_lost_with_its_loop_is_set_again() -> None:
    """What is held elsewhere is still looked after."""
    import asyncio

    dispatcher = Dispatcher(stuck_after=0.2)
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    heard = threading.Event()
    basket.chain.on("stuck", lambda event: heard.set())
    lost = baskets(AsyncScripted(), dispatcher=dispatcher)()

    async def body() -> None:
        lost.chain.pause()
        lost.save()

    asyncio.run(body())
    basket.chain.pause()
    handle = basket.save()
    with pytest.raises(TimeoutError):
        dispatcher.flush(0.05)
    assert heard.wait(PATIENCE)
    basket.chain.resume()
    handle.result(PATIENCE)
    dispatcher.close(PATIENCE)


@pytest.mark.parametrize("bound", [0, -1, float("nan")])
def test_a_bound_that_makes_no_sense(bound: float) -> None:
    """Seconds, more than 0."""
    with pytest.raises(InvalidOption, match="stuck_after"):
        Dispatcher(stuck_after=bound)


def test_never(caplog: pytest.LogCaptureFixture) -> None:
    """An infinite bound sets no timer."""
    world = Watched()
    world.dispatcher = Dispatcher(world.driver, stuck_after=float("inf"))
    basket = world.bind()()
    pause(world, basket)
    assert world.timers == 0


def test_not_with_a_closed_dispatcher() -> None:
    """What was given up is held no more."""
    world = Threads()
    basket = world.bind()()
    basket.chain.pause()
    basket.save()
    world.dispatcher.close(0)
    assert not world.dispatcher._engine.ledger.machine.held
    assert world.driver.alarms == []
