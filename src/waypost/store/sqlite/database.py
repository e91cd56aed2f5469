"""One SQLite file: a writing thread with group commit and a pool of readers."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from waypost.core.errors import Unavailable
from waypost.observe import ending
from waypost.store.base import Direction, Page, Slice
from waypost.store.sqlite import rows
from waypost.store.sqlite.checkpoints import LONGEST_LOG, Checkpoints
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.place import Place
from waypost.store.sqlite.window import fitting, weight
from waypost.store.sqlite.writer import CommitObserver, GroupWriter, Handler

T = TypeVar("T")
_END_WITHIN = 5.0


class Database:
    """Writes go through one thread, reads through a few; both raise Unavailable when the file fails."""

    def __init__(
        self, path: Path, *, busy_timeout: float, readers: int, largest_group: int, observer: CommitObserver
    ) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._readers = readers
        self._largest_group = largest_group
        self._observer = observer
        self._reading = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=self._busy_timeout, cached_statements=512
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LONGEST_LOG}")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")  # what was removed is overwritten
        return connection

    def start(
        self,
        handlers: dict[str, Handler],
        *,
        undone: Callable[[], None],
        equip: Callable[[sqlite3.Connection], None] = lambda _: None,
        place: Place,
    ) -> None:
        """Begin to read and write; `handlers` do the work of each kind that `submit` takes, beside that of `write`.

        `undone` is called, in the writing thread, whenever what they did has been rolled back. `equip` gets every
        connection for reading once, in its thread. What is committed counts only while the file is in its `place`.
        """
        self._equip = equip
        self._pool = ThreadPoolExecutor(self._readers, thread_name_prefix="waypost-reader")
        self._checkpoints = Checkpoints(self.connect, self._observer.logged)

        def connect() -> sqlite3.Connection:
            place.begin_anew()
            return self.connect()

        self._writer = GroupWriter(
            connect,
            {**handlers, "call": _call},
            largest_group=self._largest_group,
            observer=self._observer,
            committed=self._checkpoints.committed,
            undone=undone,
            check=place.check,
            free=self.free,
        )
        self._writer.start()
        self._checkpoints.start()

    @property
    def writing(self) -> bool:
        """Whether the writing thread is alive and well."""
        return self._writer.well

    @property
    def alive(self) -> bool:
        return self._writer.thread.is_alive()

    def free(self) -> int | None:
        """How many bytes the disk has left for the file; None when that is not known."""
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return None

    async def close(self) -> bool:
        """Finish what was handed in, in bounded time. Whether all has ended; if not, the log says who has not."""
        ended = await self._writer.close(self._busy_timeout + _END_WITHIN)
        self._checkpoints.close()
        ended &= await ending.joined(self._checkpoints.thread, _END_WITHIN)
        ended &= await ending.shut_down(self._pool, "waypost-reader", _END_WITHIN)
        if ended:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        return ended

    def submit(self, kind: str, payload: Any) -> asyncio.Future[Any]:
        return self._writer.submit(kind, payload)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Carry a change out in a transaction that it may share with others."""
        done: T = await self._writer.submit("call", change)
        return done

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)
        except (sqlite3.DatabaseError, RuntimeError) as error:
            raise Unavailable(f"the store cannot be read now: {error}") from error

    async def all(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[rows.Row]:
        return await self.read(lambda db: db.execute(sql, parameters).fetchall())

    async def first(self, sql: str, conditions: Conditions) -> rows.Row | None:
        """The first row under the conditions. `sql` may say in `{where}` where they stand, else they are appended."""
        statement = sql.format(where=conditions.where) if "{where}" in sql else sql + conditions.where
        found: rows.Row | None = await self.read(lambda db: db.execute(statement, conditions.parameters).fetchone())
        return found

    async def page(
        self, sql: str, conditions: Conditions, page: Page, order: tuple[str, ...], read: Callable[[rows.Row], T]
    ) -> Slice[T]:
        """A window on what a statement finds under the conditions, sorted by the columns of `order`."""
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
        found, short = await self.read(lambda db: fitting(db.execute(statement, parameters), page.most_bytes, weight))
        more = short or len(found) > page.limit
        items = tuple(read(row) for row in found[: page.limit])
        if page.before is not None:
            return Slice(items[::-1], has_next=True, has_prev=more)
        return Slice(items, has_next=more, has_prev=page.after is not None)

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self.connect()
            self._equip(connection)
            connection.execute("PRAGMA mmap_size = 1073741824")  # readers share the system's cache: twice as fast
            connection.execute("PRAGMA query_only = ON")
            self._connections.append(connection)
        return question(connection)


def _call(db: sqlite3.Connection, changes: Any) -> list[Any]:
    return [change(db) for change in changes]
