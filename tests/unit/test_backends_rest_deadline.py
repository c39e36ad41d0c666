"""Attempts end in time, and never somebody else's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from chained_models.backends import _deadline
from chained_models.backends._deadline import Attempt


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def connection() -> SimpleNamespace:
    """As much of a connection as an attempt needs."""
    return SimpleNamespace()


def test_whoever_waits_is_woken_at_the_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    """The receive ends as if the other side had hung up, and the attempt knows better."""
    ours, _ = pair
    with Attempt(0.1) as attempt:
        attempt.claim(connection(), ours)
        assert Attempt.current() is attempt
        assert ours.recv(1) == b""
    assert attempt.expired
    assert attempt.over
    assert Attempt.current() is None


def test_the_nearest_deadline_comes_first(pair: tuple[socket.socket, socket.socket]) -> None:
    """Although the thread was already waiting for a later one."""
    ours, _ = pair
    with Attempt(60), Attempt(0.1) as attempt:
        attempt.claim(connection(), ours)
        start = time.monotonic()
        assert ours.recv(1) == b""
        assert time.monotonic() - start < 5


def test_an_attempt_that_is_over_expires_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its connection may be at work for another one: known by who claimed it last."""
    ours, theirs = pair
    shared, first, second = connection(), Attempt(60), Attempt(60)
    first.claim(shared, ours)
    second.claim(shared, ours)
    first.expire()
    theirs.send(b"x")
    assert ours.recv(1) == b"x"
    second.expire()
    assert ours.recv(1) == b""


def test_without_a_socket_there_is_nothing_to_end(pair: tuple[socket.socket, socket.socket]) -> None:
    """Before the connection is there, after it has been closed, and with a socket of another make."""
    ours, _ = pair
    for sock in (None, socket.socket()):
        attempt = Attempt(60)
        attempt.claim(connection(), sock)
        if sock is not None:
            sock.close()
        attempt.expire()
        assert attempt.over
    foreign = Attempt(60)
    foreign.claim(connection(), SimpleNamespace(shutdown=ours.shutdown))
    foreign.expire()
    assert ours.recv(1) == b""
    Attempt(60).expire()


def test_where_no_thread_can_be_made_attempts_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """At interpreter exit the last saves are still sent, with a timeout per receive; later ones try again."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    watchdog = _deadline._Watchdog()
    monkeypatch.setattr(_deadline, "_watchdog", watchdog)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with Attempt(60):
            assert watchdog._thread is None
    monkeypatch.setattr(_deadline, "_LINGER", 0.01)
    with Attempt(60):
        thread = watchdog._thread
        assert thread is not None
    with watchdog._changed:
        watchdog._changed.notify()
    thread.join(10)
    assert watchdog._thread is None


def test_a_forked_child_starts_afresh() -> None:
    """Neither the parent's thread nor its attempts are there."""
    watchdog = _deadline._Watchdog()
    watchdog._attempts.add(Attempt(60))
    watchdog._thread = threading.current_thread()
    watchdog._changed.acquire()
    watchdog.start_afresh()
    attempt = Attempt(60)
    watchdog.watch(attempt)
    assert watchdog._attempts == {attempt}
    watchdog.release(attempt)
