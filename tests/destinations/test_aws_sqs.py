from __future__ import annotations

import asyncio
import json

import pytest
from msgspec import structs

from tests.destinations.aws_kit import connected, destination, lent, sqs
from tests.destinations.messages import ODD_BODY, message, said_of
from tests.servers.moto import REGION, Moto
from waypost.connect import fields
from waypost.connect.once import delivery_id
from waypost.core.errors import DeliveryError
from waypost.destinations.aws_sqs import AwsSqsType
from waypost.net.guard import AddressGuard

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

KIND = AwsSqsType()
PUBLIC = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"


async def test_the_body_is_the_data_byte_for_byte(moto: Moto) -> None:
    outlet = sqs(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message(trace="Grüße"))
    (arrived,) = outlet.read(1)
    assert arrived.data == ODD_BODY
    assert arrived.metadata["trace"] == "Grüße"
    assert set(said_of(receipt, messages=1)) == {"message_id"}


async def test_a_queue_url_of_a_stand_in(moto: Moto) -> None:
    queue = moto.queue()
    values = {"queue_url": queue, "region": REGION}
    async with connected(KIND, values, moto.sender.credentials) as connection:
        await connection.verify()
        await connection.send(message())
    assert [each["Body"].encode() for each in moto.received(queue, 1)] == [ODD_BODY]


async def test_a_fifo_queue_gets_group_and_deduplication_ids(moto: Moto) -> None:
    outlet = sqs(moto, fifo=True)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        first = await connection.send(message(event_id="evt_1", topic="order.created"))
        again = await connection.send(message(event_id="evt_1", topic="order.created"))
        await connection.send(message(event_id="evt_2", topic="order.paid"))
    arrived = {each.metadata["event-id"]: each for each in outlet.read(3)}
    assert {name: each.extra["MessageGroupId"] for name, each in arrived.items()} == {
        "evt_1": "order.created",
        "evt_2": "order.paid",
    }
    assert arrived["evt_1"].extra["MessageDeduplicationId"] == delivery_id(1, message(event_id="evt_1"))
    assert first.response is not None
    assert again.response is not None
    assert first.response["sequence_number"]


async def test_destinations_and_tenants_share_a_fifo_queue(moto: Moto) -> None:
    """One event to two destinations, and another tenant's event of the same id: each arrives."""
    outlet = sqs(moto, fifo=True)
    sent = message(event_id="order-1001")
    foreign = structs.replace(sent, event=structs.replace(sent.event, seq=sent.event.seq + 1, tenant_id="zeta"))
    async with lent() as tools:
        for no, each in ((1, sent), (1, sent), (2, sent), (3, foreign)):
            to = structs.replace(destination(KIND, outlet.config, moto.sender.credentials), no=no)
            connection = await KIND.connect(to, tools)
            await connection.send(each)
            await connection.close()
    assert len(outlet.read(4)) == 3


async def test_a_fifo_queue_keeps_the_order_of_what_is_sent_at_once(moto: Moto) -> None:
    outlet = sqs(moto, fifo=True)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(9)))
    assert [each.metadata["event-id"] for each in outlet.read(9)] == [f"evt_{n}" for n in range(9)]


async def test_the_message_group_by_template(moto: Moto) -> None:
    outlet = sqs(moto, fifo=True, message_group_id_template="data.customer")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(b'{"customer": 42}', event_id="evt_1"))
        await connection.send(message(b"{}", event_id="evt_2"))
        await connection.send(message('{"customer": "Jürgen"}'.encode(), event_id="evt 3"))
    arrived = {each.metadata["event-id"]: each.extra for each in outlet.read(3)}
    assert arrived["evt_1"]["MessageGroupId"] == "42"
    assert arrived["evt_2"]["MessageGroupId"] == "order.created"
    assert len(arrived["evt 3"]["MessageGroupId"]) == 64


async def test_an_oversized_message_fails_alone(moto: Moto) -> None:
    outlet = sqs(moto)
    large = b'{"x":"' + b"x" * 1_100_000 + b'"}'
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


async def test_a_message_that_the_queue_does_not_take_fails_alone(moto: Moto) -> None:
    """The second message is larger than this queue allows; as one batch with the others, all would be refused."""
    outlet = sqs(moto)
    name = outlet.config["queue_url"].rpartition("/")[2]
    url = moto.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    moto.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        results = await asyncio.gather(
            *(
                connection.send(message(b'{"x":"' + b"x" * size + b'"}', event_id=f"evt_{size}"))
                for size in (1, 2000, 3)
            ),
            return_exceptions=True,
        )
    error = results[1]
    assert isinstance(error, DeliveryError)
    assert (error.code, error.retryable) == ("message_too_large", False)
    assert {each.metadata["event-id"] for each in outlet.read(3)} == {"evt_1", "evt_3"}


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.us-west-2.amazonaws.com/123456789012/q", "us-west-2"),
        ("https://us-west-2.queue.amazonaws.com/123456789012/q", "us-west-2"),
        ("https://queue.amazonaws.com/123456789012/q", "us-east-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/q.fifo", "us-gov-west-1"),
        ("https://sqs.eu-central-1.api.aws/123456789012/q", "eu-central-1"),
        ("https://vpce-0a1b-xyz.sqs.eu-west-3.vpce.amazonaws.com/123456789012/q", "eu-west-3"),
        ("http://localhost:4566/000000000000/q", "us-east-1"),
    ],
)
def test_the_region_of_a_queue(url: str, region: str) -> None:
    assert fields.problems(KIND.config_fields, {"queue_url": url}, where="config") == []
    assert KIND.region({"queue_url": url}) == region
    assert KIND.region({"queue_url": url, "region": "ap-south-1"}) == "ap-south-1"
    assert KIND.endpoint({"queue_url": url}).url == url.partition("/1")[0].partition("/0")[0]


@pytest.mark.parametrize(
    "url",
    [
        "sqs.us-west-2.amazonaws.com/1/q",
        "https://sqs.us-west-2.amazonaws.com",
        "https://sqs.us-west-2.amazonaws.com/1/",
        "https://sqs.us-west-2.amazonaws.com/1/q?x=y",
        "https://sqs.us-west-2.amazonaws.com/1/q.other",
    ],
)
def test_what_is_no_queue_url(url: str) -> None:
    (problem,) = fields.problems(KIND.config_fields, {"queue_url": url}, where="config")
    assert problem == "config.queue_url failed pattern validation: a URL that ends with the name of a queue"


async def test_a_queue_url_is_guarded() -> None:
    async with lent(AddressGuard()) as tools:
        for url in ("http://127.0.0.1:4566/1/q", "http://[::ffff:10.0.0.1]/1/q"):
            (problem,) = KIND.check({"queue_url": url}, {"key": "a", "secret": "b"}, tools)
            assert problem.startswith("config.queue_url is not allowed")
        (problem,) = KIND.check({"queue_url": "http://u:p@example.com/1/q"}, {"key": "a", "secret": "b"}, tools)
        assert problem == "config.queue_url must not contain a user name or password"


@pytest.mark.parametrize(
    ("url", "template", "problem"),
    [
        (PUBLIC, "topic", "is only for FIFO, where names end with .fifo"),
        (PUBLIC + ".fifo", "data.", "must be a JMESPath expression"),
        (PUBLIC + ".fifo", "payload", "must start from one of"),
    ],
)
async def test_a_wrong_template(url: str, template: str, problem: str) -> None:
    async with lent() as tools:
        values = {"queue_url": url, "message_group_id_template": template}
        (found,) = KIND.check(values, {"key": "a", "secret": "b"}, tools)
    assert found.startswith(f"config.message_group_id_template {problem}")


def test_the_target_is_the_queues_name() -> None:
    assert KIND.target(destination(KIND, {"queue_url": PUBLIC}, {})) == ("q", None)


def test_a_tenant_cannot_send_the_machines_token_to_a_host_of_its_own() -> None:
    values = {"queue_url": "https://sqs.eu-west-1.amazonaws.com.evil.example/1/q"}
    assert KIND.foreign_problems(values) == [
        "config.queue_url must be on a host of AWS where credentials.key is left out"
    ]
    assert KIND.foreign_problems({"queue_url": PUBLIC}) == []
    assert KIND.foreign_problems({}) == []


def test_the_policy_in_the_instructions_names_the_actions() -> None:
    shown = KIND.instructions.partition("```json\n")[2].partition("```")[0]
    assert json.loads(shown)["Statement"][0]["Action"] == ["sqs:SendMessage", "sqs:GetQueueAttributes"]
