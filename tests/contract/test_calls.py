"""CallChain in every world: blocking workers and coroutines, inline, in threads, in one's own loop and in a background loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

from chained_models import (
    Abandoned,
    CallChain,
    Dispatcher,
    InDoubt,
    Lane,
    OnFailure,
    Outcome,
    Rejected,
    SaveEvent,
    SaveState,
    SnapshotError,
    Turn,
    Unauthenticated,
    Unavailable,
    UnsupportedBackend,
    WouldDeadlock,
)

from .scripted import PATIENCE, BackgroundLoop, World, everywhere, where_things_happen_meanwhile


class Hands:
    """A worker of the world's colour, which writes down what it is handed.

    Attributes:
        handed: What it got, in order.
        turns: The turns that came with it.
        answers: What the next calls return, or raise; by default the item.
        during: Called with item and turn.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.handed: list[Any] = []
        self.turns: list[Turn] = []
        self.ended: list[Any] = []
        self.answers: deque[Any] = deque()
        self.during: Callable[..., object] = lambda item, *turn: None
        self._held = False
        self._open = threading.Event()
        self._open.set()
        self._hear_of_open_turns(world.dispatcher._engine)

    def _hear_of_open_turns(self, engine: Any) -> None:
        left_open = engine._left_open

        def noted(*attempt: Any) -> Any:
            jobs = left_open(*attempt)
            self.world.stir()
            return jobs

        engine._left_open = noted

    def chain(self, **options: Any) -> CallChain:
        return CallChain(self.worker, dispatcher=self.world.dispatcher, **options)

    @property
    def worker(self) -> Callable[..., Any]:
        return self.of_coroutines if isinstance(self.world, BackgroundLoop) else self.blocking

    def hold(self) -> None:
        """Calls from now on do not return until `release()`."""
        self._held = True
        self._open = threading.Event()

    def release(self) -> None:
        self._held = False
        self._open.set()

    def blocking(self, item: Any, *turn: Turn) -> Any:
        gate = self._open
        answer = self._begin(item, *turn)
        assert gate.wait(PATIENCE), "a call was held and never released"
        return self._end(item, answer)

    async def of_coroutines(self, item: Any, *turn: Turn) -> Any:
        held, gate = self._held, self._open
        answer = self._begin(item, *turn)
        while held and not gate.is_set():
            await asyncio.sleep(0)
        return self._end(item, answer)

    def _begin(self, item: Any, *turn: Turn) -> Any:
        self.handed.append(item)
        self.turns += turn
        answer = self.answers.popleft() if self.answers else item
        self.during(item, *turn)
        self.world.stir()
        return answer

    def _end(self, item: Any, answer: Any) -> Any:
        self.ended.append(item)
        self.world.stir()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def has(self, number: int) -> None:
        """Wait until it was handed so many."""
        await self.world.until(lambda: len(self.handed) >= number)


def heard(world: World, calls: CallChain, *names: Any) -> None:
    """Write down these events of a chain."""
    for name in names:
        calls.on(name, world._note)


def told(world: World) -> list[str]:
    return [event.name for event in world.events]


async def quiet(world: World, calls: CallChain) -> None:
    """Wait until nothing is in flight and all that was told was heard."""
    await world.aside(lambda: calls.flush(PATIENCE))
    await world.until(lambda: not world.dispatcher._engine.ledger.finishing)


# Order


@everywhere
async def test_items_are_worked_off_in_order(world: World) -> None:
    """One after the other, each as it was added; the handle has what the worker returned."""
    hands = Hands(world)
    calls = hands.chain()
    hands.answers.extend("xyz")
    handles = [calls.add(item) for item in "abc"]
    assert await world.end(*handles) == [Outcome.SAVED] * 3
    assert hands.handed == ["a", "b", "c"]
    assert [handle.result(0) for handle in handles] == ["x", "y", "z"]
    assert [handle.attempts for handle in handles] == [1, 1, 1]


@where_things_happen_meanwhile
async def test_one_is_in_flight(world: World) -> None:
    """The next one waits for its end."""
    hands = Hands(world)
    hands.hold()
    calls = hands.chain()
    first, second = calls.add("a"), calls.add("b")
    await hands.has(1)
    assert (calls.in_flight, len(calls)) == (first, 2)
    assert [(view.state, view.attempts) for view in calls] == [(SaveState.IN_FLIGHT, 1), (SaveState.QUEUED, 0)]
    assert hands.handed == ["a"]
    hands.release()
    await world.end(first, second)
    assert hands.handed == ["a", "b"]
    await quiet(world, calls)
    assert (calls.in_flight, len(calls), list(calls)) == (None, 0, [])


@everywhere
async def test_a_callable_is_called_instead_of_the_worker(world: World) -> None:
    """Without an argument, in its turn."""
    hands = Hands(world)
    calls = hands.chain()
    plain = isinstance(world.backend, object) and not isinstance(world, BackgroundLoop)
    ran: list[str] = []

    def call() -> str:
        ran.append("called")
        return "c"

    async def coroutine() -> str:
        return call()

    calls.pause()
    handles = [calls.add("a"), calls.add(call if plain else coroutine), calls.add("b")]
    calls.resume()
    await world.end(*handles)
    assert handles[1].result(0) == "c"
    assert (hands.handed, ran) == (["a", "b"], ["called"])


def test_both_colours_stand_in_one_chain() -> None:
    """What is a coroutine function runs in a loop, the rest in threads; in order all the same."""
    ran: list[tuple[Any, bool]] = []

    def note(what: Any) -> Any:
        ran.append((what, asyncio._get_running_loop() is not None))
        return what

    async def worker(item: Any) -> Any:
        await asyncio.sleep(0)
        return note(item)

    with Dispatcher() as dispatcher:
        calls = CallChain(worker, dispatcher=dispatcher, delay=0.001)
        handles = calls.extend([1, lambda: note(2), 3, lambda: note(4), 5])
        assert [handle.result(PATIENCE) for handle in handles] == [1, 2, 3, 4, 5]
    assert ran == [(1, True), (2, False), (3, True), (4, False), (5, True)]


@everywhere
async def test_a_worker_that_raises_fails_its_item_only(world: World) -> None:
    """With that error, whatever it is: nothing is tried again, no lane is paused, and the next one is called."""
    hands = Hands(world)
    calls = hands.chain()
    errors = [ValueError("a"), Unavailable("b"), Unauthenticated("c"), InDoubt("d"), Rejected("e"), TimeoutError("f")]
    hands.answers.extend([*errors, "fine"])
    calls.pause()
    handles = [calls.add(number) for number in range(7)]
    calls.resume()
    assert await world.end(*handles) == [*[Outcome.FAILED] * 6, Outcome.SAVED]
    assert [handle.exception(0) for handle in handles[:6]] == errors
    assert hands.handed == list(range(7))
    with pytest.raises(ValueError, match=r"^a$"):
        handles[0].result(0)


@everywhere
async def test_context_variables_are_those_of_the_caller(world: World) -> None:
    """As they were when the item was added."""
    variable = contextvars.ContextVar("variable", default="nothing")
    hands = Hands(world)
    seen: list[str] = []
    hands.during = lambda item: seen.append(variable.get())
    calls = hands.chain()
    calls.pause()
    handles = []
    for value in ("one", "two"):
        token = variable.set(value)
        handles.append(calls.add(value))
        variable.reset(token)
    calls.resume()
    await world.end(*handles)
    assert seen == ["one", "two"]


@everywhere
async def test_items_may_be_added_from_the_worker_and_from_receivers(world: World) -> None:
    """They stand at the end."""
    hands = Hands(world)
    calls = hands.chain()
    hands.during = lambda item: calls.add(item + "'") if len(item) < 2 else None
    calls.on("sync", lambda event: calls.add(event.save.item + "?") if event.save.item == "a'" else None)
    calls.pause()
    calls.extend(["a", "b"])
    calls.resume()
    await hands.has(5)
    await quiet(world, calls)
    assert hands.handed == ["a", "b", "a'", "b'", "a'?"]


# Copies


@everywhere
async def test_an_item_is_what_it_was_when_it_was_added(world: World) -> None:
    """Deep-copied; with copy=False it is the object itself."""
    hands = Hands(world)
    calls = hands.chain()
    item = {"tags": ["red"]}
    calls.pause()
    copied = calls.add(item)
    calls.update(copy=False)
    itself = calls.add(item)
    item["tags"].append("green")
    calls.resume()
    await world.end(copied, itself)
    assert hands.handed == [{"tags": ["red"]}, {"tags": ["red", "green"]}]
    assert hands.handed[1] is item


@everywhere
async def test_what_cannot_be_copied_is_not_added(world: World) -> None:
    """Not it, nor what came with it; the chain is as it was."""
    hands = Hands(world)
    calls = hands.chain()
    with pytest.raises(SnapshotError, match=r"this list cannot be copied \(TypeError\).*copy=False"):
        calls.add([threading.Lock()])
    with pytest.raises(SnapshotError):
        calls.extend(["a", threading.Lock(), "b"])
    assert len(calls) == 0
    assert len(world.dispatcher) == 0
    await world.end(calls.add("c"))
    assert hands.handed == ["c"]


# Batches


@everywhere
async def test_a_batch_is_a_list_of_what_is_queued(world: World) -> None:
    """Of so many at most; also the remainder is a list, and one item alone. All have the same result."""
    hands = Hands(world)
    calls = hands.chain(batch=2)
    hands.answers.extend(["first", "second", "third", "fourth"])
    handles = calls.extend("abcde")
    await world.end(*handles)
    handles.append(calls.add("f"))
    await world.end(*handles)
    assert hands.handed == [["a", "b"], ["c", "d"], ["e"], ["f"]]
    assert [handle.result(0) for handle in handles] == [*["first"] * 2, *["second"] * 2, "third", "fourth"]


@everywhere
async def test_the_size_of_batches_changes_from_the_next_one_on(world: World) -> None:
    """With size 1 the worker gets the item itself."""
    hands = Hands(world)
    calls = hands.chain(batch=3)
    hands.during = lambda item: calls.update(batch=1) if "a" in item else None
    await world.end(*calls.extend("abcde"))
    assert hands.handed == [["a", "b", "c"], "d", "e"]


@everywhere
async def test_callables_are_never_batched(world: World) -> None:
    """One ends a batch, and is an attempt of its own."""
    hands = Hands(world)
    calls = hands.chain(batch=4)

    def call() -> None:
        hands.handed.append("called")

    async def coroutine() -> None:
        call()

    item: Any = coroutine if isinstance(world, BackgroundLoop) else call
    await world.end(*calls.extend(["a", "b", item, item, "c"]))
    assert hands.handed == [["a", "b"], "called", "called", ["c"]]


@everywhere
async def test_a_batch_fails_as_one(world: World) -> None:
    """Each of its items has the error, and each is told."""
    hands = Hands(world)
    calls = hands.chain(batch=3)
    heard(world, calls, "request", "error", "sync")
    error = ValueError("no")
    hands.answers.append(error)
    handles = calls.extend("abcd")
    assert await world.end(*handles) == [*[Outcome.FAILED] * 3, Outcome.SAVED]
    assert {handle.exception(0) for handle in handles[:3]} == {error}
    await quiet(world, calls)
    assert [(event.name, event.save.item) for event in world.events] == [
        ("request", "a"),
        ("error", "a"),
        ("error", "b"),
        ("error", "c"),
        ("request", "d"),
        ("sync", "d"),
    ]


@where_things_happen_meanwhile
async def test_no_item_of_a_running_batch_is_taken_out(world: World) -> None:
    """It is too late; `clear()` leaves them as well."""
    hands = Hands(world)
    hands.hold()
    calls = hands.chain(batch=2)
    handles = calls.extend("abc")
    await hands.has(1)
    assert [view.state for view in calls] == [SaveState.IN_FLIGHT, SaveState.IN_FLIGHT, SaveState.QUEUED]
    assert [handle.running() for handle in handles] == [True, True, False]
    assert handles[1].why_waiting is not None
    assert handles[1].why_waiting.startswith("in flight")
    assert calls.cancel(handles[1].id) is False
    assert handles[1].cancel() is False
    calls.clear()
    hands.release()
    assert await world.end(*handles) == [Outcome.SAVED, Outcome.SAVED, Outcome.CANCELLED]
    assert hands.handed == [["a", "b"]]


@everywhere
async def test_a_batch_that_is_tried_again_stays_together(world: World) -> None:
    """In its place, ahead of what was added as urgent meanwhile, although batches are smaller by now."""
    hands = Hands(world)
    calls = hands.chain(batch=2, manual=True)
    handles = calls.extend("abc")
    await hands.has(1)
    calls.update(batch=1)
    urgent = calls.add("u", urgent=True)
    hands.during = lambda item, turn: turn.done(item)
    hands.turns[0].retry()
    await world.end(*handles, urgent)
    assert hands.handed == [["a", "b"], ["a", "b"], "u", "c"]
    assert [handle.attempts for handle in handles] == [2, 2, 1]


# Turns


@everywhere
async def test_a_manual_item_is_done_when_its_turn_says_so(world: World) -> None:
    """Not when the worker returns; until then nothing else is called."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    first, second = calls.extend("ab")
    await hands.has(1)
    await world.until(lambda: first.open)
    assert not first.done()
    assert calls.in_flight is first
    hands.turns[0].done("value")
    await world.end(first)
    assert first.result(0) == "value"
    await hands.has(2)
    error = ValueError("no")
    hands.turns[1].fail(error)
    await world.end(second)
    assert (second.outcome, second.exception(0)) == (Outcome.FAILED, error)


@everywhere
async def test_a_callable_gets_only_the_turn(world: World) -> None:
    """In a manual chain."""
    hands = Hands(world)
    calls = hands.chain(manual=True)

    def call(turn: Turn) -> None:
        turn.done("called")

    async def coroutine(turn: Turn) -> None:
        call(turn)

    handle = calls.add(coroutine if isinstance(world, BackgroundLoop) else call)
    await world.end(handle)
    assert handle.result(0) == "called"


@everywhere
async def test_an_open_turn_holds_no_thread(world: World) -> None:
    """However many chains wait for theirs: all are called."""
    hands = Hands(world)
    lane = Lane(200)
    chains = [hands.chain(manual=True, lane=lane) for _ in range(200)]
    handles = [calls.add(number) for number, calls in enumerate(chains)]
    await hands.has(200)
    await world.until(lambda: all(handle.open for handle in handles))
    assert len(getattr(world.driver, "_jobs", ())) == 0
    for turn in hands.turns:
        turn.done()
    assert set(await world.end(*handles)) == {Outcome.SAVED}


@everywhere
async def test_a_turn_may_be_ended_in_the_worker_itself(world: World) -> None:
    """What that returns afterwards is not looked at."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "stale", "sync")
    hands.during = lambda item, turn: turn.done(item * 2)
    handles = calls.extend("abc")
    await world.end(*handles)
    assert [handle.result(0) for handle in handles] == ["aa", "bb", "cc"]
    await quiet(world, calls)
    assert told(world) == ["sync"] * 3


@everywhere
async def test_a_turn_may_be_ended_by_another_thread(world: World) -> None:
    """Or by a receiver."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    first, second = calls.extend("ab")
    await hands.has(1)
    await world.until(lambda: first.open)
    calls.on("sync", lambda event: hands.turns[0].done())  # late, and ignored
    thread = threading.Thread(target=hands.turns[0].done)
    thread.start()
    await world.aside(thread.join)
    await world.end(first)
    await hands.has(2)
    hands.turns[1].done()
    assert await world.end(first, second) == [Outcome.SAVED] * 2


@everywhere
async def test_a_turn_ends_its_own_item_and_once(world: World) -> None:
    """Second and late calls are told, and change nothing."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "stale", "retry")
    first, second = calls.extend("ab")
    await hands.has(1)
    turn = hands.turns[0]
    turn.done(1)
    await hands.has(2)
    turn.done(2)
    turn.fail(ValueError("late"))
    turn.retry()
    await world.until(lambda: len(world.events) == 3)
    assert told(world) == ["stale"] * 3
    assert {event.save for event in world.events} == {first}
    assert (first.result(0), second.done(), hands.handed) == (1, False, ["a", "b"])
    hands.turns[1].done()
    await world.end(second)


@everywhere
async def test_the_turn_of_an_earlier_attempt_ends_nothing(world: World) -> None:
    """After `retry()` only the new one counts."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    handle = calls.add("a")
    await hands.has(1)
    hands.turns[0].retry()
    await hands.has(2)
    hands.turns[0].done("old")
    assert not handle.done()
    hands.turns[1].done("new")
    await world.end(handle)
    assert (handle.result(0), handle.attempts) == ("new", 2)


@everywhere
async def test_a_manual_worker_that_raises_fails_its_item(world: World) -> None:
    """Unless its turn was settled before: then that counts, and the error is told as stale."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "stale")
    error = ValueError("no")
    hands.answers.extend([error, error])
    hands.during = lambda item, turn: turn.done() if item == "b" else None
    handles = calls.extend("ab")
    assert await world.end(*handles) == [Outcome.FAILED, Outcome.SAVED]
    assert handles[0].exception(0) is error
    await world.until(lambda: len(world.events) == 1)
    assert (world.events[0].save, world.events[0].error) == (handles[1], error)
    hands.turns[0].done()
    await world.until(lambda: len(world.events) == 2)


@where_things_happen_meanwhile
async def test_a_turn_that_is_done_early_lets_the_next_one_go(world: World) -> None:
    """While its worker still runs, whose end does not matter any more."""
    hands = Hands(world)
    hands.hold()
    calls = hands.chain(manual=True)
    heard(world, calls, "stale")
    first, second = calls.extend("ab")
    await hands.has(1)
    hands.turns[0].done("early")
    await hands.has(2)
    assert hands.ended == []
    await world.end(first)
    hands.turns[1].done("early too")
    await world.end(second)
    hands.release()
    await world.until(lambda: sorted(hands.ended) == ["a", "b"])
    assert (first.result(0), second.result(0), told(world)) == ("early", "early too", [])


@everywhere
async def test_an_item_that_is_tried_again_keeps_its_place(world: World) -> None:
    """Ahead of all others, also of what was added as urgent; each attempt is counted, and there is no end of them."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "retry")
    first, second = calls.extend("ab")
    await hands.has(1)
    urgent = calls.add("u", urgent=True)
    for number in range(1, 8):
        hands.turns[-1].retry()
        await hands.has(number + 1)
    hands.during = lambda item, turn: turn.done()
    hands.turns[-1].done()
    await world.end(first, second, urgent)
    assert hands.handed == [*"a" * 8, "u", "b"]
    assert (first.attempts, told(world)) == (8, ["retry"] * 7)


@everywhere
async def test_an_item_that_is_tried_again_is_not_taken_out(world: World) -> None:
    """It was attempted: neither cancelled, nor cleared, nor replaced; also while the rest before it goes on."""
    hands = Hands(world)
    calls = hands.chain(manual=True, delay=5.0)
    handle = calls.add("a", name="n")
    await hands.has(1)
    hands.turns[0].retry()
    assert [view.state for view in calls] == [SaveState.BACKING_OFF]
    assert calls.cancel("n") is False
    assert handle.cancel() is False
    calls.clear()
    behind = calls.add("b", name="n", replace=True)
    assert len(calls) == 2
    hands.during = lambda item, turn: turn.done()
    await world.armed(5.0)
    world.advance(5.0)
    await world.end(handle)
    await world.armed(5.0)
    world.advance(5.0)
    await world.end(behind)
    assert hands.handed == ["a", "a", "b"]


# Time


@everywhere
async def test_the_chain_rests_from_the_end_of_one_to_the_start_of_the_next(world: World) -> None:
    """The first one starts at once."""
    hands = Hands(world)
    calls = hands.chain(delay=5.0, manual=True)
    handles = calls.extend("abc")
    await hands.has(1)
    world.advance(100.0)
    hands.turns[0].done()
    await world.armed(5.0)
    world.advance(4.0)
    assert hands.handed == ["a"]
    why = handles[1].why_waiting
    assert why is not None
    assert why.startswith("rests until ")
    world.advance(1.0)
    await hands.has(2)
    hands.turns[1].done()
    await world.armed(5.0)
    world.advance(5.0)
    await hands.has(3)
    hands.turns[2].done()
    assert await world.end(*handles) == [Outcome.SAVED] * 3


@everywhere
async def test_what_is_added_during_the_rest_waits_for_its_end(world: World) -> None:
    """Although the chain was empty; after it nothing waits."""
    hands = Hands(world)
    calls = hands.chain(delay=5.0)
    await world.end(calls.add("a"))
    await quiet(world, calls)
    world.advance(2.0)
    second = calls.add("b")
    assert not second.done()
    await world.armed(3.0)
    world.advance(3.0)
    await world.end(second)
    await quiet(world, calls)
    world.advance(5.0)
    third = calls.add("c")
    await world.end(third)
    assert hands.handed == ["a", "b", "c"]


@everywhere
async def test_the_rest_comes_before_another_attempt_too(world: World) -> None:
    """The event says how long it is."""
    hands = Hands(world)
    calls = hands.chain(delay=5.0, manual=True)
    heard(world, calls, "retry")
    handle = calls.add("a")
    await hands.has(1)
    hands.turns[0].retry()
    await world.armed(5.0)
    world.advance(4.5)
    assert (hands.handed, handle.done()) == (["a"], False)
    world.advance(0.5)
    await hands.has(2)
    hands.turns[1].done()
    await world.end(handle)
    assert [event.delay for event in world.events] == [5.0]


@everywhere
async def test_a_rest_under_way_keeps_its_length(world: World) -> None:
    """`update()` is for the next one."""
    hands = Hands(world)
    calls = hands.chain(delay=5.0)
    calls.pause()
    handles = calls.extend("abc")
    calls.resume()
    await world.end(handles[0])
    await world.armed(5.0)
    calls.update(delay=0)
    world.advance(4.0)
    assert not handles[1].done()
    world.advance(1.0)
    await world.end(*handles)
    assert hands.handed == ["a", "b", "c"]


@everywhere
async def test_a_rest_that_nobody_waits_for_holds_no_timer(world: World) -> None:
    """Neither after the last item, nor after `clear()` or `cancel()`; and no chain."""
    hands = Hands(world)
    calls = hands.chain(delay=5.0, timeout=50.0)
    for number, empty in enumerate([calls.clear, lambda: calls.cancel("second"), lambda: None]):
        await world.end(calls.add("a"))
        second = calls.add("b", name="second")
        await world.armed(5.0)
        empty()
        assert second.done() or number == 2
        if number == 2:
            world.advance(5.0)
        await world.end(second)
        await quiet(world, calls)
        await world.until(lambda: not alarms(world))
        assert world.dispatcher._engine.ledger.machine.chains == {}
        world.advance(5.0)
    assert hands.handed == ["a", "a", "a", "b"]


@everywhere
async def test_a_chain_in_which_nothing_runs_keeps_no_deadline(world: World) -> None:
    """However it came to that: taken out by its handle, paused, cleared while paused, or halted."""
    hands = Hands(world)
    calls = hands.chain(manual=True, timeout=50.0, delay=5.0)
    first, second = calls.extend("ab")
    await hands.has(1)
    hands.turns[-1].done()
    await world.end(first)
    await world.armed(5.0)
    assert second.cancel()
    await quiet(world, calls)
    assert not alarms(world)

    calls.update(delay=0.0, on_failure=OnFailure.HALT)
    world.advance(5.0)
    third = calls.add("c")
    await hands.has(2)
    calls.pause()
    hands.turns[-1].done()
    await world.end(third)
    await quiet(world, calls)
    assert not alarms(world)

    calls.add("d")
    calls.clear()
    await quiet(world, calls)
    assert not alarms(world)

    calls.resume()
    fourth = calls.add("e")
    await hands.has(3)
    hands.turns[-1].fail(Rejected("no"))
    assert await world.end(fourth) == [Outcome.FAILED]
    await quiet(world, calls)
    assert calls.halted is fourth
    assert not alarms(world)


def alarms(world: World) -> list[Any]:
    """What will happen at some time."""
    found: list[Any] = world.driver.alarms if hasattr(world.driver, "alarms") else world.driver._wakes
    return found


@everywhere
async def test_an_open_turn_is_given_up_when_its_time_is_over(world: World) -> None:
    """ABANDONED, and the next one is called; what the turn says later is told, and changes nothing."""
    hands = Hands(world)
    calls = hands.chain(manual=True, timeout=5.0)
    heard(world, calls, "stale", "abandoned")
    first, second = calls.extend("ab")
    await hands.has(1)
    await world.until(lambda: first.open)
    await world.armed(5.0)
    world.advance(4.0)
    assert not first.done()
    world.advance(1.0)
    assert await world.end(first) == [Outcome.ABANDONED]
    assert isinstance(first.exception(0), Abandoned)
    assert isinstance(first.exception(0).__cause__, InDoubt)
    await hands.has(2)
    hands.turns[0].done("late")
    hands.turns[1].done("in time")
    await world.end(second)
    await world.until(lambda: len(world.events) == 2)
    assert told(world) == ["abandoned", "stale"]
    assert second.result(0) == "in time"


@everywhere
async def test_turns_that_are_never_ended_use_up_no_room(world: World) -> None:
    """Their lane has place for one, and a hundred of them are given up."""
    hands = Hands(world)
    calls = hands.chain(manual=True, timeout=1.0, lane=Lane(1))
    handles = calls.extend(range(100))
    for number in range(100):
        await hands.has(number + 1)
        await world.until(lambda number=number: handles[number].open)
        await world.armed(1.0)
        world.advance(1.0)
    assert set(await world.end(*handles)) == {Outcome.ABANDONED}
    assert calls._lane.slots == {}


@where_things_happen_meanwhile
async def test_a_worker_that_takes_too_long_is_given_up(world: World) -> None:
    """The item's own timeout counts before the chain's; the late end is fenced."""
    hands = Hands(world)
    hands.hold()
    calls = hands.chain(timeout=50.0)
    heard(world, calls, "stale")
    first, second = calls.add("a", timeout=5.0), calls.add("b")
    await hands.has(1)
    await world.armed(5.0)
    world.advance(5.0)
    assert await world.end(first) == [Outcome.ABANDONED]
    await hands.has(2)
    await world.armed(50.0)
    world.advance(49.0)
    assert not second.done()
    hands.release()
    await world.end(second)
    await world.until(lambda: len(world.events) == 1)
    assert (world.events[0].save, first.outcome, second.outcome) == (first, Outcome.ABANDONED, Outcome.SAVED)


@everywhere
async def test_the_smallest_timeout_of_a_batch_holds(world: World) -> None:
    """For all of it."""
    hands = Hands(world)
    calls = hands.chain(manual=True, batch=3, timeout=50.0)
    calls.pause()
    handles = [calls.add("a"), calls.add("b", timeout=5.0), calls.add("c", timeout=9.0)]
    calls.resume()
    await hands.has(1)
    await world.armed(5.0)
    world.advance(5.0)
    assert await world.end(*handles) == [Outcome.ABANDONED] * 3


@everywhere
async def test_each_attempt_has_all_its_time(world: World) -> None:
    """What earlier ones took, and the rest between them, does not count; a new timeout is for the next one."""
    hands = Hands(world)
    calls = hands.chain(manual=True, timeout=5.0, delay=3.0)
    handle = calls.add("a")
    for number in range(1, 4):
        await hands.has(number)
        await world.until(lambda: handle.open)
        calls.update(timeout=4.0)
        world.advance(3.9)
        assert not handle.done()
        hands.turns[-1].retry()
        await world.armed(3.0)
        world.advance(3.0)
    await hands.has(4)
    await world.armed(4.0)
    world.advance(4.0)
    assert await world.end(handle) == [Outcome.ABANDONED]


@everywhere
async def test_without_a_timeout_nobody_watches(world: World) -> None:
    """There is no timer, however long it takes."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    handle = calls.add("a")
    await hands.has(1)
    await world.until(lambda: handle.open)
    assert alarms(world) == []
    world.advance(1e9)
    assert not handle.done()
    hands.turns[0].done()
    await world.end(handle)


def test_a_coroutine_is_cancelled_at_its_timeout() -> None:
    """By the clock on the wall; what it raised itself is told from that."""
    cancelled = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def own() -> None:
        raise TimeoutError("own")

    async def cancels() -> None:
        raise asyncio.CancelledError

    with Dispatcher() as dispatcher:
        calls = CallChain(dispatcher=dispatcher, timeout=0.02)
        handles = calls.extend([slow, own, cancels])
        assert isinstance(handles[0].exception(PATIENCE), Abandoned)
        assert cancelled.wait(PATIENCE)
        with pytest.raises(TimeoutError, match=r"^own$"):
            handles[1].result(PATIENCE)
        with pytest.raises(RuntimeError, match="waited for something that was cancelled"):
            handles[2].result(PATIENCE)
        assert [handle.outcome for handle in handles] == [Outcome.ABANDONED, Outcome.FAILED, Outcome.FAILED]


# Steering


@everywhere
async def test_what_is_urgent_comes_first(world: World) -> None:
    """The newest of them first; never ahead of the one in flight."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    handles = [calls.add("a")]
    await hands.has(1)
    handles += [calls.add("b"), calls.add("u", urgent=True), calls.add("v", urgent=True), calls.add("c")]
    assert [calls.index(item) for item in "avubc"] == [0, 1, 2, 3, 4]
    hands.during = lambda item, turn: turn.done()
    hands.turns[0].done()
    await world.end(*handles)
    assert hands.handed == ["a", "v", "u", "b", "c"]


@everywhere
async def test_a_flush_waits_for_what_urgent_items_have_overtaken(world: World) -> None:
    """Also if the urgent ones were added later, and one of them is in flight."""
    hands = Hands(world)
    calls = hands.chain()
    calls.pause()
    old = calls.extend("ab")
    engine = world.dispatcher._engine
    last = engine.ledger.machine.last_seq
    urgent = [calls.add(item, urgent=True) for item in "uvw"]
    assert engine.unfinished(calls, last)[1] == [*reversed(urgent), *old][3:]
    hands.hold()
    if world.concurrent:
        calls.resume()
        await hands.has(1)
        assert engine.unfinished(calls, last) == (True, [])
    hands.release()
    calls.resume()
    await world.end(*old, *urgent)


@everywhere
async def test_replacing_takes_the_place_of_the_first_queued_one(world: World) -> None:
    """The older one ends as the newer one does."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "superseded")
    running = calls.add("a", name="n")
    await hands.has(1)
    older, other, second = calls.add("b", name="n"), calls.add("c"), calls.add("d", name="n")
    newer = calls.add("e", name="n", replace=True)
    assert [view.id for view in calls] == [running.id, newer.id, other.id, second.id]
    assert [view.name for view in calls] == ["n", "n", None, "n"]
    newest = calls.add("f", name="n", replace=True, urgent=True)
    assert (older.outcome, newer.outcome, older.superseded_by) == (Outcome.SUPERSEDED, Outcome.SUPERSEDED, newer)
    assert not older.done()
    hands.during = lambda item, turn: turn.done(item)
    hands.turns[0].done()
    await world.end(running, other, second, newest)
    assert hands.handed == ["a", "f", "c", "d"]
    assert await world.end(older, newer) == [Outcome.SUPERSEDED] * 2
    assert (older.result(0), newer.result(0), newest.result(0)) == ("f", "f", "f")
    await world.until(lambda: len(world.events) == 2)


@everywhere
async def test_replacing_nothing_is_adding(world: World) -> None:
    """None of that name is queued: one is in flight, and stays."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    first = calls.add("a", name="n", replace=True)
    await hands.has(1)
    second = calls.add("b", name="n", replace=True)
    assert len(calls) == 2
    hands.during = lambda item, turn: turn.done()
    hands.turns[0].done()
    assert await world.end(first, second) == [Outcome.SAVED] * 2
    assert hands.handed == ["a", "b"]


@everywhere
async def test_one_is_taken_out_by_its_id_and_all_by_their_name(world: World) -> None:
    """What is in flight is not."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    running = calls.add("a", name="n")
    await hands.has(1)
    one, two, three, four = (calls.add(item, name=name) for item, name in ("bn", "cn", "do", "en"))
    assert calls.cancel(running.id) is False
    assert calls.cancel(one.id) is True
    assert calls.cancel("n") is True
    assert calls.cancel("n") is False
    with pytest.raises(KeyError, match="no unsettled item of this chain has the id or name 'nobody'"):
        calls.cancel("nobody")
    with pytest.raises(KeyError, match=one.id):
        calls.cancel(one.id)
    hands.during = lambda item, turn: turn.done()
    hands.turns[0].done()
    outcomes = await world.end(running, one, two, three, four)
    cancelled = Outcome.CANCELLED
    assert outcomes == [Outcome.SAVED, cancelled, cancelled, Outcome.SAVED, cancelled]
    assert hands.handed == ["a", "d"]


@everywhere
async def test_complete_is_told_when_the_chain_empties_by_itself(world: World) -> None:
    """As often as it does, after the last item was told."""
    hands = Hands(world)
    calls = hands.chain()
    heard(world, calls, "sync", "idle", "complete")
    calls.pause()
    handles = calls.extend("ab")
    calls.resume()
    await world.end(*handles)
    await quiet(world, calls)
    await world.end(calls.add("c"))
    await quiet(world, calls)
    assert told(world) == ["sync", "sync", "idle", "complete", "sync", "idle", "complete"]
    assert world.events[3].save is handles[1]


@everywhere
async def test_complete_is_not_told_after_clear(world: World) -> None:
    """Not even when the one in flight has ended; what is added later empties the chain anew."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "complete", "cancelled", "sync")
    first, second = calls.extend("ab")
    await hands.has(1)
    calls.clear()
    assert calls.in_flight is first
    assert len(calls) == 1
    hands.turns[0].done()
    assert await world.end(first, second) == [Outcome.SAVED, Outcome.CANCELLED]
    await quiet(world, calls)
    assert told(world) == ["cancelled", "sync"]
    third = calls.add("c")
    await hands.has(2)
    hands.turns[1].done()
    await world.end(third)
    await quiet(world, calls)
    assert told(world) == ["cancelled", "sync", "sync", "complete"]


@everywhere
async def test_a_paused_chain_starts_nothing_and_completes_nothing(world: World) -> None:
    """What is in flight ends; what is added waits for `resume()`."""
    hands = Hands(world)
    calls = hands.chain(manual=True)
    heard(world, calls, "complete")
    first = calls.add("a")
    await hands.has(1)
    calls.pause()
    assert calls.paused
    hands.turns[0].done()
    await world.end(first)
    await quiet(world, calls)
    second = calls.add("b")
    await world.stuck()
    assert (hands.handed, told(world)) == (["a"], [])
    hands.during = lambda item, turn: turn.done()
    calls.resume()
    calls.resume()
    await world.end(second)
    await quiet(world, calls)
    assert told(world) == ["complete"]


@everywhere
async def test_a_failed_item_may_halt_the_chain(world: World) -> None:
    """Until `retry()` does it again, in front; `skip()` goes on without it, `clear()` without all."""
    hands = Hands(world)
    calls = hands.chain(on_failure={ValueError: OnFailure.HALT})
    hands.answers.extend([KeyError("goes on"), ValueError("a"), "fine", ValueError("b")])
    calls.pause()
    zero, first, second, third = calls.extend("0abc")
    calls.resume()
    await world.end(zero, first)
    await world.until(lambda: calls.halted is not None)
    assert calls.halted is first
    await world.stuck()
    again = calls.retry()
    assert again is not None
    assert again is not first
    assert await world.end(again, second) == [Outcome.SAVED, Outcome.FAILED]
    await world.until(lambda: calls.halted is not None)
    calls.clear()
    assert calls.halted is None
    assert await world.end(third) == [Outcome.CANCELLED]
    hands.answers.extend([ValueError("d"), "fine"])
    fourth, fifth = calls.extend("de")
    await world.end(fourth)
    calls.skip()
    assert await world.end(fifth) == [Outcome.SAVED]
    assert calls.retry() is None
    assert hands.handed == ["0", "a", "a", "b", "d", "e"]


@everywhere
async def test_the_rule_of_an_attempt_is_that_of_its_start(world: World) -> None:
    """A rule that is changed while an item is in flight is for the next one."""
    hands = Hands(world)
    calls = hands.chain(on_failure=OnFailure.HALT)
    hands.during = lambda item: calls.update(on_failure=None if item == "a" else OnFailure.HALT)
    hands.answers.extend([ValueError("a"), ValueError("b"), "fine"])
    first, second, third = calls.extend("abc")
    await world.end(first)
    await world.until(lambda: calls.halted is first)
    calls.skip()
    assert await world.end(second, third) == [Outcome.FAILED, Outcome.SAVED]
    assert calls.halted is None


@everywhere
async def test_a_batch_that_halted_the_chain_is_done_again_as_one(world: World) -> None:
    """Each of its items has a new handle."""
    hands = Hands(world)
    calls = hands.chain(batch=2, on_failure=OnFailure.HALT)
    hands.answers.append(ValueError("no"))
    a, b, c = calls.extend("abc")
    assert await world.end(a, b) == [Outcome.FAILED] * 2
    await world.until(lambda: calls.halted is a)
    calls.pause()
    again = calls.retry()
    assert again is not None
    assert len({view.id for view in calls} | {a.id, b.id, c.id}) == 5
    assert [calls.index(item) for item in "abc"] == [0, 1, 2]
    calls.resume()
    await world.end(again, c)
    assert hands.handed == [["a", "b"], ["a", "b"], ["c"]]


@everywhere
async def test_chains_may_share_a_lane(world: World) -> None:
    """With place for one, the chains take turns."""
    hands = Hands(world)
    lane = Lane(1)
    one, two = hands.chain(manual=True, lane=lane), hands.chain(manual=True, lane=lane)
    handles = [*one.extend("ab"), *two.extend("xy")]
    await hands.has(1)
    await world.until(lambda: bool(handles[0].open))
    assert hands.handed == ["a"]
    hands.during = lambda item, turn: turn.done()
    hands.turns[0].done()
    await world.end(*handles)
    assert hands.handed == ["a", "x", "b", "y"]


@everywhere
async def test_chains_have_lanes_of_their_own(world: World) -> None:
    """What hangs in one holds up no other."""
    hands = Hands(world)
    one, two = hands.chain(manual=True), hands.chain(manual=True)
    held = one.add("a")
    await hands.has(1)
    hands.during = lambda item, turn: turn.done()
    await world.end(two.add("b"))
    assert not held.done()
    hands.turns[0].done()
    await world.end(held)


# Ends


@everywhere
async def test_an_open_turn_is_given_up_at_the_close(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """ABANDONED, and reported; what is queued is cancelled; nothing is accepted any more."""
    hands = Hands(world)
    calls = hands.chain(manual=True, batch=2)
    handles = calls.extend("abc")
    await hands.has(1)
    await world.aside(lambda: world.dispatcher.close(0.01))
    assert await world.end(*handles) == [Outcome.ABANDONED, Outcome.ABANDONED, Outcome.CANCELLED]
    assert f"the dispatcher is closed although 3 saves did not end within 0.01 s: {handles[0]}" in caplog.text
    hands.turns[0].done()
    with pytest.raises(RuntimeError, match="closed"):
        calls.add("d")
    assert len(calls) == 0


@everywhere
async def test_events_are_those_of_the_chain(world: World) -> None:
    """`event.model` is the CallChain, whatever its items are."""
    hands = Hands(world)
    calls = hands.chain()
    events: list[SaveEvent] = []
    disconnect = calls.on("sync", events.append)
    handle = calls.add("a", name="n")
    await world.end(handle)
    await quiet(world, calls)
    assert [(event.save, event.model) for event in events] == [(handle, calls)]
    disconnect()
    await world.end(calls.add("b"))
    await quiet(world, calls)
    assert len(events) == 1


def test_the_inline_driver_runs_no_coroutines() -> None:
    """Said at the call; the chain is as it was, and takes what it can run."""

    async def coroutine(item: Any) -> None:
        """Never called."""

    class Callable_:
        async def __call__(self) -> None:
            """Never called."""

    with Dispatcher("inline") as dispatcher:
        calls = CallChain(coroutine, dispatcher=dispatcher)
        for item in ("a", Callable_()):
            with pytest.raises(UnsupportedBackend, match="InlineDriver cannot run CoroutineCalls"):
                calls.add(item)
        with pytest.raises(UnsupportedBackend):
            calls.extend([lambda: None, "a"])
        assert len(calls) == 0
        assert calls.add(lambda: "fine").result(0) == "fine"


def test_a_loop_that_is_closed_takes_neither_rests_nor_deadlines_along(caplog: pytest.LogCaptureFixture) -> None:
    """What belongs to it is given up; a plain function behind it has its turn, and its timeout."""
    gate = threading.Event()

    async def coroutine(item: Any) -> None:
        await asyncio.Event().wait()

    async def program(calls: CallChain, *items: Any) -> list[Any]:
        handles = [calls.add(item) for item in items]
        if calls._pace.options.delay:
            await handles[0]
        else:
            await asyncio.sleep(0)
        return handles

    async def quick() -> None:
        """Ends at once."""

    with Dispatcher() as dispatcher:
        try:
            resting = CallChain(coroutine, delay=0.05, dispatcher=dispatcher)
            _, lost, plain = asyncio.run(program(resting, quick, "a", lambda: "plain"))
            assert plain.result(PATIENCE) == "plain"
            assert lost.outcome is Outcome.CANCELLED
            timed = CallChain(coroutine, timeout=0.05, dispatcher=dispatcher)
            lost, plain = asyncio.run(program(timed, "a", lambda: gate.wait(PATIENCE)))
            assert isinstance(plain.exception(PATIENCE), Abandoned)
            assert lost.outcome is Outcome.ABANDONED
        finally:
            gate.set()
    assert "given up (1 of them): its event loop was closed" in caplog.text


def test_a_batch_is_told_of_everywhere_before_the_next_one_starts() -> None:
    """Its items were added in a loop and in a plain thread, and each hears of its end there."""
    heard: list[Any] = []

    async def program() -> None:
        own = calls.add("loop")
        plain = await asyncio.to_thread(calls.add, "plain")
        behind = await asyncio.to_thread(calls.add, lambda: heard.append("behind"))
        calls.resume()
        wait([plain], PATIENCE)
        assert not own.done(), "this loop was busy all the time"
        assert calls.why_waiting is not None
        assert "waits for the receivers of" in calls.why_waiting
        assert heard == ["plain"]
        await own
        await asyncio.wrap_future(behind)

    with Dispatcher() as dispatcher:
        calls = CallChain(lambda items: None, batch=2, dispatcher=dispatcher)
        calls.on("sync", lambda event: heard.append(event.save.item) if isinstance(event.save.item, str) else None)
        calls.on("complete", lambda _: heard.append("complete"))
        calls.pause()
        asyncio.run(program())
    assert heard == ["plain", "loop", "behind", "complete"]


@pytest.mark.parametrize("worker", ["object", "partial"])
def test_an_object_may_be_a_coroutine_function(worker: str) -> None:
    """By the class of the object, also inside a partial."""

    class Worker:
        async def __call__(self, item: int) -> int:
            return 2 * item

    with Dispatcher() as dispatcher:
        function = Worker() if worker == "object" else functools.partial(Worker())
        assert CallChain(function, dispatcher=dispatcher).add(3).result(PATIENCE) == 6


def test_a_wait_that_would_hold_up_the_loop_is_refused() -> None:
    """Also for a plain function, if a coroutine of the chain may come before it."""

    async def program() -> None:
        calls = CallChain(asyncio.sleep, dispatcher=dispatcher)
        handles = calls.extend([0, lambda: "plain"])
        with pytest.raises(WouldDeadlock):
            handles[1].result()
        assert await handles[1] == "plain"

    with Dispatcher() as dispatcher:
        asyncio.run(program())
