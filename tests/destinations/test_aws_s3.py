from __future__ import annotations

import hashlib
from base64 import b64encode
from email.header import decode_header, make_header
from typing import Any

import pytest

from tests.destinations.aws_kit import connected, destination, gate_to, lent, s3, through
from tests.destinations.messages import ODD_BODY, message
from tests.servers.moto import REGION, Moto
from waypost.connect import fields
from waypost.core.errors import DeliveryError
from waypost.destinations.aws_s3 import AwsS3Type

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("moto")]

KIND = AwsS3Type()


async def test_an_object_is_the_data_byte_for_byte(moto: Moto) -> None:
    outlet = s3(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message())
    (arrived,) = outlet.read(1)
    assert arrived.data == ODD_BODY
    assert arrived.extra["Key"] == "order.created/2024-01-01/evt_1.json"
    assert arrived.extra["ContentType"] == "application/json"
    assert receipt.response is not None
    assert receipt.response["key"] == "order.created/2024-01-01/evt_1.json"
    assert receipt.response["etag"] == hashlib.md5(ODD_BODY).hexdigest()


async def test_an_event_that_is_sent_again_replaces_its_object(moto: Moto) -> None:
    outlet = s3(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message())
        await connection.send(message())
    assert len(outlet.read(2)) == 1


@pytest.mark.parametrize(
    ("event_id", "key"),
    [
        ("evt 1", "evt 1"),
        ("a/b//c", "a/b//c"),
        ("ü✓", "ü✓"),
        ("a+b&c=d?e#f%41", "a+b&c=d?e#f%41"),
        ("~'()*!$@:;,", "~'()*!$@:;,"),
        ("dots...", "dots..."),
    ],
)
async def test_keys_of_any_characters(moto: Moto, event_id: str, key: str) -> None:
    outlet = s3(moto, key_template="{{id}}")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(event_id=event_id))
    assert [each.extra["Key"] for each in outlet.read(1)] == [key]


async def test_the_key_by_template(moto: Moto) -> None:
    outlet = s3(moto, key_template="{{data.shop}}/{{time.year}}/{{id}}.json")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(b'{"shop": "north"}'))
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message(b"{}"))
    assert (caught.value.code, caught.value.retryable) == ("template_failed", False)
    assert [each.extra["Key"] for each in outlet.read(1)] == ["north/2024/evt_1.json"]


@pytest.mark.parametrize("event_id", ["../other", "a/./b", "..", "x" * 1_025])
async def test_keys_that_cannot_be(moto: Moto, event_id: str) -> None:
    outlet = s3(moto, key_template="{{id}}")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message(event_id=event_id))
    assert (caught.value.code, caught.value.retryable) == ("invalid_key", False)
    assert outlet.read(1) == []


async def test_metadata_that_no_header_could_have(moto: Moto) -> None:
    outlet = s3(moto)
    more: dict[str, Any] = {"Trace Id": "abc", "greeting": "Grüße", "lines": "one\r\ntwo", "empty": ""}
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(**more))
    (arrived,) = outlet.read(1)
    assert arrived.metadata["trace-id"] == "abc"
    assert str(make_header(decode_header(arrived.metadata["greeting"]))) == "Grüße"
    assert arrived.metadata["lines"] == "one  two"
    assert arrived.metadata.get("empty", "") == ""


async def test_a_checksum_goes_with_the_object(moto: Moto) -> None:
    """Buckets with Object Lock ask for one; Moto keeps it only for clients that announce an algorithm."""
    outlet = s3(moto)
    async with (
        gate_to(moto.server.port) as gate,
        connected(KIND, through(gate, outlet), moto.sender.credentials) as connection,
    ):
        await connection.send(message())
    checksum = b64encode(hashlib.sha256(ODD_BODY).digest())
    assert b"\r\nx-amz-checksum-sha256: " + checksum + b"\r\n" in gate.seen


async def test_the_storage_class(moto: Moto) -> None:
    outlet = s3(moto, storage_class="STANDARD_IA")
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message())
    assert [each.extra["StorageClass"] for each in outlet.read(1)] == ["STANDARD_IA"]


async def test_a_large_object(moto: Moto) -> None:
    large = b'{"x":"' + b"x" * 3_000_000 + b'"}'
    outlet = s3(moto)
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        await connection.send(message(large))
    assert [each.data for each in outlet.read(1)] == [large]


async def test_a_bucket_with_dots(moto: Moto) -> None:
    bucket = "dots.in.a.name"
    moto.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    values = {"bucket": bucket, "region": REGION, "endpoint": moto.url}
    async with connected(KIND, values, moto.sender.credentials) as connection:
        await connection.verify()
        await connection.send(message())


async def test_a_versioned_bucket(moto: Moto) -> None:
    outlet = s3(moto)
    moto.client("s3").put_bucket_versioning(
        Bucket=outlet.config["bucket"], VersioningConfiguration={"Status": "Enabled"}
    )
    async with connected(KIND, outlet.config, moto.sender.credentials) as connection:
        receipt = await connection.send(message())
    assert receipt.response is not None
    assert receipt.response["version_id"] == outlet.read(1)[0].extra["VersionId"]


@pytest.mark.parametrize(
    ("bucket", "region", "url"),
    [
        ("plain", "eu-west-1", "https://plain.s3.eu-west-1.amazonaws.com"),
        ("with.dots", "eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ("plain", "cn-north-1", "https://plain.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_endpoints(bucket: str, region: str, url: str) -> None:
    assert KIND.endpoint({"bucket": bucket, "region": region}).url == url


@pytest.mark.parametrize(
    ("key", "value"),
    [("bucket", "a"), ("bucket", "Upper"), ("bucket", "a/b"), ("bucket", "a.evil.example#"), ("storage_class", "WARM")],
)
def test_values_that_are_refused(key: str, value: str) -> None:
    values = {"bucket": "plain", "region": REGION, key: value}
    (problem,) = fields.problems(KIND.config_fields, values, where="config")
    assert problem.startswith(f"config.{key} ")


async def test_a_wrong_template() -> None:
    async with lent() as tools:
        values = {"bucket": "plain", "region": REGION, "key_template": "{{data"}
        assert KIND.check(values, {"key": "a", "secret": "b"}, tools) == [
            "config.key_template must close every {{ with }}"
        ]


def test_the_target_names_bucket_and_region() -> None:
    assert KIND.target(destination(KIND, {"bucket": "b", "region": REGION}, {})) == ("b (eu-west-1)", None)
