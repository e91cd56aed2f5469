"""Who may wait for how many names: hanging names of one tenant, or of one domain, hold up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

from msgspec import Struct

from waypost.core.errors import DeliveryError, Unavailable

on_behalf_of: ContextVar[str] = ContextVar("the tenant for whom something is looked up", default="")


class Places(Struct, frozen=True, kw_only=True):
    """Most lookups under way: in all, of one tenant, of the names under one domain."""

    all: int = 512
    tenant: int = 32
    domain: int = 16


class Shares:
    """Hands out places for lookups. Who finds none waits for one, at most `patience` seconds."""

    def __init__(self, places: Places, patience: float) -> None:
        self._places = places
        self._patience = patience
        self._all = asyncio.Semaphore(places.all)
        self._shares: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()
        self._held: Counter[tuple[str, str]] = Counter()

    @contextlib.asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[None]:
        """A place for a lookup of the host, for the tenant that it is looked up for.

        Raises DeliveryError `dns_error` where it is the tenant's own names that take all places, else Unavailable.
        """
        tenant, domain = on_behalf_of.get(), parent_of(host)
        async with contextlib.AsyncExitStack() as held:
            own = held.enter_context(self._share(f"tenant {tenant}", self._places.tenant))
            under = held.enter_context(self._share(f"domain {domain}", self._places.domain))
            if not await self._take(held, own):
                raise _used_up(host)
            if not await self._take(held, under):
                raise _used_up(host) if self._held[tenant, domain] else _no_place(host)
            if not await self._take(held, self._all):
                raise _no_place(host)
            held.enter_context(self._holding(tenant, domain))
            yield

    async def _take(self, held: contextlib.AsyncExitStack, places: asyncio.Semaphore) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await held.enter_async_context(places)
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def _share(self, name: str, places: int) -> Iterator[asyncio.Semaphore]:
        """The places of a tenant or a domain; forgotten when nobody uses them."""
        self._users[name] += 1
        try:
            yield self._shares.setdefault(name, asyncio.Semaphore(places))
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._shares[name]

    @contextlib.contextmanager
    def _holding(self, tenant: str, domain: str) -> Iterator[None]:
        self._held[tenant, domain] += 1
        try:
            yield
        finally:
            self._held[tenant, domain] -= 1
            if not self._held[tenant, domain]:
                del self._held[tenant, domain]


def _used_up(host: str) -> DeliveryError:
    return DeliveryError("dns_error", f"{host} waited for other names of the tenant that do not answer")


def _no_place(host: str) -> Unavailable:
    return Unavailable(f"There was no free place to look up {host}", reason="names")


def parent_of(host: str) -> str:
    """The last two labels of a name: most often what is registered, and so who answers for it."""
    return ".".join(host.rsplit(".", 2)[-2:])
