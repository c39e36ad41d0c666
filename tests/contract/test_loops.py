"""Where work, merges and receivers go: loops that come and go, and threads that are given as a target."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from chained_models import Abandoned, Dispatcher, Lane, Outcome, WouldDeadlock, WrongLoop

from .scripted import PATIENCE, AsyncScripted, Basket, Scripted, baskets

SAVED, ABANDONED, CANCELLED = Outcome.SAVED, Outcome.ABANDONED, Outcome.CANCELLED


def in_thread(call: Callable[[], Any]) -> Any:
    """What `call` returns or raises, made in a thread of its own."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append(call())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert box, "the thread hangs"
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


@contextlib.contextmanager
def closing(dispatcher: Dispatcher) -> Any:
    with contextlib.closing(dispatcher):
        yield dispatcher


async def in_flight(backend: Any, number: int = 1) -> None:
    async with asyncio.timeout(PATIENCE):
        while backend.running < number:
            await asyncio.sleep(0)


# Loops


def test_waiting_for_the_loop_in_its_own_thread_would_never_end() -> None:
    """`result()` and `flush()` on the owner loop's thread raise WouldDeadlock; `await` is the way."""

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            basket = baskets(AsyncScripted(), dispatcher=dispatcher)()
            handle = basket.save()
            with pytest.raises(WouldDeadlock):
                handle.result(PATIENCE)
            with pytest.raises(WouldDeadlock):
                dispatcher.flush(PATIENCE)
            assert await handle is basket
            assert handle.result(0) is basket

    asyncio.run(main())


def test_another_open_loop_is_refused() -> None:
    """A backend belongs to its first loop while that is open; nothing is queued for the second one."""
    backend = AsyncScripted()
    dispatcher = Dispatcher()
    kind = baskets(backend, dispatcher=dispatcher)

    async def other() -> None:
        with pytest.raises(WrongLoop):
            kind(name="other").save()

    async def main() -> None:
        await kind().save()
        await asyncio.to_thread(asyncio.run, other())
        await asyncio.to_thread(dispatcher.close)

    asyncio.run(main())
    assert backend.values_of("other") == []


def test_plain_threads_hop_into_the_loop_that_owns() -> None:
    """While the owner runs, any thread may save and wait."""
    backend = AsyncScripted()
    dispatcher = Dispatcher()
    kind = baskets(backend, dispatcher=dispatcher)

    async def main() -> None:
        await kind().save()
        other = kind(name="other")
        assert await asyncio.to_thread(lambda: other.save().result(PATIENCE)) is other
        await asyncio.to_thread(dispatcher.close)

    asyncio.run(main())


def test_two_loops_share_a_backend_that_the_background_loop_owns() -> None:
    """Called first from plain code, it serves every loop, and receivers run on the loop that saved."""
    backend = AsyncScripted()
    with closing(Dispatcher()) as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        kind().save().result(PATIENCE)
        told: list[bool] = []

        async def main(name: str) -> None:
            basket = kind(name=name)
            basket.chain.on("sync", lambda _: told.append(threading.get_ident() == here))
            here = threading.get_ident()
            assert await basket.save() is basket

        asyncio.run(main("one"))
        in_thread(lambda: asyncio.run(main("two")))
        assert told == [True, True]


@pytest.mark.parametrize("how", ["closed", "shut down"])
def test_a_closed_loop_is_forgotten(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was in flight is abandoned, what was queued cancelled, it is logged, no slot is lost, and the next user owns."""
    backend = AsyncScripted()
    backend.lane.max_in_flight = 1
    with closing(Dispatcher()) as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        basket = kind(id=7)
        handles: list[Any] = []

        async def main() -> None:
            backend.hold()
            handles.extend(basket.save() for _ in range(3))
            await in_flight(backend)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        if how == "shut down":
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        else:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # the loop is closed under it: that is the point
        loop.close()
        backend.release()

        last = basket.save()
        assert last.result(PATIENCE) is basket
        assert [handle.outcome for handle in handles] == [ABANDONED, CANCELLED, CANCELLED]
        with pytest.raises(Abandoned):
            handles[0].result(0)
        assert "event loop was closed" in caplog.text
        assert len(dispatcher) == 0
        assert kind(name="other").save().result(PATIENCE)


def test_a_retry_finds_the_next_loop() -> None:
    """A create that its loop left in doubt is sent again in the loop that asks for it."""
    backend = AsyncScripted()
    backend.hold()
    with closing(Dispatcher()) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()

        async def first() -> None:
            basket.save()
            await in_flight(backend)

        async def second() -> Any:
            backend.release()
            retried = basket.chain.retry()
            assert retried is not None
            async with asyncio.timeout(PATIENCE):
                return await retried

        asyncio.run(first())
        assert basket.chain.halted is not None
        assert asyncio.run(second()) is basket


def test_a_thread_that_waits_notices_that_the_loop_was_closed() -> None:
    """It is told that the save was abandoned, instead of waiting for ever."""
    backend = AsyncScripted()
    with closing(Dispatcher()) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)(id=7)
        handles: list[Any] = []

        async def main() -> None:
            backend.hold()
            handles.append(basket.save())
            await in_flight(backend)

        asyncio.run(main())
        assert isinstance(handles[0].exception(PATIENCE), Abandoned)
        dispatcher.flush(PATIENCE)


def test_awaiting_a_handle_is_shielded() -> None:
    """Cancelling the waiter cancels the waiter; the write goes on."""
    backend = AsyncScripted()

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            basket = baskets(backend, dispatcher=dispatcher)()
            backend.hold()
            handle = basket.save()

            async def wait() -> None:
                await handle

            waiter = asyncio.ensure_future(wait())
            await in_flight(backend)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await handle
            assert not handle.done()
            backend.release()
            assert await handle is basket

    asyncio.run(main())
    assert backend.values == [0]


def test_awaiting_what_was_cancelled_does_not_cancel_the_waiter() -> None:
    """It raises the standard library's CancelledError of futures, which is not the one that ends a task."""

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            basket = baskets(AsyncScripted(), dispatcher=dispatcher)()
            basket.chain.pause()
            handle = basket.save()
            waiter = asyncio.ensure_future(asyncio.wait_for(handle, PATIENCE))
            await asyncio.sleep(0)
            assert handle.cancel()
            with pytest.raises(CancelledError):
                await waiter
            basket.chain.resume()

    asyncio.run(main())
    assert not issubclass(CancelledError, asyncio.CancelledError)


def test_an_interrupt_does_not_stop_the_background_loop(caplog: pytest.LogCaptureFixture) -> None:
    """It is shared by all who have no loop of their own, so KeyboardInterrupt out of a coroutine is logged there."""
    backend = AsyncScripted()
    with closing(Dispatcher()) as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        backend.failures.append(KeyboardInterrupt())
        assert isinstance(kind().save().exception(PATIENCE), Abandoned)
        other = kind(name="other")
        assert other.save().result(PATIENCE) is other
    assert "goes on" in caplog.text


def test_a_blocking_backend_called_from_a_loop_delivers_to_that_loop() -> None:
    """The work runs in a worker; the merge, receivers and callbacks run on the loop's thread."""
    backend = Scripted()
    where: list[int] = []

    class Seeing(Basket):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "total" and value is not None:
                where.append(threading.get_ident())
            super().__setattr__(name, value)

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            Seeing.bind(backend, dispatcher=dispatcher)
            basket = Seeing()
            backend.during = lambda operation: where.append(-threading.get_ident()) or {"total": 5}
            basket.chain.on("request", lambda _: where.append(threading.get_ident()))
            basket.chain.on("sync", lambda _: where.append(threading.get_ident()))
            handle = basket.save()
            handle.add_done_callback(lambda _: where.append(threading.get_ident()))
            await handle
            await asyncio.sleep(0)
            assert basket.total == 5

    asyncio.run(main())
    mine = threading.get_ident()
    worker = [ident for ident in where if ident != mine]
    assert len(worker) == 1
    assert worker[0] != -mine
    assert where.count(mine) == 4


def test_a_blocking_wait_on_that_loops_thread_makes_the_deliveries_itself() -> None:
    """`result()` and `flush()` do not wait for a loop that waits for them."""
    backend = Scripted()

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            kind = baskets(backend, dispatcher=dispatcher)
            basket = kind()
            here: list[bool] = []
            mine = threading.get_ident()
            basket.chain.on("sync", lambda _: here.append(threading.get_ident() == mine))
            assert basket.save().result(PATIENCE) is basket
            basket.save()
            dispatcher.flush(PATIENCE)
            assert here == [True, True]

    asyncio.run(main())


def test_deliveries_for_a_closed_loop_are_made_by_the_worker() -> None:
    """A save whose loop is gone is merged and settled all the same."""
    backend = Scripted()
    with closing(Dispatcher()) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        backend.hold()

        async def main() -> Any:
            return basket.save()

        handle = asyncio.run(main())
        backend.release()
        assert handle.result(PATIENCE) is basket
        assert basket.id == 1


# A target


class Target:
    """A user interface: calls that its thread makes when it comes to it."""

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def __call__(self, call: Callable[[], None]) -> None:
        self.calls.put(call)

    def turn(self) -> None:
        self.calls.get(timeout=PATIENCE)()


def test_a_target_gets_merges_and_receivers() -> None:
    """They run in the thread that pumps it, in order; the handle is done only then."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        told: list[tuple[str, bool]] = []
        mine = threading.get_ident()
        for name in ("request", "sync", "idle"):
            basket.chain.on(name, lambda event: told.append((event.name, threading.get_ident() == mine)))  # type: ignore[arg-type]
        handle = basket.save()
        target.turn()
        assert told == [("request", True)]
        assert not handle.done()
        assert basket.id is None
        target.turn()
        assert told == [("request", True), ("sync", True), ("idle", True)]
        assert handle.done()
        assert basket.id == 1


def test_a_blocking_wait_in_the_targets_thread_makes_the_calls_itself() -> None:
    """`result()` and `flush()` there do not wait for a pump that waits for them; what was pumped late does nothing."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        here: list[bool] = []
        mine = threading.get_ident()
        basket.chain.on("sync", lambda _: here.append(threading.get_ident() == mine))
        assert basket.save().result(PATIENCE) is basket
        for _ in range(3):
            basket.save()
        dispatcher.flush(PATIENCE)
        assert here == [True] * 4
        while not target.calls.empty():
            target.turn()
        assert here == [True] * 4


def test_a_wait_elsewhere_leaves_the_calls_to_the_target() -> None:
    """Another thread that waits gets its result when the target's thread has made the calls."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        here: list[bool] = []
        mine = threading.get_ident()
        basket.chain.on("sync", lambda _: here.append(threading.get_ident() == mine))
        handle = basket.save()
        box: list[Any] = []
        waiter = threading.Thread(target=lambda: box.append(handle.result(PATIENCE)))
        waiter.start()
        target.turn()
        waiter.join(PATIENCE)
        assert box == [basket]
        assert here == [True]


def test_a_target_that_raises_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    """The worker makes the calls, and says so in the log."""

    def refuse(call: Callable[[], None]) -> None:
        raise RuntimeError("the window is closed")

    backend = Scripted()
    with closing(Dispatcher(deliver=refuse)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        where: list[int] = []
        basket.chain.on("sync", lambda _: where.append(threading.get_ident()))
        handles = [basket.save() for _ in range(3)]
        assert in_thread(lambda: [handle.result(PATIENCE) for handle in handles]) == [basket] * 3
        assert len(where) == 3
    assert "made elsewhere" in caplog.text


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_an_interrupt_where_the_target_is_gone_leaves_all_others_free(driver: str) -> None:
    """All that was decided together is carried out: every save settles, and the chain that waited for the lane goes on."""

    def refuse(call: Callable[[], None]) -> None:
        raise RuntimeError("the window is closed")

    def storm(event: Any) -> None:
        raise KeyboardInterrupt

    backend = Scripted(lane=Lane(1))
    with closing(in_thread(lambda: Dispatcher(driver, deliver=refuse))) as dispatcher:
        kind = baskets(backend, dispatcher=dispatcher)
        basket, other = kind(), kind(name="other")
        basket.chain.on("sync", storm)
        basket.chain.on("cancelled", storm)
        backend.lane.pause()
        handles = [basket.save(), other.save()]
        with contextlib.suppress(KeyboardInterrupt):
            backend.lane.resume()
        assert [handle.exception(PATIENCE) for handle in handles] == [None, None]
        basket.chain.pause()
        handles = [basket.save() for _ in range(3)]
        with pytest.raises(KeyboardInterrupt):
            basket.chain.clear()
        assert [handle.cancelled() for handle in handles] == [True] * 3


def test_the_target_may_be_another_thread_than_the_one_that_made_the_dispatcher() -> None:
    """Once it has come, its thread is known; the maker's waits then wait for it like any other."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        where: list[int] = []
        basket.chain.on("sync", lambda _: where.append(threading.get_ident()))
        ended = threading.Event()

        def pump() -> None:
            while not ended.is_set():
                target.turn()

        first = basket.save()
        thread = threading.Thread(target=pump)
        thread.start()
        pumped = thread.ident
        concurrent_done = threading.Event()
        first.add_done_callback(lambda _: concurrent_done.set())
        assert concurrent_done.wait(PATIENCE)
        assert basket.save().result(PATIENCE) is basket
        ended.set()
        target(lambda: None)
        thread.join(PATIENCE)
        assert where == [pumped, pumped]


def test_an_interrupt_out_of_a_receiver_comes_out_of_the_targets_pump() -> None:
    """There is a caller there, who wants to know; the chain has gone on by then."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()

        def storm(event: Any) -> None:
            if event.save.snapshot["n"] == 0:
                raise KeyboardInterrupt

        basket.chain.on("sync", storm)
        first = basket.save()
        second = basket.save({"n": 1})
        with pytest.raises(KeyboardInterrupt):
            target.turn()
        assert first.outcome is SAVED
        assert second.result(PATIENCE) is basket


def test_silence_of_the_logs_in_good_weather(caplog: pytest.LogCaptureFixture) -> None:
    """Saves that succeed log nothing, whatever the driver."""
    with caplog.at_level(logging.DEBUG, "chained_models"), closing(Dispatcher()) as dispatcher:
        for backend in (Scripted(), AsyncScripted()):
            basket = baskets(backend, dispatcher=dispatcher)()
            for _ in range(3):
                basket.save()
        dispatcher.flush(PATIENCE)
    assert caplog.records == []
