"""Whether requests are better sent elsewhere for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from waypost.core.errors import Unavailable
from waypost.store.base import Store


class Readiness:
    """Looks at the workers, and writes something to learn whether the store can.

    It may be asked by anybody: there is one probe at a time, its answer holds for `every` seconds, and one that takes
    longer than `patience` seconds is a no. `room` is how many bytes the disk must have left.
    """

    def __init__(
        self,
        store: Store,
        workers: Callable[[], Mapping[str, bool]],
        *,
        room: int,
        patience: float,
        every: float = 1.0,
    ) -> None:
        self._store = store
        self._workers = workers
        self._room = room
        self._patience = patience
        self._every = every
        self._probing: asyncio.Task[bool] | None = None
        self._again_at = 0.0

    async def ask(self) -> dict[str, bool]:
        """Which parts are ready."""
        return {**self._workers(), "store-writable": await self._is_writable()}

    async def _is_writable(self) -> bool:
        if self._probing is None or (self._probing.done() and time.monotonic() >= self._again_at):
            self._again_at = time.monotonic() + self._every
            self._probing = asyncio.create_task(self._probe())
        done, _ = await asyncio.wait({self._probing}, timeout=self._patience)
        return bool(done) and self._probing.result()

    async def _probe(self) -> bool:
        try:
            await self._store.probe(self._room)
        except Unavailable:
            return False
        return True
