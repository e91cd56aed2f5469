"""The description of the whole API (OpenAPI 3.1), including the routes that do not pass through the framework."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from waypost.api import alert_models, delivery_models, destination_schemas, models, replay_models, retention_models
from waypost.api import describe as doc
from waypost.connect.registry import Registry

_DESCRIPTION = """\
Waypost delivers a platform's events to its customers' own destinations.

An **API key** of the operator may do everything. A **tenant's token** may manage and inspect that tenant's
destinations, events and attempts. Both are sent as `Authorization: Bearer ...`.

Times are RFC 3339 in UTC. Lists come in pages with opaque cursors. Every error has the same shape: `status`, `message`
and, where there is more to say, `data`.
"""

_TAGS = [
    ("Publish", "Hand events over. An accepted event is on disk."),
    ("Tenants", "The platform's customers: owners of destinations, addressees of events."),
    ("Destinations", "Where a tenant wants its events."),
    ("Events", "What was published and where it went."),
    ("Deliveries", "Each event on its way to each destination."),
    ("Attempts", "Each try to hand an event to a destination."),
    ("Retry", "Send an event again, or many of them."),
    ("Live", "Events and attempts as they happen."),
    ("Metrics", "Events and attempts counted over time."),
    ("Alerts", "What is watched for, who is told, and what was found."),
    ("Audit log", "Who did what."),
    ("Topics", "What events are about."),
    ("Filters", "Which events a destination wants, by their content."),
    ("Destination types", "The kinds of destination, with the forms to fill in."),
    ("API keys", "The operator's credentials."),
    ("Health", "Whether Waypost is well."),
]

_SECURITY_SCHEMES = {
    "AdminApiKey": {"type": "http", "scheme": "bearer", "description": "An API key of the operator."},
    "TenantJwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token for one tenant, from `GET /tenants/{tenant_id}/token`: HS256, with `iss` `waypost`, "
        "`sub` the tenant's id, and `exp`.",
    },
}

_Mode = Literal["validation", "serialization"]
_BODIES: tuple[type[BaseModel], ...] = (
    models.TenantUpsert,
    models.RetryRequest,
    models.TopicPut,
    models.FilterTest,
    models.FilterConversion,
    models.ApiKeyCreate,
    models.PublishRequest,
    models.BatchRequest,
    *alert_models.BODIES,
    *replay_models.BODIES,
    *retention_models.BODIES,
)
_ANSWERS: tuple[type[BaseModel], ...] = (
    models.Error,
    models.Success,
    models.Tenant,
    models.TenantPage,
    models.TenantToken,
    models.TokenRevocation,
    models.PortalLink,
    models.Event,
    models.EventWithSkips,
    models.RoutedDestination,
    models.SkipCounts,
    models.EventPage,
    models.Attempt,
    models.AttemptPage,
    models.Metrics,
    models.Topic,
    models.FilterVerdict,
    models.DestinationTypeSchema,
    models.ApiKey,
    models.NewApiKey,
    models.Health,
    models.PublishResponse,
    models.BatchResponse,
    *alert_models.ANSWERS,
    *delivery_models.ANSWERS,
    *replay_models.ANSWERS,
    *retention_models.ANSWERS,
)


def document(app: FastAPI, registry: Registry, prefix: str) -> dict[str, Any]:
    """The description of an app whose API stands under `prefix`."""
    described = get_openapi(
        title="Waypost",
        version="1",
        openapi_version="3.1.0",
        summary="Event destinations",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in _TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    described["components"] = {"schemas": _schemas(registry), "securitySchemes": _SECURITY_SCHEMES}
    described["security"] = doc.ANYONE
    described["paths"] = _publish_paths(prefix) | described["paths"]
    _forget_frameworks_422(described["paths"])
    _tell_of_unknown_paths(described["paths"])
    return described


def _schemas(registry: Registry) -> dict[str, Any]:
    modes: list[tuple[type[BaseModel], _Mode]] = [(model, "validation") for model in _BODIES]
    modes += [(model, "serialization") for model in _ANSWERS]
    _, written = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    named = written["$defs"] | destination_schemas.schemas(registry)
    named["Attempt"]["properties"]["destination"] = doc.schema("AttemptDestination")
    for body in ("FilterTest", "FilterConversion"):
        named[body]["properties"]["filter"] = doc.schema("FilterInput")
    return {name: named[name] for name in sorted(named)}


def _forget_frameworks_422(paths: dict[str, Any]) -> None:
    """FastAPI adds an answer of its own shape to every route with a path parameter; those routes never give it."""
    for item in paths.values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]


def _tell_of_unknown_paths(paths: dict[str, Any]) -> None:
    """What stands for an id in a path may be none, or written in a way that no path is."""
    for path, item in paths.items():
        for operation in item.values() if "{" in path else ():
            operation["responses"].setdefault("404", doc.errors(404)[404])


def _publish_paths(prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}/publish": {
            "post": _publish(
                "publishEvent",
                "Publish an event",
                "The event is on disk, with its deliveries, when the answer is given. A second publish of the same id "
                "to the same tenant changes nothing and says `duplicate`. An unknown tenant, or no destination that "
                "matches, is not an error: `destination_ids` is empty.",
                "PublishRequest",
                "PublishResponse",
            )
        },
        f"{prefix}/publish/batch": {
            "post": _publish(
                "publishEvents",
                "Publish several events",
                "All of them or none, in one transaction. A fault in one event refuses the batch and names the event.",
                "BatchRequest",
                "BatchResponse",
            )
        },
    }


def _publish(name: str, summary: str, description: str, request: str, response: str) -> dict[str, Any]:
    refusals = {str(status): refusal for status, refusal in doc.errors(400, 403, 409, 413, 422).items()}
    return {
        "tags": ["Publish"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "security": doc.ADMIN,
        "requestBody": {"required": True, "content": doc.json_of(doc.schema(request))},
        "responses": {
            "202": doc.returns(response, "Accepted."),
            **refusals,
        },
    }
