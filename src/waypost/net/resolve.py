"""Host names to addresses: looked up without holding anybody up, guarded, and remembered for a while."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from waypost.core.errors import DeliveryError, Unavailable
from waypost.net.failure import copy_of
from waypost.net.guard import AddressGuard, literal_address, looks_like_address
from waypost.net.shares import Places, Shares, on_behalf_of


class Resolver(Protocol):
    """Looks up the addresses of a host, in the order in which they should be tried."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """At least one address. Raises DeliveryError `dns_error` or `blocked_address`, or Unavailable.

        Whom the lookup is charged to is `waypost.net.shares.on_behalf_of`.
        """
        ...


class LookupTrouble(DeliveryError):
    """A name server did not answer, or not with yes or no: the name may well exist."""


K = TypeVar("K", str, tuple[str, str])
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
            raise LookupTrouble("dns_error", f"The lookup of {host} took longer than {self._timeout:g} s") from None
        except UnicodeError:
            raise DeliveryError("dns_error", f"{host} is not a name that can be looked up") from None
        except OSError as error:
            raise _failure(host, error) from error
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


def _failure(host: str, error: OSError) -> DeliveryError:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return DeliveryError("dns_error", f"There is no address for {host}")
    return LookupTrouble("dns_error", f"{host} could not be looked up: {error.strerror or error}")


_MOST_ADDRESSES = 16
"""So many of a host's addresses are kept; all are judged."""
_LIVELY = 1.8
"""Seconds after which an answer that is too old does while a newer one is looked up (RFC 8767, section 5)."""


class _Known(Struct, frozen=True):
    """What a lookup came to: addresses or the error, good until `until` (seconds of the monotonic clock).

    Addresses may stand in until `stale_until` where no newer answer can be had.
    """

    until: float
    addresses: tuple[str, ...]
    error: DeliveryError | None = None
    stale_until: float = 0.0


class GuardedResolver:
    """Remembers another resolver's answers and refuses a host that has any forbidden address.

    Lookups of one host at the same time are one lookup. Hosts that spell an address are judged without a lookup.

    An answer is good for `ttl` seconds, a failure for `negative_ttl`. Where a lookup hangs or fails, an answer that is
    up to `stale` seconds too old stands in, and is asked for anew every `recheck` (RFC 8767). At most `size` hosts are
    remembered, and `failures` failures. A lookup waits at most `patience` for one of the `places`.
    """

    def __init__(
        self,
        resolver: Resolver,
        guard: AddressGuard,
        *,
        ttl: float = 30.0,
        negative_ttl: float = 2.0,
        stale: float = 86_400.0,
        recheck: float = 30.0,
        size: int = 10_000,
        failures: int = 1_000,
        places: Places = Places(),  # noqa: B008 - a frozen value
        patience: float = 5.0,
        lively: float = _LIVELY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._guard = guard
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._stale = stale
        self._recheck = recheck
        self._size = size
        self._failures = failures
        self._shares = Shares(places, patience)
        self._lively = lively
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._failed: dict[str, _Known] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[_Known]] = {}
        self._looking: dict[str, asyncio.Task[_Known]] = {}

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        known = self._known.get(host)
        if known is not None and known.until > self._clock():
            return known.addresses
        if looks_like_address(host):
            literal = _Known(self._clock() + self._ttl, (self._literal(host),))
            return _remember(self._known, host, literal, self._size).addresses
        known = self._failed.get(host)
        if known is None or known.until <= self._clock():
            known = await self._newer(host, port)
        if known.error is not None:
            raise copy_of(known.error)
        return known.addresses

    async def close(self) -> None:
        """Give up all lookups. Idempotent."""
        tasks = [*self._asking.values(), *self._looking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        close = getattr(self._resolver, "close", None)
        if close is not None:
            await close()

    async def _newer(self, host: str, port: int) -> _Known:
        """A new answer, or the old one where that takes too long or fails."""
        old = self._old(host)
        task = self._once(self._asking, (on_behalf_of.get(), host), lambda: self._ask(host, port))
        if old is None:
            try:
                return await asyncio.shield(task)
            except Unavailable as error:
                raise Unavailable(str(error), reason=error.reason) from None  # several wait for the same
        try:
            async with asyncio.timeout(self._lively):
                found = await asyncio.shield(task)
        except (TimeoutError, Unavailable):
            return old
        return old if found.error is not None and self._old(host) is not None else found

    def _old(self, host: str) -> _Known | None:
        known = self._known.get(host)
        return known if known is not None and known.stale_until > self._clock() else None

    async def _ask(self, host: str, port: int) -> _Known:
        """Look up for one tenant, who needs a place, and share the lookup with others who have one."""
        try:
            async with self._shares.place(host):
                return await asyncio.shield(self._once(self._looking, host, lambda: self._look_up(host, port)))
        except DeliveryError as error:
            return _Known(0.0, (), error)  # for those who wait now, and charged to them alone

    def _once(self, tasks: dict[K, asyncio.Task[_Known]], key: K, work: Callable[[], Any]) -> asyncio.Task[_Known]:
        """The task that is under way under this key; it goes on when one of those who wait for it is cancelled."""
        task = tasks.get(key)
        if task is None:
            task = asyncio.create_task(work())
            tasks[key] = task
            task.add_done_callback(lambda _: tasks.pop(key))
            task.add_done_callback(_heard)
        return task

    async def _look_up(self, host: str, port: int) -> _Known:
        try:
            found = await self._judged(host, port)
        except LookupTrouble as error:
            return self._troubled(host, error)
        except DeliveryError as error:
            self._known.pop(host, None)
            return self._fail(host, error)
        self._failed.pop(host, None)
        until = self._clock() + self._ttl
        return _remember(self._known, host, _Known(until, found, None, until + self._stale), self._size)

    def _troubled(self, host: str, error: DeliveryError) -> _Known:
        """No answer: the old one is good again for a while, so that not everybody who comes waits for the next try."""
        old = self._old(host)
        if old is not None:
            renewed = _Known(self._clock() + self._recheck, old.addresses, None, old.stale_until)
            return _remember(self._known, host, renewed, self._size)
        return self._fail(host, error)

    def _fail(self, host: str, error: DeliveryError) -> _Known:
        failed = _Known(self._clock() + self._negative_ttl, (), error)
        return _remember(self._failed, host, failed, self._failures)

    async def _judged(self, host: str, port: int) -> tuple[str, ...]:
        found = await self._resolver.addresses(host, port)
        for address in found:
            kind = self._guard.kind(address)
            if kind is not None:
                raise DeliveryError("blocked_address", f"{host} resolves to {kind}, which destinations may not reach")
        return found[:_MOST_ADDRESSES]

    def _literal(self, host: str) -> str:
        address = literal_address(host)
        if address is None:
            raise DeliveryError("dns_error", f"{host} is not a valid IP address")
        refusal = self._guard.refusal(address)
        if refusal is not None:
            raise DeliveryError("blocked_address", refusal)
        return str(address)


def _remember(kept: dict[str, _Known], host: str, known: _Known, most: int) -> _Known:
    if host not in kept and len(kept) >= most:
        del kept[next(iter(kept))]
    kept[host] = known
    return known


def _heard(task: asyncio.Task[_Known]) -> None:
    """Take note of a failure that nobody waited for."""
    if not task.cancelled():
        task.exception()
