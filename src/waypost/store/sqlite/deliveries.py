"""Deliveries one by one. Implements `waypost.store.deliveries.DeliveryStore`."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from waypost.core.model import DeliveryState
from waypost.store.alerting import Entry
from waypost.store.deliveries import DeliveryQuery, StoredDelivery
from waypost.store.paging import Page, Slice, TimeRange
from waypost.store.sqlite import rows
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.finding import IN_STATUS, INDEX_OF, LISTED, numbers, snapshot
from waypost.store.sqlite.watch import Watch
from waypost.store.sqlite.window import Way, Window

_NOT_MANY = 10_000
"""So many keys are sorted within a few milliseconds."""
_MANY = 100
_PRIMARY_KEY = "sqlite_autoindex_deliveries_1"
_BY_DESTINATION = "deliveries_by_destination"
_PENDING = "deliveries_pending"
_KEYS = (
    "SELECT json_extract(value, '$[0]') AS event_seq, json_extract(value, '$[1]') AS destination_no FROM json_each(?)"
)
_COLUMNS = (
    "x.event_seq, x.destination_no, e.id, e.tenant_id, e.topic, d.id, x.state, x.attempt, x.retries, x.manual, x.due,"
    " x.leased"
)
_JOINED = "CROSS JOIN events e ON e.seq = x.event_seq CROSS JOIN destinations d ON d.no = x.destination_no"
_BY_KEY = f"""
    SELECT {_COLUMNS} FROM ({_KEYS}) k
    CROSS JOIN deliveries x ON x.event_seq = k.event_seq AND x.destination_no = k.destination_no {_JOINED}
"""
_OF_EVENTS = f"SELECT {_COLUMNS} FROM deliveries x {_JOINED} WHERE x.event_seq IN {LISTED}"
_OF_THEM = "x.event_seq IN (SELECT seq FROM events WHERE id IN ({values}))"


class SqliteDeliveries:
    def __init__(self, db: Database, watch: Watch) -> None:
        self._db = db
        self._watch = watch

    async def list(self, query: DeliveryQuery, page: Page) -> Slice[StoredDelivery]:
        return await self._db.read(lambda db: _list(db, query, page))

    async def count(self, query: DeliveryQuery, *, limit: int) -> int | None:
        return await self._db.read(lambda db: _count(db, query, limit))

    async def one(self, event_seq: int, destination_no: int, *, tenant_id: str | None) -> StoredDelivery | None:
        (found,) = await self._db.read(lambda db: _read(db, [(event_seq, destination_no)])) or (None,)
        return None if found is None or tenant_id not in {None, found.tenant_id} else found

    async def of_events(self, event_seqs: Sequence[int]) -> Mapping[int, Sequence[StoredDelivery]]:
        found = defaultdict[int, list[StoredDelivery]](list)
        for row in await self._db.all(_OF_EVENTS, (rows.json_text(event_seqs),)):
            found[row[0]].append(_delivery(row))
        return found

    async def cancel(self, event_seq: int, destination_no: int, entry: Entry) -> bool:
        def cancel(db: sqlite3.Connection) -> bool:
            sql = """UPDATE deliveries SET state = 3, due = NULL, leased = 0
                     WHERE event_seq = ? AND destination_no = ? AND state IN (0, 4)"""
            done = db.execute(sql, (event_seq, destination_no)).rowcount > 0
            if done:
                self._watch.write_down(db, entry)
            return done

        return await self._db.write(cancel)


def _list(db: sqlite3.Connection, query: DeliveryQuery, page: Page) -> Slice[StoredDelivery]:
    window = Window(page, ("x.event_seq", "x.destination_no"))
    with snapshot(db):
        return window.cut(_read(db, window.keys(db, _ways(db, query))))


def _read(db: sqlite3.Connection, keys: Sequence[rows.Row]) -> list[StoredDelivery]:
    """In the order of the keys."""
    found = {row[:2]: _delivery(row) for row in db.execute(_BY_KEY, (rows.json_text(keys),))}
    return [found[key] for key in map(tuple, keys) if key in found]


def _delivery(row: rows.Row) -> StoredDelivery:
    return StoredDelivery(
        event_seq=row[0],
        destination_no=row[1],
        event_id=row[2],
        tenant_id=row[3],
        topic=row[4],
        destination_id=row[5],
        state=DeliveryState(row[6]),
        attempt=row[7],
        retries=row[8],
        manual=bool(row[9]),
        due=row[10],
        leased=bool(row[11]),
    )


class _Part(Struct, frozen=True):
    """Deliveries in one status: the condition, and the partial index in which they lie together. None for any."""

    condition: str | None
    index: str | None


def _parts(query: DeliveryQuery) -> list[_Part]:
    """What a query asks for, as disjoint parts."""
    dated = query.due != TimeRange()  # only what waits is due
    if not query.statuses:
        return [_Part("x.state = 0", _PENDING) if dated else _Part(None, None)]
    statuses = [status for status in dict.fromkeys(query.statuses) if not dated or INDEX_OF.get(status) == _PENDING]
    return [_Part(IN_STATUS[status], INDEX_OF.get(status)) for status in statuses]


def _ways(db: sqlite3.Connection, query: DeliveryQuery) -> Iterator[Way]:
    nos = _destinations(db, query)
    for part in _parts(query):
        conditions = _conditions(query, part, nos)
        if query.event_ids:
            yield Way(f"deliveries x INDEXED BY {_PRIMARY_KEY}", conditions)
        elif part.index is not None and _count_in(db, part.index, conditions, _NOT_MANY + 1) <= _NOT_MANY:
            yield Way(f"deliveries x INDEXED BY {part.index}", conditions)
        elif nos is not None and len(nos) <= _MANY:
            index = _BY_DESTINATION if part.index in {None, _PENDING} else part.index
            for no in nos:
                of_one = _conditions(query, part, None).when("x.destination_no = ?", no)
                yield Way(f"deliveries x INDEXED BY {index}", of_one)
        else:
            yield Way(f"deliveries x INDEXED BY {_PRIMARY_KEY}", conditions)


def _count(db: sqlite3.Connection, query: DeliveryQuery, limit: int) -> int | None:
    nos, count = _destinations(db, query), 0
    for part in _parts(query):
        index = _PRIMARY_KEY if query.event_ids else part.index
        if index is None:
            return None
        count += _count_in(db, index, _conditions(query, part, nos), limit - count)
    return count


def _count_in(db: sqlite3.Connection, index: str, conditions: Conditions, limit: int) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM deliveries x INDEXED BY {index}{conditions.where} LIMIT ?)"
    (count,) = db.execute(sql, (*conditions.parameters, limit)).fetchone()
    return int(count)


def _destinations(db: sqlite3.Connection, query: DeliveryQuery) -> list[int] | None:
    """The numbers of the only destinations that can be meant."""
    if not query.destination_ids and not query.tenant_ids:
        return None
    return numbers(db, query.destination_ids, query.tenant_ids)


def _conditions(query: DeliveryQuery, part: _Part, nos: Sequence[int] | None) -> Conditions:
    conditions = Conditions().when_any(_OF_THEM, query.event_ids)
    if part.condition is not None:
        conditions.when(part.condition)
    if nos is not None:
        conditions.when(f"x.destination_no IN {LISTED}", rows.json_text(nos))
    return conditions.numbered_within("x.event_seq", query.time).within("x.due", query.due)
