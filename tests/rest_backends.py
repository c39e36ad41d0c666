"""The REST backends, to be tested by one suite: the one for coroutines gets a loop, and is called like the other."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from chained_models.backends.aiohttp import AiohttpBackend
from chained_models.backends.rest import RestBackend
from chained_models.operation import Answer, Operation


class AiohttpBackendInALoop:
    """An AiohttpBackend whose verbs are carried out in a loop of its own, in a thread; its settings are that backend's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.__dict__["inner"] = AiohttpBackend(*args, **options)
        self.__dict__["_loop"] = None
        self.__dict__["_starting"] = threading.Lock()

    def execute(self, operation: Operation) -> Answer:
        return self.run(self.inner.execute(operation))

    def run(self, coroutine: Any) -> Any:
        """The result of `coroutine`, run in the loop."""
        with self._starting:
            if self._loop is None:
                self.__dict__["_loop"] = asyncio.new_event_loop()
                self.__dict__["_thread"] = threading.Thread(target=self._loop.run_forever)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Close the backend, and end the loop."""
        if self._loop is None:
            return
        self.run(self.inner.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self.__dict__["_loop"] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


MAKERS: dict[str, Any] = {"requests": RestBackend, "aiohttp": AiohttpBackendInALoop}
"""What makes a backend, by the library that carries its requests."""
