"""A receiver that remembers what arrived, and does as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple, Self

_ANSWER = b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n"
_KEPT = 10


class Request(NamedTuple):
    headers: dict[str, str]
    body: bytes


class Sink:
    """An HTTP/1.1 receiver on a free port. `arrived` counts deliveries by event id, `requests` keeps the first few."""

    def __init__(self) -> None:
        self.arrived: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.status = 200
        self.silent = False
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in (left := list(self._open)):
            writer.close()
        await asyncio.gather(*[writer.wait_closed() for writer in left], return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                if self.silent:
                    await asyncio.sleep(3600)
                self.arrived[headers["webhook-id"]] += 1
                if len(self.requests) < _KEPT:
                    self.requests.append(Request(headers, body))
                writer.write(_ANSWER % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            self._open.discard(writer)
