"""The inspector: what it notes, what it shows, who may look, and what its buttons do."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import requests

from chained_models import CallChain, ChainedSaveMixin, Dispatcher, InvalidOption, Outcome, Rejected, inspector
from chained_models.__main__ import main
from chained_models.backends.memory import MemoryBackend
from chained_models.inspector import _history
from chained_models.inspector._application import application
from chained_models.inspector._attached import Attached, lines, shown
from chained_models.inspector._guard import PAGES
from chained_models.inspector._history import History
from chained_models.inspector._text import text
from chained_models.inspector._timeline import chrome_trace
from chained_models.inspector._view import View
from chained_models.testing import Harness, ScriptedBackend

from ..hostile_markup import PAYLOADS
from ..inspected import harness_of


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None
    total: int = 0
    password: str = "canary"
    __chained_secret__: ClassVar[tuple[str, ...]] = ("password",)


chained = harness_of(Order)


@pytest.fixture
def view(chained: Harness) -> Iterator[View]:
    history = History(chained.dispatcher)
    yield View(history, values=True, readonly=False)
    history.close()


def states(view: View) -> list[list[str]]:
    return [[box["state"] for box in chain["boxes"]] for chain in view.overview()["chains"]]


# What is noted and shown


def test_boxes_live(view: View, chained: Harness) -> None:
    """A row for each chain, a box for each save, each in its state as it is."""
    chained.backend.hold()
    first, second = Order(1), Order(2)
    first.save(), first.save(), second.save()
    assert states(view) == [["in flight", "queued"], ["in flight"]]
    chained.backend.release()
    assert states(view) == [["saved", "saved"], ["saved"]]
    assert all(chain["idle"] for chain in view.overview()["chains"])


def test_only_what_has_changed(view: View, chained: Harness) -> None:
    """Asked with a revision, it tells what has changed since, and nothing else."""
    one, other = Order(1), Order(2)
    one.save(), other.save()
    revision = view.overview()["revision"]
    assert view.overview(revision)["chains"] == []
    other.save()
    assert [chain["title"] for chain in view.overview(revision)["chains"]] == ["Order 2"]


def test_one_save(view: View, chained: Harness) -> None:
    """Its attempts with their errors, what was sent, what differs from the save in front of it, and why it waits."""
    order = Order(1, total=1)
    order.save()
    chained.backend.fail(Rejected("canary"), times=1)
    order.total = 2
    order.save()
    chained.backend.hold()
    order.total = 3
    order.save()
    order.save()
    boxes = view.overview()["chains"][0]["boxes"]
    failed = view.detail(boxes[1]["id"])
    assert failed is not None
    assert (failed["state"], failed["error"], failed["outcome"]) == ("failed", "Rejected", "failed")
    assert [one["error"] for one in failed["attempts"]] == ["Rejected"]
    assert failed["changed"] == [{"name": "total", "before": "1", "after": "2"}]
    waiting = view.detail(boxes[3]["id"])
    assert waiting is not None and waiting["why_waiting"].startswith("queued behind")
    assert waiting["sent"] == {"id": "1", "total": "3", "password": None}
    assert "canary" not in json.dumps([failed, waiting])
    chained.backend.release()
    assert view.detail(10_000) is None


def test_names_only_unless_asked(chained: Harness) -> None:
    """Without `values=True` no value of any attribute is shown."""
    history = History(chained.dispatcher)
    view = View(history, values=False, readonly=False)
    Order(1, total=4711).save()
    (box,) = view.overview()["chains"][0]["boxes"]
    detail = view.detail(box["id"])
    assert detail is not None and detail["sent"] == {"id": None, "total": None, "password": None}
    assert "4711" not in json.dumps(detail)
    history.close()


def test_what_was_there_before(chained: Harness) -> None:
    """Saves that wait already when somebody begins to look are shown, too."""
    chained.backend.hold()
    Order(1).save()
    history = History(chained.dispatcher)
    assert states(View(history, values=False, readonly=True)) == [["in flight"]]
    history.close()
    chained.backend.release()


def test_other_dispatchers_are_not_shown(view: View) -> None:
    """It is about one dispatcher."""
    history = History(Dispatcher("inline"))
    Order(1).save()
    assert len(history) == 0 and len(view.history) == 1
    history.close()


def test_kept_within_bounds(view: View, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each chain the latest settled saves, of all chains the latest; what goes is said."""
    monkeypatch.setattr(_history, "KEPT", 3)
    monkeypatch.setattr(_history, "ROWS", 2)
    order = Order(1)
    for _ in range(5):
        order.save()
    (chain,) = view.overview()["chains"]
    assert len(chain["boxes"]) == 3 and chain["dropped"] == 2
    revision = view.overview()["revision"]
    Order(2).save(), Order(3).save()
    told = view.overview(revision)
    assert told["gone"] == [chain["id"]] and [one["title"] for one in told["chains"]] == ["Order 2", "Order 3"]


def test_it_lets_go() -> None:
    """As long as it is open it keeps the latest saves, and so their models; once it is closed it keeps nothing, and notes nothing."""
    dispatcher = Dispatcher("inline")
    Order.bind(MemoryBackend(), resource="orders", dispatcher=dispatcher)
    history = History(dispatcher)
    order = Order()
    order.save()
    gone = weakref.ref(order)
    del order
    gc.collect()
    assert gone() is not None
    history.close()
    gc.collect()
    assert gone() is None
    Order().save()
    assert len(history) == 0 and history.closed


class Rude:
    """Of which nothing can be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Rude(), "<Rude cannot be shown: RuntimeError>"),
        ("\ud800", "'\\ud800'"),
        ("x" * 1000, "'" + "x" * 499 + "… (1000 characters)"),
        (float("nan"), "nan"),
    ],
)
def test_anything_can_be_shown(value: Any, words: str) -> None:
    """Whatever a value is, and its `repr` does, there are words for it that can be sent."""
    assert text(value) == words
    json.dumps(text(value)).encode()


# Buttons


def test_buttons(view: View, chained: Harness) -> None:
    """Pause, resume, retry, skip, clear, cancel one, batch size: each does what the verb does."""
    order = Order(1)
    order.save()
    chain = view.overview()["chains"][0]["id"]
    view.do("pause", {"chain": chain})
    assert order.chain.paused and view.overview()["chains"][0]["paused"]
    handles = [order.save() for _ in range(3)]
    boxes = view.overview()["chains"][0]["boxes"]
    view.do("cancel", {"save": boxes[-1]["id"]})
    assert handles[-1].outcome is Outcome.CANCELLED
    view.do("resume", {"chain": chain})
    assert handles[0].outcome is Outcome.SAVED
    view.do("pause", {"all": True})
    view.do("pause", {"chain": chain})
    waiting = order.save()
    view.do("clear", {"chain": chain})
    assert waiting.outcome is Outcome.CANCELLED
    (lane,) = view.overview()["lanes"]
    view.do("batch", {"lane": lane["id"], "size": 4})
    assert view.overview()["lanes"][0]["max_batch"] == 4


@pytest.mark.parametrize("command", ["retry", "skip"])
def test_a_halted_chain(view: View, chained: Harness, command: str) -> None:
    """What halted it is shown, and a button lets it go on."""
    from chained_models import OnFailure

    order = Order(1)
    order.save()
    order.chain.update(on_failure=OnFailure.HALT)
    chained.backend.fail(Rejected("no"), times=1)
    failed, behind = order.save(), order.save()
    assert view.overview()["chains"][0]["halted"] == failed.seq
    view.do(command, {"chain": view.overview()["chains"][0]["id"]})
    assert behind.outcome is Outcome.SAVED and view.overview()["chains"][0]["halted"] is None


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("pause", {}),
        ("pause", {"chain": 4711}),
        ("pause", {"chain": "1"}),
        ("__class__", {"chain": 1}),
        ("cancel", {"save": 4711}),
        ("batch", {"lane": 1, "size": 0}),
        ("batch", {"lane": 1, "size": True}),
        ("batch", {"lane": 1, "size": 3}),
        ("flush", {"all": True}),
    ],
)
def test_what_cannot_be_done(view: View, command: str, what: dict[str, Any]) -> None:
    """Whatever else is asked for is refused, and nothing is done."""
    with pytest.raises(InvalidOption):
        view.do(command, what)


def test_read_only(chained: Harness) -> None:
    """With `readonly` nothing is done."""
    history = History(chained.dispatcher)
    order = Order(1)
    order.save()
    view = View(history, values=False, readonly=True)
    with pytest.raises(InvalidOption, match="read only"):
        view.do("pause", {"all": True})
    assert not order.chain.paused
    history.close()


def test_calls() -> None:
    """A CallChain is a row like any other, named after its worker, and its batch can be changed."""
    done: list[Any] = []

    def work(items: Any) -> None:
        done.append(items)

    with Dispatcher("inline") as dispatcher:
        calls = CallChain(work, dispatcher=dispatcher, batch=2)
        history = History(dispatcher)
        view = View(history, values=False, readonly=False)
        calls.pause()
        calls.extend([1, 2, 3, 4, 5])
        (chain,) = view.overview()["chains"]
        assert chain["title"].endswith("work") and chain["paused"]
        assert [box["state"] for box in chain["boxes"]] == ["queued"] * 5
        view.do("batch", {"chain": chain["id"], "size": 4})
        view.do("resume", {"chain": chain["id"]})
        assert done == [[1, 2, 3, 4], [5]]
        Order.bind(MemoryBackend(), resource="orders", dispatcher=dispatcher)
        Order().save()
        with pytest.raises(InvalidOption, match="only a CallChain"):
            view.do("batch", {"chain": view.overview()["chains"][1]["id"], "size": 4})
        history.close()


# The timeline


def test_the_trace(view: View, chained: Harness) -> None:
    """The Chrome trace-event format: names of threads, and complete events with whole microseconds."""
    chained.backend.fail(Rejected("canary"), times=1)
    Order(1).save(), Order(2).save()
    chained.backend.hold()
    Order(3).save()
    events = chrome_trace(view.history)["traceEvents"]
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {"chained_models", "Order 1", "Order 2", "Order 3"}
    bars = [event for event in events if event["ph"] == "X"]
    assert [bar["cat"] for bar in bars] == ["failed", "done", "running"]
    for bar in bars:
        assert bar.keys() == {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"}
        assert type(bar["ts"]) is type(bar["dur"]) is int and bar["dur"] >= 0
    assert "canary" not in json.dumps(events)
    chained.backend.release()


# Who may look

TOKEN = "let-me-in"
OURS = ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "localhost:8000", "127.0.0.1:1", "[::1]:65535"]
OTHERS = [
    "", "example.org", "evil.localhost", "localhost.evil.org", "localhost.", "127.0.0.2", "127.1", "0.0.0.0", "2130706433",
    "0x7f.0.0.1", "017700000001", "[::]", "[::2]", "[::ffff:127.0.0.1]", "::1", "[::1", "::1]", "localhost:x",
    "localhost:99999", "localhost:-1", "user@localhost", "localhost@evil.org", "evil.org#localhost", "evil.org/localhost",
    "localhost/evil", "localhost?x", "localhost#x", "localhost,evil.org", "localhost evil.org", " evil", "localhost\t.evil",
    "127.0.0.1.nip.io", "localtest.me", "attacker.test:8000", "xn--localhost", "loca\u017fhost", "localhos\u0288", "%6cocalhost",
    "[localhost]", "http://localhost", "//localhost", "localhost\\@evil", "127.0.0.1:80:80", "localhost;", "*", "null", "-",
    "localhost\x00", "a" * 300,
]  # fmt: skip


def asked(app: Any, path: str = "/state", method: str = "GET", body: bytes = b"", **headers: Any) -> tuple[int, bytes]:
    """Ask the application as a server would, with exactly these headers."""
    given = {"host": "localhost", "x_chained_token": TOKEN, **headers}
    raw = [
        (name.replace("_", "-").encode(), one if isinstance(one, bytes) else one.encode("utf-8"))
        for name, value in given.items()
        if value is not None
        for one in (value if isinstance(value, list) else [value])
    ]
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": query.encode(), "headers": raw, "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    sent: list[Any] = []
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(received, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    headers_sent = dict(sent[0]["headers"])
    assert b"default-src 'none'" in headers_sent[b"content-security-policy"]
    assert headers_sent[b"x-content-type-options"] == b"nosniff"
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def app(view: View) -> Any:
    return application(view.history, token=TOKEN, hosts=("localhost", "127.0.0.1", "::1"), values=True, readonly=False)


PATHS = [
    "/",
    "/app.js",
    "/stream.js",
    "/style.css",
    "/state",
    "/events",
    "/saves/1",
    "/trace.json",
    "/openapi.json",
    "/do",
    "/no",
]


@pytest.mark.parametrize("host", OTHERS)
def test_other_names_are_refused(app: Any, host: str) -> None:
    """A request that comes by another name is refused on every route: its page may be anybody's."""
    for path in PATHS:
        assert asked(app, path, "POST" if path == "/do" else "GET", host=host)[0] == 403


@pytest.mark.parametrize("host", OURS)
def test_our_names(app: Any, host: str) -> None:
    """Loopback, by any of its names, with any port."""
    assert asked(app, host=host)[0] == 200


def test_one_host_only(app: Any) -> None:
    """None, or two, are refused."""
    assert asked(app, host=None)[0] == 403
    assert asked(app, host=["localhost", "evil.org"])[0] == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.org"},
        {"origin": "null"},
        {"origin": "file://"},
        {"origin": "http://localhost.evil.org"},
        {"origin": ["http://localhost", "http://evil.org"]},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "nonsense"},
    ],
)
def test_other_pages_are_refused(app: Any, path: str, headers: dict[str, Any]) -> None:
    """What a page of another origin asks for is refused, also with the token."""
    assert asked(app, path, **headers)[0] == 403


def test_our_own_page(app: Any) -> None:
    """Its requests carry our origin, or none."""
    assert asked(app, origin="http://127.0.0.1:8000", sec_fetch_site="same-origin")[0] == 200
    assert asked(app, sec_fetch_site="none")[0] == 200


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + " ", TOKEN.upper(), [TOKEN, TOKEN], "\u017f"])
def test_without_the_token(app: Any, token: Any) -> None:
    """Everything but the empty page is refused, and nothing is done."""
    for path in PATHS[4:]:
        status, body = asked(app, path, "POST" if path == "/do" else "GET", x_chained_token=token)
        assert status == 403 and TOKEN.encode() not in body
    assert all(asked(app, path, x_chained_token=token)[0] == 200 for path in PATHS[:4])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_change_is_a_post(app: Any, method: str, chained: Harness) -> None:
    """By any other verb nothing is done."""
    order = Order(1)
    order.save()
    assert asked(app, "/do", method, b'{"command": "pause", "all": true}')[0] == 405
    assert not order.chain.paused


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"pause"', b"1", b"{}", b'{"command": 1}', b'{"command": null}', b"\xff\xfe", b"[" * 4000,
        b'{"command": "pause"' + b" " * 5000 + b"}", b'{"command": "\\ud800"}', b'{"command": "pause", "chain": 1e400}',
        b'{"command": "pause", "chain": ' + b"9" * 3000 + b"}",
    ],
)  # fmt: skip
def test_malformed_bodies(app: Any, body: bytes) -> None:
    """Whatever is sent is answered with a problem in JSON, never with a traceback."""
    status, answer = asked(app, "/do", "POST", body)
    assert status in (400, 409) and set(json.loads(answer)) == {"problem"}


def test_values_are_data(app: Any, view: View) -> None:
    """500 hostile names and values come out as strings in JSON, and as nothing else."""

    @dataclasses.dataclass
    class Hostile(ChainedSaveMixin):
        id: str
        note: str = ""

    Hostile.bind(ScriptedBackend(), resource="hostile", identity_by="client")
    for payload in PAYLOADS:
        Hostile(payload, payload).save()
    status, body = asked(app, "/state")
    titles = {chain["title"] for chain in json.loads(body)["chains"]}
    assert status == 200 and len(titles) == len(PAYLOADS) == 500
    for chain in json.loads(body)["chains"][:20]:
        status, body = asked(app, f"/saves/{chain['boxes'][0]['id']}")
        assert json.loads(body)["sent"]["note"] in {text(payload) for payload in PAYLOADS}


def test_nothing_is_markup() -> None:
    """The script of the page never turns text into markup, and neither it nor the page holds anything that CSP would refuse."""
    from importlib.resources import files

    static = files("chained_models.inspector").joinpath("static")
    demo = files("chained_models.demo").joinpath("static")
    scripts = [one for folder in (static, demo) for one in folder.iterdir() if one.name.endswith(".js")]
    script = "".join(one.read_text() for one in scripts)
    assert {f"/{one.name}" for one in static.iterdir() if one.name != "index.html"} == set(PAGES) - {"/"}
    page = files("chained_models.inspector").joinpath("static", "index.html").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert word not in script
    assert "<style" not in page and " style=" not in page and " on" not in page.replace(" only", "").replace(" one", "")


# Serving


def test_serving(chained: Harness) -> None:
    """A thread of its own; its address holds the token; requests by it are answered, and closing it ends it."""
    with inspector.serve(chained.dispatcher, quiet=True) as serving:
        address, _, token = serving.url.partition("/#token=")
        Order(1).save()
        assert requests.get(f"{address}/", timeout=5).headers["content-type"].startswith("text/html")
        assert requests.get(f"{address}/state", timeout=5).status_code == 403
        state = requests.get(f"{address}/state", headers={"X-Chained-Token": token}, timeout=5).json()
        assert [chain["title"] for chain in state["chains"]] == ["Order 1"]
        assert token not in repr(serving)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}/", timeout=5)


def events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith(b"id: "):
            name = line[4:].decode()
        if line.startswith(b"data: "):
            yield name, json.loads(line[6:])


def test_events_go_on_where_they_were(chained: Harness) -> None:
    """What changes comes as it does; after a lost connection only what has changed since the last that was seen."""
    with inspector.serve(chained.dispatcher, quiet=True) as serving:
        address, _, token = serving.url.partition("/#token=")
        Order(1).save()
        headers = {"X-Chained-Token": token}
        with requests.get(f"{address}/events", headers=headers, stream=True, timeout=5) as stream:
            last, state = next(events(stream.iter_lines(chunk_size=1)))
            assert [chain["title"] for chain in state["chains"]] == ["Order 1"]
        Order(2).save()
        with requests.get(
            f"{address}/events", headers={**headers, "Last-Event-ID": last}, stream=True, timeout=5
        ) as stream:
            _, state = next(events(stream.iter_lines(chunk_size=1)))
            assert [chain["title"] for chain in state["chains"]] == ["Order 2"]
        other = f"another-{last.rpartition('-')[2]}"
        with requests.get(
            f"{address}/events", headers={**headers, "Last-Event-ID": other}, stream=True, timeout=5
        ) as stream:
            _, state = next(events(stream.iter_lines(chunk_size=1)))
            assert len(state["chains"]) == 2, "another start: all of it"


def test_a_port_that_is_taken(chained: Harness) -> None:
    """Says so, and what to do."""
    with (
        inspector.serve(chained.dispatcher, quiet=True) as serving,
        pytest.raises(InvalidOption, match="leave it out"),
    ):
        inspector.serve(chained.dispatcher, port=serving.port, quiet=True)


def test_a_viewer_does_not_hold_up_the_exit() -> None:
    """A program ends although a page is open."""
    code = """
import dataclasses, requests
from chained_models import CallChain, ChainedSaveMixin, Dispatcher, inspector
serving = inspector.serve(Dispatcher("inline"), quiet=True)
address, _, token = serving.url.partition("/#token=")
stream = requests.get(f"{address}/events", headers={"X-Chained-Token": token}, stream=True, timeout=5)
next(stream.iter_lines(chunk_size=1))
print("seen")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "seen", "")


def test_a_closed_dispatcher() -> None:
    """The page goes on when the dispatcher has been closed while somebody looks."""
    dispatcher = Dispatcher("inline")
    with inspector.serve(dispatcher, quiet=True) as serving:
        address, _, token = serving.url.partition("/#token=")
        dispatcher.close()
        assert requests.get(f"{address}/state", headers={"X-Chained-Token": token}, timeout=5).status_code == 200


# In a terminal


def test_in_a_terminal(chained: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    """`chained-models inspect` shows a line for each lane and chain, and for programs the state as JSON."""
    with inspector.serve(chained.dispatcher, quiet=True) as serving:
        order = Order(1)
        chained.backend.fail(Rejected("no"), times=1)
        order.save(), order.save()
        assert main(["inspect", serving.url, "--once"]) == 0
        assert capsys.readouterr().out == "lane 1  0 of 8 in flight\nOrder 1  x+  done\n"
        assert main(["inspect", serving.url, "--once", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["chains"][0]["title"] == "Order 1"
        stolen = serving.url.replace("token=", "token=not-")
        assert main(["inspect", stolen, "--once"]) == 2
        assert "the token is missing, or wrong" in capsys.readouterr().err


def test_it_follows_until_the_inspector_ends(chained: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--once` what changes is told as it does; the end of the inspector is the end of it."""
    serving = inspector.serve(chained.dispatcher, quiet=True)
    states = Attached(serving.url).states()
    chains: dict[int, Any] = {}
    shown(chains, next(states))
    assert not chains
    Order(1).save()
    revision = -1
    while revision != serving.history.revision:
        shown(chains, state := next(states))
        revision = state["revision"]
    assert [line[:2] for line in lines(chains, [])] == [("Order 1", "+")]
    serving.close()
    assert list(states) == []


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://127.0.0.1:1/#token=x", 1), ("http://127.0.0.1:1/", 2), ("ftp://localhost/#token=x", 2), ("nonsense", 2)],
)
def test_nobody_there(url: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """An address at which nobody answers, or that is none, is told as one line."""
    assert main(["inspect", url, "--once"]) == status
    assert capsys.readouterr().err.startswith("chained-models: ")
