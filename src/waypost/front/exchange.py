"""One request and its answer, as ASGI has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from waypost.front.refusal import LINES, Refusal

if TYPE_CHECKING:
    from waypost.front.connection import Connection

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

READ_AHEAD = 65_536
"""So much of a body is read before the application asks for it, which it does for callers that it knows."""
LARGE_ANSWER = 65_536

_DISCONNECTED: Message = {"type": "http.disconnect"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_UNFIT = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_log = structlog.get_logger("waypost")


class AnswerError(Exception):
    """The application answers otherwise than HTTP allows."""


class Exchange:
    """The body comes in by `arrived` and `complete`; the application takes it by `receive` and answers by `send`.

    `more` is true while the body is incomplete, `started` once the answer has begun, `over` when it is complete or
    nobody is there to take it. `length` is None for a body in chunks.
    """

    __slots__ = (
        "__weakref__",
        "_charged",
        "_chunked_answer",
        "_fresh",
        "_left",
        "_news",
        "_pieces",
        "connection",
        "dry",
        "expects",
        "keep_alive",
        "length",
        "more",
        "over",
        "received",
        "scope",
        "since",
        "started",
        "status",
        "waiting",
        "wire",
    )

    def __init__(
        self, connection: Connection, scope: Scope, *, length: int | None, expects: bool, keep_alive: bool, since: float
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.length = length
        self.expects = expects
        self.keep_alive = keep_alive
        self.since = since
        self.more = True
        self.started = self.over = False
        self.status = 0
        self.received = self.waiting = self.wire = self.dry = 0
        self._pieces: list[bytes] = []
        self._fresh = False
        self._news: asyncio.Event | None = None
        self._charged: tuple[str, int] | None = None
        self._left: int | None = None
        self._chunked_answer = False

    # the body, from the connection

    def arrived(self, piece: bytes) -> None:
        self.received += len(piece)
        if not self.over:
            self.waiting += len(piece)
            self._pieces.append(piece)
            self._tell()

    def complete(self) -> None:
        self.more = False
        self._tell()

    def leave(self) -> None:
        """Nobody takes the answer any more."""
        self.over = True
        self.release()
        self._tell()

    def release(self) -> None:
        if self._charged is not None:
            self.connection.gate.memory.give(*self._charged)
            self._charged = None

    def _tell(self) -> None:
        self._fresh = True
        if self._news is not None:
            self._news.set()

    @property
    def lasting(self) -> bool:
        """Whether the rest of a body that nobody reads is worth reading for the sake of the connection."""
        small = self.length is not None and self.length - self.received <= READ_AHEAD
        return not self.more or (small and not self.expects)

    # for the application

    async def run(self, app: App) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:  # noqa: BLE001  whatever went wrong, the client gets an answer or the end
            _log.exception("request_crashed")
        if not self.over:
            self.connection.broken(self)

    async def receive(self) -> Message:
        if self.expects and not self.over and self.more:
            self.expects = False
            self.connection.write(_CONTINUE)
        if self.more and self.length is not None and self._charged is None:
            self._charge(self.length)
        while not self._fresh and not self.over:
            self.connection.resume_reading()
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        if self.length is None and (self.more or self._charged is not None):
            self._charge(self.waiting)
        if self.over:
            return _DISCONNECTED
        body, self._pieces, self.waiting, self._fresh = b"".join(self._pieces), [], 0, False
        return {"type": "http.request", "body": body, "more_body": self.more}

    def _charge(self, size: int) -> None:
        """Take room for what the application will hold: all that is announced, or one piece more."""
        if self.over:
            return
        owner, held = self._charged or (self._owner(), 0)
        if self.connection.gate.memory.take(owner, size):
            self._charged = (owner, held + size)
        else:
            self.connection.refuse_exchange(self, Refusal(503, "too many requests are being received"))

    def _owner(self) -> str:
        client = self.scope["client"]
        return str(client[0]) if client else ""

    async def send(self, message: Message) -> None:
        await self.connection.drained()
        if self.over:
            return
        if message["type"] == "http.response.start":
            self.connection.write(self._head(message["status"], message.get("headers", ())))
            return
        body: bytes = message.get("body", b"")
        self._write(body, more=message.get("more_body", False))
        if len(body) > LARGE_ANSWER:
            await self.connection.drained()
        if not message.get("more_body", False):
            self._end()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        self.started, self.status = True, status
        self.keep_alive = self.keep_alive and self.lasting
        parts = [LINES[status]]
        for name, value in headers:
            if _UNFIT.search(value) or _UNFIT.search(name):
                raise AnswerError("a header has a control character")
            if name == b"content-length":
                self._left = int(value)
            parts += (name, b": ", value, b"\r\n")
        self._frame(status, parts)
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _frame(self, status: int, parts: list[bytes]) -> None:
        """How the end of the answer is known."""
        if self.scope["method"] == "HEAD" or status in _BODILESS:
            self._left = None
        elif self._left is None and self.scope["http_version"] == "1.1":
            self._chunked_answer = True
            parts.append(b"transfer-encoding: chunked\r\n")
        elif self._left is None:
            self.keep_alive = False

    def _write(self, body: bytes, *, more: bool) -> None:
        if not self.started:
            raise AnswerError("the answer must begin with its head")
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise AnswerError("the answer is not as long as its head says")
            self.connection.write(body)
        elif self._chunked_answer:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.connection.write(chunk if more else chunk + b"0\r\n\r\n")
        elif self.scope["method"] != "HEAD" and self.status not in _BODILESS:
            self.connection.write(body)

    def _end(self) -> None:
        if self.over:
            return
        self.leave()
        self.connection.answered(self)
