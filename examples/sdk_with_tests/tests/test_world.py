"""Real threads, leftovers, and that the service is never really called."""

from __future__ import annotations

import threading

import pytest
from parcel_sdk import Parcel, Scan

from chained_models import Rejected
from chained_models.testing import Harness, Leftovers, ScriptedBackend


def test_the_same_with_real_threads(chained_live: Harness) -> None:
    """Four of them scan one parcel; whatever order they come in, it is the order in which it is stored."""
    go = threading.Barrier(4)

    def scan(place: str) -> None:
        go.wait(10)
        for number in range(10):
            Scan(parcel_id=1, place=f"{place} {number}").save()

    threads = [threading.Thread(target=scan, args=(place,)) for place in ("Kiel", "Bremen", "Hamburg", "Husum")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    chained_live.flush(10)
    called = sorted(chained_live.saves, key=lambda save: save.seq)
    assert [operation.seq for operation in chained_live.backend.applied] == [save.seq for save in called]
    assert len(called) == 40


def test_a_forgotten_save_fails_its_test() -> None:
    """As the fixture does, the harness tells what has not ended and why."""
    with pytest.raises(Leftovers, match=r"1 save has not ended:\n  save 1 of .*: in flight: attempt 1") as told:
        forget()
    assert "Parcel (new)" in str(told.value)


def forget() -> None:
    with Harness() as world:
        world.backend.hold()
        Parcel(sender="Ada", weight=1).save()


class Full(ScriptedBackend):
    """A service whose warehouse is full."""

    def __init__(self) -> None:
        super().__init__()
        self.fail(Rejected("no room"), times=None)


@pytest.mark.chained(backend=Full)
def test_another_service(chained: Harness) -> None:
    """The marker takes a class, so each test has a new one."""
    assert isinstance(Parcel(sender="Ada", weight=1).save().exception(), Rejected)
    assert not chained.backend.applied


def test_each_test_begins_with_nothing(chained: Harness) -> None:
    """And with virtual time at 0."""
    assert not chained.backend.stored("parcels")
    assert chained.clock is not None
    assert chained.clock.now() == 0
    Parcel(sender="Ada", weight=1).save()
    assert list(chained.backend.stored("parcels")) == [1]
