"""A receiver that remembers what arrived, and does as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Self

_ANSWER = b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n"
_LENGTH = b"content-length:"
_ID = b"webhook-id:"


class Sink:
    """An HTTP/1.1 receiver on a free port. `arrived` counts deliveries by event id."""

    def __init__(self) -> None:
        self.arrived: Counter[str] = Counter()
        self.status = 200
        self.silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next(int(line[len(_LENGTH) :]) for line in lines if line.startswith(_LENGTH))
                await reader.readexactly(length)
                if self.silent:
                    await asyncio.sleep(3600)
                self.arrived[next(line[len(_ID) :].strip().decode() for line in lines if line.startswith(_ID))] += 1
                writer.write(_ANSWER % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
