"""What a store removes, what it keeps, and that nothing is left of what was removed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from waypost.core import ids
from waypost.core.errors import NotFound
from waypost.core.model import SECOND, DeliveryState, Destination, Event
from waypost.core.replaying import Limits, Wanted
from waypost.core.retention import Kept, Lifetimes
from waypost.core.routing import Skip
from waypost.store.alerting import Entry, EntryQuery
from waypost.store.base import AttemptQuery, EventQuery, Page, RetryRequest, Store
from waypost.store.replays import Piece, Replay, ReplayQuery
from waypost.store.retention import Log
from waypost.store.sqlite import retention

from .builders import LEASE, NOW, OPERATOR, delivery, destination, event, next_seq, outcome, publication, result
from .conftest import sqlite_store

ALL = Page(limit=1000)
FAILED = outcome(ok=False, code="503", detail="it said: Ada", response={"body": "Ada"}, request={"url": "https://ada"})
PRIVATE = b'{"name": "Ada Lovelace"}'
LATER = NOW + SECOND


async def add(store: Store, **changes: Any) -> Destination:
    return await store.add_destination(destination(**changes), limit=20)


async def accepted(store: Store, *matched: Destination, **changes: Any) -> Event:
    new = event(**changes)
    await store.accept(publication(new, *matched))
    return new


async def delivered(store: Store, to: Destination, **changes: Any) -> Event:
    """An event with its only delivery settled."""
    new = await accepted(store, to, **changes)
    assert await store.record(result(delivery(new, to), outcome(response={"body": "Ada"}, request={"url": "u"})))
    return new


async def expire(store: Store, kind: Kept, *seqs: int) -> tuple[int, tuple[int, ...]]:
    done, held, seconds = await store.retention.expire(kind, seqs, now=LATER, budget=1.0)
    assert seconds > 0
    return done, held


async def event_ids(store: Store) -> set[str]:
    return {found.event.id for found in (await store.events(EventQuery(), ALL)).items}


async def attempts_of(store: Store, of: Event) -> list[Any]:
    found = await store.attempts(AttemptQuery(event_ids=(of.id,)), ALL)
    return [item.attempt for item in found.items]


def entry(action: str = "event.expunge", subject: str = "evt_1") -> Entry:
    return Entry(actor=OPERATOR, action=action, tenant_id="acme", subject=subject)


async def actions(store: Store) -> list[str]:
    return [found.action for found in (await store.alerting.audit_log(EntryQuery(), ALL)).items][::-1]


class TestEvents:
    async def test_go_with_all_about_them(self, store: Store) -> None:
        to = await add(store)
        old, young = await delivered(store, to), await delivered(store, to)
        assert await expire(store, Kept.EVENTS, old.seq) == (1, ())
        assert await event_ids(store) == {young.id}
        assert await store.delivery_states(old.seq) == {}
        assert await attempts_of(store, old) == []
        assert len(await attempts_of(store, young)) == 1

    async def test_are_held_while_a_delivery_is_pending(self, store: Store) -> None:
        to, other = await add(store), await add(store, destination_id="des_2")
        waiting = await accepted(store, to, other)
        assert await store.record(result(delivery(waiting, to), outcome()))
        gone = await delivered(store, to)
        assert await store.retention.settled([waiting.seq, gone.seq]) == [gone.seq]
        assert await expire(store, Kept.EVENTS, waiting.seq, gone.seq) == (2, (waiting.seq,))
        assert await event_ids(store) == {waiting.id}
        assert await store.record(result(delivery(waiting, other), outcome()))
        assert await expire(store, Kept.EVENTS, waiting.seq) == (1, ())

    async def test_take_along_what_is_kept_for_a_disabled_destination(self, store: Store) -> None:
        to = await add(store)
        new = event()
        await store.accept(structs.replace(publication(new), kept=(to,)))
        assert await expire(store, Kept.EVENTS, new.seq) == (1, ())
        assert await store.count_kept(to.no, since=0) == 0

    async def test_that_are_gone_can_be_published_again(self, store: Store) -> None:
        old = await accepted(store, event_id="evt_1")
        await expire(store, Kept.EVENTS, old.seq)
        assert not (await store.accept(publication(event(event_id="evt_1")))).duplicate

    async def test_are_not_sent_again_once_they_are_gone(self, store: Store) -> None:
        to = await add(store)
        old = await delivered(store, to)
        await expire(store, Kept.EVENTS, old.seq)
        await store.retry(RetryRequest(event_seq=old.seq, destination_no=to.no, now=NOW))
        assert (await store.claim(to.no, now=NOW, lease_until=LEASE, limit=10)).deliveries == ()
        assert await store.count_waiting() == 0

    async def test_a_piece_ends_when_its_time_is_up(self, store: Store) -> None:
        seqs = [(await accepted(store)).seq for _ in range(150)]
        done, _, _ = await store.retention.expire(Kept.EVENTS, seqs, now=LATER, budget=0.0)
        assert 0 < done < 150
        assert len(await event_ids(store)) == 150 - done


class TestAged:
    async def test_is_what_lies_between_two_numbers_oldest_first(self, store: Store) -> None:
        to = await add(store)
        made = [await delivered(store, to) for _ in range(4)]
        found = await store.retention.aged(Kept.EVENTS, after=made[0].seq, before=made[3].seq, limit=10)
        assert list(found) == [(made[1].seq, "acme"), (made[2].seq, "acme")]
        assert len(await store.retention.aged(Kept.EVENTS, after=0, before=made[3].seq, limit=2)) == 2
        assert len(await store.retention.aged(Kept.ATTEMPTS, after=0, before=next_seq(), limit=10)) == 4

    async def test_data_leaves_out_what_has_none(self, store: Store) -> None:
        first, second = await accepted(store), await accepted(store)
        await expire(store, Kept.DATA, first.seq)
        found = await store.retention.aged(Kept.DATA, after=0, before=second.seq + 1, limit=10)
        assert list(found) == [(second.seq, "acme")]


async def test_attempts_go_before_their_event(store: Store) -> None:
    to = await add(store)
    new = await delivered(store, to)
    (attempt,) = await attempts_of(store, new)
    await expire(store, Kept.ATTEMPTS, attempt.seq)
    assert await attempts_of(store, new) == []
    assert await store.delivery_states(new.seq) == {to.id: DeliveryState.DELIVERED}


class TestData:
    async def test_goes_before_its_event(self, store: Store) -> None:
        to = await add(store)
        new = event(data=PRIVATE, metadata={"name": "Ada"})
        skips = (Skip("des_2", "topic"), Skip("des_3", "filter", 'data.name is not "x" (it is "Ada")'))
        await store.accept(structs.replace(publication(new, to), skipped=skips))
        assert await store.record(result(delivery(new, to), FAILED))
        await store.cancel(to.no)
        await expire(store, Kept.DATA, new.seq)
        found = await store.event(new.id, tenant_id="acme")
        assert found is not None
        assert found.event == structs.replace(new, data=b"{}", metadata=None, expunged_at=LATER)
        assert found.matched_destination_ids == (to.id,)
        assert found.skipped == (Skip("des_2", "topic"), Skip("des_3", "filter"))
        (attempt,) = await attempts_of(store, new)
        assert (attempt.code, attempt.detail, attempt.request, attempt.response) == ("503", None, None, None)

    async def test_is_held_while_a_delivery_is_pending(self, store: Store) -> None:
        to = await add(store)
        new = await accepted(store, to, data=PRIVATE)
        assert await expire(store, Kept.DATA, new.seq) == (1, (new.seq,))
        found = await store.event(new.id, tenant_id="acme")
        assert found is not None
        assert found.event.data == PRIVATE

    async def test_takes_along_what_is_kept_for_a_disabled_destination(self, store: Store) -> None:
        to = await add(store)
        new = event()
        await store.accept(structs.replace(publication(new), kept=(to,)))
        await expire(store, Kept.DATA, new.seq)
        assert await store.recover(to.no, since=0, now=NOW, limit=10) == 0
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.CANCELLED}


class TestExpunging:
    async def test_an_event_stops_what_waits_and_what_is_under_way(self, store: Store) -> None:
        to, other = await add(store), await add(store, destination_id="des_2")
        new = await accepted(store, to, other, data=PRIVATE)
        assert await store.retention.expunge(new.seq, now=LATER, entry=entry()) == LATER
        assert set((await store.delivery_states(new.seq)).values()) == {DeliveryState.CANCELLED}
        assert await store.record(result(delivery(new, to), FAILED)) is None
        assert await attempts_of(store, new) == []

    async def test_an_event_is_idempotent_and_on_record_once(self, store: Store) -> None:
        new = await accepted(store, data=PRIVATE)
        first = await store.retention.expunge(new.seq, now=LATER, entry=entry())
        assert await store.retention.expunge(new.seq, now=LATER + SECOND, entry=entry()) == first
        assert await actions(store) == ["event.expunge"]

    async def test_an_event_that_is_gone_changes_nothing(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.retention.expunge(1, now=LATER, entry=entry())
        assert await actions(store) == []

    async def test_an_event_that_is_asked_for_again_is_not_sent(self, store: Store) -> None:
        to = await add(store)
        new = await delivered(store, to)
        await store.retention.expunge(new.seq, now=LATER, entry=entry())
        await store.retry(RetryRequest(event_seq=new.seq, destination_no=to.no, now=NOW))
        assert (await store.claim(to.no, now=NOW, lease_until=LEASE, limit=10)).deliveries == ()
        assert await store.delivery_states(new.seq) == {to.id: DeliveryState.CANCELLED}

    async def test_a_tenant_takes_all_of_its_events_and_no_other(self, store: Store) -> None:
        await store.put_tenant("zeta", None, now=NOW)
        ours = [await accepted(store, data=PRIVATE, time=NOW - number * SECOND) for number in range(10)]
        theirs = await accepted(store, tenant_id="zeta", data=PRIVATE)
        job = await store.retention.begin_expunging("acme", now=NOW, entry=entry("tenant.expunge", "acme"))
        late = await accepted(store, data=PRIVATE, seq=job.until)
        seen: list[int] = []
        while job.finished_at is None:
            assert await store.retention.unfinished() == (job,)
            job, seqs, _ = await store.retention.go_on(job, now=LATER, limit=4)
            seen += seqs
        assert set(seen) == {of.seq for of in ours}
        assert (job.events, job.finished_at) == (10, LATER)
        assert await store.retention.unfinished() == ()
        assert await store.retention.expunging("acme") == job
        found = {item.event.seq: item.event.data for item in (await store.events(EventQuery(), ALL)).items}
        assert {seq for seq, data in found.items() if data == PRIVATE} == {theirs.seq, late.seq}
        assert await actions(store) == ["tenant.expunge", "tenant.expunged"]

    async def test_a_tenant_again_takes_what_has_come_since(self, store: Store) -> None:
        await accepted(store, data=PRIVATE)
        first = await store.retention.begin_expunging("acme", now=NOW, entry=entry("tenant.expunge"))
        await store.retention.go_on(first, now=NOW, limit=1)
        fresh = await accepted(store, data=PRIVATE, seq=first.until)
        again = await store.retention.begin_expunging("acme", now=LATER, entry=entry("tenant.expunge"))
        outdated, seqs, _ = await store.retention.go_on(first, now=NOW, limit=9)
        assert (outdated, list(seqs)) == (first, [])
        done, seqs, _ = await store.retention.go_on(again, now=LATER, limit=9)
        assert list(seqs) == [fresh.seq]
        assert done.events == 2

    async def test_nobody_is_done_at_once(self, store: Store) -> None:
        job = await store.retention.begin_expunging("ghost", now=NOW, entry=entry("tenant.expunge", "ghost"))
        done, _, _ = await store.retention.go_on(job, now=LATER, limit=10)
        assert (done.events, done.finished_at) == (0, LATER)
        assert await store.retention.expunging("nobody") is None


class TestLifetimes:
    async def test_of_tenants_are_replaced_whole_and_outlive_them(self, store: Store) -> None:
        await store.retention.put_lifetimes("acme", Lifetimes(events=60, data=0), entry("tenant.retention"))
        await store.retention.put_lifetimes("acme", Lifetimes(attempts=5), entry("tenant.retention"))
        await store.delete_tenant("acme", now=NOW)
        assert await store.retention.lifetimes() == {"acme": Lifetimes(attempts=5)}
        assert await actions(store) == ["tenant.retention", "tenant.retention"]

    async def test_that_are_the_servers_are_not_kept(self, store: Store) -> None:
        await store.retention.put_lifetimes("acme", Lifetimes(events=60), entry("tenant.retention"))
        await store.retention.put_lifetimes("acme", Lifetimes(), entry("tenant.retention"))
        assert await store.retention.lifetimes() == {}


async def test_logs_are_trimmed_oldest_first(store: Store) -> None:
    for number in range(5):
        await store.alerting.audit(entry(f"thing.{number}"))
    (newest, *_) = (await store.alerting.audit_log(EntryQuery(), ALL)).items
    assert (await store.retention.trim(Log.AUDIT, before=newest.seq, limit=3)).done == 3
    assert (await store.retention.trim(Log.AUDIT, before=newest.seq, limit=3)).done == 1
    assert (await store.retention.trim(Log.AUDIT, before=newest.seq, limit=3)).done == 0
    assert await actions(store) == ["thing.4"]
    for log in Log:
        assert (await store.retention.trim(log, before=0, limit=3)).done == 0


async def test_replays_that_have_ended_go_with_their_deliveries(store: Store) -> None:
    to = await add(store)
    event = await delivered(store, to)
    ended, running = (_replay(next_seq()) for _ in range(2))
    for replay in (ended, running):
        await store.replays.add(replay, entry("replay.create"), limits=Limits())
        piece = Piece(examined=1, after=(NOW, event.seq), last=True, send=[(event.seq, to.no)], skipped={})
        assert await store.replays.plan(replay.seq, piece)
    await store.replays.end(ended, entry("replay.end"), now=NOW)
    before = ids.bound(NOW + SECOND)
    assert (await store.retention.trim(Log.REPLAYS, before=ids.bound(NOW), limit=10)).done == 0
    while (await store.retention.trim(Log.REPLAYS, before=before, limit=10)).done:
        pass
    assert [replay.seq for replay in (await store.replays.replays(ReplayQuery(), ALL)).items] == [running.seq]
    assert (await store.replays.deliveries(ended.seq, ALL)).items == ()
    assert len((await store.replays.deliveries(running.seq, ALL)).items) == 1


def _replay(seq: int) -> Replay:
    query, wanted = EventQuery(), Wanted()
    return Replay(
        seq=seq,
        tenant_id="acme",
        asked={"id": str(seq)},
        query=query,
        wanted=wanted,
        by=OPERATOR,
        selected=1,
        created_at=NOW,
    )


# what is SQLite's own


async def test_nothing_of_it_is_left_in_the_files(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    to = await _somewhere(store)
    marks = {name: f"secret-of-{name}".encode() for name in ("small", "large")}
    small = event(data=b'{"a": "%s"}' % marks["small"], metadata={"m": "secret-of-small"})
    large = event(data=b'{"a": "%s"}' % (marks["large"] * 3_000))
    for each in (small, large):
        await store.accept(publication(each, to))
        told = outcome(response={"body": each.data.decode()}, request={"url": each.data.decode()})
        assert await store.record(result(delivery(each, to), told))
    assert all(_holds(tmp_path, mark) for mark in marks.values())
    await store.retention.expunge(small.seq, now=NOW, entry=entry())
    job = await store.retention.begin_expunging("acme", now=NOW, entry=entry())
    await store.retention.go_on(job, now=NOW, limit=10)
    async with asyncio.timeout(10):
        while not await store.retention.wipe():
            await asyncio.sleep(0.05)
    assert not any(_holds(tmp_path, mark) for mark in marks.values())
    await store.close()


async def _somewhere(store: Any) -> Destination:
    await store.put_tenant("acme", None, now=NOW)
    return await add(store)


def _holds(folder: Path, mark: bytes) -> bool:
    return any(mark in file.read_bytes() for file in folder.iterdir())


async def test_the_file_does_not_grow_when_as_much_goes_as_comes(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    to = await _somewhere(store)
    pages: list[int] = []
    kept: list[int] = []
    for _ in range(20):
        made = await asyncio.gather(*(delivered(store, to, data=b'{"x": "%s"}' % (b"x" * 500)) for _ in range(100)))
        kept += [each.seq for each in made]
        going, kept = kept[:-300], kept[-300:]
        await store.retention.expire(Kept.EVENTS, going, now=NOW, budget=10.0)
        pages.append((await store._db.all("PRAGMA page_count"))[0][0])
    assert max(pages) <= 1.2 * pages[4]
    await store.close()


@pytest.mark.parametrize(
    "sql",
    [
        *(f"DELETE FROM {table} WHERE event_seq IN {retention._CHOSEN}" for table in retention._TRACES),
        f"DELETE FROM events WHERE seq IN {retention._CHOSEN}",
        retention._PENDING,
        retention._STRIP_EVENTS,
        retention._STRIP_ATTEMPTS,
        retention._CANCEL,
        retention._NEXT_OF_TENANT,
        *retention._AGED.values(),
        *retention._TRIM.values(),
    ],
)
async def test_no_statement_looks_through_a_table(tmp_path: Path, sql: str) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    with sqlite3.connect(tmp_path / "waypost.db") as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))]
    db.close()
    assert [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step] == []
    await store.close()
