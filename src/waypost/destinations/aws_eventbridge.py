"""Amazon EventBridge: metadata and data as the detail of an event on a bus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

from waypost.connect.aws import ENDPOINT_FIELD, REGION_FIELD, ROLE_FIELDS, AwsType, batch_limits, options_of
from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.envelope import enveloped
from waypost.connect.fields import Field
from waypost.connect.record import receipts
from waypost.core.errors import DeliveryError
from waypost.core.model import SECOND, Destination
from waypost.net.aws.client import AwsClient
from waypost.net.aws.errors import Fault, Service

_EVENTBRIDGE = Service(
    name="events", host="events", label="Amazon EventBridge", thing="event bus", missing="no_such_event_bus"
)
_VERSION = "1.1"
_PUT = "events:PutEvents"
_LOOK = "events:DescribeEventBus (which only verifying needs)"
_DEFAULT_BUS = "default"
_BATCH = {"count": 10, "size": 256 * 1024}
"""EventBridge takes 10 events in a call and 256 KiB (1 MiB in some regions) for all of them; larger ones go alone."""
_LONGEST_DETAIL_TYPE = 128
_AROUND_A_DETAIL = 14
"""What the time of an event counts (bytes), by EventBridge's rule for the size of an entry."""


class AwsEventBridgeType(AwsType):
    type: ClassVar[str] = "aws_eventbridge"
    label: ClassVar[str] = "Amazon EventBridge"
    description: ClassVar[str] = "Put events on an event bus of Amazon EventBridge."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M2 12h20M6 12V6M12 12v7M18 12V6"/>'
        '<circle cx="6" cy="4.5" r="1.5"/><circle cx="12" cy="20.5" r="1.5"/><circle cx="18" cy="4.5" r="1.5"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Choose an event bus in Amazon EventBridge, or create one.
2. Create an access key for an IAM user, or a role to assume, that may put events on it:

```json
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["events:PutEvents", "events:DescribeEventBus"], "Resource": "<ARN of the bus>"}
]}
```

`events:DescribeEventBus` is only used to verify the destination.

The detail type is the event's topic (its first 128 characters), the detail is `{"metadata": {...}, "data": ...}`. The
metadata are text values, with `event-id`, `topic` and `timestamp` among them. A rule for one topic has a pattern like
`{"detail-type": ["order.created"]}`. An event can arrive more than once: recognise it by `detail.metadata.event-id`.
"""
    service: ClassVar[Service] = _EVENTBRIDGE
    config_fields: ClassVar[tuple[Field, ...]] = (
        REGION_FIELD,
        Field(
            key="event_bus_name",
            label="Event bus",
            description="The name or ARN of the event bus.",
            default=_DEFAULT_BUS,
            maxlength=1_600,
            pattern=r"(arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?[A-Za-z0-9_./-]+",
            pattern_hint="the name or ARN of an event bus",
            placeholder="events",
        ),
        Field(
            key="source",
            label="Source",
            description="The source that events are said to come from. Default: set by Waypost's operator.",
            maxlength=256,
            pattern=r"(?!aws\.)[A-Za-z0-9_./-]+",
            pattern_hint="letters, digits and . _ / -, not starting with aws.",
            advanced=True,
            placeholder="com.example.events",
        ),
        ENDPOINT_FIELD,
        *ROLE_FIELDS,
    )

    def own_problems(self, config: dict[str, str]) -> list[str]:
        bus = config.get("event_bus_name", "")
        if bus.startswith("arn:") and bus.split(":")[3] != config["region"]:
            return ["config.region must be the region in config.event_bus_name"]
        return []

    def target(self, destination: Destination) -> tuple[str, str | None]:
        config = destination.config
        return f"{config.get('event_bus_name') or _DEFAULT_BUS} ({config['region']})", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        return EventBridgeConnection(
            await self.client(destination, tools),
            config.get("event_bus_name") or _DEFAULT_BUS,
            config.get("source") or options_of(tools.options).eventbridge_source,
            batch_limits(tools, **_BATCH),
        )


class _Entry(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One event as PutEvents takes it; `time` in seconds since the epoch."""

    source: str
    detail_type: str
    detail: str
    event_bus_name: str
    time: float


class _Result(Struct, frozen=True, rename="pascal"):
    event_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class _Answer(Struct, frozen=True, rename="pascal"):
    entries: list[_Result]


class EventBridgeConnection:
    """Puts events on one bus, in batches."""

    def __init__(self, client: AwsClient, bus: str, source: str, limits: Limits) -> None:
        self._client = client
        self._bus = bus
        self._source = source
        self._batcher: Batcher[_Entry, Receipt] = Batcher(self._put, limits)

    async def send(self, message: Message) -> Receipt:
        event = message.event
        detail = enveloped(message)
        entry = _Entry(
            source=self._source,
            detail_type=event.topic[:_LONGEST_DETAIL_TYPE],
            detail=detail.decode(),
            event_bus_name=self._bus,
            time=event.time / SECOND,
        )
        size = len(detail) + len(entry.source) + len(entry.detail_type) + _AROUND_A_DETAIL
        return await self._batcher.send(entry, size)

    async def verify(self) -> None:
        await self._client.json(
            "AWSEvents.DescribeEventBus",
            {"Name": self._bus},
            version=_VERSION,
            action=_LOOK,
            answer=dict[str, Any],
        )

    async def close(self) -> None:
        self._batcher.flush()

    async def _put(self, entries: Sequence[_Entry]) -> list[Receipt | DeliveryError]:
        answer, response = await self._client.json(
            "AWSEvents.PutEvents", {"Entries": entries}, version=_VERSION, action=_PUT, answer=_Answer
        )
        results = dict(enumerate(map(self._result, answer.entries)))
        return receipts(response, self._client.in_order(results, range(len(entries))))

    def _result(self, result: _Result) -> dict[str, str | None] | DeliveryError:
        if result.error_code is None:
            return {"event_id": result.event_id}
        return self._client.failed(_fault(result.error_code, result.error_message or ""), _PUT)


def _fault(code: str, message: str) -> Fault:
    """EventBridge does not say whose fault an entry's error is; the names of the sender's own begin like this."""
    sender = code.startswith(("Invalid", "Malformed", "Validation"))
    return Fault(code=code, message=message, status=400 if sender else 500)
