"""Backends, clocks and worlds that do what a test says, and write down what they were asked.

A *world* is one dispatcher with one driver, one backend of that driver's colour, and time that only moves when it is told.
One test body, a coroutine, plays in all of them: in a world of blocking calls nothing in it ever suspends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from chained_models import Answer, ChainedSaveMixin, Dispatcher, Guarantee, Lane, Method, Operation, SaveEvent, Stuck
from chained_models.drivers.asyncio import AsyncioDriver
from chained_models.drivers.inline import InlineDriver
from chained_models.drivers.threads import ThreadsDriver
from chained_models.protocols import Job
from chained_models.testing import SteppedDriver, VirtualClock
from chained_models.testing.driver import Suspension, suspension

PATIENCE = 5.0
"""Seconds after which a test that waits has failed."""


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    """What the tests save. `name` tells objects apart, `n` the saves of one."""

    id: int | None = None
    name: str = "a"
    n: int = 0
    total: int | None = None


def baskets(backend: Any, **options: Any) -> type[Basket]:
    """A class of its own, bound to `backend`."""

    class Bound(Basket):
        pass

    Bound.bind(backend, **options)
    return Bound


class Script:
    """What a scripted backend does, whatever its colour.

    Attributes:
        ledger: Every attempt that has started.
        failures: What the next attempts raise, in order; None for one that succeeds.
        during: Called with each operation while it is carried out; may raise, or return what is answered.
        started: Called when an attempt has started.
        overlaps: Names of objects of which two attempts ran at once.
        most: Most attempts that ran at once.
    """

    guarantee: Any = Guarantee.PLAIN

    def __init__(self, *, lane: Lane | None = None, guarantee: Guarantee = Guarantee.PLAIN) -> None:
        # Nothing is long unless a test is about that: else the lane's own timer is among those that a test waits for.
        self.lane = Lane(long_after=math.inf) if lane is None else lane
        self.guarantee = guarantee
        self.ledger: list[Operation] = []
        self.failures: deque[BaseException | None] = deque()
        self.during: Callable[[Operation], Any] = lambda operation: None
        self.started: Callable[[], object] = lambda: None
        self.overlaps: list[str] = []
        self.most = 0
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._identities = 0

    @property
    def values(self) -> list[int]:
        """`n` of every attempt, in the order in which they started."""
        return [operation.values["n"] for operation in self.ledger]

    @property
    def running(self) -> int:
        """Attempts that are running now."""
        return self._running.total()

    def values_of(self, name: str) -> list[int]:
        return [operation.values["n"] for operation in self.ledger if operation.values["name"] == name]

    @contextlib.contextmanager
    def _attempt(self, operation: Operation) -> Iterator[BaseException | None]:
        name = operation.values["name"]
        with self._lock:
            self.ledger.append(dataclasses.replace(operation))
            self._running[name] += 1
            self.most = max(self.most, self.running)
            if self._running[name] > 1:
                self.overlaps.append(name)
            failure = self.failures.popleft() if self.failures else None
        try:
            self.started()
            yield failure
        finally:
            with self._lock:
                self._running[name] -= 1

    def _answer(self, operation: Operation, failure: BaseException | None) -> Any:
        said = self.during(operation)
        if failure is not None:
            raise failure
        if operation.method is not Method.CREATE:
            return said
        with self._lock:
            self._identities += 1
            identity = self._identities
        return {"id": identity, **(said or {})}


class Scripted(Script):
    """Blocking."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._gates: dict[str | None, threading.Event] = {}

    def hold(self, name: str | None = None) -> None:
        """Attempts from now on, of all objects or of those of that name, do not end until `release()`."""
        self._gates[name] = threading.Event()

    def release(self, name: str | None = None) -> None:
        """Those of that name, or all."""
        for one in list(self._gates) if name is None else [name]:
            self._gates.pop(one).set()

    def execute(self, operation: Operation) -> Answer | dict[str, Any] | None:
        with self._attempt(operation) as failure:
            gate = self._gates.get(operation.values["name"]) or self._gates.get(None)
            assert gate is None or gate.wait(PATIENCE), "an attempt was held and never released"
            return self._answer(operation, failure)


class SteppedScripted(Scripted):
    """Blocking, for a driver that can leave an attempt where it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._held: set[str | None] = set()
        self._left: list[tuple[str, Suspension, Callable[[], Any]]] = []

    def hold(self, name: str | None = None) -> None:
        self._held.add(name)

    def release(self, name: str | None = None) -> None:
        self._held = set() if name is None else self._held - {name}
        left, self._left = self._left, []
        for one, suspended, say in left:
            if name in (None, one):
                suspended.end(say)
            else:
                self._left.append((one, suspended, say))

    def execute(self, operation: Operation) -> Any:
        open_until_said = contextlib.ExitStack()
        failure = open_until_said.enter_context(self._attempt(operation))

        def say() -> Any:
            with open_until_said:
                return self._answer(operation, failure)

        name = operation.values["name"]
        if not self._held & {None, name}:
            return say()
        suspended = suspension()
        assert suspended is not None
        self._left.append((name, suspended, say))
        return suspended


class AsyncScripted(Script):
    """Of coroutines. An attempt that is told to be deaf does not end when it is cancelled."""

    deaf = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._held: set[str | None] = set()
        self._sleepers: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    def hold(self, name: str | None = None) -> None:
        self._held.add(name)

    def release(self, name: str | None = None) -> None:
        self._held = set() if name is None else self._held - {name}
        sleepers, self._sleepers = self._sleepers, []
        for one, loop, event in sleepers:
            if name not in (None, one):
                self._sleepers.append((one, loop, event))
                continue
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(event.set)

    async def execute(self, operation: Operation) -> Answer | dict[str, Any] | None:
        with self._attempt(operation) as failure:
            await self._until_released(operation.values["name"])
            await asyncio.sleep(0)
            return self._answer(operation, failure)

    async def _until_released(self, name: str) -> None:
        if not self._held & {None, name}:
            return
        event = asyncio.Event()
        self._sleepers.append((name, asyncio.get_running_loop(), event))
        while not event.is_set():
            try:
                await event.wait()
            except asyncio.CancelledError:
                if not self.deaf:
                    raise


# Time


class ByHand:
    """Time for a driver that only moves when it is told, and whose wake-ups are carried out by whoever moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.alarms: list[tuple[float, Callable[[], Iterable[Job]]]] = []
        self.news = threading.Condition()

    def now(self) -> float:
        return self.time

    def wake_at(self, when: float, call: Callable[[], Iterable[Job]]) -> Callable[[], None]:
        alarm = (when, call)
        with self.news:
            self.alarms.append(alarm)
            self.news.notify_all()
        return lambda: self.alarms.remove(alarm) if alarm in self.alarms else None

    def armed(self, within: float) -> bool:
        """Whether something will happen in so many seconds."""
        return any(when <= self.time + within for when, _ in self.alarms)

    def advance(self, seconds: float) -> None:
        ends = self.time + seconds
        while due := sorted((alarm for alarm in self.alarms if alarm[0] <= ends), key=lambda alarm: alarm[0]):
            self.alarms.remove(due[0])
            self.time = max(self.time, due[0][0])
            for job in due[0][1]():
                self.start(job)  # type: ignore[attr-defined]
        self.time = ends


class ThreadsByHand(ByHand, ThreadsDriver):
    """Worker threads, and time by hand."""


class AsyncioByHand(ByHand, AsyncioDriver):
    """An event loop, and time by hand."""


# Worlds


class World:
    """One dispatcher, in a world of blocking calls."""

    concurrent = True
    """Whether `save()` returns before the attempt ends, whatever the backend does."""
    holds = True
    """Whether it does where the backend holds the attempt."""
    patience = PATIENCE
    """As `PATIENCE`, in seconds of this world."""
    backend: Any
    driver: Any

    def __init__(self) -> None:
        self.dispatcher = Dispatcher(self.driver)
        self.events: list[SaveEvent] = []
        self._news = threading.Condition()

    def bind(self, **options: Any) -> type[Basket]:
        """A class of models that are saved in this world, and whose events are written down."""
        return baskets(self.backend, dispatcher=self.dispatcher, **options)

    def watch(self, model: Basket, *names: Any) -> None:
        """Write down these events of a model."""
        for name in names:
            model.chain.on(name, self._note)

    def _note(self, event: SaveEvent) -> None:
        self.events.append(event)
        self.stir()

    def heard(self, name: str) -> list[SaveEvent]:
        return [event for event in self.events if event.name == name]

    def stir(self) -> None:
        """Something has happened that a test may wait for."""
        with self._news:
            self._news.notify_all()

    # What a test body awaits

    async def end(self, *handles: Any) -> list[Any]:
        """Wait for these handles; returns their outcomes."""
        for handle in handles:
            if not handle.cancelled():
                handle.exception(self.patience)
        return [handle.outcome for handle in handles]

    async def flush(self) -> None:
        self.dispatcher.flush(self.patience)

    async def stuck(self) -> None:
        """Wait until nothing moves any more, because what is left is paused or halted."""
        with pytest.raises(Stuck, match="paused or halted"):
            await self.flush()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until events, or what `stir()` was called for, have made it so."""
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), "it never came to that"

    async def until_set(self, event: threading.Event) -> None:
        """Wait for an event of a test, which may come from any thread or loop."""
        assert await self.aside(partial(event.wait, PATIENCE)), "it never came to that"

    async def armed(self, within: float) -> None:
        """Wait until something will happen within so many seconds."""
        with self.driver.news:
            assert self.driver.news.wait_for(lambda: self.driver.armed(within), PATIENCE)

    def advance(self, seconds: float) -> None:
        self.driver.advance(seconds)

    async def aside(self, call: Callable[[], Any]) -> Any:
        """Make a blocking call where it may block."""
        return call()

    def play(self, body: Coroutine[Any, Any, None]) -> None:
        try:
            body.send(None)
        except StopIteration:
            return
        body.close()
        raise AssertionError("a body must not suspend in a world of blocking calls")

    def close(self) -> None:
        self.backend.release()
        self.dispatcher.close(PATIENCE)


class Inline(World):
    concurrent = holds = False

    def __init__(self) -> None:
        self.backend = Scripted()
        self.clock = VirtualClock()
        self.driver = InlineDriver(self.clock)
        self.clock.serve(self.driver)
        super().__init__()

    async def armed(self, within: float) -> None:
        """Whatever there was to do has been done already."""

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class Stepped(Inline):
    """One thread, as inline; but an attempt that is held is left where it is, and all seconds are virtual."""

    holds = True
    patience = 1_000.0

    def __init__(self) -> None:
        self.backend = SteppedScripted()
        self.clock = VirtualClock()
        self.driver = SteppedDriver(self.clock)
        World.__init__(self)


class Threads(World):
    def __init__(self) -> None:
        self.backend = Scripted()
        self.driver = ThreadsByHand()
        super().__init__()


class BackgroundLoop(World):
    def __init__(self) -> None:
        self.backend = AsyncScripted()
        self.driver = AsyncioByHand()
        super().__init__()


class RunningLoop(BackgroundLoop):
    """A program that is a coroutine itself: saves are asked for, and carried out, in its loop."""

    async def end(self, *handles: Any) -> list[Any]:
        for handle in handles:
            with contextlib.suppress(BaseException):
                async with asyncio.timeout(PATIENCE):
                    await handle
            assert handle.done()
        return [handle.outcome for handle in handles]

    async def flush(self) -> None:
        await asyncio.to_thread(self.dispatcher.flush, PATIENCE)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0)

    async def armed(self, within: float) -> None:
        await self.until(lambda: self.driver.armed(within))

    async def aside(self, call: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(call)

    def play(self, body: Coroutine[Any, Any, None]) -> None:
        async def played() -> None:
            try:
                await body
            finally:
                self.backend.release()
                await asyncio.to_thread(self.dispatcher.close, PATIENCE)

        asyncio.run(played())


WORLDS: dict[str, type[World]] = {
    "inline": Inline,
    "stepped": Stepped,
    "threads": Threads,
    "running-loop": RunningLoop,
    "background-loop": BackgroundLoop,
}


def everywhere(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Play a test body in every world."""
    return _in(WORLDS, body)


def where_things_happen_meanwhile(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Play a test body in the worlds where `save()` returns before the attempt ends."""
    return _in({name: kind for name, kind in WORLDS.items() if kind.concurrent}, body)


def where_attempts_can_be_held(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Play a test body in the worlds where `save()` returns while the backend holds the attempt."""
    return _in({name: kind for name, kind in WORLDS.items() if kind.holds}, body)


def where_calls_block(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Play a test body in the worlds whose backends have plain functions."""
    return _in({name: kind for name, kind in WORLDS.items() if not issubclass(kind, BackgroundLoop)}, body)


def _in(worlds: dict[str, type[World]], body: Callable[..., Any]) -> Callable[..., None]:
    @pytest.mark.parametrize("world", worlds.values(), ids=worlds.keys())
    @functools.wraps(body)
    def test(world: type[World], **fixtures: Any) -> None:
        played = world()
        try:
            played.play(body(played, **fixtures))
        finally:
            played.close()

    return test


def threads_of_ours(*, since: Iterable[threading.Thread] = ()) -> list[threading.Thread]:
    """Threads of the library that do not end by themselves, given a moment; not those that other tests have left."""
    known = set(since)
    ours = [one for one in threading.enumerate() if one.name.startswith("chained-models") and one not in known]
    for thread in ours:
        thread.join(5.0)
    return [thread for thread in ours if thread.is_alive()]
