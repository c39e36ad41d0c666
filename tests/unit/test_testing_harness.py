"""The harness: while it is open, all models of the process are saved there; what has not ended in the end is named."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import threading
from typing import Any

import pytest

from chained_models import (
    Abandoned,
    CallChain,
    ChainedSaveMixin,
    Dispatcher,
    Guarantee,
    InvalidOption,
    NotBound,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    Stuck,
    Unavailable,
    UnsupportedBackend,
    UsageError,
    WouldDeadlock,
    default_dispatcher,
    set_default_dispatcher,
)
from chained_models.backends.memory import MemoryBackend
from chained_models.drivers.threads import ThreadsDriver
from chained_models.testing import (
    OWN,
    AsyncScriptedBackend,
    Harness,
    Leftovers,
    ScriptedBackend,
    SteppedDriver,
    VirtualClock,
    run_until_idle,
)

PATIENCE = 5.0
ELSEWHERE = MemoryBackend()


@dataclasses.dataclass
class Basket(ChainedSaveMixin, backend=ELSEWHERE, retry=RetryPolicy(attempts=3)):
    id: int | None = None
    title: str = ""


class Halting(Basket, backend=ELSEWHERE, on_failure=OnFailure.HALT):
    pass


def titles(backend: MemoryBackend, resource: str = "basket") -> list[str]:
    return [row["title"] for row in backend.stored(resource).values()]


# Where models are saved


def test_run_until_idle_without_a_harness() -> None:
    """The virtual time of a dispatcher, or of the default one, passes until nothing is due; a real time cannot."""
    dispatcher = Dispatcher(SteppedDriver())
    backend = ScriptedBackend()
    backend.delay(5)

    class Elsewhere(Basket, backend=backend, dispatcher=dispatcher):
        pass

    handle = Elsewhere().save()
    run_until_idle(dispatcher)
    assert handle.outcome is Outcome.SAVED
    with Harness() as chained:
        chained.backend.delay(5)
        handle = Basket().save()
        run_until_idle()
        assert handle.outcome is Outcome.SAVED
    with pytest.raises(UsageError, match="flush"):
        run_until_idle(Dispatcher("inline"))


def test_all_models_are_saved_there() -> None:
    """Whatever they are bound to, in this thread, at once, by virtual time; and not any more when it is over."""
    before = len(ELSEWHERE.stored("basket"))
    with Harness() as chained:
        save = Basket(title="a").save()
        assert save.outcome is Outcome.SAVED
        assert titles(chained.backend) == ["a"]
        assert chained.backend.guarantee == Guarantee.IDEMPOTENT | Guarantee.FENCED
        assert isinstance(chained.clock, VirtualClock)
    assert len(ELSEWHERE.stored("basket")) == before
    Basket(title="b").save().result(PATIENCE)
    assert len(ELSEWHERE.stored("basket")) == before + 1


def test_it_takes_the_backend_that_it_is_given() -> None:
    """Any one that its driver can run."""
    mine = MemoryBackend()
    with Harness(mine) as chained:
        Basket(title="a").save()
        assert chained.backend is mine
    assert titles(mine) == ["a"]


def test_a_backend_that_its_driver_cannot_run() -> None:
    """Is refused when it is made, not at the first save."""
    with pytest.raises(UnsupportedBackend):
        Harness(AsyncScriptedBackend())
    with Harness(AsyncScriptedBackend(), live=True) as chained:
        assert Basket(title="a").save().result(PATIENCE).id == 1
        assert titles(chained.backend) == ["a"]


def test_a_class_may_be_bound_to_what_is_never_met() -> None:
    """Inside, to a backend that could not run here."""
    with Harness() as chained:

        class Late(Basket):
            pass

        Late.bind(AsyncScriptedBackend())
        Late(title="a").save()
        assert titles(chained.backend, "late") == ["a"]


def test_other_threads_are_rebound_too() -> None:
    """The rebinding is the process's, not the context's."""
    with Harness() as chained:
        thread = threading.Thread(target=lambda: Basket(title="a").save())
        thread.start()
        thread.join(PATIENCE)
        assert titles(chained.backend) == ["a"]


def test_tenants_are_rebound_too() -> None:
    """Inside `bound()`, whichever came first."""
    tenant = MemoryBackend()
    with Basket.bound(tenant), Harness() as chained:
        Basket(title="a").save()
        with Basket.bound(tenant):
            Basket(title="b").save()
        assert titles(chained.backend) == ["a", "b"]
    assert titles(tenant) == []


def test_a_class_with_a_dispatcher_of_its_own_is_rebound_too() -> None:
    """What it was given is left alone."""
    with Dispatcher("inline") as dispatcher:

        class Own(Basket):
            pass

        Own.bind(MemoryBackend(), dispatcher=dispatcher)
        with Harness() as chained:
            Own(title="a").save()
            assert chained.saves[0]._host is not dispatcher
            assert titles(chained.backend, "own") == ["a"]


def test_a_class_without_a_backend_is_still_unbound() -> None:
    """A test shall not hide what would fail outside."""

    @dataclasses.dataclass
    class Unbound(ChainedSaveMixin):
        id: int | None = None

    with Harness(), pytest.raises(NotBound):
        Unbound().save()


def test_own_backends() -> None:
    """Each model is saved where it is bound to; there is no one backend to ask for."""
    mine, tenant = MemoryBackend(), MemoryBackend()

    class Mine(Basket):
        pass

    Mine.bind(mine)
    with Harness(OWN) as chained:
        Mine(title="a").save()
        with Mine.bound(tenant):
            Mine(title="b").save()
        assert [save.outcome for save in chained.saves] == [Outcome.SAVED, Outcome.SAVED]
        with pytest.raises(UsageError, match="each model is saved to its own backend"):
            _ = chained.backend
    assert (titles(mine, "mine"), titles(tenant, "mine")) == (["a"], ["b"])


def test_own_backends_of_the_wrong_colour() -> None:
    """Are refused where they are bound; the driver here has no loop."""

    class Late(Basket):
        pass

    with Harness(OWN), pytest.raises(UnsupportedBackend):
        Late.bind(AsyncScriptedBackend())


def test_calls_run_here_too() -> None:
    """Of a chain that names no dispatcher."""
    done: list[int] = []
    with Harness() as chained:
        calls = CallChain(done.append, delay=2)
        calls.add(1)
        calls.add(2)
        assert done == [1]
        chained.advance(2)
        assert done == [1, 2]


def test_the_default_dispatcher_is_given_back() -> None:
    """The one that was there, or none."""
    mine = Dispatcher("inline")
    before = set_default_dispatcher(mine)
    try:
        with Harness() as chained:
            assert default_dispatcher() is chained.dispatcher
        assert default_dispatcher() is mine
    finally:
        set_default_dispatcher(before)
        mine.close()


def test_nested() -> None:
    """The inner one for as long as it is open; then the outer one again, also after an error."""
    with Harness() as outer:
        with Harness() as inner:
            Basket(title="in").save()
        with pytest.raises(ZeroDivisionError), Harness():
            _ = 1 / 0
        Basket(title="out").save()
    assert titles(inner.backend) == ["in"]
    assert titles(outer.backend) == ["out"]


# Time


def test_retries_take_virtual_time() -> None:
    """As much as lets them come."""
    with Harness() as chained:
        chained.backend.fail(Unavailable, times=2)
        save = Basket().save()
        assert save.outcome is None
        chained.advance(0)
        assert save.attempts == 1
        chained.run_until_idle()
        assert (save.outcome, save.attempts) == (Outcome.SAVED, 3)
        assert 0 < chained.clock.time < 1.5


def test_no_time_passes_for_nobody() -> None:
    """Who would only look, much later, whether something has taken too long, is no reason."""
    with Harness() as chained:
        Basket().save()
        chained.run_until_idle()
        assert chained.clock.time == 0


def test_what_is_held_runs_out_of_its_time() -> None:
    """First of that of the attempt, then of that of all attempts."""
    with Harness(leftovers_allowed=True) as chained:
        chained.backend.hold()
        save = Basket().save()
        chained.advance(59)
        assert save.outcome is None
        chained.run_until_idle()
        assert save.outcome is Outcome.ABANDONED


def test_the_seed_spreads_retries() -> None:
    """The same one in the same way."""

    def time_of_a_retry(seed: int) -> float:
        with Harness(seed=seed) as chained:
            chained.backend.fail(Unavailable)
            Basket().save()
            chained.run_until_idle()
            time: float = chained.clock.time
            return time

    assert time_of_a_retry(1) == time_of_a_retry(1) != time_of_a_retry(2)


def test_waiting_takes_virtual_time() -> None:
    """result(), flush() and their timeouts count by it; nothing takes real time."""
    with Harness(leftovers_allowed=True) as chained:
        chained.backend.fail(Unavailable)
        assert Basket().save().result().id == 1
        chained.backend.fail(Unavailable)
        save = Basket().save()
        chained.flush()
        assert save.done()
        chained.backend.hold()
        held = Basket().save()
        before = chained.clock.time
        with pytest.raises(TimeoutError):
            held.result(2)
        assert chained.clock.time == before + 2
        with pytest.raises(Stuck, match="did not end within 3 s"):
            chained.flush(3)
        assert chained.clock.time == before + 5
        with pytest.raises(Abandoned):
            held.result()


def test_a_wait_that_nothing_ends() -> None:
    """Is refused, with what a test may do."""
    with Harness(leftovers_allowed=True):
        basket = Basket()
        basket.chain.pause()
        save = basket.save()
        with pytest.raises(WouldDeadlock, match=r"resume\(\) what is paused"):
            save.result()
        with pytest.raises(TimeoutError):
            save.result(5)


def test_awaiting_takes_virtual_time() -> None:
    """In an event loop, too."""

    async def program() -> None:
        with Harness() as chained:
            chained.backend.fail(Unavailable, times=2)
            assert (await Basket().save()).id == 1
            assert chained.clock.time > 0

    asyncio.run(program())


def test_awaiting_lets_no_time_pass_while_something_is_held() -> None:
    """Another coroutine is about to release it; time that passed meanwhile would end it first."""

    async def program() -> None:
        with Harness() as chained:
            chained.backend.hold()
            save = Basket().save()
            waiting = asyncio.ensure_future(asyncio.wait_for(_result(save), PATIENCE))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not waiting.done()
            assert chained.clock.time == 0
            chained.backend.release()
            assert (await waiting).id == 1
            assert chained.clock.time == 0

    asyncio.run(program())


async def _result(save: Any) -> Any:
    return await save


def test_real_time() -> None:
    """With another driver: there is no clock to move, and the end waits for what was accepted."""
    for chained in (Harness(live=True), Harness(driver="threads"), Harness(driver=ThreadsDriver())):
        with chained:
            chained.backend.hold()
            save = Basket(title="a").save()
            assert chained.clock is None
            assert "real time" in repr(chained)
            for move in (chained.run_until_idle, lambda: chained.advance(1)):  # noqa: B023
                with pytest.raises(UsageError, match="the time is real here"):
                    move()
        assert save.outcome is Outcome.SAVED
        assert titles(chained.backend) == ["a"]


def test_a_driver_of_the_tests_own() -> None:
    """Stepped, by a clock that others may share."""
    clock = VirtualClock()
    with Harness(driver=SteppedDriver(clock)) as chained:
        assert chained.clock is clock


def test_the_end_has_a_bound_in_real_time() -> None:
    """What does not end by then is left over."""
    over = threading.Event()

    class Hanging:
        guarantee = Guarantee.PLAIN

        def execute(self, operation: Any) -> None:
            over.wait(PATIENCE)

    with pytest.raises(Leftovers, match="1 save has not ended"), Harness(Hanging(), live=True, timeout=0.05):
        save = Basket().save()
    over.set()
    assert save.outcome is Outcome.ABANDONED


# What it has seen


def test_it_knows_what_was_accepted() -> None:
    """In the order of the calls; a second delete is the first one; a retry by hand is another save."""
    with Harness() as chained:
        chained.backend.fail(Rejected)
        basket = Halting(title="a")
        first = basket.save()
        again = basket.chain.retry()
        chained.backend.hold()
        delete = basket.delete()
        assert basket.delete() is delete
        chained.backend.release()
        assert chained.saves == [first, again, delete]
        assert Basket(title="b").chain.retry() is None
        assert [one.save for one in chained.accepted] == chained.saves


def test_moments_are_on_one_scale() -> None:
    """A call, its attempt, its effect and its end come one after the other."""
    with Harness() as chained:
        chained.backend.hold()
        Basket().save()
        Basket().save()
        first, second = chained.accepted
        assert (first.settled, second.settled) == (None, None)
        chained.backend.release()
        one, two = chained.backend.ledger
        order = [first.tick, one.began, second.tick, two.began, *one.applied, one.ended, first.settled]
        assert order == sorted(order)
        assert len(set(order)) == len(order)
        assert second.settled > two.ended > two.applied[0] > first.settled


def test_moments_without_a_scripted_backend() -> None:
    """The harness counts by itself."""
    with Harness(MemoryBackend()) as chained:
        Basket().save()
        (one,) = chained.accepted
        assert one.settled is not None
        assert one.tick < one.settled


def test_what_it_says_of_itself() -> None:
    """How much was accepted, and what time it is."""
    with Harness() as chained:
        Basket().save()
        assert repr(chained) == "<Harness 1 saves accepted, <VirtualClock 0 s>>"


# The end


def test_leftovers_fail_the_test() -> None:
    """Each is named, with the reason; the models are given back."""
    with pytest.raises(Leftovers) as caught, Harness() as chained:
        chained.backend.hold(times=1)
        held = Basket().save()
        basket = Basket()
        basket.chain.pause()
        paused = basket.save()
        chained.backend.fail(Rejected)
        halting = Halting()
        halting.save()
        behind = halting.save()
    first, *rest = str(caught.value).splitlines()
    assert first == "3 saves have not ended:"
    assert [line.partition(":")[0] for line in rest] == [f"  {save}" for save in (held, paused, behind)]
    assert "paused" in rest[1]
    assert "halted" in rest[2]
    assert {save.outcome for save in (held, paused, behind)} <= {Outcome.ABANDONED, Outcome.CANCELLED}
    with Harness() as another:
        Basket().save()
        assert len(another.backend.seen) == 1


def test_leftover_calls_too() -> None:
    """They are work that was accepted."""
    with pytest.raises(Leftovers, match="1 save has not ended"), Harness():
        calls = CallChain(print)
        calls.pause()
        calls.add("never")


def test_leftovers_do_not_hide_the_failure() -> None:
    """Of a test that has failed already."""
    with pytest.raises(ZeroDivisionError), Harness() as chained:
        chained.backend.hold()
        Basket().save()
        _ = 1 / 0


def test_leftovers_may_be_allowed(caplog: pytest.LogCaptureFixture) -> None:
    """Then they are given up, which the log says."""
    caplog.set_level(logging.ERROR, "chained_models")
    with Harness(leftovers_allowed=True) as chained:
        chained.backend.hold()
        save = Basket().save()
        assert len(chained.leftovers()) == 1
        assert chained.leftovers()[0].startswith(f"{save}: ")
    assert save.outcome is Outcome.ABANDONED
    assert any("the dispatcher is closed although" in record.getMessage() for record in caplog.records)


def test_nothing_is_left_after_a_flush() -> None:
    """So nothing fails."""
    with Harness() as chained:
        chained.backend.fail(Unavailable)
        Basket().save()
        chained.flush()
        assert chained.leftovers() == []


def test_what_is_stuck_is_told() -> None:
    """After as many seconds as were given."""
    stuck: list[Any] = []
    with Harness(stuck_after=5, leftovers_allowed=True) as chained:
        basket = Basket()
        basket.chain.on("stuck", stuck.append)
        basket.chain.pause()
        basket.save()
        chained.advance(4)
        assert stuck == []
        chained.advance(2)
        assert len(stuck) == 1
    with pytest.raises(InvalidOption):
        Harness(stuck_after=0)


def test_a_fresh_one_knows_nothing_of_the_last() -> None:
    """Identities, keys and rules start anew; objects that were saved there are new here."""
    basket = Basket(title="a")
    for number in itertools.islice(itertools.count(1), 3):
        with Harness() as chained:
            basket.id = None
            save = basket.save({"title": str(number)})
            assert save.outcome is Outcome.SAVED
            assert titles(chained.backend) == [str(number)]


def test_it_is_opened_once() -> None:
    """Else the inner end would give all models back to their own backends in the middle of the outer test."""
    harness = Harness()
    with harness:
        with pytest.raises(UsageError, match="opened once"), harness:
            pytest.fail("it was opened twice")
        basket = Basket()
        basket.save()
        assert len(harness.backend.stored("basket")) == 1
    with pytest.raises(UsageError, match="make another one"), harness:
        pytest.fail("it was opened again")


@pytest.mark.parametrize("backend", [3, "mine", MemoryBackend, object()])
def test_what_is_no_backend_is_refused(backend: Any) -> None:
    """At once, and not by each save."""
    with pytest.raises(InvalidOption, match="a backend is needed, or 'own'"):
        Harness(backend)


def test_what_was_waited_for_in_vain_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture looks at what is left, and then the harness ends: the time for that is spent once."""
    waits: list[float | None] = []
    flush = Dispatcher.flush

    def counted(self: Dispatcher, timeout: float | None = None) -> None:
        waits.append(timeout)
        flush(self, timeout)

    monkeypatch.setattr(Dispatcher, "flush", counted)
    with pytest.raises(Leftovers), Harness(live=True, timeout=0.01) as chained:
        chained.backend.crash()
        Basket().save()
        assert chained.finish()
    assert waits == [0.01, 0], "and then what is left is given up"
