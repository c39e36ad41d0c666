"""The example of RequestController: six requests in three bursts, to a server that takes two seconds for each.

    python examples/origins/request_controller.py

Needs ``pip install 'chained-models[rest]'``. The server works on one request at a time, so they pile up; what is pending for
more than three seconds is long, and two long ones are a congestion. The second burst comes when the first request was
answered, the third when the third was. All times are those of the example; it runs four times as fast.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chained_models import ChainedSaveMixin, Lane, SaveEvent, SaveHandle, SaveState, on
from chained_models.backends.rest import RestBackend

SECOND = 1 / 4


class Server(ThreadingHTTPServer):
    """Takes requests side by side, and works on them one after the other, in the order in which they came."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.seconds = seconds
        self.came: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()

    def work(self) -> None:
        while (done := self.came.get()) is not None:
            time.sleep(self.seconds * SECOND)
            done.set()

    def has_come(self, name: str) -> None:
        while self.arrived.get(timeout=10) != name:
            pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        done = threading.Event()
        self.server.came.put(done)
        self.server.arrived.put(request["name"])
        done.wait(10)
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        answer = json.dumps({"id": ord(request["name"]), "server": self.server.name}).encode()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal clean."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    threads = [threading.Thread(target=server.serve_forever, args=[0.05]), threading.Thread(target=server.work)]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.came.put(None)
        for thread in threads:
            thread.join()
        server.server_close()


@dataclass
class Request(ChainedSaveMixin, resource="requests"):
    name: str
    id: int | None = None
    server: str = ""


class Flow:
    """What happens, in the order of the seconds; within one of them: answers, then the lane, then what is sent or queued."""

    WORDS = ("is answered", "congested", "redirected", "recovered", "is sent", "is queued")

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._noted: list[tuple[int, int, str]] = []

    def note(self, text: str) -> None:
        second = round((time.monotonic() - self._started) / SECOND)
        rank = next(rank for rank, words in enumerate(self.WORDS) if words in text)
        self._noted.append((second, rank, text))

    def shown(self) -> list[str]:
        for second, _, text in sorted(self._noted):
            print(f"{second:4} s  {text}")
        return [text for _, _, text in sorted(self._noted)]


def run(server: Server, redirect: Callable[[RestBackend], object] | None = None) -> list[str]:
    backend = RestBackend(server.url, lane=Lane(long_after=3 * SECOND, max_long=2))
    flow = Flow()

    def congested(event: SaveEvent) -> None:
        flow.note("congested")
        if redirect is not None:
            redirect(backend)
            flow.note("redirected to the mirror")

    backend.lane.on_congested = congested
    Request.bind(backend)
    receivers = [
        on("request", lambda event: flow.note(f"{event.model.name} is sent")),
        on("sync", lambda event: flow.note(f"{event.model.name} is answered by {event.model.server}")),
        on("recovered", lambda _: flow.note("recovered")),
    ]

    def burst(*names: str) -> list[SaveHandle[Request]]:
        handles = []
        for name in names:
            handle = Request(name).save()
            handles.append(handle)
            if handle.state is SaveState.QUEUED:
                flow.note(f"{name} is queued")
            elif backend.base_url == server.url:
                server.has_come(name)  # so that they come in this order
        return handles

    handles = burst("A", "B")
    handles[0].result(10)
    handles += burst("C", "D")
    handles[2].result(10)
    handles += burst("E", "F")
    for handle in handles:
        handle.result(10)
    for disconnect in receivers:
        disconnect()
    backend.close()
    return flow.shown()


def main() -> None:
    with serving(Server("the server", seconds=2)) as server, serving(Server("the mirror", seconds=1)) as mirror:
        print("One server:")
        patient = run(server)
        print("\nRedirected when it is congested:")
        redirected = run(server, redirect=lambda backend: setattr(backend, "base_url", mirror.url))
    for said in (patient, redirected):
        assert [line for line in said if line.endswith("is sent")] == [f"{name} is sent" for name in "ABCDEF"]
        assert said.count("congested") == said.count("recovered") == 1
        assert said.index("D is sent") < said.index("congested") < said.index("F is queued") < said.index("F is sent")
    assert [line for line in redirected if "the mirror" in line and "answered" in line] == [
        "E is answered by the mirror",
        "F is answered by the mirror",
    ]


if __name__ == "__main__":
    main()
