"""Delivering: take what is due, have it sent, put it on record."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Container, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import structlog
from msgspec import Struct

from waypost.core import ids
from waypost.core.errors import Unavailable
from waypost.core.incarnations import id_of
from waypost.core.model import SECOND, Delivery, DeliveryState, Destination, Event, Micros
from waypost.flow import clock
from waypost.flow.attempt import Attempts
from waypost.flow.background import Background
from waypost.flow.budget import size_of
from waypost.flow.lanes import Lane, Lanes, Place
from waypost.flow.live import Live
from waypost.flow.places import Patience, Shares, sockets_within_limits
from waypost.flow.rings import Rings
from waypost.flow.throttle import Seldom, Sparing
from waypost.flow.trials import Trials
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics
from waypost.observe.tracing import log_fields
from waypost.store.base import Recorded, Result, Store

_log = structlog.get_logger("waypost")
_NARROWS = frozenset({"timeout", "dns_error", "connection_refused", "network_unreachable", "429"})
"""Codes that say: less at once."""
_RECORD_AGAIN_AFTER = 1.0
_CLAIM_AGAIN_AFTER = SECOND // 20
_NOTHING_ELSE = Recorded()
_PUT_OFF_FIRST = 0.5
_PUT_OFF_LONGEST = 30.0
_WORTH_GIVING_BACK = 5.0
"""Seconds that something may wait in memory because its lane is held."""
_TICK = 0.001
_MOST_TRIALS = 16
_REPLAYED_SHARE = 4
"""One of so many attempts in flight to a destination may be a replay."""

_LONGEST_SWEEP = 300.0
_COUNTING_SHARE = 0.02
"""Of the time, for counting the backlog: a large one is counted less often."""


class Bounds(Struct, frozen=True, kw_only=True):
    """How much at once. Durations are in seconds; see the settings of the same names."""

    concurrency: int = 1_000
    concurrency_per_destination: int = 64
    concurrency_per_tenant: int = 500
    sockets: int = 4_000
    first_width: int = 4
    shares: Shares = Shares()
    patience: Patience = Patience()
    queue: int = 20_000
    queue_per_destination: int = 2_000
    memory: int = 1 << 26
    largest_event: int = 1 << 20
    lease: float = 120.0
    sweep_interval: float = 5.0
    lane_idle: float = 300.0
    shutdown: float = 8.0


class Listener(Protocol):
    """Hears what delivering leads to."""

    def recorded(self, destination: Destination, recorded: Recorded) -> None:
        """An attempt raised alerts, or had the destination disabled or enabled."""
        ...

    async def swept(self, oldest_age: float) -> None:
        """The store was searched; its oldest due delivery has waited that long, in seconds."""
        ...


class Unheard:
    def recorded(self, destination: Destination, recorded: Recorded) -> None:
        pass

    async def swept(self, oldest_age: float) -> None:
        pass


class Dispatcher:
    """Delivers. Truth is in the store: whatever this process forgets, a sweep finds again when its lease runs out."""

    def __init__(
        self,
        store: Store,
        attempts: Attempts,
        metrics: Metrics,
        journal: Journal,
        *,
        bounds: Bounds,
        listener: Listener | None = None,
        live: Live | None = None,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._metrics = metrics
        self._journal = journal
        self._listener = listener or Unheard()
        self._live = live or Live()
        self._bounds = bounds
        self._lease = round(bounds.lease * SECOND)
        self._longest_attempt = round(attempts.timeout * SECOND)
        self._lanes = Lanes(
            in_flight=bounds.concurrency,
            per_destination=bounds.concurrency_per_destination,
            per_tenant=bounds.concurrency_per_tenant,
            queue=bounds.queue,
            queue_per_destination=bounds.queue_per_destination,
            memory=bounds.memory,
            largest=bounds.largest_event,
            sockets=bounds.sockets,
            first=bounds.first_width,
            shares=bounds.shares,
            patience=bounds.patience,
        )
        metrics.watch_in_flight(lambda: self._lanes.in_flight)
        self._rings = Rings(self._claim_all)
        self._tasks: set[asyncio.Task[None]] = set()
        self.sweeping = Background("sweep", self._sweep, bounds.sweep_interval, metrics, patience=_LONGEST_SWEEP)
        self._accepting = False
        self._looking: asyncio.TimerHandle | None = None
        self._waiting = Sparing(store.count_waiting, share=_COUNTING_SHARE)
        self._trials = Trials(
            store, attempts, self._tell, lease=self._lease, at_once=min(self._lanes.places.most_hanging, _MOST_TRIALS)
        )
        self._watched: dict[int, list[Unavailable]] = {}
        self._seldom = Seldom()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = True
        self._lanes.places.sockets = sockets_within_limits(self._bounds.sockets, self._bounds.concurrency)
        await self.sweeping.start()

    async def close(self) -> None:
        """Start nothing more, let what is in flight end, close the connections. What remains stays on disk."""
        if not self._accepting:
            return
        self._accepting = False
        await self.sweeping.close()
        self._rings.close()
        if self._looking is not None:
            self._looking.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._bounds.shutdown)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.all():
            with contextlib.suppress(Unavailable):
                await self._give_back(lane)
            await lane.cool_down()

    @property
    def delivering(self) -> bool:
        """Whether the sweep, which finds everything that was forgotten, is alive."""
        return self._accepting and self.sweeping.well

    # what publishing and management tell

    def admit(self, event: Event, matched: Sequence[Destination]) -> Micros | None:
        lanes, size = [self._lanes.of(destination) for destination in matched], size_of(event)
        if not self._accepting or not self._lanes.takes(lanes, size):
            return None
        self._lanes.reserve(lanes, size)
        return clock.now() + self._lease

    def decline(self, event: Event, matched: Sequence[Destination]) -> None:
        size = size_of(event)
        for destination in matched:
            self._lanes.decline(self._lanes.of(destination), size)

    def take(self, event: Event, matched: Sequence[Destination], lease_until: Micros, *, stale: bool) -> None:
        for destination in matched:
            lane = self._lanes.of(destination)
            lane.stale += stale
            first = Delivery(
                event=event, destination_no=destination.no, attempt=1, retries=0, manual=False, lease_until=lease_until
            )
            self._lanes.fill(lane, first)
            self._put_away(lane)
        self._pump()

    def ring(self, destination_no: int, due: Micros) -> None:
        self._rings.ring(destination_no, due)

    def ask(self, destination_no: int, event_seq: int) -> None:
        """A manual attempt is due now, or as soon as the attempt of this event that is under way has ended."""
        lane = self._lanes.get(destination_no)
        if lane is not None:
            lane.asked.add(event_seq)
            self._let_go(lane)
        self.ring(destination_no, clock.now())

    def spare(self, destination_no: int) -> int:
        """How many deliveries of a destination may be replays now, so that others find their way past them.

        A part of what may be in flight; none while anything waits for its turn, or half of the process is busy.
        """
        lane = self._lanes.get(destination_no)
        if self._lanes.places.taken * 2 > self._bounds.concurrency or (lane is not None and lane.busy):
            return 0
        width = self._bounds.first_width if lane is None else lane.width
        return max(1, width // _REPLAYED_SHARE)

    def changed(self, tenant_id: str, destination_no: int | None = None) -> None:
        """A destination has changed, or all of the tenant's: the very next attempt uses it as it is now."""
        one = None if destination_no is None else self._lanes.get(destination_no)
        lanes = self._lanes.of_tenant(tenant_id) if destination_no is None else [] if one is None else [one]
        for lane in lanes:
            lane.stale += 1
        if lanes:
            self._spawn(self._refresh_all(lanes))
        elif destination_no is not None:
            self.ring(destination_no, clock.now())

    @contextlib.contextmanager
    def watched(self, event_seq: int) -> Iterator[list[Unavailable]]:
        """Collects why attempts of this event are put off."""
        self._watched[event_seq] = []
        try:
            yield self._watched[event_seq]
        finally:
            del self._watched[event_seq]

    def drop(self, tenant_id: str, event_seqs: Container[int]) -> None:
        """These events of a tenant are not to be sent any more; the store knows."""
        for lane in self._lanes.of_tenant(tenant_id):
            self._lanes.discard(lane, event_seqs)
            self._refill(lane)

    def withdraw(self, destination_no: int, event_seq: int) -> None:
        """The delivery of one event is off; the store knows."""
        lane = self._lanes.get(destination_no)
        if lane is not None:
            self._lanes.discard(lane, {event_seq})
            self._refill(lane)

    async def _refresh_all(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            await self._refresh(lane)
            if not lane.shut:
                self.ring(lane.destination.no, clock.now())

    async def _refresh(self, lane: Lane) -> None:
        """Look at the destination until no change has come meanwhile. An answer older than the lane's is ignored."""
        while lane.stale:
            seen = lane.stale
            current = await self._store.destination_by_no(lane.destination.no)
            if current is None:
                lane.gone = True
            elif current.version > lane.destination.version:
                lane.destination = current
                self._let_go(lane)
                await lane.cool_down()
            if lane.stale == seen:
                lane.stale = 0
        if lane.shut:
            await self._give_back(lane)

    async def _give_back(self, lane: Lane, *, down_to: int = 0, wait: float = 0.0) -> None:
        deliveries = self._lanes.drain(lane, down_to=down_to)
        if deliveries:
            await self._store.release(deliveries, due=clock.now() + round(wait * SECOND))

    # what is due in the store

    def _claim_all(self, destination_nos: Iterable[int]) -> None:
        for destination_no in destination_nos:
            self._spawn(self._claim(destination_no))

    async def _claim(self, destination_no: int) -> None:
        lane = await self._lane(destination_no)
        if lane is None or lane.shut or not self._accepting:
            return
        if lane.claiming:
            self.ring(destination_no, clock.now() + _CLAIM_AGAIN_AFTER)
            return
        room = self._lanes.room(lane)  # none while it is held: it is rung when that is over
        most = self._lanes.allowance(lane) if room else 0
        lane.more_in_store = most == 0
        if not most:
            return
        lane.claiming = True
        self._lanes.budget.hold(lane.account, most)
        try:
            now = clock.now()
            claim = await self._store.claim(
                destination_no, now=now, lease_until=now + self._lease, limit=room, most_bytes=most
            )
        except Unavailable:
            self.ring(destination_no, clock.now() + SECOND)
            return
        finally:
            lane.claiming = False
            self._lanes.budget.free(lane.account, most)
        for delivery in claim.deliveries:
            self._lanes.add(lane, delivery)
        self._put_away(lane)
        if claim.next_due is not None:
            lane.more_in_store = claim.next_due <= now
            self.ring(destination_no, claim.next_due)
        self._feed()
        self._pump()

    def _feed(self) -> None:
        """Bytes are free: for a lane that has waited for some."""
        destination_no = self._lanes.fed()
        if destination_no is not None:
            self.ring(destination_no, clock.now())

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
        now = clock.now()
        soon = now + round(self._bounds.sweep_interval * SECOND)
        waiting = await self._store.due_destinations()
        for destination_no, due in waiting:
            if due <= soon:
                self.ring(destination_no, due)
        oldest = min((due for destination_no, due in waiting if not self._is_held(destination_no)), default=now)
        oldest_age = max(0.0, (now - oldest) / SECOND)
        self._metrics.backlog(waiting=await self._waiting.answer(), oldest_age=oldest_age)
        await self._listener.swept(oldest_age)
        for destination_no in self._trials.begin(await self._store.alerting.due_probes(now)):
            self._spawn(self._trials.make(destination_no))
        await self._drop_idle_lanes()

    async def _drop_idle_lanes(self) -> None:
        long_ago = time.monotonic() - self._bounds.lane_idle
        for lane in self._lanes.all():
            if lane.idle and (lane.gone or lane.used_at < long_ago):
                self._lanes.remove(lane)
                await lane.cool_down()

    # one attempt after another

    def _pump(self) -> None:
        """Have as many workers as may be in flight; each goes on while there is work and ends when there is none."""
        while self._accepting and (work := self._lanes.next()) is not None:
            self._spawn(self._work(*work))
        if self._looking is None and self._accepting and self._lanes.places.taken:
            self._looking = self._loop.call_later(self._bounds.patience.quick, self._look)

    def _look(self) -> None:
        """Whoever waits too long for an answer gives its place up; others start in it."""
        again = self._lanes.look()
        self._looking = None if again is None else self._loop.call_later(again, self._look)
        self._pump()

    async def _work(self, place: Place, delivery: Delivery) -> None:
        while True:
            lane = place.lane
            try:
                await self._attempt(place, delivery)
            except Unavailable as error:
                self._count_put_off(lane, "store", error)
            except Exception:  # noqa: BLE001  the delivery keeps its lease, and others must not wait for this worker
                _log.exception("attempt_failed_to_start", destination_no=lane.destination.no)
            finally:
                self._lanes.done(place)
                self._refill(lane)
                self._feed()
            following = self._lanes.next() if self._accepting else None
            self._pump()
            if following is None:
                return
            place, delivery = following

    def _refill(self, lane: Lane) -> None:
        if lane.more_in_store and lane.held <= lane.capacity // 2:
            lane.more_in_store = False
            self.ring(lane.destination.no, clock.now())

    async def _attempt(self, place: Place, delivery: Delivery) -> None:
        lane = place.lane
        if lane.stale:
            await self._refresh(lane)
        now = clock.now()
        if lane.shut or delivery.lease_until < now + self._longest_attempt:
            await self._store.release([delivery], due=now)
            self.ring(lane.destination.no, now)
            return
        try:
            result = await self._attempts.make(lane, delivery)
        except Unavailable as error:
            await self._put_off(lane, delivery, error)
            return
        except asyncio.CancelledError:
            self._record(place, self._attempts.cut_off(lane, delivery, now))
            raise
        self._record(place, result)
        lane.used_at = time.monotonic()
        lane.put_off = 0
        outcome = result.outcome
        self._lanes.heard(lane, outcome.latency / SECOND, answered=outcome.code not in _NARROWS)
        if len(lane.queue) > lane.capacity:
            lane.more_in_store = True
            await self._give_back(lane, down_to=lane.capacity // 2)
        if outcome.retry_after and not outcome.ok:
            most = self._attempts.policy_of(lane.destination).max_wait_seconds
            self._hold(lane, min(outcome.retry_after, most))

    # not now

    async def _put_off(self, lane: Lane, delivery: Delivery, error: Unavailable) -> None:
        """The attempt could not be made, for a reason that is ours: soon again, and the lane waits until then."""
        self._count_put_off(lane, error.reason, error)
        if delivery.event.seq in self._watched:
            self._watched[delivery.event.seq].append(error)
        if lane.held_until is None:  # otherwise another attempt has met the same
            lane.put_off += 1
        wait = min(_PUT_OFF_FIRST * 2 ** (lane.put_off - 1), _PUT_OFF_LONGEST) * (1 + clock.jitter())
        self._hold(lane, wait)
        await self._store.release([delivery], due=clock.now() + round(wait * SECOND))

    def _count_put_off(self, lane: Lane, reason: str, error: Unavailable) -> None:
        self._metrics.put_off(reason)
        times = self._seldom.times(reason)
        if times is not None:
            _log.warning(
                "attempts_put_off", reason=reason, times=times, error=str(error), destination_no=lane.destination.no
            )

    def _hold(self, lane: Lane, seconds: float) -> None:
        """Start nothing of the lane for so long."""
        if not self._lanes.hold(lane, time.monotonic() + seconds):
            return
        self._loop.call_later(seconds, self._hold_over, lane)
        self._put_away(lane)

    def _put_away(self, lane: Lane) -> None:
        """What would wait long in a lane that is held waits in the store."""
        if lane.held_until is not None and lane.queue:
            left = lane.held_until - time.monotonic()
            if left > _WORTH_GIVING_BACK:
                self._spawn(self._give_back(lane, wait=left))

    def _hold_over(self, lane: Lane) -> None:
        if lane.held_until is not None and lane.held_until <= time.monotonic() + _TICK:
            self._let_go(lane)

    def _let_go(self, lane: Lane) -> None:
        if lane.held_until is not None and self._accepting:
            self._lanes.resume(lane)
            self.ring(lane.destination.no, clock.now())
            self._pump()

    def _is_held(self, destination_no: int) -> bool:
        lane = self._lanes.get(destination_no)
        return lane is not None and lane.held_until is not None

    # afterwards

    def _record(self, place: Place, result: Result) -> None:
        size, place.size = place.size, 0  # its bytes are held until it is on record
        self._store.record(result).add_done_callback(partial(self._recorded, place.lane, result, size))

    def _recorded(self, lane: Lane, result: Result, size: int, done: asyncio.Future[Recorded | None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._spawn(self._record_again(lane, result, size))
            return
        self._lanes.budget.free(lane.account, size)
        self._feed()
        if not done.cancelled() and (recorded := done.result()) is not None:
            self._tell(lane, result, recorded)

    async def _record_again(self, lane: Lane, result: Result, size: int) -> None:
        """Keep a result that the store could not take until it can, or until the lease is another's."""
        try:
            while clock.now() < result.delivery.lease_until:
                await asyncio.sleep(_RECORD_AGAIN_AFTER)
                with contextlib.suppress(Unavailable):
                    recorded = await self._store.record(result)
                    if recorded is not None:
                        self._tell(lane, result, recorded)
                    return
        finally:
            self._lanes.budget.free(lane.account, size)
            self._feed()

    def _tell(self, lane: Lane, result: Result, recorded: Recorded) -> None:
        outcome, settlement, event = result.outcome, result.settlement, result.delivery.event
        if settlement.due is not None:
            self.ring(lane.destination.no, settlement.due)
        if event.seq in lane.asked:
            lane.asked.discard(event.seq)
            self.ring(lane.destination.no, clock.now())
        if outcome.ok and result.delivery.attempt == 1:
            accepted_at = ids.time_of(event.seq)
            self._metrics.first_delivery((outcome.started_at + outcome.latency - accepted_at) / SECOND)
        retried = settlement.state is DeliveryState.PENDING
        self._metrics.attempted(
            result.destination_type, ok=outcome.ok, retried=retried, seconds=outcome.latency / SECOND
        )
        self._journal.write(_line(lane.destination, result))
        self._live.attempted(lane.destination, result)
        if recorded != _NOTHING_ELSE:
            self._listener.recorded(lane.destination, recorded)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Unavailable):
            _log.warning("dispatcher_put_off", error=str(error))
        elif error is not None:
            _log.error("dispatcher_task_failed", exc_info=error)


def _line(destination: Destination, result: Result) -> dict[str, Any]:
    """The wide log line of an attempt."""
    delivery, outcome, event = result.delivery, result.outcome, result.delivery.event
    return {
        "event": "attempt",
        "tenant_id": id_of(destination.tenant_id),
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
        **log_fields(event.trace),
    }
