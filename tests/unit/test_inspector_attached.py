"""The inspector in a terminal: a table that changes in its place, as somebody sees it who sits in front of one."""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from chained_models import ChainedSaveMixin, inspector
from chained_models.inspector import _application
from chained_models.inspector._attached import Attached, lines, shown
from chained_models.inspector._serving import Serving
from chained_models.testing import Harness

from ..inspected import harness_of

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: Any = None


chained = harness_of(Order)


@pytest.fixture
def serving(chained: Harness) -> Iterator[Serving]:
    with inspector.serve(chained.dispatcher, quiet=True) as serving:
        yield serving


def _take_the_terminal() -> None:
    """In the child: what is typed there is for it, Ctrl-C as well."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        import fcntl
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 140, 0, 0))
        self.program = subprocess.Popen(
            [sys.executable, "-m", "chained_models", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "30"},
            start_new_session=True,
            preexec_fn=_take_the_terminal,
        )
        os.close(theirs)
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def see(self, pattern: str) -> None:
        """Read until it shows that, after all that was waited for before."""
        while (found := re.search(pattern, self.seen)) is None:
            self.seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen + self._read())
        self.seen = self.seen[found.end() :]

    def _read(self) -> str:
        try:
            some = os.read(self._ours, 65_536)
        except OSError:  # nobody is at the other end any more
            some = b""
        assert some, f"it has ended, and showed only {self.seen!r}"
        return self._decoder.decode(some)

    def end(self) -> int:
        """Read until it ends, and tell how."""
        while True:
            try:
                if not os.read(self._ours, 65_536):
                    break
            except OSError:
                break
        os.close(self._ours)
        return self.program.wait(30)


def test_a_table_that_changes(serving: Serving, chained: Harness) -> None:
    """Each chain has a line, which changes as its saves do; what a chain is called is no markup; the end of the inspector ends it."""
    terminal = Terminal("inspect", serving.url)
    order = Order("[red]a")
    terminal.see("chain.*saves")
    order.save()
    terminal.see(r"lane 1.*0 of 8 in flight")
    terminal.see(r"Order '\[red\]a'[^\n]*\+[^\n]*done")
    chained.backend.hold()
    order.save(), order.save()
    terminal.see(r"1 of 8 in flight")
    terminal.see(r"Order '\[red\]a'[^\n]*\+>·")
    order.chain.pause()
    Order("b").save()
    terminal.see(r"Order 'b'[^\n]*>")
    serving.close()
    assert terminal.end() == 0
    order.chain.resume()
    chained.backend.release()


def test_until_somebody_has_seen_enough(serving: Serving) -> None:
    """Ctrl-C ends it with the status that shells know, and without a traceback; the inspector goes on."""
    terminal = Terminal("inspect", serving.url)
    terminal.see("chain.*saves")
    terminal.type(b"\x03")
    assert terminal.end() == 128 + signal.SIGINT and "Traceback" not in terminal.seen
    assert len(list(Attached(serving.url).states(once=True))) == 1


class _Telling(BaseHTTPRequestHandler):
    """Says what it is told to."""

    said: bytes = b""
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def telling() -> Iterator[tuple[str, type[_Telling]]]:
    kind = type("Telling", (_Telling,), {})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/#token=x", kind
    server.shutdown()
    server.server_close()


def told(boot: str, *numbers: int, gone: tuple[int, ...] = ()) -> bytes:
    state = {"boot": boot, "chains": [{"id": number} for number in numbers], "gone": gone}
    return f"id: {boot}-1\ndata: {json.dumps(state)}\n\n".encode()


def test_when_all_is_told_anew(telling: tuple[str, type[_Telling]]) -> None:
    """What is not in it has gone: it was away for too long to be told what."""
    url, server = telling
    server.said = (
        told("a", 1, 2)
        + told("a", 3, gone=(1,))
        + b": nothing new\n\n"
        + told("a.7", 3, 4)
        + b"event: end\ndata: {}\n\n"
    )
    chains: dict[int, Any] = {}
    seen = []
    for state in Attached(url).states():
        shown(chains, state)
        seen.append(sorted(chains))
    assert seen == [[1, 2], [2, 3], [3, 4]]


@pytest.mark.parametrize(
    ("ended", "waiting", "more", "signs"),
    [
        (50, 149, 800, "++++++>" + 33 * "·" + " and 916 later"),
        (3, 152, 0, "+++>" + 36 * "·" + " and 116 later"),
        (153, 3, 0, 36 * "+" + ">···"),
        (2, 3, 0, "++>···"),
    ],
)
def test_a_long_chain_has_a_line(ended: int, waiting: int, more: int, signs: str) -> None:
    """On it is what goes on: a few that have ended, the one in flight, and those behind it; the others are counted."""
    states = [*ended * ["saved"], "in flight", *waiting * ["queued"]]
    boxes = [{"state": state, "settled": 1.0 if state == "saved" else None} for state in states]
    chain = {"id": 1, "title": "Order 1", "idle": False, "paused": False, "halted": None, "boxes": boxes, "more": more}
    assert list(lines({1: chain}, [])) == [("Order 1", signs, "")]


@pytest.mark.parametrize(
    ("status", "said", "problem"),
    [
        (200, b"data: {\n\n", "no inspector answers"),
        (200, b"data: []\n\ndata: 7\n\n", "no inspector answers"),
        (200, b'data: {"boot": 1}\n\n', "no inspector answers"),
        (302, b"", "the inspector refuses"),
        (500, b"\xff\x1b[2J", "the inspector refuses"),
    ],
)
def test_who_is_no_inspector(telling: tuple[str, type[_Telling]], status: int, said: bytes, problem: str) -> None:
    """Whatever else answers there is told so, in one line; the token is sent to nobody whom it names."""
    url, server = telling
    server.status, server.said = status, said
    with pytest.raises(Exception, match=problem) as raised:
        list(Attached(url).states())
    assert str(raised.value).isprintable()


def test_it_is_followed_over_all_streams(serving: Serving, chained: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream ends after a while and says to come again; whoever follows goes on where it was, and misses nothing."""
    monkeypatch.setattr(_application, "LASTS", 0.0)
    states = Attached(serving.url).states()
    assert next(states)["chains"] == []
    for number in (1, 2):
        Order(number).save()
        told = set[str]()
        revision = -1
        while revision != serving.history.revision:
            state = next(states)
            revision = state["revision"]
            told |= {chain["title"] for chain in state["chains"]}
        assert told == {f"Order {number}"}, "what was told is not told again"
    states.close()  # type: ignore[attr-defined]
