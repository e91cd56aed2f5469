"""Trying filters out over HTTP: on samples, on a tenant's last events, and in another dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from waypost.core.filters import DEFAULT_LIMITS, normalise

from .kit import World, error

FREE_SHIPPING = {"data": {"variants": {"price": {"$gte": 10}}}}
SAMPLES = [
    {"id": "dear", "data": {"variants": [{"price": "5.00"}, {"price": "29.99"}]}},
    {"id": "cheap", "data": {"variants": [{"price": 9.5}]}},
]


@pytest.mark.parametrize(
    ("filter_", "least"),
    [
        (FREE_SHIPPING, "10"),
        ("variants.price:>=10.00", "10.00"),
        ({"$dialect": "shopify", "query": "variants.price:>=10.00"}, "10.00"),
    ],
)
async def test_the_specifications_examples(world: World, filter_: Any, least: str) -> None:
    answer = await world.acme.post("/filters/test", json={"filter": filter_, "events": SAMPLES})
    why = f"data.variants[0].price is not at least {least} (it is 9.5)"
    assert answer.status_code == 200
    assert answer.json() == [
        {"id": "dear", "pass": True, "reason": f"Passes: data.variants[1].price is at least {least}."},
        {"id": "cheap", "pass": False, "reason": f"Does not pass: {why}."},
    ]


async def test_a_sample_has_every_part_of_an_event(world: World) -> None:
    filter_ = {"id": "e", "topic": "t", "time": "2024-01-01T00:00:00Z", "metadata": {"a": "b"}, "data": {"n": 1}}
    sample = filter_ | {"tenant_id": "ignored", "time": "2024-01-01T01:00:00+01:00"}
    answer = await world.acme.post("/filters/test", json={"filter": filter_, "events": [sample]})
    assert answer.json()[0]["pass"] is True


async def test_samples_without_a_name_are_numbered(world: World) -> None:
    answer = await world.acme.post("/filters/test", json={"filter": {}, "events": [{"data": {}}, {"data": {}}]})
    assert [verdict["id"] for verdict in answer.json()] == ["sample_1", "sample_2"]


async def test_numbers_of_samples_are_exact(world: World) -> None:
    body = b'{"filter": {"data": {"n": 9007199254740993}}, "events": [{"data": {"n": 9007199254740993.0}},'
    body += b'{"data": {"n": 9007199254740992}}, {"data": {"n": 9007199254740993.00000000000000001}}]}'
    answer = await world.acme.post("/filters/test", content=body)
    assert [verdict["pass"] for verdict in answer.json()] == [True, False, False]


async def test_data_that_cannot_be_read_does_not_pass(world: World) -> None:
    deep = b"[" * 900 + b"]" * 900
    answer = await world.acme.post("/filters/test", content=b'{"filter": {}, "events": [{"data": {"a": %s}}]}' % deep)
    assert answer.status_code == 200


async def test_the_tenants_last_events(world: World) -> None:
    for number in range(4):
        await world.event(data=b'{"n":%d}' % number, id=f"evt_{number}")
    await world.event(tenant_id="zeta", data=b'{"n":9}', id="evt_zeta")
    body = {"filter": {"data": {"n": {"$gt": 2}}}, "last": 3}
    expected = [("evt_3", True), ("evt_2", False), ("evt_1", False)]

    own = (await world.acme.post("/filters/test", json=body)).json()
    assert [(verdict["id"], verdict["pass"]) for verdict in own] == expected
    other = (await world.acme.post("/filters/test", json=body | {"tenant_id": "zeta"})).json()
    assert other == own
    assert (await world.admin.post("/filters/test", json=body | {"tenant_id": "acme"})).json() == own
    assert error(await world.admin.post("/filters/test", json=body))[2] == ["tenant_id is required"]
    unknown = await world.admin.post("/filters/test", json=body | {"tenant_id": "nobody"})
    assert error(unknown) == (404, "tenant not found", None)


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ({"events": []}, ["filter is required"]),
        ({"filter": {}}, ["either events or last is required"]),
        ({"filter": {}, "events": [], "last": 1}, ["either events or last is required"]),
        ({"filter": {}, "last": 0}, ["last must be a whole number from 1 to 3"]),
        ({"filter": {}, "last": 4}, ["last must be a whole number from 1 to 3"]),
        ({"filter": {}, "events": [{"data": {}}] * 4}, ["events must be at most 3"]),
        ({"filter": {}, "events": [{"data": []}, {}]}, [f"events[{n}].data must be an object" for n in (0, 1)]),
        ({"filter": {}, "events": [{"data": {}, "time": "noon"}]}, ["events[0].time must be an RFC 3339 date-time"]),
        ({"filter": {}, "events": [{"data": {}, "id": 5}]}, ["events[0].id: expected str | null, got int"]),
        ({"filter": 5, "events": []}, ["filter: a filter is an object, or the text of a Shopify query"]),
        (
            {"filter": "a:1 AND", "events": []},
            ["filter: a field name is missing here (at /query, character 8)"],
        ),
    ],
)
async def test_what_is_wrong_is_said(world: World, body: Any, problems: list[str]) -> None:
    strict = World(world.store, filter_test_max_events=3)
    assert error(await strict.acme.post("/filters/test", json=body)) == (422, "validation error", problems)


async def test_a_body_that_is_no_json(world: World) -> None:
    for path in ("/filters/test", "/filters/convert"):
        assert error(await world.acme.post(path, content=b"{")) == (422, "invalid JSON", None)
        assert error(await world.acme.post(path, content=b"[]"))[0] == 422


# converting


@pytest.mark.parametrize(
    ("filter_", "to", "converted"),
    [
        (FREE_SHIPPING, "shopify", {"$dialect": "shopify", "query": "variants.price:>=10"}),
        ("variants.price:>=10.50", "hookdeck", {"data": {"variants": {"price": {"$gte": 10.5}}}}),
        ("state:paid", "eventbridge", {"$dialect": "eventbridge", "pattern": {"data": {"state": ["paid"]}}}),
        (FREE_SHIPPING, "hookdeck", FREE_SHIPPING),
        ("a:1", "shopify", {"$dialect": "shopify", "query": "a:1"}),
        ({}, "eventbridge", {}),
    ],
)
async def test_conversion(world: World, filter_: Any, to: str, converted: Any) -> None:
    answer = await world.acme.post("/filters/convert", json={"filter": filter_, "to": to})
    assert (answer.status_code, answer.json()) == (200, converted)
    normalise(answer.json(), DEFAULT_LIMITS)


async def test_numbers_stay_exact_and_stay_numbers(world: World) -> None:
    text = "0.10000000000000000555111512312578270"
    answer = await world.acme.post("/filters/convert", json={"filter": f"a:>={text}", "to": "hookdeck"})
    assert text in answer.text
    assert isinstance(json.loads(answer.text)["data"]["a"]["$gte"], float)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"to": "shopify"}, "filter is required"),
        ({"filter": {}}, "to must be one of: hookdeck, shopify, eventbridge"),
        ({"filter": {}, "to": "sql"}, "to must be one of: hookdeck, shopify, eventbridge"),
        ({"filter": {"$x": 1}, "to": "shopify"}, "filter: $x is no operator; the operators are "),
        (
            {"filter": {"data": {"customer": {"email": {"$regex": "x"}}}}, "to": "shopify"},
            "filter: a Shopify query cannot say that a text matches a regular expression, as is asked of data.customer",
        ),
    ],
)
async def test_a_refused_conversion_says_why(world: World, body: Any, problem: str) -> None:
    status, message, problems = error(await world.acme.post("/filters/convert", json=body))
    assert (status, message) == (422, "validation error")
    [sentence] = problems
    assert sentence.startswith(problem)
