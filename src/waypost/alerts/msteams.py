"""Microsoft Teams: Adaptive Cards to a workflow that posts what its webhook gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import Field
from waypost.connect.options import own_options
from waypost.connect.service import Poster, Service, clip_escaped
from waypost.core import times
from waypost.core.errors import DeliveryError, SettingsError
from waypost.net.target import Target, parse_url

_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_~[]<>#"})
_LONGEST_MESSAGE = 20_000
"""In bytes. Microsoft documents "about 28 KB", counted after the card has become HTML."""
_LENGTHS = (4_000, 1_000, 250, 30)
_LONGEST_TITLE = 250
_LONGEST_LABEL = 100
_LONGEST_LINK = 1_000
_MOST_FACTS = 25

_COLOURS = {"critical": "attention", "warning": "warning", "info": "accent"}

_NOT_OPEN = "The Teams workflow does not accept the URL: it must be complete, and the trigger open to anyone"
_MEANINGS = {
    "400": "The Teams workflow does not take the message: is its trigger “When a Teams webhook request is received”?",
    "401": _NOT_OPEN,
    "403": _NOT_OPEN,
    "404": "Teams knows no such workflow: it was deleted or turned off",
    "413": "The message is larger than Teams takes",
    "429": "Teams asks to send less at once",
}


class MsTeamsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for all Teams channels: the options `msteams_<name>`.

    `base_urls` are where workflows may be: scheme, host and port; `*.` before a host stands for any name under it.
    """

    base_urls: tuple[str, ...] = ("https://*.logic.azure.com", "https://*.api.powerplatform.com")


def options_of(options: Mapping[str, Any]) -> MsTeamsOptions:
    """The options that concern Teams. Raises SettingsError for one that is unknown or wrong."""
    found = own_options("msteams", options, MsTeamsOptions)
    try:
        for base in found.base_urls:
            _parsed(base)
    except ValueError as error:
        raise SettingsError(f"msteams options: {error}") from error
    return found


class MsTeamsType(ChannelType):
    type: ClassVar[str] = "msteams"
    label: ClassVar[str] = "Microsoft Teams"
    description: ClassVar[str] = "Post alerts to a channel or chat of Microsoft Teams."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<rect x="3" y="6" width="12" height="12" rx="2"/><path d="M6.5 10h5M9 10v5"/>'
        '<circle cx="18.5" cy="7" r="2"/><path d="M18 12h3v4a3 3 0 0 1-3 3"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In Teams, open the **Workflows** app, or **Workflows** in the menu of the channel.
2. Choose the template **Post to a channel when a webhook request is received** (or to a chat), then the channel.
3. Copy the URL that is shown at the end. Whoever has it can post there: it is kept like a password.

The trigger must be open to **Anyone**. A workflow belongs to the person who made it: add a co-owner, so that it stays
when that person leaves. URLs of the older connectors (`webhook.office.com`), which workflows replace, are not taken.
"""
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="url",
            label="Webhook URL",
            description="The URL of a workflow that starts when a webhook request is received.",
            required=True,
            sensitive=True,
            maxlength=2_000,
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        options_of(options)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        allowed = options_of(tools.options).base_urls
        try:
            target = parse_url(credentials["url"])
        except ValueError as error:
            return [f"credentials.url {error}"]
        if any(_is_under(target, base) for base in allowed):
            return []
        return [f"credentials.url must be the URL of a workflow, which begins with {' or '.join(allowed)}"]

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return parse_url(credentials["url"]).host

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        problems = self.check(channel.config, channel.credentials, tools)
        if problems:
            raise DeliveryError("configuration_error", problems[0], retryable=False)
        url = channel.credentials["url"]
        return Poster(Service("Teams", tools.http, _secrets(url), _MEANINGS), url, message)


def _is_under(target: Target, base: str) -> bool:
    """Whether a URL has the scheme, host and port of a base URL."""
    allowed = _parsed(base)
    same_host = target.host.endswith(f".{allowed.host}") if "://*." in base else target.host == allowed.host
    return same_host and (target.scheme, target.port) == (allowed.scheme, allowed.port)


def _parsed(base: str) -> Target:
    """A base URL without its `*.`. Raises ValueError."""
    if urlsplit(base).path not in {"", "/"}:
        raise ValueError(f"{base} must not have a path")
    return parse_url(base.replace("://*.", "://", 1))


def _secrets(url: str) -> list[str]:
    """The URL, and its signature as it stands there and decoded."""
    query = urlsplit(url).query
    signatures = [part.removeprefix("sig=") for part in query.split("&") if part.startswith("sig=")]
    return [url, *signatures, *parse_qs(query).get("sig", [])]


def message(notice: Notice) -> bytes:
    """The notice as an Adaptive Card, its texts as long as the whole has room for."""
    versions = (msgspec.json.encode(_message(notice, most)) for most in _LENGTHS)
    return next(version for version in versions if len(version) <= _LONGEST_MESSAGE)


def _message(notice: Notice, most: int) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": list(_body(notice, most)),
        "actions": list(_actions(notice)),
        "msteams": {"width": "Full"},
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _body(notice: Notice, most: int) -> Iterator[dict[str, Any]]:
    title = _escaped(notice.title.strip() or notice.topic, min(most, _LONGEST_TITLE))
    colour = "good" if notice.resolves else _COLOURS[notice.severity]
    yield {"type": "TextBlock", "text": title, "wrap": True, "size": "large", "weight": "bolder", "color": colour}
    if notice.text.strip():
        yield {"type": "TextBlock", "text": _escaped(notice.text.replace("\n", "\n\n"), most), "wrap": True}
    if notice.facts:
        yield {"type": "FactSet", "facts": [_fact(*fact, most) for fact in notice.facts[:_MOST_FACTS]]}
    origin = _escaped(notice.topic, min(most, _LONGEST_LABEL)) + f" · {times.render(notice.time)}"
    yield {"type": "TextBlock", "text": origin, "wrap": True, "size": "small", "isSubtle": True}


def _fact(label: str, value: str, most: int) -> dict[str, str]:
    return {"title": _escaped(label, min(most, _LONGEST_LABEL)), "value": _escaped(value, most)}


def _actions(notice: Notice) -> Iterator[dict[str, str]]:
    if notice.link and len(notice.link) <= _LONGEST_LINK:
        yield {"type": "Action.OpenUrl", "title": "Open in Waypost", "url": notice.link}


def _escaped(text: str, most: int) -> str:
    """The text without its Markdown, of which cards understand emphasis, lists and links."""
    return clip_escaped(text, most, _ESCAPES)
