"""What the page shows, as plain data for JSON: of all chains, of one save, and what a button does."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from .._call import CallHandle
from .._future import Handle
from .._record import Record
from .._snapshot import MISSING, same
from ..calls import CallChain
from ..chain import Chain
from ..exceptions import ChainedModelsError, InvalidOption
from ..handle import SaveHandle
from ..operation import Answer, Operation
from ._history import Box, History, Row

__all__ = ["View", "text"]

UNSHOWN = "__chained_secret__"
"""The class attribute that names attributes whose values are never shown."""

LONGEST = 500
"""Characters of a value that are shown."""

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

    # What is shown

    def overview(self, since: int = 0) -> dict[str, Any]:
        """All chains that have changed since that revision, and the lanes."""
        revision, rows, gone = self.history.rows(since)
        return {
            "boot": self.boot,
            "revision": revision,
            "now": self.history.clock(),
            "readonly": self.readonly,
            "closed": self.history.dispatcher.closed,
            "values": self.values,
            "chains": [self._row(row) for row in rows],
            "gone": gone,
            "lanes": self.history.dispatcher.lanes(),
            "latencies": [[round(end, 3), round(seconds, 4)] for end, seconds in list(self.history.latencies)[-200:]],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        chain = self._chain(row)
        halted = chain.halted
        boxes = list(row.boxes)
        return {
            "id": row.number,
            "title": _title(row),
            "paused": chain.paused,
            "halted": None if halted is None else halted.seq,
            "idle": all(box.save.outcome is not None for box in boxes),
            "dropped": row.dropped,
            "batch": row.key._pace.options.batch if isinstance(row.key, CallChain) else None,
            "boxes": [self._box(box) for box in boxes],
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
            "title": _title(box.row),
            "save_id": save.id,
            "model": type(save.subject).__qualname__,
            "method": save.method.value if isinstance(save, SaveHandle) and save.method is not None else None,
            "outcome": None if save.outcome is None else save.outcome.value,
            "error": None if error is None else type(error).__name__,
            "why_waiting": text(save.why_waiting, plain=True) if save.outcome is None else None,
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
        values = save.snapshot if operation is None else operation.values
        return {name: self._value(save, name, value) for name, value in values.items()}

    def _difference(self, box: Box) -> list[dict[str, Any]]:
        """What differs from the save of the same object in front of it."""
        save, earlier = box.save, self.history.before(box)
        if not isinstance(save, SaveHandle) or earlier is None or not isinstance(earlier.save, SaveHandle):
            return []
        before = earlier.save.snapshot
        return [
            {
                "name": name,
                "before": self._value(save, name, before.get(name, MISSING)),
                "after": self._value(save, name, value),
            }
            for name, value in save.snapshot.items()
            if not same(value, before.get(name, MISSING))
        ]

    def _answer(self, save: Handle[Any]) -> dict[str, Any] | None:
        answer: Answer | None = save.answer
        if answer is None:
            return None
        values = answer.values if isinstance(answer.values, Mapping) else {}
        return {
            "version": None if answer.version is None else text(answer.version),
            "values": {str(name): self._value(save, str(name), value) for name, value in values.items()},
        }

    def _value(self, save: Handle[Any], name: str, value: Any) -> str | None:
        """The value as text; None if it is not shown."""
        if not self.values or name in _secrets(save) or value is MISSING:
            return None
        return text(value)

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
            case "cancel", {"save": int(number)}:
                box = self.history.box(number)
                if box is None or not box.save.cancel():
                    raise InvalidOption("this save cannot be cancelled any more")
            case "batch", {"lane": int(number), "size": int(size)} if not isinstance(size, bool) and size > 0:
                self.history.dispatcher.set_batch(number, size)
                self.history.touch()
            case "batch", {"chain": int(number), "size": int(size)} if not isinstance(size, bool):
                row = self.history.row(number)
                if row is None or not isinstance(row.key, CallChain):
                    raise InvalidOption("only a CallChain has a batch of its own; else it is that of the lane")
                row.key.update(batch=size)
                self.history.touch(row)
            case command, {"chain": int(number)} if command in _COMMANDS:
                row = self.history.row(number)
                if row is None:
                    raise InvalidOption("there is no such chain any more")
                self._do_to(row, command)
            case command, {"all": True} if command in _COMMANDS:
                self._do_to_all(command)
            case _:
                raise InvalidOption("there is no such command")

    def _do_to_all(self, command: str) -> None:
        problems: list[ChainedModelsError] = []
        for row in self.history:
            try:
                self._do_to(row, command)
            except ChainedModelsError as error:
                problems.append(error)  # the others all the same
        if problems:
            raise problems[0]

    def _do_to(self, row: Row, command: str) -> None:
        dispatcher = self.history.dispatcher
        if command == "pause" and not isinstance(row.key, Chain):  # also if it is empty: its last save knows the lane
            dispatcher.pause(row.current_key, row.boxes[-1].save.port.lane)
        else:
            getattr(self._chain(row), command)()
        self.history.touch(row)


def _secrets(save: Handle[Any]) -> Collection[str]:
    named: Any = getattr(type(save.subject), UNSHOWN, ())
    return (named,) if isinstance(named, str) else named


def _title(row: Row) -> str:
    key = row.current_key
    if isinstance(key, CallChain):
        return text(getattr(key._worker, "__qualname__", "calls"), plain=True)
    return text(
        key if isinstance(key, Record) else key[1] if isinstance(key, tuple) and len(key) == 2 else key, plain=True
    )


def text(value: Any, *, plain: bool = False) -> str:
    """A value in words that every page can show, whatever its `repr` does; with `plain`, by its `str`."""
    try:
        words = str(value) if plain else repr(value)
    except Exception as error:  # noqa: BLE001 - it is the user's
        words = f"<{type(value).__name__} cannot be shown: {type(error).__name__}>"
    words = words.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair cannot be sent
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}… ({len(words)} characters)"
