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
        self.told: list[Any] = []
        self._raises = raises

    def _note(self, name: str, *about: Any) -> None:
        self.told.append((name, *about))
        if name in self._raises:
            raise RuntimeError("not today")

    def accepted(self, save: Any) -> None:
        self._note("accepted", save.seq)

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
    assert one.told == [
        ("accepted", 1),
        ("begins", [1]),
        ("ends", None),
        ("accepted", 2),
        ("begins", [2]),
        ("ends", "Rejected"),
    ]
    assert other.told == one.told and _observing.observers == ()


@pytest.mark.parametrize("moment", ["accepted", "begins", "ends"])
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
    assert [one[0] for one in quiet.told] == ["accepted", "begins", "ends"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "told of" in record.message
