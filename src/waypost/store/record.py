"""What stands on record, and how it is asked for."""

from __future__ import annotations

from msgspec import Struct

from waypost.core.model import Attempt, Destination, Event, Micros
from waypost.core.routing import Skip
from waypost.core.search import Search
from waypost.core.status import Status
from waypost.store.paging import Range, TimeRange


class EventQuery(Struct, frozen=True, kw_only=True):
    """Conditions on events; an empty tuple means "any".

    `statuses` are those of one of its deliveries (to one of `destination_ids`, when there are any). `skipped_by` are
    destinations of which one did not get the event, `skip_reasons` why it (or any) did not. `time` bounds when it
    happened, `accepted` when it came in.
    """

    ids: tuple[str, ...] = ()
    tenant_ids: tuple[str, ...] = ()
    destination_ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    skipped_by: tuple[str, ...] = ()
    skip_reasons: tuple[str, ...] = ()
    time: TimeRange = TimeRange()
    accepted: TimeRange = TimeRange()
    search: Search | None = None


class AttemptQuery(Struct, frozen=True, kw_only=True):
    """Conditions on attempts; an empty tuple means "any".

    `time` bounds the attempt's own time, `latency` its microseconds. `codes` may be classes such as `4xx`;
    `status_code` bounds those codes that are numbers.
    """

    ids: tuple[int, ...] = ()
    tenant_ids: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    destination_ids: tuple[str, ...] = ()
    destination_types: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    status_code: Range = Range()
    latency: Range = Range()
    manual: bool | None = None
    ok: bool | None = None
    time: TimeRange = TimeRange()


class StoredEvent(Struct, frozen=True, kw_only=True):
    """An event as it stands on record, with the destinations it was routed to and those that were skipped."""

    event: Event
    accepted_at: Micros
    matched_destination_ids: tuple[str, ...]
    skipped: tuple[Skip, ...]


class StoredAttempt(Struct, frozen=True, kw_only=True):
    """An attempt with the event it carried and the destination (perhaps deleted since) it was made to."""

    attempt: Attempt
    event: Event
    destination: Destination
