"""Alert rules, channels and the alerts themselves, as people manage them (specification, section 4.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import structs

from waypost.connect import fields
from waypost.connect.channel import ChannelType
from waypost.connect.connector import Change, Tools
from waypost.connect.relay import as_destination
from waypost.core import ids, times, topics
from waypost.core.alerts import (
    DEFAULT_SEVERITY,
    NEWS_TOPICS,
    OF_THE_WHOLE,
    PARAMETERS,
    SEVERITIES,
    Audience,
    Channel,
    Kind,
    Rule,
    Thresholds,
)
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import Conflict, Forbidden, Invalid, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import Actor, Micros
from waypost.flow import thresholds
from waypost.flow.clock import token
from waypost.flow.notices import ALERT_PREFIX
from waypost.flow.permits import Permits, answered_for
from waypost.flow.values import Values, merged_fields, secrets_left_behind
from waypost.store.alerting import Alert, AlertQuery, ChannelState, Entry
from waypost.store.base import Page, Slice, Store

T = TypeVar("T")
Named = TypeVar("Named", Rule, Channel)

LONGEST_NAME = 100
MOST_TOPICS = 50
MOST_CHANNELS_OF_A_RULE = 50

_RULE_FIELDS = frozenset(
    {"kind", "owner", "tenant_id", "destination_id", "enabled", "severity", "parameters", "channel_ids", "muted_until"}
)
_CHANNEL_FIELDS = frozenset(
    {
        "type",
        "name",
        "tenant_id",
        "config",
        "credentials",
        "topics",
        "min_severity",
        "enabled",
        "muted_until",
    }
)
_FIXED_OF_A_RULE = ("kind", "owner", "tenant_id", "destination_id")
_FIXED_OF_A_CHANNEL = ("type", "tenant_id")


class Alerting:
    """All rules about alert rules and channels.

    `view` in its methods is the tenant that is asking, None for the operator, who sees everything. A tenant has rules
    and channels of its own and hears of its own destinations only. `defaults` are the rules of the settings, which hold
    where the operator has stored none. `changed` is called after every committed change.
    """

    def __init__(
        self,
        store: Store,
        types: Mapping[str, ChannelType],
        tools: Tools,
        *,
        defaults: Sequence[Rule],
        max_channels: int,
        changed: Callable[[], None],
        now: Callable[[], Micros],
        permits: Permits | None = None,
        largest: int = 262_144,
    ) -> None:
        self.permits = permits or Permits(types=types)
        self._store = store
        self._largest = largest
        self.types = types
        self._tools = tools
        self._defaults = defaults
        self._max_channels = max_channels
        self._changed = changed
        self._now = now

    # rules

    async def rules(self, view: str | None) -> tuple[Rule, ...]:
        """The operator sees all, those of the settings first; a tenant its own."""
        stored = await self._store.alerting.rules()
        if view is not None:
            return tuple(rule for rule in stored if rule.owner == view)
        replaced = {rule.kind for rule in stored if rule.owner is None and rule.tenant_id is None}
        return (*(rule for rule in self._defaults if rule.kind not in replaced), *stored)

    async def rule(self, rule_id: str, view: str | None) -> Rule:
        """Raises NotFound."""
        return _found(rule_id, await self.rules(view), "alert rule not found")

    async def add_rule(self, body: object, *, view: str | None, by: Actor) -> Rule:
        """Add a rule from the JSON object of a create. Raises Invalid, Forbidden, NotFound, BadRequest."""
        sent = _object(body, _RULE_FIELDS, "an alert rule")
        problems: list[str] = []
        kind = _one_of("kind", sent.get("kind"), list(Kind), problems)
        owner, tenant_id = _place(sent, view, self._store.key_of, problems)
        if problems:
            raise Invalid(problems)
        kind = Kind(str(kind))
        if kind in OF_THE_WHOLE and (owner is not None or tenant_id is not None):
            raise Forbidden(f"{kind} is about the whole server: it is the operator's alone")
        await self._refuse_unknown(tenant_id)
        now, no = self._now(), await self._destination_no(tenant_id, sent.get("destination_id"))
        new = Rule(
            no=0,
            id=f"rul_{token()}",
            kind=kind,
            thresholds=self._default_thresholds(kind),
            severity=DEFAULT_SEVERITY[kind],
            owner=owner,
            tenant_id=tenant_id,
            destination_no=no,
            destination_id=sent.get("destination_id"),
            created_at=now,
            updated_at=now,
        )
        new = await self._with_changes(new, sent)
        where = {"tenant_id": id_of(tenant_id), "destination_id": new.destination_id}
        entry = _entry(by, "alert_rule.create", new, {"kind": str(kind), **where})
        added = await self._store.alerting.add_rule(new, entry)
        self._changed()
        return added

    async def update_rule(self, rule_id: str, body: object, *, view: str | None, by: Actor) -> Rule:
        """Merge the JSON object of an update. Raises Invalid, NotFound, Conflict for a rule of the settings."""
        sent = _object(body, _RULE_FIELDS, "an alert rule")
        old = await self.rule(rule_id, view)
        if old.no == 0:
            raise Conflict("this rule comes from the settings: create one of the same kind to take its place")
        _refuse_fixed(sent, _FIXED_OF_A_RULE)
        new = await self._with_changes(old, sent)
        if new == old:
            return old
        new = structs.replace(new, updated_at=self._now())
        if not await self._store.alerting.replace_rule(new, _entry(by, "alert_rule.update", new, _names(sent))):
            raise NotFound("alert rule not found")
        self._changed()
        return new

    async def delete_rule(self, rule_id: str, *, view: str | None, by: Actor) -> None:
        """Raises NotFound, Conflict for a rule of the settings."""
        old = await self.rule(rule_id, view)
        if old.no == 0:
            raise Conflict("this rule comes from the settings: create one of the same kind to take its place")
        await self._store.alerting.delete_rule(old.no, _entry(by, "alert_rule.delete", old))
        self._changed()

    def _default_thresholds(self, kind: Kind) -> Thresholds:
        return next((rule.thresholds for rule in self._defaults if rule.kind is kind), Thresholds())

    async def _refuse_unknown(self, tenant_id: str | None) -> None:
        if tenant_id is not None and await self._store.tenant(tenant_id) is None:
            raise NotFound("tenant not found")

    async def _destination_no(self, tenant_id: str | None, destination_id: object) -> int | None:
        if destination_id is None:
            return None
        found = await self._store.destination(tenant_id or "", str(destination_id))
        if found is None:
            raise NotFound("destination not found")
        return found.no

    async def _with_changes(self, rule: Rule, sent: Mapping[str, Any]) -> Rule:
        problems: list[str] = []
        parameters = sent.get("parameters", {})
        if not isinstance(parameters, dict):
            problems.append("parameters must be an object")
            parameters = {}
        changed = structs.replace(
            rule,
            thresholds=thresholds.read(rule.kind, rule.thresholds, parameters, problems),
            severity=_one_of("severity", sent.get("severity", rule.severity), SEVERITIES, problems) or rule.severity,
            enabled=_flag("enabled", sent.get("enabled", rule.enabled), problems),
            channel_ids=await self._channel_ids(rule, sent, problems),
            muted_until=_instant("muted_until", sent, rule.muted_until, problems),
        )
        problems += _missing(changed)
        if problems:
            raise Invalid(problems)
        return changed

    async def _channel_ids(self, rule: Rule, sent: Mapping[str, Any], problems: list[str]) -> tuple[str, ...] | None:
        if "channel_ids" not in sent:
            return rule.channel_ids
        wanted = sent["channel_ids"]
        if wanted is None:
            return None
        is_list = isinstance(wanted, list) and all(isinstance(channel_id, str) for channel_id in wanted)
        if not is_list or len(wanted) > MOST_CHANNELS_OF_A_RULE:
            problems.append(f"channel_ids must be a list of at most {MOST_CHANNELS_OF_A_RULE} ids, or null for all")
            return None
        known = {channel.id for channel in await self._store.alerting.channels() if channel.owner == rule.owner}
        problems += [f"channel_ids: {channel_id} is not known" for channel_id in wanted if channel_id not in known]
        return tuple(wanted)

    # channels

    async def channels(self, view: str | None) -> tuple[Channel, ...]:
        """The operator sees all, a tenant its own."""
        stored = await self._store.alerting.channels()
        return stored if view is None else tuple(channel for channel in stored if channel.owner == view)

    async def channel(self, channel_id: str, view: str | None) -> Channel:
        """Raises NotFound."""
        return _found(channel_id, await self.channels(view), "alert channel not found")

    async def channel_to_test(self, channel_id: str, view: str | None, *, by: Actor) -> Channel:
        """The channel, once it is written down that somebody tests it. Raises NotFound."""
        found = await self.channel(channel_id, view)
        await self._store.alerting.audit(_entry(by, "alert_channel.test", found))
        return found

    async def channel_states(self, channels: Sequence[Channel]) -> Mapping[int, ChannelState]:
        """How they are doing, by their numbers."""
        return await self._store.alerting.channel_states([channel.no for channel in channels])

    async def add_channel(self, body: object, *, view: str | None, by: Actor) -> Channel:
        """Add a channel from the JSON object of a create. Nothing is called while saving.

        Raises Invalid, Forbidden, NotFound for an unknown tenant, BadRequest for a taken name or one too many.
        """
        sent = _object(body, _CHANNEL_FIELDS, "an alert channel")
        problems: list[str] = []
        kind = _one_of("type", sent.get("type"), list(self.types), problems)
        owner = sent.get("tenant_id") if view is None else view
        if owner is not None and not isinstance(owner, str):
            problems.append("tenant_id must be text")
        if kind is None or problems:
            raise Invalid(problems)
        if view is None and owner is not None:
            owner = self._store.key_of(owner)
        await self._refuse_unknown(owner)
        now = self._now()
        new = Channel(
            no=0,
            id=f"chn_{token()}",
            owner=owner,
            type=str(kind),
            name=str(kind),
            config={},
            credentials={},
            created_at=now,
            updated_at=now,
        )
        new = await asyncio.to_thread(self._changed_channel, new, sent, problems, by=by)
        entry = _entry(by, "alert_channel.create", new, {"type": new.type, "name": new.name})
        added = await self._store.alerting.add_channel(new, entry, limit=self._max_channels)
        self._changed()
        return added

    async def update_channel(self, channel_id: str, body: object, *, view: str | None, by: Actor) -> Channel:
        """Merge the JSON object of an update (RFC 7396); a secret sent back masked stays. Raises Invalid, NotFound."""
        sent = _object(body, _CHANNEL_FIELDS, "an alert channel")
        old = await self.channel(channel_id, view)
        _refuse_fixed(sent, _FIXED_OF_A_CHANNEL)
        new = await asyncio.to_thread(self._changed_channel, old, sent, [], by=by)
        if new == old:
            return old
        new = structs.replace(new, updated_at=self._now())
        stored = await self._store.alerting.replace_channel(new, _entry(by, "alert_channel.update", new, _names(sent)))
        if stored is None:
            raise Conflict("the alert channel is being changed by others at the same time; try again")
        self._changed()
        return stored

    async def confirm_channel(self, channel: Channel, code: str, *, by: Actor) -> Channel:
        """Somebody at one of its addresses has agreed to be written to. Raises Invalid for a code that is wrong."""
        agreed = self.permits.agreed(channel, code)
        if agreed is None:
            raise Invalid(["code is not that of an address of this channel which waits for one"])
        entry = _entry(by, "alert_channel.confirm", channel, {"address": agreed.confirmed[-1]})
        stored = await self._store.alerting.replace_channel(structs.replace(agreed, updated_at=self._now()), entry)
        if stored is None:
            raise Conflict("the alert channel is being changed by others at the same time; try again")
        self._changed()
        return stored

    async def delete_channel(self, channel_id: str, *, view: str | None, by: Actor) -> None:
        """What was still to be told there is dropped. Raises NotFound."""
        old = await self.channel(channel_id, view)
        await self._store.alerting.delete_channel(old.no, _entry(by, "alert_channel.delete", old))
        self._changed()

    def _changed_channel(self, old: Channel, sent: Mapping[str, Any], problems: list[str], *, by: Actor) -> Channel:
        """Raises Invalid or Forbidden. Not for the event loop: a type may load a large library to look at a value."""
        kind = self.types.get(old.type)
        if kind is None:
            raise Invalid([f"alert channel type {old.type} is not installed on this server"])
        needed = [field for field in old.damaged if field != "confirmed" and field not in sent]
        problems += [f"{field} cannot be read any more: save it anew" for field in needed]
        config = _merged(kind.config_fields, old.config, sent, "config", problems)
        credentials = _merged(kind.credential_fields, old.credentials, sent, "credentials", problems)
        if by.kind == "tenant" and not problems:
            before = Values(config=old.config, credentials=old.credentials)
            after = Values(config=config, credentials=credentials)
            problems += secrets_left_behind(kind, before, after, sent.get("config", {}), sent.get("credentials", {}))
        changed = structs.replace(
            old,
            name=_name(sent.get("name", old.name), problems),
            topics=_topics(sent.get("topics", old.topics), problems),
            min_severity=_one_of("min_severity", sent.get("min_severity", old.min_severity), SEVERITIES, problems)
            or old.min_severity,
            enabled=_flag("enabled", sent.get("enabled", old.enabled), problems),
            muted_until=_instant("muted_until", sent, old.muted_until, problems),
            damaged=(),
        )
        if not problems:
            change = Change(
                old=as_destination(old) if old.no else None,
                config=config,
                credentials=credentials,
                by_tenant=by.kind == "tenant",
                now=self._now(),
                options=self._tools.options,
            )
            config, credentials = kind.prepare(change)
        problems += fields.problems(kind.config_fields, config, where="config", what=kind.what)
        problems += fields.problems(kind.credential_fields, credentials, where="credentials", what=kind.what)
        problems += [] if problems else kind.check(config, credentials, self._tools)
        if problems:
            raise Invalid(list(dict.fromkeys(problems)))
        changed = structs.replace(changed, config=config, credentials=credentials)
        by_tenant = by.kind == "tenant"
        if by_tenant and (config, credentials) != (old.config, old.credentials) and self.permits.forbids(old.type):
            raise Forbidden(f"alert channels of type {old.type} are the operator's to make here")
        if by_tenant:
            fields.refuse_larger(changed, self._largest, "the alert channel")
        return structs.replace(changed, confirmed=answered_for(old, changed, by_tenant=by_tenant))

    # alerts

    async def alerts(self, query: AlertQuery, page: Page) -> Slice[Alert]:
        return await self._store.alerting.alerts(query, page)

    async def acknowledge(self, alert: Alert, *, by: Actor) -> Alert:
        """Somebody has seen it. Idempotent: the first one stays on record."""
        entry = Entry(
            actor=by,
            action="alert.acknowledge",
            tenant_id=None if alert.audience is Audience.OPERATOR else alert.tenant_id,
            subject=ids.encode(ALERT_PREFIX, alert.seq),
        )
        await self._store.alerting.acknowledge(alert.seq, entry, now=self._now())
        seen = await self.alerts(AlertQuery(seqs=(alert.seq,)), Page(limit=1))
        return seen.items[0]


def _place(
    sent: Mapping[str, Any], view: str | None, key_of: Callable[[str], str], problems: list[str]
) -> tuple[str | None, str | None]:
    """The owner of a new rule, and the tenant for which it holds."""
    tenant_id = sent.get("tenant_id") if view is None else view
    problems += [
        f"{name} must be text"
        for name in ("tenant_id", "destination_id")
        if sent.get(name) is not None and not isinstance(sent[name], str)
    ]
    owner = sent.get("owner", "operator" if view is None else "tenant")
    if owner not in ("operator", "tenant") or (view is not None and owner != "tenant"):
        problems.append("owner must be operator or tenant; a tenant's rules are its own")
    if owner == "tenant" and tenant_id is None:
        problems.append("tenant_id is required for a tenant's rule")
    if sent.get("destination_id") is not None and tenant_id is None:
        problems.append("tenant_id is required with destination_id")
    if view is None and isinstance(tenant_id, str):
        tenant_id = key_of(tenant_id)
    return (tenant_id if owner == "tenant" else None), tenant_id


def _missing(rule: Rule) -> list[str]:
    """Parameters without which a rule says nothing."""
    optional = {"all_of", "codes", "probe_after_seconds", "failing_seconds"}
    if rule.kind is Kind.AUTO_DISABLE:
        limits = rule.thresholds
        empty = limits.count is None and limits.failing_seconds is None and not limits.codes
        return ["parameters must have count, failing_seconds or codes"] if empty else []
    return [
        f"parameters.{name} is required"
        for name in PARAMETERS[rule.kind]
        if name not in optional and getattr(rule.thresholds, name) in (None, ())
    ]


def _found(wanted: str, among: Sequence[Named], otherwise: str) -> Named:
    for one in among:
        if one.id == wanted:
            return one
    raise NotFound(otherwise)


def _object(body: object, known: frozenset[str], what: str) -> dict[str, Any]:
    sent = json_object(body)
    problems = strangers(sent, known, what)
    if problems:
        raise Invalid(problems)
    return sent


def _refuse_fixed(sent: Mapping[str, Any], names: Sequence[str]) -> None:
    problems = [f"{name} cannot be updated" for name in names if name in sent]
    if problems:
        raise Invalid(problems)


def _entry(by: Actor, action: str, thing: Rule | Channel, detail: dict[str, Any] | None = None) -> Entry:
    return Entry(actor=by, action=action, tenant_id=thing.owner, subject=thing.id, detail=detail or {})


def _names(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {"changed": sorted(sent)}


def _one_of(name: str, value: object, options: Sequence[T], problems: list[str]) -> T | None:
    for option in options:
        if value == option:
            return option
    if value is None:
        problems.append(f"{name} is required")
    else:
        problems.append(f"{name} must be one of: {', '.join(map(str, options))}")
    return None


def _flag(name: str, value: object, problems: list[str]) -> bool:
    if not isinstance(value, bool):
        problems.append(f"{name} must be true or false")
    return bool(value)


def _instant(name: str, sent: Mapping[str, Any], old: Micros | None, problems: list[str]) -> Micros | None:
    if name not in sent:
        return old
    value = sent[name]
    instant = times.parse(value) if isinstance(value, str) else None
    if value is not None and instant is None:
        problems.append(f"{name} must be an RFC 3339 date-time or null")
    return instant


def _name(value: object, problems: list[str]) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_NAME:
        problems.append(f"name must be 1 to {LONGEST_NAME} printable characters")
    return str(value)


def _topics(value: object, problems: list[str]) -> tuple[str, ...]:
    patterns = [topics.EVERYTHING] if value == topics.EVERYTHING else value
    if not isinstance(patterns, list | tuple) or not 0 < len(patterns) <= MOST_TOPICS:
        problems.append(f"topics must be * or a list of 1 to {MOST_TOPICS} topics")
        return ()
    for pattern in patterns:
        if not isinstance(pattern, str) or not topics.is_pattern(pattern):
            problems.append("topics must hold texts such as alert.* or attempt.failed")
        elif topics.unknown([pattern], NEWS_TOPICS):
            problems.append(f"topics: there is no news of {pattern}; known are {', '.join(NEWS_TOPICS)}")
    return tuple(map(str, patterns))


def _merged(
    known: Sequence[fields.Field], old: dict[str, str], sent: Mapping[str, Any], where: str, problems: list[str]
) -> dict[str, str]:
    changes = sent.get(where, {})
    if changes is not None and not isinstance(changes, dict):
        problems.append(f"{where} must be an object")
        return old
    return merged_fields(known, old, changes, where, problems)
