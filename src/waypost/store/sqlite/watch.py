"""The health of destinations and what it leads to, inside the transaction that records their attempts.

Lives in the writing thread. A destination that is well costs nothing beyond one look for those that are not.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from waypost.core import health as healths
from waypost.core import ids
from waypost.core.alerts import (
    ATTEMPT_FAILED,
    ATTEMPT_SUCCESS,
    SUBSCRIPTION_UPDATED,
    Audience,
    Book,
    Channel,
    Kind,
    Raised,
    Rule,
    Watched,
    about_the_whole,
)
from waypost.core.health import WELL, Health, Observation, Sighting, Told
from waypost.core.model import SECOND, SYSTEM, DeliveryState, Disabling, Micros, TenantSummary
from waypost.core.settle import INTERRUPTED
from waypost.store.alerting import Entry
from waypost.store.base import Recorded, Result
from waypost.store.sqlite import audit, rows
from waypost.store.sqlite.bulk import in_bulk
from waypost.store.vault import Vault

THE_WHOLE = 0
"""The destination number under which the health of the server itself is kept."""

_health = msgspec.json.Decoder(Health)
_MOST_SEEDED = 100_000
"""Attempts looked at, at most, to learn what a window held before the first failure."""

_UPSERT_HEALTH = """
    INSERT INTO destination_health VALUES {rows}
    ON CONFLICT (destination_no) DO UPDATE SET
        streak = excluded.streak, probe_at = excluded.probe_at, health = excluded.health
"""


class _About(Struct, frozen=True, kw_only=True):
    """What an alert is about."""

    tenant_id: str | None
    destination_no: int | None = None
    attempt_seq: int | None = None


class Watch:
    """Knows the rules and channels as they stand in the database; `forget` after a change of either, or its undoing.

    `defaults` are the rules of the settings. `next_seq` numbers alerts, news and audit entries; it belongs to the
    writing thread alone.
    """

    def __init__(self, defaults: Sequence[Rule], vault: Vault, next_seq: Callable[[], int]) -> None:
        self._defaults = defaults
        self._vault = vault
        self.next_seq = next_seq
        self._known: Book | None = None

    def forget(self) -> None:
        self._known = None

    def book(self, db: sqlite3.Connection) -> Book:
        if self._known is None:
            stored = [rows.rule(row) for row in db.execute(f"{rows.SELECT_RULES} ORDER BY r.no")]
            channels = db.execute(f"SELECT {rows.CHANNEL} FROM alert_channels ORDER BY no").fetchall()
            self._known = Book([*self._defaults, *stored], [rows.channel(row, self._vault) for row in channels])
        return self._known

    # attempts

    def observe(self, db: sqlite3.Connection, results: Sequence[Result]) -> list[Recorded]:
        """What recording these results leads to. To be called before the attempts themselves are put on record."""
        book = self.book(db)
        known = _healths(db, {result.delivery.destination_no for result in results})
        batch = _Batch(self, db, book, known)
        recorded = [batch.add(result) for result in results]
        _keep(db, {no: known[no] for no in batch.touched})
        return recorded

    def raise_(self, db: sqlite3.Connection, raised: Raised, about: _About, *, now: Micros, told: bool = False) -> bool:
        """Put an alert on record with the news for its channels. True when there is somebody to tell.

        `told`: its channels have heard already.
        """
        seq = self.next_seq()
        db.execute(
            "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (
                seq,
                raised.kind,
                raised.topic,
                raised.severity,
                raised.audience,
                raised.rule.id,
                about.tenant_id,
                about.destination_no,
                about.attempt_seq,
                rows.json_text(raised.data),
            ),
        )
        listeners = [] if told else self.book(db).listeners(raised, about.tenant_id, now=now)
        for channel in listeners:
            self.tell(db, channel, raised.topic, about.tenant_id, now=now, alert_seq=seq)
        return bool(listeners)

    def tell(
        self,
        db: sqlite3.Connection,
        channel: Channel,
        topic: str,
        tenant_id: str | None,
        *,
        now: Micros,
        alert_seq: int | None = None,
        attempt_seq: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Put a piece of news for one channel into the outbox."""
        db.execute(
            "INSERT INTO news VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, 0, NULL)",
            (self.next_seq(), channel.no, topic, tenant_id, alert_seq, attempt_seq, rows.json_text(data), now),
        )

    # the server as a whole

    def observe_backlog(self, db: sqlite3.Connection, age: float, now: Micros) -> bool:
        """Raise an alert when the oldest due delivery waits too long, and another when that is over."""
        rule = self.book(db).of_the_whole(Kind.BACKLOG_AGE)
        if rule is None:
            return False
        health = _healths(db, {THE_WHOLE}).get(THE_WHOLE, WELL)
        told = health.told.get(rule.id, Told())
        limit = rule.thresholds.age_seconds or 0.0
        passed_before = (told.limit or limit) >= limit
        standing = age >= limit / 2 if told.standing and passed_before else age >= limit
        if standing is told.standing and (passed_before or not standing):
            return False
        self.raise_about_the_whole(
            db, Kind.BACKLOG_AGE, {"age_seconds": round(age, 1)}, recovered=not standing, now=now
        )
        after = structs.replace(health, told={**health.told, rule.id: Told(standing=standing, limit=limit, at=now)})
        _keep(db, {THE_WHOLE: after})
        return True

    def raise_about_the_whole(
        self,
        db: sqlite3.Connection,
        kind: Kind,
        data: dict[str, Any],
        *,
        recovered: bool,
        now: Micros,
        told: bool = False,
    ) -> None:
        rule = self.book(db).of_the_whole(kind)
        if rule is not None:
            raised = about_the_whole(rule, data, recovered=recovered)
            self.raise_(db, raised, _About(tenant_id=None), now=now, told=told)

    # management

    def write_down(self, db: sqlite3.Connection, entry: Entry | None) -> int | None:
        """Add an entry to the audit log and give its number; None is for changes that nobody asked for."""
        if entry is None:
            return None
        seq = self.next_seq()
        audit.write(db, seq, entry)
        return seq

    def enabled(self, db: sqlite3.Connection, destination_no: int) -> None:
        """Somebody enabled a destination."""
        known = _healths(db, {destination_no})
        if destination_no in known:
            _keep(db, {destination_no: healths.enabled(known[destination_no])})

    def replan_probes(self, db: sqlite3.Connection, *, now: Micros) -> None:
        """The rules have changed: trials of the destinations that Waypost disabled are planned as these say."""
        sql = (
            "SELECT d.no, d.tenant_id, d.disabled FROM destination_health h"
            " JOIN destinations d ON d.no = h.destination_no WHERE d.disabled_at IS NOT NULL AND d.deleted_at IS NULL"
        )
        tenants = {no: tenant_id for no, tenant_id, why in db.execute(sql) if rows.disabling(why).by == "system"}
        for no, health in _healths(db, set(tenants)).items():
            planned = healths.replanned(health, self.book(db).watched(tenants[no], no), now)
            if planned != health:
                _keep(db, {no: planned})

    def deleting(self, db: sqlite3.Connection, condition: str, parameter: int | str, *, now: Micros) -> None:
        """Living destinations are about to be deleted, and what is known of their health with them."""
        sql = f"SELECT no, tenant_id FROM destinations WHERE {condition} AND deleted_at IS NULL"
        tenants = dict(db.execute(sql, (parameter,)).fetchall())
        for no, health in _healths(db, set(tenants)).items():
            (last,) = db.execute("SELECT max(seq) FROM attempts WHERE destination_no = ?", (no,)).fetchone()
            about = _About(tenant_id=tenants[no], destination_no=no, attempt_seq=last)
            for raised in healths.deleted(health, self.book(db).watched(tenants[no], no)):
                self.raise_(db, raised, about, now=now)
        self.forget()

    def subscriptions_changed(
        self, db: sqlite3.Connection, before: TenantSummary | None, after: TenantSummary | None, *, now: Micros
    ) -> None:
        """Tell the channels that ask for it when a tenant's topics or number of destinations changed."""
        if before is None or after is None:
            return
        summary = (after.topics, after.destinations_count)
        if summary == (before.topics, before.destinations_count):
            return
        data = {
            "tenant_id": after.tenant.id,
            "topics": after.topics,
            "previous_topics": before.topics,
            "destinations_count": after.destinations_count,
            "previous_destinations_count": before.destinations_count,
        }
        for channel in self.book(db).subscribers(SUBSCRIPTION_UPDATED, after.tenant.key, Audience.BOTH, now=now):
            self.tell(db, channel, SUBSCRIPTION_UPDATED, after.tenant.key, now=now, data=data)

    def catalogue_changed(self, db: sqlite3.Connection, news: str, data: dict[str, Any], *, now: Micros) -> None:
        """Tell the operator's channels that ask for it what became of a topic."""
        for channel in self.book(db).subscribers(news, None, Audience.OPERATOR, now=now):
            self.tell(db, channel, news, None, now=now, data=data)


_DELETED = Disabling(reason="deleted", by="")


class _Batch:
    """Folds the results of one transaction in, one after another."""

    def __init__(self, watch: Watch, db: sqlite3.Connection, book: Book, known: dict[int, Health]) -> None:
        self._watch = watch
        self._db = db
        self._book = book
        self._known = known
        self._passed: defaultdict[int, list[Micros]] = defaultdict(list)
        self._disabled: dict[int, Disabling | None] = {}
        self.touched: set[int] = set()

    def add(self, result: Result) -> Recorded:
        no, outcome = result.delivery.destination_no, result.outcome
        if outcome.code == INTERRUPTED:
            return Recorded()
        now = outcome.started_at + outcome.latency
        if outcome.ok:
            self._passed[no].append(now)
            if no not in self._known:  # all was well and still is
                return Recorded(news=self._tell_of_attempt(result))
        delivery = result.delivery
        watched = self._book.watched(delivery.event.tenant_id, no)
        health = self._known.get(no, WELL)
        sighting = Sighting(
            ok=outcome.ok,
            code=outcome.code,
            detail=outcome.detail,
            at=now,
            manual=delivery.manual,
            exhausted=_is_exhausted(result),
        )
        disabled = self._why_disabled(no)
        if not (outcome.ok or delivery.manual or disabled):
            health = self._seeded(health, watched, no, now)
        seen = healths.observe(health, sighting, watched, disabled)
        if seen.health != self._known.get(no, WELL):
            self._known[no] = seen.health
            self.touched.add(no)
        return self._follow_up(result, seen, now)

    def _follow_up(self, result: Result, seen: Observation, now: Micros) -> Recorded:
        about = _About(
            tenant_id=result.delivery.event.tenant_id,
            destination_no=result.delivery.destination_no,
            attempt_seq=result.seq,
        )
        if seen.disabling is not None:
            self._disable(about, seen.disabling, now)
        if seen.enable:
            self._enable(about, now)
        news = self._tell_of_attempt(result)
        for raised in seen.raised:
            news |= self._watch.raise_(self._db, raised, about, now=now)
        return Recorded(
            raised=tuple((str(raised.kind), raised.severity) for raised in seen.raised),
            disabled=None if seen.disabling is None else seen.disabling.reason,
            enabled=seen.enable,
            news=news,
        )

    def _tell_of_attempt(self, result: Result) -> bool:
        asked = self._book.tells_successes if result.outcome.ok else self._book.tells_failures
        if not asked:
            return False
        now = result.outcome.started_at + result.outcome.latency
        topic, tenant_id = ATTEMPT_SUCCESS if result.outcome.ok else ATTEMPT_FAILED, result.delivery.event.tenant_id
        listeners = self._book.subscribers(topic, tenant_id, Audience.BOTH, now=now)
        for channel in listeners:
            self._watch.tell(self._db, channel, topic, tenant_id, now=now, attempt_seq=result.seq)
        return bool(listeners)

    def _seeded(self, health: Health, watched: Sequence[Watched], no: int, now: Micros) -> Health:
        """Before a window sees its first failure: what it would have counted till then."""
        for rule in healths.uncounted(health, watched):
            health = healths.seeded(health, rule, self._successes(rule, no, now))
        return health

    def _successes(self, rule: Rule, no: int, now: Micros) -> list[tuple[int, int]]:
        width = healths.bucket_width(rule)
        since = ids.bound(now - round((rule.thresholds.window_seconds or 0) * SECOND))
        found = self._db.execute(
            "SELECT seq FROM attempts WHERE destination_no = ? AND seq >= ? AND ok = 1 ORDER BY seq DESC LIMIT ?",
            (no, since, _MOST_SEEDED),
        )
        times = [*(ids.time_of(seq) for (seq,) in found), *self._passed[no]]
        return sorted(Counter(at // width for at in times).items())

    def _why_disabled(self, no: int) -> Disabling | None:
        if no not in self._disabled:
            sql = "SELECT disabled_at, disabled FROM destinations WHERE no = ? AND deleted_at IS NULL"
            found = self._db.execute(sql, (no,)).fetchone()
            self._disabled[no] = _DELETED if found is None else None if found[0] is None else rows.disabling(found[1])
        return self._disabled[no]

    def _disable(self, about: _About, why: Disabling, now: Micros) -> None:
        self._disabled[about.destination_no or 0] = why
        self._set_disabled(about, now, why, now)
        self._write_down("destination.disable", about, {"reason": why.reason, "code": why.code, "error": why.detail})

    def _enable(self, about: _About, now: Micros) -> None:
        self._disabled[about.destination_no or 0] = None
        self._set_disabled(about, None, None, now)
        self._write_down("destination.enable", about, {"reason": "a trial delivery succeeded"})

    def _set_disabled(self, about: _About, disabled_at: Micros | None, why: Disabling | None, now: Micros) -> None:
        self._db.execute(
            "UPDATE destinations SET disabled_at = ?, disabled = ?, updated_at = ?, version = version + 1 WHERE no = ?",
            (disabled_at, rows.json_text(why), now, about.destination_no),
        )

    def _write_down(self, action: str, about: _About, detail: dict[str, Any]) -> None:
        (subject,) = self._db.execute("SELECT id FROM destinations WHERE no = ?", (about.destination_no,)).fetchone()
        entry = Entry(actor=SYSTEM, action=action, tenant_id=about.tenant_id, subject=subject, detail=detail)
        self._watch.write_down(self._db, entry)


def _is_exhausted(result: Result) -> bool:
    delivery = result.delivery
    given_up = result.settlement.state is DeliveryState.EXHAUSTED
    return given_up and delivery.event.eligible_for_retry and not delivery.manual


def _healths(db: sqlite3.Connection, destination_nos: set[int]) -> dict[int, Health]:
    sql = (
        "SELECT destination_no, health FROM destination_health WHERE destination_no IN (SELECT value FROM json_each(?))"
    )
    return {no: _health.decode(text) for no, text in db.execute(sql, (rows.json_text(tuple(destination_nos)),))}


def _keep(db: sqlite3.Connection, known: Mapping[int, Health]) -> None:
    """Put healths on record; those that are well need none."""
    in_bulk(db, _UPSERT_HEALTH, [_health_values(no, health) for no, health in known.items() if health != WELL])
    well = [(no,) for no, health in known.items() if health == WELL]
    db.executemany("DELETE FROM destination_health WHERE destination_no = ?", well)


def _health_values(no: int, health: Health) -> tuple[Any, ...]:
    return (no, health.streak, health.probe_at, msgspec.json.encode(health).decode())
