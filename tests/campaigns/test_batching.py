"""The campaign of batches: what shares an attempt keeps every promise; and whoever breaks one there is caught."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from chained_models import Method

from .batching import BATCH_WEIGHTS, BatchingSimulation, play
from .batching_mutants import BATCHING_MUTANTS, KNOWN
from .campaign import Campaign
from .simulator import NAMES, VERBS
from .test_mutants import caught


def test_no_schedule_breaks_a_promise(campaign: Campaign) -> None:
    """Against each capability alone, the checker finds nothing in any history of several chains and one lane."""
    played = Counter(campaign.each(play, campaign.pick(quick=2_000, nightly=50_000, release=500_000)))
    assert set(played) == set(NAMES)
    campaign.report(schedules=played.total(), **{name.lower(): played[name] for name in NAMES})


def test_the_schedules_meet_everything() -> None:
    """Batches of two and of many; that raise, are in doubt, are partly given up, partly refused, and refused to sign in."""
    met: Counter[str] = Counter()
    for seed in range(400):
        one = BatchingSimulation(seed, NAMES[seed % len(NAMES)])
        one.play()
        settled = {accepted.save.id: accepted.settled or 0 for accepted in one.harness.recorder.placed.values()}
        for company in {flight.company: None for flight in one.backend.ledger}:
            errors = [flight.error for flight in company]
            ends = {settled.get(flight.operation.id, 0) > (flight.ended or 0) for flight in company}
            if len(company) == 1:
                met["alone"] += 1
                continue
            met["batch"] += 1
            met["of many"] += len(company) > 3
            met["raised"] += errors[0] is not None and all(error is errors[0] for error in errors)
            met["partly refused"] += None in errors and len(set(errors)) > 1
            met["partly given up"] += len(ends) > 1
            met["again"] += any(flight.operation.attempt > 1 for flight in company)
            for flight in company:
                met[type(flight.error).__name__] += 1
                met[str(flight.operation.method)] += 1
    expected = {
        "alone", "batch", "of many", "raised", "partly refused", "partly given up", "again", "InDoubt", "Unavailable",
        "Unauthenticated", "Conflict", "Rejected", "ValueError", *map(str, Method),
    }  # fmt: skip
    assert not {name for name in expected if not met[name]}, met
    assert not set(BATCH_WEIGHTS) & set(VERBS)


def test_each_mutant_is_caught(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by the invariant that stands for what it breaks."""
    survivors, others, played = [], [], 0
    most = campaign.pick(quick=1_000, nightly=20_000, release=50_000)
    for mutant in BATCHING_MUTANTS:
        known, fresh = [KNOWN.get(mutant.name, 0)], range(campaign.seed, campaign.seed + most)
        seeds = [*known, *fresh] if campaign.level == "quick" else [*fresh, *known]
        fell = caught(mutant, seeds, monkeypatch, play)
        if fell is None:
            survivors.append(mutant.name)
            continue
        played += seeds.index(fell[0]) + 1
        if not re.search(mutant.caught_by, fell[1]):
            others.append(f"{mutant.name}, at {fell[0]}: {fell[1]}")
    caught_all = len(BATCHING_MUTANTS) - len(survivors) - len(others)
    campaign.report(mutants=f"{caught_all}/{len(BATCHING_MUTANTS)}", schedules=played)
    assert not survivors, f"survived {most} schedules: {survivors}"
    assert not others, "\n".join(others)


def test_without_a_mutant_nothing_is_caught() -> None:
    """The seeds at which mutants fall are no failures of the library itself."""
    assert len({mutant.name for mutant in BATCHING_MUTANTS}) == len(BATCHING_MUTANTS)
    assert KNOWN.keys() <= {mutant.name for mutant in BATCHING_MUTANTS}
    for seed in sorted({0, *KNOWN.values()}):
        for name in NAMES:
            play(seed, name)
