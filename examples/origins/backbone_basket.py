"""The basket of Backbone's chained-save model: changed and saved several times while the first save is on its way.

    python examples/origins/backbone_basket.py

Needs ``pip install 'chained-models[rest]'``. The server is this script's own; it keeps the first answer back until all saves
were called, so the result does not depend on how fast anything is.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chained_models import ChainedSaveMixin, Outcome, Rejected, SaveEvent, flush
from chained_models.backends.rest import RestBackend

first_is_here = threading.Event()
first_may_go = threading.Event()
requests: list[str] = []


class Shop(BaseHTTPRequestHandler):
    """Stores baskets, adds up their total, and sells no bricks."""

    def do_POST(self) -> None:
        first_is_here.set()
        first_may_go.wait(10)
        self._store(201)

    def do_PUT(self) -> None:
        self._store(200)

    def _store(self, status: int) -> None:
        basket = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {**basket, "id": 7, "total": 2 * len(basket["items"])}
        if "brick" in basket["items"]:
            status, answer = 422, {"error": "no bricks"}
        said = ", ".join(basket["items"]) + (f" ({basket['note']})" if basket["note"] else "")
        requests.append(f"{self.command:<4} {self.path:<10} {said:<29} {status}")
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal clean."""


@dataclass
class Basket(ChainedSaveMixin, resource="baskets"):
    id: int | None = None
    items: list[str] = field(default_factory=list)
    note: str = ""
    total: int = 0

    def on_sync(self, event: SaveEvent) -> None:
        print(
            f"sync:  the answer set {', '.join(event.taken) or 'nothing'}; kept: {', '.join(event.kept) or 'nothing'}"
        )

    def on_error(self, event: SaveEvent) -> None:
        print(f"error: {type(event.error).__name__}")


def shop() -> None:
    basket = Basket(items=["apple"])
    first = basket.save()  # POST, starts now
    first_is_here.wait(10)

    basket.items.append("pear")
    second = basket.save()
    basket.items.append("brick")
    refused = basket.save()
    basket.items.remove("brick")
    basket.items.append("fig")
    last = basket.save()
    basket.note = "ring twice"  # typed, and not saved
    print("queued:", ", ".join(save.state.value for save in basket.chain))

    first_may_go.set()
    assert last.result() is basket, "each save ends by itself; the last one is the last to end"
    assert [save.outcome for save in (first, second, last)] == [Outcome.SAVED] * 3
    assert isinstance(refused.exception(), Rejected), "a save that fails does not hold up the next"
    assert (basket.id, basket.total) == (7, 6)
    assert basket.note == "ring twice", "four answers knew nothing of the note, and none has overwritten it"
    assert basket.chain.unsaved_changes() == {"note": "ring twice"}
    basket.save()
    flush(timeout=10)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    backend = RestBackend(f"http://127.0.0.1:{server.server_address[1]}")
    Basket.bind(backend)
    try:
        shop()
    finally:
        first_may_go.set()
        backend.close()
        server.shutdown()
        thread.join()
        server.server_close()
    print("The server has seen:")
    print("\n".join(requests))


if __name__ == "__main__":
    main()
