"""Threads and signals that come at the worst moment.

Two threads in one critical section, in every order that a tool tries; eight threads with all verbs, switched as often as the
interpreter can; a signal handler that saves a thousand times a second.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from chained_models import Method, Operation, Outcome

from ..integration.test_exit import DRIVERS, lines, run
from ..integration.test_races import switching
from ..integration.test_storm import Stormy, storm
from .campaign import Campaign

__all__ = ["switching"]  # a fixture for all tests here

CASES = Path(__file__).with_name("frontrun_cases.py")
ROOT = CASES.parents[2]
CREW = 8


@pytest.mark.skipif(sys.platform == "win32", reason="frontrun is not made for it")
def test_two_threads_in_every_order(campaign: Campaign, tmp_path: Path) -> None:
    """Each case was run, in more than one order, and held; with a lock taken out each is found broken."""
    report = tmp_path / "report.xml"
    # In a process of its own: the flag exchanges the locks of the whole process. Our own plugin would import the library,
    # and so make some of its locks, before that.
    plugin = [
        "-p",
        "frontrun",
        "--frontrun-patch-locks",
        "-p",
        "no:chained_models",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
    ]
    told = ["--junitxml", str(report), "-o", "junit_family=xunit1", "-q"]
    size = ["--campaign", campaign.level, "--campaign-seed", str(campaign.seed)]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, *told, *size, str(CASES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
    explored = {case.get("name"): int(_property(case, "explored")) for case in ET.parse(report).iter("testcase")}
    # What is skipped says nothing, and passes: so each case must have left its figure.
    assert {name for name in explored if name and name.startswith("test_holds")} == {
        f"test_holds[{strategy}-{name}]" for strategy in ("dpor", "random") for name in _names("CASES")
    }
    assert {name for name in explored if name and name.startswith("test_is_caught")} == {
        f"test_is_caught[{name}]" for name in _names("MUTANTS")
    }
    assert min(explored.values()) > 1
    campaign.report(cases=len(explored), orders_of_two_threads=sum(explored.values()))


def _property(case: ET.Element, name: str) -> str:
    assert case.find("skipped") is None and case.find("failure") is None and case.find("error") is None
    found = case.find(f"properties/property[@name='{name}']")
    assert found is not None, f"{case.get('name')} has not run"
    return found.get("value", "")


def _names(table: str) -> list[str]:
    from . import frontrun_cases

    return list(getattr(frontrun_cases, table))


class Known(Stormy):
    """Writes down what it has applied, by key, and what it was asked at once about one thing."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.asked: Counter[str] = Counter()
        self.applied: Counter[str] = Counter()
        self.overlaps: list[Any] = []
        self._running: Counter[Any] = Counter()
        self._counting = threading.Lock()

    def execute(self, operation: Operation) -> Any:
        with self._counting:
            self.asked[operation.idempotency_key] += 1
            self._running[operation.identity] += operation.identity is not None
            if self._running[operation.identity] > 1:
                self.overlaps.append(operation)
        try:
            answer = Stormy.execute(self, operation)  # it raises before anything would be applied
            with self._counting:
                self.applied[operation.idempotency_key] += 1
            return answer
        finally:
            with self._counting:
                self._running[operation.identity] -= operation.identity is not None


class AsyncKnown(Known):
    async def execute(self, operation: Operation) -> Any:
        return Known.execute(self, operation)


@pytest.mark.parametrize("kind", [Known, AsyncKnown])
def test_all_verbs_at_once(kind: type[Known], campaign: Campaign, caplog: pytest.LogCaptureFixture) -> None:
    """What was saved was applied, once; what has failed or was cancelled was not; no two attempts of one thing overlap."""
    caplog.set_level(logging.CRITICAL, "chained_models")
    said: Counter[str] = Counter()
    rounds, calls = campaign.pick((1, 300), (10, 1500), (25, 2000))
    for seed in range(campaign.seed, campaign.seed + rounds):
        backend = kind(seed)
        handles = set(storm(backend, seed, CREW, calls))
        outcomes: defaultdict[str, set[Outcome | None]] = defaultdict(set)
        for handle in handles:
            outcomes[handle.idempotency_key].add(handle.outcome)  # a retry by hand has the key of what it repeats
            said[handle.outcome.name.lower() if handle.outcome else "open"] += 1
            if handle.outcome is Outcome.CANCELLED:
                assert handle.attempts == 0
            if handle.outcome is Outcome.SAVED and handle.operation is not None and handle.method is not Method.DELETE:
                assert backend.applied[handle.idempotency_key] == 1, handle
        for key, ends in outcomes.items():
            assert backend.applied[key] <= 1
            if ends <= {Outcome.FAILED, Outcome.CANCELLED}:
                assert backend.applied[key] == 0
        assert backend.asked.keys() <= outcomes.keys()
        assert backend.overlaps == []
    assert said["open"] == 0
    campaign.report(kind=kind.__name__, storms=rounds, verbs=rounds * calls * CREW, **dict(sorted(said.items())))


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timers here")
def test_a_storm_of_signals(campaign: Campaign, tmp_path: Path) -> None:
    """The handler saves in the middle of anything: nothing hangs, and what was accepted arrives, in order."""
    accepted = busy = refused = 0
    seconds = campaign.pick(0.5, 10, 30)
    for driver in DRIVERS:
        path = tmp_path / driver
        ended = run(sys.executable, driver, "handler", path, exit_timeout=60, storm=seconds)
        assert ended.returncode == 0, ended.stderr
        words = ended.stdout.split()
        assert lines(path, "handler") == [f"handler {n}" for n in range(int(words[1]))]
        assert lines(path, "busy") == [f"busy {n}" for n in range(int(words[3]))]
        assert int(words[1]) > 0
        accepted, busy, refused = accepted + int(words[1]), busy + int(words[3]), refused + int(words[5])
    campaign.report(saves_in_handlers=accepted, refused_there=refused, saves_meanwhile=busy)
