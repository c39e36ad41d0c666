"""The Scheduler: which chain may start an attempt, and what follows when one of its saves has settled. Pure.

The lower half of the machine. State moves in the same step that returns the effect: a save that is to start is in flight,
and holds its slot, before anybody carries that out.
"""

from __future__ import annotations

from collections.abc import Hashable

from ._chains import Chain, Effect, Save, Settled, Start, Together
from ._lane import LaneState
from ._options import Options
from ._pace import Pace, Rest, Unrest
from ._states import TRANSITIONS, IllegalTransition, Input, SaveState

__all__ = ["Scheduler"]


# Looked up in its class, a member of an Enum costs ten times as much as a name of the module (CPython 3.11).
_IN_FLIGHT = SaveState.IN_FLIGHT


class Scheduler:
    """All chains of one dispatcher, and who of them may start. The inputs are those of the machine, which is built on it."""

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
        elif self.held or self.told:  # asked after every input, when mostly nothing is held
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
        started = chain.active is save
        together = (save, *save.riders) if save.riders else (save,)
        for one in together:
            self._move(one, given)
            del chain.saves[one.place]
        if started:
            chain.active = None
            chain.finishing = save
            chain.telling = len(together)
            if chain.pace is not None:
                chain.pace.rest(self.now)
        if halt and chain.halted is None:  # what a refresh meets does not replace the save that stopped the chain
            chain.halted = save
        elif save.riders:
            save.riders = ()
        effects: list[Effect] = [Settled(one, started) for one in together]
        effects += self._offer(chain)
        return effects

    def _offer(self, *chains: Chain) -> list[Effect]:
        """Bring the lanes' lists up to date with what these chains could do now; drop those with nothing left."""
        effects: list[Effect] = []
        for chain in chains:
            if chain.pace is not None:
                effects += self._rests(chain, chain.pace)
            if (save := chain.startable()) is not None:
                if self.held or self.told:
                    self._watch(chain, held=False)
                lane = chain.lane
                if len(chains) == 1 and not (lane.ready or lane.signals) and lane.open:
                    effects.append(self._start(chain, save))  # nobody else waits, so it need not stand in line
                    return effects
                lane.request(chain)
            else:
                chain.lane.withdraw(chain)
                if chain.empty:
                    self.chains.pop(chain.key, None)
                self._watch(chain, held=chain.held)
        # When all of them stand in line: those that come free together are sent together.
        for lane in [chains[0].lane] if len(chains) == 1 else dict.fromkeys(chain.lane for chain in chains):
            effects += self._granted(lane)
        return effects

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
            beside = self._beside(lane, chain, save) if lane.ready else []
            if beside:
                starts = [self._start(one, first) for one in (chain, *beside) if (first := one.startable()) is not None]
                lane.share([one.token for one in starts])
                effects.append(Together(starts))
            else:
                effects.append(self._start(chain, save))
        if self.held or self.told or lane.ready:
            self._watch(lane, held=lane.stopped)
        return effects

    def _beside(self, lane: LaneState[Chain], granted: Chain, save: Save) -> list[Chain]:
        """The chains whose saves are sent in one call with `save`, if it can be: those that have as much time for it."""
        company = save.company
        if company is None:
            return []

        seconds = self._timeout(granted, save)

        def fits(chain: Chain) -> bool:
            one = chain.startable()
            return one is not None and one.company is company and self._timeout(chain, one) == seconds

        return lane.beside(fits)

    def _timeout(self, chain: Chain, save: Save) -> float:
        """Seconds that its next attempt may take."""
        if self.options.any and "timeout" not in save.own:
            given: float = self.options.of(chain.key).get("timeout", save.timeout)
            return given
        return save.timeout

    def _start(self, chain: Chain, save: Save) -> Start:
        """Let `save`, which is startable, start; it takes a slot."""
        if self.options.any:
            for name, value in self.options.of(chain.key).items():
                if name not in save.own:
                    setattr(save, name, value)
        if chain.pace is not None:
            chain.pace.gather(chain.saves.values(), save)
        if save.due or save.open:
            save.due = save.open = False
        start = self._begin(chain, save)
        for one in save.riders:
            self._move(one, Input.START)
            one.token = save.token
            one.attempts += 1
            one.started = self.now
        return start

    def _begin(self, chain: Chain, save: Save) -> Start:
        """`save`, which may start, is in flight, and has a slot."""
        chain.active = save
        self._token = save.token = token = self._token + 1
        save.state = _IN_FLIGHT
        save.attempts += 1
        save.started = self.now
        chain.lane.take(token, save)
        return Start(save, token)
