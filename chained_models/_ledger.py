"""The Ledger: the machine, and what is counted beside it, which is all that is decided under the dispatcher's lock.

Every method is called with the lock held, returns effects, and runs no code of the user's. What an end means for the thing
that a save is about is for its :class:`~chained_models._work.Work` to say.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Sequence
from typing import Any

from ._credentials import Refusal
from ._lane import LaneState
from ._machine import Chain, Effect, Machine, Settled
from ._port import Port
from ._states import SaveState
from .exceptions import DispatcherClosed, InDoubt, Unavailable
from .handle import Handle
from .operation import Answer, Guarantee
from .policies import Outcome, Ruling, Verdict
from .protocols import Driver

__all__ = ["Ledger"]


class Ledger:
    """What a dispatcher knows of chains and of all that is queued in them."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.closed = False
        self.finishing: set[int] = set()
        """Numbers of saves that have settled and whose receivers still run."""
        self.gone: list[Any] = []
        """What is let go of when the lock is left, and not before: its end may run code of the user's."""
        # A version-8 UUID: a random prefix for this dispatcher, and the number of the save. uuid4 for each save would cost
        # more than all else that is done for it.
        noise = secrets.token_hex(7)
        self._prefix = f"{noise[:8]}-{noise[8:12]}-8{secrets.token_hex(2)[1:]}-a{secrets.token_hex(2)[1:]}-"

    # Accepting

    def reserve(self, key: Hashable, lane: LaneState[Chain], save: Handle[Any], *, front: bool = False) -> None:
        """Take the save's place in line.

        Raises:
            DispatcherClosed: Nothing is accepted any more.
        """
        if self.closed:
            raise DispatcherClosed
        self.machine.reserve(key, lane, save, front=front)
        save.work.accepted(save)

    def id_of(self, seq: int) -> str:
        """The id of the save of that number. Worked out when it is asked for: kept, it would be a third of a queued save."""
        return f"{self._prefix}{seq:012x}"

    def fill(self, save: Handle[Any]) -> list[Effect]:
        """The snapshot is there."""
        return self.counted(self.machine.fill(save))

    def withdraw(self, save: Handle[Any]) -> list[Effect]:
        """The snapshot could not be taken."""
        save.work.settled(save)
        return self.counted(self.machine.withdraw(save))

    def supersede(self, older: Handle[Any], newer: Handle[Any]) -> list[Effect]:
        """Let `newer`, which is queued, take the place of `older`, which was never attempted and will end as that one does."""
        older.superseded_by = newer
        # One list is handed on, or ten thousand saves in a row would copy it ten thousand times.
        replaced: list[Any] = older.replaced or []
        older.replaced = ()
        replaced += [*newer.replaced, older]
        newer.replaced = replaced
        return self.counted(self.machine.supersede(older, newer))

    # Attempts

    def landed(
        self, save: Handle[Any], token: int, answer: Answer, free: list[Chain] | None = None
    ) -> list[Effect] | None:
        """An attempt has succeeded, nobody is to be told, and its answer moves nothing but what is known to be stored.

        Then all that follows is one decision: the state, the merge, the handle, and the next attempt, in that order. The
        object's latch is held.

        Returns:
            The effects; None if it is not as simple as that after all, and nothing has changed.
        """
        if save.port.credentials.unproven or not self.machine.is_current(save, token):
            return None
        save.work.landed(save, answer)
        effects = self.machine.landed(save, token, free)
        save.land()
        return effects

    def completed(
        self,
        save: Handle[Any],
        token: int,
        answer: Answer | None,
        error: BaseException | None,
        guarantee: Guarantee,
        random: float,
        *,
        can_renew: bool = False,
    ) -> tuple[list[Effect], Verdict | None, bool]:
        """An attempt has ended. Returns the effects, what a failure means, and whether the attempt still counted."""
        machine, work = self.machine, save.work
        verdict = None
        spent = save.spent + machine.now - save.started
        if error is not None:
            verdict = work.judge(save, error, guarantee, spent=spent, attempts=save.attempts, random=random)
        if not machine.is_current(save, token):
            machine.finished(save, token, verdict)
            effects = [] if answer is None else work.ended_late(save, answer)
            return self.counted([*effects, *machine.lane_resumed(save.port.lane)]), verdict, False
        more: list[Effect] = []
        if verdict is not None and verdict.ruling is Ruling.HOLD:
            more = self._refused(save, token, can_renew=can_renew)  # first, or it would be sent again at once
        if answer is not None:
            if save.port.credentials.unproven:
                save.port.credentials.accepted(token)
            more = work.saved(save, answer)
        elif error is not None and verdict is not None and verdict.ruling is Ruling.SETTLE:
            more = work.failed(save, error, verdict)
        successor: Handle[Any] | None = save.superseded_by
        effects = machine.finished(save, token, verdict, successor) or []
        if successor is not None:
            successor.spent = spent
            successor.work.accepted(successor)
        return self.counted([*effects, *more]), verdict, True

    def _refused(self, save: Handle[Any], token: int, *, can_renew: bool) -> list[Effect]:
        """The backend has refused our credentials: hold the lane, so that nothing is lost by it."""
        port = save.port
        credentials, lane = port.credentials, port.lane
        match credentials.refused(token, paused=lane.paused, can_renew=can_renew):
            case Refusal.RENEW:
                renew = self.machine.renew(lane, save)
                credentials.renewal = renew.token
                return [renew]
            case Refusal.PAUSE:
                lane.lane.pause()
                credentials.end(self.machine.last_token, renewed=False)
        return []

    def renewed(self, port: Port, token: int, *, renewed: bool) -> list[Effect] | None:
        """A renewal has ended; None if it was given up before."""
        if port.credentials.renewal != token:
            return None
        if not renewed:
            port.lane.lane.pause()
        port.credentials.end(self.machine.last_token, renewed=renewed)
        return self.counted(self.machine.renewed(port.lane, token))

    def renewals_lost(self, lane: LaneState[Chain], driver: Driver | None) -> list[Effect]:
        """The renewals that this driver runs (any driver, if None) will not end. Nobody waits for them any more."""
        effects: list[Effect] = []
        for token, (save, _) in list(lane.renewing.items()):
            if driver is None or save.port.driver is driver:
                save.port.credentials.end(self.machine.last_token, renewed=False)
                effects += self.machine.renewed(lane, token)
        return self.counted(effects)

    def overdue(self, lane: LaneState[Chain], guarantees: dict[int, Guarantee]) -> tuple[list[Effect], float | None]:
        """Give up attempts that are over their whole time; returns the effects and when to look again."""
        expired, next_look = self.machine.overdue(lane)
        effects: list[Effect] = []
        saves: list[Any] = list(expired)
        for save in saves:
            error = InDoubt("the time for all attempts is over, and the last one has not ended")
            effects += self.give_up(save, error, guarantees.get(save.seq, Guarantee.PLAIN))
        told, next_long = self.machine.lengthened(lane)
        now = self.machine.now
        looks = [next_look, next_long, *(ends for _, ends in lane.renewing.values() if ends > now)]
        return [*effects, *told], min((look for look in looks if look is not None), default=None)

    def give_up(self, save: Handle[Any], error: BaseException, guarantee: Guarantee) -> list[Effect]:
        """Settle a started save whose attempt has not ended, or whose next one will never start."""
        attempts = save.policy.attempts
        verdict = save.work.judge(save, error, guarantee, spent=float("inf"), attempts=attempts, random=0.0)
        assert verdict.outcome is not None
        more = save.work.failed(save, error, verdict)
        return self.counted([*self.machine.give_up(save, verdict.outcome, halt=verdict.halt), *more])

    # Verbs

    def cancel(self, save: Handle[Any]) -> list[Effect] | None:
        """Take out a save that was never attempted; None if it is too late."""
        if save.state is not SaveState.QUEUED:
            return None
        return self.counted(self.machine.settle_queued(save, Outcome.CANCELLED))

    def clear(self, chain: Chain) -> list[Effect]:
        """Take out all that was never attempted, and lift a halt. What is in flight keeps its place."""
        effects = self._cancel_all(saves_of(chain))
        return [*effects, *self.machine.lift(chain)]

    def _cancel_all(self, saves: Sequence[Handle[Any]]) -> list[Effect]:
        # The first one of a chain last: it may be what keeps the others from starting.
        cancelled = [self.cancel(save) or [] for save in reversed(saves)]
        return [effect for one in reversed(cancelled) for effect in one]

    def retry(self, chain: Chain, successor: Handle[Any], key: Hashable = None) -> list[Effect]:
        """Send the failed save of a halted chain again, as a new one in front of it, or of the chain of `key`."""
        if self.closed:
            raise DispatcherClosed
        together = (successor, *successor.riders)
        effects = self.machine.follow_up(chain, successor, key)
        for one in together:
            one.work.accepted(one)
        return effects

    def give_up_all(self, saves: Sequence[Handle[Any]], cause: str) -> list[Effect]:
        """Settle everything: what was never attempted is cancelled, what was started is given up."""
        effects = self._cancel_all(saves)
        # Riders end with them.
        leading = [save for save in saves if save.chain is not None and save.chain.active is save]
        # First what waits for its next attempt: giving up one that runs makes room in the lane, and would start it.
        for save in sorted(leading, key=lambda one: one.port.lane.holds(one)):
            if save.state in (SaveState.IN_FLIGHT, SaveState.BACKING_OFF, SaveState.IN_DOUBT):
                surely_not = save.state is SaveState.BACKING_OFF and not save.doubted
                token = save.token
                effects += self.give_up(save, Unavailable(cause) if surely_not else InDoubt(cause), Guarantee.PLAIN)
                save.port.lane.give_back(token)
        return effects

    def counted(self, effects: list[Effect]) -> list[Effect]:
        """Note what has settled; every list of effects passes here, once or more often, before it is carried out."""
        for effect in effects:
            if isinstance(effect, Settled) and effect.save.seq not in self.finishing:
                self.finishing.add(effect.save.seq)
                effect.save.work.settled(effect.save)
        return effects


def saves_of(chain: Chain) -> list[Any]:
    """Every unsettled save of the chain, in order."""
    return list(chain.saves.values())
