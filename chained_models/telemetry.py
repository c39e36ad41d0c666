"""Telemetry: spans and metrics by OpenTelemetry, of everything that this process saves.

    from chained_models import telemetry

    telemetry.instrument()

The names are those of the semantic conventions for messaging, for that is what a save is: `save()` sends it, an attempt processes
it, later and most often in another thread. So the span of an attempt is linked to that of the call, and is no child of it; what the
backend does (an HTTP request, a statement) is a child of the attempt, if its own library is instrumented.

No attribute of a model, and no text of an error, is told to anybody. Also the standard library's log records are marked here.

Source of the names: https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import _observing
from ._future import Handle
from .exceptions import InvalidOption, MissingExtra

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanContext, TracerProvider

    from .events import SaveEvent

__all__ = ["Telemetry", "Trace", "active", "instrument", "uninstrument", "watch"]

logger = logging.getLogger("chained_models")

SYSTEM = "chained_models"

_ENDS = frozenset({"sync", "error", "abandoned", "superseded", "cancelled"})


class Trace(NamedTuple):
    """Where and when a save was asked for."""

    span: SpanContext
    """That of the call."""
    since: float
    """When, by :func:`time.monotonic`."""


class Watched(Protocol):
    """What is asked of a dispatcher."""

    def unsettled(self) -> Iterable[Handle[Any]]:
        """Every save that is not settled."""
        ...

    def lanes(self) -> Iterable[Mapping[str, Any]]:
        """What every lane in use is at."""
        ...


_watched: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""All dispatchers of the process, by their `id`. No set: one may be made in another thread while this is gone through."""


def watch(dispatcher: Watched) -> None:
    """For the dispatcher: let it be counted, as long as it lives."""
    _watched[id(dispatcher)] = dispatcher


def _dispatchers() -> list[Watched]:
    return [one for reference in _watched.valuerefs() if (one := reference()) is not None]


class _Attempt:
    """The span of one attempt, which is the current one until it ends."""

    def __init__(self, telemetry: Telemetry, saves: Sequence[Handle[Any]]) -> None:
        self._telemetry = telemetry
        self._about = _about(saves[0])
        trace, context = telemetry._trace, telemetry._context
        self._span = telemetry._tracer.start_span(
            f"process {saves[0].destination}",
            context=context.Context(),  # linked to the calls, and no child of whatever they were in
            kind=trace.SpanKind.CONSUMER,
            links=[trace.Link(save.trace.span) for save in saves if save.trace is not None],
            attributes={
                **self._about,
                "messaging.operation.type": "process",
                "chained_models.attempt": max(save.attempts for save in saves),
                **_which(saves),
            },
        )
        self._begun = time.monotonic()
        for save in saves:
            if save.attempts == 1 and save.trace is not None:
                telemetry._waited.record(self._begun - save.trace.since, _about(save))
        self._token = context.attach(trace.set_span_in_context(self._span))

    def ends(self, error: str | None, *, here: bool) -> None:
        """It is over; `error` is the type of what it raised, `here` whether the context is that in which it began."""
        telemetry = self._telemetry
        if here:
            telemetry._context.detach(self._token)
        failed = {} if error is None else {"error.type": error}
        if error is not None:
            self._span.set_attributes(failed)
            self._span.set_status(telemetry._trace.StatusCode.ERROR)
        self._span.end()
        telemetry._processed.record(time.monotonic() - self._begun, {**self._about, **failed})


class Telemetry:
    """What tells of saves. Made by :func:`instrument`.

    Args:
        tracer_provider: Where the spans go; None for the global one.
        meter_provider: Where the metrics go; None for the global one.
    """

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        try:
            self._trace: Any = import_module("opentelemetry.trace")
            self._context: Any = import_module("opentelemetry.context")
            self._metrics: Any = import_module("opentelemetry.metrics")
        except ImportError as error:
            raise MissingExtra("opentelemetry-api", "otel") from error
        self._meter_provider = meter_provider
        self._tracer = self._trace.get_tracer(SYSTEM, tracer_provider=tracer_provider)
        meter = self._metrics.get_meter(SYSTEM, meter_provider=meter_provider)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Saves that were asked for."
        )
        self._ended = meter.create_counter(
            "chained_models.save.outcomes", unit="{message}", description="Saves that were settled, by their outcome."
        )
        self._waited = meter.create_histogram(
            "chained_models.save.wait", unit="s", description="From the call to the first attempt."
        )
        self._processed = meter.create_histogram(
            "messaging.process.duration", unit="s", description="How long attempts took."
        )
        # Asked for, not counted up and down: whoever begins or ends to tell while a lane is congested would be wrong for ever.
        meter.create_observable_up_down_counter(
            "chained_models.lane.congested",
            [self._asked(Telemetry._congested)],
            unit="{lane}",
            description="Lanes that are congested.",
        )
        meter.create_observable_gauge(
            "chained_models.chain.depth",
            [self._asked(Telemetry._depths)],
            unit="{message}",
            description="Saves that are not settled.",
        )
        meter.create_observable_gauge(
            "chained_models.chain.age",
            [self._asked(Telemetry._ages)],
            unit="s",
            description="How long the oldest save has waited.",
        )

    def _asked(self, look: Callable[[Telemetry], Iterator[Observation]]) -> Callable[..., Iterable[Observation]]:
        """What is called for a metric that is asked for: it tells as long as anybody tells this provider.

        Not a method of ours: of two instruments of one name a provider calls that of before, and never ours.
        """
        provider = self._meter_provider

        def observed(options: CallbackOptions) -> Iterable[Observation]:
            telling = active
            return () if telling is None or telling._meter_provider is not provider else look(telling)

        return observed

    # Spans

    def accepted(self, save: Handle[Any]) -> None:
        """A save was asked for, in the present context."""
        about = _about(save)
        span = self._tracer.start_span(
            f"send {save.destination}",
            kind=self._trace.SpanKind.PRODUCER,
            attributes={**about, "messaging.operation.type": "send", **_which([save])},
        )
        # First of all, for its attempt may begin meanwhile, in another thread; to end a span may take as long as to send it somewhere.
        save.trace = Trace(span.get_span_context(), time.monotonic())
        span.end()
        self._sent.add(1, about)

    def begins(self, saves: Sequence[Handle[Any]]) -> _Attempt:
        """An attempt begins, of one save or of several at once; its span is the current one until it ends."""
        return _Attempt(self, saves)

    def ends(self, begun: _Attempt, error: str | None, *, here: bool) -> None:
        """That attempt is over."""
        begun.ends(error, here=here)

    # Metrics

    def told(self, event: SaveEvent) -> None:
        """Something has happened to a save: it has ended, say."""
        if event.name in _ENDS and (outcome := event.save.outcome) is not None:
            self._ended.add(1, {**_about(event.save), "chained_models.outcome": outcome.value})

    def _congested(self) -> Iterator[Observation]:
        lanes = {lane["id"] for dispatcher in _dispatchers() for lane in dispatcher.lanes() if lane["congested"]}
        yield self._metrics.Observation(len(lanes), {"messaging.system": SYSTEM})

    def _depths(self) -> Iterator[Observation]:
        for destination, depth, _ in self._counted():
            yield self._metrics.Observation(depth, _named(destination))

    def _ages(self) -> Iterator[Observation]:
        now = time.monotonic()
        for destination, _, since in self._counted():
            if since is not None:
                yield self._metrics.Observation(now - since, _named(destination))

    def _counted(self) -> list[tuple[str, int, float | None]]:
        counted: dict[str, tuple[int, float | None]] = {}
        for save in (save for dispatcher in _dispatchers() for save in dispatcher.unsettled()):
            depth, earliest = counted.get(save.destination, (0, None))
            known = [one for one in (earliest, None if save.trace is None else save.trace.since) if one is not None]
            counted[save.destination] = (depth + 1, min(known, default=None))
        return [(destination, *facts) for destination, facts in counted.items()]


active: Telemetry | None = None
"""What is told of saves now; None, as long as nobody has asked for it, and then nothing is done for it."""


def instrument(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Telemetry:
    """From now on, tell OpenTelemetry of all saves of this process.

    Args:
        tracer_provider: Where the spans go; None for the global one.
        meter_provider: Where the metrics go; None for the global one.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
        InvalidOption: It is told of them already.
    """
    global active  # noqa: PLW0603 - one process, one telemetry
    if active is not None:
        raise InvalidOption("saves are told of already: call telemetry.uninstrument() first")
    made = Telemetry(tracer_provider, meter_provider)
    _observing.add(made)
    active = made
    return made


def uninstrument() -> None:
    """Tell of saves no more. Does nothing if they are not told of."""
    global active
    made, active = active, None
    if made is not None:
        _observing.remove(made)


def _named(destination: str) -> dict[str, Any]:
    return {"messaging.system": SYSTEM, "messaging.destination.name": destination}


def _about(save: Handle[Any]) -> dict[str, Any]:
    return {**_named(save.destination), "messaging.operation.name": save.action}


def _which(saves: Sequence[Handle[Any]]) -> dict[str, Any]:
    if len(saves) > 1:
        return {"messaging.batch.message_count": len(saves)}
    return {"messaging.message.id": saves[0].id, "chained_models.seq": saves[0].seq}


class _Marked(logging.Filter):
    """Gives a log record that begins with a save the facts by which it can be found: never a value of its model."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and record.args and isinstance(save := record.args[0], Handle):
            record.save_id, record.save_seq = save.id, save.seq
            record.save_type = type(save.subject).__qualname__
        return True


logger.addFilter(_Marked())
