"""Attempts: each try to hand an event to a destination."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from msgspec import structs
from starlette.responses import PlainTextResponse, Response

from waypost.api import describe as doc
from waypost.api import pages, render
from waypost.api.answers import answer, plain
from waypost.api.auth import BackendOf, Caller, Scope, TenantScope
from waypost.api.backend import Backend
from waypost.api.destinations import DestinationId
from waypost.api.paths import DECODED
from waypost.api.query import Query, QueryOf
from waypost.api.view import one_tenant_in_view, tenants_in_view, view_of
from waypost.core import curl, ids
from waypost.core.errors import NotFound
from waypost.flow.access import Identity
from waypost.store.base import AttemptQuery, Page, Range, StoredAttempt

STATUSES = ("success", "failed")

AttemptId = Annotated[str, DECODED, Path(description="The attempt's id.", examples=["atm_01h2xcejqtf2n"])]

router = APIRouter()

_PAGE: doc.Responses = {200: doc.returns("AttemptPage")}
_ONE: doc.Responses = {200: doc.returns("Attempt")}
_COMMAND: doc.Responses = {
    200: {"description": "The command.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_INCLUDES = (*render.INCLUDES, "causes")
_INCLUDE = doc.array(
    "include",
    "What to show beside each attempt: `event`, `event.data` (the event with its payload), `response_data`, "
    "`request_data`, `destination`; to an API key also `causes`, the exceptions behind a failure.",
    _INCLUDES,
)
OUTCOMES = (
    doc.text("status", "Only attempts that came out so.", enum=list(STATUSES)),
    doc.array("code", "Only attempts with one of these codes, or classes of them: `404`, `4xx`, `timeout`."),
    doc.bounds("status_code", "Only attempts whose code is a number within these bounds:"),
    doc.bounds("latency_ms", "Only attempts that took so long:"),
    doc.text("manual", "Only attempts that somebody asked for, or only the others.", enum=["true", "false"]),
)
"""What narrows attempts by how they came out."""
TYPE = doc.array("destination_type", "Only attempts to reach destinations of these types.")
_NARROWING = [
    doc.array("event_id", "Only attempts to deliver these events."),
    doc.array("topic", "Only attempts to deliver events of these topics."),
    *OUTCOMES,
    doc.TIME,
    _INCLUDE,
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
        TYPE,
        *_NARROWING,
    ),
)
async def list_attempts(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Attempts, newest first. A tenant's token sees its own; an API key sees all tenants'."""
    conditions = structs.replace(
        conditions_of(query),
        tenant_ids=tenants_in_view(caller, query, backend),
        destination_ids=query.many("destination_id"),
    )
    return await _page(conditions, _include(query, view_of(caller)), query, backend)


@router.get(
    "/attempts/{attempt_id}",
    tags=["Attempts"],
    operation_id="getAttempt",
    summary="Get an attempt",
    responses={**_ONE, **doc.errors(404, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE, doc.text("tenant_id", "Whose attempt it has to be. Ignored with a token."), _INCLUDE
    ),
)
async def get_attempt(attempt_id: AttemptId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """One attempt, with as much beside it as `include` asks for."""
    found = await _one(attempt_id, _of_tenant(caller, query, backend), backend)
    return await _answer(found, _include(query, view_of(caller)), backend)


@router.get(
    "/attempts/{attempt_id}/curl",
    tags=["Attempts"],
    operation_id="getAttemptCurl",
    summary="Repeat an attempt with curl",
    response_class=PlainTextResponse,
    responses={**_COMMAND, **doc.errors(404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, doc.text("tenant_id", "Whose attempt it has to be. Ignored with a token.")),
)
async def get_attempt_curl(attempt_id: AttemptId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """A command line that sends the same request: headers as they were sent, body from the event.

    Headers that are masked on record have to be filled in; the signature is the one that was sent, with its time. Only
    webhooks and their like have such a request.
    """
    return _curl(await _one(attempt_id, _of_tenant(caller, query, backend), backend))


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
    conditions = structs.replace(conditions_of(query), tenant_ids=(scope.tenant_id,), destination_ids=(destination_id,))
    return await _page(conditions, _include(query, _asking(scope)), query, backend)


@router.get(
    "/tenants/{tenant_id}/destinations/{destination_id}/attempts/{attempt_id}",  # noqa: FAST003  as above
    tags=["Destinations"],
    operation_id="getTenantDestinationAttempt",
    summary="Get a destination's attempt",
    responses={**_ONE, **doc.errors(403, 404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, _INCLUDE),
)
async def get_destination_attempt(
    scope: TenantScope, destination_id: DestinationId, attempt_id: AttemptId, query: QueryOf, backend: BackendOf
) -> Response:
    """One attempt to reach one destination."""
    conditions = AttemptQuery(tenant_ids=(scope.tenant_id,), destination_ids=(destination_id,))
    return await _answer(await _one(attempt_id, conditions, backend), _include(query, _asking(scope)), backend)


@router.get(
    "/tenants/{tenant_id}/destinations/{destination_id}/attempts/{attempt_id}/curl",  # noqa: FAST003  as above
    tags=["Destinations"],
    operation_id="getTenantDestinationAttemptCurl",
    summary="Repeat a destination's attempt with curl",
    response_class=PlainTextResponse,
    responses={**_COMMAND, **doc.errors(403, 404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_destination_attempt_curl(
    scope: TenantScope, destination_id: DestinationId, attempt_id: AttemptId, backend: BackendOf
) -> Response:
    """The same as of any attempt."""
    conditions = AttemptQuery(tenant_ids=(scope.tenant_id,), destination_ids=(destination_id,))
    return _curl(await _one(attempt_id, conditions, backend))


def conditions_of(query: Query) -> AttemptQuery:
    """What a request says of attempts, but for tenants and destinations."""
    status = query.choice("status", STATUSES)
    return AttemptQuery(
        event_ids=query.many("event_id"),
        topics=query.many("topic"),
        destination_types=query.many("destination_type"),
        codes=query.many("code"),
        status_code=query.bounds("status_code"),
        latency=_microseconds(query.bounds("latency_ms")),
        manual={None: None, "true": True, "false": False}[query.choice("manual", ("true", "false"))],
        ok=None if status is None else status == "success",
        time=query.time("time"),
    )


def _microseconds(shown: Range) -> Range:
    """The bounds on what is shown, in whole milliseconds, as bounds on what is kept."""
    least = [bound * 1_000 for bound in (shown.gte, None if shown.gt is None else shown.gt + 1) if bound is not None]
    below = [bound * 1_000 for bound in (shown.lt, None if shown.lte is None else shown.lte + 1) if bound is not None]
    return Range(gte=max(least, default=None), lt=min(below, default=None))


def _of_tenant(caller: Identity, query: Query, backend: Backend) -> AttemptQuery:
    tenant_id = one_tenant_in_view(caller, query, backend)
    return AttemptQuery(tenant_ids=() if tenant_id is None else (tenant_id,))


def _asking(scope: Scope) -> str | None:
    """The tenant that is asking; None for the operator."""
    return scope.tenant_id if scope.actor.kind == "tenant" else None


def _include(query: Query, tenant_id: str | None) -> frozenset[str]:
    """What to show beside an attempt. The exceptions behind a failure are not for tenants."""
    wanted = frozenset(query.choices("include", _INCLUDES))
    return wanted if tenant_id is None else wanted - {"causes"}


async def _page(conditions: AttemptQuery, include: Collection[str], query: Query, backend: Backend) -> Response:
    page = pages.ATTEMPTS.page(query)
    part = await backend.store.attempts(conditions, page)
    return answer(pages.ATTEMPTS.render(page, part, await _models(part.items, include, backend)))


async def _answer(found: StoredAttempt, include: Collection[str], backend: Backend) -> Response:
    return answer((await _models([found], include, backend))[0])


async def _models(
    attempts: Sequence[StoredAttempt], include: Collection[str], backend: Backend
) -> list[dict[str, Any]]:
    asks = await backend.store.replays.asks([item.attempt for item in attempts])
    models = [render.attempt(item, include, backend.registry, asks.get(item.attempt.seq)) for item in attempts]
    if "causes" in include:
        for item, model in zip(attempts, models, strict=True):
            model["causes"] = item.attempt.causes
    return models


def _curl(found: StoredAttempt) -> Response:
    request, data = found.attempt.request, found.event.data
    if request is None or not curl.is_repeatable(request, data):
        raise NotFound("this attempt has no HTTP request on record that curl could repeat")
    return plain(curl.command(request, data) + "\n")


async def _one(attempt_id: str, conditions: AttemptQuery, backend: Backend) -> StoredAttempt:
    seq = ids.decode(render.ATTEMPT_PREFIX, attempt_id)
    if seq is None:
        raise NotFound("attempt not found")
    found = await backend.store.attempts(structs.replace(conditions, ids=(seq,)), Page(limit=1))
    if not found.items:
        raise NotFound("attempt not found")
    return found.items[0]
