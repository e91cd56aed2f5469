"""The effects that decisions take as arguments: the time of day, sequence numbers, dice."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable

import structlog

from waypost.core import ids
from waypost.core.model import Micros

_log = structlog.get_logger("waypost")


_STEP = 1_000_000_000
"""Nanoseconds: what the clock may be corrected by at once; more is a step."""
_AT_ONCE = 1_000_000
_LOOK_EVERY = 1_000_000_000
_BELIEVED_AFTER = 30 * _STEP
_AHEAD_MS = 60_000


def _running() -> int:
    """Nanoseconds that have passed since some instant, also while the machine slept; it knows no steps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Steady:
    """The time of day, for which a step of the system's clock is no truth before it has lasted half a minute.

    So a clock that is wrong for a moment makes nothing due and nothing late, and removes nothing; one that was wrong
    and is put right is followed. Small corrections are followed at once. The arguments give nanoseconds.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, running: Callable[[], int] = _running) -> None:
        self._wall = wall
        self._running = running
        self._offset = wall() - running()
        self._latest = 0
        self._look_at = 0
        self._doubted: int | None = None
        self._doubted_since = 0

    def now(self) -> Micros:
        running = self._running()
        if running >= self._look_at:
            self._look(running)
        self._latest = max(self._latest, running + self._offset)
        return self._latest // 1000

    def _look(self, running: int) -> None:
        offset = self._wall() - running
        if self._running() - running > _AT_ONCE:
            return  # something came between the two clocks: the next one who asks looks again
        self._look_at = running + _LOOK_EVERY
        if abs(offset - self._offset) <= _STEP:
            self._offset, self._doubted = offset, None
        elif self._doubted is None or abs(offset - self._doubted) > _STEP:
            self._doubted, self._doubted_since = offset, running
            _log.warning("clock_stepped", seconds=(offset - self._offset) // _STEP)
        elif running - self._doubted_since >= _BELIEVED_AFTER:
            _log.warning("clock_followed", seconds=(offset - self._offset) // _STEP)
            self._offset, self._doubted, self._latest = offset, None, 0


_steady = Steady()


def now() -> Micros:
    """The present instant."""
    return _steady.now()


class Sequence:
    """Hands out this process's sequence numbers, strictly growing when the clock steps back a little. Not thread-safe.

    When it is put back by more than a minute, the numbers follow it under another node, so that none comes twice.
    """

    def __init__(self, node: int | None = None, clock: Callable[[], Micros] = now) -> None:
        self._node = secrets.randbelow(ids.NODES) if node is None else node
        self._clock = clock
        self._last_ms = 0
        self._counter = 0

    def next(self) -> int:
        milliseconds = self._clock() // 1000
        if milliseconds > self._last_ms:
            self._last_ms = milliseconds
            self._counter = 0
        elif milliseconds < self._last_ms - _AHEAD_MS:
            self._node = (self._node + 1 + secrets.randbelow(ids.NODES - 1)) % ids.NODES
            self._last_ms = milliseconds
            self._counter = 0
        else:
            self._counter += 1
            if self._counter == ids.COUNTS:
                self._last_ms += 1
                self._counter = 0
        return ids.compose(self._last_ms, self._node, self._counter)


def jitter() -> float:
    """A number from [0, 1) that spreads retries out."""
    return random.random()  # noqa: S311  spreading load needs no secrecy


def token(length: int = 16) -> str:
    """A random lower-case id part."""
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(length))
