"""The page on which it began: numbered items, a slow and flaky server, and boxes that turn orange, red and green; now with baskets beside it."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from ..calls import CallChain
from ..dispatcher import Dispatcher
from ..exceptions import ChainedModelsError, MissingExtra
from ..inspector._guard import PAGES as INSPECTOR
from ..mixin import ChainedSaveMixin
from ..policies import RetryPolicy

__all__ = ["Page", "page"]

ITEMS = 40
BASKETS = 3
SLOWEST = 0.9
"""Seconds that the server takes at most."""
FLAKY = 0.2
"""Of so many requests it answers that it is busy."""


_PAGES = ("/", "/demo.js", "/demo.css", *(f"/inspector{path}" for path in INSPECTOR))


class _Server(ThreadingHTTPServer):
    """Takes its time, and is busy now and then."""

    daemon_threads = True

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.chance = random.Random(seed)
        self.ends = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _shop(self) -> _Server:
        assert isinstance(self.server, _Server)
        return self.server

    def do_POST(self) -> None:
        """Store something, perhaps."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._shop.ends.wait(self._shop.chance.uniform(0.2, SLOWEST))
        busy = self._shop.chance.random() < FLAKY
        self.send_response(503 if busy else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    do_PUT = do_POST  # noqa: N815 - the name is the protocol's

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page shows it."""


@dataclasses.dataclass
class Basket(ChainedSaveMixin):
    """What is saved beside the items."""

    id: int
    apples: int = 0


class Page:
    """What runs behind the page.

    Attributes:
        url: Its address, with the token.
        calls: The chain that the items are put on.
        baskets: The models beside it.
    """

    def __init__(self, serving: Any, calls: CallChain, baskets: list[Basket]) -> None:
        self.url: str = serving.url
        self.calls = calls
        self.baskets = baskets


@contextmanager
def page(*, port: int = 0, seed: int = 1) -> Iterator[Page]:
    """Serve the page on this machine, until the block ends.

    Args:
        port: Where; 0 for a free one.
        seed: Decides about delays and faults.

    Raises:
        MissingExtra: Starlette, uvicorn or requests is not installed.
        InvalidOption: The port is taken.
    """
    try:
        import requests

        from ..backends.rest import RestBackend
        from ..inspector._serving import Serving
    except ImportError as error:
        raise MissingExtra("requests", "cli") from error
    server = _Server(seed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    session = requests.Session()
    session.trust_env = False

    def send(items: int | list[int]) -> None:
        """What is done with items: one request, for one of them or for a batch."""
        session.post(f"{server.url}/items", json=items, timeout=10).raise_for_status()

    try:
        with Dispatcher() as dispatcher:
            calls: CallChain = CallChain(send, dispatcher=dispatcher)
            Basket.bind(
                RestBackend(server.url),
                resource="baskets",
                identity_by="client",
                dispatcher=dispatcher,
                retry=RetryPolicy(attempts=5, wait_initial=0.3),
            )
            baskets = [Basket(number) for number in range(1, BASKETS + 1)]
            try:
                with Serving(
                    dispatcher, port=port, values=True, around=_wrapping(calls, baskets), pages=_PAGES
                ) as serving:
                    serving.history.show(calls)
                    yield Page(serving, calls, baskets)
            finally:
                server.ends.set()
                for chain in (calls, *(basket.chain for basket in baskets)):
                    chain.clear()
                    chain.resume()
    finally:
        server.shutdown()
        server.server_close()


def _wrapping(calls: CallChain, baskets: list[Basket]) -> Any:
    """The demo's own routes in front of the inspector's."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    async def static(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2] or "demo.html"
        kind = {"html": "text/html", "js": "text/javascript", "css": "text/css"}[name.rpartition(".")[2]]
        content = files("chained_models.demo").joinpath("static", name).read_bytes()
        return Response(content, headers={"content-type": f"{kind}; charset=utf-8"})

    async def add(request: Request) -> Response:
        try:
            asked = json.loads(await request.body())
            match asked:
                case {"item": int(item)} if 0 < item <= ITEMS:
                    calls.add(item, name=str(item))
                case {"basket": int(number)} if 0 < number <= len(baskets):
                    basket = baskets[number - 1]
                    basket.apples += 1
                    basket.save()
                case _:
                    return JSONResponse({"problem": "there is no such item"}, 400)
        except (ValueError, RecursionError):
            return JSONResponse({"problem": "a JSON object is needed"}, 400)
        except ChainedModelsError as error:
            return JSONResponse({"problem": str(error)}, 409)
        return Response(status_code=204)

    def around(inspector: Any) -> Any:
        return Starlette(
            routes=[
                Route("/", static),
                Route("/demo.js", static),
                Route("/demo.css", static),
                Route("/add", add, methods=["POST"]),
                Mount("/inspector", inspector),
            ]
        )

    return around
