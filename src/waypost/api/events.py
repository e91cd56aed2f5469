"""Events: what was published, and where it went."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages, render
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller
from waypost.api.query import QueryOf
from waypost.api.view import one_tenant_in_view, tenants_in_view
from waypost.core.errors import NotFound
from waypost.store.base import EventQuery

EventId = Annotated[str, Path(description="The event's id.", examples=["evt_01h2xcejqtf2n"])]

router = APIRouter(prefix="/events", tags=["Events"])


@router.get(
    "",
    operation_id="listEvents",
    summary="List events",
    responses={200: doc.returns("EventPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("id", "Only these events."),
        doc.array("tenant_id", "Only events of these tenants. Ignored with a token."),
        doc.array("destination_id", "Only events that were routed to one of these destinations."),
        doc.array("topic", "Only events of these topics."),
        doc.TIME,
        *doc.paging("time", pages.EVENTS.default_limit, pages.EVENTS.largest_limit),
    ),
)
async def list_events(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Events, newest first. A tenant's token sees its own; an API key sees all tenants'."""
    page = pages.EVENTS.page(query)
    conditions = EventQuery(
        ids=query.many("id"),
        tenant_ids=tenants_in_view(caller, query),
        destination_ids=query.many("destination_id"),
        topics=query.many("topic"),
        time=query.time("time"),
    )
    part = await backend.store.events(conditions, page)
    return answer(pages.EVENTS.render(page, part, [render.event(item) for item in part.items]))


@router.get(
    "/{event_id}",
    operation_id="getEvent",
    summary="Get an event",
    responses={200: doc.returns("EventWithSkips"), **doc.errors(404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, doc.text("tenant_id", "Whose event it has to be. Ignored with a token.")),
)
async def get_event(event_id: EventId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """One event, with the destinations that did not get it and why. Ids are unique within a tenant only."""
    found = await backend.store.event(event_id, tenant_id=one_tenant_in_view(caller, query))
    if found is None:
        raise NotFound("event not found")
    return answer(render.event_with_skips(found))
