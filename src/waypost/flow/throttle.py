"""How hard work in the background may work, so that live traffic keeps its latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_SELDOM = 60.0


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


class Sparing(Generic[T]):
    """Asks something that takes long no oftener than that it takes `share` of the time; till then the answer holds."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, share: float) -> None:
        self._ask = ask
        self._share = share
        self._again_at = 0.0

    async def answer(self) -> T:
        began = time.monotonic()
        if began >= self._again_at:
            self._answer = await self._ask()
            ended = time.monotonic()
            self._again_at = ended + (ended - began) / self._share
        return self._answer


class Seldom:
    """Says when something that may happen thousands of times is worth a line in the log: once a minute for each key."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._said: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def times(self, key: str) -> int | None:
        """It has happened again: how often since the last line, if it is time for another."""
        now = self._now()
        self._times[key] = self._times.get(key, 0) + 1
        if now < self._said.get(key, now):
            return None
        self._said[key] = now + _SELDOM
        return self._times.pop(key)
