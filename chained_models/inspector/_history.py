"""What the inspector knows: the latest saves of each chain, and what became of them.

It is told as an observer, in whatever thread that comes, and notes only what happened and when. What is shown of a save is
read from its handle when somebody looks. So it never asks for the dispatcher's lock while a save moves.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import _observing
from .._future import Handle
from .._record import Record
from ..calls import CallChain
from ..dispatcher import Dispatcher
from ..events import SaveEvent

__all__ = ["Attempt", "Box", "History", "Row"]

KEPT = 50
"""So many settled saves of a chain are kept, with their models; unsettled ones always are."""

ROWS = 5_000
"""So many chains are kept; of more, those that have been idle for longest go."""


@dataclass(slots=True)
class Attempt:
    """One attempt.

    Attributes:
        number: Which one of its save.
        begun: When, by the clock on the wall.
        ended: When; None while it runs.
        error: The type of what it raised, by name.
        together: How many saves shared it.
    """

    number: int
    begun: float
    together: int
    ended: float | None = None
    error: str | None = None


@dataclass(slots=True, eq=False)
class Box:
    """One save.

    Attributes:
        number: Its name here; never given twice.
        save: Its handle.
        row: The chain that it was asked for in.
        asked: When, by the clock on the wall.
        settled: When; None while it is not.
        attempts: What was tried.
        taken: Names of attributes that were set from the answer.
        kept: Names that were not, because they had been changed meanwhile.
    """

    number: int
    save: Handle[Any]
    row: Row
    asked: float
    settled: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    taken: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Row:
    """One chain.

    Attributes:
        number: Its name here.
        key: Its ordering key.
        boxes: Its saves, in the order of the calls.
        dropped: How many settled ones are not kept any more.
        revision: When it changed last.
    """

    number: int
    key: Any
    boxes: deque[Box] = field(default_factory=deque)
    dropped: int = 0
    revision: int = 0

    @property
    def current_key(self) -> Any:
        """The key that the chain goes by now: its thing may have got its identity since."""
        return self.key.current() if isinstance(self.key, Record) else self.key


class History:
    """Notes what happens to the saves of one dispatcher, from its making until :meth:`close`.

    Args:
        dispatcher: Which.
        clock: Gives the time of day in seconds.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float] = time.time) -> None:
        self.dispatcher = dispatcher
        self.clock = clock
        self.revision = 0
        self._changed = threading.Condition()
        self._numbers = 0
        self._rows: dict[Any, Row] = {}
        self._by_number: dict[int, Row] = {}
        self._boxes: dict[Handle[Any], Box] = {}
        self._by_box_number: dict[int, Box] = {}
        self._gone: deque[tuple[int, int]] = deque(maxlen=ROWS)
        """Revision and number of rows that are not kept any more."""
        self.latencies: deque[tuple[float, float]] = deque(maxlen=2_000)
        """When an attempt ended, and how many seconds it took."""
        self._closed = False
        _observing.add(self)
        for chain in dispatcher:
            for save in dispatcher.pending(chain._key):
                self.accepted(save)

    def close(self) -> None:
        """Note nothing any more, and let go of everything; whoever waits for a change is woken."""
        _observing.remove(self)
        with self._changed:
            self._closed = True
            self._rows.clear()
            self._by_number.clear()
            self._boxes.clear()
            self._by_box_number.clear()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing is noted any more."""
        return self._closed

    def show(self, chain: CallChain) -> None:
        """Show that chain from now on, also while nothing has been on it."""
        with self._changed:
            self._touch(self._row(chain))

    # What is told

    def accepted(self, save: Handle[Any]) -> None:
        """A save was asked for."""
        if save._host is self.dispatcher:
            with self._changed:
                self._box(save)

    def begins(self, saves: Sequence[Handle[Any]]) -> list[tuple[Box, Attempt]]:
        """An attempt begins."""
        now = self.clock()
        begun = []
        with self._changed:
            for save in saves:
                if save._host is self.dispatcher and not self._closed:
                    box = self._box(save)
                    attempt = Attempt(save.attempts, now, len(saves))
                    box.attempts.append(attempt)
                    begun.append((box, attempt))
                    self._touch(box.row)
        return begun

    def ends(self, begun: list[tuple[Box, Attempt]], error: str | None, *, here: bool) -> None:
        """That attempt is over."""
        now = self.clock()
        with self._changed:
            for box, attempt in begun:
                attempt.ended, attempt.error = now, error
                self._touch(box.row)
            if begun:
                self.latencies.append((now, now - begun[0][1].begun))

    def told(self, event: SaveEvent) -> None:
        """Something has happened to a save."""
        save = event.save
        if save._host is not self.dispatcher:
            return
        with self._changed:
            if self._closed:
                return
            box = self._box(save)
            if event.name == "sync":
                box.taken, box.kept = event.taken, event.kept
            if save.outcome is not None and box.settled is None:
                box.settled = self.clock()
            self._touch(box.row)
            self._tidy(box.row)

    def _box(self, save: Handle[Any]) -> Box:
        box = self._boxes.get(save)
        if box is None:
            row = self._row(save.line)
            box = Box(self._number(), save, row, self.clock())
            row.boxes.append(box)
            self._boxes[save] = self._by_box_number[box.number] = box
            self._touch(row)
        return box

    def _row(self, key: Any) -> Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(self._number(), key)
            self._by_number[row.number] = row
            if len(self._rows) > ROWS:
                self._forget_one()
        return row

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def touch(self, row: Row | None = None) -> None:
        """What is shown of that chain, or of the lanes, has changed, and no event tells of it: it was paused, say."""
        with self._changed:
            if row is not None:
                self._touch(row)
            else:
                self.revision += 1
                self._changed.notify_all()

    def _touch(self, row: Row) -> None:
        self.revision += 1
        row.revision = self.revision
        self._changed.notify_all()

    def _tidy(self, row: Row) -> None:
        """Keep the latest settled saves only."""
        while len(row.boxes) > KEPT and row.boxes[0].save.outcome is not None:
            self._drop(row.boxes.popleft())
            row.dropped += 1

    def _drop(self, box: Box) -> None:
        self._boxes.pop(box.save, None)
        self._by_box_number.pop(box.number, None)

    def _forget_one(self) -> None:
        for key, row in list(self._rows.items()):
            if all(box.save.outcome is not None for box in row.boxes):
                del self._rows[key], self._by_number[row.number]
                for box in row.boxes:
                    self._drop(box)
                self.revision += 1
                self._gone.append((self.revision, row.number))
                return

    # What is asked

    def rows(self, since: int = 0) -> tuple[int, list[Row], list[int]]:
        """The revision now, the rows that have changed since that one, and the numbers of those that went since."""
        with self._changed:
            changed = [row for row in self._rows.values() if row.revision > since]
            return self.revision, changed, [number for revision, number in self._gone if revision > since]

    def row(self, number: int) -> Row | None:
        """The chain of that number, if it is kept."""
        return self._by_number.get(number)

    def box(self, number: int) -> Box | None:
        """The save of that number, if it is kept."""
        return self._by_box_number.get(number)

    def before(self, box: Box) -> Box | None:
        """The save of the same object in front of it, if it is kept."""
        earlier: Box | None = None
        for one in list(box.row.boxes):
            if one is box:
                return earlier
            if one.save.subject is box.save.subject:
                earlier = one
        return None

    def wait(self, revision: int, seconds: float) -> bool:
        """Block until something has changed since that revision; False if nothing has in this time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self.revision > revision, seconds)

    def __iter__(self) -> Iterator[Row]:
        with self._changed:
            return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)
