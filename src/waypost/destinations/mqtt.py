"""MQTT 5: a message published with QoS 1, acknowledged by the broker."""

from __future__ import annotations

import re
import secrets
import ssl
from collections.abc import Mapping
from typing import ClassVar

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.link import Link, timeout_of
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.connect.tls import tls_context, tls_fields, tls_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.dial import dial, network_error
from waypost.net.hosts import HostPort, host_problems, parse_host
from waypost.net.intake import Bounds
from waypost.net.mqtt import Mqtt
from waypost.net.resolve import Resolver
from waypost.net.wire import protocol_error

_DEFAULT_PORT = 8883
_TOPIC = re.compile(r"[^+#\x00]+")
_LONGEST_TOPIC = 65_535
_CONTENT_TYPE = "application/json"


class MqttType(DestinationType):
    type: ClassVar[str] = "mqtt"
    label: ClassVar[str] = "MQTT"
    description: ClassVar[str] = "Publish events to topics of your MQTT 5 broker."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round"><path d="M4 20v-2a2 2 0 0 1 2 2"/><path d="M4 12a8 8 0 0 1 8 8"/>'
        '<path d="M4 5a15 15 0 0 1 15 15"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Make the broker reachable from the internet, with TLS (usually port 8883); private addresses are refused. It has to
   speak MQTT 5.
2. Create a user that may publish to the topics that events will have. In Mosquitto's access list:

   ```
   user waypost
   topic write events/#
   ```

3. Subscribe with QoS 1 and a session that outlives your connection, if no event may be missed.

An event arrives as one message of QoS 1. Its payload is the event's data, byte for byte; its user properties are the
metadata, among them `event-id`, `topic` and `timestamp`. Its topic is the event's topic, or what the topic template
makes of it. A message counts as delivered when the broker has acknowledged it, whether or not anybody has subscribed.
It can arrive more than once, so look at `event-id`.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="server",
            label="Broker",
            description="Where the broker listens: host:port.",
            locates=True,
            required=True,
            maxlength=300,
            placeholder="mqtt.example.com:8883",
        ),
        Field(
            key="topic_template",
            label="Topic template",
            description="The message's MQTT topic: JMESPath over id, topic, time, metadata and data, or text with such "
            "expressions in double braces. The event's topic when left out.",
            maxlength=LONGEST_TEMPLATE,
            placeholder="events/{{topic}}/{{data.customer_id}}",
        ),
        *tls_fields(default=True),
        Field(
            key="retain",
            label="Retain",
            description="Have the broker keep the last message of each topic for later subscribers.",
            type="checkbox",
            default="false",
            advanced=True,
        ),
        Field(
            key="client_id",
            label="Client id",
            description="The id to connect with, where the broker wants a certain one. It must be in use nowhere else. "
            "A new one for each connection when left out.",
            maxlength=128,
            advanced=True,
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="username",
            label="User name",
            description="The user; left out for a broker without authentication.",
            maxlength=1_024,
        ),
        Field(key="password", label="Password", description="The user's password.", sensitive=True, maxlength=1_024),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return [
            *host_problems("config.server", config.get("server", ""), tools.guard, default_port=_DEFAULT_PORT, most=1),
            *template_problems("config.topic_template", config.get("topic_template")),
            *tls_problems(config),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["server"], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        opener = _Opener(
            server=parse_host(config["server"], default_port=_DEFAULT_PORT),
            resolver=tools.resolver,
            tls=await tls_context(config, default=True),
            client_id=config.get("client_id"),
            credentials=destination.credentials,
            bounds=tools.bounds,
        )
        link = Link(str(opener.server), opener.open, timeout=timeout_of(tools.options, self.type))
        topic = _topic_of(config.get("topic_template"))
        return MqttConnection(link, topic, retain=config.get("retain") == "true")


def _topic_of(template: str | None) -> Template:
    if not template:
        return lambda message: message.event.topic
    try:
        return compile_template(template, field="topic_template")
    except ValueError as error:
        raise DeliveryError("configuration_error", f"The topic template {error}", retryable=False) from error


class _Opener:
    """Opens connections to one broker, signed in."""

    def __init__(
        self,
        *,
        server: HostPort,
        resolver: Resolver,
        tls: ssl.SSLContext | None,
        client_id: str | None,
        credentials: Mapping[str, str],
        bounds: Bounds,
    ) -> None:
        self.server = server
        self._resolver = resolver
        self._tls = tls
        self._client_id = client_id
        self._credentials = credentials
        self._bounds = bounds

    async def open(self) -> Mqtt:
        client = Mqtt(self.server, *await dial(self.server, self._resolver, tls=self._tls), self._bounds)
        client_id = self._client_id or f"waypost-{secrets.token_hex(7)}"
        try:
            await client.sign_in(client_id, self._credentials.get("username"), self._credentials.get("password"))
        except ValueError as error:
            await client.close()
            raise protocol_error(self.server) from error
        except (OSError, EOFError) as error:
            await client.close()
            raise network_error(error, self.server) from error
        except BaseException:
            await client.close()
            raise
        return client


class MqttConnection:
    """Publishes to whatever topics the events come to; concurrent messages share the connection."""

    def __init__(self, link: Link[Mqtt], topic: Template, *, retain: bool) -> None:
        self._link = link
        self._topic = topic
        self._retain = retain

    async def send(self, message: Message) -> Receipt:
        topic = _checked(self._topic(message))
        request = {"topic": topic, "user_properties": message.metadata, "size": len(message.body)}
        try:
            async with self._link.use() as client:
                heard = await client.publish(
                    topic, message.body, message.metadata, content_type=_CONTENT_TYPE, retain=self._retain
                )
        except DeliveryError as error:
            error.request = request
            raise
        return Receipt(code="ack", response={"subscribers": heard}, request=request)

    async def verify(self) -> None:
        """Sign in, and have the broker answer."""
        async with self._link.use() as client:
            await client.ping()

    async def close(self) -> None:
        await self._link.close()


def _checked(topic: str) -> str:
    """The topic, if it can be published to: no wildcards (section 4.7.3)."""
    if len(topic.encode()) > _LONGEST_TOPIC or not _TOPIC.fullmatch(topic):
        sentence = f"{topic[:100]!r} is not a topic that can be published to"
        raise DeliveryError("invalid_topic", sentence, retryable=False)
    return topic
