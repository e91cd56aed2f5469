"""Rules, channels, alerts, what is to be told, and the audit log. Implements `waypost.store.alerting.AlertStore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from waypost.core.alerts import Audience, Channel, Kind, Rule, is_muted
from waypost.core.errors import BadRequest
from waypost.core.health import WELL, Health
from waypost.core.model import HOUR, Micros
from waypost.store.alerting import (
    Alert,
    AlertQuery,
    Census,
    ChannelState,
    Entry,
    EntryQuery,
    News,
    Occurrence,
)
from waypost.store.paging import Page, Slice
from waypost.store.sqlite import audit, rows
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.manage import prefixed
from waypost.store.sqlite.watch import Watch
from waypost.store.vault import Vault

T = TypeVar("T")

_OCCURRENCE = f"{rows.ATTEMPT}, {rows.EVENT}, {prefixed('d', rows.DESTINATION)}, x.due"
_JOIN_OCCURRENCE = (
    " LEFT JOIN events e ON e.seq = a.event_seq LEFT JOIN destinations d ON d.no = a.destination_no"
    " LEFT JOIN deliveries x ON x.event_seq = a.event_seq AND x.destination_no = a.destination_no"
)
_EVENT_AT = rows.ATTEMPT_WIDTH
_DESTINATION_AT = _EVENT_AT + rows.EVENT_WIDTH
_ALERT = (
    "l.seq, l.kind, l.topic, l.severity, l.audience, l.rule_id, l.tenant_id, ld.id, l.data, l.acknowledged_at,"
    f" l.acknowledged_by, {_OCCURRENCE}"
)
_ALERT_WIDTH = 11
_FROM_ALERTS = (
    " FROM alerts l LEFT JOIN destinations ld ON ld.no = l.destination_no"
    f" LEFT JOIN attempts a ON a.seq = l.attempt_seq{_JOIN_OCCURRENCE}"
)
_AT_DESTINATIONS = "l.destination_no IN (SELECT no FROM destinations WHERE id IN ({values}))"


class SqliteAlerting:
    def __init__(self, db: Database, vault: Vault, watch: Watch, clock: Callable[[], Micros]) -> None:
        self._db = db
        self._vault = vault
        self._watch = watch
        self._clock = clock

    # rules and channels: whatever changes them has the watch look again

    async def rules(self) -> tuple[Rule, ...]:
        return tuple(rows.rule(row) for row in await self._db.all(f"{rows.SELECT_RULES} ORDER BY r.no"))

    async def add_rule(self, rule: Rule, entry: Entry) -> Rule:
        taken = BadRequest("there is a rule of this kind for the same place already")
        values = rows.rule_values(rule)
        no = await self._change_rules(lambda db: _insert(db, "alert_rules", rows.RULE, values, taken), entry)
        return structs.replace(rule, no=no)

    async def replace_rule(self, rule: Rule, entry: Entry) -> bool:
        values = rows.rule_values(rule)
        return await self._change_rules(lambda db: _update(db, "alert_rules", rows.RULE, values, rule.no), entry)

    async def delete_rule(self, no: int, entry: Entry) -> bool:
        return await self._change_rules(lambda db: _delete(db, "alert_rules", no), entry)

    async def channels(self) -> tuple[Channel, ...]:
        found = await self._db.all(f"SELECT {rows.CHANNEL} FROM alert_channels ORDER BY no")
        return tuple(rows.channel(row, self._vault) for row in found)

    async def add_channel(self, channel: Channel, entry: Entry, *, limit: int) -> Channel:
        values = rows.channel_values(channel, self._vault)

        def add(db: sqlite3.Connection) -> int:
            sql = "SELECT count(*) FROM alert_channels WHERE owner IS ?"
            if db.execute(sql, (channel.owner,)).fetchone()[0] >= limit:
                raise BadRequest("maximum number of alert channels reached")
            return _insert(db, "alert_channels", rows.CHANNEL, values, _NAME_TAKEN)

        return structs.replace(channel, no=await self._change(add, entry))

    async def replace_channel(self, channel: Channel, entry: Entry) -> Channel | None:
        changed = structs.replace(channel, version=channel.version + 1)
        values = rows.channel_values(changed, self._vault)

        def replace(db: sqlite3.Connection) -> bool:
            known = db.execute("SELECT version FROM alert_channels WHERE no = ?", (channel.no,)).fetchone()
            if known != (channel.version,):
                return False
            if not changed.enabled or is_muted(changed.muted_until, self._clock()):
                _drop_news(db, channel.no)
            return _update(db, "alert_channels", rows.CHANNEL, values, channel.no, _NAME_TAKEN)

        return changed if await self._change(replace, entry) else None

    async def delete_channel(self, no: int, entry: Entry) -> bool:
        return await self._change(lambda db: _delete_channel(db, no), entry)

    async def channel_states(self, nos: Sequence[int]) -> Mapping[int, ChannelState]:
        sql = (
            "SELECT c.no, (SELECT count(*) FROM news n WHERE n.channel_no = c.no AND n.state = 0), c.sent_at,"
            " c.failed_at, c.error FROM alert_channels c WHERE c.no IN (SELECT value FROM json_each(?))"
        )
        return {
            no: ChannelState(waiting=waiting, sent_at=sent_at, failed_at=failed_at, error=error)
            for no, waiting, sent_at, failed_at, error in await self._db.all(sql, (rows.json_text(tuple(nos)),))
        }

    async def _change_rules(self, change: Callable[[sqlite3.Connection], T], entry: Entry) -> T:
        def both(db: sqlite3.Connection) -> T:
            done = change(db)
            self._watch.forget()
            self._watch.replan_probes(db, now=self._clock())
            return done

        return await self._change(both, entry)

    async def _change(self, change: Callable[[sqlite3.Connection], T], entry: Entry) -> T:
        """Carry out a change of rules or channels, and write it down if it changed anything."""

        def both(db: sqlite3.Connection) -> T:
            done = change(db)
            if done:
                self._watch.write_down(db, entry)
                self._watch.forget()
            return done

        return await self._db.write(both)

    # alerts

    async def alerts(self, query: AlertQuery, page: Page) -> Slice[Alert]:
        conditions = (
            Conditions()
            .any_of("l.seq", query.seqs)
            .any_of("l.tenant_id", query.tenant_ids)
            .any_of("l.kind", query.kinds)
            .any_of("l.severity", query.severities)
            .when_any(_AT_DESTINATIONS, query.destination_ids)
            .numbered_within("l.seq", query.time)
        )
        if query.acknowledged is not None:
            conditions.any_of("(l.acknowledged_at IS NOT NULL)", (int(query.acknowledged),))
        if query.by_tenant:
            conditions.any_of("l.audience", (Audience.TENANT, Audience.BOTH))
        return await self._db.page(f"SELECT {_ALERT}{_FROM_ALERTS}", conditions, page, ("l.seq",), self._alert)

    def _alert(self, row: rows.Row) -> Alert:
        return Alert(
            seq=row[0],
            kind=Kind(row[1]),
            topic=row[2],
            severity=row[3],
            audience=Audience(row[4]),
            rule_id=row[5],
            tenant_id=row[6],
            destination_id=row[7],
            data=rows.decoded(row[8]),
            acknowledged_at=row[9],
            acknowledged_by=row[10],
            occurrence=self._occurrence(row[_ALERT_WIDTH:]),
        )

    def _occurrence(self, row: rows.Row) -> Occurrence | None:
        if row[0] is None or row[_EVENT_AT] is None or row[_DESTINATION_AT] is None:
            return None
        return Occurrence(
            attempt=rows.attempt(row),
            event=rows.event(row[_EVENT_AT:]),
            destination=rows.destination(row[_DESTINATION_AT:], self._vault),
            next_due=row[-1],
        )

    async def acknowledge(self, seq: int, entry: Entry, *, now: Micros) -> bool:
        def acknowledge(db: sqlite3.Connection) -> bool:
            sql = "UPDATE alerts SET acknowledged_at = ?, acknowledged_by = ? WHERE seq = ? AND acknowledged_at IS NULL"
            if db.execute(sql, (now, str(entry.actor), seq)).rowcount:
                self._watch.write_down(db, entry)
                return True
            return db.execute("SELECT 1 FROM alerts WHERE seq = ?", (seq,)).fetchone() is not None

        return await self._db.write(acknowledge)

    async def observe_backlog(self, age: float, *, now: Micros) -> bool:
        return await self._db.write(lambda db: self._watch.observe_backlog(db, age, now))

    async def raise_about_the_whole(self, kind: Kind, data: dict[str, Any], *, recovered: bool) -> None:
        now = self._clock()
        await self._db.write(
            lambda db: self._watch.raise_about_the_whole(db, kind, data, recovered=recovered, now=now, told=True)
        )

    # what is to be told

    async def news_waiting(self) -> list[tuple[int, Micros]]:
        return [
            (no, due)
            for no, due in await self._db.all(
                "SELECT channel_no, min(due) FROM news WHERE state = 0 GROUP BY channel_no"
            )
        ]

    async def claim_news(self, channel_no: int, *, now: Micros, lease_until: Micros, limit: int) -> tuple[News, ...]:
        found = await self._db.write(lambda db: _claim_news(db, channel_no, now, lease_until, limit))
        channels = await self._db.all(f"SELECT {rows.CHANNEL} FROM alert_channels WHERE no = ?", (channel_no,))
        if not channels:
            return ()
        channel = rows.channel(channels[0], self._vault)
        return tuple([await self._news(row, channel) for row in found])

    async def _news(self, row: rows.Row, channel: Channel) -> News:
        seq, topic, tenant_id, alert_seq, attempt_seq, data, tries = row
        alert = await self._one_alert(alert_seq) if alert_seq is not None else None
        return News(
            seq=seq,
            channel=channel,
            topic=topic,
            tenant_id=tenant_id,
            tries=tries,
            alert=alert,
            occurrence=await self._one_occurrence(attempt_seq) if attempt_seq is not None else None,
            data=None if data is None else rows.decoded(data),
        )

    async def _one_alert(self, seq: int) -> Alert | None:
        found = await self.alerts(AlertQuery(seqs=(seq,)), Page(limit=1))
        return found.items[0] if found.items else None

    async def _one_occurrence(self, attempt_seq: int) -> Occurrence | None:
        sql = f"SELECT {_OCCURRENCE} FROM attempts a{_JOIN_OCCURRENCE} WHERE a.seq = ?"
        found = await self._db.all(sql, (attempt_seq,))
        return self._occurrence(found[0]) if found else None

    async def news_told(self, seq: int, *, now: Micros) -> None:
        def told(db: sqlite3.Connection) -> None:
            sql = "UPDATE news SET state = 1, due = NULL, tries = tries + 1 WHERE seq = ? RETURNING channel_no"
            nos = db.execute(sql, (seq,)).fetchall()
            db.executemany(
                "UPDATE alert_channels SET sent_at = ?, failed_at = NULL, error = NULL WHERE no = ?",
                [(now, no) for (no,) in nos],
            )

        await self._db.write(told)

    async def news_put_off(self, seq: int, reason: str, *, until: Micros) -> None:
        def put_off(db: sqlite3.Connection) -> None:
            nos = db.execute("UPDATE news SET due = ? WHERE seq = ? RETURNING channel_no", (until, seq)).fetchall()
            db.executemany("UPDATE alert_channels SET error = ? WHERE no = ?", [(reason, no) for (no,) in nos])

        await self._db.write(put_off)

    async def charge_message(self, tenant_id: str, *, most: int, now: Micros) -> bool:
        def charge(db: sqlite3.Connection) -> bool:
            hour = now // HOUR
            used = db.execute("SELECT used FROM message_hours WHERE tenant_id = ? AND hour = ?", (tenant_id, hour))
            (sent,) = used.fetchone() or (0,)
            if sent < most:
                db.execute("REPLACE INTO message_hours VALUES (?, ?, ?)", (tenant_id, hour, sent + 1))
            return bool(sent < most)

        return await self._db.write(charge)

    async def news_failed(self, seq: int, error: str, *, now: Micros, due: Micros | None) -> None:
        def failed(db: sqlite3.Connection) -> None:
            sql = "UPDATE news SET state = ?, due = ?, error = ?, tries = tries + 1 WHERE seq = ? RETURNING channel_no"
            nos = db.execute(sql, (2 if due is None else 0, due, error, seq)).fetchall()
            db.executemany(
                "UPDATE alert_channels SET failed_at = ?, error = ? WHERE no = ?", [(now, error, no) for (no,) in nos]
            )

        await self._db.write(failed)

    # health

    async def health(self, destination_no: int) -> Health:
        found = await self._db.all("SELECT health FROM destination_health WHERE destination_no = ?", (destination_no,))
        return msgspec.json.decode(found[0][0], type=Health) if found else WELL

    async def census(self) -> Census:
        sql = (
            "SELECT count(*) FILTER (WHERE d.disabled_at IS NULL), count(*) FILTER (WHERE d.disabled_at IS NOT NULL),"
            " count(*) FILTER (WHERE d.disabled_at IS NULL AND h.streak > 0)"
            " FROM destinations d LEFT JOIN destination_health h ON h.destination_no = d.no WHERE d.deleted_at IS NULL"
        )
        ((enabled, disabled, failing),) = await self._db.all(sql)
        return Census(enabled=enabled, disabled=disabled, failing=failing)

    async def due_probes(self, now: Micros) -> list[int]:
        sql = (
            "SELECT h.destination_no FROM destination_health h JOIN destinations d ON d.no = h.destination_no"
            " WHERE h.probe_at <= ? AND d.disabled_at IS NOT NULL AND d.deleted_at IS NULL ORDER BY h.probe_at"
        )
        return [no for (no,) in await self._db.all(sql, (now,))]

    async def put_probe_off(self, destination_no: int, until: Micros) -> None:
        sql = (
            "UPDATE destination_health SET probe_at = ?1, health = json_set(health, '$.probe_at', ?1)"
            " WHERE destination_no = ?2 AND probe_at IS NOT NULL"
        )
        await self._db.write(lambda db: db.execute(sql, (until, destination_no)).rowcount)

    # the audit log

    async def audit(self, entry: Entry) -> None:
        await self._db.write(lambda db: self._watch.write_down(db, entry))

    async def audit_log(self, query: EntryQuery, page: Page) -> Slice[Entry]:
        conditions = (
            Conditions()
            .any_of("tenant_id", query.tenant_ids)
            .any_of("action", query.actions)
            .any_of("subject", query.subjects)
            .any_of("actor", query.actors)
            .numbered_within("seq", query.time)
        )
        return await self._db.page(f"SELECT {audit.COLUMNS} FROM audit", conditions, page, ("seq",), audit.entry)


_NAME_TAKEN = BadRequest("an alert channel of this name already exists")


def _insert(db: sqlite3.Connection, table: str, columns: str, values: tuple[Any, ...], taken: BadRequest) -> int:
    marks = ", ".join("?" * len(values))
    try:
        no = db.execute(f"INSERT INTO {table} ({columns.removeprefix('no, ')}) VALUES ({marks})", values).lastrowid
    except sqlite3.IntegrityError:
        raise taken from None
    assert no is not None  # noqa: S101  SQLite always gives one for an inserted row
    return no


def _update(
    db: sqlite3.Connection,
    table: str,
    columns: str,
    values: tuple[Any, ...],
    no: int,
    taken: BadRequest | None = None,
) -> bool:
    assignments = ", ".join(f"{column.strip()} = ?" for column in columns.removeprefix("no, ").split(","))
    try:
        return db.execute(f"UPDATE {table} SET {assignments} WHERE no = ?", (*values, no)).rowcount > 0
    except sqlite3.IntegrityError:
        raise taken or BadRequest("it exists already") from None


def _delete(db: sqlite3.Connection, table: str, no: int) -> bool:
    return db.execute(f"DELETE FROM {table} WHERE no = ?", (no,)).rowcount > 0


def _delete_channel(db: sqlite3.Connection, no: int) -> bool:
    _drop_news(db, no)
    return _delete(db, "alert_channels", no)


def _drop_news(db: sqlite3.Connection, channel_no: int) -> None:
    db.execute("DELETE FROM news WHERE channel_no = ? AND state = 0", (channel_no,))


def _claim_news(
    db: sqlite3.Connection, channel_no: int, now: Micros, lease_until: Micros, limit: int
) -> list[rows.Row]:
    found = db.execute(
        """UPDATE news SET due = ? WHERE seq IN (
               SELECT seq FROM news WHERE channel_no = ? AND state = 0 AND due <= ? ORDER BY due, seq LIMIT ?)
           RETURNING seq, topic, tenant_id, alert_seq, attempt_seq, data, tries""",
        (lease_until, channel_no, now, limit),
    ).fetchall()
    return sorted(found)
