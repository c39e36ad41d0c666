"""Operations and answers: plain data that can leave the process."""

from __future__ import annotations

import copy
import pickle

import pytest

from chained_models.operation import Answer, Guarantee, Method, Operation


def operation() -> Operation:
    return Operation(
        id="1",
        key="Basket 7",
        seq=1,
        model="shop.Basket",
        method=Method.UPDATE,
        resource="baskets",
        identity=7,
        values={"id": 7, "items": ["apple"]},
        changed=frozenset({"items"}),
        version=3,
        idempotency_key="1",
    )


@pytest.mark.parametrize("data", [operation(), Answer({"id": 7}, 7, 1), Guarantee.FENCED, Method.READ])
def test_can_be_written_down(data: object) -> None:
    """It survives a pickle and a copy, equal, with nothing but plain data in it."""
    assert pickle.loads(pickle.dumps(data)) == data == copy.deepcopy(data)


def test_slots() -> None:
    """There is no room for anything else, and no dictionary for each of thousands of operations."""
    for made in (operation(), Answer()):
        assert not hasattr(made, "__dict__")
        with pytest.raises(AttributeError):
            made.more = 1  # type: ignore[union-attr]


def test_before_the_first_attempt() -> None:
    """No payload, no attempt; an answer says nothing unless told."""
    made = operation()
    assert (made.payload, made.attempt) == (None, 0)
    assert Answer() == Answer(values=None, identity=None, version=None)


def test_guarantees_combine() -> None:
    """PLAIN is the absence of all others."""
    both = Guarantee.IDEMPOTENT | Guarantee.FENCED
    assert Guarantee.FENCED in both and Guarantee.TRANSACTIONAL not in both
    assert not Guarantee.PLAIN and both & Guarantee.TRANSACTIONAL is Guarantee.PLAIN
