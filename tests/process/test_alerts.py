"""Alerts of a running server: told after a crash, and a destination's whole story through the API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

SETTINGS = {
    "alert_consecutive_failures": "4",
    "auto_disable_failures": "4",
    "auto_disable_any": "true",
    "retry_schedule": "3600",
    "alert_retry_base": "0.2",
}


async def publish(server: Server, count: int) -> list[str]:
    body = {"tenant_id": "acme", "topic": "order.created", "data": {"n": 1}}
    return [(await server.call("POST", "/publish", body))["id"] for _ in range(count)]


async def add_channel(server: Server, url: str, **fields: Any) -> Any:
    return await server.call("POST", "/alert-channels", {"type": "webhook", "config": {"url": url}, **fields})


def topics(sink: Sink) -> list[str]:
    return [msgspec.json.decode(request.body)["topic"] for request in sink.requests]


async def heard(sink: Sink, topic: str) -> None:
    async with asyncio.timeout(20):
        while topic not in topics(sink):
            await asyncio.sleep(0.02)


async def destination(server: Server, wanted: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            found = await server.call("GET", "/tenants/acme/destinations/des_1/health")
            if found["status"] == wanted:
                return await server.call("GET", "/tenants/acme/destinations/des_1")
            await asyncio.sleep(0.02)


async def test_an_alert_survives_kill_9_between_record_and_notify(tmp_path: Path, http: HttpClient) -> None:
    async with Sink() as receiver, Sink() as pager:
        receiver.status = 503
        server = Server(tmp_path, http, **SETTINGS)
        await server.start()
        await server.add_webhook("acme", receiver.url, id="des_1")
        await add_channel(server, pager.url)
        pager.silent = True  # the alert is on record and on its way, but never acknowledged
        await publish(server, 4)
        await destination(server, "disabled")
        await server.kill()
        assert pager.requests == []
        pager.silent = False
        async with server:
            await heard(pager, "alert.destination.disabled")
            await heard(pager, "alert.destination.consecutive_failure")
            found = (await server.call("GET", "/alerts"))["models"]
    assert [alert["data"]["threshold"] for alert in found if alert["kind"] == "consecutive_failures"] == [100, 70, 50]
    assert max(pager.arrived.values()) <= 2


async def test_a_destinations_whole_story(tmp_path: Path, http: HttpClient) -> None:
    async with Sink() as receiver, Sink() as pager, Server(tmp_path, http, **SETTINGS) as server:
        receiver.status = 503
        await server.add_webhook("acme", receiver.url, id="des_1")
        await add_channel(server, pager.url, name="on call")

        # it fails and is disabled
        await publish(server, 4)
        down = await destination(server, "disabled")
        assert down["disabled"]["reason"] == "consecutive_failures"
        assert down["disabled"]["by"] == "system"
        assert (down["disabled"]["code"], down["disabled"]["consecutive_failures"]) == ("503", 4)
        await heard(pager, "alert.destination.disabled")

        # what is published meanwhile is kept
        kept = await publish(server, 3)
        (skip,) = (await server.call("GET", f"/events/{kept[0]}"))["skipped"]
        assert (skip["destination_id"], skip["reason"]) == ("des_1", "disabled")
        assert (await server.call("GET", "/tenants/acme/destinations/des_1/health"))["kept_events"] == 3

        # it is repaired, enabled, and gets what it missed; the paused retries go on
        receiver.status = 200
        await server.call("PUT", "/tenants/acme/destinations/des_1/enable")
        assert await server.call("POST", "/tenants/acme/destinations/des_1/recover") == {"recovered": 3}
        await heard(pager, "alert.destination.recovered")
        async with asyncio.timeout(20):
            while set(kept) - receiver.arrived.keys():
                await asyncio.sleep(0.02)
        assert (await destination(server, "healthy"))["disabled_at"] is None

        # and all of it can be read
        alerts = (await server.call("GET", "/alerts?dir=asc&destination_id=des_1"))["models"]
        kinds = [alert["kind"] for alert in alerts if alert["kind"] != "consecutive_failures"]
        assert kinds == ["destination_disabled", "recovered"]
        assert all(alert["event_id"] and alert["attempt_id"] and alert["facts"]["Code"] for alert in alerts)
        written = (await server.call("GET", "/audit-log?dir=asc&subject=des_1"))["models"]
        assert [(entry["action"], entry["actor"]["type"]) for entry in written] == [
            ("destination.create", "api_key"),
            ("destination.disable", "system"),
            ("destination.enable", "api_key"),
            ("destination.recover", "api_key"),
        ]
        assert {entry["actor"]["ip"] for entry in written} == {"127.0.0.1", None}
        seen = await server.call("POST", f"/alerts/{alerts[0]['id']}/acknowledge")
        assert seen["acknowledged_by"] == "api_key:settings"
        (channel,) = await server.call("GET", "/alert-channels")
        assert (channel["state"]["waiting"], channel["state"]["error"]) == (0, None)


async def test_the_envelope_is_outposts(tmp_path: Path, http: HttpClient) -> None:
    async with Sink() as receiver, Sink() as pager, Server(tmp_path, http, deployment_id="eu-1", **SETTINGS) as server:
        receiver.status = 503
        await server.add_webhook("acme", receiver.url, id="des_1")
        await add_channel(server, pager.url, topics="*")
        await publish(server, 2)
        await heard(pager, "alert.destination.consecutive_failure")
        await heard(pager, "attempt.failed")
        await server.call("DELETE", "/tenants/acme/destinations/des_1")
        await heard(pager, "tenant.subscription.updated")
    envelopes = {(read := msgspec.json.decode(request.body))["topic"]: read for request in pager.requests}
    failing = envelopes["alert.destination.consecutive_failure"]
    assert set(failing) == {"id", "topic", "time", "deployment_id", "tenant_id", "data"}
    assert failing["data"]["consecutive_failures"] == {"current": 2, "max": 4, "threshold": 50}
    assert failing["data"]["event"]["data"] == {"n": 1}
    assert failing["data"]["attempt"]["status"] == "failed"
    assert "credentials" not in failing["data"]["destination"]
    assert envelopes["tenant.subscription.updated"]["data"] == {
        "tenant_id": "acme",
        "topics": [],
        "previous_topics": ["*"],
        "destinations_count": 0,
        "previous_destinations_count": 1,
    }
