"""A small web shop on a free loopback port: slow and flaky on purpose, and keeping a log of what arrived."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import Any, Self

from .tally import Row, Write

__all__ = ["ShopServer"]

_LAST_FLAKY_ATTEMPT = 2


@dataclass(frozen=True, slots=True)
class _Weather:
    """What happens to one request."""

    before: float
    """Seconds until it arrives."""
    after: float
    """Seconds until its answer does."""
    refused: bool
    """Answered "503 Service Unavailable", and not carried out."""
    dropped: bool
    """Carried out, but the connection breaks before the answer."""


@dataclass(slots=True)
class _Store:
    """The baskets, the log of writes, and the answers to the idempotency keys. Every use holds the lock."""

    seed: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    baskets: dict[int, dict[str, Any]] = field(default_factory=dict)
    log: list[Write] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)

    def weather(self, basket: str, step: int) -> _Weather:
        """Chosen by the seed and by what is asked, so that no thread's haste changes it."""
        with self.lock:
            attempt = self.attempts[basket, step] = self.attempts.get((basket, step), 0) + 1
        random = Random(f"{self.seed}/{basket}/{step}/{attempt}")
        luck = random.random() if attempt <= _LAST_FLAKY_ATTEMPT else 1.0
        return _Weather(random.uniform(0.01, 0.09), random.uniform(0.0, 0.02), luck < 0.1, 0.1 <= luck < 0.18)

    def write(
        self, row: int | None, basket: dict[str, Any], key: str | None, *, refused: bool
    ) -> dict[str, Any] | None:
        """Carry out a POST (no `row`) or a PUT; None if it is refused or there is no such row."""
        with self.lock:
            name, step = basket["name"], basket["step"]
            if refused or (row is not None and row not in self.baskets):
                self.log.append(Write(name, None, step))
                return None
            if key is not None and key in self.answers:
                answer = self.answers[key]
                self.log.append(Write(name, answer["id"], step))
                return answer
            created = row is None
            if row is None:
                row = len(self.baskets) + 1
            answer = self.baskets[row] = {**basket, "id": row}
            self.log.append(Write(name, row, step, created))
            if key is not None:
                self.answers[key] = answer
            return answer


class ShopServer:
    """Takes ``POST /baskets`` and ``PUT /baskets/7`` while its ``with`` block is open.

    It remembers the Idempotency-Key of those who send one, as Stripe and others do.

    Args:
        seed: Decides about delays and faults.
    """

    def __init__(self, seed: int) -> None:
        self._store = _Store(seed)
        store = self._store

        class Handler(_Handler):
            shop = store

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo-shop")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def log(self) -> list[Write]:
        """What arrived, in order."""
        with self._store.lock:
            return list(self._store.log)

    def rows(self) -> dict[int, Row]:
        """What is stored."""
        with self._store.lock:
            return {row: Row(basket["step"], basket["items"]) for row, basket in self._store.baskets.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False  # so that server_close() waits for all of them

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news here."""


class _Handler(BaseHTTPRequestHandler):
    shop: _Store
    timeout = 10

    def do_POST(self) -> None:
        self._write(None)

    def do_PUT(self) -> None:
        row = self.path.rpartition("/")[2]
        self._write(int(row) if row.isdecimal() else 0)

    def _write(self, row: int | None) -> None:
        basket = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        weather = self.shop.weather(basket["name"], basket["step"])
        time.sleep(weather.before)
        answer = self.shop.write(row, basket, self.headers["Idempotency-Key"], refused=weather.refused)
        time.sleep(weather.after)
        if weather.refused:
            self._answer(503, {"error": "busy"}, {"Retry-After": "0"})
        elif answer is None:
            self._answer(404, {"error": "no such basket"})
        elif not weather.dropped:  # else nothing: the connection is closed without an answer
            self._answer(201 if row is None else 200, answer)

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        with suppress(OSError):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The log that counts is the store's."""
