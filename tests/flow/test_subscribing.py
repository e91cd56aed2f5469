"""Several subscriptions on one destination: what a request may say, and what stands afterwards."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from tests.store.builders import NOW
from waypost.core.errors import Invalid
from waypost.core.filters import FilterLimits
from waypost.core.model import Destination, Subscription
from waypost.flow.manage import Manager
from waypost.store.alerting import EntryQuery
from waypost.store.base import Page
from waypost.store.sqlite import SqliteStore

from .samples import letterbox, registry, tools

PAID = {"data": {"state": "paid"}}
TWO = [{"topics": ["order.*"], "filter": PAID}, {"topics": ["user.created", "order.*"]}]
BESIDE = "cannot be set beside subscriptions, each of which has its own; `subscriptions: null` removes these"


@pytest.fixture
async def manager(store: SqliteStore) -> Manager:
    manager = Manager(
        store,
        registry(),
        tools(),
        topics=lambda: (),
        max_destinations=20,
        changed=lambda _tenant_id, _no: None,
        now=lambda: NOW,
    )
    await manager.put_tenant("acme")
    return manager


async def created(manager: Manager, **body: Any) -> Destination:
    wanted = {"type": "letterbox", "config": {"address": "Elm Street 1"}, "id": "box"} | body
    return await manager.create("acme", wanted)


async def changed(manager: Manager, **body: Any) -> Destination:
    return await manager.update("acme", "box", body)


async def faults(change: Awaitable[object]) -> list[str]:
    with pytest.raises(Invalid) as refused:
        await change
    assert isinstance(refused.value.data, list)
    return refused.value.data


async def test_topics_are_the_union(manager: Manager) -> None:
    made = await created(manager, subscriptions=TWO)
    assert made.topics == ("order.*", "user.created")
    assert made.filter is None
    assert made.subscriptions == (
        Subscription(topics=("order.*",), filter=PAID),
        Subscription(topics=("user.created", "order.*")),
    )
    assert await manager.destination("acme", "box") == made


async def test_one_subscription_for_everything_makes_the_union_everything(manager: Manager) -> None:
    assert (await created(manager, subscriptions=[*TWO, {"topics": "*"}])).topics == ("*",)


async def test_a_filter_as_text_becomes_an_object(manager: Manager) -> None:
    (only,) = (await created(manager, subscriptions=[{"topics": ["a"], "filter": "state:paid"}])).subscriptions
    assert only.filter == {"$dialect": "shopify", "query": "state:paid"}


async def test_one_of_the_two_has_to_be_there(manager: Manager) -> None:
    assert await faults(created(manager)) == ["topics is required"]
    assert await faults(created(manager, subscriptions=None)) == ["topics is required"]
    assert await faults(created(manager, subscriptions=[])) == ["topics is required"]


@pytest.mark.parametrize(
    ("subscriptions", "problems"),
    [
        ("*", ["subscriptions must be a list of at most 20 subscriptions"]),
        ([TWO[1]] * 21, ["subscriptions must be a list of at most 20 subscriptions", "topics is required"]),
        (["*"], ["subscriptions.0 must be an object"]),
        ([{}], ["subscriptions.0.topics is required"]),
        ([{"topics": []}], ["subscriptions.0.topics must have 1 to 500 entries"]),
        ([TWO[1], {"topics": ["a b"]}], ["subscriptions.1.topics.0 must be 1 to 255 letters, digits or _ - . : / *"]),
        ([{"topics": ["a"], "topic": "b"}], ["subscriptions.0.topic is not a field of a subscription"]),
    ],
)
async def test_what_is_wrong_is_said(manager: Manager, subscriptions: Any, problems: list[str]) -> None:
    found = await faults(created(manager, subscriptions=subscriptions))
    assert set(found) - {"topics is required"} == set(problems) - {"topics is required"}


async def test_a_bad_filter_is_found_by_its_place(manager: Manager) -> None:
    bad = [TWO[1], {"topics": ["a"], "filter": {"data": {"a": {"$gtt": 1}}}}]
    (problem,) = await faults(created(manager, subscriptions=bad))
    assert problem.startswith("subscriptions.1.filter: $gtt is no operator")
    assert problem.endswith("(at /data/a/$gtt)")


async def test_all_together_have_no_more_topics_than_one(manager: Manager) -> None:
    many = [{"topics": [f"t{part}.{number}" for number in range(300)]} for part in range(2)]
    assert await faults(created(manager, subscriptions=many)) == [
        "subscriptions must have at most 500 different topics"
    ]


async def test_a_request_speaks_of_one_or_the_other(manager: Manager) -> None:
    assert await faults(created(manager, subscriptions=TWO, topics=["a"])) == [f"topics {BESIDE}"]
    assert await faults(created(manager, subscriptions=TWO, filter=PAID)) == [f"filter {BESIDE}"]
    await created(manager, subscriptions=TWO)
    assert await faults(changed(manager, topics=["a"])) == [f"topics {BESIDE}"]
    assert await faults(changed(manager, filter=PAID)) == [f"filter {BESIDE}"]
    assert await faults(changed(manager, topics="*", subscriptions=TWO)) == [f"topics {BESIDE}"]


async def test_what_was_shown_may_be_sent_back(manager: Manager) -> None:
    made = await created(manager, subscriptions=TWO, topics=["user.created", "order.*"], filter=None)
    same = await changed(manager, topics=list(made.topics), subscriptions=TWO, filter={})
    assert same == made
    assert await changed(manager, topics=list(made.topics)) == made
    assert await changed(manager, filter=None) == made


async def test_subscriptions_are_replaced_whole(manager: Manager) -> None:
    await created(manager, subscriptions=TWO)
    after = await changed(manager, subscriptions=[TWO[0]])
    assert (after.topics, len(after.subscriptions)) == (("order.*",), 1)


async def test_topics_and_filter_give_way_to_subscriptions(manager: Manager) -> None:
    await manager.create("acme", letterbox(id="box", topics=["a"], filter=PAID))
    after = await changed(manager, subscriptions=TWO)
    assert (after.topics, after.filter) == (("order.*", "user.created"), None)


async def test_subscriptions_give_way_to_topics(manager: Manager) -> None:
    """Their filters go with them, so that the new topics have to be said."""
    await created(manager, subscriptions=TWO)
    needed = ["topics is required to take the place of the subscriptions"]
    assert await faults(changed(manager, subscriptions=None)) == needed
    assert await faults(changed(manager, subscriptions=[], filter=PAID)) == needed
    after = await changed(manager, subscriptions=None, topics=["a"], filter=PAID)
    assert (after.topics, after.filter, after.subscriptions) == (("a",), PAID, ())
    assert await changed(manager, subscriptions=None) == after


async def test_the_catalogue_is_obeyed(store: SqliteStore, manager: Manager) -> None:
    strict = Manager(
        store,
        registry(),
        tools(),
        topics=lambda: ("order.created",),
        max_destinations=20,
        changed=lambda _tenant_id, _no: None,
        now=lambda: NOW,
    )
    assert await faults(created(strict, subscriptions=TWO)) == [
        "subscriptions.1.topics: no known topic is covered by user.created"
    ]


async def test_the_change_is_in_the_audit_log(store: SqliteStore, manager: Manager) -> None:
    await created(manager, subscriptions=TWO)
    await changed(manager, subscriptions=[TWO[0]])
    entries = (await store.alerting.audit_log(EntryQuery(actions=("destination.update",)), Page(limit=10))).items
    assert [entry.detail for entry in entries] == [{"changed": ["topics", "subscriptions"]}]


async def test_the_filters_of_a_destination_are_bounded_together(store: SqliteStore) -> None:
    limits = FilterLimits(max_destination_values=100, max_destination_cost=30, max_destination_characters=500)
    manager = Manager(
        store,
        registry(),
        tools(),
        topics=lambda: (),
        max_destinations=20,
        changed=lambda _tenant_id, _no: None,
        filter_limits=limits,
        now=lambda: NOW,
    )
    await manager.put_tenant("acme")

    def each(filter_: Any, times: int = 20) -> list[dict[str, Any]]:
        return [{"topics": ["*"], "filter": filter_}] * times

    regexes, texts, lists = {"a": {"$regex": "x"}}, {"a": "x" * 99}, {"a": {"$in": list(range(30))}}
    said = "subscriptions.{}.filter: the filters of the destination come to a total {} of {}, and {} is allowed"
    assert await faults(created(manager, subscriptions=each(regexes))) == [said.format(1, "cost", 40, 30)]
    assert await faults(created(manager, subscriptions=each(texts))) == [said.format(5, "characters", 600, 500)]
    assert await faults(created(manager, subscriptions=each(lists))) == [said.format(3, "values", 132, 100)]
    await created(manager, subscriptions=each(lists, 3))
