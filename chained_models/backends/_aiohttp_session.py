"""The sessions that requests of coroutines go through: one per event loop, with connectors that say how far they got."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp

from ..exceptions import InvalidOption

__all__ = ["Attempt", "Sessions", "current", "is_watched"]


class Attempt:
    """One request under way: by when it must be over, and how far it got.

    Attributes:
        deadline: On the clock of the running loop.
        location: What a redirect pointed to.
        reported: Whether the connector told us how far it got.
        sent: Whether a byte of the request may have gone out.
        watched: Whether the connector would tell us.
    """

    __slots__ = ("_loop", "_protocol", "_request", "deadline", "location", "reported", "sent", "watched")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.deadline = self._loop.time() + seconds
        self.location: str | None = None
        self.watched = False
        self.reported = False
        self.sent = False
        self._request: Any = None
        self._protocol: Any = None

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._loop.time() >= self.deadline

    def connecting(self, request: Any) -> None:
        """A connection is wanted for `request`.

        Raises:
            ClientError: It is not the first one that aiohttp makes for this attempt.
        """
        # aiohttp sends a PUT or DELETE once more where a kept connection broke. How often to send is the chain's business: the
        # first one may have been applied, and then the answer to the second would be taken for all that was said. A
        # middleware of the user's, on the other hand, that asks again, as for credentials, comes with the same object.
        if self._request is not None and self._request is not request:
            raise aiohttp.ClientError("nothing is sent twice within one attempt")
        self._request = request
        self.reported = True

    def connected(self, protocol: Any) -> None:
        """The request goes out by `protocol`."""
        self._protocol = protocol
        self.sent = True

    def end(self, *, hang_up: bool = False) -> None:
        """Let go of the request, for errors keep their attempt; and of the connection, if it is of no use any more."""
        if hang_up and self._protocol is not None:
            self._protocol.close()
        self._request = self._protocol = None


current: ContextVar[Attempt | None] = ContextVar("chained_models_attempt", default=None)
"""The attempt that this task is making."""

_watched: WeakSet[Any] = WeakSet()


def _watch(session: Any) -> Any:
    """`session`, whose connector now tells attempts how far they got; nothing else about it changes."""
    connector = getattr(session, "connector", None)
    if not isinstance(connector, aiohttp.BaseConnector) or connector in _watched:
        return session
    _watched.add(connector)
    inner: Any = connector.connect

    async def connect(request: Any, *args: Any, **options: Any) -> Any:
        attempt = current.get()
        if attempt is None:  # somebody else's request
            return await inner(request, *args, **options)
        attempt.connecting(request)
        connection = await inner(request, *args, **options)
        while not _is_quiet(connection.protocol):
            connection.close()
            connection = await inner(request, *args, **options)
        marks = vars(connection.protocol)
        if _PROBE not in marks:
            marks[_PROBE] = _probe(connection.transport)
        if attempt.over:
            connection.release()
            raise TimeoutError("no time is left to send anything")
        attempt.connected(connection.protocol)
        return connection

    vars(connector)["connect"] = connect
    return session


def is_watched(session: Any) -> bool:
    """Whether its connector tells how far an attempt got."""
    connector = getattr(session, "connector", None)
    return connector is not None and connector in _watched


def _is_quiet(protocol: Any) -> bool:
    """Whether nothing has come over a kept connection since its last answer.

    aiohttp would take what has come for the answer to the next request, and so give one model what was said to another. (The
    end of the connection may be all that has come: that would be a needless doubt.)
    """
    probe = vars(protocol).get(_PROBE)
    return probe is None or not (protocol.should_close or probe())


_PROBE = "chained_models_probe"
"""On a protocol that has been used: what looks for data that nobody has read. Kept there, for it lives as long."""


def _probe(transport: Any) -> Callable[[], bool]:
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return lambda: False
    descriptor: int = sock.fileno()
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


class Sessions:
    """An aiohttp.ClientSession for each event loop, because it cannot be used in another one.

    Args:
        given: A ClientSession to be used as it is, in its own loop; a factory, called once per loop; or None for our own.
        trust_env: Whether requests of our own sessions go through the proxies that the environment names.
    """

    def __init__(self, given: Any, *, trust_env: bool) -> None:
        self._shared: Any = None
        self._make: Callable[[], Any] = _own_session
        if callable(given) and (isinstance(given, type) or not hasattr(given, "request")):
            self._make = given
        elif hasattr(given, "request"):
            self._shared = given
        elif given is not None:
            raise InvalidOption("AiohttpBackend(session=...): an aiohttp.ClientSession, or a callable that makes one")
        self._trust_env = trust_env and given is None
        self._open: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[Any]]] = {}

    async def get(self) -> Any:
        """The session of the running loop.

        Raises:
            InvalidOption: The one that was given is closed.
        """
        if self._shared is not None:
            return _watch(_usable(self._shared))
        loop = asyncio.get_running_loop()
        there = self._open.get(loop)
        if there is not None and not getattr(there[0], "closed", False):
            return there[0]
        for other in [other for other in self._open if other.is_closed()]:
            self._open.pop(other, None)
        keeper = _keep(_watch(_usable(self._make())))
        session = await anext(keeper)
        self._open[loop] = (session, keeper)
        return session

    def proxy(self, url: Any) -> str | None:
        """The proxy on the way to `url`, if the environment is to be asked."""
        # Not by aiohttp, which would look for credentials there as well, and then refuse those that it was given.
        if not self._trust_env or proxy_bypass(url.host):
            return None
        return getproxies().get(url.scheme)

    async def close(self) -> None:
        """Close the sessions that were made here, in whichever loop; one that was given stays its owner's."""
        here = asyncio.get_running_loop()
        while self._open:
            loop, (_, keeper) = self._open.popitem()
            if loop is here:
                await keeper.aclose()
            elif loop.is_running():
                with suppress(RuntimeError):  # it has been closed meanwhile
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end(keeper), loop))


def _usable(session: Any) -> Any:
    # It has no connector any more that could tell that nothing was sent. And it can never be used again.
    if getattr(session, "closed", False):
        raise InvalidOption(
            "AiohttpBackend(session=...): it is closed; close it when all saves are done, or give a factory"
        )
    return session


async def _keep(session: Any) -> AsyncGenerator[Any]:
    """Holds a session open until it is closed, or forgotten, or its loop ends.

    A loop ends its asynchronous generators when it is done, and those that nobody holds any more. There is no other way to
    hear of its end in time: afterwards nothing of a session can be closed.
    """
    try:
        yield session
    finally:
        await session.close()


async def _end(keeper: AsyncGenerator[Any]) -> None:
    await keeper.aclose()


def _own_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # the lane is the limit
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # done here, where it ends at the limit
    )
