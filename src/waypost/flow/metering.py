"""Answering what happened over time, and keeping the counts behind it small."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from msgspec import Struct

from waypost.core.errors import BadRequest
from waypost.core.metering import HOUR, MINUTE, Granularity, Point, Question, Subject, edges, points
from waypost.core.model import DAY, SECOND, Micros
from waypost.flow import clock
from waypost.flow.background import Background
from waypost.store.base import Store

_FOLDED_AT_ONCE = 500
_PRUNED_AT_ONCE = 200
_BREATH = 0.05
_PRUNE_EVERY = 3_600.0


class Bounds(Struct, frozen=True, kw_only=True):
    """Durations are in seconds; see the settings of the same names."""

    row_limit: int = 100_000
    scan_limit: int = 1_000_000
    interval: float = 300.0
    minutes_kept: float = 259_200.0
    hours_kept: float = 7_776_000.0
    days_kept: float | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """`truncated` says that there would have been more points than `row_limit`. `took` is in seconds."""

    question: Question
    points: list[Point]
    truncated: bool
    row_limit: int
    took: float


class Metering:
    """`now` is the time by which counts are too old to be kept."""

    def __init__(self, store: Store, bounds: Bounds, now: Callable[[], Micros] = clock.now) -> None:
        self._store = store
        self._bounds = bounds
        self._now = now
        self.background = Background("rollups", self.keep, bounds.interval)
        self._prune_again_at = 0.0

    async def ask(
        self,
        subject: Subject,
        *,
        start: Micros,
        end: Micros,
        granularity: Granularity | None = None,
        measures: tuple[str, ...],
        dimensions: tuple[str, ...] = (),
        filters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Answer:
        """Count from `start` until before `end`. Raises BadRequest when that is too much."""
        began, most = time.perf_counter(), self._bounds.row_limit
        found = await asyncio.to_thread(edges, start, end, granularity, most=most)
        if found is None:
            raise BadRequest(
                f"query too broad: more than {most} buckets; ask for a shorter time range or a coarser granularity"
            )
        question = Question(
            subject=subject,
            start=start,
            end=end,
            granularity=granularity,
            edges=found,
            measures=measures,
            dimensions=dimensions,
            filters=filters or {},
        )
        counts = await self._store.rollups.count(question, most=most, scan_limit=self._bounds.scan_limit)
        made, truncated = await asyncio.to_thread(points, question, counts, most=most)
        took = time.perf_counter() - began
        return Answer(question=question, points=made, truncated=truncated, row_limit=most, took=took)

    async def keep(self) -> None:
        """Fold, and every hour prune."""
        await self.fold()
        if time.monotonic() >= self._prune_again_at:
            await self.prune()
            self._prune_again_at = time.monotonic() + _PRUNE_EVERY

    async def fold(self) -> None:
        """Move what is fresh to where it is read best, in pieces, so that publishing goes on meanwhile."""
        more = True
        while more:
            more = await self._store.rollups.fold(limit=_FOLDED_AT_ONCE)
            await asyncio.sleep(_BREATH)

    async def prune(self) -> None:
        """Drop what has been kept long enough, in pieces."""
        bounds, now = self._bounds, self._now()
        kept = {MINUTE: bounds.minutes_kept, HOUR: bounds.hours_kept, DAY: bounds.days_kept}
        keep_since = {width: now - round(seconds * SECOND) for width, seconds in kept.items() if seconds is not None}
        after: int | None = 0
        while after is not None:
            after = await self._store.rollups.prune(keep_since, after=after, limit=_PRUNED_AT_ONCE)
            await asyncio.sleep(_BREATH)
