"""A cell of the database that cannot be read is the trouble of its row and of nobody else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def damage(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "waypost.db") as db:
        assert db.execute(statement).rowcount > 0
    db.close()


def event(number: int) -> dict[str, Any]:
    return {"id": f"evt_{number}", "tenant_id": "acme", "topic": "order.created", "data": {"n": number}}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("cell", "repair"),
    [
        ("credentials = zeroblob(40)", {"credentials": {"secret": SECRET}}),
        ("credentials = zeroblob(0)", {"credentials": {"secret": SECRET}}),
        ("retry_policy = '{'", {"retry_policy": None}),
        ("metadata = '[1]'", {"metadata": None}),
    ],
)
async def test_deliveries_wait_until_it_is_saved_anew(
    tmp_path: Path, http: HttpClient, cell: str, repair: dict[str, Any]
) -> None:
    async with Sink() as broken, Sink() as whole, Server(tmp_path, http) as server:
        await server.add_webhook("acme", broken.url, id="broken")
        await server.add_webhook("acme", whole.url, id="whole")
        await server.stop()
        damage(tmp_path, f"UPDATE destinations SET {cell} WHERE id = 'broken'")
        await server.start()
        accepted = await server.call("POST", "/publish", event(1))
        assert sorted(accepted["destination_ids"]) == ["broken", "whole"]
        await until(lambda: whole.arrived["evt_1"] == 1)
        listed = await server.call("GET", "/tenants/acme/destinations")
        (field,) = repair
        assert {one["id"]: one.get("damaged") for one in listed} == {"broken": [field], "whole": None}
        refused = await server.send("PUT", "/tenants/acme/destinations/broken/disable")
        assert refused.status == 422
        assert b"save it anew" in refused.body
        assert not broken.arrived
        assert not (await server.call("GET", "/attempts?destination_id=broken"))["models"]
        await server.call("PATCH", "/tenants/acme/destinations/broken", repair)
        await until(lambda: broken.arrived["evt_1"] == 1)


@pytest.mark.parametrize(
    "cell", ["filter = '{'", "topics = 'x'", "config = ''", "subscriptions = '7'", "disabled = '.'"]
)
async def test_publishing_goes_on(tmp_path: Path, http: HttpClient, sink: Sink, cell: str) -> None:
    async with Server(tmp_path, http) as server:
        await server.add_webhook("acme", sink.url, id="broken")
        await server.add_webhook("acme", sink.url, id="whole")
        await server.stop()
        damage(tmp_path, f"UPDATE destinations SET {cell} WHERE id = 'broken'")
        await server.start()
        assert "whole" in (await server.call("POST", "/publish", event(1)))["destination_ids"]
        await until(lambda: sink.arrived["evt_1"] >= 1)
        for path in ("/tenants/acme", "/tenants", "/tenants/acme/destinations", "/events", "/attempts"):
            assert (await server.send("GET", path)).status == 200, path
        await server.call("DELETE", "/tenants/acme/destinations/broken")


async def test_channels_rules_and_topics_too(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http) as server:
        await server.add_webhook("acme", sink.url)
        channel = {"type": "webhook", "name": "ours", "config": {"url": sink.url}, "topics": ["attempt.*"]}
        made = await server.call("POST", "/alert-channels", channel)
        await server.call("POST", "/alert-rules", {"kind": "consecutive_failures", "tenant_id": "acme"})
        await server.call("PUT", "/topics/order.created", {"description": "one", "schema": {"type": "object"}})
        await server.stop()
        damage(tmp_path, "UPDATE alert_channels SET credentials = zeroblob(40)")
        damage(tmp_path, "UPDATE alert_rules SET thresholds = '{'")
        damage(tmp_path, "UPDATE topics SET schema = '{', example = '{'")
        await server.start()
        await server.call("POST", "/publish", event(1))
        await until(lambda: sink.arrived["evt_1"] == 1)
        async with asyncio.timeout(60):
            while not (await server.call("GET", "/attempts"))["models"]:
                await asyncio.sleep(0.02)
        (listed,) = await server.call("GET", "/alert-channels")
        assert (listed["damaged"], listed["enabled"]) == (["credentials"], False)
        for path in ("/alert-rules", "/topics", "/alerts"):
            await server.call("GET", path)
        await server.call(
            "PATCH", f"/alert-channels/{made['id']}", {"credentials": {"secret": SECRET}, "enabled": True}
        )
