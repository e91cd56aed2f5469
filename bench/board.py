"""The score board: when each event was sent, acknowledged and delivered, in memory that the rig's processes share.

All instants are nanoseconds of CLOCK_MONOTONIC, which every process of a Linux machine reads alike; 0 means "not yet".
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

_WORD = 8
_COUNTERS = 16


class Counter(IntEnum):
    """What is counted, each by one process only."""

    ACKNOWLEDGED = 0
    """events whose publish was answered with 2xx (load generator)"""
    DELIVERED = 1
    """pairs of event and receiver that arrived and were accepted (sink)"""
    ACCEPTED = 2
    """requests answered with 200 (sink); more than DELIVERED when something was delivered twice"""
    REFUSED = 3
    """requests answered with 500 on purpose (sink)"""
    HELD = 4
    """requests that a hanging receiver took and never answers (sink)"""
    STRAY = 5
    """requests that are no event of this run (sink)"""


class Board:
    """Arrays over one memory-mapped file: `sent[n]` and `acknowledged[n]` by event, `arrived[n * slots + slot]`."""

    def __init__(self, path: Path, events: int, slots: int) -> None:
        self.events, self.slots = events, slots
        words = _COUNTERS + events * (2 + slots)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(words * _WORD)
            self._map = mmap.mmap(file.fileno(), words * _WORD)
        self._view = memoryview(self._map)
        self._words = self._view.cast("q")
        first = _COUNTERS
        self.counters = self._words[:first]
        self.sent = self._words[first : first + events]
        self.acknowledged = self._words[first + events : first + 2 * events]
        self.arrived = self._words[first + 2 * events :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for view in (self.counters, self.sent, self.acknowledged, self.arrived, self._words, self._view):
            view.release()
        self._map.close()
