"""Attempts that fail for reasons of our own, lanes that were asked to wait, attempts that a stop cuts off."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.flow.house import FAST, House, Receivers
from waypost.connect.channel import Notice
from waypost.connect.connector import Message
from waypost.core.errors import DeliveryError, MissingExtra, SettingsError, Unavailable
from waypost.core.health import WELL
from waypost.core.model import SECOND, DeliveryState, Event, Micros
from waypost.core.retry import RetryPolicy
from waypost.core.settle import INTERRUPTED
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.net.shares import on_behalf_of

HOUR = 3_600.0


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
async def house(tmp_path: Path, receivers: Receivers) -> AsyncIterator[House]:
    built = House(tmp_path, receivers, Bounds(sweep_interval=0.05, shutdown=0.2), FAST)
    await built.start()
    yield built
    await built.close()


def wrapped() -> DeliveryError:
    error = DeliveryError("connection_refused", "the socket could not be opened")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


def first(times: int, make: Callable[[], Exception]) -> Callable[[Message], None]:
    """Fails so often, then succeeds."""
    left = iter(range(times))

    def behave(_: Message) -> None:
        if next(left, None) is not None:
            raise make()

    return behave


async def due_of(house: House, event: Event, destination_no: int) -> Micros:
    found = await house.store.deliveries.one(event.seq, destination_no, tenant_id=None)
    assert found is not None
    assert found.due is not None
    return found.due


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


class TestOwnTrouble:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda: Unavailable("no place in the resolver is free", reason="resolver"), "resolver"),
            (lambda: Unavailable("something is wanting"), "other"),
            (lambda: OSError(errno.EMFILE, "Too many open files"), "descriptors"),
            (wrapped, "descriptors"),
            (MemoryError, "memory"),
            (lambda: MissingExtra("destination type kafka", "kafka"), "missing_extra"),
            (lambda: SettingsError("the private key of the settings cannot be used"), "configuration"),
        ],
    )
    async def test_is_nobodys_failed_attempt(self, house: House, make: Callable[[], Exception], reason: str) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = first(1, make)
        new = await house.publish()
        await house.until(new, to, DeliveryState.DELIVERED)
        (kept,) = await house.attempts(new)
        assert (kept.attempt.number, kept.attempt.ok) == (1, True)
        assert await house.store.alerting.health(to.no) == WELL
        assert f'waypost_attempts_put_off_total{{reason="{reason}"}} 1.0' in house.metrics.exposition().decode()

    async def test_a_lane_that_meets_it_waits_with_all_it_holds(self, house: House) -> None:
        to = await house.add()

        async def wanting(_: Message) -> None:
            raise Unavailable("no descriptor is left", reason="descriptors")

        house.receivers.behaviour[to.id] = wanting
        with structlog.testing.capture_logs() as lines:
            published = [await house.publish() for _ in range(200)]
            await until(lambda: len(house.receivers.seen) >= 8)
        assert len(house.receivers.seen) < 40
        assert len([line for line in lines if line["event"] == "attempts_put_off"]) == 1
        house.receivers.behaviour.clear()
        for new in published:
            await house.until(new, to, DeliveryState.DELIVERED)
            assert [kept.attempt.number for kept in await house.attempts(new)] == [1]

    async def test_a_manual_retry_stays_one(self, house: House) -> None:
        to = await house.add()
        new = await house.publish()
        await house.until(new, to, DeliveryState.DELIVERED)
        house.receivers.behaviour[to.id] = first(1, MemoryError)
        await house.replayer.retry(new.id, to.id, None)
        await until(lambda: len(house.receivers.seen) == 3)
        await house.until(new, to, DeliveryState.DELIVERED)
        async with asyncio.timeout(10):
            while len(made := await house.attempts(new)) < 2:
                await asyncio.sleep(0.01)
        assert [(kept.attempt.number, kept.attempt.manual) for kept in made] == [(1, False), (2, True)]

    async def test_an_alert_is_told_later_and_its_channel_is_not_blamed(self, house: House) -> None:
        channel = await house.add_channel()
        refusals = iter([OSError(errno.ENFILE, "Too many open files in system")])

        def behave(_: Notice) -> None:
            if (error := next(refusals, None)) is not None:
                raise error

        house.pagers.behaviour["ops"] = behave
        with pytest.raises(Unavailable):
            await house.senders.send(channel, house.writer.test(house.sequence.next()))
        await house.senders.send(channel, house.writer.test(house.sequence.next()))


class TestAskedToWait:
    async def test_the_whole_lane_waits_in_the_store(self, house: House) -> None:
        to, other = await house.add("des_1"), await house.add("des_2")
        limited = DeliveryError("429", "slow down", retry_after=HOUR)
        house.receivers.behaviour[to.id] = first(1_000, lambda: limited)
        began = clock.now()
        published = [await house.publish() for _ in range(60)]
        for new in published:
            await house.until(new, other, DeliveryState.DELIVERED)
        lane = house.dispatcher._lanes.of(to)
        await until(lambda: not lane.held)
        assert len(house.receivers.ids(to.id)) <= 4
        tried = set(house.receivers.ids(to.id))
        dues = [await due_of(house, new, to.no) for new in published if new.id in tried]
        assert all(due >= began + round(HOUR * SECOND) for due in dues)
        late = await house.publish()
        await house.until(late, other, DeliveryState.DELIVERED)
        await asyncio.sleep(0.2)  # the sweep looks several times
        assert set(house.receivers.ids(to.id)) == tried
        assert "waypost_deliveries_oldest_due_age_seconds 0.0" in house.metrics.exposition().decode()

    async def test_too_many_at_once_narrows_even_where_no_wait_is_named(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = first(1_000, lambda: DeliveryError("429", "slow down"))
        for _ in range(4):
            await house.publish()
        lane = house.dispatcher._lanes.of(to)
        await until(lambda: lane.width == 1)

    async def test_goes_on_when_the_wait_is_over(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = first(1, lambda: DeliveryError("503", "busy", retry_after=0.3))
        published = [await house.publish() for _ in range(40)]
        for new in published:
            await house.until(new, to, DeliveryState.DELIVERED)

    async def test_a_person_need_not_wait(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = first(1, lambda: DeliveryError("429", "slow down", retry_after=HOUR))
        new = await house.publish()
        await until(lambda: house.dispatcher._lanes.of(to).held_until is not None)
        await house.replayer.retry(new.id, to.id, None)
        await house.until(new, to, DeliveryState.DELIVERED)

    async def test_nor_who_changes_the_destination(self, house: House) -> None:
        to = await house.add()
        house.receivers.behaviour[to.id] = first(1, lambda: DeliveryError("429", "slow down", retry_after=HOUR))
        await house.publish()
        await until(lambda: house.dispatcher._lanes.of(to).held_until is not None)
        await house.change(to, metadata={"plan": "larger"})
        later = await house.publish()
        await house.until(later, to, DeliveryState.DELIVERED)

    async def test_no_longer_than_the_policy_allows(self, tmp_path: Path, receivers: Receivers) -> None:
        policy = RetryPolicy(limit=3, base_seconds=0.01, factor=1, max_wait_seconds=0.2)
        house = House(tmp_path, receivers, Bounds(sweep_interval=0.05, shutdown=0.2), policy)
        await house.start()
        to = await house.add()
        receivers.behaviour[to.id] = first(1, lambda: DeliveryError("429", "slow down", retry_after=HOUR))
        new = await house.publish()
        await house.until(new, to, DeliveryState.DELIVERED)
        await house.close()


class TestAStop:
    async def test_an_attempt_that_it_cuts_off_is_on_record(self, tmp_path: Path, receivers: Receivers) -> None:
        house = House(tmp_path, receivers, Bounds(sweep_interval=0.05, shutdown=0.05), FAST)
        await house.start()
        to = await house.add()
        receivers.behaviour[to.id] = lambda _: asyncio.sleep(3600)
        new = await house.publish()
        await until(lambda: receivers.seen)
        await house.close()
        receivers.behaviour.clear()
        again = House(tmp_path, receivers, Bounds(sweep_interval=0.05, shutdown=0.2), FAST)
        await again.start()
        await again.until(new, to, DeliveryState.DELIVERED)
        made = [(kept.attempt.number, kept.attempt.code, kept.attempt.ok) for kept in await again.attempts(new)]
        assert made == [(1, INTERRUPTED, False), (2, "ack", True)]
        assert await again.store.alerting.health(to.no) == WELL
        (interrupted, _) = await again.attempts(new)
        assert "sent again" in (interrupted.attempt.detail or "")
        found = await again.store.deliveries.one(new.seq, to.no, tenant_id=None)
        assert found is not None
        assert found.retries == 0
        await again.close()


async def test_names_are_looked_up_on_behalf_of_the_destinations_tenant(house: House) -> None:
    charged: list[str] = []
    for tenant in ("acme", "globex"):
        to = await house.add(f"to_{tenant}", tenant)
        house.receivers.behaviour[to.id] = lambda _: charged.append(on_behalf_of.get())
        await house.publish(tenant)
    await until(lambda: len(charged) == 2)
    assert sorted(charged) == ["acme", "globex"]
