"""What REST means, whatever carries the requests: the part of the REST backends that does no I/O."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from ..exceptions import BackendError, InvalidOption, Rejected, Unavailable
from ..operation import Answer, Guarantee, Method, Operation
from ..registry import RegisteredModel
from ._header import KEY_STYLES, checked_headers, header_value, idempotency_header, merged
from ._http_status import doubt
from ._reply import Reply, Unreadable
from ._rest_answer import as_answer, located, refusal, values
from ._rest_payload import VERBS, VERSIONED, Encode, Payload, label, payload
from ._scrub import scrub
from ._url import Route, checked_base_url, segment

__all__ = ["Headers", "RestRules", "Transport"]

Headers = Mapping[str, str] | Callable[[], Any] | None
Parse = Callable[[Reply], Answer | Mapping[str, Any] | None]


class Transport(Protocol):
    """The module that knows the library which carries the requests."""

    auth_objects: tuple[type, ...]
    """Its own kinds of credentials."""
    auth_words: str
    """What they are called."""

    def as_sent(self, base_url: str, path: str) -> Any:
        """The URL of `path` under `base_url`, after all that the library does to a URL."""
        ...

    def failure(self, error: BaseException, attempt: Any) -> tuple[type[BackendError], str]:
        """The failure class of what its `send` raised, and the same in words."""
        ...


class RestRules:
    """Options of a REST backend, what it sends, and what it makes of what comes back. A base class without `execute`.

    The arguments are described by the backends, which add how a request gets to the server.
    """

    _name: ClassVar[str]
    """What the class is called in messages, also where it was subclassed."""
    _always: ClassVar[Mapping[str, str]] = {"Accept": "application/json"}
    """Headers of each request, unless others of these names are given."""

    def __init__(
        self,
        base_url: str,
        transport: Transport,
        *,
        auth: Any,
        reauthenticate: Callable[[], object] | None,
        headers: Headers,
        timeout: float,
        guarantee: Guarantee,
        conditional: bool,
        encode: Encode | None,
        parse: Parse | None,
        max_answer_bytes: int,
        key_style: str,
        accept_202: bool,
    ) -> None:
        if not 0 < timeout < math.inf:
            raise InvalidOption(f"{self._name}(timeout=...): seconds, above 0 and finite")
        if max_answer_bytes < 1:
            raise InvalidOption(f"{self._name}(max_answer_bytes=...): at least 1")
        if key_style not in KEY_STYLES:
            raise InvalidOption(f"{self._name}(key_style=...): one of {', '.join(KEY_STYLES)}")
        if reauthenticate is not None and not callable(reauthenticate):
            raise InvalidOption(
                f"{self._name}(reauthenticate=...): a callable without arguments that renews the credentials"
            )
        self._transport = transport
        self._common: dict[bool, tuple[dict[str, str], dict[str, str]]] = {}
        self.base_url = base_url
        self.auth = auth
        self.reauthenticate = reauthenticate
        self.headers = headers
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
        checked = checked_base_url(base_url, self._name)
        try:
            self._transport.as_sent(checked, "")
        except (BackendError, ValueError):  # requests' InvalidURL is a ValueError, and so is what yarl raises
            raise InvalidOption(f"{self._name}(base_url=...): not a URL that can be sent") from None
        self._base_url = checked

    @property
    def auth(self) -> Any:
        """The credentials."""
        return self._auth

    @auth.setter
    def auth(self, auth: Any) -> None:
        self._check_auth(auth)
        self._auth = auth

    @property
    def headers(self) -> Headers:
        """Headers for all requests, or what gives them."""
        return self._headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
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

    def describe(self, method: Method, model: RegisteredModel, resource: str) -> str:
        """What is sent, as one line for people."""
        route = Route.of(resource)
        place = "/".join(f"{{{text}}}" if is_field else text for text, is_field in route.parts)
        if method is not Method.CREATE:
            place += f"/{{{next(name for name in model.identity if name not in route.fields)}}}"
        return f"{VERBS[method]} {self._base_url}/{place}{route.slash}"

    def check_identity(self, identity: Any) -> None:
        """Called at the `save()` of an object whose identity is known.

        Raises:
            InvalidIdentity: It could escape from its place in the URL.
        """
        for part in identity if isinstance(identity, tuple) else (identity,):
            segment(part)

    def _encoded(self, operation: Operation) -> Payload:
        try:
            return payload(operation, self._encode_data, self._key_style)
        except BackendError as error:
            scrub(error)
            raise
        except Exception as error:
            scrub(error)
            # Its text is left out: it may quote values.
            raise Rejected(
                f"{label(operation)} cannot be encoded ({type(error).__name__}); nothing was sent"
            ) from error

    def __repr__(self) -> str:
        return f"<{self._name} {self._base_url}>"

    def _check_auth(self, auth: Any) -> None:
        if auth is None or isinstance(auth, self._transport.auth_objects):
            return
        if isinstance(auth, tuple) and len(auth) == 2:
            return
        problem = f"{self._transport.auth_words}, a (name, password) pair, or a callable that gives a token or headers"
        if not callable(auth):
            raise InvalidOption(f"{self._name}(auth=...): {problem}")
        try:
            inspect.signature(auth).bind()
        except TypeError:
            raise InvalidOption(f"{self._name}(auth=...): {problem}; the callable takes no arguments") from None
        except ValueError:  # no signature to look at: built in
            return

    def _is_asked(self, auth: Any) -> bool:
        """Whether `auth` is a callable of the user's, to be asked before each attempt."""
        return auth is not None and not isinstance(auth, (*self._transport.auth_objects, tuple))

    def _credentials(self, given: Any) -> Any:
        """What signs one request: None, a pair, an object of the library, or a mapping of headers.

        Args:
            given: `auth`, or what it returned.

        Raises:
            InvalidOption: It cannot be a header.
        """
        if given is None or isinstance(given, (*self._transport.auth_objects, tuple)):
            return given
        return checked_headers({"Authorization": f"Bearer {given}"} if isinstance(given, str) else given)

    def _request_headers(self, operation: Operation, payload: Payload, given: Any) -> dict[str, str]:
        """All headers but those that sign the request, and those that the library itself adds.

        Args:
            operation: What is asked for.
            payload: What is sent of it.
            given: `headers`, or what it returned.

        Raises:
            InvalidOption: One of them cannot be sent.
        """
        headers = dict(self._common_headers(given, payload.body is not None))
        # None of these can be among the given ones.
        if operation.method is not Method.READ:
            headers["Idempotency-Key"] = idempotency_header(operation.idempotency_key, self._key_style)
        if self._conditional and operation.version is not None and operation.method in VERSIONED:
            try:
                headers["If-Match"] = header_value(operation.version)
            except InvalidOption as error:
                raise InvalidOption(f"the version is not an ETag: {error}") from None
        return headers

    def _common_headers(self, given: Any, has_body: bool) -> dict[str, str]:
        # What a callable gave is not kept: it may be a secret of one moment. A mapping may have been changed in its place.
        keep = given is None or (given is self._headers and type(given) is dict)
        given = given or {}
        last = self._common.get(has_body) if keep else None
        if last is not None and last[0] == given:
            return last[1]
        content = {"Content-Type": "application/json"} if has_body else {}
        headers = merged([self._always, content, checked_headers(given)])
        if keep:
            self._common[has_body] = (dict(given), headers)
        return headers

    def _not_ready(self, operation: Operation, error: Exception) -> BackendError:
        """What it means that credentials or headers could not be had, with `error`, which is scrubbed. Nothing was sent."""
        scrub(error)
        if isinstance(error, BackendError):
            return error
        if isinstance(error, InvalidOption):
            return Rejected(f"{label(operation)}: {error}; nothing was sent")
        return Unavailable(f"{label(operation)}: there are no credentials or headers ({type(error).__name__})")

    def _not_answered(self, operation: Operation, error: Exception, attempt: Any, timeout: float) -> BackendError:
        """What it means that sending and reading ended with `error`, which is scrubbed."""
        kind, what = self._transport.failure(error, attempt)
        if kind not in (Rejected, Unavailable):
            kind = doubt(operation.method)
        scrub(error)
        return kind(f"{label(operation)}: {what} ({timeout:g} s)")

    def _answer(self, operation: Operation, reply: Reply, location: str | None) -> Answer:
        """What the reply means.

        Args:
            operation: What was asked for.
            reply: What came back.
            location: Where a redirect points to.

        Raises:
            BackendError: A failure, or an answer that cannot be understood.
        """
        refused = refusal(operation, reply, location=location, accept_202=self._accept_202, backend=self._name)
        status = reply.status
        try:
            if refused is not None:
                raise refused
            if operation.method is Method.DELETE and status >= 400:
                return Answer()
            return self._read(operation, reply)
        except BackendError as error:
            scrub(error)
            raise
        except Exception as error:
            scrub(error)
            what = str(error) if isinstance(error, Unreadable) else f"`parse` raised {type(error).__name__}"
            raise doubt(operation.method)(f"{label(operation)} answered {status}, but {what}") from error
        finally:
            del reply, location  # or whoever keeps the error keeps them

    def _read(self, operation: Operation, reply: Reply) -> Answer:
        answer = as_answer(self._parse(reply) if self._parse is not None else values(reply, self._name))
        if self._conditional and answer.version is None:
            answer.version = reply.headers.get("ETag")
        if answer.identity is None:
            answer.identity = located(operation, reply, answer.values)
        return answer
