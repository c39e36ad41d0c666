"""What is sent when, and what waits for what."""

from __future__ import annotations

import pydantic
import pytest
from parcel_sdk import Label, Parcel, Scan

from chained_models import Method, Outcome, Rejected
from chained_models.testing import Harness


def sent(chained: Harness) -> list[tuple[str, Method]]:
    return [(operation.resource, operation.method) for operation in chained.backend.applied]


def test_the_label_waits_for_the_parcel(chained: Harness) -> None:
    """It is sent once the parcel is posted, and carries the id that the parcel was given."""
    chained.backend.hold(Parcel)
    parcel = Parcel(sender="Ada", weight=1.2)
    parcel.save()
    label = parcel.post(to="Grace", city="Arlington")
    assert [flight.operation.resource for flight in chained.backend.ledger] == ["parcels"]
    assert label.why_waiting is not None
    assert label.why_waiting.startswith("waits for save 2 of ")
    chained.backend.release()
    assert sent(chained) == [
        ("parcels", Method.CREATE),
        ("parcels", Method.UPDATE),
        ("labels", Method.CREATE),
    ]
    assert label.result().parcel_id == parcel.id


def test_no_label_without_its_parcel(chained: Harness) -> None:
    """What the service refuses to take gets no label; the error says why."""
    chained.backend.fail(Rejected("too heavy"), Parcel)
    label = Parcel(sender="Ada", weight=900).post(to="Grace", city="Arlington")
    assert label.outcome is Outcome.FAILED
    assert not chained.backend.stored("labels")
    assert [save.outcome for save in chained.saves] == [Outcome.FAILED, Outcome.FAILED]
    assert isinstance(chained.saves[0].error, Rejected)


def test_a_parcel_is_created_once_however_often_it_is_edited(chained: Harness) -> None:
    """Edits that were made before the service has answered become updates, in their order."""
    parcel = Parcel(sender="Ada", weight=1)
    chained.backend.hold()
    for weight in (1.0, 1.1, 1.2):
        parcel.save({"weight": weight})
    chained.backend.release()
    assert sent(chained) == [("parcels", Method.CREATE), ("parcels", Method.UPDATE), ("parcels", Method.UPDATE)]
    assert [operation.values["weight"] for operation in chained.backend.applied] == [1.0, 1.1, 1.2]
    assert chained.backend.stored("parcels")[parcel.id]["weight"] == 1.2


def test_scans_of_one_parcel_are_one_chain(chained: Harness) -> None:
    """Those of another one go past."""
    chained.backend.hold(lambda operation: operation.values["place"] == "Hamburg")
    for parcel, place in ((1, "Hamburg"), (1, "Bremen"), (2, "Kiel")):
        Scan(parcel_id=parcel, place=place).save()
    assert [operation.values["place"] for operation in chained.backend.applied] == ["Kiel"]
    chained.backend.release()
    assert [operation.values["place"] for operation in chained.backend.applied] == ["Kiel", "Hamburg", "Bremen"]


def test_nonsense_is_refused_before_it_is_queued(chained: Harness) -> None:
    """By the model itself."""
    with pytest.raises(pydantic.ValidationError):
        Parcel(sender="Ada", weight=-1).save()
    assert not chained.saves
    assert not chained.backend.stored("parcels")
    assert Label.model_fields.keys() == {"id", "parcel_id", "to", "city"}, "and a mixin adds no fields"
