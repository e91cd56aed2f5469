"""What every store owes to replays, over all stores that there are."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from waypost.core.errors import Invalid, TooMany
from waypost.core.model import SECOND, Actor, Attempt, Delivery, DeliveryState, Destination, Event
from waypost.core.replaying import Limits, Standing, Wanted
from waypost.core.retention import Kept
from waypost.core.status import Status
from waypost.store.alerting import Entry, EntryQuery
from waypost.store.base import (
    AttemptQuery,
    Direction,
    EventQuery,
    Page,
    Publication,
    RetryRequest,
    Store,
    TimeRange,
)
from waypost.store.replays import Lineup, Piece, Replay, ReplayQuery, ReplayState

from . import builders
from .builders import CUSTOMER, LEASE, NOW, OPERATOR

ALL = Page(limit=1000, direction=Direction.ASC)
HOUR = 3_600 * SECOND


def replay(**changes: Any) -> Replay:
    return structs.replace(
        Replay(
            seq=builders.next_seq(),
            tenant_id="acme",
            asked={"topic": "order.*", "id": f"evt_{builders.next_seq()}"},
            query=EventQuery(tenant_ids=("acme",), statuses=(Status.EXHAUSTED,), time=TimeRange(gte=NOW - SECOND)),
            wanted=Wanted(statuses=(Status.EXHAUSTED,)),
            by=OPERATOR,
            selected=3,
            created_at=NOW,
        ),
        **changes,
    )


def entry(verb: str = "create", actor: Actor = OPERATOR) -> Entry:
    return Entry(actor=actor, action=f"replay.{verb}", tenant_id="acme", subject="rpl")


def piece(*send: tuple[int, int], last: bool = True, **changes: Any) -> Piece:
    plain = Piece(examined=len(send), after=(NOW, 7), last=last, send=send, skipped={})
    return structs.replace(plain, **changes)


async def added(store: Store, made: Replay | None = None, limits: Limits | None = None) -> Replay:
    return await store.replays.add(made or replay(), entry(), limits=limits or Limits(per_hour=None, running=None))


async def read(store: Store, of: Replay) -> Replay:
    (found,) = (await store.replays.replays(ReplayQuery(seqs=(of.seq,)), ALL)).items
    return found


async def send(store: Store, of: Replay, room: dict[int, int] | None = None) -> tuple[Replay, Lineup]:
    return await store.replays.send(of.seq, room or {}, now=NOW, after=0, limit=10)


async def destination(store: Store, name: str = "des_1", **changes: Any) -> Destination:
    return await store.add_destination(builders.destination("acme", name, **changes), limit=100)


async def delivered(store: Store, *to: Destination, ok: bool = True) -> Event:
    """An accepted event whose first attempt was made."""
    of = builders.event()
    await store.accept(builders.publication(of, *to))
    for each in to:
        await attempted(store, of, each, ok=ok)
    return of


async def attempted(store: Store, of: Event, to: Destination, *, ok: bool = True, **changes: Any) -> Attempt:
    delivery = builders.delivery(structs.replace(of, eligible_for_retry=False), to, **changes)
    result = builders.result(delivery, builders.outcome(ok=ok, code="200" if ok else "500"))
    assert await store.record(result) is not None
    (found,) = (await store.attempts(AttemptQuery(ids=(result.seq,)), ALL)).items
    return found.attempt


async def due(store: Store, to: Destination) -> tuple[Delivery, ...]:
    return (await store.claim(to.no, now=NOW, lease_until=LEASE, limit=100)).deliveries


class TestReplays:
    async def test_one_comes_back_as_it_was_stored(self, store: Store) -> None:
        to = await destination(store)
        made = replay(
            wanted=Wanted(destination_no=to.no, missed=True), destination_id=to.id, by=CUSTOMER, tenant_id=None
        )
        assert await added(store, made) == made == await read(store, made)
        assert await store.replays.working() == (made,)
        log = await store.alerting.audit_log(EntryQuery(subjects=("rpl",)), ALL)
        assert [each.action for each in log.items] == ["replay.create"]

    async def test_they_are_listed_by_tenant_and_state(self, store: Store) -> None:
        first, second = await added(store), await added(store, replay(tenant_id="zeta"))
        assert await store.replays.cancel(second.seq, entry("cancel"))
        for query, expected in (
            (ReplayQuery(), [first, second]),
            (ReplayQuery(tenant_ids=("zeta",)), [second]),
            (ReplayQuery(states=(ReplayState.RUNNING,)), [first]),
        ):
            found = await store.replays.replays(query, ALL)
            assert [each.seq for each in found.items] == [each.seq for each in expected]
        page = await store.replays.replays(ReplayQuery(), Page(limit=1))
        assert ([each.seq for each in page.items], page.has_next) == ([second.seq], True)

    async def test_it_ends_once_unless_it_was_cancelled_meanwhile(self, store: Store) -> None:
        made = await added(store)
        assert await store.replays.cancel(made.seq, entry("cancel"))
        assert not await store.replays.cancel(made.seq, entry("cancel"))
        await store.replays.end(made, entry("end"), now=NOW + 1)
        assert (await read(store, made)).state is ReplayState.CANCELLING
        for instant in (2, 3):
            await store.replays.end(await read(store, made), entry("end"), now=NOW + instant)
        ended = await read(store, made)
        assert (ended.state, ended.ended_at) == (ReplayState.CANCELLED, NOW + 2)
        assert await store.replays.working() == ()
        log = await store.alerting.audit_log(EntryQuery(subjects=("rpl",)), ALL)
        assert [each.action for each in log.items] == ["replay.create", "replay.cancel", "replay.end"]


class TestSelecting:
    async def test_events_are_counted_up_to_a_limit(self, store: Store) -> None:
        to = await destination(store)
        for _ in range(3):
            await delivered(store, to)
        query = EventQuery(tenant_ids=("acme",))
        assert [await store.replays.count(query, limit=limit) for limit in (2, 3, 4)] == [2, 3, 3]
        before = structs.replace(query, accepted=TimeRange(lt=NOW))
        assert await store.replays.count(before, limit=9) == 0

    async def test_how_an_event_stands(self, store: Store) -> None:
        first, second = await destination(store), await destination(store, "des_2")
        of, nothing = builders.event(), builders.event()
        await store.accept(builders.publication(of, first, second))
        await store.accept(builders.publication(nothing))
        await attempted(store, of, second)
        assert await store.replays.standings([of.seq, nothing.seq]) == {
            of.seq: Standing({first.no: Status.DELIVERING, second.no: Status.DELIVERED}, 0),
            nothing.seq: Standing(),
        }
        await store.retry(RetryRequest(event_seq=of.seq, destination_no=second.no, now=NOW))
        standings = await store.replays.standings([of.seq])
        assert standings[of.seq] == Standing({first.no: Status.DELIVERING, second.no: Status.RETRYING}, 1)


class TestSending:
    async def test_a_piece_is_queued_with_how_far_it_goes(self, store: Store) -> None:
        to, made = await destination(store), await added(store)
        of = await delivered(store, to)
        assert await store.replays.plan(made.seq, piece((of.seq, to.no), last=False, skipped={"topic": 2}))
        assert await store.replays.plan(made.seq, piece(examined=1, after=(NOW, 9), skipped={"topic": 1, "filter": 1}))
        planned = await read(store, made)
        assert (planned.examined, planned.after, planned.planned) == (2, (NOW, 9), True)
        assert (planned.total, planned.waiting, planned.skipped) == (1, 1, {"topic": 3, "filter": 1})
        assert await due(store, to) == ()

    async def test_so_many_are_made_due_as_there_is_room_for(self, store: Store) -> None:
        first, second, made = await destination(store), await destination(store, "des_2"), await added(store)
        events = [await delivered(store, first, second) for _ in range(3)]
        pairs = [(of.seq, to.no) for of in events for to in (first, second)]
        await store.replays.plan(made.seq, piece(*pairs))
        _, line = await send(store, made)
        assert line == Lineup((first.no, second.no), {})
        _, line = await send(store, made, {first.no: 2})
        assert line == Lineup((first.no, second.no), {first.no: 2})
        assert [(each.event.seq, each.attempt, each.manual) for each in await due(store, first)] == [
            (of.seq, 2, True) for of in events[:2]
        ]
        assert await due(store, second) == ()
        further = await store.replays.send(made.seq, {}, now=NOW, after=first.no, limit=10)
        assert further[1].queued == (second.no,)

    async def test_what_was_attempted_is_counted(self, store: Store) -> None:
        to, made = await destination(store), await added(store)
        events = [await delivered(store, to) for _ in range(3)]
        await store.replays.plan(made.seq, piece(*((of.seq, to.no) for of in events)))
        await send(store, made, {to.no: 9})
        await due(store, to)
        await attempted(store, events[0], to, attempt=2, manual=True)
        await attempted(store, events[1], to, attempt=2, manual=True, ok=False)
        now, line = await send(store, made)
        assert (now.total, now.delivered, now.failed, now.waiting) == (3, 1, 1, 1)
        assert line == Lineup((), {to.no: 1})
        found = await store.replays.deliveries(made.seq, ALL)
        assert [(each.event_id, each.destination_id, each.ok, each.state) for each in found.items] == [
            (events[0].id, to.id, True, DeliveryState.DELIVERED),
            (events[1].id, to.id, False, DeliveryState.EXHAUSTED),
            (events[2].id, to.id, None, DeliveryState.PENDING),
        ]
        for oks, some in (((False,), events[1:2]), ((True, None), [events[0], events[2]])):
            part = await store.replays.deliveries(made.seq, ALL, oks=oks)
            assert [each.event_id for each in part.items] == [of.id for of in some]
        page = await store.replays.deliveries(made.seq, Page(limit=2, direction=Direction.ASC))
        following = Page(limit=2, direction=Direction.ASC, after=(events[1].seq, to.no))
        assert (page.has_next, page.items[-1].event_seq) == (True, events[1].seq)
        assert [each.event_seq for each in (await store.replays.deliveries(made.seq, following)).items] == [
            events[2].seq
        ]

    async def test_what_is_kept_and_what_was_never_routed_is_sent_too(self, store: Store) -> None:
        to, made = await destination(store, disabled_at=NOW), await added(store)
        kept, never = builders.event(), builders.event()
        await store.accept(
            Publication(event=kept, matched=(), skipped=(), kept=(to,), accepted_at=NOW, lease_until=None)
        )
        await store.accept(builders.publication(never))
        assert await store.replace_destination(structs.replace(to, disabled_at=None))
        await store.replays.plan(made.seq, piece((kept.seq, to.no), (never.seq, to.no)))
        await send(store, made, {to.no: 9})
        assert [(each.event.seq, each.attempt, each.manual) for each in await due(store, to)] == [
            (kept.seq, 1, True),
            (never.seq, 1, True),
        ]

    async def test_an_attempt_under_way_is_followed_by_the_manual_one(self, store: Store) -> None:
        to, made = await destination(store), await added(store)
        of = builders.event()
        await store.accept(builders.publication(of, to))
        await store.replays.plan(made.seq, piece((of.seq, to.no)))
        await send(store, made, {to.no: 1})
        first = await attempted(store, of, to)
        now, _ = await send(store, made)
        assert now.waiting == 1
        await due(store, to)
        second = await attempted(store, of, to, attempt=2, manual=True)
        now, _ = await send(store, made)
        assert (now.delivered, now.waiting) == (1, 0)
        assert await store.replays.asks([first, second]) == {second.seq: (str(OPERATOR), made.seq)}

    @pytest.mark.parametrize("reason", ["disabled", "deleted"])
    async def test_what_cannot_be_sent_any_more_is_dropped(self, store: Store, reason: str) -> None:
        to, made = await destination(store), await added(store)
        events = [await delivered(store, to) for _ in range(3)]
        await store.replays.plan(made.seq, piece(*((of.seq, to.no) for of in events)))
        await send(store, made, {to.no: 1})
        if reason == "disabled":
            await store.replace_destination(structs.replace(to, disabled_at=NOW))
        else:
            await store.delete_destination("acme", to.id, now=NOW)
        now, line = await send(store, made, {to.no: 1})
        assert (now.total, now.failed, now.waiting, now.skipped) == (1, 1, 0, {reason: 2})
        assert line == Lineup((), {})

    async def test_a_cancelled_one_sends_nothing_more(self, store: Store) -> None:
        to, made = await destination(store), await added(store)
        events = [await delivered(store, to) for _ in range(3)]
        await store.replays.plan(made.seq, piece(*((of.seq, to.no) for of in events)))
        await send(store, made, {to.no: 1})
        await store.replays.cancel(made.seq, entry("cancel"))
        assert not await store.replays.plan(made.seq, piece((events[0].seq, to.no)))
        now, line = await send(store, made, {to.no: 9})
        assert (now.total, now.waiting, now.skipped) == (1, 1, {"cancelled": 2})
        assert line == Lineup((), {to.no: 1})


class TestLimits:
    async def test_an_event_is_retried_so_often(self, store: Store) -> None:
        to = await destination(store)
        of, other = await delivered(store, to), await delivered(store, to)
        request, limits = RetryRequest(event_seq=of.seq, destination_no=to.no, now=NOW), Limits(per_event=2)
        for number in (2, 3):
            await store.retry(request, retry_entry(), limits)
            await due(store, to)
            await attempted(store, of, to, attempt=number, manual=True)
        with pytest.raises(Invalid) as refused:
            await store.retry(request, retry_entry(), limits)
        assert refused.value.data == ["the event was sent again by hand 2 times; the limit is 2"]
        assert await due(store, to) == ()
        await store.retry(structs.replace(request, event_seq=other.seq), retry_entry(), limits)

    async def test_a_tenant_has_its_hour(self, store: Store) -> None:
        to = await destination(store)
        of, other, third = [await delivered(store, to) for _ in range(3)]
        limits = Limits(per_hour=5)
        start = NOW // HOUR * HOUR
        request = RetryRequest(event_seq=of.seq, destination_no=to.no, now=start + HOUR - 90 * SECOND)
        another = structs.replace(request, event_seq=other.seq)
        await store.retry(request, retry_entry(), limits)
        await added(store, replay(selected=4, created_at=request.now), limits)
        assert await store.replays.left("acme", 5, now=request.now) == 0
        with pytest.raises(TooMany) as refused:
            await store.retry(another, retry_entry(), limits)
        assert refused.value.retry_after == 90
        assert refused.value.data == {"limit": 5, "remaining": 0, "resets_at": "2027-01-15T09:00:00Z"}
        with pytest.raises(TooMany):
            await added(store, replay(created_at=request.now), limits)
        await store.retry(structs.replace(another, event_seq=third.seq, now=start + HOUR), retry_entry(), limits)
        assert await store.replays.left("acme", 5, now=start + HOUR) == 4
        assert await store.replays.left("zeta", 5, now=start + HOUR) == 5

    async def test_what_is_asked_for_already_is_not_charged_again(self, store: Store) -> None:
        to = await destination(store)
        of, limits = await delivered(store, to), Limits(per_hour=5, per_event=2)
        request = RetryRequest(event_seq=of.seq, destination_no=to.no, now=NOW)
        for _ in range(3):
            await store.retry(request, retry_entry(), limits)
        assert await store.replays.left("acme", 5, now=NOW) == 4
        audited = await store.alerting.audit_log(EntryQuery(), Page(limit=9))
        joined = [entry.detail.get("already_asked_for", False) for entry in audited.items]
        assert joined == [True, True, False]

    async def test_the_same_asked_for_again_while_it_runs_is_the_one_that_runs(self, store: Store) -> None:
        first = replay(by=CUSTOMER)
        limits = Limits(per_hour=first.selected, running=1)
        await added(store, first, limits)
        again = structs.replace(first, seq=builders.next_seq(), created_at=NOW + SECOND)
        assert (await added(store, again, limits)).seq == first.seq
        assert [each.seq for each in await store.replays.working()] == [first.seq]
        others = structs.replace(again, by=OPERATOR), structs.replace(again, seq=builders.next_seq(), asked={})
        for other in others:
            assert (await added(store, other)).seq == other.seq
        await store.replays.end(first, entry("end"), now=NOW)
        after = structs.replace(first, seq=builders.next_seq())
        assert (await added(store, after)).seq == after.seq

    async def test_so_many_of_a_tenants_run_at_one_time(self, store: Store) -> None:
        limits = Limits(per_hour=None, running=2)
        first, *_ = [await added(store, replay(by=CUSTOMER), limits) for _ in range(2)]
        with pytest.raises(TooMany, match="at most 2 replays") as refused:
            await added(store, replay(by=CUSTOMER), limits)
        assert refused.value.data == {"limit": 2, "remaining": 0}
        await added(store, replay(by=OPERATOR))
        await added(store, replay(by=structs.replace(CUSTOMER, name="zeta"), tenant_id="zeta"), limits)
        await store.replays.end(first, entry("end"), now=NOW)
        await added(store, replay(by=CUSTOMER), limits)


class TestInitiators:
    async def test_who_asked_and_what_came_of_it(self, store: Store) -> None:
        to = await destination(store)
        of = await delivered(store, to)
        first = (await store.attempts(AttemptQuery(), ALL)).items[0].attempt
        await store.retry(RetryRequest(event_seq=of.seq, destination_no=to.no, now=NOW), retry_entry(CUSTOMER))
        log = await store.alerting.audit_log(EntryQuery(actions=("event.retry",)), ALL)
        assert [each.detail for each in log.items] == [{}]
        await due(store, to)
        second = await attempted(store, of, to, attempt=2, manual=True, ok=False)
        assert await store.replays.asks([first, second]) == {second.seq: ("tenant:acme", None)}
        await store.retention.expire(Kept.ATTEMPTS, [second.seq], now=NOW, budget=1.0)
        log = await store.alerting.audit_log(EntryQuery(actions=("event.retry",)), ALL)
        assert [each.detail for each in log.items] == [{"attempt": {"seq": second.seq, "ok": False, "code": "500"}}]

    async def test_an_attempt_that_a_crash_cut_off_is_made_again_by_hand(self, store: Store) -> None:
        to = await destination(store)
        of = builders.event()
        await store.accept(builders.publication(of, to))
        await store.retry(RetryRequest(event_seq=of.seq, destination_no=to.no, now=NOW), retry_entry())
        await store.release([builders.delivery(of, to)], due=NOW)
        (again,) = await due(store, to)
        assert (again.attempt, again.manual) == (1, True)
        made = await attempted(store, of, to, manual=True)
        assert (await store.replays.asks([made]))[made.seq].initiator == str(OPERATOR)


def retry_entry(actor: Actor = OPERATOR) -> Entry:
    return Entry(actor=actor, action="event.retry", tenant_id="acme", subject="evt")
