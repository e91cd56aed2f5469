"""Alerts, rules, channels and the audit log as the wire shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waypost.api.render import ATTEMPT_PREFIX
from waypost.connect import fields
from waypost.connect.channel import ChannelType
from waypost.core import ids, times
from waypost.core.alerts import Channel, Rule
from waypost.core.incarnations import id_of
from waypost.core.model import Actor
from waypost.flow import thresholds
from waypost.flow.notices import ALERT_PREFIX, Writer, shown
from waypost.store.alerting import Alert, ChannelState, Entry

ENTRY_PREFIX = "aud"


def rule(value: Rule) -> dict[str, Any]:
    built_in = value.no == 0
    return {
        "id": value.id,
        "kind": value.kind,
        "owner": "operator" if value.owner is None else "tenant",
        "built_in": built_in,
        "tenant_id": id_of(value.tenant_id),
        "destination_id": value.destination_id,
        "enabled": value.enabled,
        "severity": value.severity,
        "parameters": thresholds.shown(value.kind, value.thresholds),
        "channel_ids": value.channel_ids,
        "muted_until": times.render_optional(value.muted_until),
        "created_at": None if built_in else times.render(value.created_at),
        "updated_at": None if built_in else times.render(value.updated_at),
    }


def channel(value: Channel, state: ChannelState, types: Mapping[str, ChannelType]) -> dict[str, Any]:
    """A channel with what is sensitive masked; of a type that is no longer installed, everything is."""
    kind = types.get(value.type)
    return {
        "id": value.id,
        "tenant_id": id_of(value.owner),
        "type": value.type,
        "name": value.name,
        "target": kind.target(value.config, value.credentials) if kind and not value.damaged else "",
        "config": fields.redact(kind.config_fields if kind else (), value.config),
        "credentials": fields.redact(kind.credential_fields if kind else (), value.credentials),
        "topics": value.topics,
        "min_severity": value.min_severity,
        "enabled": value.enabled,
        **({"damaged": value.damaged} if value.damaged else {}),
        "muted_until": times.render_optional(value.muted_until),
        "state": {
            "waiting": state.waiting,
            "sent_at": times.render_optional(state.sent_at),
            "failed_at": times.render_optional(state.failed_at),
            "error": state.error,
        },
        "created_at": times.render(value.created_at),
        "updated_at": times.render(value.updated_at),
    }


def alert(value: Alert, writer: Writer) -> dict[str, Any]:
    title, text = writer.words(value)
    occurrence = value.occurrence
    return {
        "id": ids.encode(ALERT_PREFIX, value.seq),
        "time": times.render(ids.time_of(value.seq)),
        "kind": value.kind,
        "topic": value.topic,
        "severity": value.severity,
        "audience": value.audience,
        "rule_id": value.rule_id,
        "tenant_id": id_of(value.tenant_id),
        "destination_id": value.destination_id,
        "event_id": None if occurrence is None else occurrence.event.id,
        "attempt_id": None if occurrence is None else ids.encode(ATTEMPT_PREFIX, occurrence.attempt.seq),
        "title": title,
        "text": text,
        "facts": dict(writer.facts(value)),
        "data": shown(value.data),
        "acknowledged_at": times.render_optional(value.acknowledged_at),
        "acknowledged_by": value.acknowledged_by,
    }


def actor(value: Actor, view: str | None) -> dict[str, Any]:
    """Somebody as the tenant `view` sees it, who is not told from where the operator works; None is the operator."""
    shows_ip = view is None or value.kind == "tenant"
    return {"type": value.kind, "name": value.name, "ip": value.ip if shows_ip else None}


def entry(value: Entry, view: str | None) -> dict[str, Any]:
    """An entry as the tenant `view` sees it."""
    return {
        "id": ids.encode(ENTRY_PREFIX, value.seq),
        "time": times.render(ids.time_of(value.seq)),
        "actor": actor(value.actor, view),
        "action": value.action,
        "tenant_id": id_of(value.tenant_id),
        "subject": value.subject,
        "detail": _detail(value.detail),
    }


def _detail(kept: dict[str, Any]) -> dict[str, Any]:
    """What an entry tells; of a manual retry also what came of it."""
    if "attempt" not in kept:
        return kept
    told = {name: value for name, value in kept.items() if name != "attempt"}
    made = kept["attempt"]
    outcome = {"status": "success" if made["ok"] else "failed", "code": made["code"]}
    return told | {"attempt_id": ids.encode(ATTEMPT_PREFIX, made["seq"])} | outcome
