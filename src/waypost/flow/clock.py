"""The effects that decisions take as arguments: the time of day, sequence numbers, dice."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable

from waypost.core import ids
from waypost.core.model import Micros


def now() -> Micros:
    """The present instant."""
    return time.time_ns() // 1000


class Sequence:
    """Hands out this process's sequence numbers, strictly growing even when the clock steps back. Not thread-safe."""

    def __init__(self, node: int | None = None, clock: Callable[[], Micros] = now) -> None:
        self._node = secrets.randbelow(ids.NODES) if node is None else node
        self._clock = clock
        self._last_ms = 0
        self._counter = 0

    def next(self) -> int:
        milliseconds = self._clock() // 1000
        if milliseconds > self._last_ms:
            self._last_ms = milliseconds
            self._counter = 0
        else:
            self._counter += 1
            if self._counter == ids.COUNTS:
                self._last_ms += 1
                self._counter = 0
        return ids.compose(self._last_ms, self._node, self._counter)


def jitter() -> float:
    """A number from [0, 1) that spreads retries out."""
    return random.random()  # noqa: S311  spreading load needs no secrecy


def token(length: int = 16) -> str:
    """A random lower-case id part."""
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(length))
