"""The frames of AMQP 0-9-1 as a library for it may see them: bounded before they are read, without deep tables."""

from __future__ import annotations

import asyncio
import struct

from waypost.net.intake import Allowance, Bounds, Intake, Violation

_HEAD = struct.Struct(">BHI")
_HEADER = 2
_BODY = 3
_LARGEST_METHOD = 8_192
"""RabbitMQ's own frames before a size is agreed on; all methods fit. Tables in them cost the square of their size."""
_HAS_HEADERS = 0x2000
_TEXTS_BEFORE = (0x8000, 0x4000)
"""The flags of the two properties that stand before the headers: content type and encoding."""


class AmqpIntake:
    """What the library takes for a StreamReader. Whatever breaks a bound ends the connection, and is `violated`."""

    def __init__(self, reader: asyncio.StreamReader, bounds: Bounds) -> None:
        self._reader = reader
        self._intake = Intake(reader, bounds)
        self._allowance = Allowance(bounds)
        self._frame = memoryview(b"")
        self.violated = False

    @property
    def intake(self) -> Intake:
        return self._intake

    def at_eof(self) -> bool:
        return not self._frame and self._reader.at_eof()

    def expect(self, frames: int, size: int) -> None:
        """So many frames and bytes more are asked for."""
        self._allowance.expect(frames, size)

    async def readexactly(self, size: int) -> bytes:
        """A part of the next frame. Raises ConnectionError for a frame that breaks a bound, else as a StreamReader."""
        if not self._frame:
            try:
                self._frame = memoryview(await self._next())
            except Violation as error:
                self.violated = True
                raise ConnectionResetError(str(error)) from error
        part, self._frame = self._frame[:size], self._frame[size:]
        return bytes(part)

    async def read(self) -> bytes:
        part, self._frame = bytes(self._frame), memoryview(b"")
        return part

    async def _next(self) -> bytes:
        head = await self._intake.exactly(_HEAD.size)
        kind, channel, size = _HEAD.unpack(head)
        if head.startswith(b"AMQP"):
            return head
        if size > _LARGEST_METHOD and kind not in {_HEADER, _BODY}:
            raise Violation("a method longer than any that is expected")
        content = await self._intake.exactly(size + 1)
        self._allowance.spend(size)
        await self._intake.next(size, asked=True)
        if kind == _HEADER:
            content = _without_headers(content[:-1]) + content[-1:]
        return _HEAD.pack(kind, channel, len(content) - 1) + content


def _without_headers(content: bytes) -> bytes:
    """A content header with an empty table of headers: nobody reads them (section 4.2.6.1)."""
    flags = int.from_bytes(content[12:14])
    if not flags & _HAS_HEADERS:
        return content
    at = 14
    for flag in _TEXTS_BEFORE:
        if flags & flag:
            at += 1 + (content[at] if at < len(content) else 0)
    end = at + 4 + int.from_bytes(content[at : at + 4])
    if end > len(content):
        raise Violation("headers that are longer than their frame")
    rest = content[:at] + bytes(4) + content[end:]
    if len(rest) > _LARGEST_METHOD:
        raise Violation("properties longer than any that are expected")
    return rest
