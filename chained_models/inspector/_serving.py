"""The inspector in a thread of its own, beside a script."""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Collection
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from ..dispatcher import Dispatcher
from ..exceptions import InvalidOption, MissingExtra
from ._application import application
from ._aside import while_open
from ._guard import LOOPBACK, PAGES, Application, token_of
from ._history import History

__all__ = ["Serving"]

BEGIN_WITHIN = 10.0
END_WITHIN = 2.0


class Serving:
    """A server that runs until :meth:`close`, or until the program ends: it holds up neither.

    Attributes:
        url: The address of the page, with its token: whoever has it can look, and press buttons.
        port: The port.
        history: What it has noted.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        port: int = 0,
        token: str | None = None,
        values: bool = False,
        readonly: bool = False,
        around: Callable[[Application], Application] | None = None,
        pages: Collection[str] = PAGES,
    ) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise MissingExtra("uvicorn", "inspector") from error
        token = token_of(token)
        with ExitStack() as undo:
            self._socket = undo.enter_context(_bound(port))
            self.port: int = self._socket.getsockname()[1]
            self.url = f"http://{LOOPBACK[1]}:{self.port}/#token={quote(token, safe='')}"
            self.history = History(dispatcher)
            undo.callback(self.history.close)
            app: Any = application(
                self.history,
                token=token,
                hosts=LOOPBACK,
                values=values,
                readonly=readonly,
                around=around,
                pages=pages,
            )
            config = uvicorn.Config(
                while_open(app, lambda: self.history.closed),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                server_header=False,
            )
            self._server = uvicorn.Server(config)
            self._started = threading.Event()
            self._thread = threading.Thread(target=self._run, name="chained-models-inspector", daemon=True)
            self._thread.start()
            undo.callback(self.close)
            self._started.wait(BEGIN_WITHIN)
            if not self._server.started:
                raise InvalidOption(f"the inspector did not start within {BEGIN_WITHIN:g} s")
            _living.add(self)
            undo.pop_all()

    def _run(self) -> None:
        startup = self._server.startup

        async def started(*given: Any, **named: Any) -> None:
            await startup(*given, **named)
            self._started.set()

        self._server.startup = started  # type: ignore[method-assign]
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._started.set()  # it never will be

    def close(self) -> None:
        """End it; pages that are open say so. May be called again."""
        self.history.close()
        self._server.should_exit = True
        self._thread.join(END_WITHIN)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Serving on port {self.port}>"  # without the token


def _bound(port: int) -> socket.socket:
    """A socket on that port of this machine.

    Raises:
        InvalidOption: The port cannot be had.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # where it only means that one who has just gone need not be waited for
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK[1], port))
    except (OSError, OverflowError, TypeError) as error:
        made.close()
        raise InvalidOption(f"port={port!r} cannot be had ({error}); leave it out for a free one") from error
    return made


_living: weakref.WeakSet[Serving] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child nobody answers: the port is the parent's alone, or it could not be had again after its end."""
    for serving in list(_living):
        serving._socket.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
