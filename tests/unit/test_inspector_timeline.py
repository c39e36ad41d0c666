"""The timeline as a file: the Chrome trace-event format, checked against a schema that follows its document."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from chained_models import (
    Answer,
    CallChain,
    ChainedSaveMixin,
    Dispatcher,
    Lane,
    Rejected,
    RetryPolicy,
    Turn,
    Unavailable,
)
from chained_models.inspector._history import History
from chained_models.inspector._timeline import chrome_trace
from chained_models.testing import Harness, ScriptedBackend

SCHEMA = jsonschema_rs.validator_for(
    json.loads(Path(__file__).parents[1].joinpath("trace_event_format.json").read_text())
)


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int


@dataclasses.dataclass
class Odd(ChainedSaveMixin):
    """In chains with names that nobody would choose."""

    id: int
    cart: Any


ODD = ["", "\ud800", "\x00\x1b[2J\u2028\u202e", "x" * 100_000, "</script>", 10**5_000, ("a", 1), frozenset(), True]


class Batching(ScriptedBackend):
    """Carries out several at once, and some of them not."""

    def execute_many(self, operations: Any) -> list[Any]:
        return [Rejected("canary") if one.identity == 13 else Answer() for one in operations]


def bars(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


@pytest.fixture
def chained() -> Iterator[Harness]:
    backend = Batching()
    backend.lane = Lane(max_in_flight=1)
    with Harness(backend) as harness:
        Order.bind(
            harness.backend,
            identity_by="client",
            retry=RetryPolicy(attempts=3, wait_initial=1.0, wait_jitter=0.0),
            timeout=5.0,
        )
        Odd.bind(harness.backend, identity_by="client", ordering_key="cart")
        yield harness


@pytest.fixture
def trace(chained: Harness) -> dict[str, Any]:
    """With retries, a batch of which one fails, an attempt that was given up, one that runs, and odd names."""
    history = History(chained.dispatcher)
    chained.backend.fail(Unavailable("canary"), times=2)
    Order(1).save()
    chained.advance(60)
    chained.backend.hold()
    Order(2).save()
    for number in (12, 13, 14):
        Order(number).save()
    chained.backend.release()
    for number, name in enumerate(ODD, 20):
        Odd(number, name).save()
    turns: list[Turn] = []
    calls = CallChain(lambda item, turn: turns.append(turn), manual=True, dispatcher=chained.dispatcher)
    calls.add("canary", name="\ud800")
    chained.backend.hold()
    Order(99).save()
    made = chrome_trace(history)
    chained.backend.release()
    history.close()
    turns[0].done()
    return made


def test_it_is_as_the_format_wants_it(trace: dict[str, Any]) -> None:
    """Every event of it, and the whole; after it was sent, and came back."""
    sent = json.dumps(trace, allow_nan=False)
    errors = [error.message for error in SCHEMA.iter_errors(json.loads(sent))]
    assert errors == [] and "canary" not in sent
    assert {bar["cat"] for bar in bars(trace)} == {"done", "failed", "running"}


def test_its_threads_are_the_chains(trace: dict[str, Any]) -> None:
    """Each bar is of a thread that has a name, one name each; on a thread no two bars overlap."""
    named = [event["tid"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert len(named) == len(set(named)) and {bar["tid"] for bar in bars(trace)} <= set(named)
    for _, one in groupby(sorted(bars(trace), key=lambda bar: (bar["tid"], bar["ts"])), key=lambda bar: bar["tid"]):
        those = list(one)
        for before, after in pairwise(those):
            assert before["ts"] + before["dur"] <= after["ts"]


def test_what_failed_within_a_batch(trace: dict[str, Any]) -> None:
    """Is a bar of its own, with its own error."""
    together = [(bar["args"]["error"], bar["cat"]) for bar in bars(trace) if bar["args"]["together"] == 3]
    assert together == [(None, "done"), ("Rejected", "failed"), (None, "done")]


def test_a_given_up_attempt_ends_where_the_next_begins() -> None:
    """It may still run: but a thread does one thing after the other, and so its bar ends when nobody waits for it any more."""
    now = [100.0]
    turns: list[Turn] = []
    with Dispatcher("inline") as dispatcher:
        calls = CallChain(lambda item, turn: turns.append(turn), manual=True, dispatcher=dispatcher)
        history = History(dispatcher, lambda: now[0])
        calls.add(1)
        (row,) = history
        (box,) = row.boxes
        box.attempts[0].left_open = False  # as one that a thread makes
        now[0] = 105.0
        turns[0].done()
        assert box.attempts[0].ended is None
        (bar,) = bars(chrome_trace(history))
        assert (bar["cat"], bar["ts"], bar["dur"]) == ("abandoned", 100_000_000, 5_000_000)
        now[0] = box.attempts[0].ended = 107.0
        assert bars(chrome_trace(history)) == [bar]
        history.close()


BAR = {"ph": "X", "name": "save 1", "cat": "done", "pid": 1, "tid": 2, "ts": 1, "dur": 1, "args": {}}
NAME = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "Order 1"}}


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (BAR, {"ph": "x"}), (BAR, {"ts": "1"}), (BAR, {"dur": -1}), (BAR, {"dur": None}), (BAR, {"tid": "Order 1"}),
        (BAR, {"args": []}), (BAR, {"more": 1}), (BAR, {"name": 1}), (BAR, {"ph": "i"}), (NAME, {"name": "thread"}),
        (NAME, {"args": {"name": 1}}), (NAME, {"args": {}}), (NAME, {"pid": 1.5}),
    ],
)  # fmt: skip
def test_the_schema_is_one(event: dict[str, Any], change: dict[str, Any]) -> None:
    """It takes the two kinds of events that are written, and none that differs from them in one point."""
    assert SCHEMA.is_valid({"traceEvents": [event]}) and SCHEMA.is_valid({"traceEvents": [], "displayTimeUnit": "ms"})
    assert not SCHEMA.is_valid({"traceEvents": [{**copy.deepcopy(event), **change}]})
    assert not SCHEMA.is_valid([event]) and not SCHEMA.is_valid({"displayTimeUnit": "ms"})


def test_only_the_latest_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks for what it draws: attempts that have run since then, those that still do, and no older ones."""
    with Harness(ScriptedBackend()) as chained:
        Order.bind(chained.backend, identity_by="client")
        moment = 1_000.0
        history = History(chained.dispatcher, lambda: moment)
        Order(1).save()
        chained.backend.hold()
        Order(2).save()
        moment += 60
        chained.backend.release(Order(2).chain.in_flight)
        Order(3).save()
        moment += 5

        def shown(seconds: float) -> list[str]:
            return [one["name"] for one in chrome_trace(history, seconds)["traceEvents"] if one["ph"] == "X"]

        assert shown(math.inf) == ["save 1", "save 2", "save 3"]
        assert shown(30) == ["save 2", "save 3"]
        assert shown(0) == ["save 3"]
        chained.backend.release()
        history.close()
