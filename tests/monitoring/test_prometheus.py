"""A real Prometheus scrapes a real Waypost: every panel has data, every rule is well."""

from __future__ import annotations

import asyncio
import math
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.process.server import Server
from tests.process.sink import Sink
from tests.servers.harness import program
from tests.servers.prometheus import Prometheus
from waypost.net.http import HttpClient, HttpRequest

from .files import ALERTS, RECORDED, panels, queries

pytestmark = [pytest.mark.server, pytest.mark.slow]


@asynccontextmanager
async def traffic(server: Server, good: Sink, bad: Sink) -> AsyncIterator[None]:
    """Publishes that are delivered, retried, given up, duplicate, unmatched and refused, for the length of a `with`."""
    bad.status = 500
    await server.add_webhook("acme", good.url)
    await server.add_webhook("acme", bad.url)
    publishing = asyncio.ensure_future(_publish(server))
    try:
        yield
        assert not publishing.done()
    finally:
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing


async def _publish(server: Server) -> None:
    number = 0
    while True:
        number += 1
        event = {"id": f"evt_{number}", "tenant_id": "acme", "topic": "order.created", "data": {}}
        await server.call("POST", "/publish", event)
        await server.call("POST", "/publish", event)
        await server.call("POST", "/publish", {"tenant_id": "nobody", "data": {}})
        assert (await server.send("POST", "/publish", {"tenant_id": "acme"})).status == 422
        await asyncio.sleep(0.05)


def empty(panel: dict[str, Any], prometheus: Prometheus, instance: str) -> list[str]:
    """The panel's queries that show nothing, with Grafana's variables filled in."""
    filled = [query.replace("$__rate_interval", "15s").replace("$instance", instance) for query in queries(panel)]
    return [query for query in filled if all(map(math.isnan, prometheus.query(query)))]


async def shown(prometheus: Prometheus, instance: str, seconds: float = 60) -> None:
    """Wait until every panel has data."""
    missing: list[str] = ["everything"]
    try:
        async with asyncio.timeout(seconds):
            while missing:
                await asyncio.sleep(0.5)
                missing = [query for panel in panels() for query in empty(panel, prometheus, instance)]
    except TimeoutError:
        pytest.fail(f"no data for {missing}")


async def evaluated(prometheus: Prometheus, seconds: float = 30) -> list[dict[str, Any]]:
    """Our rules, once each of them has been evaluated."""
    async with asyncio.timeout(seconds):
        while True:
            rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
            if all(rule["health"] != "unknown" for rule in rules):
                return rules
            await asyncio.sleep(0.2)


async def test_every_panel_has_data_and_every_rule_is_well(
    prometheus: Prometheus, tmp_path: Path, http: HttpClient, sink: Sink
) -> None:
    async with Server(tmp_path, http, retry_schedule="0.2") as server, Sink() as bad, traffic(server, sink, bad):
        instance = prometheus.scrape(server.url)
        await shown(prometheus, instance)
        (target,) = prometheus.get("targets", state="active")["activeTargets"]
        assert (target["labels"], target["health"], target["lastError"]) == (
            {"job": "waypost", "instance": instance},
            "up",
            "",
        )
        rules = await evaluated(prometheus)
        assert sorted(rule["name"] for rule in rules) == sorted([*ALERTS, *RECORDED])
        assert {(rule["health"], rule.get("lastError")) for rule in rules} == {("ok", None)}
        assert prometheus.query('up{job="waypost"}') == [1]


async def test_promtool_has_nothing_to_say_about_the_metrics(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    promtool = program("promtool", package="prometheus")
    scraped = b""
    async with Server(tmp_path, http) as server, Sink() as bad, traffic(server, sink, bad), asyncio.timeout(20):
        while b"waypost_attempts_total{" not in scraped:
            scraped = (await http.send(HttpRequest(method="GET", url=f"{server.url}/metrics"))).body
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=scraped, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
