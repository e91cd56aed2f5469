"""Redis Streams: an entry appended with XADD. What speaks Redis's protocol will do, as Valkey."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import ClassVar

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.link import Link, timeout_of
from waypost.connect.tls import tls_context, tls_fields, tls_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.dial import dial
from waypost.net.hosts import HostPort, host_problems, parse_host
from waypost.net.intake import Bounds
from waypost.net.redis import Redis
from waypost.net.resolve import Resolver

_DEFAULT_PORT = 6379
_DATA = "data"


class RedisType(DestinationType):
    type: ClassVar[str] = "redis"
    label: ClassVar[str] = "Redis Streams"
    description: ClassVar[str] = "Append events to a stream in your Redis or Valkey server."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linejoin="round"><path d="M3 8l9-4 9 4-9 4z"/><path d="M3 12l9 4 9-4"/>'
        '<path d="M3 16l9 4 9-4"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Make the server reachable from the internet, with TLS; private addresses are refused.
2. Create a user that may append to the stream, and do nothing else:

   ```
   ACL SETUSER waypost on >PASSWORD ~STREAM +xadd
   ```

3. Give the stream a length, here or by a consumer of yours that trims it: it grows without end otherwise.

An event arrives as one entry of the stream. Its field `data` holds the event's data, byte for byte; beside it stands a
field for each value of the metadata, among them `event-id`, `topic` and `timestamp` (a metadata key `data` becomes
`metadata-data`). An entry can arrive more than once, so look at `event-id`. Redis acknowledges an entry when it is in
memory; whether it survives a crash depends on `appendfsync`. Of a Redis Cluster, enter the node that holds the key.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="server",
            label="Server",
            description="Where Redis listens: host:port.",
            locates=True,
            required=True,
            maxlength=300,
            placeholder="redis.example.com:6379",
        ),
        Field(
            key="stream",
            label="Stream key",
            description="The key of the stream that events are appended to.",
            required=True,
            maxlength=512,
            placeholder="events",
        ),
        *tls_fields(default=True),
        Field(
            key="max_length",
            label="Maximum length",
            description="About how many entries the stream keeps; the oldest are removed. Unlimited when left out.",
            pattern=r"[1-9][0-9]{0,14}",
            pattern_hint="a whole number above 0",
            placeholder="100000",
        ),
        Field(
            key="create_stream",
            label="Create the stream",
            description="Make the stream when it is not there. Otherwise an event for a missing stream fails.",
            type="checkbox",
            default="true",
            advanced=True,
        ),
        Field(
            key="database",
            label="Database",
            description="The number of the database.",
            pattern=r"[0-9]{1,5}",
            pattern_hint="a whole number",
            default="0",
            advanced=True,
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(key="username", label="User name", description="The user; `default` when left out.", maxlength=1_024),
        Field(
            key="password",
            label="Password",
            description="The user's password; left out for a server without authentication.",
            sensitive=True,
            maxlength=1_024,
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        needs_password = credentials.get("username") and not credentials.get("password")
        return [
            *host_problems("config.server", config.get("server", ""), tools.guard, default_port=_DEFAULT_PORT, most=1),
            *tls_problems(config),
            *(["credentials.password is required with a user name"] if needs_password else []),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return f"{destination.config['stream']} at {destination.config['server']}", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        opener = _Opener(
            server=parse_host(config["server"], default_port=_DEFAULT_PORT),
            resolver=tools.resolver,
            tls=await tls_context(config, default=True),
            database=config.get("database", "0"),
            credentials=destination.credentials,
            bounds=tools.bounds,
        )
        link = Link(str(opener.server), opener.open, timeout=timeout_of(tools.options, self.type))
        return RedisConnection(link, config)


class _Opener:
    """Opens connections to one server, signed in and with the database chosen."""

    def __init__(
        self,
        *,
        server: HostPort,
        resolver: Resolver,
        tls: ssl.SSLContext | None,
        database: str,
        credentials: Mapping[str, str],
        bounds: Bounds,
    ) -> None:
        self.server = server
        self._resolver = resolver
        self._tls = tls
        self._database = database
        self._credentials = credentials
        self._bounds = bounds

    async def open(self) -> Redis:
        client = Redis(self.server, *await dial(self.server, self._resolver, tls=self._tls), self._bounds)
        try:
            await self._sign_in(client)
        except BaseException:
            await client.close()
            raise
        return client

    async def _sign_in(self, client: Redis) -> None:
        password, user = self._credentials.get("password"), self._credentials.get("username")
        if password:
            await client.call("AUTH", *([user] if user else []), password)
        else:
            await _ping(client)
        if self._database != "0":
            await client.call("SELECT", self._database)


class RedisConnection:
    """Appends to one stream; concurrent entries share the connection."""

    def __init__(self, link: Link[Redis], config: Mapping[str, str]) -> None:
        self._link = link
        self._stream = config["stream"]
        options = [] if config.get("create_stream", "true") == "true" else ["NOMKSTREAM"]
        if config.get("max_length"):
            options += ["MAXLEN", "~", config["max_length"]]
        self._command = ("XADD", self._stream, *options, "*")

    async def send(self, message: Message) -> Receipt:
        request = {"stream": self._stream, "metadata": message.metadata, "size": len(message.body)}
        try:
            async with self._link.use() as client:
                entry = await client.call(*self._command, *_fields(message))
        except DeliveryError as error:
            error.request = request
            raise
        if entry is None:
            raise DeliveryError(
                "no_such_stream", f"There is no stream {self._stream}", retryable=False, request=request
            )
        return Receipt(code="ack", response={"id": entry}, request=request)

    async def verify(self) -> None:
        """Sign in, and have the server answer."""
        async with self._link.use() as client:
            await _ping(client)

    async def close(self) -> None:
        await self._link.close()


async def _ping(client: Redis) -> None:
    """Have the server answer. A user who may only append may not ping; to be told so is an answer too."""
    try:
        await client.call("PING")
    except DeliveryError as error:
        if error.code != "access_denied":
            raise


def _fields(message: Message) -> list[bytes | str]:
    fields: list[bytes | str] = [_DATA, message.body]
    for key, value in message.metadata.items():
        fields += [f"metadata-{key}" if key == _DATA else key, value]
    return fields
