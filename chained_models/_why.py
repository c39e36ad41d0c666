"""Why a save waits, as one plain sentence.

The parts are collected under the dispatcher's lock and put into words outside it, for words contain identities, and how
those are written is the user's code.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from ._dependencies import final
from ._states import SaveState

__all__ = ["reasons", "sentence"]

DEPTH = 8
"""As many saves are named, one waiting for the next; whoever reads on knows where to look."""

Parts = list[Any]


class _Until:
    """A moment some seconds from now, by the clock on the wall."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(0.0, seconds)

    def __str__(self) -> str:
        try:
            moment = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=self.seconds)
        except OverflowError:  # a policy may wait for longer than there are years
            return f"{self.seconds:.1f} s from now"
        return f"{moment:%H:%M:%S} ({self.seconds:.1f} s from now)"


def sentence(parts: Iterable[Any]) -> str | None:
    """The words, a predicate: "is held: ..."; None if there is nothing to wait for."""
    return "".join(str(part) for part in parts) or None


def reasons(save: Any, now: float) -> Parts:
    """Why `save` has not ended, as parts of a sentence; with the lock held.

    Args:
        save: Any handle.
        now: The time of its driver.
    """
    parts: Parts = []
    for _ in range(DEPTH):
        words, behind = _reason(save, now)
        parts += words
        if behind is None:
            return parts
        parts += [behind, ", which "]
        save = behind
    return [*parts, "waits in turn"]


def _reason(save: Any, now: float) -> tuple[Parts, Any]:
    """What `save` waits for: words, and another save that they end in, if it is one."""
    if save.superseded_by is not None and not save.done():
        return ["is replaced by "], final(save)
    if save.outcome is not None or save.chain is None:
        return [] if save.done() else ["has ended, and its receivers are being told"], None
    if save.state is SaveState.PREPARING:
        return ["is being prepared: its snapshot is not taken yet"], None
    chain, lane = save.chain, save.chain.lane
    if lane.holds(save) or (chain.active is not None and lane.holds(chain.active) and save in chain.active.riders):
        return _attempting(save, now), None
    head = chain.active or chain.head
    if head is not save:
        return ["is queued behind "], head
    if chain.finishing is not None:
        return ["waits for the receivers of ", chain.finishing], None
    if save.state is not SaveState.QUEUED and not save.due:
        return [f"is backing off after attempt {save.attempts} until ", _Until(save.wakes - now)], None
    if chain.pace is not None and chain.pace.resting:
        return ["rests until ", _Until(chain.pace.ends - now)], None
    if chain.paused:
        return ["is held: its chain is paused until resume()"], None
    if chain.halted is not None and not save.passes_halt:
        failure = "" if chain.halted.error is None else f" ({type(chain.halted.error).__name__})"
        return ["is held: its chain was halted by ", chain.halted, f"{failure}; use retry(), skip() or clear()"], None
    if save.waits:
        awaited = next((parent for parent in map(final, save.after) if not parent.done()), None)
        if awaited is not None and awaited._host is not save._host:
            # What that one waits for is under another lock; its own handle tells.
            return ["waits for ", awaited, ", of another dispatcher"], None
        if awaited is not None:
            return ["waits for "], awaited
    return ["is about to start" if lane.why is None else f"waits for its lane, which is {lane.why}"], None


def _attempting(save: Any, now: float) -> Parts:
    since = max(0.0, now - save.started)
    if save.state is SaveState.IN_DOUBT:
        return [f"is over its time, and attempt {save.attempts} still runs after {since:.1f} s"]
    return [f"is in flight: attempt {save.attempts}, for {since:.1f} s"]
