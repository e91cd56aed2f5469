"""What all attempts of one delivery leave on record together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import structs

from waypost.core.keeping import Keeping
from waypost.core.retry import RetryPolicy
from waypost.store.base import AttemptQuery, EventQuery, Page
from waypost.store.sqlite import SqliteStore

from . import builders
from .builders import NOW
from .conftest import sqlite_store

MANY = RetryPolicy(limit=60)
KEEPING = Keeping(headers=2_000, exchange=10_000, delivery=40_000)
BIG = {"status_code": 500, "headers": {"x": "y" * 1_000}, "body": "z" * 7_000, "timings": {"total": 5}}


async def attempts(store: SqliteStore, numbers: range, *, manual: bool = False) -> list[Any]:
    """Record these attempts of one delivery and read their answers back, oldest first."""
    to = await store.destination("acme", "des_1") or await store.add_destination(builders.destination(), limit=5)
    known = (await store.events(EventQuery(), Page(limit=1))).items
    event = known[0].event if known else builders.event()
    if not known:
        await store.accept(builders.publication(event, to))
    for number in numbers:
        delivery = builders.delivery(event, to, attempt=number, retries=0 if manual else number - 1, manual=manual)
        failed = builders.outcome(ok=False, code="500", request={"url": "u", "headers": {"x": "y" * 900}}, response=BIG)
        await store.record(builders.result(delivery, failed, RetryPolicy(limit=0) if manual else MANY))
    found = (await store.attempts(AttemptQuery(), Page(limit=1_000))).items
    return [one.attempt.response for one in found][::-1]


async def test_the_first_and_the_last_attempts_are_whole_and_the_record_is_bounded(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    shown = await attempts(store, range(1, 62))
    assert shown[0] == shown[-1] == BIG
    short = {"status_code": 500, "timings": {"total": 5}, "truncated": True}
    assert shown[5:-1] == [short] * (len(shown) - 6)
    assert await kept(store) < KEEPING.delivery + 3 * KEEPING.exchange + 61 * 300
    await store.close()


async def test_retries_by_hand_do_not_fill_the_record_either(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    shown = await attempts(store, range(1, 60), manual=True)
    assert shown[0] == BIG
    assert shown[-1] != BIG
    assert await kept(store) < KEEPING.delivery + 3 * KEEPING.exchange + 59 * 300
    await store.close()


async def test_small_answers_are_kept_of_every_attempt(tmp_path: Path) -> None:
    store = await opened(tmp_path, structs.replace(KEEPING, delivery=10**9))
    assert await attempts(store, range(1, 30)) == [BIG] * 29
    await store.close()


async def opened(folder: Path, keeping: Keeping = KEEPING) -> SqliteStore:
    store = sqlite_store(folder, keeping=keeping)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    return store


async def kept(store: SqliteStore) -> int:
    ((size,),) = await store._db.all("SELECT sum(length(request) + length(response)) FROM attempts")
    return int(size)
