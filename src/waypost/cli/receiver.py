"""A small HTTP/1.1 server for webhooks that arrive on a developer's machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Self, cast

import httptools
from msgspec import Struct

LARGEST_REQUEST = 64 * 1024 * 1024
_CHUNK = 65_536


class Request(Struct, frozen=True, kw_only=True):
    """A request as it arrived. Header names are in lower case; `target` is path and query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(Struct, frozen=True, kw_only=True):
    """What to answer, and how many seconds to take for it."""

    status: int
    body: bytes = b""
    delay: float = 0.0


class Receiver:
    """Listens on one address. `decide` says what a request is answered; `answered` hears when that is done.

    `answered` is called also when the sender did not wait for the answer.
    """

    def __init__(self, decide: Callable[[Request], Answer], answered: Callable[[Request], None]) -> None:
        self._decide = decide
        self._answered = answered
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Begin to listen; port 0 takes a free one. The port. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._converse, host, port)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def close(self) -> None:
        """Stop listening and break off the conversations. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast(asyncio.Task[None], asyncio.current_task())
        self._conversations.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._answer_all(reader, writer)
        finally:
            self._conversations.discard(task)
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assembler = _Assembler()
        while chunk := await reader.read(_CHUNK):
            try:
                assembler.feed(chunk)
            except httptools.HttpParserError:
                return await _write(writer, Answer(status=HTTPStatus.BAD_REQUEST), keep_alive=False)
            if assembler.size > LARGEST_REQUEST:
                return await _write(writer, Answer(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE), keep_alive=False)
            for request in assembler.take():
                await self._answer(request, writer, keep_alive=assembler.keep_alive)
            if not assembler.keep_alive:
                return None
        return None

    async def _answer(self, request: Request, writer: asyncio.StreamWriter, *, keep_alive: bool) -> None:
        answer = self._decide(request)
        try:
            await asyncio.sleep(answer.delay)
            await _write(writer, answer, keep_alive=keep_alive)
        finally:
            self._answered(request)


async def _write(writer: asyncio.StreamWriter, answer: Answer, *, keep_alive: bool) -> None:
    phrase = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else "Unknown"
    lines = [
        f"HTTP/1.1 {answer.status} {phrase}",
        f"content-length: {len(answer.body)}",
        "content-type: text/plain; charset=utf-8",
        f"connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    await writer.drain()


class _Assembler:
    """Puts requests together from what the parser reports piece by piece."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Request] = []
        self.keep_alive = True
        self.on_message_begin()

    def feed(self, chunk: bytes) -> None:
        self._parser.feed_data(chunk)

    def take(self) -> list[Request]:
        complete, self._complete = self._complete, []
        return complete

    def on_message_begin(self) -> None:
        self.size = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.size += len(url)
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.size += len(name) + len(value)
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()
        request = Request(
            method=self._parser.get_method().decode(),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=b"".join(self._body),
        )
        self._complete.append(request)
