"""Bodies are unpacked whole, and no further than is wanted."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models.backends._reply import Unreadable
from chained_models.backends._unpack import Unpacker


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "X-GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": bare,
}


@given(st.sampled_from(sorted(PACKED)), st.binary(max_size=200), st.integers(1, 50))
def test_any_body_in_any_pieces(encoding: str, body: bytes, step: int) -> None:
    """What was packed comes out, wherever it was cut on its way."""
    packed = PACKED[encoding](body)
    unpacker = Unpacker(encoding, 200)
    for begin in range(0, len(packed), step):
        unpacker.feed(packed[begin : begin + step])
    assert unpacker.end() == body


def test_a_file_of_several_members() -> None:
    """They are one body."""
    unpacker = Unpacker("gzip", 10)
    unpacker.feed(gzip.compress(b"ab") + gzip.compress(b"cd"))
    assert unpacker.end() == b"abcd"


@given(
    st.sampled_from([b"\0", bytes(8), b"padding", b"\0x", b"\x1f", b"\0\x1f", b"\x1fx", b"\x8b", b"\x1f\0\x8b"]),
    st.sampled_from(["gzip", "deflate", "Deflate"]),
    st.integers(1, 50),
)
def test_what_stands_behind_is_ignored(behind: bytes, encoding: str, step: int) -> None:
    """As by gzip itself and by all clients, wherever it was cut: what was carried out must not be in doubt for some padding."""
    packed = PACKED[encoding](b"body") + behind
    unpacker = Unpacker(encoding, 4)
    for begin in range(0, len(packed), step):
        unpacker.feed(packed[begin : begin + step])
    assert unpacker.end() == b"body"


@given(st.sampled_from([b"", b"\0", bytes(8)]), st.integers(1, 50))
def test_members_with_zeros_between(between: bytes, step: int) -> None:
    """They are one body; and one of them that is broken breaks it."""
    first, second = gzip.compress(b"ab") + between, gzip.compress(b"cd")
    unpacker, cut, broken = Unpacker("gzip", 4), Unpacker("gzip", 4), Unpacker("gzip", 4)
    for begin in range(0, len(packed := first + second), step):
        unpacker.feed(packed[begin : begin + step])
    assert unpacker.end() == b"abcd"
    cut.feed(first + second[:-1])
    with pytest.raises(Unreadable, match="end is missing"):
        cut.end()
    with pytest.raises(Unreadable, match="cannot be unpacked"):
        broken.feed(first + second[:2] + b"nonsense")


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_the_largest_body(encoding: str) -> None:
    """Exactly as much as is allowed, and not a byte more, though it may come out of very little."""
    packed = PACKED[encoding](b"x" * 1000)
    fits = Unpacker(encoding, 1000)
    fits.feed(packed)
    assert fits.end() == b"x" * 1000
    with pytest.raises(Unreadable, match="max_answer_bytes"):
        Unpacker(encoding, 999).feed(packed)


def test_a_bomb_goes_off_in_no_time() -> None:
    """What is beyond the limit is never made."""
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="max_answer_bytes"):
            Unpacker("gzip", 1000).feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_cannot_be_unpacked(encoding: str) -> None:
    """Something else, or a piece of it."""
    with pytest.raises(Unreadable, match="cannot be unpacked") as caught:
        Unpacker(encoding, 100).feed(b"x canary" * 10)
    assert caught.value.__context__ is None
    cut = Unpacker(encoding, 100)
    cut.feed(PACKED[encoding](b"canary")[:-3])
    with pytest.raises(Unreadable, match="end is missing"):
        cut.end()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_an_encoding_that_was_not_asked_for(encoding: str) -> None:
    """Is not guessed at."""
    with pytest.raises(Unreadable, match="not asked for"):
        Unpacker(encoding, 100)
