from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.destinations.messages import ODD_BODY, message
from tests.destinations.seam import (
    cancelled_while_sending,
    complaints,
    connected,
    deliver,
    deliver_through_an_outage,
    destination,
    refused,
    tools,
)
from tests.servers.authority import Authority
from tests.servers.mqtt import LARGEST_PACKET, PASSWORD, STRANGER, USER, Mqtt
from waypost.destinations.mqtt import MqttType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("mqtt")]

KIND = MqttType()
CREDENTIALS = {"username": USER, "password": PASSWORD}
_numbers = itertools.count()


class Reader:
    """A subscriber whose session outlives its connections, and the broker's restart."""

    def __init__(self, mqtt: Mqtt, topic: str) -> None:
        self._mqtt = mqtt
        self._topic = topic
        self._id = f"reader-{next(_numbers)}"

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[aiomqtt.Client]:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho has it
        properties.SessionExpiryInterval = 3600
        async with aiomqtt.Client(
            "127.0.0.1",
            self._mqtt.server.port,
            username=USER,
            password=PASSWORD,
            identifier=self._id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
        ) as client:
            yield client

    async def subscribe(self) -> None:
        async with self._client() as client:
            await client.subscribe(self._topic, qos=1)

    async def messages(self, last: str) -> list[Any]:
        """All messages up to the one with this event id."""
        found: list[Any] = []
        async with asyncio.timeout(20), self._client() as client:
            async for sent in client.messages:
                found.append(sent)
                if event_id(sent) == last:
                    break
        return found


def event_id(sent: Any) -> str:
    return str(dict(sent.properties.UserProperty)["event-id"])


@asynccontextmanager
async def topic_of(mqtt: Mqtt) -> AsyncIterator[tuple[str, Reader]]:
    topic = f"events/{next(_numbers)}"
    reader = Reader(mqtt, f"{topic}/#")
    await reader.subscribe()
    yield topic, reader


def config_of(mqtt: Mqtt, topic: str, **more: str) -> dict[str, str]:
    return {"server": mqtt.plain, "topic_template": topic + "/{{topic}}", "tls": "false", **more}


async def test_a_message_arrives_byte_for_byte(mqtt: Mqtt) -> None:
    async with topic_of(mqtt) as (topic, reader):
        async with connected(KIND, config_of(mqtt, topic), CREDENTIALS) as connection:
            receipt = await connection.send(message(region="Süd"))
        (sent,) = await reader.messages("evt_1")
    assert sent.payload == ODD_BODY
    assert sent.topic.value == f"{topic}/order.created"
    assert sent.qos == 1
    assert not sent.retain
    assert sent.properties.ContentType == "application/json"
    assert dict(sent.properties.UserProperty) == {
        "region": "Süd",
        "event-id": "evt_1",
        "topic": "order.created",
        "timestamp": "2024-01-01T12:00:00Z",
    }
    assert receipt.code == "ack"
    assert receipt.response == {"subscribers": True}


async def test_nobody_has_subscribed(mqtt: Mqtt) -> None:
    async with connected(KIND, config_of(mqtt, "nobody"), CREDENTIALS) as connection:
        receipt = await connection.send(message())
    assert receipt.response == {"subscribers": False}


async def test_retained(mqtt: Mqtt) -> None:
    topic = f"retained/{next(_numbers)}"
    async with connected(KIND, config_of(mqtt, topic, retain="true"), CREDENTIALS) as connection:
        await connection.send(message(event_id="e1"))
        await connection.send(message(event_id="e2"))
    reader = Reader(mqtt, f"{topic}/#")
    await reader.subscribe()
    (sent,) = await reader.messages("e2")
    assert sent.retain


async def test_over_tls(mqtt: Mqtt, authority: Authority) -> None:
    async with topic_of(mqtt) as (topic, reader):
        config = config_of(mqtt, topic) | {"server": mqtt.tls, "tls": "true", "ca_certificate": authority.ca}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await connection.verify()
            await connection.send(message())
        assert len(await reader.messages("evt_1")) == 1


async def test_the_certificate_is_verified(mqtt: Mqtt, authority: Authority) -> None:
    port = mqtt.tls.rpartition(":")[2]
    async with connected(KIND, {"server": mqtt.tls}, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)
    config = {"server": f"127.0.0.1:{port}", "ca_certificate": authority.ca}
    async with connected(KIND, config, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)


async def test_no_tls_where_it_is_wanted(mqtt: Mqtt) -> None:
    async with connected(KIND, {"server": mqtt.tls, "tls": "false"}, CREDENTIALS) as connection:
        await refused(connection.verify(), "connection_reset", secret=PASSWORD)


async def test_wrong_credentials(mqtt: Mqtt) -> None:
    for credentials in ({"username": USER, "password": "not-the-Secret-8"}, {}):
        async with connected(KIND, config_of(mqtt, "events"), credentials) as connection:
            error = await refused(connection.send(message()), "bad_credentials", secret="not-the-Secret-8")
            assert not error.retryable
            await refused(connection.verify(), "bad_credentials", secret="not-the-Secret-8")


async def test_a_topic_that_the_user_may_not_publish_to(mqtt: Mqtt) -> None:
    credentials = {"username": STRANGER, "password": PASSWORD}
    async with connected(KIND, config_of(mqtt, "events"), credentials) as connection:
        await connection.verify()
        error = await refused(connection.send(message()), "access_denied", secret=PASSWORD)
        assert not error.retryable


async def test_too_large(mqtt: Mqtt) -> None:
    async with topic_of(mqtt) as (topic, reader):
        async with connected(KIND, config_of(mqtt, topic), CREDENTIALS) as connection:
            others = [asyncio.create_task(deliver(connection, message(event_id=f"e{n}"))) for n in range(10)]
            large = message(b'{"x":"' + b"y" * LARGEST_PACKET + b'"}')
            await refused(deliver(connection, large), "message_too_large")
            await asyncio.gather(*others)
            await deliver(connection, message(event_id="last"))
        found = await reader.messages("last")
    assert {event_id(sent) for sent in found} == {f"e{n}" for n in range(10)} | {"last"}


@pytest.mark.parametrize("topic", ["a/+", "#", "a/#"])
async def test_a_topic_that_is_none(mqtt: Mqtt, topic: str) -> None:
    config = config_of(mqtt, "") | {"topic_template": "data.topic"}
    async with connected(KIND, config, CREDENTIALS) as connection:
        await refused(connection.send(message(json.dumps({"topic": topic}).encode())), "invalid_topic")


async def test_metadata_too_long_for_a_property(mqtt: Mqtt) -> None:
    async with connected(KIND, config_of(mqtt, "events"), CREDENTIALS) as connection:
        await refused(connection.send(message(long="x" * 70_000)), "message_too_large")
        await connection.send(message(odd="a\x00b"))


async def test_many_at_once(mqtt: Mqtt) -> None:
    """More than the broker takes at a time (20 by default)."""
    async with topic_of(mqtt) as (topic, reader):
        async with connected(KIND, config_of(mqtt, topic), CREDENTIALS) as connection:
            await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
            await connection.send(message(event_id="last"))
        found = await reader.messages("last")
    assert [event_id(sent) for sent in found] == [*(f"e{n}" for n in range(200)), "last"]


async def test_cancelled_sends_leave_the_connection_usable(mqtt: Mqtt) -> None:
    async with topic_of(mqtt) as (topic, reader):
        async with connected(KIND, config_of(mqtt, topic), CREDENTIALS) as connection:
            await connection.send(message())
            for _ in range(3):
                await cancelled_while_sending(connection, [message(event_id=f"gone-{n}") for n in range(20)])
            await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(50)))
            await connection.send(message(event_id="last"))
        found = {event_id(sent) for sent in await reader.messages("last")}
    assert found >= {f"e{n}" for n in range(50)}


async def test_nothing_is_lost_when_the_broker_goes_away(mqtt: Mqtt) -> None:
    async with topic_of(mqtt) as (topic, reader):
        async with connected(KIND, config_of(mqtt, topic), CREDENTIALS) as connection:
            messages = [message(event_id=f"e{n}") for n in range(60)]
            await deliver_through_an_outage(connection, messages, mqtt.server.stop, mqtt.server.start)
            await deliver(connection, message(event_id="last"))
        found = {event_id(sent) for sent in await reader.messages("last")}
    assert found == {f"e{n}" for n in range(60)} | {"last"}


async def test_a_client_id_that_another_takes_over(mqtt: Mqtt) -> None:
    """The broker hangs up on the first when the second connects; both go on by connecting again."""
    config = config_of(mqtt, "events", client_id="the-only-one")
    async with connected(KIND, config, CREDENTIALS) as first, connected(KIND, config, CREDENTIALS) as second:
        for _ in range(3):
            await deliver(first, message())
            await deliver(second, message())


async def test_a_broker_that_is_not_there() -> None:
    async with connected(KIND, {"server": "127.0.0.1:1", "tls": "false"}) as connection:
        assert (await refused(connection.send(message()), "connection_refused")).retryable


async def test_a_server_that_speaks_something_else() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n" * 10)
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        config = {"server": f"127.0.0.1:{other.sockets[0].getsockname()[1]}", "tls": "false"}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await refused(connection.send(message()), "protocol_error", secret=PASSWORD)


async def test_forbidden_addresses(mqtt: Mqtt) -> None:
    strict = tools(local=False, addresses={"inside.example.com": ("93.184.216.34", "10.0.0.1")})
    config = config_of(mqtt, "events")
    (problem,) = KIND.check(config, CREDENTIALS, strict)
    assert problem.startswith("config.server is not allowed: 127.0.0.1 is a loopback address")
    for server in (mqtt.plain, "inside.example.com", "localhost:1883"):
        connection = await KIND.connect(destination(KIND, config | {"server": server}, CREDENTIALS), strict)
        await refused(connection.send(message()), "blocked_address", secret=PASSWORD)
        await connection.close()


async def test_a_closed_connection_sends_nothing(mqtt: Mqtt) -> None:
    async with connected(KIND, config_of(mqtt, "events"), CREDENTIALS) as connection:
        await connection.send(message())
        await connection.close()
        await refused(connection.send(message()), "connection_closed")


GOOD = {"server": "mqtt.example.com"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"server": ""}, "config.server is required"),
        ({"server": "mqtt://host"}, "config.server must be host:port"),
        ({"server": "a,b"}, "config.server must be one server"),
        ({"server": "192.168.1.1"}, "config.server is not allowed"),
        ({"topic_template": "events/x"}, "config.topic_template must"),
        ({"retain": "1"}, "config.retain must be one of"),
        ({"qos": "0"}, "config.qos is not a field"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, str], sentence: str) -> None:
    assert any(problem.startswith(sentence) for problem in complaints(KIND, GOOD | changes, {}))


def test_what_can_be_saved() -> None:
    assert complaints(KIND, GOOD, {}) == []
    assert KIND.target(destination(KIND, GOOD, {})) == ("mqtt.example.com", None)
