"""What has had its time goes, all of it and nothing else; and data that must go before, everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.store import builders
from tests.store.builders import OPERATOR
from waypost.core.errors import BadRequest, Invalid, NotFound
from waypost.core.model import DAY, DeliveryState, Destination, Event
from waypost.core.retention import Lifetimes
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.flow.expunge import Expunger
from waypost.flow.retention import Janitor
from waypost.flow.throttle import Throttle
from waypost.store.alerting import Entry, EntryQuery
from waypost.store.base import EventQuery, Page
from waypost.store.retention import Log
from waypost.store.sqlite import SqliteStore

from .house import FAST, House, Receivers

ALL = Page(limit=1000)
A_WEEK = 7 * 86_400


class Past:
    """Puts things on record that happened long ago."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self._sequences: dict[float, clock.Sequence] = {}

    def seq(self, days: float) -> int:
        at = clock.now() - round(days * DAY)
        return self._sequences.setdefault(days, clock.Sequence(node=5, clock=lambda: at)).next()

    async def event(self, days: float, *to: Destination, tenant_id: str = "acme") -> Event:
        """An event of so many days ago, its deliveries pending."""
        seq = self.seq(days)
        new = builders.event(tenant_id, f"evt_{seq}", seq=seq, data=b'{"name": "Ada"}')
        await self.store.accept(builders.publication(new, *to))
        return new

    async def deliver(self, event: Event, to: Destination, days: float) -> None:
        result = builders.result(builders.delivery(event, to), builders.outcome(response={"body": "Ada"}))
        assert await self.store.record(structs.replace(result, seq=self.seq(days)))


@pytest.fixture
async def past(store: SqliteStore) -> Past:
    for tenant_id in ("acme", "zeta"):
        await store.put_tenant(tenant_id, None, now=clock.now())
    return Past(store)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.005)


async def ids(store: SqliteStore) -> set[str]:
    return {found.event.id for found in (await store.events(EventQuery(), ALL)).items}


@pytest.fixture
async def hire(store: SqliteStore) -> AsyncIterator[Callable[..., Awaitable[Janitor]]]:
    hired: list[Janitor] = []

    async def one(**options: Any) -> Janitor:
        usual: dict[str, Any] = {"default": Lifetimes(), "logs": {}, "share": 0.5, "interval": 0.01}
        hired.append(Janitor(store, **usual | options))
        await hired[-1].start()
        return hired[-1]

    yield one
    for janitor in hired:
        await janitor.close()


Hire = Callable[..., Awaitable[Janitor]]


class TestJanitor:
    async def test_removes_what_is_too_old_and_nothing_else(self, past: Past, hire: Hire) -> None:
        for _ in range(150):
            await past.event(8)
        young = await past.event(6)
        await hire(default=Lifetimes(events=A_WEEK))
        await until(lambda: _is(ids(past.store), {young.id}))

    async def test_keeps_everything_for_ever_if_told_so(self, past: Past, hire: Hire) -> None:
        old, very_old = await past.event(8), await past.event(300)
        await past.store.alerting.audit(_entry())
        janitor = await hire(logs={Log.ALERTS: 0})
        await janitor._pass()
        assert await ids(past.store) == {old.id, very_old.id}

    async def test_tenants_have_lifetimes_of_their_own(self, past: Past, hire: Hire) -> None:
        ours, theirs = await past.event(2), await past.event(2, tenant_id="zeta")
        older, ancient = await past.event(8), await past.event(8, tenant_id="zeta")
        janitor = await hire(default=Lifetimes(events=A_WEEK))
        await until(lambda: _is(ids(past.store), {ours.id, theirs.id}))
        assert {older.id, ancient.id}.isdisjoint(await ids(past.store))
        await janitor.put_lifetimes("zeta", {"events_seconds": 86_400}, by=OPERATOR)
        await until(lambda: _is(ids(past.store), {ours.id}))
        own, holds = await janitor.lifetimes("zeta")
        assert own == Lifetimes(events=86_400)
        assert holds == Lifetimes(events=86_400, attempts=86_400, data=86_400)

    async def test_a_longer_life_saves_what_is_still_there(self, past: Past, hire: Hire) -> None:
        janitor = await hire(default=Lifetimes(events=A_WEEK))
        await janitor.put_lifetimes("zeta", {"events_seconds": 0}, by=OPERATOR)
        ours, theirs = await past.event(8), await past.event(8, tenant_id="zeta")
        await until(lambda: _is(ids(past.store), {theirs.id}))
        assert ours.id not in await ids(past.store)

    async def test_an_event_waits_until_its_deliveries_are_settled(self, past: Past, hire: Hire) -> None:
        to = await past.store.add_destination(builders.destination(), limit=5)
        waiting = await past.event(9, to)
        gone = await past.event(8)
        janitor = await hire(default=Lifetimes(events=A_WEEK, data=86_400))
        await until(lambda: _is(ids(past.store), {waiting.id}))
        found = await past.store.event(waiting.id, tenant_id="acme")
        assert found is not None
        assert found.event.data == waiting.data
        assert gone.id not in await ids(past.store)
        await past.deliver(waiting, to, 8)
        await until(lambda: _is(ids(past.store), set()))
        await until(lambda: _is(_held(janitor), 0))
        assert await past.store._db.all("SELECT * FROM expunged") == []

    async def test_data_and_attempts_may_go_first(self, past: Past, hire: Hire) -> None:
        to = await past.store.add_destination(builders.destination(), limit=5)
        event = await past.event(3, to)
        await past.deliver(event, to, 3)
        await hire(default=Lifetimes(events=A_WEEK, attempts=2 * 86_400, data=86_400))

        async def stripped() -> bool:
            found = await past.store.event(event.id, tenant_id="acme")
            assert found is not None
            return found.event.data == b"{}"

        await until(stripped)
        await until(lambda: _is(_attempts(past.store), 0))
        assert await past.store.delivery_states(event.seq) == {to.id: DeliveryState.DELIVERED}

    async def test_logs_have_their_time_too(self, past: Past, hire: Hire) -> None:
        await past.store.alerting.audit(_entry())  # in this store's own time, the far future
        old = "INSERT INTO audit SELECT ?, actor_kind, actor, ip, 'old', tenant_id, subject, detail FROM audit LIMIT 1"
        seqs = [past.seq(400) for _ in range(450)]
        await past.store._db.write(lambda db: [db.execute(old, (seq,)) for seq in seqs])
        await hire(logs={Log.AUDIT: 365 * 86_400})
        await until(lambda: _is(_actions(past.store), ["thing.done"]))

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ([], "the body must be a JSON object"),
            ({"days": 3}, "days is not known: use events_seconds, attempts_seconds, data_seconds"),
            ({"events_seconds": -1}, "events_seconds must be a whole number from 0 to 315360000"),
            ({"events_seconds": True}, "events_seconds must be a whole number from 0 to 315360000"),
            ({"data_seconds": 1.5}, "data_seconds must be a whole number from 0 to 315360000"),
        ],
    )
    async def test_what_is_no_lifetime_is_refused(self, past: Past, hire: Hire, body: object, problem: str) -> None:
        janitor = await hire()
        with pytest.raises(Invalid) as refusal:
            await janitor.put_lifetimes("acme", body)
        assert refusal.value.data == [problem]


async def _is(found: Awaitable[Any], wanted: Any) -> bool:
    return bool(await found == wanted)


async def _held(janitor: Janitor) -> int:
    return sum(len(course.held) for course in janitor._courses.values())


async def _attempts(store: SqliteStore) -> int:
    ((count,),) = await store._db.all("SELECT count(*) FROM attempts")
    return int(count)


async def _actions(store: SqliteStore) -> list[str]:
    return [entry.action for entry in (await store.alerting.audit_log(EntryQuery(), ALL)).items][::-1]


def _entry() -> Entry:
    return Entry(actor=OPERATOR, action="thing.done", tenant_id="acme", subject="thing")


class TestThrottle:
    def test_hurries_up_to_half_of_the_time_and_calms_down(self) -> None:
        throttle = Throttle(0.1)
        shares = []
        for _ in range(4):
            throttle.faster()
            shares.append(throttle.share)
        assert shares == [0.2, 0.4, 0.5, 0.5]
        throttle.usual()
        assert throttle.share == 0.1

    async def test_it_is_judged_by_what_waits_longer_than_before(self, past: Past) -> None:
        janitor = Janitor(past.store, default=Lifetimes(), logs={}, share=0.1, interval=1.0)
        for lag, share in [(500.0, 0.1), (400.0, 0.1), (450.0, 0.2), (460.0, 0.4), (300.0, 0.4)]:
            janitor._judge_at = 0.0
            janitor._judge(lag)
            assert janitor._throttle.share == share
        await janitor._pass()
        assert janitor._throttle.share == 0.1


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, Receivers(), Bounds(concurrency_per_destination=1, sweep_interval=0.05, shutdown=0.2), FAST)
    await house.start()
    yield house
    await house.close()


class TestExpunging:
    async def test_an_event_is_not_sent_any_more(self, house: House) -> None:
        go = asyncio.Event()
        house.receivers.behaviour["des_1"] = lambda _message: go.wait()
        to = await house.add()
        first, second, third = [await house.publish(data=b'{"name": "Ada"}') for _ in range(3)]
        await until(lambda: _is(_value(len(house.receivers.seen)), 1))
        expunger = Expunger(house.store, house.dispatcher.drop, share=0.5)
        for each in (first, second):
            found = await expunger.event(each.id, "acme", by=OPERATOR)
            assert (found.event.data, found.event.expunged_at is None) == (b"{}", False)
        go.set()
        await house.until(third, to, DeliveryState.DELIVERED)
        assert house.receivers.ids("des_1") == [first.id, third.id]
        assert await house.attempts(first) == []
        assert await house.state(first, to) is DeliveryState.CANCELLED
        assert house.dispatcher._lanes.held == 0

    async def test_an_event_cannot_be_retried(self, house: House) -> None:
        to = await house.add()
        event = await house.publish()
        await house.until(event, to, DeliveryState.DELIVERED)
        await Expunger(house.store, house.dispatcher.drop, share=0.5).event(event.id, "acme")
        with pytest.raises(BadRequest, match="the event's data was removed"):
            await house.replayer.retry(event.id, to.id, "acme")

    async def test_what_is_unknown_is_not_found(self, house: House) -> None:
        expunger = Expunger(house.store, house.dispatcher.drop, share=0.5)
        event = await house.publish()
        with pytest.raises(NotFound):
            await expunger.event(event.id, "zeta")
        with pytest.raises(NotFound):
            await expunger.progress("acme")

    async def test_a_tenant_goes_on_after_a_restart(self, house: House) -> None:
        published = [await house.publish(data=b'{"name": "Ada"}') for _ in range(200)]
        other = await house.publish("zeta", data=b'{"name": "Ada"}')
        expunger = Expunger(house.store, house.dispatcher.drop, share=0.5)
        job = await expunger.tenant("acme", by=OPERATOR)
        await house.store.retention.go_on(job, now=clock.now(), limit=64)  # and the process dies
        another = Expunger(house.store, house.dispatcher.drop, share=0.5)
        await another.start()

        async def done() -> bool:
            return (await another.progress("acme")).finished_at is not None

        await until(done)
        assert (await another.progress("acme")).events == 200
        for event in published:
            found = await house.store.event(event.id, tenant_id="acme")
            assert found is not None
            assert found.event.data == b"{}"
        left = await house.store.event(other.id, tenant_id="zeta")
        assert left is not None
        assert left.event == other
        await another.close()


async def _value(value: int) -> int:
    return value
