"""Calling deliveries off, what is kept of library errors, and the index that follows what is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow.house import FAST, House, Receivers
from tests.store.builders import CUSTOMER
from waypost.connect.connector import Message
from waypost.core.errors import Conflict, DeliveryError, NotFound
from waypost.core.model import DeliveryState
from waypost.core.search import Search, phrases
from waypost.core.status import Status
from waypost.flow.deliver import Bounds
from waypost.flow.deliveries import Canceller
from waypost.flow.indexing import Indexer
from waypost.store.alerting import EntryQuery
from waypost.store.base import EventQuery, Page


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    bounds = Bounds(concurrency_per_destination=1, sweep_interval=0.05, shutdown=0.2)
    built = House(tmp_path, Receivers(), bounds, FAST)
    await built.start()
    yield built
    await built.close()


@pytest.fixture
def canceller(house: House) -> Canceller:
    return Canceller(house.store, house.dispatcher.withdraw)


class Gate:
    """A receiver that answers when it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _: Message) -> None:
        self.reached.set()
        await self.open.wait()


async def test_what_waits_behind_a_slow_attempt_is_never_sent(house: House, canceller: Canceller) -> None:
    to, gate = await house.add(), Gate()
    house.receivers.behaviour[to.id] = gate
    first = await house.publish()
    await gate.reached.wait()
    second, third = await house.publish(), await house.publish()
    cancelled = await canceller.cancel(second.seq, to.no, "acme", by=CUSTOMER)
    assert (cancelled.status, cancelled.attempt, cancelled.due) == (Status.CANCELLED, 1, None)
    gate.open.set()
    for event in (first, third):
        await house.until(event, to, DeliveryState.DELIVERED)
    assert house.receivers.ids(to.id) == [first.id, third.id]
    (entry,) = (await house.store.alerting.audit_log(EntryQuery(actions=("delivery.cancel",)), Page(limit=9))).items
    assert (entry.actor, entry.tenant_id) == (CUSTOMER, "acme")
    assert entry.detail == {"event_id": second.id, "destination_id": to.id}


async def test_an_attempt_under_way_ends_and_leads_to_nothing(house: House, canceller: Canceller) -> None:
    to, gate = await house.add(), Gate()

    async def fail_then(message: Message) -> None:
        await gate(message)
        raise DeliveryError("503", "no")

    house.receivers.behaviour[to.id] = fail_then
    event = await house.publish()
    await gate.reached.wait()
    await canceller.cancel(event.seq, to.no, None, by=CUSTOMER)
    gate.open.set()
    async with asyncio.timeout(10):
        while not (attempts := await house.attempts(event)):
            await asyncio.sleep(0.01)
    assert [kept.attempt.code for kept in attempts] == ["503"]
    found = await house.store.deliveries.one(event.seq, to.no, tenant_id=None)
    assert found is not None
    assert (found.status, found.attempt) == (Status.CANCELLED, 2)
    assert await canceller.cancel(event.seq, to.no, None, by=CUSTOMER) == found
    assert len((await house.store.alerting.audit_log(EntryQuery(), Page(limit=9))).items) == 1


async def test_what_has_ended_cannot_be_called_off(house: House, canceller: Canceller) -> None:
    to = await house.add()
    event = await house.publish()
    await house.until(event, to, DeliveryState.DELIVERED)
    with pytest.raises(Conflict, match="the delivery is delivered and cannot be cancelled"):
        await canceller.cancel(event.seq, to.no, "acme", by=CUSTOMER)
    for seq, no, tenant_id in (
        (event.seq, to.no, "zeta"),
        (event.seq, to.no + 1, "acme"),
        (event.seq + 1, to.no, None),
    ):
        with pytest.raises(NotFound, match="delivery not found"):
            await canceller.cancel(seq, no, tenant_id, by=CUSTOMER)


async def test_a_cancelled_delivery_goes_out_when_somebody_asks_for_it(house: House, canceller: Canceller) -> None:
    to, gate = await house.add(), Gate()
    house.receivers.behaviour[to.id] = gate
    await house.publish()
    await gate.reached.wait()
    event = await house.publish()
    await canceller.cancel(event.seq, to.no, "acme", by=CUSTOMER)
    await house.replayer.retry(event.id, to.id, "acme")
    gate.open.set()
    await house.until(event, to, DeliveryState.DELIVERED)


async def test_the_exceptions_behind_a_failure_are_kept_without_secrets(house: House) -> None:
    to = await house.add(credentials={"secret": "hunter2"})

    def fail(_: Message) -> None:
        refusal = DeliveryError("connection_refused", "The broker refused the connection", retryable=False)
        raise refusal from OSError("connect as hunter2: refused")

    house.receivers.behaviour[to.id] = fail
    event = await house.publish()
    await house.until(event, to, DeliveryState.EXHAUSTED)
    (kept,) = await house.attempts(event)
    assert kept.attempt.causes == ("OSError: connect as ****: refused",)
    assert kept.attempt.detail == "The broker refused the connection"


async def test_so_is_what_crashed_in_a_destination_type(house: House) -> None:
    to = await house.add()

    def crash(_: Message) -> None:
        raise ZeroDivisionError("a fault of the type's own")

    house.receivers.behaviour[to.id] = crash
    event = await house.publish()
    async with asyncio.timeout(10):
        while not (attempts := await house.attempts(event)):
            await asyncio.sleep(0.01)
    assert attempts[0].attempt.causes == ("ZeroDivisionError: a fault of the type's own",)
    assert attempts[0].attempt.detail == "the destination type failed: ZeroDivisionError"


async def test_the_indexer_follows_what_is_accepted(house: House) -> None:
    indexer = Indexer(house.store, share=0.5)
    await indexer.start()
    made = [await house.publish(data=b'{"note": "amber"}') for _ in range(3)]
    async with asyncio.timeout(20):
        while (await house.store.search.progress()).until is None:
            await asyncio.sleep(0.05)
    query = EventQuery(search=Search(phrases=phrases("amber")))
    found = await house.store.events(query, Page(limit=9))
    assert [each.event for each in found.items] == made[::-1]
    await indexer.close()
