"""From a model's identity to a URL, in such a way that no identity can leave its place.

Percent-encoding alone is no defence: ``quote("..", safe="")`` is still ``..``, and an empty identity is the collection.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

from ..exceptions import InvalidIdentity, InvalidOption, MissingIdentity, Rejected

__all__ = ["Route", "UnsendableIdentity", "checked_base_url", "last_segment", "named_host", "segment"]

_DOTS = frozenset({".", ".."})
_SEPARATORS = re.compile(r"[/\\]")
# Explicit marks, embeddings, overrides and isolates: they make one identity look like another in a log.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, lone surrogates, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# What is one harmless segment as it stands, in which there is nothing to encode: nearly all identities.
_WORD = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
_FIELD = re.compile(r"\{([^{}]*)\}")
# Sub-delimiters, ":" and "@" mean themselves in a path; a configured segment may use them, an identity may not.
_PLAIN = "!$&'()*+,;=:@"


class UnsendableIdentity(Rejected, InvalidIdentity):
    """The identity cannot be a path segment: it is empty, a dot segment, or holds control characters."""

    # Both at once: it is the caller's mistake, and it comes out when a save is encoded, where the failure table needs a
    # class that says "surely not applied".


def segment(value: Any) -> str:
    """`value` as exactly one encoded path segment.

    Args:
        value: A str, int or UUID. A bool, float or bytes is refused: its text is not what a server calls the thing.

    Raises:
        UnsendableIdentity: It would name another place, or could not be told apart in a log.
    """
    if isinstance(value, str):
        # Not str(): an enum member with a str inside prints its own name.
        text = str.__str__(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        try:
            text = int.__repr__(value)
        except ValueError:
            raise UnsendableIdentity("an integer of that many digits cannot be an identity") from None
    elif isinstance(value, UUID):
        text = str(value)
    else:
        raise UnsendableIdentity(f"a {type(value).__name__} cannot be part of a URL; an identity is a str, int or UUID")
    if _WORD.fullmatch(text) is not None:
        return text
    if not _harmless(text) or not _harmless(unquote(text)):
        raise UnsendableIdentity
    return quote(text, safe="")


def _harmless(text: str) -> bool:
    if not text.strip() or any(char in _BIDI or unicodedata.category(char) in _REFUSED_CATEGORIES for char in text):
        return False
    # Encoded slashes too: a server that decodes before it routes would see the dots.
    return not any(part.strip() in _DOTS for part in _SEPARATORS.split(text))


def last_segment(location: str) -> str | None:
    """The identity that a Location header names, as text; None if it names none that could be sent again."""
    try:
        path = urlsplit(location).path
        text = unquote(path.removesuffix("/").rpartition("/")[2], errors="strict")
        segment(text)
    except ValueError:
        return None
    return text


def named_host(location: str | None) -> str:
    """The host of a Location, and nothing else of it: the rest may hold a token."""
    try:
        host = urlsplit(location or "").hostname
    except ValueError:
        host = None
    plain = host is not None and host.isascii() and all(char.isalnum() or char in ".-:" for char in host)
    return f"the host {host[:253]}" if host is not None and plain else "another place"


def checked_base_url(base_url: str, backend: str = "RestBackend") -> str:
    """`base_url` without its last slash; `backend` is the name of the class it was given to.

    Raises:
        InvalidOption: Not a plain http or https address. The text does not repeat it, for it may hold a password.
    """
    problem = _base_url_problem(base_url, backend)
    if problem:
        raise InvalidOption(f"{backend}(base_url=...): {problem}")
    return base_url.rstrip("/")


def _base_url_problem(base_url: Any, backend: str) -> str | None:
    if not isinstance(base_url, str):
        return "a text is needed"
    if not base_url.isascii() or any(not char.isprintable() or char in ' \\"<>^`{|}' for char in base_url):
        return "only characters that may stand in a URL; write others percent-encoded, and the host in punycode"
    if "?" in base_url or "#" in base_url:
        return "no query and no fragment; paths are put behind it"
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("http", "https"):
        return "it starts with http:// or https://"
    if "@" in parts.netloc:
        return f"no user name and password; give {backend}(auth=(name, password))"
    if not parts.hostname or port == 0:
        return "a host is needed"
    if any(unquote(part) in _DOTS for part in parts.path.split("/")) or "//" in parts.path.rstrip("/"):
        return "no empty and no dot segments in its path"
    return None


@dataclass(frozen=True, slots=True)
class Route:
    """A resource such as ``baskets`` or ``orders/{order_id}/lines``, taken apart.

    Attributes:
        resource: As it was given; also what messages show, so that no identity gets into a log.
        parts: The segments: encoded text, or the name of a field.
        fields: Names of the fields in it.
        slash: "/" if the server wants every URL to end with one, as the resource does.
        plain: The path of the collection, without the slash; None if fields have to be filled in.
    """

    resource: str
    parts: tuple[tuple[str, bool], ...]
    fields: tuple[str, ...]
    slash: str
    plain: str | None

    @staticmethod
    @lru_cache(maxsize=256)
    def of(resource: Any) -> Route:
        """Take a resource apart.

        Raises:
            InvalidOption: It is not a path of plain segments and whole segments in braces.
        """
        if not isinstance(resource, str) or not resource.strip("/"):
            raise InvalidOption(f"resource={resource!r}: a REST backend needs a path, as in resource='baskets'")
        slash = "/" if resource.endswith("/") else ""
        parts = tuple(_part(resource, text) for text in resource.removeprefix("/").removesuffix("/").split("/"))
        fields = tuple(name for name, is_field in parts if is_field)
        if len(set(fields)) != len(fields):
            raise InvalidOption(f"resource={resource!r}: a field is named twice")
        plain = None if fields else "/".join(text for text, _ in parts)
        return Route(resource, parts, fields, slash, plain)

    def check(self, identity: tuple[str, ...], declared: tuple[str, ...]) -> None:
        """Whether every object of a class can be found by this route.

        Args:
            identity: Names of the identity's fields.
            declared: Names of all fields.

        Raises:
            InvalidOption: It cannot, ever.
        """
        for name in self.fields:
            if name not in declared:
                raise InvalidOption(f"resource={self.resource!r}: {name!r} is not a field of the class")
        missing = [name for name in identity if name not in self.fields]
        if not missing:
            raise InvalidOption(
                f"resource={self.resource!r}: leave out {{{identity[-1]}}}; the last part of the identity is put behind it"
            )
        if len(missing) > 1:
            raise InvalidOption(
                f"resource={self.resource!r}: of the identity {identity} all fields but one must be in the route, "
                f"as in 'orders/{{order_id}}/lines'"
            )

    def collection(self, names: tuple[str, ...], identity: Any, values: Mapping[str, Any]) -> str:
        """The encoded path of the collection, without a leading slash.

        Args:
            names: Names of the identity's fields.
            identity: The identity (a tuple if it has several fields), or None.
            values: Where the other fields are taken from, and all of them while there is no identity.
        """
        if self.plain is not None and (identity is None or len(names) == 1):
            return self.plain + self.slash
        known = self._known(names, identity, values)
        return "/".join(segment(known.get(text)) if is_field else text for text, is_field in self.parts) + self.slash

    def item(self, names: tuple[str, ...], identity: Any, values: Mapping[str, Any]) -> str:
        """The encoded path of one stored thing; arguments as for :meth:`collection`.

        Raises:
            MissingIdentity: There is no identity.
        """
        if identity is None:
            raise MissingIdentity
        if self.plain is not None and len(names) == 1:
            return f"{self.plain}/{segment(identity)}{self.slash}"
        known = self._known(names, identity, values)
        last = next(name for name in names if name not in self.fields)
        path = self.collection(names, identity, values).removesuffix("/")
        return f"{path}/{segment(known[last])}{self.slash}"

    def shown(self, names: tuple[str, ...] = ()) -> str:
        """The route as messages name it: of the collection or, with the names of the identity's fields, of an item."""
        last = [f"{{{name}}}" for name in names if name not in self.fields]
        return "/".join([self.resource.strip("/"), *last])

    def _known(self, names: tuple[str, ...], identity: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if identity is None:
            return values
        parts = identity if len(names) > 1 else (identity,)
        if not isinstance(parts, tuple) or len(parts) != len(names):
            raise UnsendableIdentity(f"the identity has {len(names)} fields: {', '.join(names)}")
        return {**values, **dict(zip(names, parts, strict=True))}


def _part(resource: str, text: str) -> tuple[str, bool]:
    field = _FIELD.fullmatch(text)
    if field is not None:
        return field[1], True
    if "{" in text or "}" in text:
        raise InvalidOption(f"resource={resource!r}: a field in braces is a whole segment, as in 'orders/{{order_id}}'")
    if not _harmless(text) or any(char in "?#%\\" or char.isspace() for char in text):
        raise InvalidOption(
            f"resource={resource!r}: plain segments between single slashes; no query, no dots, no escapes"
        )
    return quote(text, safe=_PLAIN), False
