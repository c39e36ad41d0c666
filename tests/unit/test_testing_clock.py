"""Virtual time: it passes when somebody lets it, and what is due is done at its own time."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import (
    ChainedSaveMixin,
    Dispatcher,
    InvalidOption,
    Operation,
    Outcome,
    Unavailable,
    WouldDeadlock,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.drivers.inline import InlineDriver
from chained_models.protocols import Job
from chained_models.testing import SteppedDriver, VirtualClock
from chained_models.testing import clock as clock_module


class World:
    """A clock, a driver that goes by it, and what was done when."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.driver = SteppedDriver(self.clock)
        self.done: list[tuple[str, float]] = []

    def at(self, when: float, name: str, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
        def call() -> list[Job]:
            self.done.append((name, self.clock.time))
            then()
            return []

        return self.driver.wake_at(when, call)


@pytest.fixture
def world() -> World:
    return World()


def test_it_stands_still(world: World) -> None:
    """It begins at 0, and nothing but a test, or who waits, moves it."""
    world.at(1, "one")
    assert world.clock.now() == world.driver.now() == 0.0
    assert repr(world.clock) == "<VirtualClock 0 s>"
    assert world.done == []


def test_what_is_due_is_done_at_its_time(world: World) -> None:
    """In the order of the times; the clock shows each of them."""
    world.at(3, "three")
    world.at(1, "one", lambda: world.at(2, "two"))
    world.at(9, "nine")
    world.clock.advance(5)
    assert world.done == [("one", 1), ("two", 2), ("three", 3)]
    assert world.clock.time == 5
    world.clock.advance(0)
    world.clock.advance(4)
    assert world.done[3:] == [("nine", 9)]


def test_what_was_taken_back_is_not_done(world: World) -> None:
    """A timer that was cancelled."""
    world.at(1, "one")()
    world.clock.advance(2)
    assert world.done == []


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_time_does_not_run_backwards(world: World, seconds: float) -> None:
    """A mistake, and nothing happens."""
    with pytest.raises(InvalidOption, match="time passes in seconds, 0 or more"):
        world.clock.advance(seconds)
    assert world.clock.time == 0


def test_one_step_at_a_time(world: World) -> None:
    """Up to the next timer, and no further; all that is due then is done."""
    world.at(2, "a")
    world.at(2, "b")
    world.at(3, "c")
    assert world.clock.step()
    assert world.done == [("a", 2), ("b", 2)]
    assert world.clock.step()
    assert not world.clock.step()
    assert world.clock.time == 3


def test_a_step_reaches_its_timer() -> None:
    """Also where now plus the pause until then is a little less than that time: it is rounded."""
    now, when = 0.1, next(w / 1000 for w in range(200, 9000) if 0.1 + (w / 1000 - 0.1) < w / 1000)
    world = World()
    world.clock.advance(now)
    world.at(when, "it")
    assert world.clock.step()
    assert world.done == [("it", when)]


def test_until_nothing_is_due(world: World) -> None:
    """Also what becomes due on the way; at once, if nothing is."""
    world.clock.run_until_idle()
    assert world.clock.time == 0
    world.at(1, "one", lambda: world.at(5, "five"))
    world.clock.run_until_idle()
    assert world.done == [("one", 1), ("five", 5)]
    assert world.clock.time == 5


def test_what_is_never_due_is_no_reason_to_wait(world: World) -> None:
    """A timer for infinity."""
    world.at(math.inf, "never")
    world.clock.run_until_idle()
    assert not world.clock.step()
    assert world.clock.due() is None


def test_tidying_takes_back_timers(world: World) -> None:
    """Before each step."""
    cancel = world.at(30, "nobody needs it")
    world.at(1, "one")
    world.clock.run_until_idle(lambda: cancel() if world.clock.time >= 1 else None)
    assert world.done == [("one", 1)]
    assert world.clock.time == 1


def test_a_program_that_never_comes_to_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said to be one, with the time, instead of going on for ever."""
    monkeypatch.setattr(clock_module, "MOST_STEPS", 50)

    def again() -> None:
        world.at(world.clock.time + 2, "again", again)

    again()
    with pytest.raises(RuntimeError, match="after 50 timers, at 100 s, there is still something due"):
        world.clock.run_until_idle()


def test_it_says_when_the_next_thing_is_due(world: World) -> None:
    """And does what is due now."""
    world.at(0, "now")
    world.at(4, "later")
    assert world.clock.due() == 4
    assert world.done == [("now", 0)]


def test_all_drivers_that_go_by_it(world: World) -> None:
    """Each does what is its own, in the order of the times; one that is gone is forgotten."""
    other = SteppedDriver(world.clock)
    plain = InlineDriver(world.clock)
    world.clock.serve(plain)
    other.wake_at(1, lambda: world.done.append(("other", world.clock.time)) or ())
    plain.wake_at(3, lambda: world.done.append(("plain", world.clock.time)) or ())
    world.at(2, "first")
    gone = SteppedDriver(world.clock)
    gone.wake_at(1, lambda: 1 / 0)
    del gone
    world.clock.run_until_idle()
    assert world.done == [("other", 1), ("first", 2), ("plain", 3)]


def test_inside_a_job_only_the_time_moves(world: World) -> None:
    """What is due then is done when the job is over, and not inside it."""

    def steps() -> Any:
        yield lambda: (world.clock.advance(5), world.done.append(("job", world.clock.time))), None
        return ()

    world.at(1, "one")
    world.driver.start(Job(steps, contextvars.copy_context()))
    assert world.done == [("job", 5), ("one", 5)]


def test_skipping_does_nothing_that_is_due(world: World) -> None:
    """Who waits does it."""
    world.at(1, "one")
    world.clock.skip(3)
    assert (world.clock.time, world.done) == (3, [])
    world.driver.help()
    assert world.done == [("one", 3)]


def test_a_wait_for_ever_is_refused(world: World) -> None:
    """Nobody else is there to end it; the error says what a test may do."""
    with pytest.raises(WouldDeadlock, match=r"release\(\) what the backend holds, or resume\(\) what is paused"):
        world.clock.skip(math.inf)
    condition = threading.Condition()
    with condition, pytest.raises(WouldDeadlock):
        world.clock.wait(condition, None)
    with condition:
        world.clock.wait(condition, 2.5)
    assert world.clock.time == 2.5


def test_a_driver_of_the_library_goes_by_it_too() -> None:
    """A retry by a plain dispatcher is made as its clock is advanced, by `result()`, by `await` and by `flush()`."""
    clock = VirtualClock()
    attempts: list[float] = []

    def fault(operation: Operation) -> BaseException | None:
        attempts.append(clock.now())
        return Unavailable("busy") if len(attempts) % 2 else None

    dispatcher = Dispatcher(InlineDriver(clock))

    @dataclasses.dataclass
    class Basket(ChainedSaveMixin, backend=MemoryBackend(fault=fault), dispatcher=dispatcher):
        id: int | None = None

    advanced = Basket().save()
    assert (advanced.outcome, clock.timers) == (None, 1)
    clock.advance(30)
    assert advanced.outcome is Outcome.SAVED
    assert 0 < attempts[-1] < 30

    async def awaiting() -> None:
        await Basket().save()

    asyncio.run(awaiting())
    Basket().save().result(30)
    Basket().save()
    dispatcher.flush(30)
    assert len(attempts) == 8
    assert not clock.timers


@pytest.mark.parametrize("seconds", [math.inf, "1", None])
def test_time_that_nobody_can_wait_for(seconds: Any) -> None:
    """Is refused, and the clock goes on from where it was."""
    clock = VirtualClock()
    with pytest.raises(InvalidOption, match="run_until_idle"):
        clock.advance(seconds)
    assert clock.now() == 0
