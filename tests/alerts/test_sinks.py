"""Operator events into queues: the destination types as alert channels, against the real servers."""

from __future__ import annotations

from typing import Any

import aiormq
import msgspec
import pytest

from tests.alerts.kit import NOON, local_tools, notice
from tests.destinations.aws_kit import sqs
from tests.destinations.rest import tools_for
from tests.destinations.seam import tools
from tests.destinations.test_gcp_pubsub import Google
from tests.destinations.test_gcp_pubsub import google as google  # noqa: PLC0414  a fixture
from tests.destinations.test_rabbitmq import exchange_of, queued
from tests.servers.google import service_account
from tests.servers.moto import Moto
from tests.servers.pubsub import PROJECT
from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ
from waypost.connect.connector import Tools
from waypost.connect.registry import Registry
from waypost.connect.relay import channel_types
from waypost.core.alerts import Channel

pytestmark = pytest.mark.server

TYPES = channel_types({}, Registry.discover())


async def send(kind: str, config: dict[str, str], credentials: dict[str, str], lent: Tools) -> Any:
    """Tell a channel of that type; the envelope that has to arrive there."""
    channel = Channel(
        no=1,
        id="chn_1",
        owner=None,
        type=kind,
        name="queue",
        config=config,
        credentials=credentials,
        created_at=NOON,
        updated_at=NOON,
    )
    news = notice()
    connection = await TYPES[kind].connect(channel, lent)
    await connection.send(news)
    await connection.close()
    return msgspec.json.decode(news.envelope)


@pytest.mark.xdist_group("moto")
async def test_sqs(moto: Moto) -> None:
    outlet = sqs(moto)
    async with local_tools() as lent:
        wanted = await send("aws_sqs", outlet.config, moto.sender.credentials, lent)
    (arrived,) = outlet.read(1)
    assert msgspec.json.decode(arrived.data) == wanted
    assert arrived.metadata["topic"] == "alert.destination.consecutive_failure"


@pytest.mark.xdist_group("rabbitmq")
async def test_rabbitmq(rabbitmq: RabbitMQ) -> None:
    async with exchange_of(rabbitmq, binding="alert.#") as exchange:
        config = {"server_url": rabbitmq.plain, "exchange": exchange}
        wanted = await send("rabbitmq", config, {"username": USER, "password": PASSWORD}, tools())
        (arrived,) = await queued(rabbitmq, exchange)
    assert msgspec.json.decode(arrived.body) == wanted
    assert isinstance(arrived.delivery, aiormq.spec.Basic.GetOk)
    assert arrived.delivery.routing_key == "alert.destination.consecutive_failure"


@pytest.mark.xdist_group("pubsub")
@pytest.mark.timeout(600)
async def test_pubsub(google: Google) -> None:
    config = {"project_id": PROJECT, "topic": google.topic, "endpoint": google.server.url}
    credentials = {"service_account_json": service_account(google.door.token_uri)}
    lent = tools_for(google.authority.ca_file)
    await lent.http.start()
    try:
        wanted = await send("gcp_pubsub", config, credentials, lent)
    finally:
        await lent.http.close()
    [pulled] = google.pubsub.pull(google.topic, 1)
    assert msgspec.json.decode(pulled.data) == wanted
    assert pulled.attributes["topic"] == "alert.destination.consecutive_failure"
