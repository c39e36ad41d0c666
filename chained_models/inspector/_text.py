"""Values in words: whatever a value is and its `repr` does, there are words for it, not too many, and made in no time."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import Any

__all__ = ["HIDDEN", "LONGEST", "text"]

LONGEST = 500
"""Characters of a value that are shown."""

HIDDEN = "(hidden)"
"""Stands for what is not shown."""

DEEPEST = 20
"""So many values within values are shown."""

_BRACKETS: dict[type, Sequence[str]] = {
    list: "[]",
    tuple: "()",
    dict: "{}",
    set: "{}",
    frozenset: ("frozenset({", "})"),
}


def text(value: Any, *, plain: bool = False, hidden: Container[object] = ()) -> str:
    """A value in words that every page and terminal can show.

    Args:
        value: Anything.
        plain: By its `str`.
        hidden: Keys of dicts within it whose values are not shown.
    """
    words = ""
    try:
        for piece in (_plain(value),) if plain else _pieces(value, DEEPEST, hidden):
            words = "".join((words, piece))  # noqa: FLY002 - what adds and formats may have been overridden
            if len(words) > LONGEST:
                break
    except BaseException as error:  # noqa: BLE001 - it is the user's, and what it raises shall end nobody's server
        return f"<{_kind(value)} cannot be shown: {_kind(error)}>"
    shown = "".join(map(_printable, words[:LONGEST]))
    return shown if len(words) <= LONGEST else f"{shown}…{_size(value)}"


def _kind(value: Any) -> str:
    name: str = type.__dict__["__name__"].__get__(type(value))  # past a metaclass that may raise
    return name


def _plain(value: Any) -> str:
    return value[: LONGEST + 1] if type(value) is str else str(value)


def _pieces(value: Any, deep: int, hidden: Container[object]) -> Iterator[str]:
    """Its `repr`, piece by piece: of a large value nobody wants to wait for all of it."""
    kind = type(value)
    if kind in (str, bytes, bytearray):
        yield repr(value[: LONGEST + 1])
    elif kind not in _BRACKETS or not value:
        yield repr(value)
    elif not deep:
        yield "…"
    else:
        opened, closed = _BRACKETS[kind]
        yield opened
        for number, one in enumerate(islice(value, LONGEST)):
            yield ", " if number else ""
            yield from _pieces(one, deep - 1, hidden)
            if kind is dict:
                yield ": "
                is_hidden = type(one) is str and one in hidden
                yield from (HIDDEN,) if is_hidden else _pieces(value[one], deep - 1, hidden)
        yield ",)" if kind is tuple and len(value) == 1 else closed


def _size(value: Any) -> str:
    if type(value) in (str, bytes, bytearray):
        return f" ({len(value)} {'characters' if type(value) is str else 'bytes'})"
    return f" ({len(value)} values)" if type(value) in _BRACKETS else ""


def _printable(character: str) -> str:
    # What cannot be printed forges lines, or turns them round; and half of a surrogate pair cannot be sent.
    return character if character.isprintable() else character.encode("unicode_escape").decode()
