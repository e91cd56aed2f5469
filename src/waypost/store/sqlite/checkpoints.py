"""Carrying the write-ahead log into the database file, beside the thread that writes.

SQLite would do it within the commit that makes the log long enough: everybody whose work is in that commit, or waits
behind it, would wait for up to a thousand pages to be written all over the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_EVERY = 0.1
"""Seconds from one checkpoint to the next, while there are commits."""
_EVERY_WHEN_FAILING = 10.0
LONGEST_LOG = 4_000
"""Pages of the log from which a commit carries the rest of them into the file itself, so that the log can begin anew.

A log that grows while it is carried over never ends; little is left then, for most of it has been carried over.
"""


class Checkpoints:
    """A thread that makes checkpoints, as long as there are commits. A reader or writer never waits for one.

    `measured` hears, in that thread, how many bytes the log has after each.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], measured: Callable[[int], None] = lambda _: None
    ) -> None:
        self._connect = connect
        self._measured = measured
        self._changed = threading.Condition()
        self._due = False
        self._closing = False
        self._rest = _EVERY
        self.thread = threading.Thread(target=self._run, name="waypost-checkpoints", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def committed(self) -> None:
        """There is something to carry over."""
        if not self._due:
            with self._changed:
                self._due = True
                self._changed.notify()

    def close(self) -> None:
        """Have the thread end. It may still be at work when this returns."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _next(self) -> bool:
        """Wait until there is something to carry over, and then for more of it; False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closing)
            self._changed.wait_for(lambda: self._closing, timeout=self._rest)
            self._due = False
            return not self._closing

    def _run(self) -> None:
        with contextlib.ExitStack() as opened:
            db: sqlite3.Connection | None = None
            while self._next():
                try:
                    db = db or opened.enter_context(contextlib.closing(self._connect()))
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    self._measured(_log_size(db))
                    self._rest = _EVERY
                except Exception as error:  # noqa: BLE001  whatever it is, the log must not grow for ever
                    _log.warning("checkpoint_failed", error=str(error))
                    self._rest = _EVERY_WHEN_FAILING


def _log_size(db: sqlite3.Connection) -> int:
    (_, _, path) = db.execute("PRAGMA database_list").fetchone()
    try:
        return Path(f"{path}-wal").stat().st_size
    except OSError:
        return 0
