"""A collector that takes OTLP over HTTP and holds what it gets against the protocol."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Attributes = dict[str, Any]


class Collector:
    """What came. `status` is what the next requests are answered with; cleared, `ready` keeps them waiting."""

    def __init__(self) -> None:
        self.status = HTTPStatus.OK
        self.ready = threading.Event()
        self.ready.set()
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.problems: list[str] = []
        self.resources: list[Attributes] = []
        self.spans: list[Span] = []
        self.records: list[LogRecord] = []
        self.exports: list[dict[str, Metric]] = []
        self.url = ""

    @property
    def metrics(self) -> dict[str, Metric]:
        """As they were exported last, by name."""
        return self.exports[-1]

    def spans_of(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)

    # what came in one request

    def take_spans(self, body: bytes) -> bytes:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.take_resource(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.check_span(span)
                self.spans.append(span)
        return bytes(ExportTraceServiceResponse().SerializeToString())

    def take_records(self, body: bytes) -> bytes:
        for group in ExportLogsServiceRequest.FromString(body).resource_logs:
            self.take_resource(group.resource.attributes)
            for record in (record for scope in group.scope_logs for record in scope.log_records):
                self.check_record(record)
                self.records.append(record)
        return bytes(ExportLogsServiceResponse().SerializeToString())

    def take_metrics(self, body: bytes) -> bytes:
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.take_resource(group.resource.attributes)
            metrics = [metric for scope in group.scope_metrics for metric in scope.metrics]
            for metric in metrics:
                self.check_metric(metric)
            self.exports.append({metric.name: metric for metric in metrics})
            self.expect(len(self.metrics) == len(metrics), "a metric comes once in an export")
        return bytes(ExportMetricsServiceResponse().SerializeToString())

    def take_resource(self, attributes: Any) -> None:
        self.check_attributes(attributes)
        self.resources.append(plain(attributes))
        self.expect(bool(self.resources[-1].get("service.name")), "a resource has a service.name")

    # what the protocol says of it

    def expect(self, kept: bool, rule: str) -> None:
        if not kept:
            self.problems.append(rule)

    def check_attributes(self, attributes: Any) -> None:
        keys = [attribute.key for attribute in attributes]
        self.expect(all(keys), "keys are not empty")
        self.expect(len(keys) == len(set(keys)), "keys are unique")
        self.expect(all(attribute.value.WhichOneof("value") for attribute in attributes), "values are set")

    def check_span(self, span: Span) -> None:
        self.check_attributes(span.attributes)
        self.expect(len(span.trace_id) == 16 and any(span.trace_id), "a trace_id has 16 bytes and is not zero")
        self.expect(len(span.span_id) == 8 and any(span.span_id), "a span_id has 8 bytes and is not zero")
        self.expect(len(span.parent_span_id) in {0, 8}, "a parent_span_id has 8 bytes or none")
        self.expect(bool(span.name), "a span has a name")
        self.expect(span.kind != Span.SPAN_KIND_UNSPECIFIED, "a span has a kind")
        self.expect(0 < span.start_time_unix_nano <= span.end_time_unix_nano, "a span ends after its start")
        self.expect(not span.dropped_attributes_count, "no attribute is dropped")

    def check_record(self, record: LogRecord) -> None:
        self.check_attributes(record.attributes)
        self.expect(record.time_unix_nano > 0 < record.observed_time_unix_nano, "a record has its times")
        self.expect(1 <= record.severity_number <= 24, "a record has a severity")
        self.expect(bool(record.body.string_value), "a record has a text")
        self.expect(len(record.trace_id) in {0, 16}, "a trace_id has 16 bytes or none")
        self.expect(len(record.span_id) == (8 if record.trace_id else 0), "a record of a trace has its span")

    def check_metric(self, metric: Metric) -> None:
        self.expect(metric.name.isidentifier() and bool(metric.description), "a metric has a name and a description")
        kind = metric.WhichOneof("data")
        if kind == "sum":
            self.expect(metric.sum.is_monotonic, "a sum that only grows says so")
            self.expect(all(value(point) >= 0 for point in metric.sum.data_points), "it grows from zero")
        if kind in {"sum", "histogram"}:
            data = getattr(metric, kind)
            cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
            self.expect(data.aggregation_temporality == cumulative, "all is counted since the start")
            ordered = all(0 < point.start_time_unix_nano < point.time_unix_nano for point in data.data_points)
            self.expect(ordered, "a point has its times")
        points = getattr(metric, kind).data_points if kind else ()
        for point in points:
            self.check_attributes(point.attributes)
        series = [tuple(sorted(plain(point.attributes).items())) for point in points]
        self.expect(len(series) == len(set(series)), "a metric has one point a series")
        for point in metric.histogram.data_points:
            self.check_histogram(point)

    def check_histogram(self, point: HistogramDataPoint) -> None:
        self.expect(len(point.bucket_counts) == len(point.explicit_bounds) + 1, "the last bucket has no bound")
        self.expect(sum(point.bucket_counts) == point.count, "the buckets add up")
        self.expect(all(low < high for low, high in pairwise(point.explicit_bounds)), "bounds grow")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens; at the end it must have found nothing wrong."""
    collector = Collector()
    takers: dict[str, Callable[[bytes], bytes]] = {
        "/v1/traces": collector.take_spans,
        "/v1/metrics": collector.take_metrics,
        "/v1/logs": collector.take_records,
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.requests.append((self.path, {name.lower(): text for name, text in self.headers.items()}))
            collector.ready.wait()
            if collector.status != HTTPStatus.OK:
                self.answer(collector.status, b"")
                return
            collector.expect(self.headers["content-type"] == "application/x-protobuf", "the body is protobuf")
            body = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            self.answer(HTTPStatus.OK, takers[self.path](body))

        def answer(self, status: HTTPStatus, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield collector
        finally:
            collector.ready.set()
            server.shutdown()
            serving.join()
    assert collector.problems == []


def plain(attributes: Any) -> Attributes:
    """Attributes as a dictionary."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def value(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))
