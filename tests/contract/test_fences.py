"""An abandoned write and the fence: what is sent after it neither overwrites what others have stored, nor stumbles over itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chained_models import Conflict, Guarantee, OnConflict, Outcome
from chained_models.operation import Method
from chained_models.testing import Harness, ScriptedBackend

from .scripted import Basket, baskets


@pytest.fixture
def chained() -> Iterator[Harness]:
    """A backend with versions, and nothing else."""
    with Harness(ScriptedBackend(guarantee=Guarantee.FENCED)) as harness:
        yield harness


def stored(harness: Harness, **options: object) -> Basket:
    """A basket of version 1."""
    basket = baskets(ScriptedBackend(), resource="baskets", **options)()
    assert basket.save().outcome is Outcome.SAVED
    return basket


def somebody_else_writes(harness: Harness, basket: Basket, **values: object) -> None:
    row = harness.backend._collections["baskets"].rows[basket.id]
    row.values.update(values)
    row.version += 1


def give_up_on(harness: Harness, basket: Basket, *, applied: bool, patch: bool = False) -> None:
    """A save of the basket is abandoned."""
    harness.backend.hold(times=1)
    handle = basket.save({"n": 1}, patch=patch)
    (flight,) = harness.backend.held
    if applied:
        flight.apply()
    harness.run_until_idle()
    assert handle.outcome is Outcome.ABANDONED
    flight.drop()


@pytest.mark.parametrize("applied", [False, True])
def test_nothing_of_others_is_overwritten(chained: Harness, applied: bool) -> None:
    """The next save carries the version that was known before the doubt: what somebody else has changed since is a conflict."""
    basket = stored(chained)
    give_up_on(chained, basket, applied=applied)
    somebody_else_writes(chained, basket, n=7)
    assert isinstance(basket.save({"n": 2}).exception(), Conflict)
    assert chained.backend.stored("baskets")[basket.id]["n"] == 7
    assert all(operation.version is not None for operation in chained.backend.seen if operation.method is Method.UPDATE)
    assert basket.refresh(discard=True).outcome is Outcome.SAVED
    assert basket.save({"n": 3}).outcome is Outcome.SAVED


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("rule", OnConflict)
def test_our_own_write_is_no_conflict(chained: Harness, applied: bool, rule: OnConflict) -> None:
    """Whether the abandoned write was applied or not, the next save is; nobody is asked, whatever the policy."""
    basket = stored(chained, on_conflict=rule)
    give_up_on(chained, basket, applied=applied)
    assert basket.save({"n": 2}).exception() is None
    assert basket.save({"n": 3}).outcome is Outcome.SAVED
    assert chained.backend.stored("baskets")[basket.id] == {"id": basket.id, "name": "a", "n": 3, "total": None}
    assert basket.chain.unsaved_changes() == {}


def test_what_others_have_added_stays(chained: Harness) -> None:
    """On top of our own patch somebody else has changed something else: it is not lost by the next save."""
    basket = stored(chained)
    give_up_on(chained, basket, applied=True, patch=True)
    somebody_else_writes(chained, basket, total=9)
    assert basket.save({"n": 2}).exception() is None
    assert chained.backend.stored("baskets")[basket.id] == {"id": basket.id, "name": "a", "n": 2, "total": 9}
    assert basket.total == 9


def test_several_in_doubt(chained: Harness) -> None:
    """Any of them may be what is stored."""
    basket = stored(chained)
    give_up_on(chained, basket, applied=True)
    chained.backend.hold(lambda operation: operation.values["n"] == 5)
    second = basket.save({"n": 5})
    chained.run_until_idle()
    assert second.outcome is Outcome.ABANDONED
    chained.backend.crash()
    chained.backend.restart()
    chained.backend.release()
    assert basket.save({"n": 6}).exception() is None
    assert chained.backend.stored("baskets")[basket.id]["n"] == 6


@pytest.mark.parametrize("applied", [False, True])
def test_a_delete_after_a_doubt(chained: Harness, applied: bool) -> None:
    """It removes what we have written ourselves, and not what somebody else has written since."""
    basket = stored(chained)
    give_up_on(chained, basket, applied=applied)
    somebody_else_writes(chained, basket, n=7)
    assert isinstance(basket.delete().exception(), Conflict)
    assert basket.refresh(discard=True).outcome is Outcome.SAVED
    give_up_on(chained, basket, applied=applied)
    assert basket.delete().exception() is None
    assert chained.backend.stored("baskets") == {}


@pytest.mark.parametrize("patch", [False, True])
def test_a_delete_does_not_remove_what_others_have_added(chained: Harness, patch: bool) -> None:
    """On top of our own write somebody else has changed something else, which nobody here has seen: that is a conflict."""
    basket = stored(chained)
    give_up_on(chained, basket, applied=True, patch=patch)
    somebody_else_writes(chained, basket, total=9)
    assert isinstance(basket.delete().exception(), Conflict)
    assert chained.backend.stored("baskets")[basket.id]["total"] == 9


def test_behind_our_own_write_nothing_unseen_is_overwritten(chained: Harness) -> None:
    """A conflict that turns out to be with ourselves may show what others have changed: who was called before is told."""
    basket = stored(chained)
    chained.backend.lose(times=1)
    first = basket.save({"n": 1}, patch=True)
    second = basket.save({"total": 5}, patch=True)
    somebody_else_writes(chained, basket, total=9)
    chained.run_until_idle()
    assert first.outcome is Outcome.SAVED
    assert isinstance(second.exception(), Conflict)
    assert chained.backend.stored("baskets")[basket.id] == {"id": basket.id, "name": "a", "n": 1, "total": 9}
