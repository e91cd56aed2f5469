"""A tenant's id that is used again: who bears it now has nothing of who bore it before, and loses nothing by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waypost.net.http import HttpClient, HttpRequest, HttpResponse

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

PUBLISH = {"id": "evt_x", "tenant_id": "acme", "topic": "order.created", "data": {"of": "somebody"}}
LISTS = ("/events", "/events?q=somebody", "/attempts", "/deliveries", "/replays", "/alerts", "/audit-log")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(50):
        while not holds():
            await asyncio.sleep(0.02)


async def token(server: Server) -> str:
    made: str = (await server.call("GET", "/tenants/acme/token"))["token"]
    return made


async def asked(http: HttpClient, server: Server, bearer: str, path: str, body: Any = None) -> HttpResponse:
    return await http.send(
        HttpRequest(
            method="GET" if body is None else "POST",
            url=f"{server.url}/api/v1{path}",
            headers=[f"authorization: Bearer {bearer}", "content-type: application/json"],
            body=b"" if body is None else msgspec.json.encode(body),
        )
    )


async def shown(http: HttpClient, server: Server, bearer: str, path: str) -> Any:
    response = await asked(http, server, bearer, path)
    assert response.status == 200, (path, response.body)
    return msgspec.json.decode(response.body)


async def counted(http: HttpClient, server: Server, bearer: str) -> int:
    query = "measures=count&time[start]=2020-01-01T00:00:00Z&time[end]=2040-01-01T00:00:00Z"
    counts = (await shown(http, server, bearer, f"/metrics/events?{query}"))["data"]
    return sum(point["metrics"]["count"] for point in counts)


async def has_nothing(http: HttpClient, server: Server, bearer: str) -> None:
    """The audit log says that the tenant was created and given a token, and no more."""
    for path in LISTS:
        models = (await shown(http, server, bearer, path))["models"]
        assert [model for model in models if model.get("action") not in {"tenant.put", "tenant.token"}] == [], path
        assert len(models) <= 3, path
    assert (await asked(http, server, bearer, "/events/evt_x")).status == 404
    retried = await asked(http, server, bearer, "/retry", {"event_id": "evt_x", "destination_id": "des_1"})
    assert retried.status == 404
    everything = {"events": {"time": {"gte": "2020-01-01T00:00:00Z"}}, "dry_run": True}
    preview = await asked(http, server, bearer, "/replays", everything)
    assert (preview.status, msgspec.json.decode(preview.body)["selected"]) == (200, 0)
    assert await counted(http, server, bearer) == 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_next_one_has_nothing_of_it(tmp_path: Path, http: HttpClient, sink: Sink, restarted: bool) -> None:
    async with Server(tmp_path, http) as server:
        await server.add_webhook("acme", sink.url, id="des_1")
        old = await token(server)
        await server.call("POST", "/publish", PUBLISH)
        await until(lambda: sink.arrived["evt_x"] == 1)
        await server.call("DELETE", "/tenants/acme")
        assert (await asked(http, server, old, "/events")).status == 401
        orphan = await server.call("POST", "/publish", PUBLISH | {"id": "evt_between"})
        assert orphan["destination_ids"] == []
        if restarted:
            await server.stop()
            await server.start()
        await server.call("PUT", "/tenants/acme")
        new = await token(server)
        await has_nothing(http, server, new)
        await server.add_webhook("acme", sink.url, id="des_1")
        if restarted:
            await server.stop()
            await server.start()
        assert (await asked(http, server, old, "/events")).status == 401
        assert (await asked(http, server, old, "/tenants/acme")).status == 401
        assert (await asked(http, server, old, "/stream")).status == 401

        for event in (PUBLISH, PUBLISH | {"id": "evt_between"}):
            assert (await server.call("POST", "/publish", event)) == {
                "id": event["id"],
                "duplicate": False,
                "destination_ids": ["des_1"],
            }
        assert (await server.call("POST", "/publish", PUBLISH))["duplicate"]
        await until(lambda: sink.arrived["evt_x"] == 2 and sink.arrived["evt_between"] == 1)
        events = (await shown(http, server, new, "/events"))["models"]
        assert {event["tenant_id"] for event in events} == {"acme"}
        assert len(events) == 2

        former = await server.call("GET", "/events/evt_x?tenant_id=acme%201")
        assert former["tenant_id"] == "acme"
        everybodys = await server.call("GET", "/events?id=evt_x")
        assert len(everybodys["models"]) == 2
        assert len((await server.call("GET", "/events?tenant_id=acme&id=evt_x"))["models"]) == 1


async def test_what_was_on_its_way_to_the_old_one_ends_with_it(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http) as server:
        await server.add_webhook("acme", sink.url, id="des_1")
        sink.status = 503
        for number in range(20):
            await server.call("POST", "/publish", PUBLISH | {"id": f"evt_{number}"})
        await until(lambda: len(sink.arrived) == 20)
        await server.call("DELETE", "/tenants/acme")
        await server.add_webhook("acme", sink.url, id="des_1")
        sink.status = 200
        assert not (await server.call("POST", "/publish", PUBLISH | {"id": "evt_3"}))["duplicate"]
        async with asyncio.timeout(50):
            while not (await server.call("GET", "/attempts?tenant_id=acme&status=success"))["models"]:
                await asyncio.sleep(0.05)
        delivered = (await server.call("GET", "/attempts?status=success"))["models"]
        assert [attempt["event_id"] for attempt in delivered] == ["evt_3"]
        left = (await server.call("GET", "/deliveries?tenant_id=acme%201"))["models"]
        assert {delivery["status"] for delivery in left} == {"cancelled"}
        assert len(left) == 20
