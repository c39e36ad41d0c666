"""Where the work runs: ``inline``, ``threads``, ``asyncio``. A driver knows jobs and times, and no chains.

Drivers are imported when they are first needed; asyncio only with a backend whose verbs are coroutines.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from .._weakmap import WeakIdMap
from ..exceptions import InvalidOption, UnsupportedBackend
from ..protocols import Driver

__all__ = ["Drivers"]

_CLASSES = {"inline": "InlineDriver", "threads": "ThreadsDriver", "asyncio": "AsyncioDriver"}


def make(name: str) -> Driver:
    """A new driver by its name.

    Raises:
        InvalidOption: There is none of that name.
    """
    if name not in _CLASSES:
        raise InvalidOption(f"there is no driver {name!r}; the drivers are {', '.join(_CLASSES)}")
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast(Driver, getattr(module, _CLASSES[name])())


class Drivers:
    """The drivers of one dispatcher: the one that was given, or one that fits each backend.

    Without a choice of the user's, all blocking backends share the threads, and each coroutine backend has a driver of its
    own, for it belongs to one event loop.
    """

    def __init__(self, given: Driver | str | None) -> None:
        self._given = make(given) if isinstance(given, str) else given
        self.now: Callable[[], float] = time.monotonic if self._given is None else self._given.now
        """The time by which all of them go."""
        self._threads: Driver | None = None
        # By their backends, and no longer than these live: a program may make one for each user it acts for.
        self._of_coroutines: WeakIdMap[Any, Driver] = WeakIdMap()

    def check(self, backend: Any) -> None:
        """Raise UnsupportedBackend if the given driver cannot run this backend."""
        if self._given is not None and not self._given.supports(backend):
            raise UnsupportedBackend(
                f"{type(self._given).__name__} cannot run {type(backend).__name__}: "
                f"its execute() is {'a coroutine' if _is_coroutine(backend) else 'a plain'} function; "
                "leave out driver=..., and one that fits is chosen"
            )

    def choose(self, backend: Any) -> Driver:
        """The driver for this backend; called once for each backend, one call at a time."""
        self.check(backend)
        if self._given is not None:
            return self._given
        if _is_coroutine(backend):
            return self._of_coroutines.setdefault(backend, make("asyncio"))
        if self._threads is None:
            self._threads = make("threads")
        return self._threads

    def __iter__(self) -> Iterator[Driver]:
        shared = self._threads if self._given is None else self._given
        yield from () if shared is None else (shared,)
        yield from self._of_coroutines.values()


def _is_coroutine(backend: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(backend, "execute", None))
