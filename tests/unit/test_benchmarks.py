"""The benchmarks' own arithmetic, tables and pictures; what they measure is run by `benchmarks/run.py --quick`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("findings", "measure", "plots", "report")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Those of its modules that need no peer."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)


def test_contenders_take_turns(benchmarks: Any) -> None:
    """Each once a round, there and back, and the first round does not count."""
    calls: list[str] = []
    told: list[tuple[str, int, int]] = []
    bench = benchmarks.measure.Bench(quick=True, told=lambda *content: told.append(content))

    def contender(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    measured = bench.interleaved("turns", {name: lambda name=name: contender(name) for name in "abc"})
    assert calls == [*"cba", *"abc", *"cba"]
    assert {name: measured[name].values for name in measured} == {"a": (4.0, 9.0), "b": (5.0, 8.0), "c": (6.0, 7.0)}
    assert told == [("turns", done, 3) for done in range(4)]


def test_a_ratio_is_taken_within_each_round(benchmarks: Any) -> None:
    """A machine that is twice as slow in one round is so for both: the ratio does not spread."""
    sample = benchmarks.measure.Sample
    measured = benchmarks.measure.Measured({"ours": sample((1.0, 2.0, 5.0)), "theirs": sample((4.0, 8.0, 20.0))})
    ratio = measured.ratio("theirs", "ours")
    assert (ratio.median, ratio.low, ratio.high) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("relation", "values", "met"),
    [
        ("<=", (1.0, 1.5, 9.0), True),
        ("<=", (1.0, 1.6, 1.0), True),
        ("<=", (2.0, 1.51, 1.0), False),
        (">=", (0.1, 1.5, 2.0), True),
        (">=", (9.0, 1.49, 1.0), False),
    ],
)
def test_a_claim_is_met_by_the_median(benchmarks: Any, relation: str, values: tuple[float, ...], met: bool) -> None:
    """Unrounded, and whatever the extremes are."""
    claim = benchmarks.findings.Claim("name", "work", "peer", relation, 1.5)
    assert claim.met(benchmarks.measure.Sample(values)) is met


def test_the_page_says_of_each_target_what_became_of_it(benchmarks: Any) -> None:
    """Met, missed, not available and why, or not measured; and the same again from the same figures."""
    findings, report, sample = benchmarks.findings, benchmarks.report, benchmarks.measure.Sample
    claims = [
        findings.Claim(name, f"work {name}", "a peer", "<=", 1.0) for name in ("met", "missed", "absent", "forgotten")
    ]
    section = SimpleNamespace(TITLE="A section", TEXT="About it.", CLAIMS=claims[:3])
    other = SimpleNamespace(TITLE="Another", TEXT="About that.", CLAIMS=claims[3:])
    found = findings.Findings(
        measured={"met": sample((0.25,)), "missed": sample((1.0, 2.0, 3.0))}, missing={"absent": "there is no peer"}
    )
    parts = [report.Part("one", section, found), report.Part("two", other, None)]
    about = {"Machine": [("Cores", "2")]}
    page = report.page(parts, about, rounds=9, assets="assets")
    assert "Of 4 targets 2 were measured, and 1 are met." in page
    assert "| work met | a peer | ≤ 1× | 0.25× | 0.25 to 0.25 | yes |" in page
    assert "| work missed | a peer | ≤ 1× | 2.00× | 1.00 to 3.00 | **no** |" in page
    assert "| work absent | a peer | ≤ 1× | not available |  |  |" in page
    assert "| work forgotten | a peer | ≤ 1× | not measured yet |  |  |" in page
    assert "Not available: there is no peer." in page
    assert report.missed(parts) == ["one: work missed a peer"]
    assert page == report.page(parts, about, rounds=9, assets="assets")
    blank = [report.Part(part.name, part.section, None) for part in parts]
    assert report.targets(page) == report.targets(report.summary(blank))
    assert len(report.targets(page)) == 4


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123, "0.012"), (0.5, "0.50"), (1.0, "1.00"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_figures_have_the_digits_that_count(benchmarks: Any, value: float, text: str) -> None:
    """No exponents, no digits that the next run would change."""
    assert benchmarks.findings.figure(value) == text


def test_a_plot_is_a_picture_for_light_and_dark_pages(benchmarks: Any) -> None:
    """Well-formed, all within its borders, a line for each name, and colours for both."""
    lines = {"one & all": [(1, 10.0), (1_000_000, 0.5)], "other": [(10, 3.0)]}
    text = benchmarks.plots.drawn(benchmarks.findings.Plot("name", "A < B", "chains", "saves a second", lines))
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert [one.text for one in root.iter(f"{space}title")] == ["A < B"]
    assert {"one & all", "other", "chains", "saves a second", "1,000,000", "0.1"} <= {
        one.text for one in root.iter(f"{space}text")
    }
    assert len(list(root.iter(f"{space}polyline"))) == 2
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for dot in root.iter(f"{space}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height
    assert "prefers-color-scheme:dark" in text
