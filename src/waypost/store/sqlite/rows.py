"""Values to rows and back: the one place that knows how SQL columns hold the nouns of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from waypost.core import ids
from waypost.core.model import Attempt, Destination, Event, Tenant, TenantSummary
from waypost.core.retry import RetryOverrides
from waypost.core.routing import Skip
from waypost.core.topics import union
from waypost.store.base import Publication, Result, StoredEvent
from waypost.store.vault import Vault

Row = Sequence[Any]

TENANT = "id, metadata, created_at, updated_at"
DESTINATION = (
    "no, tenant_id, id, type, topics, filter, config, credentials, delivery_metadata, metadata, retry_policy,"
    " created_at, updated_at, disabled_at, version"
)
EVENT = "e.seq, e.id, e.tenant_id, e.topic, e.time, e.data, e.metadata, e.eligible, e.destination_id"
STORED_EVENT = f"{EVENT}, e.accepted_at, e.matched, e.skipped"
ATTEMPT = (
    "a.seq, a.tenant_id, a.event_seq, a.destination_no, a.destination_type, a.number, a.manual, a.ok, a.code,"
    " a.latency, a.detail, a.request, a.response"
)
EVENT_WIDTH = 9
ATTEMPT_WIDTH = 13

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_texts = msgspec.json.Decoder(dict[str, str])
names = msgspec.json.Decoder(tuple[str, ...]).decode
_skips = msgspec.json.Decoder(tuple[Skip, ...])
_overrides = msgspec.json.Decoder(RetryOverrides)


def json_text(value: Any) -> str | None:
    """JSON for a column; None for nothing at all."""
    return None if value is None else _encode(value).decode()


def tenant(row: Row) -> Tenant:
    return Tenant(id=row[0], metadata=_optional_texts(row[1]), created_at=row[2], updated_at=row[3])


def tenant_summary(row: Row) -> TenantSummary:
    """From a tenant's columns followed by the JSON list of its destinations' topic lists."""
    subscriptions = msgspec.json.decode(row[4], type=list[list[str]])
    patterns = [pattern for topics in subscriptions for pattern in topics]
    return TenantSummary(tenant=tenant(row), destinations_count=len(subscriptions), topics=union(patterns))


def destination(row: Row, vault: Vault) -> Destination:
    return Destination(
        no=row[0],
        tenant_id=row[1],
        id=row[2],
        type=row[3],
        topics=names(row[4]),
        filter=None if row[5] is None else _decode(row[5]),
        config=_texts.decode(row[6]),
        credentials=_texts.decode(vault.open(row[7], credentials_context(row[1], row[2]))),
        delivery_metadata=_optional_texts(row[8]),
        metadata=_optional_texts(row[9]),
        retry_policy=None if row[10] is None else _overrides.decode(row[10]),
        created_at=row[11],
        updated_at=row[12],
        disabled_at=row[13],
        version=row[14],
    )


def destination_values(value: Destination, vault: Vault) -> tuple[Any, ...]:
    """Every column of DESTINATION but `no`."""
    return (
        value.tenant_id,
        value.id,
        value.type,
        json_text(value.topics),
        json_text(value.filter),
        json_text(value.config),
        vault.seal(_encode(value.credentials), credentials_context(value.tenant_id, value.id)),
        json_text(value.delivery_metadata),
        json_text(value.metadata),
        json_text(value.retry_policy),
        value.created_at,
        value.updated_at,
        value.disabled_at,
        value.version,
    )


def credentials_context(tenant_id: str, destination_id: str) -> str:
    """What a destination's sealed credentials are bound to."""
    return f"credentials of {tenant_id}/{destination_id}"


def event(row: Row) -> Event:
    return Event(
        seq=row[0],
        id=row[1],
        tenant_id=row[2],
        topic=row[3],
        time=row[4],
        data=row[5],
        metadata=_optional_texts(row[6]),
        eligible_for_retry=bool(row[7]),
        destination_id=row[8],
    )


def stored_event(row: Row) -> StoredEvent:
    accepted_at, matched, skipped = row[EVENT_WIDTH : EVENT_WIDTH + 3]
    return StoredEvent(
        event=event(row),
        accepted_at=accepted_at,
        matched_destination_ids=names(matched),
        skipped=() if skipped is None else _skips.decode(skipped),
    )


def event_values(publication: Publication) -> tuple[Any, ...]:
    """The row of `events`, in the table's order."""
    event = publication.event
    matched = [destination.id for destination in publication.matched]
    return (
        event.seq,
        event.tenant_id,
        event.id,
        event.topic,
        event.time,
        publication.accepted_at,
        event.eligible_for_retry,
        event.destination_id,
        json_text(event.metadata),
        event.data,
        json_text(matched),
        json_text(publication.skipped) if publication.skipped else None,
    )


def delivery_values(publication: Publication) -> list[tuple[Any, ...]]:
    """The rows of `deliveries`, in the table's order: pending, with the first attempt ahead."""
    seq = publication.event.seq
    leased = publication.lease_until is not None
    due = publication.lease_until if leased else publication.accepted_at
    return [(seq, destination.no, 0, 1, 0, 0, due, leased) for destination in publication.matched]


def attempt(row: Row) -> Attempt:
    return Attempt(
        seq=row[0],
        tenant_id=row[1],
        event_seq=row[2],
        destination_no=row[3],
        destination_type=row[4],
        number=row[5],
        manual=bool(row[6]),
        ok=bool(row[7]),
        code=row[8],
        time=ids.time_of(row[0]),
        latency=row[9],
        detail=row[10],
        request=None if row[11] is None else _decode(row[11]),
        response=None if row[12] is None else _decode(row[12]),
    )


def attempt_values(result: Result) -> tuple[Any, ...]:
    """The row of `attempts`, in the table's order."""
    delivery, outcome = result.delivery, result.outcome
    return (
        result.seq,
        delivery.event.tenant_id,
        delivery.event.seq,
        delivery.destination_no,
        result.destination_type,
        delivery.attempt,
        delivery.manual,
        outcome.ok,
        outcome.code,
        outcome.latency,
        outcome.detail,
        json_text(outcome.request),
        json_text(outcome.response),
    )


def _optional_texts(text: str | None) -> dict[str, str] | None:
    return None if text is None else _texts.decode(text)
