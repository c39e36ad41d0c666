"""Random programs of all verbs, through the whole library, against a server that answers when and how the program says."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chained_models import Coalesce, Guarantee, OnConflict, OnFailure, _admission, _answer, _intake
from chained_models._ledger import Ledger
from chained_models._machine import Machine
from chained_models._record import Record
from chained_models._records import Records

from .programs import Program, run

STEPS = st.lists(
    st.tuples(st.sampled_from(Program.VERBS), st.integers(0, 3), st.integers(0, 119)), min_size=1, max_size=60
)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    guarantee=st.sampled_from([Guarantee.PLAIN, Guarantee.IDEMPOTENT]),
    room=st.sampled_from([1, 2, 8]),
    coalesce=st.sampled_from(Coalesce),
    on_failure=st.sampled_from([None, OnFailure.HALT, OnFailure.CONTINUE]),
    on_conflict=st.sampled_from(OnConflict),
    most=st.sampled_from([None, None, 3]),
)
def test_no_program_breaks_an_invariant(
    steps: list[tuple[str, int, int]],
    guarantee: Guarantee,
    room: int,
    coalesce: Coalesce,
    on_failure: OnFailure | None,
    on_conflict: OnConflict,
    most: int | None,
) -> None:
    """Whatever is done in whatever order, and whatever the server does: the promises hold, and everything ends."""
    run(
        steps,
        guarantee=guarantee,
        room=room,
        coalesce=coalesce,
        on_failure=on_failure,
        on_conflict=on_conflict,
        most=most,
    )


def walk(seed: int) -> None:
    """A long program of one seed."""
    random = Random(seed)
    steps = [(random.choice(Program.VERBS), random.randrange(4), random.randrange(120)) for _ in range(80)]
    run(
        steps,
        guarantee=random.choice([Guarantee.PLAIN, Guarantee.IDEMPOTENT]),
        room=random.choice([1, 2, 8]),
        coalesce=random.choice(list(Coalesce)),
        on_failure=random.choice([None, OnFailure.HALT, OnFailure.CONTINUE]),
        on_conflict=random.choice(list(OnConflict)),
        most=random.choice([None, None, 3]),
    )


@pytest.mark.parametrize("hundred", range(5))
def test_long_programs(hundred: int) -> None:
    """A hundred programs of eighty steps: longer than what Hypothesis tends to draw."""
    for seed in range(100 * hundred, 100 * hundred + 100):
        walk(seed)


MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any], str]] = {
    "children do not wait": (
        Records, "enter", lambda right: lambda self, save, *args, **given: (setattr(save, "waits", 0), right(self, save, *args, **given))[1], "DE1|V15"),
    "a failed parent is taken for a saved one": (
        _intake, "lost", lambda right: lambda save, parent: None, "DE1"),
    "the end of a parent is told to nobody": (
        Records, "parent_ended", lambda right: lambda self, child, parent, error: [], "V15|Stuck"),
    "the older one stays where its place was taken": (
        _admission, "absorb", lambda right: lambda older, newer: setattr(newer, "snapshot", older.snapshot), "V4|V12|recursion"),
    "an attempted save is replaced": (
        _admission, "replaceable", lambda right: lambda older, newer: older.facts is newer.facts and older.outcome is None, "V|DE1|cannot|KeyError"),
    "a superseded handle is forgotten": (
        Ledger, "supersede", lambda right: lambda self, older, newer: (right(self, older, newer), newer.replaced.clear())[0], "V15|V7"),
    "a create that was sent is forgotten": (
        Record, "sent", lambda right: lambda self, method: None, "V14|V9"),
    "an answer takes what was edited": (
        _answer, "assign_answer", lambda right: lambda *args, **given: right(*args, **(given | {"discard": True})), "V13|V12|V4"),
    "a cancelled save is sent all the same": (
        Machine, "settle_queued", lambda right: lambda self, save, outcome, **given: [], "V|AttributeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_programs_catch_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this one wrong line in the library, some program fails."""
    owner, attribute, wrong, caught_by = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    with pytest.raises(Exception) as caught:
        for seed in range(300):
            walk(seed)
    assert re.search(caught_by, repr(caught.value)), repr(caught.value)
