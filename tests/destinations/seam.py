"""What the tests of destination types with a client of their own have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.destinations.messages import NOON
from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import problems
from waypost.core.errors import DeliveryError, MissingExtra
from waypost.core.model import Destination
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.resolve import GuardedResolver, SystemResolver

HERE = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
_MOST_TRIES = 200


def tools(*, local: bool = True, addresses: dict[str, tuple[str, ...]] | None = None, **options: Any) -> Tools:
    """Tools whose guard lets this machine through if `local`; `addresses` are names that only this resolver knows."""
    guard = AddressGuard(HERE if local else ())
    resolver = GuardedResolver(_Resolver(addresses or {}), guard)
    return Tools(http=cast("HttpClient", None), guard=guard, resolver=resolver, options=options)


class _Resolver:
    def __init__(self, known: dict[str, tuple[str, ...]]) -> None:
        self._known = known
        self._system = SystemResolver()

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        return self._known.get(host) or await self._system.addresses(host, port)


def destination(kind: DestinationType, config: dict[str, str], credentials: dict[str, str]) -> Destination:
    return Destination(
        no=1,
        id="des_1",
        tenant_id="acme",
        type=kind.type,
        topics=("*",),
        config=config,
        credentials=credentials,
        created_at=NOON,
        updated_at=NOON,
    )


@asynccontextmanager
async def connected(
    kind: DestinationType, config: dict[str, str], credentials: dict[str, str] | None = None, lent: Tools | None = None
) -> AsyncIterator[Connection]:
    """A connection to a destination that may be saved like this, closed twice at the end."""
    credentials = credentials or {}
    assert complaints(kind, config, credentials, lent) == []
    connection = await kind.connect(destination(kind, config, credentials), lent or tools())
    try:
        yield connection
    finally:
        await connection.close()
        await connection.close()


def complaints(
    kind: DestinationType, config: dict[str, str], credentials: dict[str, str], lent: Tools | None = None
) -> list[str]:
    """Everything that keeps a destination from being saved."""
    return [
        *problems(kind.config_fields, config, where="config"),
        *problems(kind.credential_fields, credentials, where="credentials"),
        *kind.check(config, credentials, lent or tools()),
    ]


async def refused(work: Awaitable[Any], code: str, *, secret: str = "") -> DeliveryError:
    """The error that the work must end in; nothing of it may show the secret."""
    with pytest.raises(DeliveryError) as raised:
        await work
    error = raised.value
    assert error.code == code, error.sentence
    shown = f"{error} {error.sentence} {error.request} {error.response}"
    assert not secret or secret not in shown
    return error


async def deliver(connection: Connection, message: Message) -> Receipt:
    """Send until it is acknowledged, as the dispatcher does; an error that is no use to retry is raised."""
    for attempt in range(1, _MOST_TRIES):
        try:
            return await connection.send(replace(message, attempt=attempt))
        except DeliveryError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("never acknowledged")


async def deliver_through_an_outage(
    connection: Connection, messages: Sequence[Message], stop: Callable[[], None], start: Callable[[], None]
) -> None:
    """Deliver the messages one after the other while the server goes away after the first third and comes back.

    The server's fixture blocks while it starts: it does so in a thread of its own.
    """
    third = len(messages) // 3
    for message in messages[:third]:
        await deliver(connection, message)
    await asyncio.to_thread(stop)
    waiting = [asyncio.create_task(deliver(connection, message)) for message in messages[third:]]
    done, _ = await asyncio.wait(waiting, timeout=0.5)
    assert not done
    await asyncio.to_thread(start)
    await asyncio.gather(*waiting)


async def cancelled_while_sending(connection: Connection, messages: Iterable[Message]) -> None:
    """Start sends, cancel them at different moments, and see that the connection goes on working."""
    for turns, message in enumerate(messages):
        sending = asyncio.create_task(connection.send(message))
        for _ in range(turns):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def assert_names_missing_extra(
    kind: DestinationType, config: dict[str, str], monkeypatch: pytest.MonkeyPatch, *modules: str
) -> None:
    """Without the library, connecting says what to install. `modules` are the library and what has imported it."""
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, modules[0], None)
    with pytest.raises(MissingExtra, match=rf"waypost\[{kind.extra}\]"):
        await kind.connect(destination(kind, config, {}), tools())
