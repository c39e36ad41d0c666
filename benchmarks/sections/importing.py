"""What it costs to import the package."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from findings import Claim, Findings, compared
from measure import Bench, stopwatch

OURS, MIXIN, ALL, REQUESTS, NOTHING = (
    "import chained_models",
    "from chained_models import ChainedSaveMixin",
    "from chained_models import *",
    "import requests",
    "pass",
)

TITLE = "Import"
TEXT = """\
As `python -X importtime` tells it, which leaves out what every interpreter pays for its own start, and as whole processes, which do not.
Each name of the package is imported when it is first asked for, so what a program pays that uses the mixin is a row of its own."""
CLAIMS = [Claim("import", f"`{OURS}`", f"`{REQUESTS}`", "<=", 0.6)]


def run(bench: Bench) -> Findings:
    """All of them in processes of their own."""
    programs = (OURS, MIXIN, ALL, REQUESTS)
    told = bench.interleaved("importtime", {program: partial(imported, program) for program in programs})
    whole = bench.interleaved(
        "whole processes", {program: partial(process, program) for program in (NOTHING, *programs)}
    )
    return Findings(
        {"import": told.ratio(OURS, REQUESTS)},
        tables=[
            compared("`python -X importtime`", told, REQUESTS, "ms", 1e3),
            compared("Whole processes", whole, REQUESTS, "ms", 1e3),
        ],
    )


def imported(program: str) -> float:
    """Seconds that the imports of the program took in all."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import sys; sys.stderr.write('begin\\n'); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ran.stderr.split("begin\n")[1].splitlines()
    return sum(int(line.split(":")[1].split("|")[0]) for line in lines) / 1e6


def process(program: str) -> float:
    """Seconds from its start to its end."""
    with stopwatch() as watch:
        subprocess.run([sys.executable, "-c", program], check=True)
    return watch.seconds
