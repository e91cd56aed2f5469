"""How often each destination was passed over, by reason.

Counted in memory and put on disk every few seconds: a crash may lose the last of them. The reasons of each single event
are on record with the event, and lose nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from waypost.core.errors import Unavailable
from waypost.core.model import Destination
from waypost.core.routing import REASONS, Skip
from waypost.flow.background import Background
from waypost.store.base import SkipKey, Store

FLUSH_SECONDS = 5.0


class SkipCounts:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[SkipKey] = Counter()
        self._flushing = asyncio.Lock()
        self.background = Background("skips", self.flush, FLUSH_SECONDS)

    def note(self, tenant_id: str, skipped: Iterable[Skip]) -> None:
        """An event of the tenant was accepted that these destinations did not get."""
        self._counts.update((tenant_id, skip.destination_id, skip.reason) for skip in skipped)

    async def of(self, destination: Destination) -> dict[str, int]:
        """By reason, up to now."""
        await self.flush()
        return {**dict.fromkeys(REASONS, 0), **await self._store.skips(destination.no)}

    async def flush(self) -> None:
        """Put on disk what was counted. Raises Unavailable; then it is kept for the next time."""
        async with self._flushing:
            counts, self._counts = self._counts, Counter()
            if not counts:
                return
            try:
                await self._store.add_skips(counts)
            except Unavailable:
                self._counts.update(counts)
                raise
