from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest

from tests.destinations.aws_kit import connected, destination, eventbridge, gate_to, lent, through
from tests.destinations.messages import NOON, ODD_BODY, message
from tests.servers.moto import REGION, Moto
from waypost.connect import fields
from waypost.core.errors import DeliveryError
from waypost.core.model import SECOND
from waypost.destinations.aws_eventbridge import AwsEventBridgeType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

KIND = AwsEventBridgeType()


async def test_an_event_on_the_bus(moto: Moto) -> None:
    outlet = eventbridge(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message(topic="order.paid"))
    (arrived,) = outlet.read(1)
    assert arrived.extra["detail-type"] == "order.paid"
    assert arrived.extra["source"] == "waypost"
    assert datetime.fromisoformat(arrived.extra["time"]).timestamp() == NOON / SECOND
    assert receipt.response is not None
    assert receipt.response["event_id"]


async def test_the_detail_leaves_waypost_byte_for_byte(moto: Moto) -> None:
    """EventBridge itself rewrites JSON, so that the bytes are looked at on their way."""
    outlet = eventbridge(moto)
    async with (
        gate_to(moto.server.port) as gate,
        connected(KIND, through(gate, outlet), moto.sender.credentials) as connection,
    ):
        await connection.send(message())
    body = gate.seen.partition(b"\r\n\r\n")[2]
    detail = json.loads(body)["Entries"][0]["Detail"].encode()
    assert detail.endswith(b',"data":' + ODD_BODY + b"}")
    assert json.loads(detail)["metadata"] == message().metadata


@pytest.mark.parametrize(
    ("config", "options", "source"),
    [
        ({}, {"aws_eventbridge_source": "shop"}, "shop"),
        ({"source": "com.example"}, {"aws_eventbridge_source": "shop"}, "com.example"),
    ],
)
async def test_the_source(moto: Moto, config: dict[str, str], options: dict[str, str], source: str) -> None:
    outlet = eventbridge(moto, **config)
    async with connected(KIND, outlet.config, moto.sender.credentials, **options) as connection:
        await connection.send(message())
    assert [each.extra["source"] for each in outlet.read(1)] == [source]


async def test_a_bus_by_its_arn(moto: Moto) -> None:
    outlet = eventbridge(moto)
    arn = f"arn:aws:events:{REGION}:123456789012:event-bus/{outlet.config['event_bus_name']}"
    async with connected(KIND, {**outlet.config, "event_bus_name": arn}, moto.sender.credentials) as connection:
        await connection.send(message())
    assert len(outlet.read(1)) == 1


async def test_the_default_bus(moto: Moto) -> None:
    values = {"region": REGION, "endpoint": moto.url}
    async with connected(KIND, values, moto.sender.credentials) as connection:
        await connection.verify()
        receipt = await connection.send(message())
    assert receipt.code == "200"


async def test_one_entry_that_is_refused_leaves_the_others_alone(moto: Moto) -> None:
    """Data that is not JSON, which is never published, is what Moto refuses; AWS has more reasons."""
    outlet = eventbridge(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        results = await asyncio.gather(
            connection.send(message(event_id="evt_1")),
            connection.send(message(b'{"not": json}', event_id="evt_2")),
            connection.send(message(event_id="evt_3")),
            return_exceptions=True,
        )
    error = results[1]
    assert isinstance(error, DeliveryError)
    assert (error.code, error.retryable) == ("invalid_request", False)
    assert error.response is not None
    assert error.response["error"] == "MalformedDetail"
    assert {each.metadata["event-id"] for each in outlet.read(3)} == {"evt_1", "evt_3"}


async def test_a_long_topic_is_cut_for_the_detail_type(moto: Moto) -> None:
    outlet = eventbridge(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(topic="t" * 255))
    (arrived,) = outlet.read(1)
    assert arrived.extra["detail-type"] == "t" * 128
    assert arrived.metadata["topic"] == "t" * 255


@pytest.mark.parametrize(
    ("key", "value"), [("source", "aws.mine"), ("source", "a b"), ("event_bus_name", "a b"), ("event_bus_name", "ü")]
)
def test_values_that_are_refused(key: str, value: str) -> None:
    (problem,) = fields.problems(KIND.config_fields, {"region": REGION, key: value}, where="config")
    assert problem.startswith(f"config.{key} failed pattern validation")


async def test_the_region_is_the_buses() -> None:
    async with lent() as tools:
        values = {"region": "eu-west-2", "event_bus_name": "arn:aws:events:eu-west-1:123456789012:event-bus/b"}
        assert KIND.check(values, {"key": "a", "secret": "b"}, tools) == [
            "config.region must be the region in config.event_bus_name"
        ]


def test_the_target_names_bus_and_region() -> None:
    assert KIND.target(destination(KIND, {"region": REGION}, {})) == ("default (eu-west-1)", None)
    assert KIND.target(destination(KIND, {"region": REGION, "event_bus_name": "b"}, {})) == ("b (eu-west-1)", None)
