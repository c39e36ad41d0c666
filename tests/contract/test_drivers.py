"""What every driver promises, for each of them: inline, threads, and asyncio on its user's loop and on one of its own.

A body is a coroutine so that it can be played in an event loop; elsewhere nothing in it suspends (see `scripted.py`).
"""

from __future__ import annotations

import contextvars
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import (
    Coalesce,
    Deleted,
    DispatcherClosed,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveState,
    Stuck,
    Unauthenticated,
    Unavailable,
    WouldDeadlock,
)

from .scripted import (
    PATIENCE,
    Basket,
    World,
    everywhere,
    where_attempts_can_be_held,
)

SAVED, FAILED, ABANDONED, CANCELLED = Outcome.SAVED, Outcome.FAILED, Outcome.ABANDONED, Outcome.CANCELLED
STEADY = RetryPolicy(attempts=3, wait_initial=1, wait_jitter=0, timeout=60)


class Storm(BaseException):
    """As KeyboardInterrupt is, but does not stop an event loop."""


def save_each(basket: Basket, values: range) -> list[Any]:
    handles = []
    for n in values:
        basket.n = n
        handles.append(basket.save())
    return handles


def save_as(basket: Basket, n: int) -> Any:
    return basket.save({"n": n})


# Order


@everywhere
async def test_saves_are_sent_in_the_order_of_the_calls(world: World) -> None:
    """Each save is sent once, in order, with the values of its own moment."""
    basket = world.bind()()
    handles = save_each(basket, range(20))
    assert await world.end(*handles) == [SAVED] * 20
    assert world.backend.values == list(range(20))
    assert [operation.seq for operation in world.backend.ledger] == [handle.seq for handle in handles]
    assert basket.id == 1


@everywhere
async def test_one_save_of_an_object_is_in_flight(world: World) -> None:
    """Saves of one object never overlap, those of others go on beside them."""
    kind = world.bind()
    handles = []
    objects = [kind(name=name) for name in "abcde"]
    for n in range(10):
        handles += [save_as(one, n) for one in objects]
    assert set(await world.end(*handles)) == {SAVED}
    assert world.backend.overlaps == []
    assert all(world.backend.values_of(name) == list(range(10)) for name in "abcde")


@where_attempts_can_be_held
async def test_a_lane_bounds_all_its_chains_together(world: World) -> None:
    """As many attempts run at once as the lane allows, and no more."""
    world.backend.lane.max_in_flight = 3
    kind = world.bind()
    world.backend.hold()
    world.backend.started = world.stir
    handles = [kind(name=str(number)).save() for number in range(10)]
    await world.until(lambda: world.backend.running == 3)
    world.backend.release()
    assert set(await world.end(*handles)) == {SAVED}
    assert world.backend.most == 3


@everywhere
async def test_a_chain_that_always_has_work_starves_nobody(world: World) -> None:
    """With one slot, a chain that saves itself again after each save lets every other one through after one of its own."""
    world.backend.lane.max_in_flight = 1
    kind = world.bind()
    busy, other = kind(name="busy"), kind(name="other")
    left = 50

    def again(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 40:
            other.save()
        if left > 0:
            busy.save()

    busy.chain.on("sync", again)
    world.backend.started = world.stir
    busy.save()
    await world.until(lambda: len(world.backend.ledger) == 51)
    names = [operation.values["name"] for operation in world.backend.ledger]
    assert names.index("other") <= 12


@everywhere
async def test_a_save_inside_a_receiver_goes_to_the_end_of_the_line(world: World) -> None:
    """It neither overtakes what is queued nor nests."""
    basket = world.bind()()
    depth: list[int] = []
    inside = 0

    def again(event: Any) -> None:
        nonlocal inside
        inside += 1
        depth.append(inside)
        if event.save.snapshot["n"] == 0:
            save_as(basket, 7)
        inside -= 1

    basket.chain.on("sync", again)
    basket.chain.pause()
    save_each(basket, range(3))
    basket.chain.resume()
    await world.flush()
    await world.flush()
    assert world.backend.values == [0, 1, 2, 7]
    assert set(depth) == {1}


@everywhere
async def test_a_save_inside_an_encode_hook_is_queued(world: World) -> None:
    """A backend that saves while it encodes neither hangs nor overtakes itself."""
    basket = world.bind()()
    made: list[Any] = []

    def encode(operation: Any) -> str:
        if not made:
            made.append(save_as(basket, 1))
        return "payload"

    world.backend.encode = encode
    first = save_as(basket, 0)
    assert await world.end(first) == [SAVED]
    assert await world.end(*made) == [SAVED]
    assert world.backend.values == [0, 1]
    assert [operation.payload for operation in world.backend.ledger] == ["payload", "payload"]


# What user code does wrong


@everywhere
async def test_a_raising_receiver_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The other receivers and the callbacks are called, and the chain goes on."""
    basket = world.bind()()
    called: list[str] = []

    def bad(_: object) -> None:
        raise ValueError("of the user's")

    basket.chain.on("sync", bad)
    basket.chain.on("sync", lambda _: called.append("receiver"))
    basket.chain.pause()
    first, second = save_as(basket, 0), save_as(basket, 1)
    first.add_done_callback(bad)
    first.add_done_callback(lambda _: called.append("callback"))
    basket.chain.resume()
    assert await world.end(first, second) == [SAVED, SAVED]
    await world.flush()
    assert called == ["receiver", "callback", "receiver"]
    assert "raised; the chain goes on" in caplog.text


async def _weather(world: World, call: Callable[[], Any]) -> Any:
    """What `call` returns; an interrupt comes out of it only where the work runs in the caller."""
    try:
        return call()
    except Storm:
        assert not world.concurrent
    return None


@everywhere
async def test_an_interrupt_out_of_a_receiver_leaves_the_chain_free(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Every other receiver is called, the save is settled, and the next one goes."""
    basket = world.bind()()
    called: list[str] = []

    def storm(event: Any) -> None:
        if event.save.snapshot["n"] == 0:
            raise Storm

    basket.chain.on("sync", storm)
    basket.chain.on("sync", lambda _: called.append("other"))
    basket.n = 0
    await _weather(world, basket.save)
    last = save_as(basket, 1)
    assert await world.end(last) == [SAVED]
    await world.flush()
    assert called == ["other", "other"]
    assert world.backend.values == [0, 1]


@everywhere
async def test_an_interrupt_out_of_a_callback_leaves_the_chain_free(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Every other callback is called, the save is settled, and the next one goes."""
    basket = world.bind()()
    called: list[str] = []

    def storm(_: object) -> None:
        raise Storm

    basket.chain.pause()
    first, second = save_as(basket, 0), save_as(basket, 1)
    first.add_done_callback(storm)
    first.add_done_callback(lambda _: called.append("other"))
    await _weather(world, basket.chain.resume)
    assert await world.end(second) == [SAVED]
    assert first.outcome is SAVED
    await world.flush()
    assert called == ["other"]


@everywhere
async def test_an_interrupt_out_of_a_backend_settles_its_save(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is abandoned with the interrupt as its cause, its slot comes free, and the chain goes on."""
    world.backend.lane.max_in_flight = 1
    basket = world.bind(on_failure=OnFailure.CONTINUE)()
    basket.chain.pause()
    first, second = save_as(basket, 0), save_as(basket, 1)
    second.add_done_callback(lambda _: None)
    world.backend.failures.append(Storm())
    await _weather(world, basket.chain.resume)
    assert await world.end(first) == [ABANDONED]
    assert isinstance(first.error.__cause__, Storm)
    other = world.bind()(name="other").save()
    assert await world.end(other) == [SAVED]
    assert second.outcome is FAILED  # the create is in doubt, and nobody knows the identity


@everywhere
async def test_a_generator_exit_out_of_a_backend_settles_its_save(world: World) -> None:
    """It looks like the end of the steps that carry the attempt out, and is none."""
    basket = world.bind()(id=7)
    world.backend.failures.append(GeneratorExit())
    assert await world.end(*save_each(basket, range(2))) == [ABANDONED, SAVED]


@everywhere
async def test_a_backend_that_cannot_say_what_it_guarantees_guarantees_nothing(world: World) -> None:
    """Its saves settle all the same, and their chain goes on."""
    basket = world.bind()(id=7)

    def guarantee(model: type) -> Any:
        raise RuntimeError("no idea")

    world.backend.guarantee = guarantee
    world.backend.failures.append(Rejected())
    assert await world.end(*save_each(basket, range(2))) == [FAILED, SAVED]


@everywhere
async def test_a_model_that_raises_for_names_that_it_does_not_have_is_saved(world: World) -> None:
    """Whether it has receivers of its own is not asked of its `__getattr__`, which may raise what it likes."""

    class Strict(Basket):
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    Strict.bind(world.backend, dispatcher=world.dispatcher)
    assert await world.end(*save_each(Strict(), range(2))) == [SAVED, SAVED]


@everywhere
async def test_an_interrupt_leaves_other_chains_free(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What was to start together with the interrupted save starts all the same."""
    kind = world.bind()
    world.backend.lane.pause()
    handles = [kind(name=name).save() for name in "abc"]
    for handle in handles:
        handle.add_done_callback(lambda _: None)
    world.backend.failures.append(Storm())
    await _weather(world, world.backend.lane.resume)
    assert await world.end(*handles) == [ABANDONED, SAVED, SAVED]


@everywhere
async def test_an_interrupt_out_of_a_receiver_of_a_verb_comes_out_of_the_verb(world: World) -> None:
    """KeyboardInterrupt while `clear()` tells its receivers reaches the caller, when all is settled."""
    basket = world.bind()()
    basket.chain.pause()
    handles = save_each(basket, range(3))

    def storm(_: object) -> None:
        raise Storm

    basket.chain.on("cancelled", storm)
    with pytest.raises(Storm):
        basket.chain.clear()
    assert [handle.outcome for handle in handles] == [CANCELLED] * 3
    assert all(handle.cancelled() for handle in handles)
    basket.chain.resume()


# Cancelling


@everywhere
async def test_a_save_can_be_cancelled_before_its_first_attempt(world: World) -> None:
    """It is never sent, settles at once, and the others go on."""
    basket = world.bind()()
    basket.chain.pause()
    handles = save_each(basket, range(3))
    assert handles[1].cancel()
    assert handles[1].cancel(), "cancelling twice says the same"
    assert handles[1].outcome is CANCELLED
    basket.chain.resume()
    assert await world.end(handles[0], handles[2]) == [SAVED, SAVED]
    assert world.backend.values == [0, 2]
    assert not handles[0].cancel()


@everywhere
async def test_what_is_in_flight_cannot_be_cancelled(world: World) -> None:
    """`cancel()` and `clear()` leave it, and its slot, as they are."""
    basket = world.bind()()
    said: list[Any] = []

    def during(operation: Any) -> None:
        active = basket.chain.in_flight
        assert active is not None
        said.append(active.cancel())
        basket.chain.clear()
        said.append(basket.chain.in_flight is active)

    world.backend.during = during
    handle = basket.save()
    assert await world.end(handle) == [SAVED]
    assert said == [False, True]


@everywhere
async def test_what_was_attempted_cannot_be_cancelled(world: World) -> None:
    """Waiting for its next attempt, a save is no longer the user's to take back."""
    basket = world.bind(retry=STEADY)()
    world.backend.failures.append(Unavailable())
    handle = basket.save()
    await world.armed(1)
    assert handle.state is SaveState.BACKING_OFF
    assert not handle.cancel()
    basket.chain.clear()
    world.advance(1)
    assert await world.end(handle) == [SAVED]


@everywhere
async def test_clear_cancels_what_is_queued(world: World) -> None:
    """Each is settled as cancelled, receivers hear of it, and the next save goes its way."""
    basket = world.bind()()
    world.watch(basket, "cancelled")
    basket.chain.pause()
    handles = save_each(basket, range(3))
    basket.chain.clear()
    assert [handle.outcome for handle in handles] == [CANCELLED] * 3
    assert [event.save for event in world.heard("cancelled")] == handles
    assert len(basket.chain) == 0
    basket.chain.resume()
    assert await world.end(save_as(basket, 9)) == [SAVED]
    assert world.backend.values == [9]


# Pausing


@everywhere
async def test_a_paused_chain_starts_nothing(world: World) -> None:
    """Not even if it was paused while it was empty; other chains go on; pausing or resuming twice is once."""
    kind = world.bind()
    basket, other = kind(), kind(name="other")
    basket.chain.pause()
    basket.chain.pause()
    assert basket.chain.paused
    handles = save_each(basket, range(2))
    assert await world.end(other.save()) == [SAVED]
    assert world.backend.values_of("a") == []
    assert len(basket.chain) == 2
    basket.chain.resume()
    basket.chain.resume()
    assert await world.end(*handles) == [SAVED, SAVED]
    assert world.backend.values_of("a") == [0, 1]
    assert world.backend.overlaps == []


@everywhere
async def test_idle_is_not_announced_while_paused(world: World) -> None:
    """A chain that is paused while its last save is in flight does not say it is idle; one that has done all does, once."""
    basket = world.bind()()
    world.watch(basket, "idle", "sync")
    world.backend.during = lambda operation: basket.chain.pause()
    first = save_as(basket, 0)
    assert await world.end(first) == [SAVED]
    await world.flush()
    assert world.heard("idle") == []
    second = save_as(basket, 1)
    assert world.backend.values == [0]
    world.backend.during = lambda operation: None
    basket.chain.resume()
    assert await world.end(second) == [SAVED]
    await world.flush()
    assert [event.save for event in world.heard("idle")] == [second]


# Failing


@everywhere
async def test_a_failed_save_lets_the_next_one_go(world: World) -> None:
    """Rejected: FAILED, with the cause in its handle, and the chain drains on."""
    basket = world.bind()()
    cause = Rejected("no")
    world.backend.failures.extend([None, cause])
    handles = save_each(basket, range(3))
    assert await world.end(*handles) == [SAVED, FAILED, SAVED]
    assert handles[1].exception() is cause


@everywhere
async def test_a_halted_chain_keeps_the_failed_save(world: World) -> None:
    """Followers stay queued and new ones join, until `skip()` goes on without it."""
    basket = world.bind(on_failure=OnFailure.HALT)()
    world.backend.failures.extend([None, Rejected("no")])
    handles = save_each(basket, range(3))
    assert await world.end(*handles[:2]) == [SAVED, FAILED]
    await world.stuck()
    assert basket.chain.halted is handles[1]
    handles.append(save_as(basket, 3))
    assert len(basket.chain) == 2
    basket.chain.skip()
    assert basket.chain.halted is None
    assert await world.end(*handles[2:]) == [SAVED, SAVED]
    assert world.backend.values == [0, 1, 2, 3]


@everywhere
async def test_retry_sends_the_failed_save_again_in_front(world: World) -> None:
    """As a new save, with the same values and idempotency key, before what is queued."""
    basket = world.bind(on_failure=OnFailure.HALT)()
    world.backend.failures.extend([None, Rejected("no")])
    handles = save_each(basket, range(3))
    assert await world.end(*handles[:2]) == [SAVED, FAILED]
    await world.stuck()
    successor = basket.chain.retry()
    assert successor is not None
    assert successor is not handles[1]
    assert await world.end(successor, handles[2]) == [SAVED, SAVED]
    assert world.backend.values == [0, 1, 1, 2]
    keys = [operation.idempotency_key for operation in world.backend.ledger]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert basket.chain.retry() is None


@everywhere
async def test_clear_lifts_a_halt(world: World) -> None:
    """The rest is cancelled, and the chain is as new."""
    basket = world.bind(on_failure=OnFailure.HALT)()
    world.backend.failures.extend([None, Rejected("no")])
    handles = save_each(basket, range(4))
    assert await world.end(*handles[:2]) == [SAVED, FAILED]
    await world.stuck()
    basket.chain.clear()
    assert basket.chain.halted is None
    assert [handle.outcome for handle in handles[2:]] == [CANCELLED, CANCELLED]
    assert await world.end(save_as(basket, 9)) == [SAVED]


@everywhere
async def test_a_retry_waits_for_its_time(world: World) -> None:
    """The same operation goes out again after the backoff, which doubles, and holds up nobody else."""
    world.backend.lane.max_in_flight = 1
    kind = world.bind(retry=STEADY)
    basket, other = kind(), kind(name="other")
    world.watch(basket, "retry")
    world.backend.failures.append(Unavailable())
    handle, follower = save_each(basket, range(2))
    await world.armed(1)
    assert await world.end(other.save()) == [SAVED]
    world.backend.failures.append(Unavailable())
    world.advance(0.9)
    assert world.backend.values_of("a") == [0]
    world.advance(0.1)
    await world.armed(2)
    world.advance(1.9)
    assert world.backend.values_of("a") == [0, 0]
    world.advance(0.1)
    assert await world.end(handle, follower) == [SAVED, SAVED]
    assert world.backend.values_of("a") == [0, 0, 0, 1]
    await world.flush()
    assert [event.delay for event in world.heard("retry")] == [1, 2]
    attempts = [operation for operation in world.backend.ledger if operation.seq == handle.seq]
    assert [operation.attempt for operation in attempts] == [1, 2, 3]
    assert len({operation.idempotency_key for operation in attempts}) == 1


@everywhere
async def test_retries_come_to_an_end(world: World) -> None:
    """After the last attempt the save has failed, with the last cause."""
    basket = world.bind(retry=RetryPolicy(attempts=2, wait_initial=1, wait_jitter=0))()
    causes = [Unavailable("one"), Unavailable("two")]
    world.backend.failures.extend(causes)
    handle = basket.save()
    await world.armed(1)
    world.advance(1)
    assert await world.end(handle) == [FAILED]
    assert handle.exception() is causes[1]


@everywhere
async def test_a_pause_uses_up_no_attempt(world: World) -> None:
    """However long a chain is paused while it backs off, its save goes out once it is resumed."""
    basket = world.bind(retry=RetryPolicy(attempts=2, wait_initial=1, wait_jitter=0, timeout=5))()
    world.backend.failures.append(Unavailable())
    handle = basket.save()
    await world.armed(1)
    basket.chain.pause()
    world.advance(1000)
    assert handle.state is SaveState.BACKING_OFF
    assert world.backend.values == [0]
    basket.chain.resume()
    assert await world.end(handle) == [SAVED]
    assert handle.attempts == 2


@everywhere
async def test_refused_credentials_pause_the_lane(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of any chain is sent until `lane.resume()`; then all goes on, with no attempt used up."""
    kind = world.bind(retry=RetryPolicy(attempts=1))
    basket, other = kind(), kind(name="other")
    world.backend.failures.append(Unauthenticated())
    handle = basket.save()
    world.watch(basket, "retry")
    await world.stuck()
    assert world.backend.lane.paused
    later = other.save()
    await world.stuck()
    assert world.backend.values_of("other") == []
    world.backend.lane.resume()
    assert await world.end(handle, later) == [SAVED, SAVED]
    assert handle.attempts == 1
    assert not world.backend.lane.paused


# Time


@where_attempts_can_be_held
async def test_an_attempt_over_its_time_is_in_doubt_and_still_counts(world: World) -> None:
    """While it runs nothing else of its chain is sent; when it ends well after all, the save is saved."""
    basket = world.bind(timeout=10, retry=STEADY)()
    world.backend.hold()
    world.watch(basket, "request")
    handle, follower = save_each(basket, range(2))
    await world.until(lambda: bool(world.heard("request")))
    await world.armed(10)
    assert handle.state is SaveState.IN_FLIGHT
    world.advance(10)
    assert handle.state is SaveState.IN_DOUBT
    assert basket.chain.in_flight is handle
    assert world.backend.values in ([], [0])
    world.backend.release()
    assert await world.end(handle, follower) == [SAVED, SAVED]
    assert world.backend.values == [0, 1]


@where_attempts_can_be_held
async def test_a_save_over_its_whole_time_is_abandoned(world: World) -> None:
    """The chain goes on, the late end is told as `stale` and changes nothing, and its slot comes back."""
    world.backend.lane.max_in_flight = 1
    basket = world.bind(timeout=10, retry=STEADY)()
    assert await world.end(save_as(basket, 0)) == [SAVED]
    world.watch(basket, "request", "stale", "abandoned")
    world.backend.hold()
    world.backend.deaf = True
    handle, follower = save_each(basket, range(1, 3))
    await world.until(lambda: bool(world.heard("request")))
    await world.armed(10)
    world.advance(10)
    assert handle.outcome is None
    world.advance(50)
    assert await world.end(handle) == [ABANDONED]
    assert [event.save for event in world.heard("abandoned")] == [handle]
    await world.until(lambda: len(world.heard("request")) == 2)
    assert world.heard("stale") == []
    world.backend.release()
    assert await world.end(follower) == [SAVED]
    await world.until(lambda: bool(world.heard("stale")))
    assert [event.save for event in world.heard("stale")] == [handle]
    assert handle.outcome is ABANDONED
    assert await world.end(save_as(basket, 3)) == [SAVED]
    assert world.backend.values == [0, 1, 2, 3]


@everywhere
async def test_a_timeout_of_the_backend_is_in_doubt(world: World) -> None:
    """A bare TimeoutError out of a backend says that nobody knows; what may be repeated is repeated."""
    basket = world.bind(retry=STEADY)()
    assert await world.end(save_as(basket, 0)) == [SAVED]
    world.backend.failures.append(TimeoutError())
    handle = save_as(basket, 1)
    await world.armed(1)
    assert handle.state is SaveState.IN_DOUBT
    world.advance(1)
    assert await world.end(handle) == [SAVED]
    assert world.backend.values == [0, 1, 1]


# Flushing and closing


@everywhere
async def test_flush_waits_for_what_was_accepted_before_it(world: World) -> None:
    """And not for what receivers add for ever."""
    basket = world.bind()()
    more = True

    def again(_: object) -> None:
        if more and len(world.backend.ledger) < 1000:
            basket.save()

    basket.chain.on("sync", again)
    handles = save_each(basket, range(3))
    await world.flush()
    assert all(handle.done() for handle in handles)
    more = False
    await world.flush()


@everywhere
async def test_flush_names_what_cannot_move(world: World) -> None:
    """Paused chains make it raise Stuck, a TimeoutError, at once; what can move has moved by then."""
    kind = world.bind()
    basket, other = kind(), kind(name="other")
    basket.chain.pause()
    waiting = basket.save()
    moving = other.save()
    with pytest.raises(Stuck, match=r"paused or halted: save \d+ of") as raised:
        await world.aside(lambda: world.dispatcher.flush(PATIENCE))
    assert str(waiting) in str(raised.value)
    assert isinstance(raised.value, TimeoutError)
    assert moving.done()
    basket.chain.resume()
    await world.aside(lambda: basket.chain.flush(PATIENCE))
    assert waiting.done()


@where_attempts_can_be_held
async def test_flush_has_a_deadline(world: World) -> None:
    """What has not ended by then is named, and goes on."""
    world.backend.hold()
    handle = world.bind()().save()
    with pytest.raises(Stuck, match="did not end within"):
        await world.aside(lambda: world.dispatcher.flush(0.01))
    with pytest.raises(TimeoutError):
        await world.aside(lambda: handle.result(0.01))
    assert not handle.done()
    world.backend.release()
    assert await world.end(handle) == [SAVED]


@everywhere
async def test_flushing_one_chain_leaves_others_alone(world: World) -> None:
    """`chain.flush()` is done when its own saves are."""
    kind = world.bind()
    basket, other = kind(), kind(name="other")
    other.chain.pause()
    other.save()
    handle = basket.save()
    await world.aside(lambda: basket.chain.flush(PATIENCE))
    assert handle.done()
    other.chain.resume()


@everywhere
async def test_close_carries_out_what_it_can(world: World) -> None:
    """Then the dispatcher takes no more saves."""
    basket = world.bind()()
    handles = save_each(basket, range(5))
    await world.aside(lambda: world.dispatcher.close(PATIENCE))
    assert [handle.outcome for handle in handles] == [SAVED] * 5
    with pytest.raises(DispatcherClosed):
        basket.save()
    assert world.dispatcher.closed
    assert len(world.dispatcher) == 0


@everywhere
async def test_close_settles_what_it_cannot_carry_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Queued saves of a paused chain are cancelled, one that backs off has failed, and an error is logged."""
    kind = world.bind(retry=STEADY)
    basket, other = kind(), kind(name="other")
    world.backend.failures.append(Unavailable())
    attempted = other.save()
    await world.armed(1)
    other.chain.pause()
    basket.chain.pause()
    handles = save_each(basket, range(3))
    await world.aside(lambda: world.dispatcher.close(PATIENCE))
    assert [handle.outcome for handle in handles] == [CANCELLED] * 3
    assert attempted.outcome is FAILED
    assert "is closed although" in caplog.text
    assert len(world.dispatcher) == 0


@where_attempts_can_be_held
async def test_close_gives_up_what_does_not_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What is in flight past the deadline is abandoned, what is behind it cancelled."""
    basket = world.bind()()
    world.backend.hold()
    world.watch(basket, "request")
    first, second = save_each(basket, range(2))
    await world.until(lambda: bool(world.heard("request")))
    await world.aside(lambda: world.dispatcher.close(0.01))
    assert [first.outcome, second.outcome] == [ABANDONED, CANCELLED]
    assert "did not end within" in caplog.text


@everywhere
async def test_close_inside_a_receiver_is_refused_whole(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It could only wait for itself, so it raises, and the dispatcher stays open."""
    basket = world.bind()()
    raised: list[BaseException] = []

    def close(_: object) -> None:
        try:
            world.dispatcher.close()
        except WouldDeadlock as error:
            raised.append(error)

    basket.chain.on("sync", close)
    assert await world.end(basket.save()) == [SAVED]
    await world.flush()
    assert len(raised) == 1
    assert not world.dispatcher.closed
    assert await world.end(basket.save()) == [SAVED]


@everywhere
async def test_a_failure_nobody_listens_to_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At ERROR, once."""
    basket = world.bind()()
    world.backend.failures.append(Rejected("no"))
    basket.save()
    await world.flush()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "nobody listened" in errors[0].getMessage()


# Context


@everywhere
async def test_a_backend_sees_the_context_of_the_call(world: World) -> None:
    """Also of a save that had to wait, and of one that is sent again."""
    tenant = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []
    world.backend.during = lambda operation: seen.append(tenant.get())
    basket = world.bind(retry=STEADY)()
    world.backend.failures.extend([None, Unavailable()])
    basket.chain.pause()
    handles = []
    for name in ("one", "two", "three"):
        token = tenant.set(name)
        handles.append(basket.save())
        tenant.reset(token)
    basket.chain.resume()
    await world.armed(1)
    world.advance(1)
    assert await world.end(*handles) == [SAVED] * 3
    assert seen == ["one", "two", "two", "three"]


@everywhere
async def test_values_of_an_answer_reach_saves_behind_cancelled_ones(world: World) -> None:
    """However many saves between were taken out, the next one that is sent holds what the backend gave to the first."""
    basket = world.bind()()
    cancelled: list[bool] = []
    kept: list[Any] = []

    def during(operation: Any) -> Any:
        if operation.values["n"]:
            return None
        later = save_each(basket, range(1, 4))
        cancelled.extend(handle.cancel() for handle in later)
        kept.append(save_as(basket, 9))
        return {"total": 5}

    world.backend.during = during
    assert await world.end(basket.save()) == [SAVED]
    assert await world.end(*kept) == [SAVED]
    assert cancelled == [True] * 3
    assert [operation.values["total"] for operation in world.backend.ledger] == [None, 5]


# Waiting for oneself


@everywhere
async def test_waiting_inside_a_receiver_would_never_end(world: World) -> None:
    """`result()` of what is not done, and `flush()`, raise WouldDeadlock there; what is done may be asked."""
    basket = world.bind()()
    raised: list[Any] = []

    def wait(event: Any) -> None:
        if event.save.snapshot["n"]:
            return
        later = save_as(basket, 1)
        for call in (later.result, later.exception, world.dispatcher.flush, basket.chain.flush):
            try:
                call(PATIENCE)
            except WouldDeadlock as error:
                raised.append(type(error))

    basket.chain.on("sync", wait)
    assert await world.end(basket.save()) == [SAVED]
    await world.flush()
    assert raised == [WouldDeadlock] * 4


@everywhere
async def test_waiting_inside_a_backend_would_never_end(world: World) -> None:
    """The thread that carries out the work must not wait for work."""
    basket = world.bind()()
    raised: list[Any] = []

    def during(operation: Any) -> None:
        if operation.values["n"]:
            return
        later = save_as(basket, 1)
        for call in (later.result, world.dispatcher.flush):
            try:
                call(PATIENCE)
            except WouldDeadlock as error:
                raised.append(type(error))

    world.backend.during = during
    assert await world.end(basket.save()) == [SAVED]
    await world.flush()
    assert raised == [WouldDeadlock] * 2


# Two objects of one thing


@everywhere
async def test_two_objects_of_one_identity_share_a_chain(world: World) -> None:
    """Their saves are sent in the order of the calls, one at a time."""
    kind = world.bind()
    one, two = kind(id=7), kind(id=7)
    one.chain.pause()
    handles = [save_as(one, 0), save_as(two, 1), save_as(one, 2)]
    assert len(two.chain) == 3
    two.chain.resume()
    assert await world.end(*handles) == [SAVED] * 3
    assert world.backend.values == [0, 1, 2]


@everywhere
async def test_a_deleted_object_takes_no_saves(world: World) -> None:
    """After `delete()` was accepted `save()` raises, and nothing is queued."""
    basket = world.bind()()
    assert await world.end(basket.save()) == [SAVED]
    gone = basket.delete()
    with pytest.raises(Deleted):
        basket.save()
    assert basket.delete() is gone or gone.done()
    assert await world.end(gone) == [SAVED]


@where_attempts_can_be_held
async def test_an_answer_reaches_a_save_that_was_called_after_an_earlier_answer(world: World) -> None:
    """Its snapshot has what the first answer gave, those in front of it do not; no stale total is sent, and none stays."""
    totals = itertools.count(1)
    world.backend.during = lambda operation: {"total": next(totals)}
    basket = world.bind()()
    world.backend.hold()
    first = basket.save()
    disconnect = basket.chain.on("sync", lambda event: basket.chain.pause())
    for n in (1, 2):
        basket.save({"n": n})
    world.backend.release()
    await world.end(first)
    assert (basket.total, len(basket.chain)) == (1, 2)
    fourth = basket.save({"n": 3})
    disconnect()
    basket.chain.resume()
    await world.end(fourth)
    assert [operation.values["total"] for operation in world.backend.ledger] == [None, 1, 2, 3]
    assert basket.total == 4
    assert await world.end(basket.save({"n": 4})) == [Outcome.SAVED]
    assert (world.backend.ledger[-1].values["total"], basket.total) == (4, 5)


@where_attempts_can_be_held
async def test_a_discarded_edit_does_not_come_back(world: World) -> None:
    """What `refresh(discard=True)` has undone is not sent by a later save, though one in front of it was called with it."""
    basket = world.bind()()
    assert await world.end(basket.save()) == [Outcome.SAVED]
    world.backend.during = lambda operation: {"total": 0} if operation.method.value == "read" else None
    world.backend.hold()
    refreshed = basket.refresh(discard=True)
    patched = basket.save({"n": 1, "total": 5}, update_fields=["n"])
    disconnect = basket.chain.on("sync", lambda event: basket.chain.pause())
    world.backend.release()
    assert await world.end(refreshed) == [Outcome.SAVED]
    disconnect()
    last = basket.save()
    basket.chain.resume()
    assert await world.end(patched, last) == [Outcome.SAVED, Outcome.SAVED]
    assert (basket.total, world.backend.ledger[-1].values["total"]) == (0, 0)


@where_attempts_can_be_held
async def test_what_answers_made_of_an_edit_is_sent_by_who_takes_its_place(world: World) -> None:
    """A save that takes the place of another one sends what its object was at the call, though the other one was an edit."""
    found = iter([{"total": 0}, {"total": 4}])
    basket = world.bind(coalesce=Coalesce.LATEST)()
    assert await world.end(basket.save()) == [Outcome.SAVED]
    world.backend.during = lambda operation: next(found) if operation.method.value == "read" else None
    world.backend.hold()
    refreshed = basket.refresh(discard=True)
    basket.total = 2
    again = basket.refresh(discard=True)
    disconnect = basket.chain.on("sync", lambda event: basket.chain.pause())
    world.backend.release()
    assert await world.end(refreshed) == [Outcome.SAVED]
    replaced = basket.save({"n": 3})
    basket.chain.resume()
    assert await world.end(again) == [Outcome.SAVED]
    disconnect()
    last = basket.save({"n": 5})
    basket.chain.resume()
    assert await world.end(last, replaced) == [Outcome.SAVED, Outcome.SUPERSEDED]
    assert (basket.total, world.backend.ledger[-1].values["total"]) == (4, 4)
