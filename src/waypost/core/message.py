"""What travels beside an event's data."""

from __future__ import annotations

from waypost.core import times
from waypost.core.model import Event, Micros


def merged_metadata(event: Event, delivery_metadata: dict[str, str] | None, *, sent_at: Micros) -> dict[str, str]:
    """System metadata, then the destination's, then the event's own; nobody overrides the system's three."""
    system = {"timestamp": times.render(sent_at), "event-id": event.id, "topic": event.topic}
    if not delivery_metadata and not event.metadata:
        return system
    return {**(delivery_metadata or {}), **(event.metadata or {}), **system}
