"""The conformance suite of the store seam: what every store must do."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from waypost.core.errors import BadRequest, NotFound
from waypost.core.model import SECOND, SYSTEM, Delivery, DeliveryState, Destination, Event, Subscription, Topic
from waypost.core.retry import RetryOverrides, RetryPolicy
from waypost.core.routing import Skip
from waypost.store.alerting import Entry, EntryQuery
from waypost.store.base import (
    Accepted,
    ApiKey,
    AttemptQuery,
    Direction,
    EventQuery,
    Page,
    RetryRequest,
    Store,
    StoredAttempt,
    StoredEvent,
    TimeRange,
)

from .builders import LEASE, NOW, delivery, destination, event, next_seq, outcome, publication, result

EVERYTHING = Page(limit=1000)
FAILED = outcome(ok=False, code="503", detail="the receiver answered 503", response={"status_code": 503})


async def add(store: Store, **changes: object) -> Destination:
    return await store.add_destination(destination(**changes), limit=20)  # type: ignore[arg-type]


async def accepted(store: Store, *matched: Destination, leased: bool = True, **changes: object) -> Event:
    new = event(**changes)  # type: ignore[arg-type]
    await store.accept(publication(new, *matched, leased=leased))
    return new


async def stored_events(store: Store, query: EventQuery | None = None, page: Page = EVERYTHING) -> list[StoredEvent]:
    return list((await store.events(query or EventQuery(), page)).items)


async def stored_attempts(store: Store, query: AttemptQuery | None = None) -> list[StoredAttempt]:
    return list((await store.attempts(query or AttemptQuery(), EVERYTHING)).items)


async def claim(store: Store, of: Destination, *, now: int = NOW, limit: int = 100) -> tuple[Delivery, ...]:
    return (await store.claim(of.no, now=now, lease_until=now + 60 * SECOND, limit=limit)).deliveries


class TestAccept:
    async def test_keeps_the_event_as_it_was(self, store: Store) -> None:
        to = await add(store)
        new = event(
            data=b'{"b": 1.10, "a": 123456789012345678901234567890, "\xc3\xa4": "\\u0000"}',
            metadata={"source": "crm"},
            topic="",
            time=NOW - SECOND,
            eligible_for_retry=False,
            destination_id=to.id,
        )
        skips = (Skip("des_2", "topic"), Skip("des_3", "filter", "data.a is not 2"))
        answer = await store.accept(structs.replace(publication(new, to), skipped=skips))
        found = await store.event(new.id, tenant_id="acme")
        assert answer == Accepted(duplicate=False, destination_ids=(to.id,))
        assert found is not None
        assert found.event == new
        assert found.skipped == skips
        assert found.matched_destination_ids == (to.id,)
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.PENDING}

    async def test_stores_what_nobody_wants(self, store: Store) -> None:
        new = await accepted(store, tenant_id="nobody")
        assert [found.event for found in await stored_events(store)] == [new]

    async def test_a_second_publish_of_an_id_is_a_duplicate(self, store: Store) -> None:
        first, second = await add(store), await add(store, destination_id="des_2")
        await accepted(store, first, event_id="evt_1")
        again = event(event_id="evt_1", data=b'{"other": true}')
        assert await store.accept(publication(again, first, second)) == Accepted(
            duplicate=True, destination_ids=(first.id,)
        )
        assert len(await stored_events(store)) == 1
        assert await claim(store, second) == ()

    async def test_the_same_id_in_another_tenant_is_another_event(self, store: Store) -> None:
        await accepted(store, event_id="evt_1")
        other = await store.accept(publication(event("umbrella", "evt_1")))
        assert not other.duplicate
        newest = await store.event("evt_1", tenant_id=None)
        assert newest is not None
        assert newest.event.tenant_id == "umbrella"

    async def test_many_publishes_of_one_id_at_once_store_it_once(self, store: Store) -> None:
        to = await add(store)
        answers = await asyncio.gather(
            *(store.accept(publication(event(event_id="evt_1"), to)) for _ in range(50)),
            *(store.accept(publication(event(), to)) for _ in range(50)),
        )
        assert sum(not answer.duplicate for answer in answers[:50]) == 1
        assert not any(answer.duplicate for answer in answers[50:])
        assert len(await stored_events(store)) == 51
        assert len(await claim(store, to, now=LEASE + 1, limit=1000)) == 51

    async def test_a_batch_is_one_transaction(self, store: Store) -> None:
        to = await add(store)
        batch = [publication(event(event_id=name), to) for name in ("evt_1", "evt_2", "evt_1")]
        assert [answer.duplicate for answer in await store.accept_many(batch)] == [False, False, True]
        poisoned = [publication(event(), to), publication(event(time=1 << 70), to)]
        with pytest.raises(Exception, match="too large"):
            await store.accept_many(poisoned)
        assert len(await stored_events(store)) == 2

    async def test_a_piece_that_cannot_be_stored_spoils_no_other(self, store: Store) -> None:
        bad = store.accept(publication(event(time=1 << 70)))
        good = [store.accept(publication(event())) for _ in range(20)]
        came = await asyncio.gather(bad, *good, return_exceptions=True)
        assert isinstance(came[0], Exception)
        assert not any(isinstance(answer, BaseException) for answer in came[1:])
        assert len(await stored_events(store)) == 20


class TestRecord:
    async def test_success_ends_the_delivery(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        made = result(delivery(new, to), outcome(response={"status_code": 200}, request={"method": "POST"}))
        assert await store.record(made)
        (kept,) = await stored_attempts(store)
        assert (kept.attempt.ok, kept.attempt.number, kept.attempt.code) == (True, 1, "200")
        assert kept.attempt.response == {"status_code": 200}
        assert kept.attempt.request == {"method": "POST"}
        assert kept.event == new
        assert kept.destination == to
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.DELIVERED}
        assert await store.due_destinations() == []

    async def test_failure_is_due_again_under_the_next_number(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), FAILED, RetryPolicy(jitter=0)))
        assert await store.due_destinations() == [(to.no, NOW + 30 * SECOND)]
        assert await claim(store, to, now=NOW + 30 * SECOND - 1) == ()
        (again,) = await claim(store, to, now=NOW + 30 * SECOND)
        assert (again.attempt, again.retries, again.event) == (2, 1, new)

    async def test_exhausted_is_final(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), FAILED, RetryPolicy(limit=0)))
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.EXHAUSTED}

    async def test_a_late_result_cannot_overwrite_its_successor(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        (second_worker,) = await claim(store, to, now=LEASE)
        assert await store.record(result(second_worker, outcome()))
        assert not await store.record(result(delivery(new, to), FAILED))
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.DELIVERED}
        assert len(await stored_attempts(store)) == 1

    async def test_of_two_results_for_one_attempt_in_one_commit_one_counts(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        others = [await accepted(store, to) for _ in range(5)]
        came = await asyncio.gather(
            store.record(result(delivery(new, to), FAILED)),
            store.record(result(delivery(new, to), outcome())),
            *(store.record(result(delivery(other, to), outcome())) for other in others),
        )
        assert [kept is None for kept in came[:2]].count(True) == 1
        assert all(came[2:])
        assert len(await stored_attempts(store)) == 6

    async def test_keeps_the_attempt_of_a_delivery_cancelled_meanwhile(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.delete_destination("acme", to.id, now=NOW)
        assert await store.record(result(delivery(new, to), FAILED))
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.CANCELLED}
        assert len(await stored_attempts(store)) == 1
        assert await store.due_destinations() == []


class TestClaim:
    async def test_leased_deliveries_are_nobody_elses_until_the_lease_ends(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        assert await claim(store, to, now=LEASE - 1) == ()
        (taken,) = await claim(store, to, now=LEASE)
        assert taken == delivery(new, to, lease_until=LEASE + 60 * SECOND)
        assert await claim(store, to, now=LEASE) == ()

    async def test_takes_the_oldest_first_and_tells_when_to_come_again(self, store: Store) -> None:
        to = await add(store)
        new = [await accepted(store, to, leased=False) for _ in range(5)]
        first = await store.claim(to.no, now=NOW, lease_until=LEASE, limit=3)
        assert [taken.event for taken in first.deliveries] == new[:3]
        assert first.next_due == NOW
        rest = await store.claim(to.no, now=NOW, lease_until=LEASE, limit=3)
        assert [taken.event for taken in rest.deliveries] == new[3:]
        assert rest.next_due == LEASE

    async def test_takes_nothing_of_other_destinations(self, store: Store) -> None:
        mine, other = await add(store), await add(store, destination_id="des_2")
        new = await accepted(store, mine, other, leased=False)
        (taken,) = await claim(store, mine)
        assert (taken.event, taken.destination_no) == (new, mine.no)
        assert await store.due_destinations() == [(mine.no, NOW + 60 * SECOND), (other.no, NOW)]

    async def test_released_deliveries_can_be_claimed_again(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.release([delivery(new, to)], due=NOW)
        assert [taken.event for taken in await claim(store, to)] == [new]

    async def test_release_of_a_settled_delivery_changes_nothing(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), outcome()))
        await store.release([delivery(new, to)], due=NOW)
        assert await claim(store, to) == ()

    async def test_cancel_ends_what_waits(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to, leased=False)
        await store.cancel(to.no)
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.CANCELLED}
        assert await claim(store, to) == ()

    async def test_what_is_not_settled_is_counted(self, store: Store) -> None:
        to = await add(store)
        leased, waiting = await accepted(store, to), await accepted(store, to, leased=False)
        assert await store.count_waiting() == 2
        for done in (leased, waiting):
            await store.record(result(delivery(done, to), outcome()))
        assert await store.count_waiting() == 0

    async def test_what_waits_for_a_disabled_destination_is_not_due(self, store: Store) -> None:
        to = await add(store)
        await accepted(store, to, leased=False)
        disabled = await store.replace_destination(structs.replace(to, disabled_at=NOW))
        assert disabled is not None
        assert await store.due_destinations() == []
        await store.replace_destination(structs.replace(disabled, disabled_at=None))
        assert await store.due_destinations() == [(to.no, NOW)]

    async def test_release_by_a_worker_whose_lease_ran_out_changes_nothing(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await claim(store, to, now=LEASE)
        await store.release([delivery(new, to)], due=NOW)
        assert await claim(store, to, now=LEASE) == ()


class TestManualRetry:
    async def retry(self, store: Store, of: Event, to: Destination) -> None:
        await store.retry(RetryRequest(event_seq=of.seq, destination_no=to.no, now=NOW))

    async def test_works_on_what_was_delivered(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), outcome()))
        await self.retry(store, new, to)
        (again,) = await claim(store, to)
        assert (again.attempt, again.manual, again.retries) == (2, True, 0)

    async def test_replaces_the_scheduled_one_and_leaves_the_schedule_where_it_was(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), FAILED))
        await self.retry(store, new, to)
        (manual,) = await claim(store, to)
        assert (manual.attempt, manual.manual, manual.retries) == (2, True, 1)
        assert await claim(store, to, now=NOW + 40 * SECOND) == ()
        await store.record(result(manual, FAILED, RetryPolicy(jitter=0)))
        (automatic,) = await claim(store, to, now=NOW + 60 * SECOND)
        assert (automatic.attempt, automatic.manual, automatic.retries) == (3, False, 2)

    async def test_asked_for_during_an_attempt_comes_after_it(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await self.retry(store, new, to)
        assert await claim(store, to) == ()
        assert await store.record(result(delivery(new, to), outcome()))
        (manual,) = await claim(store, to, now=NOW + SECOND)
        assert (manual.attempt, manual.manual) == (2, True)

    async def test_creates_a_delivery_that_never_was(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store)
        await self.retry(store, new, to)
        (manual,) = await claim(store, to)
        assert (manual.event, manual.attempt, manual.manual) == (new, 1, True)


class TestTenants:
    async def test_put_creates_then_replaces(self, store: Store) -> None:
        assert await store.put_tenant("umbrella", {"plan": "pro"}, now=NOW)
        assert not await store.put_tenant("umbrella", None, now=NOW + 5)
        found = await store.tenant("umbrella")
        assert found is not None
        assert (found.tenant.metadata, found.tenant.created_at, found.tenant.updated_at) == (None, NOW, NOW + 5)
        assert await store.tenant("unknown") is None

    async def test_sums_up_living_destinations(self, store: Store) -> None:
        await add(store, topics=("user.*", "a"))
        await add(store, destination_id="des_2", topics=("a", "b"))
        await add(store, destination_id="des_3")
        await store.delete_destination("acme", "des_3", now=NOW)
        found = await store.tenant("acme")
        assert found is not None
        assert (found.destinations_count, found.topics) == (2, ("a", "b", "user.*"))

    async def test_delete_takes_the_destinations_along(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to, leased=False)
        assert await store.delete_tenant("acme", now=NOW)
        assert not await store.delete_tenant("acme", now=NOW)
        assert await store.destinations("acme") == ()
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.CANCELLED}
        assert await store.put_tenant("acme", None, now=NOW)

    async def test_count(self, store: Store) -> None:
        await store.put_tenant("umbrella", None, now=NOW)
        assert await store.count_tenants() == 2
        assert await store.count_tenants(ids=("acme", "unknown")) == 1


class TestDestinations:
    async def test_comes_back_as_it_was_stored(self, store: Store) -> None:
        new = await add(
            store,
            filter={"data": {"amount": {"$gte": 10.5, "$lt": Decimal("12345678901234567890.5"), "$neq": 2**70}}},
            delivery_metadata={"app": "x"},
            metadata={"team": "y"},
            retry_policy=RetryOverrides(limit=3, schedule=(1.0, 2.0)),
            disabled_at=NOW,
            topics=("user.*", "order.created"),
            subscriptions=(
                Subscription(topics=("user.*",)),
                Subscription(topics=("order.created",), filter={"data": {"a": Decimal("0.10000000000000000001")}}),
            ),
        )
        assert await store.destination("acme", new.id) == new
        assert await store.destination_by_no(new.no) == new
        assert await store.destinations("acme") == (new,)

    async def test_refuses_unknown_tenants_taken_ids_and_too_many(self, store: Store) -> None:
        await add(store)
        with pytest.raises(NotFound, match="tenant not found"):
            await add(store, tenant_id="unknown")
        with pytest.raises(BadRequest, match="destination already exists"):
            await add(store)
        with pytest.raises(BadRequest, match="maximum number of destinations"):
            await store.add_destination(destination(destination_id="des_2"), limit=1)

    async def test_the_limit_holds_when_many_come_at_once(self, store: Store) -> None:
        new = [store.add_destination(destination(destination_id=f"des_{n}"), limit=5) for n in range(20)]
        came = await asyncio.gather(*new, return_exceptions=True)
        assert sum(isinstance(answer, BadRequest) for answer in came) == 15
        assert len(await store.destinations("acme")) == 5

    async def test_replace_needs_the_current_version(self, store: Store) -> None:
        first = await add(store)
        second = await store.replace_destination(structs.replace(first, disabled_at=NOW))
        assert second == structs.replace(first, disabled_at=NOW, version=2)
        assert await store.replace_destination(first) is None
        assert await store.destination("acme", first.id) == second

    async def test_a_deleted_id_can_be_used_again_and_gets_a_new_number(self, store: Store) -> None:
        old = await add(store)
        assert await store.delete_destination("acme", old.id, now=NOW) == old
        assert await store.delete_destination("acme", old.id, now=NOW) is None
        assert await store.destination_by_no(old.no) is None
        assert await store.replace_destination(old) is None
        assert (await add(store)).no > old.no

    async def test_attempts_outlive_their_destination(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to)
        await store.record(result(delivery(new, to), outcome()))
        await store.delete_destination("acme", to.id, now=NOW)
        (kept,) = await stored_attempts(store, AttemptQuery(destination_ids=(to.id,)))
        assert kept.destination.id == to.id

    async def test_are_ordered_by_age_then_id(self, store: Store) -> None:
        for name, age in (("b", 2), ("c", 1), ("a", 1)):
            await add(store, destination_id=name, created_at=NOW - age)
        assert [found.id for found in await store.destinations("acme")] == ["b", "a", "c"]


class TestLists:
    async def test_events_by_every_condition(self, store: Store) -> None:
        to = await add(store)
        await add(store, destination_id="des_2")
        mine = await accepted(store, to, topic="a", time=NOW)
        await accepted(store, topic="b", time=NOW + 10)
        await accepted(store, tenant_id="umbrella", topic="a", time=NOW + 20)
        for query, expected in (
            (EventQuery(ids=(mine.id,)), 1),
            (EventQuery(tenant_ids=("acme",)), 2),
            (EventQuery(tenant_ids=("acme", "umbrella"), topics=("a",)), 2),
            (EventQuery(destination_ids=(to.id,)), 1),
            (EventQuery(destination_ids=("des_2",)), 0),
            (EventQuery(destination_ids=("unknown",)), 0),
            (EventQuery(time=TimeRange(gte=NOW, lt=NOW + 20)), 2),
            (EventQuery(time=TimeRange(gt=NOW, lte=NOW + 20)), 2),
        ):
            assert len(await stored_events(store, query)) == expected, query

    async def test_attempts_by_every_condition(self, store: Store) -> None:
        to, other = await add(store), await add(store, destination_id="des_2")
        first, second = await accepted(store, to, topic="a"), await accepted(store, other, topic="b")
        await store.record(result(delivery(first, to), outcome()))
        await store.record(result(delivery(second, other), FAILED))
        everything = await stored_attempts(store)
        newest = everything[0].attempt
        assert [kept.attempt.ok for kept in everything] == [False, True]
        for query, expected in (
            (AttemptQuery(ids=(newest.seq,)), 1),
            (AttemptQuery(tenant_ids=("acme",)), 2),
            (AttemptQuery(tenant_ids=("umbrella",)), 0),
            (AttemptQuery(event_ids=(first.id,)), 1),
            (AttemptQuery(destination_ids=(to.id, other.id)), 2),
            (AttemptQuery(destination_types=("webhook",)), 2),
            (AttemptQuery(destination_types=("kafka",)), 0),
            (AttemptQuery(topics=("b",)), 1),
            (AttemptQuery(ok=True), 1),
            (AttemptQuery(ok=False), 1),
            (AttemptQuery(time=TimeRange(gte=newest.time, lte=newest.time)), 2),
            (AttemptQuery(time=TimeRange(gt=newest.time)), 0),
            (AttemptQuery(time=TimeRange(lt=newest.time)), 0),
        ):
            assert len(await stored_attempts(store, query)) == expected, query

    @pytest.mark.parametrize("direction", list(Direction))
    @given(times=st.lists(st.integers(0, 3), max_size=12), limit=st.integers(1, 5))
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_pages_hold_everything_once_in_both_ways(
        self, store: Store, direction: Direction, times: list[int], limit: int
    ) -> None:
        tenant = f"tenant_{next_seq()}"
        for at in times:
            await accepted(store, tenant_id=tenant, time=NOW + at)
        query = EventQuery(tenant_ids=(tenant,))
        whole = await stored_events(store, query, Page(limit=1000, direction=direction))
        assert [found.event.time for found in whole] == sorted(
            (NOW + at for at in times), reverse=direction is Direction.DESC
        )
        forth: list[StoredEvent] = []
        page = await store.events(query, Page(limit=limit, direction=direction))
        assert not page.has_prev
        while True:
            forth += page.items
            if not page.has_next:
                break
            last = page.items[-1].event
            page = await store.events(query, Page(limit=limit, direction=direction, after=(last.time, last.seq)))
            assert page.has_prev
        assert forth == whole
        back = list(page.items)
        while page.has_prev:
            first = page.items[0].event
            page = await store.events(query, Page(limit=limit, direction=direction, before=(first.time, first.seq)))
            assert page.has_next
            back = [*page.items, *back]
        assert back == whole

    async def test_tenants_page_by_age_then_id(self, store: Store) -> None:
        for name in ("b", "a", "c"):
            await store.put_tenant(name, None, now=NOW)
        first = await store.tenants(Page(limit=3, direction=Direction.ASC))
        assert [found.tenant.id for found in first.items] == ["a", "acme", "b"]
        rest = await store.tenants(Page(limit=3, direction=Direction.ASC, after=(NOW, "b")))
        assert [found.tenant.id for found in rest.items] == ["c"]
        assert (rest.has_prev, rest.has_next) == (True, False)


class TestSkips:
    async def test_events_by_who_did_not_get_them_and_why(self, store: Store) -> None:
        skipped = {
            "one": (Skip("des_1", "topic"), Skip("des_2", "filter", 'Does not pass: data.a equals "des_1","topic",.')),
            "two": (Skip("des_1", "filter", '[["des_2","topic",null]]'),),
            "three": (Skip("des_10", "disabled"),),
            "four": (),
        }
        for name, skips in skipped.items():
            await store.accept(structs.replace(publication(event(event_id=name)), skipped=skips))

        async def found(*by: str, why: tuple[str, ...] = ()) -> set[str]:
            query = EventQuery(skipped_by=by, skip_reasons=why)
            return {stored.event.id for stored in await stored_events(store, query)}

        assert await found() == set(skipped)
        assert await found("des_1") == {"one", "two"}
        assert await found("des_2") == {"one"}
        assert await found("des_2", "des_10") == {"one", "three"}
        assert await found('"]') == set()
        assert await found("des_1", why=("topic",)) == {"one"}
        assert await found("des_1", why=("topic", "filter")) == {"one", "two"}
        assert await found("des_2", why=("topic",)) == set()
        assert await found(why=("topic",)) == {"one"}
        assert await found(why=("disabled", "topic")) == {"one", "three"}
        assert await found("des_1", why=("not_addressed",)) == set()

    async def test_counts_add_up(self, store: Store) -> None:
        first, second = await add(store), await add(store, destination_id="des_2")
        await store.add_skips({("acme", "des_1", "topic"): 2, ("acme", "des_1", "filter"): 1})
        await store.add_skips({("acme", "des_1", "topic"): 3, ("acme", "des_2", "topic"): 1})
        assert await store.skips(first.no) == {"topic": 5, "filter": 1}
        assert await store.skips(second.no) == {"topic": 1}

    async def test_counts_of_what_is_not_there_are_dropped(self, store: Store) -> None:
        to = await add(store)
        await store.add_skips({("acme", "des_9", "topic"): 1, ("umbrella", "des_1", "topic"): 1})
        await store.add_skips({("acme", "des_1", "topic"): 1})
        await store.delete_destination("acme", to.id, now=NOW)
        await store.add_skips({("acme", "des_1", "topic"): 1})
        again = await add(store)
        assert await store.skips(to.no) == {}
        assert await store.skips(again.no) == {}


class TestTopics:
    async def test_put_adds_then_replaces(self, store: Store) -> None:
        first = Topic(
            name="order/paid",
            description="Paid",
            schema={"properties": {"n": {"maximum": Decimal("0.1234567890123456789"), "minimum": 0.5}}},
            example={"n": Decimal("0.10000000000000000001")},
            deprecated=True,
            created_at=NOW,
            updated_at=NOW,
        )
        assert await store.put_topic(first)
        assert await store.topics() == (first,)
        second = Topic(name="order/paid", schema=False, created_at=NOW + 5, updated_at=NOW + 5)
        assert not await store.put_topic(second)
        assert await store.topics() == (structs.replace(second, created_at=NOW),)

    async def test_are_listed_by_name(self, store: Store) -> None:
        for name in ("b", "a", "C"):
            await store.put_topic(Topic(name=name, created_at=NOW, updated_at=NOW))
        assert [topic.name for topic in await store.topics()] == ["C", "a", "b"]

    async def test_delete(self, store: Store) -> None:
        await store.put_topic(Topic(name="a", created_at=NOW, updated_at=NOW))
        assert await store.delete_topic("a")
        assert not await store.delete_topic("a")
        assert await store.topics() == ()

    async def test_only_what_happened_is_in_the_audit_log(self, store: Store) -> None:
        entry = Entry(actor=SYSTEM, action="topic.delete", tenant_id=None, subject="a")
        await store.delete_topic("a", entry)
        assert (await store.alerting.audit_log(EntryQuery(), EVERYTHING)).items == ()
        await store.put_topic(
            Topic(name="a", created_at=NOW, updated_at=NOW), structs.replace(entry, action="topic.put")
        )
        await store.delete_topic("a", entry)
        log = (await store.alerting.audit_log(EntryQuery(), EVERYTHING)).items
        assert [found.action for found in log] == ["topic.delete", "topic.put"]


class TestApiKeys:
    def key(self, name: str) -> ApiKey:
        return ApiKey(id=f"key_{name}", name=name, digest=name.encode() * 8, hint="wpk_", created_at=NOW)

    async def test_are_kept_listed_and_revoked(self, store: Store) -> None:
        await store.add_api_key(self.key("ci"))
        with pytest.raises(BadRequest):
            await store.add_api_key(self.key("ci"))
        assert await store.api_keys() == (self.key("ci"),)
        assert await store.revoke_api_key("key_ci")
        assert not await store.revoke_api_key("key_ci")
        assert await store.api_keys() == ()
