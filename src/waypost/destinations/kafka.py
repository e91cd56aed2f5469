"""Apache Kafka and what speaks its protocol: a record in a topic, acknowledged by all in-sync replicas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field, Option
from waypost.connect.link import Link, import_aside, timeout_of
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, event_id, template_problems
from waypost.connect.tls import tls_context, tls_fields, tls_problems
from waypost.core.errors import DeliveryError, SettingsError
from waypost.core.model import Destination
from waypost.net.hosts import host_problems, parse_hosts

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

    from waypost.net.kafka import Producer, Settings

_DEFAULT_PORT = 9092
_DEFAULT_LARGEST = 1 << 20
_MECHANISMS = {
    "none": None,
    "plain": "PLAIN",
    "scram-sha-256": "SCRAM-SHA-256",
    "scram-sha-512": "SCRAM-SHA-512",
}
_LONGEST_CREDENTIAL = 1_024


class KafkaType(DestinationType):
    type: ClassVar[str] = "kafka"
    label: ClassVar[str] = "Apache Kafka"
    description: ClassVar[str] = "Send events as records to a topic of your Kafka cluster."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round"><path d="M4 6h12M4 12h16M4 18h9"/><circle cx="19" cy="6" r="1"/>'
        '<circle cx="16" cy="18" r="1"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Create the topic. Waypost does not, but a cluster with `auto.create.topics.enable` may do so by itself.
2. Make the brokers reachable from the internet **under the addresses they advertise** (`advertised.listeners`): the
   bootstrap servers send a client on to those. Private addresses are refused.
3. Create a user and allow it to write, no more:

   ```
   kafka-acls.sh --bootstrap-server HOST:9092 --add --allow-principal User:waypost \\
     --operation Write --operation Describe --topic TOPIC
   ```

4. Turn on TLS unless the network is your own; SASL `plain` sends the password readably without it.

An event arrives as one record. Its value is the event's data, byte for byte. Its headers are the metadata, among them
`event-id`, `topic` and `timestamp`. Its key is the event's id, or what the partition key template finds: records with
the same key keep their order. A record is acknowledged when all in-sync replicas have it. It can arrive more than once,
so look at `event-id`.
"""
    extra: ClassVar[str | None] = "kafka"
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="brokers",
            label="Brokers",
            description="The bootstrap servers, host:port, separated by commas.",
            locates=True,
            required=True,
            maxlength=2_048,
            placeholder="broker-1.example.com:9092,broker-2.example.com:9092",
        ),
        Field(
            key="topic",
            label="Topic",
            description="The Kafka topic to write to.",
            required=True,
            maxlength=249,
            pattern=r"[a-zA-Z0-9._\-]+",
            pattern_hint="letters, digits, dots, underscores and hyphens",
            placeholder="events",
        ),
        Field(
            key="sasl_mechanism",
            label="SASL mechanism",
            description="How to sign in; none for a cluster without authentication.",
            type="select",
            required=True,
            default="scram-sha-512",
            options=(
                Option("PLAIN", "plain"),
                Option("SCRAM-SHA-256", "scram-sha-256"),
                Option("SCRAM-SHA-512", "scram-sha-512"),
                Option("None", "none"),
            ),
        ),
        *tls_fields(default=True),
        Field(
            key="partition_key_template",
            label="Partition key template",
            description="What the record's key is: JMESPath over id, topic, time, metadata and data. The event's id "
            "when left out, or when the event lacks what the template asks for.",
            maxlength=LONGEST_TEMPLATE,
            placeholder="data.customer_id",
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="username",
            label="User name",
            description="The SASL user; left out with mechanism none.",
            maxlength=_LONGEST_CREDENTIAL,
        ),
        Field(
            key="password",
            label="Password",
            description="The SASL user's password; left out with mechanism none.",
            sensitive=True,
            maxlength=_LONGEST_CREDENTIAL,
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return [
            *host_problems("config.brokers", config.get("brokers", ""), tools.guard, default_port=_DEFAULT_PORT),
            *_topic_problems(config.get("topic")),
            *tls_problems(config),
            *template_problems("config.partition_key_template", config.get("partition_key_template")),
            *_credential_problems(config.get("sasl_mechanism", "none"), credentials),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return f"{destination.config['topic']} at {destination.config['brokers']}", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        try:
            await import_aside("waypost.net.kafka")
            from waypost.net.kafka import Settings  # noqa: PLC0415 - the library is optional
        except ImportError as error:
            raise self.missing_extra() from error
        config, credentials = destination.config, destination.credentials
        timeout = timeout_of(tools.options, self.type)
        settings = Settings(
            servers=parse_hosts(config["brokers"], default_port=_DEFAULT_PORT),
            resolver=tools.resolver,
            tls=await tls_context(config, default=True),
            sasl_mechanism=_MECHANISMS[config["sasl_mechanism"]],
            username=credentials.get("username", ""),
            password=credentials.get("password", ""),
            timeout=timeout,
            largest_request=_largest_of(tools.options),
            bounds=tools.bounds,
        )
        return KafkaConnection(settings, config["topic"], _key_of(config.get("partition_key_template")), timeout)


def _topic_problems(topic: str | None) -> list[str]:
    return ["config.topic must not be . or .."] if topic in {".", ".."} else []


def _credential_problems(mechanism: str, credentials: Mapping[str, str]) -> list[str]:
    if mechanism == "none":
        return []
    wanted = [key for key in ("username", "password") if not credentials.get(key)]
    return [f"credentials.{key} is required with sasl_mechanism {mechanism}" for key in wanted]


def _largest_of(options: Mapping[str, Any]) -> int:
    """The largest record that is sent at all, in bytes: the option `kafka_max_message_bytes`."""
    value = options.get("kafka_max_message_bytes", _DEFAULT_LARGEST)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError("kafka_max_message_bytes must be a number of bytes above 0")
    return value


def _key_of(template: str | None) -> Template:
    if not template:
        return event_id
    try:
        return compile_template(template, field="partition_key_template", otherwise=event_id)
    except ValueError as error:
        raise DeliveryError("configuration_error", f"The partition key template {error}", retryable=False) from error


class KafkaConnection:
    """Writes to one topic by one producer, which puts concurrent records into common batches.

    What the cluster finds too large is tried once more in a batch of its own.
    """

    def __init__(self, settings: Settings, topic: str, key: Template, timeout: float) -> None:
        self._settings = settings
        self._topic = topic
        self._key = key
        self._together = Link(settings.name, partial(self._open, alone=False), timeout=timeout)
        self._alone = Link(settings.name, partial(self._open, alone=True), timeout=timeout)

    async def send(self, message: Message) -> Receipt:
        key = self._key(message)
        request = {"topic": self._topic, "key": key, "headers": message.metadata, "size": len(message.body)}
        try:
            record = await self._write(key, message)
        except DeliveryError as error:
            error.request = request
            raise
        answer = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        return Receipt(code="ack", response=answer, request=request)

    async def verify(self) -> None:
        """Sign in and look for the topic."""
        async with self._together.use() as producer:
            await producer.look()

    async def close(self) -> None:
        await self._together.close()
        await self._alone.close()

    async def _write(self, key: str, message: Message) -> RecordMetadata:
        from waypost.net.kafka import BatchTooLarge  # noqa: PLC0415 - the library is optional

        headers = [(name, value.encode()) for name, value in message.metadata.items()]
        try:
            async with self._together.use() as producer:
                return await producer.send(key.encode(), message.body, headers)
        except BatchTooLarge:
            async with self._alone.use() as producer:
                return await producer.send(key.encode(), message.body, headers)

    async def _open(self, *, alone: bool) -> Producer:
        from waypost.net.kafka import Producer  # noqa: PLC0415 - the library is optional

        producer = Producer(self._settings, self._topic, alone=alone)
        await producer.start()
        return producer
