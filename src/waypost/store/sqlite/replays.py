"""Replays, and who asked for which manual attempt. Implements `waypost.store.replays.ReplayStore`."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from waypost.core.errors import TooMany
from waypost.core.model import Actor, Attempt, DeliveryState, Micros
from waypost.core.replaying import Limits, Standing, Wanted
from waypost.core.status import Status, status_of
from waypost.store.alerting import Entry
from waypost.store.base import EventQuery
from waypost.store.paging import Page, Slice
from waypost.store.replays import (
    Ask,
    Lineup,
    Piece,
    Replay,
    Replayed,
    ReplayQuery,
    ReplayState,
)
from waypost.store.sqlite import finding, retries, rows
from waypost.store.sqlite.bulk import in_bulk
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.finding import LISTED
from waypost.store.sqlite.watch import Watch

_REPLAY = (
    "r.seq, r.tenant_id, r.destination_no, r.asked, r.query, r.wanted, r.actor_kind, r.actor, r.ip, r.state,"
    " r.selected, r.examined, r.planned, r.after_time, r.after_seq, r.total, r.delivered, r.failed, r.skipped,"
    " r.created_at, r.ended_at, d.id"
)
_SELECT = f"SELECT {_REPLAY} FROM replays r LEFT JOIN destinations d ON d.no = r.destination_no"
_WIDTH = _REPLAY.count(",")
"""How many columns the table itself has."""

_STANDINGS = f"SELECT event_seq, destination_no, state, attempt, leased FROM deliveries WHERE event_seq IN {LISTED}"
_RETRIED = f"SELECT event_seq, count(*) FROM retries WHERE event_seq IN {LISTED} GROUP BY event_seq"
_QUEUE = "INSERT INTO replay_deliveries VALUES {rows}"
_QUEUED = """
    SELECT event_seq, destination_no FROM replay_deliveries INDEXED BY replay_deliveries_queued
    WHERE replay_seq = ? AND state = 0
"""
_NEXT = """
    SELECT min(destination_no) FROM replay_deliveries INDEXED BY replay_deliveries_queued
    WHERE replay_seq = ?1 AND state = 0 AND destination_no >
"""
# Hop through the index from destination to destination.
_LINEUP = f"""
    WITH RECURSIVE queued (no) AS (
        {_NEXT} ?2 UNION ALL SELECT ({_NEXT} queued.no) FROM queued WHERE queued.no IS NOT NULL)
    SELECT no FROM queued WHERE no IS NOT NULL LIMIT ?3
"""
# What is due has had its attempt once its delivery no longer waits for a manual one, or cannot be made now.
_FROM_DUE = """
    FROM replay_deliveries q INDEXED BY replay_deliveries_due
    LEFT JOIN deliveries x ON x.event_seq = q.event_seq AND x.destination_no = q.destination_no
    LEFT JOIN destinations d ON d.no = q.destination_no
    WHERE q.replay_seq = ? AND q.state = 1 AND (x.state IS 0 AND x.manual = 1 AND d.disabled_at IS NULL) = ?
"""
_DUE = f"SELECT q.destination_no, count(*) {_FROM_DUE} GROUP BY q.destination_no"
_ATTEMPTED = f"SELECT CASE WHEN x.state = 1 THEN 2 ELSE 3 END, q.replay_seq, q.event_seq, q.destination_no {_FROM_DUE}"
_MOVE = "UPDATE replay_deliveries SET state = ? WHERE replay_seq = ? AND event_seq = ? AND destination_no = ?"
_DELIVERED, _FAILED = 2, 3
_DROPPED_AT_ONCE = 500
_DELIVERIES = """
    SELECT p.event_seq, e.id, e.tenant_id, p.destination_no, d.id, p.state, x.state FROM replay_deliveries p {index}
    JOIN events e ON e.seq = p.event_seq JOIN destinations d ON d.no = p.destination_no
    LEFT JOIN deliveries x ON x.event_seq = p.event_seq AND x.destination_no = p.destination_no
"""

_CAME = {None: "p.state < 2", True: "p.state = 2", False: "p.state = 3"}
"""What came of the manual attempt, as the partial index says it."""


class SqliteReplays:
    def __init__(self, db: Database, watch: Watch) -> None:
        self._db = db
        self._watch = watch

    # which events

    async def count(self, query: EventQuery, *, limit: int) -> int:
        conditions = finding.selecting(query)
        sql = f"SELECT count(*) FROM (SELECT 1 FROM events e{conditions.where} LIMIT ?)"
        ((count,),) = await self._db.all(sql, (*conditions.parameters, limit))
        return int(count)

    async def standings(self, event_seqs: Sequence[int]) -> Mapping[int, Standing]:
        return await self._db.read(lambda db: _standings(db, event_seqs))

    # replays

    async def add(self, replay: Replay, entry: Entry, *, limits: Limits) -> Replay:
        def add(db: sqlite3.Connection) -> Replay:
            running = _running_like(db, replay)
            if running is not None:
                return running
            if replay.tenant_id is not None:
                _check_limits(db, replay.tenant_id, replay, limits)
            marks = ", ".join("?" * _WIDTH)
            db.execute(f"INSERT INTO replays VALUES ({marks})", _values(replay))
            self._watch.write_down(db, entry)
            return replay

        return await self._db.write(add)

    async def replays(self, query: ReplayQuery, page: Page) -> Slice[Replay]:
        conditions = (
            Conditions()
            .any_of("r.seq", query.seqs)
            .any_of("r.tenant_id", query.tenant_ids)
            .any_of("r.state", [int(state) for state in query.states])
        )
        return await self._db.page(_SELECT, conditions, page, ("r.seq",), _replay)

    async def left(self, tenant_id: str, per_hour: int, *, now: Micros) -> int:
        return await self._db.read(lambda db: retries.left(db, tenant_id, per_hour, now=now))

    async def working(self) -> tuple[Replay, ...]:
        return tuple(map(_replay, await self._db.all(f"{_SELECT} WHERE r.state < 2 ORDER BY r.seq")))

    async def plan(self, seq: int, piece: Piece) -> bool:
        def plan(db: sqlite3.Connection) -> bool:
            sql = """UPDATE replays SET examined = examined + ?, planned = ?, after_time = ?, after_seq = ?,
                     total = total + ? WHERE seq = ? AND state = 0"""
            after = piece.after or (None, None)
            moved = db.execute(sql, (piece.examined, piece.last, *after, len(piece.send), seq)).rowcount > 0
            if moved:
                in_bulk(db, _QUEUE, [(seq, *pair, 0) for pair in piece.send])
                _count(db, seq, skipped=piece.skipped)
            return moved

        return await self._db.write(plan)

    async def send(
        self, seq: int, room: Mapping[int, int], *, now: Micros, after: int, limit: int
    ) -> tuple[Replay, Lineup]:
        def send(db: sqlite3.Connection) -> tuple[Replay, Lineup]:
            came = _settle(db, seq)
            replay = _one(db, seq)
            skipped = _drop_cancelled(db, seq) if replay.state is ReplayState.CANCELLING else Counter[str]()
            if replay.state is ReplayState.RUNNING:
                for no, places in room.items():
                    skipped += _send(db, replay, no, places, now)
            replay = _count(
                db, seq, delivered=came[_DELIVERED], failed=came[_FAILED], skipped=skipped, dropped=skipped.total()
            )
            queued = db.execute(_LINEUP, (seq, after, limit)).fetchall()
            return replay, Lineup(tuple(no for (no,) in queued), dict(db.execute(_DUE, (seq, 1))))

        return await self._db.write(send)

    async def cancel(self, seq: int, entry: Entry) -> bool:
        def cancel(db: sqlite3.Connection) -> bool:
            done = db.execute("UPDATE replays SET state = 1 WHERE seq = ? AND state = 0", (seq,)).rowcount > 0
            if done:
                self._watch.write_down(db, entry)
            return done

        return await self._db.write(cancel)

    async def end(self, replay: Replay, entry: Entry, *, now: Micros) -> None:
        def end(db: sqlite3.Connection) -> None:
            sql = "UPDATE replays SET state = ?, ended_at = ? WHERE seq = ? AND state = ? AND state < 2"
            if db.execute(sql, (replay.state + 2, now, replay.seq, int(replay.state))).rowcount:
                self._watch.write_down(db, entry)

        await self._db.write(end)

    async def deliveries(self, seq: int, page: Page, *, oks: Sequence[bool | None] = ()) -> Slice[Replayed]:
        conditions = Conditions().any_of("p.replay_seq", (seq,)).either([Conditions().when(_CAME[ok]) for ok in oks])
        sql = _DELIVERIES.format(index="INDEXED BY replay_deliveries_failed" if tuple(oks) == (False,) else "")
        return await self._db.page(sql, conditions, page, ("p.event_seq", "p.destination_no"), _replayed)

    # attempts

    async def asks(self, attempts: Sequence[Attempt]) -> Mapping[int, Ask]:
        manual = [attempt.seq for attempt in attempts if attempt.manual]
        if not manual:
            return {}
        found = await self._db.read(lambda db: retries.initiators(db, manual))
        return {seq: Ask(initiator, replay_seq) for seq, initiator, replay_seq in found}


def _standings(db: sqlite3.Connection, event_seqs: Sequence[int]) -> dict[int, Standing]:
    listed = (rows.json_text(event_seqs),)
    statuses: dict[int, dict[int, Status]] = {seq: {} for seq in event_seqs}
    for seq, no, state, attempt, leased in db.execute(_STANDINGS, listed):
        statuses[seq][no] = status_of(DeliveryState(state), attempt=attempt, leased=bool(leased))
    retried = dict(db.execute(_RETRIED, listed))
    return {seq: Standing(statuses[seq], retried.get(seq, 0)) for seq in event_seqs}


def _running_like(db: sqlite3.Connection, replay: Replay) -> Replay | None:
    """What the same caller asked for in the same words, if it has not come to its end."""
    sql = f"""{_SELECT} WHERE r.state < 2 AND r.state = 0 AND r.tenant_id IS ? AND r.destination_no IS ? AND r.asked = ?
              AND r.wanted = ? AND r.actor_kind = ? AND r.actor IS ?"""
    values = (
        replay.tenant_id,
        replay.wanted.destination_no,
        rows.json_text(replay.asked),
        rows.json_text(replay.wanted),
    )
    found = db.execute(sql, (*values, replay.by.kind, replay.by.name)).fetchone()
    return None if found is None else _replay(found)


def _check_limits(db: sqlite3.Connection, tenant_id: str, replay: Replay, limits: Limits) -> None:
    if limits.running is not None:
        sql = "SELECT count(*) FROM replays WHERE tenant_id = ? AND actor_kind = ? AND state < 2"
        (running,) = db.execute(sql, (tenant_id, replay.by.kind)).fetchone()
        if running >= limits.running:
            raise TooMany(
                f"at most {limits.running} replays of a tenant run at one time",
                {"limit": limits.running, "remaining": 0},
                retry_after=_ANOTHER_LOOK_SECONDS,
            )
    if limits.per_hour is not None:
        retries.charge(db, tenant_id, replay.selected, limits.per_hour, now=replay.created_at)


_ANOTHER_LOOK_SECONDS = 10


def _settle(db: sqlite3.Connection, seq: int) -> Counter[int]:
    """Note what came of the attempts that were due; how many ended in which state."""
    attempted = db.execute(_ATTEMPTED, (seq, 0)).fetchall()
    db.executemany(_MOVE, attempted)
    return Counter(state for state, *_ in attempted)


def _send(db: sqlite3.Connection, replay: Replay, no: int, places: int, now: Micros) -> Counter[str]:
    """Make due what there is room for; what was dropped instead, by reason."""
    sql = "SELECT deleted_at IS NOT NULL, disabled_at IS NOT NULL FROM destinations WHERE no = ?"
    deleted, disabled = db.execute(sql, (no,)).fetchone()
    gone = "deleted" if deleted else "disabled" if disabled else None
    sql = f"{_QUEUED} AND destination_no = ? ORDER BY event_seq LIMIT ?"
    pairs = db.execute(sql, (replay.seq, no, _DROPPED_AT_ONCE if gone else places)).fetchall()
    if gone is not None:
        return Counter({gone: _drop(db, replay.seq, pairs)})
    db.executemany(_MOVE, [(1, replay.seq, *pair) for pair in pairs])
    retries.ask(db, pairs, now=now, initiator=str(replay.by), replay_seq=replay.seq)
    return Counter()


def _drop_cancelled(db: sqlite3.Connection, seq: int) -> Counter[str]:
    pairs = db.execute(f"{_QUEUED} LIMIT ?", (seq, _DROPPED_AT_ONCE)).fetchall()
    return Counter({"cancelled": _drop(db, seq, pairs)})


def _drop(db: sqlite3.Connection, seq: int, pairs: Sequence[tuple[int, int]]) -> int:
    sql = "DELETE FROM replay_deliveries WHERE replay_seq = ? AND event_seq = ? AND destination_no = ?"
    return db.executemany(sql, [(seq, *pair) for pair in pairs]).rowcount


def _count(
    db: sqlite3.Connection,
    seq: int,
    *,
    skipped: Mapping[str, int],
    delivered: int = 0,
    failed: int = 0,
    dropped: int = 0,
) -> Replay:
    """Add to a replay's numbers. What was dropped is no longer part of the total."""
    replay = _one(db, seq)
    if skipped or delivered or failed:
        db.execute(
            "UPDATE replays SET delivered = delivered + ?, failed = failed + ?, total = total - ?, skipped = ?"
            " WHERE seq = ?",
            (delivered, failed, dropped, rows.json_text(Counter(replay.skipped) + Counter(skipped)), seq),
        )
    return _one(db, seq)


def _one(db: sqlite3.Connection, seq: int) -> Replay:
    return _replay(db.execute(f"{_SELECT} WHERE r.seq = ?", (seq,)).fetchone())


def _replay(row: rows.Row) -> Replay:
    return Replay(
        seq=row[0],
        tenant_id=row[1],
        asked=rows.decoded(row[3]),
        query=msgspec.json.decode(row[4], type=EventQuery),
        wanted=msgspec.json.decode(row[5], type=Wanted),
        by=Actor(kind=row[6], name=row[7], ip=row[8]),
        state=ReplayState(row[9]),
        selected=row[10],
        examined=row[11],
        planned=bool(row[12]),
        after=None if row[13] is None else (row[13], row[14]),
        total=row[15],
        delivered=row[16],
        failed=row[17],
        skipped=rows.decoded(row[18]),
        created_at=row[19],
        ended_at=row[20],
        destination_id=row[21],
    )


def _values(value: Replay) -> tuple[object, ...]:
    """The row of `replays`, in the table's order."""
    return (
        value.seq,
        value.tenant_id,
        value.wanted.destination_no,
        rows.json_text(value.asked),
        rows.json_text(value.query),
        rows.json_text(value.wanted),
        value.by.kind,
        value.by.name,
        value.by.ip,
        int(value.state),
        value.selected,
        value.examined,
        value.planned,
        *(value.after or (None, None)),
        value.total,
        value.delivered,
        value.failed,
        rows.json_text(value.skipped),
        value.created_at,
        value.ended_at,
    )


def _replayed(row: rows.Row) -> Replayed:
    event_seq, event_id, tenant_id, destination_no, destination_id, came, state = row
    return Replayed(
        event_seq=event_seq,
        event_id=event_id,
        tenant_id=tenant_id,
        destination_no=destination_no,
        destination_id=destination_id,
        ok=None if came < _DELIVERED else came == _DELIVERED,
        state=None if state is None else DeliveryState(state),
    )
