"""Listening: what is told, in which order, and that coming back leaves nothing out and tells nothing twice."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.builders import OPERATOR
from waypost.core.errors import TooMany, Unavailable
from waypost.core.model import SECOND, DeliveryState, Destination
from waypost.core.retry import RetryPolicy
from waypost.core.search import Search, at_place, phrases
from waypost.flow.deliver import Bounds as DeliverBounds
from waypost.flow.live import Bounds, Gap, Listener, Live
from waypost.flow.wanted import Wanted
from waypost.store.alerting import Entry
from waypost.store.base import AttemptQuery, StoredAttempt, StoredEvent
from waypost.store.paging import Range
from waypost.store.tail import Told

from .house import House, Receivers
from .test_deliver import fails

EVERYTHING = Wanted()
ONLY_EVENTS = Wanted(attempts=False)
IDLE = 0.05
NO_RETRY = RetryPolicy(limit=0)


def a_house(folder: Path, **stream: Any) -> House:
    bounds = DeliverBounds(sweep_interval=0.05, shutdown=0.2)
    return House(folder, Receivers(), bounds, NO_RETRY, stream=Bounds(**stream))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = a_house(tmp_path, queue=10, listeners=3, listeners_per_tenant=2)
    await house.start()
    yield house
    await house.close()


class Ear:
    """A client: notes what it hears until it hangs up, and remembers the last id."""

    def __init__(self, house: House, wanted: Wanted = EVERYTHING, **more: Any) -> None:
        self.heard: list[str] = []
        self.gaps: list[int | None] = []
        self.last: int | None = None
        self._house = house
        self._wanted = wanted
        self._more = more
        self._task: asyncio.Task[None] | None = None

    def call(self) -> Listener:
        """Connect, where there is a last id after that, and begin to listen."""
        listener = Listener(self._house.live, self._house.store, self._wanted, after=self.last, **self._more)
        self._task = asyncio.create_task(self._listen(listener))
        return listener

    async def connected(self) -> None:
        """Connect, and come back when everything that was told before has been heard."""
        quiet = len(self.heard)
        listener = self.call()
        async with asyncio.timeout(10):
            while not any(listener in joined for joined in self._house.live._joined.values()):
                await asyncio.sleep(0.001)
        assert len(self.heard) >= quiet

    async def hang_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                await asyncio.sleep(0.001)
        return self.heard

    async def _listen(self, listener: Listener) -> None:
        with listener:
            async for batch in listener.batches(IDLE):
                for message in batch:
                    self._note(message)

    def _note(self, message: Told | Gap) -> None:
        if isinstance(message, Gap):
            self.gaps.append(message.missed)
            return
        self.last = abs(message.number)
        item = message.item
        self.heard.append(item.event.id if isinstance(item, StoredEvent) else f"{item.event.id}>{item.destination.id}")


async def recorded(house: House, count: int) -> None:
    """Until so many attempts are on record and told."""
    async with asyncio.timeout(10):
        while sum(number < 0 for number in house.live.told_since(0)[0]) < count:
            await asyncio.sleep(0.001)


class TestListening:
    async def test_an_event_comes_before_its_attempts(self, house: House) -> None:
        await house.add()
        ear = Ear(house)
        await ear.connected()
        event = await house.publish()
        assert await ear.until(2) == [event.id, f"{event.id}>des_1"]
        await ear.hang_up()

    async def test_what_was_before_is_not_told_to_those_who_do_not_ask(self, house: House) -> None:
        await house.publish()
        ear = Ear(house)
        await ear.connected()
        event = await house.publish()
        assert await ear.until(1) == [event.id]
        await ear.hang_up()

    async def test_a_duplicate_is_not_told(self, house: House) -> None:
        ear = Ear(house)
        await ear.connected()
        await house.publish(id="twice")
        await house.publish(id="twice")
        await house.publish(id="last")
        assert await ear.until(2) == ["twice", "last"]
        await ear.hang_up()

    @pytest.mark.parametrize(
        ("wanted", "heard"),
        [
            (Wanted(), {"a", "a>good", "a>bad", "z", "o"}),
            (Wanted(tenant_ids=("acme",)), {"a", "a>good", "a>bad", "o"}),
            (Wanted(tenant_ids=("zeta", "nobody")), {"z"}),
            (Wanted(attempts=False), {"a", "z", "o"}),
            (Wanted(events=False), {"a>good", "a>bad"}),
            (Wanted(of_attempts=AttemptQuery(topics=("order.created",))), {"a", "a>good", "a>bad", "z"}),
            (Wanted(destination_ids=("bad",)), {"a", "a>bad"}),
            (Wanted(of_attempts=AttemptQuery(ok=False)), {"a>bad"}),
            (Wanted(of_attempts=AttemptQuery(ok=True), tenant_ids=("acme",)), {"a>good"}),
            (Wanted(of_attempts=AttemptQuery(event_ids=("a", "o"))), {"a", "a>good", "a>bad", "o"}),
            (Wanted(of_attempts=AttemptQuery(codes=("5xx", "404"))), {"a>bad"}),
            (Wanted(of_attempts=AttemptQuery(codes=("ack",))), {"a>good"}),
            (Wanted(of_attempts=AttemptQuery(status_code=Range(gt=500, lte=503))), {"a>bad"}),
            (Wanted(of_attempts=AttemptQuery(status_code=Range(lt=503))), set()),
            (Wanted(of_attempts=AttemptQuery(latency=Range(lt=60 * SECOND))), {"a>good", "a>bad"}),
            (Wanted(of_attempts=AttemptQuery(latency=Range(gte=60 * SECOND))), set()),
            (Wanted(of_attempts=AttemptQuery(manual=False)), {"a>good", "a>bad"}),
            (Wanted(of_attempts=AttemptQuery(manual=True)), set()),
            (Wanted(of_attempts=AttemptQuery(destination_types=("webhook",))), {"a>good", "a>bad"}),
            (Wanted(of_attempts=AttemptQuery(destination_types=("nats",))), set()),
            (Wanted(search=Search(phrases=phrases("ada"))), {"a", "a>good", "a>bad"}),
            (Wanted(search=Search(facts=(at_place("data", "id", ("42",)),)), events=False), {"a>good", "a>bad"}),
        ],
    )
    async def test_as_the_filter_says_now_and_when_coming_back(
        self, house: House, wanted: Wanted, heard: set[str]
    ) -> None:
        await house.add("good", topics=("order.created",))
        await house.add("bad", topics=("order.created",))
        house.receivers.behaviour["bad"] = fails()
        start = await house.publish("zeta", topic="other")
        now, later = Ear(house, wanted), Ear(house, wanted)
        later.last = start.seq
        await now.connected()
        await house.publish("acme", id="a", data=b'{"id": 42, "name": "Ada"}')
        await house.publish("zeta", id="z")
        await house.publish("acme", id="o", topic="other")
        await recorded(house, 2)
        await later.connected()
        assert set(await now.until(len(heard))) == heard
        assert set(await later.until(len(heard))) == heard
        for ear in (now, later):
            await ear.hang_up()

    async def test_nobody_who_left_is_remembered(self, house: House) -> None:
        for wanted in (EVERYTHING, Wanted(tenant_ids=("acme",))):
            ear = Ear(house, wanted)
            await ear.connected()
            await ear.hang_up()
        assert not house.live._joined
        assert not house.live._open


class TestLimits:
    async def test_of_one_tenant_and_of_all(self, house: House) -> None:
        ears = [Ear(house, owner="acme"), Ear(house, owner="acme"), Ear(house)]
        await ears[0].connected()
        await ears[1].connected()
        with (
            pytest.raises(TooMany, match="at most 2 streams"),
            Listener(house.live, house.store, EVERYTHING, owner="acme"),
        ):
            pass
        await ears[2].connected()
        with pytest.raises(Unavailable), Listener(house.live, house.store, EVERYTHING):
            pass
        await ears[0].hang_up()
        with Listener(house.live, house.store, EVERYTHING, owner="acme"):
            pass
        for ear in ears:
            await ear.hang_up()

    async def test_a_slow_listener_is_told_how_much_it_missed_and_goes_on(self, house: House) -> None:
        with Listener(house.live, house.store, ONLY_EVENTS) as listener:
            batches = listener.batches(IDLE)
            assert await anext(batches) == []
            published = [await house.publish() for _ in range(25)]
            ear = Ear(house)
            for _ in range(2):
                for message in await anext(batches):
                    ear._note(message)
            assert ear.heard == [event.id for event in published[:10]]
            assert ear.gaps == [15]
            last = await house.publish()
            (message,) = await anext(batches)
            assert isinstance(message, Told)
            assert message.number == last.seq

    async def test_a_stop_ends_all_and_lets_nobody_in(self, house: House) -> None:
        with Listener(house.live, house.store, EVERYTHING) as listener:
            house.live.close()
            assert listener.ended.is_set()
        with pytest.raises(Unavailable), Listener(house.live, house.store, EVERYTHING):
            pass


class TestComingBack:
    async def test_from_what_is_remembered_in_the_order_in_which_it_was_told(self, house: House) -> None:
        await house.add()
        ear = Ear(house)
        await ear.connected()
        first = await house.publish()
        await ear.until(2)
        await ear.hang_up()
        missed = [await house.publish() for _ in range(40)]
        await recorded(house, 41)
        told = [abs(number) for number in house.live.told_since(0)[0]]
        await ear.connected()
        await ear.until(82)
        assert ear.heard[0] == first.id
        assert {event.id for event in missed} < set(ear.heard)
        assert len(set(ear.heard)) == 82
        assert ear.last == told[-1]
        assert ear.gaps == []
        await ear.hang_up()

    async def test_from_the_record_when_nothing_is_remembered(self, tmp_path: Path) -> None:
        house = a_house(tmp_path)
        await house.start()
        await house.add()
        published = [await house.publish() for _ in range(10)]
        await recorded(house, 10)
        await house.close()
        again = a_house(tmp_path)
        await again.start()
        ear = Ear(again)
        ear.last = published[3].seq
        await ear.connected()
        fresh = await again.publish()
        await ear.until(6 + 10 + 2)
        events = [name for name in ear.heard if ">" not in name]
        assert events == [event.id for event in (*published[4:], fresh)]
        assert len(set(ear.heard)) == len(ear.heard)
        await ear.hang_up()
        await again.close()

    async def test_from_the_record_after_an_attempt(self, tmp_path: Path) -> None:
        house = a_house(tmp_path)
        await house.start()
        house.receivers.behaviour[(await house.add()).id] = lambda _: asyncio.sleep(0.01)  # ends in another millisecond
        event = await house.publish()
        await recorded(house, 1)
        (attempt,) = await house.attempts(event)
        await house.close()
        again = a_house(tmp_path)
        await again.start()
        ear = Ear(again)
        ear.last = attempt.attempt.seq
        await ear.connected()
        fresh = await again.publish()
        assert await ear.until(2) == [fresh.id, f"{fresh.id}>des_1"]
        await ear.hang_up()
        await again.close()

    async def test_what_is_older_than_the_reach_is_a_gap(self, tmp_path: Path) -> None:
        house = a_house(tmp_path, memory=1, reach=1e-6)
        await house.start()
        published = [await house.publish() for _ in range(3)]
        ear = Ear(house)
        ear.last = published[0].seq
        await ear.connected()
        assert ear.heard == [published[2].id]
        assert ear.gaps == [None]
        await ear.hang_up()
        await house.close()

    async def test_a_tenant_learns_nothing_from_anothers_number(self, house: House) -> None:
        await house.publish("zeta")
        ear = Ear(house, Wanted(tenant_ids=("acme",)))
        ear.last = (await house.publish("zeta")).seq
        await ear.connected()
        event = await house.publish("acme")
        assert await ear.until(1) == [event.id]
        await ear.hang_up()

    async def test_what_was_removed_meanwhile_is_left_out(self, house: House) -> None:
        start, gone, stays = [await house.publish() for _ in range(3)]
        await house.store.retention.expunge(stays.seq, now=1, entry=_entry())
        await house.store._db.write(lambda db: db.execute("DELETE FROM events WHERE seq = ?", (gone.seq,)).rowcount)
        ear = Ear(house)
        ear.last = start.seq
        await ear.connected()
        assert await ear.until(1) == [stays.id]
        await ear.hang_up()


def _entry() -> Entry:
    return Entry(actor=OPERATOR, action="event.expunge", tenant_id="acme", subject="x")


steps = st.lists(st.sampled_from(["publish", "burst", "leave", "come", "pause"]), min_size=5, max_size=40)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.sampled_from([3, 20, 50_000]), st.integers(0, 2**32))
def test_whoever_comes_and_goes_hears_each_event_once_or_of_a_gap(steps: Sequence[str], memory: int, seed: int) -> None:
    asyncio.run(_come_and_go(steps, memory, random.Random(seed)))


async def _come_and_go(steps: Sequence[str], memory: int, dice: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        house = a_house(Path(folder), memory=memory, queue=1_000)
        await house.start()
        ear = Ear(house, ONLY_EVENTS)
        await ear.connected()
        published = {(await house.publish()).id}
        await ear.until(1)
        for step in steps:
            if step == "leave":
                await ear.hang_up()
                ear._task = None
            elif step == "come" and ear._task is None:
                ear.call()
            elif step in {"publish", "burst"}:
                wanted = [house.publish() for _ in range(dice.randint(1, 12) if step == "burst" else 1)]
                published |= {event.id for event in await asyncio.gather(*wanted)}
            else:
                await asyncio.sleep(dice.random() / 200)
        if ear._task is None:
            ear.call()
        await house.publish(id="the last")
        async with asyncio.timeout(20):
            while not ear.heard or "the last" not in ear.heard:
                await asyncio.sleep(0.001)
        await ear.hang_up()
        await house.close()
        assert len(ear.heard) == len(set(ear.heard))
        assert set(ear.heard) == published | {"the last"} or ear.gaps


async def test_what_nobody_listens_to_costs_a_look(house: House) -> None:
    live = Live(Bounds(memory=2))
    for number in range(5):
        live._remember(number)
    assert live.told_since(0) == ([3, 4], True)
    assert live.told_since(4) == ([4], False)
    assert live.told_since(5) == ([], False)


async def test_an_attempt_is_shown_as_on_record(house: House) -> None:
    to: Destination = await house.add()
    house.receivers.behaviour[to.id] = fails()
    with Listener(house.live, house.store, Wanted(events=False)) as listener:
        batches = listener.batches(10)
        hearing = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        event = await house.publish()
        (message,) = await hearing
        assert isinstance(message, Told)
        assert isinstance(message.item, StoredAttempt)
        assert [message.item] == await house.attempts(event)


async def test_a_listener_holds_few_bytes_at_a_time(tmp_path: Path) -> None:
    house = a_house(tmp_path, batch_bytes=100_000)
    await house.start()
    to = await house.add()
    listener = Listener(house.live, house.store, EVERYTHING)
    sizes: list[int] = []
    with listener:
        published = [await house.publish(data=b'{"x":"%s"}' % (b"x" * 40_000)) for _ in range(10)]
        for new in published:
            await house.until(new, to, DeliveryState.DELIVERED)
        await recorded(house, 10)
        async with asyncio.timeout(10):
            async for batch in listener.batches(IDLE):
                told = [message for message in batch if isinstance(message, Told)]
                sizes.append(sum(len(message.item.event.data) for message in told))
                if sum(sizes) >= 20 * 40_000:
                    break
    assert max(sizes) <= 100_000
    await house.close()


async def test_no_tenant_is_without_a_stream_because_others_have_many(house: House) -> None:
    live = Live(Bounds(listeners=20, listeners_per_tenant=10))

    def opened(owner: str | None) -> Listener:
        listener = Listener(live, house.store, EVERYTHING, owner=owner)
        live.admit(listener)
        return listener

    greedy = [opened(owner) for owner in ("a", "b") for _ in range(9)]
    for owner in ("a", "b"):  # a tenth is the operator's, and who has one waits for a free place
        with pytest.raises(Unavailable):
            opened(owner)
    assert not any(listener.ended.is_set() for listener in greedy)
    late = [opened("c"), opened("d")]
    assert sum(listener.ended.is_set() for listener in greedy) == len(late)
    operators = [opened(None) for _ in range(2)]
    with pytest.raises(Unavailable):
        opened(None)
    assert sum(listener.ended.is_set() for listener in greedy) == len(late)
    assert not any(listener.ended.is_set() for listener in (*late, *operators))


async def test_where_everybody_has_one_stream_nobody_loses_it(house: House) -> None:
    live = Live(Bounds(listeners=3))
    for owner in ("a", "b", None):
        live.admit(Listener(live, house.store, EVERYTHING, owner=owner))
    for owner in ("c", None):
        with pytest.raises(Unavailable):
            live.admit(Listener(live, house.store, EVERYTHING, owner=owner))
