"""JSON of a stranger, and headers of a user."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chained_models.backends._header import checked_headers, header_value, idempotency_header, merged
from chained_models.backends._reply import DEEPEST, Reply, Unreadable, read_json
from chained_models.exceptions import InvalidOption

BROKEN = {
    "cut": b'{"a": 1',
    "empty": b"",
    "html": b"<html></html>",
    "two": b"{}{}",
    "single quotes": b"{'a': 1}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": [-Infinity]}',
    "overflow": b'{"a": 1e999}',
    "long integer": b'{"a": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
    "NUL": b'{"a": "\x00"}',
    "deep list": b"[" * 100_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "deep dict": b'{"a":' * 100_000,
    "a bit too deep": b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "deep in UTF-16": ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1)).encode("utf-16"),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_json_that_nobody_should_trust_is_unreadable(body: bytes) -> None:
    """Broken, endless, too deep or not a number: one exception, that neither quotes the body nor brings it along."""
    with pytest.raises(Unreadable) as caught:
        read_json(body)
    assert caught.value.__context__ is None
    assert len(str(caught.value)) < 60


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "é\u2028", [], {}, {"a": [1, {"b": None}]}, [[]] * 500, [{"a": [1]}] * 500],
)
def test_plain_json_is_read(value: Any) -> None:
    """Also with many brackets side by side, in any of its encodings."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_json(json.dumps(value).encode(encoding)) == value


def test_json_may_be_as_deep_as_allowed() -> None:
    """The limit itself is still fine."""
    assert read_json(b"[" * DEEPEST + b"]" * DEEPEST)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    """Nothing else comes out."""
    try:
        read_json(body)
    except Unreadable:
        pass


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (None, True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/hal+json", True),
        ("text/json", True),
        ("text/html", False),
        ("text/plain", False),
        ("text/html; note=application/json", False),
        ("image/x+json", False),
    ],
)
def test_which_content_types_are_json(content_type: str | None, says: bool) -> None:
    """JSON in its dresses, or none given."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert Reply(200, headers, b"{}").says_json is says


def test_a_reply_keeps_its_body_out_of_its_repr() -> None:
    """It may end up in a log."""
    reply = Reply(200, {}, b'{"password": "canary"}')
    assert "canary" not in repr(reply)
    assert reply.data == {"password": "canary"}
    assert Reply(200, {}, b" \n").data is None


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\n", "a\x00b", "\x1b[0m", "a\x7f", "☃", " a", "a ", b"a", 1, None])
def test_a_header_value_that_would_not_arrive_as_it_is_is_refused(value: Any) -> None:
    """CR, LF, NUL, other controls, and what is not latin-1; without repeating what may be a secret."""
    with pytest.raises(InvalidOption) as caught:
        checked_headers({"X-Token": value})
    assert "X-Token" in str(caught.value)
    assert len(str(caught.value)) < 130


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", "a\n", "é", 1, "Idempotency-Key", "if-match", "Content-Length", "Transfer-Encoding"]
)
def test_a_header_name_that_is_none_or_is_ours_is_refused(name: Any) -> None:
    """The headers that make a save safe cannot be replaced for all saves."""
    with pytest.raises(InvalidOption):
        checked_headers({name: "x"})


def test_plain_headers_pass() -> None:
    """Latin-1 and tabs are allowed."""
    assert checked_headers({"X-A": "é\tb", "Content-Type": ""}) == {"X-A": "é\tb", "Content-Type": ""}
    assert header_value('W/"7"') == 'W/"7"'
    with pytest.raises(InvalidOption, match="mapping"):
        checked_headers([("a", "b")])


def test_later_headers_win_whatever_their_case() -> None:
    """One name is sent once."""
    assert merged([{"Accept": "a", "X": "1"}, {"accept": "b"}]) == {"accept": "b", "X": "1"}


def test_the_two_dresses_of_a_key() -> None:
    """Bare as it is; quoted with its own quotes escaped."""
    assert idempotency_header("k-1", "bare") == "k-1"
    assert idempotency_header('k"\\1', "quoted") == '"k\\"\\\\1"'
    for key in ("", "a b", "a\n", "é", "k" * 256):
        with pytest.raises(InvalidOption):
            idempotency_header(key, "bare")
