"""Attempts: each try to hand an event to a destination."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from msgspec import structs
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages, render
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller, TenantScope
from waypost.api.backend import Backend
from waypost.api.destinations import DestinationId
from waypost.api.query import Query, QueryOf
from waypost.api.view import one_tenant_in_view, tenants_in_view
from waypost.core import ids
from waypost.core.errors import NotFound
from waypost.store.base import AttemptQuery, Page

STATUSES = ("success", "failed")

AttemptId = Annotated[str, Path(description="The attempt's id.", examples=["atm_01h2xcejqtf2n"])]

router = APIRouter()

_PAGE: doc.Responses = {200: doc.returns("AttemptPage")}
_ONE: doc.Responses = {200: doc.returns("Attempt")}
_NARROWING = [
    doc.array("event_id", "Only attempts to deliver these events."),
    doc.text("status", "Only attempts that came out so.", enum=list(STATUSES)),
    doc.array("topic", "Only attempts to deliver events of these topics."),
    doc.TIME,
    doc.INCLUDE,
    *doc.paging("time", pages.ATTEMPTS.default_limit, pages.ATTEMPTS.largest_limit),
]


@router.get(
    "/attempts",
    tags=["Attempts"],
    operation_id="listAttempts",
    summary="List attempts",
    responses={**_PAGE, **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("tenant_id", "Only attempts for these tenants. Ignored with a token."),
        doc.array("destination_id", "Only attempts to reach these destinations."),
        doc.array("destination_type", "Only attempts to reach destinations of these types."),
        *_NARROWING,
    ),
)
async def list_attempts(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Attempts, newest first. A tenant's token sees its own; an API key sees all tenants'."""
    conditions = structs.replace(
        _conditions(query),
        tenant_ids=tenants_in_view(caller, query),
        destination_ids=query.many("destination_id"),
        destination_types=query.many("destination_type"),
    )
    return await _page(conditions, query, backend)


@router.get(
    "/attempts/{attempt_id}",
    tags=["Attempts"],
    operation_id="getAttempt",
    summary="Get an attempt",
    responses={**_ONE, **doc.errors(404, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE, doc.text("tenant_id", "Whose attempt it has to be. Ignored with a token."), doc.INCLUDE
    ),
)
async def get_attempt(attempt_id: AttemptId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """One attempt, with as much beside it as `include` asks for."""
    tenant_id = one_tenant_in_view(caller, query)
    return await _one(attempt_id, AttemptQuery(tenant_ids=() if tenant_id is None else (tenant_id,)), query, backend)


@router.get(
    "/tenants/{tenant_id}/destinations/{destination_id}/attempts",  # noqa: FAST003  the scope takes the tenant
    tags=["Destinations"],
    operation_id="listTenantDestinationAttempts",
    summary="List a destination's attempts",
    responses={**_PAGE, **doc.errors(400, 403, 404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, *_NARROWING),
)
async def list_destination_attempts(
    scope: TenantScope, destination_id: DestinationId, query: QueryOf, backend: BackendOf
) -> Response:
    """The attempts to reach one destination, newest first."""
    await backend.manager.destination(scope.tenant_id, destination_id)
    conditions = structs.replace(_conditions(query), tenant_ids=(scope.tenant_id,), destination_ids=(destination_id,))
    return await _page(conditions, query, backend)


@router.get(
    "/tenants/{tenant_id}/destinations/{destination_id}/attempts/{attempt_id}",  # noqa: FAST003  as above
    tags=["Destinations"],
    operation_id="getTenantDestinationAttempt",
    summary="Get a destination's attempt",
    responses={**_ONE, **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, doc.INCLUDE),
)
async def get_destination_attempt(
    scope: TenantScope, destination_id: DestinationId, attempt_id: AttemptId, query: QueryOf, backend: BackendOf
) -> Response:
    """One attempt to reach one destination."""
    conditions = AttemptQuery(tenant_ids=(scope.tenant_id,), destination_ids=(destination_id,))
    return await _one(attempt_id, conditions, query, backend)


def _conditions(query: Query) -> AttemptQuery:
    status = query.choice("status", STATUSES)
    return AttemptQuery(
        event_ids=query.many("event_id"),
        topics=query.many("topic"),
        ok=None if status is None else status == "success",
        time=query.time("time"),
    )


async def _page(conditions: AttemptQuery, query: Query, backend: Backend) -> Response:
    page, include = pages.ATTEMPTS.page(query), query.choices("include", render.INCLUDES)
    part = await backend.store.attempts(conditions, page)
    models = [render.attempt(item, include, backend.registry) for item in part.items]
    return answer(pages.ATTEMPTS.render(page, part, models))


async def _one(attempt_id: str, conditions: AttemptQuery, query: Query, backend: Backend) -> Response:
    include = query.choices("include", render.INCLUDES)
    seq = ids.decode(render.ATTEMPT_PREFIX, attempt_id)
    if seq is None:
        raise NotFound("attempt not found")
    found = await backend.store.attempts(structs.replace(conditions, ids=(seq,)), Page(limit=1))
    if not found.items:
        raise NotFound("attempt not found")
    return answer(render.attempt(found.items[0], include, backend.registry))
