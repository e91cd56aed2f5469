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
    assert set(new) == {"id", "name", "hint", "scopes", "tenant_id", "created_at", "expires_at", "key"}
    assert (new["scopes"], new["tenant_id"], new["expires_at"]) == (["admin"], None, None)
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
        ({"name": "ci", "scope": "read"}, "scope is not a field of an API key"),
        ({"name": "ci", "scopes": "read"}, "scopes must be a list of at least one of: publish, read, admin"),
        ({"name": "ci", "scopes": []}, "scopes must be a list of at least one of: publish, read, admin"),
        ({"name": "ci", "scopes": ["reed"]}, "scopes must be a list of at least one of: publish, read, admin"),
        ({"name": "ci", "scopes": [{}]}, "scopes must be a list of at least one of: publish, read, admin"),
        ({"name": "ci", "tenant_id": 7}, "tenant_id must be text"),
        ({"name": "ci", "expires_at": "soon"}, "expires_at must be an RFC 3339 date-time"),
        ({"name": "ci", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at must be in the future"),
    ],
)
async def test_a_bad_name_is_refused(world: World, body: Any, fault: str) -> None:
    assert error(await world.admin.post("/api-keys", json=body)) == (422, "validation error", [fault])
