from __future__ import annotations

import asyncio

import pytest

from tests.destinations.aws_kit import connected, destination, lent, sns
from tests.destinations.messages import ODD_BODY, message, said_of
from tests.servers.moto import REGION, Moto
from waypost.connect import fields
from waypost.connect.once import delivery_id
from waypost.core.errors import DeliveryError
from waypost.destinations.aws_sns import AwsSnsType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

KIND = AwsSnsType()
TOPIC = "arn:aws:sns:eu-west-1:123456789012:events"


async def test_the_message_is_the_data_byte_for_byte(moto: Moto) -> None:
    outlet = sns(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message(trace="Grüße & <more>"))
    (arrived,) = outlet.read(1)
    assert arrived.data == ODD_BODY
    assert arrived.metadata["trace"] == "Grüße & <more>"
    assert set(said_of(receipt, messages=1)) == {"message_id"}


async def test_subscriptions_can_filter_by_topic_and_id(moto: Moto) -> None:
    outlet = sns(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(event_id="evt_7", topic="order.paid"))
    (arrived,) = outlet.read(1)
    assert (arrived.extra["topic"], arrived.extra["event-id"]) == ("order.paid", "evt_7")


async def test_a_fifo_topic_gets_group_and_deduplication_ids(moto: Moto) -> None:
    outlet = sns(moto, fifo=True, message_group_id_template="data.customer")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message(b'{"customer": "c1"}', event_id="evt_1"))
        await connection.send(message(b"{}", event_id="evt_2"))
    arrived = {each.metadata["event-id"]: each.extra for each in outlet.read(2)}
    assert arrived["evt_1"]["MessageGroupId"] == "c1"
    assert arrived["evt_1"]["MessageDeduplicationId"] == delivery_id(
        1, message(b'{"customer": "c1"}', event_id="evt_1")
    )
    assert arrived["evt_2"]["MessageGroupId"] == "order.created"
    assert receipt.response is not None


async def test_an_oversized_message_fails_alone(moto: Moto) -> None:
    outlet = sns(moto)
    large = b'{"x":"' + b"x" * 300_000 + b'"}'
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        results = await asyncio.gather(
            connection.send(message(event_id="evt_1")),
            connection.send(message(large, event_id="evt_2")),
            connection.send(message(event_id="evt_3")),
            return_exceptions=True,
        )
    error = results[1]
    assert isinstance(error, DeliveryError)
    assert (error.code, error.retryable) == ("message_too_large", False)
    assert {each.metadata["event-id"] for each in outlet.read(3)} == {"evt_1", "evt_3"}


@pytest.mark.parametrize(
    "arn", ["events", "arn:aws:sqs:eu-west-1:123456789012:events", "arn:aws:sns:eu-west-1:1:events", f"{TOPIC}:sub"]
)
def test_what_is_no_topic_arn(arn: str) -> None:
    (problem,) = fields.problems(KIND.config_fields, {"topic_arn": arn, "region": REGION}, where="config")
    assert problem == "config.topic_arn failed pattern validation: the ARN of an SNS topic"


async def test_the_region_is_the_topics() -> None:
    async with lent() as tools:
        values = {"topic_arn": TOPIC, "region": "eu-west-2"}
        assert KIND.check(values, {"key": "a", "secret": "b"}, tools) == [
            "config.region must be the region in config.topic_arn"
        ]


async def test_a_wrong_template() -> None:
    async with lent() as tools:
        values = {"topic_arn": TOPIC, "region": REGION, "message_group_id_template": "topic"}
        assert KIND.check(values, {"key": "a", "secret": "b"}, tools) == [
            "config.message_group_id_template is only for FIFO, where names end with .fifo"
        ]


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-west-1", "https://sns.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "https://sns.us-gov-west-1.amazonaws.com"),
        ("cn-northwest-1", "https://sns.cn-northwest-1.amazonaws.com.cn"),
        ("us-iso-east-1", "https://sns.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "https://sns.us-isob-east-1.sc2s.sgov.gov"),
        ("eusc-de-east-1", "https://sns.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_endpoints(region: str, url: str) -> None:
    assert KIND.endpoint({"region": region}).url == url
    assert KIND.endpoint({"region": region}).of_aws


def test_the_target_is_the_topic() -> None:
    assert KIND.target(destination(KIND, {"topic_arn": TOPIC, "region": REGION}, {})) == (TOPIC, None)
