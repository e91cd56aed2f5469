from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.net.receivers import HOST, Authority
from waypost.core.errors import DeliveryError
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver, Resolver

LOOPBACK = ip_network("127.0.0.0/8")
Clients = Callable[..., AbstractAsyncContextManager[HttpClient]]


class Names:
    """A resolver with a list of its own that can change. Counts what it was asked."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known: dict[str, tuple[str, ...]] = {HOST: ("127.0.0.1",)}
        self.known.update({name.replace("_", "."): addresses for name, addresses in known.items()})
        self.asked: list[str] = []

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append(host)
        if host not in self.known:
            raise DeliveryError("dns_error", f"There is no address for {host}")
        return self.known[host]


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("authority")))


@pytest.fixture
def client(names: Names) -> Clients:
    """Makes a started client. Loopback is allowed unless a guard is given."""

    @contextlib.asynccontextmanager
    async def make(
        guard: AddressGuard | None = None, resolver: Resolver | None = None, **settings: Any
    ) -> AsyncIterator[HttpClient]:
        guard = guard or AddressGuard([LOOPBACK])
        made = HttpClient(
            HttpSettings(**settings), resolver or GuardedResolver(names, guard, ttl=0, negative_ttl=0), guard
        )
        await made.start()
        try:
            yield made
        finally:
            await made.close()

    return make
