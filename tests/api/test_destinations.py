"""Destinations over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.flow.samples import letterbox
from waypost.connect.registry import Registry
from waypost.core.model import SECOND
from waypost.destinations.webhook import WebhookType

from .kit import NOW, World, error

HOME = "/tenants/acme/destinations"


async def test_a_created_destination_is_shown_as_it_stands(world: World) -> None:
    answer = await world.admin.post(
        HOME, json=letterbox(id="mine", config={"address": "Elm", "floor": 3}, credentials={"pin": "1234567890"})
    )
    assert answer.status_code == 201
    assert answer.json() == {
        "id": "mine",
        "type": "letterbox",
        "topics": ["*"],
        "config": {"address": "Elm", "floor": "3"},
        "credentials": {"pin": "1234********", "seal": f"seal-{NOW}"},
        "delivery_metadata": None,
        "metadata": None,
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
        "disabled_at": None,
        "target": "Elm",
        "target_url": "https://map.example/Elm",
    }
    assert (await world.admin.get(f"{HOME}/mine")).json() == answer.json()
    assert (await world.acme.get(HOME)).json() == [answer.json()]


async def test_what_is_optional_is_shown_when_it_is_there(world: World) -> None:
    extras = {
        "filter": {"data": {"amount": {"$gte": 10}}},
        "retry_policy": {"limit": 3, "schedule": [1, 2.5]},
        "delivery_metadata": {"region": "eu"},
        "metadata": {"team": "a"},
    }
    shown = (await world.acme.post(HOME, json=letterbox(**extras))).json()
    assert {name: shown[name] for name in extras} == extras


async def test_a_type_without_a_link_has_no_target_url(world: World) -> None:
    body = {"type": "pigeon", "topics": ["a"], "config": {"loft": "Attic"}, "credentials": {"ring": "short"}}
    shown = (await world.acme.post(HOME, json=body)).json()
    assert shown["target"] == "Attic"
    assert "target_url" not in shown
    assert shown["credentials"] == {"ring": "************"}


async def test_of_an_uninstalled_type_everything_is_masked(world: World) -> None:
    made = await world.destination(credentials={"pin": "1234567890"})
    await world.store.replace_destination(structs.replace(made, type="telex"))
    shown = (await world.acme.get(f"{HOME}/{made.id}")).json()
    assert shown["config"] == {"address": "Elm *******"[:4] + "*" * 8}
    assert shown["credentials"]["pin"] == "1234********"
    assert set(shown["credentials"]["seal"][4:]) == {"*"}
    assert (shown["type"], shown["target"]) == ("telex", "")


async def test_what_is_shown_can_be_sent_back(world: World) -> None:
    shown = (await world.acme.post(HOME, json=letterbox(credentials={"pin": "1234567890"}))).json()
    world.now += SECOND
    for caller in (world.admin, world.acme):
        again = await caller.patch(f"{HOME}/{shown['id']}", json=shown)
        assert (again.status_code, again.json()) == (200, shown)
    kept = await world.store.destination("acme", shown["id"])
    assert kept is not None
    assert kept.credentials["pin"] == "1234567890"


async def test_a_patch_merges(world: World) -> None:
    made = await world.destination(metadata={"a": "1", "b": "2"})
    answer = await world.acme.patch(f"{HOME}/{made.id}", json={"metadata": {"a": None, "c": "3"}, "topics": ["x"]})
    assert answer.status_code == 200
    assert (answer.json()["metadata"], answer.json()["topics"]) == ({"b": "2", "c": "3"}, ["x"])


async def test_enable_disable_delete(world: World) -> None:
    made = await world.destination()
    path = f"{HOME}/{made.id}"
    disabled = await world.acme.put(f"{path}/disable")
    assert (disabled.status_code, disabled.json()["disabled_at"]) == (200, "2027-01-15T08:00:00Z")
    enabled = await world.acme.put(f"{path}/enable")
    assert (enabled.status_code, enabled.json()["disabled_at"]) == (200, None)
    assert (await world.acme.delete(path)).json() == {"success": True}
    for method, suffix in (("GET", ""), ("DELETE", ""), ("PUT", "/enable"), ("PUT", "/disable")):
        assert error(await world.acme(method, path + suffix)) == (404, "destination not found", None)


async def test_the_list_takes_every_spelling_of_an_array(world: World) -> None:
    both = await world.destination(topics=["a", "b"])
    await world.destination(topics=["a"])
    for query in ("topics=a&topics=b", "topics[]=a&topics[]=b", "topics[1]=b&topics[0]=a"):
        listed = (await world.acme.get(f"{HOME}?{query}")).json()
        assert [item["id"] for item in listed] == [both.id]
    assert (await world.acme.get(f"{HOME}?type=pigeon")).json() == []
    assert len((await world.acme.get(f"{HOME}?type=pigeon&type=letterbox")).json()) == 2


@pytest.mark.parametrize(
    ("changes", "status", "message", "data"),
    [
        ({"id": "taken"}, 400, "destination already exists", None),
        ({"type": "telex"}, 422, "validation error", ["type must be one of: letterbox, pigeon"]),
        ({"config": {}}, 422, "validation error", ["config.address is required"]),
        ({"config": {"address": "x"}}, 422, "validation error", ["config.address must be at least 3 characters"]),
    ],
)
async def test_refused_creates(world: World, changes: dict[str, Any], status: int, message: str, data: Any) -> None:
    await world.destination(id="taken")
    assert error(await world.acme.post(HOME, json=letterbox(**changes))) == (status, message, data)


async def test_refused_updates(world: World) -> None:
    made = await world.destination()
    assert error(await world.acme.patch(f"{HOME}/{made.id}", json={"type": "pigeon"}))[:2] == (
        422,
        "type cannot be updated",
    )
    assert error(await world.acme.patch(f"{HOME}/unknown", json={"topics": 3}))[0] == 422
    assert error(await world.acme.patch(f"{HOME}/unknown", json={})) == (404, "destination not found", None)


async def test_only_an_api_key_imports_a_past(world: World) -> None:
    body = letterbox(created_at="2024-02-15T10:00:00Z")
    assert error(await world.acme.post(HOME, json=body)) == (403, "created_at may only be set with an API key", None)
    imported = await world.admin.post(HOME, json=body)
    assert imported.json()["created_at"] == imported.json()["updated_at"] == "2024-02-15T10:00:00Z"


async def test_an_unknown_tenant_has_no_destinations(world: World) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/des_1"), ("PATCH", "/des_1"), ("DELETE", "/des_1")):
        answer = await world.admin(method, f"/tenants/nobody/destinations{path}", content=b"{}")
        assert error(answer) == (404, "tenant not found", None)


async def test_a_tenant_may_turn_its_webhook_secret_but_not_choose_it(world: World) -> None:
    real = World(world.store, types=Registry(iter([WebhookType])))
    body = {"type": "webhook", "topics": "*", "config": {"url": "https://example.com/hook"}}
    made = (await real.acme.post(HOME, json=body)).json()
    secret = made["credentials"]["secret"]
    assert secret.startswith("whsec_")
    assert "*" not in secret
    path = f"{HOME}/{made['id']}"
    for method, target in (("POST", HOME), ("PATCH", path)):
        for key in ("secret", "previous_secret"):
            chosen = body | {"credentials": {key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}
            status, message, data = error(await real.acme(method, target, json=chosen))
            assert (status, message) == (422, "validation error")
            assert data[0].startswith(f"credentials.{key} ")
    turned = (await real.acme.patch(path, json={"credentials": {"rotate_secret": True}})).json()["credentials"]
    assert turned["previous_secret"] == secret
    assert turned["secret"] != secret
    assert (await real.acme.patch(path, json=(await real.acme.get(path)).json())).json()["credentials"] == turned
