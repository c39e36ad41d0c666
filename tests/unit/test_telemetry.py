"""What OpenTelemetry is told: spans, links and metrics, by its own SDK."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from chained_models import (
    Answer,
    CallChain,
    ChainedSaveMixin,
    Coalesce,
    Dispatcher,
    Guarantee,
    InvalidOption,
    Lane,
    OnFailure,
    Operation,
    Outcome,
    Rejected,
    RetryPolicy,
    Unavailable,
    telemetry,
)
from chained_models.testing import Harness, ScriptedBackend


class Told:
    """What was told, by kind."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader])

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if kind is None or span.kind is kind]

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        points: Any = [point for metric in found for point in metric.data.data_points]
        return [
            (dict(point.attributes), getattr(point, "value", None) or getattr(point, "count", 0)) for point in points
        ]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
    yield told
    telemetry.uninstrument()


@dataclasses.dataclass
class Order(ChainedSaveMixin):
    id: int | None = None
    secret: str = "canary"


def bound(backend: Any) -> None:
    Order.bind(
        backend,
        resource="orders",
        identity_by="client",
        retry=RetryPolicy(attempts=2, wait_initial=1.0, wait_jitter=0.0),
    )


def test_a_save_and_its_attempt(told: Told) -> None:
    """The call is a producer, in the caller's span; the attempt is a consumer, linked to it and in a trace of its own."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()), told.traces.get_tracer("test").start_as_current_span("caller") as caller:
        handle = Order(id=1).save()
    (send,) = told.spans(SpanKind.PRODUCER)
    (process,) = told.spans(SpanKind.CONSUMER)
    assert send.name == "send orders" and process.name == "process orders"
    assert send.parent is not None and send.parent.span_id == caller.get_span_context().span_id
    assert process.parent is None
    assert [link.context for link in process.links] == [send.context]
    assert dict(send.attributes or {}) == {
        "messaging.system": "chained_models",
        "messaging.destination.name": "orders",
        "messaging.operation.name": "save",
        "messaging.operation.type": "send",
        "messaging.message.id": handle.id,
        "chained_models.seq": handle.seq,
    }
    assert (process.attributes or {})["chained_models.attempt"] == 1


def test_each_attempt_has_its_span(told: Told) -> None:
    """A retry is another span, linked to the same call; the one that failed says with what kind of error, and not its text."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        chained.backend.fail(Unavailable("canary"), times=1)
        Order(id=1).save()
        chained.advance(10)
    first, second = told.spans(SpanKind.CONSUMER)
    assert first.status.status_code is StatusCode.ERROR and not first.status.description and not first.events
    assert (first.attributes or {})["error.type"] == "Unavailable"
    assert (second.attributes or {})["chained_models.attempt"] == 2 and second.status.status_code is StatusCode.UNSET
    assert first.links[0].context == second.links[0].context


def test_no_values_are_told(told: Told) -> None:
    """Neither a span nor a metric holds a value of the model."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        chained.backend.fail(Rejected("canary"))
        Order(id=1).save()
        Order(id=1, secret="canary").save()
    assert "canary" not in "".join(span.to_json() for span in told.spans())
    assert "canary" not in str([told.metric(name) for name in NAMES])


NAMES = (
    "messaging.client.sent.messages",
    "chained_models.save.outcomes",
    "chained_models.save.wait",
    "messaging.process.duration",
    "chained_models.lane.congested",
    "chained_models.chain.depth",
    "chained_models.chain.age",
)


@pytest.mark.parametrize("driver", ["inline", "threads"])
def test_what_the_backend_does_is_within_the_attempt(told: Told, driver: str) -> None:
    """While a backend works, the span of the attempt is the current one; after it, the caller's is so again."""
    seen: list[Any] = []

    class Backend:
        guarantee = Guarantee.PLAIN

        def execute(self, operation: Operation) -> None:
            seen.append(trace.get_current_span().get_span_context())

    with Dispatcher(driver) as dispatcher:
        Order.bind(Backend(), resource="orders", dispatcher=dispatcher)
        Order(id=1).save().result()
        assert not trace.get_current_span().get_span_context().is_valid
    assert [span.context for span in told.spans(SpanKind.CONSUMER)] == seen


def test_in_an_event_loop(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the backend waits, and many do at once, each has its own span."""
    seen: dict[str, Any] = {}

    class Backend:
        guarantee = Guarantee.PLAIN

        async def execute(self, operation: Operation) -> None:
            before = trace.get_current_span().get_span_context()
            await asyncio.sleep(0)
            assert trace.get_current_span().get_span_context() == before
            seen[operation.id] = before.span_id

    async def save_all() -> None:
        async with Dispatcher("asyncio") as dispatcher:
            Order.bind(Backend(), resource="orders", dispatcher=dispatcher)
            await asyncio.gather(*[Order(id=number).save() for number in range(20)])

    asyncio.run(save_all())
    spans = {
        (span.attributes or {})["messaging.message.id"]: span.context.span_id for span in told.spans(SpanKind.CONSUMER)
    }
    assert spans == seen and len(set(seen.values())) == 20
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_batch_is_one_span(told: Told) -> None:
    """Saves that share an attempt share its span, which is linked to each of their calls."""

    class Gathering:
        guarantee = Guarantee.PLAIN

        def __init__(self) -> None:
            self.lane = Lane()

        def execute(self, operation: Operation) -> None:
            """Nothing."""

        def execute_many(self, operations: Any) -> list[Answer]:
            return [Answer() for _ in operations]

    backend = Gathering()
    with Dispatcher("inline") as dispatcher:
        Order.bind(backend, resource="orders", dispatcher=dispatcher)
        backend.lane.pause()
        for number in range(3):
            Order(id=number).save()
        backend.lane.resume()
    (process,) = told.spans(SpanKind.CONSUMER)
    assert (process.attributes or {})["messaging.batch.message_count"] == 3
    linked = [link.context.span_id for link in process.links]
    assert linked == [span.context.span_id for span in told.spans(SpanKind.PRODUCER) if span.context is not None]


def test_metrics(told: Told) -> None:
    """How many were asked for, waited, were tried and ended how; and how many are on their way now."""
    bound(ScriptedBackend())
    orders = {"messaging.system": "chained_models", "messaging.destination.name": "orders"}
    save = {**orders, "messaging.operation.name": "save"}
    with Harness(ScriptedBackend()) as chained:
        chained.backend.fail(Rejected("no"), times=1)
        Order(id=1).save()
        Order(id=2).save()
        chained.backend.hold()
        order = Order(id=3)
        held = [order.save(), order.save()]
        depths = [point for point in told.metric("chained_models.chain.depth") if point[0] == orders]
        assert depths == [(orders, 2)]
        (age,) = [age for about, age in told.metric("chained_models.chain.age") if about == orders]
        assert age >= 0
        chained.backend.release()
        assert [one.outcome for one in held] == [Outcome.SAVED] * 2
    assert told.metric("messaging.client.sent.messages") == [(save, 4)]
    outcomes = {
        about["chained_models.outcome"]: number for about, number in told.metric("chained_models.save.outcomes")
    }
    assert outcomes == {"failed": 1, "saved": 3}
    assert told.metric("chained_models.save.wait") == [(save, 4)]
    failed, well = sorted(told.metric("messaging.process.duration"), key=lambda point: point[1])
    assert failed == ({**save, "error.type": "Rejected"}, 1) and well == (save, 3)


def test_calls_are_told_of_as_well(told: Told) -> None:
    """What a CallChain carries out has a span of each attempt, named after its worker."""

    def send(item: int) -> None:
        """Nothing."""

    with Dispatcher("inline") as dispatcher:
        CallChain(send, dispatcher=dispatcher).add(1)
    (process,) = told.spans(SpanKind.CONSUMER)
    assert process.name.endswith("send")


def test_only_one_at_a_time(told: Told) -> None:
    """A second telemetry would tell everything twice, and is refused."""
    with pytest.raises(InvalidOption, match="uninstrument"):
        telemetry.instrument()


def test_nothing_is_told_any_more() -> None:
    """After `uninstrument()` neither spans nor numbers come."""
    told = Told()
    telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
    telemetry.uninstrument()
    telemetry.uninstrument()
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        chained.backend.hold()
        Order(id=1).save()
        assert told.metric("chained_models.chain.depth") == []
        chained.backend.release()
    assert not told.spans() and not told.metric("chained_models.save.outcomes")


def test_what_it_raises_stops_nothing(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A library that fails to note a save is logged; the save goes on."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no more spans")

    assert telemetry.active is not None
    monkeypatch.setattr(telemetry.active._tracer, "start_span", fails)
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()):
        assert Order(id=1).save().outcome is Outcome.SAVED
    assert len([record for record in caplog.records if "could not be told of" in record.message]) == 2


def test_nothing_is_imported_for_it() -> None:
    """Who does not ask for telemetry does not load OpenTelemetry."""
    code = "import sys, chained_models; chained_models.ChainedSaveMixin; print('opentelemetry' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_what_is_logged_can_be_found(caplog: pytest.LogCaptureFixture) -> None:
    """A log record of a save has its id, type and number as attributes, and no value of its model."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        chained.backend.fail(Rejected("canary"))
        handle = Order(id=1).save()
    (record,) = caplog.records
    assert (record.save_id, record.save_type, record.save_seq) == (handle.id, "Order", handle.seq)  # type: ignore[attr-defined]
    assert "canary" not in str(record.__dict__)


def test_lanes_that_are_congested_now(told: Told) -> None:
    """Whoever begins to tell, or ends, while one is congested tells the truth before and after."""
    backend = ScriptedBackend()
    backend.lane = Lane(4, long_after=1.0, max_long=1)
    system = {"messaging.system": "chained_models"}
    telemetry.uninstrument()
    with Harness(backend) as chained:
        bound(chained.backend)
        chained.backend.hold()
        Order(id=1).save()
        chained.advance(2)
        telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
        assert told.metric("chained_models.lane.congested") == [(system, 1)]
        telemetry.uninstrument()
        chained.backend.release()
        telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
        assert told.metric("chained_models.lane.congested") == [(system, 0)]


def test_begun_anew_with_the_same_providers(told: Told) -> None:
    """What is asked for is told once, by whoever tells now."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        chained.backend.hold()
        Order(id=1).save()
        for _ in range(2):
            telemetry.uninstrument()
            telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
        depths = [
            depth
            for about, depth in told.metric("chained_models.chain.depth")
            if about["messaging.destination.name"] == "orders"
        ]
        assert depths == [1]
        other = Told()
        telemetry.uninstrument()
        telemetry.instrument(tracer_provider=other.traces, meter_provider=other.meters)
        assert told.metric("chained_models.chain.depth") == [] and other.metric("chained_models.chain.depth")
        chained.backend.release()


def test_dispatchers_that_are_made_meanwhile(told: Told) -> None:
    """Numbers can be asked for while other threads make dispatchers."""
    over = threading.Event()
    made: list[Dispatcher] = []

    def make() -> None:
        while not over.is_set():
            made.append(Dispatcher("inline"))

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=make)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(300):
            telemetry._dispatchers()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert {id(one) for one in made} <= {id(one) for one in telemetry._dispatchers()}


class Slow(SpanProcessor):
    """Is still sending the span of a call somewhere while the attempt begins."""

    def __init__(self, go_on: threading.Event) -> None:
        self._go_on = go_on
        self.links: list[Any] = []
        self._begun = threading.Event()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if span.kind is SpanKind.CONSUMER:
            self.links.append(span.links)
            self._begun.set()

    def on_end(self, span: ReadableSpan) -> None:
        if span.kind is SpanKind.PRODUCER:
            self._go_on.set()
            self._begun.wait(10)


def test_an_attempt_that_begins_while_the_call_is_told() -> None:
    """Is linked to it all the same: another thread, which has just finished the save in front, need not wait for that."""
    started, go_on = threading.Event(), threading.Event()

    class Held:
        def execute(self, operation: Operation) -> None:
            started.set()
            go_on.wait(10)

    with Dispatcher("threads") as dispatcher:
        Order.bind(Held(), resource="orders", identity_by="client", dispatcher=dispatcher)
        order = Order(id=1)
        order.save()
        started.wait(10)
        slow = Slow(go_on)
        provider = TracerProvider()
        provider.add_span_processor(slow)
        telemetry.instrument(tracer_provider=provider)
        try:
            order.save().result(10)
        finally:
            telemetry.uninstrument()
    assert [len(links) for links in slow.links] == [1]


class Rude(SpanProcessor):
    """Raises at the begin or the end of each span."""

    def __init__(self, when: str) -> None:
        self._when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._when == "start":
            raise RuntimeError("not today")

    def on_end(self, span: ReadableSpan) -> None:
        if self._when == "end":
            raise RuntimeError("not today")


@pytest.mark.parametrize("when", ["start", "end", "unsampled", "without an SDK"])
def test_whatever_the_provider_does(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises, samples nothing, or is none at all: saves go on, and nothing of them stays in the caller's context."""
    provider: Any = TracerProvider(sampler=ALWAYS_OFF if when == "unsampled" else None)
    if when == "without an SDK":
        provider = trace.NoOpTracerProvider()
    elif when != "unsampled":
        provider.add_span_processor(Rude(when))
    told = Told()
    telemetry.instrument(tracer_provider=provider, meter_provider=told.meters)
    try:
        bound(ScriptedBackend())
        with Harness(ScriptedBackend()) as chained:
            chained.backend.fail(Unavailable("canary"), times=1)
            handle = Order(id=1).save()
            chained.advance(10)
            assert handle.outcome is Outcome.SAVED
        assert trace.get_current_span() is trace.INVALID_SPAN and "canary" not in caplog.text
        assert bool(caplog.records) == (when in ("start", "end"))
        assert [number for _, number in told.metric("chained_models.save.outcomes")] == [1]
    finally:
        telemetry.uninstrument()


def test_who_begins_and_ends_while_saves_run(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """Attempts that have begun are told to their end, others not at all; every save is carried out."""
    with Dispatcher("threads") as dispatcher:
        Order.bind(ScriptedBackend(), identity_by="client", dispatcher=dispatcher, resource="orders")
        handles = []
        for number in range(40):
            telemetry.uninstrument()
            handles += [Order(id=number % 4).save()]
            telemetry.instrument(tracer_provider=told.traces, meter_provider=told.meters)
            handles += [Order(id=number % 4).save()]
        dispatcher.flush(30)
    assert {handle.outcome for handle in handles} == {Outcome.SAVED} and not caplog.records
    assert len(told.spans(SpanKind.PRODUCER)) == 40
    assert all(span.end_time is not None for span in told.spans())


def test_as_many_as_are_asked_for_end(told: Told) -> None:
    """Whatever becomes of a save, replaced, taken out, failed, sent again by hand, given up at the end: it is counted once."""
    bound(ScriptedBackend())
    with Harness(ScriptedBackend()) as chained:
        order = Order(id=1)
        order.save()
        order.chain.update(coalesce=Coalesce.LATEST, on_failure=OnFailure.HALT)
        chained.backend.hold()
        for _ in range(4):
            order.save()
        order.save().cancel()
        chained.backend.release()
        chained.backend.fail(Rejected("no"), times=1)
        order.save()
        order.save()
        order.chain.retry()
        order.delete()
        order.delete()
        other = Order(id=2)
        other.chain.pause()
        other.save()
        other.chain.clear()
    sent = sum(number for _, number in told.metric("messaging.client.sent.messages"))
    assert sent == sum(number for _, number in told.metric("chained_models.save.outcomes")) == 12


def test_a_worker_with_arguments_of_its_own(told: Told) -> None:
    """It goes by the name of its function: there are not as many destinations as calls, and none tells what it was given."""

    def send(item: Any, password: str = "") -> None:
        """Nothing."""

    with Dispatcher("inline") as dispatcher:
        calls = CallChain(partial(partial(send), password="canary"), dispatcher=dispatcher)
        calls.add(1)
        for number in range(3):
            calls.add(partial(send, number))
    assert {span.name.rpartition(".")[2] for span in told.spans()} == {"send"}


@pytest.mark.parametrize("args", [(), ("a save",), ({"a": 1},), (None, 7)])
def test_other_records_are_left_as_they_are(args: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    """Only a record that begins with a save is marked."""
    logging.getLogger("chained_models").warning(("said", "said %s", "said %s %s")[len(args)], *args)
    (record,) = caplog.records
    assert not hasattr(record, "save_id") and record.getMessage().startswith("said")
