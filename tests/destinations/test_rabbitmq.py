from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage

from tests.destinations.messages import ODD_BODY, message
from tests.destinations.seam import (
    assert_names_missing_extra,
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
from tests.servers.rabbitmq import LARGEST_MESSAGE, LIMITED, PASSWORD, USER, RabbitMQ
from waypost.destinations.rabbitmq import RabbitMQType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("rabbitmq")]

KIND = RabbitMQType()
CREDENTIALS = {"username": USER, "password": PASSWORD}
_numbers = itertools.count()


@asynccontextmanager
async def channel_of(rabbitmq: RabbitMQ) -> AsyncIterator[AbstractChannel]:
    connection = aiormq.Connection(rabbitmq.url)
    await connection.connect()
    try:
        yield await connection.channel()
    finally:
        await connection.close()


@asynccontextmanager
async def exchange_of(rabbitmq: RabbitMQ, binding: str = "#") -> AsyncIterator[str]:
    """A durable topic exchange and a durable queue of the same name, bound to it."""
    name = f"events-{next(_numbers)}"
    async with channel_of(rabbitmq) as channel:
        await channel.exchange_declare(name, exchange_type="topic", durable=True)
        await channel.queue_declare(name, durable=True)
        await channel.queue_bind(name, name, routing_key=binding)
    yield name


async def queued(rabbitmq: RabbitMQ, queue: str) -> list[DeliveredMessage]:
    found = []
    async with channel_of(rabbitmq) as channel:
        while (sent := await channel.basic_get(queue, no_ack=True)).delivery_tag:
            found.append(sent)
    return found


async def event_ids(rabbitmq: RabbitMQ, queue: str) -> list[str]:
    return [str(sent.header.properties.message_id) for sent in await queued(rabbitmq, queue)]


def config_of(rabbitmq: RabbitMQ, exchange: str, **more: str) -> dict[str, str]:
    return {"server_url": rabbitmq.plain, "exchange": exchange, **more}


async def test_a_message_arrives_byte_for_byte(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq, "order.*") as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            receipt = await connection.send(message(region="Süd"))
        (sent,) = await queued(rabbitmq, exchange)
    properties = sent.header.properties
    assert sent.body == ODD_BODY
    assert sent.routing_key == "order.created"
    assert properties.headers == {
        "region": "Süd",
        "event-id": "evt_1",
        "topic": "order.created",
        "timestamp": "2024-01-01T12:00:00Z",
    }
    assert (properties.message_id, properties.message_type, properties.app_id) == ("evt_1", "order.created", "waypost")
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert receipt.code == "ack"
    assert receipt.response == {"confirmed": True}


async def test_the_routing_key_by_a_template(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq, "*.de") as exchange:
        config = config_of(rabbitmq, exchange, routing_key_template="{{id}}.{{data.country}}")
        async with connected(KIND, config, CREDENTIALS) as connection:
            await connection.send(message(b'{"country": "de"}'))
            await refused(connection.send(message(b'{"country": "fr"}')), "unroutable")
            await refused(connection.send(message(b"{}")), "template_failed")
            await refused(connection.send(message(b'{"country": "%b"}' % (b"x" * 300))), "invalid_routing_key")
        assert await event_ids(rabbitmq, exchange) == ["evt_1"]


async def test_no_queue_wants_it(rabbitmq: RabbitMQ) -> None:
    """Two of the same event at once, which the library alone would mix up."""
    async with exchange_of(rabbitmq, "invoice.*") as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            errors = await asyncio.gather(*(refused(connection.send(message()), "unroutable") for _ in range(5)))
            assert not any(error.retryable for error in errors)
            wanted = [connection.send(message(event_id=f"e{n}", topic="invoice.paid")) for n in range(5)]
            await asyncio.gather(refused(connection.send(message()), "unroutable"), *wanted)
        assert sorted(await event_ids(rabbitmq, exchange)) == [f"e{n}" for n in range(5)]


async def test_over_tls(rabbitmq: RabbitMQ, authority: Authority) -> None:
    async with exchange_of(rabbitmq) as exchange:
        config = config_of(rabbitmq, exchange, tls="true", ca_certificate=authority.ca) | {"server_url": rabbitmq.tls}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await connection.verify()
            await connection.send(message())
        assert await event_ids(rabbitmq, exchange) == ["evt_1"]


async def test_the_certificate_is_verified(rabbitmq: RabbitMQ, authority: Authority) -> None:
    port = rabbitmq.tls.rpartition(":")[2]
    config = config_of(rabbitmq, "events", tls="true")
    async with connected(KIND, config | {"server_url": rabbitmq.tls}, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)
    trusting = config | {"ca_certificate": authority.ca, "server_url": f"127.0.0.1:{port}"}
    async with connected(KIND, trusting, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)


async def test_wrong_credentials(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    credentials = {"username": USER, "password": "not-the-Secret-8"}
    async with connected(KIND, config_of(rabbitmq, "events"), credentials) as connection:
        error = await refused(connection.send(message()), "bad_credentials", secret="not-the-Secret-8")
        assert not error.retryable
        await refused(connection.verify(), "bad_credentials", secret="not-the-Secret-8")
    assert "not-the-Secret-8" not in caplog.text


async def test_a_user_who_may_write_to_one_exchange(rabbitmq: RabbitMQ) -> None:
    """The permissions that the instructions recommend suffice, also to verify."""
    credentials = {"username": LIMITED, "password": PASSWORD}
    async with exchange_of(rabbitmq) as other, channel_of(rabbitmq) as channel:
        await channel.exchange_declare("allowed", exchange_type="fanout", durable=True)
        await channel.queue_declare("allowed", durable=True)
        await channel.queue_bind("allowed", "allowed")
        async with connected(KIND, config_of(rabbitmq, "allowed"), credentials) as connection:
            await connection.verify()
            await connection.send(message())
        async with connected(KIND, config_of(rabbitmq, other), credentials) as connection:
            await refused(connection.send(message()), "access_denied", secret=PASSWORD)


async def test_a_missing_exchange(rabbitmq: RabbitMQ) -> None:
    async with connected(KIND, config_of(rabbitmq, "no-such-exchange"), CREDENTIALS) as connection:
        error = await refused(connection.send(message()), "no_such_exchange")
        assert not error.retryable
        await refused(connection.verify(), "no_such_exchange")


async def test_a_missing_virtual_host(rabbitmq: RabbitMQ) -> None:
    config = config_of(rabbitmq, "events", vhost="no/such")
    async with connected(KIND, config, CREDENTIALS) as connection:
        await refused(connection.send(message()), "access_denied", secret=PASSWORD)


async def test_too_large(rabbitmq: RabbitMQ) -> None:
    """The server closes the channel over it, at times the connection, which costs the others no more than a retry."""
    async with exchange_of(rabbitmq) as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            others = [asyncio.create_task(deliver(connection, message(event_id=f"e{n}"))) for n in range(20)]
            large = message(b'{"x":"' + b"y" * LARGEST_MESSAGE + b'"}', event_id="large")
            error = await refused(deliver(connection, large), "message_too_large")
            assert not error.retryable
            await asyncio.gather(*others)
            await deliver(connection, message(event_id="last"))
        assert set(await event_ids(rabbitmq, exchange)) == {f"e{n}" for n in range(20)} | {"last"}


async def test_a_queue_that_is_full_says_no(rabbitmq: RabbitMQ) -> None:
    name = f"full-{next(_numbers)}"
    async with channel_of(rabbitmq) as channel:
        await channel.exchange_declare(name, exchange_type="fanout")
        await channel.queue_declare(name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.queue_bind(name, name)
        async with connected(KIND, config_of(rabbitmq, name), CREDENTIALS) as connection:
            await connection.send(message())
            error = await refused(connection.send(message(event_id="evt_2")), "unavailable")
            assert error.retryable


async def test_many_at_once(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq) as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
        assert sorted(await event_ids(rabbitmq, exchange)) == sorted(f"e{n}" for n in range(200))


async def test_cancelled_sends_leave_the_connection_usable(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq) as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            await cancelled_while_sending(connection, [message(event_id=f"gone-{n}") for n in range(30)])
            await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(20)))
        assert set(await event_ids(rabbitmq, exchange)) >= {f"e{n}" for n in range(20)}


@pytest.mark.slow
async def test_nothing_is_lost_when_the_server_goes_away(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq) as exchange:
        async with connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as connection:
            messages = [message(event_id=f"e{n}") for n in range(60)]
            await deliver_through_an_outage(connection, messages, rabbitmq.server.stop, rabbitmq.server.start)
            await deliver(connection, message(event_id="last"))
        assert set(await event_ids(rabbitmq, exchange)) == {f"e{n}" for n in range(60)} | {"last"}


async def test_a_server_that_is_not_there(rabbitmq: RabbitMQ) -> None:
    config = config_of(rabbitmq, "events") | {"server_url": "127.0.0.1:1"}
    async with connected(KIND, config, CREDENTIALS) as connection:
        assert (await refused(connection.send(message()), "connection_refused")).retryable


async def test_a_server_of_another_version(rabbitmq: RabbitMQ) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"AMQP\x00\x01\x00\x00")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        config = config_of(rabbitmq, "events") | {"server_url": f"127.0.0.1:{other.sockets[0].getsockname()[1]}"}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await refused(connection.send(message()), "protocol_error", secret=PASSWORD)


async def test_forbidden_addresses(rabbitmq: RabbitMQ) -> None:
    strict = tools(local=False, addresses={"inside.example.com": ("93.184.216.34", "10.0.0.1")})
    config = config_of(rabbitmq, "events")
    (problem,) = KIND.check(config, CREDENTIALS, strict)
    assert problem.startswith("config.server_url is not allowed: 127.0.0.1 is a loopback address")
    for server in (rabbitmq.plain, "inside.example.com", "localhost:5672"):
        connection = await KIND.connect(destination(KIND, config | {"server_url": server}, CREDENTIALS), strict)
        await refused(connection.send(message()), "blocked_address", secret=PASSWORD)
        await connection.close()


async def test_a_closed_connection_sends_nothing(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq) as exchange, connected(KIND, config_of(rabbitmq, exchange), CREDENTIALS) as sender:
        await sender.send(message())
        await sender.close()
        await refused(sender.send(message()), "connection_closed")


async def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"server_url": "a:1", "exchange": "e"}
    await assert_names_missing_extra(KIND, config, monkeypatch, "aiormq", "waypost.net.rabbitmq")


GOOD = {"server_url": "rabbitmq.example.com:5671", "exchange": "events"}


@pytest.mark.parametrize(
    ("changes", "credentials", "sentence"),
    [
        ({"server_url": ""}, CREDENTIALS, "config.server_url is required"),
        ({"server_url": "amqp://host:5672"}, CREDENTIALS, "config.server_url must be host:port"),
        ({"server_url": "a:1,b:2"}, CREDENTIALS, "config.server_url must be one server"),
        ({"server_url": "0x7f.1:5672"}, CREDENTIALS, "config.server_url is not allowed"),
        ({"exchange": ""}, CREDENTIALS, "config.exchange is required"),
        ({"routing_key_template": "data.["}, CREDENTIALS, "config.routing_key_template must be a JMESPath expression"),
        ({}, {"username": "u"}, "credentials.password is required"),
        ({"queue": "q"}, CREDENTIALS, "config.queue is not a field"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, str], credentials: dict[str, str], sentence: str) -> None:
    lent = tools(local=False)
    assert any(problem.startswith(sentence) for problem in complaints(KIND, GOOD | changes, credentials, lent))


def test_what_can_be_saved() -> None:
    assert complaints(KIND, GOOD, CREDENTIALS) == []
    assert KIND.target(destination(KIND, GOOD, {})) == ("events at rabbitmq.example.com:5671", None)
