"""AiohttpBackend: what is its own. What it has in common with RestBackend stands in the suite for both, with a real server."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from chained_models._lane import Lane
from chained_models.backends import _aiohttp_session, _aiohttp_transport
from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.exceptions import (
    BackendError,
    InDoubt,
    InvalidOption,
    MissingExtra,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from chained_models.operation import Answer, Guarantee, Method

from ..answering_server import CERTIFICATE, AnsweringServer
from ..integration.rest_server import Cut, Fault, RestServer
from ..rest_operations import VERBS, operation

BASE = "https://shop.example/api"
CANARY = "canary-4711"


async def carry_out(backend: AiohttpBackend, method: Method = Method.UPDATE, **changes: Any) -> Answer:
    """Encode and execute, as a dispatcher does."""
    one = operation(method, **changes)
    one.payload = backend.encode(one)
    return await backend.execute(one)


class Content:
    """A body that has come in whole, or breaks off."""

    def __init__(self, body: bytes, error: Exception | None) -> None:
        self.body, self.error = body, error

    def at_eof(self) -> bool:
        return not self.body and self.error is None

    async def readany(self) -> bytes:
        if self.error is not None:
            raise self.error
        body, self.body = self.body, b""
        return body


class Session:
    """As much of an aiohttp.ClientSession as a backend asks for: notes what is sent, and answers as it is told."""

    auto_decompress = True

    def __init__(
        self, error: BaseException | None = None, body: bytes = b"{}", broken: Exception | None = None
    ) -> None:
        self.error, self.body, self.broken = error, body, broken
        self.asked: list[dict[str, Any]] = []
        self.status, self.headers = 200, {"Content-Type": "application/json"}
        self.closed = False

    async def request(self, method: str, url: Any, **options: Any) -> Any:
        self.asked.append({"method": method, "url": str(url), **options})
        if self.error is not None:
            raise self.error
        content = Content(self.body, self.broken)
        return SimpleNamespace(status=self.status, headers=self.headers, content=content, closed=True)

    async def close(self) -> None:
        self.closed = True


def test_what_is_sent() -> None:
    """Verb, place, headers and body; no redirects, no errors by status, and no timeout of aiohttp's own."""
    session = Session()
    backend = AiohttpBackend(BASE, session=session, headers={"X-Tenant": "a"})

    async def main() -> None:
        for method in Method:
            await carry_out(backend, method)

    asyncio.run(main())
    for method, asked in zip(Method, session.asked, strict=True):
        place = "/baskets" if method is Method.CREATE else "/baskets/7"
        assert (asked["method"], asked["url"]) == (VERBS[method], BASE + place)
        has_body = method in (Method.CREATE, Method.UPDATE, Method.PATCH)
        assert (asked["data"] is not None) is has_body
        assert asked["headers"] == {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "X-Tenant": "a",
            **({"Content-Type": "application/json"} if has_body else {}),
            **({} if method is Method.READ else {"Idempotency-Key": "5b7f-0001"}),
        }
        assert (asked["allow_redirects"], asked["raise_for_status"], asked["timeout"].total) == (False, False, None)
    assert json.loads(session.asked[1]["data"]) == {"id": 7, "things": ["apple"], "note": "red"}


async def token() -> str:
    return "t"


async def headers() -> dict[str, str]:
    return {"X-Tenant": "b"}


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (lambda: None, None),
        (lambda: lambda: ("user", "word"), "Basic dXNlcjp3b3Jk"),
        (lambda: ("user", "word"), "Basic dXNlcjp3b3Jk"),
        (lambda: aiohttp.BasicAuth("user", "word"), "Basic dXNlcjp3b3Jk"),
        (lambda: aiohttp.BasicAuth("us\xe9r", "word", "utf-8"), "Basic dXPDqXI6d29yZA=="),
        (lambda: lambda: "t", "Bearer t"),
        (lambda: token, "Bearer t"),
        (lambda: lambda: {"authorization": "Key k"}, "Key k"),
    ],
)
def test_the_forms_of_credentials(auth: Callable[[], Any], header: str | None) -> None:
    """A pair, an object, or a callable or coroutine function that gives one, or a token, or headers."""
    session = Session()
    backend = AiohttpBackend(BASE, session=session, headers=headers)
    backend.auth = auth()
    asyncio.run(carry_out(backend))
    sent = {name.lower(): value for name, value in session.asked[0]["headers"].items()}
    assert header is None or sent["authorization"] == header
    assert sent["x-tenant"] == "b"


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
def test_credentials_that_cannot_be_had_or_sent() -> None:
    """Nothing is sent: the save waits, or says itself what it means, or will never do."""

    async def lost() -> str:
        raise KeyError(CANARY)

    async def refused() -> str:
        raise Unauthenticated("signed out")

    session = Session()
    cases: list[tuple[Any, type[BackendError]]] = [
        (lost, Unavailable),
        (refused, Unauthenticated),
        (lambda: CANARY + "\r\nX: 1", Rejected),
        (lambda: {"X-Key": "\xe9" + CANARY}, Rejected),
        (lambda: (CANARY, 7), Rejected),
        (lambda: (CANARY, "\u2603"), Rejected),
        (lambda: aiohttp.BasicAuth(CANARY, "\u2603"), Rejected),
        (lambda: aiohttp.BasicAuth(CANARY, "p", "nonsense"), Rejected),
    ]
    for auth, kind in cases:
        with pytest.raises(kind) as caught:
            asyncio.run(carry_out(AiohttpBackend(BASE, session=session, auth=auth)))
        assert CANARY not in str(caught.value)
    assert session.asked == []


# Exceptions, without a connector of ours to ask how far it got

KEY: Any = aiohttp.client_reqrep.ConnectionKey("shop.example", 443, True, True, None, None, None)
KINDS: list[tuple[Exception, type[BackendError]]] = [
    (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError()), Unavailable),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror()), Unavailable),
    (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError()), Unavailable),
    (aiohttp.ConnectionTimeoutError(), Unavailable),
    (ConnectionRefusedError(), Unavailable),
    (aiohttp.ServerDisconnectedError(), InDoubt),
    (aiohttp.ClientOSError(104, "reset"), InDoubt),
    (aiohttp.SocketTimeoutError(), InDoubt),
    (TimeoutError(), InDoubt),
    (aiohttp.ClientPayloadError(CANARY), InDoubt),
    (aiohttp.ClientError(f"refused, certificate {CANARY}"), InDoubt),
    (KeyError(CANARY), InDoubt),
    (ValueError(CANARY), InDoubt),
    (aiohttp.InvalidURL(CANARY), Rejected),
    (UnicodeEncodeError("latin-1", CANARY, 0, 1, "no"), Rejected),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda value: type(value).__name__)
def test_exceptions_are_told_apart_by_type(error: Exception, kind: type[BackendError]) -> None:
    """Only what surely came before the first byte is no doubt; texts decide nothing, and are not repeated."""
    backend = AiohttpBackend(BASE, session=Session(error))
    with pytest.raises(BackendError) as caught:
        asyncio.run(carry_out(backend))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert CANARY not in str(caught.value)
    with pytest.raises(Rejected if kind is Rejected else Unavailable):
        asyncio.run(carry_out(backend, Method.READ))


def test_a_request_that_is_cancelled_is_cancelled() -> None:
    """Whoever ends the task from outside is not told of a timeout."""

    class Waiting(Session):
        async def request(self, method: str, url: Any, **options: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

    async def main() -> None:
        nonlocal begun
        begun = asyncio.Event()
        task = asyncio.create_task(carry_out(AiohttpBackend(BASE, session=Waiting())))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun: Any = None
    asyncio.run(main())


def test_an_answer_that_breaks_off() -> None:
    """A doubt, told by its kind."""
    for broken in (aiohttp.ClientPayloadError(CANARY), ConnectionResetError(CANARY)):
        with pytest.raises(InDoubt, match=r"broke off") as caught:
            asyncio.run(carry_out(AiohttpBackend(BASE, session=Session(broken=broken))))
        assert CANARY not in str(caught.value)


def test_an_error_about_an_answer_forgets_the_request() -> None:
    """aiohttp ties the headers that were sent to it, with the credentials."""
    with RestServer() as server:
        server.plan(Fault(headers={"Content-Length": "1, 2"}))
        backend = AiohttpBackend(server.url, auth=lambda: CANARY)
        with pytest.raises(InDoubt) as caught:
            asyncio.run(carry_out(backend))
    cause = caught.value.__cause__
    assert isinstance(cause, aiohttp.ClientResponseError)
    assert CANARY not in f"{vars(cause)} {cause.args}" + "".join(traceback.format_exception(caught.value))


# Connections


def test_what_aiohttp_refuses_to_build() -> None:
    """Whatever it says: nothing was sent, or the connector would know."""

    class Refusing(aiohttp.TCPConnector):
        allowed_protocol_schema_set = property(lambda self: (_ for _ in ()).throw(ValueError(CANARY)))  # type: ignore[assignment]

    async def main() -> None:
        async with aiohttp.ClientSession(connector=Refusing()) as session:
            with pytest.raises(Rejected, match="refuses to build") as caught:
                await carry_out(AiohttpBackend(BASE, session=session))
            assert CANARY not in str(caught.value)

    asyncio.run(main())


def test_a_put_that_broke_is_not_sent_twice_by_aiohttp() -> None:
    """It repeats what is idempotent over a kept connection; and the second answer hides that the first one was applied."""
    with RestServer() as server:
        server.put("/baskets/7", {})

        async def main() -> None:
            session = aiohttp.ClientSession() if given else None
            backend = AiohttpBackend(server.url, session=session)
            await carry_out(backend)
            server.plan(Fault(reset=Cut.AFTER_APPLY))
            with pytest.raises(InDoubt):
                await carry_out(backend)
            await backend.close()
            if session is not None:
                await session.close()

        for given in (False, True):
            asyncio.run(main())
    assert len(server.applied) == 4
    assert len(server.requests) == 4


def test_what_came_unasked_is_no_answer() -> None:
    """Over a kept connection aiohttp would take it for the answer to the next request, and so to somebody else's save."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent = threading.Event()

        def answer() -> None:
            guest = listener.accept()[0]
            guest.recv(1 << 16)
            guest.sendall(first + b'{"note": 1}')
            asked.wait(10)
            guest.sendall(first + b'{"note": 2}')
            sent.set()
            other = listener.accept()[0]
            other.recv(1 << 16)
            other.sendall(first + b'{"note": 3}')
            guest.close()
            other.close()

        asked = threading.Event()
        server = threading.Thread(target=answer)
        server.start()

        async def main() -> list[Any]:
            backend = AiohttpBackend(f"http://127.0.0.1:{listener.getsockname()[1]}")
            answers = [(await carry_out(backend)).values]
            asked.set()
            sent.wait(10)  # blocks the loop: it cannot have read it
            answers.append((await carry_out(backend)).values)
            await backend.close()
            return answers

        assert asyncio.run(main()) == [{"note": 1}, {"note": 3}]
        server.join()


def test_looking_for_data_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no poll(), select() tells the same."""
    for available in (True, False):
        if not available:
            monkeypatch.delattr(_aiohttp_session.select, "poll")
        one, other = socket.socketpair()
        with one, other:
            there = _aiohttp_session._probe(SimpleNamespace(get_extra_info={"socket": one}.get))
            assert not there()
            other.send(b"x")
            assert there()


def test_a_session_of_the_users_still_works_for_its_owner() -> None:
    """Its connector reports to attempts, and serves anybody else as before; it is watched once only."""
    with RestServer() as server:
        server.put("/baskets/7", {"note": "red"})

        async def main() -> Any:
            async with aiohttp.ClientSession() as session:
                for _ in range(2):
                    await carry_out(AiohttpBackend(server.url, session=session))
                connect = session.connector.connect
                await carry_out(AiohttpBackend(server.url, session=session))
                assert session.connector.connect is connect
                async with session.get(f"{server.url}/baskets/7") as response:
                    return await response.json()

        assert asyncio.run(main())["note"] == "red"
        assert server.connections == 1


def test_a_certificate_that_nobody_vouches_for() -> None:
    """Nothing is sent to such a server, unless the user's session trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b'{"id": 7}'
    with AnsweringServer(answer, context=context) as server:
        base = f"https://localhost:{server.port}"
        with pytest.raises(Unavailable):
            asyncio.run(carry_out(AiohttpBackend(base)))
        assert server.received == []
        trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
        backend = AiohttpBackend(
            base, session=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))
        )
        assert asyncio.run(carry_out(backend)).values == {"id": 7}


# Sessions and loops


def test_each_loop_has_a_session_of_its_own() -> None:
    """Made when it is needed, closed with its loop, and made again where it was closed by somebody else."""
    made: list[Session] = []

    def factory() -> Session:
        made.append(Session())
        return made[-1]

    sessions = AiohttpBackend(BASE, session=factory)._sessions

    async def twice() -> None:
        first = await sessions.get()
        assert await sessions.get() is first
        first.closed = True
        assert await sessions.get() is not first

    asyncio.run(twice())
    assert [one.closed for one in made] == [True, True]
    asyncio.run(twice())
    assert len(made) == 4
    assert len(sessions._open) == 1


@pytest.mark.parametrize("factory", [False, True])
def test_a_session_of_the_users_that_is_closed_leaves_no_doubt(factory: bool) -> None:
    """Nothing is sent by it: a create must not be abandoned, and its chain halted, as if it might have been applied."""

    async def main() -> None:
        session = aiohttp.ClientSession()
        await session.close()
        backend = AiohttpBackend(BASE, session=(lambda: session) if factory else session)
        with pytest.raises(Rejected, match="it is closed"):
            await carry_out(backend, Method.CREATE)

    asyncio.run(main())


def test_close_closes_what_was_made_here() -> None:
    """Also in another loop, which must be running; and a session that was given stays open."""
    given = Session()
    made: list[Session] = []

    def factory() -> Session:
        made.append(Session())
        return made[-1]

    backend = AiohttpBackend(BASE, session=factory)
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(backend._sessions.get(), other).result()

    async def main() -> None:
        await backend._sessions.get()
        await backend.close()
        await backend.close()
        assert [one.closed for one in made] == [True, True]
        await backend._sessions.get()
        shared = AiohttpBackend(BASE, session=given)
        assert await shared._sessions.get() is given
        await shared.close()

    asyncio.run(main())
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.run_until_complete(backend._sessions.get())
    asyncio.run(backend.close())  # its loop stands still, and ends by itself
    other.run_until_complete(other.shutdown_asyncgens())
    other.close()
    assert not given.closed


def test_nothing_is_left_of_a_backend_that_nobody_closes() -> None:
    """No connection, and no complaint of aiohttp's, whether the loop ends or the backend is forgotten before."""
    with RestServer() as server, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        server.put("/baskets/7", {})
        backend = AiohttpBackend(server.url)
        asyncio.run(carry_out(backend))
        server.wait_for_hang_up()

        async def forget() -> None:
            forgotten = AiohttpBackend(server.url)
            await carry_out(forgotten)
            del forgotten
            gc.collect()
            await asyncio.to_thread(server.wait_for_hang_up)

        asyncio.run(forget())
        del backend
        gc.collect()
    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []


# Construction


def test_aiohttp_is_needed_only_when_a_backend_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install; and the other REST backend is not needed for it, nor requests."""
    for name in ("_aiohttp_transport", "_aiohttp_session"):
        monkeypatch.delitem(sys.modules, f"chained_models.backends.{name}", raising=False)
        monkeypatch.delattr(f"chained_models.backends.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtra, match=r"chained-models\[aiohttp\]"):
        AiohttpBackend(BASE)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"max_answer_bytes": 0},
        {"key_style": "baroque"},
        {"headers": {"X": "a\r\nb"}},
        {"auth": "token"},
        {"auth": lambda request: request},
        {"reauthenticate": "token"},
        {"session": 7},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],
)
def test_an_option_that_makes_no_sense(options: dict[str, Any]) -> None:
    """Comes out at construction, under the name of this backend."""
    with pytest.raises(InvalidOption, match=r"AiohttpBackend|headers"):
        AiohttpBackend(BASE, **options)


@pytest.mark.parametrize(
    "base", ["ftp://shop.example", "https://", "https://shop.example/?x", "https://a:b@shop.example"]
)
def test_a_base_url_that_makes_no_sense(base: str) -> None:
    """The same."""
    with pytest.raises(InvalidOption, match=r"AiohttpBackend\(base_url"):
        AiohttpBackend(base)


def test_what_it_promises() -> None:
    """What was given, and FENCED if it is conditional; and a lane for many at once, unless one is given."""
    lane = Lane(2)
    keyed = AiohttpBackend(BASE, guarantee=Guarantee.IDEMPOTENT, conditional=True, lane=lane)
    assert keyed.guarantee == Guarantee.IDEMPOTENT | Guarantee.FENCED
    assert keyed.lane is lane
    assert AiohttpBackend(BASE).lane.max_in_flight == 100
    assert repr(keyed) == f"<AiohttpBackend {BASE}>"


def test_a_path_that_would_change_is_not_sent() -> None:
    """However it came to be."""
    for path in ("a?b", "a#b"):
        with pytest.raises(Rejected):
            _aiohttp_transport.as_sent(BASE, path)
    assert str(_aiohttp_transport.as_sent(BASE, "a%2Fb/%2e%41")) == f"{BASE}/a%2Fb/%2e%41"
