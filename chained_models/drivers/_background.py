"""An event loop in a daemon thread, for those who call from plain code."""

from __future__ import annotations

import asyncio
import logging
import threading

logger = logging.getLogger("chained_models")


class Background:
    """A loop in a daemon thread, shared by all who need one, stopped when the last of them closes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def join(self) -> asyncio.AbstractEventLoop:
        """Become one of its users."""
        with self._lock:
            self._users += 1
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_turn, args=(self._loop,), name="chained-models-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def leave(self) -> None:
        """Be none any more."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._loop is None or self._thread is None:
                return
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(1.0)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while not _turned(loop):
            pass
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _turned(loop: asyncio.AbstractEventLoop) -> bool:
    """Turn the loop until it is stopped; False if it was interrupted, which is nobody's wish for a loop that all share."""
    try:
        loop.run_forever()
    except BaseException:
        logger.exception("a job raised; the background loop goes on")
        return False
    return True
