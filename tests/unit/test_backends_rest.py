"""RestBackend against a mocked requests: what it sends, and what it makes of what comes back."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import responses
import urllib3
from requests.auth import HTTPBasicAuth
from urllib3 import exceptions as low

from chained_models._lane import Lane
from chained_models.backends.rest import Payload, Reply, RestBackend
from chained_models.exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    InvalidIdentity,
    InvalidOption,
    MissingExtra,
    MissingIdentity,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Answer, Guarantee, Method, Operation
from chained_models.policies import failure_class

from ..rest_operations import BASKET, LINE, VERBS, operation

BASE = "https://shop.example/api"
CANARY = "canary-4711"
WRITES = [method for method in Method if method is not Method.READ]


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    """Requests go nowhere."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def url_of(method: Method) -> str:
    return f"{BASE}/baskets" if method is Method.CREATE else f"{BASE}/baskets/7"


def answer_with(mock: responses.RequestsMock, method: Method = Method.UPDATE, **answer: Any) -> None:
    mock.add(VERBS[method], url_of(method), **answer)


def carry_out(backend: RestBackend, method: Method = Method.UPDATE, **changes: Any) -> Answer:
    """Encode and execute, as a dispatcher does."""
    one = operation(method, **changes)
    one.payload = backend.encode(one)
    return backend.execute(one)


def sent(mock: responses.RequestsMock, index: int = -1) -> requests.PreparedRequest:
    return mock.calls[index].request


# What is sent


def test_each_method_has_its_verb_and_place(mocked: responses.RequestsMock) -> None:
    """POST to the collection, everything else to the item; a patch sends only what changed, under its alias."""
    backend = RestBackend(BASE)
    bodies = {
        Method.CREATE: {"things": ["apple"], "note": "red"},
        Method.UPDATE: {"id": 7, "things": ["apple"], "note": "red"},
        Method.PATCH: {"note": "red"},
    }
    for method in Method:
        answer_with(mocked, method, json={})
        carry_out(backend, method)
        request = sent(mocked)
        assert (request.method, request.url) == (VERBS[method], url_of(method))
        assert (json.loads(request.body) if request.body else None) == bodies.get(method)
        assert request.headers.get("Content-Type") == ("application/json" if method in bodies else None)
        assert request.headers.get("Idempotency-Key") == (None if method is Method.READ else "5b7f-0001")
        assert "If-Match" not in request.headers
    backend.close()


def test_a_create_with_an_identity_of_the_client_sends_it(mocked: responses.RequestsMock) -> None:
    """Only an unknown identity is left out, not any null."""
    answer_with(mocked, Method.CREATE, json={})
    carry_out(RestBackend(BASE), Method.CREATE, values={"id": 9, "items": None, "note": "red"})
    assert json.loads(sent(mocked).body or "") == {"id": 9, "things": None, "note": "red"}


def test_every_attempt_sends_the_same_bytes(mocked: responses.RequestsMock) -> None:
    """The hook runs once, before the first attempt; the model's values may change meanwhile."""
    calls = []

    def encode(operation: Operation, data: dict[str, Any]) -> dict[str, Any]:
        calls.append(operation.id)
        return {"n": len(calls), **data}

    answer_with(mocked, body=requests.ReadTimeout())
    backend = RestBackend(BASE, encode=encode)
    one = operation(Method.UPDATE)
    one.payload = backend.encode(one)
    for attempt in (1, 2, 3):
        one.attempt = attempt
        with pytest.raises(InDoubt):
            backend.execute(one)
        one.values = {"id": 7}
    assert calls == ["save-1"]
    assert len({call.request.body for call in mocked.calls}) == 1
    assert {call.request.headers["Idempotency-Key"] for call in mocked.calls} == {"5b7f-0001"}


@pytest.mark.parametrize(
    ("body", "bytes_sent"),
    [({"é": 1}, '{"é":1}'.encode()), ([1], b"[1]"), ("é", "é".encode()), (b"\x00", b"\x00"), (None, b"null")],
)
def test_an_encode_hook_may_return_data_or_a_finished_body(
    mocked: responses.RequestsMock, body: Any, bytes_sent: bytes
) -> None:
    """Data becomes JSON in UTF-8, text becomes UTF-8, bytes stay."""
    answer_with(mocked, json={})
    carry_out(RestBackend(BASE, encode=lambda operation, data: body, headers={"Content-type": "text/x"}))
    assert sent(mocked).body == bytes_sent
    assert sent(mocked).headers["Content-Type"] == "text/x"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, object(), "\ud800", b"x"], ids=lambda value: type(value).__name__
)
def test_what_is_not_json_is_rejected_before_anything_is_sent(value: Any) -> None:
    """With the cause, and without the value in the text."""
    with pytest.raises(Rejected) as caught:
        RestBackend(BASE).encode(operation(Method.UPDATE, values={"id": 7, "note": value, "items": [CANARY]}))
    assert caught.value.__cause__ is not None
    assert CANARY not in str(caught.value)


def test_a_raising_encode_hook(mocked: responses.RequestsMock) -> None:
    """Its own failure class counts; anything else is Rejected, without its text."""

    def encode(operation: Operation, data: dict[str, Any]) -> dict[str, Any]:
        raise error

    backend = RestBackend(BASE, encode=encode)
    error: Exception = Conflict("mine")
    with pytest.raises(Conflict, match="mine"):
        carry_out(backend)
    error = KeyError(CANARY)
    with pytest.raises(Rejected) as caught:
        carry_out(backend)
    assert caught.value.__cause__ is error
    assert CANARY not in str(caught.value)


def test_a_payload_does_not_show_its_body() -> None:
    """An operation's repr ends up in logs."""
    payload = RestBackend(BASE).encode(operation(Method.UPDATE, values={"id": 7, "note": CANARY}))
    assert payload == Payload("baskets/7", json.dumps({"id": 7, "note": CANARY}, separators=(",", ":")).encode())
    assert CANARY not in repr(payload)


def test_a_composite_identity_goes_through_the_route(mocked: responses.RequestsMock) -> None:
    """The route's fields are filled from the values for a create, and from the identity afterwards."""
    values = {"order_id": 3, "number": 2, "count": 1}
    line = {
        "model": LINE.name,
        "resource": "orders/{order_id}/lines",
        "values": values,
        "changed": frozenset({"count"}),
    }
    mocked.add("POST", f"{BASE}/orders/3/lines", status=201, headers={"Location": "/orders/3/lines/2"})
    mocked.add("PATCH", f"{BASE}/orders/5/lines/6", json={})
    backend = RestBackend(BASE)
    assert carry_out(backend, Method.CREATE, **line) == Answer(identity=(3, "2"))
    carry_out(backend, Method.PATCH, **line, identity=(5, 6))
    backend.check(LINE, "orders/{order_id}/lines")
    for resource in ("lines", "orders/{order_id}/lines/{number}", "orders/{typo}/lines", ""):
        with pytest.raises(InvalidOption):
            backend.check(LINE, resource)
    backend.check(BASKET, "baskets")


@pytest.mark.parametrize("identity", ["", "..", "%2e%2e", "a\x00", "../admin", True, 1.5, b"7"])
def test_an_identity_that_could_escape_is_not_sent(mocked: responses.RequestsMock, identity: Any) -> None:
    """It is the caller's mistake, and a failure that was surely not applied."""
    for method in (Method.UPDATE, Method.PATCH, Method.DELETE, Method.READ):
        with pytest.raises(InvalidIdentity) as caught:
            carry_out(RestBackend(BASE), method, identity=identity)
        assert failure_class(caught.value) is Rejected
    assert len(mocked.calls) == 0


def test_without_an_identity_there_is_nothing_to_send() -> None:
    """It says so itself, should the dispatcher not have done so."""
    with pytest.raises(MissingIdentity):
        RestBackend(BASE).encode(operation(Method.UPDATE, identity=None))


def test_an_operation_that_cannot_be_understood_is_rejected() -> None:
    """An unknown class, or a resource that is no path."""
    backend = RestBackend(BASE)
    with pytest.raises(Rejected, match="LookupError"):
        backend.encode(operation(Method.UPDATE, model="nowhere.Nothing"))
    with pytest.raises(Rejected, match="InvalidOption"):
        backend.encode(operation(Method.UPDATE, resource="a?\n"))
    with pytest.raises(Rejected, match="InvalidOption"):
        backend.encode(operation(Method.UPDATE, idempotency_key="a\r\nX: 1"))


def test_an_operation_without_a_payload_is_encoded_on_the_spot(mocked: responses.RequestsMock) -> None:
    """So `execute` can be called alone, in a test or a script."""
    answer_with(mocked, json={"note": "green"})
    assert RestBackend(BASE).execute(operation(Method.UPDATE)) == Answer(values={"note": "green"})


# Settings that are read at each attempt


def test_base_url_headers_and_credentials_are_taken_at_each_attempt(mocked: responses.RequestsMock) -> None:
    """Redirecting to a mirror and renewing a token need no new save."""
    mocked.add("PUT", f"{BASE}/baskets/7", json={})
    mocked.add("PUT", "http://mirror.example/x/baskets/7", json={})
    backend = RestBackend(BASE, headers={"X-Tenant": "a"}, auth=("user", "word"))
    one = operation(Method.UPDATE)
    one.payload = backend.encode(one)
    backend.execute(one)
    assert sent(mocked).headers["Authorization"] == "Basic dXNlcjp3b3Jk"
    backend.base_url = "http://mirror.example/x/"
    backend.headers = lambda: {"X-Tenant": "b"}
    backend.auth = lambda: "token-2"
    backend.execute(one)
    assert backend.base_url == "http://mirror.example/x"
    assert sent(mocked).url == "http://mirror.example/x/baskets/7"
    assert (sent(mocked).headers["X-Tenant"], sent(mocked).headers["Authorization"]) == ("b", "Bearer token-2")


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (None, None),
        (HTTPBasicAuth("user", "word"), "Basic dXNlcjp3b3Jk"),
        (lambda: None, None),
        (lambda: "t", "Bearer t"),
        (lambda: {"Authorization": "Key k"}, "Key k"),
        (lambda: ("user", "word"), "Basic dXNlcjp3b3Jk"),
        (dict, None),
    ],
)
def test_the_forms_of_credentials(mocked: responses.RequestsMock, auth: Any, header: str | None) -> None:
    """A pair, an auth object, or a callable that gives one, or a token, or headers."""
    answer_with(mocked, json={})
    carry_out(RestBackend(BASE, auth=auth))
    assert sent(mocked).headers.get("Authorization") == header


def test_credentials_that_cannot_be_had_leave_the_save_for_later(mocked: responses.RequestsMock) -> None:
    """Nothing was sent. A BackendError says itself what it means; a token that is no header will never do."""

    def refused() -> str:
        raise Unauthenticated("signed out")

    def lost() -> str:
        raise KeyError(CANARY)

    backend = RestBackend(BASE, auth=lost)
    with pytest.raises(Unavailable) as caught:
        carry_out(backend)
    assert CANARY not in str(caught.value)
    backend.auth = refused
    with pytest.raises(Unauthenticated, match="signed out"):
        carry_out(backend)
    backend.auth = lambda: CANARY + "\r\nX: 1"
    with pytest.raises(Rejected) as rejected:
        carry_out(backend)
    assert CANARY not in str(rejected.value)
    assert len(mocked.calls) == 0


@pytest.mark.parametrize("style", ["bare", "quoted"])
def test_the_key_style(mocked: responses.RequestsMock, style: str) -> None:
    """Bare, or a quoted string."""
    answer_with(mocked, json={})
    carry_out(RestBackend(BASE, key_style=style))
    assert sent(mocked).headers["Idempotency-Key"] == ("5b7f-0001" if style == "bare" else '"5b7f-0001"')


def test_conditional_writes(mocked: responses.RequestsMock) -> None:
    """The ETag is the version, and comes back as If-Match of everything that changes a stored thing."""
    backend = RestBackend(BASE, conditional=True)
    for method in Method:
        answer_with(mocked, method, json={}, headers={"ETag": '"8"'})
        assert carry_out(backend, method, version='W/"7"').version == '"8"'
        wanted = None if method in (Method.CREATE, Method.READ) else 'W/"7"'
        assert sent(mocked).headers.get("If-Match") == wanted
        carry_out(backend, method)
        assert "If-Match" not in sent(mocked).headers
    for version in (7, '"7"\r\nX: 1', "☃"):
        with pytest.raises(Rejected, match="ETag"):
            carry_out(backend, version=version)


def test_without_conditional_there_are_no_versions(mocked: responses.RequestsMock) -> None:
    """An ETag is then just a header."""
    answer_with(mocked, json={}, headers={"ETag": '"8"'})
    assert carry_out(RestBackend(BASE), version='"7"').version is None
    assert "If-Match" not in sent(mocked).headers


# Statuses

ALL = frozenset(Method)
ON_ITEM = ALL - {Method.CREATE}


def expected(status: int, method: Method) -> type[BackendError] | None:
    """The table of the design, written down once more."""
    if 200 <= status < 300 or (method is Method.DELETE and status in (404, 410)):
        return None
    table: dict[int, type[BackendError]] = {
        401: Unauthenticated,
        408: Unavailable,
        409: Conflict,
        412: Conflict,
        429: Unavailable,
        501: Rejected,
        503: Unavailable,
        505: Rejected,
    }
    if status in (404, 410) and method in ON_ITEM:
        return Gone
    if status in table:
        return table[status]
    if status < 500:
        return Rejected
    return Unavailable if method is Method.READ else InDoubt


@pytest.mark.parametrize("method", Method)
def test_every_status_has_its_failure_class(mocked: responses.RequestsMock, method: Method) -> None:
    """All of 300 to 599 for every verb; the text names status and route, and nothing else."""
    backend = RestBackend(BASE)
    headers = {"Location": f"https://evil.example/{CANARY}?{CANARY}", "X": CANARY}
    for status in range(300, 600):
        mocked.reset()
        answer_with(mocked, method, status=status, body=CANARY, headers=headers)
        kind = expected(status, method)
        if kind is None:
            assert carry_out(backend, method) == Answer()
            continue
        with pytest.raises(BackendError) as caught:
            carry_out(backend, method)
        assert type(caught.value) is kind, status
        text = str(caught.value)
        assert text.startswith(f"{VERBS[method]} baskets{'' if method is Method.CREATE else '/{id}'} answered {status}")
        assert CANARY not in text
        assert "7" not in text.replace(str(status), "")
        assert caught.value.__cause__ is None
        assert len(mocked.calls) == 1
    backend.close()


@pytest.mark.parametrize("status", [100, 102, 199, 600, 799, 999])
def test_a_status_from_another_world_is_a_doubt(mocked: responses.RequestsMock, status: int) -> None:
    """Nobody knows what it means; of a read, nobody needs to."""
    answer_with(mocked, Method.CREATE, status=status)
    answer_with(mocked, Method.READ, status=status)
    with pytest.raises(InDoubt):
        carry_out(RestBackend(BASE), Method.CREATE)
    with pytest.raises(Unavailable):
        carry_out(RestBackend(BASE), Method.READ)


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "key_style"), (428, "conditional=True"), (202, "accept_202"), (307, "base_url")]
)
def test_a_message_names_the_option_that_helps(mocked: responses.RequestsMock, status: int, hint: str) -> None:
    """Where an option could be the remedy, the text says which."""
    answer_with(mocked, status=status, headers={"Location": "https://evil.example/x"})
    with pytest.raises(BackendError, match=hint) as caught:
        carry_out(RestBackend(BASE))
    assert ("evil.example" in str(caught.value)) is (status == 307)


def test_202_is_saved_only_by_request(mocked: responses.RequestsMock) -> None:
    """Otherwise a write is in doubt: the server has not done it yet, and may never."""
    for method in Method:
        answer_with(mocked, method, status=202, json={"note": "later"})
        with pytest.raises(Unavailable if method is Method.READ else InDoubt):
            carry_out(RestBackend(BASE), method)
        assert carry_out(RestBackend(BASE, accept_202=True), method) == Answer(values={"note": "later"})


@pytest.mark.parametrize(
    ("status", "kind"), [(408, Unavailable), (429, Unavailable), (503, Unavailable), (500, InDoubt), (504, InDoubt)]
)
def test_retry_after_is_handed_on(mocked: responses.RequestsMock, status: int, kind: type[BackendError]) -> None:
    """In seconds; the policy clamps it."""
    answer_with(mocked, status=status, headers={"Retry-After": "17"})
    with pytest.raises(kind) as caught:
        carry_out(RestBackend(BASE))
    assert caught.value.retry_after == 17.0
    mocked.reset()
    late = {"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT", "Date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    answer_with(mocked, status=status, headers=late)
    with pytest.raises(kind) as caught:
        carry_out(RestBackend(BASE))
    assert caught.value.retry_after == 10.0
    mocked.reset()
    answer_with(mocked, status=status, headers={"Retry-After": "-1"})
    with pytest.raises(kind) as caught:
        carry_out(RestBackend(BASE))
    assert caught.value.retry_after is None


# Answers


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_an_empty_answer_is_nothing_new(mocked: responses.RequestsMock, method: Method, body: bytes) -> None:
    """With any content type: many servers send one with nothing in it."""
    answer_with(mocked, method, body=body, content_type="text/html")
    assert carry_out(RestBackend(BASE), method) == Answer()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "broken": (b"{" + CANARY.encode(), "application/json"),
    "NaN": (b'{"a": NaN}', "application/json"),
    "deep": (b"[" * 100_000, "application/json"),
    "not an object": (b"[1]", "application/json"),
    "null": (b"null", "application/json"),
    "text": (b"OK", "text/plain"),
    "a portal's page": (b"<html>Sign in</html>", "text/html; charset=utf-8"),
    "too large": (b'{"a": "' + b"x" * 2000 + b'"}', "application/json"),
}


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(("body", "content_type"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_answer_leaves_a_write_in_doubt(
    mocked: responses.RequestsMock, method: Method, body: bytes, content_type: str
) -> None:
    """And a read undone; the answer is neither quoted nor carried along."""
    answer_with(mocked, method, body=body, content_type=content_type)
    with pytest.raises(BackendError) as caught:
        carry_out(RestBackend(BASE, max_answer_bytes=1000 if b"xxx" in body else 10**6), method)
    assert type(caught.value) is (Unavailable if method is Method.READ else InDoubt)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in f"{error} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_the_largest_answer_that_is_read(mocked: responses.RequestsMock) -> None:
    """Exactly max_answer_bytes is fine."""
    body = json.dumps({"a": "x" * 90}).encode()
    answer_with(mocked, body=body, content_type="application/json")
    assert carry_out(RestBackend(BASE, max_answer_bytes=len(body))).values == {"a": "x" * 90}
    with pytest.raises(InDoubt, match="max_answer_bytes"):
        carry_out(RestBackend(BASE, max_answer_bytes=len(body) - 1))


@pytest.mark.parametrize(
    ("status", "body", "location", "answer"),
    [
        (201, "", "/baskets/9", Answer(identity="9")),
        (201, "", f"{BASE}/baskets/a%2Fb/", Answer(identity="a/b")),
        (201, "", "/baskets/..", Answer()),
        (201, "", None, Answer()),
        (201, '{"id": 8}', "/baskets/9", Answer(values={"id": 8})),
        (201, '{"ok": true}', "/baskets/9", Answer(values={"ok": True}, identity="9")),
        (200, "", "/baskets/9", Answer()),
        (204, "", "/baskets/9", Answer()),
    ],
)
def test_the_identity_of_a_create(
    mocked: responses.RequestsMock, status: int, body: str, location: str | None, answer: Answer
) -> None:
    """From the body, else from the Location of a 201, as text."""
    headers = {} if location is None else {"Location": location}
    answer_with(mocked, Method.CREATE, status=status, body=body, headers=headers, content_type="application/json")
    assert carry_out(RestBackend(BASE), Method.CREATE) == answer


def test_a_parse_hook_reads_any_answer(mocked: responses.RequestsMock) -> None:
    """It sees status, headers and body, and returns an Answer, a mapping or None."""
    seen: list[Reply] = []

    def parse(reply: Reply) -> Any:
        seen.append(reply)
        return result

    answer_with(mocked, body=b"<ok/>", content_type="text/xml", headers={"ETag": '"8"', "X-Y": "z"})
    backend = RestBackend(BASE, parse=parse, conditional=True)
    result: Any = {"note": "x"}
    assert carry_out(backend) == Answer(values={"note": "x"}, version='"8"')
    assert (seen[0].status, seen[0].headers["x-y"], seen[0].body) == (200, "z", b"<ok/>")
    result = None
    assert carry_out(backend) == Answer(version='"8"')
    result = Answer(version="mine")
    assert carry_out(backend) == Answer(version="mine")
    result = 7
    with pytest.raises(InDoubt, match="int"):
        carry_out(backend)


def test_a_parse_hook_may_say_how_it_failed(mocked: responses.RequestsMock) -> None:
    """An error object in a 200 can be made a failure; any other exception is a doubt, without its text."""

    def parse(reply: Reply) -> Mapping[str, Any]:
        if reply.data["error"] == "mine":
            raise Rejected("the server said no")
        raise ValueError(CANARY)

    answer_with(mocked, json={"error": "mine"})
    with pytest.raises(Rejected, match="said no"):
        carry_out(RestBackend(BASE, parse=parse))
    mocked.reset()
    answer_with(mocked, json={"error": "other"})
    with pytest.raises(InDoubt, match="ValueError") as caught:
        carry_out(RestBackend(BASE, parse=parse))
    assert CANARY not in str(caught.value)


# Exceptions of requests, without a connection of ours to ask how far it got

POOL = urllib3.HTTPConnectionPool("shop.example")
CONNECTION = urllib3.connection.HTTPConnection("shop.example")


def gave_up(reason: Exception) -> requests.ConnectionError:
    return requests.ConnectionError(low.MaxRetryError(POOL, "/", reason))


NOT_CONNECTED: dict[str, Exception] = {
    "refused": gave_up(low.NewConnectionError(CONNECTION, "refused")),
    "name lookup": gave_up(low.NameResolutionError("shop.example", CONNECTION, socket.gaierror())),
    "connect timeout": requests.ConnectTimeout(low.MaxRetryError(POOL, "/", low.ConnectTimeoutError())),
    "connect timeout alone": requests.ConnectTimeout(),
    "proxy": requests.exceptions.ProxyError(low.MaxRetryError(POOL, "/", low.ProxyError("no", OSError()))),
    "proxy alone": requests.exceptions.ProxyError(),
    "certificate": requests.exceptions.SSLError(
        low.MaxRetryError(POOL, "/", low.SSLError(ssl.SSLCertVerificationError()))
    ),
    "plain refused": requests.ConnectionError(ConnectionRefusedError()),
    "no free connection": requests.ConnectionError(low.EmptyPoolError(POOL, "full")),
}
IN_DOUBT: dict[str, Exception] = {
    "reset": requests.ConnectionError(low.ProtocolError("Connection aborted.", ConnectionResetError())),
    "hung up": requests.ConnectionError(low.ProtocolError("Connection aborted.", low.HTTPError())),
    "read timeout": requests.ReadTimeout(),
    "read timeout given up": gave_up(low.ReadTimeoutError(POOL, "/", "late")),
    "plain": requests.ConnectionError(f"refused, certificate, proxy {CANARY}"),
    "unknown kind": requests.RequestException(),
    "TLS, some time": requests.exceptions.SSLError(low.MaxRetryError(POOL, "/", low.SSLError(ssl.SSLError()))),
    "cut": requests.exceptions.ChunkedEncodingError(),
    "retries": requests.exceptions.RetryError(low.MaxRetryError(POOL, "/", low.ResponseError("503"))),
    "a header of the answer": requests.exceptions.InvalidHeader(low.InvalidHeader("Content-Length")),
    "a redirect": requests.exceptions.TooManyRedirects(),
    "a bug": KeyError(CANARY),
    "OS error": OSError(5, "I/O"),
}
REFUSED: dict[str, Exception] = {
    "URL": requests.exceptions.InvalidURL(CANARY),
    "scheme": requests.exceptions.InvalidSchema(),
    "no scheme": requests.exceptions.MissingSchema(),
    "header": requests.exceptions.InvalidHeader(),
    "not latin-1": UnicodeEncodeError("latin-1", "☃", 0, 1, "no"),
}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((error, Unavailable) for error in NOT_CONNECTED.values()),
        *((error, InDoubt) for error in IN_DOUBT.values()),
        *((error, Rejected) for error in REFUSED.values()),
    ],
    ids=[*NOT_CONNECTED, *IN_DOUBT, *REFUSED],
)
def test_exceptions_are_told_apart_by_type(
    mocked: responses.RequestsMock, error: Exception, kind: type[BackendError]
) -> None:
    """Only what surely came before the first byte is no doubt; texts decide nothing, and are not repeated."""
    answer_with(mocked, body=error)
    answer_with(mocked, Method.READ, body=error)
    with pytest.raises(BackendError) as caught:
        carry_out(RestBackend(BASE, auth=lambda: CANARY))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert CANARY not in str(caught.value)
    assert getattr(error, "request", None) is None
    with pytest.raises(Rejected if kind is Rejected else Unavailable):
        carry_out(RestBackend(BASE), Method.READ)


def test_no_canary_in_any_traceback(mocked: responses.RequestsMock) -> None:
    """Neither body, header, credentials nor identity is in what a logger writes about a failure."""
    secrets: dict[str, Any] = {"auth": lambda: CANARY, "headers": {"X-Api-Key": CANARY}}
    mocked.add("PUT", f"{BASE}/baskets/{CANARY}", status=422, body=CANARY)
    with pytest.raises(Rejected) as caught:
        carry_out(RestBackend(BASE, **secrets), identity=CANARY, values={"note": CANARY})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# Construction


def test_requests_is_needed_only_when_a_backend_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.delitem(sys.modules, "chained_models.backends._transport", raising=False)
    monkeypatch.delattr("chained_models.backends._transport", raising=False)
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(MissingExtra, match=r"chained-models\[rest\]"):
        RestBackend(BASE)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"max_answer_bytes": 0},
        {"key_style": "baroque"},
        {"headers": {"X": "a\r\nb"}},
        {"headers": {"Idempotency-Key": "k"}},
        {"headers": 7},
        {"auth": "token"},
        {"reauthenticate": "token"},
        {"auth": ("a", "b", "c")},
        {"auth": lambda request: request},
        {"session": 7},
        {"session": "requests"},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],
)
def test_an_option_that_makes_no_sense(options: dict[str, Any]) -> None:
    """Comes out at construction."""
    with pytest.raises(InvalidOption):
        RestBackend(BASE, **options)


def test_settings_are_checked_when_they_are_set() -> None:
    """A wrong one leaves the old one in place."""
    backend = RestBackend(BASE)
    with pytest.raises(InvalidOption):
        backend.base_url = "https://user:word@shop.example"
    with pytest.raises(InvalidOption):
        backend.base_url = "https://*.example"
    with pytest.raises(InvalidOption):
        backend.headers = {"X": "\n"}
    with pytest.raises(InvalidOption):
        backend.auth = "token"
    assert (backend.base_url, backend.headers, backend.auth) == (BASE, None, None)


def test_what_it_promises() -> None:
    """What was given, and FENCED if it is conditional; a lane of its own unless one is given."""
    lane = Lane(2)
    keyed = RestBackend(BASE, guarantee=Guarantee.IDEMPOTENT, conditional=True, lane=lane)
    assert keyed.guarantee == Guarantee.IDEMPOTENT | Guarantee.FENCED
    assert keyed.lane is lane
    plain = RestBackend(BASE, auth=("user", CANARY))
    assert plain.guarantee is Guarantee.PLAIN
    assert plain.lane is not RestBackend(BASE).lane
    assert repr(plain) == f"<RestBackend {BASE}>"


# Sessions


def in_a_thread(call: Any) -> Any:
    """The result of `call` in a fresh thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def test_each_thread_has_a_session_of_its_own() -> None:
    """From the factory, once per thread, or made here without retries, environment and cookies."""
    made: list[requests.Session] = []

    def factory() -> requests.Session:
        made.append(requests.Session())
        return made[-1]

    sessions = RestBackend(BASE, session=factory)._sessions
    assert sessions.get() is sessions.get() is made[0]
    assert in_a_thread(sessions.get) is made[1]
    assert len(made) == 2

    ours = RestBackend(BASE)._sessions
    session = ours.get()
    assert session is not in_a_thread(ours.get)
    assert session.trust_env is False
    assert session.get_adapter(BASE).max_retries.total == 0
    assert RestBackend(BASE, trust_env=True)._sessions.get().trust_env is True
    assert isinstance(RestBackend(BASE, session=requests.Session)._sessions.get(), requests.Session)


def test_close_closes_what_was_made_here() -> None:
    """A session that was given stays open; afterwards new ones are made if needed."""

    class Counted(requests.Session):
        closed = 0

        def close(self) -> None:
            Counted.closed += 1
            super().close()

    backend = RestBackend(BASE, session=Counted)
    first = backend._sessions.get()
    backend.close()
    backend.close()
    assert Counted.closed == 1
    assert backend._sessions.get() is not first
    given = Counted()
    shared = RestBackend(BASE, session=given)
    assert shared._sessions.get() is given is in_a_thread(shared._sessions.get)
    shared.close()
    assert Counted.closed == 1


def test_a_forked_child_does_not_use_the_connections_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on one connection would read each other's answers."""
    sessions = RestBackend(BASE)._sessions
    before = sessions.get()
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert sessions.get() is not before


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it closes its backend, or the threads of the parent are cleared away in it: their locks may be held."""
    closed: list[object] = []

    class Watched(requests.Session):
        def close(self) -> None:
            closed.append(self)

    sessions = RestBackend(BASE, session=Watched)._sessions
    sessions.get()
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: -1)
        sessions.close()
        assert closed == []
    first = sessions.get()
    sessions.close()
    assert closed == [first]


def test_a_session_goes_with_its_thread() -> None:
    """It is closed when its thread has ended, once, and is not remembered for ever; whatever kind of session it is."""

    closed = threading.Semaphore(0)

    class Plain:
        def request(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

        def close(self) -> None:
            closed.release()

    sessions = RestBackend(BASE, session=Plain)._sessions
    for _ in range(5):
        in_a_thread(lambda: sessions.get() is not None)
        assert closed.acquire(timeout=10)
    sessions.get()
    assert len(sessions._closings) <= 2
    sessions.close()
    assert closed.acquire(timeout=10)
    assert not closed.acquire(blocking=False)


def test_anything_shaped_like_a_session_will_do() -> None:
    """It is given what requests.Session.request takes, and its answer is closed."""

    class Fake:
        closed = 0

        def request(self, method: str, url: str, **options: Any) -> Any:
            assert options["allow_redirects"] is False
            self.asked = (method, url)
            return self

        status_code = "200"
        headers = requests.structures.CaseInsensitiveDict({"Content-Length": "2"})

        def iter_content(self, size: int) -> Iterator[bytes]:
            yield b"{}"

        def close(self) -> None:
            self.closed += 1

    fake = Fake()
    assert carry_out(RestBackend(BASE, session=fake)) == Answer(values={})
    assert fake.asked == ("PUT", f"{BASE}/baskets/7")
    assert fake.closed == 1


def test_hooks_of_a_session_still_run(mocked: responses.RequestsMock) -> None:
    """Ours comes behind them."""
    session = requests.Session()
    seen: list[int] = []
    session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    answer_with(mocked, status=302, headers={"Location": "https://evil.example/x"})
    with pytest.raises(Rejected, match=r"evil\.example"):
        carry_out(RestBackend(BASE, session=session))
    assert seen == [302]
    session.close()
