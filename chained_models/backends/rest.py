"""Saves models with REST: ``POST`` to the collection, then ``PUT``, ``PATCH``, ``DELETE`` and ``GET`` of the item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._lane import Lane
from ..exceptions import BackendError, MissingExtra
from ..operation import Answer, Guarantee, Operation
from ._deadline import Attempt, rest
from ._reply import Reply
from ._rest_payload import VERBS, Encode, Payload
from ._rest_rules import RestRules
from ._scrub import scrub

__all__ = ["Payload", "Reply", "RestBackend"]


class RestBackend(RestRules):
    """Carries out operations over HTTP, with requests (``pip install 'chained-models[rest]'``).

    `base_url`, `auth` and `headers` are plain attributes, read at each attempt: set them to redirect to a mirror, or to
    renew credentials, also in `Lane(on_congested=...)` and in `reauthenticate`. Redirects are never followed, nothing is retried in here, cookies are not kept, and a read that
    goes wrong is Unavailable where a write would be InDoubt, because a read changes nothing.

    A create in doubt is sent again only if the server is IDEMPOTENT. If yours can look up what was created, give a subclass
    a method ``verify(operation)``; nothing in HTTP says how, so there is none here.

    Args:
        base_url: Where all resources are, ``https://shop.example/api``; no query, no user name.
        lane: How many saves may be in flight at once; a new Lane if left out.
        session: A factory of sessions, called once in each thread; or one requests.Session, which all threads use as it
            is, and which stays yours to close. Retries that you have configured in it are hidden from the chain, and
            redirects are not followed. Without it each thread gets a session of its own. Connection pools of your own
            kind have the timeout per receive only, not in total.
        auth: A ``(name, password)`` pair; an auth object of requests; or a callable without arguments, asked before each
            attempt, that returns a bearer token, a mapping of headers, or one of the former. If it raises, nothing is
            sent and the save is tried again later.
        reauthenticate: A callable without arguments that renews what `auth` or `headers` give; called once, for all saves
            that wait, when the server answers 401. Without it, or if it raises, or if the server then still answers 401,
            the lane is paused.
        headers: Headers for all requests, or a callable without arguments that gives them before each attempt. A
            Content-Type in it replaces ``application/json``.
        timeout: Seconds for one attempt in all, from connecting to the last byte; an operation may have fewer. Only the
            name lookup of the operating system is not bounded by it.
        guarantee: What the server promises: IDEMPOTENT if it remembers the Idempotency-Key, which is sent with each write.
        conditional: Take the ETag of answers as version, and send it back as If-Match. Adds FENCED to `guarantee`.
        encode: ``encode(operation, data)`` returns what is sent in the place of `data` (which is JSON-ready): a dict or
            list, or the finished body as str or bytes.
        parse: ``parse(reply)`` returns an Answer, a mapping of values or None, from a 2xx answer of any content type. It
            may raise a BackendError; anything else it raises leaves a write in doubt.
        max_answer_bytes: An answer that is larger when unpacked counts as unreadable.
        trust_env: Let our own sessions take proxies, netrc and certificates from the environment: off, because a proxy
            sees every write and token, and netrc would replace the credentials.
        key_style: How the Idempotency-Key is written: ``"bare"`` (as at Stripe) or ``"quoted"`` (the IETF draft).
        accept_202: Take "202 Accepted" as saved. Without it such a write is in doubt: the server has not done it yet.

    Raises:
        MissingExtra: requests is not installed.
        InvalidOption: An option makes no sense.
    """

    _name = "RestBackend"

    def __init__(
        self,
        base_url: str,
        *,
        lane: Lane | None = None,
        session: Any = None,
        auth: Any = None,
        reauthenticate: Callable[[], object] | None = None,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
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
            from . import _transport
        except ImportError as error:
            raise MissingExtra("requests", "rest") from error
        super().__init__(
            base_url,
            _transport,
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
        self._send = _transport.send
        self._sessions = _transport.Sessions(session, trust_env=trust_env)
        self.lane = lane if lane is not None else Lane()

    def encode(self, operation: Operation) -> Payload:
        """Make what all attempts will send.

        Raises:
            Rejected: It cannot be made; nothing was sent. An identity that could escape from its place in the URL is an
                InvalidIdentity, too.
        """
        return self._encoded(operation)

    def execute(self, operation: Operation) -> Answer:
        """Carry it out, within the shorter one of ``operation.timeout`` and our own.

        Raises:
            BackendError: One of its subclasses, as in the table of failures in the docs.
        """
        payload = operation.payload if operation.payload is not None else self.encode(operation)
        url = self._transport.as_sent(self._base_url, payload.path)
        given: Any = None
        headers: Any = None
        auth: Any = None
        attempt: Any = None
        reply: Any = None
        try:
            try:
                given = self._headers() if callable(self._headers) else self._headers
                headers = self._request_headers(operation, payload, given)
                auth = self._credentials(self._auth() if self._is_asked(self._auth) else self._auth)
            except Exception as error:
                refused = self._not_ready(operation, error)
                if refused is error:
                    raise
                raise refused from error

            timeout = min(self.timeout, operation.timeout)
            attempt = Attempt(timeout)
            try:
                with attempt:
                    reply = self._send(
                        self._sessions.get(),
                        attempt,
                        VERBS[operation.method],
                        url,
                        headers=headers,
                        auth=auth,
                        body=payload.body,
                        max_bytes=self._max_answer_bytes,
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

    def close(self) -> None:
        """Close the connections. The backend may be used again: it makes new ones."""
        self._sessions.close()
        rest()
