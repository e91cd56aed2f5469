"""Replays of a running server: across a crash, beside live traffic, called off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

EVENTS = 1_000
BATCH = 500


async def published(server: Server, sink: Sink) -> list[str]:
    """Events that were delivered once."""
    for first in range(0, EVENTS, BATCH):
        events = [
            {"id": f"evt_{number}", "tenant_id": "acme", "topic": "order.created", "data": {"n": number}}
            for number in range(first, first + BATCH)
        ]
        assert (await server.send("POST", "/publish/batch", {"events": events})).status == 202
    await until(lambda: len(sink.arrived) == EVENTS)
    return [f"evt_{number}" for number in range(EVENTS)]


async def until(holds: Any) -> None:
    async with asyncio.timeout(50):
        while not holds():
            await asyncio.sleep(0.02)


async def ended(server: Server, replay: Any) -> Any:
    async with asyncio.timeout(50):
        while True:
            now = await server.call("GET", f"/replays/{replay['id']}")
            if now["ended_at"]:
                return now
            await asyncio.sleep(0.05)


async def test_kill_9_in_the_middle_misses_no_event(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    server = Server(tmp_path, http)
    await server.start()
    await server.add_webhook("acme", sink.url, id="des_1")
    events = await published(server, sink)
    replay = await server.call("POST", "/replays", {"tenant_id": "acme", "destination_id": "des_1"})
    assert replay["selected"] == EVENTS
    for share in (0.2, 0.5):
        await until(lambda share=share: sink.arrived.total() > EVENTS * (1 + share))
        await server.kill()
        assert sink.arrived.total() < 2 * EVENTS, "it had ended before it was killed"
        await server.start()
    done = await ended(server, replay)
    assert await server.stop() == 0
    assert (done["status"], done["total"], done["delivered"], done["failed"]) == ("completed", EVENTS, EVENTS, 0)
    assert all(sink.arrived[event_id] >= 2 for event_id in events)
    assert sink.arrived.total() < 2 * EVENTS + 2 * 100, "hardly any event is sent twice for a crash"


async def test_cancelling_stops_it_and_says_who_did(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http, replay_rate="200") as server:
        await server.add_webhook("acme", sink.url, id="des_1")
        await published(server, sink)
        replay = await server.call("POST", "/replays", {"events": {"topic": "order.created"}})
        await until(lambda: sink.arrived.total() > EVENTS)
        await server.call("POST", f"/replays/{replay['id']}/cancel")
        done = await ended(server, replay)
        assert done["status"] == "cancelled"
        assert 0 < done["delivered"] == done["total"] < EVENTS
        assert done["total"] + done["skipped"]["cancelled"] == done["examined"]
        assert sink.arrived.total() == EVENTS + done["delivered"]
        written = (await server.call("GET", f"/audit-log?dir=asc&subject={replay['id']}"))["models"]
        assert [each["action"] for each in written] == ["replay.create", "replay.cancel", "replay.end"]
        who = {"type": "api_key", "name": "settings", "ip": "127.0.0.1"}
        assert [each["actor"] for each in written] == [who] * 3
        assert written[2]["detail"]["delivered"] == done["delivered"]


async def test_live_events_go_past_it(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http) as server:
        await server.add_webhook("acme", sink.url, id="des_1")
        await published(server, sink)
        replay = await server.call("POST", "/replays", {"events": {"topic": "order.created"}})
        live = {"id": "live", "tenant_id": "acme", "topic": "user.created", "data": {}}
        await server.call("POST", "/publish", live)
        await until(lambda: sink.arrived["live"])
        assert (await server.call("GET", f"/replays/{replay['id']}"))["waiting"]
        assert (await ended(server, replay))["delivered"] == EVENTS
