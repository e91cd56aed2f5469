"""What a store has to do for deliveries one by one; a part of `waypost.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from waypost.core.model import DeliveryState, Micros
from waypost.core.status import Status, status_of
from waypost.store.alerting import Entry
from waypost.store.paging import Page, Slice, TimeRange


class StoredDelivery(Struct, frozen=True, kw_only=True):
    """How the delivery of an event to a destination (perhaps deleted since) stands.

    `attempt` is the number of the next attempt. While a worker has it, `due` is when the worker has to be done.
    """

    event_seq: int
    destination_no: int
    event_id: str
    tenant_id: str
    topic: str
    destination_id: str
    state: DeliveryState
    attempt: int
    retries: int
    manual: bool
    due: Micros | None
    leased: bool

    @property
    def status(self) -> Status:
        return status_of(self.state, attempt=self.attempt, leased=self.leased)


class DeliveryQuery(Struct, frozen=True, kw_only=True):
    """Conditions on deliveries; an empty tuple means "any". `time` bounds when the events were accepted."""

    tenant_ids: tuple[str, ...] = ()
    destination_ids: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    time: TimeRange = TimeRange()
    due: TimeRange = TimeRange()


class DeliveryStore(Protocol):
    """Deliveries are named by the numbers of their event and their destination."""

    async def list(self, query: DeliveryQuery, page: Page) -> Slice[StoredDelivery]:
        """Ordered by event number and destination number."""
        ...

    async def count(self, query: DeliveryQuery, *, limit: int) -> int | None:
        """How many there are; `limit` is as good as any larger number. None where counting takes long."""
        ...

    async def one(self, event_seq: int, destination_no: int, *, tenant_id: str | None) -> StoredDelivery | None:
        """Without a tenant, anybody's."""
        ...

    async def of_events(self, event_seqs: Sequence[int]) -> Mapping[int, Sequence[StoredDelivery]]:
        """The deliveries of each event that has any."""
        ...

    async def cancel(self, event_seq: int, destination_no: int, entry: Entry) -> bool:
        """Cancel one that waits, or is kept. False when there is none.

        An attempt under way may still end; it is put on record and leads to nothing.
        """
        ...
