"""Opsgenie against a stand-in that checks alerts as Opsgenie documents them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given

from tests.alerts.kit import complaints, connected, local_tools, notice
from tests.alerts.vendor import NOTICES, Vendor, WhatAllOwe, answers, connection_to, failure, full
from tests.net.receivers import Exchange, Seen, receiver
from waypost.alerts.opsgenie import OpsgenieType, alert, closing
from waypost.connect.channel import Notice

KEY = "eb243592-faa2-4ba2-a551-1afdf565c889"
OPSGENIE = Vendor(
    kind=OpsgenieType(),
    options=lambda url: {"opsgenie_base_url": url},
    credentials=lambda url: {"api_key": KEY},
    secrets=(KEY,),
)


class TestWhatAllOwe(WhatAllOwe):
    vendor = OPSGENIE


def check_alert(body: dict[str, Any]) -> None:
    """https://docs.opsgenie.com/docs/alert-api#create-alert"""
    assert set(body) == {"message", "alias", "description", "priority", "source", "tags", "details"}
    assert 1 <= len(body["message"]) <= 130
    assert 1 <= len(body["alias"]) <= 512
    assert len(body["description"]) <= 15_000
    assert body["priority"] in {"P1", "P2", "P3", "P4", "P5"}
    assert len(body["source"]) <= 100
    assert len(body["tags"]) <= 20
    assert all(1 <= len(tag) <= 50 for tag in body["tags"])
    assert all(isinstance(value, str) for value in body["details"].values())
    assert sum(len(key) + len(value) for key, value in body["details"].items()) <= 8_000
    assert all(body["details"])
    # https://docs.opsgenie.com/docs/alerts-and-alert-fields: messages and descriptions may be HTML
    assert not set("<>") & set(json.dumps(body))


def check_closing(body: dict[str, Any]) -> None:
    """https://docs.opsgenie.com/docs/alert-api#close-alert"""
    assert set(body) == {"source", "note"}
    assert len(body["source"]) <= 100
    assert len(body["note"]) <= 25_000
    assert not set("<>") & set(json.dumps(body))


class Opsgenie:
    """Takes alerts of one key, and knows which are open."""

    def __init__(self) -> None:
        self.open: dict[str, dict[str, Any]] = {}

    async def __call__(self, exchange: Exchange) -> None:
        seen = exchange.seen
        if seen.headers["authorization"] != f"GenieKey {KEY}":
            await exchange.answer(403, b'{"message": "Could not authenticate"}')
            return
        try:
            assert seen.headers["content-type"] == "application/json"
            self.take(seen, json.loads(seen.body))
        except (AssertionError, KeyError, ValueError):
            await exchange.answer(422, b'{"message": "Request body is not processable"}')
        else:
            await exchange.answer(202, b'{"result": "Request will be processed", "requestId": "43a29c5c"}')

    def take(self, seen: Seen, body: dict[str, Any]) -> None:
        parts = urlsplit(seen.path)
        assert seen.method == "POST"
        if parts.path == "/v2/alerts":
            check_alert(body)
            self.open[body["alias"]] = body
        else:
            _, version, alerts, alias, close = parts.path.split("/")
            assert (version, alerts, close, parts.query) == ("v2", "alerts", "close", "identifierType=alias")
            check_closing(body)
            del self.open[unquote(alias)]


async def test_an_alert_is_created_and_closed() -> None:
    opsgenie = Opsgenie()
    async with connection_to(OPSGENIE, opsgenie) as (connection, server):
        receipt = await connection.send(notice())
        created = dict(opsgenie.open)
        await connection.send(notice(resolves=True, severity="info", text="It works again."))
    assert receipt.code == "202"
    assert receipt.response is not None
    assert "43a29c5c" in receipt.response["body"]
    (body,) = created.values()
    assert body == {
        "message": "des_1 of acme has failed 50 times in a row",
        "alias": "waypost:acme:des_1",
        "description": f"{notice().text}\n\n{notice().link}",
        "priority": "P3",
        "source": "Waypost",
        "tags": ["waypost", "alert.destination.consecutive_failure"],
        "details": dict(notice().facts)
        | {"Error": "503: the receiver answered 503 \u2039Service Unavailable\u203a & closed"},
    }
    assert opsgenie.open == {}
    assert server.seen[1].path == "/v2/alerts/waypost%3Aacme%3Ades_1/close?identifierType=alias"
    assert json.loads(server.seen[1].body)["note"].endswith("\n\nIt works again.")


async def test_an_account_in_the_eu_with_an_odd_key_and_no_link() -> None:
    opsgenie = Opsgenie()
    odd = "a b/c?d#e%2F" + "é" * 600
    async with (
        receiver(opsgenie) as server,
        local_tools(opsgenie_eu_base_url=f"http://127.0.0.1:{server.port}/") as tools,
        connected(OPSGENIE.kind, {"region": "eu"}, {"api_key": KEY}, tools) as connection,
    ):
        for key in (odd, odd[:20]):
            await connection.send(notice(dedup_key=key, link=None, severity="critical"))
            assert [body["priority"] for body in opsgenie.open.values()] == ["P1"]
            await connection.send(notice(dedup_key=key, resolves=True))
            assert opsgenie.open == {}


async def test_html_of_an_event_is_text() -> None:
    opsgenie = Opsgenie()
    evil = '<a href="https://evil.example">Open</a>'
    async with connection_to(OPSGENIE, opsgenie) as (connection, _):
        await connection.send(notice(title=evil, text=evil, facts=((evil, evil),)))
    (body,) = opsgenie.open.values()
    assert body["message"] == '\u2039a href="https://evil.example"\u203aOpen\u2039/a\u203a'


@given(NOTICES)
@example(full("x"))
@example(full("<"))
def test_every_notice_makes_an_alert_that_opsgenie_takes(told: Notice) -> None:
    check_alert(json.loads(alert(told, "alias")))
    check_closing(json.loads(closing(told)))


@pytest.mark.parametrize("status", [401, 403])
async def test_what_an_error_means(status: int) -> None:
    error = await failure(OPSGENIE, answers(status, b'{"message": "Could not authenticate"}'))
    expected = "Opsgenie does not accept the API key: it is wrong, of another region, or may not create alerts"
    assert (error.sentence, error.retryable) == (expected, False)


@pytest.mark.parametrize("key", ["", "short", "x" * 101, "eb243592 faa2 4ba2 a551", "eb243592-faa2-4ba2\r\nhost: evil"])
async def test_what_is_no_key(key: str) -> None:
    async with local_tools() as tools:
        (problem,) = complaints(OPSGENIE.kind, {}, {"api_key": key}, tools)
    assert problem.startswith("credentials.api_key ")


async def test_what_is_no_region() -> None:
    async with local_tools() as tools:
        (problem,) = complaints(OPSGENIE.kind, {"region": "evil.example"}, {"api_key": KEY}, tools)
    assert problem == "config.region must be one of: us, eu"


def test_the_target() -> None:
    assert OPSGENIE.kind.target({}, {"api_key": KEY}) == "integration eb24****"
