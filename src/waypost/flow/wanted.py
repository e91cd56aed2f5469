"""What a listener wants to hear of: the words of the lists, asked of one event or attempt at a time."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from waypost.core import codes
from waypost.core.search import Search, tokens_of
from waypost.store.base import AttemptQuery, StoredAttempt, StoredEvent
from waypost.store.paging import Range
from waypost.store.tail import Item


class Wanted(Struct, frozen=True, kw_only=True):
    """An empty tuple means "any". What `of_attempts` says of attempts only leaves no events."""

    events: bool = True
    attempts: bool = True
    tenant_ids: tuple[str, ...] = ()
    destination_ids: tuple[str, ...] = ()
    search: Search | None = None
    of_attempts: AttemptQuery = AttemptQuery()

    # known when it happens

    def takes_event(self, tenant_id: str, topic: str, destination_ids: Iterable[str]) -> bool:
        return (
            self.events
            and not self._only_attempts
            and self._covers(tenant_id, topic)
            and (not self.destination_ids or not set(self.destination_ids).isdisjoint(destination_ids))
        )

    def takes_attempt(self, tenant_id: str, topic: str, destination_id: str, *, ok: bool) -> bool:
        return (
            self.attempts
            and self.of_attempts.ok in {None, ok}
            and self._covers(tenant_id, topic)
            and (not self.destination_ids or destination_id in self.destination_ids)
        )

    @property
    def _only_attempts(self) -> bool:
        asked = self.of_attempts
        return asked != AttemptQuery(topics=asked.topics, event_ids=asked.event_ids)

    def _covers(self, tenant_id: str, topic: str) -> bool:
        topics = self.of_attempts.topics
        return (not self.tenant_ids or tenant_id in self.tenant_ids) and (not topics or topic in topics)

    # known when it was read

    def takes(self, item: Item) -> bool:
        event = item.event
        if isinstance(item, StoredEvent):
            near = self.takes_event(event.tenant_id, event.topic, item.matched_destination_ids)
        else:
            near = self.takes_attempt(event.tenant_id, event.topic, item.destination.id, ok=item.attempt.ok)
        return near and self.takes_all_of(item)

    def takes_all_of(self, item: Item) -> bool:
        """Whether it is wanted, if it is as far as was known when it happened."""
        asked = self.of_attempts
        return (
            (not asked.event_ids or item.event.id in asked.event_ids)
            and (isinstance(item, StoredEvent) or _takes_result(asked, item))
            and (self.search is None or self.search.finds(tokens_of(item.event)))
        )


def _takes_result(asked: AttemptQuery, item: StoredAttempt) -> bool:
    attempt = item.attempt
    return (
        asked.manual in {None, attempt.manual}
        and (not asked.destination_types or item.destination.type in asked.destination_types)
        and (not asked.codes or codes.names(asked.codes, attempt.code))
        and (asked.status_code == Range() or (attempt.code.isdigit() and asked.status_code.holds(int(attempt.code))))
        and asked.latency.holds(attempt.latency)
    )
