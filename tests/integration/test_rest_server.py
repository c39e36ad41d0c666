"""The REST backends against a real server that misbehaves, whose ledger says what really happened."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import socket
import threading
import time
import traceback
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.util import Retry

from chained_models.backends import _deadline, _session
from chained_models.backends._deadline import Attempt
from chained_models.backends.rest import RestBackend
from chained_models.exceptions import (
    BackendError,
    Conflict,
    Gone,
    InDoubt,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Answer, Method

from ..answering_server import AnsweringServer
from ..rest_backends import MAKERS
from ..rest_operations import VERBS, operation
from .rest_server import Cut, Fault, RestServer, gzip_bomb

WRITES = [method for method in Method if method is not Method.READ]
SLACK = 1.0
"""Seconds an attempt may take beyond its deadline, as promised; the servers here would take for ever."""


Backend = Any


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Backend]]:
    """Makes backends of either kind; they are closed in the end."""
    made: list[Backend] = []

    def make_one(*args: Any, **options: Any) -> Backend:
        made.append(MAKERS[request.param](*args, **options))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


@pytest.fixture
def backend(rest_server: RestServer, make: Callable[..., Backend]) -> Backend:
    """A backend for the server, in which there is a basket 7 already."""
    rest_server.put("/baskets/7", {"id": 7, "things": [], "note": ""})
    return make(rest_server.url)


@pytest.fixture
def blocking(rest_server: RestServer) -> Iterator[RestBackend]:
    """The same, and surely the one for threads."""
    rest_server.put("/baskets/7", {"id": 7, "things": [], "note": ""})
    made = RestBackend(rest_server.url)
    yield made
    made.close()


def carry_out(backend: Backend, method: Method = Method.UPDATE, **changes: Any) -> Answer:
    """Encode and execute, as a dispatcher does."""
    one = operation(method, **changes)
    one.payload = backend.encode(one)
    return backend.execute(one)


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


# All is well


def test_a_life_from_create_to_delete(rest_server: RestServer, make: Callable[..., Backend]) -> None:
    """Created, updated, patched, read, deleted and deleted again, all over one connection."""
    backend = make(rest_server.url, conditional=True)
    created = carry_out(backend, Method.CREATE)
    assert created.values == {"things": ["apple"], "note": "red", "id": 1}
    updated = carry_out(backend, identity=1, version=created.version)
    assert (created.version, updated.version) == ('"1"', '"2"')
    carry_out(backend, Method.PATCH, identity=1, version=updated.version, values={"id": 1, "note": "green"})
    assert carry_out(backend, Method.READ, identity=1).values == {"things": ["apple"], "note": "green", "id": 7}
    with pytest.raises(Conflict):
        carry_out(backend, Method.DELETE, identity=1, version=updated.version)
    assert carry_out(backend, Method.DELETE, identity=1) == Answer()
    assert carry_out(backend, Method.DELETE, identity=1) == Answer()
    with pytest.raises(Gone):
        carry_out(backend, identity=1)
    assert [write.verb for write in rest_server.applied] == ["POST", "PUT", "PATCH", "DELETE"]


def test_answers_over_one_connection(rest_server: RestServer, backend: Backend) -> None:
    """A connection is kept as long as answers are read to their end."""
    for _ in range(5):
        carry_out(backend)
        carry_out(backend, Method.READ)
    assert rest_server.connections == 1


# Connections that end too early


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("method", WRITES)
def test_six_places_to_cut_a_connection(rest_server: RestServer, backend: Backend, cut: Cut, method: Method) -> None:
    """From the first byte on a write is in doubt, applied or not, and asked once only; a whole answer is an answer."""
    rest_server.plan(Fault(reset=cut))
    if cut is Cut.AT_CLOSE or (cut is Cut.MID_REPLY and method is Method.DELETE):  # a 204 has no middle
        carry_out(backend, method)
    else:
        with pytest.raises(InDoubt):
            carry_out(backend, method)
    applied = cut in (Cut.AFTER_APPLY, Cut.MID_REPLY, Cut.AT_CLOSE)
    assert [write.verb for write in rest_server.applied] == [VERBS[method]] * applied
    assert len(rest_server.requests) == (cut is not Cut.BEFORE_READ)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_to=5),
        Fault(cut_to=5, chunked=True),
        Fault(cut_to=5, until_close=True),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(headers={"Content-Length": "1, 2"}),
        Fault(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>"),
        Fault(body=b"[" * 100_000),
        Fault(body=b'{"note": NaN}'),
        Fault(body=b'{"note": '),
    ],
    ids=["short", "chunked", "until close", "not gzip", "two lengths", "portal", "deep", "NaN", "broken"],
)
def test_an_answer_that_is_not_whole(rest_server: RestServer, backend: Backend, fault: Fault) -> None:
    """The write was applied, but we do not know it: a doubt for a write, and nothing for a read."""
    rest_server.plan(fault, fault)
    with pytest.raises(InDoubt):
        carry_out(backend)
    assert len(rest_server.applied) == 1
    with pytest.raises(Unavailable):
        carry_out(backend, Method.READ)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b'HTTP/1.1 200 OK\r\nETag: "7"\r\nX-Cut: he'])
def test_headers_that_are_cut_are_no_answer(head: bytes, make: Callable[..., Backend]) -> None:
    """Who takes them for whole takes an answer without identity and version for all that was said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            guest = listener.accept()[0]
            guest.recv(1 << 16)
            guest.sendall(head)
            guest.shutdown(socket.SHUT_WR)
            guest.recv(1 << 16)
            guest.close()

        server = threading.Thread(target=answer)
        server.start()
        backend = make(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(InDoubt, match="broke before there was an answer"):
            carry_out(backend)
        server.join()
        backend.close()


def test_the_status_settles_it_however_the_answer_goes_on(rest_server: RestServer, backend: Backend) -> None:
    """A failure with a body that is cut, broken or endless is still that failure."""
    for fault in (
        Fault(status=422, body=b"x" * 50, cut_to=5),
        Fault(status=422, body=b"x", drip="body"),
        Fault(status=422, body=gzip_bomb(50_000_000), headers={"Content-Encoding": "gzip"}),
    ):
        rest_server.plan(fault)
        with pytest.raises(Rejected, match="422"):
            carry_out(backend)


def test_whole_answers_in_every_framing(rest_server: RestServer, backend: Backend) -> None:
    """With a length, in chunks, or up to the end of the connection."""
    for fault in (Fault(), Fault(chunked=True), Fault(until_close=True), Fault(close_after=True)):
        rest_server.plan(fault)
        assert carry_out(backend).values == {"id": 7, "things": ["apple"], "note": "red"}


def test_a_kept_connection_that_the_server_gave_up(rest_server: RestServer, backend: Backend) -> None:
    """One that is seen to be closed is replaced; one that dies under the request leaves a doubt, and is not retried."""
    rest_server.plan(Fault(close_after=True), Fault(), Fault(reset=Cut.BEFORE_READ))
    carry_out(backend)
    rest_server.wait_for_hang_up()
    carry_out(backend)
    assert rest_server.connections == 2
    with pytest.raises(InDoubt):
        carry_out(backend, Method.CREATE)
    assert rest_server.connections == 2
    assert len(rest_server.applied) == 2


# Before the first byte


def test_nobody_listens(rest_server: RestServer, backend: Backend) -> None:
    """A refused connection is surely no write, for every verb."""
    backend.base_url = f"http://127.0.0.1:{closed_port()}"
    for method in Method:
        with pytest.raises(Unavailable):
            carry_out(backend, method)
    assert rest_server.requests == []


def test_a_name_that_does_not_exist(rest_server: RestServer, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup fails before anything is sent."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    backend.base_url = f"http://localhost:{rest_server.port}"
    with pytest.raises(Unavailable):
        carry_out(backend)


def test_tls_that_fails_before_the_request(rest_server: RestServer, backend: Backend) -> None:
    """A handshake with a server that talks no TLS: nothing was sent, by phase, whatever requests calls it."""
    backend.base_url = f"https://127.0.0.1:{rest_server.port}"
    with pytest.raises(Unavailable):
        carry_out(backend)
    assert rest_server.requests == []


def test_a_handshake_that_is_never_answered(make: Callable[..., Backend]) -> None:
    """requests calls it a read timeout, though nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        backend = make(f"https://127.0.0.1:{mute.getsockname()[1]}", timeout=0.2)
        with pytest.raises(Unavailable):
            carry_out(backend)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that answers to nobody who connects: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as fillers:
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])


def test_connecting_takes_no_longer_than_the_attempt(
    black_hole: int, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Backend]
) -> None:
    """However many addresses the host has: urllib3 alone would give each of them the whole time."""
    once = socket.getaddrinfo("127.0.0.1", black_hole, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: once * 20)
    start = time.monotonic()
    with pytest.raises(Unavailable):
        carry_out(make(f"http://127.0.0.1:{black_hole}", timeout=0.3))
    assert time.monotonic() - start < 0.3 + SLACK


def test_no_time_left_no_request(rest_server: RestServer, backend: Backend) -> None:
    """An attempt that is over before it begins is not sent, over a new connection or one that is there."""
    with pytest.raises(Unavailable):
        carry_out(backend, timeout=0.0)
    carry_out(backend)
    with pytest.raises(Unavailable):
        carry_out(backend, timeout=0.0)
    assert len(rest_server.requests) == 1


def test_what_follows_the_connecting_has_only_the_rest_of_the_time(rest_server: RestServer) -> None:
    """A handshake would otherwise get the whole time once more, and cannot be interrupted."""
    connection = _session._Connection("127.0.0.1", rest_server.port, timeout=60)
    with Attempt(5), connection._new_conn() as sock:
        assert sock.gettimeout() <= 5


# Deadlines


@pytest.mark.parametrize("drip", ["headers", "body"])
@pytest.mark.parametrize("given", ["ours", "factory", "session"])
@pytest.mark.parametrize("until_close", [False, True])
def test_a_drip_ends_at_the_deadline(rest_server: RestServer, drip: str, given: str, until_close: bool) -> None:
    """Although there is always another byte, in the headers or in the body, and whoever made the session."""
    session: Any = {"ours": None, "factory": requests.Session, "session": requests.Session()}[given]
    backend = RestBackend(rest_server.url, timeout=0.3, session=session)
    rest_server.plan(Fault(drip=drip, until_close=until_close))
    start = time.monotonic()
    with pytest.raises(InDoubt, match="in time"):
        carry_out(backend, Method.CREATE)
    assert 0.25 < time.monotonic() - start < 0.3 + SLACK
    assert len(rest_server.applied) == 1
    backend.close()
    if given == "session":
        session.close()


def test_a_mute_server_ends_at_the_deadline_of_the_operation(rest_server: RestServer, backend: Backend) -> None:
    """The smaller one counts, of the operation's and the backend's; a late landing is nobody's business here."""
    landing = threading.Event()
    rest_server.plan(Fault(hold=landing))
    with pytest.raises(InDoubt, match="in time"):
        carry_out(backend, timeout=0.2)
    assert rest_server.applied == []
    landing.set()
    assert rest_server.wait_for_applied(1)[0].verb == "PUT"


def test_a_deadline_never_hits_the_next_request_of_a_connection(
    rest_server: RestServer, other_rest_server: RestServer, backend: Backend, make: Callable[..., Backend]
) -> None:
    """An attempt that was answered in time is forgotten, however long its connection lives on."""
    go_on = threading.Event()

    def go_on_when_the_first_deadline_has_passed() -> None:
        other_rest_server.plan(Fault(hold=threading.Event()))
        with pytest.raises(InDoubt):
            carry_out(make(other_rest_server.url), timeout=0.3)
        go_on.set()

    carry_out(backend, timeout=0.2)
    rest_server.plan(Fault(hold_answer=go_on))
    thread = threading.Thread(target=go_on_when_the_first_deadline_has_passed)
    thread.start()
    assert carry_out(backend).values is not None
    thread.join()
    assert rest_server.connections == 1


def test_the_thread_that_watches_deadlines_goes_home(
    rest_server: RestServer, blocking: RestBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one for all attempts, and ends when there is nothing to watch."""
    monkeypatch.setattr(_deadline, "_LINGER", 0.01)
    monkeypatch.setattr(_deadline, "_watchdog", _deadline._Watchdog())  # a fresh one: no other test lingers in it
    for timeout in (0.2, 30.0, 0.1):
        carry_out(blocking, timeout=timeout)
    watching = _deadline._watchdog._thread
    assert watching is not None
    with pytest.raises(InDoubt):
        rest_server.plan(Fault(hold=threading.Event()))
        carry_out(blocking, timeout=0.1)
    watching.join(10)
    assert not watching.is_alive()


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("given", [None, requests.Session])
def test_a_redirect_is_never_followed(
    rest_server: RestServer, other_rest_server: RestServer, status: int, method: Method, given: Any
) -> None:
    """Not to another origin, which would see body and key, and not within this one; and its body is not read."""
    backend = RestBackend(rest_server.url, session=given, auth=lambda: "token")
    for target in (f"{other_rest_server.url}/baskets/7", "/baskets/8", "http://[broken", "\x80"):
        rest_server.plan(Fault(status=status, headers={"Location": target}, body=b"x", drip="body"))
        with pytest.raises(Rejected, match="redirects are not followed"):
            carry_out(backend, method)
    assert len(rest_server.requests) == 4
    assert other_rest_server.connections == 0
    backend.close()


# The environment


def test_proxies_and_netrc_are_not_used(
    rest_server: RestServer,
    other_rest_server: RestServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., Backend],
) -> None:
    """Unless asked: then the proxy sees everything, which is why."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other_rest_server.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    rest_server.put("/baskets/7", {})
    backend = make(rest_server.url, auth=lambda: "token")
    carry_out(backend)
    assert other_rest_server.connections == 0
    assert rest_server.requests[0].headers["Authorization"] == "Bearer token"
    backend.auth = None
    carry_out(backend)
    assert "Authorization" not in rest_server.requests[1].headers

    trusting = make(rest_server.url, trust_env=True, auth=lambda: "token")
    other_rest_server.plan(Fault(status=200, body=b"{}"))
    carry_out(trusting)
    assert other_rest_server.requests[0].path == f"{rest_server.url}/baskets/7"
    assert other_rest_server.requests[0].headers["Authorization"] == "Bearer token"
    trusting.close()


def test_a_proxy_that_cannot_be_reached(rest_server: RestServer) -> None:
    """Nothing was sent; also through a tunnel that the proxy refuses to dig."""
    session = requests.Session()
    session.proxies = {"http": f"http://127.0.0.1:{closed_port()}", "https": rest_server.url}
    backend = RestBackend("http://shop.example", session=session)
    with pytest.raises(Unavailable):
        carry_out(backend)
    rest_server.plan(Fault(status=407))
    backend.base_url = "https://shop.example"
    with pytest.raises(Unavailable):
        carry_out(backend)
    assert [request.verb for request in rest_server.requests] == ["CONNECT"]
    session.close()


def test_cookies_are_not_kept(rest_server: RestServer, backend: Backend) -> None:
    """Each thread would have others."""
    rest_server.plan(Fault(headers={"Set-Cookie": "sid=1; Path=/"}))
    carry_out(backend)
    carry_out(backend)
    assert "Cookie" not in rest_server.requests[1].headers


# Retries, credentials, statuses


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=500), InDoubt),
        (Fault(status=503, headers={"Retry-After": "3"}), Unavailable),
        (Fault(status=429, headers={"Retry-After": "3"}), Unavailable),
        (Fault(status=400), Rejected),
        (Fault(status=410), Gone),
        (Fault(reset=Cut.AFTER_APPLY), InDoubt),
    ],
)
def test_nothing_is_retried_in_here(
    rest_server: RestServer, backend: Backend, fault: Fault, kind: type[BackendError]
) -> None:
    """One attempt is one request; how often to try is the chain's business."""
    rest_server.plan_always(fault)
    with pytest.raises(kind) as caught:
        carry_out(backend)
    assert len(rest_server.requests) == 1
    assert caught.value.retry_after == (3.0 if fault.headers else None)


def test_retries_that_a_user_configured_are_theirs(rest_server: RestServer) -> None:
    """They happen; and one that may have been applied stays a doubt, even if the last try was refused."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=Retry(2, allowed_methods=None)))
    backend = RestBackend(rest_server.url, session=session)
    rest_server.plan_always(Fault(reset=Cut.AFTER_HEADERS))
    with pytest.raises(InDoubt):
        carry_out(backend)
    assert len(rest_server.requests) == 3
    session.close()


def test_a_session_that_was_given_still_works_for_its_owner(rest_server: RestServer) -> None:
    """Its connections report to attempts, and serve anybody else as before."""
    rest_server.put("/baskets/7", {})
    with requests.Session() as session:
        carry_out(RestBackend(rest_server.url, session=session))
        rest_server.plan(Fault(close_after=True))
        for _ in range(2):
            assert session.get(f"{rest_server.url}/baskets/7").json()["note"] == "red"
            rest_server.wait_for_requests(2)
    assert len(rest_server.requests) == 3


def test_credentials_are_renewed_between_attempts(rest_server: RestServer, make: Callable[..., Backend]) -> None:
    """A 401 is no verdict on the save: the same payload goes through once the token is right."""
    rest_server.put("/baskets/7", {})
    rest_server.token = "new"
    tokens = iter(["old", "new"])
    backend = make(rest_server.url, auth=lambda: next(tokens))
    one = operation(Method.UPDATE)
    one.payload = backend.encode(one)
    with pytest.raises(Unauthenticated):
        backend.execute(one)
    backend.execute(one)
    first, second = rest_server.requests
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert len(rest_server.applied) == 1


def test_a_server_that_remembers_keys_applies_a_repeated_create_once(
    rest_server: RestServer, make: Callable[..., Backend]
) -> None:
    """The same key and bytes after a lost answer give the first one's identity."""
    rest_server.remembers_keys = True
    rest_server.plan(Fault(reset=Cut.AFTER_APPLY))
    backend = make(rest_server.url)
    one = operation(Method.CREATE)
    one.payload = backend.encode(one)
    with pytest.raises(InDoubt):
        backend.execute(one)
    assert backend.execute(one).values == {"things": ["apple"], "note": "red", "id": 1}
    assert len(rest_server.applied) == 1


def test_a_location_without_a_body(rest_server: RestServer, make: Callable[..., Backend]) -> None:
    """Names the new thing."""
    rest_server.plan(Fault(body=b""))
    backend = make(rest_server.url)
    assert carry_out(backend, Method.CREATE) == Answer(identity="1")


@pytest.mark.parametrize("behind", [bytes(8), b"padding"])
def test_what_stands_behind_a_gzip_member_is_ignored(
    rest_server: RestServer, make: Callable[..., Backend], behind: bytes
) -> None:
    """A create that was carried out must not be in doubt with one of two backends."""
    rest_server.plan(Fault(body=gzip.compress(b'{"id": 5}') + behind, headers={"Content-Encoding": "gzip"}))
    assert carry_out(make(rest_server.url), Method.CREATE).values == {"id": 5}


def test_a_pair_that_cannot_be_a_header_is_rejected(rest_server: RestServer, make: Callable[..., Backend]) -> None:
    """It will be no other one at the next attempt, by whichever backend."""
    with pytest.raises(Rejected):
        carry_out(make(rest_server.url, auth=("name", "\N{SNOWMAN}")))
    assert rest_server.requests == []


# Threads and memory


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body=b" " * 3_000_000, until_close=True),
        Fault(body=b'"' + b" " * 900_000 + b'"'),
        Fault(body=b"{" + b" " * 900_000),
        Fault(body=b"<p>" * 300_000, headers={"Content-Type": "text/html"}),
        Fault(body=gzip_bomb(900_000)[:-100], headers={"Content-Encoding": "gzip"}),
    ],
    ids=["too large", "a string", "broken", "HTML", "broken gzip"],
)
def test_an_error_that_is_kept_keeps_no_answer(
    rest_server: RestServer, fault: Fault, make: Callable[..., Backend]
) -> None:
    """A program that keeps its failed saves does not keep what the server had sent to each, in the frames of a traceback."""
    rest_server.put("/baskets/7", {})
    backend = make(rest_server.url, max_answer_bytes=1_000_000)
    rest_server.plan(*[fault] * 5)
    kept: list[BackendError] = []
    carried: list[Any] = []

    def fail() -> None:
        try:
            carried.append(carry_out(backend))
        except InDoubt as error:
            kept.append(error)

    tracemalloc.start()
    try:
        for _ in range(5):
            fail()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(kept), carried) == (5, [])
    assert now < 900_000


CANARY = "canary-4711"


def leading_to_the_canary(error: BaseException, backend: Backend) -> list[str]:
    """What of a kept error leads to the canary: a text, or a local variable of a frame; otherwise than by the backend."""
    found = []
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is None:
            continue
        if CANARY in f"{one} {one.args!r} {vars(one)!r}":
            found.append(type(one).__name__)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            module = str(frame.f_globals.get("__name__"))
            if module.partition(".")[0] in ("chained_models", "aiohttp", "requests", "urllib3"):
                names = [name for name, value in frame.f_locals.items() if leads_to_the_canary(value, backend)]
                found += [f"{module}.{frame.f_code.co_name}: {name}" for name in names]
        errors += [one.__cause__, one.__context__]
    return found


def leads_to_the_canary(value: Any, backend: Backend) -> bool:
    seen = {id(backend), id(getattr(backend, "inner", None))}
    level = [value]
    for _ in range(6):
        level = [one for one in level if id(one) not in seen]
        if any(
            CANARY in one if isinstance(one, str) else CANARY.encode() in one
            for one in level
            if isinstance(one, (str, bytes))
        ):
            return True
        seen.update(map(id, level))
        skipped = (type, types.ModuleType, types.FunctionType, types.FrameType)
        level = gc.get_referents(*(one for one in level if not isinstance(one, skipped)))
    return False


ANSWERS = {
    "refused": b"HTTP/1.1 400 Bad Request\r\nX: %s\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://x.example/%s\r\nContent-Length: 0\r\n\r\n",
    "accepted": b'HTTP/1.1 202 Accepted\r\nContent-Length: 13\r\n\r\n"%s"',
    "broken JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{%s",
    "broken status line": b"HTTP/1.1 2xx %s\r\n\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX: %s" + b"x" * 100_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 1, 2\r\n\r\n",
    "broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%s",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_error_that_is_kept_does_not_lead_to_secrets(make: Callable[..., Backend], answer: str) -> None:
    """Errors are kept with the handles of failed saves, and reported with the local variables of each frame: with neither
    credentials nor answers."""
    text = ANSWERS[answer] % CANARY.encode()
    with AnsweringServer(text) as server:
        base = f"http://127.0.0.1:{server.port}"
        backend = make(base, auth=lambda: CANARY, headers=lambda: {"X-Api-Key": CANARY})
        with pytest.raises(BackendError) as caught:
            carry_out(backend, Method.CREATE)
    assert leading_to_the_canary(caught.value, backend) == []
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "parse",
    [
        lambda reply: (reply.body + b"\xff").decode(),
        lambda reply: json.loads(reply.body + b"}"),
        lambda reply: raising(Rejected("no"))(),
        lambda reply: [CANARY],
    ],
    ids=["text", "JSON", "rejected", "no answer"],
)
def test_an_error_of_a_hook_does_not_lead_to_the_answer(
    rest_server: RestServer, make: Callable[..., Backend], parse: Any
) -> None:
    """Whatever it is that it could not read."""
    rest_server.plan(Fault(body=b'{"note": "%s"}' % CANARY.encode()))
    backend = make(rest_server.url, parse=parse)
    with pytest.raises(BackendError) as caught:
        carry_out(backend, Method.CREATE)
    assert leading_to_the_canary(caught.value, backend) == []
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def raising(error: BaseException) -> Callable[[], Any]:
    def ask() -> Any:
        token = CANARY  # noqa: F841
        raise error

    return ask


def too_much(operation: Any, data: dict[str, Any]) -> dict[str, Any]:
    data["note"] = CANARY
    raise KeyError


@pytest.mark.parametrize(
    "options",
    [
        {"auth": lambda: CANARY},
        {"auth": lambda: (CANARY, CANARY + "\N{SNOWMAN}")},
        {"auth": lambda: CANARY + "\n"},
        {"auth": lambda: CANARY, "headers": lambda: {"X-Api-Key": CANARY + "\n"}},
        {"headers": lambda: {"X-Api-Key": CANARY}, "auth": raising(KeyError())},
        {"headers": lambda: {"X-Api-Key": CANARY}, "auth": raising(Unauthenticated("signed out"))},
        {"encode": too_much},
        {"encode": lambda operation, data: CANARY + "\ud800"},
        {"encode": lambda operation, data: {CANARY: object()}},
    ],
    ids=["no server", "pair", "token", "header", "raised", "refused", "encode", "surrogate", "no JSON"],
)
def test_an_error_before_anything_was_sent_does_not_lead_to_secrets(
    make: Callable[..., Backend], options: dict[str, Any]
) -> None:
    """Nor to what was to be sent; wherever it was that it went wrong."""
    backend = make(f"http://127.0.0.1:{closed_port()}", **options)
    with pytest.raises(BackendError) as caught:
        carry_out(backend, Method.CREATE)
    assert leading_to_the_canary(caught.value, backend) == []
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_interrupt_that_is_kept_does_not_lead_to_secrets(make: Callable[..., Backend]) -> None:
    """Whoever hands it on."""

    class Interrupt(BaseException):
        pass

    backend = make(f"http://127.0.0.1:{closed_port()}", headers=lambda: {"X-Api-Key": CANARY})
    backend.auth = raising(Interrupt())
    execute = getattr(backend, "inner", backend).execute
    one = operation(Method.CREATE)
    with pytest.raises(Interrupt) as caught:
        outcome = execute(one)
        outcome.send(None)
    assert leading_to_the_canary(caught.value, backend) == []


def test_an_error_that_is_kept_keeps_no_connection(rest_server: RestServer, backend: Backend) -> None:
    """Whatever is wrong with the head of an answer, the connection ends with the attempt."""
    for head in ({"Content-Length": "1, 2"}, {"X-Long": "x" * 100_000}):
        rest_server.plan(Fault(headers=head))
        with pytest.raises(InDoubt) as caught:
            carry_out(backend)
        rest_server.wait_for_hang_up()
        assert caught.value.__cause__ is not None


def test_a_thread_that_ends_closes_its_connection(rest_server: RestServer, blocking: RestBackend) -> None:
    """Also if somebody keeps the error of a save, whose traceback leads to the connection."""
    errors: list[BackendError] = []

    def fail_once() -> None:
        with pytest.raises(InDoubt) as caught:
            carry_out(blocking)
        errors.append(caught.value)

    rest_server.plan(Fault(headers={"Content-Encoding": "gzip"}))
    thread = threading.Thread(target=fail_once)
    thread.start()
    thread.join()
    rest_server.wait_for_hang_up()
    assert errors[0].__traceback__ is not None


def test_each_thread_has_its_connection(rest_server: RestServer, blocking: RestBackend) -> None:
    """Kept from save to save, and shared with nobody."""
    together = threading.Barrier(4)

    def save_thrice() -> None:
        for _ in range(3):
            together.wait(10)
            carry_out(blocking)

    threads = [threading.Thread(target=save_thrice) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rest_server.applied) == 12
    assert rest_server.connections == 4
    assert len({request.peer for request in rest_server.requests}) == 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body=gzip_bomb(200_000_000), headers={"Content-Encoding": "gzip"}),
        Fault(body=gzip_bomb(50_000_000), headers={"Content-Encoding": "gzip"}, chunked=True),
        Fault(body=b" " * 3_000_000),
        Fault(body=b" " * 3_000_000, until_close=True),
    ],
    ids=["bomb", "chunked bomb", "announced", "not announced"],
)
def test_a_huge_answer_is_not_taken_in(rest_server: RestServer, fault: Fault, make: Callable[..., Backend]) -> None:
    """Unpacking stops at the limit, in size and in memory."""
    rest_server.put("/baskets/7", {})
    backend = make(rest_server.url, max_answer_bytes=1_000_000)
    rest_server.plan(fault)
    tracemalloc.start()
    try:
        with pytest.raises(InDoubt, match="max_answer_bytes"):
            carry_out(backend)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
