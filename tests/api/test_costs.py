"""Every request that a tenant's token may make has a cost, and is refused when too many are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from waypost.api.app import create_app
from waypost.api.auth import RIGHT_OF
from waypost.api.backend import Backend
from waypost.api.costs import COSTS
from waypost.flow.access import OPERATE
from waypost.flow.quotas import Cost

from .kit import World, error


def routes() -> list[APIRoute]:
    routers = create_app(cast(Backend, None)).state.routers
    return [route for _, router in routers for route in router.routes if isinstance(route, APIRoute)]


def _asked(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for part in dependant.dependencies:
        yield from _asked(part)


def _rights(route: APIRoute) -> set[str]:
    return {RIGHT_OF[call] for call in _asked(route.dependant) if call in RIGHT_OF}


def test_every_operation_of_a_tenant_has_a_cost_and_no_other_one() -> None:
    of_tenants = {str(route.operation_id) for route in routes() if _rights(route) - {OPERATE}}
    assert len(of_tenants) > 50
    assert of_tenants == set(COSTS)


def test_every_route_asks_who_is_calling_or_is_known_to_be_open() -> None:
    strangers = {route.path for route in routes() if not _rights(route)}
    assert strangers <= {
        "",
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/assets/{name}",
    }


def test_what_goes_out_and_what_is_written_costs_more_than_reading() -> None:
    for route in routes():
        cost = COSTS.get(str(route.operation_id))
        writes = not route.methods & {"GET"} if route.methods else False
        if cost is not None and writes:
            assert cost in {Cost.CHANGE, Cost.OUTBOUND} or route.operation_id in {"convertFilter", "testFilter"}


@pytest.mark.parametrize(
    ("cost", "method", "path"),
    [
        (Cost.READ, "GET", "/tenants/acme"),
        (Cost.READ, "GET", "/topics"),
        (Cost.SEARCH, "GET", "/events"),
        (Cost.SEARCH, "POST", "/filters/test"),
        (Cost.CHANGE, "PUT", "/tenants/acme/destinations/des_1/enable"),
        (Cost.OUTBOUND, "POST", "/tenants/acme/destinations/des_1/test"),
        (Cost.OUTBOUND, "POST", "/tenants/acme/destinations/des_1/verify"),
        (Cost.STREAM, "GET", "/stream?kind=nothing"),
    ],
)
async def test_a_tenant_that_asks_too_often_is_told_when_to_come_back(
    world: World, cost: Cost, method: str, path: str
) -> None:
    settings: dict[str, Any] = {f"tenant_{cost}_burst": 3, f"tenant_{cost}_rate": 0.01}
    world = World(world.store, **settings)
    for _ in range(3):
        assert (await world.acme(method, path)).status_code != 429
    refused = await world.acme(method, path)
    status, message, data = error(refused)
    assert (status, data) == (429, {"limit": 3, "remaining": 0})
    assert "of a tenant in a row" in message
    assert 90 <= int(refused.headers["retry-after"]) <= 100
    other = path.replace("acme", "zeta")
    assert (await world.zeta(method, other)).status_code != 429
    for _ in range(5):
        assert (await world.admin(method, path)).status_code != 429
