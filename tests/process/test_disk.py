"""What a server says while its disk is full, and when its file is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waypost.net.http import HttpClient, HttpRequest, HttpResponse

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow


async def asked(http: HttpClient, server: Server, path: str) -> HttpResponse:
    return await http.send(HttpRequest(method="GET", url=f"{server.url}{path}"))


async def until(http: HttpClient, server: Server, path: str, status: int) -> Any:
    async with asyncio.timeout(90):
        while (answer := await asked(http, server, path)).status != status:
            await asyncio.sleep(0.1)
    return msgspec.json.decode(answer.body)["workers"]


async def test_a_full_disk_is_told_and_so_is_its_end(small_disk: Path, http: HttpClient, tmp_path: Path) -> None:
    settings = {"alert_store_trouble_after": "1", "alert_store_trouble_window": "4"}
    with (tmp_path / "log").open("wb") as log:
        async with Sink() as sink, Sink() as pager:
            server = Server(small_disk, http, **settings)
            await server.start(log)
            await server.add_webhook("acme", sink.url)
            await server.call("POST", "/alert-channels", {"type": "webhook", "config": {"url": pager.url}})
            await until(http, server, "/readyz", 200)
            full = asyncio.create_task(fill(server))
            unwell = await until(http, server, "/healthz", 503)
            unready = await until(http, server, "/readyz", 503)
            assert (await asked(http, server, "/livez")).status == 200
            assert unwell["store"] == unready["store-writable"] == {"status": "failed"}
            assert unwell["store-writer"] == {"status": "healthy"}
            assert await server.number("waypost_store_disk_free_bytes") < 1_000_000
            full.cancel()
            await told(pager, "alert.store.trouble")
            remounting = await asyncio.create_subprocess_exec("mount", "-o", "remount,size=64m", str(small_disk))
            assert await remounting.wait() == 0
            await told(pager, "alert.store.recovered")
            await until(http, server, "/readyz", 200)
            await until(http, server, "/healthz", 200)
            assert await server.stop() == 0
    lines = (tmp_path / "log").read_text()
    assert lines.count('"disk_full"') == 1
    assert "free_bytes" in lines
    assert "cannot rollback" not in lines


async def fill(server: Server) -> None:
    while True:
        body = {"tenant_id": "acme", "data": {"filler": "x" * 20_000}}
        await server.send("POST", "/publish", body)
        await asyncio.sleep(0.01)


async def told(pager: Sink, topic: str) -> None:
    async with asyncio.timeout(90):
        while topic not in [msgspec.json.decode(request.body)["topic"] for request in pager.requests]:
            await asyncio.sleep(0.1)


async def test_a_file_that_is_gone_is_no_place_for_events(tmp_path: Path, http: HttpClient) -> None:
    async with Server(tmp_path, http) as server:
        await server.call("PUT", "/tenants/acme")
        event = {"tenant_id": "acme", "data": {}}
        assert (await server.send("POST", "/publish", event)).status == 202
        away = (tmp_path / "waypost.db").rename(tmp_path / "away.db")
        assert (await server.send("POST", "/publish", event)).status == 503
        unwell = await until(http, server, "/healthz", 503)
        assert unwell["store-writer"] == {"status": "failed"}
        await until(http, server, "/readyz", 503)
        away.rename(tmp_path / "waypost.db")
        assert (await server.send("POST", "/publish", event)).status == 202
        await until(http, server, "/healthz", 200)
