"""Programs: any sequence of the verbs, over a few objects and one server of which the truth is kept.

Requests stay on their way until the program ends them, one way or another, so that every verb meets every state. What is
checked is the whole library, through its public names, by the invariants of which the ids (V1, ...) are named in the messages.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Generator
from typing import Any

from chained_models import (
    BackendError,
    ChainedSaveMixin,
    ChainFull,
    Coalesce,
    Conflict,
    Deleted,
    Dispatcher,
    Gone,
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
)
from chained_models.dispatcher import living

from ..origins.by_hand import HandDriver

WRITES = (Method.CREATE, Method.UPDATE, Method.PATCH, Method.DELETE)
REFUSALS: dict[str, type[BackendError]] = {
    "rejected": Rejected,
    "conflict": Conflict,
    "gone": Gone,
    "unavailable": Unavailable,
    "unauthenticated": Unauthenticated,
}
ENDS = ("ok", "ok", "ok", "ok", *REFUSALS, "lost", "dropped", "bug")


@dataclasses.dataclass
class Note(ChainedSaveMixin):
    """What is saved. `name` tells objects apart, `n` the saves of one, `text` is edited now and then."""

    id: int | None = None
    name: str = ""
    n: int = 0
    text: int = 0
    parent: int | None = None


class Flight:
    """One request on its way."""

    def __init__(self, operation: Operation, resume: Callable[[Callable[[], Any]], None]) -> None:
        self.operation = operation
        self.resume = resume
        self.handle: Any = None


class Server:
    """Rows, and a list of all that was sent and applied."""

    def __init__(self, lane: Lane, guarantee: Guarantee) -> None:
        self.lane = lane
        self.guarantee = guarantee
        self.rows: dict[int, dict[str, Any]] = {}
        self.flying: list[Flight] = []
        self.sent: list[Operation] = []
        self.applied: list[Operation] = []
        self.created: dict[str, int] = {}
        self.numbers = itertools.count(1)
        self.look: Callable[[Operation], Any] = lambda operation: None

    async def execute(self, operation: Operation) -> Any:
        return await _Request(self, operation)

    def fly(self, operation: Operation, resume: Callable[[Callable[[], Any]], None]) -> None:
        flight = Flight(dataclasses.replace(operation), resume)
        flight.handle = self.look(operation)
        self.sent.append(flight.operation)
        self.flying.append(flight)

    def end(self, flight: Flight, how: str) -> None:
        self.flying.remove(flight)

        def say() -> Any:
            if how == "bug":
                raise ValueError("a bug of the backend")
            if how == "dropped":
                raise InDoubt
            if how in REFUSALS:
                raise REFUSALS[how]
            answer = self.apply(flight.operation)
            if how == "lost":
                raise InDoubt
            return answer

        flight.resume(say)

    def apply(self, operation: Operation) -> Any:
        identity, keyed = operation.identity, bool(self.guarantee & Guarantee.IDEMPOTENT)
        if operation.method is Method.CREATE:
            if not (keyed and operation.idempotency_key in self.created):
                self.created[operation.idempotency_key] = identity = next(self.numbers)
                self.rows[identity] = {**operation.values, "id": identity}
                self.applied.append(operation)
            return {**operation.values, "id": self.created[operation.idempotency_key]}
        if identity not in self.rows:
            raise Gone
        if operation.method is Method.READ:
            return dict(self.rows[identity])
        self.applied.append(operation)
        if operation.method is Method.DELETE:
            del self.rows[identity]
            return None
        if operation.method is Method.UPDATE:
            self.rows[identity] = dict(operation.values)
        else:
            self.rows[identity] |= {name: operation.values[name] for name in operation.changed}
        return dict(self.rows[identity])


class _Request:
    def __init__(self, server: Server, operation: Operation) -> None:
        self.server, self.operation = server, operation

    def __await__(self) -> Generator[_Request, Any, Any]:
        return (yield self)

    def send(self, resume: Callable[[Callable[[], Any]], None]) -> None:
        self.server.fly(self.operation, resume)


class Program:
    """One dispatcher, a few objects, and everything that was done with them."""

    def __init__(
        self,
        *,
        guarantee: Guarantee,
        room: int,
        coalesce: Coalesce,
        on_failure: OnFailure | None,
        on_conflict: OnConflict,
        most: int | None,
    ) -> None:
        self.driver = HandDriver()
        self.dispatcher = Dispatcher(self.driver)
        self.server = Server(Lane(max_in_flight=room), guarantee)
        self.server.look = self.is_sent

        class Bound(Note):
            pass

        policy = RetryPolicy(attempts=3, wait_initial=1.0, wait_jitter=0.0, timeout=40.0)
        Bound.bind(
            self.server,
            dispatcher=self.dispatcher,
            coalesce=coalesce,
            on_failure=on_failure,
            on_conflict=on_conflict,
            max_pending=most,
            retry=policy,
            timeout=10.0,
        )
        self.model = Bound
        self.notes = [Bound(name=str(number)) for number in range(4)]
        self.named = len(self.notes)
        self.handles: dict[str, SaveHandle[Any]] = {}
        self.called: dict[str, Note] = {}
        """What the object was at the call."""
        self.parents: dict[str, list[SaveHandle[Any]]] = {}
        self.ended: dict[str, int] = {}
        """How often a handle has called back."""
        self.unordered: set[str] = set()
        """Those that may pass others: sent again by hand, or a refresh of a halted chain."""
        self.refreshed: set[str] = set()
        """Names of objects that took what was stored."""
        self.late: set[str] = set()
        """Names of objects of which something was applied that nobody waited for any more."""
        self.counter = 0
        self.edited: dict[str, int] = {}
        """The latest `n` that the user gave each object."""
        self.wrong: AssertionError | None = None
        """What was wrong with a request."""

    # Verbs

    def accept(self, note: Note, verb: Callable[[], SaveHandle[Any]], parents: list[SaveHandle[Any]]) -> None:
        passes = note.chain.halted is not None
        try:
            handle = verb()
        except Deleted:
            self.renew(note)
        except (IdentityChanged, ChainFull):
            pass
        except InvalidOption:
            assert parents, "only a wrong parent is refused"
        else:
            if handle.id not in self.handles:
                self.add(handle, note, parents)
            if passes and handle.verb.name == "REFRESH":
                self.unordered.add(handle.id)

    def add(self, handle: SaveHandle[Any], note: Note, parents: list[SaveHandle[Any]]) -> None:
        self.handles[handle.id] = handle
        self.called[handle.id] = dataclasses.replace(note)
        self.parents[handle.id] = parents
        handle.add_done_callback(lambda _: self.ended.update({handle.id: self.ended.get(handle.id, 0) + 1}))

    def renew(self, note: Note) -> None:
        self.named += 1
        self.notes[self.notes.index(note)] = self.model(name=str(self.named))

    def some_parents(self, note: Note, which: int) -> list[SaveHandle[Any]]:
        others = [handle for handle in self.handles.values() if handle.model is not note]
        return [] if which % 3 or not others else [others[which % len(others)]]

    def edit(self, note: Note) -> dict[str, int]:
        self.counter += 1
        self.edited[note.name] = self.counter
        return {"n": self.counter}

    def save(self, note: Note, which: int) -> None:
        parents = self.some_parents(note, which)
        self.accept(note, lambda: note.save(self.edit(note), after=parents), parents)

    def save_child(self, note: Note, which: int) -> None:
        parents = self.some_parents(note, 3 * which)
        after = {"parent": parent for parent in parents}
        self.accept(note, lambda: note.save(self.edit(note), after=after), parents)

    def patch(self, note: Note, which: int) -> None:
        self.accept(note, lambda: note.save(self.edit(note), patch=True), [])

    def patch_fields(self, note: Note, which: int) -> None:
        note.text += 1
        self.accept(note, lambda: note.save(self.edit(note), update_fields=["n"]), [])

    def delete(self, note: Note, which: int) -> None:
        if which % 4 == 0:
            self.accept(note, note.delete, [])

    def refresh(self, note: Note, which: int) -> None:
        self.refreshed.add(note.name)
        self.accept(note, lambda: note.refresh(discard=which % 2 == 0), [])

    def cancel(self, note: Note, which: int) -> None:
        if self.handles:
            handle = list(self.handles.values())[which % len(self.handles)]
            sent = {operation.id for operation in self.server.sent}
            assert not handle.cancel() or handle.id not in sent, f"V9: {handle} was cancelled after it was sent"

    def pause(self, note: Note, which: int) -> None:
        note.chain.pause()

    def resume(self, note: Note, which: int) -> None:
        self.server.lane.resume()
        note.chain.resume()

    def clear(self, note: Note, which: int) -> None:
        note.chain.clear()

    def retry(self, note: Note, which: int) -> None:
        halted = note.chain.halted
        successor = note.chain.retry()
        assert (successor is None) is (halted is None), "retry() answers with a handle exactly where there is a halt"
        if halted is not None and successor is not None and successor.id not in self.handles:
            self.add_successor(halted, successor)

    def add_successor(self, halted: SaveHandle[Any], successor: SaveHandle[Any]) -> None:
        self.add(successor, halted.model, self.parents[halted.id])
        self.called[successor.id] = self.called[halted.id]
        self.unordered.add(successor.id)

    def skip(self, note: Note, which: int) -> None:
        note.chain.skip()

    def update(self, note: Note, which: int) -> None:
        choices: list[dict[str, Any]] = [
            {"coalesce": Coalesce.LATEST},
            {"coalesce": Coalesce.EVERY},
            {"on_failure": OnFailure.HALT},
            {"on_failure": OnFailure.CONTINUE},
            {"retry": RetryPolicy(attempts=1)},
            {"on_conflict": OnConflict.REBASE},
            {"on_conflict": OnConflict.OVERWRITE},
        ]
        note.chain.update(**choices[which % len(choices)])

    def end(self, note: Note, which: int) -> None:
        if self.server.flying:
            flight = self.server.flying[which % len(self.server.flying)]
            self.finish(flight, ENDS[which % len(ENDS)])

    def finish(self, flight: Flight, how: str) -> None:
        operation = flight.operation
        if flight.handle.outcome is not None:
            self.late.add(operation.values["name"])
        self.server.end(flight, how)

    def advance(self, note: Note, which: int) -> None:
        self.driver.advance((0.5, 1.0, 10.0, 50.0)[which % 4])

    VERBS = (
        "save", "save", "save", "save_child", "patch", "patch_fields", "delete", "refresh", "cancel", "pause", "resume",
        "resume", "clear", "retry", "skip", "update", "end", "end", "end", "end", "end", "advance",
    )  # fmt: skip

    # What always holds

    def is_sent(self, operation: Operation) -> SaveHandle[Any]:
        """Looked at when a request is sent, inside an attempt, where what is raised would be taken for a failure of it."""
        handle = self.handle_of(operation)
        try:
            self.look_at(handle, operation)
        except AssertionError as wrong:
            self.wrong = self.wrong or wrong
        return handle

    def look_at(self, handle: SaveHandle[Any], operation: Operation) -> None:
        name = operation.values["name"]
        beside = [one.handle for one in self.server.flying if one.operation.values["name"] == name]
        beside = [one for one in beside if one.outcome is None]
        assert not beside, f"V1: {handle} is sent beside {beside}"
        assert handle.outcome is None, f"V6: {handle} is sent after it settled"
        if is_question(operation):
            return
        before = [one for one in self.server.sent if one.id == operation.id]
        if before:
            frozen = [(one.values, one.idempotency_key, one.method, one.version) for one in (before[0], operation)]
            assert frozen[0] == frozen[1], f"V8: {handle} is sent another time with another payload"
        elif handle.id not in self.unordered:
            order = list(self.handles)
            passed = [one for one in order[order.index(handle.id) + 1 :] if self.was_sent(one, name)]
            assert not passed, f"V2: {passed} were sent before {handle}"
        for parent in self.parents[handle.id]:
            assert _end_of(parent).outcome is Outcome.SAVED, f"DE1: {handle} is sent before {parent} is saved"
        called = self.called[handle.id]
        if operation.method in (Method.UPDATE, Method.CREATE):
            assert operation.values["n"] == called.n, f"V4: {handle} does not carry what the object was at the call"

    def handle_of(self, operation: Operation) -> SaveHandle[Any]:
        """The handle that an operation is sent for; also of one that starts within the call that accepts it."""
        if is_question(operation):
            asks = operation.id.partition("-read-")[0]
            return next(one for one in self.handles.values() if one.outcome is None and asks in (one.id, _sent_as(one)))
        same = [one for one in self.handles.values() if one.idempotency_key == operation.idempotency_key]
        if same and same[-1].outcome is None:
            return same[-1]
        for note in [*self.notes, *(one.model for one in [*same, *self.handles.values()])]:
            begun = note.chain.in_flight
            if begun is not None and begun.idempotency_key == operation.idempotency_key:
                replaced = [one for one in begun.replaced if one.attempts]
                if same or replaced:
                    self.add_successor(same[-1] if same else replaced[-1], begun)
                else:
                    self.add(begun, note, list(begun.after))
                return begun
        return same[-1]

    def was_sent(self, id: str, name: str) -> bool:
        """Whether a save of that object was sent, in its turn."""
        handle = self.handles[id]
        return handle.model.name == name and handle.attempts > 0 and id not in self.unordered

    def check(self) -> None:
        if self.wrong is not None:
            raise self.wrong
        for handle in list(self.handles.values()):
            later = handle.superseded_by
            if later is not None and later.id not in self.handles:  # after a conflict
                self.add_successor(handle, later)
        for handle in self.handles.values():
            done = handle.done()
            assert self.ended.get(handle.id, 0) == done, (
                f"V7: {handle} has called back {self.ended.get(handle.id)} times"
            )
            assert (handle.why_waiting is None) is done, f"DE6: {handle} says {handle.why_waiting!r}"
            if handle.outcome is Outcome.FAILED and handle.retried_by is None:
                keys = {one.idempotency_key for one in self.server.applied}
                assert handle.idempotency_key not in keys, f"V9: {handle} was applied"
        for note in self.notes:
            mine = note.n == self.edited.get(note.name, 0) or note.name in self.refreshed
            assert mine, f"V13: {note} has lost {self.edited[note.name]}"
            waiting = [one for one in self.handles.values() if one.model is note and one.outcome is None]
            assert len(note.chain) == len(waiting), f"V5: a chain has {len(note.chain)} saves, not {waiting}"

        creates = {
            (one.values["name"], one.idempotency_key) for one in self.server.applied if one.method is Method.CREATE
        }
        assert len({name for name, _ in creates}) == len(creates), f"V14: created twice: {creates}"

    def drain(self) -> None:
        """Once faults stop, everything ends."""
        for _ in range(4 * len(self.handles) + 20):
            for note in {id(one.model): one.model for one in self.handles.values()}.values():
                note.chain.resume()
                note.chain.skip()
            self.server.lane.resume()
            for flight in list(self.server.flying):
                self.finish(flight, "ok")
            self.driver.advance(50.0)
            self.check()
            if all(handle.done() for handle in self.handles.values()) and not self.server.flying:
                break
        left = [handle for handle in self.handles.values() if not handle.done()]
        assert not left, f"V15: {left} did not end, for instance because {left[0].why_waiting}"
        self.dispatcher.flush(0)
        assert not len(self.dispatcher) and not self.driver.alarms, "V10: something is left"
        self.compare()

    def compare(self) -> None:
        """What objects and the server know of one another, now that all is quiet."""
        for handle in self.handles.values():
            writes = [one for one in self.server.sent if one.id == handle.id and one.method in WRITES]
            if handle.outcome is Outcome.SAVED and writes and handle.method is not Method.DELETE:
                keys = {one.idempotency_key for one in self.server.applied}
                assert handle.idempotency_key in keys, f"V9: {handle} is not there"
        for note in self.notes:
            row = None if note.id is None else self.server.rows.get(note.id)
            if row is not None and note.name not in self.late and not note.chain.is_new and _clean(note):
                assert row == dataclasses.asdict(note), f"V12: {note} is stored as {row}"


def is_question(operation: Operation) -> bool:
    """Whether it asks what is stored, after a conflict."""
    return "-read-" in operation.id


def _sent_as(handle: SaveHandle[Any]) -> str | None:
    """The id of the operation: of one that is sent again by hand, that of the one that failed."""
    return None if handle.operation is None else handle.operation.id


def _end_of(handle: Any) -> Any:
    while (later := handle.superseded_by or handle.retried_by) is not None:
        handle = later
    return handle


def _clean(note: Note) -> bool:
    """Whether the object believes that it is stored as it is."""
    try:
        return not note.chain.unsaved_changes()
    except Exception:
        return False


def run(steps: list[tuple[str, int, int]], **options: Any) -> None:
    """Run a program, and drain."""
    program = Program(**options)
    try:
        for verb, note, which in steps:
            getattr(program, verb)(program.notes[note], which)
            program.check()
        program.drain()
    except BaseException:
        living.discard(program.dispatcher)  # or the end of the tests would wait for what it will never do
        raise
