"""Opsgenie: alerts by the Alert API, closed when the trouble is over."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Receipt, Tools
from waypost.connect.fields import Field, Option, mask
from waypost.connect.service import Service, base_url, check_base_url, clip, short_key

_NO_HTML = str.maketrans("<>", "\u2039\u203a")
"""Opsgenie shows texts as HTML in one place and as they are in another; no escape would do for both."""
_LONGEST_MESSAGE = 130
_LONGEST_ALIAS = 512
_LONGEST_DESCRIPTION = 15_000
_LONGEST_TAG = 50
_LONGEST_NOTE = 25_000
_LONGEST_LABEL = 100
_MOST_DETAILS = 40
_ROOM_FOR_DETAILS = 8_000

_PRIORITIES = {"critical": "P1", "warning": "P3", "info": "P5"}
_BASES = {
    "us": ("opsgenie_base_url", "https://api.opsgenie.com"),
    "eu": ("opsgenie_eu_base_url", "https://api.eu.opsgenie.com"),
}

_NOT_ACCEPTED = "Opsgenie does not accept the API key: it is wrong, of another region, or may not create alerts"
_MEANINGS = {
    "401": _NOT_ACCEPTED,
    "403": _NOT_ACCEPTED,
    "402": "The plan of the Opsgenie account does not include the Alert API",
    "422": "Opsgenie does not understand the alert",
    "429": "Opsgenie asks to send less at once",
}


class OpsgenieType(ChannelType):
    type: ClassVar[str] = "opsgenie"
    label: ClassVar[str] = "Opsgenie"
    description: ClassVar[str] = "Create an alert in Opsgenie, and close it when the trouble is over."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><circle cx="12" cy="7" r="4"/>'
        '<path d="M4 13c2 5 5 7 8 8 3-1 6-3 8-8M8 15l4 2 4-2"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In Opsgenie, open the team that is to get the alerts, then **Integrations** and **Add integration**.
2. Choose **API**, allow it to create and update alerts, and copy the **API key**.

All alerts about one trouble are one alert there. Severities become priorities: `critical` is P1, `warning` P3 and
`info` P5.

Jira Service Management takes the same requests: the operator of this server can set `opsgenie_base_url` to
`https://api.atlassian.com/jsm/ops/integration`.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="region",
            label="Region",
            description="Where the Opsgenie account is: EU if its address ends in `.app.eu.opsgenie.com`.",
            type="select",
            default="us",
            options=(Option("US", "us"), Option("EU", "eu")),
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="api_key",
            label="API key",
            description="The key of an API integration.",
            required=True,
            sensitive=True,
            minlength=16,
            maxlength=100,
            pattern=r"[0-9A-Za-z-]+",
            pattern_hint="letters, digits and hyphens",
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        check_base_url(options, self.type, "eu_base_url")

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        return f"integration {mask(credentials['api_key'])[:8]}"

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        key = channel.credentials["api_key"]
        base = base_url(tools, *_BASES[channel.config.get("region") or "us"])
        return OpsgenieConnection(Service("Opsgenie", tools.http, [key], _MEANINGS), base, key)


class OpsgenieConnection:
    """Creates and closes alerts with one key."""

    def __init__(self, service: Service, base: str, key: str) -> None:
        self._service = service
        self._alerts = f"{base}/v2/alerts"
        self._headers = {"authorization": f"GenieKey {key}"}

    async def send(self, notice: Notice) -> Receipt:
        alias = short_key(notice, _LONGEST_ALIAS)
        if not notice.resolves:
            return await self._service.post_json(self._alerts, alert(notice, alias), self._headers)
        url = f"{self._alerts}/{quote(alias, safe='')}/close?identifierType=alias"
        return await self._service.post_json(url, closing(notice), self._headers)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""


def alert(notice: Notice, alias: str) -> bytes:
    facts = notice.facts[:_MOST_DETAILS]
    longest_value = _ROOM_FOR_DETAILS // max(len(facts), 1) - _LONGEST_LABEL
    return msgspec.json.encode(
        {
            "message": _plain(notice.title.strip() or notice.topic, _LONGEST_MESSAGE),
            "alias": alias,
            "description": _plain("\n\n".join(filter(None, (notice.text, notice.link))), _LONGEST_DESCRIPTION),
            "priority": _PRIORITIES[notice.severity],
            "source": "Waypost",
            "tags": ["waypost", _plain(notice.topic, _LONGEST_TAG)],
            "details": {_plain(label, _LONGEST_LABEL): _plain(value, longest_value) for label, value in facts if label},
        }
    )


def closing(notice: Notice) -> bytes:
    note = _plain(f"{notice.title}\n\n{notice.text}", _LONGEST_NOTE)
    return msgspec.json.encode({"source": "Waypost", "note": note})


def _plain(text: str, most: int) -> str:
    return clip(text, most).translate(_NO_HTML)
