"""Fills a database with events that were published, delivered and recorded, through Waypost's own store.

The rows are those of real traffic; only the HTTP on either side of the store is left out, which would take most of the
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from bench.events import Target, data_parts, key
from waypost import settings as settings_module
from waypost.core.model import Delivery, Destination, Event, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.settle import settle
from waypost.flow import clock
from waypost.parts import vault_of
from waypost.store.base import Publication, Result, Store
from waypost.store.sqlite import SqliteStore

_GROUP = 1000
_LEASE = 120_000_000
_LATENCY = 2_000
_TAG = "0000"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def prefill(
    directory: Path, count: int, *, targets: Sequence[Target], destinations: int, payload: int, age: Micros = 0
) -> None:
    """Create `waypost.db` with `count` settled events, the targets taken in turn, each with its destinations.

    They are as old as `age`.
    """
    uvloop.run(_prefill(directory / "waypost.db", count, targets, destinations, payload, age))


async def _prefill(
    path: Path, count: int, targets: Sequence[Target], destinations: int, payload: int, age: Micros
) -> None:
    settings = settings_module.load({}, database_url=f"sqlite:///{path}")
    store = SqliteStore(path, vault_of(settings), clock=clock.now, next_seq=clock.Sequence().next)
    await store.open()
    try:
        receivers = [await _destinations(store, target, destinations) for target in targets]
        filler = _Filler(store, targets, receivers, payload, lambda: clock.now() - age)
        for first in range(0, count, _GROUP):
            await filler.fill(range(first, min(first + _GROUP, count)))
    finally:
        await store.close()


async def _destinations(store: Store, target: Target, count: int) -> tuple[Destination, ...]:
    now = clock.now()
    await store.put_tenant(target.tenant, None, now=now)
    wanted = [
        Destination(
            no=0,
            id=f"des_{clock.token()}",
            tenant_id=target.tenant,
            type="webhook",
            topics=(target.topic,),
            config={"url": "http://127.0.0.1:9/"},
            credentials={"secret": _SECRET},
            created_at=now,
            updated_at=now,
        )
        for _ in range(count)
    ]
    return tuple([await store.add_destination(destination, limit=10_000) for destination in wanted])


class _Filler:
    """Stores groups of events and records a successful attempt for each of their deliveries."""

    def __init__(
        self,
        store: Store,
        targets: Sequence[Target],
        receivers: Sequence[tuple[Destination, ...]],
        payload: int,
        now: Callable[[], Micros],
    ) -> None:
        self._store, self._targets, self._receivers = store, targets, receivers
        self._parts = data_parts(payload)
        self._now = now
        self._sequence = clock.Sequence(clock=now)

    async def fill(self, numbers: range) -> None:
        publications = [self._publication(number) for number in numbers]
        await self._store.accept_many(publications)
        results = [
            self._result(publication, destination)
            for publication in publications
            for destination in publication.matched
        ]
        await asyncio.gather(*map(self._store.record, results))

    def _publication(self, number: int) -> Publication:
        which = number % len(self._targets)
        target, now, own = self._targets[which], self._now(), key(_TAG, number)
        before, after = self._parts
        event = Event(
            seq=self._sequence.next(),
            id=own.decode(),
            tenant_id=target.tenant,
            topic=target.topic,
            time=now,
            data=before + own + after,
        )
        receivers = self._receivers[which]
        return Publication(event=event, matched=receivers, skipped=(), accepted_at=now, lease_until=now + _LEASE)

    def _result(self, publication: Publication, destination: Destination) -> Result:
        now = self._now()
        delivery = Delivery(
            event=publication.event,
            destination_no=destination.no,
            attempt=1,
            retries=0,
            manual=False,
            lease_until=now + _LEASE,
        )
        response = {"status": 200, "body": "ok"}
        outcome = Outcome(ok=True, code="200", started_at=now, latency=_LATENCY, response=response)
        return Result(
            seq=self._sequence.next(),
            delivery=delivery,
            destination_type=destination.type,
            outcome=outcome,
            settlement=settle(delivery, outcome, RetryPolicy(), now=now, jitter=0.0),
        )
