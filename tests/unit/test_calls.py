"""CallChain: its options, its views, what it holds and lets go; how it carries out is in tests/contract."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import math
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import as_completed, wait
from functools import partial
from typing import Any

import pytest

from chained_models import (
    CallChain,
    Chain,
    Dispatcher,
    DispatcherClosed,
    InvalidOption,
    Lane,
    OnFailure,
    Outcome,
    SaveEvent,
    SaveState,
    SnapshotError,
    Turn,
    default_dispatcher,
    flush,
    on,
    set_default_dispatcher,
)
from chained_models.calls import CallView
from chained_models.drivers.inline import InlineDriver
from chained_models.testing import VirtualClock


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher(InlineDriver(VirtualClock()))
    yield made
    made.close(0)  # turns may still be open


def chain(dispatcher: Dispatcher, **options: Any) -> tuple[CallChain, list[Turn]]:
    """A manual chain, and the turns it has given out."""
    turns: list[Turn] = []
    return CallChain(lambda item, turn: turns.append(turn), manual=True, dispatcher=dispatcher, **options), turns


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": True},
        {"delay": "1"},
        {"delay": None},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": math.nan},
        {"timeout": True},
        {"batch": 0},
        {"batch": -3},
        {"batch": True},
        {"batch": 1.5},
        {"batch": None},
        {"manual": 1},
        {"manual": None},
        {"copy": "no"},
        {"on_failure": "halt"},
        {"on_failure": {ValueError: "halt"}},
        {"on_failure": {"ValueError": OnFailure.HALT}},
        {"on_failure": {int: OnFailure.HALT}},
        {"delay": 10**400},
        {"timeout": 10**400},
    ],
    ids=str,
)
def test_options_that_make_no_sense(dispatcher: Dispatcher, options: dict[str, Any]) -> None:
    """Refused by the constructor and by `update()`, and what was before stays."""
    with pytest.raises(InvalidOption, match=rf"^{next(iter(options))}\b"):
        CallChain(dispatcher=dispatcher, **options)
    calls, _ = chain(dispatcher, delay=1.0)
    before = calls._pace.options
    with pytest.raises(InvalidOption):
        calls.update(**{"delay": 3.0, **options})
    assert calls._pace.options is before


def test_options_that_make_sense(dispatcher: Dispatcher) -> None:
    """Whole numbers are times too; no timeout is one without end."""
    calls, _ = chain(dispatcher, delay=2, timeout=3, batch=4, copy=False, on_failure={ValueError: OnFailure.HALT})
    options = calls._pace.options
    assert (options.delay, options.timeout, options.batch, options.manual, options.copy) == (2.0, 3.0, 4, True, False)
    calls.update(timeout=None, on_failure=None)
    assert (calls._pace.options.timeout, calls._pace.options.on_failure) == (math.inf, None)


def test_unknown_options_are_named_with_the_known_ones(dispatcher: Dispatcher) -> None:
    """A TypeError, and nothing was changed."""
    calls, _ = chain(dispatcher)
    with pytest.raises(
        TypeError, match="no option dely; the options are delay, batch, manual, timeout, copy, on_failure"
    ):
        calls.update(delay=1, dely=2)  # type: ignore[call-arg]
    assert calls._pace.options.delay == 0
    with pytest.raises(TypeError, match="dely"):
        CallChain(dely=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [{"worker": 3}, {"lane": 3}], ids=str)
def test_worker_and_lane_are_what_they_should_be(dispatcher: Dispatcher, options: dict[str, Any]) -> None:
    """A function, and a Lane."""
    with pytest.raises(InvalidOption):
        CallChain(dispatcher=dispatcher, **options)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"replace": True}, "name="),
        ({"name": 7}, "a string is needed"),
        ({"timeout": 0}, "timeout=0: seconds, more than 0"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"timeout": False}, "timeout=False"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(dispatcher: Dispatcher, how: dict[str, Any], says: str) -> None:
    """Nothing was added."""
    calls, turns = chain(dispatcher)
    with pytest.raises(InvalidOption, match=says):
        calls.add("a", **how)
    assert (len(calls), turns) == (0, [])


def test_a_generator_function_is_no_worker(dispatcher: Dispatcher) -> None:
    """Calling it would run nothing, and yet look like success: it is refused, plain or not, as worker and as item."""

    def steps(*item: Any) -> Iterator[Any]:
        yield item

    async def async_steps(*item: Any) -> Any:
        yield item

    for function in (steps, async_steps, partial(steps, 1)):
        with pytest.raises(InvalidOption, match="generator"):
            CallChain(function, dispatcher=dispatcher).add(1)
        with pytest.raises(InvalidOption, match="generator"):
            CallChain(dispatcher=dispatcher).add(function)


def test_without_a_worker_only_callables_are_taken(dispatcher: Dispatcher) -> None:
    """Said at the call, with the remedy; nothing of an `extend()` was added."""
    calls = CallChain(dispatcher=dispatcher)
    assert calls.add(lambda: 7).result(0) == 7
    with pytest.raises(InvalidOption, match=r"no worker, and the item is a int: .*CallChain\(worker\)"):
        calls.add(7)
    ran: list[int] = []
    with pytest.raises(InvalidOption):
        calls.extend([lambda: ran.append(1), 7])
    assert (len(calls), ran) == (0, [])
    assert calls.extend([]) == []


def test_a_name_may_be_used_twice(dispatcher: Dispatcher) -> None:
    """Both stay."""
    calls, _ = chain(dispatcher)
    handles = [calls.add(item, name="same") for item in "ab"]
    assert [view.name for view in calls] == ["same", "same"]
    assert len({handle.id for handle in handles}) == 2


def test_the_views_are_frozen(dispatcher: Dispatcher) -> None:
    """They say what was when they were made."""
    calls, turns = chain(dispatcher)
    calls.add("a", name="n")
    (view,) = calls
    assert view == CallView(view.id, "n", SaveState.IN_FLIGHT, 1, "in flight: attempt 1, for 0.0 s")
    with pytest.raises(AttributeError):
        view.name = "m"  # type: ignore[misc]
    turns[0].done()
    assert view.state is SaveState.IN_FLIGHT
    assert list(calls) == []


def test_a_chain_is_true_and_says_what_is_in_it(dispatcher: Dispatcher) -> None:
    """Its length counts what is in flight too."""
    calls, _ = chain(dispatcher)
    assert calls
    assert repr(calls) == "<CallChain: 0 items>"
    calls.extend("ab")
    calls.pause()
    assert len(calls) == 2
    assert repr(calls) == "<CallChain: 2 items, paused>"
    assert isinstance(calls, Chain)
    assert list(dispatcher) == [calls]
    assert len(dispatcher) == 1


def test_handles_and_turns_say_what_they_are(dispatcher: Dispatcher) -> None:
    """Without the item, which is nobody's business."""
    calls, turns = chain(dispatcher)
    first, second = calls.add({"password": "secret"}), calls.add("b", name="bert")
    assert str(first) == "call 1"
    assert str(second) == "call 2 (bert)"
    assert repr(second) == "<Handle of call 2 (bert) is queued>"
    assert repr(turns[0]) == "<Turn of call 1>"
    turns[0].retry()
    assert repr(first) == "<Handle of call 1 is in flight, attempt 2>"
    assert first.item == {"password": "secret"}
    assert calls.why_waiting is not None
    assert calls.why_waiting.startswith("call 1 is in flight: attempt 2")
    assert second.why_waiting is not None
    assert second.why_waiting.startswith("queued behind call 1, which is in flight")


class Incomparable:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]


def test_where_an_item_stands(dispatcher: Dispatcher) -> None:
    """By equality, callables by identity; a comparison that raises means different."""
    calls, _ = chain(dispatcher)

    def call(turn: Turn) -> None:
        """Not called."""

    strange = Incomparable()
    calls.extend(["a", strange, {"b": 1}, call, self_ := Bound(), self_.call, "a"])
    assert [calls.index(item) for item in ("a", {"b": 1}, call, self_.call)] == [0, 2, 3, 5]
    for item in ("c", strange, lambda turn: None):
        with pytest.raises(ValueError, match="not in the chain"):
            calls.index(item)


class Bound:
    def call(self, turn: Turn) -> None:
        """Not called."""


def test_handles_are_futures(dispatcher: Dispatcher) -> None:
    """Of the standard library."""
    calls = CallChain(lambda item: item, dispatcher=dispatcher)
    handles = calls.extend("ab")
    assert wait(handles, 1).done == set(handles)
    assert set(as_completed(handles, 1)) == set(handles)


def test_a_turn_fails_with_an_exception_only(dispatcher: Dispatcher) -> None:
    """Anything else is refused, and the turn is still open."""
    calls, turns = chain(dispatcher)
    handle = calls.add("a")
    with pytest.raises(InvalidOption, match="an exception is needed"):
        turns[0].fail("no")  # type: ignore[arg-type]
    assert not handle.done()
    turns[0].fail(ValueError("no"))
    assert handle.outcome is Outcome.FAILED


def test_a_failure_that_nobody_hears_is_logged(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    """Without item and text, which may be secrets; each of a batch."""

    def fails(item: Any) -> None:
        raise ValueError("secret")

    calls = CallChain(fails, batch=2, dispatcher=dispatcher)
    with caplog.at_level(logging.ERROR):
        calls.extend(["secret one", "secret two"])
    assert [record.getMessage() for record in caplog.records] == [
        f"call {number} failed, and nobody listened: ValueError" for number in (1, 2)
    ]


def test_an_interrupt_in_a_worker_comes_out(dispatcher: Dispatcher) -> None:
    """Where the work runs in the caller; the item has failed with it, and the chain goes on."""
    calls = CallChain(lambda item: item(), dispatcher=dispatcher, copy=False)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calls.add(interrupted)
    assert calls.add(lambda: 7).result(0) == 7
    assert len(calls) == 0


def test_an_interrupt_of_any_receiver_of_a_batch_comes_out(dispatcher: Dispatcher) -> None:
    """When all of them have heard of their items."""
    calls = CallChain(lambda items: items, batch=2, dispatcher=dispatcher)
    heard: list[Any] = []

    def receiver(event: Any) -> None:
        heard.append(event.save.item)
        if event.save.item == "b":
            raise KeyboardInterrupt

    calls.on("sync", receiver)
    with pytest.raises(KeyboardInterrupt):
        calls.extend("abc")
    dispatcher.flush(1)
    assert heard == ["a", "b", "c"]


def test_a_plain_function_that_returns_a_coroutine_fails(dispatcher: Dispatcher) -> None:
    """Nobody would await it; it is closed without a warning."""

    async def coroutine(item: Any) -> None:
        """Never started."""

    handle = CallChain(lambda item: coroutine(item), dispatcher=dispatcher).add("a")  # noqa: PLW0108
    with pytest.raises(TypeError, match="call 1 returned a coroutine: give the chain an `async def`"):
        handle.result(0)


def test_receivers_of_all_chains(dispatcher: Dispatcher) -> None:
    """`on(..., model=CallChain)` hears of them; a subclass may have methods for it; there is no other event."""

    class Mine(CallChain):
        def on_sync(self, event: Any) -> None:
            heard.append(("own", event.save.item))

    heard: list[Any] = []
    disconnect = on("sync", lambda event: heard.append(event.model), model=CallChain)
    calls = Mine(lambda item: item, dispatcher=dispatcher)
    try:
        calls.add("a")
    finally:
        disconnect()
    assert heard == [calls, ("own", "a")]
    with pytest.raises(InvalidOption, match="no event 'completed'"):
        calls.on("completed", heard.append)  # type: ignore[arg-type]


def test_a_chain_that_is_dropped_leaves_nothing(dispatcher: Dispatcher) -> None:
    """What was queued is carried out before."""
    calls, turns = chain(dispatcher, timeout=50.0, delay=5.0)
    lanes = dispatcher._engine._lanes
    calls.extend("ab")
    gone = weakref.ref(calls)
    del calls
    gc.collect()
    assert gone() is not None
    turns.pop().done()
    clock: Any = dispatcher._drivers._given
    clock.clock.time += 5.0
    clock.help()
    turns.pop().done()
    assert clock._wakes == []
    gc.collect()
    assert gone() is None
    gc.collect()  # the lane, now that nothing refers to it
    assert len(dispatcher) == 0
    assert len(lanes) == 0
    assert len(dispatcher._intake._ports) == 0


def test_the_default_dispatcher_of_the_moment() -> None:
    """An empty chain goes along to the new one; one with something in it stays."""
    one, two = Dispatcher("inline"), Dispatcher("inline")
    before = set_default_dispatcher(one)
    try:
        turns: list[Turn] = []
        calls = CallChain(lambda item, turn: turns.append(turn), manual=True)
        first = calls.add("a")
        set_default_dispatcher(two)
        second = calls.add("b")
        assert (len(one), len(two)) == (1, 0)
        turns[0].done()
        turns[1].done()
        third = calls.add("c")
        assert (len(one), len(two)) == (0, 1)
        turns[2].done()
        flush(1)
        assert default_dispatcher() is two
        assert {handle.outcome for handle in (first, second, third)} == {Outcome.SAVED}
    finally:
        set_default_dispatcher(before)
        one.close()
        two.close()


def test_a_pause_does_not_hold_a_chain_to_a_closed_dispatcher() -> None:
    """It goes along to the new default dispatcher, and is still paused there."""
    before = set_default_dispatcher(Dispatcher("inline"))
    try:
        calls = CallChain(str.upper)
        calls.pause()
        lost = calls.add("a")
        default_dispatcher().close(0)
        assert lost.cancelled()
        handle = calls.add("b")
        assert (calls.paused, len(calls)) == (True, 1)
        calls.resume()
        assert handle.result(1) == "B"
    finally:
        set_default_dispatcher(before)


def test_no_timer_thread_lives_when_nothing_waits() -> None:
    """The threads driver's timer runs while an item has a timeout, and no longer."""
    with Dispatcher("threads") as dispatcher:
        calls = CallChain(lambda item: item, timeout=3600.0, dispatcher=dispatcher)
        driver: Any = dispatcher.port(calls._plain).driver
        calls.add("a").result(5)
        calls.flush(5)
        with driver._times:
            assert driver._times.wait_for(lambda: driver._timer is None, 5)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty(dispatcher: Dispatcher) -> None:
    """What is in flight is its parent's, as are its turns, replaced items, and a rest."""
    calls, turns = chain(dispatcher, delay=5.0)
    first, older = calls.add("a"), calls.add("b", name="n")
    newer = calls.add("c", name="n", replace=True)
    assert older.superseded_by is newer
    turns[0].retry()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        status = 1
        try:
            turns[0].done()
            cancelled = all(handle.cancelled() for handle in (first, older, newer))
            assert cancelled
            assert len(calls) == 0
            fresh = calls.add("d")
            calls.clear()
            assert fresh.cancelled() or len(turns) == 2
            assert not calls.paused
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert len(calls) == 2


def test_a_lock_is_no_item_and_a_callable_item_may_hold_one(dispatcher: Dispatcher) -> None:
    """Callables are not copied."""
    lock = threading.Lock()
    calls = CallChain(dispatcher=dispatcher)
    assert calls.add(lock.locked).result(0) is False


def test_a_closed_dispatcher_claims_nothing() -> None:
    """What is refused makes no thread, and takes no event loop for its own."""
    dispatcher = Dispatcher()
    calls = CallChain(asyncio.sleep, dispatcher=dispatcher)
    dispatcher.close()
    before = threading.enumerate()
    for items in ([0], [lambda: 1]):
        with pytest.raises(DispatcherClosed):
            calls.extend(items)
    assert threading.enumerate() == before
    assert calls._drivers == ()


def test_what_is_refused_does_not_undo_a_clear(dispatcher: Dispatcher) -> None:
    """`complete` is not told until something *is* added."""
    calls, turns = chain(dispatcher)
    heard: list[SaveEvent] = []
    calls.on("complete", heard.append)
    calls.add("a")
    calls.clear()
    with pytest.raises(SnapshotError):
        calls.add(threading.Lock())
    turns.pop().done()
    assert (len(calls), heard) == (0, [])
    calls.add("b")
    turns.pop().done()
    assert len(heard) == 1


def test_what_is_added_while_another_thread_clears_completes(dispatcher: Dispatcher) -> None:
    """An item that was being copied at that moment came after the clear."""

    class Slow:
        def __deepcopy__(self, _: object) -> str:
            calls.clear()
            return "copied"

    calls, turns = chain(dispatcher)
    heard: list[SaveEvent] = []
    calls.on("complete", heard.append)
    handle = calls.add(Slow())
    turns.pop().done()
    assert handle.result(0) is None
    assert len(heard) == 1


def test_two_updates_at_once_are_both_kept(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of different options, from two threads: neither puts back what the other one has set."""
    calls, _ = chain(dispatcher)
    replaced = dataclasses.replace
    other = threading.Thread(target=lambda: calls.update(delay=7))

    def slowly(options: Any, **changes: Any) -> Any:
        made = replaced(options, **changes)
        if "batch" in changes:
            other.start()
            other.join(0.05)  # it has to wait for us
        return made

    monkeypatch.setattr(dataclasses, "replace", slowly)
    calls.update(batch=3)
    other.join()
    assert (calls._pace.options.batch, calls._pace.options.delay) == (3, 7.0)


def test_a_lane_may_be_given(dispatcher: Dispatcher) -> None:
    """A paused one holds back the chain, which says so."""
    lane = Lane(1)
    lane.pause()
    calls = CallChain(lambda item: item, lane=lane, dispatcher=dispatcher)
    handle = calls.add("a")
    assert handle.why_waiting == "waits for its lane, which is paused until resume()"
    lane.resume()
    assert handle.result(0) == "a"
