"""Whatever can happen to a Machine, as Hypothesis rules, beside a reference that only remembers what it was told.

The reference keeps a list of saves per chain and a few flags. After every step it is compared with the machine; each check
is named after the invariant that it stands for: V1 one in flight, V2 order of starts, V5 nothing disappears, V6 nothing is
sent after it settled, V7 one outcome, V9 what outcomes mean, V10 idle means idle, V15 everything drains; and congestion: one at
a time while there are long ones, and each turn of it is told once.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chained_models._lane import Lane, LaneState, Signal
from chained_models._machine import Effect, Idle, Machine, Settled, Start, Together, Wake
from chained_models._pace import CallOptions, Pace, Rest, Unrest
from chained_models._states import OUTCOMES, SaveState
from chained_models.exceptions import (
    Conflict,
    Gone,
    InDoubt,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Guarantee, Method
from chained_models.policies import OnFailure, Outcome, RetryPolicy, Ruling, Verdict, judge

SAVES = range(6)
CALLS = (6, 7)
KEYS = (*SAVES, *CALLS)
"""Chains of saves, and of calls."""
LANES = 2
POLICIES = (
    RetryPolicy(attempts=1, timeout=8),
    RetryPolicy(attempts=3, wait_initial=1, wait_max=4, timeout=16),
    RetryPolicy(attempts=4, wait_initial=2, wait_max=2, wait_jitter=0, timeout=64),
)
FAILURES: tuple[type[BaseException], ...] = (
    Rejected, Conflict, Gone, Unavailable, InDoubt, ValueError, KeyboardInterrupt, *[Unauthenticated] * 3,
)  # fmt: skip
SURELY_NOT = (Rejected, Conflict, Gone, Unavailable, Unauthenticated)
ONCE = RetryPolicy(attempts=1, timeout=0)
OPTIONS = (
    CallOptions(delay=2.0, batch=3, timeout=8.0),
    CallOptions(batch=2),
    CallOptions(delay=4.0, timeout=4.0),
    CallOptions(),
)
SETTLED = frozenset(OUTCOMES)
NUMBERS = range(24)
BOTH = (False, True)

STEPS: dict[str, tuple[int, Callable[[Any], bool], dict[str, Sequence[Any]]]] = {}
"""Every rule by name: how often a walk takes it, when it can, and from what its arguments are chosen."""


def step(
    weight: int = 2, *, when: Callable[[Any], bool] = lambda self: True, **choices: Sequence[Any]
) -> Callable[[Any], Any]:
    """A rule for Hypothesis, which a walk can take too."""

    def enter(function: Any) -> Any:
        STEPS[function.__name__] = weight, when, choices
        return precondition(when)(
            rule(**{name: st.sampled_from(list(given)) for name, given in choices.items()})(function)
        )

    return enter


def walk(seed: int, steps: int) -> None:
    """Take random steps, and drain. As the state machine does, but without looking for the shortest way: ten times as fast."""
    random = Random(seed)
    rules, names = MachineRules(), list(STEPS)
    # Each walk has favourites of its own, so that some fill queues, others fail all the time, or pause.
    weights = [STEPS[name][0] * random.choice((0, 1, 1, 4)) for name in names]
    if random.random() < 0.25:  # some backends are slow
        slow = {
            "reserve": 12,
            "it_takes_long": 6,
            "look": 2,
            "time_passes": 1,
            "succeed": 4,
            "fail": 3,
            "release": 8,
            "wake": 2,
        }
        slow |= {"give_up": 1, "late_end": 1, "resume_lane": 4, "hear_of_lane": 4}
        weights = [slow.get(name, 0.3) for name in names]
    for name in random.choices(names, weights, k=steps):
        _, when, choices = STEPS[name]
        if when(rules):
            getattr(rules, name)(**{argument: random.choice(given) for argument, given in choices.items()})
            rules.reference_and_machine_agree()
            rules.slots_are_attempts()
    rules.teardown()


class FakeSave:
    """A save as the machine sees it, and what the reference knows of it."""

    def __init__(self, key: int, policy: RetryPolicy, timeout: float, *, passes_halt: bool) -> None:
        self.policy, self.timeout, self.passes_halt, self.waits, self.own = policy, timeout, passes_halt, 0, ()
        self.seq = self.token = self.attempts = 0
        self.state, self.chain = SaveState.PREPARING, None
        self.started = self.spent = 0.0
        self.due = self.doubted = self.fronted = self.open = False
        self.pace: Any = None
        self.riders: Any = ()
        self.company: Any = None
        """Those of the same may be sent together."""
        self.manual = self.listed = self.alone = False
        self.given_timeout: float | None = None
        # The reference.
        self.key = key
        self.filled = False
        self.ran: list[int] = []
        """Tokens of all its attempts."""
        self.running: int | None = None
        self.waits_for: int | None = None
        """The token of the wake-up that the next attempt waits for."""
        self.since = 0.0
        self.used = 0.0
        self.counted = 0
        """Attempts used up."""
        self.applied = "no"
        self.outcome: Outcome | None = None
        self.left_open = False

    def __repr__(self) -> str:
        return f"<{self.seq} of {self.key}: {self.state.value}>"

    @property
    def left(self) -> float:
        return max(self.policy.timeout, self.timeout) - self.used


class Line:
    """The reference's chain."""

    def __init__(self) -> None:
        self.saves: list[FakeSave] = []
        self.active: FakeSave | None = None
        self.finishing: FakeSave | None = None
        self.telling: list[FakeSave] = []
        """Those that ended with it, and have not been told."""
        self.paused = False
        self.halted: FakeSave | None = None
        self.together: list[FakeSave] = []
        """The one in flight, and those that are carried out with it."""
        self.failed: list[FakeSave] = []
        """What halted it."""
        self.rests = -math.inf
        """When its rest is over."""
        self.rest: int = 0
        """The token with which somebody will say so."""

    @property
    def startable(self) -> FakeSave | None:
        if self.paused or self.finishing or not self.saves:
            return None
        head = self.active or self.saves[0]
        held = (self.halted is not None and not head.passes_halt) or not head.filled
        return None if held or head.running is not None or head.waits_for is not None else head

    @property
    def empty(self) -> bool:
        return not (self.saves or self.finishing or self.paused or self.halted)


class Congestion:
    """The reference's idea of what takes long in a lane."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.long: set[int] = set()
        """Tokens of attempts of which it was told."""
        self.congested = False
        self.since: set[int] = set()
        """Tokens of attempts that have started since."""


class MachineRules(RuleBasedStateMachine):
    """Any interleaving of what a dispatcher may do to its machine."""

    machine_type = Machine
    lane_type: Any = LaneState

    def __init__(self) -> None:
        super().__init__()
        self.machine = self.machine_type()
        lanes = (
            Lane(max_in_flight=1, long_after=8, max_long=1),
            Lane(max_in_flight=3, max_batch=2, long_after=3, max_long=2),
        )
        self.lanes = [self.lane_type(lane) for lane in lanes]
        self.congestions = [Congestion(lane) for lane in lanes]
        self.unheard = [False] * LANES
        """Lanes that go on, of which the machine has not been told yet."""
        self.lines = {key: Line() for key in KEYS}
        self.all: list[FakeSave] = []
        self.together: dict[int, frozenset[int]] = {}
        """Token of every attempt that was started with others, and the tokens of all of them."""
        self.stranded: list[tuple[FakeSave, int]] = []
        self.over: list[tuple[FakeSave, int]] = []
        self.wakes: list[tuple[FakeSave, int]] = []
        self.rung: list[tuple[FakeSave, int]] = []
        self.releases: list[FakeSave] = []
        self.overtaken: dict[int, Counter[int]] = {key: Counter() for key in KEYS}
        self.paces = {key: Pace(OPTIONS[key - CALLS[0]]) for key in CALLS}
        self.rings: list[tuple[Any, int, int]] = []
        """Chain, key and token of every rest whose end will be told, and of some that were taken back."""

    # Carrying out effects, as a dispatcher does

    def lane_of(self, key: int) -> Any:
        return self.lanes[key % LANES]

    def congestion_of(self, key: int) -> Congestion:
        return self.congestions[key % LANES]

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Signal(name, save):
                    self.hears(name, save)
                case Start(save, token):
                    self.starts(save, token)
                case Together(starts):
                    self.start_in_company(starts)
                case Wake(save, token, _):
                    assert save.waits_for is None and save.running is None, f"V15: two wake-ups for {save}"
                    save.waits_for = token
                    self.wakes.append((save, token))
                case Settled(save, release):
                    self.settles(save, release=release)
                case Rest(save, token, delay):
                    line = self.lines[save.key]
                    assert not line.rest, f"V15: two will tell that the rest of {save.key} is over"
                    assert line.saves and math.isclose(self.machine.now + delay, line.rests), (
                        "V15: a rest of another length"
                    )
                    line.rest = token
                    save.pace.unrest = partial(setattr, line, "rest", 0)
                    self.rings.append((save.chain, save.key, token))
                case Unrest(say):
                    say()
                case Idle(chain):
                    assert self.lines[chain.key].empty, f"V10: {chain.key} is not idle"

    def starts(self, save: FakeSave, token: int, *, goes_along: bool = False) -> None:
        line = self.lines[save.key]
        assert save.outcome is None, f"V6: {save} is sent after it settled"
        assert line.active in (None, save) and save.running is None, f"V1: {save} starts beside {line.active}"
        assert line.saves and line.startable is save, f"V2: {save} starts, of {line.saves}"
        assert self.machine.now >= line.rests, f"V2: {save} starts while its chain rests"
        self.starts_together(save, token)
        assert token not in save.ran, f"V7: {save} uses a token twice"
        congestion = self.congestion_of(save.key)
        if congestion.congested:
            beside = [one for one in self.running if one.running in congestion.since]
            assert not beside, f"congestion: {save} starts beside {beside}"
            congestion.since.add(token)
        line.active, save.running, save.since = save, token, self.machine.now
        for one in line.together:
            one.ran.append(token)
            one.counted += 1
            assert one.counted == one.attempts, f"V15: {one} counts {one.attempts} attempts, not {one.counted}"
            assert one.state is SaveState.IN_FLIGHT, f"V1: {one} is not in flight with {save}"
        assert save.counted <= save.policy.attempts or save.pace, f"V15: {save} is tried without end"
        assert not self.lane_of(save.key).lane.paused, f"V15: {save} starts although its lane is paused"
        for key, other in self.lines.items():
            beside = key != save.key and self.lane_of(key) is self.lane_of(save.key)
            if beside and not goes_along and other.startable is not None and not self.resting(key):
                self.overtaken[key][save.key] += 1
                assert self.overtaken[key][save.key] <= 1, f"fairness: {save.key} overtakes {key} twice"
        self.overtaken[save.key].clear()

    def start_in_company(self, starts: list[Start]) -> None:
        """A batch is of different chains of one lane that may share an attempt, and have the same time for it."""
        lane = self.lane_of(starts[0].save.key)
        assert 1 < len(starts) <= lane.lane.max_batch, f"batch: {len(starts)} in one of {lane.lane.max_batch}"
        for facts in ("company", "timeout"):
            assert len({getattr(one.save, facts) for one in starts}) == 1, f"batch: {starts} have not the same {facts}"
        assert starts[0].save.company is not None, "batch: one that goes alone does not"
        assert len({one.save.key for one in starts}) == len(starts), f"V1: two of a chain in {starts}"
        assert {self.lane_of(one.save.key) for one in starts} == {lane}, f"batch: {starts} are of several lanes"
        assert not self.congestion_of(starts[0].save.key).congested, "congestion: several at a time"
        self.together |= dict.fromkeys((one.token for one in starts), frozenset(one.token for one in starts))
        for one in starts:
            # Who goes along takes no place of anybody's.
            self.starts(one.save, one.token, goes_along=one is not starts[0])

    def flights(self, tokens: set[int], *, of: set[int] | None = None) -> int:
        """How many attempts these are, a batch being one; only batches of which all that run are among them, if `of` tells those."""
        batches = {self.together.get(token, frozenset({token})) for token in tokens}
        return sum(of is None or batch & of <= tokens for batch in batches)

    def starts_together(self, save: FakeSave, token: int) -> None:
        """A batch is what is queued right behind the first of it, and then stays together."""
        line = self.lines[save.key]
        if line.active is None:
            line.together = [save]
            if save.pace is not None:
                for one in line.saves[1 : save.pace.options.batch]:
                    if save.alone or one.alone or not one.filled:
                        break
                    line.together.append(one)
        assert [save, *save.riders] == line.together, f"V2: {save} starts with {save.riders}, not {line.together}"
        if save.pace is not None:
            own = [save.pace.options.timeout if o.given_timeout is None else o.given_timeout for o in line.together]
            assert save.timeout == min(own), f"V15: {save} has {save.timeout} s, of {own}"
        save.left_open = False

    def hears(self, name: str, save: FakeSave) -> None:
        congestion = self.congestion_of(save.key)
        running = {one.running for one in self.running}
        if name == "long_running":
            token = save.running
            assert token is not None, f"congestion: {save} is not in flight, and said to take long"
            assert token not in congestion.long, f"congestion: {save} is said to take long twice"
            assert self.machine.now - save.since >= congestion.lane.long_after, f"congestion: {save} does not take long"
            congestion.long.add(token)
        elif name == "congested":
            assert not congestion.congested, "congestion: said twice"
            long = congestion.long & {token for token in running if token is not None}
            assert self.flights(long) >= congestion.lane.max_long, "congestion: too early"
            assert save.running in congestion.long, f"congestion: not by {save}"
            congestion.congested, congestion.since = True, set()
        else:
            assert congestion.congested, "congestion: it recovers, and was not congested"
            assert not congestion.long & running, "congestion: it recovers, and some still take long"
            assert congestion.long & set(save.ran), f"congestion: {save} did not take long"
            congestion.congested = False

    def settles(self, save: FakeSave, *, release: bool) -> None:
        line = self.lines[save.key]
        outcome = OUTCOMES.get(save.state)
        assert outcome is not None and save.outcome is None, f"V7: {save} ends twice, or not at all"
        assert save in line.saves, f"V5: {save} was not in line"
        save.outcome = outcome
        line.saves.remove(save)
        assert release is bool(save.ran), f"V10: {save} keeps the next one back, or fails to"
        assert bool(save.ran) is (save in line.together), f"V1: {save} was not in flight"
        if outcome is Outcome.SAVED:
            assert save.applied == "yes" or not save.ran, f"V9: {save}, yet nobody said so"
        elif outcome is Outcome.FAILED:
            assert save.applied == "no", f"V9: {save}, yet it may have been applied"
        elif outcome is Outcome.CANCELLED:
            assert not save.ran, f"V9: {save}, yet it was sent"
        if release:
            line.telling.append(save)
            self.releases.append(save)
            if save is line.together[-1]:
                line.finishing, line.active, line.together = line.active, None, []
                assert line.finishing is not None

    def pick(self, items: list[Any], n: int) -> Any:
        return items[n % len(items)]

    @property
    def running(self) -> list[FakeSave]:
        return [save for save in self.all if save.running is not None]

    @property
    def queued(self) -> list[FakeSave]:
        return [save for save in self.all if save.filled and save.outcome is None and not save.ran]

    # Taking a place in line

    @step(
        8,
        key=SAVES,
        policy=POLICIES,
        timeout=[4.0, 16.0],
        fill=BOTH,
        company=[None, "a", "a", "a", "a"],
    )
    def reserve(self, key: int, policy: RetryPolicy, timeout: float, fill: bool, company: str | None) -> None:
        save = FakeSave(key, policy, timeout, passes_halt=False)
        save.company = company
        self.add(save, fill=fill)

    @step(
        10,
        key=CALLS,
        timeout=[None, None, 4.0, 16.0],
        alone=[False, False, True],
        urgent=[False, False, True],
        fill=BOTH,
    )
    def call(self, key: int, timeout: float | None, alone: bool, urgent: bool, fill: bool) -> None:
        """An item is added to a chain of calls."""
        self.add(self.new_call(key, timeout, alone=alone), fill=fill, urgent=urgent)

    def new_call(self, key: int, timeout: float | None, *, alone: bool) -> FakeSave:
        save = FakeSave(key, ONCE, math.inf, passes_halt=False)
        save.pace, save.given_timeout, save.alone = self.paces[key], timeout, alone
        return save

    @step(1, key=CALLS, options=OPTIONS)
    def update(self, key: int, options: CallOptions) -> None:
        self.paces[key].options = options

    @step(when=lambda self: bool(self.halted()), n=NUMBERS, fill=BOTH)
    def refresh(self, n: int, fill: bool) -> None:
        """On a halted chain a refresh goes in front."""
        key = self.pick(self.halted(), n)
        self.add(FakeSave(key, POLICIES[0], 4.0, passes_halt=True), fill=fill)

    def halted(self) -> list[int]:
        return [key for key, line in self.lines.items() if line.halted and key not in CALLS]

    def add(self, save: FakeSave, *, fill: bool, urgent: bool = False) -> None:
        self.machine.reserve(save.key, self.lane_of(save.key), save, front=save.passes_halt or urgent)
        assert all(save.seq > other.seq for other in self.all), "V2: the numbers of saves rise"
        self.all.append(save)
        line = self.lines[save.key]
        line.saves.append(save)
        if save.passes_halt:
            line.saves.sort(key=lambda one: one is not line.active and not one.passes_halt)
        if urgent:
            self.overtaken[save.key].clear()  # with another head it asks anew
            line.saves.sort(key=lambda one: one not in line.together and one is not save)
        if fill:
            self.do_fill(save)

    def do_fill(self, save: FakeSave) -> None:
        save.filled = True
        self.carry_out(self.machine.fill(save))

    def unfilled(self) -> list[FakeSave]:
        return [save for save in self.all if not save.filled and save.outcome is None]

    @step(5, when=lambda self: bool(self.unfilled()), n=NUMBERS)
    def fill(self, n: int) -> None:
        self.do_fill(self.pick(self.unfilled(), n))

    @step(1, when=lambda self: bool(self.unfilled()), n=NUMBERS)
    def withdraw(self, n: int) -> None:
        save = self.pick(self.unfilled(), n)
        self.all.remove(save)
        self.lines[save.key].saves.remove(save)
        self.carry_out(self.machine.withdraw(save))

    # Attempts

    @step(4, when=lambda self: bool(self.running), n=NUMBERS)
    def succeed(self, n: int) -> None:
        self.report(self.pick(self.running, n), None)

    @step(
        7,
        when=lambda self: bool(self.running),
        n=NUMBERS,
        kind=FAILURES,
        method=[Method.CREATE, Method.UPDATE],
        guarantee=[Guarantee.PLAIN, Guarantee.IDEMPOTENT],
        on_failure=[None, *OnFailure],
        random=[0.0, 0.5],
    )
    def fail(
        self, n: int, kind: type[BaseException], method: Method, guarantee: Guarantee, on_failure: Any, random: float
    ) -> None:
        save = self.pick(self.running, n)
        if not issubclass(kind, SURELY_NOT):
            save.applied = "maybe"
        verdict = judge(
            kind(),
            method=method,
            guarantee=guarantee,
            attempts=save.attempts,
            spent=save.used + self.machine.now - save.since,
            was_in_doubt=save.doubted,
            policy=save.policy,
            on_failure=on_failure,
            random=random,
        )
        if save.pace is not None:
            save.applied = "no"
            verdict = Verdict(Ruling.SETTLE, Outcome.FAILED, halt=on_failure is OnFailure.HALT)
        if verdict.ruling is Ruling.HOLD:
            self.lane_of(save.key).lane.pause()
        self.report(save, verdict)

    def report(self, save: FakeSave, verdict: Verdict | None) -> None:
        token = save.running
        assert token is not None
        save.running = None
        line = self.lines[save.key]
        if verdict is None:
            for one in line.together:
                one.applied = "yes"
        elif verdict.ruling is Ruling.HOLD:
            save.counted -= 1
        elif verdict.ruling is Ruling.RETRY:
            save.used += self.machine.now - save.since + verdict.delay
        elif verdict.halt and line.halted is None:
            line.halted, line.failed = save, list(line.together)
        if verdict is None or verdict.ruling is Ruling.SETTLE:
            self.rests(save)
        self.over.append((save, token))
        effects = self.machine.finished(save, token, verdict)
        assert effects is not None, f"V5: the end of {save} is taken for stale"
        self.carry_out(effects)
        if verdict is None or verdict.ruling is Ruling.SETTLE:
            assert save.outcome is not None, f"V5: {save} has ended, and is not settled"
        elif verdict.ruling is Ruling.RETRY:
            assert save.waits_for is not None, f"V15: {save} waits for nothing"

    def rests(self, save: FakeSave) -> None:
        if save.pace is not None:
            self.lines[save.key].rests = self.machine.now + save.pace.options.delay

    def in_hand(self) -> list[FakeSave]:
        """Calls that are running."""
        return [save for save in self.running if save.pace is not None]

    @step(3, when=lambda self: bool(self.in_hand()), n=NUMBERS)
    def again(self, n: int) -> None:
        """A turn wants another attempt."""
        save = self.pick(self.in_hand(), n)
        token, save.running = save.running, None
        assert token is not None
        self.over.append((save, token))
        self.rests(save)
        effects = self.machine.again(save, token)
        assert effects is not None, f"V5: the end of {save} is taken for stale"
        self.carry_out(effects)

    @step(3, when=lambda self: bool(self.in_hand()), n=NUMBERS)
    def leave_open(self, n: int) -> None:
        """A worker returns, and the turn is still open."""
        save = self.pick(self.in_hand(), n)
        save.left_open = True
        self.carry_out(self.machine.left_open(save, save.ran[-1]))

    @step(5, when=lambda self: bool(self.rings), n=NUMBERS)
    def rest_is_over(self, n: int) -> None:
        """Somebody comes to say so, maybe too late, or a little early."""
        chain, key, token = ring = self.pick(self.rings, n)
        self.rings.remove(ring)
        line = self.lines[key]
        if token == line.rest:
            line.rest = 0
            line.rests = min(line.rests, self.machine.now)
        self.carry_out(self.machine.rested(chain, token))

    @step(1, key=CALLS)
    def rest_anew(self, key: int) -> None:
        """Whoever was to say so is gone."""
        chain = self.machine.chains.get(key)
        if chain is not None:
            self.lines[key].rest = 0
            self.carry_out(self.machine.rest_anew(chain))

    def stale(self, save: FakeSave, token: int, verdict: Verdict | None) -> None:
        before = self.seen()
        assert self.machine.finished(save, token, verdict) is None, f"V1: a stale end of {save} counts"
        if save.pace is not None:
            assert self.machine.again(save, token) is None, f"V1: a late wish of {save} counts"
        assert self.seen() == before, f"V1: a stale end of {save} changes something"
        self.carry_out(self.machine.lane_resumed(self.lane_of(save.key)))

    def seen(self) -> Any:
        chains = {c.key: (list(c.saves), c.active, c.finishing, c.paused, c.halted) for c in self.machine}
        facts = [(s.seq, s.state, s.token, s.attempts, s.due, s.doubted, s.spent) for s in self.all]
        return chains, facts, [list(lane.ready) for lane in self.lanes]

    @step(when=lambda self: bool(self.stranded), n=NUMBERS, ok=BOTH)
    def late_end(self, n: int, ok: bool) -> None:
        """An attempt that was given up ends after all."""
        save, token = entry = self.pick(self.stranded, n)
        self.stranded.remove(entry)
        self.over.append(entry)
        if save.pace is not None and ok:
            self.carry_out(self.machine.left_open(save, token))
            return
        self.stale(save, token, None if ok else Verdict(Ruling.RETRY, delay=1.0))

    @step(when=lambda self: bool(self.over), n=NUMBERS, ok=BOTH)
    def duplicate(self, n: int, ok: bool) -> None:
        """A transport calls back twice."""
        self.stale(*self.pick(self.over, n), None if ok else Verdict(Ruling.SETTLE, Outcome.ABANDONED, in_doubt=True))

    @step(8, when=lambda self: bool(self.releases), n=NUMBERS)
    def release(self, n: int) -> None:
        save = self.pick(self.releases, n)
        self.releases.remove(save)
        line = self.lines[save.key]
        line.telling.remove(save)
        if not line.telling:
            line.finishing = None
        idle = line.empty
        effects = self.machine.released(save.chain)
        self.carry_out(effects)
        assert any(isinstance(effect, Idle) for effect in effects) is idle, (
            f"V10: {save.key} is idle and does not say so"
        )

    @step(5, when=lambda self: bool(self.wakes), n=NUMBERS)
    def wake(self, n: int) -> None:
        save, token = entry = self.pick(self.wakes, n)
        self.wakes.remove(entry)
        self.rung.append(entry)
        if save.waits_for == token:
            save.waits_for = None
        self.carry_out(self.machine.woke(save, token))

    @step(when=lambda self: bool(self.rung), n=NUMBERS)
    def wake_twice(self, n: int) -> None:
        before = self.seen()
        self.carry_out(self.machine.woke(*self.pick(self.rung[-4:], n)))
        assert self.seen() == before or any(self.unheard), "V15: a wake-up that was over changes something"

    @step(3, seconds=[1.0, 4.0, 16.0, 64.0])
    def time_passes(self, seconds: float) -> None:
        self.machine.now += seconds

    @step(6, lane=range(LANES))
    def look(self, lane: int) -> None:
        """Somebody looks after the attempts in flight."""
        now, state = self.machine.now, self.lanes[lane]
        mine = [save for save in self.running if self.lane_of(save.key) is state]
        over = [save for save in mine if now >= save.since + save.left]
        expired, next_look = self.machine.overdue(state)
        assert expired == sorted(over, key=lambda save: save.ran[-1]), (
            "V15: an attempt is over its time, and nobody sees it"
        )
        for save in mine:
            late = now >= save.since + min(save.timeout, save.left)
            assert (save.state is SaveState.IN_DOUBT) >= late, f"V9: {save} is over its time, and not in doubt"
        for save in expired:
            self.gives_up(save, Outcome.ABANDONED, halt=False)
        alive = [save for save in mine if save not in over]
        long = [save for save in alive if now >= save.since + state.lane.long_after]
        effects, next_long = self.machine.lengthened(state)
        self.carry_out(effects)
        assert {save.running for save in long} <= self.congestions[lane].long, "congestion: nobody sees what takes long"
        short = [save.since + state.lane.long_after for save in alive if save not in long]
        assert next_long is not None or not short, "congestion: nobody will look again"
        assert next_long is None or next_long > now, "congestion: looking without end"
        assert (next_look is None) is not bool(alive), "V15: nobody will look again"
        assert next_look is None or next_look > now, "V15: looking without end"

    @step(1)
    def it_takes_long(self) -> None:
        self.time_passes(4.0)
        for lane in range(LANES):
            self.look(lane)

    @step(1, when=lambda self: bool(self.running), n=NUMBERS, halt=BOTH)
    def give_up(self, n: int, halt: bool) -> None:
        self.gives_up(self.pick(self.running, n), Outcome.ABANDONED, halt=halt)

    @step(when=lambda self: bool(self.waiting()), n=NUMBERS)
    def give_up_waiting(self, n: int) -> None:
        """The next attempt of a save will never start."""
        save = self.pick(self.waiting(), n)
        self.gives_up(save, Outcome.FAILED if save.applied == "no" else Outcome.ABANDONED, halt=False)

    def waiting(self) -> list[FakeSave]:
        leading = [line.active for line in self.lines.values() if line.active is not None]
        return [save for save in self.all if save in leading and save.running is None]

    def gives_up(self, save: FakeSave, outcome: Outcome, *, halt: bool) -> None:
        line = self.lines[save.key]
        if save.running is not None:
            if not save.left_open:
                self.stranded.append((save, save.running))
            save.running = None
            for one in line.together:
                one.applied = "maybe"
        save.waits_for = None
        if halt and line.halted is None:
            line.halted, line.failed = save, list(line.together)
        self.rests(save)
        self.carry_out(self.machine.give_up(save, outcome, halt=halt))
        assert save.outcome is outcome, f"V5: {save} was given up, and is not settled"

    # Verbs

    @step(1, key=KEYS)
    def pause(self, key: int) -> None:
        self.lines[key].paused = True
        self.machine.pause(key, self.lane_of(key))

    @step(3, key=KEYS, times=[1, 2])
    def resume(self, key: int, times: int) -> None:
        for _ in range(times):
            chain = self.machine.chains.get(key)
            assert chain is not None or self.lines[key].empty, f"V5: {key} is gone"
            self.lines[key].paused = False
            if chain is not None:
                self.carry_out(self.machine.resume(chain))

    @step(1, when=lambda self: bool(self.queued), n=NUMBERS, outcome=[Outcome.CANCELLED, Outcome.FAILED, Outcome.SAVED])
    def settle_queued(self, n: int, outcome: Outcome) -> None:
        """Cancelled, failed with another's cause, or nothing to send."""
        save = self.pick(self.queued, n)
        self.carry_out(self.machine.settle_queued(save, outcome))
        assert save.outcome is outcome, f"V5: {save} was taken out, and is not settled"

    @step(1, key=KEYS)
    def clear(self, key: int) -> None:
        line, chain = self.lines[key], self.machine.chains.get(key)
        if chain is None:
            return
        active = line.active
        for save in list(line.saves):
            if save.state is SaveState.QUEUED:
                self.carry_out(self.machine.settle_queued(save, Outcome.CANCELLED))
        line.halted = None
        self.carry_out(self.machine.lift(chain))
        assert active is None or line.active is active, f"V1: clear() frees the place in flight of {key}"
        assert all(not save.filled or save.ran for save in line.saves), f"V5: clear() leaves something in {key}"

    @step(key=KEYS)
    def skip(self, key: int) -> None:
        chain = self.machine.chains.get(key)
        if chain is not None:
            self.lines[key].halted = None
            self.carry_out(self.machine.lift(chain))

    @step(when=lambda self: any(line.halted for line in self.lines.values()), n=NUMBERS)
    def retry(self, n: int) -> None:
        key = self.pick([key for key, line in self.lines.items() if line.halted], n)
        line, chain = self.lines[key], self.machine.chains.get(key)
        assert chain is not None and chain.halted is line.halted, f"V5: {key} has forgotten what halted it"
        if key in CALLS:
            assert [chain.halted, *chain.halted.riders] == line.failed, f"V5: {key} has forgotten what failed"
            save, *save.riders = (self.new_call(key, one.given_timeout, alone=one.alone) for one in line.failed)
        else:
            save = FakeSave(key, POLICIES[1], 4.0, passes_halt=False)
        for one in (save, *save.riders):
            one.filled = True
            self.all.append(one)
        line.saves[:0] = [save, *save.riders]
        line.halted = None
        self.carry_out(self.machine.follow_up(chain, save))

    @step(when=lambda self: bool(self.movable()), n=NUMBERS, m=NUMBERS)
    def move(self, n: int, m: int) -> None:
        """A create has got an identity that already has a chain."""
        old, new = self.pick(self.movable(), n)
        saves = [save for save in self.lines[old].saves if not save.ran]
        moved = saves[m % len(saves) :]
        for save in moved:
            self.lines[old].saves.remove(save)
            save.key = new
        self.overtaken[old].clear()  # with another head it asks anew
        line = self.lines[new]
        here = [save for save in line.saves if save is not line.active]
        # By number; whoever was put in front of others has the number of the first of them.
        turns = [(min(one.seq for one in row[at:]), row[at]) for row in (here, moved) for at in range(len(row))]
        line.saves = [save for save in line.saves if save is line.active]
        line.saves += [save for _, save in sorted(turns, key=lambda turn: turn[0])]
        self.carry_out(self.machine.move_to(self.machine.chains[new], moved))

    def movable(self) -> list[tuple[int, int]]:
        """Pairs of chains with something to move, and something to join."""
        return [
            (old, new)
            for old in KEYS
            for new in self.machine.chains
            if old != new
            and old not in CALLS
            and new not in CALLS
            and self.lane_of(old) is self.lane_of(new)
            and any(not s.ran for s in self.lines[old].saves)
        ]

    @step(3, when=lambda self: bool(self.replaceable()), n=NUMBERS)
    def replace(self, n: int) -> None:
        """A newer call takes the place of an older one."""
        older, newer = self.pick(self.replaceable(), n)
        saves = self.lines[older.key].saves
        saves.remove(newer)
        saves.insert(saves.index(older) + 1, newer)
        self.carry_out(self.machine.supersede(older, newer))
        assert older.outcome is Outcome.SUPERSEDED, f"V5: {older} was replaced, and is not settled"

    def replaceable(self) -> list[tuple[FakeSave, FakeSave]]:
        """Pairs of calls, the latter behind the former in one line."""
        queued = [[save for save in self.lines[key].saves if save.filled and not save.ran] for key in CALLS]
        return [(line[at], newer) for line in queued for at in range(len(line)) for newer in line[at + 1 :][-1:]]

    @step(1, lane=range(LANES))
    def pause_lane(self, lane: int) -> None:
        self.lanes[lane].lane.pause()

    @step(4, lane=range(LANES))
    def resume_lane(self, lane: int) -> None:
        """The flag falls first; the machine hears of it when it has its turn."""
        self.lanes[lane].lane.resume()
        self.unheard[lane] = True

    @step(4, lane=range(LANES))
    def hear_of_lane(self, lane: int) -> None:
        self.unheard[lane] = False
        self.carry_out(self.machine.lane_resumed(self.lanes[lane]))

    # What always holds

    @invariant()
    def reference_and_machine_agree(self) -> None:
        kept = {key: line for key, line in self.lines.items() if not line.empty}
        assert set(self.machine.chains) == set(kept), "V10: idle means that nothing is left, and nothing else does"
        for key, line in kept.items():
            chain = self.machine.chains[key]
            in_line = list(chain.saves.values())
            assert set(in_line) == set(line.saves), f"V5: {key} holds {in_line}, not {line.saves}"
            assert in_line == line.saves or (line.active and key not in CALLS), (
                f"V2: {key} holds {in_line}, not {line.saves}"
            )
            assert chain.active is line.active, f"V1: {key} has {chain.active} in flight, not {line.active}"
            assert chain.finishing is line.finishing, f"V10: {key} waits for {chain.finishing}, not {line.finishing}"
            assert chain.halted is line.halted, f"V5: {key} was halted by {chain.halted}, not {line.halted}"
            assert chain.paused is line.paused, f"V10: {key} is paused, or should be"
            rests = self.machine.now < line.rests and any(save.filled for save in line.saves)
            assert bool(line.rest) or not rests, f"V15: nobody will tell that the rest of {key} is over"
        for key, line in self.lines.items():
            assert line.saves or not self.told(key), f"V10: nobody waits for the end of the rest of {key}"
        for save in self.all:
            assert (save.state in SETTLED) is (save.outcome is not None), f"V7: {save} has changed its outcome"

    def told(self, key: int) -> bool:
        """Whether somebody will tell that the rest of that chain is over."""
        return key in CALLS and bool(self.paces[key].waking)

    def resting(self, key: int) -> bool:
        """Whether its chain rests, or the machine has not heard yet that it does not any more."""
        return self.machine.now < self.lines[key].rests or self.told(key)

    @invariant()
    def slots_are_attempts(self) -> None:
        for number, state in enumerate(self.lanes):
            mine = {save.running: save for save in self.running if self.lane_of(save.key) is state}
            lost = {token: save for save, token in self.stranded if self.lane_of(save.key) is state}
            assert state.slots == mine | lost, "slots: one for each attempt that runs"
            most = state.lane.max_in_flight
            taken, hang = self.flights(set(state.slots)), self.flights(set(lost), of=set(state.slots))
            assert taken <= most + min(hang, most), "slots: more than the lane has"
            ready = [
                key for key, line in self.lines.items() if self.lane_of(key) is state and line.startable is not None
            ]
            in_line = {chain.key for chain in state.ready}
            ready = [key for key in ready if self.machine.now >= self.lines[key].rests]
            missed = [
                key
                for key in ready
                if key not in in_line and not self.told(key) and all(save.filled for save in self.lines[key].saves)
            ]
            assert in_line <= set(ready) and not missed, "V10: the line before the lane is who could start"
            room = not state.lane.paused and taken - min(hang, most) < most
            congestion = self.congestions[number]
            long = {token for token in mine if token in congestion.long}
            assert congestion.congested is state.congested is state.lane.congested, "congestion: not as it was told"
            assert bool(long) or not congestion.congested, "congestion: nobody says that it is over"
            assert self.flights(long) < state.lane.max_long or congestion.congested, "congestion: nobody says so"
            room = room and not (congestion.congested and congestion.since & set(mine))
            assert not (in_line and room) or self.unheard[number], f"V15: {ready} could start, and nobody does"
        for key, line in self.lines.items():
            if line.startable is None or self.resting(key):
                self.overtaken[key].clear()

    def teardown(self) -> None:
        """Once faults stop, everything drains, and nothing is left."""
        if sys.exc_info()[0] is not None:
            return  # It has failed already, and shall say why.
        for save in self.unfilled():
            self.do_fill(save)
        for number, state in enumerate(self.lanes):
            state.lane.resume()
            self.hear_of_lane(number)
        for _ in range(4 * len(self.all) + 40):
            for key in KEYS:
                self.resume(key, 1)
                self.skip(key)
            while self.stranded:
                self.late_end(0, ok=True)
            for rounds, step in (
                (self.running, self.succeed),
                (self.wakes, self.wake),
                (self.releases, self.release),
                (self.rings, self.rest_is_over),
            ):
                for _ in list(rounds):
                    step(0)
            self.reference_and_machine_agree()
            self.slots_are_attempts()
            if not self.machine.chains:
                break
        left = [save for save in self.all if save.outcome is None]
        assert not left and not self.machine.chains, f"V15: {left} did not end"
        for state in self.lanes:
            left = state.slots, state.ready, state._stranded, state._shared, state._riding
            assert not any(left), "V10: slots are left"
