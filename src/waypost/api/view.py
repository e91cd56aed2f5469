"""Whose records a caller sees: a tenant its own, whatever it asks for; the operator everybody's, or those named."""

from __future__ import annotations

from waypost.api.query import Query
from waypost.flow.access import Identity, TenantUser


def view_of(caller: Identity) -> str | None:
    """The tenant that is asking; None for the operator."""
    return caller.tenant_id if isinstance(caller, TenantUser) else None


def tenants_in_view(caller: Identity, query: Query) -> tuple[str, ...]:
    """The tenants to look in; empty for all of them."""
    return (caller.tenant_id,) if isinstance(caller, TenantUser) else query.many("tenant_id")


def one_tenant_in_view(caller: Identity, query: Query) -> str | None:
    """The tenant to look in; None for all of them."""
    return caller.tenant_id if isinstance(caller, TenantUser) else query.one("tenant_id")
