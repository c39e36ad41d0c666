"""Writes the tables of failures.md and choosing-a-policy.md from the functions that decide, so that they cannot drift.

python docs/make_failures.py
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from chained_models.backends._http_status import failure
from chained_models.exceptions import BackendError, NotApplied
from chained_models.operation import Guarantee, Method
from chained_models.policies import FAILURE_CLASSES, Outcome, RetryPolicy, Ruling, judge

PAGES = [Path(__file__).parent / name for name in ("failures.md", "choosing-a-policy.md")]

STATUSES = (*range(300, 309), *range(400, 430), 431, 451, *range(500, 506), 507, 508, 510, 511)
SITUATIONS: dict[str, tuple[Method, Guarantee]] = {
    "a create, to a backend that is `IDEMPOTENT` or `TRANSACTIONAL`": (Method.CREATE, Guarantee.IDEMPOTENT),
    "any other create": (Method.CREATE, Guarantee.PLAIN),
    "an update, patch or delete": (Method.UPDATE, Guarantee.PLAIN),
    "a refresh": (Method.READ, Guarantee.PLAIN),
}


def statuses() -> str:
    """Status of the answer to class, for each method."""
    lines = ["| class | create | update, patch | delete | refresh |", "|---|---|---|---|---|"]
    columns = (Method.CREATE, Method.UPDATE, Method.DELETE, Method.READ)
    found: dict[tuple[str, Method], list[int]] = defaultdict(list)
    for method in columns:
        for status in STATUSES:
            kind = failure(status, method)
            found["saved" if kind is None else f"`{kind.__name__}`", method].append(status)
    names = [*(f"`{kind.__name__}`" for kind in FAILURE_CLASSES), "saved"]
    for name in names:
        cells = [_ranges(found[name, method]) for method in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ranges(statuses: list[int]) -> str:
    runs: list[list[int]] = []
    for status in statuses:
        if runs and STATUSES.index(status) == STATUSES.index(runs[-1][-1]) + 1 and status // 100 == runs[-1][0] // 100:
            runs[-1].append(status)
        else:
            runs.append([status])
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


def rulings() -> str:
    """Class to what happens, for each kind of write."""
    lines = [f"| class | {' | '.join(SITUATIONS)} |", "|---|" + "---|" * len(SITUATIONS)]
    for kind in (*FAILURE_CLASSES, NotApplied):
        cells = [_ruling(kind("..."), *situation) for situation in SITUATIONS.values()]
        lines.append(f"| `{kind.__name__}` | {' | '.join(cells)} |")
    cells = [_ruling(RuntimeError(), *situation) for situation in SITUATIONS.values()]
    lines.append(f"| anything else | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ruling(error: BackendError | Exception, method: Method, guarantee: Guarantee) -> str:
    policy = RetryPolicy()
    first, last = (
        judge(
            error,
            method=method,
            guarantee=guarantee,
            attempts=attempts,
            spent=0.0,
            was_in_doubt=False,
            policy=policy,
            on_failure=None,
            random=0.5,
        )
        for attempts in (1, policy.attempts)
    )
    if first.ruling is Ruling.HOLD:
        return "held until the credentials are renewed, or the lane is resumed"
    assert last.outcome is not None
    ending = f"{last.outcome.name}, the chain {'halts' if last.halt else 'goes on'}"
    if first.ruling is Ruling.RETRY:
        unless = (
            " (ABANDONED if it ever was in doubt)"
            if last.outcome is Outcome.FAILED and method is not Method.READ and not last.proved
            else ""
        )
        return f"tried again; then {ending}{unless}"
    return ending


def filled(page: str) -> str:
    """`page`, with those of the tables that it has as they should be."""
    for name, table in (("statuses", statuses()), ("rulings", rulings())):
        found = re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- end -->", page, re.DOTALL)
        if found is None:
            continue
        page = f"{page[: found.start(1)]}\n{table}\n\n{page[found.end(1) :]}"
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
