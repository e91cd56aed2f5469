"""Discord: one embed to a webhook of a channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import Field
from waypost.connect.service import Poster, Service, base_url, check_base_url, clip, clip_escaped
from waypost.core import times
from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse

_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_~|[]<>#@:"})
_LONGEST_TITLE = 256
_LONGEST_TEXT = 2_048
_LONGEST_NAME = 256
_LONGEST_VALUE = 1_024
_LONGEST_FOOTER = 200
_LONGEST_LINK = 2_048
_MOST_FIELDS = 25
_ROOM_FOR_FIELDS = 6_000 - _LONGEST_TITLE - _LONGEST_TEXT - _LONGEST_FOOTER
"""Discord takes 6,000 characters in all."""

_RED, _AMBER, _BLUE, _GREEN = 0xD92D20, 0xF79009, 0x2E90FA, 0x12B76A
_COLOURS = {"critical": _RED, "warning": _AMBER, "info": _BLUE}

_MEANINGS = {
    "400": "Discord does not understand the message; a webhook of a forum is not supported",
    "401": "Discord does not accept the webhook's token",
    "403": "Discord does not let the webhook post",
    "404": "Discord knows no such webhook: it was deleted",
    "429": "Discord asks to send less at once",
}


class DiscordType(ChannelType):
    type: ClassVar[str] = "discord"
    label: ClassVar[str] = "Discord"
    description: ClassVar[str] = "Post alerts to a text channel of a Discord server."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M4 5h16v11h-7l-5 4v-4H4z"/>'
        '<path d="M9 10h.01M15 10h.01"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In Discord, open the settings of the channel, then **Integrations** and **Webhooks**. Your role needs the permission
   *Manage Webhooks*.
2. Choose **New Webhook**, then **Copy Webhook URL**. Whoever has it can post there: it is kept like a password.

Nothing in an alert notifies anybody by name: mentions are switched off.
"""
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="url",
            label="Webhook URL",
            description="The URL of a webhook of the channel.",
            required=True,
            sensitive=True,
            maxlength=500,
            placeholder="https://discord.com/api/webhooks/...",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        webhooks = f"{base_url(tools, 'discord_base_url', 'https://discord.com')}/api/webhooks/"
        if re.fullmatch(rf"{re.escape(webhooks)}[0-9]+/[\w-]+", credentials["url"], re.ASCII):
            return []
        return [f"credentials.url must be the URL of a webhook: {webhooks}ID/TOKEN"]

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return f"webhook {credentials['url'].split('/')[-2]}"

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        problems = self.check(channel.config, channel.credentials, tools)
        if problems:
            raise DeliveryError("configuration_error", problems[0], retryable=False)
        url = channel.credentials["url"]
        service = _Discord("Discord", tools.http, [url, url.rpartition("/")[2]], _MEANINGS)
        return Poster(service, f"{url}?wait=true", message)


class _Throttled(Struct, frozen=True):
    retry_after: float


class _Discord(Service):
    def refusal(self, response: HttpResponse) -> DeliveryError:
        """The body of a 429 says more exactly than its header when to come back."""
        error = super().refusal(response)
        with suppress(msgspec.MsgspecError):
            error.retry_after = read_json(response.body, type=_Throttled).retry_after
        return error


def message(notice: Notice) -> bytes:
    """The notice as an embed. Mentions do not work in embeds; `allowed_mentions` sees to it that this stays so."""
    state = "resolved" if notice.resolves else notice.severity
    embed = {
        "title": _escaped(notice.title.strip() or notice.topic, _LONGEST_TITLE),
        "color": _GREEN if notice.resolves else _COLOURS[notice.severity],
        "fields": list(_fields(notice.facts[:_MOST_FIELDS])),
        "footer": {"text": clip(f"{state} · {notice.topic}", _LONGEST_FOOTER)},
        "timestamp": times.render(notice.time),
    }
    if notice.text.strip():
        embed["description"] = _escaped(notice.text.strip(), _LONGEST_TEXT)
    if notice.link and len(notice.link) <= _LONGEST_LINK:
        embed["url"] = notice.link
    return msgspec.json.encode({"embeds": [embed], "allowed_mentions": {"parse": []}})


def _fields(facts: tuple[tuple[str, str], ...]) -> Iterator[dict[str, Any]]:
    """Every fact with its share of the room. Discord refuses names and values that are blank."""
    share = _ROOM_FOR_FIELDS // max(len(facts), 1)
    longest_name = min(share // 4, _LONGEST_NAME)
    longest_value = min(share - longest_name, _LONGEST_VALUE)
    for label, value in facts:
        yield {
            "name": _escaped(label.strip() or "...", longest_name),
            "value": _escaped(value.strip() or "...", longest_value),
            "inline": True,
        }


def _escaped(text: str, most: int) -> str:
    """The text without its Markdown, links and mentions included."""
    return clip_escaped(text, most, _ESCAPES)
