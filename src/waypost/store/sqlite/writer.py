"""The one thread that writes: it commits whatever has gathered as one transaction (group commit)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from msgspec import Struct

from waypost.core.errors import Unavailable
from waypost.observe import ending

_log = structlog.get_logger(__name__)
_COMPLAIN_EVERY = 10.0
_SAME_TROUBLE = 60.0
"""Seconds without a full disk after which the next time is told of anew."""
_LEAST_REST, _LONGEST_REST = 0.05, 5.0
"""Seconds until it is begun again after crashes."""


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
    """Hears of every commit and of every failure, in the writing thread.

    `kinds` counts the pieces of work of each kind.
    """

    def committed(self, size: int, seconds: float, kinds: Mapping[str, int]) -> None:
        """How many pieces of work a commit held, and how many seconds it took."""
        ...

    def failed(self, error: str, kinds: Mapping[str, int]) -> None:
        """The database itself failed: nothing of these was stored."""
        ...

    def logged(self, size: int) -> None:
        """So many bytes the write-ahead log has. In the thread that makes checkpoints."""
        ...


class Unobserved:
    def committed(self, size: int, seconds: float, kinds: Mapping[str, int]) -> None:
        pass

    def failed(self, error: str, kinds: Mapping[str, int]) -> None:
        pass

    def logged(self, size: int) -> None:
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
        check: Callable[[], None] = lambda: None,
        free: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`check` raises Unavailable when commits go nowhere; `free` is how many bytes the disk has left."""
        self._connect = connect
        self._handlers = handlers
        self._largest_group = largest_group
        self._observer = observer
        self._committed = committed
        self._undone = undone
        self._check = check
        self._free = free
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self.thread = threading.Thread(target=self._run, name="waypost-writer", daemon=True)
        self._group: list[Work] = []
        self._closing = threading.Event()
        self._ended = False
        self._crashes = 0
        self._failures = 0
        self._complain_at = self._full_until = 0.0

    def start(self) -> None:
        self.thread.start()

    @property
    def well(self) -> bool:
        """Whether there is somebody who writes; not so when it crashed the last time, until it has gone well again."""
        return self.thread.is_alive() and not self._crashes

    def submit(self, kind: str, payload: Any) -> asyncio.Future[Any]:
        """Hand work in. The future resolves after the commit that holds it."""
        future = self._loop.create_future()
        if self._closing.is_set():
            future.set_exception(Unavailable("the store is closed"))
        else:
            self._queue.put(Work(kind, payload, future))
        return future

    async def close(self, within: float) -> bool:
        """Finish what was handed in, then end the thread. Whether it ended in so many seconds. Idempotent."""
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        return await ending.joined(self.thread, within)

    def _run(self) -> None:
        """Serve until it is time to end. Whatever happens, nobody waits for work that nobody does."""
        try:
            while not self._ended:
                try:
                    self._serve()
                except Exception as error:  # noqa: BLE001  begin again, with a new connection
                    self._crashed(error)
                    self._closing.wait(min(_LONGEST_REST, _LEAST_REST * 2**self._crashes))
        finally:
            self._closing.set()
            self._refuse(Unavailable("the store is closed"))

    def _serve(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            while True:
                self._group = self._next_group()
                if not self._group:
                    self._ended = True
                    return
                began = time.perf_counter()
                self._carry_out(connection, self._group)
                group, self._group = self._group, []
                self._report(group)
                self._crashes = 0
                kinds = Counter([work.kind for work in group if not isinstance(work.error, Unavailable)])
                if kinds:
                    self._committed()
                    self._observer.committed(kinds.total(), time.perf_counter() - began, kinds)

    def _crashed(self, error: Exception) -> None:
        self._crashes += 1
        _log.error("writer_crashed", crashes=self._crashes, exc_info=error)
        self._refuse(Unavailable(f"the store's writer has failed: {error}"))
        with contextlib.suppress(Exception):
            self._observer.failed(str(error), {})

    def _refuse(self, error: Unavailable) -> None:
        """Fail what is in hand and what waits."""
        group, self._group = self._group, []
        with contextlib.suppress(queue.Empty):
            while True:
                work = self._queue.get_nowait()
                if work is None:
                    self._ended = True
                else:
                    group.append(work)
        _fail(group, error)
        self._report(group)

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
        except Unavailable as error:
            self._refused(group, error, error)
        except sqlite3.DatabaseError as error:
            if _is_the_databases_own(error):
                self._refused(group, error, Unavailable(f"the store cannot take it now: {error}"))
            else:
                self._one_by_one(connection, group, error)
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the piece that caused it
            self._one_by_one(connection, group, error)

    def _refused(self, group: list[Work], error: Exception, said: Unavailable) -> None:
        self._complain(error)
        _fail(group, said)
        self._observer.failed(str(error), Counter([work.kind for work in group]))

    def _complain(self, error: Exception) -> None:
        """One line a while, however many groups fail; that the disk is full once, as long as it lasts."""
        self._failures += 1
        now, code = time.monotonic(), getattr(error, "sqlite_errorname", None)
        if code == "SQLITE_FULL":
            if now >= self._full_until:
                _log.critical("disk_full", error=str(error), free_bytes=self._free())
            self._full_until = now + _SAME_TROUBLE
        if now >= self._complain_at:
            _log.error("store_failed", error=str(error), code=code, groups=self._failures)
            self._failures, self._complain_at = 0, now + _COMPLAIN_EVERY

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
            self._check()
        except BaseException:
            if connection.in_transaction:  # a full disk ends it by itself
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


def _is_the_databases_own(error: sqlite3.DatabaseError) -> bool:
    """Whether the database failed, and not a statement or a value of one piece of work."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
