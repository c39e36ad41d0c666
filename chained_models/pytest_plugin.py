"""The pytest plugin: fixtures that hold all saves of a test, a marker, and what is told when such a test fails.

pytest loads it in every run where this package is installed, so it imports the testing kit only when a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from .testing import Harness

__all__ = ["chained", "chained_live"]

pytest.register_assert_rewrite("chained_models.testing.assertions")

SEED = "--chained-models-seed"
KEYWORDS = ("backend", "seed")
TOLD = "chained_models"
"""The attribute of a report that holds what the summary is to say; text, so that xdist carries it from its workers."""

INTERRUPTED = "interrupted"

_harness = pytest.StashKey["Harness"]()
_seed = pytest.StashKey[int]()
_outcome = pytest.StashKey[str]()
"""How the test itself has ended, as its report says: "passed", "failed" (also if only a subtest has), "skipped".

Until then "interrupted": where the whole run is, nothing is reported, and what its end raises would be shown instead of it.
"""
_left = pytest.StashKey[str]()


@pytest.fixture
def chained(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A :class:`~chained_models.testing.Harness`: all models are saved to `chained.backend`, in this thread, by virtual time."""
    yield from _opened(request, live=False)


@pytest.fixture
def chained_live(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """As `chained`, but carried out as in production: by threads or an event loop, by real time; flushed in the end."""
    yield from _opened(request, live=True)


def _opened(request: pytest.FixtureRequest, *, live: bool) -> Iterator[Harness]:
    from .exceptions import UnsupportedBackend
    from .testing import Harness, Leftovers
    from .testing.harness import said_of

    node = request.node
    if _harness in node.stash:
        _misused("a test has one world: ask for the fixture chained, or for chained_live, not for both")
    wishes = _wishes(node)
    seed = wishes.get("seed", request.config.getoption(SEED))
    try:
        harness = Harness(_made(wishes.get("backend")), live=live, seed=seed)
    except UnsupportedBackend:
        _misused("the fixture chained runs plain functions, and this backend is of coroutines: ask for chained_live")
    node.stash[_harness], node.stash[_seed], node.stash[_outcome] = harness, seed, INTERRUPTED
    try:
        with suppress(Leftovers), harness:  # what is left over is told here, without a traceback of ours
            yield harness
            left = [] if node.stash[_outcome] == INTERRUPTED else harness.finish()
            if left and node.stash[_outcome] == "failed":  # then it is no news, and hides nothing
                node.stash[_left] = f"in the end, {said_of(left)}"
            elif left and node.stash[_outcome] == "passed":
                node.stash[_left] = _told(node)
                pytest.fail(said_of(left), pytrace=False)
    finally:
        del node.stash[_harness]  # a session keeps its tests, but need not keep their models


def _wishes(node: pytest.Item) -> Mapping[str, Any]:
    """The keywords of the markers; where two give the same, the one that is nearer to the test."""
    wishes: dict[str, Any] = {}
    for marker in node.iter_markers("chained"):
        unknown = [*map(repr, marker.args), *(f"{name}=..." for name in marker.kwargs if name not in KEYWORDS)]
        if unknown:
            known = " and ".join(f"{name}=..." for name in KEYWORDS)
            _misused(f"@pytest.mark.chained takes {known}, not {', '.join(unknown)}")
        wishes = {**marker.kwargs, **wishes}
    seed = wishes.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        _misused(f"@pytest.mark.chained(seed={seed!r}): a whole number is needed")
    return wishes


def _made(backend: Any) -> Any:
    """What the marker means: an instance, a class or function that makes one, "own", or None for a scripted one."""
    from .testing import OWN

    if backend is None or backend == OWN:
        return backend
    given = backend
    if isinstance(backend, type) or (callable(backend) and not hasattr(backend, "execute")):
        backend = backend()
    if not callable(getattr(backend, "execute", None)):
        _misused(f"@pytest.mark.chained(backend={given!r}): a backend, what makes one when it is called, or {OWN!r}")
    return backend


def _misused(why: str) -> NoReturn:
    pytest.fail(why, pytrace=False)


def _told(node: pytest.Item) -> str:
    """What the summary says of a test that has failed."""
    from .testing import timeline

    return f"seed {node.stash[_seed]}\n{timeline(node.stash[_harness])}"


# What pytest asks


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option; everything else is said by the marker."""
    parser.getgroup("chained_models").addoption(
        SEED, type=int, default=0, metavar="N", help="spreads retries in tests whose marker gives no seed (default: 0)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "chained(backend=..., seed=...): for the fixtures chained and chained_live: where models are saved (a backend, "
        "what makes one, or 'own' for each to its own), and what spreads retries",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the summary is to say, as long as the chains are there."""
    report = yield
    told = None
    if _harness in item.stash:
        if item.stash[_outcome] != "failed" and (report.when == "call" or not report.passed):
            item.stash[_outcome] = report.outcome
        told = _told(item) if report.failed else None
    elif _left in item.stash:
        told = item.stash[_left]
        del item.stash[_left]
    if told is not None:
        vars(report)[TOLD] = told
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The timelines of the tests that failed."""
    everything = [one for reports in terminalreporter.stats.values() for one in reports]
    reports = [one for one in everything if isinstance(one, pytest.TestReport) and TOLD in vars(one)]
    told: dict[str, dict[str, str]] = {}
    for report in sorted(reports, key=lambda report: report.when == "teardown"):
        # Of several subtests, what the last one saw.
        told.setdefault(report.nodeid, {})[report.when] = vars(report)[TOLD]
    if told:
        terminalreporter.section("chained_models: what happened to the saves")
    for nodeid, texts in told.items():
        terminalreporter.write_line(nodeid, bold=True)
        for line in "\n".join(texts.values()).splitlines():
            terminalreporter.write_line(f"  {line}")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say of two sequences of saves what came before what."""
    if op != "==" or not isinstance(left, (list, tuple)) or not isinstance(right, (list, tuple)):
        return None
    if "chained_models.testing" not in sys.modules:
        return None
    return _differences(left, right)


def _differences(left: Sequence[Any], right: Sequence[Any]) -> list[str] | None:
    from .testing.differences import differences

    return differences(left, right)
