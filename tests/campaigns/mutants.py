"""Mutants: the library with one small thing wrong in its protocol. Each must be caught, with one capability alone.

With idempotency keys and versions both on, one defence hides what the other lets through; and not all capabilities show all faults.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from chained_models import (
    Answer,
    Conflict,
    Guarantee,
    Method,
    Outcome,
    Rejected,
    _admission,
    _answer,
    _attempt,
    _intake,
    _machine,
    _resolve,
    events,
)
from chained_models._chains import Chain
from chained_models._engine import Engine
from chained_models._future import Handle
from chained_models._lane import LaneState
from chained_models._ledger import Ledger
from chained_models._machine import Machine
from chained_models._merge import Facts
from chained_models._model_work import ModelWork
from chained_models._port import Port
from chained_models._record import Life, Record, Verb
from chained_models._records import Records
from chained_models._states import Input, SaveState
from chained_models._vigil import Vigil
from chained_models.policies import Ruling


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    Attributes:
        name: What is wrong.
        alone: The capability with which it must be caught.
        caught_by: What the message of the failure must match: ids of invariants, or what the library itself raises.
        owner: Where it is changed.
        attribute: What is changed.
        wrong: From what stands there to what shall.
    """

    name: str
    alone: str
    caught_by: str
    owner: Any
    attribute: Any
    wrong: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name


MUTANTS: list[Mutant] = []


def mutant(name: str, alone: str, caught_by: str, owner: Any, attribute: Any) -> Callable[[Callable[[Any], Any]], None]:
    """Enter a mutant: a function from the right thing to the wrong one."""

    def enter(wrong: Callable[[Any], Any]) -> None:
        MUTANTS.append(Mutant(name, alone, caught_by, owner, attribute, wrong))

    return enter


def finished(wrong: Callable[[Machine, Any, int, Any, Any], Any]) -> Callable[[Any], Any]:
    """Something wrong after the end of an attempt."""

    def wrap(right: Any) -> Any:
        def finished(self: Machine, save: Any, token: int, verdict: Any, successor: Any = None) -> Any:
            return wrong(self, save, token, verdict, right(self, save, token, verdict, successor))

        return finished

    return wrap


def startable(*, but: str) -> Callable[[Any], Any]:
    """`Chain.startable` without one of its conditions."""

    def wrong(chain: Chain) -> Any:
        if (chain.paused and but != "paused") or (chain.finishing is not None and but != "finishing"):
            return None
        head = chain.active or chain.head
        if but == "active":
            head = next((save for save in chain.saves.values() if save.state is SaveState.QUEUED), head)
        if head is None or (head.waits and but != "waits"):
            return None
        if chain.halted is not None and not head.passes_halt and but != "halted":
            return None
        waited = head.due or but == "due"
        return head if head.state is SaveState.QUEUED or (waited and head.state in WAITING) else None

    return lambda right: wrong


WAITING = (SaveState.BACKING_OFF, SaveState.IN_DOUBT)

# Keys, payloads, versions


def resent(change: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Something is changed before an attempt that is not the first."""

    def wrap(right: Any) -> Any:
        def execute(save: Any, announce: Any) -> Any:
            if save.operation is not None and save.attempts > 1:
                change(save)
            return (yield from right(save, announce))

        return execute

    return wrap


@mutant("a new key for each retry", "IDEMPOTENT", "V8|V3|V14", _attempt, "execute")
@resent
def _(save: Any) -> None:
    save.operation.idempotency_key += "'"


@mutant("the key of a create is forgotten", "TRANSACTIONAL", "V8|V3|V14", _attempt, "execute")
@resent
def _(save: Any) -> None:
    if save.operation.method is Method.CREATE:
        save.operation.idempotency_key += "'"


@mutant("encoded anew for each retry", "IDEMPOTENT", "V8", _attempt, "execute")
@resent
def _(save: Any) -> None:
    save.operation.values = save.binding.adapter.snapshot(save.model, check=False)


@mutant("a retry looks up the version again", "FENCED", "V8", _attempt, "execute")
@resent
def _(save: Any) -> None:
    save.operation.version = None


@mutant("a retry is bound anew", "FENCED", "V8|V4", _attempt, "execute")
@resent
def _(save: Any) -> None:
    save.snapshot, save.operation = save.binding.adapter.snapshot(save.model, check=False), None


@mutant("a new key for a retry by hand", "TRANSACTIONAL", "V8", ModelWork, "successor")
def _(right: Any) -> Any:
    def successor(self: Any, save: Any) -> Any:
        one = right(self, save)
        one.key_given = ""
        return one

    return successor


@mutant("a retry by hand takes a new snapshot", "IDEMPOTENT", "V8|V4", ModelWork, "successor")
def _(right: Any) -> Any:
    def successor(self: Any, save: Any) -> Any:
        one = right(self, save)
        one.snapshot, one.operation, one.before = save.binding.adapter.snapshot(save.model, check=False), None, None
        return one

    return successor


@mutant("a successor has the key of the one before it", "FENCED", "V8", _resolve, "heir")
def _(right: Any) -> Any:
    def heir(save: Any) -> Any:
        one = right(save)
        one.key_given = save.idempotency_key
        return one

    return heir


@mutant("no fence is sent", "FENCED", "V3", _attempt, "_bind")
def _(right: Any) -> Any:
    def bind(save: Any) -> Any:
        operation = right(save)
        return operation and replace(operation, version=None)

    return bind


@mutant("the version of an answer is not taken", "FENCED", "V3", Facts, "confirm")
def _(right: Any) -> Any:
    return lambda self, sent, answered, version: right(self, sent, answered, self.version or version)


@mutant("the snapshot is taken late", "PLAIN", "V4", _attempt, "carried_values")
def _(right: Any) -> Any:
    return lambda save: save.binding.adapter.snapshot(save.model, check=False)


@mutant("the one in front is sent in the place of each", "PLAIN", "V4", _attempt, "carried_values")
def _(right: Any) -> Any:
    return lambda save: right(save) if save.before is None else save.before.snapshot


@mutant("what a coalesced save carried stays in its place", "PLAIN", "V4|V12|recursion", _admission, "absorb")
def _(right: Any) -> Any:
    return lambda older, newer: setattr(newer, "snapshot", older.snapshot)


# Order


for _but, _name, _alone, _caught in (
    ("active", "the next one starts before the first has settled", "PLAIN", "V1|V2"),
    ("paused", "a pause is forgotten", "IDEMPOTENT", "V2"),
    ("halted", "a halt lets followers through", "TRANSACTIONAL", "V2"),
    ("finishing", "the next one starts before callbacks have run", "PLAIN", "V2"),
    ("waits", "a child does not wait for its parents", "FENCED", "DE1"),
    ("due", "a wait is over at once", "PLAIN", "V1"),
):
    MUTANTS.append(Mutant(_name, _alone, _caught, Chain, "startable", startable(but=_but)))


@mutant("last in, first out", "PLAIN", "V2|cannot", Chain, "head")
def _(right: Any) -> Any:
    return property(lambda chain: next(reversed(chain.saves.values()), None))


@mutant("the order of the queue is reversed at a retry", "IDEMPOTENT", "V1|V2", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Any, effects: Any) -> Any:
    if verdict is not None and verdict.ruling is Ruling.RETRY and effects is not None:
        for place in list(reversed(save.chain.saves)):
            save.chain.saves.move_to_end(place)
        save.chain.active = None
    return effects


@mutant("a retry by hand goes to the tail", "PLAIN", "V2", Machine, "reserve")
def _(right: Any) -> Any:
    return lambda self, key, lane, save, *, front=False: right(self, key, lane, save, front=front and save.passes_halt)


@mutant("every refresh goes to the front", "PLAIN", "V2", Machine, "reserve")
def _(right: Any) -> Any:
    def reserve(self: Machine, key: Any, lane: Any, save: Any, *, front: bool = False) -> None:
        right(self, key, lane, save, front=front or save.verb is Verb.REFRESH)

    return reserve


@mutant("the successor after a conflict goes to the tail", "FENCED", "V2", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Any, effects: Any) -> Any:
    if effects is not None and verdict is not None and verdict.outcome is Outcome.SUPERSEDED:
        save.chain.saves.move_to_end(save.place)
    return effects


@mutant("nothing halts", "PLAIN", "V2", Machine, "_settle")
def _(right: Any) -> Any:
    return lambda self, save, given, *, halt=False: right(self, save, given)


@mutant("a lane's pause is forgotten", "TRANSACTIONAL", "V2", LaneState, "grant")
def _(right: Any) -> Any:
    def grant(self: Any) -> Any:
        paused, self.lane._paused = self.lane._paused, False
        try:
            return right(self)
        finally:
            self.lane._paused = paused

    return grant


@mutant("a delete does not wait for the create", "IDEMPOTENT", "V1|V2", Chain, "startable")
def _(right: Any) -> Any:
    def startable(chain: Any) -> Any:
        last = next(reversed(chain.saves.values()), None)
        if chain.active is not None and last.verb is Verb.DELETE and last.state is SaveState.QUEUED:
            return last
        return right(chain)

    return startable


@mutant("two objects of one thing have two chains", "PLAIN", "V1|V3", Port, "record")
def _(right: Any) -> Any:
    return lambda self, facts, model_type, identity, *, stored: Record(facts.record.label, identity, stored=stored)


@mutant("clear() frees the place in flight", "FENCED", "V1|V2", Machine, "lift")
def _(right: Any) -> Any:
    def lift(self: Machine, chain: Any) -> Any:
        chain.active = None
        return right(self, chain)

    return lift


# Time


@mutant("an attempt over its time is no longer in flight", "PLAIN", "V1|assert None", Chain, "startable")
def _(right: Any) -> Any:
    def startable(chain: Any) -> Any:
        if chain.active is not None and chain.active.state is SaveState.IN_DOUBT and chain.lane.holds(chain.active):
            return next((save for save in chain.saves.values() if save.state is SaveState.QUEUED), None)
        return right(chain)

    return startable


@mutant("an attempt over its time is repeated beside it", "TRANSACTIONAL", "V1", Machine, "overdue")
def _(right: Any) -> Any:
    def overdue(self: Machine, lane: Any) -> Any:
        seen = right(self, lane)
        for save in list(lane.slots.values()):
            if save.state is SaveState.IN_DOUBT and self.is_current(save, save.token):
                save.due = True
                lane.request(save.chain)
        return seen

    return overdue


@mutant("a stale completion settles", "IDEMPOTENT", "cannot|V7|V9|settled twice|KeyError", Machine, "is_current")
def _(right: Any) -> Any:
    return staticmethod(lambda save, token: True)


@mutant("a late end is tried once more", "IDEMPOTENT", "V6", Records, "ended_late")
def _(right: Any) -> Any:
    def ended_late(self: Any, save: Any, answer: Any) -> Any:
        save.backend.execute(save.operation)
        return right(self, save, answer)

    return ended_late


@mutant("a late answer is merged", "FENCED", "V13", Records, "ended_late")
def _(right: Any) -> Any:
    def ended_late(self: Any, save: Any, answer: Any) -> Any:
        _answer.assign_answer(save.binding.adapter, save.model, {}, _answer.sent_by(save), discard=True)
        return right(self, save, answer)

    return ended_late


@mutant("the wake after a wait is lost", "IDEMPOTENT", "V15", Machine, "woke")
def _(right: Any) -> Any:
    return lambda self, save, token: []


@mutant("tried again without end", "TRANSACTIONAL", "V15", ModelWork, "judge")
def _(right: Any) -> Any:
    return lambda self, save, error, guarantee, **given: right(self, save, error, guarantee, **{**given, "attempts": 1})


@mutant("a timer is left", "PLAIN", "V10", Vigil, "arrange")
def _(right: Any) -> Any:
    def arrange(self: Any) -> None:
        self._disarm = None
        right(self)

    return arrange


@mutant("nobody takes back the timer of a lane", "PLAIN", "V10", Engine, "look_no_more")
def _(right: Any) -> Any:
    return lambda self, only=None: None


# The lane


@mutant("a slot of the lane is leaked", "PLAIN", "V10|V15", LaneState, "give_back")
def _(right: Any) -> Any:
    return lambda self, token: None if token % 3 == 0 else right(self, token)


@mutant("a slot of the lane is given back twice", "FENCED", "V1", LaneState, "give_back")
def _(right: Any) -> Any:
    def give_back(self: Any, token: int) -> None:
        right(self, token)
        right(self, next(iter(self.slots), 0))

    return give_back


@mutant("a lane that goes on is not heard", "PLAIN", "V15", Machine, "lane_resumed")
def _(right: Any) -> Any:
    return lambda self, lane: []


@mutant("resume() starts nothing", "PLAIN", "V10|V15", Machine, "resume")
def _(right: Any) -> Any:
    def resume(self: Machine, chain: Any) -> Any:
        chain.paused = False
        return []

    return resume


@mutant("skip() leaves the halt", "PLAIN", "V10|V15", Machine, "lift")
def _(right: Any) -> Any:
    return lambda self, chain: []


# Outcomes


def judged(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """Something wrong in what a failed attempt means."""

    def wrap(right: Any) -> Any:
        def judge(self: Any, save: Any, error: BaseException, guarantee: Guarantee, **given: Any) -> Any:
            return change(partial_right(right, self), save, error, guarantee, given)

        return judge

    return wrap


def partial_right(right: Any, self: Any) -> Any:
    return lambda save, error, guarantee, given: right(self, save, error, guarantee, **given)


@mutant("doubt is taken for failure", "PLAIN", "V9", ModelWork, "judge")
@judged
def _(right: Any, save: Any, error: Any, guarantee: Any, given: Any) -> Any:
    verdict = right(save, error, guarantee, given)
    return replace(verdict, outcome=Outcome.FAILED) if verdict.outcome is Outcome.ABANDONED else verdict


@mutant("failure is taken for success", "FENCED", "V9", _machine.INPUTS, Outcome.FAILED)
def _(right: Any) -> Any:
    return Input.SUCCEED


@mutant("what is abandoned is reported as failed", "TRANSACTIONAL", "V9", _machine.INPUTS, Outcome.ABANDONED)
def _(right: Any) -> Any:
    return Input.FAIL


@mutant("doubt is forgotten at the next attempt", "IDEMPOTENT", "V9", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Any, effects: Any) -> Any:
    save.doubted = save.doubted and effects is None
    return effects


@mutant("a conflict after a doubt is believed", "FENCED", "V9", ModelWork, "judge")
@judged
def _(right: Any, save: Any, error: Any, guarantee: Any, given: Any) -> Any:
    save.doubted = save.doubted and not isinstance(error, Conflict)
    return right(save, error, guarantee, given)


@mutant("the successor after a conflict forgets the doubt", "FENCED", "V9", _resolve, "heir")
def _(right: Any) -> Any:
    def heir(save: Any) -> Any:
        one = right(save)
        one.doubted = False
        return one

    return heir


@mutant("a create in doubt is repeated blindly", "PLAIN", "V14", ModelWork, "judge")
@judged
def _(right: Any, save: Any, error: Any, guarantee: Any, given: Any) -> Any:
    return right(save, error, Guarantee.IDEMPOTENT, given)


@mutant("a create in doubt is forgotten", "PLAIN", "V14|V9", Records, "failed")
def _(right: Any) -> Any:
    def failed(self: Any, save: Any, error: Any, verdict: Any) -> Any:
        effects = right(self, save, error, verdict)
        if save.method is Method.CREATE and save.record.current().life is Life.CREATING:
            save.record.current().life = Life.NEW
        return effects

    return failed


@mutant("a create that was sent is forgotten", "IDEMPOTENT", "V14|V9", Record, "sent")
def _(right: Any) -> Any:
    return lambda self, method: None


@mutant("a lost answer is taken for success", "PLAIN", "V9", _attempt, "_doubted")
def _(right: Any) -> Any:
    def doubted(save: Any, operation: Any, error: Any) -> Any:
        return Answer()
        yield

    return doubted


@mutant("a crash of the backend is taken for a refusal", "TRANSACTIONAL", "V9", _attempt, "_doubted")
def _(right: Any) -> Any:
    def doubted(save: Any, operation: Any, error: Any) -> Any:
        raise Rejected from error
        yield

    return doubted


@mutant("what is read counts as the save's own answer", "FENCED", "V9", _resolve, "_is_ours")
def _(right: Any) -> Any:
    return lambda save, theirs: True


@mutant("cancel() of a sent save reports success", "PLAIN", "V9", Ledger, "cancel")
def _(right: Any) -> Any:
    def cancel(self: Any, save: Any) -> Any:
        if save.state is SaveState.IN_FLIGHT:
            save.state = SaveState.QUEUED
        return right(self, save)

    return cancel


@mutant("what was cancelled is sent all the same", "PLAIN", "V|cannot|Error", Machine, "settle_queued")
def _(right: Any) -> Any:
    return lambda self, save, outcome, **given: []


# Nothing is lost


@mutant("a superseded handle is forgotten", "PLAIN", "V15|V7|V5", Ledger, "supersede")
def _(right: Any) -> Any:
    def supersede(self: Any, older: Any, newer: Any) -> Any:
        effects = right(self, older, newer)
        newer.replaced.clear()
        return effects

    return supersede


@mutant("an attempted save is replaced", "PLAIN", "V|DE1|cannot|KeyError", _admission, "replaceable")
def _(right: Any) -> Any:
    return lambda older, newer: older.facts is newer.facts and older.outcome is None


@mutant("a full queue drops the oldest", "PLAIN", "V5|KeyError", Records, "_refuse_too_many")
def _(right: Any) -> Any:
    def refuse(self: Any, save: Any, chain: Any) -> None:
        if len(chain.saves) >= 3 and save.binding.binding.max_pending == 3:
            oldest = next((one for one in chain.saves.values() if one.state is SaveState.QUEUED), None)
            if oldest is not None:
                del chain.saves[oldest.place]

    return refuse


@mutant("a failure takes the queue with it", "PLAIN", "V5|V10|KeyError", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        if given is Input.FAIL:
            for place in [place for place in save.chain.saves if place != save.place]:
                del save.chain.saves[place]
        return right(self, save, given, halt=halt)

    return settle


@mutant("settled in silence", "PLAIN", "V5|V10|V15|Stuck", Machine, "_settle")
def _(right: Any) -> Any:
    return lambda self, save, given, **how: right(self, save, given, **how)[1:]


@mutant("callbacks are called twice", "PLAIN", "V7", Handle, "_call_all")
def _(right: Any) -> Any:
    return lambda self, callbacks: [*right(self, callbacks), *right(self, callbacks)]


@mutant("a receiver's exception settles nothing", "PLAIN", "own bug|V5|V15", events, "notify")
def _(right: Any) -> Any:
    def notify(receivers: Any, event: Any) -> None:
        for receiver in receivers:
            receiver(event)

    return notify


@mutant("a re-entrant save is lost", "PLAIN", "V5", Machine, "fill")
def _(right: Any) -> Any:
    def fill(self: Machine, save: Any) -> Any:
        effects = right(self, save)
        if save.chain.finishing is not None:
            save.chain.saves.pop(save.place, None)
        return effects

    return fill


@mutant("a chain that is told of is never let go", "PLAIN", "V10|V15|Stuck", Machine, "released")
def _(right: Any) -> Any:
    return lambda self, chain: []


# Parents


@mutant("a parent's failure is ignored", "PLAIN", "DE1", _intake, "lost")
def _(right: Any) -> Any:
    return lambda save, parent: None


@mutant("the end of a parent is told to nobody", "PLAIN", "V15", Records, "parent_ended")
def _(right: Any) -> Any:
    return lambda self, child, parent, error: []


# Objects


@mutant("a merged answer overwrites an edit", "TRANSACTIONAL", "V13", _answer, "assign_answer")
def _(right: Any) -> Any:
    return lambda *args, **given: right(*args, **{**given, "discard": True})


@mutant("what was sent does not become the base", "PLAIN", "V12", Facts, "confirm")
def _(right: Any) -> Any:
    return lambda self, sent, answered, version: right(self, {} if self.base else sent, answered, version)


@mutant("a coalesced patch forgets what the one before it named", "PLAIN", "V4", _admission, "absorb")
def _(right: Any) -> Any:
    def absorb(older: Any, newer: Any) -> None:
        named = newer.update_fields
        right(older, newer)
        newer.update_fields = named and newer.update_fields and named

    return absorb


@mutant("the version is forgotten after a doubt", "FENCED", "V3", Facts, "forget")
def _(right: Any) -> Any:
    def forget(self: Facts, carried: Any, wanted: Any) -> None:
        right(self, carried, wanted)
        self.version = None

    return forget


@mutant("what has failed becomes the base", "PLAIN", "V12|V13", Facts, "refuse")
def _(right: Any) -> Any:
    def refuse(self: Facts, values: Any) -> None:
        right(self, values)
        self.base = self.base and {**self.base, **values}

    return refuse


@mutant("an answer is merged into another object of the same thing", "PLAIN", "V13|V12", _answer, "_assign")
def _(right: Any) -> Any:
    firsts: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def assign(save: Any, assign: Any) -> Any:
        first = firsts.setdefault(save.record.current(), weakref.ref(save.model))()
        return assign(save.model if first is None else first)

    return assign


@mutant("where both have changed it, ours is taken", "FENCED", "V3", _resolve, "rebased")
def _(right: Any) -> Any:
    def rebased(ours: Any, changed: Any, base: Any, theirs: Any) -> Any:
        merged = right(ours, changed, base, theirs)
        return ours if merged is None else merged

    return rebased


@mutant("what is given up for lack of time is reported as saved", "PLAIN", "V9", Machine, "give_up")
def _(right: Any) -> Any:
    def give_up(self: Machine, save: Any, outcome: Outcome, *, halt: bool) -> Any:
        return right(self, save, outcome if halt else Outcome.SAVED, halt=halt)

    return give_up


KNOWN: dict[str, int] = {
    "a retry looks up the version again": 20,
    "a retry is bound anew": 30,
    "a new key for a retry by hand": 3,
    "a retry by hand takes a new snapshot": 359,
    "a successor has the key of the one before it": 28,
    "the version of an answer is not taken": 7,
    "the snapshot is taken late": 7,
    "the next one starts before the first has settled": 8,
    "a pause is forgotten": 5,
    "a halt lets followers through": 34,
    "the next one starts before callbacks have run": 20,
    "a child does not wait for its parents": 11,
    "last in, first out": 7,
    "the order of the queue is reversed at a retry": 30,
    "a retry by hand goes to the tail": 12,
    "every refresh goes to the front": 3,
    "the successor after a conflict goes to the tail": 20,
    "nothing halts": 1,
    "a lane's pause is forgotten": 1,
    "a delete does not wait for the create": 31,
    "two objects of one thing have two chains": 94,
    "clear() frees the place in flight": 1880,
    "an attempt over its time is no longer in flight": 150,
    "an attempt over its time is repeated beside it": 50,
    "a stale completion settles": 2,
    "a late end is tried once more": 50,
    "a late answer is merged": 125,
    "tried again without end": 107,
    "a timer is left": 1,
    "nobody takes back the timer of a lane": 2,
    "a slot of the lane is given back twice": 288,
    "a lane that goes on is not heard": 26,
    "resume() starts nothing": 4,
    "skip() leaves the halt": 1,
    "doubt is taken for failure": 1,
    "failure is taken for success": 8,
    "what is abandoned is reported as failed": 2,
    "doubt is forgotten at the next attempt": 107,
    "a conflict after a doubt is believed": 77,
    "a create in doubt is repeated blindly": 1,
    "a create in doubt is forgotten": 1,
    "a create that was sent is forgotten": 15,
    "a lost answer is taken for success": 4,
    "a crash of the backend is taken for a refusal": 1,
    "what is read counts as the save's own answer": 77,
    "cancel() of a sent save reports success": 9,
    "what was cancelled is sent all the same": 65,
    "a full queue drops the oldest": 32,
    "a failure takes the queue with it": 1,
    "a receiver's exception settles nothing": 150,
    "a re-entrant save is lost": 3,
    "a parent's failure is ignored": 11,
    "the end of a parent is told to nobody": 11,
    "a merged answer overwrites an edit": 1,
    "a coalesced patch forgets what the one before it named": 1028,
    "the version is forgotten after a doubt": 72,
    "what has failed becomes the base": 18,
    "an answer is merged into another object of the same thing": 583,
    "where both have changed it, ours is taken": 8,
    "what is given up for lack of time is reported as saved": 68,
    "the successor after a conflict forgets the doubt": 15534,
}
"""Seeds at which they fell, if not at 0. One of them is so rare that no short run would find it again."""
