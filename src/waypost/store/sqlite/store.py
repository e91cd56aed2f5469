"""The embedded store: one SQLite file in WAL mode, one writing thread with group commit, a pool of readers.

`synchronous=FULL` makes every commit wait for the disk, so what is acknowledged survives a power cut; group commit
shares that wait among all publishes and results that arrive meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from waypost.core.errors import SettingsError, Unavailable
from waypost.core.model import Delivery, DeliveryState, Destination, Micros, TenantSummary
from waypost.store.base import (
    Accepted,
    ApiKey,
    AttemptQuery,
    Claim,
    Direction,
    EventQuery,
    Page,
    Publication,
    Result,
    RetryRequest,
    Slice,
    StoredAttempt,
    StoredEvent,
)
from waypost.store.sqlite import life, manage, opening, rows
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.writer import CommitObserver, GroupWriter, Handler, Unobserved
from waypost.store.vault import Vault

T = TypeVar("T")

_OLDEST_SQLITE = (3, 37, 0)


class SqliteStore:
    """Implements `waypost.store.base.Store`. All methods belong to the event loop that called `open`."""

    def __init__(
        self,
        path: Path,
        vault: Vault,
        *,
        clock: Callable[[], Micros],
        busy_timeout: float = 5.0,
        readers: int = 3,
        largest_group: int = 512,
        observer: CommitObserver | None = None,
    ) -> None:
        self._path = path
        self._vault = vault
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._readers = readers
        self._largest_group = largest_group
        self._observer = observer or Unobserved()
        self._reading = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock_file: int | None = None
        self._destinations: dict[tuple[int, int], Destination] = {}

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            oldest = ".".join(map(str, _OLDEST_SQLITE))
            raise SettingsError(f"SQLite {oldest} or newer is needed; this Python has {sqlite3.sqlite_version}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = opening.lock(self._path)
            await asyncio.to_thread(self._prepare)
        except (OSError, sqlite3.Error) as error:
            self._unlock()
            raise SettingsError(f"database_url: cannot use {self._path}: {error}") from None
        except SettingsError:
            self._unlock()
            raise
        self._pool = ThreadPoolExecutor(self._readers, thread_name_prefix="waypost-reader")
        handlers: dict[str, Handler] = {"accept": life.accept, "record": life.record, "call": life.call}
        self._writer = GroupWriter(self._connect, handlers, largest_group=self._largest_group, observer=self._observer)
        self._writer.start()

    @property
    def writing(self) -> bool:
        """Whether the writing thread is alive."""
        return self._lock_file is not None and self._writer.alive

    async def close(self) -> None:
        if self._lock_file is None:
            return
        await self._writer.close()
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=self._busy_timeout, cached_statements=512
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _prepare(self) -> None:
        self._path.touch(mode=0o600)
        connection = self._connect()
        try:
            opening.migrate(connection)
            opening.check_key(connection, self._vault)
            opening.reseal(connection, self._vault)
            connection.execute(
                "UPDATE deliveries SET leased = 0, due = ? WHERE state = 0 AND leased = 1", (self._clock(),)
            )
        finally:
            connection.close()

    # the life of an event

    async def accept(self, publication: Publication) -> Accepted:
        accepted: list[Accepted] = await self._writer.submit("accept", (publication,))
        return accepted[0]

    async def accept_many(self, publications: Sequence[Publication]) -> list[Accepted]:
        accepted: list[Accepted] = await self._writer.submit("accept", tuple(publications))
        return accepted

    def record(self, result: Result) -> asyncio.Future[bool]:
        return self._writer.submit("record", result)

    async def claim(self, destination_no: int, *, now: Micros, lease_until: Micros, limit: int) -> Claim:
        return await self._write(lambda db: life.claim(db, destination_no, now, lease_until, limit))

    async def release(self, deliveries: Sequence[Delivery], *, due: Micros) -> None:
        keys = [(due, d.event.seq, d.destination_no, d.attempt, d.lease_until) for d in deliveries]
        await self._write(lambda db: life.release(db, keys))

    async def cancel(self, destination_no: int) -> None:
        await self._write(lambda db: life.cancel(db, [(destination_no,)]))

    async def due_destinations(self) -> list[tuple[int, Micros]]:
        return await self._read(life.due_destinations)

    async def retry(self, request: RetryRequest) -> None:
        await self._write(lambda db: life.retry(db, request))

    async def count_waiting(self) -> int:
        return await self._read(life.count_waiting)

    # tenants

    async def put_tenant(self, tenant_id: str, metadata: dict[str, str] | None, *, now: Micros) -> bool:
        return await self._write(lambda db: manage.put_tenant(db, tenant_id, rows.json_text(metadata), now))

    async def tenant(self, tenant_id: str) -> TenantSummary | None:
        return await self._read(lambda db: manage.tenant(db, tenant_id))

    async def delete_tenant(self, tenant_id: str, *, now: Micros) -> bool:
        return await self._write(lambda db: manage.delete_tenant(db, tenant_id, now))

    async def tenants(self, page: Page, *, ids: tuple[str, ...] = ()) -> Slice[TenantSummary]:
        conditions = Conditions().any_of("t.id", ids)
        sql = f"SELECT {manage.prefixed('t', rows.TENANT)}, {manage.SUBSCRIPTIONS} FROM tenants t"
        found = await self._page(sql, conditions, page, ("t.created_at", "t.id"))
        return _sliced(found, page, rows.tenant_summary)

    async def count_tenants(self, *, ids: tuple[str, ...] = ()) -> int:
        conditions = Conditions().any_of("id", ids)
        counted = await self._read(lambda db: _one(db, f"SELECT count(*) FROM tenants{conditions.where}", conditions))
        return int(counted[0])

    # destinations

    async def add_destination(self, destination: Destination, *, limit: int) -> Destination:
        values = rows.destination_values(destination, self._vault)
        no = await self._write(lambda db: manage.add_destination(db, destination, values, limit))
        return structs.replace(destination, no=no)

    async def replace_destination(self, destination: Destination) -> Destination | None:
        changed = structs.replace(destination, version=destination.version + 1)
        values = rows.destination_values(changed, self._vault)
        replaced = await self._write(lambda db: manage.replace_destination(db, destination, values))
        return changed if replaced else None

    async def delete_destination(self, tenant_id: str, destination_id: str, *, now: Micros) -> Destination | None:
        found = await self.destination(tenant_id, destination_id)
        if found is None:
            return None
        deleted = await self._write(lambda db: manage.delete_destinations(db, "no = ?", found.no, now))
        return found if deleted else None

    async def destination(self, tenant_id: str, destination_id: str) -> Destination | None:
        return await self._one_destination(
            "tenant_id = ? AND id = ? AND deleted_at IS NULL", (tenant_id, destination_id)
        )

    async def destination_by_no(self, no: int) -> Destination | None:
        return await self._one_destination("no = ? AND deleted_at IS NULL", (no,))

    async def _one_destination(self, condition: str, parameters: tuple[Any, ...]) -> Destination | None:
        found = await self._destinations_where(condition, parameters)
        return found[0] if found else None

    async def destinations(self, tenant_id: str) -> tuple[Destination, ...]:
        found = await self._destinations_where("tenant_id = ? AND deleted_at IS NULL", (tenant_id,))
        return tuple(sorted(found, key=lambda d: (d.created_at, d.id)))

    async def _destinations_where(self, condition: str, parameters: tuple[Any, ...]) -> list[Destination]:
        sql = f"SELECT {rows.DESTINATION} FROM destinations WHERE {condition}"
        found = await self._read(lambda db: db.execute(sql, parameters).fetchall())
        return [rows.destination(row, self._vault) for row in found]

    # reading the record

    async def events(self, query: EventQuery, page: Page) -> Slice[StoredEvent]:
        conditions = (
            Conditions()
            .any_of("e.id", query.ids)
            .any_of("e.tenant_id", query.tenant_ids)
            .any_of("e.topic", query.topics)
            .within("e.time", query.time)
            .when_any(_ROUTED_TO, query.destination_ids)
        )
        sql = f"SELECT {rows.STORED_EVENT} FROM events e"
        found = await self._page(sql, conditions, page, ("e.time", "e.seq"))
        return _sliced(found, page, rows.stored_event)

    async def event(self, event_id: str, *, tenant_id: str | None) -> StoredEvent | None:
        conditions = Conditions().any_of("e.id", (event_id,))
        if tenant_id is not None:
            conditions.any_of("e.tenant_id", (tenant_id,))
        sql = f"SELECT {rows.STORED_EVENT} FROM events e{conditions.where} ORDER BY e.seq DESC LIMIT 1"
        found = await self._read(lambda db: _one(db, sql, conditions))
        return None if found is None else rows.stored_event(found)

    async def attempts(self, query: AttemptQuery, page: Page) -> Slice[StoredAttempt]:
        conditions = (
            Conditions()
            .any_of("a.seq", query.ids)
            .any_of("a.tenant_id", query.tenant_ids)
            .any_of("a.destination_type", query.destination_types)
            .any_of("e.topic", query.topics)
            .when_any(_OF_EVENTS, query.event_ids)
            .when_any(_TO_DESTINATIONS, query.destination_ids)
            .numbered_within("a.seq", query.time)
        )
        if query.ok is not None:
            conditions.any_of("a.ok", (int(query.ok),))
        sql = (
            f"SELECT {rows.ATTEMPT}, {rows.EVENT}, {manage.prefixed('d', rows.DESTINATION)} FROM attempts a"
            " JOIN events e ON e.seq = a.event_seq JOIN destinations d ON d.no = a.destination_no"
        )
        found = await self._page(sql, conditions, page, ("a.seq",))
        return _sliced(found, page, self._stored_attempt)

    def _stored_attempt(self, row: rows.Row) -> StoredAttempt:
        event_at = rows.ATTEMPT_WIDTH
        destination_at = event_at + rows.EVENT_WIDTH
        return StoredAttempt(
            attempt=rows.attempt(row),
            event=rows.event(row[event_at:]),
            destination=self._known_destination(row[destination_at:]),
        )

    def _known_destination(self, row: rows.Row) -> Destination:
        """Read the destination, decrypting the credentials of each version once."""
        key = (row[0], row[14])
        known = self._destinations.get(key)
        if known is None:
            if len(self._destinations) >= _REMEMBERED_DESTINATIONS:
                self._destinations.clear()
            known = self._destinations[key] = rows.destination(row, self._vault)
        return known

    async def delivery_states(self, event_seq: int) -> Mapping[str, DeliveryState]:
        sql = (
            "SELECT d.id, x.state FROM deliveries x"
            " JOIN destinations d ON d.no = x.destination_no WHERE x.event_seq = ?"
        )
        found = await self._read(lambda db: db.execute(sql, (event_seq,)).fetchall())
        return {destination_id: DeliveryState(state) for destination_id, state in found}

    # keys

    async def add_api_key(self, key: ApiKey) -> None:
        await self._write(lambda db: manage.add_api_key(db, key))

    async def api_keys(self) -> tuple[ApiKey, ...]:
        sql = "SELECT id, name, digest, hint, created_at FROM api_keys ORDER BY created_at, id"
        found = await self._read(lambda db: db.execute(sql).fetchall())
        return tuple(ApiKey(id=i, name=n, digest=d, hint=h, created_at=c) for i, n, d, h, c in found)

    async def revoke_api_key(self, key_id: str) -> bool:
        return await self._write(lambda db: db.execute("DELETE FROM api_keys WHERE id = ?", (key_id,)).rowcount > 0)

    # machinery

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        done: T = await self._writer.submit("call", change)
        return done

    async def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)
        except (sqlite3.DatabaseError, RuntimeError) as error:
            raise Unavailable(f"the store cannot be read now: {error}") from error

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._connections.append(connection)
        return question(connection)

    async def _page(self, sql: str, conditions: Conditions, page: Page, order: tuple[str, ...]) -> list[rows.Row]:
        """One row more than the page holds, in reading direction (backwards for a `before` position)."""
        forwards = page.direction is Direction.ASC
        position = page.after
        if page.before is not None:
            forwards, position = not forwards, page.before
        if position is not None:
            conditions.beyond(order, position[-len(order) :], forwards=forwards)
        way = "ASC" if forwards else "DESC"
        ordering = ", ".join(f"{column} {way}" for column in order)
        statement = f"{sql}{conditions.where} ORDER BY {ordering} LIMIT ?"
        parameters = (*conditions.parameters, page.limit + 1)
        return await self._read(lambda db: db.execute(statement, parameters).fetchall())


_REMEMBERED_DESTINATIONS = 10_000
_NUMBERS_OF = "SELECT no FROM destinations WHERE id IN ({values})"
_ROUTED_TO = f"EXISTS (SELECT 1 FROM deliveries x WHERE x.event_seq = e.seq AND x.destination_no IN ({_NUMBERS_OF}))"
_OF_EVENTS = "a.event_seq IN (SELECT seq FROM events WHERE id IN ({values}))"
_TO_DESTINATIONS = f"a.destination_no IN ({_NUMBERS_OF})"


def _sliced(found: list[rows.Row], page: Page, read: Callable[[rows.Row], T]) -> Slice[T]:
    more = len(found) > page.limit
    items = tuple(read(row) for row in found[: page.limit])
    if page.before is not None:
        return Slice(items[::-1], has_next=True, has_prev=more)
    return Slice(items, has_next=more, has_prev=page.after is not None)


def _one(db: sqlite3.Connection, sql: str, conditions: Conditions) -> Any:
    return db.execute(sql, conditions.parameters).fetchone()
