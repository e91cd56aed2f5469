"""A stop that cannot be missed and does not take longer than was promised.

A thread of its own takes SIGINT and SIGTERM, so that neither an event loop that is busy nor whatever hangs can hold
them up. The first one asks the service to end; a second one, or the end of the time for it, ends the process at once.
What was acknowledged is on disk by then, as after a crash.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable

import structlog

_log = structlog.get_logger("waypost")
_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
OVERDUE = 70
"""The exit status of a process that did not end in time (EX_SOFTWARE of sysexits.h)."""
FAILED = 1
_KILLED_BY = 128
_ALARM_AFTER = 3


class Stopping:
    """`within` is how many seconds a stop may take; `last_words` is called before the process ends by force."""

    def __init__(self, within: float, last_words: Callable[[], None] = lambda: None) -> None:
        self.status = 0
        self._within = within
        self.last_words = last_words
        self._stop: Callable[[], object] | None = None
        self._asked = False
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Take the signals from now on. To be called in the main thread, before there are others: they inherit it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._take_signals, name="waypost-signals", daemon=True).start()

    def by(self, stop: Callable[[], object]) -> None:
        """How the service is asked to end, from any thread. Before this is known, a signal ends the process at once."""
        self._stop = stop

    def fail(self, reason: str) -> None:
        """The process can do no good any more: it is to end, and its exit status to say so."""
        _log.error("stopping_after_failure", reason=reason)
        self.status = FAILED
        self._ask()

    def _take_signals(self) -> None:
        while True:
            number = signal.sigwait(_SIGNALS)
            if self._stop is None or self._asked:
                _log.warning("stopped_at_once", signal=signal.Signals(number).name)
                self._end(_KILLED_BY + number)
            _log.info("stopping", signal=signal.Signals(number).name, within_seconds=self._within)
            self._ask()

    def _ask(self) -> None:
        with self._lock:
            if self._asked or self._stop is None:
                return
            self._asked = True
        signal.alarm(math.ceil(self._within) + _ALARM_AFTER)  # the kernel's own, should no thread get to run
        overdue = threading.Timer(self._within, self._overdue)
        overdue.daemon = True
        overdue.start()
        with contextlib.suppress(RuntimeError):  # the event loop has ended by itself
            self._stop()

    def _overdue(self) -> None:
        others = (thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
        _log.error("stop_overdue", seconds=self._within, threads=sorted(others))
        self._end(OVERDUE)

    def _end(self, status: int) -> None:
        with contextlib.suppress(Exception):
            self.last_words()
        os._exit(status)
