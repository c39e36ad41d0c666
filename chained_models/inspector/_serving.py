"""The inspector in a thread of its own, beside a script."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self

from ..dispatcher import Dispatcher
from ..exceptions import InvalidOption, MissingExtra
from ._application import application
from ._guard import LOOPBACK, PAGES, Application
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
        token = secrets.token_urlsafe(32) if token is None else token
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # where it only means that one who has just gone need not be waited for
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK[1], port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise InvalidOption(f"port={port!r} cannot be had ({error}); leave it out for a free one") from error
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{LOOPBACK[1]}:{self.port}/#token={token}"
        self.history = History(dispatcher)
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
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, server_header=False
        )
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chained-models-inspector", daemon=True)
        self._thread.start()
        if not self._started.wait(BEGIN_WITHIN):
            self.close()
            raise InvalidOption(f"the inspector did not start within {BEGIN_WITHIN:g} s")

    def _run(self) -> None:
        startup = self._server.startup

        async def started(*given: Any, **named: Any) -> None:
            await startup(*given, **named)
            self._started.set()

        self._server.startup = started  # type: ignore[method-assign]
        self._server.run(sockets=[self._socket])

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
