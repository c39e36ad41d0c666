"""Events: who is called, in what order, and what a receiver cannot break."""

from __future__ import annotations

from typing import Any

import pytest

from chained_models import events
from chained_models.events import EVENT_NAMES, Receivers, SaveEvent, notify, on
from chained_models.exceptions import InvalidOption


class Animal: ...


class Cat(Animal): ...


class FakeSave:
    subject = model = Cat()


def event() -> SaveEvent:
    save: Any = FakeSave()
    return SaveEvent("sync", save)


def test_in_the_order_of_connecting() -> None:
    """Receivers of one event are called in order, each with the one record; those of other events are not."""
    receivers, heard = Receivers(), []
    for number in (1, 2):
        receivers.connect("sync", lambda event, number=number: heard.append((number, event.name)))
    receivers.connect("error", heard.append)
    assert notify(receivers.of("sync", Cat()), event()) is None
    assert heard == [(1, "sync"), (2, "sync")]
    assert event().model is FakeSave.model


def test_by_class() -> None:
    """A receiver for a class hears of its subclasses too, and of nothing else."""
    receivers = Receivers()
    receivers.connect("sync", len, Animal)
    assert receivers.of("sync", Cat()) == [len]
    assert receivers.of("sync", object()) == []


def test_disconnecting() -> None:
    """What `connect` returns disconnects that one connection, also twice, and not a running notification."""
    receivers, heard = Receivers(), []
    first = receivers.connect("sync", heard.append)
    second = receivers.connect("sync", heard.append)
    assert receivers
    running = receivers.of("sync", Cat())
    first()
    first()
    assert len(list(receivers.of("sync", Cat()))) == 1
    notify(running, event())
    assert len(heard) == 2
    second()
    assert not receivers.any


@pytest.mark.parametrize("name", ["Sync", "saved", ""])
def test_no_such_event(name: Any) -> None:
    """A misspelt event is refused, with the list of those that exist."""
    with pytest.raises(InvalidOption, match=", ".join(EVENT_NAMES)):
        Receivers().connect(name, print)


def test_one_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the others are called."""
    heard: list[Any] = []
    notify([lambda event: 1 / 0, heard.append], event())
    assert len(heard) == 1
    assert "a receiver of 'sync' raised" in caplog.text and "ZeroDivisionError" in caplog.text


def test_interrupts_wait_for_the_others() -> None:
    """The first interrupt is given back, when all receivers have been called."""
    heard: list[Any] = []
    first = KeyboardInterrupt()

    def interrupt(_: object) -> None:
        raise first

    def leave(_: object) -> None:
        raise SystemExit

    assert notify([interrupt, heard.append, leave, heard.append], event()) is first
    assert len(heard) == 2


def test_everywhere() -> None:
    """`on` hears of all models, or of one class, until it is disconnected."""
    disconnects = [on("sync", len), on("sync", print, model=Cat)]
    try:
        assert events.everywhere.of("sync", Cat()) == [len, print]
        assert events.everywhere.of("sync", Animal()) == [len]
    finally:
        for disconnect in disconnects:
            disconnect()
    assert events.everywhere.of("sync", Cat()) == []
