"""Trying a disabled destination: one delivery now and then, to learn whether it works again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import structs

from waypost.core.errors import Unavailable
from waypost.core.model import SECOND, Delivery, DeliveryState, Micros
from waypost.core.settle import Settlement
from waypost.flow import clock
from waypost.flow.attempt import Attempts
from waypost.flow.lanes import Lane
from waypost.store.base import Recorded, Result, Store

_AGAIN_AFTER = 60 * SECOND
_ANY_TIME: Micros = 1 << 62


class Trials:
    """Makes trials, at most `at_once` of them. `tell` hears what putting one on record led to."""

    def __init__(
        self,
        store: Store,
        attempts: Attempts,
        tell: Callable[[Lane, Result, Recorded], None],
        *,
        lease: Micros,
        at_once: int,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._tell = tell
        self._lease = lease
        self._at_once = at_once
        self._under_way: set[int] = set()

    def begin(self, destination_nos: Iterable[int]) -> list[int]:
        """Which of these are to be made now; others have their turn when there is room for them."""
        fresh = [no for no in destination_nos if no not in self._under_way]
        begun = fresh[: self._at_once - len(self._under_way)]
        self._under_way.update(begun)
        return begun

    async def make(self, destination_no: int) -> None:
        try:
            await self._make(destination_no)
        except Unavailable:
            await self._store.alerting.put_probe_off(destination_no, clock.now() + _AGAIN_AFTER)
            raise
        finally:
            self._under_way.discard(destination_no)

    async def _make(self, destination_no: int) -> None:
        destination = await self._store.destination_by_no(destination_no)
        if destination is None or destination.disabled_at is None:
            return
        delivery = await self._delivery(destination_no)
        if delivery is None:
            await self._store.alerting.put_probe_off(destination_no, clock.now() + _AGAIN_AFTER)
            return
        lane = Lane(destination, first=1, widest=1, longest=1)
        try:
            result = await self._attempts.make(lane, delivery)
        except Unavailable:
            await self._store.release([delivery], due=clock.now())
            raise
        finally:
            await lane.cool_down()
        if not result.outcome.ok:
            result = _unspent(result)
        recorded = await self._store.record(result)
        if recorded is not None:
            self._tell(lane, result, recorded)

    async def _delivery(self, destination_no: int) -> Delivery | None:
        """What is due, else the oldest that was kept, else the next retry before its time."""
        now = clock.now()
        for due_until in (now, now, _ANY_TIME):
            claim = await self._store.claim(destination_no, now=due_until, lease_until=now + self._lease, limit=1)
            if claim.deliveries:
                return claim.deliveries[0]
            await self._store.recover(destination_no, since=0, now=now, limit=1)
        return None


def _unspent(trial: Result) -> Result:
    """A trial that failed costs its delivery none of its retries: it waits for the next one."""
    delivery, now = trial.delivery, clock.now()
    waiting = Settlement(
        state=DeliveryState.PENDING, next_attempt=delivery.attempt + 1, retries=delivery.retries, due=now
    )
    return structs.replace(trial, settlement=waiting)
