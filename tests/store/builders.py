"""Plain values for store tests."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from waypost.core.model import SECOND, Actor, Delivery, DeliveryState, Destination, Event, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.settle import settle
from waypost.flow.clock import Sequence
from waypost.store.alerting import Entry
from waypost.store.base import Publication, Result

OPERATOR = Actor(kind="api_key", name="ops", ip="192.0.2.1")
CUSTOMER = Actor(kind="tenant", name="acme", ip="192.0.2.2")
NOW: Micros = 1_800_000_000 * SECOND
LEASE: Micros = NOW + 60 * SECOND

_sequence = Sequence(node=1, clock=lambda: NOW)


def next_seq() -> int:
    return _sequence.next()


def destination(tenant_id: str = "acme", destination_id: str = "des_1", **changes: Any) -> Destination:
    return structs.replace(
        Destination(
            no=0,
            id=destination_id,
            tenant_id=tenant_id,
            type="webhook",
            topics=("*",),
            config={"url": "https://example.com/hook"},
            credentials={"secret": "whsec_c2VjcmV0"},
            created_at=NOW,
            updated_at=NOW,
        ),
        **changes,
    )


def event(tenant_id: str = "acme", event_id: str | None = None, **changes: Any) -> Event:
    seq = next_seq()
    made = Event(seq=seq, id=event_id or f"evt_{seq}", tenant_id=tenant_id, topic="order.created", time=NOW, data=b"{}")
    return structs.replace(made, **changes)


def publication(to: Event, *matched: Destination, leased: bool = True) -> Publication:
    return Publication(event=to, matched=matched, skipped=(), accepted_at=NOW, lease_until=LEASE if leased else None)


def delivery(of: Event, to: Destination, **changes: Any) -> Delivery:
    first = Delivery(event=of, destination_no=to.no, attempt=1, retries=0, manual=False, lease_until=LEASE)
    return structs.replace(first, **changes)


def outcome(*, ok: bool = True, code: str = "200", **changes: Any) -> Outcome:
    return structs.replace(Outcome(ok=ok, code=code, started_at=NOW, latency=1500), **changes)


def result(of: Delivery, came: Outcome, policy: RetryPolicy | None = None) -> Result:
    settlement = settle(of, came, policy or RetryPolicy(), now=NOW, jitter=0.0)
    return Result(seq=next_seq(), delivery=of, destination_type="webhook", outcome=came, settlement=settlement)


__all__ = ["LEASE", "NOW", "DeliveryState", "delivery", "destination", "event", "next_seq", "outcome", "publication"]


def entry(action: str = "did.it", **changes: Any) -> Entry:
    return structs.replace(Entry(actor=OPERATOR, action=action, tenant_id=None, subject="x"), **changes)
