"""Assertions: what they let pass, what they refuse, and what they say then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy.orm
from sqlalchemy.orm import Mapped, mapped_column

from chained_models import ChainedSaveMixin, Guarantee, InDoubt, Outcome, Rejected, UsageError
from chained_models._chains import Chain
from chained_models._machine import Machine
from chained_models._states import SaveState
from chained_models.backends.memory import MemoryBackend
from chained_models.policies import Verdict
from chained_models.testing import (
    Harness,
    ScriptedBackend,
    assert_all_settled,
    assert_nothing_lost,
    assert_order,
    assert_saved,
    assert_single_flight,
)
from chained_models.testing.assertions import _SHOWN


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    id: int | None = None
    items: tuple[str, ...] = ()
    n: int = 0


@pytest.fixture
def basket() -> Basket:
    class Bound(Basket):
        pass

    Bound.bind(ScriptedBackend(), resource="baskets")
    return Bound()


def test_all_is_well(basket: Basket) -> None:
    """After saves that were lost, and tried again."""
    with Harness() as chained:
        chained.backend.lose()
        basket.save()
        basket.save({"n": 1})
        chained.advance(1)
        for source in (chained, chained.backend):
            assert_order(source)
            assert_single_flight(source)
        assert_all_settled(chained)
        assert_nothing_lost(chained)
        assert_saved(basket)
        assert_saved(basket, n=1)


def test_order(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says which attempts went wrong, and shows those of that chain."""
    monkeypatch.setattr(Chain, "head", property(lambda chain: next(reversed(chain.saves.values()), None)))
    with Harness() as chained:
        basket.chain.pause()
        basket.save({"n": 1})
        basket.save({"n": 2})
        basket.chain.resume()
        type(basket)().save()
        with pytest.raises(AssertionError) as caught:
            assert_order(chained)
    said = str(caught.value)
    assert said.startswith("V2: save 2 of chain 1 is sent at ")
    assert "\n  save 2 of chain 1: attempt 1 (create, " in said
    assert "of chain 2" not in said


def test_single_flight(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once, seen by the harness, and by the backend alone."""
    with Harness() as chained:
        basket.save()
        chained.backend.hold()
        monkeypatch.setattr(
            Chain,
            "startable",
            lambda chain: next((save for save in chain.saves.values() if save.state is SaveState.QUEUED), None),
        )
        monkeypatch.setattr(  # in two steps, of which the second looks who may start
            Machine, "enter", lambda self, key, lane, save: (self.reserve(key, lane, save), self.fill(save))[1]
        )
        basket.save({"n": 1})
        assert_single_flight(chained)
        basket.save({"n": 2})
        for source in (chained, chained.backend):
            with pytest.raises(AssertionError, match=r"V1: .*beside"):
                assert_single_flight(source)
        monkeypatch.undo()
        chained.backend.release()


def test_all_settled(basket: Basket) -> None:
    """What has not ended is named, with the reason."""
    with Harness() as chained:
        basket.chain.pause()
        basket.save()
        with pytest.raises(AssertionError, match=r"V15: save 1 of Bound \(new\): .*paused"):
            assert_all_settled(chained)
        basket.chain.resume()
        assert_all_settled(chained)


def test_nothing_lost(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that was taken for saved, and was not applied."""
    with Harness() as chained:
        chained.backend.fail(Rejected)
        basket.save()
        assert_nothing_lost(chained)
        monkeypatch.setattr("chained_models._machine.INPUTS", _all_succeed())
        chained.backend.fail(Rejected)
        basket.save({"n": 1})
        with pytest.raises(
            AssertionError, match=r"V9: save 2 .* is SAVED, and was not applied.*\n\n  save 1 .*\n  save 2"
        ):
            assert_nothing_lost(chained)


def _all_succeed() -> dict[Outcome, Any]:
    from chained_models._states import Input

    return dict.fromkeys(Outcome, Input.SUCCEED)


def test_of_many_attempts_the_last_are_shown(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is for reading."""
    with Harness() as chained:
        for number in range(_SHOWN + 5):
            basket.save({"n": number})
        monkeypatch.setattr("chained_models._machine.INPUTS", _all_succeed())
        chained.backend.fail(Rejected)
        basket.save({"n": -1})
        with pytest.raises(AssertionError) as caught:
            assert_nothing_lost(chained)
    said = str(caught.value)
    assert said.count("\n  save ") == _SHOWN
    assert "... and 6 attempts before" in said


def test_saved_says_what_differs(basket: Basket) -> None:
    """By attribute; and what is not there at all."""
    with Harness() as chained:
        with pytest.raises(AssertionError, match="is not stored: there is nothing of the identity None in baskets"):
            assert_saved(basket)
        basket.save({"items": ("apple",)})
        basket.n = 5
        with pytest.raises(AssertionError, match="is stored otherwise: n is 0, not 5"):
            assert_saved(basket)
        assert_saved(basket, items=("apple",))
        with pytest.raises(AssertionError, match=r"items is \('apple',\), not \(\)"):
            assert_saved(basket, items=())
        with pytest.raises(UsageError, match="no attribute m, o"):
            assert_saved(basket, o=1, m=2)
        basket.delete()
        with pytest.raises(AssertionError, match="is not stored"):
            assert_saved(basket)
        assert_all_settled(chained)


def test_saved_means_that_nothing_waits(basket: Basket) -> None:
    """With what it waits for."""
    with Harness() as chained:
        basket.save()
        chained.backend.hold()
        basket.save({"n": 1})
        with pytest.raises(AssertionError, match="1 saves of this Bound have not ended: save 2 in flight"):
            assert_saved(basket, n=0)
        chained.backend.release()


def test_saved_elsewhere() -> None:
    """Without a harness, in any backend that can be looked into."""
    backend = MemoryBackend()

    @dataclasses.dataclass
    class Note(ChainedSaveMixin, backend=backend, resource="notes"):
        id: int | None = None
        text: str = ""

    note = Note(text="a")
    note.save().result(10)
    note.chain.flush(10)
    assert_saved(note)

    class Blind:
        guarantee = backend.guarantee

        def execute(self, operation: Any) -> Any:
            return backend.execute(operation)

    with Note.bound(Blind()), pytest.raises(UsageError, match="Blind cannot be looked into"):
        assert_saved(note)


def test_an_attribute_that_is_not_there(basket: Basket) -> None:
    """A row that lacks one."""
    with Harness() as chained:
        basket.save()
        del chained.backend._collections["baskets"].rows[basket.id].values["n"]
        with pytest.raises(AssertionError, match="n is not there, not 0"):
            assert_saved(basket)


def test_a_doubt_that_ends_in_failure_is_a_loss(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was applied or not."""
    from chained_models import _records

    right = _records.judge

    def judge(*args: Any, **given: Any) -> Verdict:
        verdict = right(*args, **given)
        failed = verdict.outcome is Outcome.ABANDONED
        return dataclasses.replace(verdict, outcome=Outcome.FAILED) if failed else verdict

    monkeypatch.setattr(_records, "judge", judge)
    with Harness(ScriptedBackend()) as chained:
        chained.backend.fail(InDoubt)
        basket.save()
        basket.chain.skip()
        with pytest.raises(AssertionError, match=r"V9: .* has FAILED, and was in doubt"):
            assert_nothing_lost(chained)


def test_saved_whatever_others_wait_for_in_the_same_chain() -> None:
    """An ordering key puts many models in one chain; it is asked for one of them."""

    @dataclasses.dataclass
    class Line(ChainedSaveMixin, backend=MemoryBackend(), resource="lines", ordering_key=lambda line: "one cart"):
        id: int | None = None

    with Harness() as chained:
        mine, other = Line(), Line()
        mine.save()
        chained.backend.hold()
        other.save()
        assert_saved(mine)
        with pytest.raises(AssertionError, match="have not ended: save 2 in flight"):
            assert_saved(other)
        chained.backend.release()
        assert_saved(other)


def test_an_attribute_called_model() -> None:
    """Any name of an attribute can be asked for."""

    @dataclasses.dataclass
    class Car(ChainedSaveMixin, backend=MemoryBackend()):
        id: int | None = None
        model: str = ""

    with Harness():
        car = Car(model="T")
        car.save()
        assert_saved(car, model="T")


@pytest.mark.parametrize("check", [assert_order, assert_single_flight])
def test_what_cannot_be_seen_is_not_said_to_be_well(check: Callable[[Harness], None]) -> None:
    """Without a scripted backend nobody knows what was sent, so that it is refused rather than passed."""
    with Harness(MemoryBackend()) as chained, pytest.raises(UsageError, match="no attempt is seen"):
        check(chained)


@pytest.mark.parametrize("guarantee", [Guarantee.PLAIN, Guarantee.IDEMPOTENT | Guarantee.FENCED])
def test_a_mapper_that_counts_versions(guarantee: Guarantee) -> None:
    """The backend counts in the mapper's own column, as a database does, or the object could be created and never edited."""

    class Base(sqlalchemy.orm.DeclarativeBase):
        pass

    class Page(ChainedSaveMixin, Base, backend=MemoryBackend(), resource="pages"):
        __tablename__ = "pages"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    with Harness(ScriptedBackend(guarantee=guarantee)) as chained:
        page = Page(text="a")
        page.save()
        page.save({"text": "b"})
        page.save({"text": "c"}, patch=True)
        assert page.version == 3
        assert chained.backend.stored("pages") == {1: {"id": 1, "text": "c", "version": 3}}
        assert_saved(page)
        theirs = Page(id=1, text="")
        theirs.refresh()
        assert theirs.save({"text": "d"}).outcome is Outcome.SAVED
        stale = page.save({"text": "e"})
        assert (stale.outcome is Outcome.FAILED) is bool(guarantee & Guarantee.FENCED)
        assert_order(chained)
        assert_nothing_lost(chained)


@pytest.mark.parametrize("check", [assert_all_settled, assert_nothing_lost])
def test_a_backend_does_not_know_what_was_accepted(check: Any) -> None:
    """What only a harness can tell is not said to be well."""
    with pytest.raises(UsageError, match="harness"):
        check(ScriptedBackend())
