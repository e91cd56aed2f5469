"""Keeping the search index close behind what is accepted."""

from __future__ import annotations

from waypost.flow import clock
from waypost.flow.background import Background
from waypost.flow.throttle import Throttle
from waypost.observe.metrics import Metrics, NullMetrics
from waypost.store.base import Store

_LOOK_AGAIN_AFTER = 0.5


class Indexer:
    """Takes at most a `share` of one core's time, so that a burst is indexed when it is over."""

    def __init__(self, store: Store, metrics: Metrics | None = None, *, share: float) -> None:
        self._store = store
        self._metrics = metrics or NullMetrics()
        self._throttle = Throttle(share)
        self.background = Background("indexing", self._piece, _LOOK_AGAIN_AFTER, metrics)

    async def start(self) -> None:
        await self.background.start()

    async def close(self) -> None:
        await self.background.close()

    async def _piece(self) -> float:
        """Take some in; the seconds until it is worth looking again."""
        done = await self._store.search.index(now=clock.now())
        self._metrics.indexed(done.events)
        await self._throttle.rest(done.seconds)
        return 0.0 if done.more else _LOOK_AGAIN_AFTER
