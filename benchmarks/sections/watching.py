"""What it costs to be watched, and what it costs not to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chained_models import Dispatcher, Outcome, telemetry
from chained_models.inspector._history import History
from findings import Claim, Findings, compared
from measure import Bench, WrongResult, stopwatch
from models import Flat, dispatching, flats

CHAINS = 1_000
NEVER = "nobody ever has"

TITLE = "Being watched"
TEXT = f"""\
The whole way of a `save()` of a flat pydantic model with the inline driver and a backend that does nothing, {CHAINS:,} chains: while
nobody watches and nobody has; after telemetry was turned on and off again; with telemetry for which no SDK is there; with one that keeps
its spans in memory; and with the inspector noting what happens. While somebody watches, each save goes the general way, of which a plain one is else spared most."""
CLAIMS: list[Claim] = []


def run(bench: Bench) -> Findings:
    """All of them in turn."""
    each = bench.of(20, 1)
    ways: dict[str, Callable[[Dispatcher], AbstractContextManager[Any]]] = {
        NEVER: lambda _: nullcontext(),
        "nobody any more": lambda _: no_more(),
        "telemetry without an SDK": lambda _: told(None),
        "telemetry, spans in memory": lambda _: told(provider()),
        "the inspector": noted,
    }
    measured = bench.interleaved("being watched", {name: partial(saving, way, each) for name, way in ways.items()})
    return Findings(tables=[compared("", measured, NEVER, "µs a save", 1e6)])


def saving(watched: Callable[[Dispatcher], AbstractContextManager[Any]], each: int) -> float:
    """Seconds of a save."""
    with dispatching("inline", Flat) as dispatcher, watched(dispatcher):
        models = flats(CHAINS)
        with stopwatch() as watch:
            handles = [model.save() for _ in range(each) for model in models]
            for handle in handles:
                handle.result()
        if {handle.outcome for handle in handles} != {Outcome.SAVED}:
            raise WrongResult("not every save was saved")
    return watch.seconds / len(handles)


@contextmanager
def told(provider: TracerProvider | None) -> Iterator[None]:
    telemetry.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        telemetry.uninstrument()


@contextmanager
def no_more() -> Iterator[None]:
    with told(None):
        pass
    yield


@contextmanager
def noted(dispatcher: Dispatcher) -> Iterator[None]:
    history = History(dispatcher)
    try:
        yield
    finally:
        history.close()


def provider() -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return made
