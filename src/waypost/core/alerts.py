"""Alerts: what is watched for and who hears of it (specification, sections 4.1.4 and 4.2.3).

A rule has an owner: the operator, or a tenant that watches its own destinations. Of an owner's rules of one kind the
one for the destination goes before the one for its tenant, and that before the one for all. A tenant without a rule of
its own hears what the operator's rule finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from waypost.core import topics
from waypost.core.model import Micros

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


class Kind(StrEnum):
    """What a rule watches for. `auto_disable` acts; the others tell."""

    CONSECUTIVE_FAILURES = "consecutive_failures"
    FAILURE_RATE = "failure_rate"
    EXHAUSTED_RETRIES = "exhausted_retries"
    DESTINATION_DISABLED = "destination_disabled"
    RECOVERED = "recovered"
    BACKLOG_AGE = "backlog_age"
    STORE_TROUBLE = "store_trouble"
    AUTO_DISABLE = "auto_disable"


OF_THE_WHOLE = frozenset({Kind.BACKLOG_AGE, Kind.STORE_TROUBLE})
"""Kinds that are about the server and no destination: the operator's alone."""

TOPICS = {
    Kind.CONSECUTIVE_FAILURES: "alert.destination.consecutive_failure",
    Kind.FAILURE_RATE: "alert.destination.failure_rate",
    Kind.EXHAUSTED_RETRIES: "alert.attempt.exhausted_retries",
    Kind.DESTINATION_DISABLED: "alert.destination.disabled",
    Kind.RECOVERED: "alert.destination.recovered",
    Kind.BACKLOG_AGE: "alert.backlog.age",
    Kind.STORE_TROUBLE: "alert.store.trouble",
}
"""The operator event that tells of an alert; the names that Hookdeck Outpost has are the same here."""

ATTEMPT_SUCCESS = "attempt.success"
ATTEMPT_FAILED = "attempt.failed"
SUBSCRIPTION_UPDATED = "tenant.subscription.updated"
SYSTEM_RECOVERED = {Kind.BACKLOG_AGE: "alert.backlog.recovered", Kind.STORE_TROUBLE: "alert.store.recovered"}
TOPIC_UPDATED = "topic.updated"
TOPIC_DELETED = "topic.deleted"
NEWS_TOPICS = (
    *(*TOPICS.values(), *SYSTEM_RECOVERED.values(), ATTEMPT_SUCCESS, ATTEMPT_FAILED),
    *(SUBSCRIPTION_UPDATED, TOPIC_UPDATED, TOPIC_DELETED),
)
"""Everything that a channel can ask for."""


class Thresholds(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The numbers of a rule; which of them a kind has, `PARAMETERS` says. Durations are in seconds.

    - `count`: consecutive failures; `steps`: the percentages of it at which an alert is raised.
    - `percent` of at least `min_count` attempts within `window_seconds`.
    - `window_seconds` of exhausted retries: after one alert, further ones of the destination are held back that long.
    - `age_seconds`: how long the oldest due delivery may wait.
    - `failing_seconds`: how long a destination may fail without a success. `all_of` asks for `count` and
      `failing_seconds` together; otherwise either will do. `codes` disable at once.
    - `probe_after_seconds`: how long after it was disabled one delivery is tried; None for never.
    """

    count: int | None = None
    steps: tuple[int, ...] = ()
    percent: float | None = None
    min_count: int | None = None
    window_seconds: float | None = None
    age_seconds: float | None = None
    failing_seconds: float | None = None
    all_of: bool = False
    codes: tuple[str, ...] = ()
    probe_after_seconds: float | None = None


PARAMETERS: dict[Kind, tuple[str, ...]] = {
    Kind.CONSECUTIVE_FAILURES: ("count", "steps"),
    Kind.FAILURE_RATE: ("percent", "min_count", "window_seconds"),
    Kind.EXHAUSTED_RETRIES: ("window_seconds",),
    Kind.DESTINATION_DISABLED: (),
    Kind.RECOVERED: (),
    Kind.BACKLOG_AGE: ("age_seconds",),
    Kind.STORE_TROUBLE: ("age_seconds",),
    Kind.AUTO_DISABLE: ("count", "failing_seconds", "all_of", "codes", "probe_after_seconds"),
}

DEFAULT_SEVERITY: dict[Kind, Severity] = {
    Kind.CONSECUTIVE_FAILURES: "warning",
    Kind.FAILURE_RATE: "warning",
    Kind.EXHAUSTED_RETRIES: "warning",
    Kind.DESTINATION_DISABLED: "critical",
    Kind.RECOVERED: "info",
    Kind.BACKLOG_AGE: "critical",
    Kind.STORE_TROUBLE: "critical",
    Kind.AUTO_DISABLE: "critical",
}


class Rule(Struct, frozen=True, kw_only=True):
    """What is watched for, where and how it is told.

    `owner` is the tenant whose rule it is, None for the operator. `tenant_id` and `destination_no` narrow where it
    holds. `channel_ids` names the owner's channels to tell, None for all of them. `no` is 0 for a rule that comes from
    the settings.
    """

    no: int
    id: str
    kind: Kind
    thresholds: Thresholds
    severity: Severity
    owner: str | None = None
    tenant_id: str | None = None
    destination_no: int | None = None
    destination_id: str | None = None
    enabled: bool = True
    channel_ids: tuple[str, ...] | None = None
    muted_until: Micros | None = None
    created_at: Micros = 0
    updated_at: Micros = 0


class Channel(Struct, frozen=True, kw_only=True):
    """Where alerts go: `topics` says which news, `min_severity` from which severity on.

    `owner` is the tenant whose channel it is, None for the operator. `version` grows with every change. `confirmed` are
    the addresses whose owners have agreed to be written to, where that is asked.
    """

    no: int
    id: str
    owner: str | None
    type: str
    name: str
    config: dict[str, str]
    credentials: dict[str, str]
    created_at: Micros
    updated_at: Micros
    topics: tuple[str, ...] = ("alert.*",)
    min_severity: Severity = "info"
    enabled: bool = True
    muted_until: Micros | None = None
    version: int = 1
    confirmed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    """Fields that cannot be read any more; it is disabled until they are saved anew."""


_MOST_REMEMBERED = 100_000


def worst(*severities: Severity) -> Severity:
    """The highest of several severities."""
    return max(severities, key=SEVERITIES.index)


class Audience(StrEnum):
    """Whose alert it is."""

    OPERATOR = "operator"
    TENANT = "tenant"
    BOTH = "both"

    @property
    def parts(self) -> tuple[Audience, ...]:
        """The operator, the tenant, or each of them."""
        return (Audience.OPERATOR, Audience.TENANT) if self is Audience.BOTH else (self,)


class Watched(NamedTuple):
    """A rule that holds for a destination, and who hears of what it finds."""

    rule: Rule
    audience: Audience


class Raised(Struct, frozen=True, kw_only=True):
    """An alert as it is found, before it has a number. `data` is what is special to its kind.

    `relieves` is how bad the trouble was that is over: whoever heard of that is to hear of its end.
    """

    kind: Kind
    topic: str
    severity: Severity
    audience: Audience
    rule: Rule
    data: dict[str, Any]
    relieves: Severity | None = None


def about_the_whole(rule: Rule, data: dict[str, Any], *, recovered: bool) -> Raised:
    """The alert that a rule about the server raises, or the end of it."""
    return Raised(
        kind=Kind.RECOVERED if recovered else rule.kind,
        topic=SYSTEM_RECOVERED[rule.kind] if recovered else TOPICS[rule.kind],
        severity="info" if recovered else rule.severity,
        audience=Audience.OPERATOR,
        rule=rule,
        data=data,
        relieves=rule.severity if recovered else None,
    )


class Book:
    """All rules and channels, ready to be asked what holds for a destination and who is to be told."""

    def __init__(self, rules: Iterable[Rule], channels: Iterable[Channel]) -> None:
        self._rules: dict[tuple[Kind, str | None, str | None, int | None], Rule] = {}
        for rule in rules:  # later ones replace earlier ones: the stored go before those of the settings
            self._rules[rule.kind, rule.owner, rule.tenant_id, rule.destination_no] = rule
        self._channels = [channel for channel in channels if channel.enabled]
        self._covers = {channel.id: topics.matcher(channel.topics) for channel in self._channels}
        self._watched: dict[tuple[str, int], tuple[Watched, ...]] = {}
        self.tells_successes = self._is_asked_for(ATTEMPT_SUCCESS)
        self.tells_failures = self._is_asked_for(ATTEMPT_FAILED)
        self.tells_subscriptions = self._is_asked_for(SUBSCRIPTION_UPDATED)

    def _is_asked_for(self, topic: str) -> bool:
        return any(covers(topic) for covers in self._covers.values())

    def watched(self, tenant_id: str, destination_no: int) -> tuple[Watched, ...]:
        """The enabled rules that hold for a destination."""
        known = self._watched.get((tenant_id, destination_no))
        if known is None:
            if len(self._watched) >= _MOST_REMEMBERED:
                self._watched.clear()
            known = self._watched[tenant_id, destination_no] = tuple(self._look_up(tenant_id, destination_no))
        return known

    def of_the_whole(self, kind: Kind) -> Rule | None:
        """The enabled rule about the server."""
        rule = self._rules.get((kind, None, None, None))
        return rule if rule is not None and rule.enabled else None

    def _look_up(self, tenant_id: str, destination_no: int) -> Iterable[Watched]:
        for kind in Kind:
            if kind in OF_THE_WHOLE:
                continue
            operators = self._nearest(kind, None, tenant_id, destination_no)
            tenants = self._nearest(kind, tenant_id, tenant_id, destination_no)
            if operators is not None and operators.enabled:
                yield Watched(operators, Audience.BOTH if tenants is None else Audience.OPERATOR)
            if tenants is not None and tenants.enabled:
                yield Watched(tenants, Audience.TENANT)

    def _nearest(self, kind: Kind, owner: str | None, tenant_id: str, destination_no: int) -> Rule | None:
        for place in ((tenant_id, destination_no), (tenant_id, None), (None, None)):
            rule = self._rules.get((kind, owner, *place))
            if rule is not None:
                return rule
        return None

    def listeners(self, raised: Raised, tenant_id: str | None, *, now: Micros) -> list[Channel]:
        """The channels that are to be told of an alert."""
        rule = raised.rule
        if is_muted(rule.muted_until, now):
            return []
        hearing = self.subscribers(raised.topic, tenant_id, raised.audience, now=now)
        severity = worst(raised.severity, raised.relieves or raised.severity)
        return [
            channel
            for channel in hearing
            if worst(severity, channel.min_severity) == severity
            and (rule.channel_ids is None or channel.owner != rule.owner or channel.id in rule.channel_ids)
        ]

    def subscribers(self, topic: str, tenant_id: str | None, audience: Audience, *, now: Micros) -> list[Channel]:
        """The channels of an audience that ask for a topic and are not muted."""
        owners = [None if part is Audience.OPERATOR else tenant_id for part in audience.parts]
        return [
            channel
            for channel in self._channels
            if channel.owner in owners and self._covers[channel.id](topic) and not is_muted(channel.muted_until, now)
        ]


def is_muted(until: Micros | None, now: Micros) -> bool:
    """Whether a rule or a channel that is muted until then still is."""
    return until is not None and now < until
