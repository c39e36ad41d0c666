"""The ledger, with real handles and records, on long random walks; the rules stand in `ledger_rules`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from chained_models import _admission, _records
from chained_models._credentials import Credentials, Refusal
from chained_models._ledger import Ledger
from chained_models._machine import Machine, Start
from chained_models._record import Life, Record, Verb
from chained_models._records import Records
from chained_models._states import Input, SaveState
from chained_models.exceptions import Unavailable
from chained_models.operation import Guarantee, Method
from chained_models.policies import Outcome

from .ledger_rules import LedgerRules, walk


@pytest.mark.parametrize("hundred", range(15))
def test_walks(hundred: int) -> None:
    """A hundred random walks break no invariant, and each of them drains."""
    for number in range(100):
        walk(seed=100 * hundred + number, steps=80)


@pytest.mark.parametrize("hundred", range(5))
def test_walks_in_company(hundred: int) -> None:
    """Nor where saves of different chains are sent together."""
    batches = sum(walk(seed=100 * hundred + number, steps=80, gathers=True) for number in range(100))
    assert batches > 25


@pytest.mark.parametrize("seed", [1880, 5171])
def test_walks_that_once_led_astray(seed: int) -> None:
    """A save that halted a shared chain is sent again after its record was merged with one that has another chain."""
    walk(seed, steps=80)


def test_closing_starts_nothing() -> None:
    """What waits for room in the lane is not sent when closing makes room: it has failed, and is settled by then."""
    rules = LedgerRules(Random(0))
    rules.port.lane.lane.max_in_flight = 1
    ledger, lane = rules.ledger, rules.port.lane
    waiting, running = (rules.ask(thing, Verb.SAVE) for thing in rules.things[3:])
    assert waiting is not None and running is not None
    rules.fill()
    rules.fill()
    first = rules.running[0].save
    rules.carry_out(ledger.completed(first, first.token, None, Unavailable(), Guarantee.PLAIN, 0.0)[0])
    rules.running = rules.running[1:]
    rules.wake()
    effects = ledger.give_up_all([first, *(save for save in (waiting, running) if save is not first)], "closed")
    assert not any(isinstance(effect, Start) for effect in effects)
    assert {waiting.outcome, running.outcome} == {Outcome.FAILED, Outcome.ABANDONED}
    assert not lane.ready and not lane.slots


def cancels_all(right: Any) -> Any:
    def cancel(self: Ledger, save: Any) -> Any:
        return None if save.outcome is not None else self.counted(self.machine._settle(save, Input.CANCEL))

    return cancel


class _Unsent:
    """A save that forgets what was sent for it."""

    operation = None

    def __init__(self, save: Any) -> None:
        self._save = save

    def __getattr__(self, name: str) -> Any:
        return getattr(self._save, name)


class _OfTheSame(_Unsent):
    """A save that takes itself for one of the object of another one."""

    def __init__(self, save: Any, other: Any) -> None:
        super().__init__(save)
        self.facts = other.facts


def keeps_its_own_place(right: Any) -> Any:
    def supersede(self: Ledger, older: Any, newer: Any) -> Any:
        place = newer.place
        effects = right(self, older, newer)
        if newer.state is SaveState.QUEUED:
            del newer.chain.saves[newer.place]
            newer.place = place
            newer.chain.saves[place] = newer
        return effects

    return supersede


def passes_all_halts(right: Any) -> Any:
    def admit(self: Records, save: Any, *args: Any, **given: Any) -> Any:
        waited_for, save.after = save.after, () if save.verb is Verb.REFRESH else save.after
        try:
            return right(self, save, *args, **given)
        finally:
            save.after = waited_for

    return admit


_WRITES = (Verb.SAVE, Verb.PATCH)

MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any], str]] = {
    "a create that was sent is forgotten": (
        Record, "sent", lambda right: lambda self, method: None, "V14"),
    "a create in doubt is taken for refused": (
        Record, "in_doubt", lambda right: property(lambda self: self.life is Life.CREATING and self.refused(Method.CREATE)), "V14"),
    "a confirmed create is not": (
        Record, "confirmed", lambda right: lambda self, method: setattr(self, "life", Life.NEW), "V14"),
    "the end of a save is not counted": (
        Records, "settled", lambda right: lambda self, save: None, "V5|V7"),
    "the end of a save is counted twice": (
        Records, "settled", lambda right: lambda self, save: (right(self, save), right(self, save)), "V5"),
    "what was sent is cancelled": (
        Ledger, "cancel", cancels_all, "cannot|V9"),
    "a halt is passed by another ordering key": (
        Records, "_halts", lambda right: lambda self, record: False, "V[12]"),
    "withdrawn, and still counted": (
        Ledger, "withdraw", lambda right: lambda self, save: self.machine.withdraw(save), "V5|V7|V15"),
    "closing leaves what was never sent": (
        Ledger, "cancel", lambda right: lambda self, save: None, "V5"),
    "closing leaves what was sent": (
        Ledger, "give_up", lambda right: lambda self, save, error, guarantee: [], "V5"),
    "a failure says nothing": (
        Records, "failed", lambda right: lambda self, save, error, verdict: [], "V9"),
    "a delete that is over bars its record": (
        Records, "settled", lambda right: lambda self, save: kept_deletion(right, self, save), "V7"),
    "every refusal renews": (
        Credentials, "refused", lambda right: lambda self, token, **how: Refusal.RENEW, "RE4"),
    "a second refusal renews again": (
        Credentials, "end", lambda right: lambda self, latest, renewed: right(self, latest, renewed=False), "RE4"),
    "a refusal of older credentials pauses": (
        Credentials, "end", lambda right: lambda self, latest, renewed: right(self, 0, renewed=renewed), "RE4"),
    "new credentials stay unproven": (
        Credentials, "accepted", lambda right: lambda self, token: None, "RE4"),
    "the lane goes on while credentials are renewed": (
        Machine, "renew", lambda right: lambda self, lane, save: (right(self, lane, save), lane.renewing.clear())[0], "RE4"),
    "the lane is held after the renewal": (
        Machine, "renewed", lambda right: lambda self, lane, token: [], "RE4|V15"),
    "a lost renewal holds the lane": (
        Ledger, "renewals_lost", lambda right: lambda self, lane, driver: [], "RE4|V15"),
    "what was attempted is superseded": (
        _admission, "replaceable", lambda right: lambda older, newer: older.facts is newer.facts and newer.verb in _WRITES, "AL[89]|V|cannot"),
    "a retry by hand is superseded": (
        _admission, "replaceable", lambda right: lambda older, newer: right(_Unsent(older), newer), "AL9"),
    "another object's save is superseded": (
        _admission, "replaceable", lambda right: lambda older, newer: right(older, _OfTheSame(newer, older)), "AL8"),
    "coalescing goes past a barrier": (
        _admission, "_before", lambda right: lambda save: right(barrier) if (barrier := right(save)) and barrier.verb is Verb.REFRESH else barrier, "AL8|V4"),
    "a delete supersedes what it waits behind": (
        _admission, "replaceable", lambda right: lambda older, newer: (newer.verb is Verb.DELETE and older.state is SaveState.QUEUED) or right(older, newer), "AL[89]"),
    "a successor carries nothing of the older one": (
        _admission, "absorb", lambda right: lambda older, newer: None, "V4|DE1|V15"),
    "a successor has the older one's values": (
        _admission, "absorb", lambda right: lambda older, newer: (values := older.snapshot, right(older, newer), setattr(newer, "snapshot", values)), "V4"),
    "a successor does not wait": (
        _admission, "absorb", lambda right: lambda older, newer: (right(older, newer), setattr(newer, "waits", 0)), "DE1|V15"),
    "a successor goes to the end of the line": (
        Ledger, "supersede", keeps_its_own_place, "V2|V5|KeyError"),
    "one parent is enough": (
        Machine, "arrived", lambda right: lambda self, save: (setattr(save, "waits", 1), right(self, save))[1], "DE1"),
    "a parent that failed is none": (
        Records, "parent_ended", lambda right: lambda self, child, parent, error: right(self, child, parent, None), "DE1"),
    "children of superseded saves are forgotten": (
        _records, "final", lambda right: lambda handle: handle, "V15|DE1"),
    "a refresh that waits passes a halt": (
        Records, "_admit", passes_all_halts, "V15|V2"),
}  # fmt: skip


def kept_deletion(right: Any, records: Any, save: Any) -> None:
    record = save.record.current()
    deletion = record.deletion
    right(records, save)
    record.deletion = deletion


@pytest.mark.parametrize("name", MUTANTS)
def test_the_rules_catch_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger, or a record, with this one wrong line breaks an invariant."""
    owner, attribute, wrong, caught_by = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    with pytest.raises(AssertionError, match=caught_by):
        for seed in range(1000):
            walk(seed, steps=80)
