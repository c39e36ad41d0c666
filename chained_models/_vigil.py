"""The Vigil: notices what cannot go on by itself, and says so when it has lasted too long.

One timer for all chains of a dispatcher, and none while nothing is held.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ._lane import LaneState
from ._ledger import Ledger
from ._machine import Chain
from ._why import reasons, sentence
from .protocols import Job

__all__ = ["Vigil"]

logger = logging.getLogger("chained_models")


class Vigil:
    """Looks after the chains and lanes that are held.

    Args:
        deciding: The dispatcher's lock.
        ledger: What it guards.
        bound: Seconds after which somebody is told.
        tell: Announces that a save is stuck.
    """

    def __init__(
        self,
        deciding: AbstractContextManager[Ledger],
        ledger: Ledger,
        bound: float,
        tell: Callable[[Any], None],
    ) -> None:
        self._deciding = deciding
        self._held, self._told = ledger.machine.held, ledger.machine.told
        self._bound = bound
        self._tell = tell
        self._armed = False
        self._disarm: Callable[[], object] | None = None

    @property
    def due(self) -> bool:
        """Whether there is something to arrange. Asked after every decision, without the lock: it may be wrong for once."""
        return bool(self._held) is not self._armed

    def arrange(self) -> None:
        """Set the timer if something is held, and take it back if nothing is."""
        with self._deciding:
            if not self.due:
                return
            self._armed = bool(self._held)
            waiting, when = self._next()
            disarm, self._disarm = self._disarm, None
        if disarm is not None:
            disarm()
        if waiting is not None:
            self._set(waiting, when)

    def renew(self) -> None:
        """The timer may have gone with its event loop: set another."""
        with self._deciding:
            self._armed = False
        if self.due:
            self.arrange()

    def _next(self) -> tuple[Any, float]:
        """A save that is held and of which was not told, and when to look after all of them."""
        since = min(self._held.values(), default=math.inf)
        return next(filter(None, map(_head, self._held)), None), since + self._bound

    def _set(self, save: Any, when: float) -> None:
        if when == math.inf:
            return
        disarm = save.port.driver.wake_at(when, self._look)
        with self._deciding:
            late = not self._armed
            if not late:
                self._disarm = disarm
        if late:
            disarm()

    def _look(self) -> list[Job]:
        with self._deciding as ledger:
            now = ledger.machine.now
            late = [key for key, since in self._held.items() if now >= since + self._bound]
            stuck = [(save, reasons(save, now)) for save in map(_head, late) if save is not None]
            for key in late:
                del self._held[key]  # it is watched again once it has moved
                self._told.add(key)
            self._armed = bool(self._held)
            waiting, when = self._next()
        if waiting is not None:
            self._set(waiting, when)
        for save, parts in stuck:
            logger.warning("%s has not moved for %g s: it %s", save, self._bound, sentence(parts))
            self._tell(save)
        return []


def _head(key: Chain | LaneState[Chain]) -> Any:
    """The save that is held; None if a chain that was ready is so no more."""
    chain = next(iter(key.ready), None) if isinstance(key, LaneState) else key
    return None if chain is None else chain.active or chain.head
