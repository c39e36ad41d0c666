"""The sessions that requests go through: one per thread, with connections that say how far they got."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import connection, connectionpool

from ..exceptions import InvalidOption
from ._deadline import Attempt
from ._response import Response

__all__ = ["OwnSession", "Sessions"]


class _WhileTimeLeft(list[Any]):
    """Socket options that are refused once the time is over.

    urllib3 gives *each* address of a host the whole timeout, and applies these before each; that is the only place where
    one can get in between without rebuilding its way of connecting.
    """

    def __init__(self, options: Any, attempt: Attempt) -> None:
        super().__init__(options or ())
        self._attempt = attempt

    def __iter__(self) -> Iterator[Any]:
        if self._attempt.over:
            raise TimeoutError("no time is left for another address")
        return super().__iter__()


class _Reporting:
    """Mixed into a connection: tells the attempt of this thread which socket it uses, and when the first byte goes."""

    sock: Any
    socket_options: Any
    response_class: Any = Response

    def _new_conn(self) -> Any:
        attempt = Attempt.current()
        if attempt is None:
            return super()._new_conn()  # type: ignore[misc]
        attempt.claim(self, None)
        options, self.socket_options = self.socket_options, _WhileTimeLeft(self.socket_options, attempt)
        try:
            sock = super()._new_conn()  # type: ignore[misc]
        finally:
            self.socket_options = options
        attempt.claim(self, sock)
        # What follows (a proxy's tunnel, the TLS handshake) has the rest of the time, not all of it once more.
        sock.settimeout(max(attempt.remaining(), 0.001))
        return sock

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            # Connected here and not in there, so that whatever fails before the next lines was surely not sent.
            self.connect()  # type: ignore[attr-defined]
        attempt = Attempt.current()
        if attempt is not None:
            attempt.claim(self, self.sock)
            if attempt.over:
                raise TimeoutError("no time is left to send anything")
            attempt.sent = True
        super().endheaders(*args, **kwargs)  # type: ignore[misc]


class _Connection(_Reporting, connection.HTTPConnection):
    pass


class _SecureConnection(_Reporting, connection.HTTPSConnection):
    pass


class _Pool(connectionpool.HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _SecurePool(connectionpool.HTTPSConnectionPool):
    ConnectionCls: Any = _SecureConnection


_STOCK = {"http": connectionpool.HTTPConnectionPool, "https": connectionpool.HTTPSConnectionPool}
_POOLS = {"http": _Pool, "https": _SecurePool}


def _report(manager: urllib3.PoolManager) -> None:
    """Make the pools of `manager` use connections that report; pools of another kind are left alone."""
    if manager.pool_classes_by_scheme == _STOCK:
        manager.pool_classes_by_scheme = _POOLS


class _Adapter(HTTPAdapter):
    """Never retries (that is the chain's business), and reports through proxies too."""

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        _report(manager)
        return manager

    def pool(self, place: str) -> Any:
        """The connections to a scheme, host and port, with the certificates that requests would use."""
        request = requests.PreparedRequest()
        request.url = place
        pool = self.get_connection_with_tls_context(request, True)
        self.cert_verify(pool, place, True, None)  # type: ignore[no-untyped-call]
        return pool


class OwnSession(requests.Session):
    """A session of one thread, that nobody else can reach: nothing about it is other than we made it.

    Attributes:
        usual: The headers of all its requests.
    """

    def __init__(self, trust_env: bool) -> None:
        super().__init__()
        self.trust_env = trust_env
        # What one thread's session was told by a cookie, another one would not send.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._adapter = _Adapter(pool_connections=2, pool_maxsize=1, max_retries=0)
        for scheme in ("http://", "https://"):
            self.mount(scheme, self._adapter)
        self.usual: dict[str, Any] = dict(self.headers)
        self._last: tuple[str, Any] = ("", None)

    def pool(self, place: str) -> Any:
        """Its connections to a place, for requests that need nothing of what requests does.

        Args:
            place: Scheme, host and port, as a URL.
        """
        if self._last[0] != place:
            self._last = (place, self._adapter.pool(place))
        return self._last[1]


class Sessions:
    """A requests.Session for each thread: its maintainers do not call a shared one safe.

    Args:
        given: A Session to be used by all threads as it is; a factory, called once per thread; or None for our own.
        trust_env: Whether our own sessions read proxies, netrc and certificates from the environment.
    """

    def __init__(self, given: Any, *, trust_env: bool) -> None:
        self._shared: Any = None
        self._make: Callable[[], Any] = lambda: OwnSession(trust_env)
        # A Session has no __call__; the class has both, and is a factory.
        if callable(given) and (isinstance(given, type) or not hasattr(given, "request")):
            self._make = given
        elif hasattr(given, "request"):
            self._shared = _watched(given)
        elif given is not None:
            raise InvalidOption("RestBackend(session=...): a requests.Session, or a callable that makes one")
        self._lock = threading.Lock()
        self._start_afresh()

    def get(self) -> Any:
        """The session of this thread."""
        if self._shared is not None:
            return self._shared
        local = self._local
        # A forked child must not write into the connections of its parent.
        if getattr(local, "process", None) != os.getpid():
            session = _watched(self._make())
            local.session, local.process, local.end = session, os.getpid(), _End()
            closing = weakref.finalize(local.end, _close, session, os.getpid())
            closing.atexit = False
            with self._lock:
                self._closings -= {one for one in self._closings if not one.alive}
                self._closings.add(closing)
        return local.session

    def close(self) -> None:
        """Close the sessions that were made here; one that was given stays its owner's. New ones are made if needed."""
        with self._lock:
            closings = self._closings
            self._start_afresh()
        for close in closings:
            close()

    def _start_afresh(self) -> None:
        self._local = threading.local()
        # Each is called once: here, or when its thread has ended.
        self._closings: set[Any] = set()


class _End:
    """Goes when its thread does."""


def _close(session: Any, process: int) -> None:
    """End the connections of a session, at once."""
    if os.getpid() != process:
        return  # in a forked child the locks of the other threads' pools may be held for ever
    if isinstance(session, requests.Session):
        # By itself a session only forgets its pools. Their connections would stay open as long as somebody keeps the error
        # of a failed save: its traceback leads to the pool.
        for adapter in session.adapters.values():
            if isinstance(adapter, HTTPAdapter):
                for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
                    for key in manager.pools.keys():  # noqa: SIM118 - it is no dict, and cannot be iterated
                        if (pool := manager.pools.get(key)) is not None:
                            pool.close()
    session.close()


def _watched(session: Any) -> Any:
    """`session`, whose stock connection pools now report; nothing else about it changes."""
    if isinstance(session, requests.Session):
        for adapter in session.adapters.values():
            if isinstance(adapter, HTTPAdapter):
                _report(adapter.poolmanager)
    return session
