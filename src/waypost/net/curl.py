"""Many HTTP exchanges at once over libcurl's multi socket interface, for whoever turns the crank.

The sockets are watched by an epoll object of the engine's own, and stay registered while a connection idles in the
pool: on a warm connection an exchange costs no epoll_ctl call. `SOCKOPTFUNCTION` tells when a descriptor is new.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pycurl
from msgspec import Struct, structs

from waypost.core.errors import DeliveryError
from waypost.net.curl_failure import Failure, explain
from waypost.net.exchange import HttpRequest, HttpResponse, HttpSettings, Timings
from waypost.net.guard import AddressGuard
from waypost.net.head import HeadReader
from waypost.net.poller import POLLERR, POLLIN, POLLOUT, new_poller

_PROTOCOLS = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS: pycurl has no name for it."""
_TURN = 0.002
"""Seconds after which a turn of the crank gives control back."""
_STARTS = 16
"""Transfers that are begun together."""
SWEEP = 0.1
"""Seconds between two looks for exchanges whose answer does not begin."""
_PINS = 10_000
_IDLE_HANDLES = 1_000
_HTTP2 = "2"
_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Ends a connection whose peer acknowledges nothing, so that HTTP/2 requests do not go on joining a dead one."""


class Transfer(Struct, kw_only=True, eq=False, gc=False):
    """One exchange on its way through the engine.

    `headers` are the request's lines as libcurl takes them. `pin` says which addresses the host has: an authority and
    a list, or behind a proxy the one to which it shall open a tunnel. `dns` is the time (microseconds) that finding
    them took.
    """

    request: HttpRequest
    url: str
    headers: Sequence[str] | Sequence[bytes]
    pin: tuple[str, str] | None
    dns: int
    future: asyncio.Future[HttpResponse]
    handle: _Handle | None = None
    cancelled: bool = False

    def settle(self, result: HttpResponse | DeliveryError) -> None:
        if self.future.done():
            return
        if isinstance(result, DeliveryError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _Socket(socket.socket):
    """What libcurl gets to open a connection with. pycurl duplicates the descriptor and drops the object."""

    def __del__(self) -> None:
        self.close()


class _Handle:
    """A curl handle that is used again and again, and what it has received for its present transfer."""

    def __init__(self, curl: pycurl.Curl, settings: HttpSettings, guard: AddressGuard | None) -> None:
        self.curl = curl
        self.lines: list[bytes] = []
        self.parts: list[bytes] = []
        self.received = 0
        self.forbidden: str | None = None
        self.trouble: str | None = None
        self.started = 0.0
        self.timeout = settings.total_timeout
        self.waits = False
        self.transfer: Transfer | None = None
        self._unheard = round(settings.total_timeout * 1000)
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
            self.forbidden = self._guard.kind(_text(address.addr[0]))
            if self.forbidden is not None:
                return pycurl.SOCKET_BAD
        try:
            opened = _Socket(address.family, address.socktype, address.protocol)
        except OSError as error:
            self.trouble = error.strerror
            return pycurl.SOCKET_BAD
        if _TCP_USER_TIMEOUT is not None:
            opened.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, self._unheard)
        return opened

    def clear(self) -> None:
        self.lines.clear()
        self.parts.clear()
        self.received = 0
        self.forbidden = self.trouble = None
        self.transfer = None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class CurlEngine:
    """Runs transfers and settles their futures. All in one thread: that of the event loop that turns the crank.

    `step` and `start` give control back after about two milliseconds, so that a burst of TLS handshakes does not hold
    up the rest of the event loop; the descriptor stays readable while there is more to do.
    """

    def __init__(self, settings: HttpSettings, guard: AddressGuard, authorities: str | None) -> None:
        self._settings = settings
        self._guard = None if settings.proxy else guard
        self._authorities = authorities
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.pool_size)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._poller = new_poller()
        self._watched: dict[int, int] = {}
        self._idle: list[_Handle] = []
        self._live: dict[pycurl.Curl, _Handle] = {}
        self._pins: dict[str, str] = {}
        self._multiplexing: set[str] = set()
        self._heads = HeadReader(settings.header_cap)
        self._sweep_at = 0.0
        self.due: float | None = None
        """When `step` has something to do that no descriptor tells of (seconds of the monotonic clock)."""

    def __len__(self) -> int:
        return len(self._live)

    def fileno(self) -> int:
        """A descriptor that is readable when `step` has something to do."""
        return self._poller.fileno()

    def start(self, transfers: deque[Transfer]) -> None:
        """Begin transfers from the front of the queue; not all of them if that takes long."""
        until = time.monotonic() + _TURN
        while transfers:
            transfer = transfers.popleft()
            if not transfer.cancelled:
                self._start(transfer)
            if len(transfers) % _STARTS == 0:
                self._kick()
                if time.monotonic() >= until:
                    break
        self._collect()

    def step(self) -> None:
        """Move on what can move."""
        action, watched = self._multi.socket_action, self._watched
        until = time.monotonic() + _TURN
        for descriptor, happened in self._poller.poll(0):
            if watched.get(descriptor, 0) > 0:
                action(descriptor, _select_bits(happened))
            else:
                self._forget(descriptor)
            if time.monotonic() >= until:
                break
        now = time.monotonic()
        if self.due is not None and self.due <= now:
            self._kick()
        self._collect()
        if now >= self._sweep_at:
            self._sweep(now)

    def abort(self, transfer: Transfer) -> None:
        """Give a transfer up. Its connection is closed, or its HTTP/2 stream reset."""
        transfer.cancelled = True
        handle = transfer.handle
        if handle is not None and handle.transfer is transfer:
            self._release(handle)

    def close(self, reason: DeliveryError) -> None:
        """Close all connections at once; transfers that run fail for the reason given."""
        for handle in list(self._live.values()):
            transfer = handle.transfer
            self._release(handle)
            if transfer is not None:
                transfer.settle(reason)
        self._multi.close()
        for handle in self._idle:
            handle.curl.close()
        self._poller.close()

    def _kick(self) -> None:
        self.due = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _start(self, transfer: Transfer) -> None:
        handle = self._idle.pop() if self._idle else self._new_handle()
        try:
            self._load(handle, transfer)
        except (pycurl.error, UnicodeError, TypeError, ValueError) as error:
            handle.curl.close()
            transfer.settle(DeliveryError("invalid_request", f"The request cannot be made: {error}", retryable=False))
            return
        transfer.handle = handle
        handle.transfer = transfer
        handle.started = time.monotonic()
        self._live[handle.curl] = handle
        self._multi.add_handle(handle.curl)

    def _load(self, handle: _Handle, transfer: Transfer) -> None:
        request, setopt = transfer.request, handle.curl.setopt
        setopt(pycurl.URL, transfer.url)
        setopt(pycurl.HTTPHEADER, transfer.headers)
        if request.method == "POST":
            setopt(pycurl.POSTFIELDS, request.body)
        else:
            _load_other_method(handle.curl, request)
        if self._settings.proxy:
            setopt(pycurl.CONNECT_TO, _tunnel(transfer.pin))
        elif transfer.pin is not None and self._pins.get(transfer.pin[0]) != transfer.pin[1]:
            self._pin(handle, *transfer.pin)
        waits = transfer.pin is not None and transfer.pin[0] in self._multiplexing
        if waits != handle.waits:
            setopt(pycurl.PIPEWAIT, int(waits))
            handle.waits = waits
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
            self._register(descriptor, _poll_bits(wanted), known=before != 0)
        watched[descriptor] = wanted

    def _register(self, descriptor: int, bits: int, *, known: bool) -> None:
        first, second = self._poller.register, self._poller.modify
        if known:
            first, second = second, first
        try:
            first(descriptor, bits)
        except (OSError, KeyError):
            second(descriptor, bits)

    def _forget(self, descriptor: int) -> None:
        """Stop watching a pooled connection on which something happened: libcurl finds out when it next wants it."""
        self._watched.pop(descriptor, None)
        with suppress(OSError, KeyError):
            self._poller.unregister(descriptor)

    def _on_timer(self, milliseconds: int) -> None:
        self.due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

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
        if transfer is None:
            return
        if code == 0 or (code == pycurl.E_WRITE_ERROR and handle.received > self._settings.drain_cap):
            response = self._response(handle, transfer)
            if response.http_version == _HTTP2 and transfer.pin is not None:
                self._note_multiplexing(transfer.pin[0])
            result: HttpResponse | DeliveryError = response
        else:
            result = explain(_failure(handle, code, message), transfer.url)
            result.response = {"timings": structs.asdict(_timings(handle, transfer.dns))}
        self._release(handle)
        transfer.settle(result)

    def _release(self, handle: _Handle) -> None:
        curl, transfer = handle.curl, handle.transfer
        del self._live[curl]
        self._multi.remove_handle(curl)
        handle.clear()
        if transfer is None or transfer.request.method != "POST" or len(self._idle) >= _IDLE_HANDLES:
            curl.close()
        else:
            self._idle.append(handle)

    def _note_multiplexing(self, authority: str) -> None:
        """Have requests to a host that speaks HTTP/2 wait for one connection, rather than open one each.

        Others do not wait: where a connection takes one request at a time, they would open one after the other.
        """
        if len(self._multiplexing) >= _PINS:
            self._multiplexing.clear()
        self._multiplexing.add(authority)

    def _response(self, handle: _Handle, transfer: Transfer) -> HttpResponse:
        head = self._heads.read(handle.lines)
        return HttpResponse(
            request=transfer.request,
            status=head.status,
            headers=head.headers,
            body=b"".join(handle.parts),
            truncated=head.cut or handle.received > self._settings.body_cap,
            timings=_timings(handle, transfer.dns),
            http_version=head.version,
        )

    def _sweep(self, now: float) -> None:
        """Fail the transfers whose answer does not begin. The oldest come first, so the look is short."""
        self._sweep_at = now + SWEEP
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


def _tunnel(pin: tuple[str, str] | None) -> list[str]:
    """What makes libcurl ask its proxy for a tunnel to an address: `Host` and the certificate keep the name."""
    if pin is None:
        return []
    (host, _, port), address = pin[0].rpartition(":"), pin[1]
    return [f"{host}:{port}:{f'[{address}]' if ':' in address else address}:{port}"]


def _poll_bits(wanted: int) -> int:
    return (POLLIN if wanted & pycurl.POLL_IN else 0) | (POLLOUT if wanted & pycurl.POLL_OUT else 0)


def _select_bits(happened: int) -> int:
    return (
        (pycurl.CSELECT_IN if happened & POLLIN else 0)
        | (pycurl.CSELECT_OUT if happened & POLLOUT else 0)
        | (pycurl.CSELECT_ERR if happened & POLLERR else 0)
    )


def _timings(handle: _Handle, dns: int) -> Timings:
    get = handle.curl.getinfo
    connect, secure = get(pycurl.CONNECT_TIME_T), get(pycurl.APPCONNECT_TIME_T)
    return Timings(
        dns=dns,
        connect=connect,
        tls=secure - connect if secure > connect else 0,
        first_byte=dns + get(pycurl.STARTTRANSFER_TIME_T) if handle.lines else 0,
        total=dns + get(pycurl.TOTAL_TIME_T),
    )


def _failure(handle: _Handle, code: int, message: str) -> Failure:
    get = handle.curl.getinfo
    return Failure(
        code=code,
        message=handle.trouble or message,
        errno=get(pycurl.OS_ERRNO),
        forbidden=handle.forbidden,
        connected=get(pycurl.CONNECT_TIME_T) > 0,
        secured=get(pycurl.APPCONNECT_TIME_T) > 0,
        answering=bool(handle.lines),
        elapsed=time.monotonic() - handle.started,
    )
