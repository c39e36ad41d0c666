"""Observers: who is told of every save of the process as it is asked for and attempted; telemetry and the inspector are.

What becomes of saves afterwards is told by events. These two moments are not: at the first, the caller's context is the present one,
and at the second that of the attempt; and without an observer neither may cost anything.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from ._future import Handle

__all__ = ["Observer", "accepted", "add", "around", "observers", "remove"]

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


observers: tuple[Observer, ...] = ()
"""Asked at each save whether there is one; replaced, never changed in place."""


def add(observer: Observer) -> None:
    """Have it told from now on."""
    global observers  # noqa: PLW0603 - all of the process
    observers = (*observers, observer)


def remove(observer: Observer) -> None:
    """Have it told no more."""
    global observers  # noqa: PLW0603
    observers = tuple(one for one in observers if one is not observer)


def accepted(save: Handle[Any]) -> None:
    """Tell all observers."""
    for observer in observers:
        try:
            observer.accepted(save)
        except Exception:
            logger.exception("%s could not be told of; it goes on", save)


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
    except Exception:
        logger.exception("an attempt of %s could not be told of; it goes on", saves[0])
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
        except Exception:
            logger.exception("the end of an attempt of %s could not be told of; it goes on", saves[0])
