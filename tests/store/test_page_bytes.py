"""A page ends where its items come to so many bytes; whoever follows it both ways still sees everything once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs

from waypost.core.model import SECOND
from waypost.core.search import Search, phrases
from waypost.store.alerting import EntryQuery
from waypost.store.base import AttemptQuery, EventQuery, Page, Slice
from waypost.store.paging import Direction
from waypost.store.sqlite import SqliteStore

from . import builders
from .builders import NOW

SIZE, COUNT = 20_000, 9
NAMES = ["events", "attempts", "search", "audit", "tenants"]
Read = Callable[[Page], Awaitable[Slice[Any]]]


async def filled(store: SqliteStore) -> None:
    await store.put_tenant("acme", {"note": "x" * SIZE}, now=NOW)
    to = await store.add_destination(builders.destination(), limit=5)
    for number in range(COUNT):
        event = builders.event(data=b'{"word":"apple","pad":"%s"}' % (b"x" * SIZE), time=NOW + number)
        await store.accept(builders.publication(event, to))
        await store.record(builders.result(builders.delivery(event, to), builders.outcome()))
        await store.alerting.audit(builders.entry(detail={"pad": "x" * SIZE}))
        await store.put_tenant(f"tenant-{number}", {"note": "x" * SIZE}, now=NOW + number)


def lists(store: SqliteStore) -> dict[str, tuple[Read, Callable[[Any], tuple[int, int | str]], int]]:
    apple = EventQuery(search=Search(phrases=phrases("apple")))
    return {
        "search": (
            lambda page: store.events(apple, page),
            lambda item: (item.event.seq, item.event.seq),
            COUNT,
        ),
        "events": (
            lambda page: store.events(EventQuery(), page),
            lambda item: (item.event.time, item.event.seq),
            COUNT,
        ),
        "attempts": (
            lambda page: store.attempts(AttemptQuery(), page),
            lambda item: (item.attempt.seq, item.attempt.seq),
            COUNT,
        ),
        "audit": (
            lambda page: store.alerting.audit_log(EntryQuery(actions=("did.it",)), page),
            lambda item: (item.seq, item.seq),
            COUNT,
        ),
        "tenants": (
            store.tenants,
            lambda item: (item.tenant.created_at, item.tenant.id),
            COUNT + 1,
        ),
    }


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", NAMES)
async def test_pages_of_few_bytes_lead_through_the_whole_list(
    store: SqliteStore, name: str, direction: Direction
) -> None:
    await filled(store)
    while (await store.search.index(now=NOW + 60 * SECOND)).more:
        pass
    read, position, count = lists(store)[name]
    whole = await read(Page(limit=100, direction=direction))
    assert (len(whole.items), whole.has_next) == (count, False)
    page = Page(limit=100, direction=direction, most_bytes=int(2.5 * SIZE))
    first = await read(page)
    assert (len(first.items), first.has_next, first.has_prev) == (2, True, False)

    seen, part = list(first.items), first
    while part.has_next:
        part = await read(structs.replace(page, after=position(part.items[-1])))
        assert 0 < len(part.items) <= 2
        assert part.has_prev
        seen += part.items
    assert seen == list(whole.items)

    back: list[Any] = []
    while part.has_prev:
        part = await read(structs.replace(page, before=position(part.items[0])))
        assert 0 < len(part.items) <= 2
        back = [*part.items, *back]
    assert back + list(whole.items)[len(back) :] == list(whole.items)
    assert len(back) >= count - 2


@pytest.mark.parametrize("name", NAMES)
async def test_an_item_that_is_too_large_alone_is_still_shown(store: SqliteStore, name: str) -> None:
    await filled(store)
    read, _, _ = lists(store)[name]
    part = await read(Page(limit=100, most_bytes=10))
    assert (len(part.items), part.has_next) == (1, True)
