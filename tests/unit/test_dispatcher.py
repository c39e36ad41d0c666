"""The dispatcher's own business; what it does with saves is in `tests/contract/test_drivers.py`."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import weakref
from typing import Any

import pytest

from chained_models import (
    Abandoned,
    Dispatcher,
    DispatcherClosed,
    InDoubt,
    InvalidOption,
    Lane,
    OnFailure,
    Outcome,
    Rejected,
    RetryPolicy,
    SaveEvent,
    Stuck,
    Unauthenticated,
    Unavailable,
    UnsupportedBackend,
    WouldDeadlock,
)
from chained_models.drivers.inline import InlineDriver
from chained_models.testing import VirtualClock

from ..contract.scripted import PATIENCE, AsyncScripted, Scripted, ThreadsByHand, baskets, threads_of_ours


def test_a_driver_is_given_by_name_or_as_an_object() -> None:
    """Another name is an error that lists the names."""
    driver = InlineDriver()
    assert list(Dispatcher(driver)._drivers) == [driver]
    with pytest.raises(InvalidOption, match="inline, threads, asyncio"):
        Dispatcher("thread")


def test_a_driver_is_picked_by_the_colour_of_the_backend() -> None:
    """Blocking ones share the threads, each one of coroutines has a loop's driver of its own."""
    with Dispatcher() as dispatcher:
        drivers = [dispatcher.port(backend).driver for backend in (Scripted(), Scripted())]
        assert drivers[0] is drivers[1]
        backends = AsyncScripted(), AsyncScripted()
        loops = [dispatcher.port(backend).driver for backend in backends]
        assert loops[0] is not loops[1]
        assert dispatcher.port(backends[0]).driver is loops[0]


def test_a_backend_of_the_wrong_colour_is_refused_when_it_is_bound() -> None:
    """The error names both."""
    with pytest.raises(UnsupportedBackend, match=r"InlineDriver cannot run AsyncScripted.*coroutine"):
        baskets(AsyncScripted(), dispatcher=Dispatcher("inline"))
    with pytest.raises(UnsupportedBackend, match="a plain function"):
        baskets(Scripted(), dispatcher=Dispatcher("asyncio"))


def test_a_backend_without_a_lane_gets_one() -> None:
    """One of its own; backends that carry the same lane share it."""
    dispatcher = Dispatcher("inline")
    lane = Lane(2)
    one, two, three = Scripted(lane=lane), Scripted(lane=lane), Scripted()
    three.lane = None  # type: ignore[assignment]
    assert dispatcher.port(one).lane is dispatcher.port(two).lane
    assert dispatcher.port(three).lane is not dispatcher.port(one).lane


def test_repr_and_truth() -> None:
    """It is true even if it is empty, and says what it holds."""
    dispatcher = Dispatcher("inline")
    assert dispatcher
    assert repr(dispatcher) == "<Dispatcher 0 saves in 0 chains>"
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    basket.chain.pause()
    basket.save()
    assert repr(dispatcher) == "<Dispatcher 1 saves in 1 chains, some paused>"
    assert len(dispatcher) == 1
    basket.chain.clear()


def test_leaving_a_with_block_closes() -> None:
    """With whatever is left carried out; closing again does nothing."""
    before = threading.enumerate()
    with Dispatcher() as dispatcher:
        handle = baskets(Scripted(), dispatcher=dispatcher)().save()
    assert handle.outcome is Outcome.SAVED
    assert dispatcher.closed
    dispatcher.close()
    assert threads_of_ours(since=before) == []


def test_leaving_an_async_with_block_closes() -> None:
    """While the loop goes on, for it may be the one that does the work."""
    handles: list[Any] = []

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            handles.append(baskets(AsyncScripted(), dispatcher=dispatcher)().save())

    asyncio.run(main())
    assert handles[0].outcome is Outcome.SAVED


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send to oneself here")
def test_a_signal_handler_is_not_let_into_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the dispatcher decides, a verb called out of a handler is refused, and all is as it was."""
    dispatcher = Dispatcher("inline")
    kind = baskets(Scripted(), dispatcher=dispatcher)
    other = kind(name="other")
    refused: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            other.save()
        except WouldDeadlock as error:
            refused.append(error)

    before = signal.signal(signal.SIGTERM, handler)
    enter = dispatcher._intake._saves.enter

    def interrupted(*args: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return enter(*args, **options)

    monkeypatch.setattr(dispatcher._intake._saves, "enter", interrupted)
    try:
        handle = kind().save()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handle.outcome is Outcome.SAVED
    assert len(refused) == 1
    assert len(dispatcher) == 0


def test_a_snapshot_that_cannot_be_taken_leaves_no_place() -> None:
    """What is behind it is not held back."""
    dispatcher = Dispatcher("inline")
    backend = Scripted()
    basket = baskets(backend, dispatcher=dispatcher)()
    basket.name = (one for one in "abc")  # type: ignore[assignment]
    with pytest.raises(TypeError, match="name"):
        basket.save()
    assert len(dispatcher) == 0
    basket.name = "a"
    assert basket.save().outcome is Outcome.SAVED


def test_objects_are_not_kept() -> None:
    """Not by a save that was sent, cancelled, or had nothing to send."""
    dispatcher = Dispatcher("inline")
    backend = Scripted()
    basket = baskets(backend, dispatcher=dispatcher)()
    basket.save()
    basket.save(patch=True)
    basket.chain.pause()
    for _ in range(3):
        basket.save()
    basket.chain.clear()
    basket.chain.resume()
    gone = weakref.ref(basket)
    port = dispatcher.port(backend)
    assert len(port.objects) == 1
    del basket
    gc.collect()
    assert gone() is None
    assert len(port.objects) == 0
    assert len(port.records) == 0


def test_flush_takes_back_the_timer() -> None:
    """Nobody looks after attempts when there are none; the next save is looked after again."""
    with Dispatcher("threads") as dispatcher:
        backend = Scripted()
        basket = baskets(backend, dispatcher=dispatcher)()
        for _ in range(2):
            basket.save()
            driver = dispatcher.port(backend).driver
            assert driver._wakes
            dispatcher.flush(PATIENCE)
            assert not driver._wakes
            assert dispatcher.port(backend).lane.look_at == float("inf")


def test_a_look_that_comes_earlier_replaces_the_one_that_was_arranged() -> None:
    """One timer a lane, whatever times its attempts have."""
    backend = Scripted()
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        driver: Any = dispatcher.port(backend).driver
        backend.hold()
        for timeout in (30, 20, 10, 25):
            kind().save(timeout=timeout)
            assert len(driver._wakes) == 1
        backend.release()


def test_a_flush_leaves_the_timer_to_attempts_that_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one of them that hangs would never be given up."""
    backend = Scripted()
    with Dispatcher("threads") as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher, timeout=0.01, retry=RetryPolicy(timeout=0.03))(id=7)
        basket.save()
        take_back = dispatcher._engine.look_no_more
        late: list[Any] = []

        def save_first() -> None:
            backend.hold()
            late.append(basket.save())
            take_back()

        monkeypatch.setattr(dispatcher._engine, "look_no_more", save_first)
        dispatcher.flush(PATIENCE)
        monkeypatch.undo()
        with pytest.raises(Abandoned):
            late[0].result(PATIENCE)
        backend.release()


def test_the_timer_of_an_attempt_that_starts_while_timers_are_taken_back_stays() -> None:
    """Between the decision that nothing runs and the taking back, an attempt may start, with a timer of its own."""
    driver = ThreadsByHand()
    with Dispatcher(driver) as dispatcher:
        backends = [Scripted(), Scripted()]
        first, second = (baskets(backend, dispatcher=dispatcher) for backend in backends)
        first().save().result(PATIENCE)
        second().save().result(PATIENCE)
        late: list[Any] = []
        backends[1].hold()
        dispatcher.port(backends[0]).lane.unlook = lambda: late.append(second().save(timeout=3.0))
        dispatcher._engine.look_no_more()
        assert len(late) == 1
        assert driver.armed(3.0)
        backends[1].release()


def test_an_attempt_is_looked_after_when_the_time_for_all_of_them_is_over() -> None:
    """Not only when its own would be, which may be much later."""
    driver, backend = ThreadsByHand(), Scripted()
    backend.failures.append(Unavailable(retry_after=25))
    policy = RetryPolicy(wait_initial=25, wait_jitter=0, timeout=30)
    with Dispatcher(driver) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher, timeout=20, retry=policy)(id=7)
        handle = basket.save()
        with driver.news:
            assert driver.news.wait_for(lambda: len(driver.alarms) == 2, PATIENCE)
        driver.advance(21)
        backend.hold()
        driver.advance(4)
        driver.advance(5)
        with pytest.raises(Abandoned) as raised:
            handle.result(PATIENCE)
        assert isinstance(raised.value.__cause__, InDoubt)
        backend.release()


def test_a_clock_that_raises_leaves_the_dispatcher_free() -> None:
    """What it raises comes out of the verb; others still get in."""

    class Broken(VirtualClock):
        broken = False

        def now(self) -> float:
            if self.broken:
                raise RuntimeError("no time")
            return super().now()

    clock = Broken()
    dispatcher = Dispatcher(InlineDriver(clock))
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    clock.broken = True
    with pytest.raises(RuntimeError, match="no time"):
        basket.save()
    clock.broken = False
    thread = threading.Thread(target=basket.save, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_room_in_the_lane_is_not_given_away_where_nobody_takes_it() -> None:
    """A paused object that turns out to be one with a chain brings its pause along, and starts nothing on paper."""
    backend = Scripted(lane=Lane(1))
    with Dispatcher("threads") as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        backend.hold()
        handles = [kind(id=identity).save() for identity in (1, 7, 8)]
        backend.lane.max_in_flight = 3
        late = kind()
        late.chain.pause()
        late.id = 7
        late.chain.resume()
        backend.release()
        assert [handle.exception(PATIENCE) for handle in handles] == [None] * 3


def test_an_attempt_over_all_its_time_is_given_up_in_real_time() -> None:
    """The real timer looks after it, twice: at the end of the attempt's time, and at the end of all."""
    backend = Scripted()
    backend.hold()
    with Dispatcher() as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher, timeout=0.01, retry=RetryPolicy(timeout=0.03))(id=7)
        handle = basket.save()
        with pytest.raises(Abandoned):
            handle.result(PATIENCE)
        backend.release()


def test_an_attempt_may_start_while_the_one_before_it_is_told_of() -> None:
    """A receiver that signs in again resumes the lane, and the next attempt runs beside it, in a context of its own."""
    backend = Scripted()
    backend.failures.append(Unauthenticated())
    started = threading.Event()
    with Dispatcher("threads") as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher, timeout=1, retry=RetryPolicy(timeout=2))()
        told = threading.Event()

        def sign_in(_: SaveEvent) -> None:
            backend.started = started.set
            backend.lane.resume()
            if started.wait(PATIENCE):
                told.set()

        basket.chain.on("retry", sign_in)
        assert basket.save().result(PATIENCE) is basket
        assert told.wait(PATIENCE)


def test_what_was_given_up_before_a_thread_had_time_for_it_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its outcome, and the next one may have been sent since."""
    monkeypatch.setattr("chained_models.drivers.threads.MAX_THREADS", 1)
    busy, backend = Scripted(), Scripted()
    busy.hold()
    started = threading.Event()
    busy.started = started.set
    with Dispatcher("threads") as dispatcher:
        baskets(busy, dispatcher=dispatcher)().save()
        assert started.wait(PATIENCE)
        basket = baskets(backend, dispatcher=dispatcher, timeout=0.01, retry=RetryPolicy(timeout=0.02))(id=7)
        assert basket.save({"n": 1}).exception(PATIENCE) is not None
        last = basket.save({"n": 2}, timeout=PATIENCE)
        busy.release()
        assert last.exception(PATIENCE) is None
    assert backend.values == [2]


def test_a_closed_dispatcher_takes_nothing() -> None:
    """No save, for which no loop is started either, and no retry of one that failed."""
    backend, coroutines = Scripted(), AsyncScripted()
    dispatcher = Dispatcher()
    basket = baskets(backend, dispatcher=dispatcher, on_failure=OnFailure.HALT)()
    other = baskets(coroutines, dispatcher=dispatcher)()
    backend.failures.append(Rejected())
    basket.save().exception(PATIENCE)
    dispatcher.close(PATIENCE)
    before = threading.enumerate()
    for refused in (basket.chain.retry, basket.save, other.save):
        with pytest.raises(DispatcherClosed):
            refused()
    assert [thread for thread in threading.enumerate() if thread not in before] == []
    assert len(backend.ledger) == 1


def test_drivers_go_with_their_backends() -> None:
    """A program may make a backend for each user it acts for."""
    dispatcher = Dispatcher()
    backends = [Scripted(), AsyncScripted(), AsyncScripted()]
    assert len({dispatcher.port(backend).driver for backend in backends}) == 3
    assert len(list(dispatcher._drivers)) == 3
    backends.clear()
    gc.collect()
    assert len(list(dispatcher._drivers)) == 1


def test_a_dropped_dispatcher_is_forgotten_by_its_lanes() -> None:
    """A lane outlives it, and resuming it then wakes nobody."""
    lane = Lane()
    backend = Scripted(lane=lane)
    dispatcher = Dispatcher("inline")
    dispatcher.port(backend)
    del dispatcher
    gc.collect()
    lane.pause()
    lane.resume()
    assert lane._watchers == []


def test_verbs_of_an_empty_chain_do_nothing() -> None:
    """There is no state to change, and none is made."""
    dispatcher = Dispatcher("inline")
    chain = baskets(Scripted(), dispatcher=dispatcher)().chain
    chain.resume()
    chain.clear()
    chain.skip()
    assert chain.retry() is None
    chain.flush(1)
    assert dispatcher._engine.ledger.machine.chains == {}


def test_attributes_are_set_and_what_was_deleted_is_known() -> None:
    """`save({...})` sets first; a second delete is the first one."""
    dispatcher = Dispatcher("inline")
    backend = Scripted()
    basket = baskets(backend, dispatcher=dispatcher)()
    basket.save({"n": 3, "name": "x"})
    assert backend.values == [3]
    basket.chain.pause()
    first, second = basket.delete(), basket.delete()
    assert first is second
    assert first.cancel()
    assert basket.save().cancel()
    assert not basket.chain.halted
    basket.chain.resume()


def test_a_lost_loop_gives_up_what_belonged_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing of other drivers."""
    dispatcher = Dispatcher()
    backends = AsyncScripted(), Scripted()
    gone, kept = (baskets(backend, dispatcher=dispatcher)() for backend in backends)
    lost: list[Any] = []

    async def main() -> None:
        gone.chain.pause()
        lost.append(gone.save())

    asyncio.run(main())
    kept.chain.pause()
    waiting = kept.save()
    with pytest.raises(Stuck):
        dispatcher.flush(PATIENCE)
    assert lost[0].outcome is Outcome.CANCELLED
    assert not waiting.done()
    kept.chain.resume()
    dispatcher.close(PATIENCE)
    assert waiting.outcome is Outcome.SAVED


def test_a_long_list_of_what_is_left_is_cut() -> None:
    """An error names some, and counts the others."""
    dispatcher = Dispatcher("inline")
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    basket.chain.pause()
    for _ in range(8):
        basket.save()
    with pytest.raises(Stuck, match=r"8 saves cannot be carried out.*and 3 more"):
        dispatcher.flush(1)
    with pytest.raises(Stuck):
        basket.chain.flush(1)
    basket.chain.clear()


def test_leaving_and_forking() -> None:
    """At exit what is left is reported, not raised; in a child nothing is left."""
    dispatcher = Dispatcher("inline")
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    basket.chain.pause()
    handle = basket.save()
    dispatcher.leave()
    dispatcher.after_fork()
    assert handle.cancelled()
    assert len(dispatcher) == 0


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2", None])
def test_a_lane_is_given_a_batch_that_can_be(size: Any) -> None:
    """A size that makes no sense is refused, and changes nothing; a lane that is not in use cannot be meant."""
    with Dispatcher("inline") as dispatcher:
        backend = Scripted()
        lane = dispatcher.port(backend).lane.lane
        (seen,) = dispatcher.lanes()
        with pytest.raises(InvalidOption, match="max_batch"):
            dispatcher.set_batch(seen["id"], size)
        with pytest.raises(InvalidOption, match="no such lane"):
            dispatcher.set_batch(-1, 2)
        assert lane.max_batch == seen["max_batch"]
        dispatcher.set_batch(seen["id"], 2)
        assert lane.max_batch == 2
