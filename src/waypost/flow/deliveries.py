"""Single deliveries: calling one off."""

from __future__ import annotations

from collections.abc import Callable

from waypost.core import ids
from waypost.core.errors import Conflict, NotFound
from waypost.core.model import Actor, DeliveryState
from waypost.store.alerting import Entry
from waypost.store.base import Store
from waypost.store.deliveries import StoredDelivery

DELIVERY_PREFIX = "dlv"


class Canceller:
    """`withdraw` hears the numbers of the destination and the event, once the delivery is cancelled on disk."""

    def __init__(self, store: Store, withdraw: Callable[[int, int], None]) -> None:
        self._store = store
        self._withdraw = withdraw

    async def cancel(self, event_seq: int, destination_no: int, tenant_id: str | None, *, by: Actor) -> StoredDelivery:
        """Call off a delivery that waits, or is kept. One that is cancelled already stays so.

        An attempt under way may still reach the destination. Raises NotFound, or Conflict for one that has ended.
        """
        found = await self._one(event_seq, destination_no, tenant_id)
        entry = Entry(
            actor=by,
            action="delivery.cancel",
            tenant_id=found.tenant_id,
            subject=ids.encode_pair(DELIVERY_PREFIX, event_seq, destination_no),
            detail={"event_id": found.event_id, "destination_id": found.destination_id},
        )
        if await self._store.deliveries.cancel(event_seq, destination_no, entry):
            self._withdraw(destination_no, event_seq)
        now = await self._one(event_seq, destination_no, tenant_id)
        if now.state is not DeliveryState.CANCELLED:
            raise Conflict(f"the delivery is {now.status} and cannot be cancelled")
        return now

    async def _one(self, event_seq: int, destination_no: int, tenant_id: str | None) -> StoredDelivery:
        found = await self._store.deliveries.one(event_seq, destination_no, tenant_id=tenant_id)
        if found is None:
            raise NotFound("delivery not found")
        return found
