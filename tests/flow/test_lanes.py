from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import delivery, destination, event
from waypost.core.model import Destination
from waypost.flow.lanes import Lane, Lanes


def lanes(
    *,
    in_flight: int = 1000,
    per_destination: int = 1000,
    per_tenant: int = 1000,
    queue: int = 1000,
    queue_per_destination: int = 1000,
) -> Lanes:
    return Lanes(
        in_flight=in_flight,
        per_destination=per_destination,
        per_tenant=per_tenant,
        queue=queue,
        queue_per_destination=queue_per_destination,
    )


def to(no: int, tenant: str = "acme") -> Destination:
    return destination(tenant, f"des_{no}", no=no)


def enqueue(queue: Lanes, where: Destination, count: int) -> Lane:
    lane = queue.of(where)
    for _ in range(count):
        queue.add(lane, delivery(event(where.tenant_id), where))
    return lane


def started(queue: Lanes, most: int = 10_000) -> list[Lane]:
    order: list[Lane] = []
    while len(order) < most and (work := queue.next()) is not None:
        order.append(work[0])
    return order


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
    hanging = enqueue(queue, to(1), 10)
    enqueue(queue, to(2), 2)
    numbers = [lane.destination.no for lane in started(queue)]
    assert sorted(numbers) == [1, 1, 2, 2]
    queue.done(hanging)
    assert [lane.destination.no for lane in started(queue)] == [1]


def test_a_full_tenant_lets_the_others_pass() -> None:
    queue = lanes(per_tenant=3)
    first = enqueue(queue, to(1, "busy"), 5)
    enqueue(queue, to(2, "busy"), 5)
    enqueue(queue, to(3, "small"), 2)
    order = started(queue)
    assert [lane.destination.tenant_id for lane in order].count("busy") == 3
    assert [lane.destination.tenant_id for lane in order].count("small") == 2
    queue.done(first)
    assert len(started(queue)) == 1


def test_a_lane_that_nobody_answers_narrows_and_recovers() -> None:
    lane = lanes(per_destination=64).of(to(1))
    for _ in range(10):
        lane.heard(unresponsive=True)
    assert lane.width == 1
    for _ in range(100):
        lane.heard(unresponsive=False)
    assert lane.width == 64


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
        lane.heard(unresponsive=True)
    assert queue.room(lane) == 32


def test_a_full_process_leaves_every_lane_a_little_room() -> None:
    queue = lanes(queue=10)
    enqueue(queue, to(1), 10)
    other = queue.of(to(2))
    assert [queue.room(queue.of(to(1))), queue.room(other)] == [0, 4]
    queue.reserve([other])
    assert queue.room(other) == 3
    queue.decline(other)
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
    running: list[Lane] = []
    served = 0
    while True:
        while (work := queue.next()) is not None:
            running.append(work[0])
            served += 1
        assert len(running) == queue.in_flight <= in_flight
        for lane in queue.all():
            assert running.count(lane) == lane.in_flight <= per_destination
        for tenant in range(4):
            assert sum(lane.destination.tenant_id == f"tenant_{tenant}" for lane in running) <= per_tenant
        if not running:
            break
        queue.done(running.pop(dice.randrange(len(running))))  # type: ignore[attr-defined]
    assert served == total
    assert queue.held == 0
