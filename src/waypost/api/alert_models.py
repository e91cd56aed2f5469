"""The shapes of alerts, their rules and channels, and of the audit log, for the API's description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from waypost.api.models import Pagination, TextMap
from waypost.core.alerts import Kind, Severity

Json = dict[str, Any]


def _eg(description: str, example: Any) -> Any:
    return Field(description=description, examples=[example])


_KIND = Field(description="What it watches for.", examples=["consecutive_failures"])
_SEVERITY = Field(description="How bad it is.", examples=["warning"])
_MUTED = Field(default=None, description="Nothing is told till then; alerts are on record all the same.")
_PARAMETERS = _eg("The numbers that its kind has, in seconds where they are times.", {"count": 100, "steps": [50, 100]})


class AlertRule(BaseModel):
    """What is watched for, where, and how it is told."""

    id: Annotated[str, _eg("The rule's id; that of its kind, for a rule of the settings.", "rul_x1")]
    kind: Annotated[Kind, _KIND]
    owner: Annotated[Literal["operator", "tenant"], Field(description="Whose rule it is, and whose channels it tells.")]
    built_in: Annotated[bool, Field(description="Whether it comes from the settings; a stored one takes its place.")]
    tenant_id: Annotated[str | None, _eg("Where it holds; null for all tenants.", "acme")]
    destination_id: Annotated[str | None, _eg("Where it holds; null for all destinations.", "des_1")]
    enabled: bool
    severity: Annotated[Severity, _SEVERITY]
    parameters: Annotated[Json, _PARAMETERS]
    channel_ids: Annotated[list[str] | None, Field(description="The owner's channels to tell; null for all.")]
    muted_until: Annotated[datetime | None, _MUTED]
    created_at: Annotated[datetime | None, Field(description="Null for a rule of the settings.")]
    updated_at: Annotated[datetime | None, Field(description="Null for a rule of the settings.")]


class AlertRuleUpdate(BaseModel):
    enabled: Annotated[bool, Field(default=True)]
    severity: Annotated[Severity, Field(default="warning", description="How bad it is.")]
    parameters: Annotated[
        Json, Field(default_factory=dict, description="Those to be changed.", examples=[{"count": 20}])
    ]
    channel_ids: Annotated[
        list[str] | None, Field(default=None, description="The owner's channels to tell; null for all.")
    ]
    muted_until: Annotated[datetime | None, _MUTED]


class AlertRuleCreate(AlertRuleUpdate):
    kind: Annotated[Kind, _KIND]
    owner: Annotated[
        Literal["operator", "tenant"],
        Field(default="operator", description="Whose rule it is. With a token it is the tenant's."),
    ]
    tenant_id: Annotated[str | None, Field(default=None, description="Where it holds. With a token that tenant.")]
    destination_id: Annotated[str | None, Field(default=None, description="Where it holds.")]


class ChannelState(BaseModel):
    """How a channel is doing."""

    waiting: Annotated[int, _eg("How much is still to be told.", 0)]
    sent_at: Annotated[datetime | None, Field(description="When something last arrived.")]
    failed_at: Annotated[datetime | None, Field(description="When something did not arrive since.")]
    error: Annotated[str | None, Field(description="Why.")]


class AlertChannel(BaseModel):
    """Where alerts go."""

    id: Annotated[str, _eg("The channel's id.", "chn_x1")]
    tenant_id: Annotated[str | None, _eg("Whose channel it is; null for the operator.", "acme")]
    type: Annotated[str, _eg("The kind of channel.", "slack")]
    name: Annotated[str, _eg("What people call it.", "on call")]
    target: Annotated[str, _eg("Where it leads.", "hooks.slack.com")]
    config: TextMap
    credentials: Annotated[TextMap, Field(description="Masked.")]
    topics: Annotated[list[str], _eg("The news that it gets.", ["alert.*"])]
    min_severity: Annotated[Severity, Field(description="Alerts below it are not told.")]
    enabled: bool
    muted_until: Annotated[datetime | None, _MUTED]
    unconfirmed: Annotated[list[str], _eg("Addresses whose owners have not agreed yet: nothing is sent.", [])]
    state: ChannelState
    created_at: datetime
    updated_at: datetime


class AlertChannelUpdate(BaseModel):
    """A merge patch (RFC 7396); a secret sent back masked stays as it is."""

    name: Annotated[str, Field(default="", min_length=1, max_length=100, description="Unique among the owner's.")]
    config: Annotated[Json, Field(default_factory=dict, description="What the type asks for.")]
    credentials: Annotated[Json, Field(default_factory=dict, description="What the type asks for.")]
    topics: Annotated[
        Literal["*"] | list[str],
        Field(default=["alert.*"], description="The news to get: alerts, `attempt.*`, `tenant.subscription.updated`."),
    ]
    min_severity: Annotated[Severity, Field(default="info", description="Alerts below it are not told.")]
    enabled: Annotated[bool, Field(default=True)]
    muted_until: Annotated[datetime | None, _MUTED]


class AlertChannelCreate(AlertChannelUpdate):
    type: Annotated[str, _eg("One of `GET /alert-channel-types`.", "slack")]
    tenant_id: Annotated[
        str | None,
        Field(default=None, description="Whose channel it is; the operator's without. With a token the tenant's."),
    ]


class ChannelConfirmation(BaseModel):
    code: Annotated[
        str, Field(default="", max_length=100, description="What was sent to an address; without it, codes are sent.")
    ]


class ChannelVerdict(BaseModel):
    ok: Annotated[bool, Field(description="Whether the test alert was taken.")]
    code: Annotated[str, Field(default="", description="What is wrong.", examples=["403"])]
    message: Annotated[str, Field(default="", description="The same as a sentence.")]


class Alert(BaseModel):
    """Something that was found to be wrong, or to be well again."""

    id: Annotated[str, _eg("The alert's id.", "alr_01h2xcejqtf2n")]
    time: datetime
    kind: Annotated[Kind, _KIND]
    topic: Annotated[str, _eg("The operator event that tells of it.", "alert.destination.consecutive_failure")]
    severity: Annotated[Severity, _SEVERITY]
    audience: Annotated[Literal["operator", "tenant", "both"], Field(description="Whose channels are told.")]
    rule_id: str
    tenant_id: Annotated[str | None, Field(description="Null for an alert about the server.")]
    destination_id: str | None
    event_id: Annotated[str | None, Field(description="The event whose attempt raised it.")]
    attempt_id: Annotated[str | None, Field(description="The attempt that raised it.")]
    title: Annotated[str, _eg("One line.", "des_1 of acme has failed 50 times in a row")]
    text: str
    facts: Annotated[TextMap, _eg("What there is to know.", {"Code": "503"})]
    data: Annotated[Json, _eg("What is special to its kind.", {"current": 50, "max": 100, "threshold": 50})]
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class AlertPage(BaseModel):
    models: list[Alert]
    pagination: Pagination


class AuditActor(BaseModel):
    type: Literal["api_key", "tenant", "system"]
    name: Annotated[str, _eg("The key's name or the tenant's id.", "ci")]
    ip: Annotated[str | None, _eg("Where the request came from.", "192.0.2.1")]


class AuditEntry(BaseModel):
    """Who did what."""

    id: Annotated[str, _eg("The entry's id.", "aud_01h2xcejqtf2n")]
    time: datetime
    actor: AuditActor
    action: Annotated[str, _eg("A thing and a verb.", "destination.disable")]
    tenant_id: Annotated[str | None, Field(description="Whose thing it was.")]
    subject: Annotated[str, _eg("The id of the thing.", "des_1")]
    detail: Annotated[Json, _eg("More about it; names of changed fields, never secrets.", {"changed": ["topics"]})]


class AuditPage(BaseModel):
    models: list[AuditEntry]
    pagination: Pagination


class DestinationHealth(BaseModel):
    """How a destination is doing."""

    status: Literal["healthy", "failing", "disabled"]
    consecutive_failures: Annotated[int, _eg("Failures since the last success.", 0)]
    failing_since: datetime | None
    kept_events: Annotated[int, _eg("Events kept for it while it was disabled.", 0)]
    next_trial_at: Annotated[datetime | None, Field(description="When one delivery is tried although it is disabled.")]


class Recovery(BaseModel):
    since: Annotated[datetime | None, Field(default=None, description="Only events accepted since then.")]


class Recovered(BaseModel):
    recovered: Annotated[int, _eg("How many kept events are on their way now.", 12)]


BODIES: tuple[type[BaseModel], ...] = (
    AlertRuleCreate,
    AlertRuleUpdate,
    AlertChannelCreate,
    AlertChannelUpdate,
    ChannelConfirmation,
    Recovery,
)
ANSWERS: tuple[type[BaseModel], ...] = (
    AlertRule,
    AlertChannel,
    ChannelVerdict,
    Alert,
    AlertPage,
    AuditPage,
    DestinationHealth,
    Recovered,
)
