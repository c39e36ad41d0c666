"""The command line: ``chained-models demo``, or ``python -m chained_models demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .demo.run import run
from .exceptions import MissingExtra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: What follows the program's name; None for what the shell gave.

    Returns:
        The exit status: 0 if the demo showed what it is to show, 1 if not, 2 if it could not be run, 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(prog="chained-models", description="Models that save themselves in order.")
    commands = parser.add_subparsers(metavar="command", required=True)
    demo = commands.add_parser("demo", help="save the same edits with and without a chain, and count what went wrong")
    demo.add_argument("--seed", type=int, default=1, help="decides about delays and faults (default: %(default)s)")
    demo.add_argument("--plain", action="store_true", help="no colours and no progress bar")
    demo.add_argument("--baskets", type=_count, default=20, metavar="N", help="default: %(default)s")
    demo.add_argument(
        "--saves", type=_count, default=10, metavar="N", help="saves of each basket, default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        held = run(seed=options.seed, baskets=options.baskets, saves=options.saves, plain=options.plain)
    except MissingExtra as error:
        print(f"chained-models: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if held else 1


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
