"""What tenants' alert channels may do with means of the operator's, such as the mail server.

A channel that the operator made may do what it says. A tenant's own may only be of a type that tenants may use, reach
addresses whose owners have agreed, and send so many messages within an hour.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Mapping
from hashlib import sha256

from msgspec import Struct, structs

from waypost.connect.channel import ChannelType
from waypost.core.alerts import Channel
from waypost.core.errors import DeliveryError

ANYBODY = "*"
"""Stands among the confirmed addresses of a channel for which the operator answers."""

_CODE_BYTES = 10
_GROUP = 4


class Permits(Struct, frozen=True, kw_only=True):
    """`allowed` names the types that tenants may use though they use means of the operator's.

    `per_hour` is how many messages a tenant may send by such types within an hour; `secret` makes the codes by which
    the owner of an address agrees.
    """

    types: Mapping[str, ChannelType]
    allowed: frozenset[str] = frozenset()
    per_hour: int = 60
    secret: bytes = b""

    def forbids(self, channel_type: str) -> bool:
        """Whether tenants may not make channels of a type."""
        return self._borrows(channel_type) and channel_type not in self.allowed

    def refusal(self, channel: Channel) -> DeliveryError | None:
        """Why nothing is sent there now."""
        if not self.is_metered(channel):
            return None
        if channel.type not in self.allowed:
            sentence = f"tenants may not use alert channels of type {channel.type} here (alert_tenant_channels)"
            return DeliveryError("not_allowed", sentence, retryable=False)
        waiting = self.unconfirmed(channel)
        if waiting:
            sentence = f"{waiting[0]} has not agreed to get alerts: have it confirmed"
            return DeliveryError("not_confirmed", sentence, retryable=False)
        return None

    def is_metered(self, channel: Channel) -> bool:
        """Whether it uses means of the operator's for a tenant."""
        return channel.owner is not None and ANYBODY not in channel.confirmed and self._borrows(channel.type)

    def unconfirmed(self, channel: Channel) -> tuple[str, ...]:
        """The addresses whose owners have not agreed yet."""
        kind = self.types.get(channel.type)
        if kind is None or channel.owner is None or ANYBODY in channel.confirmed:
            return ()
        return tuple(address for address in kind.addressees(channel.config) if address not in channel.confirmed)

    def reaching(self, channel: Channel, address: str) -> Channel:
        """The channel as it would be for one of its addresses alone."""
        return structs.replace(channel, config=self.types[channel.type].addressed(channel.config, address))

    def code(self, channel: Channel, address: str) -> str:
        """What only somebody knows who reads what is sent to an address."""
        asked = "\0".join((channel.owner or "", channel.id, address))
        digest = hmac.digest(self.secret, asked.encode(), sha256)[:_CODE_BYTES]
        letters = b32encode(digest).decode()
        return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))

    def agreed(self, channel: Channel, code: str) -> Channel | None:
        """The channel once the address of a code is confirmed; None for a code of none of them."""
        given = code.strip().upper().encode("utf-8", "replace")
        for address in self.unconfirmed(channel):
            if hmac.compare_digest(self.code(channel, address).encode(), given):
                return structs.replace(channel, confirmed=(*channel.confirmed, address))
        return None

    def _borrows(self, channel_type: str) -> bool:
        kind = self.types.get(channel_type)
        return kind is not None and kind.borrows


def answered_for(old: Channel, new: Channel, *, by_tenant: bool) -> tuple[str, ...]:
    """The confirmed addresses after a change: where it leads elsewhere, whoever changes it answers for that."""
    if (old.config, old.credentials) == (new.config, new.credentials):
        return old.confirmed
    return tuple(address for address in old.confirmed if address != ANYBODY) if by_tenant else (ANYBODY,)
