"""API keys over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from .kit import Caller, World, error


async def test_a_key_is_shown_once_works_and_dies(world: World) -> None:
    created = await world.admin.post("/api-keys", json={"name": "ci"})
    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    new = created.json()
    assert set(new) == {"id", "name", "hint", "created_at", "key"}
    caller = Caller(world.app, new["key"])
    (listed,) = (await caller.get("/api-keys")).json()
    assert listed == {name: value for name, value in new.items() if name != "key"}
    assert (await world.admin.delete(f"/api-keys/{new['id']}")).json() == {"success": True}
    assert error(await caller.get("/api-keys"))[0] == 401
    assert error(await world.admin.delete(f"/api-keys/{new['id']}")) == (404, "API key not found", None)


async def test_a_name_is_given_once(world: World) -> None:
    await world.admin.post("/api-keys", json={"name": "ci"})
    assert error(await world.admin.post("/api-keys", json={"name": "ci"}))[0] == 400


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ([], "the body must be a JSON object"),
        ({}, "name is required"),
        ({"name": ""}, "name is required"),
        ({"name": 7}, "name must be text"),
        ({"name": " "}, "name must be printable text"),
        ({"name": "x" * 101}, "name must be at most 100 characters"),
    ],
)
async def test_a_bad_name_is_refused(world: World, body: Any, fault: str) -> None:
    assert error(await world.admin.post("/api-keys", json=body)) == (422, "validation error", [fault])
