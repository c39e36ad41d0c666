"""What was sent, and when: V1, V2, V4, V6, V8 and DE1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush

from ..operation import Method
from ..policies import Outcome
from ._lookup import NEVER, Lookup
from .history import Attempt, Save

__all__ = ["Sending"]

_WRITES = (Method.CREATE, Method.UPDATE, Method.PATCH)


class Sending(Lookup):
    """Checks attempts against what was accepted, and against one another."""

    def wrong(self) -> Iterator[str]:
        """Everything of this kind."""
        yield from self.one_in_flight()
        yield from self.in_order()
        yield from self.held_back()
        yield from self.parents_first()
        yield from self.after_the_end()
        yield from self.same_bytes()
        yield from self.as_accepted()
        yield from self.all_of_it()

    # V1

    def one_in_flight(self) -> Iterator[str]:
        for group in ("chain", "object", "record"):
            flying: defaultdict[int, list[Attempt]] = defaultdict(list)
            for attempt in self.history.attempts:
                save = self.saves.get(attempt.save)
                if save is None or (group == "record" and save.moved):
                    continue
                beside = flying[getattr(save, group)]
                beside[:] = [
                    one
                    for one in beside
                    if (one.ended is None or one.ended > attempt.began) and self.settled(one.save) > attempt.began
                ]
                for other in beside:
                    yield (
                        f"V1: {self.name(save.id)}, {attempt}, is sent beside {self.name(other.save)}, {other}, of the "
                        f"same {group}"
                    )
                beside.append(attempt)

    # V2

    def in_order(self) -> Iterator[str]:
        """By chain, in the order of time: places taken, ends, and first attempts."""
        events: list[tuple[float, int, Save]] = []
        for save in self.history.saves:
            events.append((save.tick, 0, save))
            events.append((self._lets_go(save), 1, save))
            began = next((one.began for one in self.attempts[save.id] if not one.question), None)
            if began is not None:
                events.append((began, 2, save))
        events.sort(key=lambda event: event[:2])
        waiting: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        again: defaultdict[int, set[str]] = defaultdict(set)
        over: set[str] = set()
        for tick, kind, save in events:
            mine = waiting[save.chain]
            first = list(self.line(save, by_hand=False))[-1]
            if kind == 0 and not (save.passes or save.replaced or save.moved):
                if first.by_hand:
                    again[save.chain].add(save.id)
                elif first is save:
                    heappush(mine, (save.number, save.id))
            elif kind == 1:
                over.add(save.id)
                again[save.chain].discard(save.id)
            elif kind == 2 and not save.passes and not first.by_hand:
                while mine and mine[0][1] in over:
                    heappop(mine)
                if mine and mine[0][0] < first.number:
                    yield f"V2: {self.name(save.id)} is sent at {tick:g} in front of {self.name(mine[0][1])}"
                for one in again[save.chain]:
                    yield f"V2: {self.name(save.id)} is sent at {tick:g} in front of {self.name(one)}, which is sent again"

    def _lets_go(self, save: Save) -> float:
        """When it holds up nobody any more: one that was never sent as soon as that is decided, for nobody waits for its receivers."""
        ending = self.ends.get(save.id)
        if ending is None:
            return NEVER
        return ending.tick if ending.decided is None or self.attempts[save.id] else ending.decided

    def held_back(self) -> Iterator[str]:
        holds = self.history.holds
        if not holds:
            return
        for attempt in self.history.attempts:
            save = self.saves.get(attempt.save)
            if save is None or attempt.question:
                continue
            for hold in holds:
                if hold.chain not in (None, save.chain) or not hold.since < attempt.began < (hold.until or NEVER):
                    continue
                if hold.why == "halted" and save.passes:
                    continue
                if hold.running != (save.id, attempt.number):
                    yield f"V2: {self.name(save.id)}, {attempt}, is sent while its chain is {hold.why} since {hold.since}"

    # DE1

    def parents_first(self) -> Iterator[str]:
        for save in self.history.saves:
            if not save.after or not (mine := self.attempts[save.id]):
                continue
            for parent in save.after:
                end = self.ends.get(parent)
                if parent not in self.saves:
                    continue
                if end is None or end.tick > mine[0].began:
                    yield f"DE1: {self.name(save.id)} is sent at {mine[0].began} before {self.name(parent)} has ended"
                elif self._end_of(parent) is not Outcome.SAVED:
                    yield f"DE1: {self.name(save.id)} is sent although {self.name(parent)} was not saved"

    def _end_of(self, id: str) -> Outcome | None:
        """The outcome of this save, or of the one that it ended as."""
        save = self.saves[id]
        end = self.saves.get(save.ended_as or "", save)
        return end.outcome

    # V6

    def after_the_end(self) -> Iterator[str]:
        for attempt in self.history.attempts:
            if attempt.began > self.settled(attempt.save):
                yield f"V6: {self.name(attempt.save)}, {attempt}, is sent after it was settled at {self.settled(attempt.save):g}"

    # V8

    def same_bytes(self) -> Iterator[str]:
        firsts: dict[str, Attempt] = {}
        for attempt in self.history.attempts:
            if attempt.question:
                continue
            first = firsts.setdefault(attempt.operation, attempt)
            keyed = firsts.setdefault(attempt.key, attempt)
            if keyed.payload != attempt.payload:
                yield f"V8: {self.name(attempt.save)}, {attempt}, has the key of {keyed}, and sends something else"
            elif first.key != attempt.key:
                yield f"V8: {self.name(attempt.save)}, {attempt}, has the key {attempt.key}, not {first.key} as before"
            elif (first.payload, first.version) != (attempt.payload, attempt.version):
                yield f"V8: {self.name(attempt.save)}, {attempt}, sends something else under the same key than {first}"
        for save in self.history.saves:
            before = self.saves.get(save.instead_of or "")
            if before is not None and save.by_hand and save.key != before.key:
                yield f"V8: {self.name(save.id)} is sent again by hand with the key {save.key}, not {before.key}"

    # V4

    def as_accepted(self) -> Iterator[str]:
        given: defaultdict[int, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for attempt in self.history.attempts:
            if attempt.answered and attempt.save in self.saves:
                for name, value in attempt.answered.items():
                    given[self.saves[attempt.save].record][name].add(value)
        filled: defaultdict[int, set[str]] = defaultdict(set)
        for one in self.history.saves:
            filled[one.object] |= one.filled  # what one save was given reaches those behind it
        taken_over: defaultdict[str, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for one in self.history.saves:
            if one.replaced and one.ended_as is not None:
                for name, value in (one.values or {}).items():
                    taken_over[one.ended_as][name].add(value)
        looked_at: set[str] = set()
        for attempt in sorted(self.history.attempts, key=lambda one: one.began):
            save = self.saves.get(attempt.save)
            if save is None or attempt.question or attempt.operation in looked_at:
                continue
            looked_at.add(attempt.operation)
            line = list(self.line(save))
            origin = next((one for one in line if one.values), None)
            if origin is None or origin.values is None:
                continue
            for name, value in attempt.values.items():
                expected = {origin.values.get(name)}
                if origin.named is not None and name not in origin.named:
                    expected |= taken_over[origin.ended_as or origin.id][name]
                if value not in expected | given[save.record][name] and name not in filled[save.object]:
                    yield f"V4: {self.name(save.id)}, {attempt}, sends {name} otherwise than it was at the call"

    def all_of_it(self) -> Iterator[str]:
        """What was named is sent, also by the save that has taken the place of the one that named it; a full save sends all."""
        places: defaultdict[str, list[Save]] = defaultdict(list)
        for accepted in self.history.saves:
            if accepted.values is not None:
                places[accepted.ended_as or accepted.id].append(accepted)
        looked_at: set[str] = set()
        for attempt in self.history.attempts:
            save = self.saves.get(attempt.save)
            if save is None or attempt.question or attempt.operation in looked_at:
                continue
            looked_at.add(attempt.operation)
            if attempt.method not in _WRITES or (save.instead_of is not None and not save.by_hand):
                continue  # after a conflict the user may have decided what is to be sent
            for one in self.line(save):
                asked = [other for other in places[one.ended_as or one.id] if other.replaced or other is one]
                for other in asked:
                    whole = (other.values or {}).keys() if other.verb == "save" else other.named or ()
                    missing = sorted(set(whole) - attempt.values.keys())
                    if missing:
                        yield f"V4: {self.name(save.id)}, {attempt}, does not send {', '.join(missing)} of {self.name(other.id)}"
