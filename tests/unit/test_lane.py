"""Lanes: slots by token, chains in turn, and who is told when a lane goes on."""

from __future__ import annotations

import gc

import pytest

from chained_models._lane import Lane, LaneState
from chained_models.exceptions import InvalidOption


class Watcher:
    def __init__(self) -> None:
        self.heard: list[Lane] = []

    def resumed(self, lane: Lane) -> None:
        self.heard.append(lane)


class Save:
    token = 0


def state(max_in_flight: int = 1) -> LaneState[str]:
    return LaneState(Lane(max_in_flight))


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
