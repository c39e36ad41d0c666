"""Saves models with REST: ``POST`` to the collection, then ``PUT``, ``PATCH``, ``DELETE`` and ``GET`` of the item."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from .._lane import Lane
from ..exceptions import BackendError, InvalidOption, MissingExtra, Rejected, Unavailable
from ..operation import Answer, Guarantee, Method, Operation
from ..registry import RegisteredModel
from ._deadline import Attempt, rest
from ._header import KEY_STYLES, checked_headers, header_value, idempotency_header, merged
from ._http_status import REMEDIES, described, doubt, failure
from ._reply import Reply, Unreadable
from ._retry_after import seconds_to_wait
from ._url import Route, checked_base_url, last_segment, named_host, segment

__all__ = ["Payload", "Reply", "RestBackend"]

_VERBS = {
    Method.CREATE: "POST",
    Method.UPDATE: "PUT",
    Method.PATCH: "PATCH",
    Method.DELETE: "DELETE",
    Method.READ: "GET",
}
_WITH_BODY = frozenset({Method.CREATE, Method.UPDATE, Method.PATCH})
_VERSIONED = frozenset({Method.UPDATE, Method.PATCH, Method.DELETE})


@dataclass(frozen=True, slots=True)
class Payload:
    """What every attempt of one save sends: made once, before the first.

    Attributes:
        path: Encoded, relative to the base URL, which is read at each attempt.
        body: The very bytes; None for a delete or a read. Kept out of the repr, which ends up in logs.
    """

    path: str
    body: bytes | None = field(repr=False)


class RestBackend:
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
        encode: Callable[[Operation, dict[str, Any]], dict[str, Any] | list[Any] | bytes | str] | None = None,
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
        if not 0 < timeout < math.inf:
            raise InvalidOption("RestBackend(timeout=...): seconds, above 0 and finite")
        if max_answer_bytes < 1:
            raise InvalidOption("RestBackend(max_answer_bytes=...): at least 1")
        if key_style not in KEY_STYLES:
            raise InvalidOption(f"RestBackend(key_style=...): one of {', '.join(KEY_STYLES)}")
        if reauthenticate is not None and not callable(reauthenticate):
            raise InvalidOption(
                "RestBackend(reauthenticate=...): a callable without arguments that renews the credentials"
            )
        self._transport = _transport
        self._sessions = _transport.Sessions(session, trust_env=trust_env)
        self.base_url = base_url
        self.auth = auth
        self.reauthenticate = reauthenticate
        self.headers = headers
        self.lane = lane if lane is not None else Lane()
        self.timeout = timeout
        self._guarantee = guarantee
        self._conditional = conditional
        self._encode_data = encode
        self._parse = parse
        self._max_answer_bytes = max_answer_bytes
        self._key_style = key_style
        self._accept_202 = accept_202

    @property
    def base_url(self) -> str:
        """Where all resources are, without a slash at its end."""
        return self._base_url

    @base_url.setter
    def base_url(self, base_url: str) -> None:
        checked = checked_base_url(base_url)
        try:
            self._transport.as_sent(checked, "")
        except (BackendError, ValueError):  # requests' InvalidURL is a ValueError
            raise InvalidOption("RestBackend(base_url=...): not a URL that requests accepts") from None
        self._base_url = checked

    @property
    def auth(self) -> Any:
        """The credentials."""
        return self._auth

    @auth.setter
    def auth(self, auth: Any) -> None:
        self._transport.check_auth(auth)
        self._auth = auth

    @property
    def headers(self) -> Mapping[str, str] | Callable[[], Mapping[str, str]] | None:
        """Headers for all requests, or what gives them."""
        return self._headers

    @headers.setter
    def headers(self, headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None) -> None:
        if headers is not None and not callable(headers):
            checked_headers(headers)
        self._headers = headers

    @property
    def guarantee(self) -> Guarantee:
        """What the server promises, and FENCED if writes are conditional."""
        return self._guarantee | Guarantee.FENCED if self._conditional else self._guarantee

    def check(self, model: RegisteredModel, resource: str) -> None:
        """Called when a class is bound.

        Raises:
            InvalidOption: `resource` could never lead to an object of this class.
        """
        Route.of(resource).check(model.identity, model.adapter.fields(model.type))

    def check_identity(self, identity: Any) -> None:
        """Called at the `save()` of an object whose identity is known.

        Raises:
            InvalidIdentity: It could escape from its place in the URL.
        """
        for part in identity if isinstance(identity, tuple) else (identity,):
            segment(part)

    def encode(self, operation: Operation) -> Payload:
        """Make what all attempts will send.

        Raises:
            Rejected: It cannot be made; nothing was sent. An identity that could escape from its place in the URL is an
                InvalidIdentity, too.
        """
        try:
            return self._payload(operation)
        except BackendError:
            raise
        except Exception as error:
            # Its text is left out: it may quote values.
            raise Rejected(
                f"{_label(operation)} cannot be encoded ({type(error).__name__}); nothing was sent"
            ) from error

    def execute(self, operation: Operation) -> Answer:
        """Carry it out, within the shorter one of ``operation.timeout`` and our own.

        Raises:
            BackendError: One of its subclasses, as in the table of failures in the docs.
        """
        payload = operation.payload if operation.payload is not None else self.encode(operation)
        label = _label(operation)
        url = self._transport.as_sent(self._base_url, payload.path)
        try:
            headers = self._request_headers(operation, payload)
            auth = self._transport.credentials(self._auth)
        except BackendError:
            raise
        except InvalidOption as error:
            raise Rejected(f"{label}: {error}; nothing was sent") from error
        except Exception as error:
            raise Unavailable(f"{label}: there are no credentials or headers ({type(error).__name__})") from error

        timeout = min(self.timeout, operation.timeout)
        attempt = Attempt(timeout)
        try:
            with attempt:
                reply = self._transport.send(
                    self._sessions.get(),
                    attempt,
                    _VERBS[operation.method],
                    url,
                    headers=headers,
                    auth=auth,
                    body=payload.body,
                    max_bytes=self._max_answer_bytes,
                )
        except Exception as error:
            kind, what = self._transport.failure(error, attempt)
            if kind not in (Rejected, Unavailable):
                kind = doubt(operation.method)
            self._transport.scrub(error)
            raise kind(f"{label}: {what} ({timeout:g} s)") from error

        self._raise_for_status(operation, reply, attempt)
        status = reply.status
        try:
            return self._answer(operation, reply)
        except BackendError as error:
            self._transport.scrub(error)
            raise
        except Exception as error:
            self._transport.scrub(error)
            what = str(error) if isinstance(error, Unreadable) else f"`parse` raised {type(error).__name__}"
            raise doubt(operation.method)(f"{label} answered {status}, but {what}") from error
        finally:
            del reply  # or whoever keeps the error keeps it

    def close(self) -> None:
        """Close the connections. The backend may be used again: it makes new ones."""
        self._sessions.close()
        rest()

    def __repr__(self) -> str:
        return f"<RestBackend {self._base_url}>"

    def _payload(self, operation: Operation) -> Payload:
        model = registry.model(operation.model)
        route = Route.of(operation.resource)
        place = route.collection if operation.method is Method.CREATE else route.item
        path = place(model.identity, operation.identity, operation.values)
        if operation.method is not Method.READ:
            idempotency_header(operation.idempotency_key, self._key_style)
        if operation.method not in _WITH_BODY:
            return Payload(path, None)
        data = model.dump(_sent_values(operation, model.identity))
        body = data if self._encode_data is None else self._encode_data(operation, data)
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            # UTF-8 instead of escapes: half a surrogate pair is refused here, not by the database behind the server.
            text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            body = text.encode()
        return Payload(path, body)

    def _request_headers(self, operation: Operation, payload: Payload) -> dict[str, str]:
        given = self._headers() if callable(self._headers) else self._headers
        ours = {}
        if operation.method is not Method.READ:
            ours["Idempotency-Key"] = idempotency_header(operation.idempotency_key, self._key_style)
        if self._conditional and operation.version is not None and operation.method in _VERSIONED:
            try:
                ours["If-Match"] = header_value(operation.version)
            except InvalidOption as error:
                raise InvalidOption(f"the version is not an ETag: {error}") from None
        content = {"Content-Type": "application/json"} if payload.body is not None else {}
        return merged([{"Accept": "application/json"}, content, checked_headers(given or {}), ours])

    def _raise_for_status(self, operation: Operation, reply: Reply, attempt: Attempt) -> None:
        kind = failure(reply.status, operation.method)
        if reply.status == 202 and not self._accept_202:
            kind = doubt(operation.method)
        if kind is None:
            return
        message = f"{_label(operation)} answered {described(reply.status)}"
        if 300 <= reply.status < 400:
            message += f", pointing to {named_host(attempt.location)}; redirects are not followed, set base_url instead"
        elif reply.status in REMEDIES:
            message += f"; {REMEDIES[reply.status]}"
        wait = seconds_to_wait(reply.headers.get("Retry-After"), date=reply.headers.get("Date"), now=time.time())
        raise kind(message, retry_after=wait)

    def _answer(self, operation: Operation, reply: Reply) -> Answer:
        if operation.method is Method.DELETE and reply.status >= 400:
            return Answer()
        answer = _as_answer(self._parse(reply) if self._parse is not None else _values(reply))
        if self._conditional and answer.version is None:
            answer.version = reply.headers.get("ETag")
        if operation.method is Method.CREATE and reply.status == 201 and answer.identity is None:
            answer.identity = _located(operation, reply, answer.values)
        return answer


def _label(operation: Operation) -> str:
    """The verb and the route: never the URL, for an identity may be private, or forge lines in a log."""
    verb = _VERBS[operation.method]
    try:
        route = Route.of(operation.resource)
        names = () if operation.method is Method.CREATE else registry.model(operation.model).identity
    except (LookupError, InvalidOption):
        return f"{verb} {operation.resource!a}"
    return f"{verb} {route.shown(names)}"


def _sent_values(operation: Operation, identity: tuple[str, ...]) -> Mapping[str, Any]:
    if operation.method is Method.PATCH:
        return {name: value for name, value in operation.values.items() if name in operation.changed}
    if operation.method is Method.CREATE:
        # An identity that the server is to give is left out: many refuse a null.
        return {name: value for name, value in operation.values.items() if value is not None or name not in identity}
    return operation.values


def _values(reply: Reply) -> Mapping[str, Any] | None:
    if not reply.body.strip():
        return None
    if not reply.says_json:
        # A page of a captive portal is a 200 too.
        raise Unreadable("its content type is not that of JSON; RestBackend(parse=...) can read any")
    values = reply.data
    if not isinstance(values, dict):
        raise Unreadable("its JSON is not an object; RestBackend(parse=...) can read any")
    return values


def _as_answer(result: Any) -> Answer:
    if isinstance(result, Answer):
        return result
    if result is None or isinstance(result, Mapping):
        return Answer(values=result)
    raise Unreadable(f"`parse` returned a {type(result).__name__}, not an Answer, a mapping or None")


def _located(operation: Operation, reply: Reply, values: Mapping[str, Any] | None) -> Any:
    """The identity that the Location header of a create names, unless the values have it.

    As text: the adapter knows the type of the field.
    """
    location = reply.headers.get("Location")
    text = last_segment(location) if location is not None else None
    if text is None:
        return None
    model = registry.model(operation.model)
    last = next(name for name in model.identity if name not in Route.of(operation.resource).fields)
    if values:
        names = {last}
        # The body speaks in aliases. A model that cannot be dumped in part must not turn a done write into a failure.
        with suppress(Exception):
            names.update(model.dump({last: operation.values.get(last)}))
        if not names.isdisjoint(values):
            return None
    if len(model.identity) == 1:
        return text
    return tuple(text if name == last else operation.values.get(name) for name in model.identity)
