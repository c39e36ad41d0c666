"""Every driver and every end of a process, each in a process of its own: what arrives, what is told, the exit code, no hang.

What is expected stands in the documentation, as a table, and is read from there.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..integration.test_exit import ARRIVED, ROOT, lines, newer, run
from .campaign import Campaign

TABLE = ROOT / "docs" / "reliability-exit.md"
DRIVERS = {
    "inline": "inline",
    "threads": "threads",
    "asyncio": "asyncio",
    "asyncio, in a loop": "loop",
    "threads, CallChain": "calls",
}
ENDS = [
    "normal",
    "sys.exit",
    "exception",
    "SIGINT",
    "SIGTERM",
    "SIGTERM, handled",
    "os._exit",
    "fork",
    "fork, os._exit",
]
NOT_DONE = "not to be done"
SOON = 15.0
"""Seconds within which each must have ended; it has work for a tenth of one."""

TOGETHER = 2


def expected() -> dict[tuple[str, str], str]:
    """The table, by driver and end."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ")
    ]
    drivers = rows[0][1:]
    assert drivers == list(DRIVERS)
    assert [row[0] for row in rows[1:]] == ENDS
    return {(DRIVERS[driver], row[0]): cell for row in rows[1:] for driver, cell in zip(drivers, row[1:], strict=True)}


def ended_so(python: str, driver: str, how: str, path: Path) -> str:
    """Let a process end in that manner, and say what came of it in the words of the table; raises what is wrong anyhow."""
    begun = time.monotonic()
    ended = run(python, driver, how, path, exit_timeout=5, halted=True)
    assert time.monotonic() - begun < SOON
    arrived = lines(path)
    assert arrived == ARRIVED[: len(arrived)]
    assert lines(path, "behind") == lines(path, "refused") == []
    reports = [line for line in ended.stderr.splitlines() if line.startswith("ERROR") and "paused or halted" in line]
    assert len(reports) <= 1, ended.stderr
    assert ("Traceback" in ended.stderr) == (how in ("exception", "SIGINT")), ended.stderr
    if how.startswith("fork"):
        assert "child has 0 chains" in ended.stdout
        left = "set()" if driver == "inline" else "{'CANCELLED'}"
        assert f"child's handles True {left}" in ended.stdout
        assert "child 0" in ended.stdout
        assert lines(path, "child") == ([] if driver in ("asyncio", "loop") else ["child 1"])
    return f"{'all' if arrived == ARRIVED else 'some'}, {'told' if reports else 'untold'}, {ended.returncode}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="these are the ends of a POSIX process")
def test_the_end_of_a_process(campaign: Campaign, tmp_path: Path) -> None:
    """Each ends as the table says, soon, and with nothing lost that could be saved."""
    table = expected()
    pythons = [python for python in campaign.pick([sys.executable], *[[sys.executable, newer()]] * 2) if python]
    cells = [(python, *cell) for python in pythons for cell, said in table.items() if said != NOT_DONE]
    assert len(cells) == len(pythons) * (len(DRIVERS) * len(ENDS) - 1)
    with ThreadPoolExecutor(TOGETHER) as pool:
        found = list(pool.map(lambda job: ended_so(*job[1], tmp_path / str(job[0])), enumerate(cells)))
    wrong = [
        f"{python} {driver} {how}: {said}, and not {table[driver, how]}"
        for (python, driver, how), said in zip(cells, found, strict=True)
        if said != table[driver, how]
    ]
    assert wrong == []
    campaign.report(interpreters=len(pythons), processes=len(cells), hangs=0)
