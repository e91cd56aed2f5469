"""How a destination is doing: what one more attempt means for its alerts, and whether to go on sending to it.

Every attempt is folded in by itself and in the transaction that records it, so however many fail at once no step is
passed over and none is told twice (specification, sections 4.1.4 and 4.2.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, structs

from waypost.core import codes
from waypost.core.alerts import TOPICS, Audience, Kind, Raised, Rule, Severity, Watched, worst
from waypost.core.model import SECOND, Disabling, Micros

_BUCKETS_A_WINDOW = 20
_LONGEST_PROBE_WAIT = 86_400.0
_LEAST_BUCKET = SECOND

Buckets = tuple[tuple[int, int, int], ...]
"""Attempts by time, oldest first: (number of the bucket, successes, failures)."""


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rule has said so far, by its kind: the highest step; when; or whether it stands and what it counts.

    `width` is the length of the buckets: a rule that was given another window begins anew. `limit` is the number that
    was passed when it began to stand: a higher one has to be passed as well.
    """

    step: int = 0
    at: Micros = 0
    standing: bool = False
    limit: float = 0.0
    buckets: Buckets = ()
    width: Micros = 0


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a destination is doing.

    `streak` counts the failures since the last success, `failing_since` is the first of them. `told` is kept by rule.
    `troubled` says who has heard of trouble and not yet of its end, and how bad it was. `probes` counts the trials of a
    disabled destination; the next one is due at `probe_at`.
    """

    streak: int = 0
    failing_since: Micros | None = None
    told: dict[str, Told] = {}
    troubled: dict[Audience, Severity] = {}
    probes: int = 0
    probe_at: Micros | None = None


WELL = Health()


class Sighting(Struct, frozen=True, kw_only=True):
    """What an attempt showed. `exhausted`: it was the last one of a delivery that should have been retried."""

    ok: bool
    code: str
    at: Micros
    manual: bool
    exhausted: bool
    detail: str | None = None


class Observation(Struct, frozen=True, kw_only=True):
    """What follows from a sighting. `disabling` says why no more is to be sent; `enable` that all is well again."""

    health: Health
    raised: tuple[Raised, ...] = ()
    disabling: Disabling | None = None
    enable: bool = False


def uncounted(health: Health, watched: Sequence[Watched]) -> list[Rule]:
    """The rules whose window is empty: before a failure they are to be seeded with what went before."""
    rates = [one.rule for one in watched if one.rule.kind is Kind.FAILURE_RATE]
    return [rule for rule in rates if not _counts(health.told.get(rule.id, Told()), bucket_width(rule))]


def bucket_width(rule: Rule) -> Micros:
    """The length of a bucket of a rule's window, in microseconds."""
    window = round((rule.thresholds.window_seconds or 0) * SECOND)
    return max(window // _BUCKETS_A_WINDOW, _LEAST_BUCKET)


def seeded(health: Health, rule: Rule, successes: Sequence[tuple[int, int]]) -> Health:
    """The health with what a rule would have counted: (number of the bucket, successes), oldest first."""
    buckets = tuple((bucket, count, 0) for bucket, count in successes)
    return structs.replace(health, told={**health.told, rule.id: Told(buckets=buckets, width=bucket_width(rule))})


def observe(health: Health, sighting: Sighting, watched: Sequence[Watched], disabled: Disabling | None) -> Observation:
    """Fold one attempt in. A manual attempt that fails says nothing new; one that succeeds ends a streak.

    While a destination is disabled nothing is told and nothing counted; a success enables one that Waypost disabled.
    """
    if disabled is not None:
        return _observe_disabled(health, sighting, watched, disabled)
    if sighting.manual and not sighting.ok:
        return Observation(health=health)
    if sighting.ok:
        return _observe_success(health, sighting, watched)
    return _observe_failure(health, sighting, watched)


def enabled(health: Health) -> Health:
    """After somebody enabled it: a clean slate, but whoever heard of the trouble is still owed its end."""
    return Health(troubled=health.troubled)


def replanned(health: Health, watched: Sequence[Watched], now: Micros) -> Health:
    """After the rules about trials of disabled destinations have changed: the next one is no later than they say."""
    planned = _next_probe(watched, health.probes, now)
    return structs.replace(health, probe_at=None if planned is None else min(planned, health.probe_at or planned))


def deleted(health: Health, watched: Sequence[Watched]) -> tuple[Raised, ...]:
    """What those are told who heard of trouble, when there will be no more of it: the destination is deleted."""
    over = _recovered(Health(troubled=health.troubled), watched, began=health.failing_since)
    return tuple(structs.replace(raised, data=raised.data | {"deleted": True}) for raised in over.raised)


def _observe_success(health: Health, sighting: Sighting, watched: Sequence[Watched]) -> Observation:
    told: dict[str, Told] = {}
    for rule in (one.rule for one in watched if one.rule.id in health.told):
        after = structs.replace(health.told[rule.id], step=0)
        if rule.kind is Kind.FAILURE_RATE:
            after = _counted(after, rule, sighting)
        if after != Told():
            told[rule.id] = after
    calm = Health(told=told, troubled=health.troubled)
    return _recovered(calm, watched, began=health.failing_since)


def _recovered(health: Health, watched: Sequence[Watched], began: Micros | None) -> Observation:
    """Tell those who heard of trouble that it is over, once nothing stands any more."""
    if not health.troubled or any(told.standing for told in health.told.values()):
        return Observation(health=health)
    raised = []
    for one in watched:
        heard = {part: health.troubled[part] for part in one.audience.parts if part in health.troubled}
        if one.rule.kind is Kind.RECOVERED and heard:
            audience = one.audience if len(heard) == len(one.audience.parts) else next(iter(heard))
            relief = _raise(one._replace(audience=audience), began)
            raised.append(structs.replace(relief, relieves=worst(*heard.values())))
    return Observation(health=structs.replace(health, troubled={}), raised=tuple(raised))


def _observe_failure(health: Health, sighting: Sighting, watched: Sequence[Watched]) -> Observation:
    failing = structs.replace(
        health, streak=health.streak + 1, failing_since=health.failing_since or sighting.at, told=dict(health.told)
    )
    raised: list[Raised] = []
    for one in watched:
        if one.rule.kind is Kind.CONSECUTIVE_FAILURES:
            raised += _steps(failing, one)
        elif one.rule.kind is Kind.FAILURE_RATE:
            raised += _rate(failing, one, sighting)
        elif one.rule.kind is Kind.EXHAUSTED_RETRIES and sighting.exhausted:
            raised += _exhausted(failing, one, sighting)
    disabling = _disabling(failing, sighting, watched)
    if disabling is not None:
        raised += [
            _raise(one, failing.failing_since, reason=disabling.reason, streak=failing.streak)
            for one in watched
            if one.rule.kind is Kind.DESTINATION_DISABLED
        ]
        failing = structs.replace(failing, probe_at=_next_probe(watched, 0, sighting.at))
    return Observation(
        health=structs.replace(failing, troubled=_troubled(health.troubled, raised)),
        raised=tuple(raised),
        disabling=disabling,
    )


def _troubled(before: dict[Audience, Severity], raised: Sequence[Raised]) -> dict[Audience, Severity]:
    """Who is owed the end of trouble after these alerts."""
    troubled = dict(before)
    for one in raised:
        troubled |= {part: worst(one.severity, troubled.get(part, one.severity)) for part in one.audience.parts}
    return troubled


def _steps(health: Health, one: Watched) -> list[Raised]:
    """What was told by other numbers counts for as much as the failures before would have told by these."""
    count, told = one.rule.thresholds.count or 1, health.told.get(one.rule.id, Told())
    reached = _step_of(one.rule, health.streak)
    if reached <= min(told.step, _step_of(one.rule, health.streak - 1)):
        return []
    health.told[one.rule.id] = Told(step=reached)
    return [_raise(one, health.failing_since, current=health.streak, max=count, threshold=reached)]


def _step_of(rule: Rule, streak: int) -> int:
    count = rule.thresholds.count or 1
    return max((step for step in rule.thresholds.steps if streak * 100 >= count * step), default=0)


def _rate(health: Health, one: Watched, sighting: Sighting) -> list[Raised]:
    before = health.told.get(one.rule.id, Told())
    after = health.told[one.rule.id] = _counted(before, one.rule, sighting)
    if not after.standing or (before.standing and (before.limit or after.limit) >= after.limit):
        return []
    successes, failures = _sums(after.buckets)
    limits = one.rule.thresholds
    return [
        _raise(
            one,
            health.failing_since,
            failed=failures,
            attempts=successes + failures,
            percent=round(100 * failures / (successes + failures), 1),
            threshold=limits.percent,
            window_seconds=limits.window_seconds,
        )
    ]


def _counted(told: Told, rule: Rule, sighting: Sighting) -> Told:
    """The window with one more attempt. An alert stands until the share of failures has fallen to half the limit.

    It begins with a failure: a success that makes the attempts enough leaves it to the next one.
    """
    width, limits = bucket_width(rule), rule.thresholds
    now = sighting.at // width
    oldest = now - round((limits.window_seconds or 0) * SECOND) // width
    buckets = {bucket: (successes, failures) for bucket, successes, failures in _counts(told, width) if bucket > oldest}
    successes, failures = buckets.get(now, (0, 0))
    buckets[now] = (successes + sighting.ok, failures + (not sighting.ok))
    kept: Buckets = tuple((bucket, *counts) for bucket, counts in sorted(buckets.items()))
    successes, failures = _sums(kept)
    share, limit = 100 * failures / (successes + failures), limits.percent or 0.0
    over = not sighting.ok and share >= limit and successes + failures >= (limits.min_count or 1)
    standing = share > limit / 2 if told.standing and told.limit in {limit, 0.0} else over
    if not failures:
        return Told()  # nothing to count until the next failure, which is seeded anew
    return Told(standing=standing, limit=limit if standing else 0.0, buckets=kept, width=width)


def _counts(told: Told, width: Micros) -> Buckets:
    return told.buckets if told.width == width else ()


def _sums(buckets: Buckets) -> tuple[int, int]:
    return sum(successes for _, successes, _ in buckets), sum(failures for _, _, failures in buckets)


def _exhausted(health: Health, one: Watched, sighting: Sighting) -> list[Raised]:
    told = health.told.get(one.rule.id, Told())
    quiet_until = told.at + round((one.rule.thresholds.window_seconds or 0) * SECOND)
    if told.at and sighting.at < quiet_until:
        return []
    health.told[one.rule.id] = Told(at=sighting.at)
    return [_raise(one, health.failing_since)]


def _disabling(health: Health, sighting: Sighting, watched: Sequence[Watched]) -> Disabling | None:
    for rule in (one.rule for one in watched if one.rule.kind is Kind.AUTO_DISABLE):
        reason = _reason_to_disable(health, sighting, rule)
        if reason is not None:
            return Disabling(
                reason=reason,
                by="system",
                code=sighting.code,
                detail=sighting.detail,
                failures=health.streak,
                failing_since=health.failing_since,
            )
    return None


def _reason_to_disable(health: Health, sighting: Sighting, rule: Rule) -> str | None:
    limits = rule.thresholds
    if codes.names(limits.codes, sighting.code):
        return "gone"
    failing = sighting.at - (health.failing_since or sighting.at)
    too_many = limits.count is not None and health.streak >= limits.count
    too_long = limits.failing_seconds is not None and failing >= limits.failing_seconds * SECOND
    if limits.all_of and limits.count is not None and limits.failing_seconds is not None:
        return "consecutive_failures" if too_many and too_long else None
    return "consecutive_failures" if too_many else "failing_too_long" if too_long else None


def _observe_disabled(
    health: Health, sighting: Sighting, watched: Sequence[Watched], disabled: Disabling
) -> Observation:
    if sighting.ok and disabled.by == "system":
        calm = Health(troubled=health.troubled)
        over = _recovered(calm, watched, began=health.failing_since)
        return structs.replace(over, enable=True)
    if health.probe_at is None or sighting.ok or sighting.at < health.probe_at:
        return Observation(health=health)
    probes = health.probes + 1
    return Observation(
        health=structs.replace(health, probes=probes, probe_at=_next_probe(watched, probes, sighting.at))
    )


def _next_probe(watched: Sequence[Watched], probes: int, now: Micros) -> Micros | None:
    """When to try one delivery of a disabled destination: each wait is twice the one before, at most a day."""
    waits = [
        one.rule.thresholds.probe_after_seconds
        for one in watched
        if one.rule.kind is Kind.AUTO_DISABLE and one.rule.thresholds.probe_after_seconds is not None
    ]
    if not waits:
        return None
    wait = min(waits) * 2.0 ** min(probes, 32)
    return now + round(min(wait, max(min(waits), _LONGEST_PROBE_WAIT)) * SECOND)


def _raise(one: Watched, failing_since: Micros | None, **data: Any) -> Raised:
    rule = one.rule
    return Raised(
        kind=rule.kind,
        topic=TOPICS[rule.kind],
        severity=rule.severity,
        audience=one.audience,
        rule=rule,
        data=data | {"failing_since": failing_since},
    )
