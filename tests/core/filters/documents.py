"""Events and documents to try filters on."""

from __future__ import annotations

from typing import Any

import msgspec

from waypost.core.filters import DEFAULT_LIMITS, Document
from waypost.core.model import Event

_ENCODER = msgspec.json.Encoder(decimal_format="number")
NOON = 1_700_000_000_000_000


def event(data: Any = None, *, topic: str = "order.created", metadata: dict[str, str] | None = None) -> Event:
    """An event with this data: JSON bytes as they are, anything else encoded."""
    raw = data if isinstance(data, bytes) else _ENCODER.encode({} if data is None else data)
    return Event(seq=1, id="evt_1", tenant_id="acme", topic=topic, time=NOON, data=raw, metadata=metadata)


def document(
    data: Any = None,
    *,
    topic: str = "order.created",
    metadata: dict[str, str] | None = None,
    steps: int = DEFAULT_LIMITS.max_steps,
) -> Document:
    return Document(event(data, topic=topic, metadata=metadata), steps)
