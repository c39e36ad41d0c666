"""Ends: what follows when attempts have ended.

The lower half of the :class:`~chained_models._engine.Engine`. In this order: the state moves, the answer is merged, receivers
are called, the handle settles, and the next attempt starts.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from random import random
from typing import Any

from ._announcer import Announcer
from ._deciding import Deciding
from ._jobs import Ended, Jobs, raise_interrupt, start
from ._ledger import Ledger
from ._machine import Chain, Effect, Idle, Settled
from ._merge import Merged
from ._vigil import Vigil
from ._waiting import Patience
from .drivers import Drivers
from .events import EventName
from .exceptions import Unauthenticated
from .handle import Handle
from .operation import Answer, Guarantee
from .policies import Outcome, Ruling, Verdict

__all__ = ["Ends"]

logger = logging.getLogger("chained_models")

_NOT_ASKED = Guarantee.PLAIN, False

_EVENT_FOR: dict[Outcome, EventName] = {
    Outcome.SAVED: "sync",
    Outcome.FAILED: "error",
    Outcome.ABANDONED: "abandoned",
    Outcome.SUPERSEDED: "superseded",
    Outcome.CANCELLED: "cancelled",
}


class Ends(ABC):
    """Takes the ends of attempts to what follows from them.

    Args:
        drivers: Where the work runs.
        announcer: Tells receivers.
        stuck_after: Seconds after which a chain that cannot go on by itself says so.
    """

    def __init__(self, drivers: Drivers, announcer: Announcer, stuck_after: float) -> None:
        self.ledger = Ledger()
        self.deciding = Deciding(self.ledger, drivers.now)
        self.announcer = announcer
        self.patience = Patience(drivers, announcer)
        self.vigil = Vigil(self.deciding, self.ledger, stuck_after, partial(announcer.tell, "stuck"))
        self.random = random
        """Gives numbers from 0 up to 1, to spread retries."""

    @abstractmethod
    def _carry_out(self, effects: list[Effect]) -> Jobs:
        """Do what was decided; returns the jobs that follow when all receivers have run."""

    def _ended(self, ended: Iterable[Ended], others: list[Ended]) -> Jobs:
        """Attempts are over that were made as one: plain ends land, all others are completed with `others`."""
        free: list[Chain] = []
        others += [
            one for one in ended if one.answer is None or self._landed(one.save, one.token, one.answer, free) is None
        ]
        return self._completed(others, free)

    def _landed(
        self, save: Handle[Any], token: int, answer: Answer, free: list[Chain] | None = None
    ) -> list[Effect] | None:
        """The plain end: it is saved, there is nobody to be told, and nothing to be assigned.

        Args:
            save: What was attempted.
            token: Which attempt.
            answer: What it was answered.
            free: If it was made with others: their chains, to go on together. That of this one is added.

        Returns:
            The effects; None if it is not so plain, and nothing has happened.
        """
        if (save.delivery is not None and not self.announcer.here(save)) or self.announcer.hears(save):
            return None
        if save.calls_back:
            return None
        work = save.work
        with work.latch(save):
            try:
                lands = work.lands(save, token, answer)
            except Exception:  # noqa: BLE001 - a model may do what it likes; it is met again where all of it is merged
                return None
            except BaseException as interrupt:  # noqa: BLE001 - raised again when the chain has gone on
                save.interrupt = interrupt
                return None
            if not lands:
                return None
            with self.deciding as ledger:
                effects = ledger.landed(save, token, answer, free)
        if effects is None:
            return None
        save.tell()
        self.patience.changed()
        return effects

    def _completed(self, ended: Sequence[Ended], free: Sequence[Chain] = ()) -> Jobs:
        """Attempts have ended: under one passage of the lock, whether it is one or a batch of them.

        The chains of others of the batch, which have landed, go on by it.
        """
        asked = [_NOT_ASKED if one.error is None else self._asked(one.save, one.error) for one in ended]
        effects: list[Effect] = []
        news: list[tuple[Ended, Verdict | None, bool]] = []
        with self.deciding as ledger:
            for one, (guarantee, can_renew) in zip(ended, asked, strict=True):
                more, verdict, current = ledger.completed(*one, guarantee, self.random(), can_renew=can_renew)
                effects += more
                if verdict is not None or not current:
                    news.append((one, verdict, current))
            effects += ledger.machine.go_on(free)
        for one, verdict, current in news:
            save, error = one.save, one.error
            if not current:
                self.announcer.tell("stale", save, error=error)
            elif verdict is not None and verdict.ruling is Ruling.RETRY:
                self.announcer.tell("retry", save, error=error, delay=verdict.delay)
            elif verdict is not None and verdict.ruling is Ruling.HOLD:
                if save.port.lane.paused:
                    logger.warning("%s: the credentials were refused; its lane is paused until resume()", save)
                self.announcer.tell("retry", save, error=error)
                self.patience.changed()
        return self._carry_out(effects)

    @staticmethod
    def _asked(save: Handle[Any], error: BaseException) -> tuple[Guarantee, bool]:
        """What the backend says about a failure, which is asked before the lock is taken."""
        return save.work.guarantee(save), isinstance(error, Unauthenticated) and save.port.can_renew

    def _finish(self, settled: Sequence[Settled]) -> Jobs:
        """Merge, tell, settle, and let the next ones go. Returns the jobs that follow."""
        announcer = self.announcer
        with announcer:
            for one in settled:
                self._settle(one.save)
            chains = [one.save.chain for one in settled if one.release]
            # Whoever flushes waits for the receivers of `idle`, too.
            told = {one.save.seq for one in settled if one.save.work.tells_idle or announcer.hears(one.save)}
            with self.deciding as ledger:
                effects = ledger.machine.released(*chains) if chains else []
                ledger.finishing.difference_update(one.save.seq for one in settled if one.save.seq not in told)
            if told:
                idle = {effect.chain for effect in effects if type(effect) is Idle}
                for one in settled:
                    if one.save.chain in idle and one.release:
                        idle.discard(one.save.chain)
                        announcer.emit("idle", one.save)
                        one.save.work.idle(one.save)
            for one in settled:
                if one.save.chain.active is None:
                    one.save.work.quiet(one.save)
        if told:
            with self.deciding as ledger:
                ledger.finishing -= told
        self.patience.changed()
        return self._carry_out(effects)

    def _settle(self, save: Handle[Any]) -> None:
        """The end of one save: what it moves, who is told, and its handle."""
        outcome = save.outcome
        assert outcome is not None
        merged = self._merge(save, outcome)
        heard = self.announcer.emit(_EVENT_FOR[outcome], save, error=save.error, merged=merged)
        if save.error is not None and not (heard or any(one.awaited for one in (save, *save.replaced))):
            logger.error("%s %s, and nobody listened: %s", save, outcome.value, type(save.error).__name__)
        if outcome is Outcome.SUPERSEDED:
            return  # that one ends when the save does which took its place
        for one in (save, *save.replaced) if save.replaced else (save,):
            try:
                one.settle(save.value, save.error, cancelled=outcome is Outcome.CANCELLED)
            except BaseException as interrupt:  # noqa: BLE001 - of a callback; raised again when the chain has gone on
                save.interrupt = interrupt
        if save.replaced:
            for one in save.replaced:
                one.superseded_by = save  # and of none between, or one handle would keep ten thousand others
            save.replaced = ()

    @staticmethod
    def _merge(save: Handle[Any], outcome: Outcome) -> Merged:
        try:
            return save.work.merge(save, outcome)
        except Exception as error:  # noqa: BLE001 - a model may do what it likes; the write has happened all the same
            logger.warning("%s: the answer could not be merged (%s)", save, type(error).__name__)
        except BaseException as interrupt:  # noqa: BLE001 - raised again when the chain has gone on
            save.interrupt = interrupt
        return Merged()

    def _finish_there(self, settled: Sequence[Settled], behind: Jobs) -> None:
        start([*self._finish(settled), *behind])
        raise_interrupt([one.save for one in settled])
