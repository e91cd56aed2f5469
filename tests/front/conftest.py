"""A server with small limits and an application that shows what reached it; clients are plain sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self, cast

import msgspec
import pytest
from uvicorn.server import ServerState

from waypost.front.connection import Connection
from waypost.front.exchange import App
from waypost.front.gate import Gate
from waypost.front.limits import Limits
from waypost.front.server import http_server

PATIENCE = 20.0


class Client:
    """One connection. What it reads is given as text."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> Self:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
        return self

    async def answer(self) -> Answer:
        """One answer whose length its head says."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            line, *headers = head.decode().split("\r\n")[:-2]
            fields = dict(field.lower().split(": ", 1) for field in headers)
            body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        return Answer(status=int(line.split()[1]), headers=fields, body=body)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """All until the server closes; what a reset cuts off is nothing."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self._writer.close()


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """What an error says; its form is checked."""
        told = msgspec.json.decode(self.body)
        assert told["status"] == self.status
        return str(told["message"])

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Front:
    """The server. `calls` has the scopes of the requests that reached the application, `bodies` what it read."""

    def __init__(self, limits: Limits, app: App | None) -> None:
        self.calls: list[MutableMapping[str, Any]] = []
        self.bodies: list[bytes] = []
        self.gone = 0
        self.go = asyncio.Event()
        self.state = ServerState()
        self.config = http_server(app or self.app, limits=limits)
        self.gate = cast(Gate, cast(Any, self.config.http).keywords["gate"])
        self._clients: list[Client] = []
        self._sockets: list[socket.socket] = []

    async def app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """`/hold` waits for `go`, `/large` answers 16 MiB, `/ignore` reads no body, `/secret` needs credentials."""
        self.calls.append(scope)
        path = scope["path"]
        if path == "/hold":
            await self.go.wait()
        body, status = b"", 200
        if path == "/secret" and not any(name == b"authorization" for name, _ in scope["headers"]):
            status = 401
        elif path != "/ignore":
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone += 1
                    return
                body, more = body + message["body"], message["more_body"]
            self.bodies.append(body)
        shown = bytes(1 << 24) if path == "/large" else b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(shown))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": shown})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        self.config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.go.set()
            server.close()
            for client in self._clients:
                await client.close()
            for each in self._sockets:
                each.close()
            for connection in list(self.gate.connections):
                connection.abort()
            await self.until(lambda: not self.state.connections and not self.state.tasks)

    def _connection(self) -> Connection:
        return cast(Connection, cast(Any, self.config.http_protocol_class)(self.config, self.state, {}))

    async def client(self, *pieces: bytes, source: str = "127.0.0.1") -> Client:
        """A new connection, on which these pieces were sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        client = Client(reader, writer)
        self._clients.append(client)
        return await client.send(*pieces)

    async def narrow_client(self, *pieces: bytes, room: int = 4_096) -> socket.socket:
        """A connection with little room for what comes, which nobody reads unless the test does."""
        made = socket.socket()
        self._sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        made.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(made, ("127.0.0.1", self.port))
        for piece in pieces:
            await loop.sock_sendall(made, piece)
        return made

    async def ask(self, request: bytes) -> Answer:
        return await (await self.client(request)).answer()

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await asyncio.sleep(0.01)


Starter = Callable[..., AbstractAsyncContextManager[Front]]


@pytest.fixture
def serving() -> Starter:
    """Starts a server with these limits (fields of `Limits`)."""

    def start(app: App | None = None, **limits: Any) -> AbstractAsyncContextManager[Front]:
        return Front(Limits(**limits), app).running()

    return start


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(path: str = "/", *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    framing = f"Content-Length: {len(body) if length is None else length}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", framing, *headers, "", ""]).encode() + body


def chunked(path: str = "/", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", *headers, "", ""]
    return "\r\n".join(lines).encode()
