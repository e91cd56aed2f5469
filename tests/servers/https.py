"""An ASGI app over TLS in the event loop of the test, as `https://localhost:PORT`; it can go down and come up again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpsServer:
    def __init__(self, app: App, authority: Authority) -> None:
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self._app = app
        self._authority = authority
        self._running: tuple[uvicorn.Server, asyncio.Task[None]] | None = None

    async def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            host=HOST,
            port=self.port,
            ssl_certfile=self._authority.certificate_file,
            ssl_keyfile=self._authority.key_file,
            lifespan="off",
            log_config=None,
            ws="none",
        )
        server = _Uvicorn(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.005)
        self._running = (server, task)

    async def stop(self) -> None:
        """Go down at once: connections are closed whatever they carry. Idempotent."""
        if self._running is None:
            return
        (server, task), self._running = self._running, None
        server.should_exit = server.force_exit = True
        await task


async def body_of(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            return bytes(body)


async def answer(
    send: Send, status: int, body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> None:
    lines = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
