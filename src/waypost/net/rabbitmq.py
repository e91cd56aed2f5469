"""A publisher to RabbitMQ that connects to checked addresses only. Needs the extra `rabbitmq` (aiormq)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from typing import Any

import aiormq
from aiormq import exceptions
from aiormq.abc import AbstractChannel
from aiormq.connection import TransportFactory
from msgspec import Struct
from pamqp.commands import Basic
from yarl import URL

from waypost.core.errors import DeliveryError, WaypostError
from waypost.net.amqp import AmqpIntake
from waypost.net.dial import dial, network_error
from waypost.net.hosts import HostPort
from waypost.net.intake import Bounds
from waypost.net.resolve import Resolver
from waypost.net.wire import protocol_error

_HEARTBEAT = 60
_ANSWERS = 8
"""Frames that one question may have for an answer, beside those of a body that is returned."""
_SMALLEST_FRAME = 4_096
"""The least that a server may choose for its frames (AMQP 0-9-1, section 4.2.3)."""
_WITH_A_MESSAGE = 16_384
"""Bytes that may come back with a body: names, a reason, properties."""

logging.getLogger("aiormq").setLevel(logging.CRITICAL + 1)  # it logs tracebacks of what a server says; attempts tell


class Settings(Struct, frozen=True, kw_only=True):
    """How to reach a server and sign in."""

    server: HostPort
    resolver: Resolver
    tls: ssl.SSLContext | None
    vhost: str
    username: str
    password: str
    bounds: Bounds = Bounds()


class Outgoing(Struct, frozen=True, kw_only=True):
    """A message for an exchange. One that has failed before goes `alone`, on a channel of its own."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    kind: str
    headers: dict[str, str]
    alone: bool


class Publisher:
    """A connection with one channel in confirm mode; the channel is opened anew after the server has closed it.

    The server closes the channel over one bad message, at times the whole connection, and with it go all others that
    are on their way. So what fails that way is published once more on a channel of its own, and so is what has failed
    in an earlier attempt: the failure that comes then is the message's own.
    """

    def __init__(self, settings: Settings) -> None:
        self._server = settings.server
        self._transport = _Guarded(settings)
        self._connection = aiormq.Connection(
            _url(settings), transport_factory=self._transport, client_properties={"product": "Waypost"}
        )
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._ids: set[str] = set()

    @property
    def alive(self) -> bool:
        return self._connection.is_opened

    async def open(self) -> None:
        """Connect and sign in. Raises DeliveryError."""
        with self._explaining():
            await self._connection.connect()

    async def publish(self, message: Outgoing) -> None:
        """Publish, and wait until the server has confirmed that every queue has it. Raises DeliveryError."""
        with self._explaining():
            await self._publish_somewhere(message)

    async def find(self, exchange: str) -> None:
        """See that there is an exchange. Raises DeliveryError."""
        with self._explaining():
            channel = await self._channel_of(publisher_confirms=False)
            await channel.exchange_declare(exchange, passive=True)
            await channel.close()

    async def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(Exception):
            await self._connection.close()
        self._transport.abort()

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Raise DeliveryError for whatever the library raises, which passes on what a server makes a parser raise."""
        try:
            yield
        except WaypostError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise explained(ConnectionResetError(), self._server) from None  # it is the connection that was given up
        except Exception as error:
            if self._transport.violated:
                raise protocol_error(self._server) from error
            raise explained(error, self._server) from error

    async def _channel_of(self, **options: bool) -> AbstractChannel:
        self._transport.expect(_ANSWERS, 0)
        return await self._connection.channel(**options)

    async def _publish_somewhere(self, message: Outgoing) -> None:
        if message.alone or message.message_id in self._ids:  # the library tells returned messages apart by their ids
            await self._publish_alone(message)
            return
        self._ids.add(message.message_id)
        try:
            await self._publish(await self._shared_channel(), message)
        except (exceptions.ChannelClosed, exceptions.ChannelInvalidStateError):
            await self._publish_alone(message)
        finally:
            self._ids.discard(message.message_id)

    async def _publish(self, channel: AbstractChannel, message: Outgoing) -> None:
        self._transport.expect(_ANSWERS + len(message.body) // _SMALLEST_FRAME, len(message.body) + _WITH_A_MESSAGE)
        confirmed = await channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=True,
            properties=Basic.Properties(
                content_type="application/json",
                delivery_mode=2,
                message_id=message.message_id,
                message_type=message.kind,
                app_id="waypost",
                headers=dict(message.headers),
            ),
        )
        if not isinstance(confirmed, Basic.Ack):
            raise DeliveryError("unavailable", f"{self._server} could not take the message")

    async def _publish_alone(self, message: Outgoing) -> None:
        channel = await self._channel_of(publisher_confirms=True, on_return_raises=True)
        try:
            await self._publish(channel, message)
        finally:
            with contextlib.suppress(Exception):
                await channel.close()

    async def _shared_channel(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._channel_of(publisher_confirms=True, on_return_raises=True)
            return self._channel


class _Guarded(TransportFactory):
    """Connects the library to the address that was checked, over TLS with the server's name; bounds what it reads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._intake: AmqpIntake | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def violated(self) -> bool:
        return self._intake is not None and self._intake.violated

    def expect(self, frames: int, size: int) -> None:
        if self._intake is not None:
            self._intake.expect(frames, size)

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def create(self, url: URL, **options: Any) -> tuple[Any, asyncio.StreamWriter]:
        reader, self._writer = await dial(self._settings.server, self._settings.resolver, tls=self._settings.tls)
        self._intake = AmqpIntake(reader, self._settings.bounds)
        return self._intake, self._writer


def _url(settings: Settings) -> URL:
    return URL.build(
        scheme="amqp",
        user=settings.username,
        password=settings.password,
        host=settings.server.host,
        port=settings.server.port,
        path="/" + settings.vhost.replace("/", "%2F"),
        query={"heartbeat": str(_HEARTBEAT), "name": "waypost"},
    )


_MEANINGS: tuple[tuple[type[Exception], str, str, bool], ...] = (
    (exceptions.PublishError, "unroutable", "No queue is bound to the exchange for this routing key", False),
    (exceptions.DeliveryError, "unavailable", "{server} could not store the message", True),
    (exceptions.AuthenticationError, "bad_credentials", "{server} did not accept the user name and password", False),
    (
        exceptions.ProbableAuthenticationError,
        "bad_credentials",
        "{server} did not accept the user name and password",
        False,
    ),
    (exceptions.ChannelNotFoundEntity, "no_such_exchange", "There is no such exchange at {server}", False),
    (exceptions.ChannelAccessRefused, "access_denied", "The user may not write to the exchange", False),
    (exceptions.ChannelPreconditionFailed, "message_too_large", "The message is larger than {server} accepts", False),
    (exceptions.ConnectionNotAllowed, "access_denied", "There is no such virtual host for this user", False),
    (exceptions.IncompatibleProtocolError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (exceptions.ProtocolSyntaxError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (exceptions.InvalidFrameError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (exceptions.AMQPError, "connection_reset", "{server} closed the connection", True),
    (RecursionError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (RuntimeError, "connection_reset", "{server} closed the connection", True),
    (ValueError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (LookupError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (ArithmeticError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (AttributeError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
    (TypeError, "protocol_error", "{server} does not speak AMQP 0-9-1", True),
)
"""The library's errors, the special ones first: code, sentence, whether another try can succeed."""


def explained(error: Exception, server: object) -> DeliveryError:
    """An error of the library or of the network in the words of Waypost."""
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.Close" in str(error):
        # the library expects OpenOk at this point, and does not look into what came instead
        return DeliveryError("access_denied", "There is no such virtual host for this user", retryable=False)
    for kind, code, sentence, retryable in _MEANINGS:
        if isinstance(error, kind):
            return DeliveryError(code, sentence.format(server=server), retryable=retryable)
    return network_error(error, server)
