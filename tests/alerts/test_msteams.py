"""Microsoft Teams against a stand-in that checks cards as Microsoft documents them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given

from tests.alerts.kit import complaints, local_tools, notice
from tests.alerts.vendor import NOTICES, Vendor, WhatAllOwe, answers, connection_to, failure, full, url_problem
from tests.net.receivers import Exchange
from waypost.alerts.msteams import MsTeamsType, message
from waypost.connect.channel import Notice
from waypost.core.errors import SettingsError

SIGNATURE = "s3cr3t%2Fs3cr3ts3cr3t"
PATH = (
    "/workflows/0123456789abcdef/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun"
    f"&sv=1.0&sig={SIGNATURE}"
)
TEAMS = Vendor(
    kind=MsTeamsType(),
    options=lambda url: {"msteams_base_urls": [url]},
    credentials=lambda url: {"url": url + PATH},
    secrets=(SIGNATURE, "s3cr3t/s3cr3ts3cr3t"),
)
WORKFLOWS = (
    f"https://prod-12.westeurope.logic.azure.com:443{PATH}",
    f"https://default0a1b.2c.environment.api.powerplatform.com:443/powerautomate/automations/direct{PATH}",
)


class TestWhatAllOwe(WhatAllOwe):
    vendor = TEAMS


_ESCAPED = re.compile(r"\\[!-/:-@\[-`{-~]")
_MARKUP = set("\\`*_~[]<>#")


def check(body: bytes) -> None:
    """The rules of Microsoft, each with the page it is from."""
    # https://learn.microsoft.com/connectors/teams/#known-issues-and-limitations-with-actions: about 28 KB
    assert len(body) <= 28 * 1024
    # https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
    payload = json.loads(body)
    assert set(payload) == {"type", "attachments"}
    assert payload["type"] == "message"
    (attachment,) = payload["attachments"]
    assert set(attachment) == {"contentType", "contentUrl", "content"}
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["contentUrl"] is None
    check_card(attachment["content"])


def check_card(card: dict[str, Any]) -> None:
    # https://adaptivecards.io/explorer/AdaptiveCard.html
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
    # https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format: no mention without
    # an entity in here
    assert card["msteams"] == {"width": "Full"}
    for element in card["body"]:
        check_element(element)
    # https://adaptivecards.io/explorer/Action.OpenUrl.html
    for action in card["actions"]:
        assert set(action) == {"type", "title", "url"}
        assert action["type"] == "Action.OpenUrl"
        assert action["url"].startswith("https://")


def check_element(element: dict[str, Any]) -> None:
    if element["type"] == "TextBlock":  # https://adaptivecards.io/explorer/TextBlock.html
        assert set(element) <= {"type", "text", "wrap", "size", "weight", "color", "isSubtle"}
        assert element.get("size", "default") in {"default", "small", "medium", "large", "extraLarge"}
        assert element.get("color", "default") in {"default", "dark", "light", "accent", "good", "warning", "attention"}
        check_text(element["text"])
    else:  # https://adaptivecards.io/explorer/FactSet.html
        assert element["type"] == "FactSet"
        for fact in element["facts"]:
            assert set(fact) == {"title", "value"}
            check_text(fact["title"])
            check_text(fact["value"])


def check_text(text: str) -> None:
    """https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features: nothing left of Markdown"""
    assert not _MARKUP & set(_ESCAPED.sub("", text)), text


async def teams(exchange: Exchange) -> None:
    seen = exchange.seen
    if (seen.method, seen.path) != ("POST", PATH):
        await exchange.answer(401, b'{"error": {"code": "DirectApiAuthorizationRequired"}}')
        return
    try:
        assert seen.headers["content-type"] == "application/json"
        check(seen.body)
    except (AssertionError, KeyError, ValueError):
        await exchange.answer(400, b'{"error": {"code": "InvalidRequest"}}')
    else:
        await exchange.answer(202, b"")


def card_of(body: bytes) -> Any:
    return json.loads(body)["attachments"][0]["content"]


async def test_a_card() -> None:
    async with connection_to(TEAMS, teams) as (connection, server):
        receipt = await connection.send(notice())
    assert (receipt.code, receipt.response) == ("202", {"status_code": 202, "body": ""})
    card = card_of(server.seen[0].body)
    title, text, facts, origin = card["body"]
    assert (title["text"], title["color"]) == (r"des\_1 of acme has failed 50 times in a row", "warning")
    assert text["text"].replace("\\", "") == notice().text
    assert [fact["title"] for fact in facts["facts"]] == [label for label, _ in notice().facts]
    assert facts["facts"][3]["value"] == r"503: the receiver answered 503 \<Service Unavailable\> & closed"
    assert origin["text"] == r"alert.destination.consecutive\_failure · 2024-01-01T12:00:00Z"
    assert [action["url"] for action in card["actions"]] == [notice().link]


async def test_trouble_that_is_over_no_link_no_facts() -> None:
    async with connection_to(TEAMS, teams) as (connection, server):
        await connection.send(notice(resolves=True, link=None, severity="info", facts=(), text=""))
    card = card_of(server.seen[0].body)
    assert [block["type"] for block in card["body"]] == ["TextBlock", "TextBlock"]
    assert card["body"][0]["color"] == "good"
    assert card["actions"] == []


def test_nothing_is_linked_by_what_an_event_says() -> None:
    evil = "<at>everyone</at> [Open](https://evil.example) \\[Open](https://evil.example)"
    body = message(notice(title=evil, text=evil, facts=((evil, evil),)))
    check(body)
    assert card_of(body)["body"][0]["text"].startswith(
        r"\<at\>everyone\</at\> \[Open\](https://evil.example) \\\[Open\]"
    )


def test_long_texts_are_cut_no_more_than_they_have_to() -> None:
    one = card_of(message(notice(text="x" * 10_000)))["body"][1]["text"]
    many = card_of(message(notice(text="x" * 10_000, facts=(("Error", "é" * 10_000),) * 25)))["body"][1]["text"]
    assert (len(one), len(many)) == (4_000, 250)
    assert one.endswith("…")


def test_lines_stay_lines() -> None:
    assert card_of(message(notice(text="one\ntwo")))["body"][1]["text"] == "one\n\ntwo"


@given(NOTICES)
@example(full("x"))
@example(full("\\"))
@example(full("\u0001"))
def test_every_notice_makes_a_card_that_teams_takes(told: Notice) -> None:
    check(message(told))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            400,
            "The Teams workflow does not take the message: is its trigger “When a Teams webhook request is received”?",
        ),
        (401, "The Teams workflow does not accept the URL: it must be complete, and the trigger open to anyone"),
        (404, "Teams knows no such workflow: it was deleted or turned off"),
    ],
)
async def test_what_an_error_means(status: int, sentence: str) -> None:
    error = await failure(TEAMS, answers(status, b'{"error": {"code": "..."}}'))
    assert (error.sentence, error.retryable) == (sentence, False)


@pytest.mark.parametrize("url", WORKFLOWS)
async def test_urls_of_workflows(url: str) -> None:
    # https://learn.microsoft.com/power-automate/oauth-authentication: both hosts that triggers have had
    async with local_tools() as tools:
        assert complaints(TEAMS.kind, {}, {"url": url}, tools) == []
    assert TEAMS.kind.target({}, {"url": url}) == url.split("/")[2].removesuffix(":443")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/workflows/x?sig=y",
        "https://logic.azure.com.evil.example/x",
        "https://evillogic.azure.com/x",
        "https://logic.azure.com/x",
        "https://evil.example/#.logic.azure.com",
        "https://evil.example\\.logic.azure.com/x",
        "https://a.logic.azure.com@evil.example/x",
        "http://prod-12.westeurope.logic.azure.com/x",
        "https://prod-12.westeurope.logic.azure.com:8443/x",
        "https://example.webhook.office.com/webhookb2/x",
        "https://169.254.169.254/x",
        "no url",
    ],
)
async def test_a_url_that_is_not_a_workflow(url: str) -> None:
    assert (await url_problem(TEAMS.kind, url)).startswith("credentials.url must ")


async def test_hosts_are_the_operators_choice() -> None:
    assert "begins with https://flows.acme.test" in await url_problem(
        TEAMS.kind, WORKFLOWS[0], msteams_base_urls=["https://flows.acme.test"]
    )


@pytest.mark.parametrize(
    "base_urls", ["https://a.test", [7], ["a.test"], ["https://*"], ["https://a.*.test"], ["https://a.test/flows"]]
)
def test_hosts_that_are_wrong(base_urls: object) -> None:
    with pytest.raises(SettingsError, match=r"^msteams options: "):
        TEAMS.kind.check_options({"msteams_base_urls": base_urls})
