"""No network, lost answers, timeouts."""

from __future__ import annotations

import pytest
from parcel_sdk import Parcel, Scan

from chained_models import Method, Outcome, SaveState, Unavailable
from chained_models.testing import Harness


def test_a_tour_without_network_is_sent_in_order_afterwards(offline: Harness) -> None:
    """Two minutes in a tunnel, which take none."""
    for place in ("Hamburg", "Bremen", "Oldenburg"):
        Scan(parcel_id=1, place=place).save()
    offline.advance(120)
    assert not offline.backend.applied
    offline.backend.restart()
    offline.run_until_idle()
    places = [operation.values["place"] for operation in offline.backend.applied]
    assert places == ["Hamburg", "Bremen", "Oldenburg"]
    assert [save.outcome for save in offline.saves] == [Outcome.SAVED] * 3


def test_after_five_minutes_it_is_given_up_and_said(offline: Harness) -> None:
    """The patience of the SDK is not endless: the scan fails, and its error tells why."""
    scan = Scan(parcel_id=1, place="Hamburg").save()
    offline.run_until_idle()
    assert scan.outcome is Outcome.FAILED
    assert isinstance(scan.error, Unavailable)
    last = offline.time_of(offline.backend.ledger[-1].began)
    assert last is not None
    assert 240 < last <= 300


@pytest.mark.parametrize("method", [Method.CREATE, Method.UPDATE])
def test_a_lost_answer_makes_no_second_parcel(chained: Harness, method: Method) -> None:
    """The same key is sent again, and the service knows it."""
    chained.backend.lose(method)
    parcel = Parcel(sender="Ada", weight=1)
    parcel.save()
    parcel.save({"weight": 2})
    chained.run_until_idle()
    twice = [operation for operation in chained.backend.seen if operation.method is method]
    assert len({operation.idempotency_key for operation in twice}) == 1
    assert len(twice) == 2
    assert [operation.method for operation in chained.backend.applied] == [Method.CREATE, Method.UPDATE]
    assert chained.backend.stored("parcels") == {1: {"id": 1, "sender": "Ada", "weight": 2, "state": "new"}}


def test_a_slow_answer_is_waited_for_and_nothing_overtakes_it(chained: Harness) -> None:
    """Past its time the save is in doubt; what is behind it waits."""
    chained.backend.answer_late(50)
    parcel = Parcel(sender="Ada", weight=1)
    first = parcel.save(timeout=10)
    second = parcel.save({"weight": 2})
    chained.advance(20)
    assert first.state is SaveState.IN_DOUBT
    assert second.state is SaveState.QUEUED
    chained.run_until_idle()
    assert (first.outcome, second.outcome) == (Outcome.SAVED, Outcome.SAVED)


@pytest.mark.chained(seed=11)
def test_the_waits_of_a_seed_are_always_the_same(chained: Harness) -> None:
    """So a failure that depends on them can be played again."""
    times = []
    for _ in range(2):
        with Harness(seed=11) as world:
            world.backend.fail(Unavailable, times=3)
            Scan(parcel_id=1, place="Kiel").save()
            world.run_until_idle()
            times.append([world.time_of(flight.began) for flight in world.backend.ledger])
    assert times[0] == times[1]
    assert len(set(times[0])) == 4
