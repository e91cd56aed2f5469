"""Telegram: messages of a bot to a chat, by the Bot API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import Field
from waypost.connect.service import Poster, Service, base_url, check_base_url, clip
from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpResponse

_OK = re.compile(rb'"ok"\s*:\s*true\b')
"""Found in the answer's bytes, which can be cut off; within a text of the answer, quotes are escaped."""
_LONGEST_TITLE = 256
_LONGEST_TEXT = 1_000
_LONGEST_LABEL = 32
_LONGEST_VALUE = 160
_MOST_FACTS = 12
"""All together less than the 4,096 characters that Telegram takes, which it counts without the markup."""
_LONGEST_LINK = 2_000
_SHOWN_OF_A_REASON = 300
_MEANINGS = {"401": "Telegram does not accept the bot token"}


class TelegramType(ChannelType):
    type: ClassVar[str] = "telegram"
    label: ClassVar[str] = "Telegram"
    description: ClassVar[str] = "Send alerts to a chat, group or channel in Telegram."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<path d="M21 4 3 11l6 2.500L18 7l-7 8 6.500 5z"/><path d="M9 13.500V20l3-3.500"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Talk to **@BotFather** in Telegram, send `/newbot`, and copy the token that it answers with.
2. Add the bot to the group or, as an administrator, to the channel; for a chat of your own, send the bot a message.
3. Enter the chat's id (of groups and channels it begins with `-100`) or a public channel's `@name`. For a topic of a
   group, also enter the topic's id: it is the last but one number in the link to a message of the topic.

News of no consequence arrives without a sound.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="chat_id",
            label="Chat",
            description="The id of the chat, or the @name of a public channel or group.",
            required=True,
            pattern=r"-?[1-9][0-9]{0,18}|@[A-Za-z][A-Za-z0-9_]{3,31}",
            pattern_hint="a number such as -1001234567890, or @channelname",
            placeholder="-1001234567890",
        ),
        Field(
            key="message_thread_id",
            label="Topic",
            description="The id of a topic within the group.",
            advanced=True,
            pattern=r"[1-9][0-9]{0,18}",
            pattern_hint="a number",
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="bot_token",
            label="Bot token",
            description="What BotFather shows for the bot.",
            required=True,
            sensitive=True,
            pattern=r"[0-9]{5,20}:[A-Za-z0-9_-]{30,64}",
            pattern_hint="digits, a colon and about 35 characters",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type)

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return config["chat_id"]

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        token = channel.credentials["bot_token"]
        service = _BotApi("Telegram", tools.http, [token, quote(token, safe="")], _MEANINGS)
        url = f"{base_url(tools, 'telegram_base_url', 'https://api.telegram.org')}/bot{token}/sendMessage"
        return Poster(service, url, partial(message, _place(channel.config)))


def message(place: Mapping[str, Any], notice: Notice) -> bytes:
    """The notice as sendMessage takes it; `place` are the fields that say where."""
    fields = {
        **place,
        "text": _html(notice),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
        "disable_notification": notice.severity == "info",
    }
    return msgspec.json.encode(fields)


def _place(config: Mapping[str, str]) -> dict[str, Any]:
    chat, topic = config["chat_id"], config.get("message_thread_id")
    place: dict[str, Any] = {"chat_id": chat if chat.startswith("@") else int(chat)}
    return place | {"message_thread_id": int(topic)} if topic else place


class _Parameters(Struct, frozen=True):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class _Problem(Struct, frozen=True):
    """What the Bot API says of a request that it refuses."""

    description: str
    parameters: _Parameters = _Parameters()


class _BotApi(Service):
    def accepted(self, response: HttpResponse) -> bool:
        return super().accepted(response) and _OK.search(response.body) is not None

    def refusal(self, response: HttpResponse) -> DeliveryError:
        error = super().refusal(response)
        if error.code in _MEANINGS:
            return error
        try:
            problem = read_json(self.shown(response)["body"], type=_Problem)
        except msgspec.MsgspecError:
            return error
        wait, moved = problem.parameters.retry_after, problem.parameters.migrate_to_chat_id
        hint = f"; the chat's id is {moved} now" if moved else ""
        return DeliveryError(
            error.code,
            f"Telegram refused the message: {clip(problem.description, _SHOWN_OF_A_REASON)}{hint}",
            retryable=error.retryable,
            retry_after=error.retry_after if wait is None else wait,
            response=error.response,
        )


def _html(notice: Notice) -> str:
    """The notice in Telegram's HTML: cut first, then escaped, so that no tag and no entity is torn."""
    facts = "\n".join(
        f"<b>{_plain(label, _LONGEST_LABEL)}:</b> {_plain(value, _LONGEST_VALUE)}"
        for label, value in notice.facts[:_MOST_FACTS]
    )
    url = notice.link if notice.link and len(notice.link) <= _LONGEST_LINK else None
    link = f'<a href="{escape(url)}">Open in Waypost</a>' if url else ""
    title = f"<b>{_plain(notice.title.strip() or notice.topic, _LONGEST_TITLE)}</b>"
    return "\n\n".join(part for part in (title, _plain(notice.text, _LONGEST_TEXT), facts, link) if part)


def _plain(text: str, most: int) -> str:
    return escape(clip(text, most), quote=False)
