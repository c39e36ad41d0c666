"""The command line: ``chained-models demo``, ``doctor``, ``inspect``, ``completion``; also as ``python -m chained_models``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .demo.run import run
from .demo.web import page
from .doctor import diagnosis
from .doctor import lines as said
from .exceptions import InvalidOption, MissingExtra
from .inspector._attached import LEGEND, Attached, lines, shown

__all__ = ["EXITS", "main"]

EXITS = {
    0: "all is well",
    1: "the demo did not show what it is to show, a class could not be saved, or no inspector answers",
    2: "it could not be run: wrong arguments, a missing extra, a port that is taken",
    130: "it was stopped, by Ctrl-C",
    141: "whoever read the output wants no more of it, `head` for example",
}
"""The exit statuses. The last two are 128 and the number of the signal, as shells have it."""

SHELLS = ("bash", "zsh", "tcsh")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: What follows the program's name; None for what the shell gave.

    Returns:
        The exit status, one of `EXITS`.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.carry_out(options)
        sys.stdout.flush()
    except (MissingExtra, InvalidOption) as error:
        print(f"chained-models: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter will flush it once more
        return 141
    except ConnectionError as error:
        print(f"chained-models: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chained-models",
        description="Models that save themselves in order.",
        epilog="exit status:\n" + "\n".join(f"  {status:<4} {meaning}" for status, meaning in EXITS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=metadata.version("chained-models"))
    commands = parser.add_subparsers(metavar="command", required=True)
    demo = commands.add_parser("demo", help="save the same edits with and without a chain, and count what went wrong")
    demo.set_defaults(carry_out=_demo)
    demo.add_argument("--seed", type=int, default=1, help="decides about delays and faults (default: %(default)s)")
    demo.add_argument("--plain", action="store_true", help="no colours and no progress bar")
    demo.add_argument("--baskets", type=_count, default=20, metavar="N", help="default: %(default)s")
    demo.add_argument(
        "--saves", type=_count, default=10, metavar="N", help="saves of each basket, default: %(default)s"
    )
    demo.add_argument("--json", action="store_true", help="for programs: one object with the counts, or the address")
    demo.add_argument("--web", action="store_true", help="a page to play with, until Ctrl-C, instead")
    demo.add_argument("--port", type=int, default=0, help="of the page; default: a free one")
    doctor = commands.add_parser(
        "doctor", help="what is installed, and what saving a model class would do; nothing is sent"
    )
    doctor.set_defaults(carry_out=_doctor)
    doctor.add_argument("classes", nargs="*", metavar="package.module:Class", help="model classes to look at")
    doctor.add_argument("--json", action="store_true", help="for programs")
    inspect = commands.add_parser("inspect", help="watch the chains of a program in which an inspector runs")
    inspect.set_defaults(carry_out=_inspect)
    inspect.add_argument("url", help="the address that the inspector printed, in quotes")
    inspect.add_argument("--once", action="store_true", help="show what there is, and end")
    inspect.add_argument("--json", action="store_true", help="for programs: one object to a line, for each change")
    completion = commands.add_parser("completion", help="print what makes a shell complete these commands")
    completion.set_defaults(carry_out=_completion)
    completion.add_argument("shell", choices=SHELLS)
    return parser


def _demo(options: argparse.Namespace) -> int:
    if options.web:
        with page(port=options.port, seed=options.seed) as shown_there:
            told = json.dumps({"url": shown_there.url}) if options.json else f"chained_models demo: {shown_there.url}"
            print(told, flush=True)
            threading.Event().wait()
    held = run(
        seed=options.seed, baskets=options.baskets, saves=options.saves, plain=options.plain, as_json=options.json
    )
    return 0 if held else 1


def _doctor(options: argparse.Namespace) -> int:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: the classes are the user's own
    facts, well = diagnosis(options.classes)
    print(json.dumps(facts, indent=2) if options.json else "\n".join(said(facts)))
    return 0 if well else 1


def _inspect(options: argparse.Namespace) -> int:
    states = Attached(options.url).states(once=options.once)
    if options.json:
        for state in states:
            print(json.dumps(state), flush=True)
        return 0
    chains: dict[int, dict[str, Any]] = {}
    if options.once or not sys.stdout.isatty():
        for state in states:
            shown(chains, state)
            for line in lines(chains, state["lanes"]):
                print("  ".join(part for part in line if part))
            sys.stdout.flush()
        return 0
    return _watch(states, chains)


def _watch(states: Iterator[dict[str, Any]], chains: dict[int, dict[str, Any]]) -> int:
    """In a terminal, one table that changes in its place."""
    try:
        from rich.live import Live
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise MissingExtra("rich", "cli") from error
    with Live(refresh_per_second=5) as live:
        for state in states:
            shown(chains, state)
            table = Table("chain", "saves", "", caption=LEGEND, expand=True)
            for line in lines(chains, state["lanes"], most=max(5, live.console.height - 8)):
                table.add_row(*map(Text, line))  # as text: what a program calls its things is no markup
            live.update(table)
    return 0


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise MissingExtra("shtab", "cli") from error
    print(shtab.complete(_parser(), options.shell))
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
