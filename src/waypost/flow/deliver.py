"""Delivering: take what is due, send it, settle it, put it on record."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import structlog
from msgspec import Struct

from waypost.connect.connector import Connection, Message, Tools
from waypost.connect.registry import Registry
from waypost.core import ids
from waypost.core.errors import DeliveryError, MissingExtra, Unavailable, WaypostError
from waypost.core.message import merged_metadata
from waypost.core.model import SECOND, Delivery, DeliveryState, Destination, Event, Micros, Outcome
from waypost.core.retry import RetryPolicy
from waypost.core.settle import settle
from waypost.flow import clock
from waypost.flow.lanes import Lane, Lanes
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics
from waypost.store.base import Result, Store

_log = structlog.get_logger("waypost")
_NOBODY_ANSWERED = frozenset({"timeout", "dns_error", "connection_refused", "network_unreachable"})
_RECORD_AGAIN_AFTER = 1.0
_CLAIM_AGAIN_AFTER = SECOND // 20


class Bounds(Struct, frozen=True, kw_only=True):
    """How much at once. Durations are in seconds; see the settings of the same names."""

    concurrency: int = 1_000
    concurrency_per_destination: int = 64
    concurrency_per_tenant: int = 500
    queue: int = 20_000
    queue_per_destination: int = 2_000
    lease: float = 120.0
    sweep_interval: float = 5.0
    lane_idle: float = 300.0
    shutdown: float = 10.0


class Dispatcher:
    """Delivers. Truth is in the store: whatever this process forgets, a sweep finds again when its lease runs out."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        tools: Tools,
        policy: RetryPolicy,
        metrics: Metrics,
        sequence: clock.Sequence,
        *,
        bounds: Bounds,
        journal: Journal,
    ) -> None:
        self._store = store
        self._registry = registry
        self._tools = tools
        self._policy = policy
        self._metrics = metrics
        self._sequence = sequence
        self._bounds = bounds
        self._journal = journal
        self._lease = round(bounds.lease * SECOND)
        self._lanes = Lanes(
            in_flight=bounds.concurrency,
            per_destination=bounds.concurrency_per_destination,
            per_tenant=bounds.concurrency_per_tenant,
        )
        metrics.watch_in_flight(lambda: self._lanes.in_flight)
        self._rings: list[tuple[Micros, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = 0
        self._accepting = False

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._sweeper = self._spawn(self._sweep())

    async def close(self) -> None:
        """Start nothing more, let what is in flight end, close the connections. What remains stays on disk."""
        if not self._accepting:
            return
        self._accepting = False
        self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._bounds.shutdown)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            for lane in self._lanes.all():
                await self._give_back(lane)
                await _close(lane)

    @property
    def delivering(self) -> bool:
        """Whether the sweep, which finds everything that was forgotten, is alive."""
        return self._accepting and not self._sweeper.done()

    # what publishing and management tell

    def admit(self, matched: Sequence[Destination]) -> Micros | None:
        bounds, lanes = self._bounds, self._lanes
        if not self._accepting or lanes.held + len(matched) > bounds.queue:
            return None
        for destination in matched:
            lane = lanes.get(destination.no)
            if lane is not None and (lane.more_in_store or lane.held >= bounds.queue_per_destination):
                return None
        return clock.now() + self._lease

    def take(self, event: Event, matched: Sequence[Destination], lease_until: Micros, *, stale: bool) -> None:
        for destination in matched:
            lane = self._lanes.of(destination)
            lane.stale |= stale
            first = Delivery(
                event=event, destination_no=destination.no, attempt=1, retries=0, manual=False, lease_until=lease_until
            )
            self._lanes.add(lane, first)
        self._pump()

    def ring(self, destination_no: int, due: Micros) -> None:
        lane = self._lanes.get(destination_no)
        if lane is not None:
            if lane.next_ring is not None and lane.next_ring <= due:
                return
            lane.next_ring = due
        heapq.heappush(self._rings, (due, destination_no))
        if self._rings[0][0] == due:
            self._set_timer()

    def changed(self, tenant_id: str) -> None:
        """The tenant's destinations have changed: the very next attempt uses them as they are now."""
        for lane in self._lanes.of_tenant(tenant_id):
            lane.stale = True
        self._spawn(self._refresh_tenant(tenant_id))

    async def _refresh_tenant(self, tenant_id: str) -> None:
        for lane in self._lanes.of_tenant(tenant_id):
            await self._refresh(lane)
        for destination in await self._store.destinations(tenant_id):
            if destination.disabled_at is None:
                self.ring(destination.no, clock.now())

    async def _refresh(self, lane: Lane) -> None:
        if not lane.stale:
            return
        current = await self._store.destination_by_no(lane.destination.no)
        lane.stale = False
        lane.gone = current is None
        if current is not None and current.version == lane.destination.version:
            return
        await _close(lane)
        if current is not None:
            lane.destination = current
        if lane.shut:
            await self._give_back(lane)

    async def _give_back(self, lane: Lane) -> None:
        deliveries = self._lanes.drain(lane)
        if deliveries:
            await self._store.release(deliveries, due=clock.now())

    # what is due in the store

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = max(0.0, (self._rings[0][0] - clock.now()) / SECOND)
        self._timer = self._loop.call_later(min(wait, 3600.0), self._answer_rings)

    def _answer_rings(self) -> None:
        now = clock.now()
        due = set()
        while self._rings and self._rings[0][0] <= now:
            due.add(heapq.heappop(self._rings)[1])
        for destination_no in due:
            self._spawn(self._claim(destination_no))
        if self._rings:
            self._set_timer()

    async def _claim(self, destination_no: int) -> None:
        lane = await self._lane(destination_no)
        if lane is None or not self._accepting:
            return
        lane.next_ring = None
        if lane.shut:
            return
        if lane.claiming:
            self.ring(destination_no, clock.now() + _CLAIM_AGAIN_AFTER)
            return
        bounds = self._bounds
        room = min(bounds.queue_per_destination - lane.held, bounds.queue - self._lanes.held)
        lane.more_in_store = room <= 0
        if room <= 0:
            return
        lane.claiming = True
        try:
            now = clock.now()
            claim = await self._store.claim(destination_no, now=now, lease_until=now + self._lease, limit=room)
        except Unavailable:
            self.ring(destination_no, clock.now() + SECOND)
            return
        finally:
            lane.claiming = False
        for delivery in claim.deliveries:
            self._lanes.add(lane, delivery)
        if claim.next_due is not None:
            lane.more_in_store = claim.next_due <= now
            self.ring(destination_no, claim.next_due)
        self._pump()

    async def _lane(self, destination_no: int) -> Lane | None:
        """The destination's lane; for one that was deleted while an event was accepted for it, cancel what waits."""
        lane = self._lanes.get(destination_no)
        if lane is not None and not lane.gone:
            return lane
        destination = await self._store.destination_by_no(destination_no)
        if destination is None:
            await self._store.cancel(destination_no)
            return None
        return self._lanes.of(destination)

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                now = clock.now()
                for destination_no, due in await self._store.due_destinations():
                    if due <= now or self._lanes.get(destination_no) is None:
                        self.ring(destination_no, due)
                backlog = await self._store.backlog(now=now)
                oldest_age = 0.0 if backlog.oldest_due is None else (now - backlog.oldest_due) / SECOND
                self._metrics.backlog(waiting=backlog.waiting, oldest_age=oldest_age)
            await self._drop_idle_lanes()
            await asyncio.sleep(self._bounds.sweep_interval)

    async def _drop_idle_lanes(self) -> None:
        long_ago = time.monotonic() - self._bounds.lane_idle
        for lane in self._lanes.all():
            if lane.idle and lane.used_at < long_ago:
                self._lanes.remove(lane)
                await _close(lane)

    # one attempt

    def _pump(self) -> None:
        """Have as many workers as may be in flight; each goes on while there is work and ends when there is none."""
        while self._accepting and (work := self._lanes.next()) is not None:
            self._spawn(self._work(*work))

    async def _work(self, lane: Lane, delivery: Delivery) -> None:
        while True:
            try:
                await self._attempt(lane, delivery)
            finally:
                self._lanes.done(lane)
                self._refill(lane)
            following = self._lanes.next() if self._accepting else None
            if following is None:
                return
            lane, delivery = following

    def _refill(self, lane: Lane) -> None:
        if lane.more_in_store and lane.held <= self._bounds.queue_per_destination // 2:
            lane.more_in_store = False
            self.ring(lane.destination.no, clock.now())

    async def _attempt(self, lane: Lane, delivery: Delivery) -> None:
        if lane.stale:
            await self._refresh(lane)
        destination = lane.destination
        started_at = clock.now()
        if lane.shut:
            await self._store.release([delivery], due=started_at)
            self.ring(destination.no, started_at)
            return
        if delivery.lease_until <= started_at:
            self.ring(destination.no, started_at)
            return
        seq = self._sequence.next()
        outcome = await self._send(lane, delivery, started_at)
        lane.used_at = time.monotonic()
        lane.heard(unresponsive=outcome.code in _NOBODY_ANSWERED)
        ended = outcome.started_at + outcome.latency
        policy = self._policy.overridden(destination.retry_policy) if destination.retry_policy else self._policy
        settlement = settle(delivery, outcome, policy, now=ended, jitter=clock.jitter())
        result = Result(
            seq=seq, delivery=delivery, destination_type=destination.type, outcome=outcome, settlement=settlement
        )
        self._store.record(result).add_done_callback(partial(self._recorded, lane, result))

    async def _send(self, lane: Lane, delivery: Delivery, started_at: Micros) -> Outcome:
        event, destination = delivery.event, lane.destination
        message = Message(
            event=event,
            metadata=merged_metadata(event, destination.delivery_metadata, sent_at=started_at),
            attempt=delivery.attempt,
            manual=delivery.manual,
            sent_at=started_at,
        )
        began = time.perf_counter_ns()
        try:
            connection = lane.connection or await self._connect(lane)
            receipt = await connection.send(message)
        except DeliveryError as error:
            return _failure(error, started_at, _micros_since(began))
        except WaypostError as error:
            code = "missing_extra" if isinstance(error, MissingExtra) else "configuration_error"
            return _failure(DeliveryError(code, str(error), retryable=True), started_at, _micros_since(began))
        except Exception as error:  # noqa: BLE001  a fault in a destination type fails the attempt, not the worker
            _log.exception("attempt_crashed", destination_type=destination.type, destination_id=destination.id)
            crash = DeliveryError("internal_error", f"the destination type failed: {type(error).__name__}")
            return _failure(crash, started_at, _micros_since(began))
        return Outcome(
            ok=True,
            code=receipt.code,
            started_at=started_at,
            latency=_micros_since(began),
            request=receipt.request,
            response=receipt.response,
        )

    async def _connect(self, lane: Lane) -> Connection:
        """Open the lane's connection; of several that open one at once, the first to finish is kept."""
        destination = lane.destination
        kind = self._registry.get(destination.type)
        if kind is None:
            raise DeliveryError("unknown_type", f"this Waypost has no destination type {destination.type}")
        opened = await kind.connect(destination, self._tools)
        if lane.connection is None and lane.destination is destination:
            lane.connection = opened
            return opened
        await opened.close()
        return lane.connection or await self._connect(lane)

    # afterwards

    def _recorded(self, lane: Lane, result: Result, done: asyncio.Future[bool]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._spawn(self._record_again(lane, result))
        elif not done.cancelled() and done.result():
            self._tell(lane, result)

    async def _record_again(self, lane: Lane, result: Result) -> None:
        """Keep a result that the store could not take until it can, or until the lease is another's."""
        while clock.now() < result.delivery.lease_until:
            await asyncio.sleep(_RECORD_AGAIN_AFTER)
            with contextlib.suppress(Unavailable):
                if await self._store.record(result):
                    self._tell(lane, result)
                return

    def _tell(self, lane: Lane, result: Result) -> None:
        outcome, settlement = result.outcome, result.settlement
        if settlement.due is not None:
            self.ring(lane.destination.no, settlement.due)
        if outcome.ok and result.delivery.attempt == 1:
            accepted_at = ids.time_of(result.delivery.event.seq)
            self._metrics.first_delivery((outcome.started_at + outcome.latency - accepted_at) / SECOND)
        retried = settlement.state is DeliveryState.PENDING
        self._metrics.attempted(
            result.destination_type, ok=outcome.ok, retried=retried, seconds=outcome.latency / SECOND
        )
        self._journal.write(_line(lane.destination, result))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("dispatcher_task_failed", exc_info=error)


async def _close(lane: Lane) -> None:
    connection, lane.connection = lane.connection, None
    if connection is not None:
        with contextlib.suppress(Exception):
            await connection.close()


def _micros_since(began: int) -> int:
    return (time.perf_counter_ns() - began) // 1000


def _failure(error: DeliveryError, started_at: Micros, latency: int) -> Outcome:
    return Outcome(
        ok=False,
        code=error.code,
        started_at=started_at,
        latency=latency,
        detail=error.sentence,
        retryable=error.retryable,
        retry_after=error.retry_after,
        request=error.request,
        response=error.response,
    )


def _line(destination: Destination, result: Result) -> dict[str, Any]:
    """The wide log line of an attempt."""
    delivery, outcome, event = result.delivery, result.outcome, result.delivery.event
    return {
        "event": "attempt",
        "tenant_id": destination.tenant_id,
        "event_id": event.id,
        "topic": event.topic,
        "destination_id": destination.id,
        "destination_type": destination.type,
        "attempt": delivery.attempt,
        "manual": delivery.manual,
        "status": "success" if outcome.ok else "failed",
        "code": outcome.code,
        "error": outcome.detail,
        "ms": outcome.latency / 1000,
        "next_attempt_at": result.settlement.due,
    }
