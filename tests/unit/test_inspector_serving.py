"""The inspector beside a script: its thread, its port, and how a program ends in which one runs."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from chained_models import Dispatcher, InvalidOption, _observing, inspector
from chained_models.inspector._attached import Attached
from chained_models.inspector._serving import Serving


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    with Dispatcher("inline") as dispatcher:
        yield dispatcher


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "chained-models-inspector"]


@pytest.mark.parametrize("port", ["80", None, 1.5, -1, 65_536, 10**30, [1]])
def test_what_is_no_port(dispatcher: Dispatcher, port: Any) -> None:
    """Says so, and what to do; and nothing stays behind."""
    before = _observing.observers
    with pytest.raises(InvalidOption, match="leave it out for a free one"):
        inspector.serve(dispatcher, port=port, quiet=True)
    assert _observing.observers == before and threads() == []


def test_a_server_that_does_not_start(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so at once, and leaves neither an observer behind, nor a thread, nor a socket."""
    import uvicorn

    given: list[socket.socket] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: given.extend(sockets))
    before = _observing.observers
    with pytest.raises(InvalidOption, match="did not start"):
        inspector.serve(dispatcher, quiet=True)
    assert _observing.observers == before and threads() == [] and [one.fileno() for one in given] == [-1]


def test_two_of_one_dispatcher(dispatcher: Dispatcher) -> None:
    """Each has its port and its token; the end of one is not that of the other; closing it twice does nothing more."""
    with inspector.serve(dispatcher, quiet=True) as one, inspector.serve(dispatcher, quiet=True) as other:
        assert one.port != other.port and one.url.partition("#")[2] != other.url.partition("#")[2]
        one.close()
        one.close()
        assert len(list(Attached(other.url).states(once=True))) == 1
        with pytest.raises(ConnectionError):
            list(Attached(one.url).states(once=True))
    assert threads() == []


@pytest.mark.parametrize("token", ["a&b=c", "a+b", "100%25", "#token=x", "'\"<>"])
def test_a_token_of_any_characters(dispatcher: Dispatcher, token: str) -> None:
    """It stands in the address in such a way that whoever reads it there gets it back."""
    with inspector.serve(dispatcher, token=token, quiet=True) as serving:
        assert len(list(Attached(serving.url).states(once=True))) == 1


@pytest.mark.parametrize(
    ("request_line", "hosts", "status"),
    [
        ("GET /state HTTP/1.0", [], b"403"),
        ("GET /state HTTP/1.0", ["localhost"], b"200"),
        ("GET http://localhost/state HTTP/1.1", ["evil.org"], b"403"),
        ("GET /state HTTP/1.1", ["localhost", "evil.org"], b"400"),
        ("GET //localhost/state HTTP/1.1", ["localhost"], b"404"),
    ],
)
def test_by_which_name_it_is_asked(dispatcher: Dispatcher, request_line: str, hosts: list[str], status: bytes) -> None:
    """HTTP/1.0 knows no Host, and is refused; a target may name another one than the header, which alone counts; two are none."""
    lines = [request_line, *(f"Host: {host}" for host in hosts), "X-Chained-Token: x", "Connection: close", "", ""]
    with (
        inspector.serve(dispatcher, token="x", quiet=True) as serving,
        socket.create_connection(("127.0.0.1", serving.port), 10) as connection,
    ):
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(65_536).split(b" ", 2)[1] == status


PROGRAM = """
import dataclasses, os, sys, threading
import requests
from chained_models import CallChain, ChainedSaveMixin, Dispatcher, inspector
from chained_models.backends.memory import MemoryBackend
dispatcher = Dispatcher("inline")
serving = inspector.serve(dispatcher, quiet=True, values=True)
address, _, token = serving.url.partition("/#token=")
headers = {"X-Chained-Token": token}
stream = requests.get(f"{address}/events", headers=headers, stream=True, timeout=5)
next(stream.iter_lines(chunk_size=1))
print("seen", flush=True)
"""

NEVER = """
class Never:
    def __deepcopy__(self, memo):
        return self
    def __repr__(self):
        asked.set()
        threading.Event().wait()
asked = threading.Event()
@dataclasses.dataclass
class Order(ChainedSaveMixin, backend=MemoryBackend(), dispatcher=dispatcher):
    id: int = 1
    note: object = None
Order(1, Never()).save()
threading.Thread(target=lambda: requests.get(f"{address}/saves/2", headers=headers, timeout=60), daemon=True).start()
asked.wait()
"""

BUTTON = """
asked = threading.Event()
calls = CallChain(lambda item: (asked.set(), threading.Event().wait()), dispatcher=dispatcher)
dispatcher.exit_timeout = 0.1
calls.pause()
calls.add(1)
what = {"command": "resume", "all": True}
threading.Thread(target=lambda: requests.post(f"{address}/do", json=what, headers=headers, timeout=60), daemon=True).start()
asked.wait()
"""


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("threading.Thread(target=sys.exit, args=(3,)).start()", 0),
        ("sys.exit(3)", 3),
        ("raise KeyboardInterrupt", -2),
        (NEVER, 0),
        (BUTTON, 0),
    ],
    ids=["exit in a thread", "exit", "Ctrl-C", "a repr that never ends", "a button that never ends"],
)
def test_how_a_program_ends(ending: str, status: int) -> None:
    """With a page open, a value that takes for ever to be shown, a button whose work never ends: the program ends as it would."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + ending], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (status, "seen")
    assert "uvicorn" not in ran.stderr and "asyncio" not in ran.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_port(dispatcher: Dispatcher) -> None:
    """It can be had again when the parent's inspector has ended, however long the child lives; in the child it can be closed."""
    reading, writing = os.pipe()
    begun, begins = os.pipe()
    serving = _on_a_quiet_port(dispatcher)
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.write(begins, b"!")
        os.read(reading, 1)
        serving.close()
        os._exit(0)
    try:
        os.read(begun, 1)
        serving.close()
        with inspector.serve(dispatcher, port=serving.port, quiet=True) as again:
            assert requests.get(again.url.partition("#")[0], timeout=5).status_code == 200
    finally:
        os.close(writing)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for end in (reading, begun, begins):
            os.close(end)


def _on_a_quiet_port(dispatcher: Dispatcher) -> Serving:
    """Not one of those that the system gives out: another program could have it in a moment."""
    for port in range(21_000 + os.getpid() % 5_000, 32_000):
        with suppress(InvalidOption):
            return inspector.serve(dispatcher, port=port, quiet=True)
    raise AssertionError


@pytest.mark.parametrize(
    "begun", [b"POST /do HTTP/1.1\r\nContent-Length: 9\r\n", b"GET /events HTTP/1.1\r\n", b"GET /sta"]
)
def test_it_ends_whatever_is_asked(dispatcher: Dispatcher, begun: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A body that never comes, a page that is open, a request that is not all there: nothing of it is an error in the log."""
    serving = inspector.serve(dispatcher, token="x", quiet=True)
    with socket.create_connection(("127.0.0.1", serving.port), 10) as connection:
        connection.sendall(begun)
        if begun.endswith(b"\n"):
            connection.sendall(b"Host: localhost\r\nX-Chained-Token: x\r\n\r\n")
        if begun.startswith(b"GET /events"):
            assert connection.recv(1)
        else:
            assert len(list(Attached(serving.url).states(once=True))) == 1  # behind it
        serving.close()
        rest = b""
        while some := connection.recv(65_536):
            rest += some
    assert threads() == [] and not caplog.records
    if begun.startswith(b"POST"):
        assert rest.startswith(b"HTTP/1.1 503 ")


def test_within_an_event_loop(dispatcher: Dispatcher) -> None:
    """It may be made and closed where a loop runs: it has its own."""

    async def look() -> int:
        with inspector.serve(dispatcher, quiet=True) as serving:
            return len(await asyncio.to_thread(lambda: list(Attached(serving.url).states(once=True))))

    assert asyncio.run(look()) == 1 and threads() == []


MOUNTED = """
import os, signal, threading
import requests, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from chained_models import Dispatcher, inspector
from chained_models.inspector import _application
_application.LASTS = 0.3
main = Starlette(routes=[Mount("/saves", inspector.app(Dispatcher("inline"), token="x"))])
server = uvicorn.Server(uvicorn.Config(main, port=0, log_level="critical"))
def look():
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    stream = requests.get(f"http://127.0.0.1:{port}/saves/events", headers={"X-Chained-Token": "x"}, stream=True)
    lines = stream.iter_lines(chunk_size=1)
    next(lines)
    os.kill(os.getpid(), signal.SIGTERM)
    print(list(lines)[-3:])
thread = threading.Thread(target=look)
thread.start()
signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again at its end, and the viewer has still to tell
server.run()
thread.join()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are something else there")
def test_a_server_that_it_is_mounted_in_ends() -> None:
    """Although somebody looks: a server waits for streams that are open, and each ends soon, saying that one may come again."""
    ran = subprocess.run([sys.executable, "-c", MOUNTED], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "[b'event: again', b'data: {}', b'']", "")
