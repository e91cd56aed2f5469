from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.builders import NOW, destination, event
from tests.store.conftest import new_file
from waypost.core.filters import FilterLimits
from waypost.core.model import Destination, Subscription
from waypost.core.routing import route
from waypost.flow.clock import Sequence
from waypost.flow.directory import Directory
from waypost.store.sqlite import SqliteStore
from waypost.store.vault import Vault


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(new_file(tmp_path), Vault([bytes(32)]), clock=lambda: NOW, next_seq=Sequence().next)
    await opened.open()
    await opened.put_tenant("acme", None, now=NOW)
    yield opened
    await opened.close()


async def test_remembers_until_told_to_forget(store: SqliteStore) -> None:
    directory = Directory(store)
    await store.add_destination(destination(destination_id="des_1"), limit=9)
    assert len(await directory.routes("acme")) == 1
    await store.add_destination(destination(destination_id="des_2"), limit=9)
    assert len(await directory.routes("acme")) == 1
    directory.forget("acme")
    assert directory.known("acme") is None
    assert len(await directory.routes("acme")) == 2


async def test_what_was_read_before_a_change_is_not_remembered_after_it(store: SqliteStore) -> None:
    directory = Directory(store)
    read = store.destinations

    async def slowly(tenant_id: str) -> tuple[Destination, ...]:
        found = await read(tenant_id)
        await asyncio.sleep(0.05)
        return found

    store.destinations = slowly  # type: ignore[method-assign]
    reading = asyncio.ensure_future(directory.routes("acme"))
    await asyncio.sleep(0.01)
    await store.add_destination(destination(), limit=9)
    directory.forget("acme")
    assert await reading == ()
    assert len(await directory.routes("acme")) == 1


async def test_unknown_tenants_take_no_room(store: SqliteStore) -> None:
    directory = Directory(store, most_tenants=2)
    for name in ("a", "b", "c"):
        await store.put_tenant(name, None, now=NOW)
        await store.add_destination(destination(name), limit=9)
    for name in ("unknown", "a", "b", "c"):
        await directory.routes(name)
    assert [name for name in ("unknown", "a", "b", "c") if directory.known(name)] == ["b", "c"]


async def test_several_subscriptions_are_asked_one_after_the_other(store: SqliteStore) -> None:
    several = (
        Subscription(topics=("order.*",), filter={"data": {"n": 1}}),
        Subscription(topics=("user.*",)),
        Subscription(topics=("order.paid", "order.sent"), filter={"data": {"n": 2}}),
    )
    to = destination(topics=("order.*", "order.paid", "order.sent", "user.*"), subscriptions=several)
    await store.add_destination(to, limit=9)
    routes = await Directory(store).routes("acme")

    def skipped(topic: str, data: bytes) -> list[tuple[str, str | None]]:
        return [(skip.reason, skip.detail) for skip in route(event(topic=topic, data=data), routes).skipped]

    assert skipped("user.created", b"{}") == []
    assert skipped("order.created", b'{"n": 1}') == []
    assert skipped("order.paid", b'{"n": 2}') == []
    assert skipped("invoice.paid", b'{"n": 2}') == [("topic", None)]
    assert skipped("order.created", b'{"n": 2}') == [
        ("filter", "subscriptions.0: Does not pass: data.n does not equal 1 (it is 2).")
    ]
    ((reason, detail),) = skipped("order.sent", b'{"n": 3}')
    one, other = (f"Does not pass: data.n does not equal {wanted} (it is 3)." for wanted in (1, 2))
    assert (reason, detail) == ("filter", f"subscriptions.0: {one} subscriptions.2: {other}")


async def test_the_reasons_of_many_subscriptions_are_cut(store: SqliteStore) -> None:
    several = tuple(Subscription(topics=("*",), filter={"data": {"n": number}}) for number in range(5))
    await store.add_destination(destination(subscriptions=several), limit=9)
    (skip,) = route(event(), await Directory(store).routes("acme")).skipped
    assert skip.detail is not None
    assert skip.detail.endswith("subscriptions.2: Does not pass: data.n is missing. And 2 more.")


async def test_a_filter_beyond_todays_limits_lets_nothing_pass_and_says_so(store: SqliteStore) -> None:
    await store.add_destination(destination(filter={"data": {"a": {"b": 1}}}), limit=9)
    routes = await Directory(store, FilterLimits(max_depth=1)).routes("acme")
    (skip,) = route(event(data=b'{"a": {"b": 1}}'), routes).skipped
    assert skip.reason == "filter"
    assert skip.detail is not None
    assert skip.detail.startswith("the filter cannot be used")


async def test_only_the_filters_that_changed_are_compiled_again(store: SqliteStore) -> None:
    several = tuple(Subscription(topics=("*",), filter={"data": {"n": number}}) for number in range(5))
    await store.add_destination(destination(destination_id="des_1", subscriptions=several), limit=9)
    await store.add_destination(destination(destination_id="des_2", filter={"data": {"m": 1}}), limit=9)
    directory = Directory(store)
    first = await directory.routes("acme")
    directory.forget("acme")
    await store.add_destination(destination(destination_id="des_3", filter={"data": {"m": 2}}), limit=9)
    second = await directory.routes("acme")
    assert second[1].filter is first[1].filter
    assert second[2].filter is not None


async def test_others_get_their_turn_while_large_filters_are_compiled(store: SqliteStore) -> None:
    large = tuple(
        Subscription(topics=("*",), filter={"data": {"l": {"$or": [{"$gt": index}] * 400}}}) for index in range(5)
    )
    await store.add_destination(destination(subscriptions=large), limit=9)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await Directory(store).routes("acme")
    beside.cancel()
    assert turns > 5
