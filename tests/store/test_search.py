"""Searches find what they should, however far the index has come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from waypost.core.model import DAY, SECOND, Event
from waypost.core.retention import Kept
from waypost.core.search import Phrase, Search, at_place, phrases, tokens_of
from waypost.core.status import Status
from waypost.store.alerting import Entry
from waypost.store.base import EventQuery, Page, Store
from waypost.store.paging import Direction, TimeRange
from waypost.store.search import Indexed
from waypost.store.sqlite import SqliteStore, indexing, search

from .builders import NOW, OPERATOR, destination, event, next_seq, publication
from .conftest import sqlite_store
from .test_finding import read

MINUTE = 60 * SECOND
LATER = NOW + MINUTE
WORDS = ("amber", "amethyst", "beryl", "coral", "diamond", "diorite", "emerald", "garnet", "jade", "onyx")
FILE = "waypost.db.search"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of many small parts, written bit by bit."""
    monkeypatch.setattr(indexing, "BATCH", 3)
    monkeypatch.setattr(indexing, "_PART", 7)


async def indexed(store: Store, *, now: int = LATER) -> None:
    while (await store.search.index(now=now)).more:
        pass


async def accepted(store: Store, text: str = "", *, seq: int | None = None) -> Event:
    made = event(data=json.dumps({"text": text}).encode())
    made = structs.replace(made, seq=seq or made.seq)
    await store.accept(publication(made))
    return made


async def found(store: Store, query: str, **conditions: object) -> list[str]:
    """The ids of what is found, newest first."""
    asked = EventQuery(search=Search(phrases=phrases(query)), **conditions)  # type: ignore[arg-type]
    return [each.event.id for each in (await store.events(asked, Page(limit=1_000))).items]


class Shelf:
    """Events of a few words each, for three tenants, some with deliveries in one status or another."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = Random(seed)
        self.events: list[Event] = []
        self.cancelled: set[int] = set()

    async def fill(self, count: int) -> None:
        random = self.random
        for tenant_id in ("acme", "zeta", "umbrella"):
            await self.store.put_tenant(tenant_id, None, now=NOW)
        name = f"des_{len(self.events)}"
        to = await self.store.add_destination(destination(destination_id=name), limit=5)
        for _ in range(count):
            data = {"text": " ".join(random.choices(WORDS, k=random.randrange(1, 5))), "n": random.randrange(5)}
            made = event(
                random.choice(("acme", "acme", "zeta", "umbrella")),
                topic=random.choice(("a", "b")),
                time=NOW + random.randrange(10) * SECOND,
                data=json.dumps(data).encode(),
                metadata=random.choice((None, {"source": "shop"}, {"source": "crm"})),
            )
            self.events.append(made)
            await self.store.accept(publication(made, *([to] if made.tenant_id == "acme" else [])))
            if made.tenant_id == "acme" and random.random() < 0.4:
                entry = Entry(actor=OPERATOR, action="delivery.cancel", tenant_id="acme", subject="dlv_1")
                assert await self.store.deliveries.cancel(made.seq, to.no, entry)
                self.cancelled.add(made.seq)

    def search(self) -> Search:
        random = self.random
        words = [Phrase((random.choice(WORDS),)) for _ in range(random.randrange(3))]
        if random.random() < 0.3:
            words.append(Phrase((random.choice(("am", "amber", "di", "xx")),), prefix=True))
        if random.random() < 0.2:
            words.append(Phrase(tuple(random.choices(WORDS, k=2))))
        facts = []
        if random.random() < 0.3 or not words:
            facts.append(at_place("data", "n", random.choices(("0", "1.0", "4", "9"), k=2)))
        if random.random() < 0.2:
            facts.append(at_place("metadata", "source", ["shop"]))
        return Search(phrases=tuple(words), facts=tuple(facts))

    def query(self) -> EventQuery:
        random = self.random
        return EventQuery(
            tenant_ids=random.choice(((), (), ("acme",), ("zeta", "umbrella"), ("nobody",))),
            topics=random.choice(((), (), ("a",))),
            statuses=random.choice(((), (), (), (Status.CANCELLED,))),
            time=random.choice((TimeRange(), TimeRange(gte=NOW + 3 * SECOND), TimeRange(lt=NOW + 5 * SECOND))),
            search=self.search(),
        )

    def expected(self, query: EventQuery) -> list[Event]:
        assert query.search is not None
        wanted = query.search
        return [
            each
            for each in sorted(self.events, key=lambda each: each.seq)
            if wanted.finds(tokens_of(each))
            and (not query.tenant_ids or each.tenant_id in query.tenant_ids)
            and (not query.topics or each.topic in query.topics)
            and (not query.statuses or each.seq in self.cancelled)
            and (query.time.gte is None or each.time >= query.time.gte)
            and (query.time.lt is None or each.time < query.time.lt)
        ]

    async def check(self, times: int) -> None:
        for _ in range(times):
            query, direction = self.query(), self.random.choice(list(Direction))
            came = await read(
                lambda page, query=query: self.store.events(query, page),  # type: ignore[misc]
                lambda each: (each.event.seq, each.event.seq),
                direction,
                self.random.choice((1, 4, 1_000)),
            )
            expected = self.expected(query)
            assert [each.event for each in came] == (expected if direction is Direction.ASC else expected[::-1]), query


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("asked", [0, 1, 500])
async def test_the_same_is_found_however_far_the_index_has_come(
    store: Store, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(store, asked)
    await shelf.fill(30)
    await shelf.check(30)
    await store.search.index(now=LATER)
    await shelf.check(30)
    await indexed(store)
    monkeypatch.setattr(search, "_LOOKED_AT", asked)
    monkeypatch.setattr(search, "_MOST_ASKED", asked)  # from here on the index alone can know
    await shelf.check(60)
    monkeypatch.setattr(search, "_MOST_ASKED", 500)
    await shelf.fill(10)
    await shelf.check(30)


async def test_an_event_is_found_as_soon_as_it_is_accepted(store: Store) -> None:
    await indexed(store)
    made = await accepted(store, "amber")
    assert await found(store, "amber") == [made.id]
    await store.search.index(now=NOW)
    assert (await store.search.progress()).until is None  # others may still come in before it
    assert await found(store, "amber") == [made.id]


@pytest.mark.usefixtures("small")
async def test_events_that_come_in_late_are_found(store: Store) -> None:
    early = [next_seq() for _ in range(4)]
    made = [await accepted(store, "amber") for _ in range(10)]
    await indexed(store)
    late = [await accepted(store, "amber", seq=seq) for seq in early[:2]]
    expected = [each.id for each in reversed(made)] + [each.id for each in reversed(late)]
    assert await found(store, "amber") == expected
    await indexed(store)
    assert await found(store, "amber") == expected
    between = await accepted(store, "amber", seq=made[4].seq + 1 if made[4].seq + 1 < made[5].seq else early[2])
    await indexed(store)
    assert set(await found(store, "amber")) == {*expected, between.id}


async def test_progress(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_MOST_ASKED", 3)
    assert await store.search.progress() == (None, True)
    made = [await accepted(store, "amber") for _ in range(5)]
    assert await store.search.progress() == (None, False)
    assert await found(store, "amber") == [each.id for each in made[:1:-1]]
    await indexed(store)
    assert await store.search.progress() == (NOW, True)
    assert len(await found(store, "amber")) == 5


# what is SQLite's own


def contents(folder: Path) -> bytes:
    """All that is in the index, its log included."""
    return b"".join(path.read_bytes() for path in folder.glob(f"{FILE}*"))


def expunging(made: Event) -> Entry:
    return Entry(actor=OPERATOR, action="event.expunge", tenant_id=made.tenant_id, subject=made.id)


@pytest.fixture
async def sqlite(tmp_path: Path) -> SqliteStore:
    store = sqlite_store(tmp_path)
    await store.open()
    return store


@pytest.mark.usefixtures("small")
async def test_data_that_was_expunged_is_not_found_and_then_forgotten(sqlite: SqliteStore, tmp_path: Path) -> None:
    made = [await accepted(sqlite, f"amber secret{number}") for number in range(10)]
    await indexed(sqlite)
    assert b"secret3" in contents(tmp_path)
    await sqlite.retention.expunge(made[3].seq, now=LATER, entry=expunging(made[3]))
    assert await found(sqlite, "secret3") == []
    assert len(await found(sqlite, "amber")) == 9
    for minutes in range(2, 5):  # once it is noticed that no more is expunged
        await indexed(sqlite, now=NOW + minutes * MINUTE)
    assert len(await found(sqlite, "amber")) == 9
    await sqlite.close()
    assert b"secret3" not in contents(tmp_path)
    assert b"secret4" in contents(tmp_path)


@pytest.mark.usefixtures("small")
async def test_parts_of_events_that_were_removed_go(sqlite: SqliteStore, tmp_path: Path) -> None:
    made = [await accepted(sqlite, "amber") for _ in range(20)]
    await indexed(sqlite)
    gone = [each.seq for each in made[:12]]
    await sqlite.retention.expire(Kept.EVENTS, gone, now=LATER, budget=10.0)
    assert await found(sqlite, "amber") == [each.id for each in made[:11:-1]]
    assert parts(tmp_path) == [9, 9, 2]
    for minutes in range(3):
        await indexed(sqlite, now=NOW + 2 * DAY + minutes * MINUTE)
    assert parts(tmp_path) == [6, 2]
    assert await found(sqlite, "amber") == [each.id for each in made[:11:-1]]
    await sqlite.close()


def parts(folder: Path) -> Sequence[int]:
    """How many events each part has."""
    with closing(sqlite3.connect(folder / FILE)) as db:
        return [count for (count,) in db.execute("SELECT events FROM search_parts ORDER BY first")]


@pytest.mark.usefixtures("small")
async def test_a_part_with_many_stragglers_is_made_anew(
    sqlite: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_MOST_STRAGGLERS", 0)
    first = await accepted(sqlite, "amber")
    early = [next_seq() for _ in range(3)]
    made = [first, *[await accepted(sqlite, "amber") for _ in range(3)]]
    await indexed(sqlite)
    late = [await accepted(sqlite, "amber", seq=seq) for seq in early]
    for minutes in range(2, 4):
        await indexed(sqlite, now=NOW + minutes * MINUTE)
    assert parts(tmp_path) == [7]
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("SELECT count(*) FROM search_stragglers").fetchone() == (0,)
    ids = [each.id for each in sorted([*made, *late], key=lambda each: -each.seq)]
    assert await found(sqlite, "amber") == ids
    await sqlite.close()


async def test_the_index_is_there_after_a_restart(sqlite: SqliteStore, tmp_path: Path) -> None:
    made = await accepted(sqlite, "amber")
    await indexed(sqlite)
    await sqlite.close()
    again = sqlite_store(tmp_path)
    await again.open()
    assert (await again.search.progress()).until == NOW
    assert await found(again, "amber") == [made.id]
    await again.close()


async def test_what_came_in_late_before_a_crash_is_found_after_it(sqlite: SqliteStore, tmp_path: Path) -> None:
    early = next_seq()
    made = await accepted(sqlite, "amber")
    await indexed(sqlite)
    late = await accepted(sqlite, "amber", seq=early)
    await sqlite.close()  # the index has not heard of it
    again = sqlite_store(tmp_path)
    await again.open()
    await indexed(again)
    assert await found(again, "amber") == [made.id, late.id]
    await again.close()


@pytest.mark.parametrize("trouble", ["gone", "damaged", "empty", "application_id", "user_version"])
async def test_an_index_that_is_of_no_use_is_made_anew(sqlite: SqliteStore, tmp_path: Path, trouble: str) -> None:
    made = await accepted(sqlite, "amber")
    await indexed(sqlite)
    await sqlite.close()
    path = tmp_path / FILE
    match trouble:
        case "gone":
            path.unlink()
        case "damaged":
            path.write_bytes(b"no database at all" * 1_000)
        case "empty":
            path.write_bytes(b"")
        case _:
            with closing(sqlite3.connect(path)) as db:
                db.execute(f"PRAGMA {trouble} = 77")
    again = sqlite_store(tmp_path)
    await again.open()
    assert (await again.search.progress()).until is None
    assert await found(again, "amber") == [made.id]
    await indexed(again)
    assert (await again.search.progress()).until == NOW
    assert await found(again, "amber") == [made.id]
    await again.close()


async def test_only_its_owner_can_read_the_index(sqlite: SqliteStore, tmp_path: Path) -> None:
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    await sqlite.close()


async def test_a_store_without_an_index_removes_it(sqlite: SqliteStore, tmp_path: Path) -> None:
    made = await accepted(sqlite, "amber")
    await indexed(sqlite)
    await sqlite.close()
    without = sqlite_store(tmp_path, search=False)
    await without.open()
    assert not (tmp_path / FILE).exists()
    assert (await without.search.index(now=LATER)).events == 0
    assert await found(without, "amber") == [made.id]
    await without.close()


async def test_an_index_reads_no_more_bytes_at_a_time_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_BATCH_BYTES", 5_000)
    store = sqlite_store(tmp_path)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    for number in range(12):
        await accepted(store, f"amber {number} " + "x" * 2_000)
    taken: list[Indexed] = []
    while not taken or taken[-1].more:
        taken.append(await store.search.index(now=LATER))
    assert max(piece.events for piece in taken) <= 3
    assert sum(piece.events for piece in taken) == 12
    assert len(await found(store, "amber")) == 12
    await store.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("direction", Direction)
async def test_pages_of_few_bytes_lead_through_all_that_is_found(store: SqliteStore, direction: Direction) -> None:
    """Over several parts of the index, stragglers of them and what is not yet in them."""
    for _ in range(20):
        await accepted(store, "amber " * 200)
    await indexed(store)
    for _ in range(5):
        await accepted(store, "amber " * 200)
    asked = EventQuery(search=Search(phrases=phrases("amber")))
    whole = (await store.events(asked, Page(limit=100, direction=direction))).items
    page = Page(limit=100, direction=direction, most_bytes=3_000)
    part = await store.events(asked, page)
    seen = list(part.items)
    while part.has_next:
        last = part.items[-1].event.seq
        part = await store.events(asked, structs.replace(page, after=(last, last)))
        assert 0 < len(part.items) <= 2
        seen += part.items
    assert len(whole) == 25
    assert tuple(seen) == whole
