"""Nothing is removed because a clock is wrong for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.store import builders
from tests.store.builders import NOW, OPERATOR, event, publication
from tests.store.conftest import sqlite_store
from waypost.core import ids
from waypost.core.model import DAY, SECOND
from waypost.core.retention import Lifetimes
from waypost.flow.metering import Bounds, Metering
from waypost.flow.plausible import PlausibleTime
from waypost.flow.retention import Janitor
from waypost.store.alerting import Entry
from waypost.store.retention import Log

HOUR = 3_600 * SECOND


class Clocks:
    """A clock that is set at will, and one that only runs."""

    def __init__(self) -> None:
        self.wall = NOW
        self.steady = 0

    def pass_(self, by: int) -> None:
        self.wall += by
        self.steady += by

    def time(self, known: int | None = NOW) -> PlausibleTime:
        made = PlausibleTime(jump=3_600, patience=6 * 3_600, wall=lambda: self.wall, steady=lambda: self.steady)
        made.learn(known)
        return made


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_a_step_forward_is_believed_once_it_has_lasted(clocks: Clocks) -> None:
    time = clocks.time()
    clocks.wall += 100 * DAY
    with capture_logs() as lines:
        assert time.now() == NOW
        clocks.pass_(5 * HOUR)
        assert time.now() == NOW + 5 * HOUR
        assert time.ahead == 100 * 86_400
        clocks.pass_(HOUR)
        assert time.now() == clocks.wall
    assert time.ahead == 0
    assert [line["event"] for line in lines] == ["clock_not_believed", "clock_believed_again"]


def test_one_that_is_taken_back_has_not_been(clocks: Clocks) -> None:
    time = clocks.time()
    clocks.wall += 100 * DAY
    time.now()
    clocks.pass_(8 * SECOND)
    clocks.wall -= 100 * DAY
    assert time.now() == NOW + 8 * SECOND
    clocks.pass_(7 * HOUR)
    clocks.wall += 100 * DAY  # again: its time begins anew
    assert time.now() == NOW + 8 * SECOND + 7 * HOUR


def test_it_is_never_later_than_the_clock(clocks: Clocks) -> None:
    time = clocks.time()
    clocks.wall -= 2 * DAY
    assert time.now() == NOW - 2 * DAY
    clocks.pass_(HOUR)
    clocks.wall += 2 * DAY
    assert time.now() == NOW + HOUR


def test_small_steps_and_drift_are_believed_at_once(clocks: Clocks) -> None:
    time = clocks.time()
    for _ in range(100):
        clocks.pass_(HOUR)
        clocks.wall += 600 * SECOND
        assert time.now() == clocks.wall


@pytest.mark.parametrize(
    ("known", "believed"), [(None, NOW), (NOW - 60 * SECOND, NOW), (NOW - 30 * DAY, NOW - 30 * DAY)]
)
def test_a_start_knows_how_late_it_was_before(clocks: Clocks, known: int | None, believed: int) -> None:
    assert clocks.time(known).now() == believed


async def test_no_kind_of_removal_believes_a_step_that_has_not_lasted(clocks: Clocks, tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    to = await store.add_destination(builders.destination(), limit=5)
    kept = event(data=b'{"a": 1}')
    await store.accept(publication(kept, to))
    assert await store.record(builders.result(builders.delivery(kept, to), builders.outcome()))
    await store.alerting.audit(Entry(actor=OPERATOR, action="a", tenant_id="acme", subject="b"))
    time = clocks.time(await store.retention.known())
    week = 7 * 86_400
    janitor = Janitor(
        store,
        default=Lifetimes(events=week, attempts=week, data=week),
        logs=dict.fromkeys(Log, week),
        share=0.5,
        interval=1.0,
        now=time.now,
    )
    metering = Metering(store, Bounds(minutes_kept=week, hours_kept=week, days_kept=week), time.now)

    async def count() -> list[int]:
        tables = ("events", "attempts", "audit", "rollups")
        return [(await store._db.all(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]

    await metering.fold()
    before = await count()
    assert all(before)
    clocks.wall += 100 * DAY
    await janitor._pass()
    await metering.prune()
    assert await count() == before
    assert await store._db.all("SELECT 1 FROM expunged") == []
    clocks.pass_(6 * HOUR)
    await janitor._pass()
    await metering.prune()
    assert await count() == [0] * len(before)
    await store.close()


async def test_what_is_known_is_the_newest_event_and_then_what_was_marked(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    await store.open()
    assert await store.retention.known() is None
    await store.put_tenant("acme", None, now=NOW)
    newest = event()
    await store.accept(publication(newest))
    assert await store.retention.known() == ids.time_of(newest.seq)
    await store.retention.mark(NOW + DAY)
    assert await store.retention.known() == NOW + DAY
    await store.close()
    await asyncio.sleep(0)
