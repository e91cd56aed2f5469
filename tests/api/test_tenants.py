"""Tenants over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core.model import SECOND

from .kit import JWT_SECRET, World, error

MIDNIGHT = "2027-01-15T08:00:00Z"


async def test_put_creates_then_replaces(world: World) -> None:
    created = await world.admin.put("/tenants/new", json={"metadata": {"plan": "pro"}})
    assert created.status_code == 201
    assert created.json() == {
        "id": "new",
        "destinations_count": 0,
        "topics": [],
        "metadata": {"plan": "pro"},
        "created_at": MIDNIGHT,
        "updated_at": MIDNIGHT,
    }
    world.now += SECOND
    replaced = await world.admin.put("/tenants/new", json={"metadata": {"seats": "3"}})
    assert replaced.status_code == 200
    assert replaced.json()["metadata"] == {"seats": "3"}
    assert replaced.json()["updated_at"] == "2027-01-15T08:00:01Z"


@pytest.mark.parametrize("body", [{}, {"json": {}}, {"json": {"metadata": None}}, {"content": b" "}, {"json": None}])
async def test_put_without_metadata_clears_it(world: World, body: dict[str, Any]) -> None:
    await world.admin.put("/tenants/acme", json={"metadata": {"plan": "pro"}})
    cleared = await world.admin.put("/tenants/acme", **body)
    assert cleared.status_code == 200
    assert cleared.json()["metadata"] is None


async def test_a_tenant_says_what_its_destinations_add_up_to(world: World) -> None:
    await world.destination(topics=["b", "a"])
    await world.destination(topics=["c", "a"])
    shown = (await world.acme.get("/tenants/acme")).json()
    assert (shown["destinations_count"], shown["topics"]) == (2, ["a", "b", "c"])
    await world.destination(topics="*")
    assert (await world.admin.get("/tenants/acme")).json()["topics"] == ["*"]


async def test_a_deleted_tenant_is_gone_and_can_come_back(world: World) -> None:
    assert (await world.admin.delete("/tenants/acme")).json() == {"success": True}
    assert error(await world.admin.get("/tenants/acme")) == (404, "tenant not found", None)
    assert error(await world.admin.delete("/tenants/acme")) == (404, "tenant not found", None)
    assert (await world.acme.get("/tenants/acme")).status_code == 401
    assert (await world.admin.put("/tenants/acme")).status_code == 201


async def test_the_list_is_newest_first_with_a_count(world: World) -> None:
    world.now += SECOND
    await world.admin.put("/tenants/late")
    listed = (await world.admin.get("/tenants")).json()
    assert listed["models"][0]["id"] == "late"
    assert listed["count"] == 3
    assert listed["pagination"] == {"order_by": "created_at", "dir": "desc", "limit": 20, "next": None, "prev": None}
    oldest_first = (await world.admin.get("/tenants?dir=asc")).json()
    assert oldest_first["models"] == listed["models"][::-1]


@pytest.mark.parametrize("query", ["id=acme", "id[]=acme", "id[0]=acme", "id=acme&id=unknown"])
async def test_the_list_is_narrowed_by_id(world: World, query: str) -> None:
    listed = (await world.admin.get(f"/tenants?{query}")).json()
    assert ([tenant["id"] for tenant in listed["models"]], listed["count"]) == (["acme"], 1)


async def test_a_token_lists_its_own_tenant_only(world: World) -> None:
    for query, expected in (("", ["acme"]), ("?id=acme&id=zeta", ["acme"]), ("?id=zeta", [])):
        listed = (await world.acme.get(f"/tenants{query}")).json()
        assert ([tenant["id"] for tenant in listed["models"]], listed["count"]) == (expected, len(expected))


async def test_a_minted_token_works(world: World) -> None:
    answer = await world.admin.get("/tenants/acme/token")
    assert answer.json()["tenant_id"] == "acme"
    assert answer.headers["cache-control"] == "no-store"
    headers = {"authorization": f"Bearer {answer.json()['token']}"}
    assert (await world.nobody.get("/tenants/acme", headers=headers)).status_code == 200
    assert error(await world.admin.get("/tenants/nobody/token")) == (404, "tenant not found", None)


async def test_the_portal_link_carries_the_token_in_its_fragment(world: World) -> None:
    plain = (await world.admin.get("/tenants/acme/portal")).json()
    head, _, token = plain["redirect_url"].partition("#token=")
    assert (head, plain["tenant_id"]) == ("http://waypost.example/portal/acme", "acme")
    assert world.access.identify(f"Bearer {token}").__class__.__name__ == "TenantUser"
    dark = (await world.admin.get("/tenants/acme/portal?theme=dark")).json()
    assert dark["redirect_url"].startswith("http://waypost.example/portal/acme?theme=dark#token=")
    assert error(await world.admin.get("/tenants/acme/portal?theme=pink")) == (
        422,
        "validation error",
        {"query.theme": "must be 'light' or 'dark'"},
    )
    assert (await world.admin.get("/tenants/nobody/portal")).status_code == 404


async def test_the_portal_link_does_not_believe_the_client(world: World) -> None:
    hostile = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    link = (await world.admin.get("/tenants/acme/portal", headers=hostile)).json()["redirect_url"]
    assert link.startswith("http://waypost.example/portal/acme#token=")


async def test_the_portal_link_uses_the_public_url(world: World) -> None:
    elsewhere = World(world.store, public_url="https://hooks.example/base/")
    await elsewhere.admin.put("/tenants/a|b")
    link = (await elsewhere.admin.get("/tenants/a%7Cb/portal")).json()["redirect_url"]
    assert link.startswith("https://hooks.example/base/portal/a%7Cb#token=")
    assert JWT_SECRET.decode() not in link
