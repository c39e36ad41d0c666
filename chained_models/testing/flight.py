"""One attempt, as the scripted backend has seen it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..exceptions import InDoubt
from ..operation import Answer, Operation
from .driver import Suspension

if TYPE_CHECKING:
    from .backend import ScriptedBackend

__all__ = ["Flight", "sleep_all"]


class Flight:
    """One attempt, as the backend has seen it. While it is held, a test decides how it goes on.

    Attributes:
        operation: What was asked for, as it was then.
        began: When the attempt began, as a tick of the backend.
        arrived: How often the request has reached the backend.
        applied: When it took effect: once, unless the network delivered it twice; never, if it was refused.
        ended: When the attempt got its answer or its error; None while it is held.
        error: What the attempt got instead of an answer.
        company: All that came in the same call, this one included, in their order; only this one if it came alone. The
            client hears of none of them before the last has ended.
    """

    def __init__(self, backend: ScriptedBackend, operation: Operation) -> None:
        self.operation = dataclasses.replace(operation)
        self.began = backend.tick()
        self.arrived = 0
        self.applied: list[int] = []
        self.ended: int | None = None
        self.error: BaseException | None = None
        self.seconds: float | None = None
        """After so many seconds it is answered by itself; None for never."""
        self.company: tuple[Flight, ...] = (self,)
        self._backend = backend
        self._reply: Callable[[], Answer] | None = None
        self._answer: Answer | None = None
        self._over = threading.Event()
        self._wakers: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        operation = self.operation
        how = "held" if self.ended is None else "answered" if self.error is None else type(self.error).__name__
        applied = f", applied {len(self.applied)} times" if len(self.applied) != 1 else ", applied"
        return f"<Flight {operation.method.value} {operation.seq} of {operation.key}, attempt {operation.attempt}: {how}{applied}>"

    @property
    def held(self) -> bool:
        """Whether it has not ended."""
        return self.ended is None

    def apply(self) -> None:
        """The request reaches the backend, whatever becomes of the answer. A second time, if it was there already."""
        reply = self._backend.carry_out(self)
        self.arrived += 1
        if self._reply is None:
            self._reply = reply

    def answer(self) -> None:
        """The answer (or the refusal) reaches the client; the request is applied first, if it was not. Nothing if it ended."""
        if not self.held:
            return
        if self._reply is None:
            self.apply()
        reply = self._reply
        assert reply is not None
        try:
            answer = reply()
        except BaseException as error:  # noqa: BLE001 - the client gets what the backend raised
            self._end(None, error)
        else:
            self._end(answer, None)

    def fail(self, error: BaseException) -> None:
        """The client gets this error; the request is not applied, unless it was."""
        self._end(None, error)

    def lose(self, error: BaseException | None = None) -> None:
        """The request is applied, if it was not; the client never learns of it, and gets this error (default: InDoubt)."""
        if self.held and self._reply is None:
            self.apply()
        self._end(None, InDoubt("the answer was lost") if error is None else error)

    def drop(self) -> None:
        """The request is lost on the way; the client cannot know, and gets InDoubt."""
        self._end(None, InDoubt("the request was lost"))

    def _end(self, answer: Answer | None, error: BaseException | None) -> None:
        with self._backend.lock:
            if self.ended is not None:
                return
            self.ended = self._backend.tick()
            self._answer, self.error = answer, error
            wakers, self._wakers = self._wakers, []
        self._over.set()
        for wake in wakers:
            wake()

    def say(self) -> Answer:
        """What the attempt gets."""
        if self.error is not None:
            raise self.error
        assert self._answer is not None
        return self._answer

    def heard(self) -> None:
        """The client hears of its end only now, because others came in the same call."""
        if len(self.company) > 1:
            self.ended = self._backend.tick()

    # Until it has ended

    def when_over(self, wake: Callable[[], object]) -> None:
        """Call `wake` when it has ended, at once if it has."""
        with self._backend.lock:
            if self.ended is None:
                self._wakers.append(wake)
                return
        wake()

    def suspend(self, suspended: Suspension) -> None:
        """Leave the attempt to the driver until it has ended, by virtual time."""
        self.end_by_itself(suspended)
        self.when_over(lambda: suspended.end(self.say))

    def end_by_itself(self, suspended: Suspension) -> None:
        """Be answered when its time has come, if it has one."""
        if self.seconds is not None:
            suspended.after(self.seconds, self.answer)

    def block(self, waited: float = 0.0) -> None:
        """Hold the thread until it has ended, by real time; so many seconds of which have passed."""
        if not self._over.wait(None if self.seconds is None else max(0.0, self.seconds - waited)):
            self.answer()

    async def sleep(self) -> None:
        """Hold the coroutine until it has ended, by real time."""
        import asyncio

        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        self.when_over(lambda: loop.is_closed() or loop.call_soon_threadsafe(over.set))
        try:
            await asyncio.wait_for(over.wait(), self.seconds)
        except TimeoutError:
            self.answer()


async def sleep_all(flights: Iterable[Flight]) -> None:
    """Hold the coroutine until all of them have ended."""
    import asyncio

    await asyncio.gather(*(flight.sleep() for flight in flights))
