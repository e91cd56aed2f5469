"""What leaves the process for an OpenTelemetry collector, if there is one."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from waypost.core.errors import MissingExtra
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics
from waypost.observe.tracing import ForwardingTracer, NullTracer, Tracer


class Options(Struct, frozen=True, kw_only=True):
    """The settings `otel_*`, and as `forward` the setting `webhook_traceparent`. `flush_seconds` bounds a stop."""

    endpoint: str | None = None
    headers: dict[str, str] = {}
    service_name: str = "waypost"
    traces: bool = True
    metrics: bool = True
    logs: bool = True
    sample_ratio: float = 1.0
    forward: bool = False
    flush_seconds: float = 5.0


class Telemetry(Struct, frozen=True, kw_only=True):
    """How the flow is traced and where its wide lines go. `close` sends what is left."""

    tracer: Tracer
    journal: Journal
    close: Callable[[], None]


def telemetry_of(options: Options, journal: Journal, metrics: Metrics) -> Telemetry:
    """Start exporting, if there is somewhere to export to. Raises MissingExtra when the library is not installed."""
    untraced = Telemetry(
        tracer=ForwardingTracer() if options.forward else NullTracer(), journal=journal, close=lambda: None
    )
    if options.endpoint is None:
        return untraced
    try:
        from waypost.observe import otel  # noqa: PLC0415  it needs the extra's libraries
    except ImportError as error:
        raise MissingExtra("otel_endpoint", "otel") from error
    return otel.start(options, options.endpoint, untraced, metrics)
