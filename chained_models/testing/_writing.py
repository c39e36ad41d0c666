"""Writing the history: from what a harness has seen, in live objects, to plain records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._dependencies import final
from .._record import Life, Record
from ..exceptions import Conflict, Gone, Rejected, Unauthenticated, Unavailable
from ..handle import SaveHandle
from ..operation import Guarantee, Method, Operation
from ..policies import OnConflict, Outcome
from ._recorder import Accepted, Recorder
from .backend import Flight, ScriptedBackend
from .harness import Harness
from .history import Attempt, Ending, History, Hold, Known, Save, Values, fingerprint, fingerprints

__all__ = ["history_of"]

_SURELY_NOT = (Rejected, Conflict, Gone, Unavailable, Unauthenticated)
_NOTHING: Values = {}


def history_of(source: Harness | ScriptedBackend, *, finished: bool = False, remembers: bool | None = None) -> History:
    """What has happened so far, as plain records.

    Args:
        source: A harness; or a backend, which only knows of attempts.
        finished: Whether nothing more is to happen, so that what is left over is wrong.
        remembers: Whether the backend has remembered all idempotency keys. Left out: unless there were more of them than it
            remembers, or a crash has made it forget them.
    """
    if isinstance(source, ScriptedBackend):
        return _of_a_backend(source)
    backend = source._backend if isinstance(source._backend, ScriptedBackend) else None
    writer = _Writer(source.recorder)
    attempts = () if backend is None else tuple(writer.attempts(backend.ledger))
    return History(
        guarantee=Guarantee.PLAIN if backend is None else backend.guarantee,
        remembers=backend is None or (_remembers(backend) if remembers is None else remembers),
        finished=finished,
        saves=tuple(writer.saves()),
        attempts=attempts,
        endings=tuple(writer.endings()),
        holds=tuple(writer.holds()),
        known=() if backend is None else tuple(writer.known(backend)),
        left=tuple(_left(source)) if finished else (),
    )


def _remembers(backend: ScriptedBackend) -> bool:
    return (
        not backend.has_forgotten
        and len({flight.operation.idempotency_key for flight in backend.ledger}) <= backend._most_keys
    )


class _Numbers:
    """A number for each of some objects, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []

    def of(self, one: Any) -> int:
        number = self._numbers.get(id(one))
        if number is None:
            number = self._numbers[id(one)] = len(self._numbers) + 1
            self._kept.append(one)  # or another object might get its address
        return number


class _Writer:
    """Turns what a recorder has written down into records."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._placed = list(recorder.placed.values())
        self._chains: dict[Any, int] = {}
        self._records, self._objects = _Numbers(), _Numbers()
        self._stored: dict[tuple[str, Any], Record] = {}
        self._instead_of: dict[str, tuple[str, bool]] = {}
        self._lines: dict[str, list[Accepted]] = {}
        """By the id and the key that operations may go by: those that may have sent them, in order."""
        self._strangers: set[tuple[str, Any]] = set()
        """Of what is stored: what others have written."""
        self._trace()

    def _trace(self) -> None:
        """Find out which save goes on for which."""
        for one in self._placed:
            save = one.save
            if save.retried_by is not None:
                self._instead_of[save.retried_by.id] = save.id, True
            if one.instead_of is not None:
                self._instead_of[save.id] = one.instead_of, False
        for one in self._placed:
            line = self._lines.setdefault(self._first(one.save.id), [])
            line.append(one)
        for one in self._placed:
            self._lines[one.save.id] = self._lines[self._first(one.save.id)]
            self._lines.setdefault(one.save.idempotency_key, self._lines[one.save.id])

    def _first(self, name: str) -> str:
        """The save that was called for, of those that were sent again by hand."""
        while (earlier := self._instead_of.get(name)) is not None and earlier[1]:
            name = earlier[0]
        return name

    def _chain(self, key: Any) -> int:
        return self._chains.setdefault(key, len(self._chains) + 1)

    def _record(self, save: SaveHandle[Any]) -> int:
        """By what is stored, where that is known: whether two records of the library are one thing is not for it to say."""
        identity = save.identity
        stored = self._stored.setdefault((save.binding.resource, identity), save.record.current())
        return self._records.of(save.record.current() if identity is None else stored)

    def saves(self) -> Iterator[Save]:
        """Those that were accepted."""
        for one in self._placed:
            save = one.save
            if not (one.returned or save.rounds):
                continue  # its snapshot could not be taken, so no verb has returned it
            instead_of, by_hand = self._instead_of.get(save.id, (None, False))
            chain = one.line
            record: Record = save.record.current()
            yield Save(
                id=save.id,
                number=save.seq,
                chain=self._chain(chain.key),
                record=self._record(save),
                object=self._objects.of(save.facts),
                verb=save.verb.value,
                key=save.idempotency_key,
                values=one.values,
                named=one.named,
                tick=one.tick,
                after=one.after,
                instead_of=instead_of,
                by_hand=by_hand,
                passes=save.passes_halt,
                forced=save.force_insert,
                unfenced=save.unconditional or _without_version(save),
                moved=one.chain is not chain or one.record is not record,
                replaced=save.outcome is Outcome.SUPERSEDED and save.operation is None,
                filled=frozenset(save.slots),
                visible=save.place in chain.saves and chain.saves[save.place] is save,
                outcome=save.outcome,
                ended_as=None if save.superseded_by is None else final(save).id,
            )

    def attempts(self, flights: Iterable[Flight]) -> Iterator[Attempt]:
        """What the backend has seen, of these saves."""
        for flight in list(flights):
            operation = flight.operation
            asked, question, _ = operation.id.partition("-read-")
            line = self._lines.get(asked) or self._lines.get(operation.idempotency_key)
            if line is None:  # another program writes there as well
                self._strangers.add((operation.resource, operation.identity))
                continue
            maker = next((one for one in reversed(line) if one.tick <= flight.began), line[0])
            yield _attempt(flight, maker.save.id, question=bool(question))

    def endings(self) -> Iterator[Ending]:
        """When what was settled."""
        ended = [one for one in self._placed if one.settled is not None]
        for one in sorted(ended, key=lambda one: one.settled or 0):
            error = None if one.save.error is None else type(one.save.error).__name__
            for _ in range(one.times):
                yield Ending(
                    save=one.save.id, tick=one.settled or 0, decided=one.decided, outcome=one.outcome, error=error
                )

    def holds(self) -> Iterator[Hold]:
        """What was paused or halted; not where a record turned out to be another one, and the hold went there."""
        for held in self._recorder.holds:
            if not isinstance(held.key, Record) or held.key.current() is held.key:
                chain = self._chain(held.key)
                yield Hold(chain=chain, why=held.why, since=held.since, until=held.until, running=held.running)

    def known(self, backend: ScriptedBackend) -> Iterator[Known]:
        """What objects know to be stored, of what only this program has written."""
        latest: dict[int, SaveHandle[Any]] = {id(one.save.facts): one.save for one in self._placed}
        for save in latest.values():
            record = save.record.current()
            resource = save.binding.resource
            if record.life is not Life.LIVE or (resource, record.identity) in self._strangers:
                continue
            stored = _stored(backend, resource, record.identity)
            if stored is not None and save.facts.base is not None:
                yield Known(
                    object=self._objects.of(save.facts),
                    record=self._record(save),
                    base=fingerprints(save.facts.base),
                    stored=fingerprints(stored),
                )


def _without_version(save: SaveHandle[Any]) -> bool:
    """Whether it overwrites what is there if its model, which keeps the version itself, does not know one."""
    adapter, model = save.binding.adapter, save.binding.model.type
    return save.on_conflict is OnConflict.OVERWRITE and adapter.version_name(model) is not None


def _stored(backend: ScriptedBackend, resource: str, identity: Any) -> Mapping[str, Any] | None:
    collection = backend._collections.get(resource)
    row = None if collection is None else collection.rows.get(identity)
    return None if row is None else row.values


def _attempt(flight: Flight, save: str, *, question: bool) -> Attempt:
    operation, error, answer = flight.operation, flight.error, flight._answer
    answered = _NOTHING if answer is None or not answer.values else fingerprints(answer.values)
    return Attempt(
        save=save,
        operation=operation.id,
        key=operation.idempotency_key,
        number=operation.attempt,
        method=operation.method,
        values=_written(operation),
        payload=_sent(operation),
        version=None if operation.version is None else fingerprint(operation.version),
        question=question,
        began=flight.began,
        applied=tuple(flight.applied),
        ended=flight.ended,
        error=None if error is None else type(error).__name__,
        doubtful=error is not None and not isinstance(error, _SURELY_NOT),
        answered=answered,
        answered_version=None if answer is None or answer.version is None else fingerprint(answer.version),
    )


def _written(operation: Operation) -> Values:
    match operation.method:
        case Method.CREATE | Method.UPDATE:
            return fingerprints(operation.values)
        case Method.PATCH:
            return {name: fingerprint(operation.values[name]) for name in sorted(operation.changed)}
        case _:
            return _NOTHING


def _sent(operation: Operation) -> int:
    values = frozenset(fingerprints(operation.values).items())
    rest = (operation.method, operation.resource, operation.changed)
    return hash((values, rest, fingerprint(operation.identity), fingerprint(operation.payload)))


def _left(harness: Harness) -> Iterator[str]:
    """What should not be there when all is over."""
    engine = harness.dispatcher._engine
    for chain in engine.ledger.machine:
        if chain.saves or not (chain.paused or chain.halted):
            yield f"a chain with {len(chain.saves)} saves"
    for lane in list(engine._lanes.values()):
        if lane.slots:
            yield f"{len(lane.slots)} slots of a lane"
        if lane.ready and not lane.paused:
            yield f"{len(lane.ready)} chains that could go on"
    if engine.ledger.finishing:
        yield f"{len(engine.ledger.finishing)} saves whose receivers run"
    if harness.clock is not None and (timers := harness.clock.timers):
        yield f"{timers} timers"


def _of_a_backend(backend: ScriptedBackend) -> History:
    """From attempts alone: each stored thing is taken for a chain, and what is asked for in turn for its saves."""
    saves: dict[str, Save] = {}
    attempts: list[Attempt] = []
    chains: dict[Any, int] = {}
    last: dict[str, Attempt] = {}
    for flight in list(backend.ledger):
        operation = flight.operation
        asked, question, _ = operation.id.partition("-read-")
        identity = operation.identity
        if identity is None and flight._answer is not None:
            identity = flight._answer.identity or tuple((flight._answer.values or {}).values())
            identity = identity[0] if isinstance(identity, tuple) and len(identity) == 1 else identity
        thing = (operation.resource, asked if identity is None else identity)
        chain = chains.setdefault(thing, len(chains) + 1)
        if asked not in saves:
            saves[asked] = Save(
                id=asked, number=operation.seq, chain=chain, record=chain, object=chain, key=operation.idempotency_key
            )
        last[asked] = _attempt(flight, asked, question=bool(question))
        attempts.append(last[asked])
    endings = [
        Ending(save=asked, tick=one.ended, outcome=None)
        for asked, one in sorted(last.items(), key=lambda item: item[1].ended or 0)
        if one.ended is not None
    ]
    return History(
        guarantee=backend.guarantee,
        remembers=_remembers(backend),
        saves=tuple(sorted(saves.values(), key=lambda save: save.number)),
        attempts=tuple(attempts),
        endings=tuple(endings),
    )
