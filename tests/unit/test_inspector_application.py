"""The inspector's routes as a server meets them: odd requests, many viewers, slow ones, and user code behind them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from chained_models import CallChain, ChainedSaveMixin, Dispatcher, InvalidOption, Outcome, _observing, inspector
from chained_models.inspector import _application, _aside, _view
from chained_models.inspector._application import application
from chained_models.inspector._history import History
from chained_models.testing import Harness

from ..inspected import harness_of

TOKEN = "let-me-in"


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: Any = None
    note: Any = None


chained = harness_of(Order)


@pytest.fixture
def app(chained: Harness) -> Iterator[Any]:
    history = History(chained.dispatcher)
    yield application(history, token=TOKEN, hosts=("localhost",), values=True, readonly=False)
    history.close()


class Asked:
    """One request, as a server makes it; and what was answered until now."""

    def __init__(
        self,
        app: Any,
        path: str,
        method: str = "GET",
        *,
        chunks: Any = (b"",),
        root: str = "",
        reads: bool = True,
        **headers: str,
    ) -> None:
        given = {"host": "localhost", "x-chained-token": TOKEN, **{k.replace("_", "-"): v for k, v in headers.items()}}
        self.messages: list[Any] = []
        self.gone = asyncio.Event()
        self.some = asyncio.Event()
        self._chunks = iter(chunks)
        self._whole = False
        self._reads = reads
        self._task = asyncio.ensure_future(app(
            {
                "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
                "path": path, "raw_path": path.encode(), "root_path": root, "query_string": b"", "scheme": "http",
                "headers": [(name.encode(), value.encode()) for name, value in given.items()],
                "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            }, self._receive, self._send,
        ))  # fmt: skip

    async def _receive(self) -> Any:
        for chunk in self._chunks:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if not self._whole:
            self._whole = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.messages.append(message)
        if message.get("body"):
            self.some.set()
            if not self._reads:
                await asyncio.Event().wait()

    async def leave(self) -> None:
        self.gone.set()
        await self._task

    async def end(self) -> tuple[int, bytes]:
        await self._task
        return self.status, self.body

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def answered(app: Any, path: str, method: str = "GET", **more: Any) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        return await Asked(app, path, method, **more).end()

    return asyncio.run(ask())


# Odd requests


@pytest.mark.parametrize(
    "number", ["0", "-1", "+1", "1.0", "1e1", "\u0663", "9" * 5_000, "1_0", " 1", "x", "0x1", "None"]
)
def test_saves_that_are_none(app: Any, number: str) -> None:
    """What is no number of a save is answered like one that is not kept, and never with a traceback."""
    status, body = answered(app, f"/saves/{number}")
    assert status == 404 and json.loads(body)["problem"]


@pytest.mark.parametrize(
    "path",
    ["//state", "/state/", "/./state", "/static/../state", "/%2e/state", "/app.js/../state", "/app.js/", "//app.js/state",
     "/app.js;/state", "/app.js\\state", "/app.js\x00", "*", "/STATE", "/saves/1/../../state", "/state#", "/app.js?/state"],
)  # fmt: skip
def test_paths_that_are_no_pages(app: Any, path: str) -> None:
    """No way of writing a path gets past the token: only the files of the page may be had without."""
    assert answered(app, path, x_chained_token="")[0] == 403


def test_mounted_under_a_prefix(app: Any) -> None:
    """Its paths are those behind the prefix, in an application and behind a server that has one; the token is needed there as well."""
    Order(1).save()
    main = Starlette(routes=[Mount("/saves", app), Mount("/deep/er", app)])
    for path in ("/saves/", "/saves/app.js", "/deep/er/style.css"):
        assert answered(main, path, x_chained_token="")[0] == 200
    assert answered(main, "/saves/state", x_chained_token="")[0] == 403
    assert json.loads(answered(main, "/saves/saves/2")[1])["title"] == "Order 1"
    assert answered(app, "/behind/app.js", root="/behind", x_chained_token="")[0] == 200
    assert answered(app, "/behind/state", root="/behind", x_chained_token="")[0] == 403
    assert answered(app, "/behind/state", root="/behind")[0] == 200
    assert answered(app, "/app.js/state", root="/app.js", x_chained_token="")[0] == 403


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", ""])
def test_other_methods(app: Any, method: str) -> None:
    """They do nothing, and none of them stays: a HEAD of the events ends, and takes no place."""
    for path in ("/", "/state", "/events", "/do", "/saves/1", "/trace.json"):
        status, body = answered(app, path, method)
        if method == "HEAD":  # whose body no server sends
            assert status == {"/do": 405, "/saves/1": 404}.get(path, 200)
        else:
            assert status == 405 and b"chains" not in body


def test_what_is_no_request(app: Any) -> None:
    """A websocket is closed; a server that asks how the application starts gets no answer, and needs none."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(app({"type": "websocket", "path": "/events", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert len(sent) == 1


def test_a_body_in_pieces(app: Any, chained: Harness) -> None:
    """It may come byte by byte; one that is too long is not read to its end, however it comes."""
    order = Order(1)
    order.save()
    wanted = b'{"command": "pause", "all": true}'
    assert answered(app, "/do", "POST", chunks=[bytes([one]) for one in wanted])[0] == 204
    assert order.chain.paused
    read: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            read.append(1)
            yield b" " * 1_000

    assert answered(app, "/do", "POST", chunks=endless())[0] == 400 and len(read) == 5


@pytest.mark.parametrize(
    ("host", "origin", "site", "status"),
    [
        ("localhost:8000", "http://localhost:8000", None, 200),
        ("LOCALHOST:8000", "http://localhost:8000", None, 200),
        ("localhost:8000", "http://localhost:3000", None, 403),
        ("localhost:8000", "http://localhost", None, 403),
        ("localhost:8000", "http://127.0.0.1:8000", None, 403),
        ("localhost:8000", "http://localhost:3000", "same-origin", 200),
        ("localhost:8000", "http://localhost:3000", "same-site", 403),
        ("localhost:8000", "http://localhost:3000", "none", 403),
    ],
)
def test_pages_of_another_port(app: Any, host: str, origin: str, site: str | None, status: int) -> None:
    """Whatever else runs on this machine is not ours; behind a proxy that changes the Host the browser's word counts."""
    headers = {"host": host, "origin": origin} | ({} if site is None else {"sec_fetch_site": site})
    assert answered(app, "/state", **headers)[0] == status


# Viewers


def test_so_many_viewers(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pages as may be open are, also if all come at once; one more is told so, until one of them has gone."""
    monkeypatch.setattr(_application, "VIEWERS", 3)

    async def look() -> None:
        asked = [Asked(app, "/events") for _ in range(5)]
        (_, refused), (_, also) = await asyncio.gather(*(one.end() for one in asked[3:]))
        assert json.loads(refused) == json.loads(also) == {"problem": "3 pages are open already"}
        await asyncio.gather(*(one.some.wait() for one in asked[:3]))
        await asked[0].leave()
        another = Asked(app, "/events")
        await another.some.wait()
        assert another.status == 200
        for one in (*asked[1:3], another):
            await one.leave()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(look())


def test_the_next_stream_of_the_same_page(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told to come again is not counted any more: where all places are taken, none is refused because of its own last stream."""
    monkeypatch.setattr(_application, "VIEWERS", 1)
    monkeypatch.setattr(_application, "LASTS", 0.0)

    async def look() -> None:
        asked = Asked(app, "/events")
        for _ in range(5):
            while b"event: again" not in asked.body:
                await asyncio.sleep(0)
            before, asked = asked, Asked(app, "/events")
            await asked.some.wait()
            assert asked.status == 200
            await before.end()
        await asked.end()

    asyncio.run(look())


def test_a_stream_that_goes_on(app: Any, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells nothing of what was told already, but does say something, so that nobody takes the connection for lost."""
    monkeypatch.setattr(_application, "LASTS", 0.0)
    first = answered(app, "/events")[1].split(b"\n")[0].removeprefix(b"id: ").decode()
    assert answered(app, "/events", last_event_id=first)[1] == b": nothing new\n\nevent: again\ndata: {}\n\n"
    Order(1).save()
    told = answered(app, "/events", last_event_id=first)[1]
    assert told.startswith(b"id: ") and b"Order 1" in told
    again = told.split(b"\n")[0].removeprefix(b"id: ").decode()
    assert b"Order 1" not in answered(app, "/events", last_event_id=again)[1]


def test_a_viewer_who_does_not_read(app: Any) -> None:
    """Somebody whose connection is stuck holds up nobody, and is no viewer any more when it is cut."""

    async def look() -> None:
        stuck = Asked(app, "/events", reads=False)
        await stuck.some.wait()
        assert (await Asked(app, "/state").end())[0] == 200
        await stuck.leave()

    asyncio.run(look())


@pytest.mark.parametrize(
    "last", ["", "-", "x", "-1", "\u0663", "9" * 5_000, "boot-1-2", "{boot}-", "{boot}.x-1", "{boot}.9-0"]
)
def test_ids_that_nobody_gave(app: Any, chained: Harness, last: str) -> None:
    """Whatever comes as the id of the last event, all there is is told, and nothing of that id is said again."""
    Order(1).save()
    boot = json.loads(answered(app, "/state")[1])["boot"]

    async def look() -> bytes:
        asked = Asked(app, "/events", last_event_id=last.format(boot=boot))
        await asked.some.wait()
        await asked.leave()
        return asked.body

    name, data, *_ = asyncio.run(look()).split(b"\n")
    assert name.startswith(b"id: " + boot.encode()) and b".x" not in name
    assert len(json.loads(data.removeprefix(b"data: "))["chains"]) == 1


# The user's code behind it


class Slow:
    """Takes until somebody lets it go on."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __repr__(self) -> str:
        self.asked.set()
        self.go_on.wait(30)
        return "slow"

    def __deepcopy__(self, memo: Any) -> Slow:
        return self


def test_a_slow_repr_holds_up_nobody_else(app: Any, chained: Harness) -> None:
    """The others see what there is while it takes its time, and so does the rest of the application that it is mounted in."""
    slow = Slow()
    Order(1, slow).save()

    async def look() -> None:
        waiting = Asked(app, "/saves/2")
        await asyncio.to_thread(slow.asked.wait, 30)
        assert (await Asked(app, "/state").end())[0] == 200
        assert not waiting.messages
        slow.go_on.set()
        status, body = await waiting.end()
        assert status == 200 and json.loads(body)["sent"]["note"] == "slow"

    asyncio.run(look())


def test_reprs_that_never_end(app: Any, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many threads may hang in them; one more look is told so, and a stream ends, until one of them has come back."""
    monkeypatch.setattr(_aside, "MOST", 3)
    monkeypatch.setattr(_aside, "_under_way", set())
    monkeypatch.setattr(_application, "LOOK", 0.01)
    slow = Slow()
    Order(1, slow).save()

    async def look() -> None:
        stream = Asked(app, "/events")
        await stream.some.wait()
        waiting = [Asked(app, "/saves/2") for _ in range(3)]
        while len(_aside._under_way) < 3:
            await asyncio.sleep(0)
        status, body = await Asked(app, "/state").end()
        assert status == 503 and json.loads(body)["problem"].startswith("3 looks have not come back")
        status, body = await Asked(app, "/events").end()
        assert status == 503 and json.loads(body)["problem"].startswith("3 looks have not come back")
        assert (await Asked(app, "/do", "POST", chunks=[b'{"command": "pause", "all": true}']).end())[0] == 503
        Order(2).save()
        assert b"event: end" not in (await stream.end())[1]
        slow.go_on.set()
        assert [(await one.end())[0] for one in waiting] == [200, 200, 200]
        while _aside._under_way:
            await asyncio.sleep(0)
        assert (await Asked(app, "/state").end())[0] == 200

    asyncio.run(look())


def test_no_more_threads(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives none, who looks is told so, and it is no look under way."""
    monkeypatch.setattr(_aside, "_under_way", set())

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        assert answered(app, "/state")[0] == 503
    assert not _aside._under_way
    assert answered(app, "/state")[0] == 200


@pytest.mark.parametrize("error", [SystemExit("canary"), KeyboardInterrupt("canary"), ValueError("canary")])
def test_what_a_button_brings_about_may_raise(error: BaseException) -> None:
    """Who resumes a chain of the inline driver does its work, and whatever that raises is told by its type; the page goes on."""
    with Dispatcher("inline") as dispatcher:

        def work(item: Any) -> None:
            raise error

        calls = CallChain(work, dispatcher=dispatcher)
        history = History(dispatcher)
        app = application(history, token=TOKEN, hosts=("localhost",), values=True, readonly=False)
        calls.pause()
        call = calls.add(1)
        status, body = answered(app, "/do", "POST", chunks=[b'{"command": "resume", "all": true}'])
        assert call.outcome is Outcome.FAILED and b"canary" not in body
        if isinstance(error, Exception):
            assert status == 204
        else:
            assert (status, json.loads(body)) == (409, {"problem": f"it raised {type(error).__name__}"})
        assert answered(app, "/state")[0] == 200
        history.close()


# What it is made with


@pytest.mark.parametrize("token", ["", " ", "a b", "caf\u00e9", "\ud800", "a\n", 7, b"bytes", True])
def test_a_token_that_keeps_nobody_out(token: Any) -> None:
    """Or that no header can hold is refused, and nothing stays behind."""
    before = _observing.observers
    dispatcher = Dispatcher("inline")
    for make in (inspector.app, inspector.serve):
        with pytest.raises(InvalidOption, match="token="):
            make(dispatcher, token=token)
    assert _observing.observers == before
    assert not [one for one in threading.enumerate() if one.name == "chained-models-inspector"]


@pytest.mark.parametrize("wrong", [Order, None, "dispatcher"])
def test_what_is_no_dispatcher(wrong: Any) -> None:
    """Is refused, and nothing stays behind."""
    before = _observing.observers
    for make in (inspector.app, inspector.serve):
        with pytest.raises(InvalidOption, match="a Dispatcher is needed"):
            make(wrong, token="x")
    assert _observing.observers == before


def test_one_host_may_be_given_alone(chained: Harness) -> None:
    """One name is that name, not its letters."""
    guard = inspector.app(chained.dispatcher, token=TOKEN, hosts="admin.example.org")
    assert answered(guard, "/state", host="admin.example.org:8000")[0] == 200
    assert answered(guard, "/state", host="a")[0] == 403
    guard.close()


def test_hosts_that_are_none(chained: Harness) -> None:
    """Nothing stays behind of what could not be made."""
    before = _observing.observers
    with pytest.raises(TypeError):
        inspector.app(chained.dispatcher, token=TOKEN, hosts=None)  # type: ignore[arg-type]
    assert _observing.observers == before


# What no event tells of


def test_a_chain_that_the_program_pauses(chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers learn of it, and of a lane that is paused, although nothing has happened to any save."""
    monkeypatch.setattr(_application, "LOOK", 0.01)
    monkeypatch.setattr(_view, "GLANCE", 0.0)
    history = History(chained.dispatcher)
    app = application(history, token=TOKEN, hosts=("localhost",), values=True, readonly=False)
    order = Order(1)
    order.save()
    lane = chained.dispatcher.port(chained.backend).lane.lane

    async def look() -> None:
        asked = Asked(app, "/events")

        async def sees(*, chain: bool, lane: bool) -> None:
            """Wait until what was told so far comes to that."""
            while True:
                told = [json.loads(one["body"].split(b"\n")[1].removeprefix(b"data: ")) for one in asked.messages[1:]]
                paused = [state["chains"][0]["paused"] for state in told if state["chains"]]
                if paused[-1:] == [chain] and told[-1]["lanes"][0]["paused"] is lane:
                    return
                asked.some.clear()
                await asked.some.wait()

        await sees(chain=False, lane=False)
        order.chain.pause()
        await Asked(app, "/state").end()  # whoever else sees it first
        await sees(chain=True, lane=False)
        order.chain.resume()
        await sees(chain=False, lane=False)
        lane.pause()
        await sees(chain=False, lane=True)
        lane.resume()
        await sees(chain=False, lane=False)
        await asked.leave()

    asyncio.run(asyncio.wait_for(look(), 20))
    history.close()


def test_a_dispatcher_that_is_closed(app: Any, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers learn of it, although nothing else happens."""
    monkeypatch.setattr(_application, "LOOK", 0.01)
    monkeypatch.setattr(_view, "GLANCE", 0.0)

    async def look() -> None:
        asked = Asked(app, "/events")
        await asked.some.wait()
        chained.dispatcher.close()
        while b'"closed": true' not in asked.body:
            asked.some.clear()
            await asked.some.wait()
        await asked.leave()

    asyncio.run(asyncio.wait_for(look(), 20))
