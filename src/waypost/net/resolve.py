"""Host names to addresses: looked up without holding anybody up, guarded, and remembered for a while."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.guard import AddressGuard, literal_address, looks_like_address


class Resolver(Protocol):
    """Looks up the addresses of a host, in the order in which they should be tried."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """At least one address. Raises DeliveryError `dns_error` or `blocked_address`."""
        ...


Lookup = Callable[[str, int], tuple[str, ...]]
"""A blocking lookup. Raises OSError."""


def getaddrinfo(host: str, port: int) -> tuple[str, ...]:
    """The operating system's answer, in the order of RFC 6724, without repetitions."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class SystemResolver:
    """The operating system's resolver in threads of its own.

    A lookup is given up after `timeout` seconds, while its thread may hang for longer in the C library: then it counts
    against `threads` until it returns, and the others are unaffected. The threads are daemons: none delays the exit.
    """

    def __init__(self, *, timeout: float = 5.0, threads: int = 64, lookup: Lookup = getaddrinfo) -> None:
        self._timeout = timeout
        self._lookup = lookup
        self._free = asyncio.Semaphore(threads)

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
                found = await self._start(host, port)
        except TimeoutError:
            raise DeliveryError("dns_error", f"The lookup of {host} took longer than {self._timeout:g} s") from None
        except UnicodeError:
            raise DeliveryError("dns_error", f"{host} is not a name that can be looked up") from None
        except OSError as error:
            raise DeliveryError("dns_error", _sentence(host, error)) from error
        if not found:
            raise DeliveryError("dns_error", f"{host} has no address")
        return found

    def _start(self, host: str, port: int) -> asyncio.Future[tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[str, ...]] = loop.create_future()

        def settle(found: tuple[str, ...] | Exception) -> None:
            self._free.release()
            if future.done():
                return
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)

        def work() -> None:
            found: tuple[str, ...] | Exception
            try:
                found = self._lookup(host, port)
            except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
                found = error
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits any more

        try:
            threading.Thread(target=work, name=f"lookup of {host}", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError(f"no thread for the lookup: {error}") from error
        return future


def _sentence(host: str, error: OSError) -> str:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return f"There is no address for {host}"
    return f"{host} could not be looked up: {error.strerror or error}"


class _Known(Struct, frozen=True):
    """What a lookup came to: addresses or the error, good until `until` (seconds of the monotonic clock)."""

    until: float
    addresses: tuple[str, ...]
    error: DeliveryError | None = None


class GuardedResolver:
    """Remembers another resolver's answers and refuses a host that has any forbidden address.

    An answer is good for `ttl` seconds, a failure for `negative_ttl`; at most `size` hosts are remembered. Lookups of
    one host at the same time are one lookup. Hosts that spell an address are judged without a lookup.
    """

    def __init__(
        self,
        resolver: Resolver,
        guard: AddressGuard,
        *,
        ttl: float = 30.0,
        negative_ttl: float = 2.0,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._guard = guard
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._size = size
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, asyncio.Task[_Known]] = {}

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        known = self._known.get(host)
        if known is None or known.until <= self._clock():
            known = await self._shared(host, port)
        if known.error is not None:
            raise _again(known.error)
        return known.addresses

    async def _shared(self, host: str, port: int) -> _Known:
        """One lookup for all who ask at the same time; it goes on when one of them is cancelled."""
        task = self._pending.get(host)
        if task is None:
            task = asyncio.create_task(self._look_up(host, port))
            self._pending[host] = task
        return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int) -> _Known:
        try:
            known = _Known(self._clock() + self._ttl, await self._judged(host, port))
        except DeliveryError as error:
            known = _Known(self._clock() + self._negative_ttl, (), error)
        finally:
            del self._pending[host]
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[host] = known
        return known

    async def _judged(self, host: str, port: int) -> tuple[str, ...]:
        if looks_like_address(host):
            return (self._literal(host),)
        found = await self._resolver.addresses(host, port)
        for address in found:
            kind = self._guard.kind(address)
            if kind is not None:
                raise DeliveryError("blocked_address", f"{host} resolves to {kind}, which destinations may not reach")
        return found

    def _literal(self, host: str) -> str:
        address = literal_address(host)
        if address is None:
            raise DeliveryError("dns_error", f"{host} is not a valid IP address")
        refusal = self._guard.refusal(address)
        if refusal is not None:
            raise DeliveryError("blocked_address", refusal)
        return str(address)


def _again(error: DeliveryError) -> DeliveryError:
    """A copy to raise: an exception that is raised twice would drag its first traceback along."""
    return DeliveryError(error.code, error.sentence, retryable=error.retryable)
