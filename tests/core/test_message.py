from __future__ import annotations

from tests.store.builders import NOW, event
from waypost.core.message import merged_metadata


def test_system_metadata_always_travels() -> None:
    sent = event(event_id="evt_1", topic="order.created")
    assert merged_metadata(sent, None, sent_at=NOW) == {
        "timestamp": "2027-01-15T08:00:00Z",
        "event-id": "evt_1",
        "topic": "order.created",
    }


def test_the_event_overrides_the_destination_and_nobody_the_system() -> None:
    sent = event(event_id="evt_1", metadata={"source": "event", "topic": "forged"})
    merged = merged_metadata(sent, {"source": "destination", "app": "x", "event-id": "forged"}, sent_at=NOW)
    assert merged == {
        "source": "event",
        "app": "x",
        "topic": "order.created",
        "event-id": "evt_1",
        "timestamp": "2027-01-15T08:00:00Z",
    }
