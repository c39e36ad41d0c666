"""What is looked up in a history: saves, ends and attempts by the id of the save."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ..operation import Guarantee
from .history import Attempt, Ending, History, Save

__all__ = ["NEVER", "Lookup"]

NEVER = float("inf")


class Lookup:
    """One history, and what is looked up in it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.saves = {save.id: save for save in history.saves}
        self.ends: dict[str, Ending] = {}
        for ending in history.endings:
            self.ends.setdefault(ending.save, ending)
        self.attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in history.attempts:
            self.attempts[attempt.save].append(attempt)
        self.knows_keys = bool(history.guarantee & (Guarantee.IDEMPOTENT | Guarantee.TRANSACTIONAL))

    def settled(self, id: str) -> float:
        """The tick at which it was settled."""
        ending = self.ends.get(id)
        return NEVER if ending is None else ending.tick

    def line(self, save: Save, *, by_hand: bool = True) -> Iterator[Save]:
        """The save, and those that it goes on for.

        Args:
            save: Where to begin.
            by_hand: Also those that were sent again by hand.
        """
        one: Save | None = save
        while one is not None:
            yield one
            one = self.saves.get(one.instead_of or "") if by_hand or not one.by_hand else None

    def name(self, id: str) -> str:
        """A save, in a message."""
        save = self.saves.get(id)
        return id if save is None else f"{save.verb} {save.number} of chain {save.chain}"
