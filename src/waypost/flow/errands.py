"""Messages to alert channels that somebody asks for: a test, or a question to the owner of an address."""

from __future__ import annotations

from collections.abc import Callable

from waypost.core.alerts import Channel
from waypost.core.errors import Forbidden, TooMany
from waypost.core.model import SECOND, Micros
from waypost.flow.notices import Writer
from waypost.flow.notify import Senders, next_hour
from waypost.flow.permits import Permits
from waypost.store.base import Store


class Errands:
    """Each is tried once, over a connection of its own, and charged to the tenant whose channel it is."""

    def __init__(
        self, store: Store, senders: Senders, writer: Writer, *, next_seq: Callable[[], int], now: Callable[[], Micros]
    ) -> None:
        self._store = store
        self._senders = senders
        self._writer = writer
        self._next_seq = next_seq
        self._now = now

    async def test(self, channel: Channel) -> None:
        """Raises DeliveryError, and TooMany when the tenant has no messages left in this hour."""
        refusal = self._permits.refusal(channel)
        if refusal is not None:
            raise refusal
        await self._charge(channel)
        await self._senders.try_out(channel, self._writer.test(self._next_seq()))

    async def ask(self, channel: Channel) -> tuple[str, ...]:
        """Ask the owners of all addresses that are not confirmed; which these are.

        Raises as `test` does, and Forbidden for a type that tenants may not use.
        """
        if self._permits.is_metered(channel) and self._permits.forbids(channel.type):
            raise Forbidden(f"tenants may not use alert channels of type {channel.type} here")
        waiting = self._permits.unconfirmed(channel)
        for address in waiting:
            await self._charge(channel)
            question = self._writer.question(self._next_seq(), channel, self._permits.code(channel, address))
            await self._senders.try_out(self._permits.reaching(channel, address), question)
        return waiting

    @property
    def _permits(self) -> Permits:
        return self._senders.permits

    async def _charge(self, channel: Channel) -> None:
        if not self._permits.is_metered(channel):
            return
        now, most = self._now(), self._permits.per_hour
        if not await self._store.alerting.charge_message(channel.owner or "", most=most, now=now):
            raise TooMany(
                f"at most {most} messages of a tenant's alert channels are sent within an hour",
                {"limit": most, "remaining": 0},
                retry_after=-(-(next_hour(now) - now) // SECOND),
            )
