from __future__ import annotations

import asyncio

import pytest

from tests.destinations.aws_kit import connected, destination, gate_to, kinesis, lent, through
from tests.destinations.messages import ODD_BODY, message, said_of
from tests.servers.moto import REGION, Moto
from waypost.core.errors import DeliveryError
from waypost.destinations.aws_kinesis import AwsKinesisType
from waypost.net.http import HttpSettings

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

KIND = AwsKinesisType()


async def test_a_record_has_the_data_byte_for_byte(moto: Moto) -> None:
    outlet = kinesis(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message(trace="Grüße"))
    (arrived,) = outlet.read(1)
    assert arrived.data == ODD_BODY
    assert arrived.metadata["trace"] == "Grüße"
    assert arrived.extra["PartitionKey"] == "evt_1"
    assert said_of(receipt, messages=1) == {
        "sequence_number": arrived.extra["SequenceNumber"],
        "shard_id": "shardId-000000000000",
    }


async def test_the_partition_key_by_template(moto: Moto) -> None:
    outlet = kinesis(moto, partition_key_template="data.customer")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(b'{"customer": 42}', event_id="evt_1"))
        await connection.send(message(b"{}", event_id="evt_2"))
        await connection.send(message(b'{"customer": "%b"}' % (b"k" * 300), event_id="evt_3"))
    keys = {each.metadata["event-id"]: each.extra["PartitionKey"] for each in outlet.read(3)}
    assert keys == {"evt_1": "42", "evt_2": "evt_2", "evt_3": "k" * 256}


async def test_events_spread_over_the_shards(moto: Moto) -> None:
    outlet = kinesis(moto, shards=2)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        sends = (connection.send(message(event_id=f"evt_{n}")) for n in range(40))
        receipts = await asyncio.gather(*sends)
    assert {receipt.response["shard_id"] for receipt in receipts if receipt.response} == {
        "shardId-000000000000",
        "shardId-000000000001",
    }
    assert len(outlet.read(40)) == 40


async def test_an_oversized_record_fails_alone(moto: Moto) -> None:
    outlet = kinesis(moto)
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
    assert not error.retryable
    assert {each.metadata["event-id"] for each in outlet.read(3)} == {"evt_1", "evt_3"}


async def test_batches_are_no_larger_than_answers_that_are_kept_whole(moto: Moto) -> None:
    outlet = kinesis(moto)
    async with gate_to(moto.server.port) as gate, lent(http=HttpSettings(body_cap=2_048)) as tools:
        connection = await KIND.connect(destination(KIND, through(gate, outlet), moto.sender.credentials), tools)
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(64)))
        assert gate.seen.count(b"POST / HTTP") == 8
    assert len(outlet.read(64)) == 64


async def test_a_wrong_template() -> None:
    async with lent() as tools:
        values = {"stream_name": "s", "region": REGION, "partition_key_template": "data["}
        (problem,) = KIND.check(values, {"key": "a", "secret": "b"}, tools)
    assert problem.startswith("config.partition_key_template must be a JMESPath expression")


def test_the_target_names_stream_and_region() -> None:
    assert KIND.target(destination(KIND, {"stream_name": "s", "region": REGION}, {})) == ("s (eu-west-1)", None)
