"""Waiting, without ever waiting for oneself."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chained_models import Dispatcher, RetryPolicy, Stuck, Unavailable, WouldDeadlock
from chained_models.drivers.inline import InlineDriver
from chained_models.testing import VirtualClock

from ..contract.scripted import PATIENCE, Scripted, baskets

STEADY = RetryPolicy(wait_initial=5, wait_jitter=0)


def test_a_waiting_thread_does_what_is_due() -> None:
    """Inline, `result()` and `flush()` let the time pass that a retry waits for."""
    clock, backend = VirtualClock(), Scripted()
    dispatcher = Dispatcher(InlineDriver(clock))
    basket = baskets(backend, dispatcher=dispatcher, retry=STEADY)()
    backend.failures.append(Unavailable())
    assert basket.save().result() is basket
    assert clock.time >= 5
    backend.failures.append(Unavailable())
    handle = basket.save()
    dispatcher.flush()
    assert handle.done()
    assert clock.time >= 10


def test_a_wait_has_an_end() -> None:
    """TimeoutError, and the save stays what it was."""
    dispatcher = Dispatcher("threads")
    basket = baskets(Scripted(), dispatcher=dispatcher)()
    basket.chain.pause()
    handle = basket.save()
    with pytest.raises(TimeoutError):
        handle.result(0)
    with pytest.raises(TimeoutError):
        handle.exception(0.001)
    basket.chain.resume()
    handle.result(PATIENCE)
    dispatcher.close()


def test_what_is_done_can_be_asked_anywhere() -> None:
    """Also in a receiver; what is not would never be."""
    basket = baskets(Scripted(), dispatcher=Dispatcher("inline"))()
    first = basket.save()
    answers: list[Any] = []

    def receive(event: Any) -> None:
        answers.append(first.result(0))
        with pytest.raises(WouldDeadlock):
            event.save.result(0)

    basket.chain.on("sync", receive)
    basket.save()
    assert answers == [basket]


def test_a_flush_waits_no_longer_than_it_is_told() -> None:
    """Then it names what is left."""
    backend = Scripted()
    backend.hold()
    with Dispatcher() as dispatcher:
        handle = baskets(backend, dispatcher=dispatcher)().save()
        with pytest.raises(Stuck, match=f"1 saves did not end within 0.001 s: {re.escape(str(handle))}"):
            dispatcher.flush(0.001)
        backend.release()
        dispatcher.flush(PATIENCE)


def test_a_flush_names_what_its_user_interface_has_not_heard_of() -> None:
    """It was carried out, but has not ended before its target has come."""
    calls: list[Any] = []
    with Dispatcher("threads", deliver=calls.append) as dispatcher:
        handle = baskets(Scripted(), dispatcher=dispatcher)().save()
        with (
            ThreadPoolExecutor() as elsewhere,
            pytest.raises(Stuck, match=f"1 saves did not end within .* s: {handle.verb.value} 1"),
        ):
            elsewhere.submit(dispatcher.flush, 0.05).result(PATIENCE)
        dispatcher.flush(PATIENCE)
        assert handle.done()


def test_a_flush_is_woken_by_a_pause() -> None:
    """What it waited for can no more move, and it says so."""
    backend = Scripted()
    with Dispatcher() as dispatcher:
        basket = baskets(backend, dispatcher=dispatcher)()
        backend.hold()
        first, second = basket.save(), basket.save()
        errors: list[BaseException] = []

        def flush() -> None:
            try:
                dispatcher.flush(PATIENCE)
            except Stuck as error:
                errors.append(error)

        thread = threading.Thread(target=flush)
        thread.start()
        basket.chain.pause()
        backend.release()
        thread.join(PATIENCE)
        assert first.done()
        assert not second.done()
        assert len(errors) == 1
        basket.chain.resume()


def test_awaiting_lets_inline_time_pass() -> None:
    """A retry that is due comes while a coroutine waits."""
    backend = Scripted()
    basket = baskets(backend, dispatcher=Dispatcher("inline"), retry=RetryPolicy(wait_initial=0.002, wait_jitter=0))()

    async def main() -> None:
        backend.failures.append(Unavailable())
        assert await basket.save() is basket

    asyncio.run(main())


def test_a_waiter_whose_loop_is_closed_is_not_woken() -> None:
    """And nobody is hurt by that."""
    backend = Scripted()
    with Dispatcher() as dispatcher:
        backend.hold()
        handle = baskets(backend, dispatcher=dispatcher)().save()

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await handle

        asyncio.run(main())
        backend.release()
        handle.result(PATIENCE)


def test_checking_does_not_wait() -> None:
    """It only says whether a wait could end."""
    dispatcher = Dispatcher("inline")
    dispatcher._engine.patience.check()
    with dispatcher._engine.announcer, pytest.raises(WouldDeadlock):
        dispatcher._engine.patience.check()
