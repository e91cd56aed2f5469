"""Every destination type is an alert channel too: operator events go there as events go to customers.

So signed webhooks, queues and streams need no second implementation; the body is the notice's envelope.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from waypost.connect.channel import ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Change, Connection, DestinationType, Message, Receipt, Tools
from waypost.core.alerts import Channel
from waypost.core.message import merged_metadata
from waypost.core.model import Destination, Event


def channel_types(
    own: Mapping[str, ChannelType], destinations: Mapping[str, DestinationType]
) -> dict[str, ChannelType]:
    """All kinds of channel by name: those for people, then the destination types."""
    return {**own, **{name: relay(kind) for name, kind in destinations.items() if name not in own}}


def relay(kind: DestinationType) -> ChannelType:
    """The destination type as a channel: its name, its form, its rules."""

    class Relay(_Relay):
        type = kind.type
        label = kind.label
        description = kind.description
        icon = kind.icon
        instructions = kind.instructions
        extra = kind.extra
        config_fields = kind.config_fields
        credential_fields = kind.credential_fields

    return Relay(kind)


class _Relay(ChannelType):
    def __init__(self, kind: DestinationType) -> None:
        self._kind = kind

    def check_options(self, options: dict[str, Any]) -> None:
        self._kind.check_options(options)

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return self._kind.check(config, credentials, tools)

    def prepare(self, change: Change) -> tuple[dict[str, str], dict[str, str]]:
        return self._kind.prepare(change)

    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        bare = Channel(
            no=0,
            id="",
            owner=None,
            type=self.type,
            name="",
            config=config,
            credentials=credentials,
            created_at=0,
            updated_at=0,
        )
        name, _ = self._kind.target(as_destination(bare))
        return name

    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        return _RelayConnection(await self._kind.connect(as_destination(channel), tools), channel.owner or "")


class _RelayConnection:
    def __init__(self, connection: Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def send(self, notice: Notice) -> Receipt:
        event = Event(
            seq=int.from_bytes(blake2b(notice.id.encode(), digest_size=7).digest()),
            id=notice.id,
            tenant_id=self._tenant_id,
            topic=notice.topic,
            time=notice.time,
            data=notice.envelope,
        )
        now = time.time_ns() // 1000
        metadata = merged_metadata(event, None, sent_at=now)
        return await self._connection.send(
            Message(event=event, metadata=metadata, attempt=1, manual=False, sent_at=now)
        )

    async def close(self) -> None:
        await self._connection.close()


def as_destination(channel: Channel) -> Destination:
    """A channel as its destination type sees it."""
    return Destination(
        no=channel.no,
        id=channel.id,
        tenant_id=channel.owner or "",
        type=channel.type,
        topics=channel.topics,
        config=channel.config,
        credentials=channel.credentials,
        created_at=channel.created_at,
        updated_at=channel.updated_at,
        version=channel.version,
    )
