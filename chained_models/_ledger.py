"""The Ledger: machine and records together, which is all that is decided under the dispatcher's lock.

Every method is called with the lock held, returns effects, and runs no code of the user's. What an end of a save means for
its Record, and for the saves behind it, stands here and nowhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from ._lane import LaneState
from ._machine import Chain, Effect, Machine, Settled
from ._merge import Facts
from ._port import Port
from ._record import Life, Record, Verb
from ._states import SaveState
from .exceptions import (
    Abandoned,
    Conflict,
    Deleted,
    DispatcherClosed,
    Gone,
    IdentityChanged,
    InDoubt,
    Unavailable,
)
from .handle import SaveHandle
from .operation import Answer, Guarantee, Method
from .policies import Outcome, Ruling, Verdict, judge

__all__ = ["Ledger"]


class Ledger:
    """What a dispatcher knows of chains, records and saves."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.closed = False
        self.finishing: set[int] = set()
        """Numbers of saves that have settled and whose receivers still run."""
        # A version-8 UUID: a random prefix for this dispatcher, and the number of the save. uuid4 for each save would cost
        # more than all else that is done for it.
        noise = secrets.token_hex(7)
        self._prefix = f"{noise[:8]}-{noise[8:12]}-8{secrets.token_hex(2)[1:]}-a{secrets.token_hex(2)[1:]}-"

    # Accepting

    def reserve(self, save: SaveHandle[Any], key: Any, identity: Any, *, stored: bool) -> SaveHandle[Any] | None:
        """Take the save's place in line.

        Args:
            save: The save.
            key: Its chain, if the user chose it; None for its record's own.
            identity: What the model holds as its identity.
            stored: Whether a model that holds an identity is known to be stored.

        Returns:
            The handle of the accepted delete, if this is another one; None if the place was taken.
        """
        if self.closed:
            raise DispatcherClosed
        record = save.record = self.adopt(save.port, save.facts, save.binding.model.type, identity, stored=stored)
        _refuse_another(record, identity)
        if record.deletion is not None or record.life is Life.DELETED:
            if save.verb is not Verb.DELETE:
                raise Deleted(f"{record} was deleted; make a new object to store it again")
            if record.deletion is not None:
                earlier: SaveHandle[Any] = record.deletion
                return earlier
        if not record.unsettled and not self._halts(record):
            record.chain_key = record if key is None else key
        chain = self.machine.chains.get(record.chain_key)
        save.passes_halt = save.verb is Verb.REFRESH and chain is not None and chain.halted is not None
        self.machine.reserve(record.chain_key, save.port.lane, save, front=save.passes_halt)
        save.id = save.idempotency_key = f"{self._prefix}{save.seq:012x}"
        record.unsettled += 1
        record.patches += save.verb is Verb.PATCH
        save.facts.unsettled += 1
        if save.verb is Verb.DELETE:
            record.deletion = save
        return None

    def _halts(self, record: Record) -> bool:
        """Whether a failed save of `record` stops its chain: it may be retried there, so what follows waits there too."""
        chain = self.machine.chains.get(record.chain_key)
        halted: Any = None if chain is None else chain.halted
        return halted is not None and halted.record.current() is record

    def adopt(self, port: Port, facts: Facts, model_type: type, identity: Any, *, stored: bool) -> Record:
        """The record that an object stands for, given the identity that it holds now.

        As long as nothing was sent for an object, its identity may still be set by hand; it then shares the record, and so
        the chain, of all objects with that identity.
        """
        record: Record = facts.record.current()
        if identity is not None and record.life is Life.NEW and not record.unsettled:
            if record.identity != identity:
                known = port.record(model_type, record.label, identity, stored=stored)
                if record.identity is None:  # a private one: a pause, or a halt, is of this object and goes along
                    record.merge_into(known)
                    self._join(record, known)
                record = known
            elif stored:
                record.life = Life.LIVE
        facts.record = record
        return record

    def fill(self, save: SaveHandle[Any]) -> list[Effect]:
        """The snapshot is there."""
        effects = self._nothing_stored_yet(save) if save.verb is Verb.DELETE else None
        return self._counted(self.machine.fill(save) if effects is None else effects)

    def withdraw(self, save: SaveHandle[Any]) -> list[Effect]:
        """The snapshot could not be taken."""
        self._settled(save)
        return self._counted(self.machine.withdraw(save))

    def _nothing_stored_yet(self, save: SaveHandle[Any]) -> list[Effect] | None:
        """A delete of what was never sent: its saves are cancelled, and it is done without a request. None otherwise."""
        record, chain = save.record.current(), save.chain
        assert chain is not None
        if record.life is not Life.NEW:
            return None
        others = [one for one in _saves(chain) if one is not save and one.record.current() is record]
        if any(one.state is not SaveState.QUEUED for one in others):
            return None
        if record.identity is not None and all(one.verb is Verb.REFRESH for one in others):
            return None  # nothing of ours would have created it, so it may be there
        effects: list[Effect] = []
        for one in others:
            effects += self.machine.settle_queued(one, Outcome.CANCELLED)
        effects += self.machine.settle_queued(save, Outcome.SAVED)
        self._saved(save, Answer())
        return effects

    # Attempts

    def completed(
        self,
        save: SaveHandle[Any],
        token: int,
        answer: Answer | None,
        error: BaseException | None,
        guarantee: Guarantee,
        random: float,
    ) -> tuple[list[Effect], Verdict | None, bool]:
        """An attempt has ended. Returns the effects, what a failure means, and whether the attempt still counted."""
        machine = self.machine
        verdict = None
        if error is not None:
            spent = save.spent + machine.now - save.started
            verdict = self._judge(save, error, guarantee, spent=spent, attempts=save.attempts, random=random)
        if not machine.is_current(save, token):
            machine.finished(save, token, verdict)
            effects = [] if answer is None else self._adopt_late(save, answer)
            return self._counted([*effects, *machine.lane_resumed(save.port.lane)]), verdict, False
        if verdict is not None and verdict.ruling is Ruling.HOLD:
            save.port.lane.lane.pause()  # first, or the save would be granted its next attempt at once
        more: list[Effect] = []
        if answer is not None:
            more = self._saved(save, answer)
        elif error is not None and verdict is not None and verdict.ruling is Ruling.SETTLE:
            more = self._failed(save, error, verdict)
        effects = machine.finished(save, token, verdict) or []
        return self._counted([*effects, *more]), verdict, True

    def overdue(self, lane: LaneState[Chain], guarantees: dict[int, Guarantee]) -> tuple[list[Effect], float | None]:
        """Give up attempts that are over their whole time; returns the effects and when to look again."""
        expired, next_look = self.machine.overdue(lane)
        effects: list[Effect] = []
        saves: list[Any] = list(expired)
        for save in saves:
            error = InDoubt("the time for all attempts is over, and the last one has not ended")
            effects += self.give_up(save, error, guarantees.get(save.seq, Guarantee.PLAIN))
        return effects, next_look

    def give_up(self, save: SaveHandle[Any], error: BaseException, guarantee: Guarantee) -> list[Effect]:
        """Settle a started save whose attempt has not ended, or whose next one will never start."""
        attempts = save.policy.attempts
        verdict = self._judge(save, error, guarantee, spent=float("inf"), attempts=attempts, random=0.0)
        assert verdict.outcome is not None
        more = self._failed(save, error, verdict)
        return self._counted([*self.machine.give_up(save, verdict.outcome, halt=verdict.halt), *more])

    @staticmethod
    def _judge(
        save: SaveHandle[Any], error: BaseException, guarantee: Guarantee, *, spent: float, attempts: int, random: float
    ) -> Verdict:
        return judge(
            error,
            method=save.method,
            guarantee=guarantee,
            attempts=attempts,
            spent=spent,
            was_in_doubt=save.doubted,
            policy=save.policy,
            on_failure=save.on_failure,
            random=random,
        )

    # What an end means

    def _saved(self, save: SaveHandle[Any], answer: Answer) -> list[Effect]:
        record: Record = save.record.current()
        save.answer = answer
        if save.verb is Verb.DELETE:
            record.confirmed(Method.DELETE)
            save.port.forget(record, save.binding.model.type)
            return []
        if save.method is None:
            return []
        first = record.life is Life.CREATING
        record.confirmed(save.method)
        if answer.identity is None or answer.identity == record.identity:
            return []
        if record.identity is not None:
            if not first:
                return []
            # What the program chose was only a wish; the backend has written it in another way.
            save.port.forget(record, save.binding.model.type)
        return self._identify(save, record, answer.identity)

    def _failed(self, save: SaveHandle[Any], error: BaseException, verdict: Verdict) -> list[Effect]:
        record: Record = save.record.current()
        if verdict.outcome is Outcome.FAILED:
            save.error = error
            if save.method is not None:
                record.refused(save.method)
        else:
            save.error = _abandoned(save, error)
        if verdict.halt:
            return []
        effects: list[Effect] = []
        for one in self._doomed(save, error, verdict):
            one.error = error
            effects += self.machine.settle_queued(one, Outcome.FAILED)
        return effects

    @staticmethod
    def _doomed(save: SaveHandle[Any], error: BaseException, verdict: Verdict) -> list[SaveHandle[Any]]:
        """Queued saves that would meet the same answer, or have lost what they build on."""
        record, facts, chain = save.record.current(), save.facts, save.chain
        assert chain is not None
        versioned = save.operation is not None and save.operation.version is not None
        create_failed = save.method is Method.CREATE and verdict.outcome is Outcome.FAILED

        def doomed(one: SaveHandle[Any]) -> bool:
            if one.state is not SaveState.QUEUED or one.record.current() is not record:
                return False
            if create_failed:
                return one.verb is Verb.PATCH
            if isinstance(error, Gone):
                return one.verb is not Verb.DELETE
            # A refresh is the way out of a conflict.
            return one.facts is facts and one.verb is not Verb.REFRESH

        # Only where there may be some: a queue of 100,000 is not looked through after each of 100,000 failures.
        if not (
            (create_failed and record.patches) or isinstance(error, Gone) or (isinstance(error, Conflict) and versioned)
        ):
            return []
        return [one for one in _saves(chain) if doomed(one)]

    def _identify(self, save: SaveHandle[Any], record: Record, identity: Any) -> list[Effect]:
        """The backend gave the identity. If it is one that already has a chain, both go on in that one."""
        known = save.port.identify(record, save.binding.model.type, identity)
        return [] if known is None else self._join(record, known)

    def identify(self, port: Any, record: Record, model_type: type, identity: Any) -> list[Effect]:
        """The user says under which identity the object is stored."""
        _refuse_another(record, identity)
        effects: list[Effect] = []
        if record.identity is None and (known := port.identify(record, model_type, identity)) is not None:
            effects = self._join(record, known)
        record.current().confirmed(Method.READ)
        return effects

    def _join(self, record: Record, known: Record) -> list[Effect]:
        """`record` has become `known`: what of it is queued goes on in the chain of `known`, as does a pause or a halt."""
        chains = self.machine.chains
        chain = chains.get(record.chain_key) or chains.get(record)
        if chain is None:
            return []
        other = chains.get(known.chain_key) or chains.get(known)
        if other is chain:
            return []
        if chain.key is record:
            other = self.machine.join(chain, known if other is None else other.key)
        known.chain_key = chain.key if other is None else other.key
        if other is None or other is chain:
            return []
        waiting = (SaveState.PREPARING, SaveState.QUEUED)
        mine = [one for one in _saves(chain) if one.state in waiting and one.record.current() is known]
        # Only if there is something: `adopt` has nowhere to put effects, and without moves there are none of ours.
        return self.machine.move_to(other, mine) if mine else []

    def _adopt_late(self, save: SaveHandle[Any], answer: Answer) -> list[Effect]:
        """The late end of an abandoned create still tells the identity, if nothing newer did."""
        record: Record = save.record.current()
        if save.method is not Method.CREATE or not record.in_doubt or answer.identity is None:
            return []
        chain = self.machine.chains.get(record.chain_key)
        active: Any = None if chain is None else chain.active
        if active is not None and active.record.current() is record:
            return []  # a later create is on its way, and it is that one which the object stands for
        record.confirmed(Method.CREATE)
        return self._identify(save, record, answer.identity)

    # Verbs

    def cancel(self, save: SaveHandle[Any]) -> list[Effect] | None:
        """Take out a save that was never attempted; None if it is too late."""
        if save.state is not SaveState.QUEUED:
            return None
        return self._counted(self.machine.settle_queued(save, Outcome.CANCELLED))

    def clear(self, chain: Chain) -> list[Effect]:
        """Take out all that was never attempted, and lift a halt. What is in flight keeps its place."""
        effects: list[Effect] = []
        for save in _saves(chain):
            if save.state is SaveState.QUEUED:
                effects += self.cancel(save) or []
        return [*effects, *self.machine.lift(chain)]

    def retry(self, chain: Chain, successor: SaveHandle[Any]) -> list[Effect]:
        """Send the failed save of a halted chain again, as a new one with the same payload and key."""
        if self.closed:
            raise DispatcherClosed
        record = successor.record.current()
        record.unsettled += 1
        record.patches += successor.verb is Verb.PATCH
        successor.facts.unsettled += 1
        record.chain_key = chain.key
        if successor.verb is Verb.DELETE:
            record.deletion = successor
        effects = self.machine.follow_up(chain, successor)
        successor.id = f"{self._prefix}{successor.seq:012x}"
        return effects

    def give_up_all(self, saves: Sequence[SaveHandle[Any]], cause: str) -> list[Effect]:
        """Settle everything: what was never attempted is cancelled, what was started is given up."""
        effects: list[Effect] = []
        for save in saves:
            if save.state is SaveState.QUEUED:
                effects += self.cancel(save) or []
        # First what waits for its next attempt: giving up one that runs makes room in the lane, and would start it.
        for save in sorted(saves, key=lambda one: one.port.lane.holds(one)):
            if save.state in (SaveState.IN_FLIGHT, SaveState.BACKING_OFF, SaveState.IN_DOUBT):
                surely_not = save.state is SaveState.BACKING_OFF and not save.doubted
                token = save.token
                effects += self.give_up(save, Unavailable(cause) if surely_not else InDoubt(cause), Guarantee.PLAIN)
                save.port.lane.give_back(token)
        return effects

    def _counted(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Settled) and effect.save.seq not in self.finishing:
                self.finishing.add(effect.save.seq)
                self._settled(effect.save)
        return effects

    @staticmethod
    def _settled(save: SaveHandle[Any]) -> None:
        record = save.record.current()
        record.unsettled -= 1
        record.patches -= save.verb is Verb.PATCH
        save.facts.unsettled -= 1
        if record.deletion is save:
            record.deletion = None


def _saves(chain: Chain) -> list[Any]:
    return list(chain.saves.values())


def _refuse_another(record: Record, identity: Any) -> None:
    if identity is not None and record.identity is not None and record.identity != identity:
        raise IdentityChanged(f"{record} is stored under this identity and keeps it; make a new object for another")


def _abandoned(save: SaveHandle[Any], cause: BaseException) -> Abandoned:
    error = Abandoned(f"{save} was abandoned: it is not known whether it was applied ({type(cause).__name__})")
    error.__cause__ = cause
    return error
