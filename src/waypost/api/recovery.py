"""How a destination is doing, and sending what was kept for it (specification, section 4.2.3)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, ScopeToReplay, TenantScope
from waypost.api.body import OptionalBody
from waypost.api.destinations import DestinationId
from waypost.core import times
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import Invalid
from waypost.core.model import Micros

router = APIRouter(prefix="/tenants/{tenant_id}/destinations/{destination_id}", tags=["Destinations"])


@router.get(
    "/health",
    operation_id="getTenantDestinationHealth",
    summary="Get a destination's health",
    responses={200: doc.returns("DestinationHealth"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_health(scope: TenantScope, destination_id: DestinationId, backend: BackendOf) -> Response:
    """Its failures since the last success, and what is kept for it if it is or was disabled."""
    destination = await backend.manager.destination(scope.tenant_id, destination_id)
    health = await backend.store.alerting.health(destination.no)
    disabled = destination.disabled_at is not None
    return answer(
        {
            "status": "disabled" if disabled else "failing" if health.streak else "healthy",
            "consecutive_failures": health.streak,
            "failing_since": times.render_optional(health.failing_since),
            "kept_events": await backend.store.count_kept(destination.no, since=0),
            "next_trial_at": times.render_optional(health.probe_at) if disabled else None,
        }
    )


@router.post(
    "/recover",
    operation_id="recoverTenantDestination",
    summary="Send what was kept",
    status_code=202,
    responses={202: doc.returns("Recovered"), **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="Recovery", body_required=False),
)
async def recover(
    scope: ScopeToReplay, destination_id: DestinationId, body: OptionalBody, backend: BackendOf
) -> Response:
    """Events that were published while it was disabled, and would have gone there, are delivered now.

    The destination has to be enabled. They are sent beside what is published meanwhile, with the usual retries.
    """
    destination = await backend.manager.destination(scope.tenant_id, destination_id)
    recovered = await backend.recover(destination, _since(body), by=scope.actor)
    return answer({"recovered": recovered}, 202)


def _since(body: Any) -> Micros:
    if body is None:
        return 0
    unknown = strangers(json_object(body), {"since"}, "a recovery")
    if unknown:
        raise Invalid(unknown)
    value = body.get("since")
    instant = times.parse(value) if isinstance(value, str) else None
    if value is not None and instant is None:
        raise Invalid(["since must be an RFC 3339 date-time"])
    return instant or 0
