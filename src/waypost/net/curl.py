"""Many HTTP exchanges at once over libcurl's multi socket interface, for whoever turns the crank.

The sockets are watched by an epoll object of the engine's own, and stay registered while a connection idles in the pool:
on a warm connection an exchange costs no epoll_ctl call. `SOCKOPTFUNCTION` tells when a descriptor is new.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pycurl

from waypost.core.errors import DeliveryError
from waypost.net.curl_failure import Failure, explain
from waypost.net.exchange import HttpRequest, HttpResponse, HttpSettings, Timings
from waypost.net.guard import AddressGuard

_PROTOCOLS = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS: pycurl has no name for it."""
_EXPECT_THRESHOLD = 1024 * 1024
"""Bodies above this size make libcurl ask for `100 Continue` unless it is told not to."""
_SWEEP = 0.1
"""Seconds between two looks for exchanges whose answer does not begin."""
_PINS = 10_000
_IDLE_HANDLES = 1_000
_FAILED = select.EPOLLERR | select.EPOLLHUP


class Transfer:
    """One exchange on its way through the engine. `result` stands once it is done."""

    __slots__ = ("cancelled", "dns", "future", "handle", "pin", "request", "result", "url")

    def __init__(self, request: HttpRequest, url: str, pin: tuple[str, str] | None, dns: int, future: Any) -> None:
        self.request = request
        self.url = url
        self.pin = pin
        self.dns = dns
        self.future = future
        self.handle: _Handle | None = None
        self.result: HttpResponse | DeliveryError | None = None
        self.cancelled = False


class _Handle:
    """A curl handle that is used again and again, and what it has received for its present transfer."""

    __slots__ = ("_cap", "_drain_cap", "_guard", "curl", "lines", "parts", "received", "refusal", "started", "timeout", "transfer")

    def __init__(self, curl: pycurl.Curl, settings: HttpSettings, guard: AddressGuard | None) -> None:
        self.curl = curl
        self.lines: list[bytes] = []
        self.parts: list[bytes] = []
        self.received = 0
        self.refusal: str | None = None
        self.started = 0.0
        self.timeout = settings.total_timeout
        self.transfer: Transfer | None = None
        self._cap = settings.body_cap
        self._drain_cap = settings.drain_cap
        self._guard = guard

    def on_body(self, chunk: bytes) -> int | None:
        room = self._cap - self.received
        if room > 0:
            self.parts.append(chunk[:room])
        self.received += len(chunk)
        return 0 if self.received > self._drain_cap else None

    def on_open(self, _purpose: int, address: Any) -> Any:
        if self._guard is not None:
            refusal = self._guard.refusal(_text(address.addr[0]))
            if refusal is not None:
                self.refusal = refusal
                return pycurl.SOCKET_BAD
        return socket.socket(address.family, address.socktype, address.protocol)

    def clear(self) -> None:
        self.lines.clear()
        self.parts.clear()
        self.received = 0
        self.refusal = None
        self.transfer = None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class CurlEngine:
    """Runs transfers. Not thread-safe: everything happens in the thread that calls `start`, `step` and `abort`."""

    def __init__(
        self,
        settings: HttpSettings,
        guard: AddressGuard,
        authorities: str | None,
        finished: Callable[[Transfer], None],
    ) -> None:
        self._settings = settings
        self._guard = None if settings.proxy else guard
        self._authorities = authorities
        self._finished = finished
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.pool_size)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}
        self._idle: list[_Handle] = []
        self._live: dict[pycurl.Curl, _Handle] = {}
        self._pins: dict[str, str] = {}
        self._due: float | None = None
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._live)

    def fileno(self) -> int:
        """A descriptor that is readable when `step` has something to do."""
        return self._epoll.fileno()

    def watch(self, descriptor: int) -> None:
        """Let another descriptor end a wait."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def timeout(self) -> float | None:
        """Seconds until `step` has something to do that no descriptor tells of; None for never."""
        if self._due is None:
            return _SWEEP if self._live else None
        wait = self._due - time.monotonic()
        return max(0.0, min(wait, _SWEEP) if self._live else wait)

    def start(self, transfers: Iterable[Transfer]) -> None:
        for transfer in transfers:
            if not transfer.cancelled:
                self._start(transfer)
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def step(self, timeout: float | None) -> None:
        """Wait for at most `timeout` seconds, then move everything on that can move."""
        action = self._multi.socket_action
        watched = self._watched
        for descriptor, happened in self._epoll.poll(timeout):
            if watched.get(descriptor, 0) > 0:
                action(descriptor, _select_bits(happened))
            elif descriptor in watched:
                self._forget(descriptor)
        now = time.monotonic()
        if self._due is not None and self._due <= now:
            self._due = None
            action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()
        if self._live and now >= self._sweep_at:
            self._sweep(now)

    def abort(self, transfer: Transfer) -> None:
        """Give a transfer up. Its connection is closed, or its HTTP/2 stream reset."""
        transfer.cancelled = True
        handle = transfer.handle
        if handle is not None and handle.transfer is transfer:
            self._release(handle)

    def close(self) -> None:
        for handle in list(self._live.values()):
            self._release(handle)
        self._multi.close()
        for handle in self._idle:
            handle.curl.close()
        self._epoll.close()

    def _start(self, transfer: Transfer) -> None:
        handle = self._idle.pop() if self._idle else self._new_handle()
        try:
            self._load(handle, transfer)
            self._multi.add_handle(handle.curl)
        except (pycurl.error, UnicodeError, TypeError, ValueError) as error:
            transfer.result = DeliveryError("network_error", f"The request could not be made: {error}", retryable=False)
            self._finished(transfer)
            return
        transfer.handle = handle
        handle.transfer = transfer
        handle.started = time.monotonic()
        self._live[handle.curl] = handle

    def _load(self, handle: _Handle, transfer: Transfer) -> None:
        request, setopt = transfer.request, handle.curl.setopt
        setopt(pycurl.URL, transfer.url)
        headers = request.headers
        if len(request.body) > _EXPECT_THRESHOLD:
            headers = [*headers, "Expect:"]
        setopt(pycurl.HTTPHEADER, headers)
        if request.method == "POST":
            setopt(pycurl.POSTFIELDS, request.body)
        else:
            _load_other_method(handle.curl, request)
        if transfer.pin is not None and self._pins.get(transfer.pin[0]) != transfer.pin[1]:
            self._pin(handle, *transfer.pin)
        timeout = request.timeout or self._settings.total_timeout
        if timeout != handle.timeout:
            setopt(pycurl.TIMEOUT_MS, max(1, round(timeout * 1000)))
            handle.timeout = timeout

    def _pin(self, handle: _Handle, name: str, addresses: str) -> None:
        entries = [f"{name}:{addresses}"]
        if len(self._pins) >= _PINS:
            oldest = next(iter(self._pins))
            del self._pins[oldest]
            entries.insert(0, f"-{oldest}")
        self._pins[name] = addresses
        handle.curl.setopt(pycurl.RESOLVE, entries)

    def _new_handle(self) -> _Handle:
        handle = _Handle(pycurl.Curl(), self._settings, self._guard)
        curl, settings = handle.curl, self._settings
        options: dict[int, Any] = {
            pycurl.NOSIGNAL: 1,
            pycurl.PROTOCOLS: _PROTOCOLS,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.PROXY: settings.proxy or "",
            pycurl.NOPROXY: "",
            pycurl.HEADEROPT: pycurl.HEADER_SEPARATE,
            _SUPPRESS_CONNECT_HEADERS: 1,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_2TLS if settings.http2 else pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.USERAGENT: settings.user_agent,
            pycurl.CONNECTTIMEOUT_MS: max(1, round(settings.connect_timeout * 1000)),
            pycurl.TIMEOUT_MS: max(1, round(settings.total_timeout * 1000)),
            pycurl.MAXAGE_CONN: max(1, round(settings.max_idle)),
            pycurl.MAXLIFETIME_CONN: max(1, round(settings.max_connection_age)),
            pycurl.SSL_VERIFYPEER: 1,
            pycurl.SSL_VERIFYHOST: 2,
            pycurl.TCP_NODELAY: 1,
            pycurl.HEADERFUNCTION: handle.lines.append,
            pycurl.WRITEFUNCTION: handle.on_body,
            pycurl.OPENSOCKETFUNCTION: handle.on_open,
            pycurl.SOCKOPTFUNCTION: self._on_new_descriptor,
        }
        if self._authorities:
            options[pycurl.CAINFO] = self._authorities
        for option, value in options.items():
            curl.setopt(option, value)
        return handle

    def _on_new_descriptor(self, descriptor: int, _purpose: int) -> int:
        self._watched.pop(descriptor, None)
        return 0

    def _on_socket(self, wanted: int, descriptor: int, _multi: Any, _data: Any) -> None:
        watched = self._watched
        before = watched.get(descriptor, 0)
        if wanted == pycurl.POLL_REMOVE:
            watched[descriptor] = -abs(before)
            return
        if wanted != abs(before):
            self._register(descriptor, _epoll_bits(wanted), known=before != 0)
        watched[descriptor] = wanted

    def _register(self, descriptor: int, bits: int, *, known: bool) -> None:
        first, second = self._epoll.register, self._epoll.modify
        if known:
            first, second = second, first
        try:
            first(descriptor, bits)
        except OSError:
            second(descriptor, bits)

    def _forget(self, descriptor: int) -> None:
        """Stop watching a pooled connection on which something happened: libcurl finds out when it next wants it."""
        del self._watched[descriptor]
        with suppress(OSError):
            self._epoll.unregister(descriptor)

    def _on_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _collect(self) -> None:
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for curl in done:
                self._finish(curl, 0, "")
            for curl, code, message in failed:
                self._finish(curl, code, message)

    def _finish(self, curl: pycurl.Curl, code: int, message: str) -> None:
        handle = self._live[curl]
        transfer = handle.transfer
        assert transfer is not None
        if code == 0 or (code == pycurl.E_WRITE_ERROR and handle.received > self._settings.drain_cap):
            transfer.result = _response(handle, self._settings, transfer.dns)
        else:
            transfer.result = explain(_failure(handle, code, message), transfer.url, self._settings)
        self._release(handle)
        self._finished(transfer)

    def _release(self, handle: _Handle) -> None:
        curl = handle.curl
        del self._live[curl]
        self._multi.remove_handle(curl)
        assert handle.transfer is not None
        if handle.transfer.request.method != "POST" or len(self._idle) >= _IDLE_HANDLES:
            curl.close()
        else:
            self._idle.append(handle)
        handle.clear()

    def _sweep(self, now: float) -> None:
        """Fail the transfers whose answer does not begin. The oldest come first, so the look is short."""
        self._sweep_at = now + _SWEEP
        oldest_allowed = now - self._settings.first_byte_timeout
        late = []
        for handle in self._live.values():
            if handle.started > oldest_allowed:
                break
            if not handle.lines and handle.transfer is not None and handle.transfer.request.timeout is None:
                late.append(handle.curl)
        for curl in late:
            self._finish(curl, pycurl.E_OPERATION_TIMEDOUT, "")


def _load_other_method(curl: pycurl.Curl, request: HttpRequest) -> None:
    if request.body:
        curl.setopt(pycurl.POSTFIELDS, request.body)
    elif request.method == "HEAD":
        curl.setopt(pycurl.NOBODY, 1)
    else:
        curl.setopt(pycurl.HTTPGET, 1)
    curl.setopt(pycurl.CUSTOMREQUEST, request.method)


def _epoll_bits(wanted: int) -> int:
    return (select.EPOLLIN if wanted & pycurl.POLL_IN else 0) | (select.EPOLLOUT if wanted & pycurl.POLL_OUT else 0)


def _select_bits(happened: int) -> int:
    return (
        (pycurl.CSELECT_IN if happened & select.EPOLLIN else 0)
        | (pycurl.CSELECT_OUT if happened & select.EPOLLOUT else 0)
        | (pycurl.CSELECT_ERR if happened & _FAILED else 0)
    )


def _response(handle: _Handle, settings: HttpSettings, dns: int) -> HttpResponse:
    get = handle.curl.getinfo
    connect, secure = get(pycurl.CONNECT_TIME_T), get(pycurl.APPCONNECT_TIME_T)
    status, version, headers, cut = parse_head(handle.lines, settings.header_cap)
    return HttpResponse(
        status=status,
        headers=headers,
        body=b"".join(handle.parts),
        truncated=cut or handle.received > settings.body_cap,
        timings=Timings(
            dns=dns,
            connect=connect,
            tls=secure - connect if secure > connect else 0,
            first_byte=dns + get(pycurl.STARTTRANSFER_TIME_T),
            total=dns + get(pycurl.TOTAL_TIME_T),
        ),
        http_version=version,
    )


def parse_head(lines: list[bytes], cap: int) -> tuple[int, str, dict[str, str], bool]:
    """Status, HTTP version and headers of the last head among the lines, and whether headers beyond `cap` were left out."""
    if lines.count(b"\r\n") > 1:
        lines = _last_head(lines)
    version, _, rest = lines[0].partition(b" ")
    raw = b"".join(lines[1:])
    cut = len(raw) > cap
    if cut:
        raw = raw[:cap].rpartition(b"\r\n")[0]
    headers: dict[str, str] = {}
    for line in _decoded(raw).split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(rest[:3]), version[5:].decode(), headers, cut


def _last_head(lines: list[bytes]) -> list[bytes]:
    start = max(index for index, line in enumerate(lines) if line.startswith(b"HTTP/"))
    return lines[start:]


def _decoded(raw: bytes) -> str:
    """Header bytes as text: UTF-8 where they are that, else Latin-1, which HTTP once prescribed."""
    with suppress(UnicodeDecodeError):
        return raw.decode()
    return raw.decode("latin-1")


def _failure(handle: _Handle, code: int, message: str) -> Failure:
    get = handle.curl.getinfo
    return Failure(
        code=code,
        message=message,
        errno=get(pycurl.OS_ERRNO),
        refusal=handle.refusal,
        connected=get(pycurl.CONNECT_TIME_T) > 0,
        secured=get(pycurl.APPCONNECT_TIME_T) > 0,
        answering=bool(handle.lines),
        elapsed=time.monotonic() - handle.started,
    )
