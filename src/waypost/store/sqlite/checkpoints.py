"""Carrying the write-ahead log into the database file, beside the thread that writes.

SQLite would do it within the commit that makes the log long enough: everybody whose work is in that commit, or waits
behind it, would wait for up to a thousand pages to be written all over the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable

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
    """A thread that makes checkpoints, as long as there are commits. A reader or writer never waits for one."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waypost-checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def committed(self) -> None:
        """There is something to carry over."""
        self._due.set()

    def close(self) -> None:
        self._closing.set()
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._connect()) as db:
            while self._due.wait() and not self._closing.wait(_EVERY):
                self._due.clear()
                try:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                except sqlite3.Error as error:
                    _log.warning("checkpoint_failed", error=str(error))
                    self._closing.wait(_EVERY_WHEN_FAILING)
