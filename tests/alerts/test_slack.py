"""Slack against a stand-in that checks messages as Slack documents them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given

from tests.alerts.kit import notice
from tests.alerts.vendor import NOTICES, Vendor, WhatAllOwe, answers, connection_to, failure, full, url_problem
from tests.net.receivers import Exchange
from waypost.alerts.slack import SlackType, message
from waypost.connect.channel import Notice

TOKEN = "s3cr3tS3cr3tS3cr3t"
SLACK = Vendor(
    kind=SlackType(),
    options=lambda url: {"slack_base_url": url},
    credentials=lambda url: {"url": f"{url}/services/T0001/B0002/{TOKEN}"},
    secrets=(TOKEN,),
)


class TestWhatAllOwe(WhatAllOwe):
    vendor = SLACK


_OWN_DATE = re.compile(r"<!date\^\d+\^\{date_short_pretty\} \{time_secs\}\|[0-9TZ:.-]+>$")
_ENTITY = re.compile(r"&(amp|lt|gt);")


def check_plain(text: dict[str, Any], most: int) -> None:
    # https://docs.slack.dev/reference/block-kit/composition-objects/text-object
    assert set(text) <= {"type", "text", "emoji"}
    assert text["type"] == "plain_text"
    assert 1 <= len(text["text"].strip()) <= len(text["text"]) <= most


def check_mrkdwn(text: dict[str, Any], most: int) -> None:
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    assert set(text) == {"type", "text", "verbatim"}
    assert (text["type"], text["verbatim"]) == ("mrkdwn", True)
    assert 1 <= len(text["text"].strip()) <= len(text["text"]) <= most
    check_escaped(text["text"])


def check_escaped(text: str) -> None:
    """No mention, link or command: <...> are all of these."""
    rest = _ENTITY.sub("", text)
    assert not set("&<>") & set(rest), rest


def check(payload: Any) -> None:
    """The rules of Slack, each with the page it is from."""
    assert set(payload) == {"text", "blocks", "unfurl_links", "unfurl_media"}
    # https://docs.slack.dev/reference/methods/chat.postMessage#truncating: texts should have at most 4,000 characters
    assert 1 <= len(payload["text"]) <= 4_000
    check_escaped(payload["text"])
    # https://docs.slack.dev/reference/block-kit/blocks: at most 50 in a message
    assert 1 <= len(payload["blocks"]) <= 50
    for block in payload["blocks"]:
        CHECKS[block["type"]](block)


def check_header(block: dict[str, Any]) -> None:
    # https://docs.slack.dev/reference/block-kit/blocks/header-block
    check_plain(block["text"], 150)


def check_section(block: dict[str, Any]) -> None:
    # https://docs.slack.dev/reference/block-kit/blocks/section-block
    assert set(block) in ({"type", "text"}, {"type", "fields"})
    if "text" in block:
        check_mrkdwn(block["text"], 3_000)
    else:
        assert 1 <= len(block["fields"]) <= 10
        for field in block["fields"]:
            check_mrkdwn(field, 2_000)


def check_context(block: dict[str, Any]) -> None:
    # https://docs.slack.dev/reference/block-kit/blocks/context-block
    assert 1 <= len(block["elements"]) <= 10
    for element in block["elements"]:
        check_mrkdwn({**element, "text": _OWN_DATE.sub("", element["text"])}, 2_000)


def check_actions(block: dict[str, Any]) -> None:
    # https://docs.slack.dev/reference/block-kit/block-elements/button-element
    assert 1 <= len(block["elements"]) <= 25
    for button in block["elements"]:
        assert set(button) == {"type", "text", "url"}
        assert button["type"] == "button"
        check_plain(button["text"], 75)
        assert len(button["url"]) <= 3_000


CHECKS = {"header": check_header, "section": check_section, "context": check_context, "actions": check_actions}


async def slack(exchange: Exchange) -> None:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""
    seen = exchange.seen
    if (seen.method, seen.path) != ("POST", f"/services/T0001/B0002/{TOKEN}"):
        await exchange.answer(404, b"no_service")
        return
    try:
        assert seen.headers["content-type"] == "application/json"
        check(json.loads(seen.body))
    except (AssertionError, KeyError, ValueError):
        await exchange.answer(400, b"invalid_payload")
    else:
        await exchange.answer(200, b"ok")


async def test_a_message_in_block_kit() -> None:
    async with connection_to(SLACK, slack) as (connection, server):
        receipt = await connection.send(notice())
    assert (receipt.code, receipt.response) == ("200", {"status_code": 200, "body": "ok"})
    payload = json.loads(server.seen[0].body)
    header, text, facts, context, actions = payload["blocks"]
    assert payload["text"] == header["text"]["text"] == notice().title
    assert text["text"]["text"] == notice().text
    assert [field["text"].split("\n")[0] for field in facts["fields"]] == [f"*{label}*" for label, _ in notice().facts]
    assert (
        facts["fields"][3]["text"] == "*Error*\n503: the receiver answered 503 &lt;Service Unavailable&gt; &amp; closed"
    )
    assert context["elements"][0]["text"] == (
        "*warning* · alert.destination.consecutive_failure · "
        "<!date^1704110400^{date_short_pretty} {time_secs}|2024-01-01T12:00:00Z>"
    )
    assert actions["elements"][0]["url"] == notice().link


async def test_trouble_that_is_over_and_no_link() -> None:
    async with connection_to(SLACK, slack) as (connection, server):
        await connection.send(notice(resolves=True, link=None, severity="info"))
    *_, context = json.loads(server.seen[0].body)["blocks"]
    assert context["elements"][0]["text"].startswith("*resolved* · ")


async def test_more_facts_than_a_section_holds() -> None:
    facts = tuple((f"Fact {number}", "x") for number in range(60))
    sections = [block for block in json.loads(message(notice(facts=facts)))["blocks"] if "fields" in block]
    assert [len(section["fields"]) for section in sections] == [10, 10, 10, 10]


def test_nobody_is_called_by_what_an_event_says() -> None:
    evil = "<!channel> <@U012AB3CD> <https://evil.example|Open> & so on"
    sent = json.loads(message(notice(title=evil, text=evil, facts=((evil, evil),), topic=evil)))
    check(sent)
    assert sent["text"].startswith("&lt;!channel&gt; &lt;@U012AB3CD&gt;")


@given(NOTICES)
@example(full("x"))
@example(full("&"))
def test_every_notice_makes_a_message_that_slack_takes(told: Notice) -> None:
    check(json.loads(message(told)))


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        (400, "invalid_payload", "Slack does not understand the message"),
        (403, "action_prohibited", "An administrator of the Slack workspace does not let the webhook post"),
        (404, "no_service", "The Slack webhook was removed or disabled"),
        (404, "channel_not_found", "The channel of the Slack webhook does not exist any more"),
        (404, "something_new", "Slack does not know the webhook or its channel any more"),
        (410, "channel_is_archived", "The channel of the Slack webhook is archived"),
    ],
)
async def test_what_an_error_means(status: int, said: str, sentence: str) -> None:
    error = await failure(SLACK, answers(status, said.encode()))
    assert (error.code, error.sentence, error.retryable) == (str(status), sentence, False)
    assert error.response == {"status_code": status, "body": said}


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com.evil.example/services/T1/B1/x",
        "https://evil.example/services/T1/B1/x",
        "https://hooks.slack.com@evil.example/services/T1/B1/x",
        "https://evil.example#https://hooks.slack.com/services/T1/B1/x",
        "http://hooks.slack.com/services/T1/B1/x",
        "http://169.254.169.254/services/T1/B1/x",
        "https://hooks.slack.com/services/T1/B1/x?to=elsewhere",
        "https://hooks.slack.com/services/T1/B1/../x",
        "https://hooks.slack.com/services/T1/B1",
        "https://hooks.slack.com/workflows/T1/B1/x",
        "https://hooks.slack.com/services/T1/B1/x\n",
        "hooks.slack.com/services/T1/B1/x",
    ],
)
async def test_a_url_that_is_not_an_incoming_webhook(url: str) -> None:
    assert (
        await url_problem(SLACK.kind, url)
        == "credentials.url must be the URL of an incoming webhook: https://hooks.slack.com/services/T.../B.../..."
    )


async def test_a_url_at_another_base() -> None:
    problem = await url_problem(
        SLACK.kind, "https://hooks.slack.com/services/T1/B1/x", slack_base_url="https://a.test/"
    )
    assert "https://a.test/services/" in problem


def test_the_target() -> None:
    credentials = SLACK.credentials("https://hooks.slack.com")
    assert SLACK.kind.target({}, credentials) == "workspace T0001, webhook B0002"
