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

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

from ._lane import LaneState, Renew, Signal
from ._options import Options
from ._pace import Pace, Rest, Unrest
from ._states import INPUTS, TRANSITIONS, IllegalTransition, Input, SaveState
from .policies import Outcome, RetryPolicy, Ruling, Verdict

__all__ = ["Chain", "Effect", "Machine", "Save"]


class Save(Protocol):
    """What the machine sees of a save; the handle that the user holds is one. The machine fills all but the first three."""

    policy: RetryPolicy
    timeout: float
    """Seconds one attempt has."""
    passes_halt: bool
    """Whether it may be sent although its chain is halted (a refresh)."""
    waits: int
    """How many saves of other chains it still waits for."""
    seq: int
    place: int
    """Its key in the chain: its number, or that of the save whose place it took."""
    state: SaveState
    chain: Chain | None
    token: int
    """The current attempt; 0 before the first. Whatever carries another token is stale."""
    attempts: int
    started: float
    """When the current attempt started."""
    spent: float
    """Seconds used up by earlier attempts and waits."""
    own: Collection[str]
    """Names of options that were given for it alone: those of its chain do not replace them."""
    wakes: float
    """When the wait for the next attempt is over."""
    due: bool
    """Whether the wait for the next attempt is over."""
    doubted: bool
    """Whether it may have been applied by an attempt that is over."""
    fronted: bool
    """Whether it was put in front of others."""
    pace: Pace | None
    """How its chain goes, if it is a call."""
    riders: Sequence[Any]
    """Those that are carried out with it, right behind it in line."""
    open: bool
    """Whether the work of its attempt has returned, and somebody else will say how it ended."""


def time_left(save: Save) -> float:
    """Seconds that are left for the attempts of `save`; never less in all than one attempt may take."""
    return max(save.policy.timeout, save.timeout) - save.spent


class Chain:
    """The serial queue of one ordering key. A chain only orders; it knows nothing of identities."""

    __slots__ = ("active", "finishing", "halted", "key", "lane", "pace", "paused", "saves")

    def __init__(self, key: Hashable, lane: LaneState[Chain]) -> None:
        self.key = key
        self.lane = lane
        self.saves: OrderedDict[int, Save] = OrderedDict()
        """Every unsettled save by its place, in order, the active one first."""
        self.active: Save | None = None
        """The one that was started and has not settled: never more than one."""
        self.finishing: Save | None = None
        """The one that has settled and whose receivers still run: it keeps the next one back."""
        self.paused = False
        self.halted: Save | None = None
        """The failed save that stopped the chain."""
        self.pace: Pace | None = None
        """How calls follow each other; None for saves."""

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return not (self.saves or self.paused) and self.halted is None and self.finishing is None

    @property
    def held(self) -> bool:
        """Whether there is something to send, and it cannot go on by itself: no attempt runs, and no time is waited for."""
        head = self.active or self.head
        if head is None or self.finishing is not None or self.lane.holds(head):
            return False
        waiting = (head.state is SaveState.QUEUED or head.due) and not (self.pace is not None and self.pace.resting)
        return waiting and self.startable() is None

    @property
    def head(self) -> Save | None:
        return next(iter(self.saves.values()), None)

    def startable(self) -> Save | None:
        """The save that could be sent now, were there room in the lane."""
        if self.paused or self.finishing is not None or (self.pace is not None and self.pace.resting):
            return None
        head = self.active or self.head
        if head is None or head.waits or (self.halted is not None and not head.passes_halt):
            return None
        if head.state is SaveState.QUEUED or (head.due and head.state in (SaveState.BACKING_OFF, SaveState.IN_DOUBT)):
            return head
        return None


@dataclass(slots=True, frozen=True)
class Start:
    """Begin an attempt."""

    save: Any
    token: int


@dataclass(slots=True, frozen=True)
class Wake:
    """Call :meth:`Machine.woke` with these, `delay` seconds from now."""

    save: Any
    token: int
    delay: float


@dataclass(slots=True, frozen=True)
class Settled:
    """The save has its outcome. If `release` is set, call :meth:`Machine.released` when its receivers have run."""

    save: Any
    release: bool


@dataclass(slots=True, frozen=True)
class Idle:
    """Nothing is queued and nothing is in flight in this chain any more."""

    chain: Chain


Effect: TypeAlias = Start | Wake | Settled | Idle | Signal | Renew | Rest | Unrest


class Machine:
    """All chains of one dispatcher."""

    __slots__ = ("_seq", "_token", "chains", "held", "now", "options", "told")

    def __init__(self) -> None:
        self.now = 0.0
        """The time, in seconds; whoever drives the machine sets it before each input."""
        self._seq = 0
        self._token = 0
        self.chains: dict[Hashable, Chain] = {}
        """Only chains with something in them, or paused or halted."""
        self.options = Options()
        """What the saves of a chain are given when an attempt of theirs starts, by the chain's key."""
        self.held: dict[Chain | LaneState[Chain], float] = {}
        """Chains, and lanes with chains that are ready, that cannot go on by themselves; and since when."""
        self.told: set[Chain | LaneState[Chain]] = set()
        """The same, of those of which it was told."""

    @property
    def last_seq(self) -> int:
        """The number of the latest save."""
        return self._seq

    @property
    def last_token(self) -> int:
        """The token of the latest attempt; those of earlier ones are lower."""
        return self._token

    # Taking a place in line

    def reserve(self, key: Hashable, lane: LaneState[Chain], save: Save, *, front: bool = False) -> None:
        """Take the next place in the chain of `key`. It holds back later ones until it is filled or withdrawn."""
        chain = self._chain(key, lane)
        self._seq += 1
        save.seq = save.place = self._seq
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
        return token == save.token and save.state in (SaveState.IN_FLIGHT, SaveState.IN_DOUBT)

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
        assert chain is not None
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

    def released(self, chain: Chain) -> list[Effect]:
        """The receivers of the settled save have run: the next one may start."""
        chain.finishing = None
        effects = self._offer(chain)
        if not chain.saves and not chain.paused and chain.halted is None:
            effects.append(Idle(chain))
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

    def follow_up(self, chain: Chain, save: Save) -> list[Effect]:
        """Put the successor of the failed save in front of the halted chain, and go on."""
        riders, save.riders = save.riders, ()  # which it may find again when it starts
        for one in (*reversed(riders), save):
            self.reserve(chain.key, chain.lane, one, front=True)
        for one in riders:
            self._move(one, Input.FILL)
        chain.halted = None
        return self.fill(save)

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

    # Inside

    def _chain(self, key: Hashable, lane: LaneState[Chain]) -> Chain:
        chain = self.chains.get(key)
        if chain is None:
            chain = self.chains[key] = Chain(key, lane)
        return chain

    def _watch(self, one: Chain | LaneState[Chain], *, held: bool) -> None:
        """Remember since when it cannot go on by itself, if so; once it could, it may be told of again."""
        if held:
            if one not in self.told:
                self.held.setdefault(one, self.now)
        elif self.held or self.told:
            self.held.pop(one, None)
            self.told.discard(one)

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _move(self, save: Save, given: Input) -> None:
        try:
            save.state = TRANSITIONS[save.state][given]
        except KeyError:
            raise IllegalTransition(f"save {save.seq} is {save.state.value}: it cannot {given.value}") from None

    def _settle(self, save: Save, given: Input, *, halt: bool = False) -> list[Effect]:
        chain = save.chain
        assert chain is not None
        together = (save, *save.riders)
        for one in together:
            self._move(one, given)
            del chain.saves[one.place]
        started = chain.active is save
        if started:
            chain.active = None
            chain.finishing = save
            if chain.pace is not None:
                chain.pace.rest(self.now)
        if halt and chain.halted is None:  # what a refresh meets does not replace the save that stopped the chain
            chain.halted = save
        else:
            save.riders = ()
        return [*(Settled(one, started and one is together[-1]) for one in together), *self._offer(chain)]

    def _offer(self, chain: Chain) -> list[Effect]:
        """Bring the lane's list up to date with what `chain` could do now; drop the chain if there is nothing left."""
        effects = [] if chain.pace is None else self._rests(chain, chain.pace)
        if chain.startable() is not None:
            chain.lane.request(chain)
            self._watch(chain, held=False)
        else:
            chain.lane.withdraw(chain)
            if chain.empty:
                self.chains.pop(chain.key, None)
            self._watch(chain, held=chain.held)
        return effects + self._granted(chain.lane)

    def _rests(self, chain: Chain, pace: Pace) -> list[Effect]:
        """See to it that the chain is woken after its rest, if and only if something waits for that."""
        head = chain.active or chain.head
        left = pace.look(self.now, waited_for=head is not None)
        if left is not None and not pace.waking:
            pace.waking = self._next_token()
            return [Rest(head, pace.waking, left)]
        if left is None and pace.waking:
            pace.waking = 0
            return [Unrest(pace.unrest)]
        return []

    def _granted(self, lane: LaneState[Chain]) -> list[Effect]:
        effects: list[Effect] = []
        if lane.signals:
            effects += lane.signals
            lane.signals.clear()
        while (chain := lane.grant()) is not None:
            save = chain.startable()
            assert save is not None
            for name, value in self.options.of(chain.key).items():
                if name not in save.own:
                    setattr(save, name, value)
            if chain.pace is not None:
                chain.pace.gather(chain.saves.values(), save)
            chain.active = save
            token = self._next_token()
            for one in (save, *save.riders):
                self._move(one, Input.START)
                one.token = token
                one.attempts += 1
                one.started = self.now
            save.due = save.open = False
            lane.take(save.token, save)
            effects.append(Start(save, save.token))
        self._watch(lane, held=lane.stopped)
        return effects


def _by_turn(saves: Sequence[Save]) -> Iterator[tuple[int, Save]]:
    """Each save with the lowest place from it on, so that what was put in front of others stays there when sorted."""
    lowest = accumulate((save.place for save in reversed(saves)), min)
    return zip(reversed(list(lowest)), saves, strict=True)
