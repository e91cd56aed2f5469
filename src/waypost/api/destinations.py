"""A tenant's destinations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, ScopeToManage, TenantScope
from waypost.api.body import Body
from waypost.api.paths import DECODED
from waypost.api.query import QueryOf

DestinationId = Annotated[str, DECODED, Path(description="The destination's id.", examples=["des_1"])]

router = APIRouter(prefix="/tenants/{tenant_id}/destinations", tags=["Destinations"])

_ONE = doc.returns("Destination", "The destination.")
_ALL = doc.returns_list("Destination", "The destinations.")


@router.get(
    "",
    operation_id="listTenantDestinations",
    summary="List destinations",
    responses={200: _ALL, **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("type", "Only destinations of these types."),
        doc.array("topics", "Only destinations that take all of these topics."),
    ),
)
async def list_destinations(scope: TenantScope, query: QueryOf, backend: BackendOf) -> Response:
    """All destinations of the tenant, oldest first, in one answer."""
    found = await backend.manager.destinations(scope.tenant_id, types=query.many("type"), topics=query.many("topics"))
    return answer([render.destination(destination, backend.registry) for destination in found])


@router.post(
    "",
    operation_id="createTenantDestination",
    summary="Create a destination",
    status_code=201,
    responses={201: _ONE, **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="DestinationCreate"),
)
async def create_destination(scope: ScopeToManage, body: Body, backend: BackendOf) -> Response:
    """What `config` and `credentials` hold depends on the `type`. Nothing is called while saving."""
    created = await backend.manager.create(scope.tenant_id, body, by=scope.actor)
    return answer(render.destination(created, backend.registry), 201)


@router.get(
    "/{destination_id}",
    operation_id="getTenantDestination",
    summary="Get a destination",
    responses={200: _ONE, **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_destination(scope: TenantScope, destination_id: DestinationId, backend: BackendOf) -> Response:
    """One destination; its secrets are masked."""
    found = await backend.manager.destination(scope.tenant_id, destination_id)
    return answer(render.destination(found, backend.registry))


@router.patch(
    "/{destination_id}",
    operation_id="updateTenantDestination",
    summary="Update a destination",
    responses={200: _ONE, **doc.errors(403, 404, 409, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="DestinationUpdate"),
)
async def update_destination(
    scope: ScopeToManage, destination_id: DestinationId, body: Body, backend: BackendOf
) -> Response:
    """A merge patch (RFC 7396): what is left out stays, null removes. The type cannot change.

    `topics` and `filter` are replaced whole. A secret sent back masked, as it was shown, stays as it is.
    """
    changed = await backend.manager.update(scope.tenant_id, destination_id, body, by=scope.actor)
    return answer(render.destination(changed, backend.registry))


@router.delete(
    "/{destination_id}",
    operation_id="deleteTenantDestination",
    summary="Delete a destination",
    responses={200: doc.returns("Success"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def delete_destination(scope: ScopeToManage, destination_id: DestinationId, backend: BackendOf) -> Response:
    """What was still to be delivered to it is cancelled; its attempts stay on record."""
    await backend.manager.delete(scope.tenant_id, destination_id, by=scope.actor)
    return answer({"success": True})


@router.put(
    "/{destination_id}/enable",
    operation_id="enableTenantDestination",
    summary="Enable a destination",
    responses={200: _ONE, **doc.errors(403, 404, 409)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def enable_destination(scope: ScopeToManage, destination_id: DestinationId, backend: BackendOf) -> Response:
    """Let events go to it again. Idempotent."""
    enabled = await backend.manager.enable(scope.tenant_id, destination_id, by=scope.actor)
    return answer(render.destination(enabled, backend.registry))


@router.put(
    "/{destination_id}/disable",
    operation_id="disableTenantDestination",
    summary="Disable a destination",
    responses={200: _ONE, **doc.errors(403, 404, 409)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def disable_destination(scope: ScopeToManage, destination_id: DestinationId, backend: BackendOf) -> Response:
    """Let no event go to it until it is enabled. Idempotent."""
    disabled = await backend.manager.disable(scope.tenant_id, destination_id, by=scope.actor)
    return answer(render.destination(disabled, backend.registry))
