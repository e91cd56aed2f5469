"""SQLite answers every list from an index in the order of the list, and sorts only what it was told is little."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from waypost.core.retention import Kept
from waypost.core.search import Search, at_place, phrases
from waypost.core.status import Status
from waypost.store.base import AttemptQuery, EventQuery, Page
from waypost.store.deliveries import DeliveryQuery
from waypost.store.paging import Direction, Range, TimeRange
from waypost.store.sqlite import SqliteStore, finding
from waypost.store.sqlite import deliveries as sqlite_deliveries
from waypost.store.sqlite.database import Database

from .builders import NOW, delivery, destination, entry, event, outcome, publication, result
from .conftest import sqlite_store

BIG = {"e": "events", "x": "deliveries", "a": "attempts", "d": "docs"}
SEEN = TimeRange(gte=NOW)
TENANT, DESTINATION = ("acme",), ("des_1",)

EVENTS: list[tuple[EventQuery, str]] = [
    (EventQuery(), "events_by_time"),
    (EventQuery(time=SEEN), "events_by_time (time>?"),
    (EventQuery(ids=("evt_1",)), "events_by_id (id=?"),
    (EventQuery(tenant_ids=TENANT), "events_by_tenant (tenant_id=?"),
    (EventQuery(tenant_ids=TENANT, time=SEEN), "events_by_tenant (tenant_id=? AND time>?"),
    (EventQuery(topics=("a",)), "events_by_topic (topic=?"),
    (
        EventQuery(tenant_ids=TENANT, topics=("a",), time=SEEN),
        "COVERING INDEX events_by_tenant (tenant_id=? AND time>?",
    ),
    (EventQuery(destination_ids=DESTINATION), "events_by_tenant (tenant_id=?"),
    (EventQuery(tenant_ids=TENANT, destination_ids=DESTINATION), "events_by_tenant (tenant_id=?"),
    (EventQuery(skipped_by=DESTINATION), "events_skipped (tenant_id=?"),
    (EventQuery(tenant_ids=TENANT, skip_reasons=("filter",)), "events_skipped (tenant_id=?"),
    *[(EventQuery(statuses=(status,)), "events_by_time") for status in Status],
    *[
        (EventQuery(tenant_ids=TENANT, statuses=(status,)), "events_by_tenant (tenant_id=?")
        for status in Status
        if status is not Status.SKIPPED
    ],
]
"""What the list of events is asked for, and the index that it is in order in."""

ATTEMPTS: list[tuple[AttemptQuery, str]] = [
    (AttemptQuery(), "a"),
    (AttemptQuery(time=SEEN), "INTEGER PRIMARY KEY (rowid>?"),
    (AttemptQuery(ids=(1,)), "INTEGER PRIMARY KEY (rowid=?"),
    (AttemptQuery(tenant_ids=TENANT), "attempts_by_tenant (tenant_id=?"),
    (AttemptQuery(tenant_ids=TENANT, time=SEEN), "attempts_by_tenant (tenant_id=? AND seq>?"),
    (AttemptQuery(destination_ids=DESTINATION), "attempts_by_destination (destination_no=?"),
    (AttemptQuery(destination_types=("webhook",)), "attempts_by_destination (destination_no=?"),
    (AttemptQuery(event_ids=("evt_1",)), "attempts_by_event (event_seq=?"),
    (AttemptQuery(ok=False), "attempts_notable"),
    (AttemptQuery(tenant_ids=TENANT, ok=False), "COVERING INDEX attempts_notable_by_tenant (tenant_id=?"),
    (
        AttemptQuery(destination_ids=DESTINATION, codes=("4xx",)),
        "COVERING INDEX attempts_notable_by_tenant (tenant_id=?",
    ),
    (AttemptQuery(codes=("timeout",)), "COVERING INDEX attempts_notable"),
    (AttemptQuery(status_code=Range(gte=500, lt=600)), "COVERING INDEX attempts_notable"),
    (AttemptQuery(latency=Range(gte=5_000_000)), "COVERING INDEX attempts_notable"),
    (AttemptQuery(tenant_ids=TENANT, manual=True), "COVERING INDEX attempts_notable_by_tenant (tenant_id=?"),
]

DELIVERIES: list[tuple[DeliveryQuery, str]] = [
    (DeliveryQuery(), "x"),
    (DeliveryQuery(time=SEEN), "PRIMARY KEY (event_seq>?"),
    (DeliveryQuery(event_ids=("evt_1",)), "PRIMARY KEY (event_seq=?"),
    (DeliveryQuery(tenant_ids=TENANT), "deliveries_by_destination (destination_no=?"),
    (DeliveryQuery(destination_ids=DESTINATION), "deliveries_by_destination (destination_no=?"),
    (DeliveryQuery(tenant_ids=TENANT, time=SEEN), "deliveries_by_destination (destination_no=? AND event_seq>?"),
    (DeliveryQuery(tenant_ids=TENANT, statuses=(Status.EXHAUSTED,)), "deliveries_exhausted (destination_no=?"),
    (DeliveryQuery(tenant_ids=TENANT, statuses=(Status.CANCELLED,)), "deliveries_cancelled (destination_no=?"),
    (DeliveryQuery(tenant_ids=TENANT, statuses=(Status.DISABLED,)), "deliveries_kept (destination_no=?"),
    (DeliveryQuery(tenant_ids=TENANT, statuses=(Status.RETRYING,)), "deliveries_by_destination (destination_no=?"),
]

NARROW: list[tuple[EventQuery | DeliveryQuery | AttemptQuery, str]] = [
    *[(EventQuery(statuses=(status,)), index) for status, index in finding.INDEX_OF.items()],
    *[(DeliveryQuery(statuses=(status,)), index) for status, index in finding.INDEX_OF.items()],
    *[
        (EventQuery(tenant_ids=TENANT, statuses=(status,)), f"{index} (destination_no=?")
        for status, index in finding.INDEX_OF.items()
    ],
    (EventQuery(destination_ids=DESTINATION), "deliveries_by_destination (destination_no=?"),
    (EventQuery(skip_reasons=("filter",)), "events_skipped"),
    (EventQuery(tenant_ids=TENANT, topics=("a",)), "events_by_topic (topic=?"),
    (DeliveryQuery(due=SEEN), "deliveries_pending"),
    (DeliveryQuery(tenant_ids=TENANT, due=SEEN), "deliveries_pending (destination_no=? AND due>?"),
    (AttemptQuery(topics=("a",)), "events_by_topic (topic=?"),
    (AttemptQuery(topics=("a",)), "attempts_by_event (event_seq=?"),
]
"""What is looked up in a narrower index first, in case it is little."""


class Watched:
    """A connection for reading, and the plans of what was asked on it."""

    def __init__(self, db: sqlite3.Connection, store: SqliteStore) -> None:
        self.db = db
        self.store = store

    def plans(self, query: Any) -> list[str]:
        asked: list[str] = []
        self.db.set_trace_callback(asked.append)
        for direction in Direction:
            self._ask(query, Page(limit=100, direction=direction))
            self._ask(query, Page(limit=100, direction=direction, after=(NOW, 1)))
        self.db.set_trace_callback(None)
        statements = [sql for sql in dict.fromkeys(asked) if sql.lstrip().startswith("SELECT")]
        return [self.plan(sql) for sql in statements]

    def _ask(self, query: Any, page: Page) -> None:
        select = "SELECT a.seq FROM json_each(?) k CROSS JOIN attempts a ON a.seq = k.value"
        ways: dict[type, Callable[[], Any]] = {
            EventQuery: lambda: finding.events(self.db, query, page),
            AttemptQuery: lambda: finding.attempts(self.db, query, page, select),
            DeliveryQuery: lambda: sqlite_deliveries._list(self.db, query, page),
        }
        ways[type(query)]()

    def plan(self, sql: str) -> str:
        return "\n".join(detail for _, _, _, detail in self.db.execute(f"EXPLAIN QUERY PLAN {sql}"))


@pytest.fixture
async def watched(tmp_path: Path) -> Any:
    store = sqlite_store(tmp_path)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    to = await store.add_destination(destination(), limit=5)
    await store.accept(publication(event(event_id="evt_1", topic="a"), to))
    while (await store.search.index(now=NOW + 10_000_000)).more:
        pass
    with closing(sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)) as db:
        store.search.equip(db)
        yield Watched(db, store)
    await store.close()


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is counted is too much to be sorted."""
    for module, name in ((finding, "FEW"), (finding, "_NOT_MANY"), (sqlite_deliveries, "_NOT_MANY")):
        monkeypatch.setattr(module, name, -1)


def scanned(plan: str) -> Iterator[str]:
    """The big tables that are read from end to end, not through an index."""
    for alias in re.findall(r"SCAN (\w+)(?! USING| VIRTUAL)\b(?!.*INDEX)", plan):
        if alias in BIG:
            yield BIG[alias]


@pytest.mark.usefixtures("much")
@pytest.mark.parametrize(("query", "index"), [*EVENTS, *ATTEMPTS, *DELIVERIES], ids=repr)
async def test_a_long_list_is_read_in_its_order(watched: Watched, query: Any, index: str) -> None:
    plans = watched.plans(query)
    lists = [plan for plan in plans if index in plan]
    assert lists, plans
    sorts_little = bool(getattr(query, "ids", ()) or getattr(query, "event_ids", ()))
    for plan in plans:
        assert sorts_little or "TEMP B-TREE FOR ORDER BY" not in plan, plan
        if index not in {"a", "x"}:  # the whole list, in the order of the table
            assert not list(scanned(plan)), plan


@pytest.mark.parametrize(("query", "index"), NARROW, ids=repr)
async def test_what_is_little_is_found_in_a_narrow_index(watched: Watched, query: Any, index: str) -> None:
    plans = watched.plans(query)
    assert any(index in plan for plan in plans), plans
    for plan in plans:
        assert not list(scanned(plan)), plan


@pytest.mark.usefixtures("much")
@pytest.mark.parametrize(
    "query",
    [
        EventQuery(),
        EventQuery(tenant_ids=TENANT, topics=("a",), time=SEEN),
        EventQuery(statuses=(Status.DELIVERED,)),
    ],
    ids=repr,
)
async def test_a_search_is_read_in_its_order(watched: Watched, query: EventQuery) -> None:
    search = Search(phrases=phrases('refund "new york" re*'), facts=(at_place("data", "n", ["1"]),))
    asked: list[str] = []
    watched.db.set_trace_callback(asked.append)
    watched.store.search.ask(watched.db, query, search, Page(limit=100))
    watched.db.set_trace_callback(None)
    in_parts = [sql for sql in asked if "MATCH" in sql]
    assert in_parts
    for plan in map(watched.plan, in_parts):
        assert "SCAN w VIRTUAL TABLE" in plan
        assert "SEARCH d USING PRIMARY KEY (part=? AND id=?)" in plan
        assert "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)" in plan
        assert "TEMP B-TREE" not in plan


async def test_a_sort_or_a_scan_would_be_noticed(watched: Watched) -> None:
    plan = watched.plan("SELECT * FROM events e WHERE e.accepted_at > 1 ORDER BY e.accepted_at")
    assert "TEMP B-TREE FOR ORDER BY" in plan
    assert list(scanned(plan)) == ["events"]


async def test_no_change_looks_at_more_than_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events and settled deliveries there are, what changes a few finds them by an index."""
    asked: list[str] = []
    connect = Database.connect

    def traced(database: Database) -> sqlite3.Connection:
        connection = connect(database)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(Database, "connect", traced)
    store = sqlite_store(tmp_path)
    await store.open()
    asked.clear()  # preparing the file is no change
    await _change_everything(store)
    changes = [sql for sql in dict.fromkeys(asked) if re.match(r"\s*(UPDATE|DELETE|INSERT|WITH|SELECT)", sql)]
    await store.close()
    with closing(sqlite3.connect(tmp_path / "waypost.db")) as db:
        watched = Watched(db, store)
        for sql in changes:
            plan = watched.plan(sql)
            assert not re.search(r"SCAN (events|deliveries|attempts|retries)\b(?! USING)", plan), (sql, plan)
            assert not re.search(r"deliveries_by_destination \(destination_no=\?\)$", plan, re.MULTILINE), (sql, plan)


async def _change_everything(store: SqliteStore) -> None:
    await store.put_tenant("acme", None, now=NOW)
    to = await store.add_destination(destination(), limit=5)
    new, other = event(), event()
    await store.accept(publication(new, to))
    await store.accept(structs.replace(publication(other), kept=(to,)))
    await store.record(result(delivery(new, to), outcome(ok=False, code="503")))
    await store.recover(to.no, since=0, now=NOW, limit=10)
    claimed = await store.claim(to.no, now=NOW + 60_000_000, lease_until=NOW + 120_000_000, limit=10)
    await store.release(claimed.deliveries, due=NOW)
    await store.deliveries.cancel(new.seq, to.no, entry("delivery.cancel"))
    await store.retention.expire(Kept.DATA, [new.seq], now=NOW, budget=1.0)
    await store.retention.expunge(other.seq, now=NOW, entry=entry("event.expunge"))
    await store.retention.expire(Kept.ATTEMPTS, [1], now=NOW, budget=1.0)
    await store.retention.expire(Kept.EVENTS, [new.seq, other.seq], now=NOW, budget=1.0)
    await store.rollups.fold(limit=10)
    await store.cancel(to.no)
    await store.delete_destination("acme", to.id, now=NOW)
    await store.delete_tenant("acme", now=NOW)
