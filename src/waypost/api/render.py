"""Values as the wire shows them: snake_case, RFC 3339 in UTC, secrets masked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from waypost.connect import fields
from waypost.connect.registry import Registry
from waypost.core import ids, times
from waypost.core.incarnations import id_of
from waypost.core.model import DeliveryState, Destination, Disabling, Event, TenantSummary
from waypost.core.retry import RetryOverrides
from waypost.core.routing import Skip
from waypost.core.status import standing
from waypost.flow.access import NewKey
from waypost.flow.catalogue import Listed
from waypost.flow.replays import REPLAY_PREFIX
from waypost.store.base import ApiKey, StoredAttempt, StoredEvent
from waypost.store.replays import Ask

ATTEMPT_PREFIX = "atm"
INCLUDES = ("event", "event.data", "response_data", "request_data", "destination")


def tenant(summary: TenantSummary) -> dict[str, Any]:
    return {
        "id": summary.tenant.id,
        "destinations_count": summary.destinations_count,
        "topics": summary.topics,
        "metadata": summary.tenant.metadata,
        "created_at": times.render(summary.tenant.created_at),
        "updated_at": times.render(summary.tenant.updated_at),
    }


def destination(value: Destination, registry: Registry) -> dict[str, Any]:
    """A destination with what is sensitive masked; of a type that is no longer installed, everything is."""
    kind = registry.get(value.type)
    target, target_url = kind.target(value) if kind and not value.damaged else ("", None)
    shown: dict[str, Any] = {
        "id": value.id,
        "type": value.type,
        "topics": value.topics,
        "config": fields.redact(kind.config_fields if kind else (), value.config),
        "credentials": fields.redact(kind.credential_fields if kind else (), value.credentials),
        "delivery_metadata": value.delivery_metadata,
        "metadata": value.metadata,
        "created_at": times.render(value.created_at),
        "updated_at": times.render(value.updated_at),
        "disabled_at": times.render_optional(value.disabled_at),
        "target": target,
    }
    if value.disabled_at is not None:
        shown["disabled"] = _disabled(value.disabled)
    optional = {
        "filter": value.filter,
        "subscriptions": value.subscriptions,
        "retry_policy": _policy(value.retry_policy),
        "target_url": target_url,
        "damaged": value.damaged,
    }
    return shown | {name: part for name, part in optional.items() if part}


def _disabled(why: Disabling | None) -> dict[str, Any]:
    """Why a destination is disabled, and by whom."""
    if why is None:
        return {"reason": "manual", "by": None}
    shown: dict[str, Any] = {"reason": why.reason, "by": why.by}
    if why.code is not None:
        shown |= {"code": why.code, "error": why.detail, "consecutive_failures": why.failures}
        shown["failing_since"] = times.render_optional(why.failing_since)
    return shown


def event(stored: StoredEvent) -> dict[str, Any]:
    """An event with its data byte for byte as it was published."""
    return {
        "id": stored.event.id,
        "tenant_id": id_of(stored.event.tenant_id),
        "matched_destination_ids": stored.matched_destination_ids,
        **_event_parts(stored.event),
        "data": msgspec.Raw(stored.event.data),
    }


def event_with_skips(stored: StoredEvent) -> dict[str, Any]:
    """An event with the destinations that did not get it and why."""
    return event(stored) | {"skipped": [_skip(skip) for skip in stored.skipped]}


def routing(stored: StoredEvent, states: Mapping[str, DeliveryState]) -> list[dict[str, Any]]:
    """Each destination that an event was routed past or to, with the present state of its delivery if there is one."""
    matched = [Skip(destination_id, "") for destination_id in stored.matched_destination_ids]
    known = {*stored.matched_destination_ids, *(skip.destination_id for skip in stored.skipped)}
    later = [Skip(destination_id, "") for destination_id in states if destination_id not in known]
    return [
        {
            "destination_id": each.destination_id,
            "matched": each in matched,
            "reason": each.reason or None,
            "detail": each.detail,
            "delivery_state": standing(states[each.destination_id]) if each.destination_id in states else None,
        }
        for each in (*matched, *stored.skipped, *later)
    ]


def attempt(
    stored: StoredAttempt, include: Collection[str], registry: Registry, ask: Ask | None = None
) -> dict[str, Any]:
    """An attempt and who asked for it; `include` names what is shown beside it (one of INCLUDES)."""
    value = stored.attempt
    shown: dict[str, Any] = {
        "id": ids.encode(ATTEMPT_PREFIX, value.seq),
        "tenant_id": id_of(value.tenant_id),
        "status": "success" if value.ok else "failed",
        "time": times.render(value.time),
        "code": value.code,
        "detail": value.detail,
        "attempt_number": value.number,
        "manual": value.manual,
        "initiated_by": ask.initiator if ask else None,
        "replay_id": ids.encode(REPLAY_PREFIX, ask.replay_seq) if ask and ask.replay_seq is not None else None,
        "destination_type": value.destination_type,
        "event_id": stored.event.id,
        "destination_id": stored.destination.id,
        "latency_ms": value.latency // 1_000,
    }
    if "response_data" in include:
        shown["response_data"] = value.response
    if "request_data" in include:
        shown["request_data"] = value.request
    if "event" in include or "event.data" in include:
        shown["event"] = _event_of(stored, with_data="event.data" in include)
    if "destination" in include:
        shown["destination"] = _destination_of(stored, registry)
    return shown


def topic(listed: Listed) -> dict[str, Any]:
    """A topic of the catalogue; one that only the settings know has no more than its name."""
    known = listed.topic
    return {
        "name": listed.name,
        "description": known.description if known else None,
        "schema": known.schema if known else None,
        "example": known.example if known else None,
        "deprecated": known.deprecated if known else False,
        "read_only": listed.read_only,
        "created_at": times.render_optional(known.created_at if known else None),
        "updated_at": times.render_optional(known.updated_at if known else None),
    }


def api_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "tenant_id": id_of(key.tenant_id),
        "created_at": times.render(key.created_at),
        "expires_at": times.render_optional(key.expires_at),
    }


def new_api_key(new: NewKey) -> dict[str, Any]:
    """A key with its secret: shown once, at its creation."""
    return api_key(new.key) | {"key": new.secret}


def _event_of(stored: StoredAttempt, *, with_data: bool) -> dict[str, Any]:
    summary = {
        "id": stored.event.id,
        "tenant_id": id_of(stored.event.tenant_id),
        "destination_id": stored.destination.id,
        **_event_parts(stored.event),
    }
    return summary | {"data": msgspec.Raw(stored.event.data)} if with_data else summary


def _destination_of(stored: StoredAttempt, registry: Registry) -> dict[str, Any]:
    """The destination of an attempt. It has no need of its credentials, so whatever is in them is masked."""
    to = stored.destination
    return destination(to, registry) | {
        "tenant_id": id_of(to.tenant_id),
        "credentials": fields.redact((), to.credentials),
    }


def _event_parts(value: Event) -> dict[str, Any]:
    shown = {
        "topic": value.topic,
        "time": times.render(value.time),
        "eligible_for_retry": value.eligible_for_retry,
        "metadata": value.metadata,
    }
    return shown if value.expunged_at is None else shown | {"expunged_at": times.render(value.expunged_at)}


def _skip(skip: Skip) -> dict[str, Any]:
    return {"destination_id": skip.destination_id, "reason": skip.reason, "detail": skip.detail}


def _policy(own: RetryOverrides | None) -> dict[str, Any] | None:
    policy: dict[str, Any] | None = None if own is None else msgspec.to_builtins(own)
    return policy
