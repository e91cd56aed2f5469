"""Keeping the search index close behind what is accepted."""

from __future__ import annotations

import asyncio

import structlog

from waypost.core.errors import Unavailable
from waypost.flow import clock
from waypost.flow.throttle import Throttle
from waypost.observe.metrics import Metrics, NullMetrics
from waypost.store.base import Store

_log = structlog.get_logger("waypost")

_LOOK_AGAIN_AFTER = 0.5


class Indexer:
    """Takes at most a `share` of one core's time, so that a burst is indexed when it is over."""

    def __init__(self, store: Store, metrics: Metrics | None = None, *, share: float) -> None:
        self._store = store
        self._metrics = metrics or NullMetrics()
        self._throttle = Throttle(share)

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                more = await self._piece()
            except Unavailable as error:
                _log.warning("indexing_put_off", error=str(error))
                more = False
            except Exception:  # noqa: BLE001  whatever it was: it is tried again
                _log.exception("indexing_crashed")
                more = False
            if not more:
                await asyncio.sleep(_LOOK_AGAIN_AFTER)

    async def _piece(self) -> bool:
        done = await self._store.search.index(now=clock.now())
        self._metrics.indexed(done.events)
        await self._throttle.rest(done.seconds)
        return done.more
