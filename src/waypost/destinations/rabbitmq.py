"""RabbitMQ: a persistent message for an exchange, confirmed by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.link import Link, import_aside, timeout_of
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.connect.tls import tls_context, tls_fields, tls_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.hosts import host_problems, parse_host

if TYPE_CHECKING:
    from waypost.net.rabbitmq import Publisher, Settings

_DEFAULT_PORT = 5672
_LONGEST_SHORT_TEXT = 255
"""Of an exchange's name, a routing key, a message id: AMQP 0-9-1, short strings, in bytes."""


class RabbitMQType(DestinationType):
    type: ClassVar[str] = "rabbitmq"
    label: ClassVar[str] = "RabbitMQ"
    description: ClassVar[str] = "Publish events to an exchange of your RabbitMQ server."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linejoin="round"><rect x="3" y="11" width="18" height="10" rx="2"/>'
        '<path d="M8 11V3h3v8M13 11V3h3v8"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Make the exchange (a topic exchange suits best) and bind a queue to it: `#` gets all events, `order.*` those whose
   topic starts with `order.`. An event that no queue wants **fails**, so that nothing is lost unseen.
2. Make the server reachable from the internet, with TLS (usually port 5671); private addresses are refused.
3. Create a user that may write to the exchange, and nothing else:

   ```
   rabbitmqctl add_user waypost PASSWORD
   rabbitmqctl set_permissions -p / waypost "" "^EXCHANGE$" ""
   ```

An event arrives as one persistent message. Its body is the event's data, byte for byte; its headers are the metadata,
among them `event-id`, `topic` and `timestamp`. Its routing key is the event's topic, or what the routing key template
makes of it; the property `message_id` is the event's id, `type` its topic. A message is acknowledged when all its
queues have it. It can arrive more than once, so look at `message_id`.
"""
    extra: ClassVar[str | None] = "rabbitmq"
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="server_url",
            label="Server",
            description="Where RabbitMQ listens: host:port.",
            locates=True,
            required=True,
            maxlength=300,
            placeholder="rabbitmq.example.com:5671",
        ),
        Field(
            key="exchange",
            label="Exchange",
            description="The exchange to publish to. It has to be there.",
            required=True,
            maxlength=_LONGEST_SHORT_TEXT,
            placeholder="events",
        ),
        Field(
            key="routing_key_template",
            label="Routing key template",
            description="The message's routing key: JMESPath over id, topic, time, metadata and data, or text with "
            "such expressions in double braces. The event's topic when left out.",
            maxlength=LONGEST_TEMPLATE,
            placeholder="{{topic}}.{{data.country}}",
        ),
        Field(
            key="vhost",
            label="Virtual host",
            description="The virtual host of the exchange.",
            default="/",
            maxlength=_LONGEST_SHORT_TEXT,
            advanced=True,
        ),
        *tls_fields(default=False),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(key="username", label="User name", description="The user to sign in as.", required=True, maxlength=1_024),
        Field(
            key="password",
            label="Password",
            description="The user's password.",
            required=True,
            sensitive=True,
            maxlength=1_024,
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        server = config.get("server_url", "")
        return [
            *host_problems("config.server_url", server, tools.guard, default_port=_DEFAULT_PORT, most=1),
            *template_problems("config.routing_key_template", config.get("routing_key_template")),
            *tls_problems(config),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return f"{destination.config['exchange']} at {destination.config['server_url']}", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        try:
            await import_aside("waypost.net.rabbitmq")
            from waypost.net.rabbitmq import Settings  # noqa: PLC0415 - the library is optional
        except ImportError as error:
            raise self.missing_extra() from error
        config, credentials = destination.config, destination.credentials
        settings = Settings(
            server=parse_host(config["server_url"], default_port=_DEFAULT_PORT),
            resolver=tools.resolver,
            tls=await tls_context(config, default=False),
            vhost=config.get("vhost") or "/",
            username=credentials["username"],
            password=credentials["password"],
            bounds=tools.bounds,
        )
        routing_key = _routing_key_of(config.get("routing_key_template"))
        return RabbitMQConnection(settings, config["exchange"], routing_key, timeout_of(tools.options, self.type))


def _routing_key_of(template: str | None) -> Template:
    if not template:
        return lambda message: message.event.topic
    try:
        return compile_template(template, field="routing_key_template")
    except ValueError as error:
        raise DeliveryError("configuration_error", f"The routing key template {error}", retryable=False) from error


class RabbitMQConnection:
    """Publishes to one exchange; concurrent messages share a channel."""

    def __init__(self, settings: Settings, exchange: str, routing_key: Template, timeout: float) -> None:
        self._settings = settings
        self._exchange = exchange
        self._routing_key = routing_key
        self._link = Link(str(settings.server), self._open, timeout=timeout)

    async def send(self, message: Message) -> Receipt:
        from waypost.net.rabbitmq import Outgoing  # noqa: PLC0415 - the library is optional

        outgoing = Outgoing(
            exchange=self._exchange,
            routing_key=_short(self._routing_key(message), "routing key"),
            body=message.body,
            message_id=_cut(message.event.id),
            kind=_cut(message.event.topic),
            headers={_cut(name): value for name, value in message.metadata.items()},
            alone=message.attempt > 1,
        )
        where = {"exchange": self._exchange, "routing_key": outgoing.routing_key}
        request = {**where, "headers": message.metadata, "size": len(message.body)}
        try:
            async with self._link.use() as publisher:
                await publisher.publish(outgoing)
        except DeliveryError as error:
            error.request = request
            raise
        return Receipt(code="ack", response={"confirmed": True}, request=request)

    async def verify(self) -> None:
        """Sign in, and look for the exchange."""
        async with self._link.use() as publisher:
            await publisher.find(self._exchange)

    async def close(self) -> None:
        await self._link.close()

    async def _open(self) -> Publisher:
        from waypost.net.rabbitmq import Publisher  # noqa: PLC0415 - the library is optional

        publisher = Publisher(self._settings)
        try:
            await publisher.open()
        except BaseException:
            await publisher.close()
            raise
        return publisher


def _short(text: str, what: str) -> str:
    if len(text.encode()) > _LONGEST_SHORT_TEXT:
        sentence = f"The {what} is longer than the {_LONGEST_SHORT_TEXT} bytes that AMQP allows"
        raise DeliveryError("invalid_routing_key", sentence, retryable=False)
    return text


def _cut(text: str) -> str:
    """As much of a text as AMQP takes."""
    return text if len(text) * 4 <= _LONGEST_SHORT_TEXT else text.encode()[:_LONGEST_SHORT_TEXT].decode(errors="ignore")
