"""Accepting events: route in memory, put on disk, hand over for delivery."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from waypost.core.errors import Unavailable
from waypost.core.filters import Allowance
from waypost.core.incarnations import id_of
from waypost.core.model import Destination, Event, Micros
from waypost.core.routing import Routing, Skip, route
from waypost.flow import clock
from waypost.flow.directory import Directory
from waypost.flow.live import Live
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics
from waypost.observe.tracing import NullTracer, Tracer, log_fields
from waypost.store.base import Accepted, Publication, Store

_STEPS_OF_A_TURN = 10_000


class Deliverer(Protocol):
    """Who delivers what was accepted."""

    def admit(self, event: Event, matched: Sequence[Destination]) -> Micros | None:
        """A lease for deliveries to these destinations, or None when they must wait in the store.

        A lease keeps room for them, which `take` fills or `decline` gives up.
        """
        ...

    def decline(self, event: Event, matched: Sequence[Destination]) -> None:
        """Give up the room that came with a lease: nothing was accepted under it."""
        ...

    def take(self, event: Event, matched: Sequence[Destination], lease_until: Micros, *, stale: bool) -> None:
        """Deliver now what was stored under the lease. `stale`: the destinations may have changed since."""
        ...

    def ring(self, destination_no: int, due: Micros) -> None:
        """Something for this destination waits in the store and is due then."""
        ...

    def watched(self, event_seq: int) -> AbstractContextManager[Sequence[Unavailable]]:
        """Collects why attempts of this event are put off."""
        ...


class Publisher:
    """Accepts events. What it has answered is on disk.

    `skipped` hears the tenant's id and which of its destinations do not get an event that was accepted.
    """

    def __init__(
        self,
        store: Store,
        directory: Directory,
        deliverer: Deliverer,
        metrics: Metrics,
        journal: Journal,
        tracer: Tracer | None = None,
        *,
        skipped: Callable[[str, Sequence[Skip]], None] = lambda _tenant_id, _skipped: None,
        live: Live | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._deliverer = deliverer
        self._metrics = metrics
        self._journal = journal
        self._tracer = tracer or NullTracer()
        self._skipped = skipped
        self._live = live or Live()

    async def publish(self, event: Event) -> Accepted:
        """Store one event with its deliveries and start delivering. Raises Unavailable when it is not on disk."""
        return await self._tracer.publish(event, self._publish)

    async def publish_many(self, events: Sequence[Event]) -> list[Accepted]:
        """The same for several events in one transaction: all are stored or none is."""
        return await self._tracer.publish_many(events, self._publish_many)

    async def _publish(self, event: Event) -> Accepted:
        began, changes = time.perf_counter(), self._directory.changes
        publication = self._prepare(event, await self._routing(event))
        try:
            accepted = await self._store.accept(publication)
        except BaseException:
            self._decline(publication)
            raise
        self._hand_over(publication, accepted, began, changes)
        return accepted

    async def _publish_many(self, events: Sequence[Event]) -> list[Accepted]:
        began, changes = time.perf_counter(), self._directory.changes
        routings = await self._routings(events)  # all of them before a place is kept for any
        publications = [self._prepare(event, routing) for event, routing in zip(events, routings, strict=True)]
        try:
            accepted = await self._store.accept_many(publications)
        except BaseException:
            for publication in publications:
                self._decline(publication)
            raise
        for publication, came in zip(publications, accepted, strict=True):
            self._hand_over(publication, came, began, changes)
        return accepted

    async def _routing(self, event: Event, steps: int | None = None) -> Routing:
        routes = self._directory.known(event.tenant_id)
        if routes is None:
            routes = await self._directory.routes(event.tenant_id)
        return route(event, routes, self._directory.limits, steps)

    async def _routings(self, events: Sequence[Event]) -> list[Routing]:
        """Others get their turn where filters take long."""
        allowance, routings, steps = Allowance(self._directory.limits, len(events)), [], 0
        for event in events:
            routing = await self._routing(event, allowance.of_next())
            routings.append(routing)
            allowance.took(routing.spent)
            steps += routing.spent
            if steps > _STEPS_OF_A_TURN:
                steps = 0
                await asyncio.sleep(0)
        return routings

    def _prepare(self, event: Event, routing: Routing) -> Publication:
        return Publication(
            event=event,
            matched=routing.matched,
            skipped=routing.skipped,
            kept=routing.kept,
            accepted_at=clock.now(),
            lease_until=self._deliverer.admit(event, routing.matched) if routing.matched else None,
        )

    def _decline(self, publication: Publication) -> None:
        if publication.lease_until is not None:
            self._deliverer.decline(publication.event, publication.matched)

    def _hand_over(self, publication: Publication, accepted: Accepted, began: float, changes: int) -> None:
        if accepted.duplicate:
            self._decline(publication)
        elif publication.lease_until is not None:
            stale = changes != self._directory.changes
            self._deliverer.take(publication.event, publication.matched, publication.lease_until, stale=stale)
        else:
            for destination in publication.matched:
                self._deliverer.ring(destination.no, publication.accepted_at)
        if not accepted.duplicate:
            self._live.published(publication)
            if publication.skipped:
                self._count_skips(publication)
        seconds = time.perf_counter() - began
        self._metrics.published(matched=len(publication.matched), duplicate=accepted.duplicate, seconds=seconds)
        self._journal.write(_line(publication, accepted, seconds))

    def _count_skips(self, publication: Publication) -> None:
        self._skipped(publication.event.tenant_id, publication.skipped)
        for reason, count in Counter(skip.reason for skip in publication.skipped).items():
            self._metrics.skipped(reason, count)


def _line(publication: Publication, accepted: Accepted, seconds: float) -> dict[str, Any]:
    """The wide log line of a publish."""
    event = publication.event
    return {
        "event": "publish",
        "tenant_id": id_of(event.tenant_id),
        "event_id": event.id,
        "topic": event.topic,
        "bytes": len(event.data),
        "matched": len(publication.matched),
        "skipped": len(publication.skipped),
        "duplicate": accepted.duplicate,
        "ms": round(seconds * 1000, 3),
        **log_fields(event.trace),
    }
