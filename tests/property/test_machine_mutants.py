"""Each invariant has wrong machines that it catches: one line changed, and the rules of `machine_rules` must fail.

A mutant that survives means that the rules see nothing at that place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chained_models import _machine, _pace
from chained_models._lane import LaneState, Signal
from chained_models._machine import Chain, Idle, Machine, Settled, Start, Together, Wake
from chained_models._pace import Pace, Rest, Unrest
from chained_models._states import OUTCOMES, TRANSITIONS, Input, SaveState
from chained_models.policies import Outcome, Ruling, Verdict

from . import machine_rules
from .machine_rules import walk

WALKS = 3000


@dataclass(frozen=True)
class Mutant:
    """One wrong change, and the invariant that must notice."""

    name: str
    caught_by: str
    owner: Any
    attribute: Any
    wrong: Callable[[Any], Any]
    """From what stands there to what shall."""

    def __str__(self) -> str:
        return self.name


def mutant(name: str, caught_by: str, owner: Any, attribute: Any) -> Callable[[Callable[[Any], Any]], None]:
    """Enter a mutant: a function from the right thing to the wrong one."""

    def enter(wrong: Callable[[Any], Any]) -> None:
        MUTANTS.append(Mutant(name, caught_by, owner, attribute, wrong))

    return enter


MUTANTS: list[Mutant] = []


def started(effects: list[Any]) -> list[Start]:
    """All that these effects start."""
    starts = [effect.starts if isinstance(effect, Together) else [effect] for effect in effects]
    return [one for some in starts for one in some]


def startable(*, but: str) -> Callable[[Any], Any]:
    """`Chain.startable` without one of its conditions."""

    def wrong(chain: Chain) -> Any:
        resting = chain.pace is not None and chain.pace.resting
        if (
            (resting and but != "resting")
            or (chain.paused and but != "paused")
            or (chain.finishing is not None and but != "finishing")
        ):
            return None
        head = chain.active or chain.head
        if but == "active":
            head = next((save for save in chain.saves.values() if save.state is SaveState.QUEUED), head)
        if but == "unfilled":
            head = chain.active or next((s for s in chain.saves.values() if s.state is not SaveState.PREPARING), None)
        if head is None or (chain.halted is not None and not head.passes_halt and but != "halted"):
            return None
        waited = head.due or but == "due"
        ready = head.state is SaveState.QUEUED or (
            waited and head.state in (SaveState.BACKING_OFF, SaveState.IN_DOUBT) and not chain.lane.holds(head)
        )
        return head if ready else None

    return lambda _: wrong


for condition, sees in {
    "active": "V[12]",
    "unfilled": "V2|V10",
    "paused": "V2|V10",
    "finishing": "V2|V10",
    "halted": "V2|V10",
    "due": "V2|V10",
    "resting": "V2|V10",
}.items():
    mutant(f"may start although {condition}", sees, Chain, "startable")(startable(but=condition))


@mutant("lifo", "V2|V10|cannot", Chain, "head")
def _(_: Any) -> Any:
    return property(lambda chain: next(reversed(chain.saves.values()), None))


@mutant("a halted chain takes no refresh", "V10|fairness", Chain, "startable")
def _(right: Any) -> Any:
    return lambda chain: None if chain.halted is not None else right(chain)


@mutant("everything goes to the front", "V2", Machine, "reserve")
def _(right: Any) -> Any:
    return lambda self, key, lane, save, *, front=False: right(self, key, lane, save, front=True)


@mutant("a retry by hand goes to the tail", "V2", Machine, "reserve")
def _(right: Any) -> Any:
    return lambda self, key, lane, save, *, front=False: right(self, key, lane, save)


@mutant("numbers from the longest queue plus one", "V2", Machine, "reserve")
def _(right: Any) -> Any:
    def reserve(self: Machine, key: Any, lane: Any, save: Any, *, front: bool = False) -> None:
        self._seq = max((seq for chain in self for seq in chain.saves), default=0)
        right(self, key, lane, save, front=front)

    return reserve


@mutant("a withdrawn place stays", "V5|V2|V10", Machine, "withdraw")
def _(_: Any) -> Any:
    return lambda self, save: []


@mutant("popped before it is sent", r"V5|V2|^\d+$", LaneState, "take")
def _(right: Any) -> Any:
    def take(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        save.chain.saves.pop(save.seq)

    return take


def finished(after: Callable[[Machine, Any, int, Verdict | None, Any], Any]) -> Callable[[Any], Any]:
    """`Machine.finished`, with something wrong done after it."""

    def mutate(right: Any) -> Any:
        def wrong(self: Machine, save: Any, token: int, verdict: Verdict | None) -> Any:
            return after(self, save, token, verdict, right(self, save, token, verdict))

        return wrong

    return mutate


@mutant("a retry goes to the tail", "V[12]", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    if verdict is not None and verdict.ruling is Ruling.RETRY and save.seq in save.chain.saves:
        save.chain.saves.move_to_end(save.seq)
        save.chain.active = None
    return effects


@mutant("a second report counts", "V1", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    if effects is not None and save.state is SaveState.IN_DOUBT and any(isinstance(e, Wake) for e in effects):
        save.token = token
        return [replace(e, token=token) if isinstance(e, Wake) else e for e in effects]
    return effects


@mutant("doubt is forgotten", "V9", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    save.doubted = save.doubted and effects is None
    return effects


@mutant("nobody wakes it", "V15", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    return effects and [effect for effect in effects if not isinstance(effect, Wake)]


@mutant("waiting uses up the slot", "slots", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    if verdict is not None and verdict.ruling is Ruling.RETRY and effects is not None:
        save.chain.lane.take(token, save)
    return effects


@mutant("refused credentials use up an attempt", "V5|V9|V15", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    if verdict is not None and verdict.ruling is Ruling.HOLD and effects is not None:
        save.attempts += 1
    return effects


@mutant("whoever reports is believed", "V1", Machine, "is_current")
def _(_: Any) -> Any:
    return staticmethod(lambda save, token: save.state in (SaveState.IN_FLIGHT, SaveState.IN_DOUBT))


@mutant("a report about a settled save is believed", "V1|cannot|slots", Machine, "is_current")
def _(_: Any) -> Any:
    return staticmethod(lambda save, token: True)


@mutant("no report is believed", "V5", Machine, "is_current")
def _(_: Any) -> Any:
    return staticmethod(lambda save, token: False)


@mutant("attempts are not counted", "V15", Machine, "_granted")
def _(right: Any) -> Any:
    def granted(self: Machine, lane: Any) -> Any:
        effects = right(self, lane)
        for start in started(effects):
            start.save.attempts = 1
        return effects

    return granted


@mutant("a wait that is over counts for the next attempt too", r"V[12]|fairness|^$|^assert ", Machine, "_granted")
def _(right: Any) -> Any:
    def granted(self: Machine, lane: Any) -> Any:
        effects = right(self, lane)
        for start in started(effects):
            start.save.due = start.save.attempts > 1
        return effects

    return granted


@mutant("refused credentials use up time", "V15", Machine, "finished")
@finished
def _(self: Machine, save: Any, token: int, verdict: Verdict | None, effects: Any) -> Any:
    if verdict is not None and verdict.ruling is Ruling.HOLD and effects is not None:
        save.spent += self.now - save.started
    return effects


@mutant("a settled save is sent once more", "V6", Machine, "woke")
def _(right: Any) -> Any:
    return lambda self, save, token: [Start(save, token)] if save.state in OUTCOMES else right(self, save, token)


@mutant("an old wake-up counts", "V15|V1|V2|V10", Machine, "woke")
def _(right: Any) -> Any:
    return lambda self, save, token: right(self, save, save.token)


@mutant("a wake-up is lost", "V15|V10|fairness", Machine, "woke")
def _(_: Any) -> Any:
    return lambda self, save, token: []


@mutant("settled twice", "V7", Machine, "_settle")
def _(right: Any) -> Any:
    return lambda self, save, given, **how: [right(self, save, given, **how)[0], *right_again(save)]


def right_again(save: Any) -> list[Settled]:
    return [Settled(save, release=False)]


@mutant("settled in silence", "V5", Machine, "_settle")
def _(right: Any) -> Any:
    return lambda self, save, given, **how: right(self, save, given, **how)[1:]


@mutant("the head is removed by its index", "V5", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        chain = save.chain
        saves, first = dict(chain.saves), next(iter(chain.saves))
        effects = right(self, save, given, halt=halt)
        if first != save.seq and chain.saves:
            chain.saves.pop(first, None)
            chain.saves[save.place] = saves[save.place]
        return effects

    return settle


@mutant("a failure takes the queue with it", "V5|V10", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        if given is Input.FAIL:
            for seq in [seq for seq in save.chain.saves if seq != save.seq]:
                del save.chain.saves[seq]
        return right(self, save, given, halt=halt)

    return settle


@mutant("nothing halts", "V5|V10", Machine, "_settle")
def _(right: Any) -> Any:
    return lambda self, save, given, *, halt=False: right(self, save, given)


@mutant("a refresh replaces what halted", "V5", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        effects = right(self, save, given, halt=halt)
        if halt:
            save.chain.halted = save
        return effects

    return settle


@mutant("the receivers are not waited for", "V10", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        effects = right(self, save, given, halt=halt)
        return [replace(effects[0], release=False), *effects[1:]]

    return settle


@mutant("clear() frees the place in flight", "V1", Machine, "lift")
def _(right: Any) -> Any:
    def lift(self: Machine, chain: Chain) -> Any:
        chain.active = None
        return right(self, chain)

    return lift


@mutant("skip() leaves the halt", "V5|V10", Machine, "lift")
def _(_: Any) -> Any:
    return lambda self, chain: self._offer(chain)


@mutant("retry() leaves the halt", "V5|V10", Machine, "follow_up")
def _(right: Any) -> Any:
    def follow_up(self: Machine, chain: Chain, save: Any) -> Any:
        halted = chain.halted
        effects = right(self, chain, save)
        chain.halted = halted
        return effects

    return follow_up


@mutant("resumed twice, started twice", "V1", Machine, "resume")
def _(right: Any) -> Any:
    def resume(self: Machine, chain: Chain) -> Any:
        again = [Start(chain.active, chain.active.token)] if chain.active is not None else []
        return [*right(self, chain), *again]

    return resume


@mutant("resume() starts nothing", "V15|V10", Machine, "resume")
def _(_: Any) -> Any:
    def resume(self: Machine, chain: Chain) -> list[Any]:
        chain.paused = False
        return []

    return resume


@mutant("a paused chain stays in line", "V10|V2", Machine, "pause")
def _(right: Any) -> Any:
    def pause(self: Machine, key: Any, lane: Any) -> None:
        right(self, key, lane)
        self.chains[key].lane.request(self.chains[key])

    return pause


@mutant("pausing an empty chain does nothing", "V10", Machine, "pause")
def _(right: Any) -> Any:
    return lambda self, key, lane: right(self, key, lane) if key in self.chains else None


@mutant("a timeout goes on to the next", "V1", Machine, "overdue")
def _(right: Any) -> Any:
    def overdue(self: Machine, lane: Any) -> Any:
        seen = right(self, lane)
        for save in lane.slots.values():
            if save.state is SaveState.IN_DOUBT:
                save.chain.active = None
        return seen

    return overdue


@mutant("nobody looks again", "V15", Machine, "overdue")
def _(right: Any) -> Any:
    return lambda self, lane: (right(self, lane)[0], None)


@mutant("a whole time without end", "V15", _machine, "time_left")
def _(_: Any) -> Any:
    return lambda save: float("inf")


@mutant("moved saves go to the tail", "V2", Machine, "move_to")
def _(right: Any) -> Any:
    def move_to(self: Machine, chain: Chain, saves: Any) -> Any:
        moved = list(saves)
        effects = right(self, chain, moved)
        for save in moved:
            if save is not chain.active:
                chain.saves.move_to_end(save.seq)
        return effects

    return move_to


@mutant("an empty chain stays", "V10", Machine, "_offer")
def _(right: Any) -> Any:
    def offer(self: Machine, chain: Chain) -> Any:
        effects = right(self, chain)
        self.chains[chain.key] = chain
        return effects

    return offer


@mutant("a chain in use is dropped", "V10", Machine, "_offer")
def _(right: Any) -> Any:
    def offer(self: Machine, chain: Chain) -> Any:
        effects = right(self, chain)
        if not chain.saves:
            self.chains.pop(chain.key, None)
        return effects

    return offer


@mutant("room in the lane is offered to nobody", "V1|fairness", Machine, "_offer")
def _(right: Any) -> Any:
    def offer(self: Machine, chain: Chain) -> Any:
        return right(self, chain) if chain.startable() is not None else (right(self, chain), [])[1]

    return offer


@mutant("a lane that goes on is not heard", "V15", Machine, "lane_resumed")
def _(_: Any) -> Any:
    return lambda self, lane: []


@mutant("idle is not said", "V10", Machine, "released")
def _(right: Any) -> Any:
    return lambda self, chain: [effect for effect in right(self, chain) if not isinstance(effect, Idle)]


@mutant("idle is said too early", "V10", Machine, "released")
def _(right: Any) -> Any:
    return lambda self, chain: [*right(self, chain), Idle(chain)]


@mutant("the next one is never let go", "V10", Machine, "released")
def _(_: Any) -> Any:
    return lambda self, chain: []


@mutant("what is given up is taken for failed", "V9|V5", _machine.INPUTS, Outcome.ABANDONED)
def _(_: Any) -> Any:
    return Input.FAIL


@mutant("what failed is taken for saved", "V9", _machine.INPUTS, Outcome.FAILED)
def _(_: Any) -> Any:
    return Input.SUCCEED


@mutant("what was cancelled is taken for saved", "V5", _machine.INPUTS, Outcome.CANCELLED)
def _(_: Any) -> Any:
    return Input.SUCCEED


@mutant("an attempt over its time is not in doubt", "V9", TRANSITIONS[SaveState.IN_FLIGHT], Input.LATE)
def _(_: Any) -> Any:
    return SaveState.IN_FLIGHT


@mutant("an attempt over its time is over", "V1|V5|V9|cannot", TRANSITIONS[SaveState.IN_FLIGHT], Input.LATE)
def _(_: Any) -> Any:
    return SaveState.BACKING_OFF


@mutant("a second try needs no start", "cannot", TRANSITIONS, SaveState.BACKING_OFF)
def _(row: Any) -> Any:
    return {given: state for given, state in row.items() if given is not Input.START}


@mutant("a slot is never given back", "slots", LaneState, "give_back")
def _(_: Any) -> Any:
    return lambda self, token: None


@mutant("a slot is given back twice", "slots", LaneState, "give_back")
def _(right: Any) -> Any:
    def give_back(self: Any, token: int) -> None:
        right(self, token)
        right(self, next(iter(self.slots), 0))

    return give_back


@mutant("giving up frees the slot", "slots", LaneState, "strand")
def _(_: Any) -> Any:
    return lambda self, token: self.give_back(token)


@mutant("giving up blocks the lane", "V15|congestion", LaneState, "strand")
def _(_: Any) -> Any:
    return lambda self, token: None


def grant(room: Callable[[Any], bool], *, last: bool = False) -> Callable[[Any], Any]:
    """`LaneState.grant` with another idea of room or of who is next."""

    def wrong(self: Any) -> Any:
        if not self.ready or self.lane.paused or self._alone or not room(self):
            return None
        return self.ready.popitem(last=last)[0]

    return lambda _: wrong


def right_room(self: Any) -> bool:
    most = self.lane.max_in_flight
    return bool(len(self.slots) - min(len(self._stranded), most) < most)


mutant("a lane without bound", "slots", LaneState, "grant")(grant(lambda self: True))
mutant("one more than the lane has", "slots", LaneState, "grant")(
    grant(lambda self: len(self.slots) - min(len(self._stranded), self.lane.max_in_flight) <= self.lane.max_in_flight)
)
mutant("stranded attempts are replaced without bound", "slots", LaneState, "grant")(
    grant(lambda self: len(self.slots) - len(self._stranded) < self.lane.max_in_flight)
)
mutant("the last chain comes first", "fairness", LaneState, "grant")(grant(right_room, last=True))


@mutant("whoever was served is served again", "fairness", LaneState, "request")
def _(right: Any) -> Any:
    def request(self: Any, chain: Any) -> None:
        right(self, chain)
        self.ready.move_to_end(chain, last=False)

    return request


@mutant("asking again costs the place in line", "fairness", LaneState, "request")
def _(right: Any) -> Any:
    def request(self: Any, chain: Any) -> None:
        right(self, chain)
        self.ready.move_to_end(chain)

    return request


@mutant("a paused lane goes on", "V1|V2|V15|slots|lane", LaneState, "grant")
def _(right: Any) -> Any:
    def grant(self: Any) -> Any:
        paused, self.lane._paused = self.lane._paused, False
        try:
            return right(self)
        finally:
            self.lane._paused = paused

    return grant


@mutant("a congested lane starts as many as ever", "congestion", LaneState, "grant")
def _(right: Any) -> Any:
    def grant(self: Any) -> Any:
        self._alone = 0
        return right(self)

    return grant


@mutant("a congested lane starts nothing", "V15", LaneState, "grant")
def _(right: Any) -> Any:
    return lambda self: None if self.congested else right(self)


@mutant("one alone keeps the place of the next", "V15", LaneState, "_no_more")
def _(right: Any) -> Any:
    def no_more(self: Any, token: int, save: Any) -> None:
        alone = self._alone
        right(self, token, save)
        self._alone = alone

    return no_more


@mutant("congested at each long one", "congestion", LaneState, "_lengthen")
def _(right: Any) -> Any:
    def lengthen(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        if self.congested and self.signals[-1].name == "long_running":
            self.signals.append(Signal("congested", save))

    return lengthen


@mutant("congested in silence", "congestion", LaneState, "_lengthen")
def _(right: Any) -> Any:
    def lengthen(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        self.signals = [signal for signal in self.signals if signal.name != "congested"]

    return lengthen


@mutant("long again and again", "congestion", LaneState, "_lengthen")
def _(right: Any) -> Any:
    def lengthen(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        self.signals.append(Signal("long_running", save))

    return lengthen


@mutant("recovers as soon as they are fewer", "congestion", LaneState, "_no_more")
def _(right: Any) -> Any:
    def no_more(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        if self.congested and len(self._long) < self.lane.max_long:
            self.congested, self._alone = False, 0
            self.signals.append(Signal("recovered", save))

    return no_more


@mutant("recovers in silence", "congestion", LaneState, "_no_more")
def _(right: Any) -> Any:
    def no_more(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        self.signals = [signal for signal in self.signals if signal.name != "recovered"]

    return no_more


@mutant("what is stranded is long for ever", "congestion", LaneState, "strand")
def _(right: Any) -> Any:
    def strand(self: Any, token: int) -> None:
        before = set(self._long)
        right(self, token)
        self._long |= before

    return strand


@mutant("nobody looks at what takes long", "congestion", LaneState, "look")
def _(_: Any) -> Any:
    return lambda self, now: None


@mutant("a lane stops what takes long", "slots", LaneState, "_lengthen")
def _(right: Any) -> Any:
    def lengthen(self: Any, token: int, save: Any) -> None:
        right(self, token, save)
        self.slots = {one: its for one, its in self.slots.items() if one != token}

    return lengthen


@mutant("a chain of calls does not rest", "V2|V15", Pace, "rest")
def _(_: Any) -> Any:
    return lambda self, now: None


@mutant("nobody tells that the rest is over", "V15", Machine, "_rests")
def _(right: Any) -> Any:
    return lambda self, chain, pace: [one for one in right(self, chain, pace) if not isinstance(one, Rest)]


@mutant("two tell that the rest is over", "V15", Machine, "_rests")
def _(right: Any) -> Any:
    def rests(self: Machine, chain: Chain, pace: Any) -> Any:
        pace.waking = 0
        return right(self, chain, pace)

    return rests


@mutant("nobody is told that nobody waits", "V15|V2", Machine, "_rests")
def _(right: Any) -> Any:
    return lambda self, chain, pace: [one for one in right(self, chain, pace) if not isinstance(one, Unrest)]


@mutant("an old end of a rest counts", "V2|V15", Machine, "rested")
def _(right: Any) -> Any:
    return lambda self, chain, token: right(self, chain, chain.pace.waking) if chain.pace.waking else []


@mutant("the end of a rest is lost", "V15|V10", Machine, "rested")
def _(_: Any) -> Any:
    return lambda self, chain, token: []


@mutant("the end of a rest is left to the clock", "V15|V10", Machine, "rested")
def _(_: Any) -> Any:
    def rested(self: Machine, chain: Any, token: int) -> Any:
        if token == chain.pace.waking:
            chain.pace.waking = 0
            return self._offer(chain)
        return []

    return rested


@mutant("a rest outlives whoever would tell of its end", "V15", Machine, "rest_anew")
def _(_: Any) -> Any:
    return lambda self, chain: []


def company(*, but: str) -> Callable[[Any], Any]:
    """`_pace._company` without one of its conditions."""

    def wrong(line: Any, most: int) -> Any:
        for one in list(line)[1 : most + (but == "size")]:
            if (one.alone and but != "alone") or (one.state is not SaveState.QUEUED and but != "unfilled"):
                return
            yield one

    return lambda _: wrong


mutant("one more than a batch may have", "V2", _pace, "_company")(company(but="size"))
mutant("a batch takes what must be alone", "V2", _pace, "_company")(company(but="alone"))
mutant("a batch takes what is not prepared", "V2|cannot", _pace, "_company")(company(but="unfilled"))


@mutant("a batch grows when it is tried again", "V2|cannot", Pace, "gather")
def _(right: Any) -> Any:
    def gather(self: Any, line: Any, leader: Any) -> None:
        attempts, leader.attempts = leader.attempts, 0
        right(self, line, leader)
        leader.attempts = attempts

    return gather


@mutant("the timeout of the first holds for the batch", "V15", Pace, "gather")
def _(right: Any) -> Any:
    def gather(self: Any, line: Any, leader: Any) -> None:
        right(self, line, leader)
        leader.timeout = self.options.timeout if leader.given_timeout is None else leader.given_timeout

    return gather


def alone(method: str) -> Callable[[Any], Any]:
    """A method of the machine that forgets the riders."""

    def mutate(right: Any) -> Any:
        def wrong(self: Machine, save: Any, *args: Any, **how: Any) -> Any:
            save.riders = ()
            return right(self, save, *args, **how)

        return wrong

    return mutate


mutant("only the first of a batch settles", "V1|V2|V5|V10", Machine, "_settle")(alone("_settle"))
mutant("only the first of a batch is tried again", "V1|V2|V5|V10", Machine, "again")(alone("again"))


@mutant("the receivers of the last of a batch are not waited for", "V10", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        together, active = len(save.riders) + 1, save.chain.active
        effects = right(self, save, given, halt=halt)
        ends = [replace(one, release=active is save and not at) for at, one in enumerate(effects[:together])]
        return [*ends, *effects[together:]]

    return settle


@mutant("a halted batch is forgotten", "V5", Machine, "_settle")
def _(right: Any) -> Any:
    def settle(self: Machine, save: Any, given: Input, *, halt: bool = False) -> Any:
        effects = right(self, save, given, halt=halt)
        save.riders = ()
        return effects

    return settle


@mutant("what is urgent comes between", "V2|V5|cannot", Machine, "reserve")
def _(right: Any) -> Any:
    def reserve(self: Machine, key: Any, lane: Any, save: Any, *, front: bool = False) -> None:
        chain = self.chains.get(key)
        active = None if chain is None else chain.active
        if active is None or not front:
            right(self, key, lane, save, front=front)
            return
        riders, active.riders = active.riders, ()
        right(self, key, lane, save, front=front)
        active.riders = riders

    return reserve


@mutant("what is urgent, and not prepared, starts", "V10|^$", Machine, "reserve")
def _(right: Any) -> Any:
    def reserve(self: Machine, key: Any, lane: Any, save: Any, *, front: bool = False) -> None:
        before = [chain for chain in lane.ready if chain.key == key]
        right(self, key, lane, save, front=front)
        for chain in before:
            lane.request(chain)

    return reserve


@mutant("an open turn that is given up keeps its slot", "slots", Machine, "left_open")
def _(_: Any) -> Any:
    return lambda self, save, token: []


@mutant("an open turn has no slot", "slots", Machine, "left_open")
def _(right: Any) -> Any:
    def left_open(self: Machine, save: Any, token: int) -> Any:
        save.chain.lane.give_back(token)
        return right(self, save, token)

    return left_open


@mutant("an attempt is open from its start", "slots|V15", Machine, "_granted")
def _(right: Any) -> Any:
    def granted(self: Machine, lane: Any) -> Any:
        effects = right(self, lane)
        for start in started(effects):
            start.save.open = start.save.pace is not None
        return effects

    return granted


@mutant("a late wish for another attempt counts", "V1|cannot", Machine, "again")
def _(right: Any) -> Any:
    def again(self: Machine, save: Any, token: int) -> Any:
        return right(self, save, save.token)

    return again


@mutant("another attempt comes without a rest", "V2|V15", Machine, "again")
def _(right: Any) -> Any:
    def again(self: Machine, save: Any, token: int) -> Any:
        options = save.pace.options
        save.pace.options = replace(options, delay=0.0)
        effects = right(self, save, token)
        save.pace.options = options
        return effects

    return again


@mutant("what replaces goes to the tail", "V2", Machine, "supersede")
def _(right: Any) -> Any:
    def supersede(self: Machine, older: Any, newer: Any) -> Any:
        effects = right(self, older, newer)
        if newer is not newer.chain.active and newer.place in newer.chain.saves:
            newer.chain.saves.move_to_end(newer.place)
        return effects

    return supersede


@mutant("what is replaced stays", "V5|V2|V7|cannot", Machine, "supersede")
def _(_: Any) -> Any:
    return lambda self, older, newer: [Settled(older, release=False)]


@mutant("unclear errors are taken for failures", "V9", machine_rules, "judge")
def _(right: Any) -> Any:
    def judge(*args: Any, **given: Any) -> Verdict:
        verdict = right(*args, **given)
        outcome = Outcome.FAILED if verdict.outcome is Outcome.ABANDONED else verdict.outcome
        return replace(verdict, in_doubt=False, outcome=outcome)

    return judge


@mutant("retried without end", "V15", machine_rules, "judge")
def _(right: Any) -> Any:
    return lambda error, **given: right(error, **{**given, "attempts": 0, "spent": 0.0})


# Batches


@mutant("a batch is of any size", "batch", LaneState, "beside")
def _(right: Any) -> Any:
    def beside(self: LaneState[Any], fits: Any) -> Any:
        before, self.lane.max_batch = self.lane.max_batch, 100
        chosen = right(self, fits)
        self.lane.max_batch = before
        return chosen

    return beside


@mutant("a batch takes whoever is ready", "batch", LaneState, "beside")
def _(right: Any) -> Any:
    return lambda self, fits: right(self, lambda chain: True)


@mutant("who goes along stays in line", "V10|V2|^$|^assert ", LaneState, "beside")
def _(right: Any) -> Any:
    def beside(self: LaneState[Any], fits: Any) -> Any:
        chosen = right(self, fits)
        self.ready.update(dict.fromkeys(chosen))
        return chosen

    return beside


@mutant("a congested lane sends batches", "congestion", LaneState, "beside")
def _(right: Any) -> Any:
    def beside(self: LaneState[Any], fits: Any) -> Any:
        congested, self.congested = self.congested, False
        chosen = right(self, fits)
        self.congested = congested
        return chosen

    return beside


@mutant("each of a batch takes a slot", "V15|congestion", LaneState, "share")
def _(right: Any) -> Any:
    return lambda self, tokens: None


@mutant("a batch gives its slot back with the first of it", "slots", LaneState, "give_back")
def _(right: Any) -> Any:
    def give_back(self: LaneState[Any], token: int) -> None:
        if token in self._shared:
            self._riding += len(self._shared[token]) == self._riding + 1
        right(self, token)

    return give_back


@mutant("a batch that was partly given up is given up", "slots", LaneState, "_riding_stranded")
def _(right: Any) -> Any:
    return lambda self: len(self._stranded) - self._flights(self._stranded)


@mutant("each of a batch takes long", "congestion", LaneState, "_flights")
def _(right: Any) -> Any:
    return lambda self, tokens, *, whole=False: right(self, tokens, whole=whole) if whole else len(set(tokens))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_rules_catch_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with this one wrong line breaks the invariant that stands for it."""
    if isinstance(mutant.owner, dict):
        monkeypatch.setitem(mutant.owner, mutant.attribute, mutant.wrong(mutant.owner[mutant.attribute]))
    else:
        right = getattr(mutant.owner, mutant.attribute)
        monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.wrong(right))
    with pytest.raises((AssertionError, KeyError), match=mutant.caught_by):
        for seed in range(WALKS):
            walk(seed, steps=120)


def test_every_invariant_has_a_mutant() -> None:
    """No invariant is without a machine that breaks it."""
    caught = " ".join(mutant.caught_by for mutant in MUTANTS)
    assert all(
        name in caught
        for name in ("V2", "V5", "V6", "V7", "V9", "V10", "V15", "slots", "fairness", "congestion", "batch")
    )
