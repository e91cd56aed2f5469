"""`POST /publish` and `/publish/batch` as bare ASGI: the hot path has no framework between the bytes and the store."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Raw, Struct

from waypost.api.decode import decode
from waypost.api.errors import describe, headers_of
from waypost.core import ids, times, topics
from waypost.core.errors import BadRequest, Forbidden, Invalid, MethodNotAllowed, TooLarge, WaypostError
from waypost.core.model import Event
from waypost.flow import textmaps
from waypost.observe.tracing import NullTracer, Tracer
from waypost.store.base import Accepted

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = structlog.get_logger("waypost")

ID_MAX_LENGTH = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HTTP_ACCEPTED = 202
_DOTS = frozenset({".", ".."})
_ID = re.compile(r"[\x21-\x7e]{1,255}")


class PublishRequest(Struct, kw_only=True, gc=False):
    """The body of a publish. `data` stays the bytes that came."""

    tenant_id: str = ""
    data: Raw = Raw(b"")
    id: str | None = None
    topic: str | None = None
    destination_id: str | None = None
    eligible_for_retry: bool | None = None
    time: datetime | None = None
    metadata: dict[str, str] | None = None


class BatchRequest(Struct, gc=False):
    events: list[Raw]


_one = msgspec.json.Decoder(PublishRequest)
_batch = msgspec.json.Decoder(BatchRequest)
_list = msgspec.json.Decoder(list[Raw])


class Publisher(Protocol):
    async def publish(self, event: Event) -> Accepted: ...

    async def publish_many(self, events: Sequence[Event]) -> list[Accepted]: ...


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes."""

    event_bytes: int
    batch_events: int
    batch_bytes: int
    metadata: textmaps.Limits = textmaps.Limits()


class PublishEndpoint:
    """Answers both routes.

    `authorise` raises Unauthorized or Forbidden for anything but an API key that may publish, and gives the key of the
    only tenant that it may publish for, if there is one; `key_of` gives a tenant's key by its id. `check` raises
    Invalid for an event whose data is not what its topic's should be.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        authorise: Callable[[bytes | None], str | None],
        key_of: Callable[[str], str] = str,
        next_seq: Callable[[], int],
        catalogue: Callable[[], frozenset[str]],
        limits: Limits,
        refused: Callable[[], None],
        check: Callable[[Event], None] = lambda _event: None,
        tracer: Tracer | None = None,
    ) -> None:
        self._publisher = publisher
        self._authorise = authorise
        self._key_of = key_of
        self._next_seq = next_seq
        self._catalogue = catalogue
        self._check = check
        self._limits = limits
        self._refused = refused
        self._caller = (tracer or NullTracer()).caller
        self._handlers = {b"/api/v1/publish": self._publish, b"/api/v1/publish/batch": self._publish_batch}

    @property
    def paths(self) -> frozenset[bytes]:
        """The paths as they have to be sent."""
        return frozenset(self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _must_be_post(scope)
            only = self._authorise(_header(scope, b"authorization"))
            await _respond(send, _HTTP_ACCEPTED, await self._handlers[scope["raw_path"]](scope, receive, only))
        except Exception as error:  # noqa: BLE001  whatever went wrong, the caller gets an answer and never a 202
            if not isinstance(error, WaypostError):
                _log.exception("publish_crashed")
            self._refused()
            status, body = describe(error)
            extra = [(name.encode(), value.encode()) for name, value in headers_of(error).items()]
            await _respond(send, status, msgspec.json.encode(body), extra)

    async def _publish(self, scope: Scope, receive: Receive, only: str | None) -> bytes:
        body = await _read(scope, receive, self._limits.event_bytes)
        event = self._event(decode(_one, body), self._caller(scope["headers"]), only)
        return msgspec.json.encode(_response(event, await self._publisher.publish(event)))

    async def _publish_batch(self, scope: Scope, receive: Receive, only: str | None) -> bytes:
        body = await _read(scope, receive, self._limits.batch_bytes)
        parts = decode(_batch, body).events if body.lstrip().startswith(b"{") else decode(_list, body)
        if not 0 < len(parts) <= self._limits.batch_events:
            raise Invalid([f"events must hold 1 to {self._limits.batch_events} events"])
        caller = self._caller(scope["headers"])
        events = [self._batched(number, part, caller, only) for number, part in enumerate(parts)]
        accepted = await self._publisher.publish_many(events)
        results = [_response(event, came) for event, came in zip(events, accepted, strict=True)]
        return msgspec.json.encode({"results": results})

    def _batched(self, number: int, part: Raw, trace: str | None, only: str | None) -> Event:
        if len(part) > self._limits.event_bytes:
            raise TooLarge(f"events[{number}] is larger than {self._limits.event_bytes} bytes")
        try:
            return self._event(decode(_one, bytes(part)), trace, only)
        except Invalid as error:
            problems = error.data if isinstance(error.data, list) else [error.message]
            raise Invalid([f"events[{number}].{problem}" for problem in problems]) from None

    def _event(self, request: PublishRequest, trace: str | None, only: str | None) -> Event:
        data = bytes(request.data)
        problems = _problems(request, data, self._catalogue(), self._limits)
        if problems:
            raise Invalid(problems)
        tenant_id = self._key_of(request.tenant_id)
        if only is not None and tenant_id != only:
            raise Forbidden("the API key is for another tenant")
        seq = self._next_seq()
        event = Event(
            seq=seq,
            id=request.id or ids.encode("evt", seq),
            tenant_id=tenant_id,
            topic=request.topic or "",
            time=ids.time_of(seq) if request.time is None else (request.time - _EPOCH) // _MICROSECOND,
            data=data,
            metadata=request.metadata or None,
            eligible_for_retry=request.eligible_for_retry is not False,
            destination_id=request.destination_id or None,
            trace=trace,
        )
        self._check(event)
        return event


def _problems(request: PublishRequest, data: bytes, catalogue: frozenset[str], limits: Limits) -> list[str]:
    """What is wrong with a request whose types are right."""
    problems: list[str] = []
    for name in ("tenant_id", "id", "destination_id"):
        value = getattr(request, name)
        if value and not _ID.fullmatch(value):
            problems.append(f"{name} must be 1 to {ID_MAX_LENGTH} visible ASCII characters")
        elif value in _DOTS:
            problems.append(f"{name} must not be one or two dots, which mean something else in a path")
    if not request.tenant_id:
        problems.append("tenant_id is required")
    if not data.startswith(b"{"):
        problems.append("data must be an object" if data and data != b"null" else "data is required")
    if request.time is not None:
        problems += _time_problems(request.time)
    topic = request.topic or ""
    if catalogue and not topic:
        problems.append("topic is required")
    elif topic and (topic not in catalogue if catalogue else not topics.is_topic(topic)):
        problems.append("topic is invalid")
    if request.metadata:
        problems += _metadata_problems(request.metadata, limits.metadata)
    return problems


def _time_problems(time: datetime) -> list[str]:
    if time.tzinfo is None:
        return ["time must be an RFC 3339 date-time with an offset"]
    in_range = times.FIRST <= (time - _EPOCH) // _MICROSECOND <= times.LAST
    return [] if in_range else ["time must be from year 1 to year 9999 in UTC"]


def _metadata_problems(metadata: dict[str, str], limits: textmaps.Limits) -> list[str]:
    problems = []
    if len(metadata) > limits.entries:
        problems.append(f"metadata must have at most {limits.entries} keys")
    if not all(0 < len(key) <= limits.key_length for key in metadata):
        problems.append(f"metadata keys must have 1 to {limits.key_length} characters")
    if any(len(value) > limits.value_length for value in metadata.values()):
        problems.append(f"metadata values must have at most {limits.value_length} characters")
    return problems


def _response(event: Event, accepted: Accepted) -> dict[str, Any]:
    return {"id": event.id, "duplicate": accepted.duplicate, "destination_ids": accepted.destination_ids}


def _must_be_post(scope: Scope) -> None:
    if scope["method"] != "POST":
        raise MethodNotAllowed("method not allowed")


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to exceed the limit."""
    declared = _header(scope, b"content-length")
    if declared is not None and int(declared) > limit:
        raise TooLarge(f"the request is larger than {limit} bytes")
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > limit:
            raise TooLarge(f"the request is larger than {limit} bytes")
    if message["type"] == "http.disconnect":
        raise BadRequest("the request broke off")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _respond(send: Send, status: int, body: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
