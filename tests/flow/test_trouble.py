"""When the store is in trouble: judged by what fails, kind by kind, and not by what still goes well."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from waypost.core.alerts import DEFAULT_SEVERITY, Kind, Rule, Thresholds
from waypost.core.errors import Unavailable
from waypost.core.retry import RetryPolicy
from waypost.flow import trouble
from waypost.flow.deliver import Bounds as DeliverBounds
from waypost.flow.trouble import Bounds, Shares, Trouble
from waypost.observe.metrics import NullMetrics, PrometheusMetrics

from .house import House, Receivers

BOUNDS = Bounds(percent=10.0, window=30.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TestShares:
    @pytest.mark.parametrize(
        ("good", "failed", "bad"),
        [
            ({}, {}, False),
            ({"accept": 100}, {}, False),
            ({"accept": 91}, {"accept": 9}, False),
            ({"accept": 90}, {"accept": 10}, True),
            ({"record": 1_000, "call": 1_000}, {"accept": 1}, True),
            ({"accept": 1_000, "call": 1_000}, {"record": 1}, True),
        ],
    )
    def test_each_kind_of_work_is_judged_by_itself(
        self, good: dict[str, int], failed: dict[str, int], bad: bool
    ) -> None:
        shares = Shares(BOUNDS)
        shares.count(good, ok=True)
        shares.count(failed, ok=False)
        assert shares.bad is bad

    def test_a_small_success_mends_nothing(self) -> None:
        shares = Shares(BOUNDS, clock := Clock())
        for _ in range(60):
            shares.count({"accept": 10}, ok=False)
            shares.count({"record": 100, "call": 10}, ok=True)
            shares.count({"accept": 1}, ok=True)
            clock.now += 1.0
            assert shares.bad

    def test_what_was_long_ago_counts_no_more_and_takes_no_memory(self) -> None:
        shares = Shares(BOUNDS, clock := Clock())
        for _ in range(1_000):
            shares.count({"accept": 1}, ok=False)
            clock.now += 0.1
        assert len(shares._pieces) <= 31
        clock.now += 31.0
        assert not shares.bad
        assert not shares._pieces


def test_a_log_that_grows_is_said_whenever_it_has_doubled() -> None:
    metrics = PrometheusMetrics()
    watched = Trouble(metrics, Bounds(log_bytes=1_000))
    with capture_logs() as lines:
        for size in (999, 1_000, 1_500, 2_000, 3_999, 4_000, 10, 999, 1_000):
            watched.logged(size)
    assert [line["bytes"] for line in lines if line["event"] == "store_log_grows"] == [1_000, 2_000, 4_000, 1_000]
    assert b"waypost_store_log_bytes 1000.0" in metrics.exposition()


async def test_a_log_that_a_reader_outside_holds_is_measured(tmp_path: Path) -> None:
    house = House(tmp_path, Receivers(), DeliverBounds(), RetryPolicy())
    await house.start()
    reader = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    async with asyncio.timeout(30):
        while house.metrics._store_log < 2_000_000:
            await house.publish(data=b'{"a": "%s"}' % (b"x" * 100_000))
    reader.close()
    await house.close()


def rule(after: float) -> Rule:
    kind = Kind.STORE_TROUBLE
    thresholds = Thresholds(age_seconds=after)
    return Rule(no=0, id=kind.value, kind=kind, thresholds=thresholds, severity=DEFAULT_SEVERITY[kind])


@pytest.fixture
async def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., House]]:
    monkeypatch.setattr(trouble, "_LOOK_AGAIN_AFTER", 0.02)
    built: list[House] = []

    def one(after: float, **options: Any) -> House:
        built.append(House(tmp_path, Receivers(), DeliverBounds(), RetryPolicy(), rules=[rule(after)], **options))
        return built[-1]

    yield one
    for house in built:
        await house.close()


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int | None], None]]:
    """How large a file may become; SQLite takes it for a disk that fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield limit
    limit(None)


async def test_large_publishes_that_fail_are_told_though_small_commits_go_well(
    build: Callable[..., House], file_size_limit: Callable[[int | None], None]
) -> None:
    house = build(0.2)
    await house.start()
    await house.add_channel()
    file_size_limit(2_000_000)
    large = b'{"a": "%s"}' % (b"x" * 3_000_000)
    async with asyncio.timeout(30):
        while not house.trouble.lasts:
            with pytest.raises(Unavailable):
                await house.publish(data=large)
            await house.store.put_tenant("small", None, now=0)  # which finds room
            await asyncio.sleep(0.01)
    file_size_limit(None)
    assert await house.told(1) == ["alert.store.trouble"]
    await house.publish(data=large)
    assert await house.told(2) == ["alert.store.trouble", "alert.store.recovered"]
    assert not house.trouble.ill


async def test_one_failure_among_successes_is_no_trouble_that_lasts(build: Callable[..., House]) -> None:
    house = build(0.1)
    await house.start()
    house.trouble.failed("locked", {"accept": 1})
    house.trouble.committed(1, 0.0, {"accept": 1})
    seen = set()
    async with asyncio.timeout(30):
        while house.trouble.ill:
            seen.add(house.trouble.lasts)
            await asyncio.sleep(0.01)
    assert seen == {False}


async def test_what_ends_it_is_tried_when_nobody_else_does(build: Callable[..., House], tmp_path: Path) -> None:
    house = build(0.1)
    await house.start()
    await house.add_channel()
    intruder = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await house.publish()
    assert await house.told(1) == ["alert.store.trouble"]
    intruder.execute("ROLLBACK")
    intruder.close()
    assert await house.told(2) == ["alert.store.trouble", "alert.store.recovered"]


def test_metrics_may_be_absent() -> None:
    Trouble(NullMetrics()).logged(1 << 40)
