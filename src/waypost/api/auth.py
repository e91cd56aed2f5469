"""Who may call a route: dependencies that turn the Authorization header into what the caller may see."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from msgspec import Struct

from waypost.api.backend import Backend
from waypost.api.paths import DECODED
from waypost.core.errors import Forbidden, NotFound, Unauthorized
from waypost.core.model import Actor, TenantSummary
from waypost.flow.access import Admin, Identity, TenantUser, actor_of
from waypost.flow.draft import ID_PATTERN

TenantId = Annotated[
    str,
    DECODED,
    Path(description="The tenant's id.", examples=["acme"], json_schema_extra={"pattern": f"^{ID_PATTERN}$"}),
]


class Scope(Struct, frozen=True):
    """One tenant that the caller may act for, and who the caller is."""

    tenant: TenantSummary
    actor: Actor

    @property
    def tenant_id(self) -> str:
        return self.tenant.tenant.id


async def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


BackendOf = Annotated[Backend, Depends(_backend)]


async def _identity(request: Request, backend: BackendOf) -> Identity:
    header = request.headers.get("authorization")
    return backend.access.identify(None if header is None else header.encode("latin-1"))


_Identity = Annotated[Identity, Depends(_identity)]


async def _operator(identity: _Identity) -> Admin:
    if isinstance(identity, TenantUser):
        raise Forbidden("this needs an API key; a tenant's token is not enough")
    return identity


async def _caller(identity: _Identity, backend: BackendOf) -> Identity:
    if isinstance(identity, TenantUser) and await backend.store.tenant(identity.tenant_id) is None:
        raise Unauthorized("the token's tenant does not exist")
    return identity


async def _actor(identity: _Identity, request: Request) -> Actor:
    return actor_of(identity, request.client.host if request.client else None)


ActorOf = Annotated[Actor, Depends(_actor)]
"""Who is calling, for the audit log."""


async def _scope(tenant_id: TenantId, identity: _Identity, actor: ActorOf, backend: BackendOf) -> Scope:
    by_tenant = isinstance(identity, TenantUser)
    if isinstance(identity, TenantUser) and identity.tenant_id != tenant_id:
        raise Forbidden("the token is for another tenant")
    tenant = await backend.store.tenant(tenant_id)
    if tenant is None:
        raise Unauthorized("the token's tenant does not exist") if by_tenant else NotFound("tenant not found")
    return Scope(tenant, actor)


Operator = Annotated[Admin, Depends(_operator)]
"""An API key and nothing less."""

Caller = Annotated[Identity, Depends(_caller)]
"""An API key, or the token of a living tenant."""

TenantScope = Annotated[Scope, Depends(_scope)]
"""An API key with a known tenant in the path, or the token of that tenant."""
