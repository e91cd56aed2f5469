"""What a collector gets to see of a whole Waypost."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from bench.servers import free_port
from msgspec import structs
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.testing import capture_logs

import waypost.observe
from tests.destinations.test_webhook import connected, message
from tests.flow.house import FAST, House, Receivers
from tests.net.receivers import receiver
from tests.observe.collector import Collector, collecting, plain, value
from tests.servers.rotel import rotel
from tests.store.builders import event
from tests.store.conftest import sqlite_store
from waypost import __version__
from waypost.api.publish import Limits, PublishEndpoint
from waypost.connect.connector import Message
from waypost.core.errors import DeliveryError, MissingExtra, Unavailable
from waypost.core.model import DeliveryState
from waypost.core.retry import RetryPolicy
from waypost.flow.deliver import Bounds
from waypost.observe.logs import BatchedLines, ConsoleJournal, JsonJournal
from waypost.observe.telemetry import Options
from waypost.store.base import EventQuery, Page
from waypost.store.sqlite import opening

BOUNDS = Bounds(sweep_interval=0.05, shutdown=0.2)
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
MUCH_LATER = RetryPolicy(schedule=(3600.0,), jitter=0)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


@asynccontextmanager
async def house(
    folder: Path, otel: Options, policy: RetryPolicy = FAST, receivers: Receivers | None = None, **more: Any
) -> AsyncIterator[House]:
    """At the end everything is exported, or given up."""
    built = House(folder, receivers or Receivers(), BOUNDS, policy, otel=otel, **more)
    await built.start()
    try:
        yield built
    finally:
        await built.close()


def refuse(message: Message) -> None:
    raise DeliveryError("503", "the receiver answered with status 503 (Service Unavailable)")


def refuse_first(message: Message) -> None:
    if message.attempt == 1:
        refuse(message)


# traces


@pytest.mark.parametrize("through_rotel", [False, pytest.param(True, marks=pytest.mark.server)])
async def test_the_whole_way_of_an_event(tmp_path: Path, collector: Collector, *, through_rotel: bool) -> None:
    """The caller's span, the publish, the failed attempt and the next; straight, and through a real collector."""
    if through_rotel:
        with rotel(collector.url) as server:
            await _publish_once(tmp_path, f"http://{server.address}")
            async with asyncio.timeout(10):
                while len(collector.spans) < 3 or not collector.exports or not collector.records:
                    await asyncio.sleep(0.02)
    else:
        await _publish_once(tmp_path, collector.url)
    (publish,), (failed, delivered) = collector.spans_of("publish"), collector.spans_of("deliver")

    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert publish.parent_span_id.hex() == CALLER
    assert (publish.kind, publish.trace_state) == (Span.SPAN_KIND_PRODUCER, "vendor=1")
    assert plain(publish.attributes) == {
        "messaging.system": "waypost",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order.created",
        "messaging.message.id": "evt_1",
        "messaging.message.body.size": 2,
        "waypost.tenant_id": "acme",
        "waypost.matched": 1,
        "waypost.duplicate": False,
    }
    assert publish.status.code == Status.STATUS_CODE_UNSET

    assert failed.parent_span_id == delivered.parent_span_id == publish.span_id
    assert (delivered.kind, delivered.trace_state) == (Span.SPAN_KIND_CLIENT, "vendor=1")
    shared = {
        "messaging.system": "waypost",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order.created",
        "messaging.message.id": "evt_1",
        "waypost.tenant_id": "acme",
        "waypost.destination_id": "des_1",
        "waypost.destination_type": "webhook",
        "waypost.manual": False,
    }
    assert plain(failed.attributes) == shared | {"waypost.attempt": 1, "waypost.code": "503", "error.type": "503"}
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.status.message == "the receiver answered with status 503 (Service Unavailable)"
    assert plain(delivered.attributes) == shared | {"waypost.attempt": 2, "waypost.code": "ack"}
    assert delivered.status.code == Status.STATUS_CODE_UNSET
    for resource in collector.resources:
        assert (resource["service.name"], resource["service.version"]) == ("waypost", __version__)


async def _publish_once(folder: Path, endpoint: str) -> None:
    async with house(folder, Options(endpoint=endpoint)) as built:
        to = await built.add()
        built.receivers.behaviour[to.id] = refuse_first
        event = await built.publish(id="evt_1", trace=f"{PARENT} vendor=1")
        await built.until(event, to, DeliveryState.DELIVERED)
        structlog.get_logger("waypost").info("done")


async def test_an_attempt_after_a_restart_belongs_to_the_publish(tmp_path: Path, collector: Collector) -> None:
    otel, receivers = Options(endpoint=collector.url), Receivers()
    async with house(tmp_path, otel, MUCH_LATER, receivers) as before:
        to = await before.add()
        receivers.behaviour[to.id] = refuse_first
        event = await before.publish(trace=PARENT)
        while not await before.attempts(event):
            await asyncio.sleep(0.005)
    async with house(tmp_path, otel, MUCH_LATER, receivers) as after:
        await after.replayer.retry(event.id, to.id, None)
        await after.until(event, to, DeliveryState.DELIVERED)
    (publish,), (first, second) = collector.spans_of("publish"), collector.spans_of("deliver")
    assert first.parent_span_id == second.parent_span_id == publish.span_id
    assert plain(second.attributes)["waypost.manual"] is True


async def test_a_receiver_is_told_the_span_of_its_attempt(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        to = await built.add()
        built.receivers.behaviour[to.id] = refuse_first
        event = await built.publish()
        await built.until(event, to, DeliveryState.DELIVERED)
    told = [str(message.event.trace)[:-3] for _, message in built.receivers.seen]
    assert told == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}" for span in collector.spans_of("deliver")]
    assert {span.trace_id for span in collector.spans} == {collector.spans_of("publish")[0].trace_id}
    assert not collector.spans_of("publish")[0].parent_span_id


async def test_the_events_of_a_batch_share_the_span_of_their_request(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        to = await built.add()
        events = [event(trace=PARENT), event(trace=PARENT)]
        await built.publisher.publish_many(events)
        for one in events:
            await built.until(one, to, DeliveryState.DELIVERED)
    (publish,) = collector.spans_of("publish")
    assert plain(publish.attributes).items() >= {"messaging.batch.message_count": 2, "waypost.matched": 2}.items()
    assert publish.parent_span_id.hex() == CALLER
    assert [span.parent_span_id for span in collector.spans_of("deliver")] == [publish.span_id] * 2


async def test_a_publish_that_fails_ends_its_span_with_the_error(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        await built.add()
        await built.directory.routes("acme")
        await built.store.close()
        with pytest.raises(Unavailable):
            await built.publish()
    (publish,) = collector.spans_of("publish")
    assert publish.status.code == Status.STATUS_CODE_ERROR
    assert publish.status.message.startswith("Unavailable: ")


async def test_the_ratio_is_for_traces_that_begin_here(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url, sample_ratio=0.0)) as built:
        to = await built.add()
        own, sampled = await built.publish(), await built.publish(trace=PARENT)
        unsampled = await built.publish(trace=f"{PARENT[:-2]}00")
        for event in (own, sampled, unsampled):
            await built.until(event, to, DeliveryState.DELIVERED)
    ids = [plain(span.attributes)["messaging.message.id"] for span in collector.spans]
    assert ids == [sampled.id, sampled.id]
    told = {message.event.id: str(message.event.trace) for _, message in built.receivers.seen}
    assert told[unsampled.id].startswith(f"00-{TRACE}-")
    assert int(told[unsampled.id][-2:], 16) & 1 == 0


# the context of the caller, and of the receiver


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/publish", {"tenant_id": "acme", "data": {}}),
        ("/api/v1/publish/batch", {"events": [{"tenant_id": "acme", "data": {}}]}),
    ],
)
async def test_a_request_brings_its_context(
    tmp_path: Path, collector: Collector, path: str, body: dict[str, Any]
) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        assert (await _request(built, path, body)).status_code == 202
    (publish,) = collector.spans_of("publish")
    assert (publish.trace_id.hex(), publish.parent_span_id.hex()) == (TRACE, CALLER)


@pytest.mark.parametrize(("forward", "kept"), [(True, PARENT), (False, None)])
async def test_without_traces_the_callers_context_is_kept_only_to_be_forwarded(
    tmp_path: Path, *, forward: bool, kept: str | None
) -> None:
    async with house(tmp_path, Options(forward=forward)) as built:
        await _request(built, "/api/v1/publish", {"tenant_id": "acme", "data": {}})
        (stored,) = (await built.store.events(EventQuery(), Page(limit=10))).items
    assert stored.event.trace == kept


async def _request(built: House, path: str, body: dict[str, Any]) -> httpx.Response:
    endpoint = PublishEndpoint(
        built.publisher,
        authorise=lambda _: None,
        next_seq=built.sequence.next,
        catalogue=frozenset,
        limits=Limits(event_bytes=1000, batch_events=5, batch_bytes=3000),
        refused=lambda: None,
        tracer=built.tracer,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(endpoint), base_url="http://waypost") as http:
        return await http.post(path, json=body, headers={"traceparent": PARENT})


@pytest.mark.parametrize("mode", ["standard", "default"])
@pytest.mark.parametrize(
    ("chosen", "trace", "sent"),
    [(True, f"{PARENT} vendor=1", PARENT), (True, None, None), (False, PARENT, None)],
)
async def test_a_webhook_carries_the_context_where_the_operator_wants_it(
    mode: str, trace: str | None, sent: str | None, *, chosen: bool
) -> None:
    told = message()
    told = structs.replace(told, event=structs.replace(told.event, trace=trace))
    async with receiver() as server, connected(server, mode=mode, traceparent=chosen) as connection:
        receipt = await connection.send(told)
    assert receipt.request is not None
    assert receipt.request["headers"].get("traceparent") == sent
    assert server.seen[0].headers.get("traceparent") == sent
    assert "tracestate" not in server.seen[0].headers


async def test_events_of_before_there_were_traces_have_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "waypost.db") as old:
        old.executescript(f"{opening.migrations()[0]} PRAGMA user_version = 1;")
        values = "1, 'acme', 'evt_1', 'order.created', 1, 1, 1, NULL, NULL, x'7b7d', '[]', NULL"
        old.execute(f"INSERT INTO events VALUES ({values})")
    old.close()
    store = sqlite_store(tmp_path)
    await store.open()
    found = await store.event("evt_1", tenant_id="acme")
    await store.close()
    assert found is not None
    assert (found.event.trace, found.event.data, found.skipped) == (None, b"{}", ())


# metrics


async def test_the_numbers_are_those_that_were_counted(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        to = await built.add()
        built.receivers.behaviour[to.id] = refuse_first
        events = [await built.publish() for _ in range(3)]
        for event in events:
            await built.until(event, to, DeliveryState.DELIVERED)
    exported, counted = collector.metrics, {family.name: family for family in built.metrics.collect() if family.samples}
    assert exported.keys() == counted.keys()
    kinds = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
    for name, family in counted.items():
        assert exported[name].WhichOneof("data") == kinds[family.type]
        assert exported[name].unit == ("s" if name.endswith("_seconds") else "")
        if family.type == "counter":
            sums = {tuple(plain(point.attributes).items()): value(point) for point in exported[name].sum.data_points}
            assert sums == {tuple(sample.labels.items()): sample.value for sample in family.samples}
    attempts = exported["waypost_attempts"].sum.data_points
    assert {plain(point.attributes)["status"]: value(point) for point in attempts} == {"failed": 3, "success": 3}


async def test_buckets_of_a_histogram_do_not_contain_the_smaller_ones(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)) as built:
        for kind, seconds in [("webhook", 0.0005), ("webhook", 0.002), ("webhook", 99.0), ("aws_sqs", 0.002)]:
            built.metrics.attempted(kind, ok=True, retried=False, seconds=seconds)
    points = collector.metrics["waypost_attempt_seconds"].histogram.data_points
    seen = {plain(point.attributes)["destination_type"]: point for point in points}
    assert list(seen["webhook"].explicit_bounds[:3]) == [0.001, 0.0025, 0.005]
    assert list(seen["webhook"].bucket_counts[:3]) == [1, 1, 0]
    assert (seen["webhook"].bucket_counts[-1], seen["webhook"].count) == (1, 3)
    assert (seen["webhook"].sum, seen["aws_sqs"].count) == (pytest.approx(99.0025), 1)
    assert not seen["webhook"].HasField("min")


# logs


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("publish", "publish"),
        ("attempt", "deliver"),
    ],
)
async def test_a_wide_line_is_a_record_of_its_span(tmp_path: Path, collector: Collector, line: str, name: str) -> None:
    lines = BatchedLines(written := io.StringIO())
    async with house(tmp_path, Options(endpoint=collector.url), journal=JsonJournal(lines)) as built:
        to = await built.add()
        event = await built.publish()
        await built.until(event, to, DeliveryState.DELIVERED)
    lines.close()
    (span,) = collector.spans_of(name)
    (record,) = [record for record in collector.records if record.body.string_value == line]
    assert (record.trace_id, record.span_id, record.flags & 1) == (span.trace_id, span.span_id, 1)
    assert record.severity_text == "info"
    assert plain(record.attributes).items() >= {"event_id": event.id, "topic": "order.created"}.items()
    assert f'"span_id":"{span.span_id.hex()}"' in written.getvalue()


async def test_every_other_line_is_a_record_too(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url)):
        structlog.get_logger("waypost").error("store_trouble", path=tmp_path, nothing=None)
    (record,) = collector.records
    assert (record.body.string_value, record.severity_text, record.trace_id) == ("store_trouble", "error", b"")
    assert plain(record.attributes) == {"path": str(tmp_path)}


async def test_lines_for_a_terminal_are_records_once(tmp_path: Path, collector: Collector) -> None:
    async with house(tmp_path, Options(endpoint=collector.url), journal=ConsoleJournal()) as built:
        await built.publish()
    assert [record.body.string_value for record in collector.records] == ["publish"]


# what is asked for, and what goes wrong


@pytest.mark.parametrize("wanted", ["traces", "metrics", "logs"])
async def test_only_what_is_wanted_is_exported(tmp_path: Path, collector: Collector, wanted: str) -> None:
    chosen = {name: name == wanted for name in ("traces", "metrics", "logs")}
    headers = {"Authorization": "Basic Zm9vOmJhcg=="}
    otel = Options(endpoint=f"{collector.url}/", headers=headers, service_name="outbound", **chosen)
    async with house(tmp_path, otel) as built:
        await built.publish()
        structlog.get_logger("waypost").info("done")
    assert {path for path, _ in collector.requests} == {f"/v1/{wanted}"}
    assert {headers["authorization"] for _, headers in collector.requests} == {"Basic Zm9vOmJhcg=="}
    assert {resource["service.name"] for resource in collector.resources} == {"outbound"}


def _broken(collector: Collector) -> str:
    collector.status = HTTPStatus.BAD_REQUEST
    return collector.url


def _busy(collector: Collector) -> str:
    collector.status = HTTPStatus.SERVICE_UNAVAILABLE
    return collector.url


def _hanging(collector: Collector) -> str:
    collector.ready.clear()
    return collector.url


def _down(_collector: Collector) -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("trouble", [_broken, _busy, _hanging, _down])
async def test_a_collector_in_trouble_is_no_trouble_for_deliveries(
    tmp_path: Path, collector: Collector, trouble: Callable[[Collector], str]
) -> None:
    otel = Options(endpoint=trouble(collector), flush_seconds=0.5)
    with capture_logs() as lines:
        async with house(tmp_path, otel) as built:
            to = await built.add()
            for _ in range(3):
                await built.until(await built.publish(), to, DeliveryState.DELIVERED)
                structlog.get_logger("waypost").info("still_well")
    assert len([line for line in lines if line["event"] == "otel_trouble"]) <= 1
    assert len([line for line in lines if line["event"] == "still_well"]) == 3


async def test_trouble_is_logged(tmp_path: Path, collector: Collector) -> None:
    collector.status = HTTPStatus.BAD_REQUEST
    with capture_logs() as lines:
        async with house(tmp_path, Options(endpoint=collector.url)) as built:
            await built.publish()
    complaints = [line for line in lines if line["event"] == "otel_trouble"]
    assert len(complaints) == 1
    assert "400" in complaints[0]["error"]


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(waypost.observe, "otel", raising=False)
    monkeypatch.delitem(sys.modules, "waypost.observe.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry._logs", None)
    with pytest.raises(MissingExtra, match=r"otel_endpoint needs an optional library: install waypost\[otel\]"):
        House(tmp_path, Receivers(), BOUNDS, FAST, otel=Options(endpoint="http://127.0.0.1:4318"))
