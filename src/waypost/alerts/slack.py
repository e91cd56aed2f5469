"""Slack: Block Kit messages to an incoming webhook."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import Field
from waypost.connect.service import Poster, Service, base_url, check_base_url, clip, clip_escaped
from waypost.core import times
from waypost.core.errors import DeliveryError
from waypost.core.model import SECOND

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LONGEST_TITLE = 150
_LONGEST_TEXT = 3_000
_LONGEST_LABEL = 200
_LONGEST_VALUE = 1_700
"""With a label and what stands around it, 2,000 characters at most."""
_LONGEST_LINK = 3_000
_FIELDS_IN_A_SECTION = 10
_MOST_FACTS = 40

_MEANINGS = {
    "invalid_payload": "Slack does not understand the message",
    "invalid_token": "Slack does not accept the webhook's URL",
    "action_prohibited": "An administrator of the Slack workspace does not let the webhook post",
    "posting_to_general_channel_denied": "Only some members of the Slack workspace may post to this channel",
    "channel_not_found": "The channel of the Slack webhook does not exist any more",
    "channel_is_archived": "The channel of the Slack webhook is archived",
    "no_service": "The Slack webhook was removed or disabled",
    "no_active_hooks": "The Slack webhook was removed or disabled",
    "no_team": "The Slack workspace of the webhook does not exist any more",
    "team_disabled": "The Slack workspace of the webhook is disabled",
    "403": "Slack does not let the webhook post",
    "404": "Slack does not know the webhook or its channel any more",
    "410": "The channel of the Slack webhook is archived",
    "429": "Slack asks to send less at once",
}
"""https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors"""


class SlackType(ChannelType):
    type: ClassVar[str] = "slack"
    label: ClassVar[str] = "Slack"
    description: ClassVar[str] = "Post alerts to a channel of a Slack workspace."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<path d="M9 3 7 21M17 3l-2 18M4 9h17M3 15h17"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Open [api.slack.com/apps](https://api.slack.com/apps) and create an app for your workspace, or choose one.
2. Under **Incoming Webhooks**, switch them on and choose **Add New Webhook**.
3. Choose the channel, then copy the webhook's URL. Whoever has it can post there: it is kept like a password.
"""
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="url",
            label="Webhook URL",
            description="The URL of an incoming webhook.",
            required=True,
            sensitive=True,
            maxlength=500,
            placeholder="https://hooks.slack.com/services/T.../B.../...",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        services = f"{base_url(tools, 'slack_base_url', 'https://hooks.slack.com')}/services/"
        if re.fullmatch(rf"{re.escape(services)}\w+/\w+/\w+", credentials["url"], re.ASCII):
            return []
        return [f"credentials.url must be the URL of an incoming webhook: {services}T.../B.../..."]

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        workspace, webhook, _ = credentials["url"].split("/")[-3:]
        return f"workspace {workspace}, webhook {webhook}"

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        problems = self.check(channel.config, channel.credentials, tools)
        if problems:
            raise DeliveryError("configuration_error", problems[0], retryable=False)
        url = channel.credentials["url"]
        return Poster(Service("Slack", tools.http, [url, url.rpartition("/")[2]], _MEANINGS), url, message)


def message(notice: Notice) -> bytes:
    """The notice in Block Kit. `verbatim` keeps Slack from making links of what looks like one."""
    title = notice.title.strip() or notice.topic
    facts = [_fact(label, value) for label, value in notice.facts[:_MOST_FACTS]]
    sections = [facts[at : at + _FIELDS_IN_A_SECTION] for at in range(0, len(facts), _FIELDS_IN_A_SECTION)]
    text = notice.text.strip()
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": clip(title, _LONGEST_TITLE), "emoji": False}},
        *([{"type": "section", "text": _mrkdwn(_escaped(text, _LONGEST_TEXT))}] if text else []),
        *({"type": "section", "fields": fields} for fields in sections),
        {"type": "context", "elements": [_mrkdwn(_circumstances(notice))]},
        *([_button(notice.link)] if notice.link and len(notice.link) <= _LONGEST_LINK else []),
    ]
    return msgspec.json.encode(
        {"text": _escaped(title, _LONGEST_TEXT), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}
    )


def _escaped(text: str, most: int) -> str:
    return clip_escaped(text, most, _ESCAPES)


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _fact(label: str, value: str) -> dict[str, Any]:
    return _mrkdwn(f"*{_escaped(label, _LONGEST_LABEL)}*\n{_escaped(value, _LONGEST_VALUE)}")


def _circumstances(notice: Notice) -> str:
    """How bad, what sort, and when, in the reader's own time zone."""
    state = "resolved" if notice.resolves else notice.severity
    time = f"<!date^{notice.time // SECOND}^{{date_short_pretty}} {{time_secs}}|{times.render(notice.time)}>"
    return f"*{state}* · {_escaped(notice.topic, _LONGEST_LABEL)} · {time}"


def _button(link: str) -> dict[str, Any]:
    text = {"type": "plain_text", "text": "Open in Waypost"}
    return {"type": "actions", "elements": [{"type": "button", "text": text, "url": link}]}
