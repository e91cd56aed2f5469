"""Counts are folded and pruned in the background, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.builders import destination, event, publication
from tests.store.conftest import sqlite_store
from waypost.core.metering import EVENTS, HOUR, MINUTE
from waypost.core.model import DAY, Micros
from waypost.flow import clock
from waypost.flow.metering import Bounds, Metering
from waypost.store.sqlite import SqliteStore

NOW: Micros = clock.now() // DAY * DAY


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = sqlite_store(tmp_path)
    await opened.open()
    await opened.put_tenant("acme", None, now=NOW)
    to = await opened.add_destination(destination(), limit=5)
    for days in (0, 2, 10):
        for topic in map(str, range(30)):
            await opened.accept(publication(event(time=NOW - days * DAY, topic=topic), to))
    yield opened
    await opened.close()


def rollups(store: SqliteStore, width: Micros) -> set[int]:
    """How many days ago there are counts of this width."""
    connection = store._db.connect()
    found = connection.execute("SELECT DISTINCT bucket FROM rollups WHERE width = ?", (width // MINUTE,)).fetchall()
    connection.close()
    return {(NOW - bucket * MINUTE) // DAY for (bucket,) in found}


def fresh(store: SqliteStore) -> int:
    connection = store._db.connect()
    (count,) = connection.execute("SELECT count(*) FROM rollups_fresh").fetchone()
    connection.close()
    return int(count)


async def until(metering: Metering, store: SqliteStore) -> None:
    await metering.background.start()
    async with asyncio.timeout(30):
        while fresh(store) or rollups(store, MINUTE) != {0}:
            await asyncio.sleep(0.01)
    await metering.background.close()


async def test_what_is_fresh_is_folded_and_what_is_old_is_pruned(store: SqliteStore) -> None:
    metering = Metering(store, Bounds(minutes_kept=86_400.0, hours_kept=5 * 86_400.0))
    await until(metering, store)
    assert rollups(store, HOUR) == {0, 2}
    assert rollups(store, DAY) == {0, 2, 10}
    answer = await metering.ask(EVENTS, start=NOW - 30 * DAY, end=NOW + DAY, measures=("count",))
    assert [point.measures for point in answer.points] == [(90,)]


async def test_days_are_pruned_only_when_that_is_set(store: SqliteStore) -> None:
    await until(Metering(store, Bounds(minutes_kept=86_400.0, days_kept=5 * 86_400.0)), store)
    assert rollups(store, DAY) == {0, 2}


async def test_a_store_that_fails_ends_nothing(store: SqliteStore) -> None:
    keeping = Metering(store, Bounds(interval=0.001)).background
    await keeping.start()
    await store.close()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert keeping.well
    await store.open()
    async with asyncio.timeout(30):
        while fresh(store):
            await asyncio.sleep(0.01)
    await keeping.close()
