"""Manual attempts as SQL: asking for them, on whose behalf, and the limits. Each runs inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import structs

from waypost.core import times
from waypost.core.errors import Invalid, TooMany
from waypost.core.model import HOUR, SECOND, SYSTEM, Micros
from waypost.core.replaying import Limits
from waypost.store.alerting import Entry
from waypost.store.base import RetryRequest
from waypost.store.sqlite import rows
from waypost.store.sqlite.bulk import in_bulk
from waypost.store.sqlite.watch import Watch

_REMEMBER = """
    INSERT INTO retries
    SELECT v.event_seq, v.destination_no, coalesce(d.attempt + (d.leased AND NOT d.manual), 1), v.initiator,
           v.replay_seq, v.entry_seq
    FROM (WITH given (event_seq, destination_no, initiator, replay_seq, entry_seq) AS (VALUES {rows})
          SELECT * FROM given) AS v
    LEFT JOIN deliveries d ON d.event_seq = v.event_seq AND d.destination_no = v.destination_no
    WHERE true ON CONFLICT DO NOTHING
"""
_JOINED = {"already_asked_for": True}
# A delivery whose attempt is under way keeps its lease; the result of that attempt makes the manual one due.
_ASK = """
    INSERT INTO deliveries (event_seq, destination_no, state, attempt, retries, manual, due, leased) VALUES {rows}
    ON CONFLICT (event_seq, destination_no) DO UPDATE SET
        state = 0, manual = 1, due = CASE WHEN leased THEN due ELSE excluded.due END
"""


def retry(
    db: sqlite3.Connection, request: RetryRequest, entry: Entry | None, limits: Limits | None, watch: Watch
) -> None:
    """Ask for one manual attempt within the limits. Raises Invalid or TooMany.

    One that somebody has asked for, and that is not made yet, is this one too: it is not charged again.
    """
    if _is_asked_for(db, request):
        watch.write_down(db, None if entry is None else structs.replace(entry, detail=entry.detail | _JOINED))
        return
    if limits is not None:
        _check_event(db, request.event_seq, limits.per_event)
        if limits.per_hour is not None and entry is not None and entry.tenant_id is not None:
            charge(db, entry.tenant_id, 1, limits.per_hour, now=request.now)
    ask(
        db,
        [(request.event_seq, request.destination_no)],
        now=request.now,
        initiator=str(SYSTEM if entry is None else entry.actor),
        entry_seq=watch.write_down(db, entry),
    )


def ask(
    db: sqlite3.Connection,
    pairs: Iterable[tuple[int, int]],
    *,
    now: Micros,
    initiator: str,
    replay_seq: int | None = None,
    entry_seq: int | None = None,
) -> None:
    """Make a manual attempt due for pairs of event and destination number, and remember who asked for it."""
    pairs = list(pairs)
    in_bulk(db, _REMEMBER, [(*pair, initiator, replay_seq, entry_seq) for pair in pairs])
    in_bulk(db, _ASK, [(*pair, 0, 1, 0, 1, now, 0) for pair in pairs])


def _is_asked_for(db: sqlite3.Connection, request: RetryRequest) -> bool:
    sql = """SELECT EXISTS (
        SELECT 1 FROM deliveries d CROSS JOIN retries r
        ON r.event_seq = d.event_seq AND r.destination_no = d.destination_no AND r.attempt >= d.attempt
        WHERE d.event_seq = ? AND d.destination_no = ? AND d.state = 0 AND d.manual = 1)"""
    (found,) = db.execute(sql, (request.event_seq, request.destination_no)).fetchone()
    return bool(found)


def _check_event(db: sqlite3.Connection, event_seq: int, most: int) -> None:
    """Raise Invalid when an event was sent again by hand as often as it may be."""
    (count,) = db.execute("SELECT count(*) FROM retries WHERE event_seq = ?", (event_seq,)).fetchone()
    if count >= most:
        raise Invalid([f"the event was sent again by hand {count} times; the limit is {most}"])


def charge(db: sqlite3.Connection, tenant_id: str, events: int, most: int, *, now: Micros) -> None:
    """Take events from what a tenant may send again within this hour. Raises TooMany."""
    hour = now // HOUR
    remaining = left(db, tenant_id, most, now=now)
    if events > remaining:
        resets_at = (hour + 1) * HOUR
        raise TooMany(
            f"at most {most} events may be sent again within an hour; {remaining} are left",
            {"limit": most, "remaining": remaining, "resets_at": times.render(resets_at)},
            retry_after=-(-(resets_at - now) // SECOND),
        )
    db.execute("REPLACE INTO retry_hours VALUES (?, ?, ?)", (tenant_id, hour, most - remaining + events))


def left(db: sqlite3.Connection, tenant_id: str, most: int, *, now: Micros) -> int:
    """How many events a tenant may still send again within this hour."""
    used = db.execute("SELECT used FROM retry_hours WHERE tenant_id = ? AND hour = ?", (tenant_id, now // HOUR))
    (count,) = used.fetchone() or (0,)
    return max(most - int(count), 0)


# What is asked for during an attempt is the next one. A crash in between makes the attempt again, under its old number,
# and that is then the one asked for.
_MADE = """
    a.manual AND r.event_seq = a.event_seq AND r.destination_no = a.destination_no
    AND (r.attempt = a.number OR r.attempt = a.number + 1 AND NOT EXISTS (
        SELECT 1 FROM retries s
        WHERE s.event_seq = a.event_seq AND s.destination_no = a.destination_no AND s.attempt = a.number))
"""


def initiators(db: sqlite3.Connection, attempt_seqs: Sequence[int]) -> list[tuple[int, str, int | None]]:
    """For manual attempts: their number in time, who asked for each, with which replay."""
    marks = ", ".join("?" * len(attempt_seqs))
    sql = f"""SELECT a.seq, r.initiator, r.replay_seq FROM attempts a CROSS JOIN retries r ON {_MADE}
              WHERE a.seq IN ({marks})"""
    return db.execute(sql, attempt_seqs).fetchall()


def made(db: sqlite3.Connection, attempt_seqs: Sequence[int]) -> None:
    """Put what came of single retries into their entries of the audit log, which outlive attempts."""
    sql = f"""SELECT a.seq, a.ok, a.code, r.entry_seq FROM attempts a CROSS JOIN retries r ON {_MADE}
              WHERE a.seq IN (SELECT value FROM json_each(?)) AND r.entry_seq IS NOT NULL"""
    for seq, ok, code, entry_seq in db.execute(sql, (rows.json_text(attempt_seqs),)).fetchall():
        outcome = rows.json_text({"attempt": {"seq": seq, "ok": bool(ok), "code": code}})
        db.execute("UPDATE audit SET detail = json_patch(detail, ?) WHERE seq = ?", (outcome, entry_seq))
