"""Calls that are to be made in one thread: by its target, by a wait in it, or by whoever is left."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from chained_models._delivery import Deliveries, Delivery


class Target:
    def __init__(self) -> None:
        self.posted: list[Any] = []

    def __call__(self, call: Any) -> None:
        self.posted.append(call)


def test_the_target_makes_each_call_once() -> None:
    """When it comes; if a wait was faster, there is nothing left to do."""
    target, made = Target(), []
    delivery = Delivery(target, 0)
    delivery.put(lambda: made.append(1))
    delivery.put(lambda: made.append(2))
    target.posted[0]()
    assert made == [1]
    assert delivery.thread == threading.get_ident()
    assert delivery.has_calls
    delivery.make_calls()
    assert made == [1, 2]
    target.posted[1]()
    assert made == [1, 2]
    assert not delivery.has_calls


@pytest.mark.parametrize("closed", [True, False])
def test_a_target_that_refuses_is_done_without(closed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The caller makes the calls; it is logged, unless the target is known to be closed."""

    def refuse(call: Any) -> None:
        raise RuntimeError("gone")

    made: list[int] = []
    delivery = Delivery(Target() if closed else refuse, 0, lambda: closed)
    delivery.put(lambda: made.append(1))
    assert made == [1]
    assert ("made elsewhere" in caplog.text) is not closed


def test_calls_of_a_target_that_is_closed_later_are_rescued() -> None:
    """Not before it is closed."""
    made: list[int] = []
    closed = False
    delivery = Delivery(Target(), 0, lambda: closed)
    delivery.rescue()
    delivery.put(lambda: made.append(1))
    delivery.rescue()
    assert made == []
    closed = True
    delivery.rescue()
    assert made == [1]


def test_a_put_wakes_who_waits_in_its_thread() -> None:
    """And only while it waits, and only there; once, however often the same was given."""
    deliveries, woken = Deliveries(), []
    mine = Delivery(Target(), threading.get_ident(), among=deliveries)
    other = Delivery(Target(), 0, among=deliveries)
    with deliveries.waking(woken.append):
        with deliveries.waking(woken.append):
            mine.put(lambda: None)
            other.put(lambda: None)
        assert woken == [mine]
        mine.put(lambda: None)
        assert woken == [mine, mine]
    mine.put(lambda: None)
    assert woken == [mine, mine]
    assert not deliveries._sleepers


def test_all_calls_of_a_thread_are_made_in_it_once_and_in_order() -> None:
    """Whichever of its targets they were left for; not those of other threads, nor of a target at work elsewhere."""
    deliveries, made, targets = Deliveries(), [], [Target() for _ in range(2)]
    away = False
    mine = threading.get_ident()
    lines = [Delivery(target, mine, away=lambda: away, among=deliveries) for target in targets]
    elsewhere = Delivery(Target(), 0, among=deliveries)
    for n in range(4):
        lines[n % 2].put(lambda n=n: made.append(n))  # type: ignore[misc]
    elsewhere.put(lambda: made.append(-1))
    away = True
    assert not deliveries.has_calls
    deliveries.make_calls()
    assert made == []
    away = False
    assert deliveries.has_calls
    deliveries.make_calls()
    assert made == [0, 2, 1, 3]
    assert not deliveries.has_calls
    for come in [come for target in targets for come in target.posted]:
        come()
    assert made == [0, 2, 1, 3]
    assert list(deliveries.filled) == [elsewhere]


def test_calls_that_make_calls_do_not_keep_a_wait_for_ever() -> None:
    """Those that come meanwhile are for the next time, when the wait has looked whether it is over."""
    made: list[int] = []
    delivery = Delivery(Target(), 0)

    def again() -> None:
        made.append(1)
        delivery.put(again)

    delivery.put(again)
    delivery.make_calls()
    assert made == [1]
    assert delivery.has_calls


def test_calls_outlive_who_knew_the_target() -> None:
    """A loop that is gone takes its delivery with it; the calls are rescued all the same."""
    deliveries, made, closed = Deliveries(), [], False
    Delivery(lambda call: None, 0, lambda: closed, among=deliveries).put(lambda: made.append(1))
    gc.collect()
    deliveries.rescue()
    assert made == []
    closed = True
    deliveries.rescue()
    assert made == [1]
    assert not deliveries.filled


def test_when_all_ends_only_targets_at_work_are_waited_for() -> None:
    """The calls of all others are made by whoever asks."""
    deliveries, made = Deliveries(), []
    Delivery(Target(), 0, away=lambda: True, among=deliveries).put(lambda: made.append("at work"))
    Delivery(Target(), 0, away=lambda: False, among=deliveries).put(lambda: made.append("at rest"))
    deliveries.rescue(leaving=True)
    assert made == ["at rest"]


def test_one_target_stands_in_for_another() -> None:
    """It comes for the calls that were there, and for those that are put meanwhile; the other may come as well."""
    deliveries, made = Deliveries(), []
    present, absent = Target(), Target()
    own = Delivery(present, threading.get_ident(), among=deliveries)
    other = Delivery(absent, threading.get_ident(), among=deliveries)
    other.put(lambda: made.append(1))
    with deliveries.standing_in(own):
        assert made == []
        present.posted.pop()()
        assert made == [1]
        other.put(lambda: made.append(2))
        present.posted.pop()()
        assert made == [1, 2]
        other.put(lambda: made.append(3))
        for come in absent.posted:
            come()
        present.posted.pop()()
        assert made == [1, 2, 3]
        own.put(lambda: made.append(4))
        assert len(present.posted) == 1
    other.put(lambda: made.append(5))
    assert len(present.posted) == 1


def test_who_stands_in_leaves_the_calls_to_a_target_that_has_come_back() -> None:
    """It may run in another thread by now."""
    deliveries, made = Deliveries(), []
    present, away = Target(), False
    own = Delivery(present, threading.get_ident(), among=deliveries)
    other = Delivery(Target(), threading.get_ident(), away=lambda: away, among=deliveries)
    with deliveries.standing_in(own):
        other.put(lambda: made.append(1))
        away = True
        present.posted.pop()()
    assert made == []
    assert other.has_calls


def test_who_stands_in_and_is_gone_hurts_nobody() -> None:
    """The calls stay where they are."""

    def refuse(call: Any) -> None:
        raise RuntimeError("closed")

    deliveries, target = Deliveries(), Target()
    other = Delivery(target, threading.get_ident(), among=deliveries)
    with deliveries.standing_in(Delivery(refuse, threading.get_ident(), among=deliveries)):
        other.put(lambda: None)
    assert other.has_calls
    assert len(target.posted) == 1


def test_a_call_may_raise_and_the_others_stay() -> None:
    """What a call raises comes out where it is made."""
    made: list[int] = []
    delivery = Delivery(Target(), 0)

    def storm() -> None:
        raise KeyboardInterrupt

    delivery.put(storm)
    delivery.put(lambda: made.append(1))
    with pytest.raises(KeyboardInterrupt):
        delivery.make_calls()
    delivery.make_calls()
    assert made == [1]


def test_of_a_target_that_is_gone_all_calls_are_made_although_one_raises() -> None:
    """Nobody else comes for the others."""
    made: list[int] = []
    closed = False
    delivery = Delivery(Target(), 0, lambda: closed)

    def storm() -> None:
        raise KeyboardInterrupt

    delivery.put(storm)
    closed = True
    with pytest.raises(KeyboardInterrupt):
        delivery.put(lambda: made.append(1))
    assert made == [1]
