"""Deliveries as the wire shows them."""

from __future__ import annotations

from typing import Any

from waypost.core import ids, times
from waypost.core.incarnations import id_of
from waypost.core.model import Micros
from waypost.core.status import Status
from waypost.flow.deliveries import DELIVERY_PREFIX
from waypost.store.deliveries import StoredDelivery


def delivery(value: StoredDelivery) -> dict[str, Any]:
    return {
        "tenant_id": id_of(value.tenant_id),
        "event_id": value.event_id,
        "topic": value.topic,
        "accepted_at": times.render(ids.time_of(value.event_seq)),
        **brief(value),
        "retries": value.retries,
        "manual": value.manual,
    }


def brief(value: StoredDelivery) -> dict[str, Any]:
    """What is shown beside its event."""
    waits = value.status in {Status.PENDING, Status.RETRYING}
    return {
        "id": ids.encode_pair(DELIVERY_PREFIX, value.event_seq, value.destination_no),
        "destination_id": value.destination_id,
        "status": value.status,
        "attempts": value.attempt - 1,
        "next_due": moment(value.due) if waits else None,
    }


def moment(instant: Micros | None) -> str | None:
    return None if instant is None else times.render(instant)
