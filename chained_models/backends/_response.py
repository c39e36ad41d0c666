"""An answer as http.client reads it, but with a head that has an end."""

from __future__ import annotations

import http.client
from typing import Any

__all__ = ["Response"]


class Response(http.client.HTTPResponse):
    """An answer whose headers have an end.

    To http.client, the end of the connection is as good: an answer that was cut there would pass for one without an identity
    and without a version.
    """

    def begin(self) -> None:
        fp: Any = self.fp
        lines: Any = _Remembering(fp)
        self.fp = lines
        try:
            super().begin()
        finally:
            self.fp = fp
        if not lines.last:
            raise http.client.IncompleteRead(b"")


class _Remembering:
    """Reads lines, and remembers the last one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._inner.readline(limit)
        return self.last
