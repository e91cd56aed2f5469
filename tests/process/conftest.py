from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import SystemResolver

from .sink import Sink


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    """A client to talk to the server with."""
    client = HttpClient(HttpSettings(body_cap=1 << 20), SystemResolver(), AddressGuard([ip_network("127.0.0.0/8")]))
    await client.start()
    yield client
    await client.close()
