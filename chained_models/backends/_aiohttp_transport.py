"""Sends one request with aiohttp, and says what it means when that fails. With `_aiohttp_session`, all that knows aiohttp."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..exceptions import BackendError, InDoubt, InvalidOption, Rejected, Unavailable
from ._aiohttp_session import Attempt, Sessions, current, is_watched
from ._header import merged
from ._reply import Reply, Unreadable
from ._scrub import causes, linked
from ._unpack import Unpacker

__all__ = ["Attempt", "Sessions", "as_sent", "auth_objects", "auth_words", "failure", "send", "signed"]

auth_objects: tuple[type, ...] = (aiohttp.BasicAuth,)
auth_words = "an aiohttp.BasicAuth"

# The whole attempt has a time limit, that of the caller.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)


@lru_cache(maxsize=64)
def _prepared(url: str) -> str:
    return str(URL(url))


@lru_cache(maxsize=1024)
def as_sent(base_url: str, path: str) -> URL:
    """The URL of `path` under `base_url`, after all that aiohttp does to a URL.

    Raises:
        Rejected: It would lead to another place than was meant.
        ValueError: There is no such URL.
    """
    expected = f"{_prepared(base_url + '/')}{path}"
    url = URL(expected, encoded=True)
    if str(url) != expected or "?" in path or "#" in path or not expected.endswith(url.raw_path):
        raise Rejected("the URL would have changed on its way out, so nothing was sent")
    return url


def signed(headers: Mapping[str, str], auth: Any) -> Mapping[str, str]:
    """The headers, and those that sign the request.

    Args:
        headers: All others.
        auth: None, a pair, an aiohttp.BasicAuth or a mapping of headers.

    Raises:
        InvalidOption: They cannot be sent by aiohttp as they are meant.
    """
    if isinstance(auth, tuple):
        if len(auth) not in (2, 3) or not all(isinstance(part, str) for part in auth):
            raise InvalidOption("auth: a pair is a name and a password")
        name, password = auth[:2]
        encoding = getattr(auth, "encoding", "latin-1")
        plain: bytes | None = None
        with suppress(UnicodeError, LookupError):
            plain = f"{name}:{password}".encode(encoding)
        if plain is None:
            raise InvalidOption(f"auth: the name or the password has no form in {encoding}")
        auth = {"Authorization": f"Basic {base64.b64encode(plain).decode()}"}
    whole = merged([headers, auth]) if auth else headers
    if not all(map(str.isascii, whole.values())):
        # In UTF-8, of all things: a version from an answer would come back as another one.
        raise InvalidOption("headers: only ASCII means the same to aiohttp and to the server")
    return whole


async def send(
    session: Any,
    attempt: Attempt,
    verb: str,
    url: URL,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    max_bytes: int,
    proxy: str | None = None,
) -> Reply:
    """Send one request, and read the answer if its status says that there is one to read.

    Raises:
        Unreadable: The answer began, and did not end as it should.
        Exception: Anything else; :func:`failure` says what it means.
    """
    if attempt.over:
        attempt.reported = True
        raise TimeoutError("no time is left to send anything")
    token = current.set(attempt)
    hang_up = True
    try:
        async with asyncio.timeout_at(attempt.deadline):
            response = await session.request(
                verb,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=_NO_TIMEOUT,
                proxy=proxy,
            )
            attempt.sent = True
            try:
                # To aiohttp a 101 may be an answer like others, and its connection free for the next request. What comes
                # over it is anything but the answer to that.
                hang_up = response.status < 200
                return await _reply(response, attempt, max_bytes, unpack=not getattr(session, "auto_decompress", True))
            finally:
                # Closes the connection, unless the answer has come in whole. Then it is free already.
                if not response.closed:
                    response.release()
    except BaseException:
        attempt.watched = is_watched(session)
        raise
    finally:
        current.reset(token)
        attempt.end(hang_up=hang_up)


async def _reply(response: Any, attempt: Attempt, max_bytes: int, *, unpack: bool) -> Reply:
    status = int(response.status)
    headers = response.headers
    # The status of a failure says all we want to know, and its body might never end.
    if not 200 <= status < 300:
        if 300 <= status < 400:
            attempt.location = headers.get("Location")
        return Reply(status, headers, b"")
    announced = headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        raise Unreadable("it is larger than max_answer_bytes")
    unpacker = Unpacker(headers.get("Content-Encoding", "") if unpack else "", max_bytes)
    broken = ""
    content = response.content
    try:
        while not content.at_eof():
            unpacker.feed(await content.readany())
    except (aiohttp.ClientError, OSError) as error:
        broken = type(error).__name__
    if broken:
        raise Unreadable(f"it broke off ({broken})")
    return Reply(status, headers, unpacker.end())


_NOT_BUILT = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError)
_NOT_CONNECTED = (
    aiohttp.ClientConnectorError,  # kinds of it are about names, proxies, certificates and TLS
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    ConnectionRefusedError,
    socket.gaierror,
    ssl.SSLCertVerificationError,
)


def failure(error: BaseException, attempt: Attempt) -> tuple[type[BackendError], str]:
    """The failure class of what :func:`send` raised, by phase where the connector reported it, else by type; and in words.

    Only what surely happened before the first byte is Rejected or Unavailable; everything else is in doubt.
    """
    if isinstance(error, Unreadable):
        return InDoubt, f"the answer cannot be used: {error}"
    for one in linked(error):
        if isinstance(one, aiohttp.ClientResponseError):
            _forget_request(one)
        if isinstance(one, aiohttp.ClientResponseError | HttpProcessingError):
            one.args, one.headers, one.message = (), None, ""  # it quotes the answer
        if isinstance(one, BadStatusLine):
            one.line = ""
    if not attempt.sent:
        # First, because what is wrong with a certificate is a ValueError, too.
        if attempt.reported or any(isinstance(one, _NOT_CONNECTED) for one in causes(error)):
            return Unavailable, "no connection in time" if attempt.over else "no connection"
        if isinstance(error, _NOT_BUILT) or (attempt.watched and isinstance(error, ValueError | TypeError)):
            return Rejected, "aiohttp refuses to build this request; nothing was sent"
    late = attempt.over or isinstance(error, TimeoutError)
    return InDoubt, "no answer in time" if late else "the connection broke before there was an answer"


def _forget_request(error: aiohttp.ClientResponseError) -> None:
    """It holds the credentials."""
    place = error.request_info.real_url.origin()
    error.request_info = aiohttp.RequestInfo(place, error.request_info.method, CIMultiDictProxy(CIMultiDict()), place)
