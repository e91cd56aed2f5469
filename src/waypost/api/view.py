"""Whose records a caller sees: a tenant its own, whatever it asks for; the operator everybody's, or those named."""

from __future__ import annotations

from waypost.api.backend import Backend
from waypost.api.query import Query
from waypost.flow.access import Identity


def view_of(caller: Identity) -> str | None:
    """The tenant that is asking; None for the operator."""
    return caller.tenant_id


def tenants_in_view(caller: Identity, query: Query, backend: Backend) -> tuple[str, ...]:
    """The tenants to look in; empty for all of them."""
    if caller.tenant_id is not None:
        return (caller.tenant_id,)
    return tuple(map(backend.store.key_of, query.many("tenant_id")))


def one_tenant_in_view(caller: Identity, query: Query, backend: Backend) -> str | None:
    """The tenant to look in; None for all of them."""
    named = query.one("tenant_id")
    if caller.tenant_id is not None or named is None:
        return caller.tenant_id
    return backend.store.key_of(named)
