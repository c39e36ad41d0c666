"""An end for every request, whatever the server does.

The timeout of an HTTP library is per receive: a server that drips one byte every now and then is never late. So one
thread, shared by all requests of the process, shuts the socket down when the time is over. A thread or timer per request
was rejected for its price, a smaller timeout before each receive because it cannot be given to a TLS connection (the
reading happens in C) nor to a connection pool that is not ours to rebuild.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

__all__ = ["Attempt", "rest"]

_LINGER = 5.0  # seconds the thread stays without work: a program that saves now and then starts it once, not every time


class Attempt:
    """One request under way: by when it must be over, and how far it got. A context manager, for the thread that sends.

    Attributes:
        deadline: On the monotonic clock.
        connection: The connection it uses, if that reports to us.
        sent: Whether a byte of the request may have gone out.
        expired: Whether its time was over while it was under way.
        location: What a redirect pointed to.
    """

    __slots__ = ("_sock", "connection", "deadline", "expired", "location", "sent")

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.connection: Any = None
        self._sock: Any = None
        self.sent = False
        self.expired = False
        self.location: str | None = None

    def remaining(self) -> float:
        """Seconds left; may be negative."""
        return self.deadline - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time is over, whether or not anybody has acted on it yet."""
        return self.expired or self.remaining() <= 0

    @staticmethod
    def current() -> Attempt | None:
        """The attempt that this thread is making."""
        return getattr(_current, "attempt", None)

    def claim(self, connection: Any, sock: Any) -> None:
        """From now on, `connection` works for this attempt, on this socket.

        The socket is kept here, too: a connection lets go of it when an answer says "Connection: close", while the answer
        is still being read from it.
        """
        self.connection, self._sock = connection, sock
        connection.attempt = self

    def expire(self) -> None:
        """Wake the thread that waits for the server, by ending the connection under it."""
        self.expired = True
        # In a session shared by threads, the connection may have gone on to another thread's attempt already.
        if self._sock is None or self.connection.attempt is not self:
            return
        with suppress(OSError):
            if isinstance(self._sock, socket.socket):
                # Not SSLSocket.shutdown(): it also drops the TLS state, and the reading thread would go on with the
                # encrypted bytes.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            else:
                self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        _current.attempt = self
        _watchdog.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.attempt = None
        _watchdog.release(self)
        self._sock = None


def rest() -> None:
    """A backend was closed: do not keep a thread for requests that may never come."""
    _watchdog.rest()


_current = threading.local()


class _Watchdog:
    """Expires attempts in time. Its thread is started by the first one, and ends when there has been none for a while."""

    def __init__(self) -> None:
        self.start_afresh()

    def start_afresh(self) -> None:
        """Also for a forked child: it has none of its parent's threads, and perhaps the parent's lock, held for ever."""
        self._changed = threading.Condition(threading.Lock())
        # As many as there are threads that send, so looking at all of them is cheaper than keeping them sorted.
        self._attempts: set[Attempt] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0
        self._linger = _LINGER

    def watch(self, attempt: Attempt) -> None:
        with self._changed:
            self._attempts.add(attempt)
            self._linger = _LINGER
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="chained-models-deadlines", daemon=True)
                # Where no thread can be made any more (at interpreter exit), the timeout per receive has to do.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
                    self._wakes_at = attempt.deadline
            elif attempt.deadline < self._wakes_at:
                self._changed.notify()

    def release(self, attempt: Attempt) -> None:
        # Attempts expire under this lock, so afterwards the connection is safe, and may go on to the next request.
        with self._changed:
            self._attempts.discard(attempt)

    def rest(self) -> None:
        """Let the thread go now, if nothing is under way."""
        with self._changed:
            thread = self._thread
            if thread is None or self._attempts:
                return
            self._linger = 0.0
            self._changed.notify()
        thread.join(1.0)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for attempt in [attempt for attempt in self._attempts if attempt.deadline <= now]:
                    self._attempts.discard(attempt)
                    attempt.expire()
                if self._attempts:
                    self._wakes_at = min(attempt.deadline for attempt in self._attempts)
                    self._changed.wait(self._wakes_at - now)
                    continue
                self._wakes_at = now + self._linger
                self._changed.wait(self._linger)
                if not self._attempts and time.monotonic() >= self._wakes_at:
                    self._thread = None
                    return


_watchdog = _Watchdog()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watchdog.start_afresh)
