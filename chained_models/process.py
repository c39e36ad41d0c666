"""What a process has one of: the default dispatcher, an end, and children."""

from __future__ import annotations

import atexit
import os
import threading

from . import _future, _observing
from . import dispatcher as _dispatcher
from .dispatcher import Dispatcher
from .exceptions import InvalidOption

__all__ = ["default_dispatcher", "flush", "set_default_dispatcher"]

# Re-entrant, as every lock here that save() takes: a signal handler may save too.
_lock = threading.RLock()
_default: Dispatcher | None = None


def default_dispatcher() -> Dispatcher:
    """The dispatcher of all models that name no other; made when it is first asked for."""
    global _default  # noqa: PLW0603 - one for each process is the point
    present = _default
    if present is not None and not present.closed:
        return present
    with _lock:
        if _default is None or _default.closed:
            _default = Dispatcher()
        return _default


def set_default_dispatcher(dispatcher: Dispatcher | None) -> Dispatcher | None:
    """Use another one from now on; None for a fresh one. Saves that were accepted stay with the old one.

    Returns:
        The one that was used until now, or None: to put it back, or to flush it.
    """
    global _default
    if dispatcher is not None and not isinstance(dispatcher, Dispatcher):
        raise InvalidOption(f"a Dispatcher is needed, not {type(dispatcher).__name__}")
    with _lock:
        before, _default = _default, dispatcher
        return before


def flush(timeout: float | None = None) -> None:
    """Wait for all saves that were accepted by the default dispatcher before this call.

    Args:
        timeout: Seconds to wait at most; None for as long as it takes.

    Raises:
        Stuck: Some chains are paused or halted, or the time is over.
        WouldDeadlock: This thread is the one that would do the work.
    """
    if _default is not None:
        _default.flush(timeout)


def _leave() -> None:
    """Daemon threads still run when atexit handlers do; after them, nothing does."""
    for dispatcher in list(_dispatcher.living):
        dispatcher.leave()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held at the fork
    _lock = threading.RLock()
    _future.after_fork()
    _observing.after_fork()
    for dispatcher in list(_dispatcher.living):
        dispatcher.after_fork()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
