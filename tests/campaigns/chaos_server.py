"""An HTTP server on raw sockets, that can misbehave at any byte, and a ledger of what really happened.

The client says in a header, ``X-Fault``, how it wants to be treated (`FAULTS` has all the ways), and in another,
``X-Attempt``, which attempt of which save this is. So the ledger knows of each attempt whether it arrived and what was
made of it, and nothing depends on the order in which requests come in.

Left alone it is a small REST server of fleets of boats: ``POST /fleet-1/boats`` gives an id, ``PUT PATCH DELETE GET
/fleet-1/boats/7`` do what they say. What it promises is said by its `promise`: it may remember idempotency keys, and may
give and check ETags.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from typing import Any, Self

from chained_models.exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Guarantee, Method

HELD_AT_MOST = 2.0
"""Seconds that the server waits for a client to hang up. No client should take as long."""

DRIP = 0.05
"""Seconds between two bytes."""

HEAD_END = b"\r\n\r\n"


class Over(Exception):
    """Nothing more is to be done for this connection."""


# What the ledger keeps


@dataclass(frozen=True, slots=True)
class Applied:
    """One write that took effect."""

    fleet: str
    key: str
    n: int
    verb: str
    versioned: bool


@dataclass(slots=True)
class Seen:
    """One attempt, as it arrived.

    Attributes:
        fault: How it was treated.
        verb: What it was.
        status: What a good server would have answered; None if it was not carried out.
        applied: Whether it changed something.
    """

    fault: str
    verb: str
    status: int | None = None
    applied: bool = False


@dataclass
class Reply:
    """An answer, before somebody spoils it."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: str | None = "right"
    """What the Content-Length says: "right", something else, or None for no such header."""

    def head(self) -> bytes:
        headers = dict(self.headers)
        if self.length is not None:
            headers["Content-Length"] = str(len(self.body)) if self.length == "right" else self.length
        lines = [f"HTTP/1.1 {self.status} Answer", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def whole(self) -> bytes:
        return self.head() + self.body


class ChaosServer:
    """The server, with its ledger. Use it in a ``with`` block.

    Args:
        promise: What it promises. IDEMPOTENT: a write with a known key is answered again instead of applied again. FENCED: it
            gives ETags, and refuses an If-Match with an old one.
        timeout: Seconds that the client's attempts have; some faults are about it.
        bodies: How many bytes a giant answer has.

    Attributes:
        seen: The attempts that arrived, by their id.
        applied: The writes that took effect, in order: the ground truth.
        requests: How many requests arrived.
        slammed: How many connections were ended before there was a request.
        strayed: How many connections came to a place that only a redirect names.
        wrong: What no client of ours should do.
        hang_ups: Seconds that a client which was kept waiting took to hang up, by attempt.
    """

    def __init__(self, promise: Guarantee, timeout: float, bodies: int = 1 << 20) -> None:
        self.promise = promise
        self.timeout = timeout
        self.bodies = bodies
        self.seen: dict[str, Seen] = {}
        self.applied: list[Applied] = []
        self.requests = 0
        self.slammed = 0
        self.strayed = 0
        self.wrong: list[str] = []
        self.hang_ups: dict[str, float] = {}
        self.store: dict[tuple[str, str], dict[str, Any]] = {}
        self.stopped = threading.Event()
        self._versions: dict[tuple[str, str], int] = {}
        self._answers: dict[str, Reply] = {}
        self._sent: dict[str, tuple[bytes, str | None]] = {}
        self._last_id = 0
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._doors: list[socket.socket] = []
        self._fillers: list[socket.socket] = []
        self.url = self._door(self._serve)
        self.elsewhere = self._door(self._stray)
        self.doors = {
            "refused": self._shut_door(),
            "backlog full": self._full_door(),
            "slammed": self._door(self._slam),
            "slammed with a reset": self._door(self._slam_hard),
        }

    # Doors

    def _listener(self, backlog: int | None) -> tuple[socket.socket, str]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        if backlog is not None:
            listener.listen(backlog)
        self._doors.append(listener)
        return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"

    def _door(self, welcome: Callable[[socket.socket], None]) -> str:
        listener, url = self._listener(128)

        def accept() -> None:
            while not self.stopped.is_set():
                try:
                    guest = listener.accept()[0]
                except OSError:
                    return
                guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._changed:
                    self._open.add(guest)
                threading.Thread(target=self._receive, args=(welcome, guest), name="chaos-guest", daemon=True).start()

        self._threads.append(threading.Thread(target=accept, name="chaos-door", daemon=True))
        return url

    def _shut_door(self) -> str:
        """Bound, so that the port is nobody else's, and not listening."""
        return self._listener(None)[1]

    def _full_door(self) -> str:
        """Its backlog is used up, so that the next one to come waits for ever."""
        listener, url = self._listener(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._fillers.append(filler)
        return url

    def _slam(self, guest: socket.socket) -> None:
        self.slammed += 1

    def _slam_hard(self, guest: socket.socket) -> None:
        self.slammed += 1
        reset(guest)

    def _stray(self, guest: socket.socket) -> None:
        self.strayed += 1

    def _serve(self, guest: socket.socket) -> None:
        while not self.stopped.is_set():
            Exchange(self, guest).carry_out()

    def _receive(self, welcome: Callable[[socket.socket], None], guest: socket.socket) -> None:
        try:
            welcome(guest)
        except (Over, OSError):
            pass
        except Exception as error:
            self.wrong.append(f"the server itself broke: {error!r}")
        finally:
            guest.close()
            with self._changed:
                self._open.discard(guest)
                self._changed.notify_all()

    # Life

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for listener in self._doors:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for filler in self._fillers:
            filler.close()
        with self._changed:
            for guest in self._open:
                with contextlib.suppress(OSError):
                    guest.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        assert self.all_left(10), "the server's connections do not end"

    def all_left(self, seconds: float) -> bool:
        """Wait until no connection is open: then nothing is on its way any more. False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)

    # Truth

    def arrived(self, attempt: str, fault: str, verb: str) -> Seen:
        with self._changed:
            self.requests += 1
            if attempt in self.seen:
                self.wrong.append(f"{attempt} arrived twice")
            seen = self.seen[attempt] = Seen(fault, verb)
            return seen

    def carry_out(self, seen: Seen, exchange: Exchange) -> Reply:
        """Do what a good server does."""
        with self._changed:
            reply = self._carried_out(seen, exchange)
            seen.status = reply.status
            return reply

    def _carried_out(self, seen: Seen, exchange: Exchange) -> Reply:
        verb, key, body = exchange.verb, exchange.headers.get("idempotency-key", ""), exchange.body
        fleet, identity = exchange.place()
        if_match = exchange.headers.get("if-match")
        if verb != "GET" and self._sent.setdefault(key, (body, if_match)) != (body, if_match):
            self.wrong.append(
                f"V8: {exchange.attempt} has other bytes, or another version, than an earlier one of its key"
            )
        if verb != "GET" and self.promise & Guarantee.IDEMPOTENT and key in self._answers:
            return self._answers[key]
        values: dict[str, Any] = json.loads(body) if body else {}
        if body and values.get("note", note(fleet, values["n"])) != note(fleet, values["n"]):
            self.wrong.append(f"{exchange.attempt}: the values do not belong together")
        reply = self._effect(verb, fleet, identity, values, if_match)
        if reply.status < 300 and verb != "GET":
            n = int(exchange.attempt.split(":")[1])
            self.applied.append(Applied(fleet, key, n, verb, if_match is not None))
            self._answers[key] = reply
            seen.applied = True
        return reply

    def _effect(self, verb: str, fleet: str, identity: str, values: dict[str, Any], if_match: str | None) -> Reply:
        if verb == "POST":
            self._last_id += 1
            identity = str(self._last_id)
            return self._stored((fleet, identity), {**values, "id": self._last_id}, 201)
        place = fleet, identity
        if place not in self.store:
            return Reply(404, {}, b"")
        if if_match is not None and self.promise & Guarantee.FENCED and if_match != self._tag(place):
            return Reply(412, {}, b"")
        if verb == "GET":
            return self._said(place, 200)
        if verb == "DELETE":
            said = self._said(place, 200)
            del self.store[place]
            return said
        kept = self.store[place] if verb == "PATCH" else {"id": int(identity)}
        return self._stored(place, {**kept, **values}, 200)

    def _stored(self, place: tuple[str, str], values: dict[str, Any], status: int) -> Reply:
        self._versions[place] = self._versions.get(place, 0) + 1
        self.store[place] = {**values, "writes": self._versions[place]}
        return self._said(place, status)

    def _said(self, place: tuple[str, str], status: int) -> Reply:
        headers = {"Content-Type": "application/json"}
        if status == 201:
            headers["Location"] = f"/{place[0]}/boats/{place[1]}"
        if self.promise & Guarantee.FENCED:
            headers["ETag"] = self._tag(place)
        return Reply(status, headers, json.dumps(self.store[place]).encode())

    def _tag(self, place: tuple[str, str]) -> str:
        return f'"{self._versions[place]}"'

    def put(self, fleet: str, values: Mapping[str, Any]) -> int:
        """Store a boat, as if somebody had done so before; returns its id."""
        with self._changed:
            self._last_id += 1
            self._stored((fleet, str(self._last_id)), {**values, "id": self._last_id}, 201)
            return self._last_id


def note(fleet: str, n: int) -> str:
    """What belongs to the n-th save of a fleet."""
    return f"{fleet} at {n}"


def reset(connection: socket.socket) -> None:
    """Lingering for no time makes the close that follows a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Exchange:
    """One request, and what is made of it."""

    def __init__(self, server: ChaosServer, connection: socket.socket) -> None:
        self.server = server
        self.connection = connection
        self.verb = self.path = self.attempt = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self._head_size = self._line_size = 0
        self._taken = 0
        self.seen: Seen

    def carry_out(self) -> None:
        """Read as much of the request as its fault allows, and do what that says."""
        head = self._peek_at_head()
        self._head_size, self._line_size = len(head), head.index(b"\r\n") + 2
        line, *fields = head.decode("latin-1").split("\r\n")[:-2]
        self.verb, self.path, _ = line.split(" ")
        self.headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
        self.attempt, name = self.headers["x-attempt"], self.headers["x-fault"]
        self.seen = self.server.arrived(self.attempt, name, self.verb)
        FAULTS[name].act(self)

    def place(self) -> tuple[str, str]:
        """The fleet, and the identity or nothing."""
        _, fleet, boats, *rest = self.path.split("/")
        if boats != "boats" or len(rest) > 1:
            self.server.wrong.append(f"{self.attempt}: {self.path}")
        return fleet, rest[0] if rest else ""

    # Reading

    def _peek_at_head(self) -> bytes:
        wanted = 1
        while True:
            # The head stays in the socket: a fault may say that it is never read.
            there = self.connection.recv(max(wanted, 1 << 14), socket.MSG_PEEK)
            if not there:
                raise Over
            if HEAD_END in there:
                return there[: there.index(HEAD_END) + len(HEAD_END)]
            wanted = len(there) + 1
            self.connection.recv(wanted, socket.MSG_PEEK | socket.MSG_WAITALL)

    def take(self, size: int) -> bytes:
        taken = bytearray()
        while len(taken) < size:
            piece = self.connection.recv(size - len(taken))
            if not piece:
                raise Over
            taken += piece
        self._taken += size
        return bytes(taken)

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", 0))

    def read(self) -> None:
        """The whole request."""
        self.take(self._head_size)
        self.body = self.take(self.length)

    def read_some(self, *, line: bool = False, fields: bool = False, body: bool = False) -> None:
        """As far as that: the request line, the middle of the headers, or of the body."""
        if line:
            self.take(self._line_size)
        if fields:
            self.take((self._line_size + self._head_size) // 2)
        if body:
            self.take(self._head_size + self.length // 2)

    # Answering

    def apply(self) -> Reply:
        return self.server.carry_out(self.seen, self)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hold(self, seconds: float = HELD_AT_MOST) -> None:
        """Say nothing, until the client hangs up."""
        began = time.monotonic()
        if self.hung_up(seconds):
            self.server.hang_ups[self.attempt] = time.monotonic() - began
        elif not self.server.stopped.is_set():
            self.server.wrong.append(f"{self.attempt}: the client did not hang up within {seconds:g} s")

    def hung_up(self, seconds: float) -> bool:
        """Whether the client hangs up within that time."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return bool(poll.poll(seconds * 1000))

    def drip(self, data: bytes, endless: bytes = b"") -> None:
        """Byte by byte, until the client hangs up."""
        began = time.monotonic()

        def drops() -> Iterator[bytes]:
            for byte in data:
                yield bytes([byte])
            while endless:
                yield endless

        try:
            for drop in drops():
                if self.hung_up(DRIP):
                    raise Over
                self.send(drop)
                if time.monotonic() - began > HELD_AT_MOST:
                    self.server.wrong.append(f"{self.attempt}: the client still listens")
                    raise Over
        except (OSError, Over):
            self.server.hang_ups[self.attempt] = time.monotonic() - began
            raise

    def end(self) -> None:
        """Close the connection."""
        raise Over

    def reset(self) -> None:
        """Close it the hard way."""
        reset(self.connection)
        raise Over


# The faults


@dataclass(frozen=True)
class Fault:
    """One way to be treated.

    Attributes:
        act: What the server does with an exchange of which the head has been looked at, and nothing read.
        becomes: The class of failure that a write must become, as in docs/failures.md, if it would have been carried out; None:
            it is saved.
        unless: The same for a single method.
        door: A place to go to instead.
        slow: Whether it takes as long as an attempt may take.
        either: Whether there are two ways for it to end, `becomes` and saved.
        lies: Whether the answer says something else than the truth, so that the client cannot know it.
        last: Whether the connection cannot be used afterwards, although the client may not have noticed yet.
    """

    act: Callable[[Exchange], None]
    becomes: type[BackendError] | None = None
    unless: Mapping[Method, type[BackendError] | None] = field(default_factory=dict)
    door: bool = False
    slow: bool = False
    either: bool = False
    lies: bool = False
    last: bool = False

    def expected(self, method: Method) -> type[BackendError] | None:
        """The class of failure for this method."""
        kind = self.unless.get(method, self.becomes)
        return Unavailable if method is Method.READ and kind is InDoubt else kind


def _never(exchange: Exchange) -> None:
    raise AssertionError("nobody comes here through that door")


def _spoilt(spoil: Callable[[Exchange, Reply], None]) -> Callable[[Exchange], None]:
    """Read, apply, and answer in some other way."""

    def act(exchange: Exchange) -> None:
        exchange.read()
        spoil(exchange, exchange.apply())

    return act


def _cut(*, apply: bool, hard: bool = False, **read: bool) -> Callable[[Exchange], None]:
    """End the connection without an answer."""

    def act(exchange: Exchange) -> None:
        if read:
            exchange.read_some(**read)
        else:
            exchange.read()
        if apply:
            exchange.apply()
        exchange.reset() if hard else exchange.end()

    return act


def _status(
    status: int, *, apply: bool = False, body: bytes = b"{}", **headers: str | Callable[[], str]
) -> Callable[[Exchange], None]:
    """Answer that."""

    def act(exchange: Exchange) -> None:
        exchange.read()
        if apply:
            exchange.apply()
        said = {
            name.replace("_", "-"): value() if callable(value) else value.format(elsewhere=exchange.server.elsewhere)
            for name, value in headers.items()
        }
        exchange.send(Reply(status, {"Content-Type": "application/json", **said}, body).whole())

    return act


def _body(body: Callable[[Reply], bytes] | bytes, *, end: bool = False, **headers: str) -> Callable[[Exchange], None]:
    """Apply, and answer with another body."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        said = {**reply.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        changed = body(reply) if callable(body) else body
        exchange.send(Reply(reply.status, said, changed).whole())
        if end:
            exchange.end()

    return _spoilt(spoil)


def _raw(*pieces: Callable[[Reply], bytes] | bytes, end: bool = True, hard: bool = False) -> Callable[[Exchange], None]:
    """Apply, and answer with these bytes at once."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        exchange.send(b"".join(piece(reply) if callable(piece) else piece for piece in pieces))
        if hard:
            exchange.reset()
        if end:
            exchange.end()

    return _spoilt(spoil)


def _length(length: str | None, extra: bytes = b"", *, end: bool = True) -> Callable[[Exchange], None]:
    """Apply, and lie about the length."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        reply = Reply(reply.status, reply.headers, reply.body, length)
        exchange.send(reply.whole() + extra)
        if end:
            exchange.end()

    return _spoilt(spoil)


def _chunked(body: Callable[[bytes], bytes]) -> Callable[[Exchange], None]:
    """Apply, and answer in chunks, or in what is made of them."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        exchange.send(Reply(reply.status, headers, b"", None).head() + body(reply.body))
        exchange.end()

    return _spoilt(spoil)


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _header(*lines: str) -> Callable[[Exchange], None]:
    """Apply, and answer with these lines among the headers."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        head = reply.head()
        for line in lines:
            name = line.partition(":")[0].encode()
            kept = [each for each in head.split(b"\r\n") if not each.lower().startswith(name.lower() + b":")]
            head = b"\r\n".join(kept)
        exchange.send(head[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + reply.body)

    return _spoilt(spoil)


def _hang(*, apply: bool) -> Callable[[Exchange], None]:
    def act(exchange: Exchange) -> None:
        exchange.read()
        if apply:
            exchange.apply()
        exchange.hold()
        exchange.end()

    return act


def _late(exchange: Exchange) -> None:
    """The client has gone when the write is carried out."""
    exchange.read()
    exchange.hold()
    exchange.apply()
    exchange.end()


def _just_in_time(exchange: Exchange, share: float) -> None:
    exchange.read()
    exchange.hung_up(exchange.server.timeout * share)
    exchange.send(exchange.apply().whole())


def _dripping(*, head: bool) -> Callable[[Exchange], None]:
    def spoil(exchange: Exchange, reply: Reply) -> None:
        if head:
            exchange.drip(reply.head()[:-4] + b"\r\nX-Long: ", b"x")
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        exchange.send(Reply(reply.status, headers, b"", None).head())
        exchange.drip(b"FFFFF\r\n", b" ")

    return _spoilt(spoil)


def _endless(*, chunked: bool) -> Callable[[Exchange], None]:
    """An answer without an end, as fast as the client takes it."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        piece = b" " * (1 << 16)
        headers = {**reply.headers, **({"Transfer-Encoding": "chunked"} if chunked else {"Connection": "close"})}
        exchange.send(Reply(reply.status, headers, b"", None).head())
        for _ in range(exchange.server.bodies // len(piece) + 1):
            exchange.send(_chunk(piece) if chunked else piece)
        exchange.end()

    return _spoilt(spoil)


@cache
def bomb() -> bytes:
    """Small on the wire, 24 MB when unpacked."""
    return gzip.compress(b'{"note": "' + b" " * (24 << 20) + b'"}')


def _long_before(reply: Reply) -> bytes:
    return reply.body + b" " * (1 << 20)


def _early(status: int, *, wait: float) -> Callable[[Exchange], None]:
    """An interim answer that nobody asked for, and the real one behind it, perhaps only after a while."""

    def spoil(exchange: Exchange, reply: Reply) -> None:
        early = f"HTTP/1.1 {status} Early\r\nX-Early: yes\r\n\r\n".encode()
        if not wait:
            exchange.send(early + reply.whole())
            return
        exchange.send(early)
        exchange.hung_up(wait)
        exchange.send(reply.whole())

    return _spoilt(spoil)


def _close_behind(exchange: Exchange, reply: Reply) -> None:
    exchange.send(reply.whole())
    exchange.end()


def _reset_behind(exchange: Exchange, reply: Reply) -> None:
    exchange.send(reply.whole())
    exchange.reset()


def _another(reply: Reply) -> bytes:
    """What is said of some other thing."""
    return json.dumps({"id": 987654, "n": -5, "note": "another", "cargo": ["stolen"]}).encode()


def _past() -> str:
    return formatdate(time.time() - 1000, usegmt=True)


def _soon() -> str:
    return formatdate(time.time() + 1, usegmt=True)


_HTML = b"<!DOCTYPE html><html><body>Sign in to use this network</body></html>"
_STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
_DEEP = b"[" * 50_000 + b"]" * 50_000
_JUNK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"note": "junk!"}'
_FOUND = {Method.CREATE: Rejected, Method.DELETE: None}

FAULTS: dict[str, Fault] = {
    "none": Fault(_spoilt(lambda exchange, reply: exchange.send(reply.whole()))),
    # No connection, or one that ends before there was an answer.
    "refused": Fault(_never, Unavailable, door=True),
    "backlog full": Fault(_never, Unavailable, door=True, slow=True),
    "slammed": Fault(_never, InDoubt, door=True),
    "slammed with a reset": Fault(_never, InDoubt, door=True),
    "closed at the first byte": Fault(Exchange.end, InDoubt),
    "reset at the first byte": Fault(Exchange.reset, InDoubt),
    "closed after the request line": Fault(_cut(apply=False, line=True), InDoubt),
    "closed within the headers": Fault(_cut(apply=False, fields=True), InDoubt),
    "closed within the body": Fault(_cut(apply=False, body=True), InDoubt),
    "closed before applying": Fault(_cut(apply=False), InDoubt),
    "closed after applying": Fault(_cut(apply=True), InDoubt),
    "reset before applying": Fault(_cut(apply=False, hard=True), InDoubt),
    "reset after applying": Fault(_cut(apply=True, hard=True), InDoubt),
    # Half an answer.
    "half a status line": Fault(_raw(b"HTTP/1.1 2"), InDoubt),
    "the status line only": Fault(_raw(_STATUS_LINE), InDoubt),
    "half the headers": Fault(_raw(lambda reply: reply.head()[:-9]), InDoubt),
    "the headers only": Fault(_raw(lambda reply: reply.head()), InDoubt),
    "half the body": Fault(_raw(lambda reply: reply.whole()[:-9]), InDoubt),
    "half the body and a reset": Fault(_raw(lambda reply: reply.whole()[:-9], hard=True), InDoubt),
    "a length that is too long": Fault(_length("100000"), InDoubt),
    "a length that is too short": Fault(_length("9", end=False), InDoubt),
    "two lengths": Fault(_length("5, 9"), InDoubt),
    "chunks without an end": Fault(_chunked(_chunk), InDoubt),
    "a chunk of no size": Fault(_chunked(lambda body: b"zz\r\n" + body + b"\r\n0\r\n\r\n"), InDoubt),
    "a chunk that is shorter than it says": Fault(_chunked(lambda body: b"fff\r\n" + body), InDoubt),
    "chunks": Fault(_chunked(lambda body: _chunk(body[:5]) + _chunk(body[5:]) + b"0\r\n\r\n")),
    # No HTTP at all.
    "garbage": Fault(_raw(b"\x16\x03\x01\x02\x00garbage\r\n\r\n"), InDoubt),
    "a status of no meaning": Fault(_raw(b"HTTP/1.1 999 Huh\r\nContent-Length: 0\r\n\r\n", end=False), InDoubt),
    "a status that is no number": Fault(_raw(b"HTTP/1.1 OK 200\r\n\r\n"), InDoubt),
    # Time.
    "hangs before applying": Fault(_hang(apply=False), InDoubt, slow=True),
    "hangs after applying": Fault(_hang(apply=True), InDoubt, slow=True),
    "applied late": Fault(_late, InDoubt, slow=True),
    "answered just in time": Fault(lambda exchange: _just_in_time(exchange, 0.9), InDoubt, slow=True, either=True),
    "answered just at the end": Fault(lambda exchange: _just_in_time(exchange, 1.0), InDoubt, slow=True, either=True),
    "answered just too late": Fault(lambda exchange: _just_in_time(exchange, 1.1), InDoubt, slow=True, either=True),
    "headers drip": Fault(_dripping(head=True), InDoubt, slow=True),
    "body drips": Fault(_dripping(head=False), InDoubt, slow=True),
    # Interim answers.
    "100 three times": Fault(_raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 3, Reply.whole, end=False)),
    "103 and the answer": Fault(_early(103, wait=0), InDoubt),
    "103 and the answer later": Fault(_early(103, wait=0.03), InDoubt),
    "101 and the answer later": Fault(_early(101, wait=0.03), InDoubt),
    # Statuses.
    "400": Fault(_status(400), Rejected),
    "401": Fault(_status(401), Unauthenticated),
    "403": Fault(_status(403), Rejected),
    "404": Fault(_status(404), Gone, _FOUND, lies=True),
    "408": Fault(_status(408), Unavailable),
    "409": Fault(_status(409), Conflict),
    "410": Fault(_status(410), Gone, _FOUND, lies=True),
    "412": Fault(_status(412), Conflict),
    "413": Fault(_status(413), Rejected),
    "422": Fault(_status(422), Rejected),
    "429 for seconds": Fault(_status(429, Retry_After="1"), Unavailable),
    "429 until a date": Fault(_status(429, Retry_After=_soon), Unavailable),
    "429 until a date that is over": Fault(_status(429, Retry_After=_past), Unavailable),
    "429 for nonsense": Fault(_status(429, Retry_After="-1e999, NaN; soon"), Unavailable),
    "500": Fault(_status(500), InDoubt),
    "500 after applying": Fault(_status(500, apply=True), InDoubt),
    "501": Fault(_status(501), Rejected),
    "502": Fault(_status(502, body=_HTML), InDoubt),
    "503": Fault(_status(503), Unavailable),
    "503 for ages": Fault(_status(503, Retry_After="9" * 400), Unavailable),
    "504 after applying": Fault(_status(504, apply=True), InDoubt),
    "202 without applying": Fault(_status(202), InDoubt),
    "301 to elsewhere": Fault(_status(301, Location="{elsewhere}/boats/7"), Rejected),
    "307 to elsewhere": Fault(_status(307, Location="{elsewhere}/boats/7"), Rejected),
    "302 to nowhere": Fault(_status(302, Location="http://[broken/"), Rejected),
    # Answers that cannot be used.
    "HTML": Fault(_body(_HTML, Content_Type="text/html"), InDoubt),
    "HTML that says it is JSON": Fault(_body(_HTML), InDoubt),
    "broken JSON": Fault(_body(lambda reply: reply.body[:-1]), InDoubt),
    "a list": Fault(_body(lambda reply: b"[" + reply.body + b"]"), InDoubt),
    "a string": Fault(_body(b'"saved"'), InDoubt),
    "deep nesting": Fault(_body(_DEEP), InDoubt),
    "NaN": Fault(_body(b'{"n": NaN}'), InDoubt),
    "a wrong charset": Fault(_body(b'{"note": "\xe9\xff"}', Content_Type="application/json; charset=utf-8"), InDoubt),
    "no charset of this world": Fault(_body(lambda reply: reply.body, Content_Type="application/json; charset=x\xa0y")),
    "UTF-16": Fault(_body(lambda reply: reply.body.decode().encode("utf-16"))),
    "values of wrong types": Fault(_body(b'{"id": [1], "n": {"a": 2}, "note": 3, "cargo": "x"}'), lies=True),
    "names twice": Fault(_body(lambda reply: b'{"n": "no", ' + reply.body[1:])),
    "nothing": Fault(_body(b""), lies=True),
    "another's values": Fault(_body(_another), lies=True),
    # Packed, and giant.
    "gzip that is none": Fault(_body(lambda reply: reply.body, Content_Encoding="gzip"), InDoubt),
    "gzip that is broken": Fault(
        _body(lambda reply: gzip.compress(reply.body)[:10] + b"\xff" * 20, Content_Encoding="gzip", end=True), InDoubt
    ),
    "gzip": Fault(_body(lambda reply: gzip.compress(reply.body), Content_Encoding="gzip")),
    "a gzip bomb": Fault(_body(lambda reply: bomb(), Content_Encoding="gzip"), InDoubt),
    "a giant body": Fault(_body(_long_before), InDoubt),
    "a giant body in chunks": Fault(_endless(chunked=True), InDoubt),
    "a giant body until the end": Fault(_endless(chunked=False), InDoubt),
    "a giant header": Fault(_header("X-Long: " + "x" * 100_000), InDoubt),
    "too many headers": Fault(_header(*(f"X-{number}: x" for number in range(150))), InDoubt),
    # ETags.
    "no ETag": Fault(_header("ETag:")),
    "an ETag with another header in it": Fault(_header('ETag: "1"\r\nX-Evil: yes\r\nETag: "2"')),
    "an ETag over two lines": Fault(_header('ETag: "1\r\n X-Evil: yes"')),
    "an ETag with control characters": Fault(_header('ETag: "\x00\x1b[2J\x7f"')),
    # What is wrong with the connection afterwards.
    "answered twice": Fault(_raw(Reply.whole, Reply.whole, end=False), last=True),
    "junk behind the answer": Fault(_raw(Reply.whole, _JUNK, end=False), last=True),
    "much junk behind the answer": Fault(_raw(Reply.whole, _JUNK * 1000, end=False), last=True),
    "closed silently behind the answer": Fault(_spoilt(_close_behind), last=True),
    "reset behind the answer": Fault(_spoilt(_reset_behind), InDoubt, either=True, last=True),
}
"""All the ways to be treated, by name."""
