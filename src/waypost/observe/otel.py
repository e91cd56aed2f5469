"""OpenTelemetry: traces, metrics and logs over OTLP/HTTP. Imported only where it is switched on (extra `otel`).

The flow never waits for the collector. Spans and log records go into bounded queues that threads of the SDK empty; a
queue that is full loses its oldest.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import structlog
from msgspec import structs
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from structlog.typing import EventDict

from waypost import __version__
from waypost.core.incarnations import id_of
from waypost.core.model import Delivery, Destination, Event
from waypost.observe.logs import Journal, JsonJournal
from waypost.observe.metrics import Metrics, PrometheusMetrics
from waypost.observe.telemetry import Options, Telemetry
from waypost.observe.tracing import A, Headers, R, context_of


class Exporter(Protocol):
    def shutdown(self) -> None: ...


E = TypeVar("E", bound=Exporter)

_QUEUE = 8_192
_SECONDS_TO_EXPORT = 10.0
_SECONDS_BETWEEN_NUMBERS = 15.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0

_log = structlog.get_logger("waypost")
_sdk_log = logging.getLogger("opentelemetry")


def start(options: Options, endpoint: str, untraced: Telemetry, metrics: Metrics) -> Telemetry:
    """Export to the collector at this URL what the options say; the rest stays as it is untraced."""
    resource = Resource.create({"service.name": options.service_name, "service.version": __version__})
    tracer, journal = untraced.tracer, untraced.journal
    ends: list[Callable[[], None]] = []
    exporters: list[Exporter] = []
    _sdk_log.handlers, _sdk_log.propagate = [_Complaints()], False

    def exporter(kind: Callable[..., E], signal: str) -> E:
        url = f"{endpoint.rstrip('/')}/v1/{signal}"
        made = kind(endpoint=url, headers=options.headers, timeout=_SECONDS_TO_EXPORT)
        exporters.append(made)
        return made

    if options.traces:
        sampler = ParentBased(TraceIdRatioBased(options.sample_ratio))
        spans = TracerProvider(sampler, resource, shutdown_on_exit=False)
        spans.add_span_processor(BatchSpanProcessor(exporter(OTLPSpanExporter, "traces"), _QUEUE, 1_000))
        tracer = OtelTracer(spans.get_tracer("waypost", __version__))
        ends.append(spans.shutdown)
    if options.metrics and isinstance(metrics, PrometheusMetrics):
        ends.append(_Numbers(metrics, exporter(OTLPMetricExporter, "metrics"), resource).close)
    if options.logs:
        records = LoggerProvider(resource, shutdown_on_exit=False)
        records.add_log_record_processor(
            BatchLogRecordProcessor(exporter(OTLPLogExporter, "logs"), 1_000, max_queue_size=_QUEUE)
        )
        lines = _Lines(records.get_logger("waypost", __version__))
        journal = lines.beside(journal)
        ends += [lines.close, records.shutdown]
    return Telemetry(tracer=tracer, journal=journal, close=partial(_end, ends, exporters, options.flush_seconds))


def _end(ends: Iterable[Callable[[], None]], exporters: Iterable[Exporter], seconds: float) -> None:
    """Flush everything at the same time; what takes too long is given up."""
    threads = [threading.Thread(target=end, name="waypost-otel-end", daemon=True) for end in ends]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        for exporter in exporters:
            exporter.shutdown()


class _Complaints(logging.Handler):
    """Passes on what the SDK complains of, such as a collector that is down, but not more than once a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _SECONDS_BETWEEN_COMPLAINTS
            _log.warning("otel_trouble", error=record.getMessage(), exc_info=record.exc_info)


# traces

_PUBLISH = {
    "messaging.system": "waypost",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
}
_DELIVER = _PUBLISH | {"messaging.operation.name": "deliver"}
_propagator = TraceContextTextMapPropagator()


class OtelTracer:
    """Makes spans after the semantic conventions for messaging, as far as these fit."""

    def __init__(self, tracer: SdkTracer) -> None:
        self._tracer = tracer

    def caller(self, headers: Headers) -> str | None:
        return context_of(headers)

    async def publish(self, event: Event, accept: Callable[[Event], Awaitable[A]]) -> A:
        attributes = _PUBLISH | {
            "messaging.destination.name": event.topic,
            "messaging.message.id": event.id,
            "messaging.message.body.size": len(event.data),
            "waypost.tenant_id": id_of(event.tenant_id),
        }
        with self._span("publish", SpanKind.PRODUCER, event.trace, attributes) as span:
            accepted = await accept(_carrying(span, event))
            span.set_attribute("waypost.matched", len(accepted.destination_ids))
            span.set_attribute("waypost.duplicate", accepted.duplicate)
        return accepted

    async def publish_many(
        self, events: Sequence[Event], accept: Callable[[Sequence[Event]], Awaitable[list[A]]]
    ) -> list[A]:
        attributes = _PUBLISH | {"messaging.batch.message_count": len(events)}
        with self._span("publish", SpanKind.PRODUCER, events[0].trace if events else None, attributes) as span:
            accepted = await accept([_carrying(span, event) for event in events])
            span.set_attribute("waypost.matched", sum(len(one.destination_ids) for one in accepted))
        return accepted

    async def attempt(self, delivery: Delivery, to: Destination, make: Callable[[Delivery], Awaitable[R]]) -> R:
        # The conventions would rather have a link to the publish, which may be hours old. As its child, the attempt is
        # in the caller's trace, where most tools show the event's whole way at a glance.
        event = delivery.event
        attributes = _DELIVER | {
            "messaging.destination.name": event.topic,
            "messaging.message.id": event.id,
            "waypost.tenant_id": id_of(event.tenant_id),
            "waypost.destination_id": to.id,
            "waypost.destination_type": to.type,
            "waypost.attempt": delivery.attempt,
            "waypost.manual": delivery.manual,
        }
        with self._span("deliver", SpanKind.CLIENT, event.trace, attributes) as span:
            made = await make(structs.replace(delivery, event=_carrying(span, event)))
            outcome = made.outcome
            span.set_attribute("waypost.code", outcome.code)
            if not outcome.ok:
                span.set_attribute("error.type", outcome.code)
                span.set_status(StatusCode.ERROR, outcome.detail)
        return made

    def _span(self, name: str, kind: SpanKind, parent: str | None, attributes: Mapping[str, Any]) -> Span:
        return self._tracer.start_span(name, _parent(parent), kind, attributes, record_exception=False)


def _parent(context: str | None) -> Context:
    if context is None:
        return Context()
    traceparent, _, tracestate = context.partition(" ")
    return _propagator.extract({"traceparent": traceparent, "tracestate": tracestate})


def _carrying(span: Span, event: Event) -> Event:
    """The event with the span's context as its own."""
    context = span.get_span_context()
    if not context.is_valid:
        return event
    trace = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    if context.trace_state:
        trace += f" {context.trace_state.to_header()}"
    return structs.replace(event, trace=trace)


# metrics


class _Numbers:
    """Exports what was counted since the process started, every few seconds and once more at the end."""

    def __init__(self, counted: Collector, exporter: OTLPMetricExporter, resource: Resource) -> None:
        self._counted = counted
        self._exporter = exporter
        self._resource = resource
        self._since = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waypost-otel-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(_SECONDS_TO_EXPORT)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_NUMBERS):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            now = time.time_ns()
            metrics = [_metric(family, self._since, now) for family in self._counted.collect() if family.samples]
            scope = ScopeMetrics(InstrumentationScope("waypost", __version__), metrics, schema_url="")
            self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], schema_url="")]))
        except Exception:  # noqa: BLE001  the next numbers are exported whatever was wrong with these
            _sdk_log.exception("The metrics could not be exported.")


def _metric(family: Family, since: int, now: int) -> Metric:
    unit = "s" if family.name.endswith("_seconds") else ""
    return Metric(family.name, family.documentation, unit, _data(family, since, now))


def _data(family: Family, since: int, now: int) -> Sum | Gauge | Histogram:
    if family.type == "histogram":
        return Histogram(list(_distributions(family.samples, since, now)), AggregationTemporality.CUMULATIVE)
    points = [NumberDataPoint(sample.labels, since, now, sample.value) for sample in family.samples]
    if family.type == "counter":
        return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Gauge(points)


def _distributions(samples: Iterable[Sample], since: int, now: int) -> Iterator[HistogramDataPoint]:
    """A point for each set of labels: Prometheus' buckets contain the smaller ones, those of OTLP do not."""
    series: defaultdict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        series[tuple(label for label in sample.labels.items() if label[0] != "le")].append(sample)
    for labels, own in series.items():
        buckets = [sample for sample in own if sample.name.endswith("_bucket")]
        counts = [int(bucket.value) for bucket in buckets]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=counts[-1],
            sum=next(sample.value for sample in own if sample.name.endswith("_sum")),
            bucket_counts=[higher - lower for lower, higher in pairwise([0, *counts])],
            explicit_bounds=[float(bucket.labels["le"]) for bucket in buckets[:-1]],
            min=None,  # type: ignore[arg-type]  # optional in OTLP, and nobody keeps it
            max=None,  # type: ignore[arg-type]  # the same
        )


# logs

_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_NOT_ATTRIBUTES = frozenset({"event", "level", "timestamp", "trace_id", "span_id", "trace_flags"})


class _Lines:
    """Makes a log record of every line that is logged, whichever way it goes."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        # Loggers that were used already share this list, so that it is changed and not replaced.
        self._processors: list[Any] = structlog.get_config()["processors"]
        self._processors.insert(-1, self._pass_on)

    def beside(self, journal: Journal) -> Journal:
        """A journal that takes lines for both. Only a JsonJournal's do not come through structlog anyway."""
        return _Both(journal, self.emit) if isinstance(journal, JsonJournal) else journal

    def close(self) -> None:
        self._processors.remove(self._pass_on)

    def emit(self, line: Mapping[str, Any]) -> None:
        with contextlib.suppress(Exception):  # whoever logs must not fail for it
            self._emit(line)

    def _emit(self, line: Mapping[str, Any]) -> None:
        level = line.get("level", "info")
        self._logger.emit(
            timestamp=time.time_ns(),
            context=_context_of(line),
            severity_number=_SEVERITIES.get(level),
            severity_text=level,
            body=str(line["event"]),
            attributes={
                name: value if isinstance(value, str | int | float) else str(value)
                for name, value in line.items()
                if value is not None and name not in _NOT_ATTRIBUTES
            },
        )

    def _pass_on(self, _logger: object, _method: str, line: EventDict) -> EventDict:
        self.emit(line)
        return line


class _Both:
    def __init__(self, journal: Journal, emit: Callable[[Mapping[str, Any]], None]) -> None:
        self._journal = journal
        self._emit = emit

    def write(self, record: dict[str, Any]) -> None:
        self._emit(record)
        self._journal.write(record)


def _context_of(line: Mapping[str, Any]) -> Context:
    if "trace_id" not in line:
        return Context()
    return _parent(f"00-{line['trace_id']}-{line['span_id']}-{line['trace_flags']}")
