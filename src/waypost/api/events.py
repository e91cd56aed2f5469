"""Events: what was published, and where it went."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages, render, render_deliveries
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller
from waypost.api.backend import Backend
from waypost.api.paths import DECODED
from waypost.api.query import Query, QueryOf, wrong
from waypost.api.view import one_tenant_in_view, tenants_in_view
from waypost.core import search
from waypost.core.errors import Invalid, NotFound
from waypost.core.routing import REASONS
from waypost.core.search import Search
from waypost.core.status import Status
from waypost.flow.access import Identity
from waypost.store.base import EventQuery, StoredEvent

EventId = Annotated[str, DECODED, Path(description="The event's id.", examples=["evt_01h2xcejqtf2n"])]

router = APIRouter(prefix="/events", tags=["Events"])

CONTENTS = (
    doc.places("metadata", "Only events whose metadata have this value: `metadata[source]=shop`."),
    doc.places(
        "data",
        "Only events with this value at a place of the payload: `data[customer.id]=42`. Lists are looked through. A "
        "number is found however it is written, and so is text that reads the same.",
    ),
    doc.text(
        "q",
        'Only events whose payload has all of these words: `refund`, `"new york"` for a phrase, `refund*` for '
        "the beginning of a word.",
    ),
)
"""What is answered by a search."""
SEARCHED = tuple(str(parameter["name"]) for parameter in CONTENTS)
CONDITIONS = (
    doc.array("id", "Only these events."),
    doc.array("tenant_id", "Only events of these tenants. Ignored with a token."),
    doc.array("destination_id", "Only events that were routed to one of these destinations."),
    doc.array("topic", "Only events of these topics."),
    doc.array(
        "status",
        "Only events with a delivery in this status (to one of `destination_id`, when given). `skipped`: that a "
        "destination did not get; `disabled`: that are kept for a destination that was disabled.",
        tuple(Status),
    ),
    *CONTENTS,
    doc.array("skipped_by", "Only events that one of these destinations did not get."),
    doc.array("skip_reason", "Only events that a destination (of `skipped_by`) did not get for this.", REASONS),
    doc.TIME,
)
"""What narrows a list of events, and what is sent again by a replay."""


@router.get(
    "",
    operation_id="listEvents",
    summary="List events",
    responses={200: doc.returns("EventPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        *CONDITIONS,
        doc.array("include", "What to show beside each event: `deliveries`, those that it has.", ("deliveries",)),
        *doc.paging("time", pages.EVENTS.default_limit, pages.EVENTS.largest_limit, or_by=(pages.FOUND.order_by,)),
    ),
)
async def list_events(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Events, newest first. A tenant's token sees its own; an API key sees all tenants'.

    With `q`, `metadata` or `data` they are sorted by `accepted_at`, and `search` says how far the index has come.
    """
    selected, include = (
        conditions(query, tenants_in_view(caller, query, backend)),
        query.choices("include", ("deliveries",)),
    )
    listing = pages.EVENTS if selected.search is None else pages.FOUND
    page = listing.page(query)
    searched = {} if selected.search is None else {"search": await _progress(query, backend)}
    part = await backend.store.events(selected, page)
    models = [render.event(item) for item in part.items]
    if include:
        deliveries = await backend.store.deliveries.of_events([item.event.seq for item in part.items])
        for item, model in zip(part.items, models, strict=True):
            model["deliveries"] = [render_deliveries.brief(each) for each in deliveries.get(item.event.seq, ())]
    return answer(listing.render(page, part, models) | searched)


async def _progress(query: Query, backend: Backend) -> dict[str, Any]:
    """How far the search index has come. Raises Invalid where there is none."""
    if not backend.settings.search:
        words = {f"query.{word}": "needs the search index, which this server has switched off" for word in SEARCHED}
        raise Invalid({word: rule for word, rule in words.items() if query.has(word.removeprefix("query."))})
    progress = await backend.store.search.progress()
    return {"complete": progress.complete, "indexed_until": render_deliveries.moment(progress.until)}


def conditions(query: Query, tenant_ids: tuple[str, ...]) -> EventQuery:
    """What CONDITIONS say of the events of these tenants; of all, when none is named."""
    return EventQuery(
        ids=query.many("id"),
        tenant_ids=tenant_ids,
        destination_ids=query.many("destination_id"),
        topics=query.many("topic"),
        statuses=tuple(map(Status, query.choices("status", tuple(Status)))),
        skipped_by=query.many("skipped_by"),
        skip_reasons=query.choices("skip_reason", REASONS),
        time=query.time("time"),
        search=search_of(query),
    )


def search_of(query: Query) -> Search | None:
    """What CONTENTS say. Raises BadRequest or Invalid."""
    text, places = query.one("q"), [(root, query.places(root)) for root in ("metadata", "data")]
    facts = [search.at_place(root, place, values) for root, found in places for place, values in found.items()]
    if text is None and not facts:
        return None
    if len(facts) > search.MOST_TERMS:
        raise wrong("data", f"must name at most {search.MOST_TERMS} places, those of metadata included")
    try:
        return Search(phrases=search.phrases(text) if text else (), facts=tuple(facts))
    except ValueError as error:
        raise wrong("q", str(error)) from None


@router.get(
    "/{event_id}",
    operation_id="getEvent",
    summary="Get an event",
    responses={200: doc.returns("EventWithSkips"), **doc.errors(404, 422)},
    openapi_extra=doc.operation(doc.ANYONE, doc.text("tenant_id", "Whose event it has to be. Ignored with a token.")),
)
async def get_event(event_id: EventId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """One event, with the destinations that did not get it and why. Ids are unique within a tenant only."""
    return answer(render.event_with_skips(await _found(event_id, caller, query, backend)))


async def _found(event_id: str, caller: Identity, query: Query, backend: Backend) -> StoredEvent:
    found = await backend.store.event(event_id, tenant_id=one_tenant_in_view(caller, query, backend))
    if found is None:
        raise NotFound("event not found")
    return found


@router.get(
    "/{event_id}/routing",
    operation_id="getEventRouting",
    summary="Get an event's routing",
    responses={
        200: doc.returns_list("RoutedDestination", "The tenant's destinations when the event was published."),
        **doc.errors(404, 422),
    },
    openapi_extra=doc.operation(doc.ANYONE, doc.text("tenant_id", "Whose event it has to be. Ignored with a token.")),
)
async def get_routing(event_id: EventId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Why every destination of the tenant got the event or not, and where its delivery stands now.

    At the end stand destinations that were not there yet, and that somebody had the event sent to afterwards.
    """
    found = await _found(event_id, caller, query, backend)
    return answer(render.routing(found, await backend.store.delivery_states(found.event.seq)))
