"""Sending an event again by hand (specification, section 4.2.5)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, CallerToReplay
from waypost.api.body import Body
from waypost.core.bodies import json_object
from waypost.core.errors import Invalid

router = APIRouter(tags=["Retry"])

_REQUIRED = ("event_id", "destination_id")


@router.post(
    "/retry",
    operation_id="retryEvent",
    summary="Send an event again",
    status_code=202,
    responses={202: doc.returns("Success"), **doc.errors(400, 404, 413, 422, 429)},
    openapi_extra=doc.operation(doc.ANYONE, body="RetryRequest"),
)
async def retry(caller: CallerToReplay, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """One more attempt, now, whatever became of the earlier ones.

    It takes the place of a scheduled retry; if it fails, the schedule goes on with its next step. The destination has
    to be enabled and to take the event's topic. Asking again before it was made asks for nothing more. How often an
    event may be sent again by hand is limited, and how many events a tenant may send again within an hour.
    """
    event_id, destination_id, tenant_id = _read(body)
    named = None if tenant_id is None else backend.store.key_of(tenant_id)
    await backend.retry(event_id, destination_id, caller.tenant_id or named, by=actor)
    return answer({"success": True}, 202)


def _read(body: Any) -> tuple[str, str, str | None]:
    body = json_object(body)
    problems = [f"{name} is required" for name in _REQUIRED if body.get(name) in (None, "")]
    problems += [
        f"{name} must be text"
        for name in (*_REQUIRED, "tenant_id")
        if body.get(name) is not None and not isinstance(body[name], str)
    ]
    if problems:
        raise Invalid(problems)
    return body["event_id"], body["destination_id"], body.get("tenant_id")
