"""PagerDuty against a stand-in that judges each event by the rules of its OpenAPI description."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given

from tests.alerts.kit import complaints, connected, local_tools, notice
from tests.alerts.openapi_sink import OpenApiSink, document, openapi_sink, says
from tests.alerts.vendor import NOTICES, Vendor, WhatAllOwe, answers, failure, full
from tests.net.receivers import Seen
from waypost.alerts.pagerduty import PagerDutyType, event
from waypost.connect.channel import Notice
from waypost.connect.connector import Receipt

KEY = "0123456789abcdefABCDEF0123456789"
PAGERDUTY = Vendor(
    kind=PagerDutyType(),
    options=lambda url: {"pagerduty_base_url": url},
    credentials=lambda url: {"routing_key": KEY},
    secrets=(KEY,),
)
ACCEPTED = says(202, {"status": "success", "message": "Event processed", "dedup_key": "waypost:acme:des_1"})
RULES = OpenApiSink(document("pagerduty"), ACCEPTED)


class TestWhatAllOwe(WhatAllOwe):
    vendor = PAGERDUTY


def check(body: bytes) -> None:
    # https://developer.pagerduty.com/docs/events-api-v2-overview#response-codes--retry-logic: 512 KB at most
    assert len(body) <= 512 * 1024
    reason = RULES.problem(Seen("POST", "/v2/enqueue", {"content-type": "application/json"}, body))
    assert reason is None


async def sent(told: Notice, region: str = "us") -> tuple[Receipt, Any]:
    """The receipt and the one event."""
    async with openapi_sink(document("pagerduty"), ACCEPTED) as sink:
        option = {"us": "pagerduty_base_url", "eu": "pagerduty_eu_base_url"}[region]
        options: dict[str, Any] = {option: f"{sink.url}/"}
        async with (
            local_tools(**options) as tools,
            connected(PAGERDUTY.kind, {"region": region}, {"routing_key": KEY}, tools) as connection,
        ):
            receipt = await connection.send(told)
    assert sink.refused == []
    (seen,) = sink.accepted
    return receipt, json.loads(seen.body)


@pytest.mark.parametrize("region", ["us", "eu"])
async def test_an_incident_is_triggered(region: str) -> None:
    receipt, body = await sent(notice(), region)
    assert receipt.code == "202"
    assert receipt.response is not None
    assert "Event processed" in receipt.response["body"]
    assert body == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "waypost:acme:des_1",
        "payload": {
            "summary": "des_1 of acme has failed 50 times in a row",
            "source": "waypost.example",
            "severity": "warning",
            "timestamp": "2024-01-01T12:00:00Z",
            "component": "des_1",
            "group": "acme",
            "class": "alert.destination.consecutive_failure",
            "custom_details": json.loads(notice().envelope),
        },
        "links": [{"href": notice().link, "text": "Open in Waypost"}],
        "client": "Waypost",
        "client_url": notice().link,
    }


async def test_an_incident_is_resolved() -> None:
    _, body = await sent(notice(resolves=True, severity="info"))
    assert body == {"routing_key": KEY, "event_action": "resolve", "dedup_key": "waypost:acme:des_1"}


async def test_news_about_the_server_without_a_link() -> None:
    envelope = b'{"id":"alr_1","topic":"alert.backlog.age","time":"now","tenant_id":null,"data":{}}'
    _, body = await sent(notice(link=None, envelope=envelope, severity="critical"))
    assert not {"links", "client_url"} & set(body)
    assert body["payload"]["source"] == "waypost"
    assert body["payload"]["severity"] == "critical"
    assert not {"group", "component"} & set(body["payload"])


async def test_markup_is_nothing_to_pagerduty_and_stays() -> None:
    _, body = await sent(notice(title="<!channel> [x](https://evil.example)"))
    assert body["payload"]["summary"] == "<!channel> [x](https://evil.example)"


@pytest.mark.parametrize("mark", ["x", "é", '\\"', "\\u0000"])
async def test_an_event_too_large_for_pagerduty_is_clipped(mark: str) -> None:
    data = f'{{"event":{{"data":"{mark * 600_000}"}}}}'
    envelope = f'{{"id":"alr_1","topic":"t","time":"now","tenant_id":"acme","data":{data}}}'
    _, body = await sent(notice(envelope=envelope.encode()))
    clipped = body["payload"]["custom_details"]["clipped"]
    assert clipped.startswith('{"id":"alr_1","topic":"t","time":"now","tenant_id":"acme","data":')
    assert clipped.endswith("…")
    assert body["payload"]["group"] == "acme"


def test_a_long_key_opens_and_resolves_the_same_incident() -> None:
    keys = {
        json.loads(event(notice(dedup_key="k" * 300 + end, resolves=resolves), KEY))["dedup_key"]
        for end in "ab"
        for resolves in (True, False)
    }
    assert len(keys) == 2


@given(NOTICES)
@example(full("x"))
@example(full("\u0001"))
def test_every_notice_makes_an_event_that_pagerduty_takes(told: Notice) -> None:
    check(event(told, KEY))


async def test_what_an_error_means() -> None:
    said = b'{"status": "invalid event", "message": "Event object is invalid", "errors": ["\'routing_key\' is wrong"]}'
    error = await failure(PAGERDUTY, answers(400, said))
    assert error.sentence == "PagerDuty does not accept the integration key, or does not understand the event"
    assert error.response == {"status_code": 400, "body": said.decode()}


@pytest.mark.parametrize("key", ["", "x" * 31, "x" * 33, "https://evil.example/aaaaaaaaaaa"])
async def test_what_is_no_key(key: str) -> None:
    async with local_tools() as tools:
        (problem,) = complaints(PAGERDUTY.kind, {}, {"routing_key": key}, tools)
    assert problem.startswith("credentials.routing_key ")


async def test_what_is_no_region() -> None:
    async with local_tools() as tools:
        (problem,) = complaints(PAGERDUTY.kind, {"region": "evil.example"}, {"routing_key": KEY}, tools)
    assert problem == "config.region must be one of: us, eu"


def test_the_target() -> None:
    assert PAGERDUTY.kind.target({}, {"routing_key": KEY}) == "integration 0123****"
