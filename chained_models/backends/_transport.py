"""Sends one request with requests, and says what it means when that fails. With `_session`, all that knows requests."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any

import requests
from requests import exceptions as failed
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3 import Retry
from urllib3 import exceptions as low

from ..exceptions import BackendError, InDoubt, Rejected, Unavailable
from ._deadline import Attempt
from ._header import merged
from ._reply import Reply, Unreadable
from ._scrub import causes, linked
from ._session import OwnSession, Sessions

__all__ = ["Sessions", "as_sent", "auth_objects", "auth_words", "failure", "send"]

auth_objects: tuple[type, ...] = (AuthBase,)
auth_words = "an auth object of requests"

_CHUNK = 16 * 1024
"""Bytes read at once. Small, because an old urllib3 unpacks each piece whole: a thousandfold, in a gzip bomb."""

_NEVER = Retry(False, redirect=False)
"""Neither again nor elsewhere. Made once: urllib3 would make one for each request."""

_STEADY = re.compile(r"(?:[A-Za-z0-9_~-]+(?:/(?!$)|/?$))*")
"""Paths of which requests changes nothing, however it reads them: no dots, no escapes, no empty segments."""


@lru_cache(maxsize=64)
def _prepared(url: str) -> str:
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return request.url or ""


def as_sent(base_url: str, path: str) -> str:
    """The URL of `path` under `base_url`, after all that requests does to a URL.

    Raises:
        Rejected: It would lead to another place than was meant.
    """
    expected = f"{_prepared(base_url + '/')}{path}"
    if _STEADY.fullmatch(path) is not None:
        return expected
    request = requests.PreparedRequest()
    request.prepare_url(expected, None)
    if request.url != expected or "?" in path or "#" in path:
        raise Rejected("the URL would have changed on its way out, so nothing was sent")
    return expected


class _Signed(AuthBase):
    """Headers that sign a request, in the form in which requests knows credentials."""

    # Not simply among the headers: where requests sees no auth, it takes one from netrc, and that would win.
    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def __call__(self, request: Any) -> Any:
        request.headers.update(self.headers)
        return request


def _signature(auth: Any) -> Mapping[str, str] | None:
    """The headers that `auth` would add; None if it may do more than that."""
    if auth is None:
        return {}
    if isinstance(auth, tuple) and len(auth) == 2:
        auth = HTTPBasicAuth(*auth)
    if type(auth) is HTTPBasicAuth:
        signed: Any = _Signed({})
        auth = auth(signed).headers
    return auth if isinstance(auth, dict) else None


def send(
    session: Any,
    attempt: Attempt,
    verb: str,
    url: str,
    *,
    headers: Mapping[str, str],
    auth: Any,
    body: bytes | None,
    max_bytes: int,
) -> Reply:
    """Send one request, and read the answer if its status says that there is one to read.

    Must run inside of ``with attempt``.

    Raises:
        Unreadable: The answer began, and did not end as it should.
        Exception: Anything else; :func:`failure` says what it means.
    """
    if isinstance(session, OwnSession) and not session.trust_env and _nobody_in_between():
        signature = _signature(auth)
        if signature is not None:
            return _straight(session, attempt, verb, url, merged([session.usual, headers, signature]), body, max_bytes)

    def stay(response: requests.Response, **_: Any) -> None:
        # Even when told not to follow a redirect, requests reads its body whole and builds the next request. Without a
        # Location there is none.
        if 300 <= response.status_code < 400:
            attempt.location = response.headers.pop("Location", None)

    hooks = getattr(session, "hooks", {}).get("response", [])
    response = session.request(
        verb,
        url,
        data=body,
        headers=headers,
        auth=_Signed(auth) if isinstance(auth, dict) else auth,
        timeout=max(attempt.remaining(), 0.001),
        allow_redirects=False,
        stream=True,
        hooks={"response": [*(hooks if isinstance(hooks, list | tuple) else [hooks]), stay]},
    )
    try:
        status = int(response.status_code)
        # The status of a failure says all we want to know, and its body might never end.
        read = (
            _body(response.headers, response.iter_content(_CHUNK), attempt, max_bytes) if 200 <= status < 300 else b""
        )
        return Reply(status, response.headers, read)
    finally:
        response.close()


def _straight(
    session: OwnSession,
    attempt: Attempt,
    verb: str,
    url: str,
    headers: dict[str, str],
    body: bytes | None,
    max_bytes: int,
) -> Reply:
    """The same by urllib3 itself: what requests adds to a plain request is nothing but its price."""
    if body is None and verb != "GET":
        headers["Content-Length"] = "0"  # as requests does
    begin = url.index("/", url.index("://") + 3)
    response = session.pool(url[:begin]).urlopen(
        verb,
        url[begin:],
        body=body,
        headers=headers,
        retries=_NEVER,
        redirect=False,
        assert_same_host=False,
        timeout=max(attempt.remaining(), 0.001),
        preload_content=False,
    )
    try:
        status = response.status
        if 300 <= status < 400:
            attempt.location = response.headers.get("Location")
        # Told to unpack once more: of chunks urllib3 does not without.
        read = (
            _body(response.headers, response.stream(_CHUNK, True), attempt, max_bytes) if 200 <= status < 300 else b""
        )
        return Reply(status, response.headers, read)
    finally:
        response.close()
        response.release_conn()


def _body(headers: Mapping[str, str], chunks: Iterable[bytes], attempt: Attempt, max_bytes: int) -> bytes:
    announced = headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        raise Unreadable("it is larger than max_answer_bytes")
    body = bytearray()
    broken: str | None = None
    try:
        for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise Unreadable("it is larger than max_answer_bytes")
            if attempt.over:
                break
    except (requests.RequestException, low.HTTPError, http.client.HTTPException, OSError) as error:
        broken = type(error).__name__
    # First of all: a connection that we ended ourselves looks like an answer that is complete, if its end is the end.
    if attempt.over:
        raise Unreadable("it was not complete in time")
    if broken is not None:
        raise Unreadable(f"it broke off ({broken})")
    return bytes(body)


_WAYS = (
    (requests.Session, ("request", "prepare_request", "get_adapter", "send")),
    (HTTPAdapter, ("send",)),
)
_untouched: list[Any] = []


def _nobody_in_between() -> bool:
    """Whether the way of a request through requests is its own.

    Test doubles and tracers put themselves into it by replacing methods. They are to see our requests as well. Those in
    urllib3 and below see them anyway.
    """
    methods = [getattr(kind, name) for kind, names in _WAYS for name in names]
    if methods == _untouched:
        return True
    owners = [kind for kind, names in _WAYS for _ in names]
    for kind, method in zip(owners, methods, strict=True):
        # What was put in their place may call itself as they do, but comes from another module.
        if type(method) is not FunctionType or method.__globals__ is not vars(sys.modules[kind.__module__]):
            return False
    _untouched[:] = methods
    return True


_NOT_BUILT = (
    failed.InvalidURL,
    failed.InvalidSchema,
    failed.MissingSchema,
    failed.InvalidHeader,
    failed.InvalidJSONError,
    UnicodeError,
)
_NOT_CONNECTED = (
    low.ConnectTimeoutError,  # NewConnectionError and NameResolutionError are kinds of it
    low.ProxyError,
    low.EmptyPoolError,
    low.ClosedPoolError,
    failed.ConnectTimeout,
    failed.ProxyError,
    ConnectionRefusedError,
    socket.gaierror,
    ssl.SSLCertVerificationError,
)


def failure(error: BaseException, attempt: Attempt) -> tuple[type[BackendError], str]:
    """The failure class of what :func:`send` raised, by phase where the connection reported it, else by type; and in words.

    Only what surely happened before the first byte is Rejected or Unavailable; everything else is in doubt.
    """
    if isinstance(error, Unreadable):
        return InDoubt, f"the answer cannot be used: {error}"
    kinds = tuple(causes(error))
    for one in linked(error):
        if isinstance(one, http.client.HTTPException | low.InvalidHeader):
            # They quote the answer.
            one.args = ()
            vars(one).update({name: text[:0] for name, text in vars(one).items() if isinstance(text, (str, bytes))})
    if attempt.connection is not None:
        not_sent = not attempt.sent
    else:
        # urllib3's own InvalidHeader is about a header that came back, and requests dresses it in its own.
        not_sent = not any(isinstance(kind, low.InvalidHeader) for kind in kinds)
    if not_sent and isinstance(error, _NOT_BUILT):
        return Rejected, "requests refuses to build this request; nothing was sent"
    if attempt.connection is not None and not_sent:
        return Unavailable, "no connection in time" if attempt.over else "no connection"
    if attempt.connection is None and any(isinstance(kind, _NOT_CONNECTED) for kind in kinds):
        return Unavailable, "no connection"
    late = attempt.over or any(isinstance(kind, low.ReadTimeoutError | failed.ReadTimeout) for kind in kinds)
    return InDoubt, "no answer in time" if late else "the connection broke before there was an answer"
