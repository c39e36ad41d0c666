"""The only lock of the scheduling."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._ledger import Ledger
from .exceptions import WouldDeadlock

__all__ = ["Deciding"]


class Deciding:
    """The lock: ``with engine.deciding as ledger``. The ledger knows the time inside.

    Knows when its own thread comes a second time (a signal handler, a finalizer), and refuses: letting it in would show it
    half-moved state; a plain lock would hang for ever.
    """

    __slots__ = ("_acquire", "_clock", "_inside", "_ledger", "_machine", "_release")

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        lock = threading.RLock()
        # Kept, for every save passes here several times.
        self._acquire, self._release = lock.acquire, lock.release
        self._inside = False
        self._ledger = ledger
        self._machine = ledger.machine
        self._clock = clock

    def __enter__(self) -> Ledger:
        self._acquire()
        try:
            if self._inside:
                raise WouldDeadlock(
                    "called from a signal handler or a finalizer while the dispatcher was at work; hand it to a thread"
                )
            self._machine.now = self._clock()
        except BaseException:  # also what the clock raises: without __exit__ the lock would be held for ever
            self._release()
            raise
        self._inside = True
        return self._ledger

    def __exit__(self, *_: object) -> None:
        gone = self._ledger.gone
        if gone:
            self._ledger.gone = []
        self._inside = False
        self._release()
        # And here `gone` goes.
