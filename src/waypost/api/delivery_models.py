"""The shapes of deliveries on the wire, for the API's description; see `models`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from waypost.api.models import DeliveryOfEvent, Pagination


class Delivery(DeliveryOfEvent):
    """One event on its way to one destination."""

    tenant_id: Annotated[str, Field(description="Whose event it is.", examples=["acme"])]
    event_id: Annotated[str, Field(description="The event.", examples=["evt_01h2xcejqtf2n"])]
    topic: Annotated[str, Field(description="The event's topic.", examples=["order.shipped"])]
    accepted_at: Annotated[
        datetime, Field(description="When the event was accepted.", examples=["2024-01-01T00:00:00Z"])
    ]
    retries: Annotated[int, Field(description="Automatic retries that it has spent.", examples=[2])]
    manual: Annotated[bool, Field(description="Whether somebody asked for the attempt that it waits for.")]


class DeliveryPage(BaseModel):
    models: list[Delivery]
    pagination: Pagination
    count: Annotated[
        int | None,
        Field(
            description="How many there are on all pages, up to 10,000; null where counting takes long.", examples=[7]
        ),
    ]


ANSWERS: tuple[type[BaseModel], ...] = (Delivery, DeliveryPage)
