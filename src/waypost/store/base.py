"""What a store has to do. One verb is one transaction; a verb that returns has its effect on disk.

Every verb raises `waypost.core.errors.Unavailable` when the change could not be made durable (full disk, locked file,
closing). Reads see everything that was acknowledged before they began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from waypost.core.model import (
    Delivery,
    DeliveryState,
    Destination,
    Event,
    Micros,
    Outcome,
    TenantSummary,
    Topic,
)
from waypost.core.replaying import Limits
from waypost.core.routing import Skip
from waypost.core.settle import Settlement
from waypost.store.alerting import AlertStore, Entry
from waypost.store.deliveries import DeliveryStore
from waypost.store.paging import Direction, Page, Range, Slice, TimeRange
from waypost.store.record import AttemptQuery, EventQuery, StoredAttempt, StoredEvent
from waypost.store.replays import ReplayStore
from waypost.store.retention import RetentionStore
from waypost.store.rollups import RollupStore
from waypost.store.search import SearchStore
from waypost.store.tail import TailStore

SkipKey = tuple[str, str, str]
"""What skips are counted by: the tenant's id, the destination's id, the reason."""

__all__ = [
    "Accepted",
    "ApiKey",
    "AttemptQuery",
    "Claim",
    "Direction",
    "EventQuery",
    "Page",
    "Publication",
    "Range",
    "Recorded",
    "Result",
    "RetryRequest",
    "SkipKey",
    "Slice",
    "Store",
    "StoredAttempt",
    "StoredEvent",
    "TimeRange",
]


class Accepted(Struct, frozen=True, gc=False):
    """What became of a published event. For a duplicate, `destination_ids` are those the first publish matched."""

    duplicate: bool
    destination_ids: tuple[str, ...]


class Publication(Struct, frozen=True, kw_only=True, gc=False):
    """An event to accept with its routing.

    `lease_until` is set when the publishing process delivers at once; None leaves the deliveries for a later claim.
    `kept` are destinations that are disabled: their deliveries are kept until somebody asks for them.
    """

    event: Event
    matched: tuple[Destination, ...]
    skipped: tuple[Skip, ...]
    accepted_at: Micros
    lease_until: Micros | None
    kept: tuple[Destination, ...] = ()


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that was made, to be put on record with what follows from it. `seq` is the attempt's own number."""

    seq: int
    delivery: Delivery
    destination_type: str
    outcome: Outcome
    settlement: Settlement


class Recorded(Struct, frozen=True, gc=False):
    """What putting a result on record led to, beside the delivery's next state.

    `raised` are the alerts, by kind and severity. `disabled` is the reason for which it disabled the destination,
    `enabled` that it was enabled; `news` that there is something to tell a channel.
    """

    raised: tuple[tuple[str, str], ...] = ()
    disabled: str | None = None
    enabled: bool = False
    news: bool = False


class Claim(Struct, frozen=True):
    """Deliveries of one destination taken under a lease, and when the next one that was not taken falls due."""

    deliveries: tuple[Delivery, ...]
    next_due: Micros | None


class RetryRequest(Struct, frozen=True, kw_only=True):
    """A manual retry: make one attempt now, whatever state the delivery is in."""

    event_seq: int
    destination_no: int
    now: Micros


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key as stored: its SHA-256 digest, never the key. `tenant_id` is the only tenant that it is for."""

    id: str
    name: str
    digest: bytes
    hint: str
    created_at: Micros
    scopes: tuple[str, ...] = ("admin",)
    tenant_id: str | None = None
    expires_at: Micros | None = None


class Store(Protocol):
    """The seam that every store implements; `tests/store/test_suite.py` is its conformance suite.

    Changes that a person makes take an entry of the audit log along, written in the same transaction if they happen.
    """

    @property
    def alerting(self) -> AlertStore: ...

    @property
    def deliveries(self) -> DeliveryStore: ...

    @property
    def search(self) -> SearchStore: ...

    @property
    def rollups(self) -> RollupStore: ...

    @property
    def replays(self) -> ReplayStore: ...

    @property
    def retention(self) -> RetentionStore: ...

    @property
    def tail(self) -> TailStore: ...

    async def open(self) -> None:
        """Connect, migrate, and take back the leases that a dead predecessor of this process held.

        Raises SettingsError when the database cannot be used at all (wrong key, newer schema, second process).
        """
        ...

    async def close(self) -> None:
        """Finish what was handed in, then release everything. Idempotent."""
        ...

    @property
    def writing(self) -> bool:
        """Whether what is written is written, and goes to where it will be found again."""
        ...

    @property
    def alive(self) -> bool:
        """Whether there is still somebody who writes. If not, this process is of no use any more."""
        ...

    def free(self) -> int | None:
        """How many bytes the disk has left; None when that is not known."""
        ...

    async def probe(self, room: int) -> None:
        """Write a little, and wait until it is on disk. Raises Unavailable, also when not `room` bytes are left."""
        ...

    # the life of an event

    async def accept(self, publication: Publication) -> Accepted:
        """Store the event, its deliveries and its skip reasons, once per (tenant, event id)."""
        ...

    async def accept_many(self, publications: Sequence[Publication]) -> list[Accepted]:
        """The same for several events in one transaction: all of them or none."""
        ...

    def record(self, result: Result) -> asyncio.Future[Recorded | None]:
        """Put an attempt on record and move its delivery on; the future resolves when that is on disk.

        The destination's health, alerts and auto-disabling are part of the same transaction. None, and nothing
        changes, when the delivery no longer waits for that attempt number (fencing).
        """
        ...

    async def claim(
        self, destination_no: int, *, now: Micros, lease_until: Micros, limit: int, most_bytes: int | None = None
    ) -> Claim:
        """Lease up to `limit` pending deliveries of a destination that are due, oldest first.

        Their events take no more than `most_bytes` in all, unless the first alone does.
        """
        ...

    async def release(self, deliveries: Sequence[Delivery], *, due: Micros) -> None:
        """Give leased deliveries back untried, due again at `due`; no effect on one that another worker has by now."""
        ...

    async def cancel(self, destination_no: int) -> None:
        """Cancel whatever still waits for a destination."""
        ...

    async def due_destinations(self) -> list[tuple[int, Micros]]:
        """For every destination with pending deliveries: its number and when its earliest one is due.

        Disabled destinations are left out: their deliveries wait until they are enabled.
        """
        ...

    async def retry(self, request: RetryRequest, entry: Entry | None = None, limits: Limits | None = None) -> None:
        """Make a manual attempt due now; a delivery that never existed is created, a scheduled retry is replaced.

        Raises Invalid when the event was sent again by hand too often, TooMany when the entry's tenant has used up its
        hour.
        """
        ...

    async def recover(
        self, destination_no: int, *, since: Micros, now: Micros, limit: int, entry: Entry | None = None
    ) -> int:
        """Make up to `limit` deliveries due that were kept for the destination, the oldest first.

        `since` bounds when the events were accepted. How many were made due.
        """
        ...

    async def count_kept(self, destination_no: int, *, since: Micros) -> int:
        """How many deliveries are kept for a destination since then."""
        ...

    async def count_waiting(self) -> int:
        """How many deliveries are not settled yet. Costs more the more there are."""
        ...

    # tenants: called by their key everywhere but here, where it is said (see `core/incarnations.py`)

    def key_of(self, tenant_id: str) -> str:
        """The key of the tenant that bears an id, or of the last one that did; what is a key stays one.

        `acme 1` is the first tenant of the id `acme`, whoever bears it now.
        """
        ...

    async def put_tenant(
        self, tenant_id: str, metadata: dict[str, str] | None, *, now: Micros, entry: Entry | None = None
    ) -> bool:
        """Create the tenant of this id or replace its metadata. True when it is new: then with a key of its own."""
        ...

    async def tenant(self, tenant_id: str) -> TenantSummary | None:
        """A living tenant."""
        ...

    async def delete_tenant(self, tenant_id: str, *, now: Micros, entry: Entry | None = None) -> bool:
        """Delete the tenant with its destinations and its API keys; pending deliveries are cancelled.

        What is on record of it stays under its key. False when unknown.
        """
        ...

    async def tenants(self, page: Page, *, ids: tuple[str, ...] = ()) -> Slice[TenantSummary]:
        """Ordered by `(created_at, id)`; `ids` are ids."""
        ...

    async def count_tenants(self, *, ids: tuple[str, ...] = ()) -> int: ...

    # destinations

    async def add_destination(self, destination: Destination, *, limit: int, entry: Entry | None = None) -> Destination:
        """Store a new destination; its `no` is assigned here.

        Raises NotFound for an unknown tenant, BadRequest for a taken id or when the tenant has `limit` of them already.
        """
        ...

    async def replace_destination(self, destination: Destination, entry: Entry | None = None) -> Destination | None:
        """Store a changed destination under the next version. None when it is gone or at another version by now.

        One that was disabled and is no longer starts with a clean slate of failures.
        """
        ...

    async def delete_destination(
        self, tenant_id: str, destination_id: str, *, now: Micros, entry: Entry | None = None
    ) -> Destination | None:
        """Remove it and cancel its pending deliveries. Attempts keep pointing to it. None when unknown."""
        ...

    async def destination(self, tenant_id: str, destination_id: str) -> Destination | None: ...

    async def destination_by_no(self, no: int) -> Destination | None:
        """A living destination by its number."""
        ...

    async def destinations(self, tenant_id: str) -> tuple[Destination, ...]:
        """A tenant's living destinations by `created_at`, then id."""
        ...

    # reading the record

    async def events(self, query: EventQuery, page: Page) -> Slice[StoredEvent]:
        """Ordered by `(time, seq)`; what a search finds by `seq`, which is then both halves of a page position."""
        ...

    async def event(self, event_id: str, *, tenant_id: str | None) -> StoredEvent | None:
        """By the publisher's id; without a tenant the newest event that has it."""
        ...

    async def attempts(self, query: AttemptQuery, page: Page) -> Slice[StoredAttempt]:
        """Ordered by attempt number in time (`seq`); both halves of a page position are the seq."""
        ...

    async def delivery_states(self, event_seq: int) -> Mapping[str, DeliveryState]:
        """Destination id -> state, for every delivery of an event."""
        ...

    async def add_skips(self, counts: Mapping[SkipKey, int]) -> None:
        """Add to the counts of skips; those of unknown destinations are dropped."""
        ...

    async def skips(self, destination_no: int) -> Mapping[str, int]:
        """Reason -> how often the destination was skipped for it."""
        ...

    # topics

    async def put_topic(self, topic: Topic, entry: Entry | None = None) -> bool:
        """Add a topic or replace it whole; it keeps its first `created_at`. True when it is new."""
        ...

    async def delete_topic(self, name: str, entry: Entry | None = None) -> bool: ...

    async def topics(self) -> tuple[Topic, ...]:
        """All topics by name."""
        ...

    # keys

    async def add_api_key(self, key: ApiKey, entry: Entry | None = None) -> None:
        """Raises BadRequest when the name is taken."""
        ...

    async def api_keys(self) -> tuple[ApiKey, ...]: ...

    async def revoke_api_key(self, key_id: str, entry: Entry | None = None) -> bool: ...

    # tokens

    async def revoke_tokens(self, tenant_id: str, *, now: Micros, entry: Entry | None = None) -> bool:
        """Begin a new epoch of a tenant's tokens. False when the tenant is unknown."""
        ...

    async def revoke_token(self, token_id: str, *, expires_at: Micros, entry: Entry | None = None) -> None:
        """Remember that a token was revoked, for as long as it would have been valid."""
        ...

    async def revoked_tokens(self, *, now: Micros) -> frozenset[str]:
        """Those that would still be valid; the others are forgotten."""
        ...
