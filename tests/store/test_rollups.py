"""How counts are kept: written with what they count, folded, pruned, forgotten, filled in by the migration.

That every answer is exact, wherever the counts lie, is a property in `tests/api/test_metrics_api.py`.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from waypost.core import ids, metering
from waypost.core.metering import ATTEMPTS, EVENTS, HOUR, MINUTE, Count, Question, Subject, cover, edges, points
from waypost.core.model import DAY, SECOND, Destination, Event, Micros, Outcome
from waypost.store.base import RetryRequest, Store
from waypost.store.sqlite import SqliteStore, opening
from waypost.store.sqlite.rollups import Statement

from .builders import NOW, delivery, destination, event, outcome, publication, result
from .conftest import sqlite_store

TODAY: Micros = NOW // DAY * DAY


def question(subject: Subject, *dimensions: str, by: str | None = None, **filters: str) -> Question:
    return within(TODAY, TODAY + DAY, subject, *dimensions, by=by, **filters)


def within(
    start: Micros, end: Micros, subject: Subject, *dimensions: str, by: str | None = None, **filters: str
) -> Question:
    granularity = None if by is None else metering.granularity(by)
    found = edges(start, end, granularity, most=100_000)
    assert found is not None
    return Question(
        subject=subject,
        start=start,
        end=end,
        granularity=granularity,
        edges=found,
        measures=subject.measures,
        dimensions=dimensions,
        filters={name: (value,) for name, value in filters.items()},
    )


async def ask(store: Store, asked: Question) -> list[Count]:
    return await store.rollups.count(asked, most=1_000, scan_limit=1_000)


async def total(store: Store, asked: Question) -> int:
    return sum(count.sums.total for count in await ask(store, asked))


async def fold(store: Store, *, limit: int = 1_000) -> int:
    """Fold everything; in how many pieces."""
    pieces = 1
    while await store.rollups.fold(limit=limit):
        pieces += 1
    return pieces


async def prune(store: Store, keep_since: Mapping[Micros, Micros]) -> None:
    after: int | None = 0
    while after is not None:
        after = await store.rollups.prune(keep_since, after=after, limit=2)


@pytest.fixture
async def to(store: Store) -> Destination:
    return await store.add_destination(destination(), limit=5)


async def delivered(store: Store, to: Destination, came: Outcome | None = None, **changes: Any) -> Event:
    made = event(to.tenant_id, **changes)
    await store.accept(publication(made, to))
    assert await store.record(result(delivery(made, to), came or outcome()))
    return made


async def undone_once(store: SqliteStore, work: Coroutine[Any, Any, object]) -> None:
    """Have the work done in a transaction with something that fails, so that it is undone and done again."""
    gate = threading.Event()

    def fail(_: sqlite3.Connection) -> None:
        raise RuntimeError

    waiting = store._db.submit("call", lambda _: gate.wait())
    working = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    failing = store._db.submit("call", fail)
    gate.set()
    with pytest.raises(RuntimeError):
        await failing
    await asyncio.gather(waiting, working)


def rows_of(store: Store, table: str) -> list[tuple[Any, ...]]:
    assert isinstance(store, SqliteStore)
    connection = store._db.connect()
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
    finally:
        connection.close()


class TestCounting:
    async def test_a_duplicate_does_not_count(self, store: Store, to: Destination) -> None:
        for _ in range(3):
            await store.accept(publication(event(event_id="evt_1"), to))
        assert await total(store, question(EVENTS)) == 1
        assert await total(store, question(EVENTS, "destination_id")) == 1

    async def test_one_of_a_batch_that_is_a_duplicate_does_not_count(self, store: Store, to: Destination) -> None:
        await store.accept_many([publication(event(event_id=name), to) for name in ("a", "b", "a")])
        assert await total(store, question(EVENTS)) == 2

    async def test_what_is_fenced_off_does_not_count_and_those_beside_it_do(
        self, store: Store, to: Destination
    ) -> None:
        made = [event() for _ in range(3)]
        await store.accept_many([publication(one, to) for one in made])
        late = delivery(made[0], to, attempt=7)
        results = [result(each, outcome()) for each in (late, delivery(made[1], to), delivery(made[2], to))]
        assert [recorded is None for recorded in await asyncio.gather(*map(store.record, results))] == [
            True,
            False,
            False,
        ]
        assert await total(store, question(ATTEMPTS)) == 2

    async def test_what_was_undone_does_not_count_and_is_not_remembered(self, store: Store, to: Destination) -> None:
        """A series that was new in a transaction that failed is new again in the next."""
        assert isinstance(store, SqliteStore)

        await undone_once(store, store.accept(publication(event(topic="new"), to)))
        await store.accept(publication(event(topic="new"), to))
        (found,) = await ask(store, question(EVENTS, "topic"))
        assert (found.dimensions, found.sums.total) == (("new",), 2)

    async def test_a_first_attempt_that_somebody_asked_for_is_manual(self, store: Store, to: Destination) -> None:
        made = event()
        await store.accept(publication(made))
        await store.retry(RetryRequest(event_seq=made.seq, destination_no=to.no, now=NOW))
        (taken,) = (await store.claim(to.no, now=NOW, lease_until=NOW + SECOND, limit=1)).deliveries
        await store.record(result(taken, outcome(ok=False, code="500")))
        (found,) = await ask(store, question(ATTEMPTS, "code"))
        assert found.dimensions == ("500",)
        assert found.sums == (1, 0, 0, 0, 1, 1)

    async def test_a_destination_of_one_id_under_two_tenants(self, store: Store, to: Destination) -> None:
        await store.put_tenant("zeta", None, now=NOW)
        other = await store.add_destination(destination("zeta"), limit=5)
        for each in (to, to, other):
            await delivered(store, each)
        for subject in (EVENTS, ATTEMPTS):
            assert await total(store, question(subject, destination_id=to.id)) == 3
            assert await total(store, question(subject, destination_id=to.id, tenant_id="zeta")) == 1

    async def test_an_attempt_at_the_very_end_is_not_within(self, store: Store, to: Destination) -> None:
        made = event()
        await store.accept(publication(made, to))
        at_noon = structs.replace(result(delivery(made, to), outcome()), seq=ids.bound(TODAY + 12 * HOUR))
        await store.record(at_noon)
        for end, count in ((12 * HOUR, 0), (12 * HOUR + 1, 1)):
            assert await total(store, within(TODAY + 1, TODAY + end, ATTEMPTS)) == count
            assert await total(store, within(TODAY + 1, TODAY + end, ATTEMPTS, by="10s", tenant_id="acme")) == count


class TestFolding:
    async def test_it_moves_what_is_fresh_and_changes_no_answer(self, store: Store, to: Destination) -> None:
        for minute in range(5):
            await delivered(store, to, time=TODAY + minute * MINUTE)
        asked = [question(subject, by=by) for subject in (EVENTS, ATTEMPTS) for by in (None, "5m", "1h", "1d")]
        before = [await ask(store, each) for each in asked]
        assert await fold(store, limit=2) > 1
        assert rows_of(store, "rollups_fresh") == []
        assert [await ask(store, each) for each in asked] == before
        folded = rows_of(store, "rollups")
        assert await fold(store) == 1
        assert rows_of(store, "rollups") == folded

    async def test_what_comes_after_it_is_added(self, store: Store, to: Destination) -> None:
        for _ in range(3):
            await delivered(store, to)
            await fold(store)
        assert await total(store, question(ATTEMPTS, by="1m")) == 3
        assert {row[-1] for row in rows_of(store, "rollups")} == {3}

    async def test_a_crash_within_it_loses_and_doubles_nothing(self, store: Store, to: Destination) -> None:
        """Its statements are undone with the rest of their transaction."""
        await delivered(store, to)
        assert isinstance(store, SqliteStore)
        await undone_once(store, store.rollups.fold(limit=1_000))
        for asked in (question(EVENTS), question(EVENTS, by="1m"), question(ATTEMPTS, "tenant_id")):
            assert await total(store, asked) == 1
        assert rows_of(store, "rollups_fresh") == []


class TestPruning:
    async def test_minutes_go_and_hours_stay(self, store: Store, to: Destination) -> None:
        for day in (0, 1):
            await delivered(store, to, time=TODAY - day * DAY)
        await fold(store)
        before = len(rows_of(store, "rollups"))
        await prune(store, {MINUTE: TODAY + HOUR})
        assert len(rows_of(store, "rollups")) == before - 4  # events and what was routed, each in two views
        for asked in (within(TODAY - DAY, TODAY + DAY, EVENTS, by=by) for by in ("1m", "1h", "1d")):
            assert await total(store, asked) == 2
        await prune(store, {MINUTE: TODAY - DAY})
        assert rows_of(store, "rollup_tiers")[0] == (1, TODAY // MINUTE)

    async def test_what_comes_late_for_a_tier_is_not_put_into_it(self, store: Store, to: Destination) -> None:
        await prune(store, {MINUTE: TODAY, HOUR: TODAY - 2 * DAY})
        await delivered(store, to, time=TODAY - DAY)
        await fold(store)
        day_before = within(TODAY - DAY, TODAY, EVENTS, by="1h")
        assert await total(store, day_before) == 1
        assert not [row for row in rows_of(store, "rollups") if row[0] == 1 and row[2] < TODAY // MINUTE]

    async def test_it_can_be_broken_off_and_begun_again(self, store: Store, to: Destination) -> None:
        for topic in "abcdef":
            await delivered(store, to, topic=topic, time=TODAY - DAY)
        await fold(store)
        await store.rollups.prune({MINUTE: TODAY}, after=0, limit=2)
        assert await total(store, within(TODAY - DAY, TODAY, EVENTS, by="1m")) == 6
        await prune(store, {MINUTE: TODAY})
        assert not [row for row in rows_of(store, "rollups") if row[0] == 1 and row[2] < TODAY // MINUTE]


@pytest.mark.parametrize(
    "dimensions", [(), ("topic",), ("destination_id",), ("tenant_id", "status"), ("destination_type",), ("code",)]
)
@pytest.mark.parametrize("folded", [False, True])
async def test_a_measure_alone_is_what_it_is_among_others(
    store: Store, to: Destination, dimensions: tuple[str, ...], folded: bool
) -> None:
    for topic in ("a", "b"):
        await delivered(store, to, topic=topic)
        await delivered(store, to, outcome(ok=False, code="500"), topic=topic)
    if folded:
        await fold(store)
    asked = question(ATTEMPTS, *dimensions)
    (together, _), at = points(asked, await ask(store, asked), most=100), ATTEMPTS.measures.index
    for measure in ATTEMPTS.measures:
        only = structs.replace(asked, measures=(measure,))
        (alone, _) = points(only, await ask(store, only), most=100)
        assert [(one.dimensions, one.measures[0]) for one in alone] == [
            (one.dimensions, one.measures[at(measure)]) for one in together
        ]


@pytest.fixture
async def aged(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store whose record was made before anybody counted."""
    store = sqlite_store(tmp_path)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    to = await store.add_destination(destination(), limit=5)
    other = await store.add_destination(destination(destination_id="des_2"), limit=5)
    for day in (0, 0, 1, 200):
        made = event(topic=f"t{day}", time=TODAY - day * DAY)
        await store.accept(publication(made, to, other))
        await store.record(result(delivery(made, to), outcome(ok=day == 0)))
    await store.accept(publication(event(time=-5)))
    await store.close()
    connection = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    for table in ("rollups", "rollups_fresh", "rollup_tiers", "series", "series_sums"):
        connection.execute(f"DROP TABLE {table}")
    connection.executescript(migration())
    connection.close()
    again = sqlite_store(tmp_path)
    await again.open()
    yield again
    await again.close()


def migration() -> str:
    return "\n".join(script for script in opening.migrations() if "INSERT INTO rollups" in script)


async def test_what_was_on_record_before_is_counted_by_the_migration(aged: SqliteStore) -> None:
    assert rows_of(aged, "rollups_fresh") == []
    start = TODAY - 300 * DAY
    for by in (None, "1d", "1h"):
        assert await total(aged, within(start, TODAY + DAY, EVENTS, by=by)) == 4
        assert await total(aged, within(start, TODAY + DAY, EVENTS, by=by, destination_id="des_2")) == 4
        assert await total(aged, within(start, TODAY + DAY, ATTEMPTS, by=by, tenant_id="acme")) == 4
    found = await ask(aged, within(start, TODAY + DAY, ATTEMPTS, "topic", "status"))
    assert [(count.dimensions, count.sums.total) for count in found] == [
        (("t0", "success"), 2),
        (("t1", "failed"), 1),
        (("t200", "failed"), 1),
    ]
    known = rows_of(aged, "series"), rows_of(aged, "series_sums")
    to = await aged.destination("acme", "des_1")
    assert to is not None
    await delivered(aged, to, topic="t0")
    assert (rows_of(aged, "series"), rows_of(aged, "series_sums")) == known
    assert await total(aged, within(start, TODAY + DAY, EVENTS)) == 5


async def test_views_of_the_migration_are_those_that_are_counted(aged: SqliteStore) -> None:
    start = TODAY - 300 * DAY
    for dimensions in ((), ("tenant_id",), ("destination_id",), ("destination_id", "topic"), ("topic", "code")):
        assert await total(aged, within(start, TODAY + DAY, ATTEMPTS, *dimensions)) == 4
    for dimensions, count in (((), 4), (("tenant_id",), 4), (("destination_id",), 8), (("destination_id", "topic"), 8)):
        assert await total(aged, within(start, TODAY + DAY, EVENTS, *dimensions)) == count


@pytest.mark.parametrize("subject", [EVENTS, ATTEMPTS])
@pytest.mark.parametrize("tenant", [{}, {"tenant_id": "acme"}])
@pytest.mark.parametrize("dimension", ["topic", "destination_id"])
@pytest.mark.parametrize("by", [None, "1s", "1m", "1h", "1d", "1M"])
async def test_no_question_reads_a_whole_table(
    store: Store, subject: Subject, tenant: dict[str, str], dimension: str, by: str | None
) -> None:
    assert isinstance(store, SqliteStore)
    asked = within(TODAY + SECOND, TODAY + DAY - SECOND, subject, dimension, by=by, **tenant)
    pieces = cover(asked.start, asked.end, asked.step, dict.fromkeys(metering.TIERS, 0))
    statement = Statement(asked, pieces)
    sql = f"EXPLAIN QUERY PLAN {statement.sql(100)}"
    plan = [row[-1] for row in await store._db.read(lambda db: db.execute(sql, statement.parameters).fetchall())]
    read = [step for step in plan if re.match("(SCAN|SEARCH) (s|r|e|attempts|events|destinations)\\b", step)]
    assert read
    assert not [step for step in read if step.startswith("SCAN")], plan
    if by != "1s":
        assert "SEARCH r USING PRIMARY KEY (width=? AND series=? AND bucket>? AND bucket<?)" in plan
