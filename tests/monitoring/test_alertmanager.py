"""A real Alertmanager with the example's routes and texts, told of an alert: what Slack and PagerDuty get from it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.servers import free_port

from tests.net.receivers import Receiver, receiver
from tests.servers.harness import HOST, listens, program, start
from waypost.net.http import HttpClient, HttpRequest

from .files import ALERTMANAGER

pytestmark = pytest.mark.server

ALERT = {
    "labels": {"alertname": "WaypostDown", "severity": "critical", "job": "waypost", "instance": "10.0.0.7:3333"},
    "annotations": {
        "summary": "Waypost on 10.0.0.7:3333 is down",
        "description": "Prometheus has not been able to scrape it for 2 minutes.",
        "runbook_url": "docs/monitoring.md#waypostdown",
    },
}


def localised(folder: Path, vendor: str) -> Path:
    """The example, its secrets in this folder and its vendors here. It does not wait for more alerts of a group."""
    example = ALERTMANAGER.read_text(encoding="utf-8")
    for secret, value in (
        ("smtp_password", "x"),
        ("slack_webhook_url", f"{vendor}/slack"),
        ("pagerduty_routing_key", "key"),
    ):
        (folder / secret).write_text(value)
    for placeholder, here in (
        ("/etc/alertmanager/secrets", str(folder)),
        ("global:\n", f"global:\n  pagerduty_url: {vendor}/pagerduty\n"),
        ("group_wait: 10s", "group_wait: 0s"),
        ("group_wait: 30s", "group_wait: 0s"),
    ):
        assert placeholder in example
        example = example.replace(placeholder, here)
    config = folder / "alertmanager.yml"
    config.write_text(example)
    return config


async def heard(vendor: Receiver) -> dict[str, Any]:
    """What both services were told, by path."""
    async with asyncio.timeout(20):
        while len({seen.path for seen in vendor.seen}) < 2:
            await asyncio.sleep(0.05)
    return {seen.path: msgspec.json.decode(seen.body) for seen in vendor.seen}


async def test_a_critical_alert_reaches_slack_and_pagerduty(tmp_path: Path, http: HttpClient) -> None:
    async with receiver() as vendor:
        port = free_port()
        argv = [
            program("prometheus-alertmanager"),
            f"--config.file={localised(tmp_path, f'http://{HOST}:{vendor.port}')}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",
        ]
        with start("alertmanager", argv, port=port, ready=lambda: listens(port)) as server:
            told = await http.send(
                HttpRequest(
                    method="POST",
                    url=f"http://{server.address}/api/v2/alerts",
                    headers=["content-type: application/json"],
                    body=msgspec.json.encode([ALERT]),
                )
            )
            assert told.status == 200, told.body
            both = await heard(vendor)
    (message,) = both["/slack"]["attachments"]
    assert message["title"] == "Waypost on 10.0.0.7:3333 is down"
    assert message["text"].startswith("Prometheus has not been able to scrape it for 2 minutes. docs/monitoring.md#")
    assert (both["/slack"]["channel"], message["color"]) == ("#waypost", "danger")
    incident = both["/pagerduty"]
    assert (incident["routing_key"], incident["event_action"]) == ("key", "trigger")
    assert incident["payload"]["summary"] == "Waypost on 10.0.0.7:3333 is down"
    assert incident["payload"]["severity"] == "critical"
    assert incident["payload"]["custom_details"]["runbook"] == "docs/monitoring.md#waypostdown"
