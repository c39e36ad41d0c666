"""Every example runs, asserts its own claims, and warns of nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/__init__.py"))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        cwd=EXAMPLES.parent,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_runs(script: Path) -> None:
    """It ends by itself, in seconds, with status 0 and nothing on stderr."""
    ran = run("-W", "error", script)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout, "and shows something"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_tests_of_the_example_pass(folder: Path) -> None:
    """An example of several files brings the tests that show how to test it."""
    ran = run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder)
    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


def test_there_are_all_five() -> None:
    """A moved folder must not make this module pass by finding nothing."""
    names = {path.stem for path in SCRIPTS} | {path.name for path in FOLDERS}
    assert names >= {"pydantic_rest", "sqlalchemy_sqlite", "sqlmodel_fastapi", "asyncio_backend", "shop_sdk"}
