"""What happened to each chain, in its order and at its time, as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .._record import Record
from ..handle import SaveHandle
from ..operation import Method
from .backend import Flight, ScriptedBackend

if TYPE_CHECKING:
    from .harness import Harness

__all__ = ["timeline"]

WIDTH = 100
LINES = 40
"""So many lines of one chain are shown; of a longer one its beginning and its end."""
CHAINS = 12
"""So many chains are shown; of more, the first and the last."""


def timeline(harness: Harness) -> str:
    """What happened to each save: accepted, sent, applied, answered or failed, settled; and why others have not ended.

    One line each, by chain; a line tells the tick (what came before what, also in other chains), the time in seconds, the
    save, and what happened to it. Only a ScriptedBackend tells what was sent and applied; of another one, the attempts are
    counted.

    Args:
        harness: Where it happened. While it is open, saves that have not ended are told with the reason.

    Returns:
        ASCII, at most 100 columns, and not many lines: what is left out is counted.
    """
    chains = [_Chain(key, stories, harness) for key, stories in _by_chain(harness).items()]
    if not chains:
        return "no save was accepted"
    blocks = [chain.lines() for chain in chains]
    return "\n".join(line for block in _middle_left_out(blocks, CHAINS, _chains_left_out) for line in block)


class _Story:
    """One save, and what is known of it."""

    def __init__(self, save: SaveHandle[Any], line: Any, accepted: int | None, settled: int | None) -> None:
        self.save = save
        self.line = line
        self.name = f"{save.verb.value} {save.seq}"
        self.accepted = accepted
        self.settled = settled
        self.flights: list[Flight] = []

    def moments(self) -> Iterator[tuple[int, str]]:
        """What happened, with the ticks."""
        if self.accepted is not None:
            yield self.accepted, "accepted"
        for flight in self.flights:
            yield flight.began, _sent(flight)
            for times, tick in enumerate(flight.applied):
                yield tick, "applied" if not times else "applied once more"
            if flight.ended is not None:
                yield flight.ended, "answered" if flight.error is None else f"got {_written(flight.error)}"
        if self.settled is not None:
            yield self.settled, self._end()

    def _end(self) -> str:
        save = self.save
        end = "" if save.outcome is None else save.outcome.name
        if save.superseded_by is not None:
            end += f" by {save.superseded_by.verb.value} {save.superseded_by.seq}"
        if not self.flights and save.attempts:
            end += f" after {save.attempts} attempts" if save.attempts > 1 else " after 1 attempt"
        return end if save.error is None else f"{end}: {_written(save.error)}"


class _Chain:
    def __init__(self, key: Any, stories: list[_Story], harness: Harness) -> None:
        self._name = str(key) if isinstance(key, Record) else f"ordering key {key[1]!a}"
        self._stories = stories
        self._harness = harness

    def lines(self) -> list[str]:
        left = [story for story in self._stories if story.save.outcome is None]
        count = f"{len(self._stories)} saves" if len(self._stories) != 1 else "1 save"
        not_ended = f", {len(left)} not ended" if left else ""
        told = [line for _, line in sorted(self._told(), key=lambda moment: moment[0])]
        told = list(_middle_left_out(told, LINES, lambda count: f"{'':18}  ... {count} more lines ..."))
        waiting = _middle_left_out(left, LINES // 2, lambda count: f"{'':18}  ... {count} more that have not ended ...")
        whys = [line for one in waiting for line in ([one] if isinstance(one, str) else _why(one))]
        return [_fit(line) for line in (f"{self._name}: {count}{not_ended}", *told, *whys)]

    def _told(self) -> Iterator[tuple[int, str]]:
        for story in self._stories:
            since: float | None = None
            for tick, what in sorted(story.moments(), key=lambda moment: moment[0]):
                at = self._harness.time_of(tick)
                waited = "" if since is None or at is None or at - since < 0.0005 else f" (after {at - since:.3f} s)"
                since = at
                time = "" if at is None else f"{at:.3f} s"
                yield tick, f"{tick:>6}{time:>12}  {story.name:<10}  {what}{waited}"


def _by_chain(harness: Harness) -> dict[Any, list[_Story]]:
    """Every save that was accepted, and every one that took the place of one of them, by its chain."""
    stories: dict[SaveHandle[Any], _Story] = {}
    for one in list(harness.accepted):
        stories[one.save] = _Story(one.save, one.line, one.tick, one.settled)
    for save, story in list(stories.items()):
        while (save := save.superseded_by) is not None and save not in stories:
            stories[save] = _Story(save, save.chain or story.line, None, None)
    _tell_flights(stories.values(), harness)
    chains: dict[Any, list[_Story]] = {}
    for story in sorted(stories.values(), key=lambda story: story.save.seq):
        key: Any = story.save.record if story.line is None else story.line.key
        chains.setdefault(key.current() if isinstance(key, Record) else key, []).append(story)
    return chains


def _tell_flights(stories: Iterable[_Story], harness: Harness) -> None:
    """Give each story the attempts that were made for it."""
    if not isinstance(harness.where, ScriptedBackend):
        return
    by_key: dict[str, list[_Story]] = {}
    for story in stories:
        by_key.setdefault(story.save.idempotency_key, []).append(story)
        by_key.setdefault(story.save.id, []).append(story)
    for flight in list(harness.where.ledger):
        operation = flight.operation
        asked_by = operation.id.partition("-read-")[0]
        found = by_key.get(operation.idempotency_key) or by_key.get(asked_by) or ()
        # A retry by hand has the key of the save that it is a retry of: the latest of them, then.
        begun = [story for story in found if story.accepted is None or story.accepted <= flight.began]
        if begun:
            begun[-1].flights.append(flight)


def _sent(flight: Flight) -> str:
    operation = flight.operation
    if operation.method is Method.READ:
        return "asked what is stored"
    return f"sent as {operation.method.value}" + (f", attempt {operation.attempt}" if operation.attempt > 1 else "")


def _why(story: _Story) -> list[str]:
    """Told in full, on as many lines as it takes."""
    said = f"{'not ended':>18}  {story.name:<10}  {story.save.why_waiting or 'has just ended'}"
    return textwrap.wrap(_ascii(said), WIDTH, subsequent_indent=" " * 32, drop_whitespace=True)


def _written(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _middle_left_out(all_of_it: list[Any], most: int, left_out: Any) -> Iterable[Any]:
    if len(all_of_it) <= most:
        return all_of_it
    head, tail = (most - 1) // 2, (most - 1) - (most - 1) // 2
    return [*all_of_it[:head], left_out(len(all_of_it) - most + 1), *all_of_it[-tail:]]


def _chains_left_out(count: int) -> list[str]:
    return [f"... {count} more chains ..."]


def _ascii(line: str) -> str:
    return " ".join(line.splitlines()).encode("ascii", "backslashreplace").decode()


def _fit(line: str) -> str:
    """In ASCII, on one line, and not too wide."""
    line = _ascii(line)
    if len(line) <= WIDTH:
        return line.rstrip()
    head = WIDTH * 2 // 3
    return f"{line[:head].rstrip()} ... {line[-(WIDTH - head - 5) :].lstrip()}"
