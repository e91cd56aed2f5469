"""One libcurl handle: its options, the request it carries, and what its callbacks have heard.

Nothing that a callback meets may leave it as an exception: libcurl would give up more than this one transfer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import pycurl
from msgspec import Struct

from waypost.core.errors import WaypostError
from waypost.net.exchange import HttpRequest, HttpResponse, HttpSettings
from waypost.net.guard import AddressGuard
from waypost.net.routes import Place, Route
from waypost.net.unread import Local

_PROTOCOLS = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS: pycurl has no name for it."""
_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Ends a connection whose peer acknowledges nothing, so that HTTP/2 requests do not go on joining a dead one."""
_GO_ON: int = pycurl.PREREQFUNC_OK
_STOP: int = pycurl.PREREQFUNC_ABORT
_TO_SPARE = 16 * 1024
"""Bytes of a head beyond which libcurl's own copies of it are worth a new handle."""


class Transfer(Struct, kw_only=True, eq=False):
    """One exchange on its way through the engine.

    `headers` are the request's lines as libcurl takes them. `place` is where the host is, unknown behind a proxy.
    `dns` is the time (microseconds) that finding its addresses took. `again` tells that the connection it was to go on
    had ended, `fresh` asks for a new one. `resent` tells that it was sent once before, and not taken.
    """

    request: HttpRequest
    url: str
    headers: Sequence[str] | Sequence[bytes]
    place: Place | None
    dns: int
    future: asyncio.Future[HttpResponse]
    handle: Handle | None = None
    cancelled: bool = False
    again: bool = False
    fresh: bool = False
    resent: bool = False

    def settle(self, result: HttpResponse | WaypostError) -> None:
        if self.future.done():
            return
        if isinstance(result, WaypostError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _Socket(socket.socket):
    """What libcurl gets to open a connection with. pycurl duplicates the descriptor and drops the object.

    The descriptor is closed by the class below, which can do so even where it was never opened.
    """

    def __del__(self) -> None:
        super(socket.socket, self).close()


class Handle:
    """A curl handle that is used again and again, and what it has received for its present transfer."""

    def __init__(
        self,
        settings: HttpSettings,
        guard: AddressGuard | None,
        ca_file: str | None,
        on_new: Callable[[int, int], int],
        ended: Callable[[Local], bool],
    ) -> None:
        self.curl = pycurl.Curl()
        self.lines: list[bytes] = []
        self.parts: list[bytes] = []
        self.head_size = 0
        self.received = 0
        self.sends = 0
        self.local: Local | None = None
        self.stale = self.unread = False
        self.errno = 0
        self.forbidden: str | None = None
        self.trouble: Exception | None = None
        self.started = 0.0
        self.transfer: Transfer | None = None
        self._timeout = settings.total_timeout
        self._waits = False
        self.connect_to: str | None = None
        self._ended = ended
        self._settings = settings
        self._guard = guard
        for option, value in self._options(settings, ca_file).items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.SOCKOPTFUNCTION, on_new)

    def _options(self, settings: HttpSettings, ca_file: str | None) -> dict[int, Any]:
        version = pycurl.CURL_HTTP_VERSION_2TLS if settings.multiplexes else pycurl.CURL_HTTP_VERSION_1_1
        options: dict[int, Any] = {
            pycurl.NOSIGNAL: 1,
            pycurl.PROTOCOLS: _PROTOCOLS,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.PROXY: settings.proxy or "",
            pycurl.NOPROXY: "",
            pycurl.HEADEROPT: pycurl.HEADER_SEPARATE,
            _SUPPRESS_CONNECT_HEADERS: 1,
            pycurl.HTTP_VERSION: version,
            pycurl.USERAGENT: settings.user_agent,
            pycurl.CONNECTTIMEOUT_MS: _milliseconds(settings.connect_timeout),
            pycurl.TIMEOUT_MS: _milliseconds(settings.total_timeout),
            pycurl.MAXAGE_CONN: max(1, round(settings.max_idle)),
            pycurl.MAXLIFETIME_CONN: max(1, round(settings.max_connection_age)),
            pycurl.SSL_VERIFYPEER: 1,
            pycurl.SSL_VERIFYHOST: 2,
            pycurl.TCP_NODELAY: 1,
            pycurl.HEADERFUNCTION: self._on_header,
            pycurl.WRITEFUNCTION: self._on_body,
            pycurl.OPENSOCKETFUNCTION: self._on_open,
            pycurl.PREREQFUNCTION: self._on_ready,
        }
        return options | {pycurl.CAINFO: ca_file} if ca_file else options

    @property
    def overflowed(self) -> bool:
        """Whether the answer was cut off because nobody wants that much of it."""
        return self.received > self._settings.drain_cap

    @property
    def truncated(self) -> bool:
        return self.received > self._settings.body_cap or self.head_size > self._settings.header_cap

    def load(self, transfer: Transfer, route: Route | None, *, waits: bool) -> None:
        """Take a request up. `waits`: rather for a connection that others use than for one of its own."""
        request, setopt = transfer.request, self.curl.setopt
        setopt(pycurl.URL, transfer.url)
        setopt(pycurl.HTTPHEADER, transfer.headers)
        if request.method == "POST":
            setopt(pycurl.POSTFIELDS, request.body)
        else:
            _load_other_method(self.curl, request)
        if route is not None:
            self._take(route)
        if transfer.fresh:
            setopt(pycurl.FRESH_CONNECT, 1)
        if waits != self._waits:
            setopt(pycurl.PIPEWAIT, int(waits))
            self._waits = waits
        timeout = request.timeout or self._settings.total_timeout
        if timeout != self._timeout:
            setopt(pycurl.TIMEOUT_MS, _milliseconds(timeout))
            self._timeout = timeout
        self.transfer = transfer
        transfer.handle = self
        self.started = time.monotonic()

    def _take(self, route: Route) -> None:
        if route.news:
            self.curl.setopt(pycurl.RESOLVE, route.news)
        if route.connect_to is not None:
            self.curl.setopt(pycurl.CONNECT_TO, [route.connect_to])
            self.connect_to = route.connect_to

    def clear(self) -> bool:
        """Forget the transfer, its request and its answer. Whether the handle can carry another one.

        A body or header that stayed here until the handle's next use would stay for hours, erased events among them.
        """
        transfer, self.transfer = self.transfer, None
        used_up = transfer is None or transfer.request.method != "POST" or self.head_size > _TO_SPARE
        self.lines.clear()
        self.parts.clear()
        self.head_size = self.received = self.sends = 0
        self.errno = 0
        self.stale = self.unread = False
        self.local = self.forbidden = self.trouble = None
        if used_up:
            self.curl.close()
            return False
        self.curl.setopt(pycurl.FRESH_CONNECT, 0)
        self.curl.setopt(pycurl.POSTFIELDS, b"")
        self.curl.unsetopt(pycurl.HTTPHEADER)
        if self.connect_to is not None:
            self.curl.unsetopt(pycurl.CONNECT_TO)
            self.connect_to = None
        return True

    def _on_header(self, line: bytes) -> None:
        self.head_size += len(line)
        if self.head_size <= self._settings.header_cap:
            self.lines.append(line)

    def _on_body(self, chunk: bytes) -> int | None:
        room = self._settings.body_cap - self.received
        if room > 0:
            self.parts.append(chunk[:room])
        self.received += len(chunk)
        return 0 if self.overflowed else None

    def _on_ready(self, _peer: str, own: str, _peer_port: int, own_port: int) -> int:
        """About to send: libcurl would do so up to six times, but whether to send again is the engine's decision."""
        self.sends += 1
        if self.sends > 1:
            return _STOP
        self.local = (own, own_port)
        self.stale = self._ended(self.local)
        return _STOP if self.stale else _GO_ON

    def _on_open(self, _purpose: int, address: Any) -> Any:
        try:
            return self._open(address)
        except Exception as error:  # noqa: BLE001  it fails this transfer, with its name
            self.trouble = error.with_traceback(None)
            return pycurl.SOCKET_BAD

    def _open(self, address: Any) -> Any:
        if self._guard is not None:
            self.forbidden = self._guard.kind(_text(address.addr[0]))
            if self.forbidden is not None:
                return pycurl.SOCKET_BAD
        opened = _Socket(address.family, address.socktype, address.protocol)
        if _TCP_USER_TIMEOUT is not None:
            opened.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, _milliseconds(self._settings.total_timeout))
        return opened


def _load_other_method(curl: pycurl.Curl, request: HttpRequest) -> None:
    if request.body:
        curl.setopt(pycurl.POSTFIELDS, request.body)
    elif request.method == "HEAD":
        curl.setopt(pycurl.NOBODY, 1)
    else:
        curl.setopt(pycurl.HTTPGET, 1)
    curl.setopt(pycurl.CUSTOMREQUEST, request.method)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
