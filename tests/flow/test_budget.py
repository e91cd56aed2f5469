"""How many bytes of events memory holds, whatever is published and whatever hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flow.house import FAST, House, Receivers
from tests.store.builders import LEASE, NOW, destination, event, publication
from waypost.connect.connector import Message
from waypost.core.errors import DeliveryError
from waypost.core.model import DeliveryState, Event
from waypost.flow.budget import Account, Budget, Owner, size_of
from waypost.flow.deliver import Bounds
from waypost.flow.places import QUICK, SLOW
from waypost.store.sqlite import SqliteStore

KIB = 1_024
LARGEST = 32 * KIB
BODY = b'{"x":"%s"}' % (b"x" * (30 * KIB))
MEMORY = 512 * KIB


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
def memory() -> int:
    return MEMORY


@pytest.fixture
async def house(tmp_path: Path, receivers: Receivers, memory: int) -> AsyncIterator[House]:
    bounds = Bounds(memory=memory, largest_event=LARGEST, sweep_interval=0.05, shutdown=0.2)
    built = House(tmp_path, receivers, bounds, FAST)
    await built.start()
    yield built
    await built.close()


async def hangs(_: Any) -> None:
    await asyncio.sleep(3_600)


def most_held(house: House) -> Callable[[], int]:
    """Watches how much is held whenever anything is, in both counts."""
    budget, most = house.dispatcher._lanes.budget, [0]
    hold = budget.hold

    def watched(account: Account, size: int) -> None:
        hold(account, size)
        most[0] = max(most[0], budget.held)

    budget.hold = watched  # type: ignore[method-assign]
    return lambda: most[0]


def in_memory(house: House) -> int:
    return sum(size_of(waiting.event) for lane in house.dispatcher._lanes.all() for waiting in lane.queue)


async def delivered(house: House, published: list[Event], to: Any) -> None:
    for new in published:
        await house.until(new, to, DeliveryState.DELIVERED)


async def test_large_events_wait_in_the_store(house: House) -> None:
    most = most_held(house)
    to = await house.add()
    gate = asyncio.Event()
    house.receivers.behaviour[to.id] = lambda _: gate.wait()
    published = [await house.publish(data=BODY) for _ in range(60)]
    assert in_memory(house) <= MEMORY
    gate.set()
    await delivered(house, published, to)
    assert most() <= MEMORY
    async with asyncio.timeout(5):
        while house.dispatcher._lanes.budget.held:
            await asyncio.sleep(0.01)


async def test_what_hangs_leaves_bytes_for_the_others(house: House) -> None:
    most = most_held(house)
    healthy = await house.add("des_healthy", tenant="healthy")
    await house.until(await house.publish("healthy"), healthy, DeliveryState.DELIVERED)
    hanging = [await house.add(f"des_{number}", tenant=f"hanging_{number}") for number in range(20)]
    for to in hanging:
        house.receivers.behaviour[to.id] = hangs
        for _ in range(3):
            await house.publish(to.tenant_id, data=BODY)
    published = [await house.publish("healthy", data=BODY) for _ in range(40)]
    await delivered(house, published, healthy)
    assert most() <= MEMORY


async def test_a_destination_that_is_new_finds_bytes_beside_some_that_hang(house: House) -> None:
    hanging = [await house.add(f"des_{number}", tenant=f"hanging_{number}") for number in range(6)]
    for to in hanging:
        house.receivers.behaviour[to.id] = hangs
        for _ in range(3):
            await house.publish(to.tenant_id, data=BODY)
    healthy = await house.add("des_healthy", tenant="healthy")
    published = [await house.publish("healthy", data=BODY) for _ in range(20)]
    await delivered(house, published, healthy)


@pytest.mark.parametrize("memory", [4 * KIB])
async def test_an_event_larger_than_the_budget_is_not_stuck(house: House) -> None:
    to = await house.add()
    published = [await house.publish(data=BODY) for _ in range(5)]
    await delivered(house, published, to)


async def test_retries_are_claimed_as_far_as_there_is_room(house: House) -> None:
    most = most_held(house)
    to = await house.add()

    def fails_first(message: Message) -> None:
        if message.attempt == 1:
            raise DeliveryError("503", "busy")

    house.receivers.behaviour[to.id] = fails_first
    published = [await house.publish(data=BODY) for _ in range(30)]
    await delivered(house, published, to)
    assert most() <= MEMORY


async def test_a_claim_takes_what_fits_and_at_least_one(store: SqliteStore) -> None:
    await store.put_tenant("acme", None, now=NOW)
    to = await store.add_destination(destination(), limit=10)
    for _ in range(5):
        await store.accept(publication(event(data=BODY), to, leased=False))
    for most, taken in ((100 * KIB, 3), (1, 1), (None, 1)):
        claim = await store.claim(to.no, now=NOW, lease_until=LEASE, limit=10, most_bytes=most)
        assert len(claim.deliveries) == taken


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, LARGEST + KIB), st.booleans()), max_size=300),
    st.integers(LARGEST * 4, LARGEST * 64),
)
def test_no_more_is_held_than_there_may_be(asked: list[tuple[int, int, bool]], most: int) -> None:
    budget, owners = Budget(most, LARGEST), [Owner() for _ in range(5)]
    accounts = [Account(owners[number % 5]) for number in range(10)]
    kept: list[tuple[Account, int]] = []
    for number, size, flag in asked:
        account = accounts[number]
        if flag and kept:
            of, held = kept.pop()
            budget.free(of, held)
            budget.judge(of, QUICK if number % 2 else SLOW)
        elif budget.left(account) >= size:
            budget.hold(account, size)
            kept.append((account, size))
        assert budget.held == sum(account.held for account in accounts) <= most
    for account, size in kept:
        budget.free(account, size)
    assert (budget.held, [owner.held for owner in owners]) == (0, [0] * 5)


def test_a_tenant_of_whom_nothing_is_held_finds_room() -> None:
    budget, busy, quiet = Budget(LARGEST * 16, LARGEST), Owner(), Owner()
    while True:
        account = Account(busy)
        budget.judge(account, QUICK)
        if not (left := budget.left(account)):
            break
        budget.hold(account, left)
    account = Account(quiet)
    budget.judge(account, QUICK)
    assert budget.left(account) >= LARGEST
