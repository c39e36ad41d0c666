"""Where work, merges and receivers go: loops that come and go, and threads that are given as a target."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import queue
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, ClassVar

import pytest

from chained_models import Abandoned, Dispatcher, Lane, Outcome, Rejected, WouldDeadlock, WrongLoop

from .scripted import PATIENCE, AsyncScripted, Basket, Script, Scripted, baskets

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
    try:
        yield dispatcher
    finally:
        dispatcher.close(PATIENCE)


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


def test_awaiting_what_the_loop_does_at_once_takes_one_turn() -> None:
    """The save is carried out in it, and nobody has to be woken."""

    class AtOnce(AsyncScripted):
        async def execute(self, operation: Any) -> Any:
            with self._attempt(operation) as failure:
                return self._answer(operation, failure)

    backend = AtOnce()
    hops: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Dispatcher() as dispatcher:
            basket = baskets(backend, dispatcher=dispatcher)()
            await basket.save()
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += 1
                loop.call_soon(turn)

            hop, loop.call_soon_threadsafe = loop.call_soon_threadsafe, hops.append  # type: ignore[assignment, method-assign]
            loop.call_soon(turn)
            for _ in range(10):
                await basket.save()
            loop.call_soon_threadsafe = hop  # type: ignore[method-assign]
            assert turns <= 10

    asyncio.run(main())
    assert hops == []
    assert len(backend.values) == 11


def test_a_failure_that_is_awaited_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who awaits it has listened; also if it takes its time."""
    backend = AsyncScripted()

    async def main() -> None:
        async with Dispatcher() as dispatcher:
            kind = baskets(backend, dispatcher=dispatcher)
            for name, held in (("at once", False), ("later", True)):
                backend.failures.append(Rejected("no"))
                if held:
                    backend.hold()
                    asyncio.get_running_loop().call_later(0.001, backend.release)
                with pytest.raises(Rejected):
                    await kind(name=name).save()

    asyncio.run(main())
    assert caplog.records == []


def test_a_loop_that_had_no_saves_left_is_forgotten_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """One run after the other; but a save that was still queued is one that is given up."""
    with closing(Dispatcher()) as dispatcher:
        basket = baskets(AsyncScripted(), dispatcher=dispatcher)()

        async def saved() -> None:
            await basket.save()

        for _ in range(3):
            asyncio.run(saved())
        assert caplog.records == []

        async def queued() -> None:
            basket.chain.pause()
            basket.save()

        asyncio.run(queued())
        basket.chain.resume()
        basket.save().result(PATIENCE)
        assert "given up (1 of them): its event loop was closed" in caplog.text


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


# Loops that stand still


class Seeing(Basket):
    """Writes down what happens to it, where: the merge, its receivers, the settling."""

    seen: ClassVar[list[tuple[str, int]]]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "total" and value is not None:
            self.note("merge")
        super().__setattr__(name, value)

    def note(self, what: str) -> None:
        self.seen.append((what, threading.get_ident()))


def seeing(backend: Script, dispatcher: Dispatcher, **values: Any) -> Seeing:
    """A basket that writes down, of a class of its own, and answers that move it each time."""

    class Bound(Seeing):
        seen: ClassVar[list[tuple[str, int]]] = []

    totals = itertools.count(1)
    backend.during = lambda operation: {"total": next(totals)}
    Bound.bind(backend, dispatcher=dispatcher)
    basket = Bound(**values)
    basket.chain.on("sync", lambda event: basket.note("late" if event.save.done() else "sync"))
    return basket


async def save(basket: Any, times: int = 1) -> list[Any]:
    """Ask for saves in the loop that runs now."""
    handles = [basket.save() for _ in range(times)]
    for handle in handles:
        if isinstance(basket, Seeing):
            handle.add_done_callback(lambda _: basket.note("settled"))
    return handles


def asked(loop: asyncio.AbstractEventLoop, backend: Any, basket: Any, times: int = 1) -> list[Any]:
    """Saves that a loop has asked for before it came to stand still; none has ended by then."""
    backend.hold()
    handles = loop.run_until_complete(save(basket, times))
    backend.release()
    return handles


@contextlib.contextmanager
def standing() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs only when it is told to, and is closed in the end."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield loop


WAITS: dict[str, Callable[[Dispatcher, Any, list[Any]], object]] = {
    "result": lambda dispatcher, basket, handles: handles[-1].result(PATIENCE),
    "exception": lambda dispatcher, basket, handles: handles[-1].exception(PATIENCE),
    "flush of all": lambda dispatcher, basket, handles: dispatcher.flush(PATIENCE),
    "flush of the chain": lambda dispatcher, basket, handles: basket.chain.flush(PATIENCE),
    "close": lambda dispatcher, basket, handles: dispatcher.close(PATIENCE),
    "await in another loop": lambda dispatcher, basket, handles: asyncio.run(awaited(*handles)),
    "result in another loop": lambda dispatcher, basket, handles: asyncio.run(blocked(handles[-1])),
}


async def awaited(*handles: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*handles)


async def blocked(handle: Any) -> None:
    handle.result(PATIENCE)


@pytest.mark.parametrize("times", [1, 100])
@pytest.mark.parametrize("early", [True, False], ids=["put before", "put meanwhile"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_a_wait_takes_over_from_a_loop_that_stands_still(wait: Callable[..., object], early: bool, times: int) -> None:
    """In its thread, each call once, and each save merged, told and settled before the next one is."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher("threads")) as dispatcher:
        basket = seeing(backend, dispatcher)
        backend.hold()
        handles = loop.run_until_complete(save(basket, times))
        if early:
            backend.release()
            until_left(dispatcher)
        else:
            # From the driver, that the wait turns to when it has taken over what was left: so nothing was.
            turn_to(dispatcher, backend.release)
        wait(dispatcher, basket, handles)
        assert [handle.outcome for handle in handles] == [SAVED] * times
        expected = [(what, threading.get_ident()) for what in ("merge", "sync", "settled")]
        assert basket.seen == expected * times
        assert backend.values == [0] * times
        loop.run_until_complete(asyncio.sleep(0))
        assert basket.seen == expected * times


def until_left(dispatcher: Dispatcher) -> None:
    """Wait until a call was left for a target."""
    left = dispatcher._announcer.deliveries
    put = threading.Event()
    with left.waking(lambda _: put.set()):
        assert left.has_calls or put.wait(PATIENCE)


def turn_to(dispatcher: Dispatcher, call: Callable[[], object]) -> None:
    """Have `call` made when a wait asks its driver for help."""
    (driver,) = dispatcher._drivers
    help_as_ever = driver.help

    def helping() -> float | None:
        call()
        return help_as_ever()

    driver.help = helping  # type: ignore[method-assign]


def test_a_plain_save_behind_those_of_a_loop_that_stands_still() -> None:
    """Its handle has no loop to deliver to, but what it waits for has."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        asked(loop, backend, basket)
        assert basket.save().result(PATIENCE) is basket
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled", "merge", "sync"]


@pytest.mark.parametrize("within", ["no loop", "another loop"])
def test_a_receiver_that_saves_again_while_its_loop_stands_still(within: str) -> None:
    """The saves that follow are carried out too, one after the other, no receiver inside another."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        pair = [seeing(backend, dispatcher), seeing(backend, dispatcher, name="b")]
        inside: Counter[int] = Counter()
        told: list[int] = []

        def receive(event: Any) -> None:
            here = threading.get_ident()
            inside[here] += 1
            told.append(inside[here])
            if len(told) < 20:
                for one in pair:
                    one.save()
            inside[here] -= 1

        for one in pair:
            one.chain.on("sync", receive)

        def wait() -> None:
            before = -1
            while before != len(told):  # what a receiver asks for is accepted before its own save has ended
                before = len(told)
                dispatcher.flush(PATIENCE)

        async def second() -> None:
            wait()

        backend.hold()
        for one in pair:
            loop.run_until_complete(save(one, 3))
        backend.release()
        wait() if within == "no loop" else asyncio.run(second())
        assert set(told) == {1}
        assert len(told) == len(backend.ledger) >= 20
        assert backend.overlaps == []


@pytest.mark.parametrize("loops", [2, 5])
def test_a_wait_takes_over_from_all_loops_of_its_thread(loops: int) -> None:
    """Whichever of them the saves in front belong to."""
    backend = Scripted()
    with contextlib.ExitStack() as stack, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        backend.hold()
        handles: list[Any] = []
        for _ in range(loops):
            handles += stack.enter_context(standing()).run_until_complete(save(basket, 3))
        backend.release()
        assert handles[-1].result(PATIENCE) is basket
        assert all(handle.done() for handle in handles)
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"] * len(handles)


def test_a_loop_that_awaits_takes_over_for_saves_of_its_own_too() -> None:
    """They stand behind those of the loop that stands still; and it goes on turning meanwhile."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        backend.hold()
        first = loop.run_until_complete(save(basket, 20))

        async def second() -> None:
            turned = asyncio.Event()
            handles = await save(basket, 20)
            waiters = [asyncio.ensure_future(awaited(handle)) for handle in handles]
            asyncio.get_running_loop().call_soon(turned.set)
            await turned.wait()
            backend.release()
            await awaited(*waiters)

        asyncio.run(second())
        assert [handle.outcome for handle in first] == [SAVED] * 20
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"] * 40
        assert {where for _, where in basket.seen} == {threading.get_ident()}


def test_a_loop_that_turns_elsewhere_is_left_alone() -> None:
    """The thread in which it turned before takes nothing from it."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        backend.hold()
        (handle,) = loop.run_until_complete(save(basket))
        turning = threading.Event()
        loop.call_soon(turning.set)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        assert turning.wait(PATIENCE)
        backend.release()
        assert handle.result(PATIENCE) is basket
        loop.call_soon_threadsafe(loop.stop)
        where = thread.ident
        thread.join(PATIENCE)
        assert basket.seen == [(what, where) for what in ("merge", "sync", "settled")]


def test_a_loop_that_turns_again_makes_what_nobody_waited_for() -> None:
    """A wait in another thread takes nothing that belongs to this one."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        (handle,) = asked(loop, backend, basket)
        until_left(dispatcher)
        with pytest.raises(TimeoutError):
            in_thread(lambda: handle.result(0.001))
        assert basket.seen == []
        loop.run_until_complete(awaited(handle))
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"]


@pytest.mark.parametrize("wait", [WAITS["result"], WAITS["flush of all"], WAITS["await in another loop"]])
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_what_was_left_for_a_loop_is_made_when_it_is_gone(how: str, wait: Callable[..., object]) -> None:
    """Whoever waits, also elsewhere, makes the calls that it had taken and never made."""
    backend = Scripted()
    with closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        with standing() as loop:
            handles = asked(loop, backend, basket, 3)
            until_left(dispatcher)
        if how == "dropped":
            del loop
            gc.collect()
        in_thread(lambda: wait(dispatcher, basket, handles))
        assert [handle.outcome for handle in handles] == [SAVED] * 3
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"] * 3


def test_an_await_elsewhere_notices_that_the_loop_was_closed() -> None:
    """It looks up by itself, for nobody tells it."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        (handle,) = asked(loop, backend, basket)
        until_left(dispatcher)

        async def second() -> None:
            waiter = asyncio.ensure_future(awaited(handle))
            while handle._followers is None:
                await asyncio.sleep(0)
            loop.close()
            await waiter

        in_thread(lambda: asyncio.run(second()))
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"]


def test_a_backend_of_coroutines_delivers_to_a_loop_that_stands_still() -> None:
    """If the background loop owns it; the waiting thread takes over there too."""
    backend = AsyncScripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)
        basket.save().result(PATIENCE)
        basket.seen.clear()
        handles = asked(loop, backend, basket, 10)
        assert handles[-1].result(PATIENCE) is basket
        assert basket.seen == [(what, threading.get_ident()) for what in ("merge", "sync", "settled")] * 10


def test_an_interrupt_comes_out_of_the_wait_that_takes_over() -> None:
    """The chain has gone on by then, and the next wait makes what is left."""
    backend = Scripted()
    with standing() as loop, closing(Dispatcher()) as dispatcher:
        basket = seeing(backend, dispatcher)

        def storm(event: Any) -> None:
            if event.save is handles[0]:
                raise KeyboardInterrupt

        basket.chain.on("sync", storm)
        handles = asked(loop, backend, basket, 3)
        with pytest.raises(KeyboardInterrupt):
            handles[-1].result(PATIENCE)
        assert handles[0].outcome is SAVED
        assert handles[-1].result(PATIENCE) is basket
        assert [what for what, _ in basket.seen] == ["merge", "sync", "settled"] * 3


def test_an_end_of_the_process_takes_over_from_all_loops() -> None:
    """Those of its own thread and those of threads that are gone, which nobody has closed."""
    program = textwrap.dedent(
        """
        import asyncio, dataclasses, logging, sys, threading
        from chained_models import ChainedSaveMixin
        from chained_models.backends.memory import MemoryBackend

        logging.basicConfig(level=logging.WARNING)

        @dataclasses.dataclass
        class Note(ChainedSaveMixin):
            id: int | None = None
            text: str = ""

        Note.bind(MemoryBackend())
        loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]

        async def save(text, times):
            note = Note(text=text)
            note.chain.on("sync", lambda event: sys.stdout.write(f"{text} {note.id is not None}\\n"))
            for _ in range(times):
                note.save()

        loops[0].run_until_complete(save("here", 3))
        thread = threading.Thread(target=lambda: loops[1].run_until_complete(save("gone", 3)))
        thread.start()
        thread.join()
        """
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert sorted(ended.stdout.splitlines()) == ["gone True"] * 3 + ["here True"] * 3
    assert ended.stderr == ""


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


def test_an_await_in_the_targets_thread_has_its_loop_make_the_calls() -> None:
    """A target that comes only when what awaits has ended (a handler of Textual's) does not wait for itself."""
    target, backend = Target(), Scripted()
    with closing(Dispatcher(deliver=target)) as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        here: list[bool] = []
        mine = threading.get_ident()
        basket.chain.on("sync", lambda _: here.append(threading.get_ident() == mine))

        async def handler() -> None:
            assert await asyncio.wait_for(basket.save(), PATIENCE) is basket
            basket.save()
            await asyncio.wait_for(basket.save(), PATIENCE)

        asyncio.run(handler())
        assert here == [True] * 3
        while not target.calls.empty():
            target.turn()
        assert here == [True] * 3


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
        dispatcher.flush(PATIENCE)
        for worker in [one for one in threading.enumerate() if one.name == "chained-models-worker"]:
            worker.join(PATIENCE)  # or it would, still at its last calls, make ours, too
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
