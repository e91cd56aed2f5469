"""The order of the queue: who is served next, so that a slow destination or a busy tenant delays nobody else.

Every destination has a lane. Tenants take turns, and within a tenant its lanes do; a lane, a tenant and the process
each have a bound on what is in flight. A lane starts narrow and is widened by answers. One whose attempts nobody
answers is narrowed, down to one attempt at a time.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Sequence

from waypost.connect.connector import Connection
from waypost.core.model import Delivery, Destination
from waypost.flow.budget import Account, Budget, Owner, size_of
from waypost.flow.places import HANGING, LITTLE, NEW, PACES, QUICK, SLOW, Pace, Patience, Places, Shares

_HELD_PER_WIDTH = 32
"""How many deliveries a lane holds for each attempt that it may have in flight: a dead lane, one wide, holds few."""

LEAST_HELD = 4
"""What every lane may hold however full the process is, so that many dead destinations cannot starve a healthy one."""

_TURNS = [[(last + step) % len(PACES) for step in range(1, len(PACES) + 1)] for last in PACES]
"""In which order to look at the lines, by the pace that was served last."""


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

    `width` is how many attempts may be in flight at once. `reserved` counts deliveries that are being accepted with the
    promise of a place here. `stale` counts the changes of the destination that the lane has not looked at yet. `asked`
    holds the events for which a person asked for an attempt while one was under way. Nothing starts before
    `held_until`, by the monotonic clock; None when nothing holds the lane. `put_off` counts how often in a row its
    attempts could not be made for want of something of our own.
    """

    def __init__(
        self, destination: Destination, tenant: _Tenant | None = None, *, first: int, widest: int, longest: int
    ) -> None:
        self.destination = destination
        self.tenant = tenant or _Tenant()
        self.account = Account(self.tenant.owner)
        self.warm: Warm | None = None
        self.queue: deque[Delivery] = deque()
        self.asked: set[int] = set()
        self.reserved = 0
        self.in_flight = 0
        self.width = min(first, widest)
        self.pace: Pace = NEW
        self.narrowed = False
        self.more_in_store = False
        self.claiming = False
        self.stale = 0
        self.gone = False
        self.held_until: float | None = None
        self.put_off = 0
        self.used_at = time.monotonic()
        self.lined_up_as: Pace | None = None
        self._first = min(first, widest)
        self._widest = widest
        self._longest = longest

    @property
    def held(self) -> int:
        return len(self.queue) + self.in_flight + self.reserved

    @property
    def capacity(self) -> int:
        """Most deliveries to hold: fewer for a lane that was narrowed."""
        return min(self._longest, _HELD_PER_WIDTH * self._at_once) if self.narrowed else self._longest

    @property
    def _at_once(self) -> int:
        return 1 if self.pace == HANGING else self.width

    @property
    def ready(self) -> bool:
        if not self.queue or self.held_until is not None:
            return False
        return self.in_flight < (1 if self.pace == HANGING else self.width)

    @property
    def busy(self) -> bool:
        """Whether something waits for its turn, or would have to."""
        return not self.shut and bool(self.queue or self.more_in_store or self.in_flight >= self._at_once)

    @property
    def steady(self) -> bool:
        """Whether a quick answer says nothing new."""
        return self.pace == QUICK and self.width == self._widest

    @property
    def shut(self) -> bool:
        """Whether nothing may be sent: the destination is disabled or deleted."""
        return self.gone or self.destination.disabled_at is not None

    @property
    def idle(self) -> bool:
        return not self.held and not self.claiming and self.held_until is None

    def heard(self, pace: Pace, *, answered: bool, calm: bool = True) -> None:
        """Learn from an attempt that has ended.

        Halve the width after one that nobody answered, or too late. Else widen it by one: after an answer that came
        slowly only while it is calm, that is, while few attempts wait for answers.
        """
        self.pace = pace
        if pace == HANGING or not answered:
            self.narrow()
        elif self.width < self._widest and (pace == QUICK or calm):
            self.width += 1
            self.narrowed &= self.width < self._widest

    def narrow(self) -> None:
        self.width = max(1, self.width // 2)
        self.narrowed = True

    async def cool_down(self) -> None:
        """Have the lane open a new connection for its next send."""
        warm, self.warm = self.warm, None
        if warm is not None:
            await warm.retire()

    def start_small(self) -> None:
        """After it was held: as wide as a new one, at most."""
        self.width = min(self.width, self._first)


class Place:
    """An attempt in flight. `since` is when it started, by the monotonic clock, in seconds."""

    __slots__ = ("ended", "kept", "lane", "pace", "since", "size", "waits")

    def __init__(self, lane: Lane, pace: Pace, since: float, size: int, *, kept: bool) -> None:
        self.lane = lane
        self.size = size
        self.pace = pace
        self.kept = kept
        self.since = since
        self.waits = False
        self.ended = False


class _Tenant:
    """A tenant's lanes, and those that have something to do by their pace and in the order of their turns.

    `in_line` says by pace whether the tenant stands there, `passed_over` whether it has something to do and does not.
    """

    __slots__ = ("in_line", "lanes", "lines", "owner", "passed_over", "taken", "waiting")

    def __init__(self) -> None:
        self.lanes: dict[int, Lane] = {}
        self.lines: tuple[deque[Lane], ...] = tuple([deque() for _ in PACES])
        self.owner = Owner()
        self.in_line = [False] * len(PACES)
        self.passed_over = False
        self.taken = 0
        self.waiting = 0

    def may_use_kept(self, pace: int) -> bool:
        """Whether the places that are kept are for this tenant: it has little in flight and asks for no trouble."""
        if pace == QUICK:
            return self.taken < LITTLE
        return pace == NEW and not self.taken and not self.waiting


class Lanes:
    """All lanes of the process and whose turn it is. Every operation takes constant time.

    Tenants stand in lines, one for each pace of their lanes, and the lines take turns. When there is no place left for
    a pace but those that are kept, whom they are not kept for steps aside. `now` is the monotonic clock in seconds.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        per_destination: int,
        per_tenant: int,
        queue: int,
        queue_per_destination: int,
        memory: int = 1 << 26,
        largest: int = 1 << 20,
        sockets: int = 0,
        first: int | None = None,
        shares: Shares | None = None,
        patience: Patience | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = Places(in_flight, sockets, shares or Shares())
        self.budget = Budget(memory, largest)
        self._starved: tuple[dict[int, None], ...] = tuple([{} for _ in PACES])
        self._patience = patience or Patience()
        self._most_held = queue
        self._most_held_per_destination = queue_per_destination
        self._per_destination = per_destination
        self._first = per_destination if first is None else first
        self._per_tenant = per_tenant
        self._now = now
        self._lanes: dict[int, Lane] = {}
        self._tenants: defaultdict[str, _Tenant] = defaultdict(_Tenant)
        self._lines: tuple[deque[_Tenant], ...] = tuple([deque() for _ in PACES])
        self._aside: tuple[deque[_Tenant], ...] = tuple([deque() for _ in PACES])
        self._last_pace = 0
        self._started: deque[Place] = deque()
        self._overdue: deque[Place] = deque()
        self.held = 0

    @property
    def in_flight(self) -> int:
        return self.places.in_flight

    def get(self, destination_no: int) -> Lane | None:
        return self._lanes.get(destination_no)

    def of(self, destination: Destination) -> Lane:
        """The destination's lane, made when there is none yet; stale when it knows an older version."""
        lane = self._lanes.get(destination.no)
        if lane is None:
            tenant = self._tenants[destination.tenant_id]
            lane = self._lanes[destination.no] = tenant.lanes[destination.no] = Lane(
                destination,
                tenant,
                first=self._first,
                widest=self._per_destination,
                longest=self._most_held_per_destination,
            )
        elif lane.destination.version < destination.version:
            lane.stale += 1
        return lane

    def all(self) -> list[Lane]:
        return list(self._lanes.values())

    def of_tenant(self, tenant_id: str) -> list[Lane]:
        return list(self._tenants[tenant_id].lanes.values()) if tenant_id in self._tenants else []

    def remove(self, lane: Lane) -> None:
        """Forget an idle lane."""
        destination = lane.destination
        if self._lanes.pop(destination.no, None) is None:
            return
        del lane.tenant.lanes[destination.no]
        if not lane.tenant.lanes:
            del self._tenants[destination.tenant_id]

    def room(self, lane: Lane) -> int:
        """How many more deliveries the lane may take now."""
        if lane.held_until is not None:
            return 0
        own = lane.capacity - lane.held
        return max(min(own, self._most_held - self.held), min(own, LEAST_HELD - lane.held), 0)

    def takes(self, lanes: Sequence[Lane], size: int) -> bool:
        """Whether each lane may take a delivery of so many bytes."""
        if not self.budget.allows(size, len(lanes)):
            return False
        return all(
            not lane.more_in_store and self.room(lane) and self.budget.left(lane.account) >= size for lane in lanes
        )

    def reserve(self, lanes: Iterable[Lane], size: int) -> None:
        """Keep room in each lane for a delivery that is being accepted; `fill` uses it, `decline` gives it up."""
        for lane in lanes:
            lane.reserved += 1
            self.held += 1
            self.budget.hold(lane.account, size)

    def decline(self, lane: Lane, size: int) -> None:
        """Give reserved room up unused."""
        lane.reserved -= 1
        self.held -= 1
        self.budget.free(lane.account, size)

    def fill(self, lane: Lane, delivery: Delivery) -> None:
        lane.reserved -= 1
        lane.queue.append(delivery)
        self._line_up(lane)

    def add(self, lane: Lane, delivery: Delivery) -> None:
        lane.queue.append(delivery)
        self.held += 1
        self.budget.hold(lane.account, size_of(delivery.event))
        self._line_up(lane)

    def allowance(self, lane: Lane) -> int:
        """How many bytes to claim for a lane; with 0 it waits until `fed` names it."""
        left = self.budget.left(lane.account)
        if left >= self.budget.largest:
            return min(left, 2 * self.budget.largest)
        self._starved[lane.pace][lane.destination.no] = None
        return 0

    def fed(self) -> int | None:
        """A destination whose lane has waited for bytes and can have some now."""
        for starved in self._starved:
            if starved:
                no = next(iter(starved))
                del starved[no]
                lane = self._lanes.get(no)
                if lane is not None and self.budget.left(lane.account) >= self.budget.largest:
                    return no
                if lane is not None:
                    starved[no] = None
        return None

    def drain(self, lane: Lane, *, down_to: int = 0) -> list[Delivery]:
        """Take out what is not in flight, the newest first, until that many are left waiting."""
        drained = [lane.queue.pop() for _ in range(len(lane.queue) - down_to)]
        self.held -= len(drained)
        self.budget.free(lane.account, sum(size_of(delivery.event) for delivery in drained))
        return drained

    def discard(self, lane: Lane, event_seqs: Container[int]) -> None:
        """Drop what waits of these events."""
        dropped = [delivery for delivery in lane.queue if delivery.event.seq in event_seqs]
        lane.queue = deque(delivery for delivery in lane.queue if delivery.event.seq not in event_seqs)
        self.held -= len(dropped)
        self.budget.free(lane.account, sum(size_of(delivery.event) for delivery in dropped))

    # starting and ending

    def next(self) -> tuple[Place, Delivery] | None:
        """Start the next delivery whose turn it is, or None when nothing may start now."""
        for pace in _TURNS[self._last_pace]:
            if self._lines[pace] or self._aside[pace]:
                free = self.places.free(pace)
                lane = self._next_in(pace) if free else self._next_for_kept(pace)
                if lane is not None:
                    self._last_pace = pace
                    return self._start(lane, kept=not free)
        return None

    def _next_in(self, pace: int) -> Lane | None:
        aside, in_line = self._aside[pace], self._lines[pace]
        while aside or in_line:
            tenant = (aside or in_line).popleft()
            tenant.in_line[pace] = False
            lane = self._next_lane(tenant, pace)
            if lane is not None:
                return lane
        return None

    def _next_for_kept(self, pace: int) -> Lane | None:
        in_line = self._lines[pace]
        while in_line and self.places.kept_free:
            tenant = in_line.popleft()
            if tenant.may_use_kept(pace):
                tenant.in_line[pace] = False
                lane = self._next_lane(tenant, pace)
                if lane is not None:
                    return lane
            else:
                tenant.passed_over = True
                self._aside[pace].append(tenant)
        return None

    def _next_lane(self, tenant: _Tenant, pace: int) -> Lane | None:
        lanes = tenant.lines[pace]
        while lanes and tenant.taken < self._per_tenant:
            lane = lanes.popleft()
            if lane.lined_up_as == pace:
                lane.lined_up_as = None
                if lane.pace == pace and lane.ready:
                    return lane
                self._line_up(lane)
        tenant.passed_over |= bool(lanes)
        return None

    def _start(self, lane: Lane, *, kept: bool) -> tuple[Place, Delivery]:
        pace, tenant = lane.pace, lane.tenant
        self.places.take(pace, kept=kept)
        delivery = lane.queue.popleft()
        place = Place(lane, pace, self._now(), size_of(delivery.event), kept=kept)
        lane.in_flight += 1
        tenant.taken += 1
        self._started.append(place)
        if lane.queue:
            self._line_up(lane)
        if tenant.lines[pace]:
            self._line_up_tenant(tenant, pace)
        return place, delivery

    def heard(self, lane: Lane, seconds: float, *, answered: bool) -> None:
        """An attempt took so long; whether the receiver said anything. `done` follows."""
        if lane.steady and answered and seconds < self._patience.quick:
            return  # by far the most
        pace = self._patience.pace(seconds, answered=answered)
        lane.heard(pace, answered=answered, calm=pace == QUICK or self.places.calm)
        self.budget.judge(lane.account, pace)

    def done(self, place: Place) -> None:
        """A started delivery has ended."""
        lane = place.lane
        tenant = lane.tenant
        place.ended = True
        lane.in_flight -= 1
        self.held -= 1
        if place.size:
            self.budget.free(lane.account, place.size)
        if place.waits:
            tenant.waiting -= 1
            self.places.waiting -= 1
            self._move_one()
        else:
            tenant.taken -= 1
            self.places.give_up(place.pace, kept=place.kept)
        if lane.queue:
            self._line_up(lane)
        if tenant.passed_over:
            self._line_up_again(tenant)

    # holding back

    def hold(self, lane: Lane, until: float) -> bool:
        """Start nothing of the lane until `resume`. Whether that is longer than it is held already."""
        if lane.held_until is not None and lane.held_until >= until:
            return False
        lane.held_until = until
        return True

    def resume(self, lane: Lane) -> None:
        lane.held_until = None
        lane.start_small()
        self._line_up(lane)

    # waiting for answers

    def look(self) -> float | None:
        """Have those that wait too long for their answer give up their places; in how many seconds to look again."""
        now, started = self._now(), self._started
        while started:
            place = started[0]
            if not place.ended:
                left = place.since + self._patience.quick - now
                if left > 0:
                    return left
                self._has_waited(place)
            started.popleft()
        return None

    def _has_waited(self, place: Place) -> None:
        lane = place.lane
        if lane.pace in {NEW, QUICK}:
            lane.pace = SLOW
            self.budget.judge(lane.account, SLOW)
            self._line_up(lane)
        if not self._move(place):
            self._overdue.append(place)

    def _move(self, place: Place) -> bool:
        """Out of its place into a socket, where there is one left for it."""
        tenant = place.lane.tenant
        if self.places.waiting >= self.places.sockets or tenant.waiting >= self._per_tenant:
            return False
        tenant.taken -= 1
        tenant.waiting += 1
        self.places.give_up(place.pace, kept=place.kept)
        self.places.waiting += 1
        place.waits = True
        if tenant.passed_over:
            self._line_up_again(tenant)
        return True

    def _move_one(self) -> None:
        """A socket is free: for one of those that have found none so far."""
        while self._overdue:
            place = self._overdue.popleft()
            if not place.ended:
                if not self._move(place):
                    self._overdue.append(place)
                return

    # lining up

    def _line_up(self, lane: Lane) -> None:
        pace = lane.pace
        if lane.lined_up_as != pace and lane.ready:
            lane.lined_up_as = pace
            lane.tenant.lines[pace].append(lane)
            self._line_up_tenant(lane.tenant, pace)

    def _line_up_tenant(self, tenant: _Tenant, pace: int) -> None:
        if tenant.in_line[pace]:
            return
        if tenant.taken < self._per_tenant:
            tenant.in_line[pace] = True
            self._lines[pace].append(tenant)
        else:
            tenant.passed_over = True

    def _line_up_again(self, tenant: _Tenant) -> None:
        """Something of a tenant's has ended: it may have a turn again, and use what is kept."""
        tenant.passed_over = False
        for pace, lanes in enumerate(tenant.lines):
            if lanes:
                if tenant.may_use_kept(pace):
                    tenant.in_line[pace] = False  # it may stand aside; its place there is skipped when it comes up
                tenant.passed_over |= tenant.in_line[pace]
                self._line_up_tenant(tenant, pace)
