"""Reading counts, and keeping them readable. Implements `waypost.store.rollups.RollupStore`.

What happens is counted in `rollups_fresh` by minute and series: rows that are written one beside another. Folding moves
them to `rollups`, where all of a series lies together, by minute, by hour and by day. Every count is in exactly one of
the two tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from waypost.core import ids
from waypost.core.errors import BadRequest
from waypost.core.metering import EVENTS, MINUTE, Count, Piece, Question, Sums, cover
from waypost.core.model import DAY, Micros
from waypost.store.sqlite import rows
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.meter import WIDER, View

_COLUMNS = {"status": "ok", "attempt_number": "number"}
_TO_COLUMN: dict[str, Callable[[str], Any]] = {
    "status": lambda text: int(text == "success"),
    "manual": lambda text: int(text == "true"),
    "attempt_number": int,
}
_FROM_COLUMN: dict[str, Callable[[Any], str]] = {
    "status": lambda ok: "success" if ok else "failed",
    "manual": lambda manual: "true" if manual else "false",
    "attempt_number": str,
}
_SUMS = {
    "total": "{n}",
    "ok": "{n} * s.ok",
    "first": "{n} * (s.number = 1 AND NOT s.manual)",
    "retries": "{n} * (s.number > 1)",
    "manual": "{n} * s.manual",
    "numbers": "{n} * s.number",
}
"""How each of Sums is counted, where `n` is how often something alike happened."""

_TOLD_APART = {
    "ok": {"ok"},
    "first": {"number", "manual"},
    "retries": {"number"},
    "manual": {"manual"},
    "numbers": {"number"},
}
"""What a view has to tell apart for a sum."""

_A_MILLISECOND = ids.compose(1, 0, 0) - ids.compose(0, 0, 0)
_ATTEMPT_TIME = f"(s.at / {_A_MILLISECOND} * 1000 + {ids.time_of(0)})"
_NO_ATTEMPT = "0 AS ok, 0 AS manual, 0 AS number"
_RECORDS = {
    View.ATTEMPTS: """(
        SELECT seq AS at, tenant_id, (SELECT id FROM destinations WHERE no = destination_no) AS destination_id,
            destination_type, (SELECT topic FROM events WHERE seq = event_seq) AS topic, code, ok, manual, number
        FROM attempts)""",
    View.EVENTS: f"(SELECT time AS at, tenant_id, topic, {_NO_ATTEMPT} FROM events)",
    View.ROUTED: f"""(
        SELECT e.time AS at, e.tenant_id, m.value AS destination_id, e.topic, {_NO_ATTEMPT}
        FROM events e CROSS JOIN json_each(e.matched) m)""",
}
_FOLD = """
    INSERT INTO rollups
    SELECT t.width, s.whole, f.bucket / t.width * t.width, sum(f.count)
    FROM rollups_fresh f
    CROSS JOIN series_sums s ON s.part = f.series
    CROSS JOIN rollup_tiers t ON f.bucket >= t.since
    WHERE (f.bucket, f.series) < (?, ?)
    GROUP BY 1, 2, 3
    ON CONFLICT (width, series, bucket) DO UPDATE SET count = count + excluded.count
"""
_BEYOND_ALL = (1 << 62, 0)


class SqliteRollups:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def count(self, question: Question, *, most: int, scan_limit: int) -> list[Count]:
        return await self._db.read(lambda db: _count(db, question, most, scan_limit))

    async def fold(self, *, limit: int) -> bool:
        return await self._db.write(lambda db: fold(db, limit))

    async def prune(self, keep_since: Mapping[Micros, Micros], *, after: int, limit: int) -> int | None:
        return await self._db.write(lambda db: _prune(db, keep_since, after, limit))


def _count(db: sqlite3.Connection, question: Question, most: int, scan_limit: int) -> list[Count]:
    with _snapshot(db):
        tiers = db.execute("SELECT width, since FROM rollup_tiers")
        complete_since = {width * MINUTE: since * MINUTE for width, since in tiers}
        statement = Statement(question, cover(question.start, question.end, question.step, complete_since))
        if statement.scanned(db, scan_limit) > scan_limit:
            raise BadRequest(
                f"query too broad: more than {scan_limit} records would be read one by one; ask for a shorter time"
                " range, or for whole hours or days"
            )
        found = db.execute(statement.sql(most), statement.parameters)
        return _read(found, question.dimensions)


@contextlib.contextmanager
def _snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Several statements that read the same state."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def _read(found: Iterable[rows.Row], dimensions: Sequence[str]) -> list[Count]:
    end = len(dimensions) + 1
    counts = [Count(row[0], tuple(row[1:end]), Sums._make(row[end:])) for row in found]
    if _FROM_COLUMN.keys().isdisjoint(dimensions):
        return counts
    readers = [_FROM_COLUMN.get(name, str) for name in dimensions]
    return [
        count._replace(dimensions=tuple([read(value) for read, value in zip(readers, count.dimensions, strict=True)]))
        for count in counts
    ]


def _views_of(question: Question) -> tuple[View, View]:
    """The view that has the fewest series among those that can answer, and the one that it adds up."""
    used = {_COLUMNS.get(name, name) for name in (*question.dimensions, *question.filters)}
    used = used.union(*[_TOLD_APART.get(name, set()) for name in question.sums])
    fine = View.ATTEMPTS
    if question.subject is EVENTS:
        fine = View.ROUTED if "destination_id" in used else View.EVENTS
    for view, (parts, without) in WIDER.items():
        if parts is fine and not used & without:
            return view, fine
    return fine, fine


class Statement:
    """A question in SQL: an arm for each piece of its range, and one for what is fresh in the tiers among them.

    What a request says is bound; its dimensions are the subject's own.
    """

    def __init__(self, question: Question, pieces: Sequence[Piece]) -> None:
        self._question = question
        self._pieces = pieces
        self._view, self._fine = _views_of(question)
        self.parameters: dict[str, Any] = {}
        self._sums = sorted(question.sums)  # each costs a fifth of reading a count
        self._columns = [_column(name) for name in question.dimensions]
        self._filters = {name: self._filter(name, values) for name, values in question.filters.items()}

    def sql(self, most: int) -> str:
        arms = [self._tier(piece) if piece.width else self._records(piece) for piece in self._pieces]
        arms += [self._fresh(start, end) for start, end in _runs(self._pieces)]
        names = [f"d{number}" for number in range(len(self._columns))]
        sums = [f"sum({name})" if name in self._sums else "0" for name in Sums._fields]
        columns = ", ".join(["step", *names, *sums])
        order = ", ".join([*names, "step"])
        buckets = len(self._question.edges) - 1
        enough = self._bound((most // buckets + 2) * self._question.steps)
        return f"SELECT {columns} FROM ({' UNION ALL '.join(arms)}) GROUP BY {order} ORDER BY {order} LIMIT {enough}"

    def scanned(self, db: sqlite3.Connection, limit: int) -> int:
        """How many records would be read one by one; counted to just beyond the limit."""
        source, tenant = _RECORDS[self._fine], self._filters.get("tenant_id", "")
        enough, found = self._bound(limit + 1), 0
        for piece in self._pieces:
            if not piece.width:
                sql = f"SELECT 1 FROM {source} s WHERE {self._within_records(piece)}{tenant} LIMIT {enough}"
                found += db.execute(f"SELECT count(*) FROM ({sql})", self.parameters).fetchone()[0]
        return found

    def _tier(self, piece: Piece) -> str:
        view, width = self._bound(self._view), self._bound(piece.width // MINUTE)
        where = f"s.view = {view} AND r.width = {width} AND r.series = s.no AND {self._within(piece.start, piece.end)}"
        return self._arm("series s CROSS JOIN rollups r", where, "r.count", self._step("r.bucket", MINUTE))

    def _fresh(self, start: Micros, end: Micros) -> str:
        where = f"{self._within(start, end)} AND s.no = r.series AND s.view = {self._bound(self._fine)}"
        return self._arm("rollups_fresh r CROSS JOIN series s", where, "r.count", self._step("r.bucket", MINUTE))

    def _records(self, piece: Piece) -> str:
        time = _ATTEMPT_TIME if self._fine is View.ATTEMPTS else "s.at"
        return self._arm(f"{_RECORDS[self._fine]} s", self._within_records(piece), "1", self._step(time, 1))

    def _arm(self, source: str, where: str, n: str, step: str) -> str:
        names = [f"{column} AS d{number}" for number, column in enumerate(self._columns)]
        sums = [f"sum({_SUMS[name].format(n=n)}) AS {name}" for name in self._sums]
        columns = ", ".join([f"{step} AS step", *names, *sums])
        grouped = ", ".join(map(str, range(1, len(names) + 2)))
        return f"SELECT {columns} FROM {source} WHERE {where}{''.join(self._filters.values())} GROUP BY {grouped}"

    def _step(self, time: str, unit: Micros) -> str:
        """The number of the step that a time lies in; the time is given in this unit."""
        step = self._question.step
        if step is None:
            return "0"
        return f"({time} - {self._bound(self._question.edges[0] // unit)}) / {self._bound(step // unit)}"

    def _within(self, start: Micros, end: Micros) -> str:
        return f"r.bucket >= {self._bound(start // MINUTE)} AND r.bucket < {self._bound(end // MINUTE)}"

    def _within_records(self, piece: Piece) -> str:
        start, end = piece.start, piece.end
        if self._fine is View.ATTEMPTS:
            start, end = ids.bound(start), ids.bound(end)
        return f"s.at >= {self._bound(start)} AND s.at < {self._bound(end)}"

    def _filter(self, name: str, values: Sequence[str]) -> str:
        stored = rows.json_text([_TO_COLUMN.get(name, str)(value) for value in values])
        return f" AND {_column(name)} IN (SELECT value FROM json_each({self._bound(stored)}))"

    def _bound(self, value: Any) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


def _column(dimension: str) -> str:
    return f"s.{_COLUMNS.get(dimension, dimension)}"


def _runs(pieces: Sequence[Piece]) -> list[tuple[Micros, Micros]]:
    """The stretches of time that tiers cover without a gap."""
    runs: list[tuple[Micros, Micros]] = []
    for width, start, end in pieces:
        if width and runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end)
        elif width:
            runs.append((start, end))
    return runs


def fold(db: sqlite3.Connection, limit: int) -> bool:
    beyond = db.execute(
        "SELECT bucket, series FROM rollups_fresh ORDER BY bucket, series LIMIT 1 OFFSET ?", (limit,)
    ).fetchone()
    until = beyond or _BEYOND_ALL
    db.execute(_FOLD, until)
    db.execute("DELETE FROM rollups_fresh WHERE (bucket, series) < (?, ?)", until)
    return beyond is not None


def _prune(db: sqlite3.Connection, keep_since: Mapping[Micros, Micros], after: int, limit: int) -> int | None:
    next_ones = "SELECT no FROM series WHERE no > ? ORDER BY no LIMIT ?"
    for width, instant in keep_since.items():
        since = instant // DAY * DAY // MINUTE
        db.execute("UPDATE rollup_tiers SET since = max(since, ?) WHERE width = ?", (since, width // MINUTE))
        sql = f"DELETE FROM rollups WHERE width = ? AND series IN ({next_ones}) AND bucket < ?"
        db.execute(sql, (width // MINUTE, after, limit, since))
    last: int | None
    (last,) = db.execute(f"SELECT max(no) FROM ({next_ones})", (after, limit)).fetchone()
    return last
