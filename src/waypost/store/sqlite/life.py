"""The life of an event as SQL: accept, record, claim, release. Each function runs inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from waypost.core import ids
from waypost.core.keeping import Exchange, Keeping, outline
from waypost.core.model import Delivery, DeliveryState, Micros
from waypost.store.base import Accepted, Claim, Publication, Recorded, Result
from waypost.store.sqlite import retries, rows
from waypost.store.sqlite.bulk import in_bulk
from waypost.store.sqlite.meter import Meter
from waypost.store.sqlite.watch import Watch

_INSERT_EVENTS = "INSERT INTO events VALUES {rows} ON CONFLICT (id, tenant_id) DO NOTHING"
_INSERT_DELIVERIES = (
    "INSERT INTO deliveries (event_seq, destination_no, state, attempt, retries, manual, due, leased) VALUES {rows}"
)
_INSERT_ATTEMPTS = "INSERT INTO attempts VALUES {rows}"
# A cancelled delivery stays cancelled; one that a person asked to retry while its attempt ran is due again at once.
_SETTLE = """
    UPDATE deliveries AS d SET
        attempt = v.attempt,
        retries = v.retries,
        kept = d.kept + v.size,
        leased = 0,
        state = CASE WHEN d.state = 3 THEN 3 WHEN d.manual > v.was_manual THEN 0 ELSE v.state END,
        due = CASE WHEN d.state = 3 THEN NULL WHEN d.manual > v.was_manual THEN v.now ELSE v.due END,
        manual = d.manual > v.was_manual
    FROM (
        WITH given (event_seq, destination_no, expected, was_manual, state, attempt, retries, due, now, size)
        AS (VALUES {rows}) SELECT * FROM given
    ) AS v
    WHERE d.event_seq = v.event_seq AND d.destination_no = v.destination_no AND d.attempt = v.expected
"""
_KEPT = """
    SELECT x.event_seq, x.destination_no, x.kept FROM json_each(?) k
    CROSS JOIN deliveries x ON x.event_seq = k.value ->> 0 AND x.destination_no = k.value ->> 1
"""


_BESIDE = 1_024
"""What an event takes in memory beside its texts, roughly."""


class Fenced(Exception):
    """Among these results is one whose delivery no longer waits for it."""


def accept(db: sqlite3.Connection, groups: Sequence[tuple[Publication, ...]], meter: Meter) -> list[list[Accepted]]:
    publications = list(chain.from_iterable(groups))
    inserted = in_bulk(db, _INSERT_EVENTS, [rows.event_values(publication) for publication in publications])
    known = {} if inserted == len(publications) else _first_publishes(db, publications)
    fresh = [p for p in publications if p.event.seq not in known] if known else publications
    in_bulk(db, _INSERT_DELIVERIES, list(chain.from_iterable(map(rows.delivery_values, fresh))))
    meter.accepted(db, fresh)
    return [[known.get(p.event.seq) or _as_routed(p) for p in group] for group in groups]


def _as_routed(publication: Publication) -> Accepted:
    return Accepted(duplicate=False, destination_ids=tuple([d.id for d in publication.matched]))


def _first_publishes(db: sqlite3.Connection, publications: Iterable[Publication]) -> dict[int, Accepted]:
    """For each duplicate among them, by its unused seq, what the first publish of that id matched."""
    known: dict[int, Accepted] = {}
    for publication in publications:
        event = publication.event
        seq, matched = db.execute(
            "SELECT seq, matched FROM events WHERE id = ? AND tenant_id = ?", (event.id, event.tenant_id)
        ).fetchone()
        if seq != event.seq:
            known[event.seq] = Accepted(duplicate=True, destination_ids=rows.names(matched))
    return known


def record(
    db: sqlite3.Connection, results: Sequence[Result], watch: Watch, meter: Meter, keeping: Keeping
) -> Sequence[Recorded | None]:
    """Raises Fenced when one of several results came too late: then each has to be recorded by itself."""
    exchanges = _exchanges(db, results, keeping)
    moved = in_bulk(db, _SETTLE, list(map(_settle_values, results, exchanges)))
    if moved < len(results):
        if len(results) > 1:
            raise Fenced
        return [None]
    recorded = watch.observe(db, results)
    in_bulk(db, _INSERT_ATTEMPTS, list(map(rows.attempt_values, results, exchanges)))
    if asked_for := [result.seq for result in results if result.delivery.manual]:
        retries.made(db, asked_for)
    meter.recorded(db, results)
    return recorded


def _exchanges(db: sqlite3.Connection, results: Sequence[Result], keeping: Keeping) -> list[Exchange]:
    """What is kept of each attempt: of a first one up to the bounds of one, of others what their delivery still may."""
    again = [_key(result) for result in results if result.delivery.attempt > 1]
    kept = {row[:2]: row[2] for row in db.execute(_KEPT, (rows.json_text(again),))} if again else {}
    found = []
    for result in results:
        outcome, exchange = result.outcome, keeping.exchange_of(result.outcome)
        if result.delivery.attempt > 1:
            room = keeping.room(kept.get(_key(result), 0), last=result.settlement.state is not DeliveryState.PENDING)
            exchange = exchange if exchange.size <= room else outline(outcome)
        found.append(exchange)
    return found


def _key(result: Result) -> tuple[int, int]:
    return result.delivery.event.seq, result.delivery.destination_no


def _settle_values(result: Result, exchange: Exchange) -> tuple[Any, ...]:
    delivery, then = result.delivery, result.settlement
    ended = result.outcome.started_at + result.outcome.latency
    return (
        delivery.event.seq,
        delivery.destination_no,
        delivery.attempt,
        delivery.manual,
        int(then.state),
        then.next_attempt,
        then.retries,
        then.due,
        ended,
        exchange.size if delivery.attempt > 1 else 0,
    )


_CANCEL = [
    f"""UPDATE deliveries SET state = 3, due = NULL, leased = 0 WHERE destination_no = ?1 AND event_seq IN (
            SELECT event_seq FROM deliveries INDEXED BY {index}
            WHERE destination_no = ?1 AND state = {state} LIMIT ?2)"""
    for index, state in (("deliveries_pending", 0), ("deliveries_kept", 4))
]


def fitting(db: sqlite3.Connection, no: int, now: Micros, limit: int, most_bytes: int) -> int:
    """How many of the deliveries that `claim` would take have events that fit into so many bytes; at least one."""
    total = count = 0
    sizes = db.execute(
        """SELECT (SELECT length(e.data) + coalesce(length(e.metadata), 0) FROM events e WHERE e.seq = d.event_seq)
           FROM deliveries d WHERE destination_no = ? AND state = 0 AND due <= ? ORDER BY due LIMIT ?""",
        (no, now, limit),
    )
    for (size,) in sizes:
        total += (size or 0) + _BESIDE
        if total > most_bytes and count:
            break
        count += 1
    return max(1, count)


def claim(db: sqlite3.Connection, no: int, now: Micros, lease_until: Micros, limit: int) -> Claim:
    taken = db.execute(
        """UPDATE deliveries SET due = ?, leased = 1
           WHERE destination_no = ? AND event_seq IN (
               SELECT event_seq FROM deliveries WHERE destination_no = ? AND state = 0 AND due <= ?
               ORDER BY due LIMIT ?)
           RETURNING event_seq, attempt, retries, manual""",
        (lease_until, no, no, now, limit),
    ).fetchall()
    marks = ", ".join("?" * len(taken))
    sql = f"SELECT {rows.EVENT} FROM events e WHERE e.seq IN ({marks})"
    found = (rows.event(row) for row in db.execute(sql, [row[0] for row in taken]))
    events = {event.seq: event for event in found if event.expunged_at is None}
    if len(events) < len(taken):
        _give_up(db, [(seq, no) for seq, *_ in taken if seq not in events])
    deliveries = tuple(
        Delivery(
            event=events[seq],
            destination_no=no,
            attempt=attempt,
            retries=retries,
            manual=bool(manual),
            lease_until=lease_until,
        )
        for seq, attempt, retries, manual in sorted(taken)
        if seq in events
    )
    earliest = db.execute("SELECT min(due) FROM deliveries WHERE destination_no = ? AND state = 0", (no,)).fetchone()
    return Claim(deliveries, earliest[0])


def _give_up(db: sqlite3.Connection, keys: Sequence[tuple[int, int]]) -> None:
    """There is nothing to send any more: the data was removed, or the whole event."""
    sql = "UPDATE deliveries SET state = 3, due = NULL, leased = 0 WHERE event_seq = ? AND destination_no = ?"
    db.executemany(sql, keys)
    gone = "DELETE FROM deliveries WHERE event_seq = ?1 AND NOT EXISTS (SELECT 1 FROM events WHERE seq = ?1)"
    db.executemany(gone, [(seq,) for seq, _ in keys])


def release(db: sqlite3.Connection, keys: Sequence[tuple[Any, ...]]) -> None:
    db.executemany(
        "UPDATE deliveries SET due = ?, leased = 0"
        " WHERE event_seq = ? AND destination_no = ? AND attempt = ? AND due = ? AND state = 0",
        keys,
    )


def cancel(db: sqlite3.Connection, destination_no: int, limit: int) -> bool:
    """Cancel some of what waits for a destination, or is kept for it. Whether more may be left."""
    done = [db.execute(sql, (destination_no, limit)).rowcount for sql in _CANCEL]
    return max(done) == limit


def uncancelled(db: sqlite3.Connection, *tenant_ids: str) -> list[int]:
    """The deleted destinations of these tenants, or of all, for which something waits or is kept."""
    of_tenants = f"tenant_id IN ({', '.join('?' * len(tenant_ids))}) AND" if tenant_ids else ""
    found = db.execute(
        f"""SELECT no FROM destinations d WHERE {of_tenants} deleted_at IS NOT NULL AND (
                EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_pending
                        WHERE destination_no = d.no AND state = 0)
                OR EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_kept
                           WHERE destination_no = d.no AND state = 4))""",
        tenant_ids,
    )
    return [no for (no,) in found]


def due_destinations(db: sqlite3.Connection) -> list[tuple[int, Micros]]:
    """Hop through the index from destination to destination: the cost grows with them, not with their deliveries."""
    return db.execute(
        """WITH RECURSIVE waiting (no) AS (
               SELECT min(destination_no) FROM deliveries WHERE state = 0
               UNION ALL
               SELECT (SELECT min(destination_no) FROM deliveries WHERE state = 0 AND destination_no > waiting.no)
               FROM waiting WHERE waiting.no IS NOT NULL)
           SELECT no, (SELECT min(due) FROM deliveries WHERE destination_no = no AND state = 0)
           FROM waiting WHERE no IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM destinations d
                           WHERE d.no = waiting.no AND d.deleted_at IS NULL AND d.disabled_at IS NOT NULL)"""
    ).fetchall()


def recover(db: sqlite3.Connection, destination_no: int, since: Micros, now: Micros, limit: int) -> int:
    return db.execute(
        """UPDATE deliveries SET state = 0, due = ? WHERE destination_no = ? AND event_seq IN (
               SELECT event_seq FROM deliveries INDEXED BY deliveries_kept
               WHERE destination_no = ? AND state = 4 AND event_seq >= ? ORDER BY event_seq LIMIT ?)""",
        (now, destination_no, destination_no, ids.bound(since), limit),
    ).rowcount


def count_kept(db: sqlite3.Connection, destination_no: int, since: Micros) -> int:
    sql = "SELECT count(*) FROM deliveries WHERE destination_no = ? AND state = 4 AND event_seq >= ?"
    (count,) = db.execute(sql, (destination_no, ids.bound(since))).fetchone()
    return int(count)


def count_waiting(db: sqlite3.Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM deliveries WHERE state = 0").fetchone()
    return int(count)
