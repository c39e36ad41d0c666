"""Observers: told of every save and attempt, whatever they do."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from chained_models import ChainedSaveMixin, Outcome, Rejected, _observing
from chained_models.testing import Harness, ScriptedBackend


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None


class Watching:
    """Notes what it is told; raises at the moments that it is told to."""

    def __init__(self, *raises: str) -> None:
        self.heard: list[Any] = []
        self._raises = raises

    def _note(self, name: str, *about: Any) -> None:
        self.heard.append((name, *about))
        if name in self._raises:
            raise RuntimeError("not today")

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
