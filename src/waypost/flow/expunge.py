"""Removing data that must go before its time, as privacy laws ask for."""

from __future__ import annotations

from collections.abc import Callable, Container

import structlog

from waypost.core.errors import NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import SYSTEM, Actor
from waypost.flow import clock
from waypost.flow.background import UNTIL_WOKEN, Background
from waypost.flow.throttle import Throttle
from waypost.store.alerting import Entry
from waypost.store.base import Store, StoredEvent
from waypost.store.retention import Expunging

_log = structlog.get_logger("waypost")

_PIECE = 64
_AGAIN_AFTER = 1.0

Drop = Callable[[str, Container[int]], None]
"""Hears a tenant's id and which of its events are not to be sent any more, once that is on disk."""


class Expunger:
    """Truth is in the store: what was begun goes on after a restart."""

    def __init__(self, store: Store, drop: Drop, *, share: float) -> None:
        self._store = store
        self._drop = drop
        self._throttle = Throttle(share)
        self.background = Background("expunging", self._step, _AGAIN_AFTER)

    async def start(self) -> None:
        await self.background.start()

    async def close(self) -> None:
        await self.background.close()

    async def event(self, event_id: str, tenant_id: str, *, by: Actor = SYSTEM) -> StoredEvent:
        """Remove the data of one event; the event without it. Idempotent. Raises NotFound."""
        found = await self._store.event(event_id, tenant_id=tenant_id)
        if found is None:
            raise NotFound("event not found")
        seq = found.event.seq
        entry = Entry(actor=by, action="event.expunge", tenant_id=tenant_id, subject=event_id)
        await self._store.retention.expunge(seq, now=clock.now(), entry=entry)
        self._drop(tenant_id, {seq})
        self.background.wake()
        return await self._store.event(event_id, tenant_id=tenant_id) or found

    async def tenant(self, tenant_id: str, *, by: Actor = SYSTEM) -> Expunging:
        """Remove the data of all events of a tenant, known or not, that were accepted until now.

        Asked again meanwhile, it begins anew and takes what has come since.
        """
        entry = Entry(actor=by, action="tenant.expunge", tenant_id=tenant_id, subject=id_of(tenant_id))
        begun = await self._store.retention.begin_expunging(tenant_id, now=clock.now(), entry=entry)
        self.background.wake()
        return begun

    async def progress(self, tenant_id: str) -> Expunging:
        """How the last one of a tenant stands. Raises NotFound."""
        found = await self._store.retention.expunging(tenant_id)
        if found is None:
            raise NotFound("nothing of this tenant was expunged")
        return found

    async def _step(self) -> float:
        await self._work_off()
        return UNTIL_WOKEN if await self._store.retention.wipe() else _AGAIN_AFTER

    async def _work_off(self) -> None:
        while jobs := await self._store.retention.unfinished():
            for job in jobs:
                moved, seqs, seconds = await self._store.retention.go_on(job, now=clock.now(), limit=_PIECE)
                self._drop(job.tenant_id, frozenset(seqs))
                if moved.finished_at is not None:
                    _log.info("expunged", tenant_id=id_of(job.tenant_id), events=moved.events)
                await self._throttle.rest(seconds)
