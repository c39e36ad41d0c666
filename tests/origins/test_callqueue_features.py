"""What SequentialServiceQueue (CallQueue) can do, which ours does too, and so does the port; and what ours says more of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chained_models import CallChain, Dispatcher, Outcome, Turn

from .claims import both, only
from .queues import CallQueues, OurCalls

callqueue = both(OurCalls, CallQueues)
ours = only(OurCalls)


@callqueue
def test_callqueue_one_call_at_a_time(world: Any) -> None:
    """The next one when the one before has said that it is done."""
    queue = world()
    queue.add("a")
    queue.add("b")
    assert queue.handed == ["a"]
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@callqueue
def test_callqueue_every_call_has_an_id_and_a_name(world: Any) -> None:
    """The id is its own; a name may be shared."""
    queue = world()
    ids = [queue.add(item, name="search") for item in "abc"]
    assert len(set(ids)) == 3
    queue.turns[0].done()
    queue.turns[1].done()
    assert queue.handed == ["a", "b", "c"]


@callqueue
def test_callqueue_dequeue_by_id(world: Any) -> None:
    """Any queued call, whatever is running and wherever it stands."""
    queue = world()
    queue.add("a")
    second = queue.add("b")
    queue.add("c")
    queue.cancel(second)
    queue.turns[0].done()
    assert queue.handed == ["a", "c"]


@ours
def test_callqueue_cancel_by_name(world: Any) -> None:
    """All queued calls of that name, and none that has started; a name that nothing has is an error that says so."""
    queue = world()
    running, first, other, second = (queue.add(item, name=name) for item, name in ("an", "bn", "co", "dn"))
    queue.cancel("n")
    assert [queue.outcome(id) for id in (running, first, other, second)] == [None, "CANCELLED", None, "CANCELLED"]
    assert queue.calls.cancel("n") is False
    for unknown in ("nobody", first):
        with pytest.raises(KeyError, match=unknown):
            queue.cancel(unknown)
    queue.turns[0].done()
    assert queue.handed == ["a", "c"]


@ours
def test_callqueue_cancel_by_id_says_whether_it_came_in_time(world: Any) -> None:
    """One that was attempted, and is to be tried again, is no longer a queued one."""
    queue = world(delay=2.0)
    tried, queued = queue.add("a"), queue.add("b")
    queue.turns[0].retry()
    assert queue.calls.cancel(tried) is False
    assert queue.calls.cancel(queued) is True
    queue.advance(2.0)
    assert queue.handed == ["a", "a"]


@callqueue
def test_callqueue_a_timeout_per_call_and_then_the_next(world: Any) -> None:
    """Each has its own; when it is over, the queue goes on."""
    queue = world(timeout=5.0)
    queue.add("a")
    queue.add("b", timeout=2.0)
    queue.add("c")
    queue.advance(4.5)
    assert queue.handed == ["a"]
    queue.advance(0.5)
    assert queue.handed == ["a", "b"]
    queue.advance(2.0)
    assert queue.handed == ["a", "b", "c"]


@callqueue
def test_callqueue_the_timeout_is_counted_from_the_start_of_the_call(world: Any) -> None:
    """The time in the queue does not count."""
    queue = world(timeout=5.0)
    queue.add("a", timeout=60.0)
    queue.add("b")
    queue.add("c")
    queue.advance(50)
    queue.turns[0].done()
    queue.advance(4.0)
    assert queue.handed == ["a", "b"]
    queue.advance(1.0)
    assert queue.handed == ["a", "b", "c"]


@ours
def test_callqueue_each_attempt_has_all_the_time(world: Any) -> None:
    """Neither what the attempt before has used counts, nor the rest between them."""
    queue = world(timeout=5.0, delay=3.0)
    call = queue.add("a")
    queue.advance(4.0)
    queue.turns[0].retry()
    queue.advance(3.0)
    queue.advance(4.5)
    assert (queue.handed, queue.outcome(call)) == (["a", "a"], None)
    queue.advance(0.5)
    assert queue.outcome(call) == "ABANDONED"


@ours
def test_callqueue_the_time_of_a_paused_queue_does_not_count(world: Any) -> None:
    """Only a call that was started has a time that can be over."""
    queue = world(timeout=5.0)
    queue.calls.pause()
    call = queue.add("a")
    queue.advance(50.0)
    queue.calls.resume()
    queue.advance(4.5)
    assert (queue.handed, queue.outcome(call)) == (["a"], None)
    queue.turns[0].done()
    assert queue.outcome(call) == "SAVED"


@callqueue
def test_callqueue_notify_completed(world: Any) -> None:
    """A call says that it is done, and its time is not waited for: `turn.done()` here."""
    queue = world(timeout=60.0)
    first = queue.add("a")
    queue.add("b")
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]
    assert queue.outcome(first) is not None


@ours
def test_callqueue_notify_completed_with_what_came_of_it(world: Any) -> None:
    """What the turn is given is the result of the call's handle."""
    queue = world()
    call = queue.calls.add("a")
    queue.turns[0].done("found")
    assert call.result() == "found"


def test_callqueue_notify_completed_before_the_call_returns() -> None:
    """The next one starts, although the code of this one still runs; whose end changes nothing any more."""

    async def program() -> None:
        returned: list[str] = []
        turns: list[Turn] = []
        go_on = asyncio.Event()

        async def work(item: str, turn: Turn) -> None:
            turns.append(turn)
            turn.done(item)
            await go_on.wait()
            returned.append(item)

        async with Dispatcher() as dispatcher:
            calls = CallChain(work, manual=True, timeout=60.0, dispatcher=dispatcher)
            first, second = calls.extend(["a", "b"])
            assert [await first, await second] == ["a", "b"]
            assert (len(turns), returned) == (2, [])
            go_on.set()
            while len(returned) < 2:
                await asyncio.sleep(0)
        assert (first.outcome, second.outcome) == (Outcome.SAVED, Outcome.SAVED)

    asyncio.run(program())


@callqueue
def test_callqueue_replace_if_exists(world: Any) -> None:
    """The queued call of that name is replaced, in its place."""
    queue = world()
    queue.add("a")
    queue.add("old", name="search")
    queue.add("c")
    queue.add("new", name="search", replace=True)
    queue.turns[0].done()
    queue.turns[1].done()
    assert queue.handed == ["a", "new", "c"]


@ours
def test_callqueue_replace_in_place_is_of_the_first_of_that_name(world: Any) -> None:
    """The others of that name stay, and so does the order; what was replaced ends as the call in its place does."""
    queue = world()
    queue.add("a")
    first, second = queue.calls.add("old", name="search"), queue.calls.add("other", name="search")
    newer = queue.calls.add("new", name="search", replace=True)
    assert [one.id for one in queue.calls][1:] == [newer.id, second.id]
    assert (first.outcome, first.superseded_by, first.done()) == (Outcome.SUPERSEDED, newer, False)
    queue.turns[0].done()
    queue.turns[1].done("found")
    assert (first.result(), newer.result(), second.done()) == ("found", "found", False)


@ours
def test_callqueue_replace_never_hits_a_call_that_was_attempted(world: Any) -> None:
    """Neither while it runs, which the port gets wrong, nor while it waits for its next attempt."""
    queue = world(delay=2.0)
    queue.add("a", name="search")
    queue.turns[0].retry()
    queue.add("b", name="search", replace=True)
    assert queue.size() == 2
    queue.advance(2.0)
    queue.turns[1].done()
    queue.advance(2.0)
    assert queue.handed == ["a", "a", "b"]


@ours
def test_callqueue_without_replace_both_of_one_name_stay(world: Any) -> None:
    """A name is not unique unless the program wants it to be."""
    queue = world()
    for item in "abc":
        queue.add(item, name="search", replace=False)
    assert [one.name for one in queue.calls] == ["search"] * 3


@callqueue
def test_callqueue_replace_without_such_a_name_adds(world: Any) -> None:
    """There is nothing to replace, so it is the last one."""
    queue = world()
    queue.add("a")
    queue.add("b", name="search", replace=True)
    queue.turns[0].done()
    assert queue.handed == ["a", "b"]


@callqueue
def test_callqueue_the_timer_runs_only_when_it_is_needed(world: Any) -> None:
    """None before the first call, and none after the last one."""
    queue = world()
    assert queue.timers == 0
    queue.add("a")
    assert queue.timers > 0
    queue.turns[0].done()
    assert queue.timers == 0


@pytest.mark.parametrize(
    "emptied",
    [
        lambda queue: queue.turns[0].done(),
        lambda queue: queue.advance(5.0),
        lambda queue: queue.turns[0].retry() or queue.turns[1].done(),
        lambda queue: (queue.calls.pause(), queue.turns[0].done()),
        lambda queue: (queue.add("b"), queue.clear(), queue.turns[0].done()),
        lambda queue: (queue.add("b", name="b"), queue.cancel("b"), queue.turns[0].done()),
        lambda queue: (queue.calls.pause(), queue.add("b"), queue.turns[0].done(), queue.clear()),
    ],
    ids=["done", "timeout", "done at last", "paused", "cleared", "cancelled", "cleared when paused"],
)
def test_callqueue_no_timer_is_alive_when_nothing_waits(emptied: Callable[[OurCalls], object]) -> None:
    """Right after it has emptied, however that came about; and there never is more than one."""
    queue = OurCalls(timeout=5.0)
    for _ in range(3):
        queue.add("a")
        assert queue.timers == 1
        emptied(queue)
        assert (queue.size(), queue.timers) == (0, 0)
        queue.calls.resume()
        queue.turns.clear()
    queue.close()


@ours
def test_callqueue_no_timer_is_alive_for_calls_without_a_timeout(world: Any) -> None:
    """Nor for the rest after the last one, which nothing waits for."""
    queue = world(timeout=None, delay=2.0)
    queue.add("a")
    assert queue.timers == 0
    queue.turns[0].done()
    assert queue.timers == 0
    call = queue.calls.add("b")
    assert queue.timers == 1
    call.cancel()
    assert queue.timers == 0


@ours
def test_callqueue_one_timer_serves_all_calls(world: Any) -> None:
    """However many wait."""
    queue = world(timeout=5.0)
    for n in range(100):
        queue.add(n)
        assert queue.timers == 1


@callqueue
def test_callqueue_plain_code_may_be_queued(world: Any) -> None:
    """A callable is its own work, and has its turn like any call."""
    queue = world(timeout=5.0)
    ran: list[str] = []
    queue.add("a")
    queue.add(lambda: ran.append("code"))
    assert ran == []
    queue.turns[0].done()
    assert ran == ["code"]


@ours
def test_callqueue_plain_code_is_called_as_it_is(world: Any) -> None:
    """It is not copied, what it returns is its result, and where turns are given it gets nothing but its own."""
    queue = world()
    lock = threading.Lock()
    assert queue.calls.add(lambda turn: turn.done(lock)).result() is lock


def test_callqueue_calls_may_be_coroutines_and_plain_functions() -> None:
    """Side by side in one queue, in their order."""

    async def program() -> None:
        ran: list[str] = []

        async def coroutine() -> str:
            await asyncio.sleep(0)
            ran.append("coroutine")
            return "of a coroutine"

        def plain() -> str:
            ran.append("plain")
            return "of plain code"

        async with Dispatcher() as dispatcher:
            calls = CallChain(timeout=60.0, dispatcher=dispatcher)
            handles = calls.extend([coroutine, plain, coroutine])
            assert [await handle for handle in handles] == ["of a coroutine", "of plain code", "of a coroutine"]
        assert ran == ["coroutine", "plain", "coroutine"]

    asyncio.run(program())
