"""A month of traffic on record: tenants of different size, varied payloads, failures, retries, what was given up.

Everything goes through Waypost's own store, so that the rows are those of real traffic. The same number of events gives
the same history.
"""

from __future__ import annotations

import asyncio
import hashlib
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import uvloop
from msgspec import Struct, structs

from waypost import settings as settings_module
from waypost.core.model import DAY, SECOND, SYSTEM, Delivery, Destination, Event, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.routing import Skip
from waypost.core.settle import settle
from waypost.flow.clock import Sequence as SequenceNumbers
from waypost.flow.clock import now as present
from waypost.parts import vault_of
from waypost.store.alerting import Entry
from waypost.store.base import Publication, Result
from waypost.store.sqlite import SqliteStore

SPAN = 30 * DAY
TENANTS = 200
TOPICS = (
    *("order.created", "order.paid", "order.shipped", "customer.created", "customer.updated", "invoice.paid"),
    *("cart.updated", "product.updated", "refund.created", "stock.changed"),
)
RARE_TOPIC, RARE_WORD, COMMON_WORD = "audit.finding", "zanzibar", "delivery"
CUSTOMERS, SHARDS = 50_000, 5_000

_GROUP = 1000
_LEASE = 120 * SECOND
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_SYLLABLES = textwrap.wrap("bacedifoguhakilomunaperisotuvawexiza", 2)
_POLICY = RetryPolicy(limit=3, base_seconds=600.0, jitter=0.0)
_FAILURES = (("503", 55), ("500", 20), ("timeout", 15), ("404", 6), ("connection_refused", 3), ("tls_error", 1))
_encode = msgspec.json.Encoder().encode


class Customer(Struct, frozen=True):
    tenant_id: str
    destinations: tuple[Destination, ...]


def tenant_id(rank: int) -> str:
    """The tenants by size: 0 is the largest."""
    return f"tenant-{rank:03}"


def write(path: Path, count: int) -> None:
    """Create a database with `count` events and one and a half times as many attempts."""
    uvloop.run(_write(path, count))


async def _write(path: Path, count: int) -> None:
    settings = settings_module.load({}, database_url=f"sqlite:///{path}")
    store = SqliteStore(path, vault_of(settings), clock=present, next_seq=SequenceNumbers().next)
    await store.open()
    try:
        history = _History(store, count)
        await history.open()
        for first in range(0, count, _GROUP):
            await history.go_on(range(first, min(first + _GROUP, count)))
        await history.call_off(count // 2_000)
    finally:
        await store.close()


class _History:
    def __init__(self, store: SqliteStore, count: int) -> None:
        self._store = store
        self._random = Random(count)
        self._step = SPAN // count
        self._start = present() - SPAN
        self._now = self._start
        self._sequence = SequenceNumbers(node=0, clock=lambda: self._now)
        self._waiting: list[tuple[Micros, Delivery, float]] = []
        self._customers: list[Customer] = []
        self._failing: dict[int, float] = {}
        self._words = vocabulary(Random(1))

    async def open(self) -> None:
        for rank in range(TENANTS):
            self._customers.append(await self._customer(rank))

    async def _customer(self, rank: int) -> Customer:
        own = tenant_id(rank)
        await self._store.put_tenant(own, None, now=self._now)
        count = 1 + (rank + 1) % 3
        made = [
            await self._store.add_destination(_destination(own, number, self._now), limit=10) for number in range(count)
        ]
        for number, to in enumerate(made):
            self._failing[to.no] = 0.6 if (rank + number) % 17 == 5 else 0.08
        return Customer(own, tuple(made))

    async def go_on(self, numbers: range) -> None:
        """Publish these events; then attempt them, and whatever has fallen due meanwhile."""
        publications = [self._publication(number) for number in numbers]
        await self._store.accept_many(publications)
        for publication in publications:
            for to in publication.matched:
                first = Delivery(
                    event=publication.event,
                    destination_no=to.no,
                    attempt=1,
                    retries=0,
                    manual=False,
                    lease_until=_LEASE,
                )
                self._waiting.append((publication.event.time, first, self._failing[to.no]))
        await self._attempt_what_is_due()

    async def call_off(self, count: int) -> None:
        """Cancel some of what still waits."""
        for _, delivery, _ in self._waiting[:count]:
            entry = Entry(actor=SYSTEM, action="delivery.cancel", tenant_id=None, subject=delivery.event.id)
            await self._store.deliveries.cancel(delivery.event.seq, delivery.destination_no, entry)

    async def _attempt_what_is_due(self) -> None:
        due = [each for each in self._waiting if each[0] <= self._now]
        self._waiting = [each for each in self._waiting if each[0] > self._now]
        results = [self._result(delivery, share) for _, delivery, share in due]
        await asyncio.gather(*map(self._store.record, results))
        for result, (_, delivery, share) in zip(results, due, strict=True):
            then = result.settlement
            if then.due is not None:
                again = structs.replace(delivery, attempt=then.next_attempt, retries=then.retries)
                self._waiting.append((then.due, again, share))

    def _publication(self, number: int) -> Publication:
        self._now = self._start + number * self._step
        random = self._random
        customer = self._customers[min(int(random.paretovariate(0.6)) - 1, TENANTS - 1)]
        topic = RARE_TOPIC if number % 20_000 == 7 else TOPICS[min(int(random.expovariate(0.5)), len(TOPICS) - 1)]
        event = Event(
            seq=self._sequence.next(),
            id=f"evt_{number:08}",
            tenant_id=customer.tenant_id,
            topic=topic,
            time=self._now,
            data=self._data(number, topic),
            metadata={"source": random.choice(("shop", "crm", "erp")), "shard": str(number % SHARDS)},
        )
        wanted = [random.random() < 0.7 for _ in customer.destinations]
        matched = tuple(to for to, wants in zip(customer.destinations, wanted, strict=True) if wants)
        skipped = tuple(
            Skip(to.id, "topic") for to, wants in zip(customer.destinations, wanted, strict=True) if not wants
        )
        kept = matched[:1] if number % 5_000 == 11 else ()
        return Publication(
            event=event,
            matched=matched[len(kept) :],
            skipped=skipped,
            accepted_at=self._now,
            lease_until=self._now + _LEASE,
            kept=kept,
        )

    def _data(self, number: int, topic: str) -> bytes:
        random, words = self._random, self._words
        name = f"{words(1)} {words(1)}".title()
        note = f"{words(25)} {COMMON_WORD} {words(10)}"
        if number % 50_000 == 13:
            note += f" {RARE_WORD}"
        items = [
            {
                "sku": f"SKU-{random.randrange(20_000)}",
                "title": words(3),
                "quantity": random.randrange(1, 5),
                "price": random.randrange(100, 99_999) / 100,
            }
            for _ in range(random.randrange(1, 4))
        ]
        return _encode(
            {
                "id": hashlib.md5(b"%d" % number).hexdigest(),
                "type": topic,
                "customer": {
                    "id": random.randrange(CUSTOMERS),
                    "name": name,
                    "email": f"{name.replace(' ', '.').lower()}@example.com",
                    "plan": random.choice(("free", "pro", "team")),
                },
                "amount": random.randrange(100, 99_999),
                "currency": random.choice(("EUR", "USD", "GBP")),
                "items": items,
                "note": note,
            }
        )

    def _result(self, delivery: Delivery, share: float) -> Result:
        random, seq = self._random, self._sequence.next()
        ok = random.random() >= share
        code = random.choice(("200", "200", "200", "202")) if ok else _one_of(random, _FAILURES)
        latency = 30_000_000 if code == "timeout" else int(random.lognormvariate(11.0, 0.8))
        delivery = structs.replace(delivery, manual=seq % 701 == 0)
        outcome = Outcome(
            ok=ok,
            code=code,
            started_at=self._now,
            latency=latency,
            detail=None if ok else f"hooks.example.com answered with {code}",
            request=_request(delivery, self._now),
            response=_response(code, latency) if code.isdigit() else None,
        )
        settlement = settle(delivery, outcome, _POLICY, now=self._now, jitter=0.0)
        return Result(seq=seq, delivery=delivery, destination_type="webhook", outcome=outcome, settlement=settlement)


def _destination(own: str, number: int, now: Micros) -> Destination:
    return Destination(
        no=0,
        id=f"{own}-des-{number}",
        tenant_id=own,
        type="webhook",
        topics=("*",),
        config={"url": f"https://hooks.example.com/{own}/{number}"},
        credentials={"secret": _SECRET},
        created_at=now,
        updated_at=now,
    )


def vocabulary(random: Random) -> Callable[[int], str]:
    """A maker of sentences from 20,000 words, of which a few are frequent and most are rare."""
    known = ["".join(random.choice(_SYLLABLES) for _ in range(random.randrange(2, 5))) for _ in range(20_000)]

    def words(count: int) -> str:
        return " ".join([known[min(int(random.paretovariate(0.5)) - 1, len(known) - 1)] for _ in range(count)])

    return words


def _one_of(random: Random, weighted: Sequence[tuple[str, int]]) -> str:
    return random.choices([name for name, _ in weighted], [weight for _, weight in weighted])[0]


def _request(delivery: Delivery, now: Micros) -> dict[str, Any]:
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery.event.id,
        "webhook-timestamp": str(now // SECOND),
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        "x-waypost-topic": delivery.event.topic,
    }
    return {
        "method": "POST",
        "url": "https://hooks.example.com/in",
        "headers": headers,
        "size": len(delivery.event.data),
    }


def _response(code: str, latency: int) -> dict[str, Any]:
    headers = {
        "date": "Mon, 15 Jan 2024 08:00:00 GMT",
        "content-type": "application/json",
        "content-length": "15",
        "server": "nginx",
    }
    timings = {"dns": 0, "connect": 0, "tls": 0, "first_byte": latency - 40, "total": latency}
    return {"status_code": int(code), "headers": headers, "body": '{"status":"ok"}', "timings": timings}
