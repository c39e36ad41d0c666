"""The layers of the house, as import-linter sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_nothing_imports_upwards() -> None:
    """All contracts of pyproject.toml are kept: layers, a core without I/O, lazy asyncio, independence, no cycles."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PATH": ""},
    )
    assert ran.returncode == 0, ran.stdout
    assert " 0 broken" in ran.stdout
