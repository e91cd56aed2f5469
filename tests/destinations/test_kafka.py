from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

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
from tests.servers.kafka import PASSWORD, STRANGER, UNREACHABLE, USER, Kafka
from waypost.destinations.kafka import KafkaType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("kafka")]

KIND = KafkaType()
CREDENTIALS = {"username": USER, "password": PASSWORD}
_numbers = itertools.count()


def open_config(kafka: Kafka, topic: str, **more: str) -> dict[str, str]:
    return {"brokers": kafka.plaintext, "topic": topic, "sasl_mechanism": "none", "tls": "false", **more}


@asynccontextmanager
async def topic_of(kafka: Kafka, *, partitions: int = 1, settings: dict[str, str] | None = None) -> AsyncIterator[str]:
    name = f"events-{next(_numbers)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.plaintext)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings or {})])
        assert [error[1] for error in answer.topic_errors] == [0]
        yield name
    finally:
        await admin.close()


async def records(kafka: Kafka, topic: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.plaintext, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_record_arrives_byte_for_byte(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic, connected(KIND, open_config(kafka, topic)) as connection:
        receipt = await connection.send(message(region="Süd"))
        (record,) = await records(kafka, topic, 1)
    assert record.value == ODD_BODY
    assert record.key == b"evt_1"
    assert {name: value.decode() for name, value in record.headers} == {
        "region": "Süd",
        "event-id": "evt_1",
        "topic": "order.created",
        "timestamp": "2024-01-01T12:00:00Z",
    }
    assert receipt.code == "ack"
    assert receipt.response == {"topic": topic, "partition": 0, "offset": 0}


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256", "scram-sha-512"])
@pytest.mark.parametrize("tls", [False, True])
async def test_signs_in(kafka: Kafka, authority: Authority, mechanism: str, tls: bool) -> None:
    async with topic_of(kafka) as topic:
        config = {"topic": topic, "sasl_mechanism": mechanism}
        config |= {"brokers": kafka.sasl, "tls": "false"}
        if tls:
            config |= {"brokers": kafka.tls, "tls": "true", "ca_certificate": authority.ca}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await connection.verify()
            receipt = await connection.send(message())
    assert receipt.response == {"topic": topic, "partition": 0, "offset": 0}


@pytest.mark.parametrize("mechanism", ["plain", "scram-sha-256"])
async def test_wrong_password(kafka: Kafka, mechanism: str) -> None:
    config = {"brokers": kafka.sasl, "topic": "events", "sasl_mechanism": mechanism, "tls": "false"}
    async with connected(KIND, config, {"username": USER, "password": "not-the-Secret-8"}) as connection:
        error = await refused(connection.send(message()), "bad_credentials", secret="not-the-Secret-8")
        assert not error.retryable
        assert kafka.sasl in error.sentence
        await refused(connection.verify(), "bad_credentials", secret="not-the-Secret-8")


async def test_a_certificate_of_another_authority(kafka: Kafka) -> None:
    config = {"brokers": kafka.tls, "topic": "events", "sasl_mechanism": "plain", "tls": "true"}
    async with connected(KIND, config, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)


async def test_a_certificate_for_another_name(kafka: Kafka, authority: Authority) -> None:
    """The certificate is for localhost: neither the bare address nor another name of it will do."""
    port = kafka.tls.rpartition(":")[2]
    config = {"topic": "events", "sasl_mechanism": "plain", "tls": "true", "ca_certificate": authority.ca}
    lent = tools(addresses={"other.example.com": ("127.0.0.1",)})
    for host in ("127.0.0.1", "other.example.com"):
        async with connected(KIND, config | {"brokers": f"{host}:{port}"}, CREDENTIALS, lent) as connection:
            error = await refused(connection.verify(), "tls_error")
            assert "not valid for" in error.sentence or "mismatch" in error.sentence


async def test_a_missing_topic(kafka: Kafka) -> None:
    async with connected(KIND, open_config(kafka, "no-such-topic")) as connection:
        error = await refused(connection.send(message()), "no_such_topic")
        assert "no-such-topic" in error.sentence
        await refused(connection.verify(), "no_such_topic")


async def test_a_user_who_may_not_write(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic:
        config = {"brokers": kafka.sasl, "topic": topic, "sasl_mechanism": "plain", "tls": "false"}
        async with connected(KIND, config, {"username": STRANGER, "password": PASSWORD}) as connection:
            error = await refused(connection.send(message()), "access_denied", secret=PASSWORD)
    assert not error.retryable


async def test_too_large_for_the_topic(kafka: Kafka) -> None:
    """A refused message must not stand in the way of the others, those on their way at the same time included."""
    settings = {"max.message.bytes": "2000"}
    async with topic_of(kafka, settings=settings) as topic, connected(KIND, open_config(kafka, topic)) as connection:
        others = [asyncio.create_task(deliver(connection, message(event_id=f"e{n}"))) for n in range(20)]
        error = await refused(connection.send(message(b'{"x":"' + b"y" * 5_000 + b'"}')), "message_too_large")
        await asyncio.gather(*others)
        await connection.send(message(event_id="last"))
        found = await records(kafka, topic, 21)
    assert not error.retryable
    assert error.request is not None
    assert error.request["size"] == 5_008
    assert {record.key.decode() for record in found} == {f"e{n}" for n in range(20)} | {"last"}


async def test_too_large_to_be_sent(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic:
        lent = tools(kafka_max_message_bytes=1_000)
        async with connected(KIND, open_config(kafka, topic), lent=lent) as connection:
            await connection.send(message())
            await refused(connection.send(message(b"[" + b"1," * 1_000 + b"1]")), "message_too_large")
            receipt = await connection.send(message())
    assert (receipt.response or {})["offset"] == 1


async def test_the_key_decides_the_partition(kafka: Kafka) -> None:
    async with topic_of(kafka, partitions=4) as topic:
        config = open_config(kafka, topic, partition_key_template="data.customer")
        async with connected(KIND, config) as connection:
            bodies = [b'{"customer": "c%d"}' % (number % 5) for number in range(20)]
            await asyncio.gather(*(connection.send(message(body)) for body in bodies))
            await connection.send(message(b'{"customer": null}', event_id="evt_lost"))
        found = await records(kafka, topic, 21)
    partitions: dict[bytes, set[int]] = {}
    for record in found:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert set(partitions) == {b"c0", b"c1", b"c2", b"c3", b"c4", b"evt_lost"}
    assert all(len(places) == 1 for places in partitions.values())


async def test_many_at_once(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic, connected(KIND, open_config(kafka, topic)) as connection:
        receipts = await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
        found = await records(kafka, topic, 200)
    assert {record.key.decode() for record in found} == {f"e{n}" for n in range(200)}
    assert {(receipt.response or {})["offset"] for receipt in receipts} == set(range(200))


async def test_cancelled_sends_leave_the_connection_usable(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic, connected(KIND, open_config(kafka, topic)) as connection:
        await cancelled_while_sending(connection, [message(event_id=f"gone-{n}") for n in range(20)])
        await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(5)))
        last = await connection.send(message(event_id="last"))
        found = await records(kafka, topic, (last.response or {})["offset"] + 1)
    assert [record.key.decode() for record in found if not record.key.startswith(b"gone")][-1] == "last"


@pytest.mark.slow
async def test_nothing_is_lost_when_the_broker_goes_away(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic:
        lent = tools(kafka_timeout=5.0)
        async with connected(KIND, open_config(kafka, topic), lent=lent) as connection:
            messages = [message(event_id=f"e{n}") for n in range(60)]
            await deliver_through_an_outage(connection, messages, kafka.server.kill, kafka.server.start)
            last = await connection.send(message(event_id="last"))
        found = await records(kafka, topic, (last.response or {})["offset"] + 1)
    assert {record.key.decode() for record in found} == {f"e{n}" for n in range(60)} | {"last"}


async def test_a_broker_that_is_not_there(kafka: Kafka) -> None:
    config = open_config(kafka, "events") | {"brokers": "127.0.0.1:1"}
    async with connected(KIND, config) as connection:
        error = await refused(connection.send(message()), "connection_refused")
        assert error.retryable


async def test_the_second_bootstrap_server_is_tried(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic:
        config = open_config(kafka, topic) | {"brokers": f"127.0.0.1:1, {kafka.plaintext}"}
        async with connected(KIND, config) as connection:
            await connection.send(message())


async def test_a_broker_that_advertises_a_forbidden_address(kafka: Kafka) -> None:
    config = open_config(kafka, "events") | {"brokers": kafka.lost}
    async with connected(KIND, config) as connection:
        error = await refused(connection.send(message()), "blocked_address")
        assert UNREACHABLE in error.sentence
        assert "The cluster says" in error.sentence
        await refused(connection.verify(), "blocked_address")


async def test_forbidden_bootstrap_servers(kafka: Kafka) -> None:
    config = open_config(kafka, "events")
    strict = tools(local=False, addresses={"inside.example.com": ("93.184.216.34", "10.0.0.1")})
    (problem,) = KIND.check(config, {}, strict)
    assert problem.startswith("config.brokers is not allowed: 127.0.0.1 is a loopback address")
    for brokers in (kafka.plaintext, "inside.example.com:9092", "localhost:9092"):
        connection = await KIND.connect(destination(KIND, config | {"brokers": brokers}, {}), strict)
        await refused(connection.send(message()), "blocked_address")
        await connection.close()


async def test_a_closed_connection_sends_nothing(kafka: Kafka) -> None:
    async with topic_of(kafka) as topic, connected(KIND, open_config(kafka, topic)) as connection:
        await connection.send(message())
        await connection.close()
        await refused(connection.send(message()), "connection_closed")


async def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"brokers": "a:1", "topic": "t", "sasl_mechanism": "none"}
    await assert_names_missing_extra(KIND, config, monkeypatch, "aiokafka", "waypost.net.kafka")


GOOD = {"brokers": "broker.example.com:9092", "topic": "events", "sasl_mechanism": "none"}


@pytest.mark.parametrize(
    ("changes", "credentials", "sentence"),
    [
        ({"brokers": ""}, {}, "config.brokers is required"),
        ({"brokers": "https://broker"}, {}, "config.brokers must be host:port"),
        ({"brokers": "a:9092,,b:9092"}, {}, "config.brokers must have a host before the port"),
        ({"brokers": "a:99999"}, {}, "config.brokers must have a port between 1 and 65535"),
        ({"brokers": "169.254.169.254:80"}, {}, "config.brokers is not allowed"),
        ({"topic": "a b"}, {}, "config.topic failed pattern validation"),
        ({"topic": ".."}, {}, "config.topic must not be . or .."),
        ({"sasl_mechanism": "gssapi"}, {}, "config.sasl_mechanism must be one of"),
        ({"sasl_mechanism": "plain"}, {"username": "u"}, "credentials.password is required"),
        ({"tls": "yes"}, {}, "config.tls must be one of: true, false"),
        ({"ca_certificate": "-----BEGIN"}, {}, "config.ca_certificate must be one or more certificates"),
        ({"partition_key_template": "customer"}, {}, "config.partition_key_template must start from one of"),
        ({"acks": "0"}, {}, "config.acks is not a field"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, str], credentials: dict[str, str], sentence: str) -> None:
    assert any(problem.startswith(sentence) for problem in complaints(KIND, GOOD | changes, credentials))


def test_what_can_be_saved() -> None:
    assert complaints(KIND, GOOD, {}) == []
    assert KIND.target(destination(KIND, GOOD, {})) == ("events at broker.example.com:9092", None)
