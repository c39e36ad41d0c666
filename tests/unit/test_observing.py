"""Observers: told of every save and attempt, whatever they do."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from chained_models import Answer, ChainedSaveMixin, Dispatcher, Lane, OnFailure, Outcome, Rejected, _observing
from chained_models.testing import Harness, ScriptedBackend


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None


class Watching:
    """Notes what it is told; raises at the moments that it is told to."""

    def __init__(self, *raises: str, error: BaseException | None = None) -> None:
        self.heard: list[Any] = []
        self._raises = raises
        self._error = RuntimeError("not today") if error is None else error

    def _note(self, name: str, *about: Any) -> None:
        self.heard.append((name, *about))
        if name in self._raises:
            if not isinstance(self._error, Exception):
                self._raises = ()  # one is enough
            raise self._error

    def accepted(self, save: Any) -> None:
        self._note("accepted", save.seq)

    def told(self, event: Any) -> None:
        self._note("told", event.name)

    def begins(self, saves: Any) -> int:
        self._note("begins", [save.seq for save in saves])
        return 4711

    def ends(self, begun: Any, error: str | None, *, here: bool) -> None:
        assert begun == 4711 and here
        self._note("ends", error)


@pytest.fixture
def chained() -> Iterator[Harness]:
    Order.bind(ScriptedBackend(), identity_by="client")
    with Harness(ScriptedBackend()) as harness:
        yield harness


def test_what_observers_are_told(chained: Harness) -> None:
    """Each save as it is asked for, and each attempt as it begins and ends, with the kind of its error; after that nothing."""
    one, other = Watching(), Watching()
    _observing.add(one)
    _observing.add(other)
    try:
        Order(1).save()
        chained.backend.fail(Rejected("canary"), times=1)
        Order(2).save()
    finally:
        _observing.remove(one)
        _observing.remove(other)
    Order(3).save()
    assert one.heard == [
        ("accepted", 1),
        ("begins", [1]),
        ("told", "request"),
        ("ends", None),
        ("told", "sync"),
        ("told", "idle"),
        ("accepted", 2),
        ("begins", [2]),
        ("told", "request"),
        ("ends", "Rejected"),
        ("told", "error"),
        ("told", "idle"),
    ]
    assert other.heard == one.heard and _observing.observers == ()


@pytest.mark.parametrize("moment", ["accepted", "begins", "ends", "told"])
def test_what_an_observer_raises(chained: Harness, caplog: pytest.LogCaptureFixture, moment: str) -> None:
    """It is logged, once for each time; the save goes on, and so do the other observers."""
    rude, quiet = Watching(moment), Watching()
    _observing.add(rude)
    _observing.add(quiet)
    try:
        handle = Order(1).save()
    finally:
        _observing.remove(rude)
        _observing.remove(quiet)
    assert handle.outcome is Outcome.SAVED
    assert [one[0] for one in quiet.heard] == ["accepted", "begins", "told", "ends", "told", "told"]
    assert len(caplog.records) == (3 if moment == "told" else 1)
    for record in caplog.records:
        assert record.levelno == logging.ERROR and "told of" in record.message


def test_observers_do_not_listen(chained: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """A failure that only observers have seen is logged: nobody has taken care of it."""
    watching = Watching()
    _observing.add(watching)
    try:
        chained.backend.fail(Rejected("canary"), times=1)
        Order(1).save()
    finally:
        _observing.remove(watching)
    (record,) = caplog.records
    assert "nobody listened" in record.message and "canary" not in record.getMessage()


@pytest.mark.parametrize("driver", ["inline", "threads"])
@pytest.mark.parametrize("moment", ["accepted", "begins", "ends", "told"])
def test_what_interrupts_an_observer(driver: str, moment: str) -> None:
    """Ctrl-C while an observer is told comes out when the chain has gone on: nothing is lost, nothing counts as failed."""
    with Dispatcher(driver) as dispatcher:
        Order.bind(ScriptedBackend(), identity_by="client", dispatcher=dispatcher)
        order = Order(1)
        order.save().result()
        watching = Watching(moment, error=KeyboardInterrupt())
        order.chain.pause()
        handles = [order.save() for _ in range(3)]
        _observing.add(watching)
        try:
            if moment == "accepted":
                with pytest.raises(KeyboardInterrupt):
                    Order(2).save()
            with pytest.raises(KeyboardInterrupt) if moment != "accepted" and driver == "inline" else nullcontext():
                order.chain.resume()
            dispatcher.flush(10)
        finally:
            _observing.remove(watching)
        assert [handle.outcome for handle in handles] == [Outcome.SAVED] * 3
        assert len(dispatcher) == 0


class Batching(ScriptedBackend):
    """Carries out several at once, and some of them not."""

    def execute_many(self, operations: Any) -> list[Any]:
        return [Rejected("canary") if one.identity % 2 else Answer() for one in operations]


def test_what_fails_within_a_batch() -> None:
    """An attempt of several saves has failed with what the first of them has failed with."""
    backend = Batching()
    backend.lane = Lane(max_in_flight=1)
    with Harness(backend) as chained:
        Order.bind(backend, identity_by="client")
        chained.backend.hold()
        Order(1).save()
        watching = Watching()
        _observing.add(watching)
        try:
            for number in (2, 3, 4):
                Order(number).save()
            chained.backend.release()
        finally:
            _observing.remove(watching)
    assert ("begins", [2, 3, 4]) in watching.heard and ("ends", "Rejected") in watching.heard


def test_a_retry_by_hand_is_asked_for_as_well(chained: Harness) -> None:
    """The save that takes the place of the failed one is told of like any other."""
    order = Order(1)
    order.save()
    order.chain.update(on_failure=OnFailure.HALT)
    chained.backend.fail(Rejected("no"), times=1)
    order.save()
    watching = Watching()
    _observing.add(watching)
    try:
        again = order.chain.retry()
    finally:
        _observing.remove(watching)
    assert again is not None and watching.heard[0] == ("accepted", again.seq)


def test_observers_come_and_go_in_all_threads() -> None:
    """None is lost, and none stays."""
    before, interval = _observing.observers, sys.getswitchinterval()
    ready = threading.Barrier(4)

    def come_and_go() -> None:
        ready.wait()
        for _ in range(300):
            watching = Watching()
            _observing.add(watching)
            found.append(watching in _observing.observers)
            _observing.remove(watching)

    found: list[bool] = []
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert all(found) and _observing.observers == before


class Asking(Watching):
    """Asks the dispatcher from another thread whenever it is told something."""

    def __init__(self, dispatcher: Dispatcher, order: Order) -> None:
        super().__init__()
        self._about = dispatcher, order
        self.answered: list[bool] = []

    def _note(self, name: str, *about: Any) -> None:
        super()._note(name, *about)
        dispatcher, order = self._about
        asking = threading.Thread(
            target=lambda: (dispatcher.lanes(), dispatcher.unsettled(), order.chain.paused), daemon=True
        )
        asking.start()
        asking.join(10)
        self.answered.append(not asking.is_alive())


def test_no_lock_is_held_while_they_are_told(chained: Harness) -> None:
    """Other threads get on meanwhile, also with the object that is being saved."""
    order = Order(1)
    order.save()
    order.chain.update(on_failure=OnFailure.HALT)
    asking = Asking(chained.dispatcher, order)
    _observing.add(asking)
    try:
        order.save()
        chained.backend.fail(Rejected("no"), times=1)
        order.save()
        order.save()
        order.chain.retry()
        order.chain.pause()
        order.save().cancel()
        order.save()
        order.chain.clear()
        order.chain.resume()
        order.save(force_insert=True)
    finally:
        _observing.remove(asking)
    assert all(asking.answered) and {one[0] for one in asking.heard} == {"accepted", "begins", "told", "ends"}
