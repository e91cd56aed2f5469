"""Lifetimes, and removing what has outlived them. Implements `waypost.store.retention.RetentionStore`.

`remove` and `strip` are the two ways in which anything of an event is forgotten: whatever keeps a trace of events has
its place there.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import structs

from waypost.core import ids, incarnations
from waypost.core.errors import NotFound
from waypost.core.model import SECOND, SYSTEM, Micros
from waypost.core.retention import Kept, Lifetimes
from waypost.core.times import FIRST
from waypost.store.alerting import Entry
from waypost.store.retention import Expired, Expunging, Log
from waypost.store.sqlite import rows
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.watch import Watch

T = TypeVar("T")

_CHUNK = 64
"""Numbers dealt with before another look at the clock."""
_WIPE_PATIENCE_MS = 50

_CHOSEN = "(SELECT value FROM json_each(?))"
_PENDING = f"SELECT DISTINCT event_seq FROM deliveries WHERE event_seq IN {_CHOSEN} AND state = 0"
_TRACES = ("attempts", "deliveries", "retries", "expunged")
_NO_DATA = b"{}"
# The reasons for which destinations were skipped stay; the clauses of filters, which quote the data, go.
_STRIP_EVENTS = f"""
    UPDATE events SET data = ?, metadata = NULL, skipped = CASE WHEN skipped IS NOT NULL THEN (
        SELECT json_group_array(json_array(json_extract(s.value, '$[0]'), json_extract(s.value, '$[1]'), NULL))
        FROM json_each(events.skipped) s) END
    WHERE seq IN {_CHOSEN}
"""
_STRIP_ATTEMPTS = (
    f"UPDATE attempts SET request = NULL, response = NULL, detail = NULL, causes = NULL WHERE event_seq IN {_CHOSEN}"
)
# The number of the next attempt moves on, so that the result of one that is under way is not put on record.
_CANCEL = f"""
    UPDATE deliveries SET state = 3, due = NULL, leased = 0, attempt = attempt + (state = 0)
    WHERE event_seq IN {_CHOSEN} AND state IN (0, 4)
"""
_AGED = {
    Kept.EVENTS: "SELECT seq, tenant_id FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
    Kept.ATTEMPTS: "SELECT seq, tenant_id FROM attempts WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
    Kept.DATA: """
        SELECT e.seq, e.tenant_id FROM events e WHERE e.seq > ? AND e.seq < ?
        AND NOT EXISTS (SELECT 1 FROM expunged u WHERE u.event_seq = e.seq) ORDER BY e.seq LIMIT ?
    """,
}
_TRIM = {
    Log.ALERTS: "DELETE FROM alerts WHERE seq IN (SELECT seq FROM alerts WHERE seq < ? ORDER BY seq LIMIT ?)",
    Log.NEWS: """
        DELETE FROM news WHERE seq IN (SELECT seq FROM news WHERE seq < ? AND state <> 0 ORDER BY seq LIMIT ?)
    """,
    Log.AUDIT: "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq < ? ORDER BY seq LIMIT ?)",
}
_NEXT_OF_TENANT = "SELECT time, seq FROM events WHERE tenant_id = ? AND (time, seq) > (?, ?) ORDER BY time, seq LIMIT ?"
_EXPUNGING = "tenant_id, until, after_time, after_seq, events, requested_at, finished_at"


class SqliteRetention:
    def __init__(self, db: Database, watch: Watch) -> None:
        self._db = db
        self._watch = watch

    # lifetimes

    async def lifetimes(self) -> Mapping[str, Lifetimes]:
        found = await self._db.all("SELECT tenant_id, events, attempts, data FROM tenant_lifetimes")
        return {row[0]: Lifetimes(events=row[1], attempts=row[2], data=row[3]) for row in found}

    async def put_lifetimes(self, tenant_id: str, lifetimes: Lifetimes, entry: Entry) -> None:
        def put(db: sqlite3.Connection) -> None:
            values = (tenant_id, lifetimes.events, lifetimes.attempts, lifetimes.data)
            db.execute("REPLACE INTO tenant_lifetimes VALUES (?, ?, ?, ?)", values)
            if lifetimes == Lifetimes():
                db.execute("DELETE FROM tenant_lifetimes WHERE tenant_id = ?", (tenant_id,))
            self._watch.write_down(db, entry)

        await self._db.write(put)

    # what has had its time

    async def aged(self, kind: Kept, *, after: int, before: int, limit: int) -> Sequence[tuple[int, str]]:
        return [(seq, tenant_id) for seq, tenant_id in await self._db.all(_AGED[kind], (after, before, limit))]

    async def settled(self, event_seqs: Sequence[int]) -> list[int]:
        pending = await self._db.read(lambda db: _pending(db, event_seqs))
        return [seq for seq in event_seqs if seq not in pending]

    async def expire(self, kind: Kept, seqs: Sequence[int], *, now: Micros, budget: float) -> Expired:
        def expire(db: sqlite3.Connection) -> tuple[int, tuple[int, ...]]:
            done, held, end = 0, set[int](), time.perf_counter() + budget
            while done < len(seqs) and (not done or time.perf_counter() < end):
                chunk = seqs[done : done + _CHUNK]
                held |= _expire(db, kind, chunk, now)
                done += len(chunk)
            return done, tuple(held)

        (done, held), seconds = await self._timed(expire)
        return Expired(done, held, seconds)

    async def trim(self, log: Log, *, before: int, limit: int) -> Expired:
        def trim(db: sqlite3.Connection) -> int:
            return _trim_replays(db, before, limit) if log is Log.REPLAYS else _changed(db, _TRIM[log], before, limit)

        removed, seconds = await self._timed(trim)
        return Expired(removed, (), seconds)

    # the time

    async def known(self) -> Micros | None:
        marked = await self._db.all("SELECT value FROM meta WHERE name = 'time'")
        if marked:
            return int.from_bytes(marked[0][0])
        ((newest,),) = await self._db.all("SELECT max(seq) FROM events")
        return None if newest is None else ids.time_of(newest)

    async def mark(self, now: Micros) -> None:
        value = max(0, now).to_bytes(8)
        await self._db.write(lambda db: db.execute("REPLACE INTO meta VALUES ('time', ?)", (value,)))

    # data that must go

    async def expunge(self, event_seq: int, *, now: Micros, entry: Entry) -> Micros:
        def expunge(db: sqlite3.Connection) -> Micros:
            if not _is_expunged(db, event_seq):
                strip(db, [event_seq], now)
                self._watch.write_down(db, entry)
            found = db.execute("SELECT at FROM expunged WHERE event_seq = ?", (event_seq,)).fetchone()
            if found is None:
                raise NotFound("event not found")
            return int(found[0])

        return await self._db.write(expunge)

    async def begin_expunging(self, tenant_id: str, *, now: Micros, entry: Entry) -> Expunging:
        job = Expunging(
            tenant_id=tenant_id, until=ids.bound(now + SECOND // 1_000), after=(FIRST, 0), events=0, requested_at=now
        )

        def begin(db: sqlite3.Connection) -> Expunging:
            before = _unfinished(db, tenant_id)
            begun = structs.replace(job, events=before[0].events) if before else job
            _put(db, begun)
            self._watch.write_down(db, entry)
            return begun

        return await self._db.write(begin)

    async def expunging(self, tenant_id: str) -> Expunging | None:
        found = await self._db.all(f"SELECT {_EXPUNGING} FROM expungings WHERE tenant_id = ?", (tenant_id,))
        return _expunging(found[0]) if found else None

    async def unfinished(self) -> tuple[Expunging, ...]:
        return await self._db.read(_unfinished)

    async def go_on(self, job: Expunging, *, now: Micros, limit: int) -> tuple[Expunging, Sequence[int], float]:
        def go_on(db: sqlite3.Connection) -> tuple[Expunging, Sequence[int]]:
            if job not in _unfinished(db, job.tenant_id):
                return job, ()
            found = db.execute(_NEXT_OF_TENANT, (job.tenant_id, *job.after, limit)).fetchall()
            seqs = [seq for _, seq in found if seq < job.until and not _is_expunged(db, seq)]
            strip(db, seqs, now)
            after = found[-1] if found else job.after
            moved = structs.replace(job, after=after, events=job.events + len(seqs))
            if len(found) < limit:
                moved = structs.replace(moved, finished_at=now)
                self._watch.write_down(db, _finished(moved))
            _put(db, moved)
            return moved, seqs

        (moved, seqs), seconds = await self._timed(go_on)
        return moved, seqs, seconds

    async def wipe(self) -> bool:
        def wipe() -> bool:
            with contextlib.closing(self._db.connect()) as db:
                db.execute(f"PRAGMA busy_timeout = {_WIPE_PATIENCE_MS}")
                (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy

        return await self._db.read(lambda _: wipe())

    async def _timed(self, change: Callable[[sqlite3.Connection], T]) -> tuple[T, float]:
        """Carry a change out; the seconds from its begin to its commit."""
        began = 0.0

        def timed(db: sqlite3.Connection) -> T:
            nonlocal began
            began = time.perf_counter()
            return change(db)

        done = await self._db.write(timed)
        return done, time.perf_counter() - began


def remove(db: sqlite3.Connection, event_seqs: Sequence[int]) -> None:
    """Forget events with everything about them. What was counted stays counted."""
    chosen = (rows.json_text(event_seqs),)
    for table in _TRACES:
        db.execute(f"DELETE FROM {table} WHERE event_seq IN {_CHOSEN}", chosen)
    db.execute(f"DELETE FROM events WHERE seq IN {_CHOSEN}", chosen)


def strip(db: sqlite3.Connection, event_seqs: Sequence[int], now: Micros) -> None:
    """Forget what events held; that they were there stays on record. What waits of them is cancelled."""
    chosen = rows.json_text(event_seqs)
    db.execute(_STRIP_EVENTS, (_NO_DATA, chosen))
    db.execute(_STRIP_ATTEMPTS, (chosen,))
    db.execute(_CANCEL, (chosen,))
    db.execute(f"INSERT OR IGNORE INTO expunged SELECT seq, ? FROM events WHERE seq IN {_CHOSEN}", (now, chosen))


def _expire(db: sqlite3.Connection, kind: Kept, seqs: Sequence[int], now: Micros) -> set[int]:
    """The numbers among them that had to stay."""
    if kind is Kept.ATTEMPTS:
        db.execute(f"DELETE FROM attempts WHERE seq IN {_CHOSEN}", (rows.json_text(seqs),))
        return set()
    held = _pending(db, seqs)
    going = [seq for seq in seqs if seq not in held]
    if kind is Kept.EVENTS:
        remove(db, going)
    else:
        strip(db, going, now)
    return held


def _pending(db: sqlite3.Connection, event_seqs: Sequence[int]) -> set[int]:
    return {seq for (seq,) in db.execute(_PENDING, (rows.json_text(event_seqs),))}


def _trim_replays(db: sqlite3.Connection, before: int, limit: int) -> int:
    """Replays that have ended, the deliveries of each before the replay itself."""
    sql = "SELECT seq FROM replays WHERE state >= 2 AND ended_at < ? ORDER BY seq LIMIT 1"
    found = db.execute(sql, (ids.time_of(before),)).fetchone()
    if found is None:
        return 0
    removed = _changed(
        db,
        """DELETE FROM replay_deliveries WHERE replay_seq = ?1 AND (event_seq, destination_no) IN (
               SELECT event_seq, destination_no FROM replay_deliveries WHERE replay_seq = ?1 LIMIT ?2)""",
        *found,
        limit,
    )
    return removed or _changed(db, "DELETE FROM replays WHERE seq = ?", *found)


def _changed(db: sqlite3.Connection, sql: str, *parameters: int) -> int:
    return db.execute(sql, parameters).rowcount


def _is_expunged(db: sqlite3.Connection, event_seq: int) -> bool:
    return db.execute("SELECT 1 FROM expunged WHERE event_seq = ?", (event_seq,)).fetchone() is not None


def _unfinished(db: sqlite3.Connection, tenant_id: str | None = None) -> tuple[Expunging, ...]:
    sql = f"SELECT {_EXPUNGING} FROM expungings WHERE finished_at IS NULL AND tenant_id = ifnull(?, tenant_id)"
    return tuple(map(_expunging, db.execute(sql, (tenant_id,)).fetchall()))


def _put(db: sqlite3.Connection, job: Expunging) -> None:
    values = (job.tenant_id, job.until, *job.after, job.events, job.requested_at, job.finished_at)
    db.execute("REPLACE INTO expungings VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _expunging(row: rows.Row) -> Expunging:
    return Expunging(
        tenant_id=row[0], until=row[1], after=(row[2], row[3]), events=row[4], requested_at=row[5], finished_at=row[6]
    )


def _finished(job: Expunging) -> Entry:
    return Entry(
        actor=SYSTEM,
        action="tenant.expunged",
        tenant_id=job.tenant_id,
        subject=incarnations.id_of(job.tenant_id),
        detail={"events": job.events},
    )
