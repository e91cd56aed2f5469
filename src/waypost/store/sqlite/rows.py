"""Values to rows and back: the one place that knows how SQL columns hold the nouns of the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import convert

from waypost.core import ids
from waypost.core.alerts import Channel, Kind, Rule, Thresholds
from waypost.core.errors import SettingsError
from waypost.core.filters.values import plain
from waypost.core.keeping import Exchange
from waypost.core.model import (
    Attempt,
    DeliveryState,
    Destination,
    Disabling,
    Event,
    Subscription,
    Tenant,
    TenantSummary,
)
from waypost.core.retry import RetryOverrides
from waypost.core.routing import Skip
from waypost.core.topics import union
from waypost.store.base import ApiKey, Publication, Result, StoredEvent
from waypost.store.vault import Vault

Row = Sequence[Any]
T = TypeVar("T")

_NO_NAMES: tuple[str, ...] = ()

_log = structlog.get_logger("waypost")
_MOST_TOLD = 10_000
_told: set[tuple[str, str]] = set()
"""What was found damaged and is said once."""

TENANT = "id, key, metadata, created_at, updated_at, epoch, tokens_since"
DESTINATION = (
    "no, tenant_id, id, type, topics, filter, config, credentials, delivery_metadata, metadata, retry_policy,"
    " created_at, updated_at, disabled_at, version, disabled, subscriptions"
)
EVENT = (
    "e.seq, e.id, e.tenant_id, e.topic, e.time, e.data, e.metadata, e.eligible, e.destination_id, e.trace,"
    " (SELECT u.at FROM expunged u WHERE u.event_seq = e.seq)"
)
STORED_EVENT = f"{EVENT}, e.accepted_at, e.matched, e.skipped"
ATTEMPT = (
    "a.seq, a.tenant_id, a.event_seq, a.destination_no, a.destination_type, a.number, a.manual, a.ok, a.code,"
    " a.latency, a.detail, a.request, a.response, a.causes"
)
API_KEY = "id, name, digest, hint, created_at, scopes, tenant_key, expires_at"
EVENT_WIDTH = 11
ATTEMPT_WIDTH = 14

RULE = (
    "no, id, kind, owner, tenant_id, destination_no, enabled, severity, thresholds, channel_ids, muted_until,"
    " created_at, updated_at"
)
SELECT_RULES = (
    f"SELECT {', '.join(f'r.{column.strip()}' for column in RULE.split(','))}, d.id FROM alert_rules r"
    " LEFT JOIN destinations d ON d.no = r.destination_no"
)
CHANNEL = (
    "no, id, owner, type, name, config, credentials, topics, min_severity, enabled, muted_until, created_at,"
    " updated_at, version, confirmed"
)

_OF_CONFIG = "config."
"""Stands before the keys of config values among sealed credentials; no credential's key has a dot."""

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.decode
_texts = msgspec.json.Decoder(dict[str, str])
names = msgspec.json.Decoder(tuple[str, ...]).decode
_exact = msgspec.json.Decoder(float_hook=lambda text: plain(Decimal(text)))
_skips = msgspec.json.Decoder(tuple[Skip, ...])
_overrides = msgspec.json.Decoder(RetryOverrides)
_disablings = msgspec.json.Decoder(Disabling)
_thresholds = msgspec.json.Decoder(Thresholds)


def json_text(value: Any) -> str | None:
    """JSON for a column; None for nothing at all."""
    return None if value is None else _encode(value).decode()


def json_value(text: str | None) -> Any:
    """What a column of JSON holds, its numbers exact; None for nothing at all."""
    return None if text is None else _exact.decode(text)


def readable(what: str, field: str, text: str | None) -> Any:
    """The same; None too for what is damaged."""
    return _Reading(what).cell(field, lambda: json_value(text), None)


def tenant(row: Row) -> Tenant:
    return Tenant(
        id=row[0],
        key=row[1],
        metadata=_Reading(f"tenant {row[1]}").cell("metadata", lambda: _optional_texts(row[2]), None),
        created_at=row[3],
        updated_at=row[4],
        epoch=row[5],
        tokens_since=row[6],
    )


def tenant_summary(row: Row) -> TenantSummary:
    """From a tenant's columns followed by the JSON list of its destinations' topic lists."""
    reading = _Reading(f"tenant {row[1]}")
    none: list[list[str]] = []
    subscriptions = reading.cell("topics", lambda: msgspec.json.decode(row[7], type=list[list[str]]), none)
    patterns = [pattern for topics in subscriptions for pattern in topics]
    return TenantSummary(tenant=tenant(row), destinations_count=len(subscriptions), topics=union(patterns))


class _Reading:
    """Reads the cells of one row. What is damaged does not keep the rest from being read, nor other rows."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.damaged: list[str] = []

    def cell(self, field: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except (SettingsError, msgspec.MsgspecError, ValueError, TypeError) as error:
            self.damaged.append(field)
            if len(_told) < _MOST_TOLD and (told := (self._what, field)) not in _told:
                _told.add(told)
                _log.error("damaged", what=self._what, field=field, error=str(error))
            return otherwise


def destination(row: Row, vault: Vault) -> Destination:
    context, reading = credentials_context(row[1], row[2]), _Reading(f"destination {row[1]}/{row[2]}")
    cell = reading.cell
    config = cell("config", lambda: _texts.decode(row[6]), _no_texts())
    credentials = _moved(config, cell("credentials", lambda: _texts.decode(vault.open(row[7], context)), _no_texts()))
    return Destination(
        no=row[0],
        tenant_id=row[1],
        id=row[2],
        type=row[3],
        topics=cell("topics", lambda: names(row[4]), _NO_NAMES),
        filter=cell("filter", lambda: _filter(row[5]), None),
        config=config,
        credentials=credentials,
        delivery_metadata=cell("delivery_metadata", lambda: _optional_texts(row[8]), None),
        metadata=cell("metadata", lambda: _optional_texts(row[9]), None),
        retry_policy=cell("retry_policy", lambda: None if row[10] is None else _overrides.decode(row[10]), None),
        created_at=row[11],
        updated_at=row[12],
        disabled_at=row[13],
        version=row[14],
        disabled=cell("disabled", lambda: None if row[15] is None else _disablings.decode(row[15]), None),
        subscriptions=cell("subscriptions", lambda: _subscriptions(row[16]), ()),
        damaged=tuple(reading.damaged),
    )


def _no_texts() -> dict[str, str]:
    return {}


def _filter(text: str | None) -> dict[str, Any] | None:
    return convert(json_value(text), dict[str, Any] | None)


def _subscriptions(text: str | None) -> tuple[Subscription, ...]:
    return () if text is None else convert(json_value(text), tuple[Subscription, ...])


def disabling(text: str | None) -> Disabling:
    """Why a destination is disabled; one that was disabled before reasons were kept was disabled by hand."""
    return Disabling(reason="manual", by="") if text is None else _disablings.decode(text)


def destination_values(value: Destination, vault: Vault) -> tuple[Any, ...]:
    """Every column of DESTINATION but `no`."""
    config, sealed = sealed_apart(
        value.type, value.config, value.credentials, credentials_context(value.tenant_id, value.id), vault
    )
    return (
        value.tenant_id,
        value.id,
        value.type,
        json_text(value.topics),
        json_text(value.filter),
        config,
        sealed,
        json_text(value.delivery_metadata),
        json_text(value.metadata),
        json_text(value.retry_policy),
        value.created_at,
        value.updated_at,
        value.disabled_at,
        value.version,
        json_text(value.disabled),
        json_text(value.subscriptions or None),
    )


def sealed_apart(
    kind: str, config: Mapping[str, str], credentials: Mapping[str, str], context: str, vault: Vault
) -> tuple[str, bytes]:
    """The columns `config` and `credentials`: what is secret in the config is sealed among the credentials."""
    secret = vault.secret_config.get(kind, frozenset())
    apart = {_OF_CONFIG + key: value for key, value in config.items() if key in secret}
    open_ = {key: value for key, value in config.items() if key not in secret}
    return _encode(open_).decode(), vault.seal(_encode({**credentials, **apart}), context)


def _moved(config: dict[str, str], texts: dict[str, str]) -> dict[str, str]:
    """The credentials; what was sealed with them of the config is put back there."""
    apart = [key for key in texts if key.startswith(_OF_CONFIG)]
    config |= {key.removeprefix(_OF_CONFIG): texts.pop(key) for key in apart}
    return texts


def credentials_context(tenant_id: str, destination_id: str) -> str:
    """What a destination's sealed credentials are bound to."""
    return f"credentials of {tenant_id}/{destination_id}"


def event(row: Row) -> Event:
    return Event(
        seq=row[0],
        id=row[1],
        tenant_id=row[2],
        topic=row[3],
        time=row[4],
        data=row[5],
        metadata=_optional_texts(row[6]),
        eligible_for_retry=bool(row[7]),
        destination_id=row[8],
        trace=row[9],
        expunged_at=row[10],
    )


def stored_event(row: Row) -> StoredEvent:
    accepted_at, matched, skipped = row[EVENT_WIDTH : EVENT_WIDTH + 3]
    return StoredEvent(
        event=event(row),
        accepted_at=accepted_at,
        matched_destination_ids=names(matched),
        skipped=() if skipped is None else _skips.decode(skipped),
    )


def event_values(publication: Publication) -> tuple[Any, ...]:
    """The row of `events`, in the table's order."""
    event = publication.event
    matched = [destination.id for destination in publication.matched]
    return (
        event.seq,
        event.tenant_id,
        event.id,
        event.topic,
        event.time,
        publication.accepted_at,
        event.eligible_for_retry,
        event.destination_id,
        json_text(event.metadata),
        event.data,
        json_text(matched),
        json_text(publication.skipped) if publication.skipped else None,
        event.trace,
    )


def delivery_values(publication: Publication) -> list[tuple[Any, ...]]:
    """The rows of `deliveries`, in the table's order: pending or kept, with the first attempt ahead."""
    seq = publication.event.seq
    leased = publication.lease_until is not None
    due = publication.lease_until if leased else publication.accepted_at
    pending = [(seq, destination.no, 0, 1, 0, 0, due, leased) for destination in publication.matched]
    if not publication.kept:
        return pending
    return pending + [(seq, to.no, int(DeliveryState.KEPT), 1, 0, 0, None, False) for to in publication.kept]


def attempt(row: Row) -> Attempt:
    return Attempt(
        seq=row[0],
        tenant_id=row[1],
        event_seq=row[2],
        destination_no=row[3],
        destination_type=row[4],
        number=row[5],
        manual=bool(row[6]),
        ok=bool(row[7]),
        code=row[8],
        time=ids.time_of(row[0]),
        latency=row[9],
        detail=row[10],
        request=None if row[11] is None else _decode(row[11]),
        response=None if row[12] is None else _decode(row[12]),
        causes=() if row[13] is None else names(row[13]),
    )


def attempt_values(result: Result, exchange: Exchange) -> tuple[Any, ...]:
    """The row of `attempts`, in the table's order, with what is kept of the exchange."""
    delivery, outcome = result.delivery, result.outcome
    return (
        result.seq,
        delivery.event.tenant_id,
        delivery.event.seq,
        delivery.destination_no,
        result.destination_type,
        delivery.attempt,
        delivery.manual,
        outcome.ok,
        outcome.code,
        outcome.latency,
        outcome.detail,
        None if exchange.request is None else exchange.request.decode(),
        None if exchange.response is None else exchange.response.decode(),
        json_text(outcome.causes or None),
    )


def rule(row: Row) -> Rule:
    """From the columns of SELECT_RULES. One that cannot be read whole is off."""
    reading = _Reading(f"alert rule {row[1]}")
    thresholds = reading.cell("parameters", lambda: _thresholds.decode(row[8]), Thresholds())
    channel_ids = reading.cell("channel_ids", lambda: None if row[9] is None else names(row[9]), None)
    return Rule(
        no=row[0],
        id=row[1],
        kind=Kind(row[2]),
        owner=row[3],
        tenant_id=row[4],
        destination_no=row[5],
        enabled=bool(row[6]) and not reading.damaged,
        severity=row[7],
        thresholds=thresholds,
        channel_ids=channel_ids,
        muted_until=row[10],
        created_at=row[11],
        updated_at=row[12],
        destination_id=row[13],
    )


def rule_values(value: Rule) -> tuple[Any, ...]:
    """Every column of RULE but `no`."""
    return (
        value.id,
        value.kind,
        value.owner,
        value.tenant_id,
        value.destination_no,
        value.enabled,
        value.severity,
        json_text(value.thresholds),
        json_text(value.channel_ids),
        value.muted_until,
        value.created_at,
        value.updated_at,
    )


def channel(row: Row, vault: Vault) -> Channel:
    reading = _Reading(f"alert channel {row[1]}")
    cell = reading.cell
    config = cell("config", lambda: _texts.decode(row[5]), _no_texts())
    context = channel_context(row[1])
    credentials = _moved(config, cell("credentials", lambda: _texts.decode(vault.open(row[6], context)), _no_texts()))
    topics, confirmed = (
        cell("topics", lambda: names(row[7]), _NO_NAMES),
        cell("confirmed", lambda: names(row[14]), _NO_NAMES),
    )
    return Channel(
        no=row[0],
        id=row[1],
        owner=row[2],
        type=row[3],
        name=row[4],
        config=config,
        credentials=credentials,
        topics=topics,
        min_severity=row[8],
        enabled=bool(row[9]) and not reading.damaged,
        muted_until=row[10],
        created_at=row[11],
        updated_at=row[12],
        version=row[13],
        confirmed=confirmed,
        damaged=tuple(reading.damaged),
    )


def channel_values(value: Channel, vault: Vault) -> tuple[Any, ...]:
    """Every column of CHANNEL but `no`."""
    config, sealed = sealed_apart(value.type, value.config, value.credentials, channel_context(value.id), vault)
    return (
        value.id,
        value.owner,
        value.type,
        value.name,
        config,
        sealed,
        json_text(value.topics),
        value.min_severity,
        value.enabled,
        value.muted_until,
        value.created_at,
        value.updated_at,
        value.version,
        json_text(value.confirmed),
    )


def channel_context(channel_id: str) -> str:
    """What a channel's sealed credentials are bound to."""
    return f"credentials of alert channel {channel_id}"


def api_key(row: Row) -> ApiKey:
    return ApiKey(
        id=row[0],
        name=row[1],
        digest=row[2],
        hint=row[3],
        created_at=row[4],
        scopes=names(row[5]),
        tenant_id=row[6],
        expires_at=row[7],
    )


def api_key_values(value: ApiKey) -> tuple[Any, ...]:
    """Every column of API_KEY."""
    return (
        value.id,
        value.name,
        value.digest,
        value.hint,
        value.created_at,
        json_text(value.scopes),
        value.tenant_id,
        value.expires_at,
    )


def decoded(text: str) -> dict[str, Any]:
    """A JSON object out of a column."""
    found: dict[str, Any] = _decode(text)
    return found


def _optional_texts(text: str | None) -> dict[str, str] | None:
    return None if text is None else _texts.decode(text)
