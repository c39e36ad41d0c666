"""The inspector's routes, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Collection
from importlib.resources import files
from typing import Any

from ..exceptions import ChainedModelsError, MissingExtra
from ._guard import PAGES, Application, Guard
from ._history import History
from ._timeline import chrome_trace
from ._view import View

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra("Starlette", "inspector") from error

__all__ = ["application"]

VIEWERS = 20
"""So many pages may be open at once."""

LOOK = 0.2
"""Seconds between two looks whether something has changed."""

HEARTBEAT = 15.0
"""Seconds after which a page is told that nothing has, so that a lost connection is noticed."""

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
            *(Route(path, routes.page) for path in PAGES),
            Route("/state", routes.state),
            Route("/events", routes.events),
            Route("/saves/{number:int}", routes.save),
            Route("/trace.json", routes.trace),
            Route("/openapi.json", routes.openapi),
            Route("/do", routes.do, methods=["POST"]),
        ]
    )
    return Guard(app if around is None else around(app), token, hosts, history.close, pages)


class _Routes:
    def __init__(self, view: View) -> None:
        self._view = view
        self._viewers = 0

    async def page(self, request: Request) -> Response:
        """The page and what belongs to it: the same for everybody."""
        name = request.url.path.rpartition("/")[2] or "index.html"
        content = files("chained_models.inspector").joinpath("static", name).read_bytes()
        return Response(content, headers={"content-type": _TYPES[name.rpartition(".")[2]]})

    async def state(self, request: Request) -> Response:
        """All chains that have changed since a revision."""
        return JSONResponse(self._view.overview(_number(request.query_params.get("since"))))

    async def save(self, request: Request) -> Response:
        """One save."""
        detail = self._view.detail(request.path_params["number"])
        if detail is None:
            return _problem(404, "this save is not kept any more")
        return JSONResponse(detail)

    async def trace(self, request: Request) -> Response:
        """All attempts, in the Chrome trace-event format."""
        headers = {"content-disposition": 'attachment; filename="chained-models-trace.json"'}
        return JSONResponse(chrome_trace(self._view.history), headers=headers)

    async def openapi(self, request: Request) -> Response:
        """The routes, for programs."""
        return JSONResponse(_OPENAPI)

    async def do(self, request: Request) -> Response:
        """What a button does."""
        try:
            asked = json.loads(await _body(request))
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
            # In a thread: a driver that runs saves in the caller would run them in the server's loop.
            await asyncio.to_thread(self._view.do, command, asked)
        except ChainedModelsError as error:
            return _problem(409, str(error))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """What changes, as it does: server-sent events; each has the revision as its id, to go on from after a lost connection."""
        if self._viewers >= VIEWERS:
            return _problem(503, f"{VIEWERS} pages are open already")
        boot, _, revision = request.headers.get("last-event-id", "").partition("-")
        since = _number(revision) if boot == self._view.boot else 0
        return StreamingResponse(self._stream(since), media_type="text/event-stream")

    async def _stream(self, since: int) -> AsyncIterator[bytes]:
        self._viewers += 1
        quiet = math.inf  # the first one at once
        try:
            while not self._view.history.closed:
                changed = self._view.history.revision != since
                if changed or quiet == math.inf:
                    state = self._view.overview(since)
                    since = state["revision"]
                    yield f"id: {self._view.boot}-{since}\ndata: {json.dumps(state)}\n\n".encode()
                    quiet = 0.0
                elif quiet >= HEARTBEAT:
                    yield b": nothing new\n\n"
                    quiet = 0.0
                await asyncio.sleep(LOOK)
                quiet += LOOK
            yield b"event: end\ndata: {}\n\n"
        finally:
            self._viewers -= 1


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise ValueError("too long")
    return body


def _number(given: str | None) -> int:
    return int(given) if given is not None and given.isascii() and given.isdigit() and len(given) < 19 else 0


def _problem(status: int, text: str) -> Response:
    return JSONResponse({"problem": text}, status)


def _described(summary: str, **more: Any) -> dict[str, Any]:
    json_body = {"content": {"application/json": {"schema": {"type": "object"}}}}
    refused = {"description": "not by this name, or without the token", "content": {"text/plain": {}}}
    return {"summary": summary, "responses": {"200": {"description": "as said", **json_body}, "403": refused}, **more}


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
        "/trace.json": {"get": _described("all attempts, in the Chrome trace-event format")},
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
                    )
                },
            }
        },
    },
}
