"""What is said when two sequences of saves are not equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from chained_models import ChainedSaveMixin, Method, Outcome
from chained_models.backends.memory import MemoryBackend
from chained_models.testing import Harness
from chained_models.testing.differences import MOST, differences


@dataclass
class Letter(ChainedSaveMixin, backend=MemoryBackend()):
    id: int | None = None
    text: str = ""


@pytest.fixture
def world() -> Iterator[Harness]:
    with Harness() as chained:
        letter = Letter()
        for text in "abc":
            letter.save({"text": text})
        yield chained


def test_another_order_is_told_in_terms_of_saves(world: Harness) -> None:
    """What came before what."""
    first, second, third = world.saves
    assert differences([third, first, second], [first, second, third]) == [
        "[save 3 of Letter 1, save 1 of Letter 1, save 2 of Letter 1] == "
        "[save 1 of Letter 1, save 2 of Letter 1, save 3 of Letter 1]",
        "the same, in another order:",
        "  save 3 of Letter 1 came before save 1 of Letter 1 and 1 more",
    ]


def test_operations_are_named_by_what_they_are(world: Harness) -> None:
    """By method, number and chain; an attempt by its number, too."""
    create, update, _ = world.backend.applied
    assert differences([update, create], [create, update]) == [
        "[update 2 of Letter 1, create 1 of Letter (new)] == [create 1 of Letter (new), update 2 of Letter 1]",
        "the same, in another order:",
        "  update 2 of Letter 1 came before create 1 of Letter (new)",
    ]
    one, other, _ = world.backend.ledger
    told = differences((other, one), (one, other))
    assert told is not None
    assert told[-1] == "  attempt 1 of update 2 of Letter 1 came before attempt 1 of create 1 of Letter (new)"


def test_what_is_missing_is_named_and_where_they_differ() -> None:
    """On which side."""
    assert differences([Method.CREATE, Method.UPDATE], [Method.CREATE, Method.PATCH, Method.DELETE]) == [
        "[CREATE, UPDATE] == [CREATE, PATCH, DELETE]",
        "2 on the left, 3 on the right:",
        "  only on the left: UPDATE",
        "  only on the right: PATCH",
        "  only on the right: DELETE",
        "  at 2: UPDATE on the left, PATCH on the right",
    ]
    assert differences([Outcome.SAVED] * 2, [Outcome.SAVED]) == [
        "[SAVED, SAVED] == [SAVED]",
        "2 on the left, 1 on the right:",
        "  only on the left: SAVED",
    ]


def test_many_differences_are_counted() -> None:
    """Not told one by one."""
    told = differences([Method.CREATE] * 50, [Method.UPDATE] * 50)
    assert told is not None
    assert told[0] == "[CREATE, CREATE, CREATE, CREATE, ...] == [UPDATE, UPDATE, UPDATE, UPDATE, ...]"
    assert len(told) == 2 + MOST + 1
    assert told[-1] == f"  and {150 - MOST} more"


@pytest.mark.parametrize(
    ("left", "right"), [([1], [2]), ([], []), ([Method.CREATE], ["create"]), ([Method.CREATE], [Method.CREATE])]
)
def test_nothing_is_said_of_anything_else(left: list[object], right: list[object]) -> None:
    """pytest says what it always says."""
    assert differences(left, right) is None
