"""What is in the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest

import chained_models

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel that is built here, without network."""
    target = tmp_path_factory.mktemp("wheel")
    source = target / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "chained_models", source / "chained_models", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").touch()
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_its_types(names: set[str]) -> None:
    """Every module, and the marker that says that they are typed."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "chained_models").rglob("*.py")}
    assert modules | {"chained_models/py.typed"} <= names


def test_the_wheel_holds_its_pages(names: set[str]) -> None:
    """What the inspector and the demo serve to a browser."""
    pages = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "chained_models").rglob("static/*")
        if path.suffix in {".html", ".js", ".css"}
    }
    assert len(pages) >= 7
    assert pages <= names


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    """No tests, no docs, no caches."""
    assert {name.split("/")[0].split("-")[0] for name in names} == {"chained_models"}
    gifts = ("chained_models/testing/", "chained_models/pytest_plugin.py")  # to other people's tests
    others = [name for name in names if not name.startswith(gifts)]
    assert not [name for name in others if "test" in name.lower() or "__pycache__" in name]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.smoke
def test_the_installed_package_knows_itself() -> None:
    """Name, licence, extras; and the file that marks it as typed is beside it."""
    about = metadata("chained-models")
    assert about["License-Expression"] == "MIT"
    assert set(about.get_all("Provides-Extra") or ()) == {
        "rest",
        "aiohttp",
        "sqlalchemy",
        "asyncio",
        "cli",
        "otel",
        "inspector",
        "all",
        "dev",
    }
    assert Path(chained_models.__file__).with_name("py.typed").exists()
