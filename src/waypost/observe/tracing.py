"""Traces: spans around what the flow does, and the W3C trace context that joins them with the caller and the receiver.

A context is a text: a `traceparent` and, behind a space, a `tracestate` if there was one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from waypost.core.model import Delivery, Destination, Event, Outcome

Headers = Iterable[tuple[bytes, bytes]]
"""Names, in lower case, and values."""

_IDS = rb"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}"
_TRACEPARENT = re.compile(rb"00-(%s-[0-9a-f]{2})" % _IDS)
_LATER_TRACEPARENT = re.compile(rb"(?!00|ff)[0-9a-f]{2}-(%s)-[0-9a-f]([0-9a-f])(-.*)?" % _IDS)
_TRACESTATE = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,511}")
_NO_FIELDS: Mapping[str, str] = {}


def context_of(headers: Headers) -> str | None:
    """The context that a request came with, None unless it has one valid `traceparent` (Trace Context, level 1).

    Of a later version only what level 1 knows is taken over. A `tracestate` that is too long or not text is left out.
    """
    parents = [value for name, value in headers if name == b"traceparent"]
    parent = _level_1(parents[0]) if len(parents) == 1 else None
    if parent is None:
        return None
    state = b",".join([value for name, value in headers if name == b"tracestate"])
    return f"{parent} {state.decode()}" if _TRACESTATE.fullmatch(state) else parent


def _level_1(traceparent: bytes) -> str | None:
    if _TRACEPARENT.fullmatch(traceparent):
        return traceparent.decode()
    later = _LATER_TRACEPARENT.fullmatch(traceparent)
    return None if later is None else f"00-{later[1].decode()}-{int(later[2], 16) & 1:02x}"


def traceparent(context: str) -> str:
    """What a receiver may know of a context: a `tracestate` is between the operator and its vendors."""
    return context.partition(" ")[0]


def log_fields(context: str | None) -> Mapping[str, str]:
    """What ties a log line to a trace, by the names that OpenTelemetry gives them in JSON logs."""
    if context is None:
        return _NO_FIELDS
    _, trace_id, span_id, flags = traceparent(context).split("-")
    return {"trace_id": trace_id, "span_id": span_id, "trace_flags": flags}


class Acceptance(Protocol):
    """What publishing an event led to."""

    @property
    def duplicate(self) -> bool: ...

    @property
    def destination_ids(self) -> Sequence[str]: ...


class Attempted(Protocol):
    """What an attempt led to."""

    @property
    def outcome(self) -> Outcome: ...


A = TypeVar("A", bound=Acceptance)
R = TypeVar("R", bound=Attempted)


class Tracer(Protocol):
    """Has the flow's work done within spans."""

    def caller(self, headers: Headers) -> str | None:
        """The context that a publish request came with, for its events to carry."""
        ...

    def publish(self, event: Event, accept: Callable[[Event], Awaitable[A]]) -> Awaitable[A]:
        """Accept an event, which carries the caller's context, as one that carries the span's."""
        ...

    def publish_many(
        self, events: Sequence[Event], accept: Callable[[Sequence[Event]], Awaitable[list[A]]]
    ) -> Awaitable[list[A]]:
        """The same for the events of one request: they share a span."""
        ...

    def attempt(self, delivery: Delivery, to: Destination, make: Callable[[Delivery], Awaitable[R]]) -> Awaitable[R]:
        """Make an attempt with an event that carries the span's context instead of the publish's."""
        ...


class NullTracer:
    """Nobody asks for traces: the work is done as it is."""

    def caller(self, headers: Headers) -> str | None:
        return None

    def publish(self, event: Event, accept: Callable[[Event], Awaitable[A]]) -> Awaitable[A]:
        return accept(event)

    def publish_many(
        self, events: Sequence[Event], accept: Callable[[Sequence[Event]], Awaitable[list[A]]]
    ) -> Awaitable[list[A]]:
        return accept(events)

    def attempt(self, delivery: Delivery, to: Destination, make: Callable[[Delivery], Awaitable[R]]) -> Awaitable[R]:
        return make(delivery)


class ForwardingTracer(NullTracer):
    """No spans either, but events carry their caller's context on to the receivers."""

    def caller(self, headers: Headers) -> str | None:
        return context_of(headers)
