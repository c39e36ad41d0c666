"""What the inspector notes: which saves and chains it keeps, how attempts ended, and what it says of those that went."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chained_models import (
    Answer,
    CallChain,
    ChainedSaveMixin,
    Coalesce,
    Dispatcher,
    Lane,
    Outcome,
    Rejected,
    SnapshotError,
    Turn,
    Unavailable,
    _observing,
)
from chained_models.inspector import _history, _view
from chained_models.inspector._history import History
from chained_models.inspector._view import View
from chained_models.testing import Harness, ScriptedBackend

from ..inspected import harness_of


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None
    total: int = 0


chained = harness_of(Order)


@pytest.fixture
def history(chained: Harness) -> Iterator[History]:
    history = History(chained.dispatcher)
    yield history
    history.close()


def titles(view: View, since: int = 0) -> list[str]:
    return [chain["title"] for chain in view.overview(since)["chains"]]


@pytest.fixture
def view(history: History) -> View:
    return View(history, values=False, readonly=False)


# What is kept


def test_replaced_saves_go_while_another_is_in_flight(
    history: History, chained: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain in which each save takes the place of the one before does not fill the memory while its first one is under way."""
    monkeypatch.setattr(_history, "KEPT", 3)
    order = Order(1)
    order.chain.update(coalesce=Coalesce.LATEST)
    chained.backend.hold()
    for number in range(20):
        order.total = number
        order.save()
    (row,) = history
    assert [box.save.state.value for box in row.boxes] == ["in flight", *["superseded"] * 3, "queued"]
    assert row.dropped == 15
    chained.backend.release()
    assert len(row.boxes) == 3 and row.dropped == 17


def test_a_chain_that_was_just_used_is_not_the_one_that_goes(
    view: View, chained: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many chains those go that have been idle for longest, not those that were there first."""
    monkeypatch.setattr(_history, "ROWS", 2)
    first, second, third = Order(1), Order(2), Order(3)
    first.save(), second.save(), first.save(), third.save()
    assert titles(view) == ["Order 1", "Order 3"]


def test_more_busy_chains_than_are_kept(view: View, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is left out while it is busy; when they are idle, the surplus goes, all of it, with its models."""
    monkeypatch.setattr(_history, "ROWS", 2)
    chained.backend.hold()
    orders = [Order(number) for number in range(5)]
    for order in orders:
        order.save()
    assert titles(view) == [f"Order {number}" for number in range(5)]
    chained.backend.release()
    assert len(titles(view)) == 2
    kept = [box.save.model for row in view.history for box in row.boxes]
    assert [order in kept for order in orders] == [False, False, False, True, True]
    assert len(view.history._boxes) == len(view.history._by_box_number) == 2


def test_what_went_does_not_come_back(view: View, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that goes at its end is not there anew because something is told of it after that."""
    monkeypatch.setattr(_history, "ROWS", 2)
    chained.backend.hold()
    for number in range(4):
        Order(number).save()
    before = view.overview()
    chained.backend.release()
    after = view.overview(before["revision"], before["boot"])
    numbers = [chain["id"] for chain in before["chains"]]
    assert [chain["id"] for chain in after["chains"]] == numbers[2:] and after["gone"] == numbers[:2]


def test_who_has_not_looked_for_long(view: View, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is not known any more which chains went since then, all of it is told anew, as after another start."""
    monkeypatch.setattr(_history, "ROWS", 2)
    Order(1).save()
    before = view.overview()
    Order(2).save(), Order(3).save()
    later = view.overview(before["revision"], before["boot"])
    assert later["boot"] == before["boot"] and later["gone"] == [before["chains"][0]["id"]]
    for number in range(4, 9):
        Order(number).save()
    much_later = view.overview(before["revision"], before["boot"])
    assert much_later["boot"] != before["boot"] and much_later["gone"] == []
    assert [chain["title"] for chain in much_later["chains"]] == ["Order 7", "Order 8"]
    now = view.overview(much_later["revision"], much_later["boot"])
    assert (now["boot"], now["chains"]) == (much_later["boot"], [])
    assert view.overview(much_later["revision"], "another")["boot"] == before["boot"]


def test_nothing_is_kept_after_the_end(history: History, chained: Harness) -> None:
    """Another thread may still be about to tell it something when it is closed."""
    history.close()
    chained.backend.hold()
    order = Order(1)
    handle = order.save()
    history.accepted(handle)
    assert history.begins([handle]) == [] and history.box(1) is None and len(history) == 0
    chained.backend.release()


def test_begun_while_an_item_is_being_copied(chained: Harness) -> None:
    """What is not accepted yet is not shown: it may never be."""
    made: list[History] = []

    class Item:
        def __deepcopy__(self, memo: Any) -> Any:
            made.append(History(chained.dispatcher))
            raise ValueError

    calls = CallChain(print, dispatcher=chained.dispatcher)
    with pytest.raises(SnapshotError):
        calls.add(Item())
    (history,) = made
    assert [row.boxes for row in history] == []
    history.close()


# Attempts


class Batching(ScriptedBackend):
    """Carries out several at once, and some of them not."""

    def execute_many(self, operations: Any) -> list[Any]:
        return [Rejected("canary") if one.identity % 2 else Answer() for one in operations]


def test_each_of_a_batch_has_its_own_end() -> None:
    """One attempt for all of them, timed once; of each its own error."""
    backend = Batching()
    backend.lane = Lane(max_in_flight=1)
    with Harness(backend) as chained:
        Order.bind(chained.backend, identity_by="client")
        history = History(chained.dispatcher)
        chained.backend.hold()
        for number in (1, 2, 3, 4):
            Order(number).save()
        chained.backend.release()
        errors = [[one.error for one in box.attempts] for row in history for box in row.boxes]
        assert errors == [[None], [None], ["Rejected"], [None]]
        assert len(history.latencies) == 2
        history.close()


def test_an_attempt_that_is_retried_says_why(history: History, chained: Harness) -> None:
    """Each attempt has the error that it failed with."""
    chained.backend.fail(Unavailable("canary"), times=1)
    Order(1).save()
    chained.advance(60)
    ((box,),) = [row.boxes for row in history]
    assert [one.error for one in box.attempts] == ["Unavailable", None]


@pytest.mark.parametrize("batch", [1, 2])
def test_an_attempt_that_is_left_open(batch: int) -> None:
    """Where the worker returns and a turn says later that it is over, the attempt runs until then."""
    turns: list[Turn] = []
    now = [100.0]
    with Dispatcher("inline") as dispatcher:
        calls = CallChain(lambda item, turn: turns.append(turn), manual=True, batch=batch, dispatcher=dispatcher)
        calls.pause()
        history = History(dispatcher, lambda: now[0])
        calls.extend(["a", "b"])
        calls.resume()
        (row,) = history
        assert row.boxes[0].attempts[0].ended is None
        now[0] = 103.0
        turns[0].done()
        if batch == 1:
            now[0] = 105.0
            turns[1].fail(ValueError("canary"))
        ends = [(one.ended, one.error) for box in row.boxes for one in box.attempts]
        assert ends == ([(103.0, None)] * 2 if batch == 2 else [(103.0, None), (105.0, "ValueError")])
        assert list(history.latencies) == ([(103.0, 3.0)] if batch == 2 else [(103.0, 3.0), (105.0, 2.0)])
        history.close()


def test_a_clock_that_is_set_back(chained: Harness) -> None:
    """No attempt has taken less than no time."""
    times = iter([100.0, 100.0, 40.0, *[40.0] * 10])
    history = History(chained.dispatcher, lambda: next(times))
    Order(1).save()
    assert [seconds for _, seconds in history.latencies] == [0.0]
    history.close()


# Threads and processes


def test_saves_of_many_threads_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told from all sides is noted once each, and who asks for changes again and again has seen all of it in the end."""
    monkeypatch.setattr(_history, "KEPT", 1_000)
    with Dispatcher("threads") as dispatcher:
        Order.bind(ScriptedBackend(), identity_by="client", dispatcher=dispatcher)
        history = History(dispatcher)
        view = View(history, values=True, readonly=False)
        seen: dict[int, Any] = {}
        over = threading.Event()

        def look() -> None:
            since = 0
            while True:
                last = over.is_set()
                state = view.overview(since, view.boot)
                since = state["revision"]
                for chain in state["chains"]:
                    seen[chain["id"]] = chain
                if last:
                    return

        def save(number: int) -> None:
            for _ in range(50):
                Order(number).save()

        looking = threading.Thread(target=look)
        saving = [threading.Thread(target=save, args=(number,)) for number in range(4)]
        for thread in (looking, *saving):
            thread.start()
        for thread in saving:
            thread.join()
        dispatcher.flush(30)
        over.set()
        looking.join()
        assert sorted(chain["title"] for chain in seen.values()) == [f"Order {number}" for number in range(4)]
        for chain in seen.values():
            assert [box["state"] for box in chain["boxes"]] == ["saved"] * 50 and chain["idle"]
        history.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_saves_unseen(history: History, chained: Harness) -> None:
    """Nobody looks there; and that somebody looked at the moment of the fork does not hold it up."""
    holds, ends = threading.Event(), threading.Event()

    def look() -> None:
        with history._noting:
            holds.set()
            ends.wait(30)

    looking = threading.Thread(target=look)
    looking.start()
    holds.wait()
    child = os.fork()
    if child == 0:
        saved = Order(1).save().outcome is Outcome.SAVED
        os._exit(0 if saved and history.closed and history not in _observing.observers else 1)
    ends.set()
    looking.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not history.closed


def test_how_many_attempts_a_second(chained: Harness) -> None:
    """All of the latest seconds are counted, however many; told of are so many numbers at most, and so many latencies."""
    moment = 100.0
    history = History(chained.dispatcher, clock=lambda: moment)
    view = View(history, values=False, readonly=False)
    order = Order(1)
    for _ in range(2_200):
        order.save()
        moment += 0.001
    told = view.overview()
    assert sum(count for _, count in told["ended"]) == 2_200 and len(told["ended"]) < 10
    assert len(told["latencies"]) == 200
    moment = 106.0
    order.save()
    assert 1_100 < sum(count for _, count in view.overview()["ended"]) < 1_500, "what is longer ago is not counted"
    moment = 50.0  # the clock was set back
    order.save()
    assert view.overview()["ended"][-1] == [50.0, 1]
    history.close()
    assert view.overview()["ended"] == []


def test_who_asks_now_and_then(chained: Harness, view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told of a chain that the program has paused since, although no event tells of that."""
    monkeypatch.setattr(_view, "GLANCE", 0.0)
    order = Order(1)
    order.save()
    seen = view.overview()["revision"]
    order.chain.pause()
    assert [chain["paused"] for chain in view.overview(seen)["chains"]] == [True]
