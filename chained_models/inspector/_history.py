"""What the inspector knows: the latest saves of each chain, and what became of them.

It is told as an observer, in whatever thread that comes, and notes only what happened and when. What is shown of a save is
read from its handle when somebody looks. So it never asks for the dispatcher's lock while a save moves.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import _observing
from .._future import Handle
from .._record import Record
from .._states import SaveState
from ..calls import CallChain
from ..dispatcher import Dispatcher
from ..events import SaveEvent
from ..exceptions import InvalidOption

__all__ = ["Attempt", "Box", "Changes", "History", "Row"]

KEPT = 50
"""So many settled saves of a chain are kept, with their models; unsettled ones always are."""

ROWS = 5_000
"""So many chains are kept; of more, those that have been idle for longest go."""

LATEST = 200
"""Of so many attempts that ended last it is kept how long they took."""

SLOT = 0.25
"""Seconds of which attempts that ended are counted together."""

SLOTS = 40
"""So many counts are kept."""

_ENDS_AN_ATTEMPT = frozenset({"sync", "error", "retry", "abandoned"})


@dataclass(slots=True)
class Attempt:
    """One attempt.

    Attributes:
        number: Which one of its save.
        begun: When, by the clock on the wall.
        together: How many saves shared it.
        leads: Whether it stands for them all where they are counted.
        left_open: Whether it goes on when the work has returned, until somebody says that it is over.
        ended: When; None while it runs.
        error: The type of what it has failed with, by name.
    """

    number: int
    begun: float
    together: int
    leads: bool = True
    left_open: bool = False
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
        by_number: Its saves, in the order of the calls.
        settled: Those of them that are settled, in the order of their ends.
        dropped: How many settled ones are not kept any more.
        revision: When it changed last.
        held: What was seen last of what holds its chain, of which no event tells.
    """

    number: int
    key: Any
    by_number: dict[int, Box] = field(default_factory=dict)
    settled: deque[Box] = field(default_factory=deque)
    dropped: int = 0
    revision: int = 0
    held: tuple[bool, int | None, str] = (False, None, "")

    @property
    def boxes(self) -> list[Box]:
        """Its saves, in the order of the calls, of one moment."""
        return list(self.by_number.values())

    @property
    def current_key(self) -> Any:
        """The key that the chain goes by now: its thing may have got its identity since."""
        return self.key.current() if isinstance(self.key, Record) else self.key


class Changes(NamedTuple):
    """What has changed since a revision.

    Attributes:
        revision: The one now.
        rows: Chains that have changed.
        gone: Numbers of chains that are not kept any more.
        whole: Whether the rows are all there are, because it is not known any more which of them went since then.
    """

    revision: int
    rows: list[Row]
    gone: list[int]
    whole: bool


class History:
    """Notes what happens to the saves of one dispatcher, from its making until :meth:`close`.

    Args:
        dispatcher: Which.
        clock: Gives the time of day in seconds.

    Raises:
        InvalidOption: That is no dispatcher.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float] = time.time) -> None:
        if not isinstance(dispatcher, Dispatcher):
            raise InvalidOption(f"a Dispatcher is needed, not {type(dispatcher).__name__}")
        self.dispatcher = dispatcher
        self.clock = clock
        self.revision = 0
        # Re-entrant, for a signal handler may save.
        self._noting = threading.RLock()
        self._numbers = 0
        self._rows: dict[Any, Row] = {}
        self._by_number: dict[int, Row] = {}
        self._idle: dict[int, Row] = {}
        """Rows of which every save is settled, the one that has been so for longest first."""
        self._boxes: dict[Handle[Any], Box] = {}
        self._by_box_number: dict[int, Box] = {}
        self._gone: deque[tuple[int, int]] = deque()
        """Revision and number of rows that are not kept any more."""
        self._known_since = 0
        """Of which went before that revision, nothing is known."""
        self.latencies: deque[tuple[float, float]] = deque(maxlen=LATEST)
        """When an attempt ended, and how many seconds it took."""
        self.ended: deque[tuple[float, int]] = deque(maxlen=SLOTS)
        """From when on, and how many attempts ended in a while."""
        self._closed = False
        _observing.add(self)
        _all.add(self)
        for chain in dispatcher:
            for save in dispatcher.pending(chain._key):
                if save.state is not SaveState.PREPARING:  # else it will be told when it is accepted, if it is
                    self.accepted(save)

    def close(self) -> None:
        """Note nothing any more, and let go of everything."""
        _observing.remove(self)
        with self._noting:
            self._closed = True
            for kept in (self._rows, self._by_number, self._idle, self._boxes, self._by_box_number):
                kept.clear()
            self._gone.clear()
            self.latencies.clear()
            self.ended.clear()

    def after_fork(self) -> None:
        """In a forked child: nobody looks there, and the lock may have been held at the fork."""
        self._noting = threading.RLock()
        self.close()

    @property
    def closed(self) -> bool:
        """Whether nothing is noted any more."""
        return self._closed

    def show(self, chain: CallChain) -> None:
        """Show that chain from now on, also while nothing has been on it."""
        with self._noting:
            self._touch(self._row(chain))

    # What is told

    def accepted(self, save: Handle[Any]) -> None:
        """A save was asked for."""
        if save._host is self.dispatcher:
            with self._noting:
                if not self._closed:
                    self._box(save)

    def begins(self, saves: Sequence[Handle[Any]]) -> list[tuple[Box, Attempt]]:
        """An attempt begins."""
        now = self.clock()
        begun = []
        with self._noting:
            for save in saves:
                if save._host is self.dispatcher and not self._closed:
                    box = self._box(save)
                    attempt = Attempt(save.attempts, now, len(saves), save is saves[0], saves[0].manual)
                    box.attempts.append(attempt)
                    begun.append((box, attempt))
                    self._touch(box.row)
        return begun

    def ends(self, begun: list[tuple[Box, Attempt]], error: str | None, *, here: bool) -> None:
        """That attempt is over; or only its work is, and the attempt is still open."""
        with self._noting:
            # Of several saves each is told of its own failure, by its event.
            running = [(box, attempt) for box, attempt in begun if attempt.ended is None]
            if running and not self._closed and (error is not None or not running[0][1].left_open):
                for box, attempt in running:
                    self._end(box, attempt, error if len(begun) == 1 else None)
                self._time(running[0][1])

    def _end(self, box: Box, attempt: Attempt, error: str | None) -> None:
        attempt.ended, attempt.error = self.clock(), error
        self._touch(box.row)

    def _time(self, attempt: Attempt) -> None:
        ended = self.clock() if attempt.ended is None else attempt.ended
        self.latencies.append((ended, max(0.0, ended - attempt.begun)))  # the clock on the wall may be set back
        since, count = self.ended[-1] if self.ended else (-math.inf, 0)
        if since <= ended < since + SLOT:
            self.ended[-1] = since, count + 1
        else:
            self.ended.append((ended, 1))

    def told(self, event: SaveEvent) -> None:
        """Something has happened to a save."""
        save = event.save
        if save._host is not self.dispatcher:
            return
        with self._noting:
            if self._closed or (save.outcome is not None and save not in self._boxes):
                return  # it was let go of already: what comes after its end does not bring it back
            box = self._box(save)
            if event.name == "sync":
                box.taken, box.kept = event.taken, event.kept
            if event.name in _ENDS_AN_ATTEMPT and box.attempts:
                self._settle_attempt(box, event.error)
            self._touch(box.row)
            self._settle(box)

    def _settle_attempt(self, box: Box, error: BaseException | None) -> None:
        """What is known of its last attempt now: that it is over, if it was left open, and how it failed, among others."""
        attempt = box.attempts[-1]
        if attempt.ended is None and attempt.left_open:
            self._end(box, attempt, None)
            if attempt.leads:  # of a batch it is told for each of them
                self._time(attempt)
        if attempt.ended is not None and attempt.error is None and error is not None:
            attempt.error = type(error).__qualname__

    def _box(self, save: Handle[Any]) -> Box:
        box = self._boxes.get(save)
        if box is None:
            row = self._row(save.line)
            box = Box(self._number(), save, row, self.clock())
            row.by_number[box.number] = self._boxes[save] = self._by_box_number[box.number] = box
            self._idle.pop(row.number, None)
            self._touch(row)
            self._settle(box)  # it may have been quicker than we are
        return box

    def _row(self, key: Any) -> Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(self._number(), key)
            self._by_number[row.number] = row
            self._tidy_rows()
        return row

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def touch(self, row: Row | None = None) -> None:
        """What is shown of that chain, or of the lanes, has changed, and no event tells of it: it was paused, say."""
        with self._noting:
            self.revision += 1
            if row is not None:
                row.revision = self.revision

    def _touch(self, row: Row) -> None:
        self.revision += 1
        row.revision = self.revision

    def _settle(self, box: Box) -> None:
        """Count it among the settled ones, if it is; and keep the latest of those only."""
        if box.settled is not None or box.save.outcome is None:
            return
        box.settled = self.clock()
        row = box.row
        row.settled.append(box)
        if len(row.settled) > KEPT:
            self._drop(row.settled.popleft())
            row.dropped += 1
        if len(row.settled) == len(row.by_number):
            self._idle[row.number] = row
            self._tidy_rows()

    def _drop(self, box: Box) -> None:
        del self._boxes[box.save], self._by_box_number[box.number], box.row.by_number[box.number]

    def _tidy_rows(self) -> None:
        """Keep so many chains only, if that many are idle; and remember which went, for who has not looked since."""
        while len(self._rows) > ROWS and self._idle:
            row = self._idle.pop(next(iter(self._idle)))
            del self._by_number[row.number]
            self._rows.pop(row.key, None)
            for box in row.boxes:
                self._drop(box)
            self.revision += 1
            self._gone.append((self.revision, row.number))
            if len(self._gone) > ROWS:
                self._known_since, _ = self._gone.popleft()

    # What is asked

    def changes(self, since: int = 0) -> Changes:
        """What has changed since that revision."""
        with self._noting:
            whole = 0 < since < self._known_since
            since = 0 if whole else since
            rows = [row for row in self._rows.values() if row.revision > since]
            return Changes(self.revision, rows, [number for when, number in self._gone if when > since > 0], whole)

    def row(self, number: int) -> Row | None:
        """The chain of that number, if it is kept."""
        return self._by_number.get(number)

    def box(self, number: int) -> Box | None:
        """The save of that number, if it is kept."""
        return self._by_box_number.get(number)

    def before(self, box: Box) -> Box | None:
        """The save of the same object in front of it whose values are known, if it is kept."""
        earlier: Box | None = None
        for one in box.row.boxes:
            if one is box:
                return earlier
            if one.save.subject is box.save.subject and one.save.superseded_by is None:
                earlier = one
        return None

    def __iter__(self) -> Iterator[Row]:
        with self._noting:
            return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)


_all: weakref.WeakSet[History] = weakref.WeakSet()


def _after_fork() -> None:
    for history in list(_all):
        history.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
