"""The API's description and the page that shows it."""

from __future__ import annotations

import asyncio
import json
import re
from importlib import resources
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.flow.samples import letterbox
from tests.store.conftest import sqlite_store

from .kit import API, World, error
from .test_isolation import GUARDED, OPEN

ANSWERS = {"AlertRule", "AlertChannel", "Alert", "AlertPage", "AuditPage", "DestinationHealth", "Recovered"}
PUBLISHING = {("POST", f"{API}/publish"), ("POST", f"{API}/publish/batch")}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    async def ask() -> httpx.Response:
        store = sqlite_store(tmp_path_factory.mktemp("described"))
        await store.open()
        answer = await World(store).nobody.http.get("/openapi.json")
        await store.close()
        return answer

    answer = asyncio.run(ask())
    assert answer.headers["content-type"] == "application/json"
    read: dict[str, Any] = answer.json()
    return read


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_every_route_is_described_and_publishing_too(document: dict[str, Any]) -> None:
    expected = GUARDED | PUBLISHING | {route for route in OPEN if route[1].startswith(API)}
    assert set(operations(document)) == expected
    assert document["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert not named & {"HTTPValidationError", "ValidationError"}
    unused = set(document["components"]["schemas"]) - named
    assert unused == set()


def test_every_operation_is_explained(document: dict[str, Any]) -> None:
    found = operations(document)
    tags = {tag["name"] for tag in document["tags"]}
    for route, operation in found.items():
        assert operation["summary"], route
        assert len(operation["description"]) > 5, route
        assert set(operation["tags"]) <= tags, route
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), route
        assert all(answer["description"] for answer in operation["responses"].values()), route
    assert len({operation["operationId"] for operation in found.values()}) == len(found)


def test_who_may_call_is_said(document: dict[str, Any]) -> None:
    for route, operation in operations(document).items():
        schemes = {name for alternative in operation["security"] for name in alternative}
        if route in OPEN:
            assert schemes == set()
        elif (403 in map(int, operation["responses"])) and "TenantJwt" not in schemes:
            assert schemes == {"AdminApiKey"}
        else:
            assert schemes == {"AdminApiKey", "TenantJwt"}
    assert set(document["components"]["securitySchemes"]) == {"AdminApiKey", "TenantJwt"}


def test_errors_have_one_shape(document: dict[str, Any]) -> None:
    for route, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and not route[1].endswith(("healthz", "livez", "readyz")):
                assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), route


def test_destinations_are_told_apart_by_type(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for union in ("Destination", "DestinationCreate"):
        mapping = schemas[union]["discriminator"]["mapping"]
        assert mapping == {
            "letterbox": f"#/components/schemas/{union}Letterbox",
            "pigeon": f"#/components/schemas/{union}Pigeon",
        }
        assert [item["$ref"] for item in schemas[union]["oneOf"]] == list(mapping.values())
    create = schemas["DestinationCreatePigeon"]
    assert create["required"] == ["type", "config", "credentials"]
    assert create["anyOf"] == [{"required": ["topics"]}, {"required": ["subscriptions"]}]
    assert create["properties"]["config"]["required"] == ["loft"]
    fields = schemas["DestinationCreateLetterbox"]["properties"]["config"]["properties"]
    assert fields["address"]["minLength"] == 3
    assert fields["zip"]["pattern"] == "^(?:[0-9]{5})$"
    assert fields["size"]["enum"] == ["s", "l"]
    assert fields["express"]["anyOf"][1] == {"type": "boolean"}


async def test_answers_have_the_fields_that_are_described(world: World, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    to = await world.destination()
    event = await world.event(to)
    await world.attempt(event, to)
    await world.expunger.event(event.id, "acme")
    include = "include=event.data&include=response_data&include=request_data&include=destination&include=causes"
    seen = {
        "Tenant": (await world.admin.get("/tenants/acme")).json(),
        "TenantPage": (await world.admin.get("/tenants")).json(),
        "EventWithSkips": (await world.admin.get(f"/events/{event.id}")).json(),
        "Event": (await world.admin.get("/events")).json()["models"][0],
        "ListedEvent": (await world.admin.get("/events?include=deliveries")).json()["models"][0],
        "EventPage": (await world.admin.get("/events?q=nothing")).json(),
        "SearchProgress": (await world.admin.get("/events?q=nothing")).json()["search"],
        "DeliveryOfEvent": (await world.admin.get("/events?include=deliveries")).json()["models"][0]["deliveries"][0],
        "Delivery": (await world.admin.get("/deliveries")).json()["models"][0],
        "DeliveryPage": (await world.admin.get("/deliveries")).json(),
        "Attempt": (await world.admin.get(f"/attempts?{include}")).json()["models"][0],
        "Pagination": (await world.admin.get("/attempts")).json()["pagination"],
        "TenantToken": (await world.admin.get("/tenants/acme/token")).json(),
        "PortalLink": (await world.admin.get("/tenants/acme/portal")).json(),
        "NewApiKey": (await world.admin.post("/api-keys", json={"name": "ci"})).json(),
        "Health": (await world.admin.get("/healthz")).json(),
    }
    for name, shown in seen.items():
        assert set(shown) == set(schemas[name]["properties"]), name
    shown = (await world.acme.post("/tenants/acme/destinations", json=letterbox())).json()
    assert set(shown) <= set(schemas["DestinationLetterbox"]["properties"])
    assert set(shown) >= set(schemas["DestinationLetterbox"]["required"])


async def test_what_is_said_of_alerts_fits_its_schema(world: World, document: dict[str, Any]) -> None:
    def fits(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
        described = document["components"]["schemas"][name]["properties"]
        assert set(value) == set(described) if name in ANSWERS else set(value) <= set(described), name

    rule: dict[str, Any] = {"kind": "consecutive_failures", "parameters": {"count": 1, "steps": [100]}}
    given = {"tenant_id": "acme", "muted_until": "2020-01-01T00:00:00Z", "channel_ids": None, "enabled": True}
    gone = {"kind": "auto_disable", "owner": "operator", "parameters": {"codes": ["410"]}}
    channel = letterbox(name="ops", min_severity="warning") | {"topics": ["alert.*"]}
    change = {"topics": "*", "credentials": {"pin": None}, "enabled": True, "muted_until": None}
    for name, body in (("AlertRuleCreate", rule), ("AlertRuleCreate", rule | given), ("AlertRuleCreate", gone)):
        fits(name, body)
        fits("AlertRule", (await world.admin.post("/alert-rules", json=body)).json())
    fits("AlertChannelCreate", channel)
    made = (await world.admin.post("/alert-channels", json=channel)).json()
    fits("AlertChannel", made)
    fits("AlertChannelUpdate", change)
    fits("AlertChannel", (await world.admin.patch(f"/alert-channels/{made['id']}", json=change)).json())
    to = await world.destination(id="des_1")
    await world.attempt(await world.event(to), to, ok=False, code="410", detail="gone", response={"body": "x"})
    await world.store.alerting.observe_backlog(1e9, now=world.now)
    for listed in (await world.admin.get("/alert-rules")).json():
        fits("AlertRule", listed)
    for path, page in (("/alerts", "AlertPage"), ("/audit-log", "AuditPage")):
        found = (await world.admin.get(path)).json()
        assert found["models"]
        fits(page, found)
    for alert in (await world.admin.get("/alerts")).json()["models"]:
        fits("Alert", alert)
        fits("Alert", (await world.admin.post(f"/alerts/{alert['id']}/acknowledge")).json())
    fits("DestinationHealth", (await world.acme.get("/tenants/acme/destinations/des_1/health")).json())
    await world.acme.put("/tenants/acme/destinations/des_1/enable")
    fits("DestinationHealth", (await world.acme.get("/tenants/acme/destinations/des_1/health")).json())
    recoveries: list[dict[str, Any]] = [{}, {"since": None}, {"since": "2020-01-01T00:00:00Z"}]
    for body in recoveries:
        fits("Recovery", body)
        fits("Recovered", (await world.acme.post("/tenants/acme/destinations/des_1/recover", json=body)).json())
    assert (await world.admin.post(f"/alert-channels/{made['id']}/test")).json() == {"ok": True}
    fits("DestinationTypeSchema", (await world.admin.get("/alert-channel-types")).json()[0])


async def test_the_page_loads_nothing_from_elsewhere(world: World) -> None:
    page = await world.nobody.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    links = re.findall(r'(?:src|href|spec-url)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith(("/", "data:"))
        if link.startswith("/"):
            assert (await world.nobody.http.get(link)).status_code == 200
    assert not re.findall(r"<script(?![^>]*src=)", page.text)


async def test_the_renderer_is_served_once_per_version(world: World) -> None:
    first = await world.nobody.http.get("/docs/assets/rapidoc-min.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert len(first.content) > 100_000
    again = await world.nobody.http.get("/docs/assets/rapidoc-min.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert error(await world.nobody.http.get("/docs/assets/rapidoc-min.LICENSE.txt"))[0] == 404


def test_the_renderers_licence_lies_beside_it() -> None:
    licence = resources.files("waypost.api").joinpath("assets", "rapidoc-min.LICENSE.txt").read_text()
    assert licence.startswith("MIT License")


def test_whatever_has_query_parameters_may_refuse_one(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
            assert "422" in operation["responses"], name
