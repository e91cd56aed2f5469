"""Tenants: the platform's customers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages, render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, TenantId, TenantKey, TenantScope
from waypost.api.backend import Backend
from waypost.api.body import Body, OptionalBody
from waypost.api.query import Query, QueryOf, wrong
from waypost.core import times
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import Invalid
from waypost.core.incarnations import id_of
from waypost.core.model import Actor
from waypost.flow.access import RIGHTS_OF_A_TOKEN, NewToken

THEMES = ("light", "dark")
_REVOCATION = ("id", "token", "all")
_OF_A_TOKEN = (
    doc.text("lifetime", "For how many seconds the token is valid. As long as the settings say, when left out."),
    doc.array("rights", "What the token allows; everything, when left out.", RIGHTS_OF_A_TOKEN),
)

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
    own = id_of(caller.tenant_id)
    if own is not None:
        if ids and own not in ids:
            return answer(pages.TENANTS.render(page, pages.NOTHING, []) | {"count": 0})
        ids = (own,)
    part, count = await backend.manager.tenants(page, ids=ids)
    return answer(pages.TENANTS.render(page, part, [render.tenant(item) for item in part.items]) | {"count": count})


@router.put(
    "/{tenant_id}",
    operation_id="upsertTenant",
    summary="Create or update a tenant",
    responses={
        200: doc.returns("Tenant", "It was there; its metadata is replaced."),
        201: doc.returns("Tenant", "It is new."),
        **doc.errors(403, 404, 413, 422),
    },
    openapi_extra=doc.operation(doc.ADMIN, body="TenantUpsert", body_required=False),
)
async def put_tenant(
    tenant_id: TenantId, _: TenantKey, actor: ActorOf, body: OptionalBody, backend: BackendOf
) -> Response:
    """Idempotent. The metadata is replaced as a whole: a request without it clears it.

    An id may be used again after its tenant was deleted: the new tenant has nothing of the old one.
    """
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
    "/{tenant_id}",  # noqa: FAST003  the key takes it
    operation_id="deleteTenant",
    summary="Delete a tenant",
    responses={200: doc.returns("Success"), **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ADMIN),
)
async def delete_tenant(key: TenantKey, actor: ActorOf, backend: BackendOf) -> Response:
    """The tenant and its destinations; what was still to be delivered is cancelled. Events stay on record.

    Its tokens, and the API keys that were for it alone, are worthless at once.
    """
    await backend.manager.delete_tenant(key, by=actor)
    return answer({"success": True})


@router.get(
    "/{tenant_id}/token",  # noqa: FAST003  the key takes it
    operation_id="getTenantToken",
    summary="Get a token for a tenant",
    responses={200: doc.returns("TenantToken"), **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ADMIN, *_OF_A_TOKEN),
)
async def get_token(key: TenantKey, actor: ActorOf, query: QueryOf, backend: BackendOf) -> Response:
    """A bearer token with which a browser may call the API for this one tenant. It can be revoked by its `id`."""
    new = await _hand_out(key, actor, query, backend)
    return answer({"token": new.token, "tenant_id": id_of(key), **_shown(new)})


async def _hand_out(key: str, actor: Actor, query: Query, backend: Backend) -> NewToken:
    lifetime, rights = query.one("lifetime"), query.choices("rights", RIGHTS_OF_A_TOKEN)
    if lifetime is not None and not re.fullmatch("[0-9]{1,10}", lifetime):
        raise wrong("lifetime", "must be a whole number of seconds")
    return await backend.access.hand_out(
        key, rights=rights or RIGHTS_OF_A_TOKEN, lifetime=None if lifetime is None else int(lifetime), by=actor
    )


def _shown(new: NewToken) -> dict[str, Any]:
    return {"id": new.id, "rights": new.rights, "expires_at": times.render(new.expires_at)}


@router.post(
    "/{tenant_id}/tokens/revoke",  # noqa: FAST003  the key takes it
    operation_id="revokeTenantTokens",
    summary="Revoke a tenant's tokens",
    responses={200: doc.returns("Success"), **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ADMIN, body="TokenRevocation"),
)
async def revoke_tokens(key: TenantKey, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """One token, by its `id` (the claim `jti`) or by the `token` itself, or with `all` those made up to now.

    They are worthless at once, and streams opened with them end.
    """
    sent = json_object(body)
    problems = strangers(sent, _REVOCATION, "a revocation")
    if not problems and len(sent) != 1:
        problems = [f"exactly one of {', '.join(_REVOCATION)} is required"]
    problems += [f"{name} must be text" for name in ("id", "token") if not isinstance(sent.get(name, ""), str)]
    if sent.get("all", True) is not True:
        problems.append("all must be true")
    if problems:
        raise Invalid(problems)
    await backend.manager.tenant(key)
    if "id" in sent:
        await backend.access.revoke(key, sent["id"], by=actor)
    elif "token" in sent:
        await backend.access.revoke_text(key, sent["token"], by=actor)
    else:
        await backend.access.revoke_all(key, by=actor)
    return answer({"success": True})


@router.get(
    "/{tenant_id}/portal",  # noqa: FAST003  the key takes it
    operation_id="getTenantPortalUrl",
    summary="Get a link to the tenant's portal",
    responses={200: doc.returns("PortalLink"), **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ADMIN, doc.text("theme", "How the portal looks.", enum=list(THEMES)), *_OF_A_TOKEN),
)
async def get_portal(key: TenantKey, actor: ActorOf, query: QueryOf, request: Request, backend: BackendOf) -> Response:
    """Send the tenant's browser to this URL. The token stands in the fragment, which no server log sees."""
    theme = query.choice("theme", THEMES)
    tenant_id, new = id_of(key), await _hand_out(key, actor, query, backend)
    base = (backend.settings.public_url or _own_url(request)).rstrip("/")
    path = f"{base}/portal/{quote(tenant_id, safe='')}" + (f"?theme={theme}" if theme else "")
    return answer({"redirect_url": f"{path}#token={new.token}", "tenant_id": tenant_id, **_shown(new)})


def _own_url(request: Request) -> str:
    """The address that the request arrived at. What the client says of it (`Host`) is not believed."""
    host, port = request.scope["server"]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}" if port else f"http://{name}"
