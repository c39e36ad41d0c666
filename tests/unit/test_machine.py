"""The machine, one cell of its table and one decision at a time; its interleavings are in tests/property."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from chained_models._lane import Lane, LaneState, Renew, Signal
from chained_models._machine import Chain, Idle, Machine, Settled, Start, Wake, time_left
from chained_models._states import OUTCOMES, TRANSITIONS, IllegalTransition, Input, SaveState
from chained_models.policies import Outcome, RetryPolicy, Ruling, Verdict

RETRY = Verdict(Ruling.RETRY, delay=2.0)
HOLD = Verdict(Ruling.HOLD)
FAIL = Verdict(Ruling.SETTLE, Outcome.FAILED)
HALT = Verdict(Ruling.SETTLE, Outcome.FAILED, halt=True)
DOUBT = Verdict(Ruling.RETRY, delay=2.0, in_doubt=True)
PROOF = Verdict(Ruling.RETRY, delay=2.0, proved=True)
RESOLVED = Verdict(Ruling.SETTLE, Outcome.SUPERSEDED)


class FakeSave:
    """The least that the machine needs of a save."""

    def __init__(self, *, timeout: float = 4.0, passes_halt: bool = False) -> None:
        self.policy = RetryPolicy(timeout=16.0)
        self.timeout, self.passes_halt, self.waits = timeout, passes_halt, 0
        self.seq = self.token = self.attempts = 0
        self.state = SaveState.PREPARING
        self.chain: Chain | None = None
        self.started = self.spent = 0.0
        self.due = self.doubted = self.fronted = self.open = False
        self.pace: Any = None
        self.riders: Any = ()
        self.company: Any = None


class Rig:
    """A machine with one lane."""

    def __init__(self, max_in_flight: int = 8) -> None:
        self.machine = Machine()
        self.lane: LaneState[Chain] = LaneState(Lane(max_in_flight))

    def reserve(self, key: str = "a", **how: Any) -> FakeSave:
        save = FakeSave(**how)
        self.machine.reserve(key, self.lane, save, front=save.passes_halt)
        return save

    def save(self, key: str = "a", **how: Any) -> FakeSave:
        save = self.reserve(key, **how)
        self.machine.fill(save)
        return save

    def end(self, save: FakeSave, verdict: Verdict | None = None) -> list[Any]:
        effects = self.machine.finished(save, save.token, verdict)
        assert effects is not None
        return effects

    def chain(self, key: str = "a") -> Chain:
        return self.machine.chains[key]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(("state", "given"), list(product(SaveState, Input)), ids=lambda part: part.value)
def test_every_cell(rig: Rig, state: SaveState, given: Input) -> None:
    """A legal input moves the save where the table says; any other raises, and changes nothing."""
    save = rig.reserve()
    save.state = state
    if (after := TRANSITIONS[state].get(given)) is not None:
        rig.machine._move(save, given)
        assert save.state is after
    else:
        with pytest.raises(IllegalTransition, match=f"save 1 is {state.value}: it cannot {given.value}"):
            rig.machine._move(save, given)
        assert save.state is state


def test_the_ends_are_ends() -> None:
    """A state has an outcome if and only if nothing leads out of it."""
    assert {state for state, row in TRANSITIONS.items() if not row} == set(OUTCOMES)
    assert set(TRANSITIONS) == set(SaveState)


def test_every_state_can_be_reached_and_left() -> None:
    """From the first state every other is reached, and from every one an end."""
    reached, ends = {SaveState.PREPARING}, set(OUTCOMES)
    for _ in SaveState:
        reached |= {after for state in reached for after in TRANSITIONS[state].values()}
        ends |= {state for state, row in TRANSITIONS.items() if ends & set(row.values())}
    assert reached == ends == set(SaveState)


def test_the_first_starts_at_once(rig: Rig) -> None:
    """Nothing is in the way of the first save; the second waits for it."""
    first, second = rig.reserve(), rig.reserve()
    assert rig.machine.fill(first) == [Start(first, first.token)]
    assert rig.machine.fill(second) == []
    assert (first.state, second.state) == (SaveState.IN_FLIGHT, SaveState.QUEUED)
    assert rig.chain().head is rig.chain().active is first
    assert rig.machine.last_seq == second.seq == 2
    assert list(rig.machine) == [rig.chain()]


def test_an_unfilled_place_holds_back(rig: Rig) -> None:
    """What was reserved later is not sent before an earlier place is filled, or withdrawn."""
    first, second = rig.reserve(), rig.save()
    assert second.state is SaveState.QUEUED
    assert rig.machine.withdraw(first) == [Start(second, second.token)]


def test_a_withdrawn_place_leaves_nothing(rig: Rig) -> None:
    """A chain in which nothing was ever accepted is gone."""
    rig.machine.withdraw(rig.reserve())
    assert not rig.machine.chains


def test_the_next_waits_for_the_receivers(rig: Rig) -> None:
    """A settled save keeps its place until its receivers have run; then the next starts, and at last the chain is idle."""
    first, second = rig.save(), rig.save()
    assert rig.end(first) == [Settled(first, release=True)]
    chain = rig.chain()
    assert chain.finishing is first and chain.startable() is None
    assert rig.machine.released(chain) == [Start(second, second.token)]
    rig.end(second)
    assert rig.machine.released(chain) == [Idle(chain)]
    assert not rig.machine.chains


def test_a_paused_chain_is_not_idle(rig: Rig) -> None:
    """The end of the last save of a paused chain is not announced as idle, and the chain stays."""
    save = rig.save()
    rig.machine.pause("a", rig.lane)
    rig.end(save)
    assert rig.machine.released(rig.chain()) == []
    assert rig.machine.resume(rig.chain()) == []
    assert not rig.machine.chains


def test_pausing_what_is_empty(rig: Rig) -> None:
    """An empty chain stays paused until it is resumed; to resume it twice starts nothing twice."""
    rig.machine.pause("a", rig.lane)
    save = rig.save()
    assert save.state is SaveState.QUEUED
    assert rig.machine.resume(rig.chain()) == [Start(save, save.token)]
    assert rig.machine.resume(rig.chain()) == []


def test_retried_in_place(rig: Rig) -> None:
    """A failed attempt waits, holds no slot, and is followed by the next attempt of the same save."""
    save, other = rig.save(), rig.save()
    (wake,) = rig.end(save, RETRY)
    assert wake == Wake(save, save.token, 2.0) and save.state is SaveState.BACKING_OFF
    assert not rig.lane.slots
    assert rig.machine.woke(save, wake.token) == [Start(save, save.token)]
    assert save.attempts == 2 and other.state is SaveState.QUEUED
    assert rig.machine.woke(save, wake.token) == []


def test_doubt_stays(rig: Rig) -> None:
    """After an attempt in doubt the save stays so, whatever the next attempt says."""
    save = rig.save()
    rig.end(save, DOUBT)
    assert save.state is SaveState.IN_DOUBT and save.doubted
    rig.machine.woke(save, save.token)
    rig.end(save, RETRY)
    assert save.state is SaveState.IN_DOUBT
    assert rig.machine.woke(save, save.token) == [Start(save, save.token)]


def test_proof_ends_doubt(rig: Rig) -> None:
    """After proof that nothing was applied it merely backs off."""
    save = rig.save()
    rig.end(save, DOUBT)
    rig.machine.woke(save, save.token)
    rig.end(save, PROOF)
    assert save.state is SaveState.BACKING_OFF and not save.doubted


def test_a_successor_takes_the_place(rig: Rig) -> None:
    """After a conflict another save is next, with a number of its own, in the old place, when the receivers have run."""
    first, second = rig.save(), rig.save()
    successor = FakeSave()
    assert rig.machine.finished(first, first.token, RESOLVED, successor) == [Settled(first, release=True)]
    assert (first.state, successor.state) == (SaveState.SUPERSEDED, SaveState.QUEUED)
    assert (successor.seq, successor.place) == (3, 1)
    chain = rig.chain()
    assert list(chain.saves.values()) == [successor, second]
    assert rig.machine.released(chain) == [Start(successor, successor.token)]
    rig.end(successor)
    assert rig.machine.released(chain) == [Start(second, second.token)]


def test_a_successor_of_what_was_given_up(rig: Rig) -> None:
    """The late end of an attempt brings no successor."""
    save = rig.save()
    token = save.token
    rig.machine.give_up(save, Outcome.ABANDONED, halt=False)
    successor = FakeSave()
    assert rig.machine.finished(save, token, RESOLVED, successor) is None
    assert (successor.chain, len(rig.chain().saves)) == (None, 0)


def test_a_wake_up_of_another_time(rig: Rig) -> None:
    """A wake-up for a save in flight, or with another token, does nothing."""
    save = rig.save()
    assert rig.machine.woke(save, save.token) == []
    rig.end(save, RETRY)
    assert rig.machine.woke(save, save.token - 1) == []
    assert not save.due


def test_refused_credentials_use_up_nothing(rig: Rig) -> None:
    """A held save keeps its attempts and its time, and goes on when its lane does."""
    save = rig.save()
    rig.lane.lane.pause()
    rig.machine.now = 10.0
    assert rig.end(save, HOLD) == []
    assert (save.attempts, save.spent, time_left(save)) == (0, 0.0, 16.0)
    rig.lane.lane.resume()
    assert rig.machine.lane_resumed(rig.lane) == [Start(save, save.token)]


@pytest.mark.parametrize("verdict", [None, FAIL, RETRY])
def test_a_second_report_is_stale(rig: Rig, verdict: Verdict | None) -> None:
    """Whoever reports twice, or after the end, changes nothing."""
    save = rig.save()
    token = save.token
    rig.end(save, verdict)
    state = save.state
    assert rig.machine.finished(save, token, None) is None
    assert save.state is state


def test_nothing_starts_beside_an_attempt_over_its_time(rig: Rig) -> None:
    """A second attempt that is over its time still counts: news of its chain do not start a third beside it."""
    save = rig.save()
    rig.end(save, RETRY)
    rig.machine.woke(save, save.token)
    rig.machine.now = 5.0
    assert rig.machine.overdue(rig.lane) == ([], 14.0)
    assert save.state is SaveState.IN_DOUBT
    assert rig.machine.fill(rig.reserve()) == []
    assert save.attempts == 2


def test_looking_after_attempts(rig: Rig) -> None:
    """An attempt is in doubt when its own time is over, and is to be given up when the whole time is."""
    save, later = rig.save(), rig.save("b", timeout=20.0)
    assert rig.machine.overdue(rig.lane) == ([], 4.0)
    assert save.state is SaveState.IN_FLIGHT
    rig.machine.now = 4.0
    assert rig.machine.overdue(rig.lane) == ([], 16.0)
    rig.machine.now = 16.0
    assert rig.machine.overdue(rig.lane) == ([save], 20.0)
    effects = rig.machine.give_up(save, Outcome.ABANDONED, halt=False)
    assert effects == [Settled(save, release=True)] and save.doubted
    assert rig.machine.overdue(rig.lane) == ([], 20.0)
    rig.machine.now = 20.0
    assert rig.machine.overdue(rig.lane) == ([later], None)


def test_what_was_given_up_ends_late() -> None:
    """It keeps its slot, is replaced, and its late end gives back the slot and changes nothing else."""
    rig = Rig(max_in_flight=1)
    lost, other = rig.save(), rig.save("b")
    token = lost.token
    assert rig.machine.give_up(lost, Outcome.FAILED, halt=True)[1:] == [Start(other, other.token)]
    assert not lost.doubted and rig.chain().halted is lost
    assert set(rig.lane.slots) == {token, other.token}
    assert rig.machine.finished(lost, token, None) is None
    assert set(rig.lane.slots) == {other.token}


def test_slots_are_shared_in_turn() -> None:
    """With one slot, chains take turns: one that always has work starves nobody."""
    rig = Rig(max_in_flight=1)
    first, second, other = rig.save(), rig.save(), rig.save("b")
    assert rig.end(first)[1:] == [Start(other, other.token)]
    assert rig.machine.released(rig.chain()) == []
    assert rig.end(other)[1:] == [Start(second, second.token)]


def test_taking_out_what_waits(rig: Rig) -> None:
    """What was never attempted is taken out without a trace of its place; what follows goes on."""
    rig.lane.lane.pause()
    first, second = rig.save(), rig.save()
    rig.lane.lane.resume()  # nobody has told the machine yet
    assert rig.machine.settle_queued(first, Outcome.CANCELLED) == [
        Settled(first, release=False),
        Start(second, second.token),
    ]
    third = rig.save()
    with pytest.raises(IllegalTransition):
        rig.machine.settle_queued(second, Outcome.CANCELLED)
    assert rig.machine.settle_queued(third, Outcome.FAILED) == [Settled(third, release=False)]


def test_a_halt(rig: Rig) -> None:
    """After a failure that halts nothing starts, until the chain goes on without the save that failed."""
    failed, follower = rig.save(), rig.save()
    rig.end(failed, HALT)
    chain = rig.chain()
    assert rig.machine.released(chain) == []
    assert chain.halted is failed
    assert rig.machine.lift(chain) == [Start(follower, follower.token)]


def test_an_empty_chain_stays_halted(rig: Rig) -> None:
    """The failed save stays in sight until the halt is lifted."""
    rig.end(rig.save(), HALT)
    chain = rig.chain()
    assert rig.machine.released(chain) == []
    assert rig.machine.lift(chain) == []
    assert not rig.machine.chains


def test_a_retry_by_hand_comes_first(rig: Rig) -> None:
    """The successor of the failed save starts before all others."""
    failed, follower = rig.save(), rig.save()
    rig.end(failed, HALT)
    rig.machine.released(rig.chain())
    successor = FakeSave()
    assert rig.machine.follow_up(rig.chain(), successor) == [Start(successor, successor.token)]
    assert list(rig.chain().saves.values()) == [successor, follower]
    assert rig.chain().halted is None


def test_a_refresh_passes_a_halt(rig: Rig) -> None:
    """On a halted chain refreshes go in front in their order, and their failure leaves the halt as it is."""
    failed, follower = rig.save(), rig.save()
    rig.end(failed, HALT)
    rig.machine.released(rig.chain())
    first, second = rig.save(passes_halt=True), rig.save(passes_halt=True)
    assert first.state is SaveState.IN_FLIGHT
    assert list(rig.chain().saves.values()) == [first, second, follower]
    rig.end(first, HALT)
    assert rig.chain().halted is failed
    assert rig.machine.released(rig.chain()) == [Start(second, second.token)]


def test_moving_to_another_chain(rig: Rig) -> None:
    """Moved saves take their place by number, behind what is in flight; an emptied chain goes."""
    active, one = rig.save("a"), rig.reserve("b")
    two, three = rig.save("a"), rig.save("b")
    rig.machine.move_to(rig.chain("a"), [one, three])
    assert list(rig.chain("a").saves.values()) == [active, one, two, three]
    assert set(rig.machine.chains) == {"a"} and one.chain is rig.chain("a")


def test_moving_what_could_start(rig: Rig) -> None:
    """A chain that loses its head is out of the lane's line, even if the lane has room by now."""
    rig.lane.lane.pause()
    target, moved = rig.reserve("a"), rig.save("b")
    rig.lane.lane.resume()
    assert rig.machine.move_to(rig.chain("a"), [moved]) == []
    assert rig.machine.fill(target) == [Start(target, target.token)]


def test_time_left() -> None:
    """All attempts together never have less time than one may take."""
    save = FakeSave(timeout=20.0)
    save.spent = 5.0
    assert time_left(save) == 15.0


def test_moving_keeps_a_retry_in_front(rig: Rig) -> None:
    """What was put in front of its chain is not overtaken by what is moved there, unless that was accepted before all."""
    failed, oldest, early = rig.save(), rig.reserve("b"), rig.save()
    later = rig.save("b")
    rig.end(failed, HALT)
    rig.machine.released(rig.chain())
    rig.lane.lane.pause()
    rig.machine.follow_up(rig.chain(), successor := FakeSave())
    rig.machine.move_to(rig.chain(), [oldest, later])
    assert list(rig.chain().saves.values()) == [oldest, successor, early, later]


def test_a_chain_under_another_key(rig: Rig) -> None:
    """A chain that joins a key without a chain goes on under it."""
    save = rig.save("new")
    chain = rig.chain("new")
    assert rig.machine.join(chain, "known") is chain
    assert rig.machine.chains == {"known": chain} and chain.active is save


@pytest.mark.parametrize("empty", [True, False])
def test_joining_a_chain(rig: Rig, empty: bool) -> None:
    """The chain of that key takes over a pause, and is out of the lane's line; the other stays while it has something."""
    rig.lane.lane.pause()
    rig.save("known")
    if not empty:
        rig.save("new")
    rig.machine.pause("new", rig.lane)
    known = rig.chain("known")
    assert rig.machine.join(rig.chain("new"), "known") is known
    assert known.paused and known not in rig.lane.ready
    assert ("new" in rig.machine.chains) is not empty


def test_joining_a_chain_that_goes_on(rig: Rig) -> None:
    """Where there is neither a pause nor a halt to take over, what could start still can."""
    rig.lane.lane.pause()
    save = rig.save("known")
    rig.reserve("new")
    rig.machine.join(rig.chain("new"), "known")
    rig.lane.lane.resume()
    assert rig.machine.lane_resumed(rig.lane) == [Start(save, save.token)]


# Congestion and credentials


def test_an_attempt_that_has_become_long(rig: Rig) -> None:
    """It is told of once, and when to look again; it goes on, and its time is its own."""
    rig.lane.lane.max_long = 2
    first, second = rig.save("a"), rig.save("b")
    rig.machine.now = 2.0
    assert rig.machine.lengthened(rig.lane) == ([], 3.0)
    rig.machine.now = 3.0
    told = [Signal("long_running", first), Signal("long_running", second), Signal("congested", second)]
    assert rig.machine.lengthened(rig.lane) == (told, None)
    assert rig.machine.lengthened(rig.lane) == ([], None)
    assert first.state is SaveState.IN_FLIGHT


def test_the_end_of_the_last_long_one_lets_the_others_go(rig: Rig) -> None:
    """What waited starts, after it was told that the lane has recovered; also if the long one was given up."""
    rig.lane.lane.max_long = 1
    for end in (rig.end, lambda save: rig.machine.give_up(save, Outcome.ABANDONED, halt=False)):
        slow = rig.save("slow")
        rig.machine.now += 3.0
        rig.machine.lengthened(rig.lane)
        alone, *waiting = [rig.save(key) for key in "abc"]
        assert alone.state is SaveState.IN_FLIGHT
        effects = end(slow)
        starts = [Start(save, save.token) for save in waiting]
        assert effects == [Settled(slow, release=True), Signal("recovered", slow), *starts]
        for save in (alone, *waiting):
            rig.end(save)
        for key in ("slow", *"abc"):
            rig.machine.released(rig.chain(key))


def test_a_renewal_holds_the_lane(rig: Rig) -> None:
    """What was refused goes to the end of the line, and starts when the renewal is over, as does all else."""
    save = rig.save("a")
    renew = rig.machine.renew(rig.lane, save)
    assert renew == Renew(save, rig.machine.last_token)
    assert rig.lane.renewing == {renew.token: (save, 4.0)}
    assert rig.end(save, HOLD) == []
    other = rig.save("b")
    assert (save.state, other.state) == (SaveState.BACKING_OFF, SaveState.QUEUED)
    effects = rig.machine.renewed(rig.lane, renew.token)
    assert effects == [Start(save, save.token), Start(other, other.token)]
    assert save.attempts == 1 and save.spent == 0.0
    assert rig.machine.renewed(rig.lane, renew.token) == []
