"""The public list."""

from __future__ import annotations

import ast
import importlib
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chained_models
from chained_models import exceptions

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def printed_by(program: str) -> str:
    """In an interpreter of its own, where nothing is imported yet."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


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


def test_a_type_checker_sees_the_names_where_they_are_imported_from() -> None:
    """The imports that only a type checker reads, the table that the interpreter goes by, and the list: one and the same."""
    tree = ast.parse(Path(chained_models.__file__).read_text(encoding="utf-8"))
    read = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert chained_models._MODULE_OF == read
    assert sorted(read) == chained_models.__all__


def test_public_modules_are_found_without_an_import_of_their_own() -> None:
    """`import chained_models` is enough for `chained_models.events.on`; also `dir()` tells them."""
    public = {found.name for found in pkgutil.iter_modules(chained_models.__path__) if not found.name.startswith("_")}
    assert set(chained_models._MODULES) == public - {"demo", "doctor", "inspector", "pytest_plugin"}
    program = (
        "import chained_models; print(*(getattr(chained_models, name).__name__ for name in chained_models._MODULES))"
    )
    assert printed_by(program).split() == [f"chained_models.{name}" for name in chained_models._MODULES]


def test_dir_tells_all_names_before_they_are_imported() -> None:
    """So a shell completes them."""
    named = set(printed_by("import chained_models; print(*dir(chained_models))").split())
    assert {*chained_models.__all__, *chained_models._MODULES} <= named


def test_a_name_that_is_not_there_is_told_as_ever() -> None:
    """AttributeError with the module's and the name's name, a guess what was meant, and ImportError for a `from` import."""
    with pytest.raises(AttributeError, match=r"^module 'chained_models' has no attribute 'Chian'$") as caught:
        chained_models.Chian  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("Chian", chained_models)
    assert not hasattr(chained_models, "Chian")
    with pytest.raises(ImportError, match="cannot import name 'Chian' from 'chained_models'"):
        from chained_models import Chian  # noqa: F401
    ran = subprocess.run(
        [sys.executable, "-c", "import chained_models; chained_models.Chian"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Did you mean: 'Chain'?" in ran.stderr.splitlines()[-1]


def test_a_lazy_name_is_the_one_of_its_module() -> None:
    """It can be pickled, imported by `*`, and is found without us from the second time on."""
    assert pickle.loads(pickle.dumps(chained_models.RetryPolicy)) is chained_models.RetryPolicy
    assert chained_models.RetryPolicy is importlib.import_module("chained_models.policies").RetryPolicy
    assert "RetryPolicy" in vars(chained_models)
    everything: dict[str, object] = {}
    exec("from chained_models import *", everything)
    assert set(chained_models.__all__) <= set(everything)


def test_every_exception_is_in_the_tree_on_top_of_its_module() -> None:
    """The docstring draws the tree; a class that is missing there is missing in people's heads."""
    tree = exceptions.__doc__ or ""
    drawn = re.findall(r"^[│ ├└─]*?([A-Z]\w+)", tree.split("::")[1], re.MULTILINE)
    assert [name for name in drawn if name in exceptions.__all__] == drawn[: len(exceptions.__all__)]
    assert sorted(set(drawn) & set(exceptions.__all__)) == exceptions.__all__


@pytest.mark.smoke
@pytest.mark.parametrize("program", ["import chained_models", "from chained_models import *"])
def test_nothing_heavy_is_imported_with_the_package(program: str) -> None:
    """Neither an optional library, nor asyncio, before it is used; also if every name is asked for."""
    heavy = {"requests", "sqlalchemy", "asyncio", "pydantic", "attrs", "attr", "cattrs", "rich", "urllib3", "aiohttp"}
    assert printed_by(f"{program}\nimport sys; print(sorted({heavy!r} & set(sys.modules)))") == "[]\n"


@pytest.mark.smoke
def test_importing_the_package_imports_next_to_nothing() -> None:
    """No module of its own, and of the standard library none of those that take time."""
    told = "[name for name in sys.modules if name.startswith('chained_models') or name in ('typing', 'inspect', 'logging')]"
    assert printed_by(f"import chained_models, sys; print({told})") == "['chained_models']\n"


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
