"""Observers: who is told of every save of the process, from the call to its end; telemetry and the inspector are.

They hear of all events, and of two moments that are none: the call, in the caller's context, and the attempt, in its own. And they are
nobody who listens: a failed save that only observers have seen is logged like one that nobody has. Without one, nothing is done.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from ._future import Handle
from .events import SaveEvent, everywhere

__all__ = ["Observer", "accepted", "add", "around", "observers", "remove", "told"]

logger = logging.getLogger("chained_models")


class Observer(Protocol):
    """Is told of saves. What it raises is logged, and stops nothing."""

    def accepted(self, save: Handle[Any]) -> None:
        """A save was asked for, in this thread and context; no attempt of it runs yet."""
        ...

    def begins(self, saves: Sequence[Handle[Any]]) -> Any:
        """An attempt begins, of one save or of several at once, in this context. Returns what :meth:`ends` is given."""
        ...

    def ends(self, begun: Any, error: str | None, *, here: bool) -> None:
        """That attempt is over.

        Args:
            begun: What :meth:`begins` has returned.
            error: The type of what it raised, by name; None if it raised nothing.
            here: Whether this is the context in which it began: not so where its event loop is gone.
        """
        ...

    def told(self, event: SaveEvent) -> None:
        """Something has happened to a save. In whatever thread it has, and before receivers are called."""
        ...


observers: tuple[Observer, ...] = ()
"""Asked at each save whether there is one; replaced, never changed in place."""


def _log(error: Exception, text: str, *about: Any) -> None:
    error.__context__ = None  # most likely the failure of the save, whose text may hold what was sent
    logger.error(text, *about, exc_info=error)


def add(observer: Observer) -> None:
    """Have it told from now on."""
    global observers  # noqa: PLW0603 - all of the process
    observers = (*observers, observer)
    everywhere.watch(watched=True)


def remove(observer: Observer) -> None:
    """Have it told no more."""
    global observers  # noqa: PLW0603
    observers = tuple(one for one in observers if one is not observer)
    everywhere.watch(watched=bool(observers))


def accepted(save: Handle[Any]) -> None:
    """Tell all observers."""
    for observer in observers:
        try:
            observer.accepted(save)
        except Exception as error:  # noqa: BLE001 - it is logged
            _log(error, "%s could not be told of; it goes on", save)


def told(event: SaveEvent) -> None:
    """Tell all observers."""
    for observer in observers:
        try:
            observer.told(event)
        except Exception as error:  # noqa: BLE001 - it is logged
            _log(error, "%s: %s could not be told of; it goes on", event.save, event.name)


def around(saves: Sequence[Handle[Any]], steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The steps of an attempt, of which all observers are told."""
    for observer in observers:
        steps = _told(observer, saves, steps)
    return steps


def _told(
    observer: Observer, saves: Sequence[Handle[Any]], steps: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    try:
        begun = observer.begins(saves)
    except Exception as failure:  # noqa: BLE001 - it is logged
        _log(failure, "an attempt of %s could not be told of; it goes on", saves[0])
        return (yield from steps)
    error: str | None = None
    here = True
    try:
        return (yield from steps)
    except GeneratorExit:
        error, here = "GeneratorExit", False  # its loop is gone, and with it the context
        raise
    except BaseException as raised:
        error = type(raised).__qualname__  # not its text, which may hold what was sent
        raise
    finally:
        try:
            observer.ends(begun, error, here=here)
        except Exception as failure:  # noqa: BLE001 - it is logged
            _log(failure, "the end of an attempt of %s could not be told of; it goes on", saves[0])
