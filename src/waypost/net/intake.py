"""What a server may say: its sentences within bounds, and no more of them than it was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from msgspec import Struct

_WINDOW = 60.0


class Bounds(Struct, frozen=True, kw_only=True):
    """The bounds of a connection.

    - `frame`: the largest message, in bytes; also all that comes unasked in a minute.
    - `unasked`: messages in a minute that nobody waits for (keep-alives, news of a cluster).
    - `turn`: messages read in a row before others on the event loop get their turn.
    - `rounds`: of hashing that a server may demand at sign-in.
    """

    frame: int = 262_144
    unasked: int = 1_000
    turn: int = 64
    rounds: int = 200_000


LINE = 65_536
"""The longest line, and what is read ahead (bytes)."""


class Violation(ValueError):
    """The server broke a bound or the protocol."""


class Allowance:
    """What a server may say unasked: so much a minute. `expect` adds what it was asked for."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        self._until = 0.0
        self._messages = self._bytes = 0
        self._expected_messages = self._expected_bytes = 0

    def expect(self, messages: int, size: int) -> None:
        self._expected_messages += messages
        self._expected_bytes += size

    def spend(self, size: int) -> None:
        """Count one message. Raises Violation when there are too many, or too large ones."""
        self._renew()
        if self._expected_messages:
            self._expected_messages -= 1
        else:
            self._messages -= 1
        kept = min(size, self._expected_bytes)
        self._expected_bytes -= kept
        self._bytes -= size - kept
        if self._messages < 0 or self._bytes < 0:
            raise Violation("a flood of what nobody asked for")

    def _renew(self) -> None:
        now = self._clock()
        if now >= self._until:
            self._until = now + _WINDOW
            self._messages, self._bytes = self._bounds.unasked, self._bounds.frame


class Intake:
    """Reads within bounds. Raises Violation, and what StreamReader raises."""

    def __init__(self, reader: asyncio.StreamReader, bounds: Bounds) -> None:
        self._reader = reader
        self._bounds = bounds
        self._allowance = Allowance(bounds)
        self.messages = 0
        """How many were read."""
        self.taken = 0
        """How many bytes were read."""

    async def line(self) -> bytes:
        """The next line, without its end."""
        try:
            line = await self._reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError as error:
            raise Violation("a line that does not end") from error
        self.taken += len(line)
        return line[:-2]

    async def exactly(self, size: int) -> bytes:
        if not 0 <= size <= self._bounds.frame:
            raise Violation("a message longer than any that is expected")
        content = await self._reader.readexactly(size)
        self.taken += size
        return content

    async def next(self, size: int, *, asked: bool) -> None:
        """A message of that many bytes was read: count it, and let others have their turn."""
        self.messages += 1
        if not asked:
            self._allowance.spend(size)
        if self.messages % self._bounds.turn == 0:
            await asyncio.sleep(0)
