"""Snapshots: what counts as the same, what differs, and what is carried into those that wait."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models._snapshot import MISSING, carried, differing, rebased, same, without


class Raising:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


class Array:
    """As an array of numpy: comparing gives an array, whose truth is ambiguous."""

    def __eq__(self, other: object) -> Any:
        return Array()

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


NAN, RAISING, ARRAY = math.nan, Raising(), Array()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1, True),
        ([1, {"a": 2}], [1, {"a": 2}], True),
        (1, 2, False),
        (1, True, False),
        (1, 1.0, False),
        (1, Decimal(1), False),
        (0.0, -0.0, True),
        ("1", 1, False),
        ([1], (1,), False),
        (None, None, True),
        (None, MISSING, False),
        (MISSING, MISSING, True),
        (NAN, NAN, True),
        (NAN, float("nan"), False),
        (RAISING, RAISING, True),
        (RAISING, Raising(), False),
        (ARRAY, ARRAY, True),
        (ARRAY, Array(), False),
    ],
)
def test_same(one: Any, other: Any, expected: bool) -> None:
    """Identical, or of one type and equal; what cannot be compared is different from all but itself."""
    assert same(one, other) is expected
    assert same(other, one) is expected


def test_missing_is_not_a_value() -> None:
    """It says what it is, and is false."""
    assert repr(MISSING) == "MISSING" and not MISSING


def test_interrupts_are_no_comparison() -> None:
    """Ctrl-C in a comparison comes out."""

    class Slow:
        def __eq__(self, other: object) -> bool:
            raise KeyboardInterrupt

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        same(Slow(), Slow())


def test_differing() -> None:
    """Without a base everything has changed; with one, what is unknown to it or not the same."""
    values = {"a": 1, "b": None, "c": 3}
    assert differing(values, None) == {"a", "b", "c"}
    assert differing(values, {"a": True, "c": 3, "d": 4}) == {"a", "b"}
    assert differing(values, values) == frozenset()


def test_carried() -> None:
    """A value that the backend gave reaches a waiting snapshot, where the user has not changed it between the two."""
    before = {"id": None, "total": 1, "note": "x", "old": NAN}
    became = {"id": 7, "total": 5, "note": "x", "old": NAN, "new": 1}
    waiting = {"id": None, "total": 2, "note": "y", "old": NAN}
    assert carried(waiting, before, became) == {"id": 7, "total": 2, "note": "y", "old": NAN, "new": 1}


@pytest.mark.parametrize(
    ("before", "became"),
    [({"a": 1}, {"a": 1}), ({"a": 1, "b": 1}, {"b": 2}), ({}, {"a": 3}), ({"a": 9}, {"a": 3})],
)
def test_nothing_to_carry(before: dict[str, int], became: dict[str, int]) -> None:
    """A snapshot to which nothing happens is the same object."""
    waiting = {"a": 1}
    assert carried(waiting, before, became) is waiting
    assert carried(waiting, before, before) is waiting


values = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([None, 0, 1, True, 1.0, "x"]))


@given(values, values, values)
def test_carried_moves_only_what_the_user_left(waiting: Any, before: Any, became: Any) -> None:
    """Every value is either the user's, or the backend's for what the user had left alone, unset as it may be."""
    moved = carried(waiting, before, became)
    for name in {*moved, *waiting, *became}:
        untouched = same(waiting.get(name, MISSING), before.get(name, MISSING)) and name in became
        assert same(moved.get(name, MISSING), (became if untouched else waiting).get(name, MISSING))


def test_without() -> None:
    """A copy in which those names are unknown."""
    whole = {"a": 1, "b": 2}
    assert without(whole, ["a", "z"]) == {"b": 2}
    assert whole == {"a": 1, "b": 2}


BASE = {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("ours", "changed", "theirs", "expected"),
    [
        ({"a": 2}, "a", {}, {"a": 2, "b": 1, "c": 1}),
        ({"a": 2}, "a", {"b": 3}, {"a": 2, "b": 3, "c": 1}),
        ({"a": 2}, "a", {"a": 2, "b": 3}, {"a": 2, "b": 3, "c": 1}),
        ({"a": 2}, "a", {"a": 3}, None),
        ({"a": True}, "a", {"a": 1.0}, None),
        ({"a": 2, "b": 2}, "a", {"b": 3}, {"a": 2, "b": 3, "c": 1}),
        ({}, "abc", {"a": 3}, {"a": 3, "b": 1, "c": 1}),
        ({}, "", {"a": 3, "d": 4}, {"a": 3, "b": 1, "c": 1, "d": 4}),
    ],
)
def test_rebased(ours: dict[str, Any], changed: str, theirs: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """Theirs, with what we changed on top of it; None where both have changed one, and differ."""
    assert rebased({**BASE, **ours}, changed, BASE, {**BASE, **theirs}) == expected


def test_rebased_without_a_base() -> None:
    """Where nothing is known, all that was to be written counts as changed by both."""
    assert rebased({"a": 1}, "a", None, {"a": 2}) is None
    assert rebased({"a": 1}, "a", None, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert rebased({"a": 1}, "a", {"a": 0}, {}) == {"a": 1}


value = st.integers(0, 2)
three = st.fixed_dictionaries({"a": value, "b": value, "c": value})


@given(three, three, three)
def test_rebased_loses_nothing(ours: dict[str, int], base: dict[str, int], theirs: dict[str, int]) -> None:
    """What only one side has changed is as that side has it; it is the same from both sides."""
    merged = rebased(ours, ours, base, theirs)
    assert merged == rebased(theirs, theirs, base, ours)
    for name, was in base.items() if merged is not None else ():
        assert merged is not None
        changed = {side[name] for side in (ours, theirs)} - {was}
        assert merged[name] == (changed.pop() if changed else was)
        assert not changed
