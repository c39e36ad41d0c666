"""Admission: which thing a save is of, whether it may be accepted, and where it stands in line.

The upper half of :class:`~chained_models._records.Records`; every method is called with the dispatcher's lock held, returns
effects, and runs no code of the user's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ._coalescing import absorb, replaceable
from ._dependencies import refuse_own_chain
from ._ledger import Ledger, saves_of
from ._machine import Chain, Effect
from ._merge import Facts
from ._port import Port
from ._record import Life, Record, Verb
from ._states import SaveState
from .exceptions import ChainFull, Deleted, DispatcherClosed, IdentityChanged
from .handle import SaveHandle
from .operation import Answer, Method
from .policies import Coalesce, Outcome

__all__ = ["Admission"]


# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_SAVE, _DELETE, _LIVE, _EVERY = Verb.SAVE, Verb.DELETE, Life.LIVE, Coalesce.EVERY


class Admission(ABC):
    """Takes the saves of one dispatcher's models in."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._machine = ledger.machine

    @abstractmethod
    def accepted(self, save: SaveHandle[Any]) -> None:
        """It has its place in line."""

    @abstractmethod
    def saved(self, save: SaveHandle[Any], answer: Answer) -> list[Effect]:
        """It has succeeded."""

    def enter(
        self, save: SaveHandle[Any], key: Any, identity: Any, *, stored: bool
    ) -> tuple[SaveHandle[Any], list[Effect]]:
        """Let the save, which has its snapshot, take its place in line.

        Args:
            save: The save.
            key: Its chain, if the user chose it; None for its record's own.
            identity: What the model holds as its identity.
            stored: Whether a model that holds an identity is known to be stored.

        Returns:
            The save, or the accepted delete, if this is another one; and the effects.
        """
        line = self._plainly(save, identity)
        if line is None:
            record = self._admit(save, key, identity, stored=stored)
            if record is None:
                return save.record.deletion, []
            line = record.chain_key
        facts = save.facts
        if not save.passes_halt:
            save.before, facts.last = facts.last, save
            if facts.unusual is not None and facts.given:
                save.given, facts.given = facts.given, {}
        if save.passes_halt or save.verb is _DELETE or save.coalesce is not _EVERY:
            self._ledger.reserve(line, save.port.lane, save, front=save.passes_halt)
            return save, self.fill(save)
        effects = self._machine.enter(line, save.port.lane, save)
        self.accepted(save)
        return save, effects

    def _plainly(self, save: SaveHandle[Any], identity: Any) -> Any:
        """The key of the chain that `save` goes to, if it is plain to see that it may; None where :meth:`_admit` must find out.

        Most saves are of a thing that is known to be stored, under the identity that the model holds, and of a class that has
        chosen neither chains, nor a limit, nor to merge saves.
        """
        record = save.record
        if (
            save.verb is not _SAVE
            or not save.binding.plain
            or record.life is not _LIVE
            or record._became is not None
            or record.deletion is not None
            or record.identity != identity
            or identity is None
            or save.after
            or self._machine.options.any
            or self._ledger.closed
        ):
            return None
        if record.unsettled:
            return record.chain_key
        if record.chain_key is not None or record in self._machine.chains:
            return None  # it may be that a save of it has failed and stops that chain
        record.chain_key = record
        return record

    def _admit(self, save: SaveHandle[Any], key: Any, identity: Any, *, stored: bool) -> Record | None:
        """Find out which thing the save is of, and whether it may be accepted; None if it was deleted already."""
        if self._ledger.closed:
            raise DispatcherClosed
        facts = save.facts
        record: Record = facts.record
        # `adopt` has something to find out; else it was found out by an earlier save.
        if record._became is not None or (identity is not None and record.life is Life.NEW and not record.unsettled):
            record = self.adopt(save.port, facts, save.binding.model.type, identity, stored=stored)
        save.record = record
        if identity is not None and record.identity != identity:
            _refuse_another(record, identity)
        if record.deletion is not None or record.life is Life.DELETED:
            if save.verb is not Verb.DELETE:
                raise Deleted(f"{record} was deleted; make a new object to store it again")
            if record.deletion is not None:
                return None
        chains = self._machine.chains
        if not record.unsettled:
            own = record if key is None else key
            record.chain_key = record.line if chains and self._halts(record) else own
        chain = chains.get(record.chain_key)
        if save.after:
            refuse_own_chain(save, record.chain_key)
        # Not one that waits itself: in front, it would keep back what those it waits for may be waiting for.
        if save.verb is Verb.REFRESH and chain is not None and chain.halted is not None and not save.after:
            save.passes_halt = True
        coalesce = save.binding.binding.coalesce
        if self._machine.options.any and (options := self._machine.options.of(record.chain_key)):
            coalesce = options.get("coalesce", coalesce)
        if coalesce is not Coalesce.EVERY:
            save.coalesce = coalesce
        if chain is not None and not save.passes_halt:
            self._refuse_too_many(save, chain)
        return record

    def _refuse_too_many(self, save: SaveHandle[Any], chain: Chain) -> None:
        binding, options = save.binding.binding, self._machine.options.of(chain.key)
        most = options.get("max_pending", binding.max_pending)
        if most is None or len(chain.saves) < most:
            return
        last = chain.saves[next(reversed(chain.saves))]
        if save.coalesce is Coalesce.LATEST and replaceable(last, save):
            return  # it will take a place that is there
        full = ChainFull(  # no identity in it: how one is written is the user's code, and this is said under the lock
            f"{len(chain.saves)} saves of this {save.record.label}'s chain have not settled, and max_pending={most}; wait for "
            "one of them, or choose overflow=Overflow.BLOCK or coalesce=Coalesce.LATEST"
        )
        full.overflow = options.get("overflow", binding.overflow)
        raise full

    def _halts(self, record: Record) -> bool:
        """Whether a failed save of `record` stops its chain: it may be retried there, so what follows waits there too."""
        chain = self._machine.chains.get(record.line)
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
                known = port.record(facts, model_type, identity, stored=stored)
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
        if effects is not None:
            return self._ledger.counted(effects)
        effects = self._ledger.fill(save)
        if save.coalesce is Coalesce.LATEST:
            effects += self._take_places(save)
        return effects

    def _take_places(self, save: SaveHandle[Any]) -> list[Effect]:
        """Let `save` take the place of the one before it; a delete, of all writes before it."""
        effects: list[Effect] = []
        record = save.record.current()
        while save.state is SaveState.QUEUED and (older := _before(save)) is not None and replaceable(older, save):
            patches = save.verb is Verb.PATCH
            self._ledger.gone.append(older.snapshot)
            absorb(older, save)
            record.patches += (save.verb is Verb.PATCH) - patches
            effects += self._ledger.supersede(older, save)
            if save.verb is not Verb.DELETE:
                break
        return effects

    def _nothing_stored_yet(self, save: SaveHandle[Any]) -> list[Effect] | None:
        """A delete of what was never sent: its saves are cancelled, and it is done without a request. None otherwise."""
        record, chain = save.record.current(), save.chain
        assert chain is not None
        if record.life is not Life.NEW:
            return None
        others = [one for one in saves_of(chain) if one is not save and one.record.current() is record]
        if any(one.state is not SaveState.QUEUED for one in others):
            return None
        if record.identity is not None and all(one.verb is Verb.REFRESH for one in others):
            return None  # nothing of ours would have created it, so it may be there
        effects: list[Effect] = []
        for one in reversed(others):  # the first one last: it may be what keeps the others from starting
            effects = [*self._machine.settle_queued(one, Outcome.CANCELLED), *effects]
        effects += self._machine.settle_queued(save, Outcome.SAVED)
        self.saved(save, Answer())
        return effects

    def identify(self, port: Any, facts: Facts, model_type: type, identity: Any) -> list[Effect]:
        """The user says under which identity the object is stored."""
        record = facts.record.current()
        _refuse_another(record, identity)
        effects: list[Effect] = []
        if record.identity is None and (known := port.identify(facts, record, model_type, identity)) is not None:
            effects = self._join(record, known)
        record.current().confirmed(Method.READ)
        return effects

    def _join(self, record: Record, known: Record) -> list[Effect]:
        """`record` has become `known`: what of it is queued goes on in the chain of `known`, as does a pause or a halt."""
        chains = self._machine.chains
        self._machine.options.join(record, known)
        chain = chains.get(record.chain_key) or chains.get(record)
        if chain is None:
            return []
        other = chains.get(known.chain_key) or chains.get(known)
        if other is chain:
            return []
        if chain.key is record:
            other = self._machine.join(chain, known if other is None else other.key)
        known.chain_key = chain.key if other is None else other.key
        if other is None or other is chain:
            return []
        waiting = (SaveState.PREPARING, SaveState.QUEUED)
        mine = [one for one in saves_of(chain) if one.state in waiting and one.record.current() is known]
        # Only if there is something: `adopt` has nowhere to put effects, and without moves there are none of ours.
        return self._machine.move_to(other, mine) if mine else []


def _before(save: SaveHandle[Any]) -> SaveHandle[Any] | None:
    """The one that stands right before `save` in its chain, if any."""
    assert save.chain is not None
    saves: Any = reversed(save.chain.saves.values())
    for one in saves:
        if one is save:
            break
    before: SaveHandle[Any] | None = next(saves, None)
    return before


def _refuse_another(record: Record, identity: Any) -> None:
    if identity is not None and record.identity is not None and record.identity != identity:
        raise IdentityChanged(f"{record} is stored under this identity and keeps it; make a new object for another")
