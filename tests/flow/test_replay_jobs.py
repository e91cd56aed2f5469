"""Replays worked off by a whole Waypost, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.flow.house import FAST, House, Receivers
from tests.store.builders import CUSTOMER, OPERATOR
from waypost.connect.connector import Message
from waypost.core.errors import BadRequest, Conflict, DeliveryError, Invalid, NotFound, TooMany
from waypost.core.model import SECOND, Actor, DeliveryState, Destination, Event
from waypost.core.replaying import Limits
from waypost.core.search import Search, phrases
from waypost.core.status import Status
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.flow.replay_runner import Pace, ReplayRunner
from waypost.flow.replays import Planner, Replays, Wish, replay_id
from waypost.store.alerting import EntryQuery
from waypost.store.base import EventQuery, Page, TimeRange
from waypost.store.paging import Direction
from waypost.store.replays import Replay, ReplayState

ALL = Page(limit=1000, direction=Direction.ASC)


class Works:
    """A house with a runner of replays that a test starts and stops."""

    def __init__(self, folder: Path, limits: Limits | None = None, pace: Pace | None = None) -> None:
        self.receivers = Receivers()
        self.house = House(folder, self.receivers, Bounds(sweep_interval=0.05, shutdown=0.2), FAST)
        self.limits = limits or Limits()
        self.pace = pace or Pace(rate=100_000)
        self.ahead = 0

    async def start(self) -> None:
        await self.house.start()
        planner = Planner(self.house.store, self.house.directory, self.limits)
        self.runner = ReplayRunner(self.house.store, planner, self.house.dispatcher, self.pace)
        self.replays = Replays(
            self.house.store,
            planner,
            limits=self.limits,
            next_seq=self.house.sequence.next,
            now=lambda: clock.now() + self.ahead,
            wake=self.runner.wake,
        )
        await self.runner.start()

    async def close(self) -> None:
        await self.runner.close()
        await self.house.close()

    async def delivered(self, count: int, **changes: Any) -> list[Event]:
        """Published events that have arrived wherever they were routed to."""
        made = [await self.house.publish(**changes) for _ in range(count)]
        for event in made:
            for destination in await self.house.store.destinations(event.tenant_id):
                if (await self.house.store.delivery_states(event.seq)).get(destination.id) == DeliveryState.PENDING:
                    await self.house.until(event, destination, DeliveryState.DELIVERED)
        return made

    async def create(self, by: Actor = OPERATOR, **wish: Any) -> Replay:
        return await self.replays.create(wished(**wish), by=by)

    async def ended(self, replay: Replay) -> Replay:
        async with asyncio.timeout(20):
            while (now := await self.replays.replay(replay.seq, None)).state < ReplayState.COMPLETED:
                await asyncio.sleep(0.01)
        return now

    async def audited(self, replay: Replay) -> list[tuple[str, str]]:
        log = await self.house.store.alerting.audit_log(EntryQuery(subjects=(replay_id(replay),)), ALL)
        return [(entry.action, str(entry.actor)) for entry in log.items]


def wished(**changes: Any) -> Wish:
    query = changes.pop("query", {})
    wish = Wish(
        tenant_id="acme", destination_id=None, asked={"topic": "*"}, query=EventQuery(tenant_ids=("acme",), **query)
    )
    return structs.replace(wish, **changes)


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    built = Works(tmp_path)
    await built.start()
    yield built
    await built.close()


def fails(_: Message) -> None:
    raise DeliveryError("400", "the receiver answered 400", retryable=False)


def arrivals(works: Works, to: Destination) -> list[str]:
    return works.receivers.ids(to.id)


class TestWhatIsSent:
    async def test_every_selected_event_goes_out_again_by_hand(self, works: Works) -> None:
        to = await works.house.add()
        events = await works.delivered(300)
        replay = await works.ended(await works.create())
        assert (replay.selected, replay.examined, replay.total) == (300, 300, 300)
        assert (replay.delivered, replay.failed, replay.waiting, replay.skipped) == (300, 0, 0, {})
        assert sorted(arrivals(works, to)) == sorted(event.id for event in events * 2)
        second = (await works.house.attempts(events[0]))[1].attempt
        assert (second.number, second.manual, second.ok) == (2, True, True)
        asked = await works.house.store.replays.asks([second])
        assert asked[second.seq] == ("api_key:ops", replay.seq)
        assert await works.audited(replay) == [("replay.create", "api_key:ops"), ("replay.end", "api_key:ops")]

    async def test_only_what_the_filter_selects(self, works: Works) -> None:
        to = await works.house.add()
        await works.delivered(2, topic="order.created")
        wanted = await works.delivered(2, topic="user.created")
        works.receivers.seen.clear()
        await works.ended(await works.create(query={"topics": ("user.created",)}))
        assert sorted(arrivals(works, to)) == sorted(event.id for event in wanted)

    async def test_to_one_destination_alone(self, works: Works) -> None:
        first, second = await works.house.add("des_1"), await works.house.add("des_2")
        await works.delivered(3)
        works.receivers.seen.clear()
        replay = await works.ended(await works.create(destination_id="des_2"))
        assert (replay.destination_id, replay.total) == ("des_2", 3)
        assert (len(arrivals(works, first)), len(arrivals(works, second))) == (0, 3)

    async def test_what_failed_is_counted_and_its_retries_go_on(self, works: Works) -> None:
        to = await works.house.add()
        (event,) = await works.delivered(1)
        works.receivers.behaviour[to.id] = fails
        replay = await works.ended(await works.create())
        assert (replay.delivered, replay.failed) == (0, 1)
        found = await works.house.store.replays.deliveries(replay.seq, ALL)
        assert [(each.event_id, each.destination_id, each.ok) for each in found.items] == [(event.id, to.id, False)]

    async def test_only_deliveries_that_stand_as_the_filter_says(self, works: Works) -> None:
        failing, well = await works.house.add("failing"), await works.house.add("well")
        works.receivers.behaviour[failing.id] = fails
        event = await works.house.publish()
        await works.house.until(event, failing, DeliveryState.EXHAUSTED)
        await works.house.until(event, well, DeliveryState.DELIVERED)
        del works.receivers.behaviour[failing.id]
        works.receivers.seen.clear()
        replay = await works.ended(await works.create(query={"statuses": (Status.EXHAUSTED,)}))
        assert (replay.total, replay.delivered, replay.skipped) == (1, 1, {})
        assert (arrivals(works, failing), arrivals(works, well)) == ([event.id], [])

    async def test_what_words_of_the_payload_find(self, works: Works) -> None:
        to = await works.house.add()
        await works.delivered(1, data=b'{"note": "good morning"}')
        wanted = await works.delivered(2, data=b'{"note": "good night"}')
        works.receivers.seen.clear()
        replay = await works.ended(await works.create(query={"search": Search(phrases=phrases("NIGHT"))}))
        assert (replay.selected, replay.total) == (2, 2)
        assert sorted(arrivals(works, to)) == sorted(event.id for event in wanted)

    async def test_what_was_kept_while_it_was_disabled(self, works: Works) -> None:
        to = await works.house.add(disabled_at=clock.now())
        events = [await works.house.publish() for _ in range(3)]
        with pytest.raises(BadRequest, match="Destination is disabled"):
            await works.create(destination_id=to.id)
        await works.house.change(to, disabled_at=None)
        replay = await works.ended(await works.create(destination_id=to.id))
        assert replay.delivered == 3
        assert sorted(arrivals(works, to)) == sorted(event.id for event in events)

    async def test_what_a_later_destination_missed_if_it_would_be_routed_there_now(self, works: Works) -> None:
        await works.house.add("des_1")
        first = await works.delivered(1, data=b'{"amount": 5}')
        wanted = await works.delivered(3, data=b'{"amount": 50}')
        await works.delivered(2, topic="user.created")
        await works.delivered(1, destination_id="des_1")
        later = await works.house.add("later", topics=("order.*",), filter={"data": {"amount": {"$gte": 10}}})
        since = TimeRange(gte=first[0].time)
        replay = await works.ended(await works.create(destination_id="later", missed=True, query={"time": since}))
        assert (replay.selected, replay.total, replay.delivered) == (7, 3, 3)
        assert replay.skipped == {"filter": 1, "topic": 2, "not_addressed": 1}
        assert sorted(arrivals(works, later)) == sorted(event.id for event in wanted)
        again = await works.ended(await works.create(destination_id="later", missed=True))
        assert again.total == 3
        only_missed = {"statuses": (Status.SKIPPED, Status.DISABLED)}
        nothing = await works.ended(await works.create(destination_id="later", missed=True, query=only_missed))
        assert (nothing.selected, nothing.total) == (7, 0)

    async def test_with_a_status_that_what_was_missed_has_not_it_is_not_sent(self, works: Works) -> None:
        await works.house.add("des_1")
        await works.delivered(2)
        later = await works.house.add("later")
        failed = {"statuses": (Status.EXHAUSTED,)}
        nothing = await works.ended(await works.create(destination_id="later", missed=True, query=failed))
        assert (nothing.selected, nothing.total, arrivals(works, later)) == (0, 0, [])

    async def test_what_cannot_be_sent_is_left_out_with_its_reason(self, works: Works) -> None:
        gone, off, picky = [await works.house.add(name) for name in ("gone", "off", "picky")]
        await works.delivered(2)
        await works.house.publish(destination_id="unknown")
        await works.house.change(off, disabled_at=clock.now())
        await works.house.change(picky, topics=("user.*",))
        await works.house.store.delete_destination("acme", gone.id, now=clock.now())
        works.house.changed("acme")
        replay = await works.ended(await works.create())
        assert replay.total == 0
        assert replay.skipped == {"deleted": 2, "disabled": 2, "topic": 2, "no_delivery": 1}


class TestPreview:
    async def test_says_what_it_would_come_to_and_does_nothing(self, works: Works) -> None:
        await works.house.add("des_1")
        off = await works.house.add("des_2")
        await works.delivered(510)
        await works.house.change(off, disabled_at=clock.now())
        works.receivers.seen.clear()
        preview = await works.replays.preview(wished(), by=OPERATOR)
        assert (preview.selected, preview.examined, preview.planned) == (510, 510, True)
        assert (preview.total, preview.skipped) == (510, {"disabled": 510})
        assert works.receivers.seen == []
        with pytest.raises(NotFound):
            await works.replays.replay(preview.seq, None)


class TestOnItsWay:
    async def test_cancelling_sends_nothing_more(self, tmp_path: Path) -> None:
        works = Works(tmp_path, pace=Pace(rate=100_000, outstanding=4))
        await works.start()
        to = await works.house.add()
        await works.delivered(20)
        works.receivers.seen.clear()
        gate = asyncio.Event()
        works.receivers.behaviour[to.id] = lambda _: gate.wait()
        replay = await works.create()
        async with asyncio.timeout(5):
            while len(arrivals(works, to)) < 4:
                await asyncio.sleep(0.01)
        cancelled = await works.replays.cancel(replay, by=CUSTOMER)
        assert cancelled.state is ReplayState.CANCELLING
        gate.set()
        ended = await works.ended(replay)
        assert (ended.state, ended.total, ended.delivered, ended.waiting) == (ReplayState.CANCELLED, 4, 4, 0)
        assert ended.skipped == {"cancelled": 16}
        assert len(arrivals(works, to)) == 4
        assert await works.audited(replay) == [
            ("replay.create", "api_key:ops"),
            ("replay.cancel", "tenant:acme"),
            ("replay.end", "api_key:ops"),
        ]
        assert (await works.replays.cancel(replay, by=CUSTOMER)).state is ReplayState.CANCELLED
        await works.close()

    async def test_what_has_ended_cannot_be_cancelled(self, works: Works) -> None:
        replay = await works.ended(await works.create())
        with pytest.raises(Conflict, match="come to its end"):
            await works.replays.cancel(replay, by=OPERATOR)

    async def test_no_more_than_a_part_of_a_lane_is_taken(self, works: Works) -> None:
        to = await works.house.add()
        await works.delivered(100)
        gate = asyncio.Event()
        works.receivers.seen.clear()
        works.receivers.behaviour[to.id] = lambda _: gate.wait()
        replay = await works.create()
        spare = Bounds().concurrency_per_destination // 4
        async with asyncio.timeout(5):
            while len(arrivals(works, to)) < spare:
                await asyncio.sleep(0.01)
        live = await works.house.publish()
        async with asyncio.timeout(5):
            while live.id not in arrivals(works, to):
                await asyncio.sleep(0.01)
        assert len(arrivals(works, to)) == spare + 1
        gate.set()
        assert (await works.ended(replay)).delivered == 100

    async def test_a_destination_that_does_not_answer_holds_up_no_other(self, works: Works) -> None:
        dead, well = await works.house.add("dead"), await works.house.add("well")
        await works.delivered(100)
        gate = asyncio.Event()
        works.receivers.seen.clear()
        works.receivers.behaviour[dead.id] = lambda _: gate.wait()
        replay = await works.create()
        async with asyncio.timeout(10):
            while len(arrivals(works, well)) < 100:
                await asyncio.sleep(0.01)
        assert len(arrivals(works, dead)) < 100
        gate.set()
        assert (await works.ended(replay)).delivered == 200

    async def test_what_is_disabled_meanwhile_is_left_out(self, works: Works) -> None:
        to = await works.house.add()
        await works.delivered(40)
        gate = asyncio.Event()
        works.receivers.behaviour[to.id] = lambda _: gate.wait()
        works.receivers.seen.clear()
        replay = await works.create()
        async with asyncio.timeout(5):
            while not arrivals(works, to):
                await asyncio.sleep(0.01)
        await works.house.change(to, disabled_at=clock.now())
        ended = await works.ended(replay)
        gate.set()
        assert ended.skipped["disabled"] == 40 - ended.total > 0
        assert ended.delivered + ended.failed == ended.total

    async def test_a_stopped_one_goes_on_where_it_was(self, works: Works) -> None:
        to = await works.house.add()
        events = await works.delivered(500)
        works.receivers.seen.clear()
        replay = await works.create()
        async with asyncio.timeout(10):
            while len(arrivals(works, to)) < 50:
                await asyncio.sleep(0.01)
        await works.runner.close()
        assert (await works.replays.replay(replay.seq, None)).waiting
        await works.runner.start()
        assert (await works.ended(replay)).delivered == 500
        assert sorted(arrivals(works, to)) == sorted(event.id for event in events)

    async def test_two_take_turns(self, works: Works) -> None:
        await works.house.add()
        await works.delivered(100)
        both = [await works.create(), await works.create(by=CUSTOMER)]
        assert [(await works.ended(replay)).delivered for replay in both] == [100, 100]


class TestLimits:
    @pytest.fixture
    async def works(self, tmp_path: Path) -> AsyncIterator[Works]:
        built = Works(tmp_path, Limits(per_event=2, per_hour=5, events=7, running=1))
        await built.start()
        yield built
        await built.close()

    async def test_an_event_is_sent_again_so_often(self, works: Works) -> None:
        await works.house.add()
        await works.delivered(1)
        assert [(await works.ended(await works.create())).skipped for _ in range(3)] == [{}, {}, {"limit": 1}]

    async def test_a_replay_has_so_many_events(self, works: Works) -> None:
        await works.house.add()
        await works.delivered(8)
        with pytest.raises(Invalid) as refused:
            await works.create()
        fault = "events selects more than 7 events, which is all that one replay may have; narrow it"
        assert refused.value.data == [fault]

    async def test_a_tenant_has_so_many_events_in_an_hour(self, works: Works) -> None:
        await works.house.add()
        first, *_ = await works.delivered(3)
        assert await works.replays.left("acme", by=CUSTOMER) == 5
        assert await works.replays.left("acme", by=OPERATOR) is None
        await works.ended(await works.create(by=CUSTOMER))
        with pytest.raises(TooMany, match="2 are left") as refused:
            await works.create(by=CUSTOMER)
        assert isinstance(refused.value.data, dict)
        assert (refused.value.data["limit"], refused.value.data["remaining"]) == (5, 2)
        assert 0 < refused.value.retry_after <= 3600
        await works.ended(await works.create(by=CUSTOMER, query={"ids": (first.id,)}))
        assert await works.replays.left("acme", by=CUSTOMER) == 1
        await works.ended(await works.create())
        works.ahead = refused.value.retry_after * SECOND
        assert await works.replays.left("acme", by=CUSTOMER) == 5

    async def test_more_than_an_hour_ever_gives_is_refused_for_good(self, works: Works) -> None:
        await works.house.add()
        await works.delivered(6)
        with pytest.raises(Invalid, match="validation"):
            await works.create(by=CUSTOMER)
        assert (await works.create()).selected == 6

    async def test_a_tenant_has_so_many_replays_at_one_time(self, works: Works) -> None:
        to = await works.house.add()
        await works.delivered(1)
        gate = asyncio.Event()
        works.receivers.behaviour[to.id] = lambda _: gate.wait()
        running = await works.create(by=CUSTOMER)
        assert await works.create(by=CUSTOMER) == running  # asked for twice, it is one
        with pytest.raises(TooMany, match="at most 1 replays") as refused:
            await works.create(by=CUSTOMER, asked={"topic": "order.*"})
        assert refused.value.data == {"limit": 1, "remaining": 0}
        others = await works.create()
        gate.set()
        assert (await works.ended(running)).delivered == (await works.ended(others)).delivered == 1
        await works.ended(await works.create(by=CUSTOMER))
