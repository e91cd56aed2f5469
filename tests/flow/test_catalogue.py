"""The catalogue of topics: kept in memory as it stands in the store, and asked for every event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.store.builders import NOW, event
from waypost.core.errors import BadRequest, Invalid, NotFound
from waypost.core.model import Actor
from waypost.flow.catalogue import MOST_TOPICS, Catalogue, Validation
from waypost.store.alerting import EntryQuery
from waypost.store.base import Page
from waypost.store.sqlite import SqliteStore

OPERATOR = Actor(kind="api_key", name="ci", ip="192.0.2.1")
ORDER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}


class Hall:
    """A catalogue whose flags are kept."""

    def __init__(self, store: SqliteStore, *fixed: str, validation: Validation = "off") -> None:
        self.now = NOW
        self.flags: list[str] = []
        self.catalogue = Catalogue(
            store, now=lambda: self.now, fixed=fixed, validation=validation, flagged=self.flags.append
        )

    async def faults(self, name: str, body: Any) -> list[str]:
        with pytest.raises(Invalid) as refused:
            await self.catalogue.put(name, body)
        assert isinstance(refused.value.data, list)
        return refused.value.data


async def test_topics_of_the_settings_come_first_and_are_read_only(store: SqliteStore) -> None:
    hall = Hall(store, "b", "a")
    await hall.catalogue.put("d", {})
    await hall.catalogue.put("c", {})
    assert hall.catalogue.names == ("b", "a", "c", "d")
    assert hall.catalogue.known == {"a", "b", "c", "d"}
    assert [listed.read_only for listed in hall.catalogue.listed()] == [True, True, False, False]
    for change in (hall.catalogue.put("a", {}), hall.catalogue.delete("a")):
        with pytest.raises(BadRequest, match="set by the server's settings"):
            await change


async def test_a_topic_that_the_settings_took_over_keeps_its_details(store: SqliteStore) -> None:
    await Hall(store).catalogue.put("a", {"description": "First"})
    hall = Hall(store, "a")
    await hall.catalogue.refresh()
    assert hall.catalogue.names == ("a",)
    found = hall.catalogue.topic("a")
    assert found.read_only
    assert found.topic is not None
    assert found.topic.description == "First"


async def test_put_replaces_the_whole_topic_but_its_birthday(store: SqliteStore) -> None:
    hall = Hall(store)
    body = {"description": "Orders", "schema": ORDER, "example": {"id": 1}, "deprecated": True}
    first, created = await hall.catalogue.put("order", body)
    hall.now += 5
    second, created_again = await hall.catalogue.put("order", {"name": "order"})
    assert (created, created_again) == (True, False)
    assert first.topic is not None
    assert second.topic is not None
    assert (first.topic.schema, first.topic.example, first.topic.deprecated) == (ORDER, {"id": 1}, True)
    assert (second.topic.description, second.topic.schema, second.topic.deprecated) == (None, None, False)
    assert (second.topic.created_at, second.topic.updated_at) == (NOW, NOW + 5)
    assert hall.catalogue.topic("order") == second


async def test_another_process_sees_it_after_a_refresh(store: SqliteStore) -> None:
    one, other = Hall(store), Hall(store)
    await one.catalogue.put("a", {})
    assert "a" not in other.catalogue.known
    await other.catalogue.refresh()
    assert "a" in other.catalogue.known


async def test_many_changes_at_once_leave_what_the_store_holds(store: SqliteStore) -> None:
    hall = Hall(store)
    await asyncio.gather(*(hall.catalogue.put(f"t{number}", {}) for number in range(20)))
    await asyncio.gather(*(hall.catalogue.delete(f"t{number}") for number in range(10)))
    assert hall.catalogue.known == {topic.name for topic in await store.topics()} == {f"t{n}" for n in range(10, 20)}


async def test_what_is_not_there_cannot_be_deleted_or_shown(store: SqliteStore) -> None:
    hall = Hall(store)
    with pytest.raises(NotFound, match="topic not found"):
        await hall.catalogue.delete("a")
    with pytest.raises(NotFound, match="topic not found"):
        hall.catalogue.topic("a")


@pytest.mark.parametrize(
    ("name", "body", "problems"),
    [
        ("order.*", {}, ["name must be 1 to 255 letters, digits or _ - . : /"]),
        ("a b", {}, ["name must be 1 to 255 letters, digits or _ - . : /"]),
        ("a", {"name": "b"}, ["name cannot be updated"]),
        ("a", [], ["the body must be a JSON object"]),
        ("a", {"schemas": {}}, ["schemas is not a field of a topic"]),
        ("a", {"description": 5}, ["description must be text of at most 10000 characters"]),
        ("a", {"description": "x" * 10_001}, ["description must be text of at most 10000 characters"]),
        ("a", {"example": []}, ["example must be an object"]),
        ("a", {"deprecated": "no"}, ["deprecated must be true or false"]),
        ("a", {"schema": {"properties": {"n": {"type": "int"}}}}, None),
        ("a", {"schema": 5}, ['schema: it is not of types "boolean", "object"']),
        ("a", {"schema": ORDER, "example": {"id": "x"}}, ['example: it is not of type "integer" (at /id)']),
    ],
)
async def test_what_is_wrong_is_said(store: SqliteStore, name: str, body: Any, problems: list[str] | None) -> None:
    hall = Hall(store)
    found = await hall.faults(name, body)
    assert found == problems if problems is not None else found[0].endswith("(at /properties/n/type)")
    assert await store.topics() == ()


async def test_a_schema_that_leads_elsewhere_is_refused(store: SqliteStore) -> None:
    (problem,) = await Hall(store).faults("a", {"schema": {"items": {"$ref": "https://example.com/a.json"}}})
    assert problem.startswith("schema: ")
    assert problem.endswith("(at /items/$ref)")


async def test_there_is_an_end_to_it(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.flow.catalogue.MOST_TOPICS", 2)
    hall = Hall(store)
    await hall.catalogue.put("a", {})
    await hall.catalogue.put("b", {})
    await hall.catalogue.put("b", {"description": "again"})
    with pytest.raises(BadRequest, match="at most 2 topics"):
        await hall.catalogue.put("c", {})
    assert MOST_TOPICS > 1_000


async def test_changes_are_in_the_audit_log(store: SqliteStore) -> None:
    hall = Hall(store)
    await hall.catalogue.put("a", {"description": "x", "schema": True}, by=OPERATOR)
    await hall.catalogue.put("a", {"description": "y", "schema": True}, by=OPERATOR)
    await hall.catalogue.delete("a", by=OPERATOR)
    with pytest.raises(NotFound):
        await hall.catalogue.delete("a", by=OPERATOR)
    entries = (await store.alerting.audit_log(EntryQuery(subjects=("a",)), Page(limit=10))).items
    assert [(entry.action, entry.detail) for entry in entries[::-1]] == [
        ("topic.put", {"changed": ["description", "schema"]}),
        ("topic.put", {"changed": ["description"]}),
        ("topic.delete", {}),
    ]
    assert {entry.actor for entry in entries} == {OPERATOR}


# events


@pytest.mark.parametrize("validation", ["off", "warn", "enforce"])
async def test_data_is_checked_as_the_settings_say(store: SqliteStore, validation: Validation) -> None:
    hall = Hall(store, validation=validation)
    await hall.catalogue.put("order", {"schema": ORDER})
    hall.catalogue.check(event(topic="order", data=b'{"id": 1}'))
    hall.catalogue.check(event(topic="other", data=b"{}"))
    bad = event(topic="order", data=b'{"id": "x"}')
    if validation == "enforce":
        with pytest.raises(Invalid) as refused:
            hall.catalogue.check(bad)
        assert refused.value.data == ['data: it is not of type "integer" (at /id)']
    else:
        hall.catalogue.check(bad)
    assert hall.flags == (["invalid"] if validation == "warn" else [])


async def test_a_changed_schema_is_in_force_at_once(store: SqliteStore) -> None:
    hall = Hall(store, validation="enforce")
    await hall.catalogue.put("order", {"schema": ORDER})
    await hall.catalogue.put("order", {"schema": ORDER | {"required": []}})
    hall.catalogue.check(event(topic="order", data=b"{}"))
    await hall.catalogue.put("order", {"schema": False})
    with pytest.raises(Invalid):
        hall.catalogue.check(event(topic="order", data=b"{}"))
    await hall.catalogue.delete("order")
    hall.catalogue.check(event(topic="order", data=b"{}"))


async def test_a_deprecated_topic_still_works_and_is_flagged(store: SqliteStore) -> None:
    hall = Hall(store)
    await hall.catalogue.put("old", {"deprecated": True})
    assert "old" in hall.catalogue.known
    hall.catalogue.check(event(topic="old"))
    assert hall.flags == ["deprecated"]


async def test_a_stored_schema_that_is_no_longer_understood_is_left_aside(store: SqliteStore) -> None:
    hall = Hall(store, validation="enforce")
    listed, _ = await hall.catalogue.put("order", {"schema": ORDER})
    assert listed.topic is not None
    await store.put_topic(type(listed.topic)(name="order", schema={"type": "x"}, created_at=NOW, updated_at=NOW))
    await hall.catalogue.refresh()
    hall.catalogue.check(event(topic="order", data=b"{}"))
