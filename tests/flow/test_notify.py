"""From a failing destination to the people who have to know, and back to a working one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.store.builders import NOW, OPERATOR
from waypost.connect.channel import Notice
from waypost.core.alerts import DEFAULT_SEVERITY, Kind, Rule, Thresholds
from waypost.core.errors import DeliveryError, Unavailable
from waypost.core.model import SECOND, DeliveryState, Destination, Topic
from waypost.core.retry import RetryPolicy
from waypost.flow import clock
from waypost.flow.deliver import Bounds
from waypost.flow.notify import Effort
from waypost.flow.permits import Permits
from waypost.store.alerting import Alert, AlertQuery, EntryQuery
from waypost.store.base import Page

from .house import House, Receivers
from .test_deliver import fails, succeeds

ALL = Page(limit=1000)
FAILURE = "alert.destination.consecutive_failure"
DISABLED = "alert.destination.disabled"
RECOVERED = "alert.destination.recovered"
SLOW_RETRIES = RetryPolicy(limit=5, base_seconds=3600, jitter=0)


def rule(kind: Kind, **thresholds: Any) -> Rule:
    return Rule(no=0, id=kind.value, kind=kind, thresholds=Thresholds(**thresholds), severity=DEFAULT_SEVERITY[kind])


RULES = (
    rule(Kind.CONSECUTIVE_FAILURES, count=20, steps=(50, 70, 90, 100)),
    rule(Kind.DESTINATION_DISABLED),
    rule(Kind.RECOVERED),
    rule(Kind.BACKLOG_AGE, age_seconds=30.0),
    rule(Kind.STORE_TROUBLE, age_seconds=0.1),
)
Build = Callable[..., House]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    """Houses on one file, one after another; the last one is closed at the end."""
    built: list[House] = []

    def one(*rules: Rule, policy: RetryPolicy = SLOW_RETRIES, **options: Any) -> House:
        bounds = Bounds(first_width=64, sweep_interval=0.05, shutdown=0.2)
        built.append(House(tmp_path, Receivers(), bounds, policy, rules=(*RULES, *rules), **options))
        return built[-1]

    yield one
    await built[-1].close()


@pytest.fixture
async def house(build: Build) -> House:
    house = build(rule(Kind.AUTO_DISABLE, count=20))
    await house.start()
    return house


async def alerts(house: House, *kinds: Kind) -> list[Alert]:
    found = await house.store.alerting.alerts(AlertQuery(kinds=tuple(kinds)), ALL)
    return list(found.items)[::-1]


async def fail_in_parallel(house: House, to: Destination, count: int) -> None:
    """Deliveries that are all under way before the first of them fails."""
    started = asyncio.Semaphore(0)
    go = asyncio.Event()

    async def together(_: object) -> None:
        started.release()
        await go.wait()
        raise DeliveryError("503", "the receiver answered 503")

    house.receivers.behaviour[to.id] = together
    await asyncio.gather(*(house.publish() for _ in range(count)))
    for _ in range(count):
        await started.acquire()
    go.set()


async def until_disabled(house: House, to: Destination, *, disabled: bool = True) -> Destination:
    async with asyncio.timeout(10):
        while True:
            current = await house.store.destination_by_no(to.no)
            assert current is not None
            if (current.disabled_at is not None) is disabled:
                return current
            await asyncio.sleep(0.005)


async def test_parallel_failures_tell_each_step_once(house: House) -> None:
    to = await house.add()
    await house.add_channel()
    await fail_in_parallel(house, to, 20)
    assert sorted(await house.told(5)) == [FAILURE] * 4 + [DISABLED]
    steps = [alert.data["threshold"] for alert in await alerts(house, Kind.CONSECUTIVE_FAILURES)]
    assert steps == [50, 70, 90, 100]
    await asyncio.sleep(0.2)
    assert len(house.pagers.seen) == 5


async def test_the_whole_story(house: House) -> None:
    to = await house.add()
    await house.add_channel()
    await fail_in_parallel(house, to, 20)
    down = await until_disabled(house, to)
    assert down.disabled is not None
    assert (down.disabled.reason, down.disabled.by, down.disabled.code) == ("consecutive_failures", "system", "503")
    assert down.disabled.failures == 20
    kept = [await house.publish() for _ in range(3)]
    assert {(await house.state(event, to)) for event in kept} == {DeliveryState.KEPT}
    assert await house.store.count_kept(to.no, since=0) == 3

    house.receivers.behaviour[to.id] = succeeds
    await house.change(down, disabled_at=None, disabled=None)
    assert await house.replayer.recover(structs.replace(down, disabled_at=None), 0, by=OPERATOR) == 3
    for event in kept:
        await house.until(event, to, DeliveryState.DELIVERED)
    assert await house.store.count_kept(to.no, since=0) == 0
    assert (await house.told(6))[-1] == RECOVERED
    written = await house.store.alerting.audit_log(EntryQuery(subjects=(to.id,)), ALL)
    assert [entry.action for entry in written.items][::-1] == ["destination.disable", "destination.recover"]


async def test_gone_disables_at_once(build: Build) -> None:
    house = build(rule(Kind.AUTO_DISABLE, count=1000, codes=("410",)))
    await house.start()
    to = await house.add()
    house.receivers.behaviour[to.id] = fails("410", retryable=False)
    await house.publish()
    why = (await until_disabled(house, to)).disabled
    assert why is not None
    assert why.reason == "gone"


async def test_retries_wait_while_it_is_disabled_and_go_on_afterwards(build: Build) -> None:
    house = build(rule(Kind.AUTO_DISABLE, count=2), policy=RetryPolicy(schedule=(0.01,) * 5, jitter=0))
    await house.start()
    to = await house.add()
    house.receivers.behaviour[to.id] = fails()
    event = await house.publish()
    down = await until_disabled(house, to)
    attempts = len(await house.attempts(event))
    await asyncio.sleep(0.2)
    assert len(await house.attempts(event)) == attempts
    assert await house.state(event, to) is DeliveryState.PENDING
    house.receivers.behaviour[to.id] = succeeds
    await house.change(down, disabled_at=None, disabled=None)
    await house.until(event, to, DeliveryState.DELIVERED)


async def test_a_trial_after_the_cool_down_enables_it_again(build: Build) -> None:
    house = build(rule(Kind.AUTO_DISABLE, count=3, probe_after_seconds=0.3))
    await house.start()
    to = await house.add()
    await house.add_channel()
    await fail_in_parallel(house, to, 3)
    await until_disabled(house, to)
    kept = await house.publish()
    house.receivers.behaviour[to.id] = fails()
    failed = len(house.receivers.seen)
    async with asyncio.timeout(10):
        while len(house.receivers.seen) == failed:
            await asyncio.sleep(0.01)
    assert len(house.receivers.seen) == failed + 1
    house.receivers.behaviour[to.id] = succeeds
    await until_disabled(house, to, disabled=False)
    assert DISABLED in house.pagers.topics("ops")
    assert (await house.told(2))[-1] == RECOVERED
    written = await house.store.alerting.audit_log(EntryQuery(actions=("destination.enable",)), ALL)
    assert [entry.actor.kind for entry in written.items] == ["system"]
    assert kept.id in house.receivers.ids(to.id) or await house.state(kept, to) is DeliveryState.KEPT


async def test_a_dead_channel_delays_nobody_and_nothing(house: House) -> None:
    to = await house.add()
    await house.add_channel("dead")
    await house.add_channel("alive")
    house.pagers.behaviour["dead"] = hangs
    await fail_in_parallel(house, to, 20)
    assert len(await house.told(5, of="alive")) == 5
    healthy = await house.add("des_2")
    await house.until(await house.publish(), healthy, DeliveryState.DELIVERED)


def refuses(code: str = "503", **details: Any) -> Callable[[Notice], None]:
    def refuse(_: Notice) -> None:
        raise DeliveryError(code, f"the service answered {code}", **details)

    return refuse


async def hangs(_: Notice) -> None:
    await asyncio.sleep(3600)


async def state_of(house: House, channel_no: int, waiting: int) -> str | None:
    async with asyncio.timeout(10):
        while True:
            state = (await house.store.alerting.channel_states([channel_no]))[channel_no]
            if state.waiting == waiting and state.failed_at is not None:
                return state.error
            await asyncio.sleep(0.01)


EAGER = Effort(policy=RetryPolicy(schedule=(0.01, 0.01), jitter=0), look_interval=0.02, shutdown=0.2)


async def test_tries_are_bounded_and_raise_no_alerts(build: Build) -> None:
    house = build(effort=EAGER)
    await house.start()
    to = await house.add()
    channel = await house.add_channel()
    house.pagers.behaviour["ops"] = refuses()
    await fail_in_parallel(house, to, 10)
    assert await state_of(house, channel.no, 0) == "503: the service answered 503"
    assert house.pagers.topics("ops") == [FAILURE] * 3
    assert len({notice.id for _, notice in house.pagers.seen}) == 1
    assert len(await alerts(house)) == 1


async def test_what_cannot_be_mended_is_not_tried_again(build: Build) -> None:
    house = build(effort=EAGER)
    await house.start()
    to = await house.add()
    channel = await house.add_channel()
    house.pagers.behaviour["ops"] = refuses("404", retryable=False)
    await fail_in_parallel(house, to, 10)
    await state_of(house, channel.no, 0)
    assert len(house.pagers.seen) == 1


async def test_a_channel_that_asks_to_wait_is_waited_for(build: Build) -> None:
    house = build(effort=EAGER)
    await house.start()
    to = await house.add()
    await house.add_channel()
    house.pagers.behaviour["ops"] = refuses("429", retry_after=3600)
    await fail_in_parallel(house, to, 10)
    await house.told(1)
    async with asyncio.timeout(10):
        while True:
            ((_, due),) = await house.store.alerting.news_waiting()
            if due > clock.now() + 3000 * SECOND:
                break
            await asyncio.sleep(0.01)


async def test_a_crashing_channel_is_a_failed_try(build: Build) -> None:
    house = build(effort=EAGER)
    await house.start()
    to = await house.add()
    channel = await house.add_channel()

    def crash(_: Notice) -> None:
        raise ZeroDivisionError

    house.pagers.behaviour["ops"] = crash
    await fail_in_parallel(house, to, 10)
    assert (await state_of(house, channel.no, 0) or "").startswith("internal_error")


async def test_what_was_not_told_is_told_after_a_restart(build: Build) -> None:
    first = build()
    await first.start()
    to = await first.add()
    await first.add_channel()
    first.pagers.behaviour["ops"] = hangs
    await fail_in_parallel(first, to, 10)
    await first.told(1)
    await first.close()
    second = build()
    await second.start()
    assert await second.told(1) == [FAILURE]
    (_, before), (_, after) = first.pagers.seen[0], second.pagers.seen[0]
    assert before.id == after.id


async def test_attempts_are_news_for_channels_that_ask(house: House) -> None:
    to = await house.add()
    await house.add_channel("all", topics=("attempt.*",))
    event = await house.publish(data=b'{"order": 42.0}')
    await house.until(event, to, DeliveryState.DELIVERED)
    assert await house.told(1, of="all") == ["attempt.success"]
    ((_, notice),) = house.pagers.seen
    assert b'"data":{"order": 42.0}' in notice.envelope


async def test_changes_of_the_catalogue_are_news_for_the_operator(house: House) -> None:
    await house.add_channel(topics=("topic.*",))
    await house.add_channel("tenants", owner="acme", topics=("*",))
    await house.store.put_topic(Topic(name="order.created", created_at=NOW, updated_at=NOW))
    await house.store.delete_topic("order.created")
    await house.store.delete_topic("order.created")
    assert sorted(await house.told(2)) == ["topic.deleted", "topic.updated"]
    ((_, notice), *_) = house.pagers.seen
    assert notice.text == f"{notice.topic} of order.created."
    assert house.pagers.topics("tenants") == []


async def test_what_a_tenant_sends_by_the_operators_means_is_counted(house: House) -> None:
    kind = house.notifier._senders._types["pager"]
    borrowing = type("Borrowing", (type(kind),), {"borrows": True})()
    house.notifier._senders.permits = Permits(types={"pager": borrowing}, allowed=frozenset({"pager"}), per_hour=2)
    mine = await house.add_channel("mine", owner="acme", topics=("attempt.*",))
    await house.add_channel("ops", topics=("attempt.*",))
    to = await house.add()
    for _ in range(4):
        await house.until(await house.publish(), to, DeliveryState.DELIVERED)
    await house.told(4)
    async with asyncio.timeout(10):
        while not (state := (await house.store.alerting.channel_states([mine.no]))[mine.no]).error:
            await asyncio.sleep(0.01)
    assert state.error is not None
    assert state.error.startswith("too_many: at most 2 messages")
    assert len(await house.told(2, "mine")) == 2
    assert state.waiting == 2


async def test_a_tenants_channel_of_a_type_that_it_may_not_use_says_so(house: House) -> None:
    kind = house.notifier._senders._types["pager"]
    borrowing = type("Borrowing", (type(kind),), {"borrows": True})()
    house.notifier._senders.permits = Permits(types={"pager": borrowing})
    mine = await house.add_channel("mine", owner="acme", topics=("attempt.*",))
    to = await house.add()
    await house.until(await house.publish(), to, DeliveryState.DELIVERED)
    async with asyncio.timeout(10):
        while not (state := (await house.store.alerting.channel_states([mine.no]))[mine.no]).error:
            await asyncio.sleep(0.01)
    assert state.error is not None
    assert state.error.startswith("not_allowed: ")
    assert (state.waiting, house.pagers.topics("mine")) == (0, [])


async def test_trouble_of_the_store_is_told_from_memory(house: House, tmp_path: Path) -> None:
    await house.add_channel()
    intruder = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await house.publish()
    assert await house.told(1) == ["alert.store.trouble"]
    intruder.execute("ROLLBACK")
    intruder.close()
    await house.publish()
    assert await house.told(2) == ["alert.store.trouble", "alert.store.recovered"]
    async with asyncio.timeout(10):
        while len(await alerts(house)) < 2:
            await asyncio.sleep(0.01)
    assert [alert.topic for alert in await alerts(house)] == ["alert.store.trouble", "alert.store.recovered"]
    assert [notice.resolves for _, notice in house.pagers.seen] == [False, True]
    assert len({notice.dedup_key for _, notice in house.pagers.seen}) == 1


async def test_a_backlog_is_told_once_and_its_end_once(build: Build) -> None:
    house = build()
    await house.start()
    await house.dispatcher.sweeping.close()  # it would look as well
    await house.add_channel()
    for age in (10.0, 31.0, 45.0, 16.0, 14.0, 10.0):
        await house.store.alerting.observe_backlog(age, now=clock.now())
    house.notifier.ring()
    assert await house.told(2) == ["alert.backlog.age", "alert.backlog.recovered"]
    assert len(await alerts(house)) == 2
