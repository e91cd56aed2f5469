"""A real server removes what has had its time, and goes on removing after a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow


async def publish(server: Server, count: int, **fields: Any) -> None:
    batch = [{"tenant_id": "acme", "data": {"name": "Ada Lovelace"}, **fields} for _ in range(count)]
    await server.call("POST", "/publish/batch", batch)


async def test_events_go_while_others_come(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http, retention_events="1", retention_interval="0.05") as server:
        await server.add_webhook("acme", sink.url)
        await server.add_webhook("zeta", sink.url)
        await server.call("PUT", "/tenants/zeta/retention", {"events_seconds": 0})
        await server.call("POST", "/publish", {"id": "kept", "tenant_id": "zeta", "data": {}})
        for _ in range(10):
            await publish(server, 100)
        async with asyncio.timeout(60):
            while [event["id"] for event in (await server.call("GET", "/events?limit=2"))["models"]] != ["kept"]:
                await asyncio.sleep(0.05)
        attempts = (await server.call("GET", "/attempts?limit=2"))["models"]
        assert [attempt["event_id"] for attempt in attempts] == ["kept"]
        assert sink.arrived["kept"] == 1


async def test_expunging_goes_on_after_a_crash_and_leaves_nothing(tmp_path: Path, http: HttpClient) -> None:
    async with Server(tmp_path, http, retention_share="0.02") as server:
        await server.call("PUT", "/tenants/acme")
        for _ in range(20):
            await publish(server, 100)
        await server.call("POST", "/tenants/acme/expunge")
        await server.kill()
        await server.start()
        async with asyncio.timeout(100):
            while (job := await server.call("GET", "/tenants/acme/expunge"))["status"] == "running":
                await asyncio.sleep(0.05)
        assert job["events"] == 2_000
        async with asyncio.timeout(30):
            while any(b"Lovelace" in file.read_bytes() for file in tmp_path.glob("waypost.db*")):
                await asyncio.sleep(0.1)
