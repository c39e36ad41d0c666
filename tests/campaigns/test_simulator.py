"""The simulator's campaign: whatever the network, the backend, the user and the receivers do, the promises hold."""

from __future__ import annotations

from collections import Counter

from chained_models import Method, Outcome
from chained_models.testing import history_of

from .campaign import Campaign
from .simulator import NAMES, VERBS, Simulation, play


def test_no_schedule_breaks_a_promise(campaign: Campaign) -> None:
    """Against each capability alone, the checker finds nothing in any history, and everything ends."""
    played = Counter(campaign.each(play, campaign.pick(quick=4_000, nightly=100_000, release=1_000_000)))
    assert set(played) == set(NAMES)
    campaign.report(schedules=played.total(), **{name.lower(): played[name] for name in NAMES})


def test_the_schedules_meet_everything() -> None:
    """A simulator that meets nothing finds nothing: all ends, all methods, and what goes wrong between them, occur."""
    met: Counter[str] = Counter()
    for seed in range(400):
        one = Simulation(seed, NAMES[seed % len(NAMES)])
        one.play()
        history = history_of(one.harness)
        for save in history.saves:
            met[str(save.outcome)] += 1
            met["retried by hand"] += save.by_hand
            met["after a conflict"] += save.instead_of is not None and not save.by_hand
            met["coalesced"] += save.replaced
            met["child"] += bool(save.after)
            met["passed a halt"] += save.passes
        ends = {ending.save: ending.tick for ending in history.endings}
        for attempt in history.attempts:
            met[str(attempt.method)] += 1
            met[attempt.error or "answered"] += 1
            met["delivered twice"] += len(attempt.applied) > 1
            met["applied after it was given up"] += any(tick > ends[attempt.save] for tick in attempt.applied)
            met["answered late"] += (attempt.ended or 0) > ends[attempt.save]
            met["tried again"] += attempt.number > 1
        for hold in history.holds:
            met[hold.why] += 1
    expected = {
        *map(str, Outcome), *map(str, Method), "retried by hand", "after a conflict", "coalesced", "child", "passed a halt",
        "answered", "Rejected", "Unavailable", "Conflict", "Unauthenticated", "Gone", "InDoubt", "ValueError",
        "delivered twice", "applied after it was given up", "answered late", "tried again", "paused", "halted",
    }  # fmt: skip
    assert not {name for name in expected if not met[name]}
    assert len(set(VERBS)) == len(VERBS)
