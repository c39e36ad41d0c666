"""The ledger, with real handles and records, on long random walks; the rules stand in `ledger_rules`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from chained_models._credentials import Credentials, Refusal
from chained_models._ledger import Ledger
from chained_models._machine import Machine, Start
from chained_models._record import Life, Record, Verb
from chained_models._records import Records
from chained_models._states import Input
from chained_models.exceptions import Unavailable
from chained_models.operation import Guarantee, Method
from chained_models.policies import Outcome

from .ledger_rules import LedgerRules, walk


@pytest.mark.parametrize("hundred", range(15))
def test_walks(hundred: int) -> None:
    """A hundred random walks break no invariant, and each of them drains."""
    for number in range(100):
        walk(seed=100 * hundred + number, steps=80)


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


MUTANTS: dict[str, tuple[type, str, Callable[[Any], Any], str]] = {
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
