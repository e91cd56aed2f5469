"""The shapes of replays, for the API's description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from waypost.api.alert_models import AuditActor
from waypost.api.models import Pagination
from waypost.core.replaying import LEFT_OUT

Json = dict[str, Any]


def _eg(description: str, example: Any) -> Any:
    return Field(description=description, examples=[example])


_EVENTS = "Which events, in the words of `GET /events`: a value, a list of them, or an object for what has brackets."
_FILTER: Json = {"topic": ["order.created"], "time": {"gte": "2024-01-01T00:00:00Z"}}
_MISSED = "Also what the destination never got, if its topics and filter let it pass as they are now."
_SKIPPED = f"Deliveries left out, by reason: {', '.join(f'`{reason}`' for reason in LEFT_OUT)}."


class ReplayCreate(BaseModel):
    """At least `events` or `destination_id` is needed."""

    tenant_id: Annotated[
        str, Field(default="", description="Only this tenant's events. Ignored with a token.", examples=["acme"])
    ]
    destination_id: Annotated[
        str, Field(default="", description="To this destination alone; else to all they went to.", examples=["des_1"])
    ]
    events: Annotated[Json, Field(default_factory=dict, description=_EVENTS, examples=[_FILTER])]
    missed: Annotated[bool, Field(default=False, description=f"{_MISSED} Needs `destination_id`.")]
    dry_run: Annotated[bool, Field(default=False, description="Send nothing, only say what it would come to.")]


class _Numbers(BaseModel):
    selected: Annotated[int, _eg("Events that the filter selects.", 50_000)]
    examined: Annotated[int, _eg("How many of them have been looked at.", 50_000)]
    total: Annotated[int, _eg("Deliveries of these to be made again.", 49_990)]
    skipped: Annotated[dict[str, int], _eg(_SKIPPED, {"disabled": 10})]


class ReplayPreview(_Numbers):
    """What a replay would come to."""

    dry_run: Literal[True]
    complete: Annotated[bool, Field(description="Whether there was time to look at all selected events.")]
    remaining_this_hour: Annotated[
        int | None, _eg("Events that the tenant may still send again within this hour; null with an API key.", 100_000)
    ]


class Replay(_Numbers):
    """Many deliveries made again."""

    id: Annotated[str, _eg("The replay's id.", "rpl_01h2xcejqtf2n")]
    status: Literal["running", "cancelling", "completed", "cancelled"]
    tenant_id: Annotated[str | None, _eg("Whose events; null for several tenants'.", "acme")]
    destination_id: Annotated[str | None, _eg("The only destination; null for all that the events went to.", "des_1")]
    events: Annotated[Json, _eg("Which events, as it was asked for.", _FILTER)]
    missed: Annotated[bool, Field(description=_MISSED)]
    delivered: Annotated[int, _eg("Deliveries whose manual attempt succeeded.", 40_000)]
    failed: Annotated[int, _eg("Deliveries whose manual attempt failed; their usual retries go on.", 12)]
    waiting: Annotated[int, _eg("Deliveries whose manual attempt is still to be made.", 9_978)]
    initiated_by: Annotated[AuditActor, Field(description="Who began it.")]
    created_at: datetime
    ended_at: datetime | None


class ReplayPage(BaseModel):
    models: list[Replay]
    pagination: Pagination


class ReplayedDelivery(BaseModel):
    """One delivery of a replay."""

    event_id: str
    tenant_id: str
    destination_id: str
    result: Annotated[
        Literal["waiting", "success", "failed"], Field(description="What came of the replay's manual attempt.")
    ]
    delivery_state: Annotated[
        Literal["pending", "delivered", "exhausted", "cancelled", "disabled"] | None,
        Field(description="How the delivery stands now; `pending` when retries go on. Null when it is gone."),
    ]


class ReplayedDeliveryPage(BaseModel):
    models: list[ReplayedDelivery]
    pagination: Pagination


BODIES: tuple[type[BaseModel], ...] = (ReplayCreate,)
ANSWERS: tuple[type[BaseModel], ...] = (ReplayPreview, Replay, ReplayPage, ReplayedDeliveryPage)
