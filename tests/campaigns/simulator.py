"""The simulator: one seed, one schedule. The whole library with the public kit, against a backend of one capability.

Each request stays on its way until the schedule says how it ends: answered, refused, lost, dropped, delivered late, twice, or
in another order than it was sent. In the end the faults stop, everything must end, and the checker reads the history.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from chained_models import (
    ChainedSaveMixin,
    ChainFull,
    Coalesce,
    Conflict,
    Deleted,
    Guarantee,
    IdentityChanged,
    InDoubt,
    InvalidOption,
    Lane,
    Method,
    OnConflict,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveHandle,
    Unauthenticated,
    Unavailable,
    UsageError,
)
from chained_models._record import Record
from chained_models.backends.memory import MemoryBackend
from chained_models.dispatcher import living
from chained_models.testing import Attempt, Flight, Harness, History, Hold, ScriptedBackend, history_of, violations

LOGGERS = [logging.getLogger(name) for name in ("chained_models", "concurrent.futures")]
"""What has much to say of all that goes wrong here."""

CAPABILITIES: dict[str, Guarantee] = {
    "TRANSACTIONAL": Guarantee.TRANSACTIONAL,
    "IDEMPOTENT": Guarantee.IDEMPOTENT,
    "WINDOW": Guarantee.IDEMPOTENT,  # its memory of keys is short, and lost in a crash
    "FENCED": Guarantee.FENCED,
    "PLAIN": Guarantee.PLAIN,
}
"""Each alone: two defences hide each other's bugs."""

NAMES = tuple(CAPABILITIES)
ATTEMPTS = 3


@dataclasses.dataclass
class Note(ChainedSaveMixin):
    """What is saved. `name` tells objects apart; each value of `n` and of `text` is written once in a schedule."""

    id: int | None = None
    name: str = ""
    n: int = 0
    text: int = 0
    parent: int | None = None


def _bound(**options: Any) -> type[Note]:
    class Bound(Note):
        pass

    retry = RetryPolicy(attempts=ATTEMPTS, wait_initial=1.0, timeout=40.0)
    Bound.bind(MemoryBackend(), resource="notes", retry=retry, timeout=10.0, **options)
    return Bound


KINDS = [
    _bound(coalesce=coalesce, on_failure=on_failure, on_conflict=on_conflict, **more)
    for coalesce in Coalesce
    for on_failure in (None, OnFailure.HALT, OnFailure.CONTINUE)
    for on_conflict, more in (
        (OnConflict.FAIL, {}),
        (OnConflict.REBASE, {}),
        (OnConflict.OVERWRITE, {"max_pending": 3}),
        (OnConflict.REBASE, {"ordering_key": "parent"}),
    )
]
"""Classes, bound once: making one for each schedule would take longer than the schedule."""

UPDATES: tuple[dict[str, Any], ...] = (
    {"coalesce": Coalesce.LATEST},
    {"coalesce": Coalesce.EVERY},
    {"on_failure": OnFailure.HALT},
    {"on_failure": OnFailure.CONTINUE},
    {"retry": RetryPolicy(attempts=1)},
    {"on_conflict": OnConflict.REBASE},
    {"on_conflict": OnConflict.OVERWRITE},
)

REFUSALS: tuple[type[Exception], ...] = (Rejected, Unavailable, Unavailable, Conflict, Unauthenticated)

WEIGHTS = {
    "save": 10, "child": 2, "patch": 3, "patch_fields": 1, "edit": 1, "delete": 1, "refresh": 2, "twin": 1,
    "cancel": 1, "pause": 1, "resume": 1, "pause_lane": 1, "resume_lane": 1, "clear": 1, "skip": 1, "retry": 3, "update": 1,
    "listen": 2, "answer": 10, "refuse": 5, "lose": 4, "drop": 3, "deliver": 3, "bug": 1, "crash": 1, "stranger": 2,
    "advance": 5, "advance_far": 1,
}  # fmt: skip
VERBS = tuple(WEIGHTS)

THEMES = (
    ("save", "patch", "drop", "stranger", "stranger", "advance", "answer", "answer", "answer", "refuse"),
    ("save", "save", "lose", "drop", "bug", "retry", "retry", "answer", "refuse", "skip", "refresh"),
    ("save", "child", "child", "cancel", "clear", "refuse", "retry", "answer", "answer", "listen"),
    ("save", "save", "advance_far", "deliver", "deliver", "answer", "drop", "retry"),
    ("save", "patch", "patch_fields", "edit", "refresh", "twin", "pause", "resume", "answer", "answer"),
)
"""Some schedules are about one kind of trouble: several things in a row that belong together are rare among all verbs."""


class Simulation:
    """One schedule.

    Args:
        seed: Everything follows from it.
        capability: One of CAPABILITIES.
    """

    gathers = False
    """Whether saves of different chains share attempts."""
    verbs = WEIGHTS
    themes = THEMES
    length = 7, 19
    first = "save"

    def __init__(self, seed: int, capability: str) -> None:
        random = self.random = Random(seed)
        self.capability = capability
        kind = random.choice(KINDS)
        backend = self.backend = ScriptedBackend(
            guarantee=CAPABILITIES[capability],
            lane=Lane(max_in_flight=random.choice((1, 2, 8))),
            **({"keys_remembered": 2} if capability == "WINDOW" else {}),
            gathers=self.gathers,
        )
        self.harness = Harness(backend, seed=seed)
        self.kind = kind
        self.names = itertools.count()
        self.values = itertools.count(1)
        self.notes = [self.new() for _ in range(random.choice((1, 1, 2, 3)))]
        self.handles: list[SaveHandle[Any]] = []
        self.called: dict[SaveHandle[Any], int] = {}
        """How often a handle has called back."""
        self.edited: dict[int, tuple[Note, int]] = {}
        """Objects by address, and the latest `n` that the user gave each."""
        self.refreshed: set[int] = set()
        self.discarded: set[int] = set()
        self.twins = 0
        self.writer: dict[int, int] = {}
        """Who has given `n` which value. An object may get to know of what another one, or another program, has written."""
        self.lane_holds: list[list[int]] = []
        self.updated = self.lifted = False
        self.depth = 3
        """So many more times receivers may do something."""

    def new(self) -> Note:
        return self.kind(name=str(next(self.names)))

    def play(self) -> None:
        """The schedule, and the end of it."""
        random = self.random
        before = [logger.disabled for logger in LOGGERS]
        try:
            for logger in LOGGERS:
                logger.disabled = True
            with self.harness:
                if random.random() < 0.9:
                    self.backend.hold()
                names = tuple(self.verbs)
                favourites = [weight * random.choice((0, 1, 1, 4)) for weight in self.verbs.values()]
                if random.random() < 0.2:
                    theme = random.choice(self.themes)
                    favourites = [theme.count(verb) for verb in names]
                for verb in (self.first, *random.choices(names, favourites, k=random.randint(*self.length))):
                    getattr(self, verb)(random.choice(self.notes))
                self.drain()
                self.check()
        except BaseException:
            living.discard(self.harness.dispatcher)  # or the end of the tests would wait for what it will never do
            raise
        finally:
            for logger, disabled in zip(LOGGERS, before, strict=True):
                logger.disabled = disabled

    # Verbs of the user

    def accept(
        self, note: Note, verb: Callable[[], SaveHandle[Any]], *, refused: tuple[type[Exception], ...] = ()
    ) -> None:
        try:
            handle = verb()
        except Deleted:
            self.replace(note)
        except (IdentityChanged, ChainFull, *refused):
            pass
        else:
            self.took(handle)

    def took(self, handle: SaveHandle[Any]) -> None:
        if handle in self.called:
            return  # a second delete returns the handle of the first
        self.called[handle] = 0
        self.handles.append(handle)

        def called(one: Any) -> None:
            self.called[one] += 1
            if self.random.random() < 0.1:
                self.react(one)

        handle.add_done_callback(called)

    def replace(self, note: Note) -> None:
        """A deleted object is no more; another one comes."""
        if note in self.notes:
            self.notes[self.notes.index(note)] = self.new()

    def value(self) -> int:
        """One that nobody has given before."""
        return next(self.values)

    def values_for(self, note: Note) -> dict[str, int]:
        value = self.value()
        self.edited[id(note)] = note, value
        self.writer[value] = id(note)
        return {"n": value}

    def save(self, note: Note) -> None:
        self.accept(note, lambda: note.save(self.values_for(note)))

    def child(self, note: Note) -> None:
        others = [handle for handle in self.handles if handle.model is not note]
        parents = [self.random.choice(others)] if others else []
        after: Any = {"parent": parent for parent in parents} if self.random.random() < 0.5 else parents
        refused = (InvalidOption,) if parents else ()  # one of the same chain
        self.accept(note, lambda: note.save(self.values_for(note), after=after), refused=refused)

    def patch(self, note: Note) -> None:
        self.accept(note, lambda: note.save(self.values_for(note), patch=True))

    def patch_fields(self, note: Note) -> None:
        self.edit(note)
        names = self.random.choice((["n"], ["text"], ["n", "text"]))
        self.accept(note, lambda: note.save(self.values_for(note), update_fields=names))

    def edit(self, note: Note) -> None:
        note.text = self.value()

    def delete(self, note: Note) -> None:
        self.accept(note, note.delete)

    def refresh(self, note: Note) -> None:
        discard = self.random.random() < 0.3
        (self.discarded if discard else self.refreshed).add(id(note))
        self.accept(note, lambda: note.refresh(discard=discard))

    def twin(self, note: Note) -> None:
        """Another object of the same stored thing."""
        if note.id is not None and len(self.notes) < 4:
            other = self.new()
            other.id = note.id
            self.notes.append(other)
            self.twins += 1
            if self.random.random() < 0.7:
                self.refresh(other)

    def cancel(self, note: Note) -> None:
        if self.handles:
            self.random.choice(self.handles).cancel()

    def pause(self, note: Note) -> None:
        note.chain.pause()

    def resume(self, note: Note) -> None:
        note.chain.resume()

    def pause_lane(self, note: Note) -> None:
        lane = self.backend.lane
        if not lane.paused:
            lane.pause()
            self.lane_holds.append([self.harness.tick()])

    def resume_lane(self, note: Note) -> None:
        if self.lane_holds and len(self.lane_holds[-1]) == 1:
            self.lane_holds[-1].append(self.harness.tick())
        self.backend.lane.resume()

    def clear(self, note: Note) -> None:
        self.lifted = True
        note.chain.clear()

    def skip(self, note: Note) -> None:
        self.lifted = True
        note.chain.skip()

    def retry(self, note: Note) -> None:
        halted = note.chain.halted
        try:
            successor = note.chain.retry()
        except UsageError:
            return  # it waits for what has come to stand in the same chain
        assert (successor is None) is (halted is None), "retry() gives a handle exactly where there is a halt"
        if successor is not None:
            self.took(successor)

    def update(self, note: Note) -> None:
        self.updated = True
        note.chain.update(**self.random.choice(UPDATES))

    # Receivers

    def listen(self, note: Note) -> None:
        name: Any = self.random.choice(("sync", "error", "abandoned", "idle", "request", "cancelled", "superseded"))
        note.chain.on(name, lambda event: self.react(event.save))

    def react(self, save: Any) -> None:
        """What a receiver or a callback does: it uses the verbs, or raises."""
        if self.depth == 0:
            return
        self.depth -= 1
        verb = self.random.choice(("raise", "save", "patch", "cancel", "retry", "skip", "delete", "refresh", "clear"))
        if verb == "raise":
            raise RuntimeError("a receiver's own bug")
        self.lifted = self.lifted or verb in ("retry", "skip", "clear")
        getattr(self, verb)(save.model if save.model in self.notes else self.notes[0])

    # The network and the backend

    def flight(self, flights: Iterable[Flight]) -> Flight | None:
        some = list(flights)
        return self.random.choice(some) if some else None

    def answer(self, note: Note) -> None:
        flight = self.flight(self.backend.held)
        if flight is not None:
            flight.answer()

    def refuse(self, note: Note) -> None:
        """It is surely not applied; so only what has not arrived, and never will."""
        flight = self.flight(one for one in self.backend.held if one._reply is None)
        if flight is not None:
            flight.fail(self.random.choice(REFUSALS)())

    def lose(self, note: Note) -> None:
        flight = self.flight(self.backend.held)
        if flight is not None:
            flight.lose()

    def drop(self, note: Note) -> None:
        """The client learns nothing; the request may still arrive later."""
        flight = self.flight(self.backend.held)
        if flight is not None:
            flight.drop()

    def bug(self, note: Note) -> None:
        flight = self.flight(self.backend.held)
        if flight is not None:
            flight.fail(ValueError("a bug of the backend"))

    def deliver(self, note: Note) -> None:
        """A request arrives: one that waits, late one that was given up, or once more one that was here already."""
        flight = self.flight(one for one in self.backend.ledger if one.error is None or isinstance(one.error, InDoubt))
        if flight is not None:
            flight.apply()

    def crash(self, note: Note) -> None:
        self.backend.crash(forget=self.capability == "WINDOW")
        if self.random.random() < 0.7:
            self.backend.restart()

    def stranger(self, note: Note) -> None:
        """Another program writes, or deletes, the same thing."""
        if note.id is None:
            return
        method = Method.DELETE if self.random.random() < 0.2 else Method.PATCH
        value = next(self.values)
        self.writer[value] = 0
        name = f"stranger {value}"
        changed = self.random.choice((("text",), ("text",), ("n",)))
        operation = Operation(
            id=name, key="", seq=0, model=_model_name(type(note)), method=method, resource="notes", identity=note.id,
            values=dict.fromkeys(changed, value), changed=frozenset(changed), version=None, idempotency_key=name,
        )  # fmt: skip
        flight = Flight(self.backend, operation)
        self.backend.ledger.append(flight)
        flight.answer()

    def advance(self, note: Note) -> None:
        self.harness.advance(self.random.choice((0.5, 1.0, 2.0, 10.0)))

    def advance_far(self, note: Note) -> None:
        self.harness.advance(50.0)

    # The end

    def drain(self) -> None:
        """The faults stop: what is on its way is answered, what is held back is let go, time passes."""
        backend, harness = self.backend, self.harness
        self.depth = 0
        backend.restart()
        backend.release()
        dispatcher, holds = harness.dispatcher, harness.recorder.holds
        for _ in range(8 * len(harness.recorder.placed) + 8):
            self.resume_lane(self.notes[0])
            held = [one for one in holds if one.until is None]
            for one in held:
                if one.until is not None:
                    continue  # it was paused twice, and is let go
                key = one.key.current() if isinstance(one.key, Record) else one.key  # it may have become another chain
                one.until = harness.tick()
                (dispatcher.resume if one.why == "paused" else dispatcher.skip)(key)
            if not len(dispatcher) and not held:
                harness.flush(0)
                break
            harness.advance(4.0)  # longer than any wait, and shorter than what looks after attempts that hang

    def check(self) -> None:
        """Let the checker read the history."""
        history = history_of(self.harness, finished=True, remembers=self.capability != "WINDOW")
        holds = [Hold(chain=None, why="paused", since=one[0], until=one[1]) for one in self.lane_holds]
        wrong = violations(dataclasses.replace(history, holds=(*history.holds, *holds)))
        wrong += self.live(history)
        assert not wrong, f"{self.capability}: " + "\n".join(wrong)

    def live(self, history: History) -> Iterable[str]:
        """What only a live program shows, or the schedule knows."""
        for handle, times in self.called.items():
            if times != 1:
                yield f"V7: {handle} has called back {times} times"
        # What is stored may be something else than what was last saved, and a refresh may find that, unless the backend knows
        # each write again, and nothing was given up.
        certain = self.capability in ("TRANSACTIONAL", "IDEMPOTENT") and not self.twins
        certain = certain and not any(one.outcome is Outcome.ABANDONED for one in history.endings)
        # After a conflict, too, it is asked what is stored.
        asked = {
            flight.operation.id.partition("-read-")[0]
            for flight in self.backend.ledger
            if "-read-" in flight.operation.id
        }
        read = self.refreshed | {id(save.model) for save in self.harness.recorder.placed if save.id in asked}
        for address, (note, value) in self.edited.items():
            excused = address in self.discarded or (address in read and not certain)
            if note.n != value and not excused and self.writer.get(note.n, address) == address:
                yield f"V13: {note} has lost the edit {value}"
        yield from self.overwritten()
        yield from self.crowded(history)
        for save in self.harness.recorder.placed:
            if save.attempts > ATTEMPTS:
                yield f"V15: {save} has been attempted {save.attempts} times"
        halting = self.kind.__dict__["__chained_binding__"].on_failure is OnFailure.HALT
        if halting and not (self.updated or self.lifted):
            halted = {held.since for held in self.harness.recorder.holds if held.why == "halted"}
            for save, one in self.harness.recorder.placed.items():
                failed = one.outcome in (Outcome.FAILED, Outcome.ABANDONED) and one.save.attempts
                if failed and not save.passes_halt and one.settled not in halted:
                    yield f"V2: {save} has not halted its chain"

    def crowded(self, history: History) -> Iterable[str]:
        """Whether more attempts were in flight than the lane lets through."""
        most = self.backend.lane.max_in_flight
        flying: list[Attempt] = []
        settled = {one.save: one.tick for one in history.endings}
        for attempt in history.attempts:
            over = [
                one
                for one in flying
                if (one.ended or math.inf) < attempt.began or settled.get(one.save, math.inf) < attempt.began
            ]
            flying = [one for one in flying if one not in over]
            flying.append(attempt)
            if len(flying) > most:
                yield f"V1: {len(flying)} attempts at once, in a lane of {most}"

    def overwritten(self) -> Iterable[str]:
        """Where there are versions, no save that was called before a stranger's value was known overwrites it."""
        rule = self.kind.__dict__["__chained_binding__"].on_conflict
        excused = self.updated or self.twins or self.refreshed or self.discarded
        if self.capability != "FENCED" or rule is OnConflict.OVERWRITE or excused:
            return
        effects = sorted(
            ((tick, one) for one in self.backend.ledger for tick in one.applied), key=lambda effect: effect[0]
        )
        placed = {one.save.id: one for one in self.harness.recorder.placed.values()}
        latest: dict[tuple[Any, str], tuple[int, bool]] = {}
        for tick, one in effects:
            operation = one.operation
            stranger = operation.id.startswith("stranger ")
            if operation.method not in (Method.UPDATE, Method.PATCH):
                continue
            for name in ("n", "text"):
                if operation.method is Method.PATCH and name not in operation.changed:
                    continue
                value = operation.values[name]
                theirs, foreign = latest.get((operation.identity, name), (value, False))
                if foreign and not stranger and value != theirs and operation.version is not None:
                    seen = [
                        other.ended
                        for other in self.backend.ledger
                        if other._answer is not None
                        and (other._answer.values or {}).get(name) == theirs
                        and other.ended
                    ]
                    called = placed[operation.id]
                    while called.instead_of is not None:  # after a conflict it goes on for that one
                        called = placed[called.instead_of]
                    if min(seen, default=math.inf) > called.tick:
                        yield f"V3: {name}={value} of {operation.id} is applied at {tick}, over {theirs} that nobody had seen"
                latest[operation.identity, name] = value, stranger


def _model_name(model: type) -> str:
    from chained_models.mixin import bound_of

    return bound_of(model).model.name


def play(seed: int, capability: str | None = None) -> str:
    """One schedule; returns the capability that it was about."""
    name = capability or NAMES[seed % len(NAMES)]
    Simulation(seed, name).play()
    return name
