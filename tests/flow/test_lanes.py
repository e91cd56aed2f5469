from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import delivery, destination, event
from waypost.core.model import Destination
from waypost.flow.lanes import Lane, Lanes, Place
from waypost.flow.places import HANGING, LITTLE, QUICK, SLOW, Patience, Shares


def lanes(
    *,
    in_flight: int = 1000,
    per_destination: int = 1000,
    per_tenant: int = 1000,
    queue: int = 1000,
    queue_per_destination: int = 1000,
    shares: Shares | None = None,
    **more: Any,
) -> Lanes:
    return Lanes(
        in_flight=in_flight,
        per_destination=per_destination,
        per_tenant=per_tenant,
        queue=queue,
        queue_per_destination=queue_per_destination,
        shares=shares or Shares(kept=0, new=1, slow=1, hanging=1),
        **more,
    )


def to(no: int, tenant: str = "acme") -> Destination:
    return destination(tenant, f"des_{no}", no=no)


def enqueue(queue: Lanes, where: Destination, count: int) -> Lane:
    lane = queue.of(where)
    for _ in range(count):
        queue.add(lane, delivery(event(where.tenant_id), where))
    return lane


def places(queue: Lanes, most: int = 10_000) -> list[Place]:
    """What starts now."""
    order: list[Place] = []
    while len(order) < most and (work := queue.next()) is not None:
        order.append(work[0])
    return order


def started(queue: Lanes, most: int = 10_000) -> list[Lane]:
    return [place.lane for place in places(queue, most)]


def test_tenants_take_turns() -> None:
    queue = lanes()
    busy, small = to(1, "busy"), to(2, "small")
    enqueue(queue, busy, 100)
    enqueue(queue, small, 2)
    tenants = [lane.destination.tenant_id for lane in started(queue, 4)]
    assert tenants == ["busy", "small", "busy", "small"]


def test_destinations_of_a_tenant_take_turns() -> None:
    queue = lanes()
    enqueue(queue, to(1), 100)
    enqueue(queue, to(2), 2)
    assert [lane.destination.no for lane in started(queue, 4)] == [1, 2, 1, 2]


def test_a_full_lane_lets_the_others_pass() -> None:
    queue = lanes(per_destination=2)
    enqueue(queue, to(1), 10)
    enqueue(queue, to(2), 2)
    running = places(queue)
    assert sorted(place.lane.destination.no for place in running) == [1, 1, 2, 2]
    queue.done(next(place for place in running if place.lane.destination.no == 1))
    assert [lane.destination.no for lane in started(queue)] == [1]


def test_a_full_tenant_lets_the_others_pass() -> None:
    queue = lanes(per_tenant=3)
    enqueue(queue, to(1, "busy"), 5)
    enqueue(queue, to(2, "busy"), 5)
    enqueue(queue, to(3, "small"), 2)
    running = places(queue)
    tenants = [place.lane.destination.tenant_id for place in running]
    assert (tenants.count("busy"), tenants.count("small")) == (3, 2)
    queue.done(running[tenants.index("busy")])
    assert len(started(queue)) == 1


def test_a_lane_that_nobody_answers_narrows_and_recovers() -> None:
    lane = lanes(per_destination=64).of(to(1))
    for _ in range(10):
        lane.heard(HANGING, answered=False)
    assert lane.width == 1
    for _ in range(100):
        lane.heard(QUICK, answered=True)
    assert (lane.width, lane.narrowed) == (64, False)


def test_a_newer_destination_makes_its_lane_stale() -> None:
    queue = lanes()
    assert not queue.of(to(1)).stale
    assert queue.of(destination("acme", "des_1", no=1, version=2)).stale


def test_a_removed_lane_is_forgotten() -> None:
    queue = lanes()
    lane = queue.of(to(1))
    queue.remove(lane)
    queue.remove(lane)
    assert queue.get(1) is None
    assert queue.of_tenant("acme") == []


def test_a_lane_that_nobody_answers_holds_less() -> None:
    queue = lanes(per_destination=64)
    lane = queue.of(to(1))
    assert queue.room(lane) == 1000
    for _ in range(6):
        lane.heard(QUICK, answered=False)
    assert queue.room(lane) == 32


def test_a_full_process_leaves_every_lane_a_little_room() -> None:
    queue = lanes(queue=10)
    enqueue(queue, to(1), 10)
    other = queue.of(to(2))
    assert [queue.room(queue.of(to(1))), queue.room(other)] == [0, 4]
    queue.reserve([other], 1)
    assert queue.room(other) == 3
    queue.decline(other, 1)
    assert (queue.room(other), queue.held) == (4, 10)


def test_draining_takes_the_newest() -> None:
    queue = lanes()
    lane = enqueue(queue, to(1), 5)
    oldest = list(lane.queue)[:2]
    assert len(queue.drain(lane, down_to=2)) == 3
    assert (list(lane.queue), queue.held) == (oldest, 2)
    assert queue.drain(lane, down_to=5) == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 5)), max_size=30),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_bounds_hold_and_everything_is_served_once(
    load: list[tuple[int, int, int]], in_flight: int, per_destination: int, per_tenant: int, dice: object
) -> None:
    queue = lanes(in_flight=in_flight, per_destination=per_destination, per_tenant=per_tenant)
    total = 0
    for tenant, number, count in load:
        enqueue(queue, to(tenant * 10 + number, f"tenant_{tenant}"), count)
        total += count
    running: list[Place] = []
    served = 0
    while True:
        while (work := queue.next()) is not None:
            running.append(work[0])
            served += 1
        assert len(running) == queue.in_flight <= in_flight
        for lane in queue.all():
            assert sum(place.lane is lane for place in running) == lane.in_flight <= per_destination
        for tenant in range(4):
            mine = [place for place in running if place.lane.destination.tenant_id == f"tenant_{tenant}"]
            assert len(mine) <= per_tenant
        if not running:
            break
        queue.done(running.pop(dice.randrange(len(running))))  # type: ignore[attr-defined]
    assert served == total
    assert queue.held == 0


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def crowd(time: Time, **bounds: Any) -> Lanes:
    """As large as a process is by default, and with its shares."""
    defaults: dict[str, Any] = {
        "per_destination": 64,
        "per_tenant": 500,
        "queue": 20_000,
        "sockets": 4_000,
        "first": 4,
        "now": time,
    }
    return lanes(shares=Shares(), **(defaults | bounds))


def end(queue: Lanes, place: Place, seconds: float, *, answered: bool = True) -> None:
    queue.heard(place.lane, seconds, answered=answered)
    queue.done(place)


def answers_quickly(queue: Lanes, where: Destination) -> None:
    """It has done so, often enough to be as wide as it may be."""
    for _ in range(64):
        queue.heard(queue.of(where), 0.01, answered=True)


def answer_all(queue: Lanes, where: Destination) -> int:
    """Everything that waits for this destination is answered at once, as long as it finds places; how much that was."""
    answered = 0
    while running := places(queue):
        for place in running:
            if place.lane.destination == where:
                end(queue, place, 0.01)
                answered += 1
        if not any(place.lane.destination == where for place in running):
            break
    return answered


class TestHangingReceivers:
    def test_a_new_destination_starts_narrow_and_is_widened_by_quick_answers(self) -> None:
        queue = crowd(Time())
        enqueue(queue, to(1), 500)
        widths = []
        for _ in range(6):
            running = places(queue)
            widths.append(len(running))
            for place in running:
                end(queue, place, 0.01)
        assert widths == [4, 8, 16, 32, 64, 64]

    def test_sixteen_of_them_leave_places(self) -> None:
        time = Time()
        queue = crowd(time)
        for number in range(16):
            enqueue(queue, to(number + 1, f"hanging_{number}"), 200).width = 64
        stuck = places(queue)
        assert len(stuck) == 500  # no more for destinations that have not answered yet
        healthy = to(100, "healthy")
        enqueue(queue, healthy, 50)
        assert answer_all(queue, healthy) == 50

    def test_sixteen_that_have_answered_and_now_hang_leave_places(self) -> None:
        queue = crowd(Time())
        for number in range(16):
            answers_quickly(queue, to(number + 1, f"hanging_{number}"))
            enqueue(queue, to(number + 1, f"hanging_{number}"), 200)
        assert len(places(queue)) == 900
        healthy = to(100, "healthy")
        enqueue(queue, healthy, 50)
        assert answer_all(queue, healthy) == 50

    def test_who_waits_long_gives_the_place_up(self) -> None:
        time = Time()
        queue = crowd(time)
        enqueue(queue, to(1), 4)
        running = places(queue)
        assert queue.look() == 1.0
        time.now = 0.75
        end(queue, running.pop(), 0.75)
        assert queue.look() == 0.25
        time.now = 1.0
        assert queue.look() is None
        assert (queue.places.taken, queue.places.waiting, queue.in_flight) == (0, 3, 3)
        for place in running:
            end(queue, place, 30, answered=False)
        assert (queue.in_flight, queue.held) == (0, 0)

    def test_five_hundred_tenants_leave_places_and_are_tried_one_by_one_afterwards(self) -> None:
        time = Time()
        queue = crowd(time)
        hanging = [to(number + 1, f"hanging_{number}") for number in range(500)]
        healthy = to(1_000, "healthy")
        for where in hanging:
            enqueue(queue, where, 2)
        first = places(queue)
        enqueue(queue, healthy, 2)
        time.now = 1.0
        queue.look()
        assert answer_all(queue, healthy) == 2
        time.now = 30.0
        queue.look()
        for place in [*first, *places(queue)]:
            if not place.ended:
                end(queue, place, 30, answered=False)
        while again := places(queue):
            for place in again:
                end(queue, place, 30, answered=False)
        for where in hanging:  # the wave of retries
            enqueue(queue, where, 2)
        enqueue(queue, healthy, 100)
        running = places(queue)
        known = [place for place in running if place.lane.destination != healthy]
        assert len(known) == 62
        assert len({place.lane for place in known}) == len(known)
        for place in running:
            if place.lane.destination == healthy:
                end(queue, place, 0.01)
        assert answer_all(queue, healthy) > 90

    def test_without_sockets_the_places_are_kept_apart_all_the_same(self) -> None:
        time = Time()
        queue = crowd(time, sockets=0)
        for number in range(500):
            enqueue(queue, to(number + 1, f"hanging_{number}"), 4)
        places(queue)
        time.now = 5.0
        assert queue.look() is None
        assert (queue.places.waiting, queue.places.taken) == (0, 500)
        healthy = to(1_000, "healthy")
        answers_quickly(queue, healthy)
        enqueue(queue, healthy, 20)
        assert answer_all(queue, healthy) == 20

    def test_those_that_found_no_socket_get_the_next_that_is_free(self) -> None:
        time = Time()
        queue = crowd(time, sockets=2)
        enqueue(queue, to(1), 4)
        running = places(queue)
        time.now = 1.0
        queue.look()
        assert (queue.places.taken, queue.places.waiting) == (2, 2)
        waits = next(place for place in running if place.waits)
        end(queue, waits, 2.0)
        assert (queue.places.taken, queue.places.waiting) == (1, 2)

    def test_slow_answers_of_two_tenants_keep_no_third_one_waiting(self) -> None:
        time = Time()
        queue = crowd(time)
        for number in range(16):
            answers_quickly(queue, to(number + 1, f"slow_{number % 2}"))
            enqueue(queue, to(number + 1, f"slow_{number % 2}"), 1_000 // 16)
        places(queue)
        time.now = 1.0
        queue.look()
        assert queue.places.waiting == 900
        third = to(100, "third")
        enqueue(queue, third, 300)
        assert answer_all(queue, third) == 300

    def test_what_is_kept_is_for_tenants_with_little_in_flight(self) -> None:
        queue = crowd(Time(), in_flight=100, sockets=0)
        busy, quiet = to(1, "busy"), to(2, "quiet")
        for where in (busy, quiet):
            answers_quickly(queue, where)
        for number in range(3, 9):
            answers_quickly(queue, to(number, "busy"))
            enqueue(queue, to(number, "busy"), 64)
        running = places(queue)
        assert len(running) == 90
        enqueue(queue, quiet, 10)
        kept = places(queue)
        assert [place.lane.destination for place in kept] == [quiet] * LITTLE
        end(queue, kept[0], 0.01)
        assert [place.lane.destination for place in places(queue)] == [quiet]
        end(queue, running[0], 0.01)
        assert len(places(queue)) == 1

    def test_answers_that_take_long_narrow_as_timeouts_do(self) -> None:
        queue = crowd(Time())
        lane = queue.of(to(1))
        lane.width = 64
        queue.heard(lane, 25.0, answered=True)
        assert (lane.width, lane.pace) == (32, HANGING)
        queue.heard(lane, 3.0, answered=True)
        assert (lane.width, lane.pace) == (33, SLOW)

    def test_refusals_at_once_do_no_harm(self) -> None:
        queue = crowd(Time())
        for number in range(500):
            enqueue(queue, to(number + 1, f"failing_{number}"), 2)
        healthy = to(1_000, "healthy")
        enqueue(queue, healthy, 40)
        ended: list[Lane] = []
        while running := places(queue):
            for place in running:
                end(queue, place, 0.01)
            ended += [place.lane for place in running]
        assert len(ended) == 1_040
        assert queue.in_flight == 0

    def test_a_wave_of_answers_makes_a_hanging_lane_quick_again(self) -> None:
        queue = crowd(Time())
        lane = queue.of(to(1))
        for _ in range(5):
            lane.heard(HANGING, answered=False)
        enqueue(queue, to(1), 10)
        (place,) = places(queue)
        end(queue, place, 0.01)
        assert (lane.pace, lane.width, len(places(queue))) == (QUICK, 2, 2)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 6), st.sampled_from([0.01, 2.0, 30.0]), st.booleans()), max_size=60
    ),
    st.integers(1, 12),
    st.integers(0, 6),
    st.randoms(use_true_random=False),
)
def test_whatever_hangs_everything_is_served_and_no_count_is_lost(
    load: list[tuple[int, int, float, bool]], in_flight: int, sockets: int, dice: Any
) -> None:
    time = Time()
    queue = crowd(time, in_flight=in_flight, sockets=sockets, per_destination=4, first=2, patience=Patience())
    manners = {number: (seconds, answered) for number, _, seconds, answered in load}
    total = sum(enqueue_and_count(queue, number, count) for number, count, _, _ in load)
    running: list[Place] = []
    served = 0
    while True:
        fresh = places(queue)
        running += fresh
        served += len(fresh)
        assert queue.places.taken <= in_flight
        assert queue.places.waiting <= sockets
        assert sum(lane.in_flight for lane in queue.all()) == queue.in_flight == len(running)
        if not running:
            break
        time.now += dice.choice([0.1, 1.5])
        queue.look()
        place = running.pop(dice.randrange(len(running)))
        seconds, answered = manners[place.lane.destination.no]
        end(queue, place, seconds, answered=answered)
    assert (served, queue.held, queue.in_flight, queue.budget.held) == (total, 0, 0, 0)


def enqueue_and_count(queue: Lanes, number: int, count: int) -> int:
    enqueue(queue, to(number, f"tenant_{number % 4}"), count)
    return count
