"""Whether Waypost is well, for load balancers and for Prometheus. Open to whoever reaches the port."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf
from waypost.core import times
from waypost.flow import clock

router = APIRouter(tags=["Health"])
root = APIRouter(include_in_schema=False)


@router.get(
    "/healthz",
    operation_id="healthCheck",
    summary="Check health",
    responses={
        200: doc.returns("Health", "All workers are well."),
        503: doc.returns("Health", "A worker has failed; the log says why."),
    },
    openapi_extra=doc.operation(doc.NOBODY),
)
@root.get("/healthz")
async def healthz(backend: BackendOf) -> Response:
    """The state of each worker. No credentials are needed, and no reasons are given away."""
    return _stated(backend.health())


@router.get(
    "/livez",
    operation_id="livenessCheck",
    summary="Check liveness",
    responses={
        200: doc.returns("Health", "The process is at work."),
        503: doc.returns("Health", "The process does not work any more: restart it."),
    },
    openapi_extra=doc.operation(doc.NOBODY),
)
@root.get("/livez")
async def livez(backend: BackendOf) -> Response:
    """Whether the process works. What a restart does not mend, such as a full disk, is none of this one's business."""
    return _stated(backend.liveness())


@router.get(
    "/readyz",
    operation_id="readinessCheck",
    summary="Check readiness",
    responses={
        200: doc.returns("Health", "Events are accepted and delivered."),
        503: doc.returns("Health", "Send requests elsewhere for a while, if there is such a place."),
    },
    openapi_extra=doc.operation(doc.NOBODY),
)
@root.get("/readyz")
async def readyz(backend: BackendOf) -> Response:
    """Whether all workers are well and the store can be written to: something is, within a bounded time."""
    return _stated(await backend.readiness())


def _stated(workers: Mapping[str, bool]) -> Response:
    well = all(workers.values())
    body = {
        "status": _word(well),
        "timestamp": times.render(clock.now()),
        "workers": {name: {"status": _word(state)} for name, state in workers.items()},
    }
    return answer(body, 200 if well else 503)


def _word(well: bool) -> str:
    return "healthy" if well else "failed"


@root.get("/metrics")
async def metrics(backend: BackendOf) -> Response:
    if not backend.settings.metrics:
        raise HTTPException(404)
    return Response(backend.metrics(), headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})
