"""Trying a destination out: its credentials, and a test event."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import models, render
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, ScopeToManage
from waypost.api.destinations import DestinationId
from waypost.api.query import QueryOf

router = APIRouter(prefix="/tenants/{tenant_id}/destinations/{destination_id}", tags=["Destinations"])

_VERDICT = {
    "type": "object",
    "required": ["ok"],
    "properties": {
        "ok": {"type": "boolean"},
        "code": {"type": "string", "description": "What is wrong, as on attempts.", "examples": ["access_denied"]},
        "message": {"type": "string", "description": "The same as a sentence."},
    },
}
_PENDING = {
    "type": "object",
    "required": ["status", "event_id"],
    "properties": {"status": {"type": "string", "const": "pending"}, "event_id": {"type": "string"}},
}


@router.post(
    "/verify",
    operation_id="verifyTenantDestination",
    summary="Verify a destination",
    responses={
        200: {"description": "What was found out, good or bad.", "content": doc.json_of(_VERDICT)},
        **doc.errors(403, 404),
    },
    openapi_extra=doc.operation(doc.ANYONE),
)
async def verify_destination(scope: ScopeToManage, destination_id: DestinationId, backend: BackendOf) -> Response:
    """Check the credentials and that the destination can be reached, as far as its service allows. Nothing is sent."""
    destination = await backend.manager.destination(scope.tenant_id, destination_id)
    verdict = await backend.probe.verify(destination, by=scope.actor)
    return answer({"ok": True} if verdict.ok else {"ok": False, "code": verdict.code, "message": verdict.message})


@router.post(
    "/test",
    operation_id="testTenantDestination",
    summary="Send a test event",
    responses={
        200: {"model": models.Attempt, "description": "The attempt, successful or not."},
        202: {"description": "The attempt has not ended yet.", "content": doc.json_of(_PENDING)},
        **doc.errors(400, 403, 404, 422),
    },
    openapi_extra=doc.operation(doc.ANYONE, doc.INCLUDE),
)
async def test_destination(
    scope: ScopeToManage, destination_id: DestinationId, query: QueryOf, backend: BackendOf
) -> Response:
    """An event of topic `waypost.test` goes to this destination alone, whatever its topics and filter say.

    It carries the metadata `waypost-test: true`, is on record like any other event, and is not retried. The destination
    has to be enabled.
    """
    include = query.choices("include", render.INCLUDES)
    destination = await backend.manager.destination(scope.tenant_id, destination_id)
    trial = await backend.probe.test(destination, by=scope.actor)
    if trial.attempt is None:
        return answer({"status": "pending", "event_id": trial.event.id}, 202)
    return answer(render.attempt(trial.attempt, include, backend.registry))
