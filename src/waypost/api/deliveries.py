"""Deliveries: one event on its way to one destination."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages
from waypost.api import render_deliveries as render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, CallerToReplay
from waypost.api.paths import DECODED
from waypost.api.query import QueryOf
from waypost.api.view import tenants_in_view, view_of
from waypost.core import ids
from waypost.core.errors import NotFound
from waypost.core.status import Status
from waypost.flow.deliveries import DELIVERY_PREFIX
from waypost.store.deliveries import DeliveryQuery

DeliveryId = Annotated[str, DECODED, Path(description="The delivery's id.", examples=["dlv_01h2xcejqtf2n4z"])]

router = APIRouter(prefix="/deliveries", tags=["Deliveries"])

STATUSES = tuple(status for status in Status if status is not Status.SKIPPED)
MOST_COUNTED = 10_000

_ONE = doc.returns("Delivery", "The delivery.")


@router.get(
    "",
    operation_id="listDeliveries",
    summary="List deliveries",
    responses={200: doc.returns("DeliveryPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("tenant_id", "Only deliveries of these tenants' events. Ignored with a token."),
        doc.array("destination_id", "Only deliveries to these destinations."),
        doc.array("event_id", "Only deliveries of these events."),
        doc.array("status", "Only deliveries in this status.", STATUSES),
        doc.times("time", "Only deliveries of events that were accepted then."),
        doc.times("due", "Only deliveries that wait and are due then; while a worker has one, the end of its time."),
        *doc.paging("accepted_at", pages.DELIVERIES.default_limit, pages.DELIVERIES.largest_limit),
    ),
)
async def list_deliveries(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Deliveries, those of the newest events first. A tenant's token sees its own; an API key sees all tenants'.

    `count` is how many there are on all pages, up to 10,000. It is null where counting takes long: unless events are
    named, or every status that is asked for is another than `delivered`.
    """
    page = pages.DELIVERIES.page(query)
    conditions = DeliveryQuery(
        tenant_ids=tenants_in_view(caller, query, backend),
        destination_ids=query.many("destination_id"),
        event_ids=query.many("event_id"),
        statuses=tuple(map(Status, query.choices("status", STATUSES))),
        time=query.time("time"),
        due=query.time("due"),
    )
    part = await backend.store.deliveries.list(conditions, page)
    count = await backend.store.deliveries.count(conditions, limit=MOST_COUNTED)
    return answer(pages.DELIVERIES.render(page, part, list(map(render.delivery, part.items))) | {"count": count})


@router.get(
    "/{delivery_id}",
    operation_id="getDelivery",
    summary="Get a delivery",
    responses={200: _ONE, **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_delivery(delivery_id: DeliveryId, caller: Caller, backend: BackendOf) -> Response:
    """One delivery: how it stands, when it is due, and how often it was tried."""
    found = await backend.store.deliveries.one(*_numbers(delivery_id), tenant_id=view_of(caller))
    if found is None:
        raise NotFound("delivery not found")
    return answer(render.delivery(found))


@router.post(
    "/{delivery_id}/cancel",
    operation_id="cancelDelivery",
    summary="Cancel a delivery",
    responses={200: _ONE, **doc.errors(404, 409)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def cancel_delivery(
    delivery_id: DeliveryId, caller: CallerToReplay, actor: ActorOf, backend: BackendOf
) -> Response:
    """It is not tried any more, unless somebody asks for it. An attempt that is under way may still arrive.

    One that is cancelled already stays so; one that was delivered or has failed for good is refused.
    """
    cancelled = await backend.cancel(*_numbers(delivery_id), view_of(caller), by=actor)
    return answer(render.delivery(cancelled))


def _numbers(delivery_id: str) -> tuple[int, int]:
    numbers = ids.decode_pair(DELIVERY_PREFIX, delivery_id)
    if numbers is None:
        raise NotFound("delivery not found")
    return numbers
