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
        self._held = ledger.machine.held
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
        with self._deciding as ledger:
            waiting = [head for key in self._held if (head := _head(key)) is not None]
            if bool(waiting) is self._armed:
                return
            self._armed = bool(waiting)
            disarm, self._disarm = self._disarm, None
            now = ledger.machine.now
        if disarm is not None:
            disarm()
        if waiting and self._bound < math.inf:
            self._set(waiting[0], now + self._bound)

    def _set(self, save: Any, when: float) -> None:
        disarm = save.port.driver.wake_at(when, self._look)
        with self._deciding:
            late = not self._armed
            if not late:
                self._disarm = disarm
        if late:
            disarm()

    def _look(self) -> list[Job]:
        stuck: list[tuple[Any, list[Any]]] = []
        waiting: Any = None
        next_look = math.inf
        with self._deciding as ledger:
            now = ledger.machine.now
            for key, since in self._held.items():
                save = _head(key)
                if save is None or since == math.inf:
                    continue  # told already; it is watched again once it has moved
                if now >= since + self._bound:
                    self._held[key] = math.inf
                    stuck.append((save, reasons(save, now)))
                elif since + self._bound < next_look:
                    waiting, next_look = save, since + self._bound
        if waiting is not None:
            self._set(waiting, next_look)
        for save, parts in stuck:
            logger.warning("%s has not moved for %g s: it %s", save, self._bound, sentence(parts))
            self._tell(save)
        return []


def _head(key: Chain | LaneState[Chain]) -> Any:
    """The save that is held."""
    chain = next(iter(key.ready), None) if isinstance(key, LaneState) else key
    return None if chain is None else chain.active or chain.head
