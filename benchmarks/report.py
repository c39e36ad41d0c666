"""The page: first what was to be reached, then the figures of each section, then how it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from findings import Claim, Findings, Section, Table, figure, spread

__all__ = ["Part", "missed", "page", "summary", "targets"]

COMMAND = "python -m uv run --group bench benchmarks/run.py"
NOT_RUN = "not measured yet"

HEAD = """\
# Performance

{state}

Ours and the peers are measured in one run, in turn, {rounds} rounds of each; a ratio is taken within each round, so what the machine did
meanwhile is in both of its sides. *Measured* is the median of these ratios, with the lowest and the highest. Every peer is handed the same
values, and nothing is tuned for one side. Absolute figures differ from machine to machine, the ratios much less.

    {command}                 # this page and its plots; about half an hour
    {command} --quick         # whether everything works, in two minutes; writes to a temporary folder
    {command} --only rest     # one section, or several; writes to a temporary folder
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One section of the page, and what it has found; None if it was not run."""

    name: str
    section: Section
    findings: Findings | None


def page(
    parts: Sequence[Part],
    about: Mapping[str, Sequence[tuple[str, str]]],
    *,
    rounds: int,
    assets: str,
    quick: bool = False,
) -> str:
    """The whole of it, as Markdown.

    Args:
        parts: In the order of the page.
        about: Tables of what it was measured on, and with.
        rounds: How many of each.
        assets: The folder of the plots, as seen from the page.
        quick: Say that the figures mean nothing.
    """
    text = [
        HEAD.format(state=_state(parts, quick=quick), rounds=rounds, command=COMMAND),
        "## Targets\n",
        summary(parts),
    ]
    for part in parts:
        text += [f"## {part.section.TITLE}\n", f"{part.section.TEXT}\n"]
        if part.findings is None:
            text.append(f"{NOT_RUN.capitalize()}.\n")
            continue
        text += [_table(table) for table in part.findings.tables]
        for plot in part.findings.plots:
            text.append(f"![{plot.title}]({assets}/{plot.name}.svg)\n")
        reasons = sorted(set(part.findings.missing.values()))
        text += [f"Not available: {reason}.\n" for reason in reasons]
    if any(part.findings is not None for part in parts):
        text.append("## Measured on\n")
        text += [_table(Table(title, ("", ""), rows)) for title, rows in about.items()]
    return "\n".join(text)


def _state(parts: Sequence[Part], *, quick: bool) -> str:
    if quick:
        return "A quick run, at sizes that only show that everything works: **these figures mean nothing**."
    claims = [(claim, part.findings) for part in parts for claim in part.section.CLAIMS]
    met = sum(
        found is not None and claim.name in found.measured and claim.met(found.measured[claim.name])
        for claim, found in claims
    )
    measured = sum(found is not None and claim.name in found.measured for claim, found in claims)
    if not measured:
        return f"What this library is to reach: {len(claims)} targets. They were not measured yet with this version."
    return f"Of {len(claims)} targets {measured} were measured, and {met} are met."


def summary(parts: Sequence[Part]) -> str:
    """The table of all targets."""
    rows = ["| work | against | target | measured | lowest to highest | met |", "|---|---|---:|---:|---:|---|"]
    rows += [_row(claim, part.findings) for part in parts for claim in part.section.CLAIMS]
    return "\n".join([*rows, ""])


def _row(claim: Claim, found: Findings | None) -> str:
    unit = "×" if claim.unit == "×" else f" {claim.unit}"
    sign = "≤" if claim.relation == "<=" else "≥"
    cells = [claim.work, claim.against, f"{sign} {claim.target:g}{unit}"]
    if found is None:
        cells += [NOT_RUN, "", ""]
    elif claim.name not in found.measured:
        cells += ["not available", "", ""]
    else:
        sample = found.measured[claim.name]
        cells += [f"{figure(sample.median)}{unit}", spread(sample), "yes" if claim.met(sample) else "**no**"]
    return f"| {' | '.join(cells)} |"


def targets(text: str) -> list[str]:
    """What a page, or its table, says is to be reached; whatever was measured."""
    rows = [line.split(" | ")[:3] for line in text.splitlines() if line.count(" | ") == 5]
    return [" | ".join(cells) for cells in rows if cells[2].startswith(("≤", "≥"))]


def _table(table: Table) -> str:
    lines = [f"**{table.title}**\n"] if table.title else []
    lines.append(f"| {' | '.join(table.header)} |")
    lines.append(f"|{'---|' + '---:|' * (len(table.header) - 1)}")
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, ""])


def missed(parts: Sequence[Part]) -> list[str]:
    """What was measured and misses its target, by section and name."""
    return [
        f"{part.name}: {claim.work} {claim.against}".strip()
        for part in parts
        if part.findings is not None
        for claim in part.section.CLAIMS
        if claim.name in part.findings.measured and not claim.met(part.findings.measured[claim.name])
    ]
