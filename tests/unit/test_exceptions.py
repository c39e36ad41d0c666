"""Exceptions: the tree that the docstring draws is the real one, and every message says something."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chained_models import exceptions
from chained_models.exceptions import BackendError, ChainedModelsError, MissingExtra, NotBound

ALL: list[type[ChainedModelsError]] = [getattr(exceptions, name) for name in exceptions.__all__]


def drawn() -> dict[str, tuple[str | None, str]]:
    """Name to base and remark, as the docstring draws them."""
    tree: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    assert exceptions.__doc__ is not None
    for line in exceptions.__doc__.splitlines():
        found = re.fullmatch(r"((?:│   |    )*)(├── |└── )?(\w+)(?: {2,}(.*))?", line.removeprefix("    "))
        if line.startswith("    ") and found:
            depth = len(found[1]) // 4 + bool(found[2])
            del above[depth:]
            tree[found[3]] = (above[-1] if above else None, found[4] or "")
            above.append(found[3])
    return tree


def test_the_tree() -> None:
    """Each class hangs where the docstring draws it, and every class is drawn."""
    real = {error.__name__: next((base.__name__ for base in error.__bases__ if base in ALL), None) for error in ALL}
    assert {name: base for name, (base, _) in drawn().items()} == real


def test_the_list_is_whole() -> None:
    """Every exception of the module is in its list."""
    defined = {
        name for name, it in vars(exceptions).items() if isinstance(it, type) and it.__module__ == exceptions.__name__
    }
    assert defined == set(exceptions.__all__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_builtin_bases_are_told(error: type[ChainedModelsError]) -> None:
    """Whoever catches TypeError or ValueError gets what the docstring promises."""
    _, remark = drawn()[error.__name__]
    for told in re.findall(r"also an? (\w+)", remark):
        assert issubclass(error, getattr(__import__("builtins"), told))


@pytest.mark.parametrize(
    "error", [error for error in ALL if error is not MissingExtra], ids=lambda error: error.__name__
)
def test_a_message_without_being_given_one(error: type[Any]) -> None:
    """A class's own docstring is its default message; one that is given takes its place, also an empty one."""
    assert str(error()).strip() and error.__doc__.startswith(str(error())[:20])
    assert str(error("this")) == "this"
    assert str(error("")) == ""


def test_an_error_without_a_docstring_has_that_of_its_base() -> None:
    """A user's subclass says at least what its base says."""

    class Mine(NotBound):
        pass

    assert str(Mine()) == str(NotBound())


def test_retry_after() -> None:
    """A backend's error carries what the backend asked for."""
    assert BackendError().retry_after is None
    assert BackendError("busy", retry_after=1.5).retry_after == 1.5


def test_a_missing_extra_says_how_to_get_it() -> None:
    """It names the library and the command."""
    error = MissingExtra("requests", "rest")
    assert error.extra == "rest"
    assert str(error) == "requests is not installed; get it with: pip install 'chained-models[rest]'"
