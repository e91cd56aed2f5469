"""What a token or a key allows: every route asks for one right, and whoever has not got it is refused."""

from __future__ import annotations

import jwt
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from waypost.api.auth import RIGHT_OF
from waypost.core.model import SECOND
from waypost.flow import clock
from waypost.flow.access import OPERATE, RIGHTS_OF_A_TOKEN

from .kit import API, JWT_SECRET, Caller, World, error
from .test_isolation import ADMIN_ONLY, GUARDED, OPEN, Filled

NEEDS_NO_MORE_THAN_A_LOOK = {("POST", f"{API}/filters/test"), ("POST", f"{API}/filters/convert")}
"""They change nothing."""


def rights_of(dependant: Dependant) -> list[str]:
    own = [RIGHT_OF[dependant.call]] if dependant.call in RIGHT_OF else []
    return own + [right for each in dependant.dependencies for right in rights_of(each)]


def rights(world: World) -> dict[tuple[str, str], list[str]]:
    found = {
        (method, str(context.path).replace(":path}", "}")): rights_of(context.original_route.dependant)
        for context in iter_route_contexts(world.app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
    }
    return {route: asked for route, asked in found.items() if route not in OPEN}


async def filled(world: World) -> Filled:
    made = Filled(world)
    await made.fill()
    return made


async def a_token(world: World, query: str = "") -> str:
    answer = await world.admin.get(f"/tenants/acme/token?{query}")
    assert answer.status_code == 200
    token: str = answer.json()["token"]
    return token


async def a_key(world: World, **fields: object) -> Caller:
    answer = await world.admin.post("/api-keys", json={"name": "of a test", **fields})
    assert answer.status_code == 201
    return Caller(world.app, answer.json()["key"])


async def test_every_route_asks_for_exactly_one_right(world: World) -> None:
    found = rights(world)
    assert set(found) == GUARDED
    for route, asked in found.items():
        assert len(asked) == 1, route
        assert (asked == [OPERATE]) == (route in ADMIN_ONLY), route
        if route[0] != "GET" and route not in NEEDS_NO_MORE_THAN_A_LOOK:
            assert asked != ["view"], route


@pytest.mark.parametrize("right", RIGHTS_OF_A_TOKEN)
async def test_a_token_opens_what_it_has_the_right_to(world: World, right: str) -> None:
    made, caller = await filled(world), Caller(world.app, await a_token(world, f"rights={right}"))
    for route, (asked,) in sorted(rights(world).items()):
        if asked == right or route[1].endswith("/stream"):
            continue
        answer = await made.call(caller, route)
        assert answer.status_code == 403, route
        if asked in RIGHTS_OF_A_TOKEN:
            assert error(answer)[1] == f"this needs a token with the right `{asked}`"
    if right == "view":
        assert (await caller.get("/events")).status_code == 200
    if right == "manage":
        made_now = await caller.post("/tenants/acme/destinations", json={"type": "letterbox", "topics": "*"})
        assert made_now.status_code in {201, 422}


async def test_a_reader_changes_nothing_and_mints_nothing(world: World) -> None:
    made, caller = await filled(world), await a_key(world, scopes=["read"])
    for route, (asked,) in sorted(rights(world).items()):
        if asked != "view":
            assert error(await made.call(caller, route))[0] == 403, route
    assert (await caller.get("/events")).status_code == 200
    assert (await caller.get("/tenants/acme/destinations")).status_code == 200


async def test_a_publisher_sees_nothing(world: World) -> None:
    made, caller = await filled(world), await a_key(world, scopes=["publish"])
    for route in sorted(GUARDED):
        assert error(await made.call(caller, route))[0] == 403, route


async def test_a_tenants_key_acts_within_that_tenant(world: World) -> None:
    to, foreign = await world.destination(), await world.destination("zeta")
    event, other = await world.event(to), await world.event(foreign, tenant_id="zeta")
    caller = await a_key(world, tenant_id="acme")
    assert [model["id"] for model in (await caller.get("/events")).json()["models"]] == [event.id]
    assert [model["id"] for model in (await caller.get("/events?tenant_id=zeta")).json()["models"]] == [event.id]
    assert (await caller.get(f"/events/{other.id}")).status_code == 404
    assert (await caller.get("/tenants")).json()["count"] == 1
    assert (await caller.get("/tenants/acme/token")).status_code == 200
    for method, path in [
        ("GET", "/tenants/zeta"),
        ("GET", "/tenants/zeta/token"),
        ("PUT", "/tenants/zeta"),
        ("PUT", "/tenants/new"),
        ("DELETE", "/tenants/zeta"),
        ("POST", "/tenants/zeta/expunge"),
        ("GET", "/api-keys"),
        ("POST", "/api-keys"),
        ("PUT", "/topics/order.created"),
        ("DELETE", f"/events/{event.id}/data?tenant_id=acme"),
    ]:
        assert (await caller(method, path)).status_code == 403, path
    retried = await caller.post(
        "/retry", json={"event_id": other.id, "destination_id": foreign.id, "tenant_id": "zeta"}
    )
    assert retried.status_code == 404


async def test_a_tenants_key_ends_with_it(world: World) -> None:
    caller = await a_key(world, tenant_id="acme")
    await world.admin.delete("/tenants/acme")
    await world.access.refresh()
    await world.admin.put("/tenants/acme")
    assert error(await caller.get("/events"))[0] == 401
    unknown = await world.admin.post("/api-keys", json={"name": "x", "tenant_id": "nobody"})
    assert error(unknown) == (404, "tenant not found", None)


async def test_a_token_says_what_it_is_and_the_audit_log_who_made_it(world: World) -> None:
    made = (await world.admin.get("/tenants/acme/token?lifetime=7&rights[]=replay&rights[]=view")).json()
    claims = jwt.decode(made["token"], JWT_SECRET.ljust(64, b"\0"), algorithms=["HS256"])
    assert (made["tenant_id"], made["rights"], made["id"]) == ("acme", ["view", "replay"], claims["jti"])
    assert claims["exp"] - claims["iat"] == 7
    (entry,) = (await world.admin.get("/audit-log?action=tenant.token")).json()["models"]
    assert (entry["actor"]["name"], entry["detail"]["token"]) == ("settings", made["id"])
    assert (entry["detail"]["rights"], entry["detail"]["expires_at"]) == (["view", "replay"], made["expires_at"])


@pytest.mark.parametrize("lifetime", ["0", "61", "-1", "1.5", "soon", "99999999999"])
async def test_a_life_that_is_too_long_is_refused(world: World, lifetime: str) -> None:
    status, _, fault = error(await world.admin.get(f"/tenants/acme/token?lifetime={lifetime}"))
    assert (status, list(fault)) == (422, ["query.lifetime"])
    assert error(await world.admin.get("/tenants/acme/portal?rights=all"))[0] == 422


@pytest.mark.parametrize("by", ["id", "token"])
async def test_one_token_is_revoked(world: World, by: str) -> None:
    made, other = (await world.admin.get("/tenants/acme/token")).json(), Caller(world.app, await a_token(world))
    caller = Caller(world.app, made["token"])
    assert (await caller.get("/events")).status_code == 200
    revoked = await world.admin.post("/tenants/acme/tokens/revoke", json={by: made[by]})
    assert revoked.json() == {"success": True}
    assert error(await caller.get("/events")) == (401, "the token was revoked", None)
    assert (await other.get("/events")).status_code == 200
    (entry,) = (await world.admin.get("/audit-log?action=tenant.token_revoke")).json()["models"]
    assert entry["detail"] == {"token": made["id"]}


async def test_all_tokens_of_a_tenant_are_revoked(world: World) -> None:
    now = clock.now() // SECOND
    claims = {"iss": "outpost", "sub": "acme", "iat": max(now, world.now // SECOND), "exp": now + 60}
    foreign = Caller(world.app, jwt.encode(claims, JWT_SECRET.ljust(64, b"\0"), algorithm="HS256"))
    ours, zeta = Caller(world.app, await a_token(world)), world.zeta
    for caller in (ours, foreign, zeta):
        assert (await caller.get("/events")).status_code == 200
    await world.admin.post("/tenants/acme/tokens/revoke", json={"all": True})
    assert error(await ours.get("/events")) == (401, "the token was revoked", None)
    await world.store.revoke_tokens("acme", now=world.now)  # the tenant was made by this clock
    for caller in (ours, foreign):
        assert error(await caller.get("/events")) == (401, "the token was revoked", None)
    assert (await zeta.get("/events")).status_code == 200
    assert (await Caller(world.app, await a_token(world)).get("/events")).status_code == 200


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "exactly one of id, token, all is required"),
        ({"id": "tok_1", "all": True}, "exactly one of id, token, all is required"),
        ({"all": False}, "all must be true"),
        ({"id": 7}, "id must be text"),
        ({"id": ""}, "id must have 1 to 200 characters"),
        ({"token": "a.b.c"}, "token is not a token of this server"),
        ({"everything": True}, "everything is not a field of a revocation"),
    ],
)
async def test_a_revocation_that_says_nothing_is_refused(world: World, body: object, fault: str) -> None:
    answer = await world.admin.post("/tenants/acme/tokens/revoke", json=body)
    assert error(answer) == (422, "validation error", [fault])


async def test_another_tenants_token_is_not_revoked_by_mistake(world: World) -> None:
    answer = await world.admin.post("/tenants/acme/tokens/revoke", json={"token": world.access.mint("zeta")})
    assert error(answer)[2] == ["token is for another tenant"]
    assert error(await world.admin.post("/tenants/nobody/tokens/revoke", json={"all": True}))[0] == 404
