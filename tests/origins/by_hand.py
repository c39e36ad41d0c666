"""A wire and a driver that a test holds in its hand: nothing is answered, and no time passes, unless the test says so."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from chained_models import Guarantee, Lane, Operation
from chained_models.protocols import Job

from ..contract.scripted import ByHand


class Flight:
    """One request on its way, and what was in it when it was sent."""

    def __init__(
        self, method: str, values: dict[str, Any], done: Callable[..., Any], failed: Callable[..., Any]
    ) -> None:
        self.method = method
        self.values = copy.deepcopy(values)
        self.done = done
        self.failed = failed


class Wire:
    """Where requests go, of the originals (`send`) and of ours (`execute`): they are in flight until they are answered.

    Attributes:
        sent: Every request, in order.
        flying: Those not yet answered.
        raised: What callbacks raised; a browser writes it to its console, and goes on.
        at_once: Whether requests are answered as soon as they are sent.
    """

    guarantee = Guarantee.PLAIN

    def __init__(self, *, lane: Lane | None = None) -> None:
        self.lane = Lane() if lane is None else lane
        self.sent: list[Flight] = []
        self.flying: list[Flight] = []
        self.raised: list[Exception] = []
        self.at_once = False
        self._identity = 0

    @property
    def methods(self) -> list[str]:
        return [flight.method for flight in self.sent]

    @property
    def titles(self) -> list[str]:
        return [flight.values["title"] for flight in self.sent]

    def send(self, method: str, values: dict[str, Any], done: Callable[..., Any], failed: Callable[..., Any]) -> None:
        flight = Flight(method, values, done, failed)
        self.sent.append(flight)
        self.flying.append(flight)
        if self.at_once:
            self.answer()

    async def execute(self, operation: Operation) -> Any:
        return await _Held(self, operation)

    def answer(self, which: str | Flight | None = None, **values: Any) -> None:
        """Answer the oldest request (of that method), or this one; a create with an identity. Else nothing happens."""
        flight = self._taken(which)
        if flight is None:
            return
        if flight.method == "create":
            self._identity += 1
            values.setdefault("id", self._identity)
        self._call(flight.done, values)

    def refuse(self, error: Exception, which: Flight | None = None) -> None:
        """Let the oldest request, or this one, fail."""
        flight = self._taken(which)
        assert flight is not None
        self._call(flight.failed, error)

    def answer_all(self) -> None:
        while self.flying:
            self.answer()

    def _taken(self, which: str | Flight | None) -> Flight | None:
        flight = next((one for one in self.flying if which in (None, one, one.method)), None)
        if flight is not None:
            self.flying.remove(flight)
        return flight

    def _call(self, callback: Callable[[Any], object], said: Any) -> None:
        try:
            callback(said)
        except Exception as error:
            self.raised.append(error)


class _Held:
    """Awaited by an attempt: sends, and gives what is answered."""

    def __init__(self, wire: Wire, operation: Operation) -> None:
        self._wire = wire
        self._operation = operation

    def __await__(self) -> Generator[_Held, Any, Any]:
        return (yield self)

    def send(self, resume: Callable[[Callable[[], Any]], None]) -> None:
        """Send it; `resume` takes what the attempt is to get: a function that returns the answer, or raises."""
        wire, operation = self._wire, self._operation
        values = {**operation.values, "id": operation.identity}
        wire.send(
            operation.method.value,
            values,
            lambda answer: resume(lambda: answer),
            lambda error: resume(partial(_throw, error)),
        )


class HandDriver(ByHand):
    """Runs coroutines up to where they wait for the wire, and goes on when that answers. Time moves with `advance()`."""

    overlaps = True

    def __init__(self) -> None:
        super().__init__()
        self.lost: Callable[[], None] = lambda: None
        self._steps: deque[Callable[[], None]] = deque()
        self._working = False

    def supports(self, backend: Any) -> bool:
        return True

    def claim(self) -> None:
        """Nothing to claim."""

    def owns_thread(self) -> bool:
        return self._working

    def start(self, *jobs: Job) -> None:
        self._soon(*(partial(self._begin, job) for job in jobs))

    def help(self) -> float | None:
        return None

    def wait(self, condition: Any, seconds: float | None) -> None:
        raise AssertionError("nothing would ever end this wait: time moves by hand")

    def skip_ahead(self, seconds: float) -> bool:
        return False

    def rest(self) -> None:
        """Nothing runs by itself."""

    def close(self) -> None:
        self.alarms.clear()

    def after_fork(self) -> None:
        """No test of this driver forks."""

    def _soon(self, *steps: Callable[[], None]) -> None:
        self._steps.extend(steps)
        if self._working:
            return
        self._working = True
        try:
            while self._steps:
                self._steps.popleft()()
        finally:
            self._working = False

    def _begin(self, job: Job) -> None:
        steps = job.steps()
        self._step(job, steps, partial(next, steps))

    def _step(self, job: Job, steps: Any, enter: Callable[[], Any]) -> None:
        """Enter the steps, and carry out what they ask for."""
        try:
            call, _ = job.context.run(enter)
        except StopIteration as stop:
            self.start(*stop.value)
            return
        self._go(job, steps, call)

    def _go(self, job: Job, steps: Any, call: Callable[[], Any]) -> None:
        """Make a call, of either colour, and go on with the steps, now or when the wire has answered."""
        try:
            result = job.context.run(call)
            if inspect.iscoroutine(result):
                coroutine = result
                try:
                    held = job.context.run(coroutine.send, None)
                except StopIteration as stop:
                    result = stop.value
                else:
                    held.send(
                        lambda said: self._soon(partial(self._go, job, steps, partial(_resumed, coroutine, said)))
                    )
                    return
        except BaseException as error:
            self._step(job, steps, partial(steps.throw, error))
        else:
            self._step(job, steps, partial(steps.send, result))


def _resumed(coroutine: Any, said: Callable[[], Any]) -> Any:
    """The end of a coroutine that has waited, and waits no more."""
    try:
        answer = said()
    except BaseException as error:
        resume = partial(coroutine.throw, error)
    else:
        resume = partial(coroutine.send, answer)
    with contextlib.closing(coroutine):
        try:
            resume()
        except StopIteration as stop:
            return stop.value
    raise AssertionError("one request for each attempt")


def _throw(error: BaseException) -> Any:
    raise error
