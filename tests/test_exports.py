"""The public list."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chained_models
from chained_models import exceptions

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def test_the_list_is_sorted_and_complete() -> None:
    """Every name once, and every one there."""
    assert chained_models.__all__ == sorted(set(chained_models.__all__))
    for name in chained_models.__all__:
        assert getattr(chained_models, name) is not None


def test_the_list_is_the_one_in_the_design() -> None:
    """The names of the section "Names at the top level", and the exceptions."""
    section = DESIGN.read_text(encoding="utf-8").split("### Names at the top level\n")[1]
    named = re.match(r"`([^`]+)`", section)
    assert named is not None
    assert sorted({*named[1].split(), *exceptions.__all__}) == chained_models.__all__


def test_every_name_is_public_where_it_comes_from() -> None:
    """What the package exports is in the `__all__` of the module that defines it."""
    for name in chained_models.__all__:
        module = getattr(chained_models, name).__module__
        assert name in importlib.import_module(module).__all__, f"{module}.{name}"


def test_every_list_names_what_is_there() -> None:
    """No module's `__all__` has ghosts."""
    for found in pkgutil.walk_packages(chained_models.__path__, "chained_models."):
        if found.name == "chained_models.__main__":
            continue
        names = getattr(importlib.import_module(found.name), "__all__", [])
        for name in names:
            assert hasattr(sys.modules[found.name], name), f"{found.name}.{name}"


def test_every_exception_is_in_the_tree_on_top_of_its_module() -> None:
    """The docstring draws the tree; a class that is missing there is missing in people's heads."""
    tree = exceptions.__doc__ or ""
    drawn = re.findall(r"^[│ ├└─]*?([A-Z]\w+)", tree.split("::")[1], re.MULTILINE)
    assert [name for name in drawn if name in exceptions.__all__] == drawn[: len(exceptions.__all__)]
    assert sorted(set(drawn) & set(exceptions.__all__)) == exceptions.__all__


@pytest.mark.smoke
def test_nothing_heavy_is_imported_with_the_package() -> None:
    """Neither an optional library, nor asyncio, before it is used."""
    heavy = {"requests", "sqlalchemy", "asyncio", "pydantic", "attrs", "attr", "cattrs", "rich", "urllib3", "aiohttp"}
    program = f"import chained_models, sys; print(sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("library", "program", "extra"),
    [
        ("requests", "from chained_models.backends.rest import RestBackend; RestBackend('http://x.example')", "rest"),
        (
            "aiohttp",
            "from chained_models.backends.aiohttp import AiohttpBackend; AiohttpBackend('http://x.example')",
            "aiohttp",
        ),
        ("sqlalchemy", "import chained_models.backends.sqlalchemy", "sqlalchemy"),
        ("rich", "from chained_models.demo.run import run; run()", "cli"),
    ],
)
def test_a_missing_extra_names_the_command(library: str, program: str, extra: str) -> None:
    """Where it is needed, and not before."""
    blocked = (
        f"import sys; sys.modules[{library!r}] = None\n"
        if library != "rich"
        else ("import importlib.util; importlib.util.find_spec = lambda name: None\n")
    )
    ran = subprocess.run([sys.executable, "-c", blocked + program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert f"pip install 'chained-models[{extra}]'" in ran.stderr.splitlines()[-1]
