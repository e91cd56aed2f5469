"""Replays as the wire shows them."""

from __future__ import annotations

from typing import Any

from waypost.api.render_alerts import actor
from waypost.core import times
from waypost.core.incarnations import id_of
from waypost.core.status import standing
from waypost.flow.replays import replay_id
from waypost.store.replays import Replay, Replayed

RESULTS: dict[str, bool | None] = {"waiting": None, "success": True, "failed": False}
"""What may have come of the manual attempt of a replay."""


def replay(value: Replay, view: str | None) -> dict[str, Any]:
    """A replay as the tenant `view` sees it; None is the operator."""
    return {
        "id": replay_id(value),
        "status": value.state.name.lower(),
        "tenant_id": id_of(value.tenant_id),
        "destination_id": value.destination_id,
        "events": value.asked,
        "missed": value.wanted.missed,
        **_numbers(value),
        "delivered": value.delivered,
        "failed": value.failed,
        "waiting": value.waiting,
        "initiated_by": actor(value.by, view),
        "created_at": times.render(value.created_at),
        "ended_at": None if value.ended_at is None else times.render(value.ended_at),
    }


def preview(value: Replay, left: int | None) -> dict[str, Any]:
    """What a replay would come to, beside what is left of the tenant's hour."""
    return {"dry_run": True, **_numbers(value), "complete": value.planned, "remaining_this_hour": left}


def delivery(value: Replayed) -> dict[str, Any]:
    return {
        "event_id": value.event_id,
        "tenant_id": id_of(value.tenant_id),
        "destination_id": value.destination_id,
        "result": next(name for name, ok in RESULTS.items() if ok is value.ok),
        "delivery_state": None if value.state is None else standing(value.state),
    }


def _numbers(value: Replay) -> dict[str, Any]:
    """Events that are selected, and looked at so far; deliveries of these that are made, and left out."""
    return {"selected": value.selected, "examined": value.examined, "total": value.total, "skipped": value.skipped}
