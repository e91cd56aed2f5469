"""The order of the queue: who is served next, so that a slow destination or a busy tenant delays nobody else.

Every destination has a lane. Tenants take turns, and within a tenant its lanes do; a lane, a tenant and the process
each have a bound on what is in flight. A lane whose attempts nobody answers is narrowed, and widened again later.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Container, Iterable

from waypost.connect.connector import Connection
from waypost.core.model import Delivery, Destination

_HELD_PER_WIDTH = 32
"""How many deliveries a lane holds for each attempt that it may have in flight: a dead lane, one wide, holds few."""

LEAST_HELD = 4
"""What every lane may hold however full the process is, so that many dead destinations cannot starve a healthy one."""


class Warm:
    """An open connection with a count of the sends that use it, so that it is closed under none of them."""

    __slots__ = ("connection", "retired", "sends")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sends = 0
        self.retired = False

    async def retire(self) -> None:
        """Close it, now or when the last send has ended."""
        self.retired = True
        await self.close_when_idle()

    async def close_when_idle(self) -> None:
        if not self.sends:
            with contextlib.suppress(Exception):
                await self.connection.close()


class Lane:
    """The deliveries of one destination that this process holds, and what it takes to make them.

    `reserved` counts deliveries that are being accepted with the promise of a place here. `stale` counts the changes
    of the destination that the lane has not looked at yet. `asked` holds the events for which a person asked for an
    attempt while one was under way.
    """

    def __init__(self, destination: Destination, widest: int, longest: int) -> None:
        self.destination = destination
        self.warm: Warm | None = None
        self.queue: deque[Delivery] = deque()
        self.asked: set[int] = set()
        self.reserved = 0
        self.in_flight = 0
        self.width = widest
        self.more_in_store = False
        self.claiming = False
        self.stale = 0
        self.gone = False
        self.used_at = time.monotonic()
        self.waiting_for_turn = False
        self._widest = widest
        self._longest = longest

    @property
    def held(self) -> int:
        return len(self.queue) + self.in_flight + self.reserved

    @property
    def capacity(self) -> int:
        """Most deliveries to hold: fewer for a lane that was narrowed."""
        return min(self._longest, _HELD_PER_WIDTH * self.width)

    @property
    def ready(self) -> bool:
        return bool(self.queue) and self.in_flight < self.width

    @property
    def busy(self) -> bool:
        """Whether something waits for its turn, or would have to."""
        return not self.shut and bool(self.queue or self.more_in_store or self.in_flight >= self.width)

    @property
    def shut(self) -> bool:
        """Whether nothing may be sent: the destination is disabled or deleted."""
        return self.gone or self.destination.disabled_at is not None

    @property
    def idle(self) -> bool:
        return not self.held and not self.claiming

    def heard(self, *, unresponsive: bool) -> None:
        """Halve the width after an attempt that nobody answered, else widen it by one."""
        if unresponsive:
            self.width = max(1, self.width // 2)
        elif self.width < self._widest:
            self.width += 1


class _Turns:
    """One tenant's lanes that have something to do, in the order of their turns."""

    def __init__(self) -> None:
        self.lanes: deque[Lane] = deque()
        self.in_flight = 0
        self.waiting_for_turn = False


class Lanes:
    """All lanes of the process and whose turn it is. Every operation takes constant time."""

    def __init__(
        self, *, in_flight: int, per_destination: int, per_tenant: int, queue: int, queue_per_destination: int
    ) -> None:
        self._most_in_flight = in_flight
        self._most_held = queue
        self._most_held_per_destination = queue_per_destination
        self._per_destination = per_destination
        self._per_tenant = per_tenant
        self._lanes: dict[int, Lane] = {}
        self._of_tenant: defaultdict[str, dict[int, Lane]] = defaultdict(dict)
        self._tenants: dict[str, _Turns] = {}
        self._turns: deque[_Turns] = deque()
        self.in_flight = 0
        self.held = 0

    def get(self, destination_no: int) -> Lane | None:
        return self._lanes.get(destination_no)

    def of(self, destination: Destination) -> Lane:
        """The destination's lane, made when there is none yet; stale when it knows an older version."""
        lane = self._lanes.get(destination.no)
        if lane is None:
            lane = self._lanes[destination.no] = Lane(
                destination, self._per_destination, self._most_held_per_destination
            )
            self._of_tenant[destination.tenant_id][destination.no] = lane
        elif lane.destination.version < destination.version:
            lane.stale += 1
        return lane

    def all(self) -> list[Lane]:
        return list(self._lanes.values())

    def of_tenant(self, tenant_id: str) -> list[Lane]:
        return list(self._of_tenant[tenant_id].values()) if tenant_id in self._of_tenant else []

    def remove(self, lane: Lane) -> None:
        """Forget an idle lane."""
        destination = lane.destination
        if self._lanes.pop(destination.no, None) is None:
            return
        siblings = self._of_tenant[destination.tenant_id]
        del siblings[destination.no]
        if not siblings:
            del self._of_tenant[destination.tenant_id]

    def room(self, lane: Lane) -> int:
        """How many more deliveries the lane may take now."""
        own = lane.capacity - lane.held
        return max(min(own, self._most_held - self.held), min(own, LEAST_HELD - lane.held), 0)

    def reserve(self, lanes: Iterable[Lane]) -> None:
        """Keep a place in each lane for a delivery that is being accepted; `add` or `decline` gives it up."""
        for lane in lanes:
            lane.reserved += 1
            self.held += 1

    def decline(self, lane: Lane) -> None:
        """Give a reserved place up unused."""
        lane.reserved -= 1
        self.held -= 1

    def add(self, lane: Lane, delivery: Delivery) -> None:
        lane.queue.append(delivery)
        self.held += 1
        self._line_up(lane)

    def drain(self, lane: Lane, *, down_to: int = 0) -> list[Delivery]:
        """Take out what is not in flight, the newest first, until that many are left waiting."""
        drained = [lane.queue.pop() for _ in range(len(lane.queue) - down_to)]
        self.held -= len(drained)
        return drained

    def discard(self, lane: Lane, event_seqs: Container[int]) -> None:
        """Drop what waits of these events."""
        kept = deque(delivery for delivery in lane.queue if delivery.event.seq not in event_seqs)
        self.held -= len(lane.queue) - len(kept)
        lane.queue = kept

    def next(self) -> tuple[Lane, Delivery] | None:
        """Start the next delivery whose turn it is, or None when nothing may start now."""
        while self._turns and self.in_flight < self._most_in_flight:
            turns = self._turns.popleft()
            turns.waiting_for_turn = False
            lane = self._next_lane(turns)
            if lane is None:
                continue
            delivery = lane.queue.popleft()
            lane.in_flight += 1
            turns.in_flight += 1
            self.in_flight += 1
            self._line_up(lane)
            self._line_up_tenant(turns)
            return lane, delivery
        return None

    def done(self, lane: Lane) -> None:
        """A started delivery has ended."""
        turns = self._tenants[lane.destination.tenant_id]
        lane.in_flight -= 1
        turns.in_flight -= 1
        self.in_flight -= 1
        self.held -= 1
        self._line_up(lane)
        self._line_up_tenant(turns)
        if not turns.in_flight and not turns.lanes:
            self._tenants.pop(lane.destination.tenant_id, None)

    def _next_lane(self, turns: _Turns) -> Lane | None:
        if turns.in_flight >= self._per_tenant:
            return None
        while turns.lanes:
            lane = turns.lanes.popleft()
            lane.waiting_for_turn = False
            if lane.ready:
                return lane
        return None

    def _line_up(self, lane: Lane) -> None:
        if lane.ready and not lane.waiting_for_turn:
            turns = self._tenants.setdefault(lane.destination.tenant_id, _Turns())
            lane.waiting_for_turn = True
            turns.lanes.append(lane)
            self._line_up_tenant(turns)

    def _line_up_tenant(self, turns: _Turns) -> None:
        if turns.lanes and not turns.waiting_for_turn and turns.in_flight < self._per_tenant:
            turns.waiting_for_turn = True
            self._turns.append(turns)
