"""What is shown: a bar while it runs, and at the end a table, or JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .tally import Tally

__all__ = ["Report", "Result", "holds"]


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    store: str
    chained: bool
    tally: Tally
    seconds: float

    @property
    def title(self) -> str:
        return f"{self.store}, {'chained' if self.chained else 'no chain'}"


def holds(results: Sequence[Result]) -> bool:
    """Whether it shows what it is to show: with a chain nothing goes wrong, without one something always does."""
    return bool(results) and all(result.tally.flawless == result.chained for result in results)


class Report:
    """Prints to the terminal, or to whatever reads our output.

    Args:
        plain: No colours and no bar.
        as_json: Nothing but one JSON object, at the end; the bar is shown where errors go.
    """

    def __init__(self, *, plain: bool, as_json: bool = False) -> None:
        self._as_json = as_json
        self._console = (
            Console(stderr=as_json, no_color=True, force_terminal=False, highlight=False)
            if plain
            else Console(stderr=as_json, highlight=False)
        )

    def say(self, text: str) -> None:
        """Print a paragraph."""
        if not self._as_json:
            self._console.print(text, soft_wrap=not self._console.is_terminal)

    @contextmanager
    def running(self, title: str, saves: int) -> Iterator[Callable[[], None]]:
        """Show how far a run is; gives what is to be called after each save."""
        if not self._console.is_terminal:
            yield lambda: None
            self.say(f"  {title}: {saves} saves")
            return
        columns = (TextColumn("  {task.description:<22}"), BarColumn(32), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(title, total=saves)
            yield lambda: progress.advance(task)

    def end(self, results: Sequence[Result]) -> None:
        """Print the results, and what they show."""
        if self._as_json:
            runs = [
                {"store": one.store, "chained": one.chained, "seconds": round(one.seconds, 3)}
                | dataclasses.asdict(one.tally)
                for one in results
            ]
            print(json.dumps({"holds": holds(results), "runs": runs}, indent=2))
            return
        self._table(results)
        self.say(
            "Counted from the log and the rows of the server, and from a log that triggers wrote in the database.\n"
            + ("With a chain nothing went wrong." if holds(results) else "This is not as it should be: see the table.")
        )

    def _table(self, results: Sequence[Result]) -> None:
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False)
        table.add_column("", no_wrap=True)
        for title in ("writes out\nof order", "duplicate\ncreates", "edits\nlost", "wrong final\nstates", "\nseconds"):
            table.add_column(title, justify="right")
        for result in results:
            tally = result.tally
            faults = (tally.out_of_order, tally.duplicates, tally.edits_lost, tally.wrong_ends)
            marked = [f"[bold red]{fault}[/]" if fault else "[green]0[/]" for fault in faults]
            table.add_row(result.title, *marked, f"{result.seconds:.1f}", end_section=result.chained)
        self._console.print()
        self._console.print(table)
        self._console.print()
