"""The mutants' campaign: each small wrong change in the protocol is caught by the simulator, with one capability alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .campaign import Campaign
from .mutants import KNOWN, MUTANTS, Mutant
from .simulator import CAPABILITIES, play


def caught(
    mutant: Mutant, seeds: list[int], monkeypatch: pytest.MonkeyPatch, play: Callable[[int, str], object] = play
) -> tuple[int, str] | None:
    """The seed at which it fell, and what was said; None if it survives all of them."""
    with monkeypatch.context() as patch:
        if isinstance(mutant.owner, dict):
            patch.setitem(mutant.owner, mutant.attribute, mutant.wrong(mutant.owner[mutant.attribute]))
        else:
            patch.setattr(mutant.owner, mutant.attribute, mutant.wrong(getattr(mutant.owner, mutant.attribute)))
        for seed in seeds:
            try:
                play(seed, mutant.alone)
            except Exception as error:
                return seed, f"{type(error).__name__}: {error}"
    return None


def test_each_mutant_is_caught(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by the invariant that stands for what it breaks. The seeds where it fell before come first in a quick run, last in others."""
    survivors, others, played = [], [], 0
    most = campaign.pick(quick=1_000, nightly=20_000, release=50_000)
    for mutant in MUTANTS:
        known, fresh = [KNOWN.get(mutant.name, 0)], range(campaign.seed, campaign.seed + most)
        seeds = [*known, *fresh] if campaign.level == "quick" else [*fresh, *known]
        fell = caught(mutant, seeds, monkeypatch)
        if fell is None:
            survivors.append(mutant.name)
            continue
        played += seeds.index(fell[0]) + 1
        if not re.search(mutant.caught_by, fell[1]):
            others.append(f"{mutant.name}, at {fell[0]}: {fell[1]}")
    campaign.report(mutants=f"{len(MUTANTS) - len(survivors) - len(others)}/{len(MUTANTS)}", schedules=played)
    assert not survivors, f"survived {most} schedules: {survivors}"
    assert not others, "\n".join(others)


def test_there_are_mutants_of_every_kind() -> None:
    """At least forty, each with a name of its own, and every capability is needed alone."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    assert {mutant.alone for mutant in MUTANTS} == set(CAPABILITIES) - {"WINDOW"}
    assert KNOWN.keys() <= {mutant.name for mutant in MUTANTS}


def test_every_invariant_has_a_mutant() -> None:
    """No invariant that the checker knows is without a library that breaks it."""
    caught_by = "|".join(mutant.caught_by for mutant in MUTANTS).split("|")
    expected = {"V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "V10", "V12", "V13", "V14", "V15", "DE1"}
    assert expected <= set(caught_by)


def test_without_a_mutant_nothing_is_caught() -> None:
    """The seeds at which mutants fall are no failures of the library itself."""
    for seed in sorted(set(KNOWN.values())):
        for name in CAPABILITIES:
            play(seed, name)
