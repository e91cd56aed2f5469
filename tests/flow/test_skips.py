"""What was skipped is counted: for each destination on disk, for the process in its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.store.builders import destination
from waypost.core.errors import Unavailable
from waypost.core.routing import Skip
from waypost.flow.deliver import Bounds
from waypost.flow.publish import Publisher
from waypost.flow.skips import SkipCounts
from waypost.observe.logs import NullJournal
from waypost.store.base import SkipKey
from waypost.store.sqlite import SqliteStore

from .house import FAST, House, Receivers

NOTHING = {"not_addressed": 0, "topic": 0, "filter": 0, "filter_cost": 0, "disabled": 0}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path, Receivers(), Bounds(sweep_interval=0.05, shutdown=0.2), FAST)
    await made.start()
    yield made
    await made.close()


async def test_publishing_counts(house: House) -> None:
    skips = SkipCounts(house.store)
    house.publisher = Publisher(
        house.store, house.directory, house.dispatcher, house.metrics, NullJournal(), skipped=skips.note
    )
    everything = await house.add("all")
    users = await house.add("users", topics=("user.*",))
    picky = await house.add("picky", filter={"data": {"n": 1}})
    await house.publish(data=b'{"n": 1}')
    await house.publish(data=b'{"n": 2}', id="twice")
    await house.publish(data=b'{"n": 2}', id="twice")
    await house.publish(data=b'{"n": 1}', destination_id="all")
    assert await skips.of(everything) == NOTHING
    assert await skips.of(users) == NOTHING | {"topic": 2, "not_addressed": 1}
    assert await skips.of(picky) == NOTHING | {"filter": 1, "not_addressed": 1}
    exposed = house.metrics.exposition().decode()
    for reason, count in {"topic": 2, "filter": 1, "not_addressed": 2, "disabled": 0}.items():
        assert f'waypost_deliveries_skipped_total{{reason="{reason}"}} {count}.0' in exposed


async def test_what_could_not_be_written_is_kept_for_the_next_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put_tenant("acme", None, now=0)
    to = await store.add_destination(destination(), limit=9)
    skips = SkipCounts(store)
    skips.note("acme", [Skip(to.id, "topic")])
    add = store.add_skips

    async def full(_counts: Mapping[SkipKey, int]) -> None:
        skips.note("acme", [Skip(to.id, "topic")])
        raise Unavailable("the disk is full")

    monkeypatch.setattr(store, "add_skips", full)
    with pytest.raises(Unavailable):
        await skips.flush()
    monkeypatch.setattr(store, "add_skips", add)
    assert await skips.of(to) == NOTHING | {"topic": 2}


async def test_flushes_by_itself(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.flow.skips.FLUSH_SECONDS", 0.001)
    await store.put_tenant("acme", None, now=0)
    to = await store.add_destination(destination(), limit=9)
    skips = SkipCounts(store)
    skips.note("acme", [Skip(to.id, "topic")])
    await skips.background.start()
    async with asyncio.timeout(10):
        while not await store.skips(to.no):
            await asyncio.sleep(0.005)
    await skips.background.close()
    assert await store.skips(to.no) == {"topic": 1}
