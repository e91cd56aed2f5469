"""Sending again what was sent before, because a person asks for it (specification, section 4.2.5)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from waypost.core import topics
from waypost.core.errors import BadRequest, NotFound
from waypost.core.model import SYSTEM, Actor
from waypost.flow import clock
from waypost.store.alerting import Entry
from waypost.store.base import RetryRequest, Store

_log = structlog.get_logger("waypost")


class Replayer:
    """`ask` hears the destination's number and the event's, once the manual attempt is on disk."""

    def __init__(self, store: Store, ask: Callable[[int, int], None]) -> None:
        self._store = store
        self._ask = ask

    async def retry(self, event_id: str, destination_id: str, tenant_id: str | None, *, by: Actor = SYSTEM) -> None:
        """Have one more attempt made now, whatever became of the earlier ones.

        `tenant_id` bounds what the caller may see; None is everything. Raises NotFound or BadRequest.
        """
        found = await self._store.event(event_id, tenant_id=tenant_id)
        if found is None:
            raise NotFound("event not found")
        event = found.event
        destination = await self._store.destination(event.tenant_id, destination_id)
        if destination is None:
            raise NotFound("destination not found")
        if destination.disabled_at is not None:
            raise BadRequest("Destination is disabled")
        if not topics.matcher(destination.topics)(event.topic):
            raise BadRequest("destination does not match event")
        now = clock.now()
        entry = Entry(
            actor=by,
            action="event.retry",
            tenant_id=event.tenant_id,
            subject=event.id,
            detail={"destination_id": destination.id},
        )
        await self._store.retry(RetryRequest(event_seq=event.seq, destination_no=destination.no, now=now), entry)
        self._ask(destination.no, event.seq)
        _log.info("retry", tenant_id=event.tenant_id, event_id=event_id, destination_id=destination_id)
