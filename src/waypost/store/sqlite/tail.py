"""Reading for the live stream. Implements `waypost.store.tail.TailStore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from waypost.store.base import StoredAttempt
from waypost.store.sqlite import rows
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.manage import prefixed
from waypost.store.tail import Item, Number, Told

_NUMBERS = """
    SELECT seq, 1, tenant_id FROM events WHERE seq > ?1
    UNION ALL SELECT seq, -1, tenant_id FROM attempts WHERE seq > ?1 ORDER BY 1 LIMIT ?2
"""
_EVENTS = f"SELECT {rows.STORED_EVENT} FROM events e"
_ATTEMPTS = (
    f"SELECT {rows.ATTEMPT}, {rows.EVENT}, {prefixed('d', rows.DESTINATION)} FROM attempts a"
    " JOIN events e ON e.seq = a.event_seq JOIN destinations d ON d.no = a.destination_no"
)


_OF_EVENT = "(SELECT length(e.data) + coalesce(length(e.metadata), 0) FROM events e WHERE e.seq = {seq})"
_SIZES = f"""
    SELECT value, CASE WHEN value > 0 THEN {_OF_EVENT.format(seq="value")} ELSE (
        SELECT coalesce(length(a.request), 0) + coalesce(length(a.response), 0) + {_OF_EVENT.format(seq="a.event_seq")}
        FROM attempts a WHERE a.seq = -value) END
    FROM json_each(?)
"""


class SqliteTail:
    """`attempt` reads a row of an attempt with its event and destination."""

    def __init__(self, db: Database, attempt: Callable[[rows.Row], StoredAttempt]) -> None:
        self._db = db
        self._attempt = attempt

    async def numbers(self, *, after: int, limit: int) -> list[tuple[Number, str]]:
        return [(seq * sign, tenant_id) for seq, sign, tenant_id in await self._db.all(_NUMBERS, (after, limit))]

    async def sizes(self, numbers: Sequence[Number]) -> Mapping[Number, int]:
        found = await self._db.all(_SIZES, (rows.json_text(list(numbers)),))
        return {number: size or 0 for number, size in found}

    async def read(self, numbers: Sequence[Number], *, tenant_ids: tuple[str, ...] = ()) -> list[Told]:
        events = [number for number in numbers if number > 0]
        attempts = [-number for number in numbers if number < 0]
        found: dict[Number, Item] = {}
        if events:
            for row in await self._rows(_EVENTS, "e", events, tenant_ids):
                found[row[0]] = rows.stored_event(row)
        if attempts:
            for row in await self._rows(_ATTEMPTS, "a", attempts, tenant_ids):
                found[-row[0]] = self._attempt(row)
        return [Told(number, found[number]) for number in numbers if number in found]

    async def _rows(self, sql: str, alias: str, seqs: Sequence[int], tenant_ids: tuple[str, ...]) -> list[rows.Row]:
        conditions = Conditions().any_of(f"{alias}.seq", seqs).any_of(f"+{alias}.tenant_id", tenant_ids)
        return await self._db.all(sql + conditions.where, tuple(conditions.parameters))

    async def barrier(self) -> None:
        await self._db.write(lambda _: None)
