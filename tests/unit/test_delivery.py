"""Calls that are to be made in one thread: by its target, by a wait in it, or by whoever is left."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from chained_models._delivery import Delivery


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


def test_a_put_wakes_who_waits() -> None:
    """And only while it waits."""
    condition = threading.Condition()
    delivery = Delivery(Target(), 0)
    woken = threading.Event()

    def wait() -> None:
        with condition:
            ready.set()
            condition.wait_for(lambda: delivery.has_calls, 5)
            woken.set()

    ready = threading.Event()
    with delivery.waking(condition):
        thread = threading.Thread(target=wait)
        thread.start()
        assert ready.wait(5)
        delivery.put(lambda: None)
        assert woken.wait(5)
    thread.join(5)
    assert not delivery._sleepers


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
