"""The embedded store: one SQLite file in WAL mode, one writing thread with group commit, a pool of readers.

`synchronous=FULL` makes every commit wait for the disk, so what is acknowledged survives a power cut; group commit
shares that wait among all publishes and results that arrive meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from waypost.core import incarnations
from waypost.core.alerts import TOPIC_DELETED, TOPIC_UPDATED, Rule
from waypost.core.errors import SettingsError, Unavailable
from waypost.core.keeping import Keeping
from waypost.core.model import Delivery, DeliveryState, Destination, Micros, TenantSummary, Topic
from waypost.core.replaying import Limits
from waypost.store.alerting import Entry
from waypost.store.base import (
    Accepted,
    ApiKey,
    AttemptQuery,
    Claim,
    EventQuery,
    Page,
    Publication,
    Recorded,
    Result,
    RetryRequest,
    SkipKey,
    Slice,
    StoredAttempt,
    StoredEvent,
)
from waypost.store.sqlite import finding, life, manage, opening, retries, rows, skips, topics
from waypost.store.sqlite.alerting import SqliteAlerting
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.deliveries import SqliteDeliveries
from waypost.store.sqlite.meter import Meter
from waypost.store.sqlite.place import Place
from waypost.store.sqlite.replays import SqliteReplays
from waypost.store.sqlite.retention import SqliteRetention
from waypost.store.sqlite.rollups import SqliteRollups
from waypost.store.sqlite.search import SqliteSearch
from waypost.store.sqlite.tail import SqliteTail
from waypost.store.sqlite.watch import Watch
from waypost.store.sqlite.writer import CommitObserver, Handler, Unobserved
from waypost.store.vault import Vault

T = TypeVar("T")

_OLDEST_SQLITE = (3, 37, 0)
_PROBE = 16_384
"""Bytes that are written to learn whether anything can be."""
_CANCELLED_AT_ONCE = 500
"""Deliveries of one transaction, so that publishing goes on meanwhile."""


class SqliteStore:
    """Implements `waypost.store.base.Store`. All methods belong to the event loop that called `open`.

    `next_seq` numbers what the store itself writes; the writing thread alone calls it. `rules` are the alert rules that
    hold where none is stored. `keeping` bounds what attempts leave on record.
    """

    def __init__(
        self,
        path: Path,
        vault: Vault,
        *,
        clock: Callable[[], Micros],
        next_seq: Callable[[], int],
        rules: Sequence[Rule] = (),
        busy_timeout: float = 5.0,
        readers: int = 3,
        largest_group: int = 512,
        observer: CommitObserver | None = None,
        search: bool = True,
        keeping: Keeping | None = None,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._db = Database(
            path,
            busy_timeout=busy_timeout,
            readers=readers,
            largest_group=largest_group,
            observer=observer or Unobserved(),
        )
        self._watch = Watch(rules, vault, next_seq)
        self._alerting = SqliteAlerting(self._db, vault, self._watch, clock)
        self._deliveries = SqliteDeliveries(self._db, self._watch)
        self._search = SqliteSearch(self._db, enabled=search)
        self._meter = Meter()
        self._keeping = keeping or Keeping()
        self._rollups = SqliteRollups(self._db)
        self._replays = SqliteReplays(self._db, self._watch)
        self._retention = SqliteRetention(self._db, self._watch)
        self._tail = SqliteTail(self._db, self._stored_attempt)
        self._place: Place | None = None
        self._reused: dict[str, str] = {}
        self._destinations: dict[tuple[int, int], Destination] = {}

    @property
    def alerting(self) -> SqliteAlerting:
        return self._alerting

    @property
    def deliveries(self) -> SqliteDeliveries:
        return self._deliveries

    @property
    def search(self) -> SqliteSearch:
        return self._search

    @property
    def rollups(self) -> SqliteRollups:
        return self._rollups

    @property
    def replays(self) -> SqliteReplays:
        return self._replays

    @property
    def retention(self) -> SqliteRetention:
        return self._retention

    @property
    def tail(self) -> SqliteTail:
        return self._tail

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            oldest = ".".join(map(str, _OLDEST_SQLITE))
            raise SettingsError(f"SQLite {oldest} or newer is needed; this Python has {sqlite3.sqlite_version}")
        try:
            self._db.path.parent.mkdir(parents=True, exist_ok=True)
            self._place = Place(self._db.path)
            await asyncio.to_thread(self._prepare)
        except (OSError, sqlite3.Error) as error:
            self._unlock()
            raise SettingsError(f"database_url: cannot use {self._db.path}: {error}") from None
        except SettingsError:
            self._unlock()
            raise
        handlers: dict[str, Handler] = {
            "accept": self._accept,
            "record": lambda db, results: life.record(db, results, self._watch, self._meter, self._keeping),
        }
        self._db.start(handlers, undone=self._forget, equip=self._search.equip, place=self._place)
        await self._cancel_for_deleted()  # a crash may have come between

    def _accept(self, db: sqlite3.Connection, groups: Sequence[tuple[Publication, ...]]) -> list[list[Accepted]]:
        self._search.note(groups)
        return life.accept(db, groups, self._meter)

    def _forget(self) -> None:
        self._watch.forget()
        self._meter.forget()

    @property
    def writing(self) -> bool:
        return self._place is not None and self._db.writing and self._place.intact

    @property
    def alive(self) -> bool:
        return self._place is not None and self._db.alive

    def free(self) -> int | None:
        return self._db.free()

    async def probe(self, room: int) -> None:
        free = self.free()
        if free is not None and free < room:
            raise Unavailable(f"the disk has {free} bytes left")
        await self._db.write(lambda db: db.execute("REPLACE INTO meta VALUES ('probe', randomblob(?))", (_PROBE,)))

    async def close(self) -> None:
        if self._place is None:
            return
        ended = await self._db.close()
        await self._search.close()
        if ended:  # who still writes keeps the lock until the process ends
            self._unlock()

    def _unlock(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _prepare(self) -> None:
        connection = self._db.connect()
        try:
            opening.migrate(connection)
            opening.check_key(connection, self._vault)
            opening.reseal(connection, self._vault)
            self._reused = manage.reused(connection)
            self._search.open(opening.identity(connection))
            connection.execute(
                "UPDATE deliveries SET leased = 0, due = ? WHERE state = 0 AND leased = 1", (self._clock(),)
            )
            connection.execute("UPDATE news SET due = ? WHERE state = 0", (self._clock(),))
        finally:
            connection.close()

    # the life of an event

    async def accept(self, publication: Publication) -> Accepted:
        accepted: list[Accepted] = await self._db.submit("accept", (publication,))
        return accepted[0]

    async def accept_many(self, publications: Sequence[Publication]) -> list[Accepted]:
        accepted: list[Accepted] = await self._db.submit("accept", tuple(publications))
        return accepted

    def record(self, result: Result) -> asyncio.Future[Recorded | None]:
        return self._db.submit("record", result)

    async def claim(
        self, destination_no: int, *, now: Micros, lease_until: Micros, limit: int, most_bytes: int | None = None
    ) -> Claim:
        def claim(db: sqlite3.Connection) -> Claim:
            most = limit if most_bytes is None else life.fitting(db, destination_no, now, limit, most_bytes)
            return life.claim(db, destination_no, now, lease_until, most)

        return await self._db.write(claim)

    async def release(self, deliveries: Sequence[Delivery], *, due: Micros) -> None:
        keys = [(due, d.event.seq, d.destination_no, d.attempt, d.lease_until) for d in deliveries]
        await self._db.write(lambda db: life.release(db, keys))

    async def cancel(self, destination_no: int) -> None:
        while await self._db.write(lambda db: life.cancel(db, destination_no, _CANCELLED_AT_ONCE)):
            pass

    async def _cancel_for_deleted(self, *tenant_ids: str) -> None:
        for destination_no in await self._db.read(lambda db: life.uncancelled(db, *tenant_ids)):
            await self.cancel(destination_no)

    async def due_destinations(self) -> list[tuple[int, Micros]]:
        return await self._db.read(life.due_destinations)

    async def retry(self, request: RetryRequest, entry: Entry | None = None, limits: Limits | None = None) -> None:
        await self._db.write(lambda db: retries.retry(db, request, entry, limits, self._watch))

    async def recover(
        self, destination_no: int, *, since: Micros, now: Micros, limit: int, entry: Entry | None = None
    ) -> int:
        return await self._write(lambda db: life.recover(db, destination_no, since, now, limit), entry)

    async def count_kept(self, destination_no: int, *, since: Micros) -> int:
        return await self._db.read(lambda db: life.count_kept(db, destination_no, since))

    async def count_waiting(self) -> int:
        return await self._db.read(life.count_waiting)

    # tenants

    def key_of(self, tenant_id: str) -> str:
        first = tenant_id.removesuffix(f" {incarnations.FIRST}")
        return self._reused.get(tenant_id, tenant_id) if first is tenant_id else first

    async def put_tenant(
        self, tenant_id: str, metadata: dict[str, str] | None, *, now: Micros, entry: Entry | None = None
    ) -> bool:
        def put(db: sqlite3.Connection) -> tuple[str, bool]:
            key, is_new = manage.put_tenant(db, tenant_id, rows.json_text(metadata), now)
            self._watch.write_down(db, None if entry is None else structs.replace(entry, tenant_id=key))
            return key, is_new

        key, is_new = await self._db.write(put)
        if key != tenant_id:
            self._reused[tenant_id] = key
        return is_new

    async def tenant(self, tenant_id: str) -> TenantSummary | None:
        return await self._db.read(lambda db: manage.tenant(db, tenant_id))

    async def delete_tenant(self, tenant_id: str, *, now: Micros, entry: Entry | None = None) -> bool:
        def delete(db: sqlite3.Connection) -> bool:
            self._watch.deleting(db, "tenant_id = ?", tenant_id, now=now)
            return manage.delete_tenant(db, self._vault, tenant_id, now)

        deleted = await self._write(delete, entry)
        await self._cancel_for_deleted(tenant_id)
        return deleted

    async def tenants(self, page: Page, *, ids: tuple[str, ...] = ()) -> Slice[TenantSummary]:
        conditions = Conditions().any_of("t.id", ids)
        sql = f"SELECT {manage.prefixed('t', rows.TENANT)}, {manage.SUBSCRIPTIONS} FROM tenants t"
        return await self._db.page(sql, conditions, page, ("t.created_at", "t.id"), rows.tenant_summary)

    async def count_tenants(self, *, ids: tuple[str, ...] = ()) -> int:
        conditions = Conditions().any_of("id", ids)
        counted = await self._db.first("SELECT count(*) FROM tenants", conditions)
        return int(counted[0]) if counted else 0

    # destinations

    async def add_destination(self, destination: Destination, *, limit: int, entry: Entry | None = None) -> Destination:
        values = rows.destination_values(destination, self._vault)
        no = await self._subscribe(
            destination.tenant_id, lambda db: manage.add_destination(db, destination, values, limit), entry
        )
        return structs.replace(destination, no=no)

    async def replace_destination(self, destination: Destination, entry: Entry | None = None) -> Destination | None:
        changed = structs.replace(destination, version=destination.version + 1)
        values = rows.destination_values(changed, self._vault)

        def replace(db: sqlite3.Connection) -> bool:
            enabled = changed.disabled_at is None and manage.is_disabled(db, destination.no)
            replaced = manage.replace_destination(db, destination, values)
            if replaced and enabled:
                self._watch.enabled(db, destination.no)
            return replaced

        return changed if await self._subscribe(destination.tenant_id, replace, entry) else None

    async def delete_destination(
        self, tenant_id: str, destination_id: str, *, now: Micros, entry: Entry | None = None
    ) -> Destination | None:
        found = await self.destination(tenant_id, destination_id)
        if found is None:
            return None

        def delete(db: sqlite3.Connection) -> bool:
            self._watch.deleting(db, "no = ?", found.no, now=now)
            return manage.delete_destinations(db, self._vault, "no = ?", found.no, now)

        deleted = await self._subscribe(tenant_id, delete, entry)
        await self._cancel_for_deleted(tenant_id)
        return found if deleted else None

    async def _subscribe(self, tenant_id: str, change: Callable[[sqlite3.Connection], T], entry: Entry | None) -> T:
        """A change of a tenant's destinations, of which channels may want to hear."""

        def both(db: sqlite3.Connection) -> T:
            if not self._watch.book(db).tells_subscriptions:
                return change(db)
            before = manage.tenant(db, tenant_id)
            done = change(db)
            self._watch.subscriptions_changed(db, before, manage.tenant(db, tenant_id), now=self._clock())
            return done

        return await self._write(both, entry)

    async def _write(self, change: Callable[[sqlite3.Connection], T], entry: Entry | None) -> T:
        """Carry a change out and, if it changed anything, write it down in the audit log."""

        def both(db: sqlite3.Connection) -> T:
            done = change(db)
            if done:
                self._watch.write_down(db, entry)
            return done

        return await self._db.write(both)

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
        found = await self._db.all(sql, parameters)
        return [rows.destination(row, self._vault) for row in found]

    # reading the record

    async def events(self, query: EventQuery, page: Page) -> Slice[StoredEvent]:
        if query.search is not None:
            return await self._search.events(query, query.search, page)
        return await self._db.read(lambda db: finding.events(db, query, page))

    async def event(self, event_id: str, *, tenant_id: str | None) -> StoredEvent | None:
        conditions = Conditions().any_of("e.id", (event_id,))
        if tenant_id is not None:
            conditions.any_of("e.tenant_id", (tenant_id,))
        sql = f"SELECT {rows.STORED_EVENT} FROM events e{{where}} ORDER BY e.seq DESC LIMIT 1"
        found = await self._db.first(sql, conditions)
        return None if found is None else rows.stored_event(found)

    async def attempts(self, query: AttemptQuery, page: Page) -> Slice[StoredAttempt]:
        part = await self._db.read(lambda db: finding.attempts(db, query, page, _ATTEMPTS))
        return Slice(tuple(map(self._stored_attempt, part.items)), has_next=part.has_next, has_prev=part.has_prev)

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
        found = await self._db.all(sql, (event_seq,))
        return {destination_id: DeliveryState(state) for destination_id, state in found}

    async def add_skips(self, counts: Mapping[SkipKey, int]) -> None:
        await self._db.write(lambda db: skips.add(db, counts))

    async def skips(self, destination_no: int) -> Mapping[str, int]:
        return await self._db.read(lambda db: skips.counts(db, destination_no))

    # topics

    async def put_topic(self, topic: Topic, entry: Entry | None = None) -> bool:
        def put(db: sqlite3.Connection) -> bool:
            self._watch.write_down(db, entry)
            created = topics.put(db, topic)
            data = {"name": topic.name, "deprecated": topic.deprecated, "created": created}
            self._watch.catalogue_changed(db, TOPIC_UPDATED, data, now=self._clock())
            return created

        return await self._db.write(put)

    async def delete_topic(self, name: str, entry: Entry | None = None) -> bool:
        def delete(db: sqlite3.Connection) -> bool:
            deleted = topics.delete(db, name)
            if deleted:
                self._watch.catalogue_changed(db, TOPIC_DELETED, {"name": name}, now=self._clock())
            return deleted

        return await self._write(delete, entry)

    async def topics(self) -> tuple[Topic, ...]:
        return tuple(map(topics.topic, await self._db.all(topics.SELECT)))

    # keys

    async def add_api_key(self, key: ApiKey, entry: Entry | None = None) -> None:
        def add(db: sqlite3.Connection) -> None:
            manage.add_api_key(db, key)
            self._watch.write_down(db, entry)

        await self._db.write(add)

    async def api_keys(self) -> tuple[ApiKey, ...]:
        found = await self._db.all(f"SELECT {rows.API_KEY} FROM api_keys ORDER BY created_at, id")
        return tuple(map(rows.api_key, found))

    async def revoke_api_key(self, key_id: str, entry: Entry | None = None) -> bool:
        sql = "DELETE FROM api_keys WHERE id = ?"
        return await self._write(lambda db: db.execute(sql, (key_id,)).rowcount > 0, entry)

    # tokens

    async def revoke_tokens(self, tenant_id: str, *, now: Micros, entry: Entry | None = None) -> bool:
        return await self._write(lambda db: manage.revoke_tokens(db, tenant_id, now), entry)

    async def revoke_token(self, token_id: str, *, expires_at: Micros, entry: Entry | None = None) -> None:
        sql = "REPLACE INTO revoked_tokens VALUES (?, ?)"
        await self._write(lambda db: db.execute(sql, (token_id, expires_at)).rowcount, entry)

    async def revoked_tokens(self, *, now: Micros) -> frozenset[str]:
        found = await self._db.all("SELECT id, expires_at <= ? FROM revoked_tokens", (now,))
        if any(over for _, over in found):
            sql = "DELETE FROM revoked_tokens WHERE expires_at <= ?"
            await self._db.write(lambda db: db.execute(sql, (now,)).rowcount)
        return frozenset(token_id for token_id, over in found if not over)


_REMEMBERED_DESTINATIONS = 10_000
_ATTEMPTS = (
    f"SELECT {rows.ATTEMPT}, {rows.EVENT}, {manage.prefixed('d', rows.DESTINATION)}"
    " FROM json_each(?) k CROSS JOIN attempts a ON a.seq = k.value"
    " CROSS JOIN events e ON e.seq = a.event_seq CROSS JOIN destinations d ON d.no = a.destination_no"
)
