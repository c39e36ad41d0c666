"""How saves survive the end of the process: kinds of driver x kinds of end, each in a process of its own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("exit_child.py")
ROOT = CHILD.parents[2]
ARRIVED = [f"a {n}" for n in range(20)]
DRIVERS = ["inline", "threads", "asyncio"]


@functools.cache
def newer() -> str | None:
    """A Python 3.13, where no thread can be started once the exit has begun; None if there is none here."""
    name = shutil.which("python3.13")
    if sys.version_info >= (3, 13) or name is None:
        return None
    # A version manager's stand-in needs to be told, or it finds nothing.
    asked = subprocess.run(
        [name, "-c", "import sys; print(sys.executable)"],
        env={**os.environ, "PYENV_VERSION": "3.13"},
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


@pytest.fixture(params=["this", "3.13"])
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter that ends."""
    found = sys.executable if request.param == "this" else newer()
    if found is None:
        pytest.skip("there is no Python 3.13 here")
    return found


def run(
    python: str,
    driver: str,
    how: str,
    path: Path,
    *,
    seconds: float = 0.003,
    exit_timeout: float = 10,
    storm: float = 0.2,
    halted: bool = False,
) -> subprocess.CompletedProcess[str]:
    numbers = [str(seconds), str(exit_timeout), str(storm)]
    return subprocess.run(
        [python, "-W", "error", str(CHILD), driver, how, str(path), *numbers, *(["halted"] if halted else [])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30 + 3 * storm,
        check=False,
    )


def lines(path: Path, name: str = "a") -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith(f"{name} ")] if path.exists() else []


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("how", "status"), [("normal", 0), ("sys.exit", 3), ("exception", 1), ("SIGINT", -2), ("in exit", 0)]
)
def test_all_saves_arrive_in_order(python: str, driver: str, how: str, status: int, tmp_path: Path) -> None:
    """Whatever ends the program, what was accepted is carried out before it has ended, and nothing is reported."""
    path = tmp_path / "lines"
    ended = run(python, driver, how, path)
    assert lines(path) == ARRIVED
    assert ended.returncode == status
    assert "ERROR" not in ended.stderr
    if how == "in exit":
        assert lines(path, "late") == ["late 0"]


@pytest.mark.parametrize("how", ["normal", "sys.exit", "exception", "SIGINT"])
def test_a_program_in_a_loop_closes_its_dispatcher(python: str, how: str, tmp_path: Path) -> None:
    """With `async with`, whatever ends the block, all that was accepted arrives."""
    path = tmp_path / "lines"
    ended = run(python, "loop", how, path)
    assert lines(path) == ARRIVED
    assert "ERROR" not in ended.stderr


def test_a_loop_that_is_dropped_is_reported(python: str, tmp_path: Path) -> None:
    """Saves of a loop that ends under them cannot be carried out: the process ends at once, and says so."""
    path = tmp_path / "lines"
    ended = run(python, "loop", "dropped", path)
    assert ended.returncode == 0
    assert "its event loop was closed" in ended.stderr
    assert lines(path) == []


@pytest.mark.parametrize("driver", ["threads", "asyncio"])
def test_the_end_is_not_held_up_past_the_deadline(python: str, driver: str, tmp_path: Path) -> None:
    """A backend that is too slow is given `exit_timeout` seconds; then an error says how much is left."""
    path = tmp_path / "lines"
    begun = time.monotonic()
    ended = run(python, driver, "normal", path, seconds=8, exit_timeout=0.1)
    assert time.monotonic() - begun < 5
    assert lines(path) == []
    assert "ERROR the interpreter ends, and 20 saves did not end within 0.1 s" in ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_forked_child_starts_empty(python: str, driver: str, tmp_path: Path) -> None:
    """It does not hang, holds nothing of the parent's, and can save; the parent's saves arrive once, in order."""
    path = tmp_path / "lines"
    ended = run(python, driver, "fork", path)
    assert lines(path) == ARRIVED
    assert "child has 0 chains" in ended.stdout
    left = "set()" if driver == "inline" else "{'CANCELLED'}"
    assert f"child's handles True {left}" in ended.stdout, ended.stdout + ended.stderr
    assert "child 0" in ended.stdout
    if driver != "asyncio":
        assert lines(path, "child") == ["child 1"]
    assert "ERROR" not in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timers here")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_signal_handler_may_try_to_save(python: str, driver: str, tmp_path: Path) -> None:
    """A thousand times a second, in the middle of anything: nothing hangs, and all that was accepted arrives in order."""
    path = tmp_path / "lines"
    ended = run(python, driver, "handler", path)
    assert ended.returncode == 0, ended.stderr
    words = ended.stdout.split()
    accepted, busy = int(words[1]), int(words[3])
    assert accepted > 0
    assert lines(path, "handler") == [f"handler {n}" for n in range(accepted)]
    assert lines(path, "busy") == [f"busy {n}" for n in range(busy)]
