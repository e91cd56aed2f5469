"""The place of the database file: nobody else's while it is open, and watched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path

import structlog

from waypost.core.errors import SettingsError, Unavailable

_log = structlog.get_logger("waypost")
_LOCKS_OF_FILES_DISTURB_NOBODY = sys.platform == "linux"
"""There, flock knows nothing of the fcntl locks by which SQLite's connections agree with one another."""


class Place:
    """Keeps other Waypost processes off a file: two of them would deliver everything twice.

    Locked are a file beside it, and the file itself, whatever name it was reached by. A descriptor of the file itself
    is closed only when there are no connections any more: closing it takes the locks of SQLite away from all of them.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsError when another process is there, OSError when there can be no such file."""
        self._path = path
        self._said = False
        self._log: os.stat_result | None = None
        with contextlib.ExitStack() as locked:
            real = Path(os.path.realpath(path))
            self._lock(locked, real.with_name(real.name + ".lock"))
            file = self._lock(locked, path) if _LOCKS_OF_FILES_DISTURB_NOBODY else _opened(locked, path)
            self._file = os.fstat(file)
            self._log_path = real.with_name(real.name + "-wal")
            self._locks = locked.pop_all()

    def _lock(self, locked: contextlib.ExitStack, path: Path) -> int:
        descriptor = _opened(locked, path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"database_url: another Waypost process is using {self._path}") from None
        return descriptor

    def leave(self) -> None:
        self._locks.close()

    def begin_anew(self) -> None:
        """Connections are opened: SQLite may have made a new log meanwhile."""
        self._log = None

    def check(self) -> None:
        """Raise Unavailable when what is written goes into files that nobody will find again."""
        if self.intact:
            self._said = False
            return
        if not self._said:
            self._said = True
            _log.critical(
                "database_displaced",
                path=str(self._path),
                advice="nothing is accepted: put the file back, or save what is open from /proc/<pid>/fd; then restart",
            )
        raise Unavailable(f"the database file {self._path} was removed or replaced while it was open")

    @property
    def intact(self) -> bool:
        """Whether the file and its log are still where they are looked for."""
        if not _same(self._path, self._file):
            return False
        if self._log is None:
            with contextlib.suppress(OSError):
                self._log = self._log_path.stat()
            return True
        return _same(self._log_path, self._log)


def _opened(locked: contextlib.ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    locked.callback(os.close, descriptor)
    return descriptor


def _same(path: Path, known: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), known)
    except OSError:
        return False
