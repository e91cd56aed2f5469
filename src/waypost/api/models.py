"""The shapes on the wire, for the API's description. Answers are rendered by `render`; these say what they look like.

Destinations are not here: their shape depends on the installed types (see `destination_schemas`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

TextMap = dict[str, str]
Json = dict[str, Any]


class _Model(BaseModel):
    """A field with a default may be left out of the JSON."""


def _eg(description: str, example: Any) -> Any:
    return Field(description=description, examples=[example])


class Error(_Model):
    """Every error looks like this."""

    status: Annotated[int, _eg("The HTTP status.", 422)]
    message: Annotated[str, _eg("What is wrong, as a sentence.", "validation error")]
    data: Annotated[
        list[str] | Json,
        Field(
            default_factory=list,
            description="Details: one sentence for each broken rule, or an object of query parameters.",
            examples=[["config.url is required"]],
        ),
    ]


class Success(_Model):
    success: Annotated[Literal[True], Field(description="It is done.")]


class Pagination(_Model):
    """How a page was cut and how to get to the pages beside it."""

    order_by: Annotated[str, _eg("The field that the list is sorted by.", "time")]
    dir: Annotated[Literal["asc", "desc"], Field(description="The direction of sorting.")]
    limit: Annotated[int, _eg("The most items that a page holds.", 100)]
    next: Annotated[str | None, Field(description="Cursor of the next page; null on the last one.")]
    prev: Annotated[str | None, Field(description="Cursor of the previous page; null on the first one.")]


class Tenant(_Model):
    """A customer of the platform, who owns destinations and to whom events are addressed."""

    id: Annotated[str, _eg("The id that the platform chose.", "acme")]
    destinations_count: Annotated[int, _eg("How many destinations the tenant has.", 2)]
    topics: Annotated[
        list[str], _eg("All topics its destinations subscribe to; `*` alone when one takes everything.", ["order.*"])
    ]
    metadata: Annotated[TextMap | None, _eg("Notes of the platform about the tenant.", {"plan": "pro"})]
    created_at: Annotated[datetime, _eg("When it was created.", "2024-01-01T00:00:00Z")]
    updated_at: Annotated[datetime, _eg("When it was last changed.", "2024-01-01T00:00:00Z")]


class TenantUpsert(_Model):
    metadata: Annotated[
        TextMap | None, Field(default=None, description="Replaces the tenant's metadata; left out or null clears it.")
    ]


class TenantPage(_Model):
    models: list[Tenant]
    pagination: Pagination
    count: Annotated[int, _eg("How many tenants there are on all pages.", 42)]


Right = Literal["view", "manage", "replay"]


class _Token(_Model):
    id: Annotated[str, _eg("What the token can be revoked by: its claim `jti`.", "tok_7f3k_6930f1a0")]
    rights: Annotated[list[Right], _eg("What the token allows.", ["view"])]
    expires_at: datetime


class TenantToken(_Token):
    token: Annotated[str, _eg("A bearer token for what its rights allow on this tenant.", "eyJhbGciOiJIUzI1NiJ9...")]
    tenant_id: Annotated[str, _eg("The tenant it is for.", "acme")]


class TokenRevocation(_Model):
    """Exactly one of the three."""

    id: Annotated[str | None, _eg("The token's `id`.", "tok_7f3k_6930f1a0")] = None
    token: Annotated[str | None, _eg("The token itself.", "eyJhbGciOiJIUzI1NiJ9...")] = None
    all: Annotated[Literal[True] | None, Field(description="All tokens made up to now.")] = None


class PortalLink(_Token):
    redirect_url: Annotated[
        str, _eg("Send the tenant's browser here. The token is in the fragment.", "https://hooks.example/portal/acme")
    ]
    tenant_id: Annotated[str, _eg("The tenant it is for.", "acme")]


class _EventParts(_Model):
    id: Annotated[str, _eg("The publisher's id of the event, unique within the tenant.", "evt_01h2xcejqtf2n")]
    tenant_id: Annotated[str, _eg("The tenant that the event is addressed to.", "acme")]
    topic: Annotated[str, _eg("The topic; empty when the event has none.", "order.shipped")]
    time: Annotated[datetime, _eg("When it happened.", "2024-01-01T00:00:00Z")]
    eligible_for_retry: Annotated[bool, Field(description="Whether failed deliveries are retried by themselves.")]
    metadata: Annotated[TextMap | None, _eg("What travels beside the data.", {"source": "shop"})]
    expunged_at: Annotated[
        datetime | None,
        Field(default=None, description="When its data and metadata were removed for good; it is not sent again."),
    ]


class DeliveryOfEvent(_Model):
    """How the delivery of an event to one destination stands."""

    id: Annotated[str, _eg("The delivery's id.", "dlv_01h2xcejqtf2n4z")]
    destination_id: Annotated[str, _eg("The destination.", "des_1")]
    status: Annotated[
        Literal["pending", "delivering", "retrying", "delivered", "exhausted", "cancelled", "disabled"],
        Field(
            description="`pending`: not tried yet; `delivering`: a worker has it; `retrying`: waits after an attempt; "
            "`exhausted`: not tried any more; `disabled`: kept, as the destination was disabled."
        ),
    ]
    attempts: Annotated[int, _eg("How many attempts were made.", 3)]
    next_due: Annotated[datetime | None, _eg("When it is tried next, if it waits.", "2024-01-01T00:02:00Z")]


class Event(_EventParts):
    """Something that happened on the platform."""

    matched_destination_ids: Annotated[list[str], _eg("The destinations that it was routed to.", ["des_1"])]
    data: Annotated[Json, _eg("The payload, byte for byte as it was published.", {"order": 42})]


class ListedEvent(Event):
    deliveries: Annotated[list[DeliveryOfEvent], Field(default_factory=list, description="With `include=deliveries`.")]


class Skip(_Model):
    """A destination that did not get the event."""

    destination_id: str
    reason: Annotated[
        Literal["not_addressed", "disabled", "topic", "filter", "filter_cost"],
        Field(description="What kept it from it."),
    ]
    detail: Annotated[str | None, Field(description="For a filter: the clause that failed.")]


class SkipCounts(_Model):
    """How often a destination did not get an event of its tenant."""

    destination_id: Annotated[str, _eg("The destination.", "des_1")]
    skipped: Annotated[
        dict[Literal["not_addressed", "topic", "filter", "filter_cost", "disabled"], int],
        _eg("By reason.", {"topic": 12, "filter": 3}),
    ]


class RoutedDestination(_Model):
    """Why a destination got an event or not."""

    destination_id: Annotated[str, _eg("The destination.", "des_1")]
    matched: Annotated[bool, Field(description="Whether the event was routed to it.")]
    reason: Annotated[
        Literal["not_addressed", "topic", "filter", "filter_cost", "disabled"] | None,
        Field(description="What kept it from it."),
    ]
    detail: Annotated[
        str | None,
        _eg("For a filter: the clause that failed.", "Does not pass: data.amount is not at least 100 (it is 5)."),
    ]
    delivery_state: Annotated[
        Literal["pending", "delivered", "exhausted", "cancelled", "disabled"] | None,
        Field(description="Where the delivery stands now; null without one. `disabled`: kept until it is asked for."),
    ]


class EventWithSkips(Event):
    skipped: Annotated[list[Skip], Field(description="The tenant's other destinations, and why they did not get it.")]


class SearchProgress(_Model):
    """How far the search index has come."""

    complete: Annotated[bool, Field(description="Whether events that are not in it yet were looked through as well.")]
    indexed_until: Annotated[
        datetime | None, _eg("Events accepted up to then are in it; null for none.", "2024-01-01T00:00:00Z")
    ]


class EventPage(_Model):
    models: list[ListedEvent]
    pagination: Pagination
    search: Annotated[SearchProgress | None, Field(default=None, description="With `q`, `metadata` or `data`.")]


class EventOfAttempt(_EventParts):
    destination_id: Annotated[str, _eg("The destination of this attempt.", "des_1")]
    data: Annotated[Json, Field(default_factory=dict, description="With `include=event.data`: the payload.")]


class Attempt(_Model):
    """One try to hand an event to a destination."""

    id: Annotated[str, _eg("The attempt's id.", "atm_01h2xcejqtf2n")]
    tenant_id: Annotated[str, _eg("Whose event it was.", "acme")]
    status: Annotated[Literal["success", "failed"], Field(description="What came of it.")]
    time: Annotated[datetime, _eg("When it began.", "2024-01-01T00:00:05Z")]
    code: Annotated[str, _eg("The destination's status, or the name of a failure such as `timeout`.", "200")]
    detail: Annotated[str | None, Field(description="What went wrong, as a sentence; null after a success.")]
    attempt_number: Annotated[int, _eg("1 for the first try, counting manual ones.", 1)]
    manual: Annotated[bool, Field(description="Whether somebody asked for it.")]
    initiated_by: Annotated[
        str | None, _eg("Who asked for it: `api_key:` with its name, or `tenant:` with its id.", "tenant:acme")
    ]
    replay_id: Annotated[str | None, _eg("The replay that it was a part of.", "rpl_01h2xcejqtf2n")]
    destination_type: Annotated[str, _eg("The destination's type.", "webhook")]
    event_id: Annotated[str, _eg("The event.", "evt_01h2xcejqtf2n")]
    destination_id: Annotated[str, _eg("The destination.", "des_1")]
    latency_ms: Annotated[int, _eg("How long it took, in milliseconds.", 87)]
    response_data: Annotated[
        Json | None, Field(default=None, description="With `include=response_data`: what the destination answered.")
    ]
    request_data: Annotated[Json | None, Field(default=None, description="With `include=request_data`: what was sent.")]
    event: Annotated[
        EventOfAttempt | None, Field(default=None, description="With `include=event` or `include=event.data`.")
    ]
    destination: Annotated[Json, Field(default_factory=dict, description="With `include=destination`.")]
    causes: Annotated[
        list[str],
        Field(
            default_factory=list,
            description="With `include=causes` and an API key: the exceptions behind a failure, the outermost first.",
        ),
    ]


class AttemptPage(_Model):
    models: list[Attempt]
    pagination: Pagination


class MetricsPoint(_Model):
    """What was counted in one bucket, under one combination of dimensions."""

    time_bucket: Annotated[
        datetime | None, Field(default=None, description="When the bucket begins; left out without a granularity.")
    ]
    dimensions: Annotated[dict[str, str], _eg("The dimensions asked for.", {"topic": "order.shipped"})]
    metrics: Annotated[dict[str, float], _eg("The measures asked for.", {"count": 42, "error_rate": 0.25})]


class MetricsMetadata(_Model):
    granularity: Annotated[str | None, Field(default=None, description="The one asked for, if any.", examples=["1h"])]
    query_time_ms: Annotated[int, _eg("How long it took, in milliseconds.", 12)]
    row_count: Annotated[int, _eg("How many points there are.", 24)]
    row_limit: Annotated[int, _eg("The most points of an answer.", 100_000)]
    truncated: Annotated[bool, Field(description="Whether there would have been more.")]


class Metrics(_Model):
    """Points by dimensions, then by time. Every combination that occurs has one for every bucket, if only of zeros."""

    data: list[MetricsPoint]
    metadata: MetricsMetadata


class RetryRequest(_Model):
    event_id: Annotated[str, _eg("The event to send again.", "evt_01h2xcejqtf2n")]
    destination_id: Annotated[str, _eg("Where to.", "des_1")]
    tenant_id: Annotated[
        str | None,
        Field(
            default=None,
            description="Whose event it is. Without it the newest event of that id is taken. Ignored with a token.",
        ),
    ]


class TopicPut(_Model):
    """A topic as it shall be; what is left out is cleared."""

    description: Annotated[str | None, Field(default=None, max_length=10_000, description="What it is about.")]
    schema_: Annotated[
        Json | bool | None,
        Field(
            default=None,
            alias="schema",
            description="JSON Schema of its events' data. It refers to nothing outside itself.",
            examples=[{"type": "object", "required": ["order"]}],
        ),
    ]
    example: Annotated[
        Json | None, Field(default=None, description="Such data; it fits the schema.", examples=[{"order": 42}])
    ]
    deprecated: Annotated[
        bool, Field(default=False, description="Whether publishers should stop to use it. It still works.")
    ]


class Topic(_Model):
    """What events can be about."""

    name: Annotated[str, _eg("The name.", "order.shipped")]
    description: Annotated[str | None, _eg("What it is about.", "An order has left the warehouse.")]
    schema_: Annotated[
        Json | bool | None,
        Field(alias="schema", description="JSON Schema of its events' data.", examples=[{"type": "object"}]),
    ]
    example: Annotated[Json | None, _eg("Such data.", {"order": 42})]
    deprecated: Annotated[bool, Field(description="Whether publishers should stop to use it.")]
    read_only: Annotated[bool, Field(description="Whether the server's settings name it: then it cannot be changed.")]
    created_at: Annotated[
        datetime | None, _eg("When it was added; null if only settings name it.", "2024-01-01T00:00:00Z")
    ]
    updated_at: Annotated[datetime | None, _eg("When it was last replaced.", "2024-01-01T00:00:00Z")]


class SampleEvent(_Model):
    """An event as far as filters see it."""

    data: Annotated[Json, _eg("The payload.", {"order": 42})]
    id: Annotated[str | None, Field(default=None, description="Its id; `sample_1` and so on for those that have none.")]
    topic: Annotated[str | None, Field(default=None, description="Its topic.", examples=["order.shipped"])]
    time: Annotated[datetime | None, Field(default=None, description="When it happened; now by default.")]
    metadata: Annotated[TextMap | None, Field(default=None, description="What travels beside the data.")]


class FilterTest(_Model):
    """A filter with either `events`, or `last` for a tenant's own."""

    filter: Annotated[Json, Field(description="The filter to try.")]
    events: Annotated[
        list[SampleEvent] | None, Field(default=None, description="The events to try it on; at most 100 by default.")
    ]
    last: Annotated[
        int | None,
        Field(
            default=None, ge=1, description="Try it on so many of the tenant's newest events; at most 100 by default."
        ),
    ]
    tenant_id: Annotated[
        str | None,
        Field(default=None, description="With `last`: whose events. Ignored with a token.", examples=["acme"]),
    ]


class FilterVerdict(_Model):
    """What a filter decided about one event."""

    id: Annotated[str, _eg("The event's id.", "evt_01h2xcejqtf2n")]
    pass_: Annotated[bool, Field(alias="pass", description="Whether the event passes.")]
    reason: Annotated[
        str, _eg("The clause that decided.", 'Does not pass: data.price is not at least 10 (it is "9.99").')
    ]


class FilterConversion(_Model):
    filter: Annotated[Json, Field(description="The filter to convert.")]
    to: Annotated[Literal["hookdeck", "shopify", "eventbridge"], Field(description="The dialect to convert it to.")]


class FieldOption(_Model):
    label: str
    value: str


class FieldSchema(_Model):
    """A value that a customer fills in. What does not apply is left out."""

    key: Annotated[str, _eg("Its name in `config` or `credentials`.", "url")]
    type: Annotated[
        Literal["text", "checkbox", "key_value_map", "select", "number"], Field(description="How to draw it.")
    ]
    label: str
    description: str
    required: bool
    sensitive: Annotated[bool, Field(description="Whether it is masked in answers.")]
    read_only: Annotated[bool, Field(default=False, description="Whether only the server sets it.")]
    advanced: Annotated[bool, Field(default=False, description="Whether a form folds it away.")]
    default: Annotated[str | None, Field(default=None)]
    placeholder: Annotated[str | None, Field(default=None)]
    minlength: Annotated[int | None, Field(default=None)]
    maxlength: Annotated[int | None, Field(default=None)]
    pattern: Annotated[str | None, Field(default=None, description="A pattern for the whole value, as in HTML.")]
    pattern_hint: Annotated[str | None, Field(default=None, description="What the pattern means.")]
    options: Annotated[list[FieldOption], Field(default_factory=list, description="The choices of a select.")]


class DestinationTypeSchema(_Model):
    """A kind of destination: what it is called and what a customer fills in."""

    type: Annotated[str, _eg("The name of the type.", "webhook")]
    label: Annotated[str, _eg("Its name for people.", "Webhook")]
    description: str
    icon: Annotated[str, Field(description="An SVG image.")]
    instructions: Annotated[str, Field(description="How to set it up, in Markdown.")]
    config_fields: list[FieldSchema]
    credential_fields: list[FieldSchema]


KeyScope = Literal["publish", "read", "admin"]


class ApiKey(_Model):
    id: Annotated[str, _eg("The key's id.", "key_x1")]
    name: Annotated[str, _eg("What it is for.", "ci")]
    hint: Annotated[str, _eg("How the key begins.", "wpk_7f3k")]
    scopes: Annotated[list[KeyScope], _eg("What it allows.", ["admin"])]
    tenant_id: Annotated[str | None, _eg("The only tenant that it is for; null for all.", "acme")]
    created_at: datetime
    expires_at: Annotated[datetime | None, Field(description="When it ends; null for never.")]


class NewApiKey(ApiKey):
    key: Annotated[str, Field(description="The key itself. It is shown now and never again.")]


class ApiKeyCreate(_Model):
    name: Annotated[str, Field(min_length=1, max_length=100, description="What it is for; unique.", examples=["ci"])]
    scopes: Annotated[
        list[KeyScope],
        _eg("`publish`: to publish; `read`: to look at everything; `admin`: to do everything.", ["publish"]),
    ] = ["admin"]
    tenant_id: Annotated[str | None, _eg("The only tenant that it is for; it ends with it.", "acme")] = None
    expires_at: Annotated[datetime | None, Field(description="When it ends; never, when left out.")] = None


class Worker(_Model):
    status: Literal["healthy", "failed"]


class Health(_Model):
    status: Literal["healthy", "failed"]
    timestamp: datetime
    workers: dict[str, Worker]


class PublishRequest(_Model):
    """An event to accept."""

    tenant_id: Annotated[str, _eg("The tenant it is addressed to.", "acme")]
    data: Annotated[Json, _eg("The payload; it is delivered byte for byte.", {"order": 42})]
    id: Annotated[
        str | None,
        Field(default=None, description="Your id, unique within the tenant: a second publish changes nothing."),
    ]
    topic: Annotated[
        str | None,
        Field(
            default=None,
            description="What it is about; one of the catalogue if there is one.",
            examples=["order.shipped"],
        ),
    ]
    destination_id: Annotated[
        str | None, Field(default=None, description="Only this destination, if its topics and filter let it through.")
    ]
    eligible_for_retry: Annotated[bool | None, Field(default=True, description="Whether to retry failed deliveries.")]
    time: Annotated[datetime | None, Field(default=None, description="When it happened; now by default.")]
    metadata: Annotated[TextMap | None, Field(default=None, description="What travels beside the data, as headers.")]


class PublishResponse(_Model):
    id: Annotated[str, _eg("The event's id.", "evt_01h2xcejqtf2n")]
    duplicate: Annotated[bool, Field(description="Whether an event of this id was there already.")]
    destination_ids: Annotated[list[str], _eg("The destinations that get it.", ["des_1"])]


class BatchRequest(_Model):
    """Events to accept together: all of them or none. A bare array of events is understood too."""

    events: Annotated[list[PublishRequest], Field(min_length=1)]


class BatchResponse(_Model):
    results: Annotated[list[PublishResponse], Field(description="One for each event, in the same order.")]
