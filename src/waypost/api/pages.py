"""Windows on long lists: limits, directions and opaque cursors.

A cursor is the position of the item at a page's edge with the list and the direction it belongs to. It is exclusive:
`next` goes on after the last item shown, `prev` goes back before the first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from waypost.api.query import Query
from waypost.core.errors import BadRequest
from waypost.core.model import TenantSummary
from waypost.store.alerting import Alert, Entry
from waypost.store.base import Direction, Page, Slice, StoredAttempt, StoredEvent
from waypost.store.deliveries import StoredDelivery
from waypost.store.replays import Replay, Replayed

T = TypeVar("T")
Position = tuple[int, int | str]

_LARGEST = (1 << 63) - 1
_MOST_ENCODED = 1_024


class Listing(Struct, Generic[T], frozen=True, kw_only=True):
    """A list that is read in pages. `order_by` is the field that it is sorted by, `tie` the type of the tie-breaker."""

    name: str
    order_by: str
    default_limit: int
    largest_limit: int
    position: Callable[[T], Position]
    tie: type[int | str] = int

    def page(self, query: Query) -> Page:
        """The page that a request asks for.

        Raises BadRequest for a bad limit, a bad cursor, two cursors; Invalid for a bad direction or order.
        """
        query.choice("order_by", [self.order_by])
        direction = Direction(query.choice("dir", list(Direction)) or Direction.DESC)
        following, preceding = query.one("next"), query.one("prev")
        if following is not None and preceding is not None:
            raise BadRequest("next and prev cannot be used together")
        return Page(
            limit=query.whole("limit", default=self.default_limit, most=self.largest_limit),
            most_bytes=query.most_bytes,
            direction=direction,
            after=None if following is None else self._decode(following, direction, "next"),
            before=None if preceding is None else self._decode(preceding, direction, "prev"),
        )

    def render(self, page: Page, part: Slice[T], models: Sequence[Any]) -> dict[str, Any]:
        """The page as it is shown: the models and how to get to the pages beside it."""
        first, last = (part.items[0], part.items[-1]) if part.items else (None, None)
        pagination = {
            "order_by": self.order_by,
            "dir": page.direction.value,
            "limit": page.limit,
            "next": self._encode(last, page.direction) if part.has_next and last is not None else None,
            "prev": self._encode(first, page.direction) if part.has_prev and first is not None else None,
        }
        return {"models": models, "pagination": pagination}

    def _encode(self, item: T, direction: Direction) -> str:
        text = msgspec.json.encode((self.name, direction.value, *self.position(item)))
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    def _decode(self, cursor: str, direction: Direction, parameter: str) -> Position:
        position = _position(cursor, self.name, direction)
        if position is None or not isinstance(position[1], self.tie) or not all(map(_fits, position)):
            raise BadRequest(f"{parameter} is not a cursor of this list in this direction")
        return position


def _position(cursor: str, name: str, direction: Direction) -> Position | None:
    if len(cursor) > _MOST_ENCODED:
        return None
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(text, type=tuple[str, str, int, int | str])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (found[2], found[3]) if found[:2] == (name, direction.value) else None


def _fits(part: int | str) -> bool:
    """Whether a store can look for it: 64-bit numbers."""
    return isinstance(part, str) or -_LARGEST <= part <= _LARGEST


def _of_tenant(summary: TenantSummary) -> Position:
    return summary.tenant.created_at, summary.tenant.id


def _of_event(stored: StoredEvent) -> Position:
    return stored.event.time, stored.event.seq


def _of_acceptance(stored: StoredEvent) -> Position:
    return stored.event.seq, stored.event.seq


def _of_delivery(stored: StoredDelivery) -> Position:
    return stored.event_seq, stored.destination_no


def _of_attempt(stored: StoredAttempt) -> Position:
    return stored.attempt.seq, stored.attempt.seq


def _of_numbered(item: Alert | Entry | Replay) -> Position:
    return item.seq, item.seq


def _of_replayed(item: Replayed) -> Position:
    return item.event_seq, item.destination_no


TENANTS = Listing(
    name="tenants", order_by="created_at", default_limit=20, largest_limit=100, position=_of_tenant, tie=str
)
EVENTS = Listing(name="events", order_by="time", default_limit=100, largest_limit=1_000, position=_of_event)
FOUND = Listing(name="found", order_by="accepted_at", default_limit=100, largest_limit=1_000, position=_of_acceptance)
"""Events that a search has found."""
DELIVERIES = Listing(
    name="deliveries", order_by="accepted_at", default_limit=100, largest_limit=1_000, position=_of_delivery
)
ATTEMPTS = Listing(name="attempts", order_by="time", default_limit=100, largest_limit=1_000, position=_of_attempt)
ALERTS: Listing[Alert] = Listing(
    name="alerts", order_by="time", default_limit=100, largest_limit=1_000, position=_of_numbered
)
AUDIT: Listing[Entry] = Listing(
    name="audit", order_by="time", default_limit=100, largest_limit=1_000, position=_of_numbered
)

REPLAYS: Listing[Replay] = Listing(
    name="replays", order_by="time", default_limit=100, largest_limit=1_000, position=_of_numbered
)
REPLAYED: Listing[Replayed] = Listing(
    name="replayed", order_by="event", default_limit=100, largest_limit=1_000, position=_of_replayed
)

NOTHING: Slice[Any] = Slice((), has_next=False, has_prev=False)
