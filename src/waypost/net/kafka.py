"""An idempotent Kafka producer that connects to checked addresses only. Needs the extra `kafka` (aiokafka).

A Kafka client connects twice: to the servers that it is given, and then to whatever addresses the cluster says its
brokers have. Both are looked up and guarded here, and the client gets the checked address instead of the name:

- `_Client.hosts` are the given servers, reached and pinned before the library sees them;
- `_Cluster.broker_metadata`, the only place where the library finds a broker's address, knows none but those that
  `_Client._get_conn` has just looked up. What was not checked is to the library a broker that does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from contextvars import ContextVar
from typing import Any

from aiokafka import AIOKafkaProducer, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, ScramAuthenticator, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError
from aiokafka.structs import BrokerMetadata, RecordMetadata
from msgspec import Struct

from waypost.core.errors import DeliveryError, Unavailable, WaypostError
from waypost.net.dial import network_error
from waypost.net.failure import copy_of
from waypost.net.hosts import HostPort
from waypost.net.intake import Bounds, Intake
from waypost.net.pinned import PinnedContext, PinnedHost
from waypost.net.resolve import Resolver
from waypost.net.wire import protocol_error

_LOOKS_FOR_A_TOPIC = 5
_BETWEEN_LOOKS = 0.2
_MILLISECONDS = 1000
_BATCH = 65_536


class Settings(Struct, frozen=True, kw_only=True):
    """How to reach a cluster. `sasl_mechanism` is Kafka's name of it, None for no authentication; seconds, bytes."""

    servers: tuple[HostPort, ...]
    resolver: Resolver
    tls: PinnedContext | None
    sasl_mechanism: str | None
    username: str
    password: str
    timeout: float
    largest_request: int
    bounds: Bounds = Bounds()

    @property
    def name(self) -> str:
        """What a customer calls the cluster."""
        return ", ".join(str(server) for server in self.servers)

    def for_connections(self) -> dict[str, Any]:
        """The options that every connection of the library takes."""
        wire = "PLAINTEXT" if self.tls is None else "SSL"
        options: dict[str, Any] = {
            "client_id": "waypost",
            "request_timeout_ms": round(self.timeout * _MILLISECONDS),
            "security_protocol": wire if self.sasl_mechanism is None else f"SASL_{wire}",
            "ssl_context": self.tls,
        }
        if self.sasl_mechanism is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options


class BatchTooLarge(DeliveryError):
    """The cluster refused a batch as too large: the message itself, or several that were sent as one."""


class Producer:
    """A producer for one topic. After any failure it is done with: its sequence of messages has a gap.

    It puts records that are sent at the same time into one batch, unless each has to go `alone`, since a topic's limit
    (`max.message.bytes`) is one of batches. The methods raise DeliveryError.
    """

    def __init__(self, settings: Settings, topic: str, *, alone: bool) -> None:
        self._topic = topic
        self._servers = settings.name
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            max_request_size=settings.largest_request,
            max_batch_size=1 if alone else _BATCH,
            **settings.for_connections(),
        )
        self._client = _guarded(self._producer.client, settings)
        self._failed = False

    @property
    def alive(self) -> bool:
        return not self._failed and not self._client.refused.is_set()

    async def start(self) -> None:
        """Connect, and find the topic."""
        _OPENS.set(self._client)
        try:
            await self._unless_refused(self._producer.start())
            await self._unless_refused(self._find_topic())
        except (KafkaError, OSError) as error:
            await self.close()
            raise self._failure(error) from error
        except (WaypostError, asyncio.CancelledError):
            await self.close()
            raise
        except Exception as error:  # of a library that asserts what a broker says
            await self.close()
            raise protocol_error(self._servers) from error

    async def send(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> RecordMetadata:
        """Hand a record to the cluster and wait until all in-sync replicas have it.

        Raises BatchTooLarge where it was the cluster that found it so.
        """
        try:
            sent = await self._producer.send(self._topic, value, key=key, headers=headers)
        except MessageSizeTooLargeError as error:
            raise _explained(error, self._servers) from error
        except KafkaError as error:
            raise self._failure(error) from error
        try:
            return await sent
        except MessageSizeTooLargeError as error:
            self._failed = True
            known = _explained(error, self._servers)
            raise BatchTooLarge(known.code, known.sentence, retryable=known.retryable) from error
        except KafkaError as error:
            raise self._failure(error) from error

    def _failure(self, error: KafkaError | OSError) -> DeliveryError:
        self._failed = True
        trouble = self._client.trouble
        return copy_of(trouble) if trouble is not None else _explained(error, self._servers)

    async def look(self) -> None:
        """Ask the cluster whether the topic is still there."""
        await self._client.force_metadata_update()
        await self._find_topic()

    async def close(self) -> None:
        """End at once: what is not acknowledged yet has failed. Idempotent."""
        self._failed = True
        sender = self._producer._sender  # noqa: SLF001 - the library can only flush, which never ends without a broker
        if sender.sender_task is not None:
            sender.sender_task.cancel()
        self._producer._message_accumulator.fail_all(KafkaConnectionError())  # noqa: SLF001 - as above
        with contextlib.suppress(KafkaError, OSError):
            await self._client.close()
        with contextlib.suppress(KafkaError, asyncio.CancelledError):
            await self._producer.stop()

    async def _find_topic(self) -> None:
        """The topic may be in the making, where the cluster creates topics by itself."""
        cluster = self._client.cluster
        await self._client.set_topics([self._topic])
        for look in range(_LOOKS_FOR_A_TOPIC):
            if look:
                await asyncio.sleep(_BETWEEN_LOOKS)
                await self._client.force_metadata_update()
            if self._topic in cluster.unauthorized_topics:
                raise DeliveryError("access_denied", f"The user may not write to topic {self._topic}", retryable=False)
            if cluster.partitions_for_topic(self._topic):
                return
        raise DeliveryError("no_such_topic", f"There is no topic {self._topic} in the cluster", retryable=False)

    async def _unless_refused(self, work: Any) -> None:
        """Do the work, or raise why the guard refused the broker that it waits for."""
        working = asyncio.ensure_future(work)
        refused = asyncio.ensure_future(self._client.refused.wait())
        try:
            await asyncio.wait({working, refused}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and self._client.trouble is not None:
                raise copy_of(self._client.trouble)
            await working
        finally:
            for task in (working, refused):
                task.cancel()
            await asyncio.gather(working, refused, return_exceptions=True)


class _Cluster(ClusterMetadata):  # type: ignore[misc]  # aiokafka is not typed
    """What is known of the cluster; of the brokers only those whose address has been checked."""

    checked: dict[int, BrokerMetadata]

    def broker_metadata(self, broker_id: int) -> BrokerMetadata | None:
        return self.checked.get(broker_id)

    def advertised(self, broker_id: int) -> BrokerMetadata | None:
        """A broker with the address that the cluster says it has."""
        return super().broker_metadata(broker_id)


class _Violation(OSError):
    """A broker broke a bound or the protocol: to the library a broken connection, which it makes no noise about."""


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is not typed
    """The library's connection, which reads within bounds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.client = _OPENS.get()
        self.bounds = self.client.settings.bounds

    async def connect(self) -> Any:
        try:
            return await super().connect()
        except (KafkaError, OSError):
            raise
        except Exception as error:  # of a library that asserts what a broker says
            raise self.violation() from error

    def violation(self) -> _Violation:
        self.client.violated(self.host, self.port)
        return _Violation()

    def authenticator_scram(self) -> Any:
        made = _Scram(
            loop=self._loop,
            sasl_plain_password=self._sasl_plain_password,
            sasl_plain_username=self._sasl_plain_username,
            sasl_mechanism=self._sasl_mechanism,
        )
        made.most_rounds = self.bounds.rounds
        return made

    @staticmethod
    async def _read(self_ref: Any) -> None:
        connection = self_ref()
        if connection is None:
            return
        intake = Intake(connection._reader, connection.bounds)  # noqa: SLF001 - as the library's own does it
        del connection
        while True:
            try:
                size = int.from_bytes(await intake.exactly(4), signed=True)
                content = await intake.exactly(size)
                connection = self_ref()
                if connection is None:
                    return
                if not connection._requests:  # noqa: SLF001 - as above
                    raise ValueError("an answer to nothing")  # noqa: TRY301
                connection._handle_frame(content)  # noqa: SLF001 - as above
                del connection
                await intake.next(size, asked=True)
            except (OSError, EOFError):
                raise
            except Exception as error:
                connection = self_ref()
                raise (connection.violation() if connection is not None else _Violation()) from error


class _Scram(ScramAuthenticator):  # type: ignore[misc]  # aiokafka is not typed
    most_rounds: int

    def create_salted_password(self, salt: bytes, iterations: int) -> None:
        if not 0 < iterations <= self.most_rounds:
            raise ValueError("more rounds of hashing than a broker may demand")
        super().create_salted_password(salt, iterations)


_OPENS: ContextVar[_Client] = ContextVar("the client that opens connections")


def _made(*arguments: Any, **options: Any) -> AIOKafkaConnection:
    """What the library makes connections with: those of our clients read within bounds, others are as they were."""
    kind = AIOKafkaConnection if _OPENS.get(None) is None else _Connection
    return kind(*arguments, **options)


conn.AIOKafkaConnection = _made
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # it logs tracebacks of what a broker says; attempts tell


class _Client(AIOKafkaClient):  # type: ignore[misc]  # aiokafka is not typed
    """The library's client with the guard in front of every connection."""

    cluster: _Cluster
    settings: Settings
    refused: asyncio.Event
    trouble: DeliveryError | None
    reached: list[tuple[str, int, int]]
    attempts: int

    @property
    def hosts(self) -> list[tuple[str, int, int]]:
        return self.reached

    async def bootstrap(self) -> None:
        """Learn of the cluster from the first server that answers. Raises DeliveryError when none does."""
        trouble: DeliveryError | None = None
        for server in self.settings.servers:
            try:
                self.reached = [await self._reach(server)]
                await super().bootstrap()
            except KafkaConnectionError:
                trouble = self.trouble or DeliveryError("connection_reset", f"{server} closed the connection")
            except DeliveryError as error:
                trouble = error
            else:
                return
        raise trouble or DeliveryError("configuration_error", "The destination names no broker")

    async def _reach(self, server: HostPort) -> tuple[str, int, int]:
        """The server at the first of its addresses that takes the connection and the credentials."""
        trouble: DeliveryError | None = None
        for address in await self.settings.resolver.addresses(server.host, server.port):
            host = PinnedHost.of(server.host, address)
            try:
                connection = await create_conn(host, server.port, **self.settings.for_connections())
            except (OSError, KafkaError) as error:
                trouble = self.trouble or _explained(error, server)
            else:
                await connection.close()
                return host, server.port, socket.AF_UNSPEC
        raise trouble or DeliveryError("dns_error", f"{server} has no address")

    async def _get_conn(self, node_id: int, **options: Any) -> Any:
        known = [connection for (node, _), connection in self._conns.items() if node == node_id]
        if not known or not all(connection.connected() for connection in known):
            await self._check(node_id)
        return await super()._get_conn(node_id, **options)

    async def _check(self, node_id: int) -> None:
        """Look the broker up and pin it to one of its addresses, in turn with every attempt."""
        self.cluster.checked.pop(node_id, None)
        broker = self.cluster.advertised(node_id)
        if broker is None:
            return
        try:
            addresses = await self.settings.resolver.addresses(broker.host, broker.port)
        except DeliveryError as error:
            self._refuse(broker, error)
            return
        except Unavailable:
            return  # to the library the broker is not there yet: it asks again
        self.attempts += 1
        host = PinnedHost.of(broker.host, addresses[self.attempts % len(addresses)])
        self.cluster.checked[node_id] = broker._replace(host=host)

    def violated(self, host: str, port: int) -> None:
        """A broker broke a bound or the protocol."""
        self.trouble = protocol_error(HostPort(host.name if isinstance(host, PinnedHost) else host, port))
        self.refused.set()

    def _refuse(self, broker: BrokerMetadata, error: DeliveryError) -> None:
        where = HostPort(broker.host, broker.port)
        sentence = f"The cluster says that a broker is at {where}: {error.sentence}"
        self.trouble = DeliveryError(error.code, sentence, retryable=error.retryable)
        if error.code == "blocked_address":
            self.refused.set()


def _guarded(client: AIOKafkaClient, settings: Settings) -> _Client:
    """The client that a producer has made for itself, turned into a guarded one before its first connection.

    The library offers no way to give a producer another client.
    """
    client.__class__ = _Client
    client.cluster.__class__ = _Cluster
    client.cluster.checked = {}
    client.settings = settings
    client.refused = asyncio.Event()
    client.trouble = None
    client.reached = []
    client.attempts = 0
    guarded: _Client = client
    return guarded


_MEANINGS = {
    "CorrelationIdError": ("protocol_error", "{server} does not speak the protocol that is expected of it", True),
    "SaslAuthenticationFailed": ("bad_credentials", "{server} did not accept the user name and password", False),
    "AuthenticationFailedError": ("bad_credentials", "{server} did not accept the user name and password", False),
    "UnsupportedSaslMechanismError": ("bad_credentials", "{server} does not know this SASL mechanism", False),
    "IllegalSaslStateError": ("bad_credentials", "{server} wants no SASL authentication on this port", False),
    "TopicAuthorizationFailedError": ("access_denied", "The user may not write to the topic", False),
    "ClusterAuthorizationFailedError": ("access_denied", "The user may not write to the cluster", False),
    "MessageSizeTooLargeError": ("message_too_large", "The message is larger than the topic accepts", False),
    "RecordListTooLargeError": ("message_too_large", "The message is larger than the cluster accepts", False),
    "RecordTooLargeError": ("message_too_large", "The message is larger than the cluster accepts", False),
    "UnknownTopicOrPartitionError": ("no_such_topic", "There is no such topic in the cluster", False),
    "InvalidTopicError": ("no_such_topic", "The cluster does not accept the name of the topic", False),
    "NotEnoughReplicasError": ("unavailable", "The topic has too few in-sync replicas at the moment", True),
    "NotEnoughReplicasAfterAppendError": ("unavailable", "The topic has too few in-sync replicas at the moment", True),
    "LeaderNotAvailableError": ("unavailable", "The partition has no leader at the moment", True),
    "PolicyViolationError": ("refused", "The cluster's policy does not allow the message", False),
    "InvalidRecordError": ("refused", "The broker refused the message as invalid", False),
}
"""aiokafka's errors by class name: code, sentence, whether another try can succeed."""


def _explained(error: Exception, server: object) -> DeliveryError:
    """An error of the library or of the network in the words of Waypost, without what the library says."""
    known = _MEANINGS.get(type(error).__name__)
    if known is not None:
        code, sentence, retryable = known
        return DeliveryError(code, sentence.format(server=server), retryable=retryable)
    if isinstance(error, KafkaConnectionError):
        return DeliveryError("connection_reset", f"{server} closed the connection")
    if isinstance(error, KafkaError):
        return DeliveryError("unavailable", f"{server} could not take the message: {type(error).__name__}")
    return network_error(error, server)
