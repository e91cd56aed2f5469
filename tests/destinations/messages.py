"""Messages as the dispatcher hands them to a destination type."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from waypost.connect.connector import Message, Receipt
from waypost.core.message import merged_metadata
from waypost.core.model import Event

NOON = 1_704_110_400_000_000
"""2024-01-01T12:00:00Z."""

ODD_BODY = '{"b": 1.10, "a":  [1e3, "Grüße ✓\\u00e9"], "n": null}'.encode()
"""JSON that would not survive being decoded and encoded again."""


def message(
    data: bytes = ODD_BODY,
    /,
    *,
    event_id: str = "evt_1",
    topic: str = "order.created",
    time: int = NOON,
    **metadata: str,
) -> Message:
    event = Event(
        seq=crc32(event_id.encode() + data),
        id=event_id,
        tenant_id="acme",
        topic=topic,
        time=time,
        data=data,
        metadata=metadata or None,
    )
    return Message(
        event=event, metadata=merged_metadata(event, None, sent_at=time), attempt=1, manual=False, sent_at=time
    )


def said_of(receipt: Receipt, *, messages: int | None = None) -> dict[str, Any]:
    """What a service answered for this message alone, once the HTTP exchange around it is seen to be on record."""
    request, response = receipt.request, dict(receipt.response or {})
    assert request is not None
    assert request["method"] in {"POST", "PUT"}
    assert request["url"].startswith("http")
    assert request["size"] > 0
    assert request.get("messages") == messages
    assert request["headers"].get("authorization", "****") == "****"
    assert str(response.pop("status_code")) == receipt.code
    assert response.pop("headers")["content-type"]
    assert response.pop("timings")["total"] > 0
    return response
