"""Saves models with REST from coroutines: what :mod:`chained_models.backends.rest` does, with aiohttp."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from .._lane import Lane
from ..exceptions import BackendError, MissingExtra
from ..operation import Answer, Guarantee, Operation
from ._reply import Reply
from ._rest_payload import VERBS, Encode, Payload
from ._rest_rules import RestRules
from ._scrub import scrub
from ._unpack import ACCEPTED

__all__ = ["AiohttpBackend", "Payload", "Reply"]

_AT_ONCE = 100
"""Saves in flight, where nobody says how many: a request that waits costs a coroutine, and no thread."""

_HEAD_START = 0.05  # seconds


class AiohttpBackend(RestRules):
    """Carries out operations over HTTP, with aiohttp (``pip install 'chained-models[aiohttp]'``), in an event loop.

    What is sent, and what the answers mean, is the same as with :class:`~chained_models.backends.rest.RestBackend`.
    `base_url`, `auth` and `headers` are plain attributes, read at each attempt. Redirects are never followed, nothing is
    retried in here (nor by aiohttp, which would repeat a PUT or DELETE over a connection that broke), cookies are not
    kept, and a read that goes wrong is Unavailable where a write would be InDoubt.

    Args:
        base_url: Where all resources are, ``https://shop.example/api``; no query, no user name.
        lane: How many saves may be in flight at once; if left out a new Lane with 100.
        session: An aiohttp.ClientSession, which is used as it is, in its own loop, and stays yours to close; or a
            callable that makes one, called once in each event loop. A session that has credentials of its own, or takes
            some from the environment, and is given others here sends nothing. Without it each loop gets a session of its
            own.
        auth: A ``(name, password)`` pair; an aiohttp.BasicAuth; or a callable without arguments, or coroutine function,
            asked before each attempt, that returns a bearer token, a mapping of headers, or one of the former. If it
            raises, nothing is sent and the save is tried again later.
        reauthenticate: A callable without arguments, or coroutine function, that renews what `auth` or `headers` give;
            called once, for all saves that wait, when the server answers 401. Without it, or if it raises, or if the
            server then still answers 401, the lane is paused.
        headers: Headers for all requests, or a callable without arguments, or coroutine function, that gives them before
            each attempt; in ASCII. A Content-Type in it replaces ``application/json``.
        timeout: Seconds for one attempt in all, from connecting to the last byte; an operation may have fewer.
        guarantee: What the server promises: IDEMPOTENT if it remembers the Idempotency-Key, which is sent with each write.
        conditional: Take the ETag of answers as version, and send it back as If-Match. Adds FENCED to `guarantee`.
        encode: ``encode(operation, data)`` returns what is sent in the place of `data` (which is JSON-ready): a dict or
            list, or the finished body as str or bytes.
        parse: ``parse(reply)`` returns an Answer, a mapping of values or None, from a 2xx answer of any content type. It
            may raise a BackendError; anything else it raises leaves a write in doubt.
        max_answer_bytes: An answer that is larger when unpacked counts as unreadable.
        trust_env: Take proxies from the environment, for our own sessions: off, because a proxy sees every write and
            token. Credentials are never taken from it.
        key_style: How the Idempotency-Key is written: ``"bare"`` (as at Stripe) or ``"quoted"`` (the IETF draft).
        accept_202: Take "202 Accepted" as saved. Without it such a write is in doubt: the server has not done it yet.

    Raises:
        MissingExtra: aiohttp is not installed.
        InvalidOption: An option makes no sense.
    """

    _name = "AiohttpBackend"
    _always: ClassVar[Mapping[str, str]] = {"Accept": "application/json", "Accept-Encoding": ACCEPTED}

    def __init__(
        self,
        base_url: str,
        *,
        lane: Lane | None = None,
        session: Any = None,
        auth: Any = None,
        reauthenticate: Callable[[], object] | None = None,
        headers: Mapping[str, str] | Callable[[], Any] | None = None,
        timeout: float = 30.0,
        guarantee: Guarantee = Guarantee.PLAIN,
        conditional: bool = False,
        encode: Encode | None = None,
        parse: Callable[[Reply], Answer | Mapping[str, Any] | None] | None = None,
        max_answer_bytes: int = 8 * 1024 * 1024,
        trust_env: bool = False,
        key_style: str = "bare",
        accept_202: bool = False,
    ) -> None:
        try:
            from . import _aiohttp_transport
        except ImportError as error:
            raise MissingExtra("aiohttp", "aiohttp") from error
        super().__init__(
            base_url,
            _aiohttp_transport,
            auth=auth,
            reauthenticate=reauthenticate,
            headers=headers,
            timeout=timeout,
            guarantee=guarantee,
            conditional=conditional,
            encode=encode,
            parse=parse,
            max_answer_bytes=max_answer_bytes,
            key_style=key_style,
            accept_202=accept_202,
        )
        self._aiohttp = _aiohttp_transport
        self._sessions = _aiohttp_transport.Sessions(session, trust_env=trust_env)
        self.lane = lane if lane is not None else Lane(max_in_flight=_AT_ONCE)

    def encode(self, operation: Operation) -> Payload:
        """Make what all attempts will send.

        Raises:
            Rejected: It cannot be made; nothing was sent. An identity that could escape from its place in the URL is an
                InvalidIdentity, too.
        """
        return self._encoded(operation)

    async def execute(self, operation: Operation) -> Answer:
        """Carry it out, within the shorter one of ``operation.timeout`` and our own.

        Raises:
            BackendError: One of its subclasses, as in the table of failures in the docs.
        """
        payload = operation.payload if operation.payload is not None else self.encode(operation)
        url = self._aiohttp.as_sent(self._base_url, payload.path)
        given: Any = self._headers
        auth: Any = self._auth
        headers: Any = None
        attempt: Any = None
        reply: Any = None
        try:
            try:
                if callable(given):
                    given = await _awaited(given())
                if self._is_asked(auth):
                    auth = await _awaited(auth())
                headers = self._aiohttp.signed(
                    self._request_headers(operation, payload, given), self._credentials(auth)
                )
                session = await self._sessions.get()
            except Exception as error:
                refused = self._not_ready(operation, error)
                if refused is error:
                    raise
                raise refused from error

            timeout = min(self.timeout, operation.timeout)
            # A little before the driver ends it, which does not know how far it got.
            attempt = self._aiohttp.Attempt(min(timeout, operation.timeout - min(operation.timeout / 20, _HEAD_START)))
            try:
                reply = await self._aiohttp.send(
                    session,
                    attempt,
                    VERBS[operation.method],
                    url,
                    headers=headers,
                    body=payload.body,
                    max_bytes=self._max_answer_bytes,
                    proxy=self._sessions.proxy(url),
                )
            except Exception as error:
                raise self._not_answered(operation, error, attempt, timeout) from error
            return self._answer(operation, reply, attempt.location)
        except BackendError:
            raise
        except BaseException as error:
            scrub(error)
            raise
        finally:
            given = headers = auth = attempt = reply = None  # or whoever keeps the error keeps them

    async def close(self) -> None:
        """Close the connections. The backend may be used again: it makes new ones.

        They also close by themselves when their event loop comes to its end (as at the end of ``asyncio.run()``), or when
        the backend is forgotten.
        """
        await self._sessions.close()


async def _awaited(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given
