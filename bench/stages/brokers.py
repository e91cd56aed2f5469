"""Message brokers: the real servers that the tests use, started by the same code (`tests/servers`).

They run on this machine and take CPU of their own beside the sender. Their limits are those of the tests: the smallest
takes messages of 64 KiB.
"""

# ruff: noqa: PLC0415 - the clients and the tests' servers are imported when their stage is set, so that no other needs them

from __future__ import annotations

import asyncio
import contextlib
import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.stages import Stage, StageOf, Unavailable

if TYPE_CHECKING:
    from tests.servers.kafka import Kafka
    from tests.servers.mqtt import Mqtt
    from tests.servers.nats import Nats
    from tests.servers.rabbitmq import RabbitMQ
    from tests.servers.redis import Redis

_NAME = "bench"
"""Of the topic, exchange, queue, stream or subject."""


def _kafka(server: Kafka) -> Stage:
    asyncio.run(_create_topic(server.plaintext))
    config = {"brokers": server.plaintext, "topic": _NAME, "sasl_mechanism": "none", "tls": "false"}
    return Stage(config=config, credentials={}, server="Apache Kafka, one node, one partition")


async def _create_topic(brokers: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(_NAME, 1, 1)])
    finally:
        await admin.close()


def _rabbitmq(server: RabbitMQ) -> Stage:
    from tests.servers.rabbitmq import PASSWORD, USER

    asyncio.run(_bind_queue(server.url))
    credentials = {"username": USER, "password": PASSWORD}
    config = {"server_url": server.plain, "exchange": _NAME}
    return Stage(config=config, credentials=credentials, server="RabbitMQ, one durable queue")


async def _bind_queue(url: str) -> None:
    import aiormq

    connection = aiormq.Connection(url)
    await connection.connect()
    try:
        channel = await connection.channel()
        await channel.exchange_declare(_NAME, exchange_type="topic", durable=True)
        await channel.queue_declare(_NAME, durable=True)
        await channel.queue_bind(_NAME, _NAME, routing_key="#")
    finally:
        await connection.close()


def _nats(server: Nats) -> Stage:
    from tests.servers.nats import PASSWORD, USER

    credentials = {"username": USER, "password": PASSWORD}
    asyncio.run(_add_stream(server.plain, USER, PASSWORD))
    config = {"servers": server.plain, "subject_template": f"{_NAME}.{{{{topic}}}}", "tls": "false"}
    return Stage(config=config, credentials=credentials, server="NATS, one stream on disk")


async def _add_stream(address: str, user: str, password: str) -> None:
    import nats
    from nats.js.api import StreamConfig

    client = await nats.connect(f"nats://{address}", user=user, password=password)
    try:
        # every round sends the same event ids: the shortest window lets the stream store them again
        await client.jetstream().add_stream(StreamConfig(name=_NAME, subjects=[f"{_NAME}.>"], duplicate_window=0.1))
    finally:
        await client.close()


def _redis(server: Redis) -> Stage:
    from tests.servers.redis import PASSWORD

    config = {"server": server.plain, "stream": _NAME, "tls": "false"}
    return Stage(config=config, credentials={"password": PASSWORD}, server="Redis, appendfsync always")


def _mqtt(server: Mqtt) -> Stage:
    from tests.servers.mqtt import PASSWORD, USER

    config = {"server": server.plain, "tls": "false"}
    credentials = {"username": USER, "password": PASSWORD}
    return Stage(config=config, credentials=credentials, server="Mosquitto, nobody subscribed")


def _on(module: str, prepare: Callable[[Any], Stage]) -> StageOf:
    """A stage on the server of a module of `tests.servers`, prepared for being sent to."""

    @contextlib.contextmanager
    def stage() -> Iterator[Stage]:
        with contextlib.ExitStack() as stack:
            try:
                prepared = prepare(_start(module, stack))
            except ImportError as error:
                raise Unavailable(f"missing: {error.name} (a development dependency)") from error
            yield prepared

    return stage


def _start(module: str, stack: contextlib.ExitStack) -> Any:
    """The running server, which ends with the stack. Raises Unavailable, or ImportError without what the tests need."""
    import pytest
    from tests.servers.authority import make_authority

    running = importlib.import_module(f"tests.servers.{module}").running
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
    try:
        return stack.enter_context(running(make_authority(folder), folder))
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        raise Unavailable(str(reason)) from None


STAGES: dict[str, StageOf] = {
    "kafka": _on("kafka", _kafka),
    "rabbitmq": _on("rabbitmq", _rabbitmq),
    "nats": _on("nats", _nats),
    "redis": _on("redis", _redis),
    "mqtt": _on("mqtt", _mqtt),
}
