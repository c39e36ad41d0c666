"""Handles: real futures of the standard library, settled exactly once, with a Condition only when somebody waits."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from chained_models import _future as handle_module
from chained_models._record import Record, Verb
from chained_models._states import OUTCOMES, SaveState
from chained_models.binding import Binding
from chained_models.handle import Handle, SaveHandle
from chained_models.policies import Outcome


class FakeHost:
    """A dispatcher that waits on the Condition, as the drivers do."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.caught_up: list[Any] = []

    def cancel(self, handle: Any) -> bool:
        self.cancelled.append(handle)
        handle.settle(cancelled=True)
        return True

    def wait(self, handle: Any, timeout: float | None) -> bool:
        with handle._condition:
            return bool(handle._condition.wait_for(lambda: handle._state != "PENDING", timeout))

    async def wait_async(self, handle: Any) -> None:
        while not handle.done():
            await asyncio.sleep(0)

    def catch_up(self, handle: Any) -> None:
        self.caught_up.append(handle)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def handle(host: FakeHost) -> Handle[str]:
    return Handle(host)


@pytest.fixture
def busy_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


SETTLE: dict[str, Callable[[Handle[str]], None]] = {
    "result": lambda handle: handle.settle("done"),
    "error": lambda handle: handle.settle(error=ValueError("no")),
    "cancelled": lambda handle: handle.settle(cancelled=True),
}


def ending(handle: Handle[str]) -> str:
    try:
        return {"done": "result"}[handle.result(5)]
    except ValueError as error:
        assert handle.exception() is error
        return "error"
    except CancelledError:
        with pytest.raises(CancelledError):
            handle.exception()
        return "cancelled"


@pytest.mark.parametrize("how", SETTLE)
def test_a_settled_handle(host: FakeHost, handle: Handle[str], how: str) -> None:
    """It answers at once, as a future does, and its host may catch up first."""
    assert isinstance(handle, Future) and not handle.done() and not handle.running()
    SETTLE[how](handle)
    assert ending(handle) == how
    assert handle.done() and handle.cancelled() is (how == "cancelled")
    assert host.caught_up


@pytest.mark.parametrize("how", SETTLE)
@pytest.mark.parametrize("wait", ["wait", "as_completed", "result"])
def test_waited_for_before(handle: Handle[str], how: str, wait: str) -> None:
    """Whoever waits, in any of the standard library's ways, is woken by the end."""
    waits: dict[str, Callable[[], Any]] = {
        "wait": lambda: futures.wait([handle], 5).done,
        "as_completed": lambda: set(futures.as_completed([handle], 5)),
        "result": lambda: {handle} if ending(handle) == how else set(),
    }
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits[wait])
        while not handle.awaited:
            pass  # the waiter has not come yet
        SETTLE[how](handle)
        assert waiting.result(5) == {handle}
    assert ending(handle) == how


@pytest.mark.parametrize("how", SETTLE)
def test_waited_for_after(handle: Handle[str], how: str) -> None:
    """A handle that is settled already is done for the standard library too."""
    SETTLE[how](handle)
    assert futures.wait([handle], 0).done == {handle}
    assert list(futures.as_completed([handle], 0)) == [handle]


def test_first_completed(host: FakeHost) -> None:
    """`wait` comes back with the first of several, and knows which."""
    first, second = Handle[str](host), Handle[str](host)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(futures.wait, [first, second], 5, futures.FIRST_COMPLETED)
        while not (first._waiters and second._waiters):
            pass
        second.settle("done")
        assert waiting.result(5).done == {second}


@pytest.mark.parametrize("how", SETTLE)
def test_waited_for_while_it_settles(host: FakeHost, busy_switching: None, how: str) -> None:
    """However waiting and settling interleave, nobody sleeps through the end, and callbacks are called once."""
    gate = threading.Barrier(4)
    called: list[Handle[str]] = []

    def together(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            handle = Handle[str](host)
            calls: list[Callable[[], Any]] = [
                lambda handle=handle: futures.wait([handle], 5).done,
                lambda handle=handle: {handle} if ending(handle) == how else set(),
                lambda handle=handle: handle.add_done_callback(called.append),
                lambda handle=handle: SETTLE[how](handle),
            ]
            done = [pool.submit(together, call) for call in calls]
            assert [one.result(10) for one in done] == [{handle}, {handle}, None, None]
            assert called == [handle]
            called.clear()


def test_one_condition_for_all(host: FakeHost, busy_switching: None) -> None:
    """Threads that come at once get one Condition."""
    gate = threading.Barrier(4)

    def condition(handle: Handle[str]) -> threading.Condition:
        gate.wait()
        return handle._condition

    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            handle = Handle[str](host)
            made = {one.result(5) for one in [pool.submit(condition, handle) for _ in range(4)]}
            assert made == {handle._condition}


def test_a_condition_made_meanwhile(handle: Handle[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds that another thread was first takes the other one's Condition."""
    audience = handle_module._Audience()

    class Lock:
        def __enter__(self) -> None:
            handle._audience = audience

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(handle_module, "_making", Lock())
    assert handle._condition is audience.condition


def test_no_condition_unless_somebody_waits(handle: Handle[str]) -> None:
    """A handle that nobody looks at costs no Condition; a callback, or a wait, shows that somebody listens."""
    assert not handle.awaited
    handle.settle("done")
    assert handle.result() == "done" and not handle.awaited
    handle.add_done_callback(lambda _: None)
    assert handle.awaited


def test_a_timeout(handle: Handle[str]) -> None:
    """It says so, and the save goes on."""
    for wait in (handle.result, handle.exception):
        with pytest.raises(TimeoutError, match="goes on"):
            wait(0)
    handle.settle("done")
    assert handle.result(0) == "done"


@pytest.mark.parametrize("again", SETTLE)
@pytest.mark.parametrize("watched", [False, True])
def test_settled_twice(handle: Handle[str], again: str, watched: bool) -> None:
    """A second end is a bug, raises, and changes nothing."""
    if watched:
        assert handle._condition
    handle.settle("first")
    with pytest.raises(InvalidStateError, match="twice"):
        SETTLE[again](handle)
    assert handle.result() == "first"


@pytest.mark.parametrize("setter", ["set_result", "set_exception", "set_running_or_notify_cancel"])
def test_only_its_chain_settles_it(handle: Handle[str], setter: str) -> None:
    """The setters of a future are not for use."""
    arguments = () if setter == "set_running_or_notify_cancel" else (None,)
    with pytest.raises(InvalidStateError, match="only its chain"):
        getattr(handle, setter)(*arguments)
    assert not handle.done()


def test_cancelling_is_the_hosts(host: FakeHost, handle: Handle[str]) -> None:
    """`cancel` asks the chain, and a cancelled handle calls its callbacks."""
    called: list[Any] = []
    handle.add_done_callback(called.append)
    assert handle.cancel()
    assert host.cancelled == called == [handle]


def test_callbacks_that_raise(handle: Handle[str], caplog: pytest.LogCaptureFixture) -> None:
    """All are called, in order; an error is logged, and the first interrupt comes out at the end."""
    called: list[Any] = []
    interrupt = KeyboardInterrupt()

    def fails(error: BaseException) -> Callable[[Any], None]:
        def callback(_: Any) -> None:
            called.append(error)
            raise error

        return callback

    error, leave = ValueError("no"), SystemExit()
    for raised in (error, interrupt, leave):
        handle.add_done_callback(fails(raised))
    handle.add_done_callback(called.append)
    with pytest.raises(KeyboardInterrupt):
        handle.settle("done")
    assert called == [error, interrupt, leave, handle]
    assert "ValueError" in caplog.text and "the chain goes on" in caplog.text
    assert handle.result() == "done"


def test_callbacks_see_a_settled_handle(handle: Handle[str]) -> None:
    """One that is added late is called at once."""
    seen: list[Any] = []
    handle.add_done_callback(lambda done: seen.append(done.result()))
    handle.settle("done")
    handle.add_done_callback(lambda done: seen.append(done.result()))
    assert seen == ["done", "done"]


def test_an_error_keeps_no_cycle(host: FakeHost) -> None:
    """A handle whose error was raised goes as soon as nobody holds it, without waiting for the collector."""
    handle: Any = Handle[str](host)
    handle.settle(error=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        handle.result()
    host.caught_up.clear()
    gone = weakref.ref(handle)
    gc.collect()
    gc.disable()
    try:
        del handle
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("how", SETTLE)
@pytest.mark.parametrize("before", [False, True])
def test_awaited(handle: Handle[str], how: str, before: bool) -> None:
    """`await` gives what `result` gives; a cancelled save does not look as if the waiter were cancelled."""

    async def main() -> str:
        if before:
            SETTLE[how](handle)
        waiter = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        if not before:
            SETTLE[how](handle)
        return await waiter

    async def waits() -> str:
        try:
            return {"done": "result"}[await handle]
        except ValueError:
            return "error"
        except CancelledError as error:
            assert not isinstance(error, asyncio.CancelledError)
            return "cancelled"

    assert asyncio.run(main()) == how


def test_cancelling_the_waiter_cancels_no_save(host: FakeHost, handle: Handle[str]) -> None:
    """`await handle` is shielded."""

    async def main() -> None:
        waiter = asyncio.ensure_future(handle)
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())
    assert not handle.done() and not host.cancelled


def test_in_a_forked_child(handle: Handle[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There it counts as cancelled, nobody is called, and the lock is a new one."""
    monkeypatch.setattr(handle_module, "_making", before := handle_module._making)
    handle.add_done_callback(lambda _: pytest.fail("the parent calls"))
    handle_module.after_fork()
    handle.disown()
    assert handle_module._making is not before and handle.cancelled()


def save_handle(host: FakeHost, record: Record | None = None) -> SaveHandle[str]:
    facts = SimpleNamespace(record=Record("Basket") if record is None else record)
    binding: Any = SimpleNamespace(binding=Binding())
    nothing: Any = None
    return SaveHandle(host, nothing, "model", Verb.SAVE, nothing, nothing, facts, binding, 1.0, nothing, nothing)


@pytest.mark.parametrize("state", SaveState)
def test_the_outcome_follows_the_state(host: FakeHost, state: SaveState) -> None:
    """A save has an outcome exactly when its state is an end."""
    save = save_handle(host)
    assert save.outcome is None
    save.state = state
    assert save.outcome is OUTCOMES.get(state)
    assert (save.outcome is not None) is (state.value in {outcome.value for outcome in Outcome})


def test_running(host: FakeHost) -> None:
    """It is running from its first attempt to its end, whatever is between two attempts."""
    save = save_handle(host)
    assert not save.running()
    save.attempts = 1
    assert save.running()
    save.settle("model")
    assert not save.running()


def test_the_identity_is_the_records(host: FakeHost) -> None:
    """Also after the record has turned out to be another one."""
    record, known = Record("Basket"), Record("Basket", 7)
    save = save_handle(host, record)
    assert save.identity is None
    record.merge_into(known)
    assert save.identity == 7


def test_how_it_reads(host: FakeHost) -> None:
    """In a log it is named by verb, number and record; from the second attempt on with their count."""
    save = save_handle(host, Record("Basket", 7))
    save.seq, save.state = 3, SaveState.IN_FLIGHT
    assert repr(save) == "<SaveHandle save 3 of Basket 7 is in flight>"
    save.attempts = 2
    assert repr(save) == "<SaveHandle save 3 of Basket 7 is in flight, attempt 2>"


def test_a_disowned_save(host: FakeHost) -> None:
    """In a forked child the state of a save says what the handle says."""
    save = save_handle(host)
    save.disown()
    assert save.outcome is Outcome.CANCELLED and save.cancelled()
