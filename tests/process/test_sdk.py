"""The published Outpost SDK drives Waypost unchanged: only its base URL is another."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from outpost_sdk import Outpost, errors, models

from waypost.core.metering import ATTEMPTS
from waypost.net.http import HttpClient

from .server import KEY, Server
from .sink import Sink

pytestmark = pytest.mark.slow

T = TypeVar("T")
MANAGED = {"configuration", "operator_events"}
"""What only Hookdeck's managed service has."""


@pytest.fixture
async def server(tmp_path: Path, http: HttpClient) -> AsyncIterator[Server]:
    async with Server(tmp_path, http, topics="user.created,user.deleted") as running:
        yield running


def sdk(server: Server, credential: str = KEY) -> Outpost:
    return Outpost(api_key=credential, server_url=f"{server.url}/api/v1")


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def eventually(question: Callable[[], T], answer: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + 15
    while True:
        found = question()
        if answer(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def webhook(url: str, **fields: Any) -> models.DestinationCreateWebhook:
    config = models.WebhookConfig(url=url)
    return models.DestinationCreateWebhook(
        type=models.DestinationCreateWebhookType.WEBHOOK, topics=fields.pop("topics", "*"), config=config, **fields
    )


async def test_tenants(server: Server) -> None:
    def work() -> None:
        with sdk(server) as outpost:
            made = outpost.tenants.upsert(tenant_id="acme", body={"metadata": {"plan": "pro"}})
            assert (made.id, made.metadata, made.destinations_count) == ("acme", {"plan": "pro"}, 0)
            for name in ("b", "c", "d"):
                outpost.tenants.upsert(tenant_id=name)
            assert outpost.tenants.get(tenant_id="acme").metadata == {"plan": "pro"}
            first = outpost.tenants.list(request={"limit": 3})
            assert first.count == 4
            assert first.models is not None
            assert [tenant.id for tenant in first.models] == ["d", "c", "b"]
            assert first.pagination is not None
            rest = outpost.tenants.list(request={"limit": 3, "next_cursor": first.pagination.next_cursor})
            assert [tenant.id for tenant in rest.models or ()] == ["acme"]
            token = outpost.tenants.get_token(tenant_id="acme")
            assert token.tenant_id == "acme"
            assert outpost.tenants.get_portal_url(tenant_id="acme").redirect_url
            assert outpost.tenants.delete(tenant_id="b").success
            with pytest.raises(errors.NotFoundError):
                outpost.tenants.get(tenant_id="b")
            with sdk(server, token.token or "") as tenant:
                assert tenant.tenants.get(tenant_id="acme").id == "acme"
                assert [seen.id for seen in tenant.tenants.list(request={}).models or ()] == ["acme"]

    await in_thread(work)


async def test_destinations(server: Server) -> None:
    def work() -> None:
        with sdk(server) as outpost:
            outpost.tenants.upsert(tenant_id="acme")
            made = outpost.destinations.create(
                tenant_id="acme",
                body=webhook("https://example.com/hook", topics=["user.created"], metadata={"team": "x"}),
            )
            assert isinstance(made, models.DestinationWebhook)
            assert made.credentials.secret
            assert made.target_url == "https://example.com/hook"
            same = {"tenant_id": "acme", "destination_id": made.id}
            assert outpost.destinations.get(**same) == made
            assert outpost.destinations.list(tenant_id="acme") == [made]
            assert outpost.destinations.list(tenant_id="acme", type_="webhook", topics=["user.created"]) == [made]
            assert outpost.destinations.list(tenant_id="acme", topics=["user.deleted"]) == []
            disabled = outpost.destinations.disable(**same)
            assert disabled.disabled_at is not None
            assert outpost.destinations.enable(**same).disabled_at is None
            changed = outpost.destinations.update(
                **same, body={"type": "webhook", "topics": ["*"], "metadata": {"team": "y"}}
            )
            assert isinstance(changed, models.DestinationWebhook)
            assert (changed.topics, changed.metadata) == (["*"], {"team": "y"})
            assert outpost.destinations.delete(**same).success
            assert outpost.destinations.list(tenant_id="acme") == []
            with pytest.raises(errors.NotFoundError):
                outpost.destinations.get(**same)

    await in_thread(work)


async def test_an_event_from_publish_to_retry(server: Server, sink: Sink) -> None:
    def work() -> None:
        with sdk(server) as outpost:
            outpost.tenants.upsert(tenant_id="acme")
            to = outpost.destinations.create(tenant_id="acme", body=webhook(sink.url))
            published = outpost.publish(
                request={
                    "id": "evt_1",
                    "tenant_id": "acme",
                    "topic": "user.created",
                    "metadata": {"source": "crm"},
                    "data": {"user": 1},
                }
            )
            assert (published.id, published.duplicate, published.destination_ids) == ("evt_1", False, [to.id])
            again = outpost.publish(request={"id": "evt_1", "tenant_id": "acme", "topic": "user.created", "data": {}})
            assert again.duplicate
            with pytest.raises(errors.BadRequestError):
                outpost.publish(request={"tenant_id": "acme", "topic": "unknown", "data": {}})

            event = outpost.events.get(event_id="evt_1")
            assert (event.topic, event.data, event.metadata) == ("user.created", {"user": 1}, {"source": "crm"})
            assert event.matched_destination_ids == [to.id]
            assert [seen.id for seen in listed(outpost.events.list(request={"topic": "user.created"}))] == ["evt_1"]

            query = {"tenant_id": "acme", "include": ["event.data", "response_data", "destination"]}
            (attempt,) = eventually(lambda: listed(outpost.attempts.list(request=query)), lambda found: len(found) == 1)
            assert (attempt.status, attempt.code, attempt.attempt_number, attempt.manual) == (
                "success",
                "200",
                1,
                False,
            )
            assert attempt.event.data == {"user": 1}
            assert attempt.destination.id == to.id
            assert attempt.response_data["status_code"] == 200
            assert outpost.attempts.get(attempt_id=attempt.id).event_id == "evt_1"

            assert outpost.retry(request={"event_id": "evt_1", "destination_id": to.id}).success
            scoped = {"tenant_id": "acme", "destination_id": to.id}
            found = eventually(
                lambda: listed(outpost.destinations.list_attempts(request=scoped)), lambda found: len(found) == 2
            )
            assert [(made.attempt_number, made.manual) for made in found] == [(2, True), (1, False)]
            assert outpost.destinations.get_attempt(**scoped, attempt_id=found[0].id).manual

    await in_thread(work)
    assert sink.arrived == {"evt_1": 2}


async def test_what_describes_the_server(server: Server) -> None:
    def work() -> None:
        with sdk(server) as outpost:
            assert outpost.topics.list() == ["user.created", "user.deleted"]
            assert outpost.schemas.get_destination_type(type_="webhook").type == "webhook"
            assert "webhook" in [kind.type for kind in outpost.schemas.list_destination_types()]
            assert outpost.health.check()

    await in_thread(work)


async def test_metrics(server: Server, sink: Sink) -> None:
    sink.status = 503

    def work() -> None:
        now = datetime.now(UTC)
        window = {"start": now - timedelta(hours=1), "end": now + timedelta(hours=1)}
        with sdk(server) as outpost:
            outpost.tenants.upsert(tenant_id="acme")
            to = outpost.destinations.create(tenant_id="acme", body=webhook(sink.url))
            for number, topic in enumerate(("user.created", "user.created", "user.deleted")):
                outpost.publish(request={"id": f"m{number}", "tenant_id": "acme", "topic": topic, "data": {}})

            by_topic = {"time": window, "measures": ["count", "rate"], "dimensions": ["topic"]}
            found = outpost.metrics.get_event_metrics(request=by_topic)
            assert [(point.time_bucket, point.dimensions) for point in found.data or ()] == [
                (None, {"topic": "user.created"}),
                (None, {"topic": "user.deleted"}),
            ]
            assert [point.metrics for point in found.data or ()] == [
                {"count": 2, "rate": 2 / 7200},
                {"count": 1, "rate": 1 / 7200},
            ]
            one = by_topic | {"filters_topic": "user.created", "filters_tenant_id": ["acme"], "dimensions": "tenant_id"}
            one |= {"filters_destination_id": [to.id], "granularity": "1h"}
            hours = outpost.metrics.get_event_metrics(request=one)
            assert sum((point.metrics or {})["count"] for point in hours.data or ()) == 2
            assert {point.time_bucket for point in hours.data or ()} >= {now.replace(minute=0, second=0, microsecond=0)}
            assert hours.metadata is not None
            assert (hours.metadata.granularity, hours.metadata.truncated) == ("1h", False)

            everything = {
                "time": window,
                "measures": list(ATTEMPTS.measures),
                "dimensions": [dimension.value for dimension in models.GetAttemptMetricsDimensionsEnum1],
                "filters_destination_id": to.id,
                "filters_destination_type": "webhook",
                "filters_topic": ["user.created", "user.deleted"],
                "filters_status": "failed",
                "filters_code": ["503", "500"],
                "filters_manual": "false",
                "filters_attempt_number": "1",
                "filters_tenant_id": "acme",
            }
            attempts = eventually(
                lambda: outpost.metrics.get_attempt_metrics(request=everything).data or [],
                lambda data: sum((point.metrics or {})["count"] for point in data) == 3,
            )
            assert [set(point.dimensions or {}) for point in attempts] == [set(everything["dimensions"])] * 2
            assert attempts[0].metrics == {
                "count": 2,
                "successful_count": 0,
                "failed_count": 2,
                "error_rate": 1.0,
                "first_attempt_count": 2,
                "retry_count": 0,
                "manual_retry_count": 0,
                "avg_attempt_number": 1.0,
                "rate": 2 / 7200,
                "successful_rate": 0.0,
                "failed_rate": 2 / 7200,
            }
            with pytest.raises(errors.BadRequestError):
                outpost.metrics.get_event_metrics(request=by_topic | {"granularity": "25h"})
            token = outpost.tenants.get_token(tenant_id="acme").token or ""
        with sdk(server, token) as tenant:
            own = tenant.metrics.get_event_metrics(request={"time": window, "measures": "count"})
            assert [point.metrics for point in own.data or ()] == [{"count": 3}]
            with pytest.raises(errors.APIErrorResponse) as forbidden:
                tenant.metrics.get_event_metrics(request=by_topic | {"dimensions": ["tenant_id"]})
            assert forbidden.value.status_code == 403

    await in_thread(work)


async def test_what_only_hookdecks_own_service_has_is_not_found(server: Server) -> None:
    def work() -> None:
        with sdk(server) as outpost:
            for call in (outpost.configuration.get_managed_config, outpost.operator_events.list_destinations):
                with pytest.raises(errors.OutpostError) as refused:
                    call()
                assert refused.value.status_code == 404

    await in_thread(work)


async def test_it_can_be_waited_for_too(server: Server) -> None:
    async with sdk(server) as outpost:
        assert (await outpost.tenants.upsert_async(tenant_id="acme")).id == "acme"
        assert await outpost.destinations.list_async(tenant_id="acme") == []


def test_every_method_is_called_here() -> None:
    called = set(re.findall(r"\boutpost\.([a-z_.]+)\(", Path(__file__).read_text(encoding="utf-8")))
    assert methods() <= called


def methods() -> set[str]:
    """Every method of the SDK that waits for its answer, but for those of Hookdeck's own service."""
    outpost = Outpost(api_key=KEY)
    nouns = {f"{name}.": getattr(outpost, name) for name in set(Outpost._sub_sdk_map) - MANAGED} | {"": outpost}
    found = {noun + name for noun, api in nouns.items() for name, _ in inspect.getmembers(api, inspect.ismethod)}
    return {name for name in found if not re.search(r"(^|\.)(_|do_request|dynamic_import)|_async$", name)}


def listed(page: Any) -> list[Any]:
    """The models of a page, whether the SDK wraps it for paging or not."""
    return list(getattr(page, "result", page).models)
