"""Tenants: the platform's customers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages, render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, Operator, TenantId, TenantScope
from waypost.api.body import OptionalBody
from waypost.api.query import QueryOf
from waypost.core.bodies import json_object
from waypost.flow.access import TenantUser

THEMES = ("light", "dark")

router = APIRouter(prefix="/tenants", tags=["Tenants"])


@router.get(
    "",
    operation_id="listTenants",
    summary="List tenants",
    responses={200: doc.returns("TenantPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("id", "Only these tenants."),
        *doc.paging("created_at", pages.TENANTS.default_limit, pages.TENANTS.largest_limit),
    ),
)
async def list_tenants(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """All tenants, newest first. A tenant's token sees that tenant only."""
    page, ids = pages.TENANTS.page(query), query.many("id")
    if isinstance(caller, TenantUser):
        if ids and caller.tenant_id not in ids:
            return answer(pages.TENANTS.render(page, pages.NOTHING, []) | {"count": 0})
        ids = (caller.tenant_id,)
    part, count = await backend.manager.tenants(page, ids=ids)
    return answer(pages.TENANTS.render(page, part, [render.tenant(item) for item in part.items]) | {"count": count})


@router.put(
    "/{tenant_id}",
    operation_id="upsertTenant",
    summary="Create or update a tenant",
    responses={
        200: doc.returns("Tenant", "It was there; its metadata is replaced."),
        201: doc.returns("Tenant", "It is new."),
        **doc.errors(403, 413, 422),
    },
    openapi_extra=doc.operation(doc.ADMIN, body="TenantUpsert", body_required=False),
)
async def put_tenant(
    tenant_id: TenantId, _: Operator, actor: ActorOf, body: OptionalBody, backend: BackendOf
) -> Response:
    """Idempotent. The metadata is replaced as a whole: a request without it clears it."""
    summary, created = await backend.manager.put_tenant(tenant_id, _metadata(body), by=actor)
    return answer(render.tenant(summary), 201 if created else 200)


def _metadata(body: Any) -> Any:
    return None if body is None else json_object(body).get("metadata")


@router.get(
    "/{tenant_id}",  # noqa: FAST003  the scope takes it
    operation_id="getTenant",
    summary="Get a tenant",
    responses={200: doc.returns("Tenant"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_tenant(scope: TenantScope) -> Response:
    """One tenant, with what its destinations add up to."""
    return answer(render.tenant(scope.tenant))


@router.delete(
    "/{tenant_id}",
    operation_id="deleteTenant",
    summary="Delete a tenant",
    responses={200: doc.returns("Success"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def delete_tenant(tenant_id: TenantId, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """The tenant and its destinations; what was still to be delivered is cancelled. Events stay on record."""
    await backend.manager.delete_tenant(tenant_id, by=actor)
    return answer({"success": True})


@router.get(
    "/{tenant_id}/token",
    operation_id="getTenantToken",
    summary="Get a token for a tenant",
    responses={200: doc.returns("TenantToken"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def get_token(tenant_id: TenantId, _: Operator, actor: ActorOf, backend: BackendOf) -> Response:
    """A bearer token with which a browser may call the API for this one tenant."""
    await backend.manager.tenant(tenant_id)
    return answer({"token": await backend.access.hand_out(tenant_id, by=actor), "tenant_id": tenant_id})


@router.get(
    "/{tenant_id}/portal",
    operation_id="getTenantPortalUrl",
    summary="Get a link to the tenant's portal",
    responses={200: doc.returns("PortalLink"), **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ADMIN, doc.text("theme", "How the portal looks.", enum=list(THEMES))),
)
async def get_portal(
    tenant_id: TenantId, _: Operator, actor: ActorOf, query: QueryOf, request: Request, backend: BackendOf
) -> Response:
    """Send the tenant's browser to this URL. The token stands in the fragment, which no server log sees."""
    theme = query.choice("theme", THEMES)
    await backend.manager.tenant(tenant_id)
    base = (backend.settings.public_url or _own_url(request)).rstrip("/")
    path = f"{base}/portal/{quote(tenant_id, safe='')}" + (f"?theme={theme}" if theme else "")
    token = await backend.access.hand_out(tenant_id, by=actor)
    return answer({"redirect_url": f"{path}#token={token}", "tenant_id": tenant_id})


def _own_url(request: Request) -> str:
    """The address that the request arrived at. What the client says of it (`Host`) is not believed."""
    host, port = request.scope["server"]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}" if port else f"http://{name}"
