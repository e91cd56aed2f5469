"""Who may call a route: dependencies that turn the Authorization header into what the caller may see and do.

A route names the right that it needs by the dependency that it takes; `RIGHT_OF` knows them, for the test that looks at
all routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from msgspec import Struct

from waypost.api.backend import Backend
from waypost.api.costs import COSTS
from waypost.api.paths import DECODED
from waypost.core.errors import Forbidden, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import Actor, TenantSummary
from waypost.flow.access import MANAGE, OPERATE, REPLAY, VIEW, Identity, TenantUser, actor_of, require
from waypost.flow.draft import ID_PATTERN

TenantId = Annotated[
    str,
    DECODED,
    Path(description="The tenant's id.", examples=["acme"], json_schema_extra={"pattern": f"^{ID_PATTERN}$"}),
]

RIGHT_OF: dict[Callable[..., Any], str] = {}
"""The right that each dependency asks for."""


class Scope(Struct, frozen=True):
    """One tenant that the caller may act for, and who the caller is."""

    tenant: TenantSummary
    actor: Actor

    @property
    def tenant_id(self) -> str:
        return self.tenant.tenant.key


async def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


BackendOf = Annotated[Backend, Depends(_backend)]


async def _identity(request: Request, backend: BackendOf) -> Identity:
    header = request.headers.get("authorization")
    return backend.access.identify(None if header is None else header.encode("latin-1"))


_Identity = Annotated[Identity, Depends(_identity)]


async def _place(identity: _Identity, request: Request, backend: BackendOf) -> AsyncIterator[None]:
    """A tenant's share of the server, until the request is answered. Raises TooMany; API keys have no such bound."""
    if isinstance(identity, TenantUser):
        with backend.quotas.taken(identity.tenant_id, COSTS[request.scope["route"].operation_id]):
            yield
    else:
        yield


_Place = Annotated[None, Depends(_place)]


async def _actor(identity: _Identity, request: Request) -> Actor:
    return actor_of(identity, request.client.host if request.client else None)


ActorOf = Annotated[Actor, Depends(_actor)]
"""Who is calling, for the audit log."""


def _caller(right: str) -> Callable[..., Awaitable[Identity]]:
    async def caller(identity: _Identity, _: _Place, backend: BackendOf) -> Identity:
        require(identity, right)
        if isinstance(identity, TenantUser):
            await backend.access.summary(identity)
        return identity

    RIGHT_OF[caller] = right
    return caller


def _scope(right: str) -> Callable[..., Awaitable[Scope]]:
    async def scope(tenant_id: TenantId, identity: _Identity, _: _Place, actor: ActorOf, backend: BackendOf) -> Scope:
        require(identity, right)
        key = backend.store.key_of(tenant_id)
        if isinstance(identity, TenantUser):
            if id_of(identity.tenant_id) != id_of(key):
                raise Forbidden("the token is for another tenant")
            return Scope(await backend.access.summary(identity), actor)
        _refuse_others(identity, key)
        tenant = await backend.store.tenant(key)
        if tenant is None:
            raise NotFound("tenant not found")
        return Scope(tenant, actor)

    RIGHT_OF[scope] = right
    return scope


async def _operator(identity: _Identity) -> Identity:
    require(identity, OPERATE)
    if identity.tenant_id is not None:
        raise Forbidden("this API key is for one tenant only; this needs one that is for all")
    return identity


async def _operated(tenant_id: TenantId, identity: _Identity, backend: BackendOf) -> str:
    require(identity, OPERATE)
    key = backend.store.key_of(tenant_id)
    _refuse_others(identity, key)
    return key


RIGHT_OF |= {_operator: OPERATE, _operated: OPERATE}


def _refuse_others(identity: Identity, tenant_id: str) -> None:
    if identity.tenant_id not in {None, tenant_id}:
        raise Forbidden("the API key is for another tenant")


Operator = Annotated[Identity, Depends(_operator)]
"""An API key for everything, and nothing less."""

TenantKey = Annotated[str, Depends(_operated)]
"""The key of the tenant in the path, known or not, for an API key that may do everything to it."""

Caller = Annotated[Identity, Depends(_caller(VIEW))]
"""An API key, or the token of a living tenant, that may look."""

CallerToManage = Annotated[Identity, Depends(_caller(MANAGE))]
"""The same that may change things."""

CallerToReplay = Annotated[Identity, Depends(_caller(REPLAY))]
"""The same that may have events sent again, or not at all."""

TenantScope = Annotated[Scope, Depends(_scope(VIEW))]
"""An API key with a known tenant in the path, or the token of that tenant, that may look."""

ScopeToManage = Annotated[Scope, Depends(_scope(MANAGE))]
"""The same that may change things."""

ScopeToReplay = Annotated[Scope, Depends(_scope(REPLAY))]
"""The same that may have events sent again."""
