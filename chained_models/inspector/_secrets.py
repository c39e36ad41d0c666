"""What is never shown: values of the attributes that a class, or one that it inherits from, names as secret."""

from __future__ import annotations

from typing import Any

from .._future import Handle
from ..handle import SaveHandle
from ._text import HIDDEN, text

__all__ = ["UNSHOWN", "hidden_in", "secrets_of"]

UNSHOWN = "__chained_secret__"
"""The class attribute that names attributes whose values are never shown."""

WHOLE = 100
"""A secret of more characters may have been cut."""


class _All:
    """Every name."""

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return True


def secrets_of(save: Handle[Any]) -> frozenset[object] | _All:
    """The names of attributes that are not shown; false if there are none."""
    names: set[object] = set()
    for base in type(save.subject).__mro__:
        match vars(base).get(UNSHOWN, ()):
            case str(name):
                names.add(name)
            case tuple() | list() | set() | frozenset() as several:
                names.update(several)
            case _:
                return _All()  # it means something, but nobody knows what: so nothing is shown
    return frozenset(names)


def hidden_in(words: str, *saves: Handle[Any]) -> str:
    """Those words without secrets of these saves: keys of chains may be made of them, and are told in many words."""
    for save in saves:
        secret = secrets_of(save)
        if not secret or not isinstance(save, SaveHandle):
            continue
        values = {**save.snapshot, **(save.operation.values if save.operation is not None else {})}
        for word in {word for name, value in values.items() if name in secret for word in _words(value)}:
            if len(word) > WHOLE and word[:WHOLE] in words:
                return HIDDEN  # the rest of it may be there as well, or not all of it
            words = words.replace(word, HIDDEN)
    return words


def _words(value: Any) -> set[str]:
    """How it may be written."""
    plain = text(value, plain=True)
    return {plain, text(value).strip("'\""), ascii(plain)[1:-1]} - {"", "None"}
