"""Unpacks the body of an answer piece by piece, and never more of it than is wanted."""

from __future__ import annotations

import zlib
from typing import Any

from ._reply import Unreadable

__all__ = ["ACCEPTED", "Unpacker"]

ACCEPTED = "gzip, deflate"
"""For the header Accept-Encoding."""


_MAGIC = b"\x1f\x8b"  # how a gzip member begins


class Unpacker:
    """Collects the pieces of a body.

    What stands behind a gzip member and is none, and anything behind a deflate stream, is padding: it is ignored, as all
    clients do, for the body is complete.

    Args:
        encoding: The Content-Encoding; empty if there is none.
        max_bytes: Unpacked bytes that a body may have.

    Raises:
        Unreadable: The encoding is not one that was asked for.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._kind = encoding and encoding.strip().lower().removeprefix("x-")
        if self._kind not in ("", "identity", "gzip", "deflate"):
            raise Unreadable("its encoding was not asked for")
        self._max_bytes = max_bytes
        self._inner: Any = None
        self._behind = b""  # what follows a complete one, as far as it does not tell yet what it is
        self._padded = False
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes from the connection.

        Raises:
            Unreadable: They cannot be unpacked, or it is too much.
        """
        if self._kind in ("", "identity"):
            self._body += piece
        else:
            self._unpack(piece)
        if len(self._body) > self._max_bytes:
            raise Unreadable("it is larger than max_answer_bytes")

    def end(self) -> bytes:
        """The whole body.

        Raises:
            Unreadable: Its end is missing.
        """
        if self._inner is not None and not self._inner.eof:
            raise Unreadable("its end is missing")
        return bytes(self._body)

    def _unpack(self, piece: bytes) -> None:
        broken = False
        try:
            while piece and len(self._body) <= self._max_bytes:
                if self._inner is not None and self._inner.eof:
                    piece = self._next(piece)
                    continue
                if self._inner is None:
                    self._inner = self._begin(piece)
                # With a limit: a small piece may be a thousand times as large.
                self._body += self._inner.decompress(piece, self._max_bytes + 1 - len(self._body))
                piece = self._inner.unconsumed_tail or self._inner.unused_data
        except zlib.error:
            broken = True
        if broken:
            raise Unreadable("it cannot be unpacked")

    def _next(self, piece: bytes) -> bytes:
        """What is left to unpack of what stands behind a complete member: a gzip file may have several, with zeros between."""
        if self._padded or self._kind != "gzip":
            return b""
        piece = (self._behind + piece).lstrip(b"\0")
        if _MAGIC.startswith(piece):
            self._behind = piece
            return b""
        self._behind = b""
        if not piece.startswith(_MAGIC):
            self._padded = True
            return b""
        self._inner = None
        return piece

    def _begin(self, piece: bytes) -> Any:
        if self._kind == "gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # "deflate" means zlib by the standard, and by some servers the bare stream.
        bare = piece[0] & 0x0F != 8
        return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
