"""The inspector's routes, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping
from importlib.resources import files
from typing import Any

from ..exceptions import ChainedModelsError, MissingExtra
from ._aside import TooMany, aside, is_full
from ._guard import PAGES, Application, Guard, Receive, Scope, Send
from ._history import History
from ._timeline import chrome_trace
from ._view import View

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra("Starlette", "inspector") from error

__all__ = ["application", "body_of"]

VIEWERS = 20
"""So many pages may be open at once."""

LOOK = 0.2
"""Seconds between two looks whether something has changed."""

LASTS = 5.0
"""Seconds that one stream of events lasts; then the page asks for the next. So a server that ends, which waits for its requests, waits no
longer than that for a page that is open; and a page that hears nothing for longer knows that the connection is lost."""

AGAIN = b"event: again\ndata: {}\n\n"
"""The last word of a stream."""

LONGEST_BODY = 4_096

_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


def application(
    history: History,
    *,
    token: str,
    hosts: Collection[str],
    values: bool,
    readonly: bool,
    around: Callable[[Application], Application] | None = None,
    pages: Collection[str] = PAGES,
) -> Guard:
    """The routes, behind their guard; `around` puts others in front of them, behind the same guard."""
    routes = _Routes(View(history, values=values, readonly=readonly))
    app = Starlette(
        routes=[
            *(Route(page, routes.page) for page in PAGES),
            Route("/state", routes.state),
            Route("/events", routes.events),
            Route("/saves/{number}", routes.save),
            Route("/trace.json", routes.trace),
            Route("/openapi.json", routes.openapi),
            Route("/do", routes.do, methods=["POST"]),
        ]
    )
    return Guard(app if around is None else around(app), token, hosts, history.close, pages)


class _Routes:
    def __init__(self, view: View) -> None:
        self._view = view
        self._viewers: set[_Stream] = set()

    async def page(self, request: Request) -> Response:
        """The page and what belongs to it: the same for everybody."""
        name = request.url.path.rpartition("/")[2] or "index.html"
        content = files("chained_models.inspector").joinpath("static", name).read_bytes()
        return Response(content, headers={"content-type": _TYPES[name.rpartition(".")[2]]})

    async def state(self, request: Request) -> Response:
        """All chains that have changed since a revision."""
        return await _looked(self._view.overview, _number(request.query_params.get("since")))

    async def save(self, request: Request) -> Response:
        """One save."""
        return await _looked(self._view.detail, _number(request.path_params["number"]))

    async def trace(self, request: Request) -> Response:
        """All attempts, or those of the latest seconds, in the Chrome trace-event format."""
        headers = {"content-disposition": 'attachment; filename="chained-models-trace.json"'}
        seconds = _number(request.query_params.get("seconds")) or math.inf
        return await _looked(chrome_trace, self._view.history, seconds, headers=headers)

    async def openapi(self, request: Request) -> Response:
        """The routes, for programs."""
        return Response(json.dumps(_OPENAPI), media_type="application/json")

    async def do(self, request: Request) -> Response:
        """What a button does."""
        try:
            asked = json.loads(await body_of(request))
        except (ValueError, RecursionError):
            return _problem(400, 'a JSON object is needed, as in {"command": "pause", "chain": 1}')
        except ClientDisconnect:
            return _problem(400, "the request has ended too early")
        if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
            return _problem(400, 'a JSON object with a command is needed, as in {"command": "pause", "chain": 1}')
        if self._view.readonly:
            return _problem(403, "this inspector is read only")
        command = asked.pop("command")
        try:
            # A driver that runs saves in the caller would run them in the server's loop.
            await aside(self._view.do, command, asked)
        except TooMany as error:
            return _problem(503, str(error))
        except ChainedModelsError as error:
            return _problem(409, str(error))
        except Exception as error:  # noqa: BLE001 - a receiver was interrupted, or a driver of the user's raised
            return _problem(409, f"it raised {type(error.__cause__ or error).__name__}")
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """What changes, as it does: server-sent events; each has the revision as its id, to go on from after a lost connection."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if len(self._viewers) >= VIEWERS:
            return _problem(503, f"{VIEWERS} pages are open already")
        if is_full():
            return _problem(503, str(TooMany()))
        boot, _, revision = request.headers.get("last-event-id", "").partition("-")
        return _Stream(self._stream(boot, _number(revision)), self._viewers)

    async def _stream(self, boot: str, since: int) -> AsyncIterator[bytes]:
        told, left = self._view.is_known(since, boot), LASTS
        if told:
            yield b": nothing new\n\n"
        try:
            while not self._view.history.closed:
                if self._view.is_due():
                    await aside(self._view.glance)
                if self._view.history.revision != since or not told:
                    state, words = await aside(_worded, self._view.overview, since, boot)
                    since, boot, told = state["revision"], state["boot"], True
                    yield f"id: {boot}-{since}\ndata: {words}\n\n".encode()
                if left <= 0:
                    yield AGAIN
                    return
                await asyncio.sleep(LOOK)
                left -= LOOK
        except TooMany:
            return  # who asks for the next stream is told why
        yield b"event: end\ndata: {}\n\n"


class _Stream(StreamingResponse):
    """Server-sent events to one viewer, who is one of the viewers from the first moment until told to come again, or gone."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], viewers: set[_Stream]) -> None:
        super().__init__(content)
        self._viewers = viewers
        viewers.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: MutableMapping[str, Any]) -> None:
            if message.get("body") == AGAIN:
                self._viewers.discard(self)  # or the page would find its own place taken
            await send(message)

        try:
            await super().__call__(scope, receive, sent)
        finally:
            self._viewers.discard(self)


async def body_of(request: Request) -> bytes:
    """The body of a request.

    Raises:
        ValueError: It is longer than anything that is asked here.
        ClientDisconnect: It ends too early.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise ValueError("too long")
    return body


def _number(given: str | None) -> int:
    return int(given) if given is not None and given.isascii() and given.isdigit() and len(given) < 19 else 0


def _worded(look: Callable[..., Any], *about: Any) -> tuple[Any, str]:
    """What is seen, and the same as JSON; all of it in ASCII: a name may hold half of a surrogate pair, which UTF-8 has no bytes for."""
    seen = look(*about)
    return seen, json.dumps(seen)


async def _looked(look: Callable[..., Any], *about: Any, headers: Mapping[str, str] | None = None) -> Response:
    """What is seen, as an answer."""
    try:
        seen, words = await aside(_worded, look, *about)
    except TooMany as error:
        return _problem(503, str(error))
    if seen is None:
        return _problem(404, "this save is not kept any more")
    return Response(words, 200, headers, "application/json")


def _problem(status: int, text: str) -> Response:
    return Response(json.dumps({"problem": text}), status, media_type="application/json")


def _described(summary: str, **more: Any) -> dict[str, Any]:
    json_body = {"content": {"application/json": {"schema": {"type": "object"}}}}
    refused = {"description": "not by this name, or without the token", "content": {"text/plain": {}}}
    busy = {"description": "too many looks have not come back", **json_body}
    return {
        "summary": summary,
        "responses": {"200": {"description": "as said", **json_body}, "403": refused, "503": busy},
        **more,
    }


_OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "chained_models inspector", "version": "1"},
    "components": {"securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Chained-Token"}}},
    "security": [{"token": []}],
    "paths": {
        "/state": {
            "get": _described(
                "all chains that have changed since a revision",
                parameters=[{"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 0}}],
            )
        },
        "/trace.json": {
            "get": _described(
                "all attempts, in the Chrome trace-event format",
                parameters=[
                    {
                        "name": "seconds",
                        "in": "query",
                        "description": "only those that have run in so many of the latest seconds",
                        "schema": {"type": "integer", "minimum": 0},
                    }
                ],
            )
        },
        "/openapi.json": {"get": _described("this description")},
        "/saves/{number}": {
            "get": {
                **_described(
                    "one save",
                    parameters=[
                        {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
                    ],
                ),
                "responses": {
                    "200": {"description": "it", "content": {"application/json": {"schema": {"type": "object"}}}},
                    "403": {"description": "no token", "content": {"text/plain": {}}},
                    "404": {"description": "not kept", "content": {"application/json": {"schema": {"type": "object"}}}},
                    "503": {
                        "description": "too many looks have not come back",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                },
            }
        },
        "/do": {
            "post": {
                "summary": "what a button does",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["command"],
                                "properties": {
                                    "command": {
                                        "enum": ["pause", "resume", "clear", "retry", "skip", "cancel", "batch"]
                                    },
                                    "chain": {"type": "integer"},
                                    "save": {"type": "integer"},
                                    "lane": {"type": "integer"},
                                    "size": {"type": "integer", "minimum": 1},
                                    "all": {"type": "boolean"},
                                },
                            }
                        }
                    },
                },
                "responses": {
                    str(status): {"description": text}
                    for status, text in (
                        (204, "done"),
                        (400, "no JSON object with a command"),
                        (403, "no token, or read only"),
                        (409, "it cannot be done"),
                        (503, "too many looks have not come back"),
                    )
                },
            }
        },
    },
}
