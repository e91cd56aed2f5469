"""PagerDuty: events to the Events API v2, which open incidents and resolve them."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import Field, Option, mask
from waypost.connect.service import Poster, Service, base_url, check_base_url, clip, short_key
from waypost.core import times

_LONGEST_EVENT = 512_000
"""In bytes; PagerDuty takes 512 KB."""
_LONGEST_CLIPPED = 100_000
_LONGEST_SUMMARY = 1_024
_LONGEST_KEY = 255

_BASES = {
    "us": ("pagerduty_base_url", "https://events.pagerduty.com"),
    "eu": ("pagerduty_eu_base_url", "https://events.eu.pagerduty.com"),
}

_MEANINGS = {
    "400": "PagerDuty does not accept the integration key, or does not understand the event",
    "403": "PagerDuty does not accept the integration key",
    "404": "PagerDuty knows no such integration",
    "413": "The event is larger than PagerDuty takes",
    "429": "PagerDuty asks to send less at once",
}


class PagerDutyType(ChannelType):
    type: ClassVar[str] = "pagerduty"
    label: ClassVar[str] = "PagerDuty"
    description: ClassVar[str] = "Open an incident in PagerDuty, and resolve it when the trouble is over."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M7 21V3h6a5 5 0 0 1 0 11H7"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In PagerDuty, open the service that is to get the alerts, then **Integrations** and **Add an integration**.
2. Choose **Events API V2** and copy the **Integration Key**.

All alerts about one trouble go to one incident. Severities are PagerDuty's own: `critical`, `warning`, `info`. The
details of the incident hold the event and the attempt.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="region",
            label="Service region",
            description="Where the PagerDuty account is: EU if its address ends in `.eu.pagerduty.com`.",
            type="select",
            default="us",
            options=(Option("US", "us"), Option("EU", "eu")),
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="routing_key",
            label="Integration key",
            description="The key of an Events API V2 integration.",
            required=True,
            sensitive=True,
            pattern=r"[0-9A-Za-z]{32}",
            pattern_hint="32 letters and digits",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type, "eu_base_url")

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return f"integration {mask(credentials['routing_key'])[:8]}"

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        key = channel.credentials["routing_key"]
        base = base_url(tools, *_BASES[channel.config.get("region") or "us"])
        service = Service("PagerDuty", tools.http, [key], _MEANINGS)
        return Poster(service, f"{base}/v2/enqueue", lambda notice: event(notice, key))


class _Destination(Struct, frozen=True):
    id: str


class _Data(Struct, frozen=True):
    destination: _Destination | None = None


class _Envelope(Struct, frozen=True):
    """What PagerDuty has fields of its own for."""

    tenant_id: str | None = None
    data: _Data = _Data()


def event(notice: Notice, key: str) -> bytes:
    """The notice as an event; when the whole envelope is too large, the beginning of it has to do."""
    about: dict[str, Any] = {
        "routing_key": key,
        "event_action": "resolve" if notice.resolves else "trigger",
        "dedup_key": short_key(notice, _LONGEST_KEY),
    }
    if notice.resolves:
        return msgspec.json.encode(about)
    whole = msgspec.json.encode(about | _trigger(notice, Raw(notice.envelope)))
    if len(whole) <= _LONGEST_EVENT:
        return whole
    return msgspec.json.encode(about | _trigger(notice, {"clipped": clip(notice.envelope.decode(), _LONGEST_CLIPPED)}))


def _trigger(notice: Notice, details: Raw | dict[str, str]) -> dict[str, Any]:
    envelope = msgspec.json.decode(notice.envelope, type=_Envelope)
    payload = {
        "summary": clip(notice.title.strip() or notice.topic, _LONGEST_SUMMARY),
        "source": (urlsplit(notice.link).hostname if notice.link else None) or "waypost",
        "severity": notice.severity,
        "timestamp": times.render(notice.time),
        "class": notice.topic,
        "custom_details": details,
    }
    if envelope.tenant_id is not None:
        payload["group"] = envelope.tenant_id
    if envelope.data.destination is not None:
        payload["component"] = envelope.data.destination.id
    links = {"links": [{"href": notice.link, "text": "Open in Waypost"}], "client_url": notice.link}
    return {"payload": payload, "client": "Waypost", **(links if notice.link else {})}
