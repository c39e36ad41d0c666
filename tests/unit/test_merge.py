"""Merging: what an answer moves in the model, in the base, and in what still waits."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chained_models._merge import Facts, assign_answer, became
from chained_models._snapshot import MISSING, same
from chained_models.adapters.dataclass import ADAPTER
from chained_models.protocols import Origin


@dataclass
class Basket:
    id: int | None = None
    total: int = 0
    items: list[str] = field(default_factory=list)
    mood: Any = None


class Stubborn(Basket):
    """Takes no new total."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "total" and "total" in self.__dict__:
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_what_the_user_left_is_taken() -> None:
    """An attribute that still holds what the answer is about gets the answer's value; a changed one keeps the user's."""
    basket = Basket(id=None, total=1, items=["pear"])
    about = {"id": None, "total": 2, "items": ["pear"]}
    merged = assign_answer(ADAPTER, basket, about, {"id": 7, "total": 3, "items": []})
    assert basket == Basket(id=7, total=1, items=[])
    assert (merged.taken, merged.kept) == (("id", "items"), ("total",))


def test_discard_takes_all() -> None:
    """`refresh(discard=True)` overwrites what the user has changed."""
    basket = Basket(total=1)
    assert assign_answer(ADAPTER, basket, {"total": 2}, {"total": 3}, discard=True).taken == ("total",)
    assert basket.total == 3


def test_an_equal_value_is_never_assigned() -> None:
    """Whoever else refers to a list of the model still does after an answer that says the same."""
    items = ["apple"]
    basket = Stubborn(total=4, items=items)
    merged = assign_answer(ADAPTER, basket, {}, {"total": 4, "items": ["apple"]})
    assert basket.items is items and (merged.taken, merged.kept) == ((), ())


def test_what_refuses_is_kept() -> None:
    """A frozen attribute, or a validator that refuses, leaves the user's value, and is reported."""
    basket = Stubborn(total=1)
    merged = assign_answer(ADAPTER, basket, {"total": 1, "id": None}, {"total": 2, "id": 7})
    assert (merged.taken, merged.kept) == (("id",), ("total",))
    assert (basket.total, basket.id) == (1, 7)


def test_an_answer_about_nothing_known() -> None:
    """Where it is not known what the answer is about, the live value stays."""
    basket = Basket(total=1)
    assert assign_answer(ADAPTER, basket, {}, {"total": 2}).kept == ("total",)


def test_became() -> None:
    """Values move with the answer only where they are what it is about; otherwise the snapshot stays the same object."""
    values = {"id": None, "total": 2}
    assert became(values, {"id": None, "total": 1}, {"id": 7, "total": 3}) == {"id": 7, "total": 2}
    assert became(values, {"id": None}, {"id": None, "total": 5}) is values
    assert became(values, {}, {}) is values


def test_what_was_never_set_becomes_what_was_answered() -> None:
    """It is in no snapshot; if it is known to be stored, the answer is not about nothing, and it stays unknown."""
    assert became({"total": 2}, {"total": 2}, {"version": 1}) == {"total": 2, "version": 1}
    assert became({"total": 2}, {"total": 2, "version": 1}, {"version": 2}) == {"total": 2}


def test_confirm() -> None:
    """The base is what it was, then what was sent, then what was answered; a first snapshot is adopted as it is."""
    facts, sent = Facts(None), {"id": 7, "total": 1}
    facts.confirm(sent, {}, 1)
    assert facts.base is sent and facts.version == 1
    facts.confirm({"total": 2}, {"mood": "good"}, None)
    assert facts.base == {"id": 7, "total": 2, "mood": "good"} and facts.version is None
    assert sent == {"id": 7, "total": 1}


def test_confirm_without_a_base() -> None:
    """What was sent and answered is all that is known."""
    facts = Facts(None)
    facts.confirm({"total": 1}, {"total": 2, "id": 7}, 1)
    assert facts.base == {"total": 2, "id": 7}


def test_forget() -> None:
    """After a doubt the names that were carried are unknown, and what was wanted, if it was versioned, may be stored."""
    facts = Facts(None)
    facts.forget({"total": 1}, {"total": 1})
    assert facts.base is None
    facts.confirm({"id": 7, "total": 1}, {}, 3)
    facts.forget({"total": 2}, None)
    assert (facts.base, facts.version, facts.unsure) == ({"id": 7}, 3, ())
    facts.forget({}, {})
    facts.forget({"total": 4}, {"total": 4})
    assert (facts.base, facts.version) == ({"id": 7}, 3)
    assert facts.unsure == (({}, {"id": 7}), ({"total": 4}, {"id": 7, "total": 4}))


def test_doubts_do_not_pile_up() -> None:
    """However many saves of one object are abandoned, no more than the latest few are kept."""
    facts = Facts(None)
    facts.confirm({"total": 0}, {}, 1)
    for total in range(1_000):
        facts.forget({"total": total}, {"total": total})
    assert [wanted["total"] for wanted, _ in facts.unsure] == list(range(992, 1_000))


def test_what_is_in_doubt_stays_so() -> None:
    """Until it is confirmed or declared: also where the model's own library takes it for stored."""
    facts = Facts(None)
    facts.confirm({"id": 7, "total": 1, "mood": "good"}, {}, 3)
    facts.forget({"total": 2, "mood": "bad"}, {"total": 2, "mood": "bad"})
    facts.adopt(Origin({"total": 1, "mood": "good"}, stored=True, version=3), attached=False)
    assert (facts.base, facts.version) == ({"id": 7}, None)
    facts.confirm({"total": 2}, {}, 4)
    facts.adopt(Origin({"total": 2, "mood": "good"}, stored=True, version=4), attached=False)
    assert (facts.base, facts.version) == ({"id": 7, "total": 2}, 4)
    facts.declare({"mood": "bad"}, 5)
    facts.adopt(Origin(None, stored=True, version=5), attached=False)
    assert (facts.base, facts.version) == ({"mood": "bad"}, 5)


def test_adopting_what_the_library_knows() -> None:
    """It overlays what we know ourselves; without any base it is the base."""
    facts = Facts(None)
    facts.adopt(Origin({"id": 7, "total": 1}, stored=True, version=1), attached=False)
    facts.adopt(Origin({"total": 2}, stored=True, version=2), attached=False)
    assert (facts.base, facts.version) == ({"id": 7, "total": 2}, 2)
    facts.adopt(Origin({"total": 3}, stored=True, version=3), attached=True)
    assert (facts.base, facts.version) == ({"total": 3}, 3)


def test_catching_up() -> None:
    """Deferred assignments are made in order, once, in the object's own thread, and not for an object that is gone."""
    facts, basket, gone = Facts(None), Basket(), Basket()
    seen: list[Any] = []
    facts.catch_up()
    for number in (1, 2):
        facts.defer(weakref.ref(basket), lambda live, number=number: seen.append((live, number)))
    facts.defer(weakref.ref(gone), seen.append)
    del gone
    gc.collect()
    facts.catch_up()
    assert seen == [] and len(facts.deferred) == 3
    facts.thread = threading.get_ident()
    facts.catch_up()
    facts.catch_up()
    assert [number for _, number in seen] == [1, 2]


names = st.sampled_from(["id", "total", "mood"])
some = st.dictionaries(names, st.sampled_from([None, 0, 1, True, "x"]))


@given(live=some, about=some, answer=some)
def test_no_edit_is_lost(live: dict[str, Any], about: dict[str, Any], answer: dict[str, Any]) -> None:
    """Whatever is answered: what differs from what the answer is about stays as the user left it, all else is taken."""
    basket = Basket(**live)
    before = dict(vars(basket))
    merged = assign_answer(ADAPTER, basket, about, answer)
    for name, value in vars(basket).items():
        edited = not same(before[name], about.get(name, MISSING))
        assert same(value, before[name] if edited or name not in answer else answer[name])
    assert set(merged.taken).isdisjoint(merged.kept)
    assert {*merged.taken, *merged.kept} == {name for name in answer if not same(before[name], answer[name])}


def test_what_failed_is_remembered_until_it_is_stored() -> None:
    """Of a failed save what differs from the base; a write confirms it, an answer alone does not."""
    facts = Facts(None)
    facts.declare({"a": 1, "b": 1}, None)
    facts.refuse({"a": 2, "b": 1})
    facts.refuse({"a": 3})
    assert facts.failed == {"a": 3}
    facts.confirm({}, {"a": 9}, None)
    assert facts.failed == {"a": 3}
    facts.confirm({"a": 4}, {}, None)
    assert facts.failed == {}
    facts.refuse({"a": 5})
    facts.declare({"a": 5}, None)
    assert facts.failed == {}


def test_knowing_better_than_the_library() -> None:
    """What it takes for stored and is not, is put right, as long as it has not looked again."""
    facts = Facts(None)
    facts.outdo({"a": (1, 2)}, {"a": 2, "b": 1, "c": 3})
    facts.adopt(Origin({"a": 1, "b": 1}, stored=True), attached=False)
    assert facts.base == {"a": 2, "b": 1}
    facts.adopt(Origin({"a": 7, "b": 1}, stored=True), attached=False)
    assert facts.base == {"a": 7, "b": 1}
    facts.outdo({}, {"a": 2})
    facts.adopt(Origin({"a": 1}, stored=True), attached=True)
    assert facts.base == {"a": 1}
