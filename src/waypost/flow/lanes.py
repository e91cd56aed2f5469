"""The order of the queue: who is served next, so that a slow destination or a busy tenant delays nobody else.

Every destination has a lane. Tenants take turns, and within a tenant its lanes do; a lane, a tenant and the process
each have a bound on what is in flight. A lane whose attempts nobody answers is narrowed, and widened again later.
"""

from __future__ import annotations

from collections import defaultdict, deque

from waypost.connect.connector import Connection
from waypost.core.model import Delivery, Destination, Micros


class Lane:
    """The deliveries of one destination that this process holds, and what it takes to make them."""

    def __init__(self, destination: Destination, widest: int) -> None:
        self.destination = destination
        self.connection: Connection | None = None
        self.queue: deque[Delivery] = deque()
        self.in_flight = 0
        self.width = widest
        self.next_ring: Micros | None = None
        self.more_in_store = False
        self.claiming = False
        self.stale = False
        self.gone = False
        self.used_at = 0.0
        self.waiting_for_turn = False
        self._widest = widest

    @property
    def held(self) -> int:
        return len(self.queue) + self.in_flight

    @property
    def ready(self) -> bool:
        return bool(self.queue) and self.in_flight < self.width

    @property
    def shut(self) -> bool:
        """Whether nothing may be sent: the destination is disabled or deleted."""
        return self.gone or self.destination.disabled_at is not None

    @property
    def idle(self) -> bool:
        return not self.queue and not self.in_flight and not self.claiming

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

    def __init__(self, *, in_flight: int, per_destination: int, per_tenant: int) -> None:
        self._most_in_flight = in_flight
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
            lane = self._lanes[destination.no] = Lane(destination, self._per_destination)
            self._of_tenant[destination.tenant_id][destination.no] = lane
        elif lane.destination.version < destination.version:
            lane.stale = True
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

    def add(self, lane: Lane, delivery: Delivery) -> None:
        lane.queue.append(delivery)
        self.held += 1
        self._line_up(lane)

    def drain(self, lane: Lane) -> list[Delivery]:
        """Take out everything that is not in flight."""
        drained = list(lane.queue)
        lane.queue.clear()
        self.held -= len(drained)
        return drained

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
