"""What the page shows, as plain data for JSON: of all chains, of one save, and what a button does."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from .._call import CallHandle, name_of
from .._future import Handle
from .._snapshot import MISSING, same
from ..calls import CallChain
from ..chain import Chain
from ..exceptions import InvalidOption
from ..handle import SaveHandle
from ..operation import Answer, Operation
from ._history import Box, History, Row
from ._secrets import hidden_in, secrets_of
from ._text import text

__all__ = ["View", "title"]

COUNTED = 5.0
"""Seconds of which all attempts are counted."""

GLANCE = 0.5
"""Seconds between two looks at what no event tells of."""

BOXES = 200
"""So many saves of a chain are told at most: those that have ended, and of those that wait the first."""

_COMMANDS = ("pause", "resume", "clear", "retry", "skip")


class View:
    """What is shown of one history, and done to its dispatcher.

    Args:
        history: What is shown.
        values: Whether values are shown, or names only.
        readonly: Whether nothing can be done.
    """

    def __init__(self, history: History, *, values: bool, readonly: bool) -> None:
        self.history = history
        self.values = values
        self.readonly = readonly
        self.boot = secrets.token_hex(8)
        """Another one after each start, so that a page knows when what it has is of no use."""
        self._glanced = -math.inf
        self._seen: tuple[bool, list[dict[str, Any]]] = (False, [])

    # What is shown

    def overview(self, since: int = 0, boot: str = "") -> dict[str, Any]:
        """All chains that have changed since that revision, and the lanes.

        Args:
            since: What whoever asks has seen.
            boot: What was said to be the boot then. With another one in the answer, what is not in there is gone.
        """
        if self.is_due():
            self.glance()  # who asks now and then shall hear of it as well
        ours = self._is_ours(boot)
        changes = self.history.changes(since if ours or not boot else 0)
        if changes.whole or not ours:
            boot = f"{self.boot}.{changes.revision}" if changes.whole else self.boot
        now = self.history.clock()
        return {
            "boot": boot,
            "revision": changes.revision,
            "now": now,
            "readonly": self.readonly,
            "closed": self.history.dispatcher.closed,
            "values": self.values,
            "chains": [self._row(row) for row in changes.rows],
            "gone": changes.gone,
            "lanes": [
                {name: _sayable(value) for name, value in lane.items()} for lane in self.history.dispatcher.lanes()
            ],
            "latencies": [[round(end, 3), round(took, 4)] for end, took in list(self.history.latencies)],
            "ended": [[round(when, 3), n] for when, n in list(self.history.ended) if when > now - COUNTED],
        }

    def is_known(self, since: int, boot: str) -> bool:
        """Whether who has seen that has seen everything."""
        return self._is_ours(boot) and since == self.history.revision

    def _is_ours(self, boot: str) -> bool:
        start, _, later = boot.partition(".")
        return start == self.boot and later.isdecimal() == bool(later)

    def is_due(self) -> bool:
        """Whether it is time for a :meth:`glance`; for the first who asks."""
        now = time.monotonic()
        if now < self._glanced + GLANCE:
            return False
        self._glanced = now
        return True

    def glance(self) -> None:
        """See what no event tells of: what the program itself has paused, has let go on, or has closed."""
        for row in self.history:
            if (held := self._held(row)) != row.held:
                row.held = held
                self.history.touch(row)
        dispatcher = self.history.dispatcher
        seen = dispatcher.closed, dispatcher.lanes()
        if seen != self._seen:
            self._seen = seen
            self.history.touch()

    def _held(self, row: Row) -> tuple[bool, int | None, str]:
        """Whether its chain is paused; the number of the save that has halted it; and why neither is known."""
        try:
            chain = self._chain(row)
            paused, halted = chain.paused, chain.halted
        except BaseException as error:  # noqa: BLE001 - a key may have become one that cannot be looked for; the others are shown
            return False, None, f" (its chain cannot be found: {type(error).__name__})"
        return paused, None if halted is None else halted.seq, ""

    def _row(self, row: Row) -> dict[str, Any]:
        boxes = row.boxes
        paused, halted, problem = self._held(row)
        return {
            "id": row.number,
            "title": title(row) + problem,
            "paused": paused,
            "halted": halted,
            "idle": all(box.save.outcome is not None for box in boxes),
            "dropped": row.dropped,
            "batch": row.key._pace.options.batch if isinstance(row.key, CallChain) else None,
            "boxes": [self._box(box) for box in islice(boxes, BOXES)],
            "more": max(0, len(boxes) - BOXES),
        }

    def _chain(self, row: Row) -> Chain:
        return row.key if isinstance(row.key, Chain) else Chain(self.history.dispatcher, row.key)

    @staticmethod
    def _box(box: Box) -> dict[str, Any]:
        save = box.save
        return {
            "id": box.number,
            "seq": save.seq,
            "verb": save.action,
            "name": text(save.name, plain=True) if isinstance(save, CallHandle) and save.name is not None else None,
            "state": save.state.value,
            "attempts": len(box.attempts),
            "asked": round(box.asked, 3),
            "settled": None if box.settled is None else round(box.settled, 3),
        }

    def detail(self, number: int) -> dict[str, Any] | None:
        """All that is known of one save; None if it is not kept."""
        box = self.history.box(number)
        if box is None:
            return None
        save = box.save
        error = save.error
        return {
            **self._box(box),
            "chain": box.row.number,
            "title": title(box.row),
            "save_id": save.id,
            "model": type(save.subject).__qualname__,
            "method": save.method.value if isinstance(save, SaveHandle) and save.method is not None else None,
            "outcome": None if save.outcome is None else save.outcome.value,
            "error": None if error is None else type(error).__name__,
            "why_waiting": self._why_waiting(box),
            "attempts": [
                {
                    "number": one.number,
                    "begun": one.begun,
                    "ended": one.ended,
                    "error": one.error,
                    "together": one.together,
                }
                for one in box.attempts
            ],
            "sent": self._sent(save),
            "changed": self._difference(box),
            "answer": self._answer(save),
            "taken": list(box.taken),
            "kept": list(box.kept),
        }

    def _sent(self, save: Handle[Any]) -> dict[str, str | None]:
        if not isinstance(save, SaveHandle):
            return {}
        operation: Operation | None = save.operation
        return self._shown(save, save.snapshot if operation is None else operation.values)

    def _difference(self, box: Box) -> list[dict[str, Any]]:
        """What differs from the save of the same object in front of it."""
        save, earlier = box.save, self.history.before(box)
        if not isinstance(save, SaveHandle) or earlier is None or not isinstance(earlier.save, SaveHandle):
            return []
        before, after = earlier.save.snapshot, save.snapshot
        names = [name for name, value in after.items() if not _same(value, before.get(name, MISSING))]
        was = self._shown(save, {name: before.get(name, MISSING) for name in names})
        became = self._shown(save, {name: after[name] for name in names})
        return [{"name": name, "before": was[name], "after": value} for name, value in became.items()]

    def _answer(self, save: Handle[Any]) -> dict[str, Any] | None:
        """What the backend answered: by the names of attributes, as far as they were understood, and then by its own."""
        answer: Answer | None = save.answer
        if answer is None:
            return None
        try:
            raw = dict(answer.values) if isinstance(answer.values, Mapping) else {}
        except BaseException:  # noqa: BLE001 - it is the backend's own
            raw = {}
        understood = (save.understood or {}) if isinstance(save, SaveHandle) else {}
        values = self._shown(save, understood)
        # By whatever name it comes back, a secret is one: beside secrets only what is understood is shown.
        shown = self.values and not secrets_of(save)
        for name, value in raw.items():
            values.setdefault(text(name, plain=True), text(value) if shown else None)
        return {"version": None if answer.version is None else text(answer.version), "values": values}

    def _why_waiting(self, box: Box) -> str | None:
        try:
            why = box.save.why_waiting
        except BaseException as error:  # noqa: BLE001 - how an identity is written is the user's code
            return f"it cannot be said: {type(error).__name__}"
        if why is None:
            return None
        return hidden_in(text(why, plain=True), *(one.save for one in box.row.boxes), *box.save.after)

    def _shown(self, save: Handle[Any], values: Mapping[str, Any]) -> dict[str, str | None]:
        """The values as text; None for what is not shown."""
        secret = secrets_of(save)
        return {
            text(name, plain=True): text(value, hidden=secret)
            if self.values and name not in secret and value is not MISSING
            else None
            for name, value in values.items()
        }

    # What is done

    def do(self, command: str, what: Mapping[str, Any]) -> None:
        """What a button does: to one chain, to one save, to a lane, or to all chains.

        Raises:
            InvalidOption: There is nothing like it, or nothing may be done here.
            ChainedModelsError: It cannot be done.
        """
        if self.readonly:
            raise InvalidOption("this inspector is read only")
        match command, what:
            case "cancel", {"save": number} if _is_number(number):
                box = self.history.box(number)
                if box is None or not box.save.cancel():
                    raise InvalidOption("this save cannot be cancelled any more")
            case "batch", {"lane": number, "size": size} if _is_number(number) and _is_number(size) and size > 0:
                self.history.dispatcher.set_batch(number, size)
                self.history.touch()
            case "batch", {"chain": number, "size": size} if _is_number(number) and _is_number(size):
                row = self.history.row(number)
                if row is None or not isinstance(row.key, CallChain):
                    raise InvalidOption("only a CallChain has a batch of its own; else it is that of the lane")
                row.key.update(batch=size)
                self.history.touch(row)
            case command, {"chain": number} if command in _COMMANDS and _is_number(number):
                row = self.history.row(number)
                if row is None:
                    raise InvalidOption("there is no such chain any more")
                self._do_to(row, command)
            case command, {"all": True} if command in _COMMANDS:
                self._do_to_all(command)
            case _:
                raise InvalidOption("there is no such command")

    def _do_to_all(self, command: str) -> None:
        problems: list[BaseException] = []
        for row in self.history:
            try:
                self._do_to(row, command)
            except BaseException as error:  # noqa: BLE001 - the first is raised when it was done to the others all the same
                problems.append(error)
        if problems:
            raise problems[0]

    def _do_to(self, row: Row, command: str) -> None:
        dispatcher = self.history.dispatcher
        if command == "pause" and not isinstance(row.key, Chain):  # also if it is empty: its last save knows the lane
            dispatcher.pause(row.current_key, row.boxes[-1].save.port.lane)
        else:
            getattr(self._chain(row), command)()
        self.history.touch(row)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Name:
    """What a worker is called; asked only where it may raise."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def __str__(self) -> str:
        return "calls" if self._worker is None else name_of(self._worker)


def _same(one: Any, other: Any) -> bool:
    try:
        return same(one, other)
    except BaseException:  # noqa: BLE001 - the user's `__eq__` may raise what it likes
        return False


def _sayable(value: Any) -> Any:
    """As JSON can say it: there is no infinity, and an option may be anything by now."""
    return value if isinstance(value, bool | int | str) or value is None else text(value)


def title(row: Row) -> str:
    """What a chain is called."""
    key = row.current_key
    if isinstance(key, CallChain):
        return text(_Name(key._worker), plain=True)
    if isinstance(key, tuple) and len(key) == 2:
        key = key[1]  # what the user has chosen, behind the port
    return hidden_in(text(key, plain=True), *(box.save for box in row.boxes))
