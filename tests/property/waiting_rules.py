"""What a walk knows of saves that take each other's places, and of saves that wait for others; beside the ledger it drives.

AL8: only neighbours of one object coalesce, and none that was attempted. V4: what is sent is what all of them together were
at their calls. DE1: nothing starts before those it waits for are saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from chained_models._dependencies import again, final, lost
from chained_models._record import Verb
from chained_models.exceptions import InvalidOption
from chained_models.handle import SaveHandle
from chained_models.policies import Coalesce, Outcome

FIELDS = ("n", "m")
WRITES = (Verb.SAVE, Verb.PATCH)


class WaitingRules:
    """Values, places and parents of every save of one walk."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.number = 0
        self.own: dict[SaveHandle[Any], dict[str, int]] = {}
        """What the object was at the call."""
        self.named: dict[SaveHandle[Any], frozenset[str]] = {}
        """The names that the call was about."""
        self.whole: dict[SaveHandle[Any], bool] = {}
        self.expected: dict[SaveHandle[Any], dict[str, int]] = {}
        """What is to be sent."""
        self.fields: dict[SaveHandle[Any], frozenset[str]] = {}
        """Names that are to be sent in any case."""
        self.places: dict[SaveHandle[Any], int] = {}
        """Number of the first save whose place this one has."""
        self.attempted: set[SaveHandle[Any]] = set()
        self.resolved: set[SaveHandle[Any]] = set()
        """Those that go on after a conflict."""
        self.parents: dict[SaveHandle[Any], tuple[SaveHandle[Any], ...]] = {}
        self.waiting: list[tuple[SaveHandle[Any], SaveHandle[Any]]] = []
        """Children, and those of their parents of whose end they were not told."""

    def ask(self, save: SaveHandle[Any], accepted: list[SaveHandle[Any]], reserve: Callable[[], Any]) -> Any:
        """Choose parents and values, and reserve; without the parents if one of them stands in the same chain."""
        self.number += 1
        if save.verb is Verb.PATCH and self.random.random() < 0.5:
            save.update_fields = frozenset(self.random.sample(FIELDS, self.random.choice((1, 2))))
        parents = self.random.sample(accepted, min(len(accepted), self.random.choice((0, 0, 0, 1, 2))))
        save.after = again(parents)
        save.waits = len(save.after)
        try:
            earlier = reserve()
        except InvalidOption:
            save.after, save.waits = (), 0
            earlier = reserve()
        if earlier is None:
            self.take(save, dict.fromkeys(FIELDS, self.number))
        return earlier

    def take(self, save: SaveHandle[Any], values: dict[str, int]) -> None:
        save.snapshot = values
        self.own[save] = self.expected[save] = values
        self.whole[save] = save.verb is Verb.SAVE
        self.named[save] = frozenset(FIELDS) if save.update_fields is None else save.update_fields
        self.fields[save] = frozenset() if save.update_fields is None else save.update_fields
        self.parents[save] = save.after
        self.waiting += [(save, parent) for parent in save.after]

    def follows(self, successor: SaveHandle[Any], save: SaveHandle[Any]) -> None:
        """After a conflict: the same values, on top of what is stored."""
        self.take(successor, self.expected[save])
        self.attempted.add(successor)
        self.resolved.add(successor)
        self.places[successor] = self.place(save)

    def sent_again(self, successor: SaveHandle[Any], failed: SaveHandle[Any]) -> None:
        """By hand."""
        successor.waits = len(successor.after)
        self.take(successor, self.expected[failed])
        if failed in self.attempted:
            self.attempted.add(successor)

    def superseded(self, older: SaveHandle[Any], accepted: Iterable[SaveHandle[Any]]) -> None:
        newer = older.superseded_by
        if newer in self.resolved:
            return  # a conflict has been resolved; that is no coalescing
        assert newer is not None and newer.outcome is None, f"AL8: {older} is superseded by nobody"
        assert older not in self.attempted, f"AL9: {older} was attempted, and is superseded"
        assert older.verb in WRITES and not older.force_insert, f"AL8: {older} cannot be superseded"
        assert newer.coalesce is Coalesce.LATEST, f"AL10: {newer} was not to coalesce"
        between = [one for one in accepted if one.outcome is None and one.chain is newer.chain and one is not newer]
        # What is sent by now, or again, or passes a halt, stands in front.
        between = [one for one in between if not (one.attempts or one.passes_halt) and one.idempotency_key == one.id]
        between = [one for one in between if self.place(older) < self.place(one) < newer.seq]
        assert not between, f"AL8: {between} stand between {older} and {newer}"
        self.places[newer] = self.place(older)
        if newer.verb is Verb.DELETE:
            assert older.record.current() is newer.record.current(), f"AL8: {newer} deletes another thing than {older}"
            return
        assert older.facts is newer.facts, f"AL8: {older} is of another object than {newer}"
        assert self.own[newer] is self.expected[newer], f"AL8: {newer} takes several places"
        of_newer = {name: self.own[newer][name] for name in self.named[newer]}
        self.expected[newer] = {**self.expected[older], **of_newer}
        self.fields[newer] = self.fields[older] | self.fields[newer]
        self.whole[newer] = self.whole[older] or self.whole[newer]
        assert (newer.verb is Verb.SAVE) is self.whole[newer], f"V4: {newer} is a save of everything, or is it not"
        self.parents[newer] += self.parents[older]

    def place(self, save: SaveHandle[Any]) -> int:
        return self.places.get(save, save.seq)

    def starts(self, save: SaveHandle[Any]) -> None:
        if save.orphaned is None:
            missing = [one for one in self.parents[save] if final(one).outcome is not Outcome.SAVED]
            assert not missing, f"DE1: {save} starts before {missing} are saved"
            if save.verb in WRITES:
                assert save.snapshot == self.expected[save], f"V4: {save} does not carry the latest values"
                always = save.update_fields or save.always
                assert self.fields[save] <= always or save.verb is Verb.SAVE, f"V4: {save} does not send what was named"
            self.attempted.add(save)

    def tell(self, work: Any, carry_out: Callable[[Any], None], ended: set[SaveHandle[Any]]) -> None:
        """Children are told of parents that have ended, one after the other in any order."""
        come = [(child, parent) for child, parent in self.waiting if final(parent) in ended]
        for child, parent in self.random.sample(come, len(come)):
            self.waiting.remove((child, parent))
            if child.state.value != "preparing":
                carry_out(work.parent_ended(child, parent, lost(child, parent)))
            else:
                self.waiting.append((child, parent))  # it is told once it is queued
