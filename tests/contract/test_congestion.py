"""Congestion, wherever something can happen while an attempt runs: what is long, one at a time, and who is told, once."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from chained_models import InDoubt, Lane, Outcome, RetryPolicy, SaveEvent, Unavailable

from .scripted import Basket, Threads, World, baskets, everywhere, where_things_happen_meanwhile

SAVED = Outcome.SAVED
SIGNALS = ("long_running", "congested", "recovered")


def slots(world: World) -> set[str]:
    """Names of what is in flight, as was decided; whether a thread has got to it yet or not."""
    state = world.dispatcher.port(world.backend).lane
    return {save.model.name for save in state.slots.values()}


def lane_of(world: World, **options: Any) -> tuple[Lane, list[SaveEvent]]:
    """Give the world's backend a lane with these options, which notes what it is told."""
    told: list[SaveEvent] = []
    world.backend.lane = Lane(**options, on_congested=told.append)
    world.backend.started = world.stir
    return world.backend.lane, told


async def start(world: World, kind: type[Basket], *names: str) -> list[Any]:
    """Save new objects of these names, whose attempts do not end until each is released."""
    before = world.backend.running
    handles = []
    for name in names:
        world.backend.hold(name)
        basket = kind(name=name)
        world.watch(basket, *SIGNALS)
        handles.append(basket.save())
    await world.until(lambda: world.backend.running == before + len(names))
    return handles


def flow(world: World) -> list[tuple[str, str]]:
    return [(event.name, event.model.name) for event in world.events]


@where_things_happen_meanwhile
async def test_one_at_a_time_until_none_is_long(world: World) -> None:
    """Two long ones make the lane congested, and when the last long one has ended it has recovered; each is told once."""
    lane, told = lane_of(world, max_in_flight=4, long_after=3, max_long=2)
    kind = world.bind()
    first, second = await start(world, kind, "first", "second")
    await world.armed(3)
    world.advance(2.9)
    assert not flow(world) and not lane.congested
    world.advance(0.1)
    assert flow(world) == [("long_running", "first"), ("long_running", "second"), ("congested", "second")]
    assert lane.congested and [event.name for event in told] == ["congested"]

    (alone,) = await start(world, kind, "alone")
    world.backend.lane.max_in_flight = 5
    quick = [kind(name=name).save() for name in "abc"]
    assert slots(world) == {"first", "second", "alone"}
    assert "its lane, which is congested, and starts one attempt at a time" in str(quick[0].why_waiting)
    world.backend.hold("a")
    world.backend.hold("b")
    world.backend.release("alone")
    assert await world.end(alone) == [SAVED]
    await world.until(lambda: world.backend.running == 3)
    assert slots(world) == {"first", "second", "a"}
    world.backend.release("first")
    assert await world.end(first) == [SAVED]
    assert lane.congested and slots(world) == {"second", "a"}

    world.backend.hold("c")
    world.backend.release("second")
    assert await world.end(second) == [SAVED]
    await world.until(lambda: world.backend.running == 3)
    assert not lane.congested and slots(world) == {"a", "b", "c"}
    assert flow(world)[3:] == [("recovered", "second")]
    world.backend.release()
    assert await world.end(*quick) == [SAVED] * 3
    assert len(told) == 1
    assert all(event.lane is lane and event.save.subject is event.model for event in world.events)


@where_things_happen_meanwhile
async def test_each_time_it_is_congested_is_told(world: World) -> None:
    """Congested again after it had recovered is told again."""
    lane, told = lane_of(world, long_after=3, max_long=1)
    kind = world.bind()
    for number in range(3):
        (handle,) = await start(world, kind, f"slow {number}")
        await world.armed(3)
        world.advance(3)
        assert lane.congested
        world.backend.release()
        assert await world.end(handle) == [SAVED]
        assert not lane.congested and len(told) == number + 1
    assert [name for name, _ in flow(world)] == ["long_running", "congested", "recovered"] * 3


@where_things_happen_meanwhile
async def test_only_attempts_in_flight_take_long(world: World) -> None:
    """A save that backs off, or waits behind another one, is not long, whatever its time; each attempt counts anew."""
    lane, _ = lane_of(world, long_after=3, max_long=2)
    kind = world.bind(retry=RetryPolicy(wait_initial=20, wait_jitter=0))
    world.backend.failures.append(Unavailable())
    basket = kind(name="backs off")
    world.watch(basket, *SIGNALS, "retry")
    handle = basket.save()
    await world.until(lambda: bool(world.events))
    (slow,) = await start(world, kind, "slow")
    follower = slow.model.save()
    await world.armed(3)
    world.advance(4)
    assert flow(world)[1:] == [("long_running", "slow")]
    world.backend.release("slow")
    assert await world.end(slow, follower) == [SAVED] * 2
    await world.armed(16)
    world.advance(16)
    assert await world.end(handle) == [SAVED]
    assert not lane.congested and len(flow(world)) == 2


@where_things_happen_meanwhile
async def test_what_is_given_up_is_long_no_more(world: World) -> None:
    """An attempt that hangs past all its time keeps its slot, and no longer keeps the lane congested."""
    lane, told = lane_of(world, long_after=3, max_long=1)
    kind = world.bind(timeout=60, retry=RetryPolicy(timeout=10))
    world.backend.deaf = True
    world.backend.hold("hangs")
    basket = kind(id=7, name="hangs")
    world.watch(basket, *SIGNALS, "abandoned")
    handle = basket.save()
    await world.until(lambda: world.backend.running == 1)
    await world.armed(3)
    world.advance(3)
    await world.armed(57)
    assert lane.congested
    world.advance(57)
    assert await world.end(handle) == [Outcome.ABANDONED]
    assert handle.error is not None and isinstance(handle.error.__cause__, InDoubt)
    assert not lane.congested and len(told) == 1
    assert slots(world) == {"hangs"}
    assert [name for name, _ in flow(world)] == ["long_running", "congested", "recovered", "abandoned"]
    world.backend.release()


@where_things_happen_meanwhile
async def test_a_lane_whose_warning_raises_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, as for any receiver, and the others are told."""
    lane, _ = lane_of(world, long_after=3, max_long=1)

    def warn(_: SaveEvent) -> None:
        raise RuntimeError("no network")

    lane.on_congested = warn
    (slow,) = await start(world, world.bind(), "slow")
    await world.armed(3)
    world.advance(3)
    assert flow(world) == [("long_running", "slow"), ("congested", "slow")]
    assert "a receiver of 'congested' raised" in caplog.text
    world.backend.release()
    assert await world.end(slow) == [SAVED]


@where_things_happen_meanwhile
async def test_there_is_one_timer_for_all_attempts_and_none_for_none(world: World) -> None:
    """Not one for each attempt; it is taken back when all is flushed."""
    lane_of(world, long_after=3)
    kind = world.bind()
    handles = await start(world, kind, *"abcdefgh")
    await world.armed(3)
    world.advance(2)
    assert len(world.driver.alarms) == 1
    world.advance(1)
    await world.armed(30)
    assert len(world.driver.alarms) == 1
    world.backend.release()
    assert await world.end(*handles) == [SAVED] * 8
    await world.flush()
    assert world.driver.alarms == []


@everywhere
async def test_a_lane_without_the_rule_tells_nothing(world: World) -> None:
    """Where the rule is turned off, or nothing overlaps, no attempt is long."""
    _, told = lane_of(world, long_after=math.inf if world.concurrent else 0.001, max_long=1)
    kind = world.bind()
    basket = kind()
    world.watch(basket, *SIGNALS)
    if not world.concurrent:
        world.backend.during = lambda _: world.advance(10)
    assert await world.end(basket.save()) == [SAVED]
    assert not told and not flow(world)


@where_things_happen_meanwhile
async def test_six_requests_in_three_bursts(world: World) -> None:
    """Two seconds each at a server that does one at a time, and a limit of three: what is told, when, and who waits."""
    lane_of(world, long_after=3, max_long=2)
    kind = world.bind()
    line: list[str] = []
    said: list[tuple[float, str, str]] = []

    def note(event: SaveEvent) -> None:
        said.append((world.driver.time, event.name, event.model.name))

    def ask(*names: str) -> None:
        for name in names:
            world.backend.hold(name)
            basket = kind(name=name)
            for event in (*SIGNALS, "sync"):
                basket.chain.on(event, note)  # type: ignore[arg-type]
            line.append(name)
            handles[name] = basket.save()

    async def until(time: float) -> None:
        await world.until(lambda: {op.values["name"] for op in world.backend.ledger} >= slots(world))
        world.advance(time - world.driver.time)

    async def serve(time: float) -> None:
        """At this time the server has done the oldest request."""
        await until(time)
        name = line.pop(0)
        world.backend.release(name)
        assert await world.end(handles[name]) == [SAVED]
        await world.until(lambda: (time, "sync", name) in said)

    handles: dict[str, Any] = {}
    ask("1", "2")
    await world.armed(3)
    await until(1)
    ask("3", "4")
    await serve(2)
    await until(3)
    await serve(4)
    await until(5.5)
    ask("5", "6")
    assert slots(world) == {"3", "4", "5"}
    await serve(6)
    assert slots(world) == {"4", "5"}
    await serve(8)
    assert slots(world) == {"5", "6"}
    await serve(10)
    await until(11)
    await serve(12)
    assert said == [
        (2, "sync", "1"),
        (3, "long_running", "2"),
        (4, "long_running", "3"),
        (4, "congested", "3"),
        (4, "long_running", "4"),
        (4, "sync", "2"),
        (6, "sync", "3"),
        (8, "recovered", "4"),
        (8, "sync", "4"),
        (8.5, "long_running", "5"),
        (10, "sync", "5"),
        (11, "long_running", "6"),
        (12, "sync", "6"),
    ]


async def play(world: World, backend: Any, kind: type[Basket]) -> list[tuple[float, str, int, int]]:
    """A program of saves, some of which fail; returns what was started at which time."""
    started: list[tuple[float, str, int, int]] = []

    def note(operation: Any) -> None:
        started.append((world.driver.time, operation.values["name"], operation.values["n"], operation.attempt))
        if operation.values["n"] == 1 and operation.attempt == 1:
            raise Unavailable

    backend.during = note
    for burst in range(3):
        handles = [kind(name=f"{burst}-{number}", n=number).save() for number in range(5)]
        retried = handles.pop(1)
        assert await world.end(*handles) == [SAVED] * 4
        await world.armed(0.25)  # there is no other alarm so soon
        world.advance(0.25)
        assert await world.end(retried) == [SAVED]
        world.advance(1.75)
    return started


@where_things_happen_meanwhile
async def test_a_congested_lane_leaves_another_one_alone(world: World) -> None:
    """Beside a lane that is congested all the while, another one starts exactly the attempts it would start alone."""
    alone, beside = type(world)(), world
    lane, _ = lane_of(beside, max_in_flight=3, long_after=1, max_long=1)
    slow = beside.bind(timeout=60)
    (busy,) = await start(beside, slow, "slow")
    await beside.armed(1)
    beside.advance(1)
    beside.backend.hold("x")
    waiting = [slow(name=name).save() for name in "xyz"]
    alone.advance(1)
    started = []
    for one in (beside, alone):
        other = type(world.backend)(lane=Lane(max_in_flight=2))
        kind = baskets(other, dispatcher=one.dispatcher, retry=RetryPolicy(wait_initial=0.25, wait_jitter=0))
        started.append(await play(one, other, kind))
    assert lane.congested and slots(beside) == {"slow", "x"}
    assert len(started[0]) == 18
    assert sorted(started[0]) == sorted(started[1])
    await alone.aside(alone.dispatcher.close)
    beside.backend.release()
    assert await beside.end(busy, *waiting) == [SAVED] * 4


def test_the_log_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """Being slow is no failure: events tell, the log does not."""
    with caplog.at_level(logging.INFO, logger="chained_models"):
        world = Threads()
        lane_of(world, long_after=3, max_long=1)
        world.backend.hold()
        handle = world.bind()().save()
        with world.driver.news:
            assert world.driver.news.wait_for(lambda: world.driver.armed(3), 5)
        world.advance(3)
        assert world.backend.lane.congested
        world.backend.release()
        handle.result(5)
        world.close()
    assert caplog.text == ""
