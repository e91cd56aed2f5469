"""How long a tenant's things are kept, and removing data before its time."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Operator, TenantId, TenantScope
from waypost.api.backend import Backend
from waypost.api.body import Body
from waypost.api.events import EventId
from waypost.api.query import QueryOf, wrong
from waypost.core import times
from waypost.core.retention import Kept, Lifetimes
from waypost.store.retention import Expunging

router = APIRouter()


@router.get(
    "/tenants/{tenant_id}/retention",  # noqa: FAST003  the scope takes it
    tags=["Tenants"],
    operation_id="getTenantRetention",
    summary="Get how long a tenant's things are kept",
    responses={200: doc.returns("TenantRetention"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_retention(scope: TenantScope, backend: BackendOf) -> Response:
    """The tenant's own lifetimes, and what holds for it."""
    return answer(await _retention(scope.tenant_id, backend))


@router.put(
    "/tenants/{tenant_id}/retention",
    tags=["Tenants"],
    operation_id="putTenantRetention",
    summary="Set how long a tenant's things are kept",
    responses={200: doc.returns("TenantRetention"), **doc.errors(403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ADMIN, body="TenantLifetimes"),
)
async def put_retention(tenant_id: TenantId, _: Operator, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """They are replaced as a whole, and outlive the tenant. What is too old by them is removed soon."""
    await backend.manager.tenant(tenant_id)
    await backend.janitor.put_lifetimes(tenant_id, body, by=actor)
    return answer(await _retention(tenant_id, backend))


async def _retention(tenant_id: str, backend: Backend) -> dict[str, Any]:
    own, effective = await backend.janitor.lifetimes(tenant_id)
    return _lifetimes(own) | {"effective": _lifetimes(effective)}


def _lifetimes(value: Lifetimes) -> dict[str, int | None]:
    return {f"{kind}_seconds": getattr(value, kind) for kind in Kept}


@router.delete(
    "/events/{event_id}/data",
    tags=["Events"],
    operation_id="expungeEvent",
    summary="Expunge an event's data",
    responses={200: doc.returns("Event"), **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ADMIN, doc.text("tenant_id", "Whose event it is.") | {"required": True}),
)
async def expunge_event(event_id: EventId, _: Operator, actor: ActorOf, query: QueryOf, backend: BackendOf) -> Response:
    """The event loses its data and metadata, its attempts what was sent and answered; nothing of it is sent any more.

    Idempotent. That there was an event stays on record, with `expunged_at`.
    """
    tenant_id = query.one("tenant_id")
    if tenant_id is None:
        raise wrong("tenant_id", "is required")
    return answer(render.event(await backend.expunger.event(event_id, tenant_id, by=actor)))


@router.post(
    "/tenants/{tenant_id}/expunge",
    tags=["Tenants"],
    operation_id="expungeTenant",
    summary="Expunge all data of a tenant",
    status_code=202,
    responses={202: doc.returns("Expunging", "It has begun."), **doc.errors(403)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def expunge_tenant(tenant_id: TenantId, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """The data of every event accepted until now, as by expunging each; the tenant may have been deleted before.

    It is done in the background and goes on after a restart. Idempotent: asked again, it takes what has come since.
    """
    return answer(_expunging(await backend.expunger.tenant(tenant_id, by=actor)), 202)


@router.get(
    "/tenants/{tenant_id}/expunge",
    tags=["Tenants"],
    operation_id="getTenantExpunge",
    summary="Get how expunging a tenant goes on",
    responses={200: doc.returns("Expunging"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def get_expunging(tenant_id: TenantId, _: Operator, backend: BackendOf) -> Response:
    """The last one that was asked for."""
    return answer(_expunging(await backend.expunger.progress(tenant_id)))


def _expunging(job: Expunging) -> dict[str, Any]:
    return {
        "tenant_id": job.tenant_id,
        "status": "running" if job.finished_at is None else "completed",
        "events": job.events,
        "requested_at": times.render(job.requested_at),
        "finished_at": None if job.finished_at is None else times.render(job.finished_at),
    }
