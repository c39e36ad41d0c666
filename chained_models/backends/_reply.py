"""What came back: the answer to one request, and JSON read with suspicion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["DEEPEST", "Reply", "Unreadable", "read_json"]

DEEPEST = 100
"""Levels of nesting. Deeper values would break whoever copies or compares them, long after they were read."""


class Unreadable(ValueError):
    """An answer that cannot be understood. Says why, and never quotes it: the text ends up in logs."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the server, as a `parse` hook sees it.

    Attributes:
        status: The status code, 2xx.
        headers: By name in any case.
        body: The decoded bytes; empty if there is no body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def data(self) -> Any:
        """The JSON value; None for an empty body.

        Raises:
            Unreadable: The body is not JSON, whatever the content type says.
        """
        return read_json(self.body) if self.body.strip() else None

    @property
    def says_json(self) -> bool:
        """Whether the content type is that of JSON, or not given."""
        kind = self.headers.get("Content-Type", "")
        if kind == "application/json":
            return True
        kind = kind.partition(";")[0].strip().lower()
        return kind in ("", "application/json", "text/json") or (
            kind.startswith("application/") and kind.endswith("+json")
        )


def read_json(body: bytes) -> Any:
    """The value of a JSON text, with plain, finite numbers only.

    Raises:
        Unreadable: It is broken, nested too deeply, or holds NaN, an infinity or a number of absurd length.
    """
    try:
        value = _decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        problem = "its JSON is nested too deeply"
    except ValueError:
        problem = "its JSON is broken"
    else:
        if not _too_deep(value, body):
            return value
        problem = "its JSON is nested too deeply"
    # Raised out here, because the foreign error holds the whole body and would come along as __context__.
    raise Unreadable(problem)


def _no_number(name: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


# Made once: json.loads() would make one for each answer.
_decode = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite).decode


def _too_deep(value: Any, body: bytes) -> bool:
    # A text cannot be deeper than it has opening brackets, which are counted in no time. A text in UTF-16 or UTF-32 has
    # these bytes too.
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return False
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            return True
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return False
