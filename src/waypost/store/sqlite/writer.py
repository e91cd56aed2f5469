"""The one thread that writes: it commits whatever has gathered as one transaction (group commit)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from msgspec import Struct

from waypost.core.errors import Unavailable

_log = structlog.get_logger(__name__)
_COMPLAIN_EVERY = 10.0


class Work(Struct, eq=False, gc=True):
    """Something to be done in a transaction and the future that learns how it went.

    `kind` groups work that one call can do together; `payload` is what that call gets.
    """

    kind: str
    payload: Any
    future: asyncio.Future[Any]
    outcome: Any = None
    error: Exception | None = None


Handler = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
"""Does all payloads of one kind inside the open transaction and returns their results in order."""


class CommitObserver(Protocol):
    """Hears of every commit: how many pieces of work it held and how long it took, in seconds; and of failures.

    Called in the writing thread.
    """

    def committed(self, size: int, seconds: float) -> None: ...

    def failed(self, error: str) -> None:
        """The database itself failed: nothing of the group was stored."""
        ...


class Unobserved:
    def committed(self, size: int, seconds: float) -> None:
        pass

    def failed(self, error: str) -> None:
        pass


class GroupWriter:
    """Runs work on one connection in one thread. Work handed in while a commit runs forms the next group.

    A group that fails is undone and done again piece by piece, so that one bad piece spoils no other. When the
    database itself fails (full disk, locked file), every piece fails with Unavailable and nothing is acknowledged.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        handlers: dict[str, Handler],
        *,
        largest_group: int,
        observer: CommitObserver,
        committed: Callable[[], None],
        undone: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._handlers = handlers
        self._largest_group = largest_group
        self._observer = observer
        self._committed = committed
        self._undone = undone
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="waypost-writer", daemon=True)
        self._closed = False
        self._failures = 0
        self._complain_at = 0.0

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, kind: str, payload: Any) -> asyncio.Future[Any]:
        """Hand work in. The future resolves after the commit that holds it."""
        future = self._loop.create_future()
        if self._closed:
            future.set_exception(Unavailable("the store is closed"))
        else:
            self._queue.put(Work(kind, payload, future))
        return future

    async def close(self) -> None:
        """Finish what was handed in, then end the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            with contextlib.closing(self._connect()) as connection:
                while group := self._next_group():
                    began = time.perf_counter()
                    self._carry_out(connection, group)
                    self._report(group)
                    if not _failed_whole(group):
                        self._committed()
                        self._observer.committed(len(group), time.perf_counter() - began)
        except Exception:  # noqa: BLE001  whatever it was, nobody may wait for a thread that is gone
            _log.exception("writer_died")
            self._closed = True
            self._refuse_what_waits()

    def _refuse_what_waits(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                work = self._queue.get_nowait()
                if work is not None:
                    work.error = Unavailable("the store's writer has died")
                    self._report([work])

    def _next_group(self) -> list[Work]:
        """The work that has gathered, waiting for the first piece; empty when it is time to end."""
        group: list[Work] = []
        try:
            work = self._queue.get()
            while work is not None:
                group.append(work)
                if len(group) == self._largest_group:
                    return group
                work = self._queue.get_nowait()
            self._queue.put(None)
        except queue.Empty:
            pass
        return group

    def _carry_out(self, connection: sqlite3.Connection, group: list[Work]) -> None:
        try:
            self._transact(connection, group)
        except sqlite3.DatabaseError as error:
            if _is_the_databases_own(error):
                self._complain(error)
                _fail(group, Unavailable(f"the store cannot take it now: {error}"))
                self._observer.failed(str(error))
            else:
                self._one_by_one(connection, group, error)
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the piece that caused it
            self._one_by_one(connection, group, error)

    def _complain(self, error: sqlite3.DatabaseError) -> None:
        """One line a while, however many groups fail."""
        self._failures += 1
        if time.monotonic() >= self._complain_at:
            code = getattr(error, "sqlite_errorname", None)
            _log.error("store_failed", error=str(error), code=code, groups=self._failures)
            self._failures, self._complain_at = 0, time.monotonic() + _COMPLAIN_EVERY

    def _one_by_one(self, connection: sqlite3.Connection, group: list[Work], error: Exception) -> None:
        if len(group) == 1:
            group[0].error = error
            return
        for work in group:
            self._carry_out(connection, [work])

    def _transact(self, connection: sqlite3.Connection, group: list[Work]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for kind, handler in self._handlers.items():
                same = [work for work in group if work.kind == kind]
                if not same:
                    continue
                for work, outcome in zip(same, handler(connection, [w.payload for w in same]), strict=True):
                    work.outcome = outcome
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._undone()
            raise

    def _report(self, group: list[Work]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, group)


def _resolve(group: list[Work]) -> None:
    for work in group:
        if work.future.done():
            continue
        if work.error is None:
            work.future.set_result(work.outcome)
        else:
            work.future.set_exception(work.error)


def _fail(group: list[Work], error: Exception) -> None:
    for work in group:
        work.error = error


def _failed_whole(group: list[Work]) -> bool:
    return isinstance(group[0].error, Unavailable)


def _is_the_databases_own(error: sqlite3.DatabaseError) -> bool:
    """Whether the database failed, and not a statement or a value of one piece of work."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
