"""Who may talk to the inspector. It shows what a program saves, and can stop it; and any web page may send requests to this machine.

Each of these alone has been got around somewhere, so all of them hold for every request: the Host must be one of ours (a name that an
attacker's DNS points at this machine is not), the Origin too, the browser must say that the request comes from our own page, and it
must carry a token that only our page was given. That token travels in a header of our own: no form and no link of another page can send
one, and no cookie leads to it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ..exceptions import InvalidOption

__all__ = ["LOOPBACK", "PAGES", "TOKEN", "Application", "Guard", "Receive", "Scope", "Send", "token_of"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of this machine."""

TOKEN = b"x-chained-token"
"""The header that holds the token."""

PAGES = (
    "/",
    "/app.js",
    "/detail.js",
    "/lanes.js",
    "/rows.js",
    "/states.js",
    "/stream.js",
    "/timeline.js",
    "/style.css",
)
"""What anybody may have who comes by the right name: the empty page, without which there is no token to send."""

_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def token_of(given: Any) -> str:
    """The token that was given, or a random one.

    Raises:
        InvalidOption: It would keep nobody out, or cannot be sent in a header.
    """
    if given is None:
        return secrets.token_urlsafe(32)
    if not isinstance(given, str) or not given or not all("!" <= one <= "~" for one in given):
        raise InvalidOption("token=...: some characters, of ASCII and without blanks; leave it out for a random one")
    return given


class Guard:
    """Lets through to `app` what may come through, and answers 403 to everything else.

    Args:
        app: The application behind it.
        token: What a request must carry.
        hosts: The names by which it may be reached, without ports.
        pages: The paths of the empty page, for which no token is needed.
        close: Ends what is behind it: nothing is noted any more, and nothing kept.
    """

    def __init__(
        self,
        app: Application,
        token: str,
        hosts: Collection[str],
        close: Callable[[], None],
        pages: Collection[str] = PAGES,
    ) -> None:
        self._app = app
        self._pages = pages
        self.close = close
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in ((hosts,) if isinstance(hosts, str) else hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        problem = self._problem(scope)
        if problem is None:
            await self._app(scope, receive, sent)
            return
        body = problem.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await sent({"type": "http.response.start", "status": 403, "headers": headers})
        await sent({"type": "http.response.body", "body": body})

    def _problem(self, scope: Scope) -> str | None:
        """Why it may not come through; never what it has brought along."""
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(f"//{hosts[0].decode('latin-1')}"):
            return "this name is not one of the inspector's"
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        if any(site not in (b"same-origin", b"none") for site in sites):
            return "a page of another site may not ask"
        for origin in (value.decode("latin-1") for name, value in headers if name == b"origin"):
            if not origin.startswith(("http://", "https://")) or not self._is_ours(origin):
                return "a page of another origin may not ask"
            # A page of this machine, of another port: unless the browser says that it is ours, and a proxy has changed the Host.
            if b"same-origin" not in sites and urlsplit(origin).netloc.lower() != hosts[0].decode("latin-1").lower():
                return "a page of another origin may not ask"
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if path in self._pages and scope["method"] in ("GET", "HEAD"):
            return None
        tokens = [value for name, value in headers if name == TOKEN]
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._token):
            return "the token is missing, or wrong: open the address that was printed"
        return None

    def _is_ours(self, address: str) -> bool:
        try:
            parts = urlsplit(address)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return False
        plain = parts.username is None and parts.password is None and not (parts.path or parts.query or parts.fragment)
        return plain and host is not None and host in self._hosts
