"""How hard work in the background may work, so that live traffic keeps its latency."""

from __future__ import annotations

import asyncio


class Throttle:
    """Rests after each piece of work so long that all pieces take `share` of the time. `faster` while there is need."""

    def __init__(self, share: float, *, most: float = 0.5) -> None:
        self._least = share
        self._most = max(share, most)
        self.share = share

    def faster(self) -> None:
        self.share = min(2 * self.share, self._most)

    def usual(self) -> None:
        self.share = self._least

    async def rest(self, worked: float) -> None:
        """Rest for work of so many seconds."""
        await asyncio.sleep(worked * (1 / self.share - 1))
