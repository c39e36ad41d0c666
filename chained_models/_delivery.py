"""Delivering: calls that are to be made in one particular thread, the one that owns a user interface or an event loop.

A call is put in line and the target is asked to come for it. If the target's thread happens to wait for something of ours
meanwhile, the calls are made there: by the blocking wait itself, or by the loop in which something awaits, if that is
another one than the target. If the target is closed or refuses, whoever put the call makes it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

logger = logging.getLogger("chained_models")


class Delivery:
    """The line of calls for one target.

    Args:
        post: Asks the target to call what it is given, soon, in its thread.
        thread: The target's thread, as far as is known; corrected when the target first comes.
        closed: Says whether the target will never come again.
        away: Says whether the target is at work in another thread than the one that asks.
        among: The deliveries of the same dispatcher.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], object],
        thread: int,
        closed: Callable[[], bool] = lambda: False,
        away: Callable[[], bool] = lambda: False,
        *,
        among: Deliveries | None = None,
    ) -> None:
        self._post = post
        self._closed = closed
        self._away = away
        self._among = Deliveries() if among is None else among
        self._calls: deque[Callable[[], None]] = deque()
        self.thread = thread

    def put(self, call: Callable[[], None]) -> None:
        """Have `call` made by the target; by this thread if the target is gone."""
        with self._among.lock:
            self._calls.append(call)
            self._among.filled[self] = None
        if self._closed():
            self._make_all_calls()
            return
        try:
            self._post(self._come)
        except Exception:
            logger.warning("a delivery target refused; its calls are made elsewhere", exc_info=True)
            self._make_all_calls()
            return
        self._among.wake(self)

    def make_calls(self) -> None:
        """Make the calls that wait, in this thread; not those that come meanwhile, or it might never end."""
        for _ in range(len(self._calls)):
            self._make_one()

    def take_over(self) -> None:
        """Make the calls that wait, if this is the thread for them."""
        if self.is_here:
            self.make_calls()

    def stand_in_for(self, other: Delivery) -> None:
        """Have the calls of another delivery made by this one's target, in whose thread they belong as well."""
        if other is not self:
            with contextlib.suppress(Exception):  # it is gone itself; then somebody else must wait for them
                self._post(other.take_over)

    def rescue(self, *, leaving: bool = False) -> None:
        """Make the calls of a target that will never come: it may be closed after it took one, and tells nobody.

        Args:
            leaving: The interpreter ends, and only targets that are at work will still come.
        """
        if self._calls and (self._closed() or (leaving and not self._away())):
            self.make_calls()

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    @property
    def is_here(self) -> bool:
        """Whether this is the thread for its calls. A loop may have gone on in another one, and not come yet."""
        return self.thread == threading.get_ident() and not self._away()

    def _make_all_calls(self) -> None:
        # Also after one that raises: nobody else comes for the others.
        interrupt: BaseException | None = None
        while self._calls:
            try:
                self.make_calls()
            except BaseException as raised:  # noqa: BLE001 - raised again when all have been made
                interrupt = interrupt or raised
        if interrupt is not None:
            raise interrupt

    def _come(self) -> None:
        self.thread = threading.get_ident()
        self._make_one()

    def _make_one(self) -> None:
        with self._among.lock:
            if not self._calls:
                return  # made already, by a wait in this thread
            call = self._calls.popleft()
            if not self._calls:
                del self._among.filled[self]
        call()


Wake: TypeAlias = Callable[[Delivery], object]


class Deliveries:
    """What the deliveries of one dispatcher have in common: which of them have calls, and who waits in their threads.

    Attributes:
        filled: Those that have calls, in the order in which they got them. Held here, because a loop that is gone takes its
            delivery with it, and the calls would be lost.
        lock: Guards all lines. Nothing is called while it is held.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # re-entrant for signal handlers
        self.filled: dict[Delivery, None] = {}
        self._sleepers: dict[int, dict[Wake, int]] = {}

    @property
    def has_calls(self) -> bool:
        """Whether there are calls to be made in this thread."""
        return any(delivery.is_here for delivery in self.with_calls())

    def make_calls(self) -> None:
        """Make the calls that are to be made in this thread, whichever loop they were left for."""
        for delivery in self.with_calls():
            delivery.take_over()

    def rescue(self, *, leaving: bool = False) -> None:
        """Make the calls of all targets that will never come."""
        for delivery in self.with_calls():
            delivery.rescue(leaving=leaving)

    def waking(self, wake: Wake) -> AbstractContextManager[None]:
        """While this context is open, `wake` is called with each delivery of this thread that gets a call.

        By whoever puts the call; once, however often it was given: a thousand may await in one loop.
        """
        return _Waking(self, wake)

    def standing_in(self, own: Delivery) -> AbstractContextManager[None]:
        """While this context is open, the target of `own` comes for all calls that are to be made in this thread."""
        return _Waking(self, own.stand_in_for, own)

    def add_sleeper(self, thread: int, wake: Wake) -> None:
        """From now on `wake` is called for that thread, too."""
        with self.lock:
            wakes = self._sleepers.setdefault(thread, {})
            wakes[wake] = wakes.get(wake, 0) + 1

    def remove_sleeper(self, thread: int, wake: Wake) -> None:
        """As before :meth:`add_sleeper`."""
        with self.lock:
            left = self._sleepers[thread]
            left[wake] -= 1
            if not left[wake]:
                del left[wake]
            if not left:
                del self._sleepers[thread]

    def wake(self, delivery: Delivery) -> None:
        """A call was put: tell who waits in its thread."""
        if self._sleepers:
            with self.lock:
                sleepers = list(self._sleepers.get(delivery.thread, ()))
            for wake in sleepers:
                wake(delivery)

    def with_calls(self) -> list[Delivery]:
        """Those that have calls now."""
        if not self.filled:
            return []
        with self.lock:
            return list(self.filled)


class _Waking:
    """A thread that waits, as a context. Not a generator: each wait has one, and some are over in a moment."""

    __slots__ = ("_among", "_own", "_thread", "_wake")

    def __init__(self, among: Deliveries, wake: Wake, own: Delivery | None = None) -> None:
        self._among = among
        self._wake = wake
        self._own = own

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._among.add_sleeper(self._thread, self._wake)
        if self._own is not None and self._among.filled:
            try:
                self._stand_in(self._own)
            except BaseException:
                self.__exit__()
                raise

    def _stand_in(self, own: Delivery) -> None:
        for delivery in self._among.with_calls():
            if delivery.is_here:
                own.stand_in_for(delivery)

    def __exit__(self, *_: object) -> None:
        self._among.remove_sleeper(self._thread, self._wake)
