"""The Pace: how the calls of one CallChain follow each other. Pure.

Kept by the CallChain itself, for a rest goes on although the machine has already forgotten an empty chain. A chain of saves
has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ._states import SaveState
from .policies import FailureRule

__all__ = ["CallOptions", "Pace", "Rest", "Unrest"]


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What was asked for; replaced as a whole, so that nobody sees half of a change.

    Attributes:
        delay: Seconds from the end of one attempt to the start of the next.
        batch: Most items in one attempt.
        manual: Whether an attempt ends only when its turn is settled.
        timeout: Seconds that an attempt has, unless the call says otherwise; infinity for as long as it takes.
        copy: Whether items are copied when they are added.
        on_failure: What the chain does after a failure.
    """

    delay: float = 0.0
    batch: int = 1
    manual: bool = False
    timeout: float = math.inf
    copy: bool = True
    on_failure: FailureRule | None = None


class Pace:
    """What the machine keeps of a chain of calls while that is empty, and what it reads at each start."""

    __slots__ = ("ends", "options", "resting", "unrest", "waking")

    def __init__(self, options: CallOptions) -> None:
        self.options = options
        self.ends = -math.inf
        """When the rest is over; a rest under way keeps its length, whatever becomes of the options."""
        self.resting = False
        """Whether nothing may start, as far as the machine has looked."""
        self.waking = 0
        """The token of the wake-up that will come when the rest is over; 0 if nothing waits for it."""
        self.unrest: Callable[[], object] = lambda: None
        """Says that nobody need come."""

    def rest(self, now: float) -> None:
        """An attempt is over."""
        self.ends = now + self.options.delay

    def gather(self, line: Iterable[Any], leader: Any) -> None:
        """Decide how the attempt that starts now is made, and with whom: what is changed later is for the next one.

        Args:
            line: The chain, from `leader` on.
            leader: The call whose turn has come. One that was attempted before keeps its company.
        """
        options = self.options
        leader.manual, leader.on_failure = options.manual, options.on_failure
        if not leader.attempts:
            leader.listed = options.batch > 1 and not leader.alone
            leader.riders = list(_company(line, options.batch)) if leader.listed else ()
        given = (one.given_timeout for one in (leader, *leader.riders))
        leader.timeout = min(options.timeout if own is None else own for own in given)

    def look(self, now: float, *, waited_for: bool) -> float | None:
        """Look at the clock; returns how long the rest still goes on, if it does and something waits for its end."""
        self.resting = self.ends > now
        return self.ends - now if self.resting and waited_for else None


def _company(line: Iterable[Any], most: int) -> Iterable[Any]:
    """Who is carried out together with the first of `line`: those right behind it, up to one that must be alone."""
    for one in islice(line, 1, most):
        if one.alone or one.state is not SaveState.QUEUED:
            return
        yield one


@dataclass(slots=True, frozen=True)
class Rest:
    """Call :meth:`Machine.rested` with these, `delay` seconds from now."""

    save: Any
    """The one that waits; any of the chain would do."""
    token: int
    delay: float


@dataclass(slots=True, frozen=True)
class Unrest:
    """Nothing waits any more: nobody need come."""

    say: Callable[[], object]
