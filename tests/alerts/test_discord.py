"""Discord against a stand-in that checks messages as Discord documents them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given

from tests.alerts.kit import notice
from tests.alerts.vendor import NOTICES, Vendor, WhatAllOwe, answers, connection_to, failure, full, url_problem
from tests.net.receivers import Exchange
from waypost.alerts.discord import DiscordType, message
from waypost.connect.channel import Notice
from waypost.core import times

TOKEN = "s3cr3t-_s3cr3ts3cr3t"
DISCORD = Vendor(
    kind=DiscordType(),
    options=lambda url: {"discord_base_url": url},
    credentials=lambda url: {"url": f"{url}/api/webhooks/223704706495545344/{TOKEN}"},
    secrets=(TOKEN,),
)


class TestWhatAllOwe(WhatAllOwe):
    vendor = DISCORD


_ESCAPED = re.compile(r"\\[!-/:-@\[-`{-~]")
_MARKUP = set("\\`*_~|[]<>#@:")


def check(payload: Any) -> None:
    """The rules of Discord, each with the page it is from."""
    assert set(payload) == {"embeds", "allowed_mentions"}
    # https://docs.discord.com/developers/resources/message#allowed-mentions-object: nobody is mentioned
    assert payload["allowed_mentions"] == {"parse": []}
    # https://docs.discord.com/developers/resources/webhook#execute-webhook
    assert 1 <= len(payload["embeds"]) <= 10
    assert sum(check_embed(embed) for embed in payload["embeds"]) <= 6_000


def check_embed(embed: dict[str, Any]) -> int:
    """https://docs.discord.com/developers/resources/message#embed-object-embed-limits"""
    assert set(embed) <= {"title", "description", "url", "color", "fields", "footer", "timestamp"}
    assert 0 <= embed["color"] <= 0xFFFFFF
    assert times.parse(embed["timestamp"]) is not None
    assert embed.get("url", "https://").startswith("https://")
    assert len(embed.get("url", "")) <= 2_048
    assert len(embed["fields"]) <= 25
    texts = [(embed["title"], 256), (embed.get("description", "x"), 4_096)]
    for field in embed["fields"]:
        assert set(field) == {"name", "value", "inline"}
        texts += [(field["name"], 256), (field["value"], 1_024)]
    for text, most in texts:
        check_text(text, most)
    footer = embed["footer"]["text"]
    assert 1 <= len(footer) <= 2_048
    return sum(len(text) for text, _ in texts) + len(footer)


def check_text(text: str, most: int) -> None:
    """Blanks around a text do not count. Of Markdown nothing works: every mark is escaped."""
    assert 1 <= len(text.strip()) <= len(text) <= most
    # https://support.discord.com/hc/en-us/articles/210298617: a backslash before a mark takes its meaning away
    assert not _MARKUP & set(_ESCAPED.sub("", text)), text


async def discord(exchange: Exchange) -> None:
    """https://docs.discord.com/developers/resources/webhook#execute-webhook"""
    seen = exchange.seen
    if (seen.method, seen.path) != ("POST", f"/api/webhooks/223704706495545344/{TOKEN}?wait=true"):
        await exchange.answer(404, b'{"message": "Unknown Webhook", "code": 10015}')
        return
    try:
        assert seen.headers["content-type"] == "application/json"
        check(json.loads(seen.body))
    except (AssertionError, KeyError, ValueError):
        await exchange.answer(400, b'{"message": "Invalid Form Body", "code": 50035}')
    else:
        await exchange.answer(200, b'{"id": "1234567890123456789", "webhook_id": "223704706495545344"}')


async def test_a_message_with_an_embed() -> None:
    async with connection_to(DISCORD, discord) as (connection, server):
        receipt = await connection.send(notice())
    assert receipt.code == "200"
    assert receipt.response is not None
    assert "1234567890123456789" in receipt.response["body"]
    (embed,) = json.loads(server.seen[0].body)["embeds"]
    assert embed["title"] == r"des\_1 of acme has failed 50 times in a row"
    assert embed["description"].replace("\\", "") == notice().text
    assert embed["url"] == notice().link
    assert embed["timestamp"] == "2024-01-01T12:00:00Z"
    assert embed["footer"]["text"] == "warning · alert.destination.consecutive_failure"
    assert [field["name"] for field in embed["fields"]] == [label for label, _ in notice().facts]
    assert embed["fields"][3]["value"] == r"503\: the receiver answered 503 \<Service Unavailable\> & closed"


async def test_trouble_that_is_over_and_no_link() -> None:
    async with connection_to(DISCORD, discord) as (connection, server):
        await connection.send(notice(resolves=True, link=None, severity="info"))
        await connection.send(notice(severity="critical"))
    over, critical = (json.loads(seen.body)["embeds"][0] for seen in server.seen)
    assert "url" not in over
    assert over["footer"]["text"].startswith("resolved · ")
    assert over["color"] != critical["color"]


def test_nobody_is_called_and_nothing_linked_by_what_an_event_says() -> None:
    evil = "@everyone <@&1> [Open](https://evil.example) https://evil.example"
    (embed,) = json.loads(message(notice(title=evil, text=evil, facts=((evil, evil),))))["embeds"]
    check_embed(embed)
    assert embed["title"].startswith(r"\@everyone \<\@&1\> \[Open\](https\://evil.example) https\://evil.example")


@given(NOTICES)
@example(full("x"))
@example(full("\\"))
def test_every_notice_makes_a_message_that_discord_takes(told: Notice) -> None:
    check(json.loads(message(told)))


@pytest.mark.parametrize(
    ("said", "headers", "wait"),
    [
        (
            b'{"message": "You are being rate limited.", "retry_after": 0.75, "global": false}',
            "retry-after: 1\r\n",
            0.75,
        ),
        (b'{"message": "You are being rate limited.", "retry_after": 64.57}', "", 64.57),
        (b"<html>error code: 1015</html>", "retry-after: 60\r\n", 60.0),
        (b'{"retry_after": "soon"}', "", None),
        (b"\xff", "", None),
    ],
)
async def test_when_to_come_back(said: bytes, headers: str, wait: float | None) -> None:
    # https://docs.discord.com/developers/topics/rate-limits#exceeding-a-rate-limit
    error = await failure(DISCORD, answers(429, said, headers))
    assert (error.code, error.retryable, error.retry_after) == ("429", True, wait)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "Discord does not accept the webhook's token"), (404, "Discord knows no such webhook: it was deleted")],
)
async def test_what_an_error_means(status: int, sentence: str) -> None:
    error = await failure(DISCORD, answers(status, b'{"message": "Unknown Webhook", "code": 10015}'))
    assert (error.sentence, error.retryable) == (sentence, False)


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com.evil.example/api/webhooks/1/x",
        "https://evil.example/api/webhooks/1/x",
        "https://discord.com@evil.example/api/webhooks/1/x",
        "http://discord.com/api/webhooks/1/x",
        "http://127.0.0.1/api/webhooks/1/x",
        "https://discord.com/api/webhooks/one/x",
        "https://discord.com/api/webhooks/1/x/messages",
        "https://discord.com/api/webhooks/1/x?thread_id=2",
        "https://discord.com/api/webhooks/1",
        "https://discord.com/api/webhooks/1/x\n",
    ],
)
async def test_a_url_that_is_not_a_webhook(url: str) -> None:
    expected = "credentials.url must be the URL of a webhook: https://discord.com/api/webhooks/ID/TOKEN"
    assert await url_problem(DISCORD.kind, url) == expected


def test_the_target() -> None:
    assert DISCORD.kind.target({}, DISCORD.credentials("https://discord.com")) == "webhook 223704706495545344"
