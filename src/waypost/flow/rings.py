"""When to look at which destination: the doorbell of delivering. A lost ring is found again by the sweep."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable

from waypost.core.model import SECOND, Micros
from waypost.flow import clock

_LONGEST_SLEEP = 2.0
"""Seconds between two looks at the time of day: timers do not notice when that is corrected."""


class Rings:
    """Remembers for each destination the earliest instant at which to look, and calls `answer` with those due."""

    def __init__(
        self,
        answer: Callable[[Iterable[int]], None],
        *,
        now: Callable[[], Micros] = clock.now,
        longest_sleep: float = _LONGEST_SLEEP,
    ) -> None:
        self._answer = answer
        self._now = now
        self._longest_sleep = longest_sleep
        self._next: dict[int, Micros] = {}
        self._heap: list[tuple[Micros, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def ring(self, destination_no: int, due: Micros) -> None:
        """Look at the destination then, or earlier if that was already planned."""
        known = self._next.get(destination_no)
        if known is not None and known <= due:
            return
        self._next[destination_no] = due
        heapq.heappush(self._heap, (due, destination_no))
        if self._heap[0][0] == due:
            self._set_timer()

    def close(self) -> None:
        self._closed = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self._stop_timer()
        if not self._closed:
            wait = max(0.0, (self._heap[0][0] - self._now()) / SECOND)
            self._timer = asyncio.get_running_loop().call_later(min(wait, self._longest_sleep), self._ring_out)

    def _ring_out(self) -> None:
        now = self._now()
        due = []
        while self._heap and self._heap[0][0] <= now:
            instant, destination_no = heapq.heappop(self._heap)
            if self._next.get(destination_no) == instant:  # otherwise an earlier ring came after this one
                del self._next[destination_no]
                due.append(destination_no)
        if self._heap:
            self._set_timer()
        self._answer(due)
