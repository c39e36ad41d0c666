"""Two people, one parcel."""

from __future__ import annotations

import pytest
from parcel_sdk import Label, Parcel

from chained_models import Conflict, Outcome
from chained_models.testing import Harness


@pytest.fixture
def mine(chained: Harness) -> Parcel:
    parcel = Parcel(sender="Ada", weight=1)
    parcel.save()
    return parcel


def somebody_else(parcel: Parcel, **changes: object) -> None:
    theirs = parcel.model_copy()
    theirs.refresh()
    theirs.save(changes)


def test_changes_of_different_things_are_both_kept(chained: Harness, mine: Parcel) -> None:
    """What was read meanwhile is under what is written now."""
    somebody_else(mine, state="on its way")
    assert mine.save({"weight": 1.5}).result() is mine
    assert chained.backend.stored("parcels")[mine.id] == {
        "id": mine.id,
        "sender": "Ada",
        "weight": 1.5,
        "state": "on its way",
    }
    assert mine.state == "on its way"


def test_of_two_changes_of_one_thing_the_second_is_refused(chained: Harness, mine: Parcel) -> None:
    """Nobody's scales are overruled silently."""
    somebody_else(mine, weight=2.0)
    refused = mine.save({"weight": 1.5})
    assert isinstance(refused.exception(), Conflict)
    assert chained.backend.stored("parcels")[mine.id]["weight"] == 2.0


def test_a_label_is_never_written_over(chained: Harness) -> None:
    """What is printed is printed."""
    label = Label(parcel_id=1, to="Grace", city="Arlington")
    label.save()
    theirs = label.model_copy()
    theirs.refresh()
    theirs.save({"city": "Washington"})
    assert label.save({"city": "Boston"}).outcome is Outcome.FAILED
    assert chained.backend.stored("labels")[label.id]["city"] == "Washington"
