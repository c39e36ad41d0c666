"""What came of it: V3, V5, V7, V9, V10, V12, V14 and V15."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ..operation import Guarantee, Method
from ..policies import Outcome
from ._lookup import NEVER, Lookup
from .history import Attempt, Ending, Known, Save

__all__ = ["Results"]

_CHANGES = (Method.UPDATE, Method.PATCH, Method.DELETE)
_WRITES = (Method.CREATE, *_CHANGES)
_CERTAIN = (Outcome.SAVED, Outcome.SUPERSEDED, Outcome.FAILED)


class Results(Lookup):
    """Checks effects and ends."""

    def wrong(self) -> Iterator[str]:
        """Everything of this kind."""
        yield from self.settled_once()
        yield from self.outcomes()
        yield from self.effects()
        yield from self.fenced()
        yield from self.one_create()
        yield from self.nothing_lost()
        yield from self.known()

    # V7

    def settled_once(self) -> Iterator[str]:
        for ending in self.history.endings:
            first, save = self.ends[ending.save], self.saves.get(ending.save)
            if ending is not first:
                yield f"V7: {self.name(ending.save)} was settled at {first.tick}, and again at {ending.tick}"
            elif save is not None and ending.outcome is not save.outcome:
                yield f"V7: {self.name(save.id)} was settled as {_said(ending.outcome)}, and is {_said(save.outcome)} now"

    # V9

    def outcomes(self) -> Iterator[str]:
        effects: defaultdict[str, list[int]] = defaultdict(list)
        for attempt in self.history.attempts:
            effects[attempt.key] += attempt.applied
        for save in self.history.saves:
            ending, mine = self.ends.get(save.id), self.attempts[save.id]
            if ending is None:
                continue
            line = list(self.line(save))
            writes = [
                one
                for earlier in line
                for one in self.attempts[earlier.id]
                if one.method in _WRITES and not one.question
            ]
            if ending.outcome is Outcome.CANCELLED and mine and not save.by_hand:
                yield f"V9: {self.name(save.id)} was cancelled, and had been sent: {mine[0]}"
            elif ending.outcome is Outcome.SAVED and any(one.method is not Method.DELETE for one in writes):
                applied = [tick for one in line for tick in effects[one.key] if tick < ending.tick]
                if not applied:
                    yield f"V9: {self.name(save.id)} is SAVED, and was not applied by {ending.tick}: {_listed(writes)}"
            elif ending.outcome is Outcome.FAILED and writes:
                applied = [tick for one in writes if one.began < ending.tick for tick in one.applied]
                if applied:
                    yield f"V9: {self.name(save.id)} has FAILED, and was applied at {applied[0]}: {_listed(writes)}"
                elif self._in_doubt(writes, ending):
                    yield f"V9: {self.name(save.id)} has FAILED, and was in doubt: {_listed(writes)}"

    @staticmethod
    def _in_doubt(writes: list[Attempt], ending: Ending) -> bool:
        doubt = False
        for one in sorted(writes, key=lambda one: one.began):
            if one.began < ending.tick:
                doubt = doubt or one.doubtful or one.ended is None or one.ended > ending.tick
                doubt = doubt and one.error != "NotApplied"
        return doubt and ending.error != "NotApplied"

    # V3

    def effects(self) -> Iterator[str]:
        exactly = self.knows_keys and self.history.remembers
        fenced = bool(self.history.guarantee & Guarantee.FENCED)
        applied: dict[str, int] = {}
        effects = sorted((tick, n) for n, one in enumerate(self.history.attempts) for tick in one.applied)
        latest: dict[int, tuple[int, str]] = {}
        gone: set[int] = set()
        for tick, n in effects:
            attempt = self.history.attempts[n]
            save = self.saves.get(attempt.save)
            if save is None:
                continue
            # To delete once more what is gone already changes nothing.
            known = exactly or (fenced and attempt.version is not None and attempt.method is not Method.DELETE)
            if attempt.key in applied:
                if known:
                    yield (
                        f"V3: {self.name(save.id)} is applied at {applied[attempt.key]}, and again at {tick}: {attempt}"
                    )
                continue  # where that may happen, what comes late may also come out of order
            applied[attempt.key] = tick
            if attempt.method is Method.DELETE and save.record in gone:
                continue
            (gone.add if attempt.method is Method.DELETE else gone.discard)(save.record)
            # What nobody waited for any more may come at any time, unless its version keeps it off.
            if save.moved or not (save.outcome in (Outcome.SAVED, None) or (fenced and attempt.version is not None)):
                continue
            number = list(self.line(save))[-1].number
            before = latest.get(save.record)
            if before is not None and before[0] > number:
                yield f"V3: {self.name(save.id)} is applied at {tick}, after {self.name(before[1])}: {attempt}"
            else:
                latest[save.record] = number, save.id

    def fenced(self) -> Iterator[str]:
        """Where there are versions, each write sends the one that its object last got."""
        if not self.history.guarantee & Guarantee.FENCED:
            return
        events: list[tuple[float, int, str, Attempt | None]] = []
        for n, attempt in enumerate(self.history.attempts):
            if attempt.save in self.saves:
                events.append((attempt.began, n, attempt.save, None))
                if attempt.ended is not None and attempt.answered_version is not None:
                    events.append((attempt.ended, n, attempt.save, attempt))
        events += [(ending.tick, -1, ending.save, None) for ending in self.history.endings if ending.save in self.saves]
        versions: dict[int, int] = {}
        bound: set[str] = set()
        for tick, n, name, answered in sorted(events, key=lambda event: event[:2]):
            save = self.saves[name]
            if n < 0:
                if save.verb == "delete":
                    versions.pop(save.object, None)
            elif answered is not None:
                counts = self.settled(name) > tick and (
                    save.outcome is Outcome.SAVED or (answered.question and save.outcome is Outcome.SUPERSEDED)
                )
                if counts and answered.answered_version is not None:
                    versions[save.object] = answered.answered_version
            else:
                attempt = self.history.attempts[n]
                if attempt.question or attempt.operation in bound:
                    continue
                bound.add(attempt.operation)
                if any(one.unfenced for one in self.line(save)):
                    versions.pop(save.object, None)
                elif attempt.method in _CHANGES and not save.by_hand:
                    known = versions.get(save.object)
                    if known is not None and attempt.version != known:
                        sent = "no version" if attempt.version is None else "another version"
                        yield f"V3: {self.name(name)}, {attempt}, sends {sent} than the one that its object has got"

    # V14

    def one_create(self) -> Iterator[str]:
        created: dict[int, Attempt] = {}
        doubtful: dict[str, Attempt] = {}
        for attempt in self.history.attempts:
            save = self.saves.get(attempt.save)
            if save is None or attempt.method is not Method.CREATE:
                continue
            if save.id in doubtful and not self.knows_keys:
                yield f"V14: {self.name(save.id)} is in doubt after {doubtful[save.id]}, and is sent again: {attempt}"
            if attempt.doubtful:
                doubtful[save.id] = attempt
            if attempt.applied and not save.forced:
                first = created.setdefault(save.object, attempt)
                if first.key != attempt.key:
                    yield f"V14: object {save.object} was created by {self.name(first.save)} and by {self.name(save.id)}"

    # V5, V15, V10

    def nothing_lost(self) -> Iterator[str]:
        open_ = [save for save in self.history.saves if save.id not in self.ends]
        for save in open_:
            if not save.visible and save.outcome is not Outcome.SUPERSEDED:
                yield f"V5: {self.name(save.id)} has not ended, and is not in its chain any more"
            elif self.history.finished:
                yield f"V15: {self.name(save.id)} has not ended"
        if not open_:
            yield from (f"V10: all has ended, and there is left: {one}" for one in self.history.left)

    # V12

    def known(self) -> Iterator[str]:
        if not self.history.finished or not self.history.known:
            return
        unclear: set[int] = set()
        writers: defaultdict[int, set[int]] = defaultdict(set)
        for save in self.history.saves:
            mine = self.attempts[save.id]
            late = any(tick > (one.ended or NEVER) for one in mine for tick in one.applied)
            twice = any(len(one.applied) > 1 for one in mine)
            if late or twice or save.moved or (mine and save.outcome not in _CERTAIN):
                unclear.add(save.record)
            if any(one.doubtful for one in mine) and not (self.knows_keys and self.history.remembers):
                unclear.add(save.record)
            writers[save.record].add(save.object)
        latest = self._latest()
        for one in self.history.known:
            if one.record in unclear or len(writers[one.record]) > 1:
                continue
            if (last := latest.get(one.record)) is not None:
                yield from self._is_stored(last, one)
            names = [name for name, value in one.base.items() if one.stored.get(name) != value]
            if names:
                yield f"V12: of {', '.join(names)} object {one.object} does not know what is stored"

    def _latest(self) -> dict[int, Save]:
        """Of each thing, the last write that was saved; not where saves were sent again by hand, which may be out of order."""
        by_hand = {save.record for save in self.history.saves if save.by_hand}
        latest: dict[int, Save] = {}
        for save in self.history.saves:
            if save.outcome is Outcome.SAVED and save.verb in ("save", "patch") and save.record not in by_hand:
                latest[save.record] = save
        return latest

    def _is_stored(self, save: Save, known: Known) -> Iterator[str]:
        given: defaultdict[str, set[int]] = defaultdict(set)
        filled = {name for one in self.history.saves if one.object == save.object for name in one.filled}
        for attempt in self.history.attempts:
            if attempt.save in self.saves and self.saves[attempt.save].record == save.record:
                for name, value in attempt.answered.items():
                    given[name].add(value)
        lost = [
            name
            for name, value in (save.values or {}).items()
            if (save.named is None or name in save.named) and name not in filled
            if known.stored.get(name) != value and known.stored.get(name) not in given[name]
        ]
        if lost:
            yield f"V12: {self.name(save.id)} is SAVED, and its {', '.join(lost)} is not what is stored"


def _said(outcome: Outcome | None) -> str:
    return "not ended" if outcome is None else outcome.name


def _listed(attempts: list[Attempt]) -> str:
    return "; ".join(map(str, attempts))
