"""Refused credentials, in every world: renewed once for all that wait; if that does not help, the lane is paused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chained_models import CallChain, Dispatcher, Lane, Outcome, RetryPolicy, Turn, Unauthenticated

from .scripted import (
    PATIENCE,
    AsyncScripted,
    Basket,
    Scripted,
    World,
    baskets,
    everywhere,
    where_calls_block,
    where_things_happen_meanwhile,
)

SAVED, FAILED = Outcome.SAVED, Outcome.FAILED


class Storm(BaseException):
    """As KeyboardInterrupt is, but does not stop an event loop."""


def signs_in(backend: Any, *ways: Callable[[], object]) -> list[int]:
    """Let the backend renew its credentials: the first time in the first way, and so on. Returns the times it did."""
    times: list[int] = []

    def reauthenticate() -> None:
        times.append(len(backend.ledger))
        if len(times) <= len(ways):
            ways[len(times) - 1]()

    async def in_a_loop() -> None:
        await asyncio.sleep(0)
        reauthenticate()

    backend.reauthenticate = in_a_loop if isinstance(backend, AsyncScripted) else reauthenticate
    return times


def refuse(world: World, times: int = 1) -> None:
    world.backend.failures.extend(Unauthenticated() for _ in range(times))


def fails(error: BaseException) -> Callable[[], object]:
    def way() -> object:
        raise error

    return way


@contextlib.contextmanager
def logged(world: World) -> Iterator[list[str]]:
    """What the library logs meanwhile; whoever waits looks again at each line."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            world.stir()

    logger, handler = logging.getLogger("chained_models"), Handler()
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


@everywhere
async def test_refused_once(world: World) -> None:
    """The same save is sent again with no attempt used up; the lane never pauses, and nobody has to do anything."""
    times = signs_in(world.backend)
    basket = world.bind(retry=RetryPolicy(attempts=1))()
    world.watch(basket, "retry", "sync", "error")
    refuse(world)
    paused: list[bool] = []
    basket.chain.on("retry", lambda _: paused.append(world.backend.lane.paused))
    handle = basket.save()
    assert await world.end(handle) == [SAVED]
    assert (times, handle.attempts, handle.spent) == ([1], 1, 0.0)
    first, again = world.backend.ledger
    assert (first.id, first.idempotency_key, first.values) == (again.id, again.idempotency_key, again.values)
    assert paused == [False]
    assert [(event.name, event.delay) for event in world.events] == [("retry", None), ("sync", None)]


@everywhere
async def test_refused_always(world: World) -> None:
    """It is renewed once, and then the lane is paused, with all saves in it; each `resume()` may renew once more."""
    times = signs_in(world.backend)
    kind = world.bind(retry=RetryPolicy(attempts=1))
    world.backend.during = lambda _: fails(Unauthenticated())()
    with logged(world) as log:
        handle = kind().save()
        await world.stuck()
        assert world.backend.lane.paused and len(times) == 1
        await world.until(lambda: "its lane is paused until resume()" in "".join(log))
    other = kind(name="other").save()
    await world.stuck()
    assert world.backend.values_of("other") == []
    world.backend.lane.resume()
    await world.stuck()
    assert world.backend.lane.paused and len(times) == 2
    world.backend.during = lambda _: None
    world.backend.lane.resume()
    assert await world.end(handle, other) == [SAVED, SAVED]
    assert handle.attempts == other.attempts == 1


@everywhere
async def test_refused_again_after_a_success(world: World) -> None:
    """The new ones were good and have run out: they are renewed again, as often as that happens."""
    times = signs_in(world.backend)
    basket = world.bind()()
    for number in range(1, 4):
        refuse(world)
        assert await world.end(basket.save()) == [SAVED]
        assert len(times) == number
    assert not world.backend.lane.paused


@where_things_happen_meanwhile
async def test_ten_chains_are_refused_at_once(world: World) -> None:
    """One renewal for all of them, while which nothing is sent; then all go on."""
    world.backend.lane.max_in_flight = 10
    world.backend.started = world.stir
    times = signs_in(world.backend)
    kind = world.bind()
    refuse(world, 10)
    world.backend.hold()
    handles = [kind(name=str(number)).save() for number in range(12)]
    await world.until(lambda: world.backend.running == 10)
    world.backend.release()
    assert await world.end(*handles) == [SAVED] * 12
    assert len(times) == 1
    assert len(world.backend.ledger) == 22


@where_things_happen_meanwhile
async def test_a_refusal_of_what_was_sent_before_renews_nothing(world: World) -> None:
    """It came in with the old credentials, and is sent again with the new ones: neither a renewal nor a pause."""
    times = signs_in(world.backend)
    kind = world.bind()
    refuse(world, 2)
    world.backend.started = world.stir
    world.backend.hold("old")
    old = kind(name="old").save()
    await world.until(lambda: world.backend.running == 1)
    assert await world.end(kind(name="new").save()) == [SAVED]
    world.backend.release("old")
    assert await world.end(old) == [SAVED]
    assert len(times) == 1 and not world.backend.lane.paused
    assert old.attempts == 1 and len(world.backend.ledger) == 4


@where_things_happen_meanwhile
async def test_a_success_of_what_was_sent_before_proves_nothing(world: World) -> None:
    """It was accepted with the old credentials; new ones that are refused meanwhile pause the lane all the same."""
    times = signs_in(world.backend, lambda: world.backend.hold("new"))
    kind = world.bind()
    world.backend.failures.append(None)
    refuse(world, 2)
    world.backend.started = world.stir
    world.backend.hold("old")
    old = kind(name="old").save()
    await world.until(lambda: world.backend.running == 1)
    new = kind(name="new").save()
    await world.until(lambda: bool(times) and world.backend.running == 2)
    world.backend.release("old")
    assert await world.end(old) == [SAVED]
    world.backend.release("new")
    await world.stuck()
    assert world.backend.lane.paused and len(times) == 1
    world.backend.lane.resume()
    assert await world.end(new) == [SAVED]


@where_things_happen_meanwhile
async def test_what_is_in_flight_goes_on(world: World) -> None:
    """A renewal holds back only what has not started, of all chains; `flush()` waits for it."""
    kind = world.bind()
    world.backend.failures.extend([None, Unauthenticated()])
    world.backend.started = world.stir
    world.backend.hold("running")
    running = kind(name="running").save()
    await world.until(lambda: world.backend.running == 1)
    seen: list[Any] = []
    later: list[Any] = []

    def meanwhile() -> None:
        later.append(kind(name="later").save())
        lane = world.dispatcher.port(world.backend).lane
        seen.append((bool(lane.renewing), lane.paused, len(world.backend.ledger)))
        seen.append(later[0].why_waiting)
        seen.append(world.dispatcher._engine.unfinished(None, later[0].seq))
        world.backend.release("running")

    signs_in(world.backend, meanwhile)
    refused = kind(name="refused").save()
    assert await world.end(running, refused) == [SAVED, SAVED]
    assert await world.end(*later) == [SAVED]
    assert seen == [
        (True, False, 2),
        "waits for its lane, which is held until its backend has renewed the credentials",
        (True, []),
    ]


@everywhere
@pytest.mark.parametrize(
    "error", [RuntimeError("password=hunter2"), Unauthenticated("hunter2"), TimeoutError()], ids=repr
)
async def test_a_renewal_that_raises_pauses_the_lane(world: World, error: Exception) -> None:
    """Whatever it raises; the log says that, and no secret. After `resume()` it may be tried again."""
    times = signs_in(world.backend, fails(error))
    refuse(world)
    said = f"its credentials were not renewed ({type(error).__name__}); its lane is paused until resume()"
    with logged(world) as log:
        handle = world.bind()().save()
        await world.stuck()
        assert world.backend.lane.paused and len(times) == 1
        await world.until(lambda: said in "".join(log))
    assert "hunter2" not in "".join(log)
    refuse(world)
    world.backend.lane.resume()
    assert await world.end(handle) == [SAVED]
    assert len(times) == 2 and handle.attempts == 1


@everywhere
async def test_an_interrupt_out_of_a_renewal_pauses_the_lane(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It comes out of the verb where that does the work; nothing is lost, and the lane is not held for ever."""
    signs_in(world.backend, fails(Storm()))
    refuse(world)
    basket = world.bind()()
    with contextlib.nullcontext() if world.concurrent else pytest.raises(Storm):
        basket.save()
    await world.stuck()
    assert world.backend.lane.paused
    world.backend.lane.resume()
    await world.flush()
    assert basket.id == 1


@everywhere
async def test_a_lane_that_was_paused_by_hand_stays_so(world: World) -> None:
    """What is refused then waits for `resume()`; nobody signs in behind the back of who paused it."""
    times = signs_in(world.backend)
    refuse(world)
    world.backend.during = lambda _: world.backend.lane.pause()
    handle = world.bind()().save()
    await world.stuck()
    assert times == []
    world.backend.during = lambda _: None
    refuse(world)
    world.backend.lane.resume()
    assert await world.end(handle) == [SAVED]
    assert len(times) == 1


@everywhere
async def test_one_backend_is_one_principal(world: World) -> None:
    """Two backends share a lane: a renewal of one holds both back, and says nothing about the credentials of the other."""
    other = type(world.backend)(lane=world.backend.lane)
    times, others = signs_in(world.backend), signs_in(other)
    kind, second = world.bind(), baskets(other, dispatcher=world.dispatcher)
    for backend in (world.backend, other):
        backend.failures.append(Unauthenticated())
    handles = [kind().save(), second().save()]
    assert await world.end(*handles) == [SAVED, SAVED]
    assert (len(times), len(others)) == (1, 1)
    assert not world.backend.lane.paused


@everywhere
async def test_a_plain_function_renews_in_either_colour(world: World) -> None:
    """An AsyncBackend may have one, too, if it does not block."""
    times: list[int] = []
    world.backend.reauthenticate = lambda: times.append(1)
    refuse(world)
    assert await world.end(world.bind()().save()) == [SAVED]
    assert times == [1]


@everywhere
async def test_a_backend_that_cannot_be_asked_pauses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A property that raises is taken as having no way to renew."""

    class Broken(type(world.backend)):  # type: ignore[misc]
        @property
        def reauthenticate(self) -> Any:
            raise RuntimeError("no keyring")

    backend = Broken()
    backend.failures.append(Unauthenticated())
    handle = baskets(backend, dispatcher=world.dispatcher)().save()
    await world.stuck()
    assert backend.lane.paused and "cannot say how to sign in again (RuntimeError)" in caplog.text
    backend.lane.resume()
    assert await world.end(handle) == [SAVED]


@where_calls_block
async def test_a_coroutine_that_nobody_would_await_is_refused(world: World) -> None:
    """Of a backend whose verbs are plain functions; it would seem to have succeeded."""

    async def reauthenticate() -> None:
        """Never awaited."""

    world.backend.reauthenticate = reauthenticate
    refuse(world)
    with logged(world) as log:
        handle = world.bind()().save()
        await world.stuck()
        await world.until(lambda: "were not renewed (TypeError)" in "".join(log))
    assert world.backend.lane.paused
    world.backend.lane.resume()
    assert await world.end(handle) == [SAVED]


# Renewals that do not end


class Hanging:
    """Makes a backend whose first renewal hangs until it is let go, whatever its colour."""

    def __init__(self, backend: Any) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.times = 0
        self._go = threading.Event()
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        backend.reauthenticate = self.in_a_loop if isinstance(backend, AsyncScripted) else self.in_a_thread

    def in_a_thread(self) -> None:
        self.times += 1
        if self.times == 1:
            self.begun.set()
            assert self._go.wait(PATIENCE)
            self.ended.set()

    async def in_a_loop(self) -> None:
        self.times += 1
        if self.times == 1:
            event = asyncio.Event()
            self._loops.append((asyncio.get_running_loop(), event))
            self.begun.set()
            try:
                await event.wait()
            finally:
                self.ended.set()

    def let_go(self) -> None:
        self._go.set()
        for loop, event in self._loops:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


@where_things_happen_meanwhile
async def test_a_renewal_that_hangs_is_given_up(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It has as long as an attempt; then the lane is paused, and its late end changes nothing."""
    hanging = Hanging(world.backend)
    refuse(world)
    handle = world.bind(timeout=5)().save()
    await world.until_set(hanging.begun)
    await world.armed(5)
    world.advance(4.9)
    assert not world.backend.lane.paused
    world.advance(0.1)
    assert world.backend.lane.paused and "were not renewed (TimeoutError)" in caplog.text
    await world.stuck()
    refuse(world)
    world.backend.lane.resume()
    assert await world.end(handle) == [SAVED]
    hanging.let_go()
    await world.until_set(hanging.ended)
    refuse(world)
    assert await world.end(handle.model.save()) == [SAVED]
    assert hanging.times == 3


@where_things_happen_meanwhile
async def test_a_call_in_the_same_lane_leaves_a_renewal_its_deadline(world: World) -> None:
    """When the calls have ended nothing is in flight in the lane; but the renewal still may hang."""
    hanging = Hanging(world.backend)
    lane = world.backend.lane
    turns: list[Turn] = []

    def take(item: Any, turn: Turn) -> None:
        turns.append(turn)
        world.stir()

    async def take_in_a_loop(item: Any, turn: Turn) -> None:
        take(item, turn)

    worker = take_in_a_loop if isinstance(world.backend, AsyncScripted) else take
    call = CallChain(worker, manual=True, timeout=50, lane=lane, dispatcher=world.dispatcher).add("a")
    await world.until(lambda: bool(turns))
    refuse(world)
    handle = world.bind(timeout=5)().save()
    await world.until_set(hanging.begun)
    await world.armed(5)
    turns[0].done()
    assert await world.end(call) == [SAVED]
    await world.until(lambda: not world.dispatcher._engine.ledger.finishing)
    world.advance(5)
    assert lane.paused
    hanging.let_go()
    await world.until_set(hanging.ended)
    lane.resume()
    assert await world.end(handle) == [SAVED]


@where_things_happen_meanwhile
async def test_closing_while_credentials_are_renewed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It ends in its time; what could not be sent has failed, and surely was not applied."""
    hanging = Hanging(world.backend)
    refuse(world)
    kind = world.bind()
    handle = kind().save()
    await world.until_set(hanging.begun)
    queued = kind(name="queued").save()
    await world.aside(lambda: world.dispatcher.close(0.01))
    assert (handle.outcome, queued.outcome) == (FAILED, Outcome.CANCELLED)
    assert "the dispatcher is closed although 2 saves did not end" in caplog.text
    hanging.let_go()
    await world.until_set(hanging.ended)
    assert len(world.backend.ledger) == 1 and not world.backend.lane.paused
    assert not world.dispatcher.port(world.backend).lane.renewing


def test_a_loop_that_is_closed_while_credentials_are_renewed() -> None:
    """What waited is given up; the next loop that owns the backend finds a lane that goes on."""
    backend: Any = AsyncScripted()
    hanging = Hanging(backend)
    backend.failures.append(Unauthenticated())
    dispatcher = Dispatcher()
    kind = baskets(backend, dispatcher=dispatcher)
    lost: list[Any] = []

    async def main() -> None:
        lost.append(kind().save())
        while not hanging.begun.is_set():
            await asyncio.sleep(0)

    asyncio.run(main())

    async def again() -> Basket:
        return await kind(name="next").save()

    assert asyncio.run(again()).id == 1
    assert lost[0].outcome is FAILED
    assert not backend.lane.paused
    dispatcher.close(PATIENCE)


def test_nothing_of_a_success_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Credentials run out all the time; who cares connects to `retry`."""
    backend = Scripted(lane=Lane())
    times = signs_in(backend)
    backend.failures.append(Unauthenticated())
    with caplog.at_level(logging.INFO, logger="chained_models"), Dispatcher("threads") as dispatcher:
        baskets(backend, dispatcher=dispatcher)().save().result(PATIENCE)
    assert len(times) == 1 and caplog.text == ""
