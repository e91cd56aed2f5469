"""Connections of destination types that speak HTTPS, to servers on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.messages import NOON
from waypost.connect.connector import Connection, DestinationType, Tools
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver

LOOPBACK = ip_network("127.0.0.0/8")


class Loopback:
    """A resolver for which every name is this machine."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)


def tools_for(ca_file: Path | None = None, *, guard: AddressGuard | None = None, **settings: Any) -> Tools:
    """Tools that trust a test's authority and may reach this machine unless a guard says otherwise."""
    guard = guard or AddressGuard([LOOPBACK])
    resolver = GuardedResolver(Loopback(), guard)
    made = HttpSettings(ca_bundle=str(ca_file) if ca_file else None, **settings)
    return Tools(http=HttpClient(made, resolver, guard), guard=guard, resolver=resolver, options={})


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items() if value is not None}


def destination_of(kind: DestinationType, given: dict[str, Any], credentials: dict[str, Any]) -> Destination:
    return Destination(
        no=1,
        id="des_1",
        tenant_id="acme",
        type=kind.type,
        topics=("*",),
        config=_texts(given),
        credentials=_texts(credentials),
        created_at=NOON,
        updated_at=NOON,
    )


@contextlib.asynccontextmanager
async def connected(
    kind: DestinationType, given: dict[str, Any], credentials: dict[str, Any], tools: Tools
) -> AsyncIterator[Connection]:
    """A connection to what the values say, which have to pass the type's own check."""
    destination = destination_of(kind, given, credentials)
    assert kind.check(destination.config, destination.credentials, tools) == []
    await tools.http.start()
    try:
        connection = await kind.connect(destination, tools)
        try:
            yield connection
        finally:
            await connection.close()
            await connection.close()
    finally:
        await tools.http.close()


class Caught:
    """The DeliveryError that a block ended with."""

    error: DeliveryError


@contextlib.contextmanager
def fails(code: str, *, retryable: bool, hidden: tuple[str, ...] = ()) -> Iterator[Caught]:
    """The block fails with this code, and none of the hidden texts is in anything that is shown or stored of it."""
    caught = Caught()
    with pytest.raises(DeliveryError) as info:
        yield caught
    caught.error = error = info.value
    assert (error.code, error.retryable) == (code, retryable), error.sentence
    everything = f"{error.sentence} {error.response} {error.request} {error!r}"
    assert not [text for text in hidden if text in everything]
