"""The shapes of lifetimes and of removals on the wire, for the API's description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from waypost.core.retention import LONGEST

_Own = Annotated[int | None, Field(ge=0, le=LONGEST)]


class TenantLifetimes(BaseModel):
    """How long a tenant's things are kept, in seconds: 0 is for ever, null as long as the server keeps them."""

    events_seconds: _Own = Field(default=None, description="Events, with all about them.", examples=[604_800])
    attempts_seconds: _Own = Field(default=None, description="Attempts; no longer than their events.")
    data_seconds: _Own = Field(
        default=None, description="What events hold, and what was sent and answered; no longer than the events."
    )


class EffectiveLifetimes(BaseModel):
    """What holds for a tenant, in seconds; 0 is for ever."""

    events_seconds: int
    attempts_seconds: int
    data_seconds: int


class TenantRetention(TenantLifetimes):
    effective: Annotated[EffectiveLifetimes, Field(description="What holds, with the server's own lifetimes.")]


class Expunging(BaseModel):
    """The removal of all data of a tenant."""

    tenant_id: Annotated[str, Field(description="Whose data.", examples=["acme"])]
    status: Annotated[Literal["running", "completed"], Field(description="How it stands.")]
    events: Annotated[int, Field(description="How many events had data, which is gone.", examples=[1_234])]
    requested_at: Annotated[datetime, Field(description="What was accepted until then is removed.")]
    finished_at: Annotated[datetime | None, Field(description="When it was done.")]


BODIES: tuple[type[BaseModel], ...] = (TenantLifetimes,)
ANSWERS: tuple[type[BaseModel], ...] = (TenantRetention, Expunging)
