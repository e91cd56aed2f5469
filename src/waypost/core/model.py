"""The nouns of Waypost. Frozen values; every instant is an integer of microseconds since the Unix epoch (UTC)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal

from msgspec import Struct

from waypost.core.retry import RetryOverrides

Micros = int
"""An instant in microseconds since the Unix epoch, UTC."""

SECOND: Micros = 1_000_000
HOUR: Micros = 3_600 * SECOND
DAY: Micros = 86_400 * SECOND


class Actor(Struct, frozen=True, kw_only=True):
    """Who did something: an API key by its name, a tenant by its id, or Waypost itself (`system`).

    `ip` is the address that the request came from.
    """

    kind: Literal["api_key", "tenant", "system"]
    name: str
    ip: str | None = None

    def __str__(self) -> str:
        return self.kind if self.kind == "system" else f"{self.kind}:{self.name}"


SYSTEM = Actor(kind="system", name="waypost")


class Disabling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a destination is disabled.

    `reason` is `manual`, `consecutive_failures`, `failing_too_long` or `gone`; `by` is the actor as text. What Waypost
    disabled by itself has the last error and the streak that led to it.
    """

    reason: str
    by: str
    code: str | None = None
    detail: str | None = None
    failures: int | None = None
    failing_since: Micros | None = None


class Topic(Struct, frozen=True, kw_only=True):
    """What events can be about, as the catalogue describes it.

    `schema` is the JSON Schema of the data of its events, `example` such data. A deprecated topic still works.
    """

    name: str
    description: str | None = None
    schema: dict[str, Any] | bool | None = None
    example: dict[str, Any] | None = None
    deprecated: bool = False
    created_at: Micros
    updated_at: Micros


class Subscription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events a destination takes: those of the topics whose content passes the filter."""

    topics: tuple[str, ...]
    filter: dict[str, Any] | None = None


class Tenant(Struct, frozen=True, kw_only=True):
    """A customer of the platform: the owner of destinations and the addressee of events.

    `key` tells it from others that bore its id before (see `core/incarnations.py`): it is what everything else calls
    `tenant_id`. A token that says an epoch has to say this one; one that does not, has to be no older than
    `tokens_since`.
    """

    id: str
    key: str
    metadata: dict[str, str] | None
    created_at: Micros
    updated_at: Micros
    epoch: int = 0
    tokens_since: Micros = 0


class TenantSummary(Struct, frozen=True, kw_only=True):
    """A tenant with what its destinations add up to."""

    tenant: Tenant
    destinations_count: int
    topics: tuple[str, ...]


class Destination(Struct, frozen=True, kw_only=True):
    """Where a tenant wants its events.

    `no` is the internal number that deliveries and attempts point to; it outlives deletion and is never reused, while
    `id` is unique among a tenant's living destinations only. `version` grows with every change, so that whatever is
    built from a destination (a client, a compiled filter) can be kept under `(no, version)`.

    It takes what any of its `subscriptions` takes; `topics` is then the union of theirs. Most destinations have none:
    their only subscription is `topics` and `filter`.
    """

    no: int
    id: str
    tenant_id: str
    type: str
    topics: tuple[str, ...]
    config: dict[str, str]
    credentials: dict[str, str]
    created_at: Micros
    updated_at: Micros
    filter: dict[str, Any] | None = None
    delivery_metadata: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    retry_policy: RetryOverrides | None = None
    disabled_at: Micros | None = None
    disabled: Disabling | None = None
    subscriptions: tuple[Subscription, ...] = ()
    version: int = 1
    damaged: tuple[str, ...] = ()
    """Fields that cannot be read any more and are empty here: nothing is sent until they are saved anew."""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened on the platform. `data` is the JSON object exactly as it was published, byte for byte.

    `seq` is Waypost's own time-ordered number of the event; `id` is the publisher's, unique within the tenant. `trace`
    is the W3C trace context it belongs to: a `traceparent` and, behind a space, a `tracestate` if there was one. Of an
    event whose data was removed before its record, `expunged_at` says when; it is not sent again.
    """

    seq: int
    id: str
    tenant_id: str
    topic: str
    time: Micros
    data: bytes
    metadata: dict[str, str] | None = None
    eligible_for_retry: bool = True
    destination_id: str | None = None
    trace: str | None = None
    expunged_at: Micros | None = None


class DeliveryState(IntEnum):
    """Where the delivery of one event to one destination stands."""

    PENDING = 0
    DELIVERED = 1
    EXHAUSTED = 2
    CANCELLED = 3
    KEPT = 4
    """It would have been routed there, but the destination was disabled: kept to be delivered when asked for."""


class Delivery(Struct, frozen=True, kw_only=True, gc=False):
    """One event on its way to one destination, as handed to a worker under a lease.

    `attempt` is the number of the attempt to make now and the fence: a result is recorded only while the stored
    delivery still waits for that same attempt. `retries` counts the automatic retries already spent, which a manual
    attempt does not touch.
    """

    event: Event
    destination_no: int
    attempt: int
    retries: int
    manual: bool
    lease_until: Micros


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """What came of one attempt.

    `code` is the destination's own status ("200", "ack") or a named failure ("timeout", "dns_error"). `detail` is the
    sentence a customer reads. `retry_after` is the wait in seconds that the destination asked for. `latency` is in
    microseconds. `causes` are the exceptions behind a failure, the outermost first, for operators alone.
    """

    ok: bool
    code: str
    started_at: Micros
    latency: int
    detail: str | None = None
    retryable: bool = True
    retry_after: float | None = None
    response: dict[str, Any] | None = None
    request: dict[str, Any] | None = None
    causes: tuple[str, ...] = ()


class Attempt(Struct, frozen=True, kw_only=True):
    """One try to hand an event to a destination, as kept on record."""

    seq: int
    tenant_id: str
    event_seq: int
    destination_no: int
    destination_type: str
    number: int
    manual: bool
    ok: bool
    code: str
    time: Micros
    latency: int
    detail: str | None = None
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    causes: tuple[str, ...] = ()
