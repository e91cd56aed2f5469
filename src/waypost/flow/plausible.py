"""The time of day as far as it is believed: what is removed for its age must not go because a clock is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from waypost.core.model import SECOND, Micros
from waypost.flow import clock

_log = structlog.get_logger("waypost")


def steady() -> Micros:
    """A clock that nobody sets, and that goes on while the machine sleeps where there is such a one."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000


class PlausibleTime:
    """Compares the time of day with a steady clock, and with what is known of the time before the start.

    A step of more than `jump` seconds is believed once it has lasted for `patience` seconds; till then time goes on
    from what was believed before. `now` is never later than the clock says.
    """

    def __init__(
        self,
        *,
        jump: float,
        patience: float,
        wall: Callable[[], Micros] = clock.now,
        steady: Callable[[], Micros] = steady,
    ) -> None:
        self._jump = round(jump * SECOND)
        self._patience = round(patience * SECOND)
        self._wall = wall
        self._steady = steady
        self._doubted: Micros | None = None
        self._doubted_since: Micros = 0
        self._believe(wall())

    def learn(self, known: Micros | None) -> None:
        """It was this late at some time before the start."""
        if known is not None:
            self._believe(known)
        self.now()

    def now(self) -> Micros:
        """The instant by which things may be judged to be too old."""
        wall, steady_now = self._wall(), self._steady()
        expected = self._believed + steady_now - self._believed_at
        gap = wall - expected
        if abs(gap) <= self._jump:
            self._settle(wall)
        elif self._doubted is None or abs(gap - self._doubted) > self._jump:
            self._doubted, self._doubted_since = gap, steady_now
            _log.warning("clock_not_believed", ahead_seconds=gap // SECOND, patience_seconds=self._patience // SECOND)
        elif steady_now - self._doubted_since >= self._patience:
            self._settle(wall)
        return min(wall, self._believed + steady_now - self._believed_at)

    @property
    def ahead(self) -> float:
        """So many seconds the clock is ahead of what is believed; 0 while nothing is in doubt."""
        return max(0.0, (self._wall() - self.now()) / SECOND)

    def _settle(self, wall: Micros) -> None:
        if self._doubted is not None:
            _log.warning("clock_believed_again", stepped_seconds=(wall - self._believed) // SECOND)
        self._believe(wall)

    def _believe(self, instant: Micros) -> None:
        self._believed, self._believed_at = instant, self._steady()
        self._doubted = None
