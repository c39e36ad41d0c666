"""Lanes: slots by token, chains in turn, what takes long, and who is told when a lane goes on."""

from __future__ import annotations

import gc
import math
import sys
from typing import Any

import pytest

from chained_models._lane import Lane, LaneState, Signal
from chained_models.exceptions import InvalidOption


class Watcher:
    def __init__(self) -> None:
        self.heard: list[Lane] = []

    def resumed(self, lane: Lane) -> None:
        self.heard.append(lane)


class Save:
    token = 0

    def __init__(self, started: float = 0.0) -> None:
        self.started = started


def state(max_in_flight: int = 1, **options: Any) -> LaneState[str]:
    return LaneState(Lane(max_in_flight, **options))


def told(line: LaneState[str]) -> list[tuple[str, Any]]:
    """What has come about since this was asked last."""
    signals = [(signal.name, signal.save) for signal in line.signals]
    line.signals.clear()
    return signals


def granted(line: LaneState[str], *, most: int = 9) -> int:
    """How many chains may send now, of so many."""
    for number in range(most):
        line.request(f"chain {number}")
    granted = 0
    while line.grant() is not None:
        granted += 1
        line.take(1000 + granted, Save())
    return granted


@pytest.mark.parametrize("most", [0, -1])
def test_room_for_one_at_least(most: int) -> None:
    """A lane through which nothing could ever go is refused."""
    with pytest.raises(InvalidOption, match="at least 1"):
        Lane(max_in_flight=most)


def test_resume_tells_only_after_a_pause() -> None:
    """Whoever watches is told once for each pause that ends, and connected once."""
    lane, watcher = Lane(), Watcher()
    lane.watch(watcher.resumed)
    lane.watch(watcher.resumed)
    lane.resume()
    assert watcher.heard == []
    lane.pause()
    lane.pause()
    assert lane.paused and repr(lane) == "<Lane max_in_flight=8 paused>"
    lane.resume()
    lane.resume()
    assert watcher.heard == [lane]
    assert not lane.paused and repr(lane) == "<Lane max_in_flight=8>"


def test_a_watcher_is_not_kept() -> None:
    """A lane that outlives its dispatcher forgets it."""
    lane, watcher, other = Lane(), Watcher(), Watcher()
    lane.watch(watcher.resumed)
    lane.watch(other.resumed)
    del watcher
    gc.collect()
    lane.pause()
    lane.resume()
    assert other.heard == [lane] and len(lane._watchers) == 1


def test_first_come_first_served() -> None:
    """Chains are served in the order in which they asked; asking again keeps the place, withdrawing loses it."""
    line = state(max_in_flight=3)
    for chain in ("a", "b", "a", "c"):
        line.request(chain)
    line.withdraw("b")
    line.withdraw("never asked")
    assert [line.grant(), line.grant(), line.grant()] == ["a", "c", None]


def test_a_paused_lane_grants_nothing() -> None:
    """The line stays as it is until the lane goes on."""
    line = state()
    line.request("a")
    line.lane.pause()
    assert line.grant() is None
    line.lane.resume()
    assert line.grant() == "a"


def test_a_slot_is_given_back_once() -> None:
    """A full lane grants nothing; a token gives back its own slot only, and only once."""
    line = state(max_in_flight=2)
    line.take(1, Save())
    line.take(2, Save())
    line.request("a")
    assert line.grant() is None
    for _ in range(2):
        line.give_back(1)
    line.take(3, Save())
    assert line.grant() is None
    assert set(line.slots) == {2, 3}


def test_stranded_attempts_are_replaced_up_to_a_bound() -> None:
    """As many stranded attempts as the lane has slots do not stop it; one more does."""
    line = state(max_in_flight=1)
    line.take(1, Save())
    line.strand(1)
    line.request("a")
    assert line.grant() == "a"
    line.take(2, Save())
    line.strand(2)
    line.request("b")
    assert line.grant() is None
    line.give_back(1)
    assert line.grant() == "b"


def test_what_holds_no_slot_is_not_stranded() -> None:
    """Giving up a save between two attempts leaves the lane as it is."""
    line = state()
    line.strand(7)
    line.take(1, Save())
    line.request("a")
    assert line.grant() is None


def test_holds() -> None:
    """Whether an attempt of this very save is running."""
    line, save, other = state(), Save(), Save()
    line.take(0, save)
    assert line.holds(save)
    assert not line.holds(other)
    assert not line.holds(None)


# Congestion


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"long_after": 0}, "math.inf"),
        ({"long_after": -1.0}, "math.inf"),
        ({"long_after": math.nan}, "math.inf"),
        ({"max_long": 0}, "long_after=math.inf"),
        ({"on_congested": "warn"}, "a callable"),
        ({"max_in_flight": "4"}, "at least 1"),
        ({"max_in_flight": 1.5}, "at least 1"),
        ({"long_after": None}, "math.inf"),
        ({"max_long": None}, "long_after=math.inf"),
        ({"max_long": True}, "long_after=math.inf"),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(options: dict[str, Any], remedy: str) -> None:
    """With what to write instead."""
    with pytest.raises(InvalidOption, match=remedy):
        Lane(**options)


def test_an_attempt_becomes_long_once() -> None:
    """When it has been pending for that time, and not before; whoever looks is told when to look again."""
    line, first, second = state(8, long_after=3.0), Save(0.0), Save(1.0)
    line.take(1, first)
    line.take(2, second)
    assert line.look(2.9) == 3.0
    assert told(line) == []
    assert line.look(3.0) == 4.0
    assert told(line) == [("long_running", first)]
    assert line.look(4.5) is None
    assert told(line) == [("long_running", second)]
    assert line.look(9.0) is None
    assert told(line) == []
    assert not line.congested


def test_no_attempt_is_ever_long() -> None:
    """That is how the rule is turned off."""
    line = state(8, long_after=math.inf, max_long=1)
    line.take(1, Save())
    assert line.look(1e9) == math.inf
    assert told(line) == []


def congested_line() -> tuple[LaneState[str], list[Save]]:
    line, saves = state(8, long_after=3.0, max_long=2), [Save() for _ in range(2)]
    for token, save in enumerate(saves, 1):
        line.take(token, save)
    line.look(3.0)
    return line, saves


def test_congested_once() -> None:
    """By the one that makes them so many; further ones only are long themselves."""
    line, (first, second) = congested_line()
    assert told(line) == [("long_running", first), ("long_running", second), ("congested", second)]
    assert line.congested and line.lane.congested
    assert repr(line.lane) == "<Lane max_in_flight=8 congested>"
    third = Save(1.0)
    line.take(3, third)
    line.look(4.0)
    assert told(line) == [("long_running", third)]


def test_one_at_a_time_while_congested() -> None:
    """Whichever ends, at most one of those that were started since runs, and the slots still count."""
    line, _ = congested_line()
    assert granted(line) == 1
    line.give_back(1)
    assert line.congested and granted(line) == 0
    line.give_back(1001)
    assert granted(line) == 1
    line.lane.max_in_flight = 2
    line.give_back(1001)
    line.take(9, Save())
    assert line.full and granted(line) == 0


def test_recovered_when_none_is_long() -> None:
    """Not as soon as they are fewer than made it congested; then all go side by side again."""
    line, (_, second) = congested_line()
    assert granted(line) == 1
    told(line)
    line.give_back(1)
    assert told(line) == [] and line.congested
    line.give_back(2)
    assert told(line) == [("recovered", second)]
    assert not line.congested and not line.lane.congested
    line.give_back(1001)
    assert granted(line) == 8


def test_one_that_is_long_itself_keeps_the_lane_congested() -> None:
    """Also if it was started alone."""
    line, _ = congested_line()
    line.request("a")
    assert line.grant() == "a"
    line.take(3, alone := Save(3.0))
    line.look(6.0)
    line.give_back(1)
    line.give_back(2)
    assert line.congested and granted(line) == 0
    told(line)
    line.give_back(3)
    assert told(line) == [("recovered", alone)]


def test_what_is_stranded_is_not_long() -> None:
    """Nobody waits for it any more, so it neither makes a lane congested nor keeps it so, nor keeps the next one back."""
    line, (_, second) = congested_line()
    told(line)
    assert granted(line) == 1
    line.strand(1001)
    assert granted(line) == 1
    line.strand(1)
    line.strand(2)
    assert line.stranded == 3
    assert told(line) == [("recovered", second)]
    line.look(99.0)
    assert not line.congested


def test_a_lane_is_congested_where_it_is_used() -> None:
    """In any use of it; those that are gone do not count, and are not kept."""
    lane = Lane(max_long=1)
    uses = [LaneState[str](lane) for _ in range(3)]
    uses[1].take(1, Save())
    uses[1].look(3.0)
    assert lane.congested
    assert uses[1].signals == [Signal("long_running", uses[1].slots[1]), Signal("congested", uses[1].slots[1])]
    del uses[1]
    gc.collect()
    assert not lane.congested
    uses.append(LaneState(lane))
    assert len(lane._uses) == 3


def test_nothing_starts_while_credentials_are_renewed() -> None:
    """And what holds a lane back can be told."""
    line = state(8)
    line.renewing[1] = Save(), 30.0
    assert granted(line) == 0
    assert not (line.paused or line.full or line.congested)
    line.lane.pause()
    line.renewing.clear()
    assert line.paused and granted(line) == 0


def in_flight(line: LaneState[str], *tokens: int) -> None:
    """These have started in one call."""
    for token in tokens:
        line.take(token, Save())
    line.share(tokens)


def test_a_batch_has_a_size() -> None:
    """At least one, which is no batch; it may be changed at any time."""
    with pytest.raises(InvalidOption, match="sends every save alone"):
        Lane(max_batch=0)
    line = state(max_batch=3)
    for name in "abcdefg":
        line.request(name)
    assert line.grant() == "a"
    assert line.beside(lambda name: name not in "c") == ["b", "d"]
    line.lane.max_batch = 1
    assert line.beside(lambda name: True) == []
    assert list(line.ready) == ["c", "e", "f", "g"]
    line.lane.max_batch = 100
    line.congested = True
    assert line.beside(lambda name: True) == []


@pytest.mark.parametrize("most", [sys.maxsize, 10**30, math.inf])
def test_a_batch_without_a_bound(most: Any) -> None:
    """However large a batch may be, it is as large as the line is long."""
    line = state()
    line.lane.max_batch = most
    for name in "abc":
        line.request(name)
    assert line.grant() == "a" and line.beside(lambda name: True) == ["b", "c"]


def test_not_the_whole_line_is_looked_at() -> None:
    """Ten thousand that do not fit are not asked each time that one of another kind is sent."""
    line = state(max_batch=5)
    asked: list[str] = []
    for number in range(1_000):
        line.request(f"chain {number}")
    assert line.beside(lambda name: bool(asked.append(name))) == []
    assert len(asked) == 20


def test_a_batch_holds_one_slot_until_the_last_of_it_is_over() -> None:
    """However many they are, and in whatever order they end; who is over twice counts once."""
    line = state(2)
    in_flight(line, 1, 2, 3)
    assert line.open
    line.take(4, Save())
    assert line.full and "2 attempts run" in str(line.why)
    for token in (2, 2, 1, 1):
        line.give_back(token)
        assert line.full
    line.give_back(3)
    assert line.open
    in_flight(line, 5, 6)
    assert line.full
    line.give_back(4)
    assert line.open
    for token in (5, 6):
        line.give_back(token)
    assert not line.slots and not line._shared and not line._riding


def test_a_batch_that_was_given_up_strands_one_slot() -> None:
    """When all of it that still runs was given up, and not before."""
    line = state(1)
    in_flight(line, 1, 2, 3)
    line.strand(1)
    line.strand(2)
    assert line.full and not line.stopped
    line.give_back(3)  # it has ended
    assert line.open
    line.take(4, Save())
    line.strand(4)
    assert line.full
    line.request("a")
    assert line.stopped
    line.give_back(1)
    assert line.full
    line.give_back(2)
    assert line.open


def test_a_long_batch_is_long_once() -> None:
    """Each save of it is told to take long, and the lane is not congested by it alone."""
    line = state(4, long_after=3, max_long=2)
    in_flight(line, 1, 2, 3)
    assert line.look(3) is None
    assert [name for name, _ in told(line)] == ["long_running"] * 3 and not line.congested
    line.take(4, Save())
    line.look(3)
    assert [name for name, _ in told(line)] == ["long_running", "congested"]
    for token in (1, 2, 3):
        line.give_back(token)
        assert line.congested
    line.give_back(4)
    assert [name for name, _ in told(line)] == ["recovered"]
