"""Many HTTP exchanges at once over libcurl's multi socket interface, for whoever turns the crank.

The sockets are watched by an epoll object of the engine's own, and stay registered while a connection idles in the
pool: on a warm connection an exchange costs no epoll_ctl call. `SOCKOPTFUNCTION` tells when a descriptor is new.

Whatever one exchange comes to, the others are carried on: a fault in settling it is that exchange's own failure.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Any

import pycurl
import structlog
from msgspec import structs

from waypost.core.errors import DeliveryError, WaypostError
from waypost.net.curl_failure import Failure, explain
from waypost.net.curl_handle import Handle, Transfer
from waypost.net.exchange import HttpResponse, HttpSettings, Timings
from waypost.net.guard import AddressGuard
from waypost.net.head import HeadReader
from waypost.net.poller import POLLERR, POLLIN, POLLOUT, POLLRDHUP, new_poller
from waypost.net.routes import Routes
from waypost.net.unread import Local, end_of, local_address

_log = structlog.get_logger("waypost")

_TURN = 0.002
"""Seconds after which a turn of the crank gives control back."""
_STARTS = 16
"""Transfers that are begun together."""
SWEEP = 0.1
"""Seconds between two looks for exchanges whose answer does not begin."""
_IDLE_HANDLES = 1_000
_VERSIONS = {1: "1.0", 2: "1.1", 3: "2", 30: "3"}
"""HTTP versions as libcurl numbers them."""
_HTTP2 = "2"


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
        self._unwatched: set[int] = set()
        self._idle: list[Handle] = []
        self._live: dict[pycurl.Curl, Handle] = {}
        self._again: list[Transfer] = []
        self._ended: dict[Local, int] = {}
        self._ends: dict[int, Local] = {}
        self._routes = Routes()
        self._heads = HeadReader()
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
        self._move()
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
        self._move()
        now = time.monotonic()
        if self.due is not None and self.due <= now:
            self._kick()
        self._collect()
        if now >= self._sweep_at:
            self._sweep(now)

    def _move(self) -> None:
        watched = self._watched
        until = time.monotonic() + _TURN
        for descriptor, happened in self._poller.poll(0):
            idle = watched.get(descriptor, 0) <= 0
            if idle or happened & POLLRDHUP:
                self._note_end(descriptor)
            if idle:
                self._forget(descriptor)
            else:
                self._act(descriptor, _select_bits(happened))
            if time.monotonic() >= until:
                break

    def _note_end(self, descriptor: int) -> None:
        """A receiver ended a connection: send nothing there, and learn whether what was sent can have been read."""
        local = local_address(descriptor)
        if local is None:
            return
        concerned = [handle for handle in self._live.values() if handle.local == local]
        if concerned or self._watched.get(descriptor, 0) < 0:
            self._ended[local], self._ends[descriptor] = descriptor, local
        if concerned:
            end = end_of(descriptor)
            for handle in concerned:
                handle.unread, handle.errno = end.unread, end.errno

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
        for transfer in self._again:
            transfer.settle(reason)
        self._multi.close()
        for handle in self._idle:
            handle.curl.close()
        self._poller.close()

    def _kick(self) -> None:
        self.due = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, bits: int) -> None:
        """Let libcurl move what waits for a descriptor; what it fails at must not keep the others waiting."""
        try:
            self._multi.socket_action(descriptor, bits)
        except pycurl.error:
            _log.exception("http_engine_fault")

    def _start(self, transfer: Transfer) -> None:
        handle = self._idle.pop() if self._idle else self._new_handle()
        try:
            self._load(handle, transfer)
            self._multi.add_handle(handle.curl)
        except (pycurl.error, UnicodeError, TypeError, ValueError) as error:
            handle.curl.close()
            transfer.settle(DeliveryError("invalid_request", f"The request cannot be made: {error}", retryable=False))
            return
        self._live[handle.curl] = handle

    def _load(self, handle: Handle, transfer: Transfer) -> None:
        place = transfer.place
        if place is None:
            handle.load(transfer, None, waits=False)
        else:
            route = self._routes.to(place, transfer.request.owner)
            handle.load(transfer, route, waits=self._routes.multiplexes(place))

    def _new_handle(self) -> Handle:
        return Handle(self._settings, self._guard, self._authorities, self._on_new_descriptor, self._has_ended)

    def _has_ended(self, local: Local) -> bool:
        """Whether the receiver has ended the connection with this local address."""
        return local in self._ended

    def _on_new_descriptor(self, descriptor: int, _purpose: int) -> int:
        self._watched.pop(descriptor, None)
        local = self._ends.pop(descriptor, None)
        if local is not None and self._ended.get(local) == descriptor:
            del self._ended[local]
        return 0

    def _on_socket(self, wanted: int, descriptor: int, _multi: Any, _data: Any) -> None:
        watched = self._watched
        before = watched.get(descriptor, 0)
        if wanted == pycurl.POLL_REMOVE:
            watched[descriptor] = -abs(before)
            self._unwatched.discard(descriptor)
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
            try:
                second(descriptor, bits)
            except (OSError, KeyError):
                self._unwatched.add(descriptor)  # no memory for one more: the sweep looks after it

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
        again, self._again = self._again, []
        for transfer in again:  # now that all have let go of the connection that ended
            if not transfer.cancelled:
                self._start(transfer)

    def _finish(self, curl: pycurl.Curl, code: int, message: str) -> None:
        handle = self._live.get(curl)
        transfer = handle.transfer if handle is not None else None
        if handle is None or transfer is None:
            return
        try:
            result = self._result(handle, transfer, code, message)
        except Exception as error:  # noqa: BLE001  it is this exchange's failure and nobody else's
            _log.exception("http_exchange_fault")
            result = DeliveryError("internal_error", f"The answer could not be read: {type(error).__name__}")
        self._release(handle)
        if result is None:
            self._again.append(transfer)
        else:
            transfer.settle(result)

    def _result(
        self, handle: Handle, transfer: Transfer, code: int, message: str
    ) -> HttpResponse | WaypostError | None:
        """What the exchange came to; None if it is to be sent once more."""
        if code == 0 or (code == pycurl.E_WRITE_ERROR and handle.overflowed):
            return self._response(handle, transfer)
        if handle.stale and not transfer.fresh:
            self._leave(handle, transfer)
            return None
        if code != pycurl.E_OPERATION_TIMEDOUT and not transfer.resent and self._untouched(handle, transfer):
            transfer.resent = True
            return None
        result = explain(_failure(handle, code, message), transfer.url)
        if isinstance(result, DeliveryError):
            result.response = {"timings": structs.asdict(_timings(handle, transfer.dns))} | _resent(transfer)
        return result

    def _untouched(self, handle: Handle, transfer: Transfer) -> bool:
        """Whether the receiver did nothing with the request: it cannot have read it, or has said so over HTTP/2.

        That is when libcurl itself wants to send again there (RFC 9113, sections 6.8 and 8.7). Over HTTP/1.1 it does so
        whenever a connection that was used before ends, but its receiver may have read the request before it closed.
        """
        if handle.lines or transfer.place is None:
            return False
        refused = handle.sends > 1 and not handle.errno and handle.curl.getinfo(pycurl.OS_ERRNO) == 0
        return handle.unread or (refused and self._multiplexes(transfer))

    def _leave(self, handle: Handle, transfer: Transfer) -> None:
        """Have a request try elsewhere, which found that the connection it was to go on had ended."""
        place = transfer.place
        if place is None or transfer.again or not self._routes.multiplexes(place):
            transfer.fresh = True
        else:
            self._routes.renew(place, transfer.request.owner, handle.connect_to)
        transfer.again = True

    def _multiplexes(self, transfer: Transfer) -> bool:
        return transfer.place is not None and self._routes.multiplexes(transfer.place)

    def _release(self, handle: Handle) -> None:
        del self._live[handle.curl]
        self._multi.remove_handle(handle.curl)
        if not handle.clear():
            return
        if len(self._idle) < _IDLE_HANDLES:
            self._idle.append(handle)
        else:
            handle.curl.close()

    def _response(self, handle: Handle, transfer: Transfer) -> HttpResponse:
        get = handle.curl.getinfo
        version = _VERSIONS.get(get(pycurl.INFO_HTTP_VERSION), "")
        if transfer.place is not None and transfer.place.secure:
            self._routes.note(transfer.place, multiplexes=version == _HTTP2)
        return HttpResponse(
            request=transfer.request,
            status=get(pycurl.RESPONSE_CODE),
            headers=self._heads.read(handle.lines),
            body=b"".join(handle.parts),
            truncated=handle.truncated,
            timings=_timings(handle, transfer.dns),
            http_version=version,
            resent=transfer.resent,
        )

    def _sweep(self, now: float) -> None:
        """Fail the transfers whose answer does not begin. The oldest come first, so the look is short."""
        self._sweep_at = now + SWEEP
        for descriptor in list(self._unwatched):
            self._act(descriptor, 0)
        oldest_allowed = now - self._settings.first_byte_timeout
        late = []
        for handle in self._live.values():
            if handle.started > oldest_allowed:
                break
            if not handle.lines and handle.transfer is not None and handle.transfer.request.timeout is None:
                late.append(handle.curl)
        for curl in late:
            self._finish(curl, pycurl.E_OPERATION_TIMEDOUT, "")


def _poll_bits(wanted: int) -> int:
    return POLLRDHUP | (POLLIN if wanted & pycurl.POLL_IN else 0) | (POLLOUT if wanted & pycurl.POLL_OUT else 0)


def _select_bits(happened: int) -> int:
    return (
        (pycurl.CSELECT_IN if happened & POLLIN else 0)
        | (pycurl.CSELECT_OUT if happened & POLLOUT else 0)
        | (pycurl.CSELECT_ERR if happened & POLLERR else 0)
    )


def _resent(transfer: Transfer) -> dict[str, bool]:
    return {"resent": True} if transfer.resent else {}


def _timings(handle: Handle, dns: int) -> Timings:
    get = handle.curl.getinfo
    connect, secure = get(pycurl.CONNECT_TIME_T), get(pycurl.APPCONNECT_TIME_T)
    return Timings(
        dns=dns,
        connect=connect,
        tls=secure - connect if secure > connect else 0,
        first_byte=dns + get(pycurl.STARTTRANSFER_TIME_T) if handle.lines else 0,
        total=dns + get(pycurl.TOTAL_TIME_T),
    )


def _failure(handle: Handle, code: int, message: str) -> Failure:
    get = handle.curl.getinfo
    return Failure(
        code=code,
        message=message,
        errno=handle.errno or get(pycurl.OS_ERRNO),
        forbidden=handle.forbidden,
        trouble=handle.trouble,
        connected=get(pycurl.CONNECT_TIME_T) > 0,
        secured=get(pycurl.APPCONNECT_TIME_T) > 0,
        answering=bool(handle.lines),
        abandoned=handle.sends > 1,
        elapsed=time.monotonic() - handle.started,
    )
