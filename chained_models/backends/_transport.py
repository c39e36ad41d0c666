"""Sends one request with requests, and says what it means when that fails. With `_session`, all that knows requests."""

from __future__ import annotations

import inspect
import socket
import ssl
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import requests
from requests import exceptions as failed
from requests.auth import AuthBase
from urllib3 import exceptions as low

from ..exceptions import BackendError, InDoubt, InvalidOption, Rejected, Unavailable
from ._deadline import Attempt
from ._header import checked_headers
from ._reply import Reply, Unreadable
from ._session import Sessions

__all__ = ["Sessions", "as_sent", "check_auth", "credentials", "failure", "scrub", "send"]

_CHUNK = 16 * 1024
"""Bytes read at once. Small, because an old urllib3 unpacks each piece whole: a thousandfold, in a gzip bomb."""


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
    request = requests.PreparedRequest()
    request.prepare_url(expected, None)
    if request.url != expected or "?" in path or "#" in path:
        raise Rejected("the URL would have changed on its way out, so nothing was sent")
    return expected


def check_auth(auth: Any) -> None:
    """Whether `auth` is of a kind that :func:`credentials` understands.

    Raises:
        InvalidOption: It is not.
    """
    if auth is None or isinstance(auth, AuthBase) or (isinstance(auth, tuple) and len(auth) == 2):
        return
    problem = "an auth object of requests, a (name, password) pair, or a callable that gives a token or headers"
    if not callable(auth):
        raise InvalidOption(f"RestBackend(auth=...): {problem}")
    try:
        inspect.signature(auth).bind()
    except TypeError:
        raise InvalidOption(f"RestBackend(auth=...): {problem}; the callable takes no arguments") from None
    except ValueError:  # no signature to look at: built in
        return


def credentials(auth: Any) -> Any:
    """What to give requests as `auth` for one attempt: a callable is asked anew each time."""
    if auth is None or isinstance(auth, AuthBase | tuple):
        return auth
    given = auth()
    if given is None or isinstance(given, AuthBase | tuple):
        return given
    if isinstance(given, str):
        given = {"Authorization": f"Bearer {given}"}
    headers = checked_headers(given)

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(headers)
        return request

    # Not simply among the headers: where requests sees no auth, it takes one from netrc, and that would win.
    return sign


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
        auth=auth,
        timeout=max(attempt.remaining(), 0.001),
        allow_redirects=False,
        stream=True,
        hooks={"response": [*(hooks if isinstance(hooks, list | tuple) else [hooks]), stay]},
    )
    try:
        status = int(response.status_code)
        # The status of a failure says all we want to know, and its body might never end.
        read = _body(response, attempt, max_bytes) if 200 <= status < 300 else b""
        return Reply(status, response.headers, read)
    finally:
        response.close()


def _body(response: requests.Response, attempt: Attempt, max_bytes: int) -> bytes:
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        raise Unreadable("it is larger than max_answer_bytes")
    body = bytearray()
    broken: str | None = None
    try:
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > max_bytes:
                raise Unreadable("it is larger than max_answer_bytes")
            if attempt.over:
                break
    except (requests.RequestException, low.HTTPError, OSError) as error:
        broken = type(error).__name__
    # First of all: a connection that we ended ourselves looks like an answer that is complete, if its end is the end.
    if attempt.over:
        raise Unreadable("it was not complete in time")
    if broken is not None:
        raise Unreadable(f"it broke off ({broken})")
    return bytes(body)


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
    kinds = tuple(_causes(error))
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


def scrub(error: BaseException) -> None:
    """Let go of what `error` leads to: the request, with its body and credentials, the answer, and the connection.

    Errors are kept, with the handles of failed saves, and reported, with the local variables of each frame. The frames stay, but
    they are emptied.
    """
    for one in _causes(error):
        traceback.clear_frames(one.__traceback__)
        for secret in ("request", "response"):
            with suppress(Exception):  # it may be an exception of the user's, whose attributes do as they like
                if getattr(one, secret, None) is not None:
                    setattr(one, secret, None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and all that it was made from: requests and urllib3 hand exceptions on as arguments."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__]
