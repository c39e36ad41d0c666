"""The machine: what may happen to a save, and in what order. Pure.

It takes inputs (reserved, filled, finished, woke, paused, ...) and returns effects (start, wake at, settled, idle). It has
no lock, clock, thread, random number, log or I/O, and knows neither models nor futures: whoever drives it (the dispatcher,
a simulator, a test) calls one method at a time, and carries out the effects in their order.

The life of a save is the table in :mod:`chained_models._states`; the diagram in the docs is drawn from it::

    PREPARING -> QUEUED -> IN_FLIGHT -> (BACKING_OFF | IN_DOUBT -> IN_FLIGHT)* -> SAVED | FAILED | ABANDONED | SUPERSEDED
                    |
                    +-> CANCELLED | SUPERSEDED

The driver's duties: every `Start` is answered by exactly one :meth:`Machine.finished` or :meth:`Machine.again` with its
token, however late (or left open, and then given up); every `Settled` that says so by one :meth:`Machine.released`, after
its receivers have run; every `Wake` by :meth:`Machine.woke`, every `Rest` by :meth:`Machine.rested`, unless the machine is
gone.

Calls are saves with a :class:`~chained_models._pace.Pace`: their chain rests between attempts, and one attempt may carry
several, the *riders* of its leader. Whatever happens to the leader happens to its riders.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from ._chains import Chain, Effect, Idle, Save, Settled, Start, Together, Wake, time_left
from ._lane import LaneState, Renew
from ._scheduler import Scheduler
from ._states import INPUTS, IllegalTransition, Input, SaveState
from .policies import Outcome, Ruling, Verdict

__all__ = ["Chain", "Effect", "Idle", "Machine", "Save", "Settled", "Start", "Together", "Wake", "time_left"]


# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_PREPARING, _QUEUED, _SAVED = SaveState.PREPARING, SaveState.QUEUED, SaveState.SAVED
_RUNNING = SaveState.IN_FLIGHT, SaveState.IN_DOUBT


class Machine(Scheduler):
    """All chains of one dispatcher, and all that can happen to them."""

    __slots__ = ()

    # Taking a place in line

    def reserve(self, key: Hashable, lane: LaneState[Chain], save: Save, *, front: bool = False) -> None:
        """Take the next place in the chain of `key`. It holds back later ones until it is filled or withdrawn."""
        chain = self.chains.get(key)
        if chain is None:
            chain = self.chains[key] = Chain(key, lane)
        self._seq = save.seq = save.place = self._seq + 1
        save.state = SaveState.PREPARING
        save.chain = chain
        chain.saves[save.place] = save
        if chain.pace is not save.pace:  # a new chain: nobody will wake it
            chain.pace = save.pace
            assert chain.pace is not None
            chain.pace.waking = 0
        if front:
            save.fronted = True
            # In front of all that the halt stops. Refreshes that passed it earlier keep their turn.
            earlier = [one for one in chain.saves.values() if one.passes_halt] if save.passes_halt else []
            active = [] if chain.active is None else [chain.active, *chain.active.riders]
            ahead = [one for one in (*active, *earlier) if one is not save]
            for one in [save, *reversed(ahead)]:
                chain.saves.move_to_end(one.place, last=False)
            if chain.startable() is None:  # what was about to start is no longer the head
                chain.lane.withdraw(chain)

    def fill(self, save: Save) -> list[Effect]:
        """The snapshot is there: the save is accepted."""
        self._move(save, Input.FILL)
        assert save.chain is not None
        return self._offer(save.chain)

    def enter(self, key: Hashable, lane: LaneState[Chain], save: Save) -> list[Effect]:
        """Take the next place in the chain of `key`, and fill it: for a new save of a model, :meth:`reserve` and :meth:`fill`.

        Written out, and so is :meth:`landed`: most saves are nothing but this, a start, and that. By way of those two, which
        look at what cannot be here, a whole save takes 8 % longer (measured).
        """
        if save.state is not _PREPARING:
            raise IllegalTransition(f"save {save.seq} is {save.state.value}: it cannot {Input.FILL.value}")
        chain = self.chains.get(key)
        self._seq = save.seq = save.place = self._seq + 1
        if chain is not None:
            assert chain.pace is None
            save.chain = chain
            chain.saves[save.place] = save
            save.state = _QUEUED
            # What stands behind another one changes nothing yet.
            return [] if len(chain.saves) > 1 else self._offer(chain)
        save.chain = chain = self.chains[key] = Chain(key, lane)
        chain.saves[save.place] = save
        if lane.ready or lane.signals or save.waits or self.options.any or not lane.open:
            save.state = _QUEUED
            return self._offer(chain)
        # Nothing was in the chain, and nothing waits for the lane: queued and started in one.
        return [self._begin(chain, save)]

    def withdraw(self, save: Save) -> list[Effect]:
        """The snapshot could not be taken: the place was never taken."""
        chain = save.chain
        assert chain is not None and save.state is SaveState.PREPARING
        del chain.saves[save.place]
        return self._offer(chain)

    # Attempts

    @staticmethod
    def is_current(save: Save, token: int) -> bool:
        """Whether this attempt still counts."""
        return token == save.token and save.state in _RUNNING

    def finished(
        self, save: Save, token: int, verdict: Verdict | None, successor: Save | None = None
    ) -> list[Effect] | None:
        """An attempt is over.

        Args:
            save: The save it was for.
            token: Which attempt.
            verdict: None if it succeeded, else what the failure means.
            successor: What goes on in its place, if it is superseded.

        Returns:
            The effects; None if the attempt is stale: it changes nothing but to give back its slot.
        """
        chain = save.chain
        if chain is None:
            return None  # it has landed
        chain.lane.give_back(token)
        if not self.is_current(save, token):
            return None
        save.token = self._next_token()  # A second report about this attempt is stale.
        if verdict is None:
            return self._settle(save, Input.SUCCEED)
        save.doubted = verdict.in_doubt or (save.doubted and not verdict.proved)
        if verdict.ruling is Ruling.SETTLE:
            assert verdict.outcome is not None
            effects = self._settle(save, INPUTS[verdict.outcome], halt=verdict.halt)
            if successor is not None:  # before any other of the chain; it waits, as they do, until `save` is released
                self._seq += 1
                successor.seq, successor.place, successor.chain = self._seq, save.place, chain
                self._move(successor, Input.FILL)
                chain.saves[successor.place] = successor
                chain.saves.move_to_end(successor.place, last=False)
            return effects
        self._move(save, Input.DOUBT if save.doubted else Input.BACK_OFF)
        if verdict.ruling is Ruling.HOLD:  # uses up neither an attempt nor time
            save.attempts -= 1
            save.due = True
            return self._offer(chain)
        save.spent += self.now - save.started + verdict.delay
        save.wakes = self.now + verdict.delay
        return [Wake(save, save.token, verdict.delay), *self._granted(chain.lane)]

    def landed(self, save: Save, token: int, free: list[Chain] | None = None) -> list[Effect]:
        """The current attempt has succeeded, and there is nobody to be told: :meth:`finished` and :meth:`released` in one.

        Args:
            save: The save it was for, which has no chain any more.
            token: Which attempt.
            free: Of several that ended as one: the chains that may go on, for :meth:`go_on`. This one is added.
        """
        chain = save.chain
        assert chain is not None and not save.riders
        lane = chain.lane
        lane.give_back(token)
        self._token = save.token = self._token + 1
        save.state = _SAVED
        del chain.saves[save.place]
        # Nothing asks for it any more, and kept by a handle it would take as much as that.
        chain.active = save.chain = None
        if free is not None:
            free.append(chain)
            return []
        if chain.saves or chain.paused or chain.halted is not None:
            return self._offer(chain)
        del self.chains[chain.key]
        return self._granted(lane) if lane.ready or lane.signals else []

    def go_on(self, chains: Sequence[Chain]) -> list[Effect]:
        """The chains of saves that have landed together: those that come free together are sent together."""
        return self._offer(*chains) if chains else []

    def again(self, save: Save, token: int) -> list[Effect] | None:
        """An attempt is over, and wants to be made once more: the same, in the same place, with all its time.

        Returns:
            As :meth:`finished`.
        """
        chain = save.chain
        assert chain is not None and chain.pace is not None
        chain.lane.give_back(token)
        if not self.is_current(save, token):
            return None
        save.token = self._next_token()
        for one in (save, *save.riders):
            self._move(one, Input.BACK_OFF)
        save.due = True
        chain.pace.rest(self.now)
        return self._offer(chain)

    def left_open(self, save: Save, token: int) -> list[Effect]:
        """The work of an attempt has returned, and its end will be reported later. Until then it keeps its slot."""
        chain = save.chain
        assert chain is not None
        if self.is_current(save, token):
            save.open = True
            return []
        chain.lane.give_back(token)
        return self._granted(chain.lane)

    def rested(self, chain: Chain, token: int) -> list[Effect]:
        """The rest between two attempts is over."""
        pace = chain.pace
        if pace is None or token != pace.waking:
            return []
        pace.waking = 0
        pace.ends = min(pace.ends, self.now)  # a clock may come a little early
        return self._offer(chain)

    def rest_anew(self, chain: Chain) -> list[Effect]:
        """Whoever was to tell when the rest is over may be gone: somebody else shall."""
        if chain.pace is not None:
            chain.pace.waking = 0
        return self._offer(chain)

    def woke(self, save: Save, token: int) -> list[Effect]:
        """The wait before the next attempt is over."""
        if token != save.token or save.state not in (SaveState.BACKING_OFF, SaveState.IN_DOUBT):
            return []
        save.due = True
        assert save.chain is not None
        return self._offer(save.chain)

    def overdue(self, lane: LaneState[Chain]) -> tuple[list[Save], float | None]:
        """Look after the attempts in flight: who is over its whole time, and when to look again.

        An attempt over its own time is in doubt, and still counts; nothing else is tried while it runs.
        """
        now = self.now
        expired: list[Save] = []
        next_look: float | None = None
        for token, save in lane.slots.items():
            if not self.is_current(save, token):
                continue
            left = time_left(save)
            ends = save.started + left
            looks = ends
            if save.state is SaveState.IN_FLIGHT:
                late = save.started + min(save.timeout, left)
                if now >= late:
                    self._move(save, Input.LATE)
                else:
                    looks = min(late, ends)
            if now >= ends:
                expired.append(save)
            elif next_look is None or looks < next_look:
                next_look = looks
        return expired, next_look

    def lengthened(self, lane: LaneState[Chain]) -> tuple[list[Effect], float | None]:
        """See which attempts in flight have become long; returns also when the next one will."""
        next_look = lane.look(self.now)
        return self._granted(lane), next_look

    def give_up(self, save: Save, outcome: Outcome, *, halt: bool) -> list[Effect]:
        """Settle a started save although its attempt has not ended; its late end will be stale, and keeps its slot."""
        chain = save.chain
        assert chain is not None
        if save.open:
            chain.lane.give_back(save.token)  # nothing runs
        else:
            chain.lane.strand(save.token)
        save.token = self._next_token()
        save.doubted = outcome is Outcome.ABANDONED
        return self._settle(save, INPUTS[outcome], halt=halt)

    def released(self, *chains: Chain) -> list[Effect]:
        """The receivers of a settled save of each of these have run: when all of a chain's have, its next one may start."""
        free: list[Chain] = []
        for chain in chains:
            chain.telling -= 1
            if not chain.telling:
                chain.finishing = None
                free.append(chain)
        if not free:
            return []
        effects = self._offer(*free)
        effects += [Idle(one) for one in free if not one.saves and not one.paused and one.halted is None]
        return effects

    # Verbs

    def settle_queued(self, save: Save, outcome: Outcome, *, halt: bool = False) -> list[Effect]:
        """Settle a save that was never attempted: cancelled, failed with another's cause, or with nothing to send."""
        return self._settle(save, INPUTS[outcome], halt=halt)

    def arrived(self, save: Save) -> list[Effect]:
        """One of those that `save` waits for is there."""
        save.waits -= 1
        assert save.chain is not None
        return self._offer(save.chain)

    def supersede(self, older: Save, newer: Save) -> list[Effect]:
        """`newer`, which is queued in the same chain, takes the place of `older`, which was never attempted."""
        chain = older.chain
        assert chain is not None and newer.chain is chain
        del chain.saves[newer.place]
        newer.place = older.place
        chain.saves[newer.place] = newer
        self._move(older, Input.SUPERSEDE)
        return [Settled(older, release=False), *self._offer(chain)]

    def pause(self, key: Hashable, lane: LaneState[Chain]) -> None:
        """Start nothing in this chain, even if it is empty now. What is in flight goes on."""
        chain = self._chain(key, lane)
        chain.paused = True
        chain.lane.withdraw(chain)
        self._watch(chain.lane, held=chain.lane.stopped)
        self._watch(chain, held=chain.held)

    def update(self, key: Hashable, options: Mapping[str, Any]) -> None:
        """From the next attempt on, the saves of this chain have these, even if it is empty now."""
        self.options.set(key, {**self.options.of(key), **options})

    def resume(self, chain: Chain) -> list[Effect]:
        """Go on; does nothing if it was not paused."""
        chain.paused = False
        return self._offer(chain)

    def lift(self, chain: Chain) -> list[Effect]:
        """Go on after a halt, without the save that failed."""
        chain.halted = None
        return self._offer(chain)

    def follow_up(self, chain: Chain, save: Save, key: Hashable = None) -> list[Effect]:
        """Put the successor of the save that halted `chain` in front of it, or of the chain of `key`, and go on."""
        riders, save.riders = save.riders, ()  # which it may find again when it starts
        for one in (*reversed(riders), save):
            self.reserve(chain.key if key is None else key, chain.lane, one, front=True)
        for one in riders:
            self._move(one, Input.FILL)
        chain.halted = None
        return [*self.fill(save), *(self._offer(chain) if save.chain is not chain else [])]

    def lane_resumed(self, lane: LaneState[Chain]) -> list[Effect]:
        """There may be room again."""
        return self._granted(lane)

    def renew(self, lane: LaneState[Chain], save: Save) -> Renew:
        """Start nothing in this lane until the credentials are renewed, which `save` asks for; a save waits for it already."""
        token = self._next_token()
        lane.renewing[token] = save, self.now + save.timeout
        return Renew(save, token)

    def renewed(self, lane: LaneState[Chain], token: int) -> list[Effect]:
        """That renewal is over, whether it succeeded or not."""
        lane.renewing.pop(token, None)
        return self._granted(lane)

    def move_to(self, chain: Chain, saves: Iterable[Save]) -> list[Effect]:
        """Queue these unattempted saves in another chain, each at its place by sequence number."""
        here, moved = [save for save in chain.saves.values() if save is not chain.active], list(saves)
        left: dict[int, Chain] = {}
        for save in moved:
            old = save.chain
            assert old is not None
            del old.saves[save.place]
            old.lane.withdraw(old)  # it has another head, if any
            left[id(old)] = old
            chain.saves[save.place] = save
            save.chain = chain
        for _, save in sorted([*_by_turn(here), *_by_turn(moved)], key=lambda turn: turn[0]):
            chain.saves.move_to_end(save.place)
        effects = self._offer(chain)
        for old in left.values():
            effects += self._offer(old)
        return effects

    def join(self, chain: Chain, key: Hashable) -> Chain:
        """From now on `chain` goes by `key`. If that has a chain already, that one takes over a pause and a halt.

        Returns:
            The chain of `key`. What is queued in another one is still to be moved there.
        """
        other = self.chains.get(key)
        if other is None:
            del self.chains[chain.key]
            chain.key = key
            self.chains[key] = chain
            return chain
        other.paused, chain.paused = other.paused or chain.paused, False
        other.halted, chain.halted = other.halted or chain.halted, None
        if other.startable() is None:
            other.lane.withdraw(other)
        self._watch(other.lane, held=other.lane.stopped)
        self._watch(other, held=other.held)
        if chain.empty:
            self.chains.pop(chain.key, None)
        self._watch(chain, held=chain.held)
        return other

    def __iter__(self) -> Iterator[Chain]:
        return iter(list(self.chains.values()))


def _by_turn(saves: Sequence[Save]) -> Iterator[tuple[int, Save]]:
    """Each save with the lowest place from it on, so that what was put in front of others stays there when sorted."""
    lowest = accumulate((save.place for save in reversed(saves)), min)
    return zip(reversed(list(lowest)), saves, strict=True)
