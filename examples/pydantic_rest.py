"""A pydantic model, saved over REST, to a web server of this script's own.

    python examples/pydantic_rest.py

Needs pydantic and ``pip install 'chained-models[rest]'``.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel

from chained_models import ChainedSaveMixin, flush
from chained_models.backends.rest import RestBackend

arrived: list[tuple[str, str, Any]] = []


class Shop(BaseHTTPRequestHandler):
    """Takes POST and PUT, slowly, and answers with what it has stored."""

    def do_POST(self) -> None:
        self._store(201)

    def do_PUT(self) -> None:
        self._store(200)

    def _store(self, status: int) -> None:
        basket = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        arrived.append((self.command, self.path, basket["items"]))
        time.sleep(0.05)  # so that the next save() is called while this one is on its way
        answer = json.dumps({**basket, "id": 7}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal clean."""


class Basket(ChainedSaveMixin, BaseModel, resource="baskets"):
    id: int | None = None
    items: list[str] = []


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    backend = RestBackend(f"http://127.0.0.1:{server.server_address[1]}/api")
    Basket.bind(backend)
    try:
        basket = Basket()
        basket.items.append("apple")
        basket.save()  # POST /api/baskets, starts now
        basket.items.append("pear")
        basket.save()  # waits its turn, then PUT /api/baskets/7
        basket.items.clear()
        last = basket.save()  # a snapshot of now, whatever happens to `items` later
        basket.items.append("fig")

        assert last.result() is basket
        assert basket.id == 7, "the server's id arrived in the model"
        assert basket.items == ["fig"], "and no answer has overwritten what was changed meanwhile"
        assert basket.chain.unsaved_changes() == {"items": ["fig"]}
        basket.save()
        flush(timeout=10)
    finally:
        backend.close()
        server.shutdown()
        thread.join()
        server.server_close()

    for method, path, items in arrived:
        print(f"{method:<4} {path:<14} {items}")
    assert arrived == [
        ("POST", "/api/baskets", ["apple"]),
        ("PUT", "/api/baskets/7", ["apple", "pear"]),
        ("PUT", "/api/baskets/7", []),
        ("PUT", "/api/baskets/7", ["fig"]),
    ]


if __name__ == "__main__":
    main()
