"""A request straight over a connection of our own, as requests would send it, for a fraction of its price.

What requests does for each call, and urllib3 and http.client below it, takes several times as long as the request itself:
asking the environment, building and parsing URLs, copying headers from one kind of mapping to the next, an e-mail parser for
those of the answer. Here the head is written in one piece, and a plain answer is read in one piece. Everything that is not
plain (chunks, encodings, odd heads) is left to http.client and urllib3, which get it from its first byte on.
"""

from __future__ import annotations

import errno
import io
import re
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.util.wait import wait_for_read

from ._deadline import Attempt
from ._header import ReceivedHeaders
from ._reply import Reply, Unreadable
from ._response import Response

__all__ = ["Lines", "exchange"]

_HEAD_END = re.compile(rb"\n\r?\n")
_LONGEST_HEAD = 64 * 1024
_MOST_FIELDS = 100  # as in http.client
_CHUNK = 64 * 1024
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = r"[\t\x20-\x7e\x80-\xff]*?"
_PLAIN_HEAD = re.compile(rf"HTTP/1\.1 ([2-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n(?:{_NAME}:{_VALUE}\r\n)*\r\n")
_FIELD = re.compile(rf"({_NAME}):[ \t]*({_VALUE})[ \t]*\r\n")
_FOLD = re.compile(r"\r?\n[ \t]+")
_LENGTH = re.compile(r"[0-9]{1,15}")
# The server may refuse without having read everything, and hang up: its answer is there to be read all the same.
_REFUSED_HALFWAY = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE})


class Lines:
    """The connections of one thread: one to each of the last places, until it is closed.

    Args:
        connect: Makes a connection to the place in a URL, without opening it.
    """

    _MOST = 2  # the usual server and its mirror

    def __init__(self, connect: Callable[[str], Any]) -> None:
        self._connect = connect
        self._idle: dict[str, Any] = {}
        self._closed = False
        weakref.finalize(self, _close_all, self._idle)  # also at the exit of a program that closes nothing

    def take(self, place: str) -> Any:
        """A connection, for this thread alone until :meth:`give`."""
        connection = self._idle.pop(place, None)
        if connection is None:
            return self._connect(place)
        # One that the server has closed meanwhile would leave a needless doubt.
        if connection.sock is not None and wait_for_read(connection.sock, timeout=0.0):
            connection.close()
        return connection

    def give(self, place: str, connection: Any) -> None:
        """It may be used again."""
        if len(self._idle) >= self._MOST:
            self._idle.pop(next(iter(self._idle))).close()
        self._idle[place] = connection
        if self._closed:  # by another thread, while it was in use
            self.close()

    def close(self) -> None:
        """Close those that nobody uses now, and the others as soon as they are given back."""
        self._closed = True
        _close_all(self._idle)


def _close_all(connections: dict[str, Any]) -> None:
    while connections:
        with suppress(KeyError):  # another thread does the same
            connections.popitem()[1].close()


def exchange(
    lines: Lines,
    attempt: Attempt,
    verb: str,
    place: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    max_bytes: int,
    read: Callable[[Any, Attempt, int], bytes],
) -> Reply:
    """Send one request, and read the answer if its status says that there is one to read.

    Args:
        lines: Connections of this thread.
        attempt: Under way.
        verb: The method.
        place: Scheme, host and port, as a URL.
        path: The rest of the URL, which begins with a slash.
        headers: All but Host and Content-Length, checked.
        body: What is sent.
        max_bytes: How much of an answer is read.
        read: Reads the body of an answer that is not plain.

    Raises:
        Unreadable: The answer began, and did not end as it should.
        Exception: Anything else.
    """
    connection: Any = lines.take(place)
    keep = False
    try:
        if connection.sock is None:
            connection.timeout = max(attempt.remaining(), 0.001)
            connection.connect()
        sock: Any = connection.sock
        attempt.claim(connection, sock)
        if attempt.over:
            raise TimeoutError("no time is left to send anything")
        sock.settimeout(max(attempt.remaining(), 0.001))
        attempt.sent = True
        _send(sock, _head(connection, verb, path, headers, body), body)
        reply, keep = _receive(sock, attempt, verb, max_bytes, read)
        return reply
    finally:
        if not keep:
            connection.close()
        lines.give(place, connection)


def _head(connection: Any, verb: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    lines = [f"{verb} {path} HTTP/1.1"]
    if not any(name.lower() == "host" for name in headers):
        host = f"[{connection.host}]" if ":" in connection.host else connection.host
        lines.append(
            f"Host: {host}" if connection.port == connection.default_port else f"Host: {host}:{connection.port}"
        )
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or verb != "GET":
        lines.append(f"Content-Length: {len(body or b'')}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _send(sock: Any, head: bytes, body: bytes | None) -> None:
    try:
        if body is not None and len(body) > _CHUNK:
            sock.sendall(head)
            sock.sendall(body)
        else:
            sock.sendall(head + (body or b""))
    except OSError as error:
        if error.errno not in _REFUSED_HALFWAY:
            raise


def _receive(
    sock: Any, attempt: Attempt, verb: str, max_bytes: int, read: Callable[[Any, Attempt, int], bytes]
) -> tuple[Reply, bool]:
    """The reply, and whether the connection can be used again."""
    data, end = _read_head(sock)
    head = data[:end].decode("latin-1")
    # How much comes at once is chance; what is plain must not be.
    plain = _PLAIN_HEAD.fullmatch(head) if end <= _LONGEST_HEAD else None
    if plain is None:
        return _receive_slowly(sock, data, attempt, verb, max_bytes, read)
    status = int(plain[1])
    fields = _FIELD.findall(head, head.index("\n") + 1)
    headers = ReceivedHeaders(fields)
    length = headers.get("Content-Length", "0" if status == 204 else "")
    odd = "Transfer-Encoding" in headers or "Content-Encoding" in headers or len(fields) >= _MOST_FIELDS
    if odd or _LENGTH.fullmatch(length) is None:
        return _receive_slowly(sock, data, attempt, verb, max_bytes, read)
    size = 0 if status in (204, 304) else int(length)
    keep = "close" not in headers.get("Connection", "").lower()
    body = data[end:]
    if status >= 300:
        # The status of a failure says all we want to know, and its body might never end.
        return _reply(attempt, status, headers, b""), keep and len(body) == size
    if size > max_bytes:
        raise Unreadable("it is larger than max_answer_bytes")
    if len(body) < size:
        body = _read_body(sock, body, size, attempt)
    elif attempt.over:
        raise Unreadable("it was not complete in time")
    return Reply(status, headers, body[:size]), keep and len(body) == size


def _read_head(sock: Any) -> tuple[bytes, int]:
    """What has come until the head was whole (or too long, or cut), and where the head ends."""
    data: bytes = sock.recv(_CHUNK)
    found = _HEAD_END.search(data)
    while found is None and data and len(data) < _LONGEST_HEAD:
        more = sock.recv(_CHUNK)
        if not more:
            break
        seen = max(len(data) - 2, 0)
        data += more
        found = _HEAD_END.search(data, seen)
    return data, found.end() if found is not None else len(data)


def _read_body(sock: Any, begun: bytes, size: int, attempt: Attempt) -> bytes:
    parts, missing, broken = [begun], size - len(begun), ""
    try:
        while missing > 0 and not attempt.over:
            part = sock.recv(min(missing, 1 << 20))
            if not part:
                broken = "it ended too early"
                break
            parts.append(part)
            missing -= len(part)
    except OSError as error:
        broken = type(error).__name__
    # First of all: a connection that we ended ourselves looks like an answer that is complete, if its end is the end.
    if attempt.over:
        raise Unreadable("it was not complete in time")
    if broken:
        raise Unreadable(f"it broke off ({broken})")
    return b"".join(parts)


def _reply(attempt: Attempt, status: int, headers: ReceivedHeaders, body: bytes) -> Reply:
    if 300 <= status < 400:
        attempt.location = headers.get("Location")
    return Reply(status, headers, body)


def _receive_slowly(
    sock: Any, begun: bytes, attempt: Attempt, verb: str, max_bytes: int, read: Callable[[Any, Attempt, int], bytes]
) -> tuple[Reply, bool]:
    """The same, by http.client and urllib3."""
    low: Any = Response(_Replayed(sock, begun), method=verb)  # type: ignore[arg-type]
    try:
        low.begin()
        headers = ReceivedHeaders((name, _FOLD.sub(" ", value)) for name, value in low.headers.items())
        if not 200 <= low.status < 300:
            return _reply(attempt, low.status, headers, b""), False
        whole = urllib3.HTTPResponse(
            body=low,
            headers=urllib3.HTTPHeaderDict(low.headers.items()),
            status=low.status,
            preload_content=False,
            original_response=low,
            request_method=verb,
            enforce_content_length=True,
        )
        body = read(whole, attempt, max_bytes)
        return Reply(low.status, headers, body), low.isclosed() and not low.will_close
    finally:
        low.close()


class _Replayed(io.RawIOBase):
    """What has been read of a socket already, and then the rest of it; also what http.client takes for a socket."""

    def __init__(self, sock: Any, begun: bytes) -> None:
        super().__init__()
        self._sock = sock
        self._begun = memoryview(begun)

    def makefile(self, mode: str) -> io.BufferedReader:
        """To be read with a buffer."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._begun:
            return int(self._sock.recv_into(buffer))
        part = self._begun[: len(buffer)]
        buffer[: len(part)] = part
        self._begun = self._begun[len(part) :]
        return len(part)
