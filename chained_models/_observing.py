"""Observers: who is told of every save of the process, from the call to its end; telemetry and the inspector are.

They hear of all events, and of two moments that are none: the call, in the caller's context, and the attempt, in its own. And they are
nobody who listens: a failed save that only observers have seen is logged like one that nobody has. Without one, nothing is done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from ._future import Handle
from .events import SaveEvent, everywhere

__all__ = ["Observer", "accepted", "add", "after_fork", "around", "observers", "remove", "told"]

logger = logging.getLogger("chained_models")


class Observer(Protocol):
    """Is told of saves. What it raises is logged, and stops nothing.

    An interrupt (KeyboardInterrupt, SystemExit) is raised where those of receivers are, when the chain has gone on.
    """

    def accepted(self, save: Handle[Any]) -> None:
        """A save was asked for, in this thread and context. In another one its attempt may begin meanwhile: the chain goes on."""
        ...

    def begins(self, saves: Sequence[Handle[Any]]) -> Any:
        """An attempt begins, of one save or of several at once, in this context. Returns what :meth:`ends` is given."""
        ...

    def ends(self, begun: Any, error: str | None, *, here: bool) -> None:
        """That attempt is over.

        Args:
            begun: What :meth:`begins` has returned.
            error: The type of what it raised, by name; None if it raised nothing. Of several at once: of the first that failed.
            here: Whether this is the context in which it began: not so where its event loop is gone.
        """
        ...

    def told(self, event: SaveEvent) -> None:
        """Something has happened to a save. In whatever thread it has, and before receivers are called."""
        ...


observers: tuple[Observer, ...] = ()
"""Asked at each save whether there is one; replaced, never changed in place."""

# Re-entrant, as every lock that a signal handler may meet.
_changing = threading.RLock()


def _contain(error: BaseException, save: Handle[Any], text: str, *about: Any) -> None:
    if not isinstance(error, Exception):
        save.interrupt = error  # raised when all that was decided has been carried out
        return
    error.__context__ = None  # most likely the failure of the save, whose text may hold what was sent
    logger.error(text, *about, exc_info=error)


def add(observer: Observer) -> None:
    """Have it told from now on."""
    global observers  # noqa: PLW0603 - all of the process
    with _changing:
        observers = (*observers, observer)
        everywhere.watch(watched=True)


def remove(observer: Observer) -> None:
    """Have it told no more."""
    global observers  # noqa: PLW0603
    with _changing:
        observers = tuple(one for one in observers if one is not observer)
        everywhere.watch(watched=bool(observers))


def after_fork() -> None:
    """In a forked child: the lock may have been held at the fork."""
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


def accepted(save: Handle[Any]) -> None:
    """Tell all observers; raises what interrupted one of them."""
    for observer in observers:
        try:
            observer.accepted(save)
        except BaseException as error:  # noqa: BLE001 - it is logged, or kept
            _contain(error, save, "%s could not be told of; it goes on", save)
    interrupt, save.interrupt = save.interrupt, None
    if interrupt is not None:
        raise interrupt


def told(event: SaveEvent) -> None:
    """Tell all observers."""
    for observer in observers:
        try:
            observer.told(event)
        except BaseException as error:  # noqa: BLE001 - it is logged, or kept
            _contain(error, event.save, "%s: %s could not be told of; it goes on", event.save, event.name)


def around(
    saves: Sequence[Handle[Any]],
    steps: Generator[Any, Any, Any],
    failure: Callable[[Any], BaseException | None] | None = None,
) -> Generator[Any, Any, Any]:
    """The steps of an attempt, of which all observers are told; `failure` finds in what they return what went wrong."""
    for observer in observers:
        steps = _told(observer, saves, steps, failure)
    return steps


def _told(
    observer: Observer,
    saves: Sequence[Handle[Any]],
    steps: Generator[Any, Any, Any],
    failure: Callable[[Any], BaseException | None] | None,
) -> Generator[Any, Any, Any]:
    try:
        begun = observer.begins(saves)
    except BaseException as problem:  # noqa: BLE001 - it is logged, or kept
        _contain(problem, saves[0], "an attempt of %s could not be told of; it goes on", saves[0])
        return (yield from steps)
    error: BaseException | None = None
    here = True
    try:
        returned = yield from steps
        error = None if failure is None else failure(returned)
    except GeneratorExit as gone:
        error, here = gone, False  # its loop is gone, and with it the context
        raise
    except BaseException as raised:
        error = raised
        raise
    else:
        return returned
    finally:
        # Not its text, which may hold what was sent.
        kind = None if error is None else type(error).__qualname__
        error = None
        try:
            observer.ends(begun, kind, here=here)
        except BaseException as problem:  # noqa: BLE001 - it is logged, or kept
            _contain(problem, saves[0], "the end of an attempt of %s could not be told of; it goes on", saves[0])
