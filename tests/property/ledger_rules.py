"""Whatever can happen to a Ledger: real handles, real records, and a server of which only the truth is kept.

The rules of one walk are those of a dispatcher; what is checked is what chains alone do not know: one write of one thing at
a time (V1), one create for each thing (V14), what outcomes mean (V9), that everything is counted, ends and is ended once, and
that refused credentials are renewed once for all, with nothing sent meanwhile (RE4). Coalescing and dependencies have rules of
their own, in `waiting_rules`.
"""

from __future__ import annotations

from contextvars import Context
from random import Random
from types import SimpleNamespace
from typing import Any

from chained_models._answer import heir
from chained_models._lane import Lane, LaneState, Renew
from chained_models._ledger import Ledger
from chained_models._machine import Effect, Settled, Start, Together, Wake
from chained_models._merge import Facts
from chained_models._model_work import ModelWork
from chained_models._port import Port
from chained_models._record import Record, Verb
from chained_models._resolve import Resolved
from chained_models.binding import Binding
from chained_models.exceptions import (
    Conflict,
    Deleted,
    Gone,
    IdentityChanged,
    InDoubt,
    MissingIdentity,
    NotApplied,
    Rejected,
    Unauthenticated,
    Unavailable,
    UsageError,
)
from chained_models.handle import SaveHandle
from chained_models.operation import Answer, Guarantee, Method
from chained_models.policies import Coalesce, OnFailure, Outcome, RetryPolicy, Ruling

from .waiting_rules import WaitingRules

FAILURES = (Rejected, Conflict, Gone, Unavailable, Unavailable, InDoubt, InDoubt, Unauthenticated, ValueError)
SURELY_NOT = (Rejected, Conflict, Gone, Unavailable, Unauthenticated)
RESOLVABLE = (Method.UPDATE, Method.PATCH, Method.DELETE)
HOST: Any = None


class Thing:
    """An object of the user's: new, or of a known identity."""

    def __init__(self, identity: int | None) -> None:
        self.facts = Facts(Record("Thing"))
        self.identity = identity


def writes(save: SaveHandle[Any]) -> bool:
    """Whether it may change something."""
    return save.method not in (None, Method.READ)


class Attempt:
    """One attempt that runs."""

    def __init__(self, save: SaveHandle[Any], token: int, error: BaseException | None) -> None:
        self.save, self.token, self.error = save, token, error


class LedgerRules:
    """One ledger, one backend, a few objects."""

    def __init__(self, random: Random, *, gathers: bool = False) -> None:
        self.random = random
        self.ledger = Ledger()
        self.work = ModelWork(self.ledger)
        self.guarantee = random.choice((Guarantee.PLAIN, Guarantee.IDEMPOTENT))
        self.port = Port(LaneState(Lane(max_in_flight=random.choice((1, 2, 8)))), None, self)
        self.port.gathers = gathers
        if gathers:
            self.port.lane.lane.max_in_flight = 1
        self.batches = 0
        options = Binding(coalesce=random.choice(list(Coalesce)))
        self.binding: Any = SimpleNamespace(model=SimpleNamespace(type=Thing), binding=options)
        self.waiting = WaitingRules(random)
        self.things = [Thing(None), Thing(None), Thing(7), Thing(7), Thing(8)]
        self.accepted: list[SaveHandle[Any]] = []
        self.unfilled: list[SaveHandle[Any]] = []
        self.running: list[Attempt] = []
        self.lost: list[Attempt] = []
        self.wakes: list[tuple[SaveHandle[Any], int]] = []
        self.releases: list[SaveHandle[Any]] = []
        self.ended: set[SaveHandle[Any]] = set()
        self.maybe: set[SaveHandle[Any]] = set()
        """Saves that may have been applied."""
        self.forgiven: set[SaveHandle[Any]] = set()
        """Creates in doubt that the user has repeated by `force_insert`."""
        self.created: dict[str, int] = {}
        """Idempotency key of every create that was applied, and the identity it got."""
        self.can_renew = random.random() < 0.7
        self.failures = list(FAILURES) + random.choice((0, 0, 0, 20)) * [Unauthenticated]
        self.renewals: list[Renew] = []
        """Those that run; the last one may be all that anybody waits for."""
        self.older = 0
        """Attempts up to this token may have been sent with older credentials."""
        self.fresh: int | None = None
        """Attempts with a higher token than this were sent with renewed credentials, of which none was accepted yet."""
        self.numbers = iter(range(100, 10_000))

    # Carrying out

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(save, token):
                    self.starts(save, token)
                case Together(starts):
                    self.batches += 1
                    for one in starts:
                        assert not one.save.doubted, f"V3: {one.save} was in doubt, and is in a batch"
                        self.starts(one.save, one.token)
                case Wake(save, token, _):
                    self.wakes.append((save, token))
                case Settled(save, release):
                    self.ends(save, release=release)
                case Renew():
                    assert self.can_renew and not self.port.lane.renewing.keys() - {effect.token}, "RE4: renewed twice"
                    assert self.fresh is None, "RE4: renewed again although nothing was accepted since"
                    self.renewals.append(effect)

    def starts(self, save: SaveHandle[Any], token: int) -> None:
        assert save.outcome is None, f"V6: {save} is sent after it settled"
        assert not self.port.lane.renewing, f"RE4: {save} is sent while credentials are renewed"
        assert not self.port.lane.paused, f"RE4: {save} is sent although its lane is paused"
        record = save.record.current()
        beside = [other.save for other in self.running if other.save.record.current() is record]
        assert not beside, f"V1: {save} runs beside {beside}"
        earlier = [
            one for one in self.accepted if one.outcome is None and one.record.current() is record and one is not save
        ]
        first = (
            save.attempts > 1
            or not any(self.waiting.place(one) < self.waiting.place(save) for one in earlier)
            or save.passes_halt
            or save.idempotency_key != save.id
            or save.replaced  # it went to the front, as is looked at there
        )
        assert first, f"V2: {save} overtakes one of {earlier}"
        halted = [one.halted for one in self.ledger.machine if one.halted is not None and one.halted.record is record]
        assert save.passes_halt or not halted, f"V2: {save} is sent although {halted} stops its chain"
        self.waiting.starts(save)
        error = save.orphaned
        if save.operation is None and error is None:
            try:
                method = record.method(save.verb, force_insert=save.force_insert)
            except MissingIdentity as missing:
                error = missing
            else:
                version = self.random.choice((None, 3))
                save.operation = None if method is None else SimpleNamespace(version=version, method=method)  # type: ignore[assignment]
        if save.method is Method.CREATE:
            stored = {one for one in self.accepted if self.may_have_created(one) and one.record.current() is record}
            if save.force_insert:  # the user has ended the doubt
                self.forgiven |= stored
            beside = [one for one in stored - self.forgiven if one.idempotency_key != save.idempotency_key]
            assert not beside, f"V14: {save} creates beside {beside}"
        if save.method is not None and error is None:
            record.sent(save.method)
        self.running.append(Attempt(save, token, error))

    def may_have_created(self, save: SaveHandle[Any]) -> bool:
        return save.method is Method.CREATE and (save.outcome is Outcome.SAVED or save in self.maybe)

    def ends(self, save: SaveHandle[Any], *, release: bool) -> None:
        assert save not in self.ended, f"V7: {save} ends twice"
        self.ended.add(save)
        outcome = save.outcome
        assert outcome is not None, f"V7: {save} has no outcome"
        assert (save.error is not None) is (outcome in (Outcome.FAILED, Outcome.ABANDONED)), f"V9: {save}, {save.error}"
        assert outcome is not Outcome.FAILED or save not in self.maybe, f"V9: {save}, yet it may have been applied"
        if outcome is Outcome.SUPERSEDED:
            self.waiting.superseded(save, self.accepted)
        if release:
            self.releases.append(save)
        else:
            self.ledger.finishing.discard(save.seq)

    # Steps

    def pick(self, items: list[Any]) -> Any:
        return self.random.choice(items)

    def accept(self) -> None:
        thing = self.pick(self.things)
        verb = self.pick([Verb.SAVE, Verb.SAVE, Verb.SAVE, Verb.PATCH, Verb.REFRESH, Verb.DELETE])
        if self.ask(thing, verb, self.pick([None, None, "cart"])) is not None and self.random.random() < 0.8:
            self.fill()

    def ask(self, thing: Thing, verb: Verb, key: str | None = None) -> SaveHandle[Any] | None:
        """Reserve a place; None if there is none to be had."""
        save: SaveHandle[Any] = SaveHandle(
            HOST, self.work, thing, verb, self.port, None, thing.facts, self.binding, 4.0, Context(), None
        )
        save.policy = RetryPolicy(attempts=3, timeout=16)
        save.on_failure = self.pick([None, None, OnFailure.HALT, OnFailure.CONTINUE])
        save.force_insert = verb is Verb.SAVE and thing.identity is None and self.random.random() < 0.05
        record = thing.facts.record.current()
        identity = record.identity if thing.identity is None else thing.identity
        handles = [one for one in self.accepted if one not in self.unfilled]  # of the others nobody has one yet
        try:
            earlier = self.waiting.ask(save, handles, lambda: self.reserve(save, key, identity))
        except Deleted:
            self.things[self.things.index(thing)] = Thing(thing.identity)
            return None
        except IdentityChanged:
            raise AssertionError("V9: the identity of a thing has changed") from None
        if earlier is not None:
            assert earlier.verb is Verb.DELETE and earlier.outcome is None, f"V7: {earlier} bars another delete"
            return None
        self.accepted.append(save)
        self.unfilled.append(save)
        return save

    def reserve(self, save: SaveHandle[Any], key: str | None, identity: Any) -> SaveHandle[Any] | None:
        """As a call does it: a place now, and what stands there later. A save of a model does both in one."""
        record = self.work._admit(save, key, identity, stored=True)
        if record is None:
            earlier: SaveHandle[Any] = save.record.deletion
            return earlier
        self.ledger.reserve(record.chain_key, save.port.lane, save, front=save.passes_halt)
        return None

    def fill(self) -> None:
        if self.unfilled:
            save = self.unfilled.pop(self.random.randrange(len(self.unfilled)))
            self.carry_out(self.work.fill(save))

    def withdraw(self) -> None:
        if self.unfilled:
            save = self.unfilled.pop()
            self.accepted.remove(save)
            self.carry_out(self.ledger.withdraw(save))

    def finish(self) -> None:
        if self.running:
            self.report(self.pick(self.running), ok=self.random.random() < 0.6)

    def report(self, attempt: Attempt, *, ok: bool) -> None:
        save, error, answer = attempt.save, attempt.error, None
        (self.running if attempt in self.running else self.lost).remove(attempt)
        if error is None and (ok or save.method is None):
            answer = self.applied(save)
        elif error is None:
            error = self.pick(self.failures)()
            if isinstance(error, Conflict) and save.method in RESOLVABLE and self.random.random() < 0.5:
                error = self.resolved(save, error)
            elif type(error) is Unavailable and self.can_prove(save) and self.random.random() < 0.3:
                error = NotApplied()
                self.maybe -= {one for one in self.maybe if one.idempotency_key == save.idempotency_key}
            if not isinstance(error, SURELY_NOT) and writes(save):
                self.maybe.add(save)
                if self.random.random() < 0.5:
                    self.applied(save)
        attempts, paused, renewing = save.attempts, self.port.lane.paused, bool(self.port.lane.renewing)
        fresh = self.fresh is not None and attempt.token > self.fresh
        effects, verdict, current = self.ledger.completed(
            save, attempt.token, answer, error, self.guarantee, self.random.random(), can_renew=self.can_renew
        )
        if current and answer is not None and fresh:
            self.fresh = None
        if current and verdict is not None and verdict.ruling is Ruling.HOLD:
            again = save.attempts == attempts  # it has been sent again already
            assert save.attempts == attempts - 1 or again, f"RE4: {save} has used up an attempt"
            renews = any(isinstance(effect, Renew) for effect in effects)
            if fresh and not paused:
                assert self.port.lane.paused, f"RE4: {save} was refused a second time, and its lane goes on"
            elif not paused and not renewing:
                newer = attempt.token > self.older
                assert renews is (newer and self.can_renew), (
                    f"RE4: {save} was refused, and what is done about it is wrong"
                )
                assert self.port.lane.paused is (newer and not self.can_renew), (
                    f"RE4: {save} pauses its lane, or fails to"
                )
            if self.port.lane.paused and not paused:
                self.older, self.fresh = self.ledger.machine.last_token, None
        if save.superseded_by is not None and save not in self.ended:
            assert save.superseded_by.chain.head is save.superseded_by, f"V2: {save.superseded_by} has lost the place"
            self.accepted.append(save.superseded_by)
            self.maybe |= {save.superseded_by} if save in self.maybe else set()
        self.carry_out(effects)

    def renewal_ends(self) -> None:
        if self.renewals:
            renew = self.renewals.pop(self.random.randrange(len(self.renewals)))
            waited_for, renewed = renew.token in self.port.lane.renewing, self.random.random() < 0.7
            effects = self.ledger.renewed(self.port, renew.token, renewed=renewed)
            assert (effects is None) is not waited_for, "RE4: a renewal that was given up counts"
            if waited_for:
                assert renewed or self.port.lane.paused, "RE4: it was not renewed, and the lane goes on"
                started = [len(e.starts) if isinstance(e, Together) else isinstance(e, Start) for e in effects or ()]
                self.older = self.ledger.machine.last_token - sum(started)
                self.fresh = self.older if renewed else None
            self.carry_out(effects or [])

    def can_prove(self, save: SaveHandle[Any]) -> bool:
        """Whether the server knows for sure that it has not done this, and will not."""
        running = [one for one in self.lost if one.save.idempotency_key == save.idempotency_key]
        return writes(save) and save.idempotency_key not in self.created and not running

    def resolved(self, save: SaveHandle[Any], conflict: Conflict) -> Resolved:
        """It is to be done on top of what is stored, as another save."""
        successor = heir(save)
        successor.rounds = save.rounds + 1
        self.waiting.follows(successor, save)
        return Resolved(conflict, successor)

    def applied(self, save: SaveHandle[Any]) -> Answer:
        """The server does it."""
        if save.method is not Method.CREATE:
            return Answer()
        record, key = save.record.current(), save.idempotency_key
        if key not in self.created:
            # Once in a while the server says that it has this thing already.
            taken = self.random.random() < 0.2 and 7 not in self.created.values()
            self.created[key] = 7 if taken and record.identity is None else next(self.numbers)
        return Answer(identity=record.identity or self.created[key])

    def release(self) -> None:
        if self.releases:
            save = self.releases.pop(self.random.randrange(len(self.releases)))
            assert save.chain is not None
            self.carry_out(self.ledger.machine.released(save.chain))
            self.ledger.finishing.discard(save.seq)

    def wake(self) -> None:
        if self.wakes:
            self.carry_out(self.ledger.machine.woke(*self.wakes.pop(self.random.randrange(len(self.wakes)))))

    def look(self) -> None:
        """Time passes, and somebody looks."""
        self.ledger.machine.now += self.pick([1.0, 16.0])
        before = {attempt.save: attempt for attempt in self.running}
        self.maybe |= {save for save in before if writes(save) and self.over(save)}
        self.carry_out(self.ledger.overdue(self.port.lane, {save.seq: self.guarantee for save in before})[0])
        for save, attempt in before.items():
            if save.outcome is not None:
                self.running.remove(attempt)
                self.lost.append(attempt)

    def over(self, save: SaveHandle[Any]) -> bool:
        return self.ledger.machine.now >= save.started + save.policy.timeout - save.spent

    def late_end(self) -> None:
        if self.lost:
            self.report(self.pick(self.lost), ok=self.random.random() < 0.7)

    def cancel(self) -> None:
        if self.accepted:
            save = self.pick(self.accepted)
            attempted = save.attempts > 0
            effects = self.ledger.cancel(save)
            assert effects is None or not attempted, f"V9: {save} was cancelled after it was sent"
            self.carry_out(effects or [])

    def tell(self) -> None:
        self.waiting.tell(self.work, self.carry_out, self.ended)

    def update(self) -> None:
        """Coalesce, or not, in one chain."""
        if self.accepted:
            key = self.pick(self.accepted).record.current().line
            self.ledger.machine.update(key, {"coalesce": self.pick(list(Coalesce))})

    def clear(self) -> None:
        self.change(self.ledger.clear)

    def pause(self) -> None:
        if self.accepted:
            self.ledger.machine.pause(self.pick(self.accepted).record.current().line, self.port.lane)

    def resume(self) -> None:
        self.port.lane.lane.resume()
        self.carry_out(self.ledger.machine.lane_resumed(self.port.lane))
        self.change(self.ledger.machine.resume)

    def skip(self) -> None:
        self.change(self.ledger.machine.lift)

    def change(self, decide: Any) -> None:
        if chains := list(self.ledger.machine):
            self.carry_out(decide(self.pick(chains)))

    def retry(self) -> None:
        halted = [chain for chain in self.ledger.machine if chain.halted is not None]
        if halted:
            chain = self.pick(halted)
            try:
                line = self.work.line(chain.halted, chain)
            except UsageError:
                return
            successor = self.work.successor(chain.halted)
            if chain.halted in self.maybe:
                self.maybe.add(successor)
            self.accepted.append(successor)
            chain.halted.retried_by = successor
            self.waiting.sent_again(successor, chain.halted)
            self.carry_out(self.ledger.retry(chain, successor, line))

    def give_up_all(self) -> None:
        """Close the dispatcher, or lose its loop."""
        saves: list[Any] = [save for chain in self.ledger.machine for save in chain.saves.values()]
        self.maybe |= {attempt.save for attempt in self.running if writes(attempt.save)}
        open_ones = [save for save in saves if save not in self.unfilled]
        before, self.running = self.running, []
        effects = self.ledger.give_up_all(saves, "closed")
        if self.port.lane.renewing:
            self.fresh = None
        effects += self.ledger.renewals_lost(self.port.lane, None)
        assert not self.port.lane.renewing, "RE4: the lane waits for what will not end"
        self.carry_out(effects)
        assert all(save.outcome is not None for save in open_ones), "V5: something is left"
        self.lost += before

    STEPS = {
        "accept": 12, "fill": 3, "withdraw": 1, "finish": 14, "release": 14, "wake": 6, "look": 1, "late_end": 2,
        "cancel": 1, "tell": 8, "update": 0.5, "clear": 1, "pause": 1, "resume": 4, "skip": 2, "retry": 2, "give_up_all": 0.2,
        "renewal_ends": 4,
    }  # fmt: skip

    # What always holds

    def check(self) -> None:
        left = [save for save in self.accepted if save not in self.ended]
        for save in left:
            record = save.record.current()
            mine = [one for one in left if one.record.current() is record]
            assert record.unsettled == len(mine), f"V5: {record} counts {record.unsettled} saves, not {mine}"
            mine = [one for one in left if one.facts is save.facts]
            assert save.facts.unsettled == len(mine), f"V5: an object counts {save.facts.unsettled} saves, not {mine}"
            assert save.chain is not None and save.chain.saves.get(save.place) is save, f"V5: {save} is in no chain"
        for thing in self.things:
            record = thing.facts.record.current()
            assert record.deletion is None or record.deletion in left, f"V7: a delete that is over bars {record}"
        keys = [save.idempotency_key for save in self.accepted if save.idempotency_key == save.id]
        assert len(keys) == len(set(keys)), "V8: one key for two saves"

    def drain(self) -> None:
        """Once faults stop, everything ends."""
        for _ in range(4 * len(self.accepted) + 20):
            while self.unfilled:
                self.fill()
            self.port.lane.lane.resume()
            self.carry_out(self.ledger.machine.lane_resumed(self.port.lane))
            for chain in self.ledger.machine:
                self.carry_out([*self.ledger.machine.resume(chain), *self.ledger.machine.lift(chain)])
            while self.renewals:
                self.renewal_ends()
            self.port.lane.lane.resume()
            self.carry_out(self.ledger.machine.lane_resumed(self.port.lane))
            for attempt in [*self.lost, *self.running]:
                self.report(attempt, ok=True)
            while self.wakes:
                self.wake()
            while self.releases:
                self.release()
            self.tell()
            self.check()
        left = [save for save in self.accepted if save not in self.ended]
        assert not left and not self.ledger.machine.chains, f"V15: {left} did not end"
        assert not self.port.lane.slots and not self.port.lane.ready, "V10: slots are left"
        assert not self.port.lane.renewing and not self.port.credentials.renewal, "RE4: the lane is held"
        assert not self.ledger.finishing, "V10: something still finishes"
        facts = [thing.facts for thing in self.things]
        assert not any(one.unsettled or one.record.current().unsettled for one in facts), (
            "V5: something is still counted"
        )


def walk(seed: int, steps: int, *, gathers: bool = False) -> int:
    """Take random steps, and drain. Returns how many batches there were."""
    random = Random(seed)
    rules = LedgerRules(random, gathers=gathers)
    weights = [weight * random.choice((0, 1, 1, 3)) for weight in rules.STEPS.values()]
    weights[0] = weights[0] or 6
    for name in random.choices(list(rules.STEPS), weights, k=steps):
        getattr(rules, name)()
        rules.check()
    rules.drain()
    return rules.batches
