"""No credential reaches further than it should: every route with every kind of caller.

The routes are read from the app. A new one fails here until it is said what each caller may expect of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tests.flow.samples import letterbox
from tests.store.builders import CUSTOMER, OPERATOR
from waypost.core import ids
from waypost.flow.replays import Wish, replay_id
from waypost.store.alerting import AlertQuery
from waypost.store.base import EventQuery, Page

from .kit import API, Caller, World, error

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/assets/{name}"),
    ("GET", f"{API}/healthz"),
    ("GET", f"{API}/livez"),
    ("GET", f"{API}/readyz"),
}
"""Routes without credentials: they tell nothing about any tenant."""

ADMIN_ONLY = {
    ("PUT", f"{API}/tenants/{{tenant_id}}"),
    ("DELETE", f"{API}/tenants/{{tenant_id}}"),
    ("GET", f"{API}/tenants/{{tenant_id}}/token"),
    ("GET", f"{API}/tenants/{{tenant_id}}/portal"),
    ("POST", f"{API}/tenants/{{tenant_id}}/tokens/revoke"),
    ("PUT", f"{API}/tenants/{{tenant_id}}/retention"),
    ("POST", f"{API}/tenants/{{tenant_id}}/expunge"),
    ("GET", f"{API}/tenants/{{tenant_id}}/expunge"),
    ("DELETE", f"{API}/events/{{event_id}}/data"),
    ("GET", f"{API}/api-keys"),
    ("POST", f"{API}/api-keys"),
    ("DELETE", f"{API}/api-keys/{{key_id}}"),
    ("PUT", f"{API}/topics/{{name}}"),
    ("DELETE", f"{API}/topics/{{name}}"),
}

_HOME = f"{API}/tenants/{{tenant_id}}/destinations"
IN_A_TENANT = {
    ("GET", f"{API}/tenants/{{tenant_id}}"),
    ("GET", f"{API}/tenants/{{tenant_id}}/retention"),
    ("GET", _HOME),
    ("POST", _HOME),
    ("GET", f"{_HOME}/{{destination_id}}"),
    ("PATCH", f"{_HOME}/{{destination_id}}"),
    ("DELETE", f"{_HOME}/{{destination_id}}"),
    ("PUT", f"{_HOME}/{{destination_id}}/enable"),
    ("PUT", f"{_HOME}/{{destination_id}}/disable"),
    ("POST", f"{_HOME}/{{destination_id}}/verify"),
    ("POST", f"{_HOME}/{{destination_id}}/test"),
    ("GET", f"{_HOME}/{{destination_id}}/health"),
    ("POST", f"{_HOME}/{{destination_id}}/recover"),
    ("GET", f"{_HOME}/{{destination_id}}/skips"),
    ("GET", f"{_HOME}/{{destination_id}}/attempts"),
    ("GET", f"{_HOME}/{{destination_id}}/attempts/{{attempt_id}}"),
    ("GET", f"{_HOME}/{{destination_id}}/attempts/{{attempt_id}}/curl"),
}
"""Routes below a tenant: only that tenant and the operator."""

OWN_ONLY = {
    ("GET", f"{API}/tenants"),
    ("GET", f"{API}/events"),
    ("GET", f"{API}/attempts"),
    ("GET", f"{API}/deliveries"),
    ("GET", f"{API}/replays"),
    ("GET", f"{API}/alert-rules"),
    ("GET", f"{API}/alert-channels"),
    ("GET", f"{API}/alerts"),
    ("GET", f"{API}/audit-log"),
}
"""Lists that a tenant sees its own part of."""

OWN_COUNTS = {
    ("GET", f"{API}/metrics/events"),
    ("GET", f"{API}/metrics/attempts"),
}
"""Counts of which a tenant's own are all that it can see."""

OWN_ONE = {
    ("GET", f"{API}/events/{{event_id}}"),
    ("GET", f"{API}/events/{{event_id}}/routing"),
    ("GET", f"{API}/attempts/{{attempt_id}}"),
    ("GET", f"{API}/attempts/{{attempt_id}}/curl"),
    ("GET", f"{API}/deliveries/{{delivery_id}}"),
    ("POST", f"{API}/deliveries/{{delivery_id}}/cancel"),
    ("POST", f"{API}/retry"),
    ("POST", f"{API}/replays"),
    ("GET", f"{API}/replays/{{replay_id}}"),
    ("GET", f"{API}/replays/{{replay_id}}/deliveries"),
    ("POST", f"{API}/replays/{{replay_id}}/cancel"),
    ("GET", f"{API}/alert-rules/{{rule_id}}"),
    ("PATCH", f"{API}/alert-rules/{{rule_id}}"),
    ("DELETE", f"{API}/alert-rules/{{rule_id}}"),
    ("GET", f"{API}/alert-channels/{{channel_id}}"),
    ("PATCH", f"{API}/alert-channels/{{channel_id}}"),
    ("DELETE", f"{API}/alert-channels/{{channel_id}}"),
    ("POST", f"{API}/alert-channels/{{channel_id}}/confirm"),
    ("POST", f"{API}/alert-channels/{{channel_id}}/test"),
    ("GET", f"{API}/alerts/{{alert_id}}"),
    ("POST", f"{API}/alerts/{{alert_id}}/acknowledge"),
}
"""Single things that do not exist for other tenants."""

OWN_NEW = {
    ("POST", f"{API}/alert-rules"),
    ("POST", f"{API}/alert-channels"),
}
"""What a tenant makes belongs to that tenant, whatever it says."""

FOR_ALL = {
    ("GET", f"{API}/alert-channel-types"),
    ("GET", f"{API}/topics"),
    ("GET", f"{API}/topics/{{name}}"),
    ("POST", f"{API}/filters/test"),
    ("POST", f"{API}/filters/convert"),
    ("GET", f"{API}/destination-types"),
    ("GET", f"{API}/destination-types/{{type}}"),
}
"""The same for every caller."""

ENDLESS = {("GET", f"{API}/stream")}
"""What a tenant hears of its own only: see test_stream.py."""

OUR_CHANNEL = {"type": "letterbox", "name": "ours", "config": {"address": "Our Street"}}

GUARDED = ADMIN_ONLY | IN_A_TENANT | OWN_ONLY | OWN_COUNTS | OWN_ONE | OWN_NEW | FOR_ALL | ENDLESS


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    contexts = iter_route_contexts(app.routes)
    described = ((str(context.path).replace(":path}", "}"), context.methods or ()) for context in contexts)
    return {(method, path) for path, methods in described for method in methods}


class Filled:
    """A world in which acme has one of everything."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.values: dict[str, str] = {}

    async def fill(self) -> None:
        to = await self.world.destination(id="ours")
        await self.world.catalogue.put("rapidoc-min.js", {})
        event = await self.world.event(to, id="our-event")
        alerting = self.world.alerting
        at_once = {"kind": "consecutive_failures", "parameters": {"count": 1, "steps": [100]}}
        rule = await alerting.add_rule(at_once, view="acme", by=CUSTOMER)
        channel = await alerting.add_channel(OUR_CHANNEL, view="acme", by=CUSTOMER)
        request = {"method": "POST", "url": "https://ours.example", "headers": {}, "size": len(event.data)}
        attempt = await self.world.attempt(event, to, ok=False, request=request)
        (alert,) = (await alerting.alerts(AlertQuery(), Page(limit=1))).items
        key = await self.world.access.add_key("ours")
        wish = Wish(tenant_id="acme", destination_id="ours", asked={}, query=EventQuery(tenant_ids=("acme",)))
        replay = await self.world.backend.replays.create(wish, by=OPERATOR)
        self.values = {
            "tenant_id": "acme",
            "destination_id": "ours",
            "event_id": "our-event",
            "attempt_id": ids.encode("atm", attempt),
            "delivery_id": ids.encode_pair("dlv", event.seq, to.no),
            "replay_id": replay_id(replay),
            "key_id": key.key.id,
            "rule_id": rule.id,
            "channel_id": channel.id,
            "alert_id": ids.encode("alr", alert.seq),
            "type": "letterbox",
            "name": "rapidoc-min.js",
        }

    async def call(self, caller: Caller, route: tuple[str, str]) -> Any:
        method, path = route
        bodies: dict[str, Any] = {
            "/retry": {"event_id": "our-event", "destination_id": "ours"},
            "/replays": {"tenant_id": "acme", "destination_id": "ours"},
            "/api-keys": {"name": "another"},
            "/alert-rules": {"kind": "recovered", "tenant_id": "acme"},
            "/alert-channels": OUR_CHANNEL | {"tenant_id": "acme", "name": "another"},
            "/destinations": letterbox(),
            "/filters/test": {"filter": {}, "last": 10, "tenant_id": "acme"},
            "/filters/convert": {"filter": {}, "to": "shopify"},
        }
        body: dict[str, Any] = next((body for end, body in bodies.items() if path.endswith(end)), {})
        options: dict[str, Any] = {} if method in {"GET", "DELETE"} else {"json": body}
        return await caller.http.request(method, path.format_map(self.values), **options)


@pytest.fixture
async def filled(world: World) -> Filled:
    made = Filled(world)
    await made.fill()
    return made


async def test_every_route_has_its_case(world: World) -> None:
    assert routes_of(world.app) == GUARDED | OPEN


@pytest.mark.parametrize("route", sorted(OPEN), ids=" ".join)
async def test_open_routes_need_no_credentials(filled: Filled, route: tuple[str, str]) -> None:
    assert (await filled.call(filled.world.nobody, route)).status_code == 200


async def test_nobody_gets_nowhere(filled: Filled) -> None:
    strangers = [filled.world.nobody, Caller(filled.world.app, "wrong"), Caller(filled.world.app, "a.b.c")]
    for route in sorted(GUARDED):
        for stranger in strangers:
            answer = await filled.call(stranger, route)
            assert error(answer)[0] == 401, route
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_token_of_a_deleted_tenant_gets_nowhere(filled: Filled) -> None:
    ghost = Caller(filled.world.app, filled.world.access.mint("ghost"))
    filled.values["tenant_id"] = "ghost"
    for route in sorted(GUARDED - ADMIN_ONLY):
        assert error(await filled.call(ghost, route))[0] == 401, route
    for route in sorted(ADMIN_ONLY):
        assert error(await filled.call(ghost, route))[0] == 403, route


async def test_a_token_is_not_enough_for_the_operators_routes(filled: Filled) -> None:
    for route in sorted(ADMIN_ONLY):
        for caller in (filled.world.acme, filled.world.zeta):
            assert error(await filled.call(caller, route))[0] == 403, route
    assert (await filled.world.store.tenant("acme")) is not None


async def test_another_tenants_routes_are_forbidden(filled: Filled) -> None:
    before = await filled.world.store.destinations("acme")
    for tenant_id in ("acme", "unknown"):
        filled.values["tenant_id"] = tenant_id
        for route in sorted(IN_A_TENANT):
            assert error(await filled.call(filled.world.zeta, route))[0] == 403, route
    assert await filled.world.store.destinations("acme") == before


async def test_anothers_things_are_not_reached_through_ones_own_routes(filled: Filled) -> None:
    filled.values["tenant_id"] = "zeta"
    with_id = sorted(route for route in IN_A_TENANT if "{destination_id}" in route[1])
    for route in with_id:
        assert error(await filled.call(filled.world.zeta, route))[0] == 404, route


@pytest.mark.parametrize(
    "query", ["", "?tenant_id=acme", "?tenant_id[]=acme", "?tenant_id[0]=acme", "?destination_id=ours"]
)
async def test_lists_hold_nothing_of_others(filled: Filled, query: str) -> None:
    for method, path in sorted(OWN_ONLY):
        answer = await filled.world.zeta(method, path + query)
        assert answer.status_code == 200 or (query and answer.status_code == 422), path
        assert b"acme" not in answer.content
        assert b"our" not in answer.content


async def test_counts_are_ones_own(filled: Filled) -> None:
    years = "?time[start]=2020-01-01&time[end]=2040-01-01&measures=count"
    for method, path in sorted(OWN_COUNTS):
        for caller, count in ((filled.world.admin, 1), (filled.world.acme, 1), (filled.world.zeta, 0)):
            for query in ("", "&filters[destination_id]=ours"):
                found = (await caller(method, path + years + query)).json()["data"]
                assert sum(point["metrics"]["count"] for point in found) == count, (path, query)
        for forbidden in ("&dimensions=tenant_id", "&filters[tenant_id]=acme", "&filters[tenant_id][0]=zeta"):
            for caller in (filled.world.acme, filled.world.zeta):
                assert error(await caller(method, path + years + forbidden))[0] == 403


async def test_single_things_of_others_do_not_exist(filled: Filled) -> None:
    for method, path in sorted(OWN_ONE):
        filled.values["tenant_id"] = "acme"
        assert error(await filled.call(filled.world.zeta, (method, path)))[0] == 404, path
        if method == "GET":
            answer = await filled.world.zeta(method, path.format_map(filled.values) + "?tenant_id=acme")
            assert error(answer)[0] in {404, 422}, path
    assert filled.world.rung == []


async def test_what_a_tenant_makes_is_its_own(filled: Filled) -> None:
    before = [(await filled.world.acme(*route)).json() for route in sorted(OWN_ONLY)]
    for route in sorted(OWN_NEW):
        made = await filled.call(filled.world.zeta, route)
        assert (made.status_code, made.json()["tenant_id"]) == (201, "zeta"), route
    assert [(await filled.world.acme(*route)).json() for route in sorted(OWN_ONLY)] == before


async def test_the_tenant_itself_and_the_operator_get_through(filled: Filled) -> None:
    routes = IN_A_TENANT | OWN_ONLY | OWN_ONE | OWN_NEW | FOR_ALL
    for route in sorted(routes, key=lambda route: (route[0] == "DELETE", route)):
        once = route[0] == "DELETE" or route == ("POST", f"{API}/alert-channels")
        for caller in (filled.world.acme,) if once else (filled.world.admin, filled.world.acme):
            answer = await filled.call(caller, route)
            assert answer.status_code in {200, 201, 202}, (route, answer.text)
