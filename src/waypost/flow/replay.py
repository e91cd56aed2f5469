"""Sending again what was sent before, because a person asks for it (specification, section 4.2.5)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from waypost.core import topics
from waypost.core.errors import BadRequest, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import SYSTEM, Actor, Destination, Event, Micros
from waypost.core.replaying import Limits
from waypost.flow import clock
from waypost.store.alerting import Entry
from waypost.store.base import EventQuery, Page, RetryRequest, Store

_log = structlog.get_logger("waypost")


_RECOVERED_AT_ONCE = 1_000
_MOST_NAMESAKES = 1_000
"""Tenants that may have an event of the same id before not all of them are looked at."""


class Replayer:
    """`ask` hears the destination's number and the event's, once the manual attempt is on disk.

    `ring` hears the destination's number and the instant when anything else of it is due.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[int, int], None],
        ring: Callable[[int, Micros], None],
        *,
        limits: Limits | None = None,
        now: Callable[[], Micros] = clock.now,
    ) -> None:
        self._store = store
        self._ask = ask
        self._ring = ring
        self._limits = limits or Limits()
        self._now = now

    async def retry(self, event_id: str, destination_id: str, tenant_id: str | None, *, by: Actor = SYSTEM) -> None:
        """Have one more attempt made now, whatever became of the earlier ones.

        `tenant_id` bounds what the caller may see; None is everything. Raises NotFound, BadRequest, or for the limits
        Invalid or TooMany.
        """
        event, destination = await self._pair(event_id, destination_id, tenant_id)
        if destination.disabled_at is not None:
            raise BadRequest("Destination is disabled")
        if event.expunged_at is not None:
            raise BadRequest("the event's data was removed")
        if not topics.matcher(destination.topics)(event.topic):
            raise BadRequest("destination does not match event")
        now = self._now()
        entry = Entry(
            actor=by,
            action="event.retry",
            tenant_id=event.tenant_id,
            subject=event.id,
            detail={"destination_id": destination.id},
        )
        request = RetryRequest(event_seq=event.seq, destination_no=destination.no, now=now)
        await self._store.retry(request, entry, self._limits.of(by))
        self._ask(destination.no, event.seq)
        _log.info("retry", tenant_id=id_of(event.tenant_id), event_id=event_id, destination_id=destination_id)

    async def _pair(self, event_id: str, destination_id: str, tenant_id: str | None) -> tuple[Event, Destination]:
        """The ids belong to one tenant each, and several tenants may have the same. Raises NotFound, BadRequest."""
        query = EventQuery(ids=(event_id,), tenant_ids=() if tenant_id is None else (tenant_id,))
        events = [stored.event for stored in (await self._store.events(query, Page(limit=_MOST_NAMESAKES))).items]
        if not events:
            raise NotFound("event not found")
        destinations = [await self._store.destination(event.tenant_id, destination_id) for event in events]
        pairs = [(event, to) for event, to in zip(events, destinations, strict=True) if to is not None]
        if not pairs:
            raise NotFound("destination not found")
        if len(pairs) > 1:
            raise BadRequest("several tenants have an event and a destination of these ids: say tenant_id")
        return pairs[0]

    async def recover(self, destination: Destination, since: Micros, *, by: Actor) -> int:
        """Have everything delivered that was kept for a destination while it was disabled; how much that is.

        In pieces, so that publishing goes on meanwhile. Raises BadRequest while it is disabled.
        """
        if destination.disabled_at is not None:
            raise BadRequest("Destination is disabled")
        entry: Entry | None = Entry(
            actor=by,
            action="destination.recover",
            tenant_id=destination.tenant_id,
            subject=destination.id,
            detail={"kept": await self._store.count_kept(destination.no, since=since)},
        )
        recovered, piece = 0, _RECOVERED_AT_ONCE
        while piece == _RECOVERED_AT_ONCE:
            now = self._now()
            piece = await self._store.recover(
                destination.no, since=since, now=now, limit=_RECOVERED_AT_ONCE, entry=entry
            )
            recovered, entry = recovered + piece, None
            self._ring(destination.no, now)
        return recovered
