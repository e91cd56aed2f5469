"""What the tests of alert channels have in common: a notice, tools that reach this machine, and a connected channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import msgspec
from msgspec import structs

from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.connect.fields import problems
from waypost.core.model import SECOND
from waypost.net.exchange import HttpSettings
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.resolve import GuardedResolver, SystemResolver

NOON = 1_704_110_400 * SECOND
"""2024-01-01T12:00:00Z"""

_ENVELOPE = {
    "id": "alr_01h2xcejqtf2n",
    "topic": "alert.destination.consecutive_failure",
    "time": "2024-01-01T12:00:00Z",
    "tenant_id": "acme",
    "data": {"tenant_id": "acme", "destination": {"id": "des_1"}, "event": {"id": "evt_1", "data": {"order": 42}}},
}


def notice(**changes: Any) -> Notice:
    usual = Notice(
        id="alr_01h2xcejqtf2n",
        topic="alert.destination.consecutive_failure",
        severity="warning",
        title="des_1 of acme has failed 50 times in a row",
        text="The destination des_1 (webhook to hooks.acme.example) of tenant acme has failed 50 times in a row.",
        facts=(
            ("Tenant", "acme"),
            ("Destination", "des_1 (webhook, hooks.acme.example)"),
            ("Topic", "order.created"),
            ("Error", "503: the receiver answered 503 <Service Unavailable> & closed"),
            ("First failure", "2024-01-01T11:00:00Z"),
            ("Failures", "50"),
            ("Next retry", "2024-01-01T12:30:00Z"),
        ),
        link="https://waypost.example/portal/acme/destinations/des_1",
        time=NOON,
        dedup_key="waypost:acme:des_1",
        resolves=False,
        envelope=msgspec.json.encode(_ENVELOPE),
    )
    return structs.replace(usual, **changes)


@asynccontextmanager
async def local_tools(*, patience: float = 2.0, local: bool = True, **options: Any) -> AsyncIterator[Tools]:
    """Tools with a running HTTP client whose guard lets this machine through if `local`."""
    guard = AddressGuard([ip_network("127.0.0.0/8")] if local else ())
    resolver = GuardedResolver(SystemResolver(), guard)
    http = HttpClient(HttpSettings(total_timeout=patience, first_byte_timeout=patience), resolver, guard)
    await http.start()
    try:
        yield Tools(http=http, guard=guard, resolver=resolver, options=options)
    finally:
        await http.close()


def complaints(kind: ChannelType, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
    """Everything that keeps a channel from being saved."""
    return [
        *problems(kind.config_fields, config, where="config"),
        *problems(kind.credential_fields, credentials, where="credentials"),
        *kind.check(config, credentials, tools),
    ]


@asynccontextmanager
async def connected(
    kind: ChannelType, config: dict[str, str], credentials: dict[str, str], tools: Tools
) -> AsyncIterator[ChannelConnection]:
    """A connection to a channel that may be saved like this, closed twice at the end."""
    assert complaints(kind, config, credentials, tools) == []
    channel = Channel(
        no=1,
        id="chn_1",
        owner=None,
        type=kind.type,
        name="on call",
        config=config,
        credentials=credentials,
        created_at=NOON,
        updated_at=NOON,
    )
    connection = await kind.connect(channel, tools)
    try:
        yield connection
    finally:
        await connection.close()
        await connection.close()
