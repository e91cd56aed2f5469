"""The dispatcher over a real store, with a destination type whose receivers do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.flow.house import FAST, House, Receivers
from waypost.connect.connector import Message
from waypost.core.errors import BadRequest, DeliveryError, NotFound, Unavailable
from waypost.core.model import DeliveryState, Destination
from waypost.core.retry import RetryOverrides, RetryPolicy
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.flow.places import HANGING
from waypost.store.base import Accepted, Publication, Recorded, Result


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
def bounds() -> Bounds:
    return Bounds(sweep_interval=0.05, shutdown=0.2)


@pytest.fixture
def policy() -> RetryPolicy:
    return FAST


@pytest.fixture
def attempt_timeout() -> float:
    return 30.0


@pytest.fixture
async def house(
    tmp_path: Path, receivers: Receivers, bounds: Bounds, policy: RetryPolicy, attempt_timeout: float
) -> AsyncIterator[House]:
    built = House(tmp_path, receivers, bounds, policy, attempt_timeout)
    await built.start()
    yield built
    await built.close()


def fails(code: str = "503", **details: Any) -> Callable[[Message], None]:
    def fail(_: Message) -> None:
        raise DeliveryError(code, f"the receiver answered {code}", **details)

    return fail


def succeeds(_: Message) -> None:
    pass


def in_turn(behaviours: Sequence[Callable[[Message], Any]]) -> Callable[[Message], Any]:
    following = iter(behaviours)

    def behave(message: Message) -> Any:
        return next(following)(message)

    return behave


async def hangs(_: Message) -> None:
    await asyncio.sleep(3600)


async def test_an_event_goes_to_everybody_who_wants_it(house: House) -> None:
    first, second = await house.add("des_1"), await house.add("des_2")
    other = await house.add("des_3", topics=("user.*",))
    new = await house.publish(metadata={"source": "crm"})
    for to in (first, second):
        await house.until(new, to, DeliveryState.DELIVERED)
    (attempt, _) = await house.attempts(new)
    assert (attempt.attempt.ok, attempt.attempt.code, attempt.attempt.number) == (True, "ack", 1)
    assert house.receivers.ids(other.id) == []
    (_, message), *_ = house.receivers.seen
    assert message.event == new
    assert message.metadata["source"] == "crm"


async def test_failures_are_retried_until_they_succeed(house: House) -> None:
    to = await house.add()
    answers = [fails(), fails("timeout"), succeeds]
    house.receivers.behaviour[to.id] = in_turn(answers)
    new = await house.publish()
    await house.until(new, to, DeliveryState.DELIVERED)
    made = [(kept.attempt.number, kept.attempt.code, kept.attempt.manual) for kept in await house.attempts(new)]
    assert made == [(1, "503", False), (2, "timeout", False), (3, "ack", False)]


async def test_a_failure_says_why(house: House) -> None:
    to = await house.add()
    house.receivers.behaviour[to.id] = fails("410", retryable=False, response={"status_code": 410, "body": "gone"})
    new = await house.publish()
    await house.until(new, to, DeliveryState.EXHAUSTED)
    (kept,) = await house.attempts(new)
    assert kept.attempt.detail == "the receiver answered 410"
    assert kept.attempt.response == {"status_code": 410, "body": "gone"}


async def test_a_destinations_own_policy_wins(house: House) -> None:
    to = await house.add(retry_policy=RetryOverrides(limit=0))
    house.receivers.behaviour[to.id] = fails()
    new = await house.publish()
    await house.until(new, to, DeliveryState.EXHAUSTED)
    assert len(await house.attempts(new)) == 1


async def test_a_crashing_type_is_a_failed_attempt_not_a_lost_delivery(house: House) -> None:
    to = await house.add()
    answers = iter([ZeroDivisionError, None])

    def behave(_: Message) -> None:
        error = next(answers)
        if error is not None:
            raise error

    house.receivers.behaviour[to.id] = behave
    new = await house.publish()
    await house.until(new, to, DeliveryState.DELIVERED)
    assert [kept.attempt.code for kept in await house.attempts(new)] == ["internal_error", "ack"]


@pytest.mark.parametrize(
    "bounds", [Bounds(concurrency=4, concurrency_per_destination=2, sweep_interval=0.05, shutdown=0.2)]
)
async def test_a_hanging_destination_delays_nobody_else(house: House) -> None:
    hanging, healthy = await house.add("des_hanging"), await house.add("des_healthy")
    house.receivers.behaviour[hanging.id] = hangs
    published = [await house.publish() for _ in range(50)]
    for new in published:
        await house.until(new, healthy, DeliveryState.DELIVERED)
    assert len(house.receivers.ids(hanging.id)) <= 2


@pytest.mark.parametrize(
    "bounds", [Bounds(queue=20, queue_per_destination=10, concurrency_per_destination=2, sweep_interval=0.05)]
)
async def test_what_does_not_fit_in_memory_waits_in_the_store(house: House) -> None:
    to = await house.add()
    gate = asyncio.Event()
    house.receivers.behaviour[to.id] = lambda _: gate.wait()
    published = [await house.publish() for _ in range(100)]
    assert house.dispatcher._lanes.held <= 10
    gate.set()
    for new in published:
        await house.until(new, to, DeliveryState.DELIVERED)
    assert sorted(house.receivers.ids(to.id)) == sorted(new.id for new in published)


@pytest.mark.parametrize("attempt_timeout", [0.1])
async def test_an_attempt_has_a_bound_whatever_the_type_does(house: House) -> None:
    to = await house.add()
    house.receivers.behaviour[to.id] = in_turn([hangs, succeeds])
    new = await house.publish()
    await house.until(new, to, DeliveryState.DELIVERED)
    assert [kept.attempt.code for kept in await house.attempts(new)] == ["timeout", "ack"]


@pytest.mark.parametrize("attempt_timeout", [0.1])
@pytest.mark.parametrize("bounds", [Bounds(lease=0.3, sweep_interval=0.05, shutdown=0.2)])
async def test_a_delivery_lost_in_memory_is_found_by_the_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    to = await house.add()
    with monkeypatch.context() as patch:
        patch.setattr(house.dispatcher, "_pump", lambda: None)
        new = await house.publish()
        house.dispatcher._lanes.drain(house.dispatcher._lanes.of(to))
    await house.until(new, to, DeliveryState.DELIVERED)


@pytest.mark.parametrize("attempt_timeout", [0.25])
@pytest.mark.parametrize(
    "bounds", [Bounds(lease=0.6, concurrency_per_destination=1, sweep_interval=0.02, shutdown=0.2)]
)
async def test_no_delivery_is_attempted_twice_at_once(house: House) -> None:
    """Waiting for their turn takes these deliveries longer than their lease."""
    to = await house.add()
    under_way: list[str] = []

    async def slowly(message: Message) -> None:
        assert message.event.id not in under_way
        under_way.append(message.event.id)
        await asyncio.sleep(0.15)
        under_way.remove(message.event.id)

    house.receivers.behaviour[to.id] = slowly
    published = [await house.publish() for _ in range(8)]
    for new in published:
        await house.until(new, to, DeliveryState.DELIVERED)
    assert sorted(house.receivers.ids(to.id)) == sorted(new.id for new in published)


@pytest.mark.parametrize(
    "bounds", [Bounds(queue=60, queue_per_destination=60, concurrency_per_destination=8, sweep_interval=0.02)]
)
async def test_dead_destinations_leave_room_for_the_healthy(house: House) -> None:
    """Enough waits for the dead ones to fill the process many times over."""
    dead = [await house.add(f"des_dead_{n}", tenant="dead") for n in range(4)]
    for to in dead:
        house.receivers.behaviour[to.id] = fails("timeout")
    healthy = await house.add("des_healthy")
    for _ in range(150):
        await house.publish("dead")
    published = [await house.publish() for _ in range(100)]
    for new in published:
        await house.until(new, healthy, DeliveryState.DELIVERED)


@pytest.mark.parametrize("bounds", [Bounds(queue=20, sweep_interval=0.05, shutdown=0.2)])
async def test_events_being_accepted_count_as_held(house: House) -> None:
    to = await house.add()
    house.receivers.behaviour[to.id] = hangs
    await asyncio.gather(*(house.publish() for _ in range(200)))
    assert house.dispatcher._lanes.held <= 20


async def test_a_batch_that_cannot_be_routed_keeps_no_places(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.add()
    known = await house.publish()

    async def refuse(_: str) -> tuple[Destination, ...]:
        raise Unavailable("the file is locked")

    monkeypatch.setattr(house.store, "destinations", refuse)
    await asyncio.sleep(0.1)
    before = house.dispatcher._lanes.held
    with pytest.raises(Unavailable):
        await house.publisher.publish_many([known, structs.replace(known, tenant_id="not_in_memory")])
    assert house.dispatcher._lanes.held == before


async def test_others_get_their_turn_while_a_batch_is_filtered(house: House) -> None:
    """Five destinations, each with a filter that would take all steps that an event has."""
    costly = {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * 400}}}}
    for number in range(5):
        await house.add(f"des_{number}", filter=costly)
    cheap = await house.add("des_cheap", filter={"data": {"n": 1}})
    data = b'{"n": 1, "l": [' + b",".join([b'{"k": 1}'] * 1_000) + b"]}"
    known = await house.publish()
    batch = [structs.replace(known, seq=known.seq + n, id=f"evt_{n}", data=data) for n in range(1, 4)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    routings = await house.publisher._routings(batch)
    beside.cancel()
    assert turns >= len(batch)
    assert all(routing.matched == (cheap,) for routing in routings)
    assert all(0 < routing.spent <= 100_000 for routing in routings)


@pytest.mark.parametrize("bounds", [Bounds(concurrency_per_destination=16, sweep_interval=0.05, shutdown=0.2)])
async def test_a_recovered_destination_gets_its_width_back(house: House) -> None:
    to = await house.add()
    lane = house.dispatcher._lanes.of(to)
    for _ in range(10):
        lane.heard(HANGING, answered=False)
    most = 0

    async def count(_: Message) -> None:
        nonlocal most
        most = max(most, lane.in_flight)
        await asyncio.sleep(0.002)

    house.receivers.behaviour[to.id] = count
    published = await asyncio.gather(*(house.publish() for _ in range(30)))
    for _ in range(10):
        published += await asyncio.gather(*(house.publish() for _ in range(30)))
    for new in published:
        await house.until(new, to, DeliveryState.DELIVERED)
    assert most >= 8


async def test_a_result_that_the_store_refuses_is_recorded_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    to = await house.add()
    record, refusals = house.store.record, iter([True])

    def sometimes(made: Result) -> asyncio.Future[Recorded | None]:
        if next(refusals, False):
            refused: asyncio.Future[Recorded | None] = asyncio.get_running_loop().create_future()
            refused.set_exception(Unavailable("the disk is full"))
            return refused
        return record(made)

    monkeypatch.setattr(house.store, "record", sometimes)
    new = await house.publish()
    await house.until(new, to, DeliveryState.DELIVERED)
    assert len(house.receivers.seen) == len(await house.attempts(new)) == 1


async def test_a_worker_survives_a_store_that_cannot_be_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    to = await house.add()
    first = await house.publish()
    await house.until(first, to, DeliveryState.DELIVERED)
    read, refusals = house.store.destination_by_no, iter([True])

    async def sometimes(no: int) -> Destination | None:
        if next(refusals, False):
            raise Unavailable("the file is locked")
        return await read(no)

    monkeypatch.setattr(house.store, "destination_by_no", sometimes)
    house.dispatcher._lanes.of(to).stale += 1
    others = [await house.publish() for _ in range(5)]
    for new in others[1:]:
        await house.until(new, to, DeliveryState.DELIVERED)


async def test_a_restart_goes_on_where_the_old_process_stopped(house: House, tmp_path: Path) -> None:
    to = await house.add()
    house.receivers.behaviour[to.id] = hangs
    published = [await house.publish() for _ in range(20)]
    await house.close()
    house.receivers.behaviour.clear()
    again = House(tmp_path, house.receivers, Bounds(sweep_interval=0.05), FAST)
    await again.start()
    for new in published:
        await again.until(new, to, DeliveryState.DELIVERED)
    await again.close()


class TestChanges:
    async def test_a_rotated_secret_is_used_by_the_very_next_attempt(self, house: House) -> None:
        to = await house.add(credentials={"secret": "old"})
        first = await house.publish()
        await house.until(first, to, DeliveryState.DELIVERED)
        await house.change(to, credentials={"secret": "new"})
        second = await house.publish()
        await house.until(second, to, DeliveryState.DELIVERED)
        used = [(await house.attempts(new))[0].attempt.response for new in (first, second)]
        assert used == [{"secret": "old"}, {"secret": "new"}]
        assert len(house.receivers.closed) == 1

    async def test_a_slow_answer_to_an_earlier_change_is_not_believed(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        to = await house.add()
        first = await house.publish()
        await house.until(first, to, DeliveryState.DELIVERED)
        read, delays = house.store.destination_by_no, iter([0.1])

        async def unevenly(no: int) -> Destination | None:
            found = await read(no)
            await asyncio.sleep(next(delays, 0))
            return found

        monkeypatch.setattr(house.store, "destination_by_no", unevenly)
        second = await house.change(to, metadata={"n": "2"})
        await asyncio.sleep(0.02)
        third = await house.change(second, disabled_at=clock.now())
        await asyncio.sleep(0.3)
        lane = house.dispatcher._lanes.of(third)
        assert (lane.destination.version, lane.shut, lane.stale) == (third.version, True, 0)

    async def test_no_connection_is_closed_under_a_send(self, house: House) -> None:
        to = await house.add()
        gate = asyncio.Event()
        house.receivers.behaviour[to.id] = lambda _: gate.wait()
        new = await house.publish()
        async with asyncio.timeout(5):
            while not house.receivers.seen:
                await asyncio.sleep(0.005)
        await house.change(to, metadata={"team": "x"})
        await asyncio.sleep(0.05)
        assert house.receivers.closed == []
        gate.set()
        await house.until(new, to, DeliveryState.DELIVERED)
        assert len(house.receivers.closed) == 1

    @pytest.mark.parametrize("policy", [RetryPolicy(schedule=(0.2, 0.01), jitter=0)])
    async def test_retries_pause_while_disabled_and_go_on_afterwards(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = fails()
        new = await house.publish()
        async with asyncio.timeout(5):
            while not await house.attempts(new):
                await asyncio.sleep(0.005)
        house.receivers.behaviour.clear()
        disabled = await house.change(to, disabled_at=clock.now())
        await asyncio.sleep(0.5)
        assert await house.state(new, to) is DeliveryState.PENDING
        await house.change(disabled, disabled_at=None)
        await house.until(new, to, DeliveryState.DELIVERED)

    async def test_a_deleted_destination_gets_nothing_more(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = fails()
        new = await house.publish()
        await house.store.delete_destination("acme", to.id, now=clock.now())
        house.directory.forget("acme")
        house.dispatcher.changed("acme")
        await house.until(new, to, DeliveryState.CANCELLED)
        await asyncio.sleep(0.1)
        made = len(house.receivers.seen)
        await asyncio.sleep(0.1)
        assert len(house.receivers.seen) == made <= 2

    async def test_an_event_routed_before_and_accepted_after_a_deletion_is_not_sent(self, house: House) -> None:
        to = await house.add()
        accept = house.store.accept

        async def after_the_deletion(publication: Publication) -> Accepted:
            await house.store.delete_destination("acme", to.id, now=clock.now())
            house.directory.forget("acme")
            house.dispatcher.changed("acme")
            return await accept(publication)

        house.store.accept = after_the_deletion  # type: ignore[method-assign]
        new = await house.publish()
        await house.until(new, to, DeliveryState.CANCELLED)
        assert house.receivers.seen == []


class TestManualRetry:
    async def test_sends_again_what_was_delivered(self, house: House) -> None:
        to = await house.add()
        new = await house.publish()
        await house.until(new, to, DeliveryState.DELIVERED)
        await house.replayer.retry(new.id, to.id, None)
        async with asyncio.timeout(5):
            while len(await house.attempts(new)) < 2:
                await asyncio.sleep(0.005)
        second = (await house.attempts(new))[1].attempt
        assert (second.number, second.manual, second.ok) == (2, True, True)

    @pytest.mark.parametrize("bounds", [Bounds(sweep_interval=60, shutdown=0.2)])
    async def test_asked_for_during_an_attempt_follows_at_once(self, house: House) -> None:
        to = await house.add()
        gate = asyncio.Event()
        house.receivers.behaviour[to.id] = in_turn([lambda _: gate.wait(), succeeds])
        new = await house.publish()
        await house.replayer.retry(new.id, to.id, None)
        await asyncio.sleep(0.05)
        gate.set()
        async with asyncio.timeout(5):
            while len(await house.attempts(new)) < 2:
                await asyncio.sleep(0.005)
        assert [kept.attempt.manual for kept in await house.attempts(new)] == [False, True]

    async def test_refuses_what_makes_no_sense(self, house: House) -> None:
        to, disabled = await house.add(), await house.add("des_2", disabled_at=clock.now())
        picky = await house.add("des_3", topics=("user.*",))
        new = await house.publish()
        for arguments, error, sentence in (
            (("unknown", to.id, None), NotFound, "event not found"),
            ((new.id, "unknown", None), NotFound, "destination not found"),
            ((new.id, to.id, "umbrella"), NotFound, "event not found"),
            ((new.id, disabled.id, None), BadRequest, "Destination is disabled"),
            ((new.id, picky.id, None), BadRequest, "does not match"),
        ):
            with pytest.raises(error, match=sentence):
                await house.replayer.retry(*arguments)


async def test_the_numbers_add_up(house: House) -> None:
    to = await house.add()
    answers = [fails(), succeeds]
    house.receivers.behaviour[to.id] = in_turn(answers)
    new = await house.publish()
    await house.until(new, to, DeliveryState.DELIVERED)
    await house.publish(topic="nobody", tenant="unknown")
    shown = house.metrics.exposition().decode()
    for line in (
        "waypost_events_published_total 2.0",
        "waypost_events_unmatched_total 1.0",
        "waypost_deliveries_created_total 1.0",
        'waypost_attempts_total{destination_type="webhook",status="failed"} 1.0',
        'waypost_attempts_total{destination_type="webhook",status="success"} 1.0',
        "waypost_retries_scheduled_total 1.0",
    ):
        assert line in shown
