"""What destinations did not get, in numbers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, TenantScope
from waypost.api.destinations import DestinationId

router = APIRouter(prefix="/tenants/{tenant_id}/destinations/{destination_id}", tags=["Destinations"])


@router.get(
    "/skips",
    operation_id="getTenantDestinationSkips",
    summary="Count what a destination did not get",
    responses={200: doc.returns("SkipCounts"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_skips(scope: TenantScope, destination_id: DestinationId, backend: BackendOf) -> Response:
    """How many of the tenant's events passed the destination over since it was created, and why.

    Which ones they were is told by `GET /events?skipped_by=...`. A crash of the server may lose the last few counts.
    """
    destination = await backend.manager.destination(scope.tenant_id, destination_id)
    return answer({"destination_id": destination.id, "skipped": await backend.skips.of(destination)})
