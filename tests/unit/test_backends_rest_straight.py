"""Requests that go straight to urllib3: the same to the server, and to the caller, as by requests."""

from __future__ import annotations

import functools
import gzip
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from chained_models.backends import _transport
from chained_models.backends.rest import RestBackend
from chained_models.exceptions import BackendError, Rejected, Unavailable
from chained_models.operation import Answer, Method

from ..answering_server import CERTIFICATE, AnsweringServer
from ..rest_operations import operation

BODY = b'{"id": 7}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def carry_out(backend: RestBackend, method: Method = Method.UPDATE, **changes: Any) -> Answer:
    one = operation(method, **changes)
    one.payload = backend.encode(one)
    return backend.execute(one)


def outcome(backend: RestBackend, method: Method) -> tuple[Any, ...]:
    """What came of one operation, in a form that can be compared."""
    try:
        answer = carry_out(backend, method, version='"6"')
    except BackendError as error:
        return type(error), error.retry_after
    return answer.values, answer.identity, answer.version


ANSWERS: dict[str, bytes] = {
    "plain": HEAD + b'Content-Length: 9\r\nETag: "7"\r\n\r\n' + BODY,
    "the last one": HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\n" + BODY,
    "odd case": b"HTTP/1.1 200 ok\r\ncontent-TYPE:application/json\r\nCONTENT-length:  9 \r\n\r\n" + BODY,
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 9\r\n\r\n" + BODY,
    "bare line ends": HEAD.replace(b"\r", b"") + b"Content-Length: 9\n\n" + BODY,
    "one bare line end": HEAD + b"Content-Length: 9\n\r\n" + BODY,
    "HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Content-Length: 9\r\n\r\n" + BODY,
    "HTTP/2.0": HEAD.replace(b"1.1", b"2.0") + b"Content-Length: 9\r\n\r\n" + BODY,
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 9\r\n\r\n" + BODY,
    "hints first": b"HTTP/1.1 103 Early\r\n\r\n" + HEAD + b"Content-Length: 9\r\n\r\n" + BODY,
    "folded": HEAD + b'ETag: "7\r\n 8"\r\nContent-Length: 9\r\n\r\n' + BODY,
    "until close": HEAD + b"\r\n" + BODY,
    "chunked": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n4\r\n"
    + BODY[:4]
    + b"\r\n5\r\n"
    + BODY[4:]
    + b"\r\n0\r\n\r\n",
    "chunked, trailer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n",
    "chunked, cut": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n" + BODY[:4],
    "chunked and a length": HEAD
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "gzip": HEAD
    + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(BODY))
    + gzip.compress(BODY),
    "not gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n" + BODY,
    "the same length twice": HEAD + b"Content-Length: 9\r\nContent-Length: 9\r\n\r\n" + BODY,
    "two lengths": HEAD + b"Content-Length: 9\r\nContent-Length: 4\r\n\r\n" + BODY,
    "a negative length": HEAD + b"Content-Length: -9\r\n\r\n" + BODY,
    "a length with a sign": HEAD + b"Content-Length: +9\r\n\r\n" + BODY,
    "no length in it": HEAD + b"Content-Length: many\r\n\r\n" + BODY,
    "a length of many digits": HEAD + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n" + BODY,
    "too short": HEAD + b"Content-Length: 10\r\n\r\n" + BODY,
    "too long": HEAD + b"Content-Length: 9\r\n\r\n" + BODY + b"HTTP/1.1 200 OK\r\n\r\n",
    "no body": HEAD + b"Content-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 Nothing\r\n\r\n",
    "204 with a body": b"HTTP/1.1 204 Nothing\r\nContent-Length: 9\r\n\r\n" + BODY,
    "201": b"HTTP/1.1 201 Made\r\nLocation: /baskets/9\r\nContent-Length: 0\r\n\r\n",
    "301": b"HTTP/1.1 301 Moved\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
    "304": b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n" + BODY,
    "503": b"HTTP/1.1 503 Later\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
    "999": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 What\r\nContent-Length: 0\r\n\r\n",
    "no header": HEAD + b"nonsense\r\nContent-Length: 9\r\n\r\n" + BODY,
    "a blank in a name": HEAD + b"X Y: z\r\nContent-Length: 9\r\n\r\n" + BODY,
    "a zero in a value": HEAD + b'ETag: "\x00"\r\nContent-Length: 9\r\n\r\n' + BODY,
    "latin-1": HEAD + b'ETag: "\xe9"\r\nContent-Length: 9\r\n\r\n' + BODY,
    "an empty value": HEAD + b"ETag:\r\nContent-Length: 9\r\n\r\n" + BODY,
    "the same name twice": HEAD + b'ETag: "7"\r\nETag: "8"\r\nContent-Length: 9\r\n\r\n' + BODY,
    "a long header": HEAD + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 9\r\n\r\n" + BODY,
    "many headers": HEAD + b"X: y\r\n" * 150 + b"Content-Length: 9\r\n\r\n" + BODY,
    "99 headers": HEAD + b"X: y\r\n" * 97 + b"Content-Length: 9\r\n\r\n" + BODY,
    "a cut head": HEAD,
    "a cut line": HEAD[:-9],
    "nothing": b"",
    "garbage": b"\x16\x03\x01 not HTTP at all\r\n\r\n",
}


@pytest.mark.parametrize("step", [1 << 20, 7], ids=["at once", "in pieces"])
@pytest.mark.parametrize("name", ANSWERS)
def test_any_answer_means_what_it_means_to_requests(name: str, step: int) -> None:
    """Bytes for bytes, plain or not, for a create, an update and a read."""
    with AnsweringServer(ANSWERS[name], step=step if len(ANSWERS[name]) < 1000 else 1 << 20) as server:
        base = f"http://127.0.0.1:{server.port}"
        with requests.Session() as session:
            for method in (Method.CREATE, Method.UPDATE, Method.READ):
                ours, theirs = RestBackend(base, conditional=True), RestBackend(base, session=session, conditional=True)
                assert outcome(ours, method) == outcome(theirs, method)
                ours.close()


def test_the_request_is_the_same_to_the_server() -> None:
    """Verb, path, headers and body, but for the order of the headers."""

    def lines(request: bytes) -> tuple[bytes, set[bytes], bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *rest = head.split(b"\r\n")
        return first, set(rest), body

    with AnsweringServer(ANSWERS["plain"]) as server, requests.Session() as session:
        session.trust_env = False
        base = f"http://127.0.0.1:{server.port}/api"
        for options in (
            {},
            {"auth": ("us\xe9r", "w:rd")},
            {"auth": lambda: {"X-Key": "k"}, "headers": {"x-key": "old"}},
        ):
            for method in Method:
                carry_out(RestBackend(base, **options), method)
                carry_out(RestBackend(base, session=session, **options), method)
    pairs = zip(server.received[::2], server.received[1::2], strict=True)
    assert all(lines(ours) == lines(theirs) for ours, theirs in pairs)


def test_a_host_of_the_users_stands_alone() -> None:
    """Two of them would be an attack."""
    with AnsweringServer(ANSWERS["plain"]) as server:
        carry_out(RestBackend(f"http://127.0.0.1:{server.port}", headers={"hOST": "shop.example"}))
    assert server.received[0].lower().count(b"\r\nhost:") == 1


# Who stands in between


@pytest.fixture
def straight(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the requests that requests knows nothing of."""
    calls: list[int] = []
    inner = _transport._straight

    def counted(*args: Any) -> Any:
        calls.append(1)
        return inner(*args)

    monkeypatch.setattr(_transport, "_straight", counted)
    return lambda: len(calls)


@pytest.mark.parametrize(
    ("kind", "name", "low"),
    [
        (requests.Session, "send", False),
        (requests.Session, "get_adapter", False),
        (HTTPAdapter, "send", False),
        (urllib3.HTTPConnectionPool, "urlopen", True),
        (http.client.HTTPConnection, "putrequest", True),
        (http.client.HTTPConnection, "getresponse", True),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_who_stands_in_the_way_of_a_request_sees_it(
    kind: type, name: str, low: bool, straight: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracers and test doubles replace methods, and may dress as what they replace; when they go, the way is short again."""
    seen: list[str] = []
    inner = getattr(kind, name)

    @functools.wraps(inner)
    def in_between(*args: Any, **options: Any) -> Any:
        seen.append(name)
        return inner(*args, **options)

    with AnsweringServer(ANSWERS["the last one"]) as server:
        backend = RestBackend(f"http://127.0.0.1:{server.port}")
        carry_out(backend)
        assert straight() == 1
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, in_between)
            assert carry_out(backend).values == {"id": 7}
        assert (seen, straight()) == ([name], 1 + low)
        carry_out(backend)
        assert straight() == 2 + low
        backend.close()


def test_what_only_requests_can_do_is_left_to_it(straight: Callable[[], int]) -> None:
    """A session of the user's, the environment, and auth objects that may do anything."""

    class Signing(requests.auth.AuthBase):
        def __call__(self, request: Any) -> Any:
            request.headers["X-Signed"] = str(len(request.body))
            return request

    with AnsweringServer(ANSWERS["plain"]) as server, requests.Session() as session:
        base = f"http://127.0.0.1:{server.port}"
        for options in ({"session": session}, {"trust_env": True}, {"auth": Signing()}):
            backend = RestBackend(base, **options)
            carry_out(backend)
            backend.close()
    assert straight() == 0
    assert b"X-Signed: 40" in server.received[2]


# Connections


def test_an_answer_before_the_request_was_read() -> None:
    """A server may refuse a large body and hang up: that is its answer, and no broken connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            guest = listener.accept()[0]
            guest.recv(100)
            guest.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            guest.shutdown(socket.SHUT_WR)
            while guest.recv(1 << 20):
                pass
            guest.close()

        server = threading.Thread(target=refuse)
        server.start()
        backend = RestBackend(f"http://127.0.0.1:{listener.getsockname()[1]}", encode=lambda *_: b"x" * 3_000_000)
        with pytest.raises(Rejected, match="413"):
            carry_out(backend)
        backend.close()
        server.join()


# TLS


@pytest.fixture
def secure() -> Iterator[AnsweringServer]:
    """A server that nobody has vouched for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with AnsweringServer(ANSWERS["plain"], context=context) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for(secure: AnsweringServer) -> None:
    """Nothing is sent to such a server."""
    backend = RestBackend(f"https://localhost:{secure.port}")
    with pytest.raises(Unavailable):
        carry_out(backend)
    assert secure.received == []
    backend.close()


def test_over_tls(secure: AnsweringServer, straight: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with the certificates that requests trusts; and for no other name than that in the certificate."""
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(CERTIFICATE))
    backend = RestBackend(f"https://localhost:{secure.port}")
    assert carry_out(backend).values == {"id": 7}
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", secure.port))])
    backend.base_url = f"https://other.example:{secure.port}"
    with pytest.raises(Unavailable):
        carry_out(backend)
    assert (len(secure.received), straight()) == (1, 2)
    backend.close()


# URLs


@given(st.text(st.sampled_from("aZ09-_~.%/2eE?# ;:é\\"), max_size=12))
def test_a_path_that_is_taken_as_it_is_would_not_be_changed(path: str) -> None:
    """By the way that requests treats URLs."""
    if _transport._STEADY.fullmatch(path) is None:
        return
    request = requests.PreparedRequest()
    request.prepare_url(f"http://shop.example/api/{path}", None)
    assert request.url == f"http://shop.example/api/{path}"
