"""Queues of any work for claims: ours, and the ported jQuery Message Queuing and CallQueue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from chained_models import CallChain, Dispatcher

from .by_hand import HandDriver
from .ports import CallQueue, JqmqQueue


class Turn:
    """One item (or batch) in the hands of the worker."""

    def __init__(self, item: Any, done: Callable[..., object], retry: Callable[[], object]) -> None:
        self.item = item
        self.running = True
        self._done = done
        self._retry = retry

    def done(self, *value: Any) -> None:
        self.running = False
        self._done(*value)

    def retry(self) -> None:
        self.running = False
        self._retry()


class Worked:
    """What all of them have: a worker that writes down what it is handed.

    Attributes:
        turns: Everything the worker was handed, in order.
        work: Called with each turn, in the worker.
        completions: How often it was told that all is done.
    """

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.work: Callable[[Turn], object] = lambda turn: None
        self.completions = 0

    @property
    def handed(self) -> list[Any]:
        """What the worker was handed."""
        return [turn.item for turn in self.turns]

    @property
    def running(self) -> list[Any]:
        """What the worker has in hand and has not ended."""
        return [turn.item for turn in self.turns if turn.running]

    def _hand(self, item: Any, done: Callable[..., object], retry: Callable[[], object]) -> Turn:
        turn = Turn(item, done, retry)
        self.turns.append(turn)
        self.work(turn)
        return turn

    def _completed(self, *_: Any) -> None:
        self.completions += 1


# What a callback raises goes to the browser's console.
_console = partial(contextlib.suppress, Exception)


class JqmqQueues(Worked):
    """The ported jQuery Message Queuing."""

    def __init__(
        self, *, manual: bool = False, delay: float = 0.0, batch: int = 1, timeout: float | None = None
    ) -> None:
        super().__init__()
        self._queue = JqmqQueue(self._callback, delay=-1 if manual else delay, batch=batch, complete=self._completed)

    def add(self, item: Any, *, urgent: bool = False) -> None:
        with _console():
            self._queue.add(item, urgent)

    def extend(self, items: list[Any]) -> None:
        with _console():
            self._queue.add_each(items)

    def pause(self) -> None:
        self._queue.pause()

    def resume(self) -> None:
        with _console():
            self._queue.start()

    def clear(self) -> None:
        self._queue.clear()

    def update(self, *, manual: bool | None = None, **options: Any) -> None:
        if manual is not None:
            options["delay"] = -1 if manual else options.get("delay", 0)
        self._queue.update(**options)

    def size(self) -> int:
        return self._queue.size()

    def index(self, item: Any) -> int:
        return self._queue.index_of(item)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with _console():
            self._queue.tick(seconds)

    def close(self) -> None:
        """Nothing is left behind."""

    def _callback(self, item: Any) -> bool:
        """A turn that asks for a retry at once does so by what the callback returns; later, by `next(true)`."""
        manual = self._queue.delay < 0
        returns, inside = False, True

        def retry() -> None:
            nonlocal returns
            if inside:
                returns = True
            else:
                self._queue.next(True)

        turn = self._hand(item, self._queue.next if manual else lambda: None, retry)
        inside = False
        if not manual:
            turn.running = False
        return returns


class CallQueues(Worked):
    """The ported CallQueue."""

    def __init__(self, *, timeout: float = 5.0) -> None:
        super().__init__()
        self._queue = CallQueue(timeout)

    def add(self, item: Any, *, name: str | None = None, timeout: float | None = None, replace: bool = False) -> Any:
        """Queue a call that hands `item` to the worker, or `item` itself if it is plain code; returns its id."""
        call = item if callable(item) else lambda: self._hand(item, self._queue.notify_completed, lambda: None)
        return self._queue.add(call, name=name, timeout=timeout, replace_if_exists=replace)

    def cancel(self, id: Any) -> None:
        self._queue.dequeue(id)

    def outcome(self, id: Any) -> str | None:
        """How a call ended, as far as the program can know."""
        return "completed" if id in self._queue.completed else None

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._queue.tick(seconds)

    @property
    def timers(self) -> int:
        """Timers that are running."""
        return int(self._queue.timer_runs)

    def close(self) -> None:
        """Nothing is left behind."""


class OurQueues(Worked):
    """A `CallChain`, as jQuery Message Queuing is used.

    Attributes:
        calls: The chain.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._driver = HandDriver()
        self._dispatcher = Dispatcher(self._driver)
        self._handles: dict[str, Any] = {}
        self.calls = CallChain(self._work, dispatcher=self._dispatcher, **options)
        self.calls.on("complete", self._completed)

    def add(self, item: Any, **options: Any) -> Any:
        handle = self.calls.add(item, **options)
        self._handles[handle.id] = handle
        return handle.id

    def extend(self, items: list[Any]) -> None:
        self.calls.extend(items)

    def pause(self) -> None:
        self.calls.pause()

    def resume(self) -> None:
        self.calls.resume()

    def clear(self) -> None:
        self.calls.clear()

    def update(self, **options: Any) -> None:
        self.calls.update(**options)

    def size(self) -> int:
        return len(self.calls)

    def index(self, item: Any) -> int:
        return self.calls.index(item)

    def cancel(self, id: Any) -> None:
        self.calls.cancel(id)

    def outcome(self, id: Any) -> str | None:
        """How a call ended."""
        outcome = self._handles[id].outcome
        return None if outcome is None else outcome.name

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._driver.advance(seconds)

    @property
    def timers(self) -> int:
        """Timers that are running."""
        return len(self._driver.alarms)

    def close(self) -> None:
        """Give up what is left."""
        self._dispatcher.close(0)

    def _work(self, item: Any, turn: Any = None) -> Any:
        if turn is not None:
            return self._hand(item, turn.done, turn.retry)
        self._hand(item, lambda: None, lambda: None).running = False
        return item


class OurCalls(OurQueues):
    """A `CallChain`, as CallQueue is used: every call says itself that it is done."""

    def __init__(self, *, timeout: float = 5.0, **options: Any) -> None:
        super().__init__(manual=True, timeout=timeout, **options)

    def add(self, item: Any, **options: Any) -> Any:
        """Plain code knows nothing of turns, so it is done when it returns."""
        call = partial(_plain_code, item) if callable(item) else item
        return super().add(call, **options)


def _plain_code(code: Callable[[], object], turn: Any) -> None:
    turn.done(code())
