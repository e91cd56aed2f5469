"""A client's connection: requests in, answers out, and an end to whatever is too large or takes too long."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
from collections import deque
from typing import Any, cast
from urllib.parse import unquote

import httptools
import structlog

from waypost.front import head
from waypost.front.exchange import READ_AHEAD, App, Exchange
from waypost.front.gate import Gate
from waypost.front.refusal import NO_ROOM, Refusal

_log = structlog.get_logger("waypost")

_ASGI = {"version": "3.0", "spec_version": "2.3"}

_LINGER_SECONDS = 2.0
"""How long a client that is still sending may take to read why it is not heard (RFC 9112, 9.6)."""
_LARGE = 1 << 20
_LINGER_BYTES = 1 << 18
"""So much of what is still sent then is read, and no more: reading a flood costs as much as serving it."""
_FRAMING_SHARE = 8
"""A body in chunks may have so many bytes around each of its own."""
_NOWHERE = cast(list[tuple[bytes, bytes]], deque[tuple[bytes, bytes]](maxlen=0))
"""Takes the trailers of bodies, which nobody asks for."""


class Connection(asyncio.Protocol):
    """Made by uvicorn's server, which counts connections and tasks to end with them.

    Requests are answered one after another. `_running` is the one whose answer is due, `_queue` has those behind it,
    `_reading` the one whose body is incomplete, and `_begun` says that a head is.
    """

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None, *, gate: Gate) -> None:
        if not config.loaded:
            config.load()
        self.gate = gate
        self.address = ""
        self.proven = False
        self.waits_since = 0.0
        self._backlog = 0
        self.since = 0.0
        self._written = 0
        self._taken: tuple[float, int, int] | None = None
        self._app: App = config.loaded_app
        self._state = server_state
        self._limits = gate.limits
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport: asyncio.Transport
        self._server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._begun = self._upgrades = False
        self._head_bytes = 0
        self._newest: Exchange | None = None
        self._reading: Exchange | None = None
        self._running: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._refusal: Refusal | None = None
        self._ends_at: float | None = None
        self._unheard = 0
        self._paused = False
        self._writable: asyncio.Event | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self.address = self._client[0] if self._client else ""
        self._state.connections.add(self)
        self.since = self.gate.clock()
        if not self.gate.enter(self):
            self._transport.write(NO_ROOM)
            self._end(lingering=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self.gate.leave(self)
        for exchange in (self._running, self._reading, *self._queue):
            if exchange is not None:
                exchange.leave()
        self._queue.clear()
        self.resume_writing()
        self._running = self._reading = self._newest = None  # they know this connection, as the parser does
        del self._parser

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def data_received(self, data: bytes) -> None:
        if self._ends_at is not None:
            self._pass_over(len(data))
            return
        piece = self._limits.head_bytes
        if len(data) <= piece:
            self._feed(data)
            return
        for start in range(0, len(data), piece):
            self._feed(data[start : start + piece])

    def _feed(self, data: bytes) -> None:
        if self._ends_at is not None or self._refusal is not None:
            return
        newest = self._newest
        try:
            self._parser.feed_data(data)
            if self._begun:
                self._head_grows(len(data) if newest is self._newest else 1)
            if self._reading is not None:
                self._body_grows(self._reading, len(data))
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_refusal_of(error))
        except Refusal as refusal:
            self._refuse(refusal)

    def _pass_over(self, size: int) -> None:
        self._unheard += size
        if self._unheard > _LINGER_BYTES:
            self._pause_reading()

    def _head_grows(self, size: int) -> None:
        """Raises Refusal."""
        if not self._head_bytes:
            self.since = self.gate.clock()
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes or len(self._headers) > self._limits.headers:
            self._refuse_head()

    def _refuse_head(self) -> None:
        """Raises Refusal."""
        most, count = self._limits.head_bytes, self._limits.headers
        raise Refusal(431, f"the head of a request has at most {most} bytes and {count} headers")

    def _body_grows(self, exchange: Exchange, size: int) -> None:
        """Bound what is around the chunks of a body, and its trailers. Raises Refusal."""
        exchange.wire += size
        exchange.dry = exchange.dry + size if exchange.waiting == 0 and exchange.wire > size else 0
        if exchange.length is not None:
            return
        framing = exchange.wire - exchange.received
        most = self._limits.head_bytes
        if exchange.dry > most or framing > 2 * most + _FRAMING_SHARE * exchange.received:
            raise Refusal(400, "the chunks of the body are too small for what is around them")

    def _go_on(self, rest: bytes) -> None:
        """Nothing is upgraded to: the request is served as if it had not asked (RFC 9110, 7.8).

        The parser takes what follows such a head for another protocol; so its body is read by a parser of its own.
        """
        exchange = self._reading
        if exchange is not None:
            body = b"transfer-encoding: chunked" if exchange.length is None else b"content-length: %d" % exchange.length
            self._parser = httptools.HttpRequestParser(_Body(self, self._parser))
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % body)
        if rest:
            self._feed(rest)

    def go_back_to(self, parser: httptools.HttpRequestParser) -> None:
        self._parser = parser

    # the parser's side

    def on_message_begin(self) -> None:
        self._begun = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.line_bytes:
            raise Refusal(414, f"the request line has at most {self._limits.line_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, parser = self._headers, self._parser
        if len(headers) > self._limits.headers or (self._head_bytes and self._is_too_large()):
            self._refuse_head()
        version, method = parser.get_http_version(), parser.get_method().decode("ascii")
        framing = head.framing(headers, version)
        if method == "CONNECT":
            raise Refusal(405, "this is not a proxy")
        target = head.target(self._url)
        if framing.length is None or framing.length > self.gate.smallest_body:
            self._check_length(framing.length, target.path)
        path = target.path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query,
            "root_path": "",
            "headers": headers,
            "server": self._server,
            "client": self._client,
        }
        exchange = Exchange(
            self,
            scope,
            length=framing.length,
            expects=framing.expects,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
            since=self.gate.now,
        )
        self._begun, self._head_bytes, self._headers = False, 0, _NOWHERE
        self._newest = self._reading = exchange
        self._upgrades = framing.upgrade and parser.should_upgrade()
        self._take(exchange)

    def _is_too_large(self) -> bool:
        return head.size(self._url, self._headers) > self._limits.head_bytes

    def _check_length(self, length: int | None, path: bytes) -> None:
        """Raises Refusal (413), before anything of the body is read."""
        most = self._limits.body_limit(path)
        if length is not None and length > most:
            raise Refusal(413, f"the request body must be at most {most} bytes")

    def _take(self, exchange: Exchange) -> None:
        if self._running is None:
            self._start(exchange)
        elif len(self._queue) < self._limits.pipelined:
            self._queue.append(exchange)
            self._pause_reading()
        else:
            self._reading = None
            raise Refusal(503, "too many requests were sent before the first was answered")

    def _start(self, exchange: Exchange) -> None:
        self._running = exchange
        task = asyncio.get_running_loop().create_task(exchange.run(self._app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if exchange is not None:
            exchange.arrived(body)
            if exchange.waiting > READ_AHEAD:
                self._pause_reading()

    def on_message_complete(self) -> None:
        exchange = self._reading
        if exchange is None or (self._upgrades and exchange.length != 0):
            self._upgrades = False
            return
        self._reading, self._upgrades = None, False
        exchange.complete()

    # the exchanges' side

    def write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)
        if len(data) > _LARGE:
            self.gate.check_unread()

    async def drained(self) -> None:
        if self._writable is not None:
            await self._writable.wait()

    def resume_reading(self) -> None:
        if self._paused and self._ends_at is None and not self._queue:
            self._paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def answered(self, exchange: Exchange) -> None:
        """The answer is written: the next request's turn, or the end."""
        self._running = None
        if not self.proven:
            self.gate.prove(self, exchange)
        if not self._begun:
            self.since = self.gate.now
        if not exchange.keep_alive:
            self._end(lingering=exchange.more)
        elif self._queue:
            self._start(self._queue.popleft())
        elif self._refusal is not None:
            self._say(self._refusal)
        if self._paused:
            self.resume_reading()

    def broken(self, exchange: Exchange) -> None:
        """The application has failed to answer."""
        if exchange.over:
            return
        if exchange.started:
            self.abort()
            return
        exchange.leave()
        self._say(Refusal(500, "internal server error"))

    def refuse_exchange(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answer it in the application's place, unless another answer has begun."""
        if exchange is not self._running or exchange.started:
            self.abort()
            return
        exchange.leave()
        self._say(refusal)

    # ends

    def _refuse(self, refusal: Refusal) -> None:
        """Take no more requests; those before it get their answers first."""
        if self._reading is not None:
            self.refuse_exchange(self._reading, refusal)
        elif self._running is not None:
            self._refusal = refusal
            self._pause_reading()
        else:
            self._say(refusal)

    def _say(self, refusal: Refusal) -> None:
        self._running = self._reading = None
        self._transport.write(refusal.answer())
        self._end(lingering=True)

    def _end(self, *, lingering: bool) -> None:
        self._end_soon()
        if lingering and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            if self._paused:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def _end_soon(self) -> None:
        self._ends_at = self.gate.clock() + _LINGER_SECONDS

    def eof_received(self) -> bool:
        """A client may have sent all and wait for its answer; it hears that its half of the connection is closed."""
        return False

    def shutdown(self) -> None:
        """The server stops: what is being answered is answered."""
        if self._running is None:
            self._end(lingering=False)
        else:
            (self._queue[-1] if self._queue else self._running).keep_alive = False

    def abort(self) -> None:
        self._end_soon()
        self._transport.abort()

    # deadlines, looked at once a tick

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request to begin, or for the rest of a head."""
        return self._running is None and self._ends_at is None

    @property
    def is_between_requests(self) -> bool:
        return self.is_idle and not self._begun and self._newest is not None

    def make_room(self) -> None:
        """Its place is wanted by another."""
        if self._backlog:
            self.abort()
            return
        if self._begun:
            self._transport.write(NO_ROOM)
        self._end(lingering=False)

    def measure(self, now: float) -> int:
        """The bytes that the client has not taken yet; `waits_since` is when they began to be some."""
        before, self._backlog = self._backlog, self._transport.get_write_buffer_size()
        if self._backlog and not before:
            self.waits_since = now
        return self._backlog

    def look(self, now: float, elapsed: float) -> None:
        """End what has taken too long."""
        backlog = self.measure(now)
        if backlog:
            self._look_at_answer(now, backlog)
            return
        self._taken = None
        if self._ends_at is not None:
            self._look_at_end(now)
        elif self._reading is not None:
            self._look_at_body(self._reading, now, elapsed)
        elif self._begun or self._newest is None:
            self._look_at_head(now)
        elif self._running is None and now - self.since > self._limits.idle_timeout:
            self._end(lingering=False)

    def _look_at_answer(self, now: float, backlog: int) -> None:
        """Whoever takes next to nothing of what waits for them is dropped."""
        if self._ends_at is not None:
            self._end_soon()
        taken = self._written - backlog - _in_kernel(self._transport)
        since, before, waited = self._taken or (now, taken, backlog)
        if now - since > self._limits.answer_timeout:
            if taken - before < min(waited, self._limits.body_rate * self._limits.answer_timeout):
                self.abort()
            since, before, waited = now, taken, backlog
        self._taken = since, before, waited

    def _look_at_end(self, now: float) -> None:
        if self._ends_at is not None and now > self._ends_at:
            self.abort()

    def _look_at_body(self, exchange: Exchange, now: float, elapsed: float) -> None:
        if self._paused:  # by us
            exchange.since += elapsed
        late = now - exchange.since - self._limits.body_grace
        if late > 0 and exchange.received < late * self._limits.body_rate:
            self.refuse_exchange(exchange, Refusal(408, "the body of the request comes too slowly"))

    def _look_at_head(self, now: float) -> None:
        if now - self.since > self._limits.head_timeout:
            if self._begun:
                self._refuse(Refusal(408, "the head of the request has not come in time"))
            else:
                self._end(lingering=False)


class _Body:
    """Passes on the body of the one request whose head another parser has read."""

    def __init__(self, connection: Connection, parser: httptools.HttpRequestParser) -> None:
        self._connection = connection
        self._parser = parser
        self._complete = False
        self.on_body = connection.on_body

    def on_message_begin(self) -> None:
        if self._complete:
            raise Refusal(400, "requests that ask for an upgrade cannot be pipelined")

    def on_message_complete(self) -> None:
        self._complete = True
        self._connection.on_message_complete()
        self._connection.go_back_to(self._parser)


def _refusal_of(error: httptools.HttpParserError) -> Refusal:
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if cause is not None:
        _log.error("request_crashed", exc_info=cause)
        return Refusal(500, "internal server error")
    return Refusal(400, f"this is not HTTP/1.1: {error}")


def _in_kernel(transport: asyncio.Transport) -> int:
    """The bytes that have left the process but have not been acknowledged by the client's machine."""
    unsent = array.array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unsent)
    except OSError:
        return 0
    return unsent[0]


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port; nothing for a Unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
