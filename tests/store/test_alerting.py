"""What every store owes alerts: rules, channels, health, what is to be told, and the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.core.test_health import Model
from waypost.core import ids
from waypost.core.alerts import DEFAULT_SEVERITY, Audience, Channel, Kind, Rule, Thresholds
from waypost.core.errors import BadRequest, Unavailable
from waypost.core.health import WELL
from waypost.core.model import SECOND, SYSTEM, DeliveryState, Destination, Disabling, Event, Micros
from waypost.core.retry import RetryPolicy
from waypost.core.routing import Skip
from waypost.flow.clock import Sequence as SequenceNumbers
from waypost.store.alerting import Alert, AlertQuery, ChannelState, Entry, EntryQuery, News
from waypost.store.base import ApiKey, Direction, Page, Recorded, Result, RetryRequest, Store, TimeRange
from waypost.store.sqlite import SqliteStore

from .builders import (
    CUSTOMER,
    NOW,
    OPERATOR,
    delivery,
    destination,
    entry,
    event,
    next_seq,
    outcome,
    publication,
    result,
)
from .conftest import KEY, sqlite_store

ALL = Page(limit=1000)
SLOW = RetryPolicy(limit=5, base_seconds=3_600, jitter=0)
FAILURE = "alert.destination.consecutive_failure"
Build = Callable[..., Awaitable[Store]]
_counter = itertools.count(100 * ids.COUNTS)


def rule(kind: Kind, **thresholds: Any) -> Rule:
    """A rule as the settings have them."""
    return Rule(no=0, id=kind.value, kind=kind, thresholds=Thresholds(**thresholds), severity=DEFAULT_SEVERITY[kind])


STEPS = rule(Kind.CONSECUTIVE_FAILURES, count=20, steps=(50, 70, 90, 100))
DISABLED, RECOVERED = rule(Kind.DESTINATION_DISABLED), rule(Kind.RECOVERED)


@pytest.fixture(params=["sqlite"])
async def build(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Build]:
    """Opens a store of each sort with rules, in place of one that was opened before."""
    opened: list[Store] = []

    async def one(*rules: Rule, tenants: Sequence[str] = ("acme", "zeta")) -> Store:
        for before in opened:
            await before.close()
        made = {"sqlite": sqlite_store}[request.param](tmp_path, rules=rules)
        await made.open()
        opened.append(made)
        for tenant_id in tenants:
            await made.put_tenant(tenant_id, None, now=NOW)
        return made

    yield one
    for store in opened:
        await store.close()


@pytest.fixture
async def bare(build: Build) -> Store:
    """A store without rules."""
    return await build()


def own(kind: Kind = Kind.CONSECUTIVE_FAILURES, **changes: Any) -> Rule:
    """A rule to be stored."""
    plain = Rule(
        no=0,
        id=f"rul_{next_seq()}",
        kind=kind,
        thresholds=Thresholds(count=3, steps=(100,)) if kind is Kind.CONSECUTIVE_FAILURES else Thresholds(),
        severity=DEFAULT_SEVERITY[kind],
        created_at=NOW,
        updated_at=NOW,
    )
    return structs.replace(plain, **changes)


def channel(name: str = "ops", **changes: Any) -> Channel:
    plain = Channel(
        no=0,
        id=f"chn_{name}",
        owner=None,
        type="webhook",
        name=name,
        config={"url": "https://example.com/alerts"},
        credentials={"secret": "whsec_YWxlcnRz"},
        created_at=NOW,
        updated_at=NOW,
    )
    return structs.replace(plain, **changes)


async def add_channel(store: Store, name: str = "ops", **changes: Any) -> Channel:
    return await store.alerting.add_channel(channel(name, **changes), entry(), limit=100)


async def add(store: Store, tenant_id: str = "acme", name: str = "des_1", **changes: Any) -> Destination:
    return await store.add_destination(destination(tenant_id, name, **changes), limit=100)


async def due(store: Store, to: Destination, count: int, **changes: Any) -> list[Event]:
    """Events whose deliveries are under way."""
    made = [event(to.tenant_id, **changes) for _ in range(count)]
    await store.accept_many([publication(each, to) for each in made])
    return made


def tried(of: Event, to: Destination, *, ok: bool = False, at: Micros = NOW, **changes: Any) -> Result:
    """The first attempt of a delivery: by default it fails, and is to be tried again much later."""
    of_delivery = {name: changes.pop(name) for name in ("manual", "attempt") if name in changes}
    policy = changes.pop("policy", SLOW)
    came = outcome(ok=ok, started_at=at, latency=0, **{"code": "200" if ok else "503"} | changes)
    made = result(delivery(of, to, **of_delivery), came, policy)
    return structs.replace(made, seq=ids.compose(at // 1000, *divmod(next(_counter), ids.COUNTS)))


async def attempts(store: Store, to: Destination, *outcomes: bool, **changes: Any) -> list[Recorded]:
    """Attempts at once, one after another in one transaction or in several."""
    made = [
        tried(of, to, ok=ok, **changes) for of, ok in zip(await due(store, to, len(outcomes)), outcomes, strict=True)
    ]
    recorded = await asyncio.gather(*(store.record(each) for each in made))
    assert None not in recorded
    return [each for each in recorded if each is not None]


async def alerts(store: Store, query: AlertQuery | None = None) -> list[Alert]:
    """Oldest first."""
    return list((await store.alerting.alerts(query or AlertQuery(), ALL)).items)[::-1]


async def steps(store: Store) -> list[int]:
    return [one.data["threshold"] for one in await alerts(store, AlertQuery(kinds=(Kind.CONSECUTIVE_FAILURES,)))]


async def log(store: Store, query: EntryQuery | None = None) -> list[Entry]:
    """Newest first."""
    return list((await store.alerting.audit_log(query or EntryQuery(), ALL)).items)


async def actions(store: Store) -> list[str]:
    return [one.action for one in await log(store)][::-1]


async def news(store: Store, of: Channel, *, now: Micros = NOW, lease: Micros = 60 * SECOND) -> tuple[News, ...]:
    return await store.alerting.claim_news(of.no, now=now, lease_until=now + lease, limit=1000)


async def topics(store: Store, *of: Channel) -> list[list[str]]:
    """What each channel is to be told."""
    return [[one.topic for one in await news(store, each)] for each in of]


async def disabled(store: Store, to: Destination) -> Destination:
    changed = await store.replace_destination(
        structs.replace(to, disabled_at=NOW, disabled=Disabling(reason="manual", by="api_key:ops"))
    )
    assert changed is not None
    return changed


async def enabled(store: Store, to: Destination) -> Destination:
    current = await store.destination_by_no(to.no)
    assert current is not None
    changed = await store.replace_destination(structs.replace(current, disabled_at=None, disabled=None))
    assert changed is not None
    return changed


class TestRules:
    async def test_come_back_as_they_were_stored(self, bare: Store) -> None:
        to = await add(bare)
        thresholds = Thresholds(count=5, failing_seconds=1.5, all_of=True, codes=("410",), probe_after_seconds=60)
        wanted = [
            own(),
            own(
                Kind.AUTO_DISABLE,
                thresholds=thresholds,
                owner="acme",
                tenant_id="acme",
                destination_no=to.no,
                destination_id=to.id,
                enabled=False,
                severity="info",
                channel_ids=("chn_1",),
                muted_until=NOW + 1,
            ),
        ]
        added = [await bare.alerting.add_rule(each, entry()) for each in wanted]
        assert await bare.alerting.rules() == tuple(added)
        assert [structs.replace(each, no=0) for each in added] == wanted
        changed = structs.replace(added[0], severity="critical", channel_ids=(), thresholds=Thresholds(count=9))
        assert await bare.alerting.replace_rule(changed, entry())
        assert (await bare.alerting.rules())[0] == changed

    async def test_an_owner_has_one_of_a_kind_for_a_place(self, bare: Store) -> None:
        to = await add(bare)
        for place in (
            {},
            {"tenant_id": "acme"},
            {"tenant_id": "acme", "destination_no": to.no},
            {"tenant_id": "acme", "owner": "acme"},
            {"tenant_id": "acme", "owner": "acme", "destination_no": to.no},
            {"kind": Kind.RECOVERED},
        ):
            await bare.alerting.add_rule(own(**place), entry("rule.add"))
            with pytest.raises(BadRequest, match="there is a rule of this kind for the same place already"):
                await bare.alerting.add_rule(own(**place), entry("rule.refused"))
        assert await actions(bare) == ["rule.add"] * 6

    async def test_hold_from_the_next_attempt_on(self, bare: Store) -> None:
        to = await add(bare)
        await attempts(bare, to, *[False] * 2)
        added = await bare.alerting.add_rule(own(), entry())
        await attempts(bare, to, False)
        assert await steps(bare) == [100]
        await bare.alerting.replace_rule(structs.replace(added, enabled=False), entry())
        await attempts(bare, to, True, *[False] * 3)
        await bare.alerting.replace_rule(added, entry())
        await attempts(bare, to, False)
        await bare.alerting.delete_rule(added.no, entry())
        await attempts(bare, to, True, *[False] * 3)
        assert await steps(bare) == [100, 100]

    async def test_the_one_for_the_destination_goes_first(self, build: Build) -> None:
        store = await build(STEPS)
        to, other, foreign = await add(store), await add(store, name="des_2"), await add(store, "zeta")
        stricter = Thresholds(count=2, steps=(100,))
        await store.alerting.add_rule(own(tenant_id="acme", thresholds=stricter), entry())
        await store.alerting.add_rule(own(tenant_id="acme", destination_no=to.no), entry())
        for each in (to, other, foreign):
            await attempts(store, each, *[False] * 10)
        found = [(one.destination_id, one.tenant_id, one.data["current"]) for one in await alerts(store)]
        assert found == [("des_1", "acme", 3), ("des_2", "acme", 2), ("des_1", "zeta", 10)]

    async def test_go_with_their_destination_and_their_tenant(self, bare: Store) -> None:
        to = await add(bare)
        kept = await bare.alerting.add_rule(own(), entry())
        await bare.alerting.add_rule(own(tenant_id="acme"), entry())
        await bare.alerting.add_rule(own(tenant_id="acme", owner="acme"), entry())
        zetas = await bare.alerting.add_rule(own(tenant_id="zeta", owner="zeta"), entry())
        await bare.alerting.add_rule(own(tenant_id="acme", destination_no=to.no), entry())
        await bare.delete_destination("acme", to.id, now=NOW)
        assert len(await bare.alerting.rules()) == 4
        await bare.delete_tenant("acme", now=NOW)
        assert await bare.alerting.rules() == (kept, zetas)

    async def test_only_what_happened_is_in_the_audit_log(self, bare: Store) -> None:
        added = await bare.alerting.add_rule(own(), entry("rule.add"))
        await bare.alerting.replace_rule(added, entry("rule.replace"))
        assert not await bare.alerting.replace_rule(structs.replace(added, no=99), entry("rule.refused"))
        assert await bare.alerting.delete_rule(added.no, entry("rule.delete"))
        assert not await bare.alerting.delete_rule(added.no, entry("rule.refused"))
        assert await actions(bare) == ["rule.add", "rule.replace", "rule.delete"]


class TestChannels:
    async def test_come_back_as_they_were_stored(self, bare: Store) -> None:
        first = await add_channel(bare)
        second = await add_channel(
            bare,
            "night",
            owner="acme",
            topics=("alert.*", "attempt.failed"),
            min_severity="critical",
            enabled=False,
            muted_until=NOW + 5,
        )
        assert await bare.alerting.channels() == (first, second)
        assert structs.replace(first, no=0) == channel()

    async def test_are_few_and_have_names_of_their_own(self, bare: Store) -> None:
        for owner in (None, "acme", "zeta"):
            for name in ("a", "b"):
                await bare.alerting.add_channel(channel(name, id=f"{owner}{name}", owner=owner), entry(), limit=2)
            with pytest.raises(BadRequest, match="maximum number of alert channels reached"):
                await bare.alerting.add_channel(channel("c", owner=owner), entry("refused"), limit=2)
            with pytest.raises(BadRequest, match="an alert channel of this name already exists"):
                await bare.alerting.add_channel(channel("a", owner=owner), entry("refused"), limit=9)
        first, *_ = await bare.alerting.channels()
        with pytest.raises(BadRequest, match="an alert channel of this name already exists"):
            await bare.alerting.replace_channel(structs.replace(first, name="b"), entry("refused"))
        assert "refused" not in await actions(bare)

    async def test_a_change_is_a_new_version_and_comes_too_late_for_an_old_one(self, bare: Store) -> None:
        added = await add_channel(bare)
        changed = await bare.alerting.replace_channel(structs.replace(added, name="day"), entry("changed"))
        assert changed == structs.replace(added, name="day", version=2)
        assert await bare.alerting.replace_channel(added, entry("too late")) is None
        assert await bare.alerting.channels() == (changed,)
        assert await bare.alerting.delete_channel(added.no, entry("deleted"))
        assert not await bare.alerting.delete_channel(added.no, entry("too late"))
        assert await bare.alerting.replace_channel(changed, entry("too late")) is None
        assert await actions(bare) == ["did.it", "changed", "deleted"]

    async def test_go_with_their_tenant(self, build: Build) -> None:
        store = await build(STEPS)
        ops, mine = await add_channel(store), await add_channel(store, "mine", owner="acme")
        to = await add(store)
        await attempts(store, to, *[False] * 10)
        await store.delete_tenant("acme", now=NOW)
        assert await store.alerting.channels() == (ops,)
        assert await topics(store, ops, mine) == [[FAILURE], []]
        assert await store.alerting.news_waiting() == [(ops.no, NOW + 60 * SECOND)]


class TestAlerts:
    async def test_say_what_happened(self, build: Build) -> None:
        store = await build(STEPS)
        to = await add(store)
        *before, last = await due(store, to, 10, topic="order.paid", data=b'{"b": 1.0,"a":2}')
        for each in before:
            await store.record(tried(each, to))
        recorded = await store.record(tried(last, to, code="timeout", detail="it took too long"))
        (found,) = await alerts(store)
        assert recorded == Recorded(raised=(("consecutive_failures", "warning"),))
        assert (found.topic, found.severity, found.audience) == (FAILURE, "warning", Audience.BOTH)
        assert (found.tenant_id, found.destination_id, found.rule_id) == ("acme", "des_1", "consecutive_failures")
        assert found.data == {"current": 10, "max": 20, "threshold": 50, "failing_since": NOW}
        assert found.occurrence is not None
        assert (found.occurrence.event, found.occurrence.destination) == (last, to)
        assert (found.occurrence.attempt.code, found.occurrence.attempt.detail) == ("timeout", "it took too long")
        assert found.occurrence.next_due == NOW + 3_600 * SECOND

    async def test_outlive_their_destination_with_what_is_known_of_it(self, build: Build) -> None:
        store = await build(STEPS)
        to = await add(store)
        await attempts(store, to, *[False] * 10)
        await store.delete_destination("acme", to.id, now=NOW)
        await add(store)
        (found,) = await alerts(store, AlertQuery(destination_ids=("des_1",)))
        assert found.occurrence is not None
        assert found.occurrence.destination.no == to.no

    async def test_each_step_is_told_once_in_whatever_transactions(self, build: Build) -> None:
        store = await build(STEPS)
        to, ops = await add(store), await add_channel(store)
        for each in await due(store, to, 20):
            await store.record(tried(each, to))
        assert await steps(store) == [50, 70, 90, 100]
        await attempts(store, to, *[False] * 30)
        assert await steps(store) == [50, 70, 90, 100]
        await attempts(store, to, True, *[False] * 20)
        assert await steps(store) == [50, 70, 90, 100] * 2
        assert await topics(store, ops) == [[FAILURE] * 8]

    async def test_a_result_that_comes_too_late_counts_for_nothing(self, build: Build) -> None:
        store = await build(STEPS)
        to = await add(store)
        made = await due(store, to, 9)
        came = await asyncio.gather(*(store.record(tried(each, to)) for each in [*made, *made, *made]))
        assert came.count(None) == 18
        assert (await store.alerting.health(to.no)).streak == 9
        assert await alerts(store) == []

    async def test_attempts_of_different_destinations_do_not_add_up(self, build: Build) -> None:
        store = await build(STEPS)
        mine, other, foreign = await add(store), await add(store, name="des_2"), await add(store, "zeta")
        await asyncio.gather(*(attempts(store, each, *[False] * 9) for each in (mine, other, foreign)))
        assert await alerts(store) == []
        await attempts(store, other, False)
        assert [one.destination_id for one in await alerts(store)] == ["des_2"]

    async def test_a_given_up_delivery_is_told_unless_nobody_wanted_it_retried(self, build: Build) -> None:
        store = await build(rule(Kind.EXHAUSTED_RETRIES, window_seconds=60))
        to = await add(store)
        never = RetryPolicy(limit=0)
        (unwanted,) = await due(store, to, 1, eligible_for_retry=False)
        await store.record(tried(unwanted, to, policy=never))
        (by_hand,) = await due(store, to, 1)
        await store.retry(RetryRequest(event_seq=by_hand.seq, destination_no=to.no, now=NOW))
        await store.record(tried(by_hand, to, policy=never, manual=True))
        assert await alerts(store) == []
        await attempts(store, to, False, False, policy=never)
        await attempts(store, to, False, policy=never, at=NOW + 59 * SECOND)
        await attempts(store, to, False, policy=never, at=NOW + 60 * SECOND)
        assert [one.topic for one in await alerts(store)] == ["alert.attempt.exhausted_retries"] * 2

    async def test_a_tenant_sees_what_is_not_the_operators_alone(self, build: Build) -> None:
        store = await build(STEPS)
        to, foreign = await add(store), await add(store, "zeta")
        await store.alerting.add_rule(own(tenant_id="acme", owner="acme"), entry())
        await attempts(store, to, *[False] * 10)
        await attempts(store, foreign, *[False] * 10)
        seen = await alerts(store, AlertQuery(tenant_ids=("acme",), by_tenant=True))
        assert [(one.audience, one.data["current"]) for one in seen] == [(Audience.TENANT, 3)]
        seen = await alerts(store, AlertQuery(tenant_ids=("zeta",), by_tenant=True))
        assert [(one.audience, one.tenant_id) for one in seen] == [(Audience.BOTH, "zeta")]
        assert [one.audience for one in await alerts(store)] == ["tenant", "operator", "both"]

    async def test_are_found_by_every_condition(self, build: Build) -> None:
        store = await build(STEPS, DISABLED, rule(Kind.AUTO_DISABLE, count=10))
        to, foreign = await add(store), await add(store, "zeta", "des_9")
        await attempts(store, to, *[False] * 10)
        await attempts(store, foreign, *[False] * 10)
        everything = await alerts(store)
        first = everything[0]
        await store.alerting.acknowledge(first.seq, entry(), now=NOW)
        time = (await alerts(store))[0].seq
        for query, expected in (
            (AlertQuery(), 4),
            (AlertQuery(seqs=(first.seq,)), 1),
            (AlertQuery(tenant_ids=("acme",)), 2),
            (AlertQuery(tenant_ids=("acme", "zeta"), kinds=("destination_disabled",)), 2),
            (AlertQuery(destination_ids=("des_9",)), 2),
            (AlertQuery(destination_ids=("unknown",)), 0),
            (AlertQuery(kinds=("recovered",)), 0),
            (AlertQuery(severities=("critical",)), 2),
            (AlertQuery(acknowledged=True), 1),
            (AlertQuery(acknowledged=False), 3),
            (AlertQuery(time=TimeRange(gte=NOW)), 4),
            (AlertQuery(time=TimeRange(lt=NOW)), 0),
        ):
            assert len(await alerts(store, query)) == expected, query
        assert time == first.seq

    @pytest.mark.parametrize("direction", list(Direction))
    async def test_pages_hold_everything_once_in_both_ways(self, build: Build, direction: Direction) -> None:
        store = await build(STEPS)
        to = await add(store)
        for _ in range(3):
            await attempts(store, to, True, *[False] * 18)
        await attempts(store, to, True, *[False] * 10)
        whole = [
            one.seq for one in (await store.alerting.alerts(AlertQuery(), Page(limit=99, direction=direction))).items
        ]
        assert len(whole) == 10
        assert whole == sorted(whole, reverse=direction is Direction.DESC)
        forth: list[int] = []
        page = Page(limit=3, direction=direction)
        while True:
            part = await store.alerting.alerts(AlertQuery(), page)
            assert part.has_prev is bool(forth)
            forth += [one.seq for one in part.items]
            if not part.has_next:
                break
            page = Page(limit=3, direction=direction, after=(forth[-1], forth[-1]))
        assert forth == whole
        back = await store.alerting.alerts(
            AlertQuery(), Page(limit=4, direction=direction, before=(whole[5], whole[5]))
        )
        assert ([one.seq for one in back.items], back.has_prev, back.has_next) == (whole[1:5], True, True)

    async def test_the_first_acknowledgement_stays(self, build: Build) -> None:
        store = await build(STEPS)
        await attempts(store, await add(store), *[False] * 10)
        (found,) = await alerts(store)
        for who, when in ((CUSTOMER, NOW + 1), (OPERATOR, NOW + 2)):
            assert await store.alerting.acknowledge(found.seq, entry("alert.acknowledge", actor=who), now=when)
        (seen,) = await alerts(store)
        assert (seen.acknowledged_at, seen.acknowledged_by) == (NOW + 1, "tenant:acme")
        assert [one.actor for one in await log(store)] == [CUSTOMER]
        assert not await store.alerting.acknowledge(1, entry(), now=NOW)


class TestFailureRate:
    async def test_successes_of_before_and_of_the_same_transaction_count(self, build: Build) -> None:
        store = await build(rule(Kind.FAILURE_RATE, percent=50, min_count=2, window_seconds=600))
        to = await add(store)
        await attempts(store, to, *[True] * 5)
        await attempts(store, to, *[True] * 5, *[False] * 9, True, True)
        assert await alerts(store) == []
        await attempts(store, to, *[False] * 3)
        (found,) = await alerts(store)
        assert (found.data["failed"], found.data["attempts"]) == (12, 24)

    async def test_successes_of_a_destination_that_has_failed_before_count_too(self, build: Build) -> None:
        """It is known to the store, and its window is empty again."""
        store = await build(rule(Kind.FAILURE_RATE, percent=50, min_count=2, window_seconds=60), STEPS, RECOVERED)
        to = await add(store)
        await attempts(store, to, False)
        later = NOW + 120 * SECOND
        await attempts(store, to, *[True] * 5, False, False, False, at=later)
        assert await alerts(store) == []

    @given(
        st.sampled_from([1.0, 20.0, 33.3, 50.0]),
        st.integers(1, 6),
        st.sampled_from([2.0, 40.0, 600.0]),
        st.lists(
            st.tuples(
                st.sampled_from([0, 1_000, SECOND // 2, SECOND, 3 * SECOND, 40 * SECOND]),
                st.lists(st.booleans(), min_size=1, max_size=8),
            ),
            max_size=6,
        ),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_counts_what_a_slow_model_counts_in_whatever_transactions(
        self, bare: Store, percent: float, least: int, window: float, drawn: list[tuple[Micros, list[bool]]]
    ) -> None:
        """Each group is recorded at once, and each at a later time."""
        to = await add(bare, name=f"des_{next_seq()}")
        of = own(
            Kind.FAILURE_RATE,
            tenant_id="acme",
            destination_no=to.no,
            thresholds=Thresholds(percent=percent, min_count=least, window_seconds=window),
        )
        await bare.alerting.add_rule(of, entry())
        model, now = Model(of, []), NOW
        for step, outcomes in drawn:
            now += step
            found = [bool(each.raised) for each in await attempts(bare, to, *outcomes, at=now)]
            assert found == [model.see(now, ok=ok) for ok in outcomes]
        await bare.delete_destination("acme", to.id, now=NOW)


class TestDisabling:
    async def test_stops_at_the_limit_and_says_why(self, build: Build) -> None:
        store = await build(STEPS, DISABLED, rule(Kind.AUTO_DISABLE, count=10))
        to, ops = await add(store), await add_channel(store)
        recorded = await attempts(store, to, *[False] * 15)
        assert [each.disabled for each in recorded] == [None] * 9 + ["consecutive_failures"] + [None] * 5
        found = await store.destination_by_no(to.no)
        assert found is not None
        assert (found.disabled_at, found.updated_at, found.version) == (NOW, NOW, to.version + 1)
        assert found.disabled == Disabling(
            reason="consecutive_failures",
            by="system",
            code="503",
            failures=10,
            failing_since=NOW,
        )
        assert (await store.alerting.health(to.no)).streak == 10
        assert await topics(store, ops) == [[FAILURE, "alert.destination.disabled"]]
        (written,) = await log(store, EntryQuery(actions=("destination.disable",)))
        assert (written.actor, written.tenant_id, written.subject) == (SYSTEM, "acme", "des_1")
        assert written.detail["reason"] == "consecutive_failures"
        assert await store.due_destinations() == []
        assert await store.count_waiting() == 15

    async def test_a_tenants_stricter_rule_holds_too(self, build: Build) -> None:
        store = await build(rule(Kind.AUTO_DISABLE, count=100))
        to, foreign = await add(store), await add(store, "zeta")
        strict = Thresholds(count=2, codes=("410",))
        await store.alerting.add_rule(
            own(Kind.AUTO_DISABLE, tenant_id="acme", owner="acme", thresholds=strict), entry()
        )
        for each in (to, foreign):
            await attempts(store, each, False, False)
        states = [await store.destination_by_no(each.no) for each in (to, foreign)]
        assert [each and each.disabled_at for each in states] == [NOW, None]

    async def test_a_success_that_was_under_way_enables_it_again(self, build: Build) -> None:
        store = await build(RECOVERED, DISABLED, rule(Kind.AUTO_DISABLE, count=2))
        to = await add(store)
        recorded = await attempts(store, to, False, False, False, True, True)
        assert [each.enabled for each in recorded] == [False, False, False, True, False]
        found = await store.destination_by_no(to.no)
        assert found is not None
        assert (found.disabled_at, found.disabled, found.version) == (None, None, to.version + 2)
        assert [one.topic for one in await alerts(store)] == [
            "alert.destination.disabled",
            "alert.destination.recovered",
        ]
        assert await actions(store) == ["destination.disable", "destination.enable"]
        assert await store.alerting.health(to.no) == WELL

    async def test_what_a_person_disabled_stays_so(self, build: Build) -> None:
        store = await build(STEPS, RECOVERED, rule(Kind.AUTO_DISABLE, count=2))
        to = await add(store)
        down = await disabled(store, to)
        assert await attempts(store, to, *[False] * 20, True) == [Recorded()] * 21
        assert await store.destination_by_no(to.no) == down
        assert await store.alerting.health(to.no) == WELL

    async def test_what_comes_for_one_that_is_gone_leaves_nothing(self, build: Build) -> None:
        rate = rule(Kind.FAILURE_RATE, percent=1, min_count=1, window_seconds=600)
        store = await build(STEPS, rate, rule(Kind.AUTO_DISABLE, count=1))
        to = await add(store)
        made = await due(store, to, 3)
        await store.record(tried(made[0], to, ok=True))
        await store.delete_destination("acme", to.id, now=NOW)
        assert await store.record(tried(made[1], to)) == Recorded()
        assert await store.record(tried(made[2], to, ok=True)) == Recorded()
        assert await store.alerting.health(to.no) == WELL
        assert await alerts(store) == []

    @pytest.mark.parametrize("whole_tenant", [False, True])
    async def test_its_deletion_is_the_end_of_trouble(self, build: Build, whole_tenant: bool) -> None:
        store = await build(STEPS, RECOVERED)
        failing, well = await add(store), await add(store, name="des_2")
        ops = await add_channel(store, min_severity="warning")
        await attempts(store, failing, *[False] * 10)
        await attempts(store, well, True)
        await topics(store, ops)
        if whole_tenant:
            await store.delete_tenant("acme", now=NOW)
        else:
            await store.delete_destination("acme", failing.id, now=NOW)
            await store.delete_destination("acme", well.id, now=NOW)
        (over,) = (await store.alerting.alerts(AlertQuery(kinds=("recovered",)), ALL)).items
        assert (over.destination_id, over.data["deleted"]) == (failing.id, True)
        assert over.occurrence is not None
        assert await topics(store, ops) == [["alert.destination.recovered"]]

    async def test_enabled_by_hand_it_starts_anew_and_its_end_is_told(self, build: Build) -> None:
        store = await build(STEPS, DISABLED, RECOVERED, rule(Kind.AUTO_DISABLE, count=10, probe_after_seconds=60))
        to, ops = await add(store), await add_channel(store, min_severity="critical")
        await attempts(store, to, *[False] * 10)
        current = await enabled(store, to)
        health = await store.alerting.health(to.no)
        assert (health.streak, health.failing_since, health.probe_at) == (0, None, None)
        await attempts(store, current, *[False] * 9)
        assert await topics(store, ops) == [["alert.destination.disabled"]]
        await attempts(store, current, True, True)
        assert await topics(store, ops) == [["alert.destination.recovered"]]
        assert await store.alerting.health(to.no) == WELL

    async def test_an_enabling_that_came_too_late_changes_nothing(self, build: Build) -> None:
        store = await build(rule(Kind.AUTO_DISABLE, count=3, probe_after_seconds=60))
        to = await add(store)
        await attempts(store, to, *[False] * 3)
        before = await store.alerting.health(to.no)
        assert await store.replace_destination(structs.replace(to, disabled_at=None), entry("too late")) is None
        assert await store.alerting.health(to.no) == before
        assert before.streak == 3
        assert await actions(store) == ["destination.disable"]

    async def test_trials_fall_due_and_can_be_put_off(self, build: Build) -> None:
        store = await build(rule(Kind.AUTO_DISABLE, count=1, probe_after_seconds=60))
        to, other = await add(store), await add(store, name="des_2")
        await attempts(store, to, False)
        await disabled(store, other)
        assert await store.alerting.due_probes(NOW + 60 * SECOND - 1) == []
        assert await store.alerting.due_probes(NOW + 60 * SECOND) == [to.no]
        await store.alerting.put_probe_off(to.no, NOW + 90 * SECOND)
        await store.alerting.put_probe_off(other.no, NOW)
        assert await store.alerting.due_probes(NOW + 90 * SECOND - 1) == []
        assert await store.alerting.due_probes(NOW + 90 * SECOND) == [to.no]
        await attempts(store, to, False, at=NOW + 90 * SECOND)
        assert (await store.alerting.health(to.no)).probes == 1
        assert await store.alerting.due_probes(NOW + 210 * SECOND) == [to.no]
        await enabled(store, to)
        assert await store.alerting.due_probes(NOW + 3_600 * SECOND) == []

    async def test_destinations_are_counted_by_how_they_do(self, build: Build) -> None:
        store = await build(STEPS)
        well, failing, off, gone = [await add(store, name=f"des_{n}") for n in range(4)]
        await attempts(store, well, False, True)
        await attempts(store, failing, False)
        await attempts(store, off, False)
        await attempts(store, gone, False)
        await disabled(store, off)
        await store.delete_destination("acme", gone.id, now=NOW)
        census = await store.alerting.census()
        assert (census.enabled, census.disabled, census.failing) == (2, 1, 1)


class TestKept:
    async def kept(self, store: Store, to: Destination, count: int) -> list[Event]:
        """Events that were accepted a second after one another, while the destination was disabled."""
        made = [
            event(seq=SequenceNumbers(node=5, clock=lambda n=n: NOW + n * SECOND).next())  # type: ignore[misc]  # bound at once
            for n in range(count)
        ]
        for each in made:
            plain = publication(each, leased=False)
            await store.accept(structs.replace(plain, kept=(to,), skipped=(Skip(to.id, "disabled"),)))
        return made

    async def states(self, store: Store, of: Sequence[Event]) -> list[DeliveryState]:
        return [state for each in of for state in (await store.delivery_states(each.seq)).values()]

    async def test_waits_until_somebody_asks(self, bare: Store) -> None:
        to, other = await add(bare), await add(bare, name="des_2")
        made = await self.kept(bare, to, 3)
        assert await self.states(bare, made) == [DeliveryState.KEPT] * 3
        assert [await bare.count_kept(each.no, since=0) for each in (to, other)] == [3, 0]
        assert await bare.count_waiting() == 0
        assert await bare.due_destinations() == []
        found = await bare.event(made[0].id, tenant_id="acme")
        assert found is not None
        assert (found.matched_destination_ids, found.skipped) == ((), (Skip(to.id, "disabled"),))

    async def test_is_sent_in_pieces_the_oldest_first_and_once(self, bare: Store) -> None:
        to = await add(bare)
        made = await self.kept(bare, to, 5)
        pieces = [await bare.recover(to.no, since=0, now=NOW, limit=2) for _ in range(4)]
        assert pieces == [2, 2, 1, 0]
        taken = await bare.claim(to.no, now=NOW, lease_until=NOW + SECOND, limit=100)
        assert [(each.event, each.attempt, each.retries) for each in taken.deliveries] == [(e, 1, 0) for e in made]
        for each in taken.deliveries:
            assert await bare.record(result(each, outcome()))
        assert await bare.recover(to.no, since=0, now=NOW, limit=100) == 0

    @pytest.mark.parametrize(
        ("since", "expected"), [(NOW, 5), (NOW + 1, 4), (NOW + 3 * SECOND, 2), (NOW * 2, 0), (-1, 5)]
    )
    async def test_only_what_was_accepted_since_then(self, bare: Store, since: Micros, expected: int) -> None:
        to = await add(bare)
        made = await self.kept(bare, to, 5)
        assert await bare.count_kept(to.no, since=since) == expected
        assert await bare.recover(to.no, since=since, now=NOW, limit=100) == expected
        assert (await self.states(bare, made)).count(DeliveryState.KEPT) == 5 - expected

    async def test_is_cancelled_with_its_destination(self, bare: Store) -> None:
        to = await add(bare)
        made = await self.kept(bare, to, 2)
        await bare.delete_destination("acme", to.id, now=NOW)
        assert await self.states(bare, made) == [DeliveryState.CANCELLED] * 2
        assert await bare.recover(to.no, since=0, now=NOW, limit=100) == 0

    async def test_one_of_it_can_be_asked_for(self, bare: Store) -> None:
        to = await add(bare)
        first, second = await self.kept(bare, to, 2)
        await bare.retry(RetryRequest(event_seq=second.seq, destination_no=to.no, now=NOW))
        (taken,) = (await bare.claim(to.no, now=NOW, lease_until=NOW + SECOND, limit=9)).deliveries
        assert (taken.event, taken.manual) == (second, True)
        assert await self.states(bare, [first]) == [DeliveryState.KEPT]

    async def test_only_what_happened_is_in_the_audit_log(self, bare: Store) -> None:
        to = await add(bare)
        await self.kept(bare, to, 1)
        for _ in range(2):
            await bare.recover(to.no, since=0, now=NOW, limit=9, entry=entry("destination.recover"))
        assert await actions(bare) == ["destination.recover"]


class TestNews:
    @pytest.fixture
    async def store(self, build: Build) -> Store:
        return await build(STEPS, RECOVERED)

    async def test_is_written_for_those_who_are_to_hear_and_for_nobody_else(self, store: Store) -> None:
        channels = [
            await add_channel(store, "ops"),
            await add_channel(store, "acme", owner="acme"),
            await add_channel(store, "zeta", owner="zeta"),
            await add_channel(store, "muted", muted_until=NOW + 1),
            await add_channel(store, "unmuted", muted_until=NOW),
            await add_channel(store, "off", enabled=False),
            await add_channel(store, "calm", min_severity="critical"),
            await add_channel(store, "elsewhere", topics=("alert.store.*",)),
        ]
        recorded = await attempts(store, await add(store), *[False] * 10)
        assert recorded[-1].news
        assert await topics(store, *channels) == [[FAILURE], [FAILURE], [], [], [FAILURE], [], [], []]

    async def test_a_rule_names_channels_of_its_owner(self, store: Store) -> None:
        first, second, mine = (
            await add_channel(store, "first"),
            await add_channel(store, "second"),
            await add_channel(store, "mine", owner="acme"),
        )
        named = await store.alerting.add_rule(own(channel_ids=(second.id,)), entry())
        to = await add(store)
        await attempts(store, to, *[False] * 3)
        assert await topics(store, first, second, mine) == [[], [FAILURE], [FAILURE]]
        await store.alerting.replace_rule(structs.replace(named, muted_until=NOW + 1), entry())
        await attempts(store, await add(store, name="des_2"), *[False] * 3)
        assert await topics(store, first, second, mine) == [[], [], []]
        assert await steps(store) == [100, 100]

    async def test_a_tenants_own_rule_is_told_to_the_tenant_and_the_operators_no_longer(self, store: Store) -> None:
        ops, mine = await add_channel(store), await add_channel(store, "mine", owner="acme")
        await store.alerting.add_rule(own(owner="acme", tenant_id="acme"), entry())
        to = await add(store)
        await attempts(store, to, *[False] * 3)
        assert await topics(store, ops, mine) == [[], [FAILURE]]
        await attempts(store, to, *[False] * 7)
        assert await topics(store, ops, mine) == [[FAILURE], []]

    async def test_the_end_is_told_to_who_heard_of_the_trouble(self, store: Store) -> None:
        ops, mine = await add_channel(store), await add_channel(store, "mine", owner="acme")
        await store.alerting.add_rule(own(owner="acme", tenant_id="acme"), entry())
        to = await add(store)
        await attempts(store, to, *[False] * 3, True)
        assert await topics(store, ops, mine) == [[], [FAILURE, "alert.destination.recovered"]]
        assert [one.audience for one in await alerts(store)] == [Audience.TENANT] * 2

    async def test_is_taken_under_a_lease(self, store: Store) -> None:
        ops = await add_channel(store)
        to = await add(store)
        await attempts(store, to, *[False] * 14)
        assert await store.alerting.news_waiting() == [(ops.no, NOW)]
        first = await store.alerting.claim_news(ops.no, now=NOW, lease_until=NOW + SECOND, limit=1)
        rest = await store.alerting.claim_news(ops.no, now=NOW, lease_until=NOW + SECOND, limit=9)
        assert [one.alert and one.alert.data["threshold"] for one in (*first, *rest)] == [50, 70]
        assert first[0].channel == ops
        assert first[0].alert is not None
        assert first[0].alert.occurrence is not None
        assert await news(store, ops) == ()
        assert await store.alerting.news_waiting() == [(ops.no, NOW + SECOND)]
        again = await news(store, ops, now=NOW + SECOND)
        assert [one.seq for one in again] == [one.seq for one in (*first, *rest)]

    async def test_is_told_once_tried_again_or_given_up(self, store: Store) -> None:
        ops = await add_channel(store)
        await attempts(store, await add(store), *[False] * 18)
        told, again, given_up = await news(store, ops)
        await store.alerting.news_told(told.seq, now=NOW + 1)
        assert (await store.alerting.channel_states([ops.no]))[ops.no].sent_at == NOW + 1
        await store.alerting.news_failed(again.seq, "503: no", now=NOW + 2, due=NOW + 99)
        await store.alerting.news_failed(given_up.seq, "404: gone", now=NOW + 3, due=None)
        state = (await store.alerting.channel_states([ops.no]))[ops.no]
        assert (state.waiting, state.sent_at, state.failed_at, state.error) == (1, NOW + 1, NOW + 3, "404: gone")
        assert await news(store, ops, now=NOW + 98) == ()
        (retried,) = await news(store, ops, now=NOW + 99)
        assert (retried.seq, retried.tries) == (again.seq, 1)
        await store.alerting.news_told(retried.seq, now=NOW + 4)
        state = (await store.alerting.channel_states([ops.no]))[ops.no]
        assert (state.waiting, state.sent_at, state.failed_at, state.error) == (0, NOW + 4, None, None)
        assert await news(store, ops, now=NOW * 2) == ()

    @pytest.mark.parametrize("change", [{"enabled": False}, {"muted_until": NOW + 1}, None])
    async def test_that_waited_for_a_channel_is_dropped_when_it_wants_none(
        self, store: Store, change: dict[str, Any] | None
    ) -> None:
        ops, other = await add_channel(store), await add_channel(store, "other")
        await attempts(store, await add(store), *[False] * 10)
        if change is None:
            await store.alerting.delete_channel(ops.no, entry())
        else:
            await store.alerting.replace_channel(structs.replace(ops, **change), entry())
        assert await topics(store, ops, other) == [[], [FAILURE]]
        states = await store.alerting.channel_states([ops.no, other.no])
        assert states.get(ops.no, ChannelState()).waiting == 0
        assert states[other.no].waiting == 1

    async def test_stays_for_a_channel_that_is_changed_otherwise(self, store: Store) -> None:
        ops = await add_channel(store)
        await attempts(store, await add(store), *[False] * 10)
        changed = await store.alerting.replace_channel(
            structs.replace(ops, credentials={"secret": "another"}, muted_until=NOW), entry()
        )
        (waiting,) = await news(store, ops)
        assert waiting.channel == changed

    async def test_attempts_are_news_for_those_who_ask(self, store: Store) -> None:
        failures = await add_channel(store, "failures", topics=("attempt.failed",))
        mine = await add_channel(store, "mine", owner="acme", topics=("attempt.*",), min_severity="critical")
        foreign = await add_channel(store, "foreign", owner="zeta", topics=("*",))
        recorded = await attempts(store, await add(store), True, False, True)
        assert [each.news for each in recorded] == [True, True, True]
        (failed,) = await news(store, failures)
        assert (failed.alert, failed.data, failed.tenant_id) == (None, None, "acme")
        assert failed.occurrence is not None
        assert not failed.occurrence.attempt.ok
        expected = ["attempt.success", "attempt.failed", "attempt.success"]
        assert await topics(store, mine, foreign) == [expected, []]

    async def test_changes_of_subscriptions_are_news_for_those_who_ask(self, store: Store) -> None:
        to = await add(store, topics=("b",))
        ops = await add_channel(store, topics=("tenant.subscription.updated",))
        mine = await add_channel(store, "mine", owner="acme", topics=("tenant.*",))
        foreign = await add_channel(store, "foreign", owner="zeta", topics=("*",))
        await add(store, name="des_2", topics=("a",))
        changed = await store.replace_destination(structs.replace(to, topics=("c",)))
        assert changed is not None
        await store.replace_destination(structs.replace(changed, metadata={"no": "news"}))
        assert await store.replace_destination(structs.replace(to, topics=("too late",))) is None
        await store.delete_destination("acme", to.id, now=NOW)
        found = [one.data for one in await news(store, ops)]
        assert found == [
            {
                "tenant_id": "acme",
                "topics": topics_after,
                "previous_topics": topics_before,
                "destinations_count": after,
                "previous_destinations_count": before,
            }
            for topics_before, topics_after, before, after in (
                (["b"], ["a", "b"], 1, 2),
                (["a", "b"], ["a", "c"], 2, 2),
                (["a", "c"], ["a"], 2, 1),
            )
        ]
        assert await topics(store, mine, foreign) == [["tenant.subscription.updated"] * 3, []]


class TestTheWhole:
    async def test_a_backlog_is_told_once_and_its_end_once(self, build: Build) -> None:
        store = await build(rule(Kind.BACKLOG_AGE, age_seconds=30))
        ops, pager = await add_channel(store), await add_channel(store, "pager", min_severity="critical")
        mine = await add_channel(store, "mine", owner="acme", topics=("*",))
        ages = [10.0, 29.9, 30.0, 99.0, 15.0, 14.9, 1.0, 31.0]
        told = [await store.alerting.observe_backlog(age, now=NOW) for age in ages]
        assert told == [age in {30.0, 14.9, 31.0} for age in ages]
        expected = ["alert.backlog.age", "alert.backlog.recovered", "alert.backlog.age"]
        assert await topics(store, ops, pager, mine) == [expected, expected, []]
        found = await alerts(store)
        assert [(one.kind, one.audience, one.tenant_id) for one in found][:2] == [
            (Kind.BACKLOG_AGE, Audience.OPERATOR, None),
            (Kind.RECOVERED, Audience.OPERATOR, None),
        ]
        assert found[0].data == {"age_seconds": 30.0}
        assert await alerts(store, AlertQuery(tenant_ids=("acme",), by_tenant=True)) == []

    async def test_a_limit_that_was_raised_has_to_be_passed_as_well(self, build: Build) -> None:
        store = await build()
        kept = await store.alerting.add_rule(rule(Kind.BACKLOG_AGE, age_seconds=30), entry())
        assert await store.alerting.observe_backlog(40.0, now=NOW)
        higher = structs.replace(kept, thresholds=Thresholds(age_seconds=300))
        assert await store.alerting.replace_rule(higher, entry())
        assert await store.alerting.observe_backlog(200.0, now=NOW)  # no longer too much
        assert await store.alerting.observe_backlog(300.0, now=NOW)
        found = [one.kind for one in await alerts(store)]
        assert found == [Kind.BACKLOG_AGE, Kind.RECOVERED, Kind.BACKLOG_AGE]

    async def test_trials_follow_a_rule_that_is_changed(self, build: Build) -> None:
        store = await build(rule(Kind.AUTO_DISABLE, count=1))
        to = await add(store)
        await attempts(store, to, False)
        assert await store.alerting.due_probes(NOW + 3_600 * SECOND) == []
        kept = await store.alerting.add_rule(rule(Kind.AUTO_DISABLE, count=1, probe_after_seconds=60), entry())
        assert await store.alerting.due_probes(NOW + 3_600 * SECOND) == [to.no]
        assert await store.alerting.delete_rule(kept.no, entry())
        assert await store.alerting.due_probes(NOW + 3_600 * SECOND) == []

    async def test_without_a_rule_nothing_is_said(self, build: Build) -> None:
        store = await build()
        assert not await store.alerting.observe_backlog(1e9, now=NOW)
        await store.alerting.raise_about_the_whole(Kind.STORE_TROUBLE, {}, recovered=False)
        assert await alerts(store) == []

    async def test_trouble_that_was_told_already_is_only_put_on_record(self, build: Build) -> None:
        store = await build(rule(Kind.STORE_TROUBLE))
        ops = await add_channel(store)
        for recovered in (False, True):
            await store.alerting.raise_about_the_whole(Kind.STORE_TROUBLE, {"seconds": 3}, recovered=recovered)
        assert [one.topic for one in await alerts(store)] == ["alert.store.trouble", "alert.store.recovered"]
        assert await topics(store, ops) == [[]]


class TestAudit:
    async def test_every_change_brings_its_entry_along_if_it_happens(self, bare: Store) -> None:
        await bare.put_tenant("new", None, now=NOW, entry=entry("tenant.put"))
        to = await bare.add_destination(destination("new"), limit=1, entry=entry("destination.create"))
        with pytest.raises(BadRequest):
            await bare.add_destination(destination("new", "des_2"), limit=1, entry=entry("refused"))
        changed = await bare.replace_destination(to, entry("destination.update"))
        assert changed is not None
        assert await bare.replace_destination(to, entry("refused")) is None
        new = event("new")
        await bare.accept(publication(new, changed))
        request = RetryRequest(event_seq=new.seq, destination_no=to.no, now=NOW)
        await bare.retry(request, entry("event.retry"))
        await bare.delete_destination("new", to.id, now=NOW, entry=entry("destination.delete"))
        assert await bare.delete_destination("new", to.id, now=NOW, entry=entry("refused")) is None
        key = ApiKey(id="key_1", name="ci", digest=b"x" * 32, hint="wpk_", created_at=NOW)
        await bare.add_api_key(key, entry("api_key.create"))
        with pytest.raises(BadRequest):
            await bare.add_api_key(key, entry("refused"))
        assert await bare.revoke_api_key("key_1", entry("api_key.revoke"))
        assert not await bare.revoke_api_key("key_1", entry("refused"))
        assert await bare.delete_tenant("new", now=NOW, entry=entry("tenant.delete"))
        assert not await bare.delete_tenant("new", now=NOW, entry=entry("refused"))
        assert await actions(bare) == [
            "tenant.put",
            "destination.create",
            "destination.update",
            "event.retry",
            "destination.delete",
            "api_key.create",
            "api_key.revoke",
            "tenant.delete",
        ]

    async def test_is_found_by_every_condition(self, bare: Store) -> None:
        await bare.alerting.audit(entry("a.a", actor=CUSTOMER, tenant_id="acme", subject="s1", detail={"x": [1]}))
        await bare.alerting.audit(entry("a.b", tenant_id="acme", subject="s2"))
        await bare.alerting.audit(entry("a.b", actor=SYSTEM, subject="s1"))
        newest, *_, oldest = await log(bare)
        assert structs.replace(oldest, seq=0) == entry(
            "a.a", actor=CUSTOMER, tenant_id="acme", subject="s1", detail={"x": [1]}
        )
        assert newest.actor == SYSTEM
        for query, expected in (
            (EntryQuery(), 3),
            (EntryQuery(tenant_ids=("acme",)), 2),
            (EntryQuery(actions=("a.b",)), 2),
            (EntryQuery(subjects=("s1",)), 2),
            (EntryQuery(actors=("ops", "acme")), 2),
            (EntryQuery(tenant_ids=("acme",), actions=("a.b",), subjects=("s2",), actors=("ops",)), 1),
            (EntryQuery(time=TimeRange(gte=NOW, lte=NOW)), 3),
            (EntryQuery(time=TimeRange(gt=NOW)), 0),
        ):
            assert len(await log(bare, query)) == expected, query


# what is SQLite's own


@contextlib.asynccontextmanager
async def one_transaction(store: SqliteStore) -> AsyncIterator[None]:
    """What is handed in within is committed together."""
    go = threading.Event()
    waiting = asyncio.ensure_future(store._db.write(lambda _: go.wait()))
    await asyncio.sleep(0)
    yield
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(waiting, return_exceptions=True)


class TestSqlite:
    @pytest.fixture
    async def sqlite(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        store = sqlite_store(tmp_path, rules=(STEPS, RECOVERED))
        await store.open()
        await store.put_tenant("acme", None, now=NOW)
        yield store
        await store.close()

    async def test_twenty_failures_in_one_transaction_tell_each_step_once(self, sqlite: SqliteStore) -> None:
        to = await add(sqlite)
        made = await due(sqlite, to, 21)
        async with one_transaction(sqlite):
            recording = [
                sqlite.record(tried(each, to, ok=ok)) for each, ok in zip(made, [False] * 20 + [True], strict=True)
            ]
        recorded = [each for each in await asyncio.gather(*recording) if each is not None]
        kinds = [kind for each in recorded for kind, _ in each.raised]
        assert kinds == ["consecutive_failures"] * 4 + ["recovered"]
        assert await steps(sqlite) == [50, 70, 90, 100]

    async def test_a_change_that_was_rolled_back_is_not_believed(self, sqlite: SqliteStore) -> None:
        ops = await add_channel(sqlite, topics=("*",))
        to = await add(sqlite)
        await news(sqlite, ops)

        def full(_: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        async with one_transaction(sqlite):
            pieces = [
                asyncio.ensure_future(piece)
                for piece in (
                    add_channel(sqlite, "phantom", topics=("*",)),
                    sqlite.replace_destination(structs.replace(to, topics=("a",))),
                    sqlite._db.write(full),
                )
            ]
        came = await asyncio.gather(*pieces, return_exceptions=True)
        assert all(isinstance(each, Unavailable) for each in came)
        await attempts(sqlite, to, *[False] * 10)
        assert [no for no, _ in await sqlite.alerting.news_waiting()] == [ops.no]

    async def test_what_a_dead_predecessor_had_taken_is_due_again(self, sqlite: SqliteStore, tmp_path: Path) -> None:
        ops = await add_channel(sqlite)
        await attempts(sqlite, await add(sqlite), *[False] * 10)
        (taken,) = await news(sqlite, ops)
        await sqlite.close()
        again = sqlite_store(tmp_path)
        await again.open()
        (waiting,) = await news(again, ops)
        assert waiting == taken
        await again.close()

    async def test_secrets_are_sealed_and_follow_a_rotation_of_the_key(
        self, sqlite: SqliteStore, tmp_path: Path
    ) -> None:
        added = await add_channel(sqlite, owner="acme", credentials={"token": "a-very-secret-value"})
        await sqlite.close()
        for file in tmp_path.iterdir():
            assert b"a-very-secret-value" not in file.read_bytes()
        other = bytes(range(1, 33))
        for keys in ((other, KEY), (other,)):
            store = sqlite_store(tmp_path, *keys)
            await store.open()
            assert await store.alerting.channels() == (added,)
            await store.close()

    async def test_a_destination_that_is_well_again_takes_no_room(self, sqlite: SqliteStore) -> None:
        to = await add(sqlite)
        await attempts(sqlite, to, *[False] * 10)
        assert await sqlite._db.all("SELECT streak FROM destination_health") == [(10,)]
        await attempts(sqlite, to, True)
        assert await sqlite._db.all("SELECT * FROM destination_health") == []
