"""What a section claims, and what it finds: plain values, so that they can come from another process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol, cast

from measure import Bench, Measured, Sample

__all__ = ["Claim", "Findings", "Plot", "Section", "Table", "compared", "section"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table on top of the page.

    Attributes:
        name: By which its figure is found; unique in its section.
        work: What is measured.
        against: What it is compared with.
        relation: ``"<="`` or ``">="``.
        target: What the median is to be at most, or at least.
        unit: ``"×"`` for a ratio, or what is counted.
    """

    name: str
    work: str
    against: str
    relation: str
    target: float
    unit: str = "×"

    def met(self, found: Sample) -> bool:
        return found.median <= self.target if self.relation == "<=" else found.median >= self.target


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; the first column is what the row is about, the others are figures."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over the same axes, both logarithmic."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(slots=True)
class Findings:
    """What a section has found."""

    measured: dict[str, Sample] = field(default_factory=dict)
    """The figures of its claims, by their names."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why there is none, for the others."""
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


class Section(Protocol):
    """What a module of `sections` has."""

    TITLE: str
    TEXT: str
    CLAIMS: Sequence[Claim]

    def run(self, bench: Bench) -> Findings: ...


def section(module: ModuleType) -> Section:
    """The module as what it is."""
    return cast(Section, module)


def compared(title: str, measured: Measured, to: str, unit: str, factor: float, *, faster: bool = False) -> Table:
    """A table of all contenders, with the ratio of each to one of them.

    Args:
        title: Above it.
        measured: Seconds for one piece of work.
        to: The contender that is 1.
        unit: What `factor` makes of the seconds.
        factor: By how much they are multiplied.
        faster: Say how many times faster each is, instead of how many times as long it takes.
    """
    rows = []
    for name in measured:
        ratio = measured.ratio(to, name) if faster else measured.ratio(name, to)
        rows.append((name, figure(measured[name].median * factor), figure(ratio.median), spread(ratio)))
    how = f"times as fast as {to}" if faster else f"times that of {to}"
    return Table(title, ("", unit, how, "lowest to highest"), rows)


def figure(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}"


def spread(found: Sample) -> str:
    return f"{figure(found.low)} to {figure(found.high)}"
