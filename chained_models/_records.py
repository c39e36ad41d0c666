"""Records and the ends of saves: what a save's end means for its Record, and for the saves behind it.

The model's half of what is decided under the dispatcher's lock; every method is called with it held, returns effects, and
runs no code of the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ._admission import Admission
from ._answer import sent_by
from ._dependencies import final, latest
from ._ledger import Ledger, saves_of
from ._machine import Chain, Effect
from ._record import Life, Record, Verb
from ._resolve import Resolved
from ._snapshot import MISSING, Snapshot
from ._states import SaveState
from .exceptions import Abandoned, Conflict, Gone, UsageError
from .handle import SaveHandle
from .operation import Answer, Guarantee, Method
from .policies import OnFailure, Outcome, Ruling, Verdict, judge, rule_for

__all__ = ["Records"]


# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_PATCH, _DELETE, _LIVE = Verb.PATCH, Verb.DELETE, Life.LIVE
_NOTHING: Snapshot = MappingProxyType({})


class Records(Admission):
    """The records of one dispatcher's models."""

    tells_idle = False

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.id_of = ledger.id_of
        """The id of the save of that number."""

    # The lock's side of Work

    def judge(
        self,
        save: SaveHandle[Any],
        error: BaseException,
        guarantee: Guarantee,
        *,
        spent: float,
        attempts: int,
        random: float,
    ) -> Verdict:
        """What a failed attempt means: the failure table."""
        if save.orphaned is error:
            rule = rule_for(error, save.on_failure)
            return Verdict(Ruling.SETTLE, outcome=Outcome.FAILED, halt=rule is OnFailure.HALT)
        if isinstance(error, Resolved) and spent < max(save.policy.timeout, save.timeout):
            return Verdict(Ruling.SETTLE, outcome=Outcome.SUPERSEDED, in_doubt=save.doubted)
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

    def line(self, save: SaveHandle[Any], chain: Chain) -> Any:
        """The chain that it halted, unless it has turned out since that the saves of its record stand in another one.

        Raises:
            UsageError: In front of that one it would wait for what stands behind it.
        """
        record = save.record.current()
        key = record.chain_key if record.unsettled else chain.key
        there = self._machine.chains.get(key)
        for parent in map(latest, save.after):
            if parent.chain is there and parent.outcome is None:
                raise UsageError(
                    f"save {save.seq} waits for save {parent.seq}, which is now queued in the same chain, and would go in "
                    "front of it; retry it when that one has ended"
                )
        return key

    def accepted(self, save: SaveHandle[Any]) -> None:
        """It is counted, and a delete bars what would come after it."""
        record = save.record
        if record._became is not None:
            record = record.current()
        record.unsettled += 1
        save.facts.unsettled += 1
        assert save.chain is not None
        record.chain_key = save.chain.key
        if save.verb is _PATCH:
            record.patches += 1
        elif save.verb is _DELETE:
            record.deletion = save

    def settled(self, save: SaveHandle[Any]) -> None:
        """It is counted no more."""
        record = save.record
        if record._became is not None:
            record = record.current()
        record.unsettled -= 1
        if not record.unsettled and record.chain_key is record:
            record.chain_key = None
        save.facts.unsettled -= 1
        if save.verb is _PATCH:
            record.patches -= 1
        elif record.deletion is save:
            record.deletion = None
        if save.after and save.orphaned is None:  # else a retry by hand waits for them again
            self._ledger.gone.append(save.after)
            save.after = ()

    def saved(self, save: SaveHandle[Any], answer: Answer) -> list[Effect]:
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

    def landed(self, save: SaveHandle[Any], answer: Answer) -> None:
        """It is stored, and what was sent is what is known to be stored."""
        operation, facts = save.operation, save.facts
        assert operation is not None
        self.settled(save)
        record = save.record if save.record._became is None else save.record.current()
        record.life = _LIVE
        save._answer = answer
        self._ledger.gone.append(facts.base)
        facts.confirm(sent_by(save) if save.verb is _PATCH else operation.values, _NOTHING, answer.version)
        if facts.last is save:
            facts.last = None
        else:
            save.became = operation.values  # for the snapshot that waits behind it

    def failed(self, save: SaveHandle[Any], error: BaseException, verdict: Verdict) -> list[Effect]:
        record: Record = save.record.current()
        if isinstance(error, Resolved):
            if verdict.outcome is Outcome.SUPERSEDED:
                save.superseded_by = error.successor
                error.successor.replaced = [*save.replaced, save]
                return []
            error = error.conflict
        if isinstance(error, Gone) and save.orphaned is None and save.method is not Method.CREATE:
            record.missing()
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
            effects += self._machine.settle_queued(one, Outcome.FAILED)
        return effects

    def parent_ended(self, child: SaveHandle[Any], parent: Any, error: BaseException | None) -> list[Effect]:
        """One of those that `child` waits for has ended; `error` says why `child` cannot go on, if so.

        Then it fails; but when its turn comes, and not before: where its failure halts the chain, what stands in front of
        it has been sent by then.
        """
        save: SaveHandle[Any] = final(child)
        if save.state is not SaveState.QUEUED or parent not in save.after:
            return []  # cancelled meanwhile, or replaced by a delete, which waits for nobody
        save.orphaned = save.orphaned or error
        return self._ledger.counted(self._machine.arrived(save))

    @staticmethod
    def _doomed(save: SaveHandle[Any], error: BaseException, verdict: Verdict) -> list[SaveHandle[Any]]:
        """Queued saves that would meet the same answer, or have lost what they build on."""
        record, facts, chain = save.record.current(), save.facts, save.chain
        assert chain is not None
        versioned = save.operation is not None and save.operation.version is not None
        creates = save.method is Method.CREATE or (
            save.orphaned is not None and save.verb in (Verb.SAVE, Verb.PATCH) and record.life is Life.NEW
        )
        create_failed = creates and verdict.outcome is Outcome.FAILED

        def doomed(one: SaveHandle[Any]) -> bool:
            if one.state is not SaveState.QUEUED or one.record.current() is not record:
                return False
            if create_failed and one.verb is Verb.PATCH:
                return True
            if save.orphaned is not None:  # without the identity that it still lacks it would be another thing
                return one.facts is facts and _lacks(one, save.slots)
            if create_failed:
                return False
            if isinstance(error, Gone):
                return one.verb is not Verb.DELETE
            # A refresh is the way out of a conflict.
            return one.facts is facts and one.verb is not Verb.REFRESH

        # Only where there may be some: a queue of 100,000 is not looked through after each of 100,000 failures.
        if not (
            (create_failed and record.patches)
            or isinstance(error, Gone)
            or (isinstance(error, Conflict) and versioned)
            or (save.orphaned is not None and save.slots)
        ):
            return []
        return [one for one in saves_of(chain) if doomed(one)]

    def _identify(self, save: SaveHandle[Any], record: Record, identity: Any) -> list[Effect]:
        """The backend gave the identity. If it is one that already has a chain, both go on in that one."""
        known = save.port.identify(save.facts, record, save.binding.model.type, identity)
        return [] if known is None else self._join(record, known)

    def ended_late(self, save: SaveHandle[Any], answer: Answer) -> list[Effect]:
        """The late end of an abandoned create still tells the identity, if nothing newer did."""
        record: Record = save.record.current()
        if save.method is not Method.CREATE or not record.in_doubt or answer.identity is None:
            return []
        chain = self._machine.chains.get(record.chain_key)
        active: Any = None if chain is None else chain.active
        if active is not None and active.record.current() is record:
            return []  # a later create is on its way, and it is that one which the object stands for
        record.confirmed(Method.CREATE)
        return self._identify(save, record, answer.identity)


def _lacks(save: SaveHandle[Any], slots: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether `save` still has, of an attribute that was to be filled, the value that was to be replaced."""
    if save.verb not in (Verb.SAVE, Verb.PATCH):
        return False
    return any(save.snapshot.get(name, MISSING) is about for name, (_, about) in slots.items())


def _abandoned(save: SaveHandle[Any], cause: BaseException) -> Abandoned:
    error = Abandoned(f"{save} was abandoned: it is not known whether it was applied ({type(cause).__name__})")
    error.__cause__ = cause
    return error
