"""Delivering: calls that are to be made in one particular thread, the one that owns a user interface or an event loop.

A call is put in line and the target is asked to come for it. If the target's thread happens to block in one of our waits,
it makes the calls there; if the target is closed or refuses, whoever put the call makes it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger("chained_models")


class Delivery:
    """The line of calls for one target.

    Args:
        post: Asks the target to call what it is given, soon, in its thread.
        thread: The target's thread, as far as is known; corrected when the target first comes.
        closed: Says whether the target will never come again.
    """

    def __init__(
        self, post: Callable[[Callable[[], None]], object], thread: int, closed: Callable[[], bool] = lambda: False
    ) -> None:
        self._post = post
        self._closed = closed
        self._calls: deque[Callable[[], None]] = deque()
        self._sleepers: set[threading.Condition] = set()
        self.thread = thread

    def put(self, call: Callable[[], None]) -> None:
        """Have `call` made by the target; by this thread if the target is gone."""
        self._calls.append(call)
        if self._closed():
            self._make_all_calls()
            return
        try:
            self._post(self._come)
        except Exception:
            logger.warning("a delivery target refused; its calls are made elsewhere", exc_info=True)
            self._make_all_calls()
            return
        for sleeper in list(self._sleepers):
            with sleeper:
                sleeper.notify_all()

    def make_calls(self) -> None:
        """Make the calls that wait, in this thread."""
        while self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:  # pragma: no cover - another thread took it
                return
            call()

    def rescue(self) -> None:
        """Make the calls of a target that will never come: it may be closed after it took one, and tells nobody."""
        if self._calls and self._closed():
            self.make_calls()

    def waking(self, condition: threading.Condition) -> _Waking:
        """While this context is open, `condition` is notified when a call is put."""
        return _Waking(self._sleepers, condition)

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

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
        try:
            call = self._calls.popleft()
        except IndexError:
            return  # made already, by a wait in this thread
        call()


class _Waking:
    __slots__ = ("_condition", "_sleepers")

    def __init__(self, sleepers: set[threading.Condition], condition: threading.Condition) -> None:
        self._sleepers = sleepers
        self._condition = condition

    def __enter__(self) -> None:
        self._sleepers.add(self._condition)

    def __exit__(self, *_: object) -> None:
        self._sleepers.discard(self._condition)
