"""What may take for ever, and must not: calls of the user's code, and requests when the server ends.

Calls that meet the user's code (a `repr`, a worker that runs in its caller) are made aside: in a daemon thread each.

So they may take as long as they like: they hold up neither the event loop, which may be that of the user's application, nor the
end of the program, which waits for the threads of an executor. But so many at once only: a page asks again, and a `repr` that never
returns would take a thread each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, MutableMapping
from typing import Any, ParamSpec, TypeVar

from ._guard import Application, Receive, Scope, Send

__all__ = ["TooMany", "aside", "is_full", "while_open"]

MOST = 100
"""So many calls may be under way."""

GRACE = 0.5
"""Seconds that a request has to end by itself when the server does."""

LOOK = 0.1
"""Seconds between two looks whether it does."""

P = ParamSpec("P")
T = TypeVar("T")

_under_way: set[threading.Thread] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)


class TooMany(Exception):
    """Calls under way have not come back, and no other one is made."""

    def __str__(self) -> str:
        return f"{MOST} looks have not come back: is there a value whose repr never ends?"


def is_full() -> bool:
    """Whether no other call would be made now."""
    return len(_under_way) >= MOST


async def aside(call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What the call returns.

    Raises:
        Exception: What it raises.
        TooMany: It was not made.
        RuntimeError: It was interrupted; in an event loop an interrupt (SystemExit) would end the loop.
    """
    if is_full():
        raise TooMany
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def make() -> None:
        settle: Callable[[Any], None] = future.set_result
        try:
            result: Any = call(*given, **named)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            settle, result = future.set_exception, error
        except BaseException as interrupt:  # noqa: BLE001
            settle, result = future.set_exception, RuntimeError("interrupted")
            result.__cause__ = interrupt
        _under_way.discard(thread)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, future, settle, result)

    thread = threading.Thread(target=make, name="chained-models-inspector-look", daemon=True)
    _under_way.add(thread)
    try:
        thread.start()
    except RuntimeError:  # this process has as many as it may
        _under_way.discard(thread)
        raise TooMany from None
    return await future


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], result: Any) -> None:
    if not future.cancelled():  # whoever waited has gone
        settle(result)


def while_open(app: Application, closed: Callable[[], bool]) -> Application:
    """That application, whose requests are over soon after `closed`, whatever they wait for; who asked is told so, not the log."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        task = asyncio.ensure_future(app(scope, receive, sent))
        try:
            while not closed() and not task.done():
                await asyncio.wait({task}, timeout=LOOK)
            await asyncio.wait({task}, timeout=GRACE)
        finally:
            if ended := task.done():
                task.result()
            task.cancel()
        if not (ended or begun):
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    return asked
