"""Header values that mean on the wire what they meant here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..exceptions import InvalidOption

__all__ = ["KEY_STYLES", "checked_headers", "header_value", "idempotency_header", "merged"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# No control characters but the tab: NUL goes out on the wire, CR and LF begin another header. Latin-1 is all there is.
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_OURS = frozenset({"idempotency-key", "if-match", "if-none-match", "content-length", "transfer-encoding"})

KEY_STYLES = ("bare", "quoted")


def header_value(value: Any) -> str:
    """`value`, if it can be sent as it is.

    Raises:
        InvalidOption: It cannot. The value is not repeated: it may be a secret.
    """
    if not isinstance(value, str) or _VALUE.fullmatch(value) is None or value != value.strip():
        raise InvalidOption("a header value is latin-1 text without control characters and surrounding blanks")
    return value


def checked_headers(headers: Any) -> dict[str, str]:
    """A copy of the user's headers.

    Raises:
        InvalidOption: A name or value cannot be sent, or the header is one that this library sets.
    """
    if not isinstance(headers, Mapping):
        raise InvalidOption(f"headers: a mapping of names to values is needed, not a {type(headers).__name__}")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise InvalidOption("headers: a name is letters, digits and dashes")
        if name.lower() in _OURS:
            raise InvalidOption(f"headers: {name} is set for each save; see `conditional` and `key_style`")
        try:
            checked[name] = header_value(value)
        except InvalidOption as error:
            raise InvalidOption(f"headers[{name!r}]: {error}") from None
    return checked


def idempotency_header(key: str, style: str) -> str:
    """The key in the dress the server wants: bare as at Stripe, or a quoted string as in the IETF draft.

    Raises:
        InvalidOption: Not 1 to 255 visible ASCII characters.
    """
    if _KEY.fullmatch(key) is None:
        raise InvalidOption("an idempotency key is 1 to 255 visible ASCII characters")
    if style == "bare":
        return key
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def merged(layers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The layers on top of one another; a later one wins, whatever the case of its names."""
    by_name: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            by_name[name.lower()] = (name, value)
    return dict(by_name.values())
