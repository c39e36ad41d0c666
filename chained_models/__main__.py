"""The command line: ``chained-models demo``, ``chained-models doctor``; also as ``python -m chained_models``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .demo.run import run
from .doctor import diagnosis, lines
from .exceptions import MissingExtra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: What follows the program's name; None for what the shell gave.

    Returns:
        The exit status: 0 if all is well (the demo showed what it is to show, the doctor found that all classes can be saved), 1 if
        not, 2 if it could not be run, 130 if it was stopped.
    """
    options = _parser().parse_args(arguments)
    try:
        return _demo(options) if options.command == "demo" else _doctor(options)
    except MissingExtra as error:
        print(f"chained-models: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chained-models", description="Models that save themselves in order.")
    commands = parser.add_subparsers(metavar="command", required=True, dest="command")
    demo = commands.add_parser("demo", help="save the same edits with and without a chain, and count what went wrong")
    demo.add_argument("--seed", type=int, default=1, help="decides about delays and faults (default: %(default)s)")
    demo.add_argument("--plain", action="store_true", help="no colours and no progress bar")
    demo.add_argument("--baskets", type=_count, default=20, metavar="N", help="default: %(default)s")
    demo.add_argument(
        "--saves", type=_count, default=10, metavar="N", help="saves of each basket, default: %(default)s"
    )
    doctor = commands.add_parser(
        "doctor", help="what is installed, and what saving a model class would do; nothing is sent"
    )
    doctor.add_argument("classes", nargs="*", metavar="package.module:Class", help="model classes to look at")
    doctor.add_argument("--json", action="store_true", help="for programs")
    return parser


def _demo(options: argparse.Namespace) -> int:
    held = run(seed=options.seed, baskets=options.baskets, saves=options.saves, plain=options.plain)
    return 0 if held else 1


def _doctor(options: argparse.Namespace) -> int:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: the classes are the user's own
    facts, well = diagnosis(options.classes)
    print(json.dumps(facts, indent=2) if options.json else "\n".join(lines(facts)))
    return 0 if well else 1


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
