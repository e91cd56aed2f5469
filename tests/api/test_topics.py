"""The catalogue of topics over HTTP, and several subscriptions on a destination."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.flow.samples import letterbox
from waypost.api import openapi

from .kit import World, error

ORDER = {"type": "object", "required": ["id"]}
HOME = "/tenants/acme/destinations"


async def test_a_topic_is_put_shown_and_deleted(world: World) -> None:
    body = {"description": "Orders", "schema": ORDER, "example": {"id": 1}}
    put = await world.admin.put("/topics/order.created", json=body)
    assert put.status_code == 201
    assert put.json() == body | {
        "name": "order.created",
        "deprecated": False,
        "read_only": False,
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    }
    assert (await world.acme.get("/topics/order.created")).json() == put.json()
    again = await world.admin.put("/topics/order.created", json=put.json() | {"deprecated": True})
    assert (again.status_code, again.json()["deprecated"]) == (200, True)
    deleted = await world.admin.delete("/topics/order.created")
    assert (deleted.status_code, deleted.json()) == (200, {"success": True})
    assert error(await world.admin.get("/topics/order.created")) == (404, "topic not found", None)
    assert error(await world.admin.delete("/topics/order.created")) == (404, "topic not found", None)


@pytest.mark.parametrize("name", ["order/paid", "urn:shop:order", "a.b_c-d"])
async def test_every_name_can_stand_in_a_url(world: World, name: str) -> None:
    for written in (name, quote(name, safe="")):
        assert (await world.admin.put(f"/topics/{written}", json={})).json()["name"] == name
    assert (await world.admin.get("/topics")).json() == [name]


async def test_the_list_is_of_names_unless_details_are_asked_for(world: World) -> None:
    strict = World(world.store, topics="b,a")
    await strict.admin.put("/topics/c", json={"description": "See"})
    assert (await strict.acme.get("/topics")).json() == ["b", "a", "c"]
    assert (await strict.acme.get("/topics?details=false")).json() == ["b", "a", "c"]
    details = (await strict.acme.get("/topics?details=true")).json()
    assert [(topic["name"], topic["description"], topic["read_only"]) for topic in details] == [
        ("b", None, True),
        ("a", None, True),
        ("c", "See", False),
    ]
    assert details[0]["created_at"] is None
    assert error(await strict.acme.get("/topics?details=yes")) == (
        422,
        "validation error",
        {"query.details": "must be 'true' or 'false'"},
    )
    assert error(await strict.admin.put("/topics/a", json={}))[0] == 400
    assert error(await strict.admin.delete("/topics/a"))[0] == 400


@pytest.mark.parametrize(
    ("name", "body", "problems"),
    [
        ("order.*", {}, ["name must be 1 to 255 letters, digits or _ - . : /"]),
        ("a", {"schema": {"$ref": "https://example.com/a"}}, None),
        ("a", {"schema": ORDER, "example": {}}, ['example: "id" is a required property']),
    ],
)
async def test_what_is_wrong_is_said(world: World, name: str, body: Any, problems: list[str] | None) -> None:
    status, message, found = error(await world.admin.put(f"/topics/{name}", json=body))
    assert (status, message) == (422, "validation error")
    assert found == problems if problems else found[0].endswith("(at /$ref)")


async def test_the_topics_of_the_catalogue_are_in_force_at_once(world: World) -> None:
    unknown = letterbox(topics=["invoice.paid"])
    assert (await world.acme.post(HOME, json=unknown)).status_code == 201
    await world.admin.put("/topics/order.created", json={})
    answer = await world.acme.post(HOME, json=unknown)
    assert error(answer) == (422, "validation error", ["topics: no known topic is covered by invoice.paid"])
    await world.admin.delete("/topics/order.created")
    assert (await world.acme.post(HOME, json=unknown)).status_code == 201


async def test_it_is_described_as_it_is_answered(world: World) -> None:
    shown = (await world.admin.put("/topics/a", json={})).json()
    described = openapi.document(world.app, world.backend.registry, "/api/v1")
    assert set(described["components"]["schemas"]["Topic"]["properties"]) == set(shown)


# subscriptions


async def test_subscriptions_are_shown_where_there_are_any(world: World) -> None:
    several = [{"topics": ["order.*"], "filter": {"data": {"n": 1}}}, {"topics": ["user.created"]}]
    body = letterbox(id="box", subscriptions=several)
    del body["topics"]
    made = await world.acme.post(HOME, json=body)
    assert made.status_code == 201
    shown = made.json()
    assert (shown["topics"], shown["subscriptions"]) == (["order.*", "user.created"], several)
    assert "filter" not in shown
    assert (await world.acme.get(f"{HOME}/box")).json() == shown
    assert (await world.acme.get(f"{HOME}?topics=user.created")).json() == [shown]
    assert (await world.acme.get("/tenants/acme")).json()["topics"] == ["order.*", "user.created"]
    back = await world.acme.patch(f"{HOME}/box", json={name: shown[name] for name in ("topics", "subscriptions")})
    assert back.json() == shown
    single = (await world.acme.patch(f"{HOME}/box", json={"subscriptions": None, "topics": "*"})).json()
    assert single["topics"] == ["*"]
    assert "subscriptions" not in single


# numbers


async def test_numbers_of_a_saved_filter_stay_exact(world: World) -> None:
    number = "0.1234567890123456789012345"
    rest = b'"type": "letterbox", "topics": "*", "config": {"address": "Elm"}'
    body = b'{"id": "box", "filter": {"data": {"n": %s}}, ' + rest + b"}"
    for answer in (
        await world.acme.post(HOME, content=body % number.encode()),
        await world.acme.get(f"{HOME}/box"),
        await world.acme.patch(f"{HOME}/box", json={"metadata": {"a": "b"}}),
    ):
        assert f'"filter":{{"data":{{"n":{number}}}}}' in answer.text
