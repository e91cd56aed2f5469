"""NATS JetStream: a message stored in a stream, acknowledged by it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import ClassVar

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.headers import HeaderNames
from waypost.connect.link import Link, timeout_of
from waypost.connect.once import delivery_id
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.connect.tls import tls_context, tls_fields, tls_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.exchange import clean_header_value
from waypost.net.hosts import HostPort, host_problems, parse_hosts
from waypost.net.intake import Bounds
from waypost.net.nats import Nats
from waypost.net.resolve import Resolver

_DEFAULT_PORT = 4222
_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")
_LONGEST_SUBJECT = 1_024


class NatsType(DestinationType):
    type: ClassVar[str] = "nats"
    label: ClassVar[str] = "NATS JetStream"
    description: ClassVar[str] = "Publish events to a stream of your NATS servers."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linejoin="round"><path d="M4 4h16v12h-6l-4 4v-4H4z"/><path d="M9 13V8l6 5V8"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Make a stream that covers the subjects that events will have, for example all of them:

   ```
   nats stream add EVENTS --subjects "orders.>" --defaults
   ```

2. Make the servers reachable from the internet, with TLS; private addresses are refused.
3. Create a user that may publish to these subjects and subscribe to `_INBOX.>`, where answers arrive:

   ```
   { user: waypost, password: "...", permissions: { publish: "orders.>", subscribe: "_INBOX.>" } }
   ```

An event arrives as one message. Its data is the event's data, byte for byte; its headers are the metadata, among them
`event-id`, `topic` and `timestamp`. Its subject is the event's topic, or what the subject template makes of it. The
header `Nats-Msg-Id` names the delivery: JetStream drops what this destination repeats by it; a retry by hand has one of
its own. A message is acknowledged when the stream has stored it.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="servers",
            label="Servers",
            description="The servers, host:port, separated by commas. They are tried in this order.",
            locates=True,
            required=True,
            maxlength=2_048,
            placeholder="nats.example.com:4222",
        ),
        Field(
            key="subject_template",
            label="Subject template",
            description="The message's subject: JMESPath over id, topic, time, metadata and data, or text with such "
            "expressions in double braces. The event's topic when left out.",
            maxlength=LONGEST_TEMPLATE,
            placeholder="orders.{{data.country}}.{{topic}}",
        ),
        *tls_fields(default=True),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(key="username", label="User name", description="The user, with a password.", maxlength=1_024),
        Field(key="password", label="Password", description="The user's password.", sensitive=True, maxlength=1_024),
        Field(
            key="token",
            label="Token",
            description="The token, for servers that ask for one instead of a user.",
            sensitive=True,
            maxlength=4_096,
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return [
            *host_problems("config.servers", config.get("servers", ""), tools.guard, default_port=_DEFAULT_PORT),
            *template_problems("config.subject_template", config.get("subject_template")),
            *tls_problems(config),
            *_credential_problems(credentials),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["servers"], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        opener = _Opener(
            parse_hosts(config["servers"], default_port=_DEFAULT_PORT),
            tools.resolver,
            await tls_context(config, default=True),
            destination.credentials,
            tools.bounds,
        )
        link = Link(config["servers"], opener.open, timeout=timeout_of(tools.options, self.type))
        return NatsConnection(destination.no, link, _subject_of(config.get("subject_template")))


def _credential_problems(credentials: Mapping[str, str]) -> list[str]:
    user, password, token = (credentials.get(key) for key in ("username", "password", "token"))
    if token and (user or password):
        return ["credentials.token must not be given together with a user name or password"]
    if bool(user) != bool(password):
        return [f"credentials.{'password' if user else 'username'} is required with the other one"]
    return []


def _subject_of(template: str | None) -> Template:
    if not template:
        return lambda message: message.event.topic
    try:
        return compile_template(template, field="subject_template")
    except ValueError as error:
        raise DeliveryError("configuration_error", f"The subject template {error}", retryable=False) from error


class _Opener:
    """Opens a connection to the first server that takes it."""

    def __init__(
        self,
        servers: tuple[HostPort, ...],
        resolver: Resolver,
        tls: ssl.SSLContext | None,
        credentials: Mapping[str, str],
        bounds: Bounds,
    ) -> None:
        self._servers = servers
        self._resolver = resolver
        self._tls = tls
        self._credentials = credentials
        self._bounds = bounds

    async def open(self) -> Nats:
        *others, last = self._servers
        for server in others:
            try:
                return await Nats.open(server, self._resolver, self._tls, self._credentials, self._bounds)
            except DeliveryError:
                continue
        return await Nats.open(last, self._resolver, self._tls, self._credentials, self._bounds)


class NatsConnection:
    """Publishes to whatever subjects the events come to; concurrent messages share the connection."""

    def __init__(self, destination_no: int, link: Link[Nats], subject: Template) -> None:
        self._destination_no = destination_no
        self._link = link
        self._subject = subject
        self._names = HeaderNames("")

    async def send(self, message: Message) -> Receipt:
        subject = _checked(self._subject(message))
        headers = {name: clean_header_value(value) for name, value in self._names.of(message.metadata).items()}
        headers["Nats-Msg-Id"] = delivery_id(self._destination_no, message)
        request = {"subject": subject, "headers": headers, "size": len(message.body)}
        try:
            async with self._link.use() as client:
                ack = await client.publish(subject, headers, message.body)
                if ack.duplicate and (message.manual or message.attempt == 1):
                    # nothing was sent under this id before, or by a process that died: rather twice than never
                    headers["Nats-Msg-Id"] += f"-{message.sent_at:x}"
                    ack = await client.publish(subject, headers, message.body)
        except DeliveryError as error:
            error.request = request
            raise
        answer = {"stream": ack.stream, "sequence": ack.seq, "duplicate": ack.duplicate}
        return Receipt(code="ack", response=answer, request=request)

    async def verify(self) -> None:
        """Sign in, and have a server answer."""
        async with self._link.use() as client:
            await client.ping()

    async def close(self) -> None:
        await self._link.close()


def _checked(subject: str) -> str:
    """The subject, if NATS can publish to it: words between dots, without wildcards or blanks."""
    if len(subject) > _LONGEST_SUBJECT or not _SUBJECT.fullmatch(subject):
        sentence = f"{subject[:100]!r} is not a subject that can be published to"
        raise DeliveryError("invalid_subject", sentence, retryable=False)
    return subject
