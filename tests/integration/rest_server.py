"""A real HTTP server of our own, that misbehaves on cue and keeps account of what it received and what it applied.

Left alone it is a small REST server: ``POST /baskets`` gives an id, ``PUT PATCH DELETE GET /baskets/7`` do what they say,
each answer carries an ETag, and ``If-Match`` is honoured. With ``server.plan(Fault(...), ...)`` the next requests are
answered by these faults, one each, in order of their arrival::

    def test_an_answer_is_lost(rest_server):
        rest_server.plan(Fault(reset=Cut.AFTER_APPLY))
        ...
        assert [write.verb for write in rest_server.applied] == ["PUT"]

Nobody has to sleep: tests wait with `wait_for_requests`, and hold answers back with a `threading.Event`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest


class Cut(Enum):
    """Where the connection is reset."""

    BEFORE_READ = "nothing was read"
    AFTER_HEADERS = "the headers were read, the body was not"
    MID_BODY = "half of the body was read"
    AFTER_APPLY = "the write was applied, and not answered"
    MID_REPLY = "half of the answer was sent"
    AT_CLOSE = "the answer was sent whole, then the connection was reset"


@dataclass(frozen=True)
class Fault:
    """What to do instead, for one request.

    Attributes:
        reset: Where to reset the connection.
        hold: Wait for this event before the write is applied.
        hold_answer: Wait for this event after it was applied.
        status: Answer this. The write is not applied, unless `apply` is true.
        headers: Headers of the answer, more than or instead of the usual ones; None as a value leaves one out.
        body: Body of the answer, exactly.
        apply: Whether the write takes effect; by default only if there is no `status`.
        drip: "headers" or "body": this part is sent byte by byte, with a pause, for ever.
        cut_to: Only so many bytes of the body are sent, under the full Content-Length.
        chunked: The answer is chunked; with `cut_to` its end is missing.
        until_close: The answer has no length: its end is the end of the connection.
        close_after: The connection is closed, silently, after a perfect answer.
    """

    reset: Cut | None = None
    hold: threading.Event | None = None
    hold_answer: threading.Event | None = None
    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    apply: bool | None = None
    drip: str | None = None
    cut_to: int | None = None
    chunked: bool = False
    until_close: bool = False
    close_after: bool = False


@dataclass(frozen=True)
class Received:
    """One request, as it came in."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: int
    """The client's port: the same for all requests of one connection."""

    @property
    def data(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)


def gzip_bomb(size: int) -> bytes:
    """A valid JSON object of `size` bytes, compressed about a thousandfold."""
    return gzip.compress(b'{"note": "' + b" " * size + b'"}')


class RestServer:
    """The server, with its ledger. Start it with ``with RestServer() as server``.

    Attributes:
        requests: All requests whose headers were read, in order.
        applied: Those that took effect, in order: the ground truth.
        store: Path of an item to its values.
        connections: How many connections were accepted.
        remembers_keys: Whether a write with a known Idempotency-Key is answered again instead of applied again.
        token: If set, anything without ``Authorization: Bearer <token>`` is answered by 401.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.applied: list[Received] = []
        self.store: dict[str, dict[str, Any]] = {}
        self.connections = 0
        self.remembers_keys = False
        self.token: str | None = None
        self.stopped = threading.Event()
        self._versions: dict[str, int] = {}
        self._answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self._faults: deque[Fault] = deque()
        self._always: Fault | None = None
        self._next_id = 1
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.rest = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), name="rest-server", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on, on 127.0.0.1."""
        return int(self._http.server_address[1])

    def plan(self, *faults: Fault) -> None:
        """Answer the next requests by these, one each."""
        with self._changed:
            self._faults.extend(faults)

    def plan_always(self, fault: Fault | None) -> None:
        """Answer every request that nothing else is planned for by this; None: behave."""
        with self._changed:
            self._always = fault

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> list[Received]:
        """Wait until `count` requests have come in, in all; returns them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, timeout), f"only {len(self.requests)}"
            return self.requests[:count]

    def wait_for_applied(self, count: int, timeout: float = 10.0) -> list[Received]:
        """Wait until `count` writes have taken effect, in all; returns them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.applied) >= count, timeout), f"only {len(self.applied)}"
            return self.applied[:count]

    def wait_for_hang_up(self, timeout: float = 10.0) -> None:
        """Wait until no connection is open any more."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, timeout), "connections are still open"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.wait_for_hang_up()

    # The rest is called by the handlers.

    def opened(self, connection: socket.socket) -> None:
        with self._changed:
            self.connections += 1
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def next_fault(self) -> Fault:
        with self._changed:
            return self._faults.popleft() if self._faults else self._always or Fault()

    def note(self, request: Received) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def wait(self, event: threading.Event | None) -> None:
        """Wait for a test's event, or for the end of the test."""
        while event is not None and not event.wait(0.02) and not self.stopped.is_set():
            pass

    def carry_out(self, request: Received) -> tuple[int, dict[str, str], bytes]:
        """Do what a good server does: status, headers and body of the answer."""
        with self._changed:
            if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
                return 401, {}, b""
            key = request.headers.get("Idempotency-Key", "")
            if self.remembers_keys and key in self._answers:
                return self._answers[key]
            answer = self._apply(request)
            if answer[0] < 300 and request.verb != "GET":
                self.applied.append(request)
                self._answers[key] = answer
                self._changed.notify_all()
            return answer

    def _apply(self, request: Received) -> tuple[int, dict[str, str], bytes]:
        path, verb = request.path, request.verb
        if verb == "POST":
            values = dict(request.data)
            if values.get("id") is None:
                values["id"] = self._next_id
                self._next_id += 1
            item = f"{path.rstrip('/')}/{values['id']}"
            return 201, {"Location": item, **self._put(item, values)}, json.dumps(values).encode()
        if path not in self.store:
            return 404, {}, b""
        wanted = request.headers.get("If-Match")
        if wanted is not None and wanted != self._etag(path):
            return 412, {}, b""
        if verb == "DELETE":
            del self.store[path]
            return 204, {}, b""
        tag = {"ETag": self._etag(path)}
        if verb in ("PUT", "PATCH"):
            kept = self.store[path] if verb == "PATCH" else {"id": self.store[path].get("id")}
            tag = self._put(path, {**kept, **request.data})
        return 200, tag, json.dumps(self.store[path]).encode()

    def _put(self, path: str, values: dict[str, Any]) -> dict[str, str]:
        self.store[path] = values
        self._versions[path] = self._versions.get(path, 0) + 1
        return {"ETag": self._etag(path)}

    def _etag(self, path: str) -> str:
        return f'"{self._versions.get(path, 0)}"'

    def put(self, path: str, values: Mapping[str, Any]) -> None:
        """Store something, as if somebody else had."""
        with self._changed:
            self._put(path, dict(values))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    rest: RestServer

    def process_request(self, request: Any, client_address: Any) -> None:
        self.rest.opened(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        # No shutdown() before close(): it would send a FIN where a reset is wanted.
        self.close_request(request)
        self.rest.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


class _Reset(Exception):
    """Go no further, and reset the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def handle_one_request(self) -> None:
        try:
            # The fault is drawn when the first byte is there, for it may say that nothing is to be read.
            if not self.connection.recv(1, socket.MSG_PEEK):
                self.close_connection = True
                return
            self._fault = self.server.rest.next_fault()
            if self._fault.reset is Cut.BEFORE_READ:
                raise _Reset
            super().handle_one_request()
        except (_Reset, OSError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                # Lingering for no time makes close() a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _serve(self) -> None:
        rest, fault = self.server.rest, self._fault
        length = int(self.headers.get("Content-Length") or 0)
        if fault.reset is Cut.AFTER_HEADERS:
            rest.note(self._received(b""))
            raise _Reset
        if fault.reset is Cut.MID_BODY:
            rest.note(self._received(self.rfile.read(length // 2)))
            raise _Reset
        request = self._received(self.rfile.read(length))
        rest.note(request)
        rest.wait(fault.hold)
        applies = fault.apply if fault.apply is not None else fault.status is None
        status, headers, body = rest.carry_out(request) if applies else (fault.status or 200, {}, b"")
        rest.wait(fault.hold_answer)
        if fault.reset is Cut.AFTER_APPLY:
            raise _Reset
        self._answer(fault, fault.status or status, headers, body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET = do_CONNECT = _serve

    def _received(self, body: bytes) -> Received:
        headers = {name.title(): value for name, value in self.headers.items()}
        renamed = {"Etag": "ETag"}
        return Received(
            self.command,
            self.path,
            {renamed.get(name, name): value for name, value in headers.items()},
            body,
            self.client_address[1],
        )

    def _answer(self, fault: Fault, status: int, headers: dict[str, str], body: bytes) -> None:
        body = body if fault.body is None else fault.body
        head: dict[str, str | None] = {"Content-Type": "application/json" if body else None, **headers, **fault.headers}
        if fault.chunked:
            head["Transfer-Encoding"] = "chunked"
        elif fault.until_close:
            head["Connection"] = "close"
        elif status != 204 and "Content-Length" not in fault.headers:
            head["Content-Length"] = str(len(body))
        lines = [
            f"HTTP/1.1 {status} Answer",
            *(f"{name}: {value}" for name, value in head.items() if value is not None),
        ]
        start = "\r\n".join([*lines, "", ""]).encode("latin-1")
        sent = body[: fault.cut_to]
        if fault.chunked:
            sent = f"{len(body):x}\r\n".encode() + sent + (b"\r\n0\r\n\r\n" if fault.cut_to is None else b"")
        if fault.drip == "headers":
            self._drip(start[:-2])
        self.wfile.write(start)
        if fault.drip == "body":
            self._drip(sent)
        if fault.reset is Cut.MID_REPLY:
            self.wfile.write(sent[: len(sent) // 2])
            raise _Reset
        self.wfile.write(sent)
        if fault.reset is Cut.AT_CLOSE:
            raise _Reset
        if fault.close_after or fault.until_close or fault.cut_to is not None:
            self.close_connection = True

    def _drip(self, data: bytes) -> None:
        """Bytes, one by one, for ever: first `data`, then a header or a body that never ends."""
        for byte in data:
            self._drop(bytes([byte]))
        while True:
            self._drop(b"x")

    def _drop(self, byte: bytes) -> None:
        if self.server.rest.stopped.wait(0.02):
            raise _Reset
        self.wfile.write(byte)


@pytest.fixture
def rest_server() -> Iterator[RestServer]:
    """A fresh server of our own, on a free port."""
    with RestServer() as server:
        yield server


@pytest.fixture
def other_rest_server() -> Iterator[RestServer]:
    """A second one, that is another origin."""
    with RestServer() as server:
        yield server
