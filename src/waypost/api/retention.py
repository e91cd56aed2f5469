"""How long a tenant's things are kept, and removing data before its time."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Operator, TenantKey, TenantScope
from waypost.api.backend import Backend
from waypost.api.body import Body
from waypost.api.events import EventId
from waypost.api.query import QueryOf, wrong
from waypost.core import times
from waypost.core.incarnations import id_of
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
    "/tenants/{tenant_id}/retention",  # noqa: FAST003  the key takes it
    tags=["Tenants"],
    operation_id="putTenantRetention",
    summary="Set how long a tenant's things are kept",
    responses={200: doc.returns("TenantRetention"), **doc.errors(403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ADMIN, body="TenantLifetimes"),
)
async def put_retention(key: TenantKey, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """They are replaced as a whole, and outlive the tenant. What is too old by them is removed soon."""
    await backend.manager.tenant(key)
    await backend.janitor.put_lifetimes(key, body, by=actor)
    return answer(await _retention(key, backend))


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
    return answer(render.event(await backend.expunger.event(event_id, backend.store.key_of(tenant_id), by=actor)))


@router.post(
    "/tenants/{tenant_id}/expunge",  # noqa: FAST003  the key takes it
    tags=["Tenants"],
    operation_id="expungeTenant",
    summary="Expunge all data of a tenant",
    status_code=202,
    responses={202: doc.returns("Expunging", "It has begun."), **doc.errors(403)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def expunge_tenant(key: TenantKey, actor: ActorOf, backend: BackendOf) -> Response:
    """The data of every event accepted until now, as by expunging each; the tenant may have been deleted before.

    It is done in the background and goes on after a restart. Idempotent: asked again, it takes what has come since. Of
    tenants that bore an id one after another, the last one is meant; `acme 1` is the first of the id `acme`.
    """
    return answer(_expunging(await backend.expunger.tenant(key, by=actor)), 202)


@router.get(
    "/tenants/{tenant_id}/expunge",  # noqa: FAST003  the key takes it
    tags=["Tenants"],
    operation_id="getTenantExpunge",
    summary="Get how expunging a tenant goes on",
    responses={200: doc.returns("Expunging"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def get_expunging(key: TenantKey, backend: BackendOf) -> Response:
    """The last one that was asked for."""
    return answer(_expunging(await backend.expunger.progress(key)))


def _expunging(job: Expunging) -> dict[str, Any]:
    return {
        "tenant_id": id_of(job.tenant_id),
        "status": "running" if job.finished_at is None else "completed",
        "events": job.events,
        "requested_at": times.render(job.requested_at),
        "finished_at": None if job.finished_at is None else times.render(job.finished_at),
    }
