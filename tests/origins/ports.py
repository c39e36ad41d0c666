"""The four originals in Python, their defects included: what our tests are shown to notice.

Our own code, written from how the originals behave. Nothing in here waits or runs by itself: a request goes out through
`send(method, values, done, failed)`, which calls one of the two when somebody says so, and time passes with `tick()`.
What is wrong in the original is wrong here, and marked with the name of the trap.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

Send = Callable[[str, dict[str, Any], Callable[..., None], Callable[[Any], None]], None]


# Backbone.js, and the model with chained saves


class BackboneModel:
    """A model without a chain: attributes, validation, events, and requests that all go out at once."""

    def __init__(self, send: Send, **attributes: Any) -> None:
        self.send = send
        self.attributes: dict[str, Any] = attributes
        self._receivers: list[tuple[str, Callable[..., object]]] = []
        self._listening: list[tuple[str, Callable[..., object]]] = []

    def validate(self, attributes: dict[str, Any]) -> str | None:
        """For subclasses: what is wrong with these attributes, or None."""
        return None

    @property
    def is_new(self) -> bool:
        return self.attributes.get("id") is None

    def on(self, event: str, receiver: Callable[..., object]) -> None:
        self._receivers.append((event, receiver))

    def listen(self, event: str, receiver: Callable[..., object]) -> None:
        """As `on`, until `stop_listening`."""
        self._listening.append((event, receiver))

    def stop_listening(self) -> None:
        self._listening.clear()

    def trigger(self, event: str, *facts: Any) -> None:
        # CH8: the first receiver that raises keeps all others from hearing it.
        for name, receiver in [*self._listening, *self._receivers]:
            if name == event:
                receiver(*facts)

    def set(self, attributes: dict[str, Any], *, validate: bool = False) -> bool:
        if validate and self.validate({**self.attributes, **attributes}) is not None:
            return False
        self.attributes.update(attributes)
        return True

    def save(
        self,
        attributes: dict[str, Any] | None = None,
        *,
        success: Callable[..., object] | None = None,
        error: Callable[..., object] | None = None,
    ) -> Any:
        # CH1: what is not valid ends here, with False and without an event.
        if not self.set(attributes or {}, validate=True):
            return False

        def done(answer: dict[str, Any] | None = None) -> None:
            # AN1: the answer overwrites whatever was edited while it was on its way.
            # CH1, AN14: an answer that is not valid here ends without an event, although it was stored.
            if answer and not self.set(answer, validate=True):
                return
            if success is not None:  # CH1: one that raises keeps the event from being triggered
                success(self)
            self.trigger("sync", self)

        def failed(reason: Any) -> None:
            if error is not None:  # CH8: as above
                error(self, reason)
            self.trigger("error", self, reason)

        # AL1: new until an answer says otherwise, so whoever saves twice creates twice.
        self.send("create" if self.is_new else "update", self.attributes, done, failed)
        return True

    def fetch(self) -> Any:
        def done(answer: dict[str, Any] | None = None) -> None:
            self.set(answer or {})  # AN8: the old state over the new values
            self.trigger("sync", self)

        self.send("read", self.attributes, done, lambda reason: self.trigger("error", self, reason))
        return True

    def destroy(self, *, success: Callable[..., object] | None = None) -> Any:
        # AL2, AL14: what is new has nothing to delete, also while its create is on its way. And nobody is told.
        self.stop_listening()
        if self.is_new:
            return False

        def done(answer: dict[str, Any] | None = None) -> None:
            if success is not None:
                success(self)
            self.trigger("sync", self)

        self.send("delete", self.attributes, done, lambda reason: self.trigger("error", self, reason))
        return True


class BackboneChainedModel(BackboneModel):
    """The model with chained saves: one save in flight, the others queued as copies, drained on `sync` or `error`."""

    chain: ClassVar[list[tuple[dict[str, Any], dict[str, Any]]]] = []  # SN4: one for all instances
    is_saving = False

    def __init__(self, send: Send, **attributes: Any) -> None:
        super().__init__(send, **attributes)
        # CH1: until `stop_listening`, which a delete calls.
        self.listen("sync", self._completed)
        self.listen("error", self._completed)

    def save(self, attributes: dict[str, Any] | None = None, **options: Any) -> Any:
        if not self.is_saving:
            self.is_saving = True  # CH1: also if the next line sends nothing
            return super().save(attributes, **options)
        self.attributes.update(attributes or {})
        self.chain.append((self.copied(), options))
        return False  # SN19: what it also says of an invalid model

    def copied(self) -> dict[str, Any]:
        """What is queued."""
        return dict(self.attributes)  # SN1: lists and dicts in it are shared

    def _completed(self, *_: Any) -> None:
        # CH2: whatever has been completed. A fetch, for one.
        self.is_saving = False
        if self.chain:
            attributes, options = self.chain.pop(0)
            # AN6: sets the model back to what it was when this was queued.
            # CH5: from within the event of the save before; if answers come at once, one frame in another.
            self.save(attributes, **options)


class WholeCopyModel(BackboneChainedModel):
    """The usual cure for shared lists: a deep copy of the model itself is queued."""

    def copied(self) -> dict[str, Any]:
        return copy.deepcopy(self).attributes  # SN2: and of all that hangs on it


class RollingBackModel(BackboneChainedModel):
    """The usual cure for refused saves: if one fails, what was there before it is put back."""

    def save(self, attributes: dict[str, Any] | None = None, **options: Any) -> Any:
        before = dict(self.attributes)
        # AN6: what was there before is not what is stored, and what came after is lost.
        options.setdefault("error", lambda *_: self.attributes.update(before))
        return super().save(attributes, **options)


# jQuery Message Queuing


class JqmqQueue:
    """A queue of any items, one (or a batch) at a time: every `delay` ticks, or when `next()` is called (`delay=-1`)."""

    def __init__(
        self,
        callback: Callable[[Any], Any],
        *,
        delay: float = 100,
        batch: int = 1,
        complete: Callable[[], object] | None = None,
        paused: bool = False,
    ) -> None:
        self.callback = callback
        self.delay = delay
        self.batch = batch
        self.complete = complete
        self.paused = paused
        self.queue: list[Any] = []
        self.recent: list[Any] = []
        self.timer: float | None = None
        self.busy = False

    def add(self, item: Any, priority: bool = False) -> int:
        return self.add_each([item], priority)

    def add_each(self, items: Iterable[Any], priority: bool = False) -> int:
        added = list(items)  # SN1: the items themselves, whatever becomes of them before their turn
        # CH24: with priority also ahead of one that is to be retried.
        self.queue = added + self.queue if priority else self.queue + added
        if not self.paused:
            self.start()
        return self.size()

    def start(self) -> None:
        self.paused = False
        if self.queue and not self.busy:
            self._execute()

    def pause(self) -> None:
        self.paused = True

    def clear(self) -> list[Any]:
        cleared, self.queue = self.queue, []
        self.timer, self.busy = None, False  # CH9: although an item may be out
        return cleared

    def update(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)

    def size(self) -> int:
        return len(self.queue)  # CH23: without those that are out

    def index_of(self, item: Any) -> int:
        return self.queue.index(item) if item in self.queue else -1

    def next(self, retry: bool = False) -> None:
        # CH2: whoever calls, and however often, the next item goes out.
        if retry:
            self.queue = self.recent + self.queue
        self.recent, self.busy = [], False
        if not self.queue:
            if self.complete is not None:
                self.complete()  # CH24: also if it was cleared, or is paused
        elif not self.paused:
            self._execute()

    def _execute(self) -> None:
        self.busy = True
        self.recent, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        out = self.recent
        # CH8: one that raises leaves it busy, without a timer. CH5: `next()` in here is one frame in another.
        again = self.callback(out[0] if self.batch == 1 else out)
        if self.recent is not out:
            return  # `next()` was called
        if again is True:
            self.queue = out + self.queue  # CH14: and that is all, if `next()` is never called
            self.recent = []
        if self.delay >= 0 and self.busy:  # CH24: as it is now, not as it was when the item was handed out
            self.timer = self.delay

    def tick(self, passed: float) -> None:
        """Let time pass."""
        while self.timer is not None and self.timer <= passed:
            passed -= self.timer
            self.timer = None
            self.next()
        if self.timer is not None:
            self.timer -= passed


# SequentialServiceQueue (CallQueue)


class QueuedCall:
    """One entry of a `CallQueue`."""

    def __init__(self, id: int, name: str | None, call: Callable[[], object], timeout: float) -> None:
        self.id = id
        self.name = name
        self.call = call
        self.timeout = timeout
        self.executing = False


class CallQueue:
    """Calls with ids and names, one at a time; each until `notify_completed()` or until its time is over."""

    def __init__(self, timeout: float = 5.0) -> None:
        self.timeout = timeout
        self.calls: list[QueuedCall] = []
        self.completed: list[int] = []
        self.timer_runs = False
        self._ids = itertools.count(1)

    def add(
        self,
        call: Callable[[], object],
        *,
        name: str | None = None,
        timeout: float | None = None,
        replace_if_exists: bool = False,
    ) -> int:
        entry = QueuedCall(next(self._ids), name, call, self.timeout if timeout is None else timeout)
        known = [i for i, other in enumerate(self.calls) if other.name == name]
        if replace_if_exists and known:
            self.calls[known[0]] = entry  # AL13: also the one that is executing
        else:
            self.calls.append(entry)
        self._schedule()
        return entry.id

    def dequeue(self, id: int) -> None:
        self.calls = [entry for entry in self.calls if entry.id != id]  # CH13: also the one that is executing
        self._schedule()

    def notify_completed(self) -> None:
        # CH2: completes whatever is executing now, whoever says so.
        if self.calls and self.calls[0].executing:
            self._end(self.calls[0])

    def tick(self, passed: float) -> None:
        """Let time pass, up to the end of one call."""
        if self.timer_runs and self.calls:
            head = self.calls[0]
            head.timeout -= passed
            if head.timeout <= 0:
                self._end(head)

    def _end(self, entry: QueuedCall) -> None:
        self.completed.append(entry.id)  # CH25: in time or not
        self.calls.remove(entry)
        self._schedule()

    def _schedule(self) -> None:
        self.timer_runs = bool(self.calls)
        if self.calls and not self.calls[0].executing:
            self.calls[0].executing = True
            self.calls[0].call()


# RequestController


class PendingRequest:
    """One request of a `RequestController`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.age = 0.0


class RequestController:
    """Requests side by side, until `max_long` of them are pending longer than `long_after`: then new ones queue."""

    requests: ClassVar[list[PendingRequest]] = []  # LN1: of all controllers, whatever server they talk to

    def __init__(
        self, send: Send, *, long_after: float, max_long: int, warn: Callable[[str], object] = lambda words: None
    ) -> None:
        self.send = send
        self.long_after = long_after
        self.max_long = max_long
        self.warn = warn
        self.queue: list[PendingRequest] = []
        self.was_congested = False

    @property
    def long(self) -> list[PendingRequest]:
        # LN1: also those that only wait in the queue.
        return [request for request in self.requests if request.age > self.long_after]

    @property
    def congested(self) -> bool:
        return len(self.long) >= self.max_long  # LN1: one threshold for both ways

    def ajax(self, name: str) -> None:
        request = PendingRequest(name)
        self.requests.append(request)
        if self.congested:
            self.warn("congested")  # LN1: for each request
            self.queue.append(request)
        else:
            self._send(request)

    def tick(self, passed: float) -> None:
        """Let time pass."""
        for request in self.requests:
            request.age += passed
        self._look()

    def _look(self) -> None:
        if self.congested != self.was_congested:
            self.was_congested = self.congested
            self.warn("congested" if self.congested else "recovered")

    def _send(self, request: PendingRequest) -> None:

        def done(answer: Any = None) -> None:
            was_long = request in self.long
            self.requests.remove(request)
            self._look()
            # LN2: a place as a request, and one more as a long one.
            for _ in range(2 if was_long else 1):
                self._send_next()

        def failed(reason: Any = None) -> None:
            self.requests.remove(request)  # LN2: and nobody takes its place
            self._look()

        self.send("create", {"name": request.name}, done, failed)

    def _send_next(self) -> None:
        if self.queue:
            self._send(self.queue.pop(0))
