"""Amazon Kinesis Data Streams: metadata and data as one record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

from waypost.connect.aws import ENDPOINT_FIELD, REGION_FIELD, ROLE_FIELDS, AwsType, batch_limits
from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.envelope import enveloped
from waypost.connect.fields import Field
from waypost.connect.record import receipts
from waypost.connect.template import Template, compile_template, event_id, template_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.aws.client import AwsClient
from waypost.net.aws.errors import Fault, Service

_KINESIS = Service(
    name="kinesis", host="kinesis", label="Amazon Kinesis", thing="data stream", missing="no_such_stream"
)
_VERSION = "1.1"
_PUT = "kinesis:PutRecords"
_LOOK = "kinesis:DescribeStreamSummary (which only verifying needs)"
_BATCH = {"count": 500, "size": 4 * 1024 * 1024}
"""Kinesis takes 500 records and 10 MiB in a call (5 MiB until 2025), partition keys included."""
_LONGEST_KEY = 256


class AwsKinesisType(AwsType):
    type: ClassVar[str] = "aws_kinesis"
    label: ClassVar[str] = "Amazon Kinesis"
    description: ClassVar[str] = "Put events as records into a stream of Amazon Kinesis Data Streams."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<path d="M2 7c4-4 6 4 10 0s6 4 10 0M2 13c4-4 6 4 10 0s6 4 10 0M2 19c4-4 6 4 10 0s6 4 10 0"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Create a data stream in Amazon Kinesis.
2. Create an access key for an IAM user, or a role to assume, that may write to it:

```json
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["kinesis:PutRecords", "kinesis:DescribeStreamSummary"],
   "Resource": "<ARN of the stream>"}
]}
```

`kinesis:DescribeStreamSummary` is only used to verify the destination. A stream that is encrypted with a KMS key of
yours also needs `kms:GenerateDataKey` for that key.

A record is the JSON document `{"metadata": {...}, "data": ...}`. The metadata are text values, with `event-id`, `topic`
and `timestamp` among them. The partition key is the event's id, which spreads events over all shards, unless a template
says otherwise. An event can arrive more than once: recognise it by `metadata.event-id`.
"""
    service: ClassVar[Service] = _KINESIS
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="stream_name",
            label="Stream",
            description="The name of the data stream.",
            required=True,
            maxlength=128,
            pattern=r"[A-Za-z0-9_.-]+",
            pattern_hint="letters, digits and . _ -",
            placeholder="events",
        ),
        REGION_FIELD,
        Field(
            key="partition_key_template",
            label="Partition key template",
            description="What the partition key is made of. Default, also where it finds nothing: the event's id.",
            advanced=True,
            placeholder="data.customer.id",
        ),
        ENDPOINT_FIELD,
        *ROLE_FIELDS,
    )

    def own_problems(self, config: dict[str, str]) -> list[str]:
        return template_problems("config.partition_key_template", config.get("partition_key_template"))

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return f"{destination.config['stream_name']} ({destination.config['region']})", None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        template = destination.config.get("partition_key_template")
        return KinesisConnection(
            await self.client(destination, tools),
            destination.config["stream_name"],
            compile_template(template, field="partition_key_template", otherwise=event_id) if template else event_id,
            batch_limits(tools, **_BATCH),
        )


class _Record(Struct, frozen=True, rename="pascal"):
    """One record; msgspec writes bytes as base64, which is how Kinesis takes them."""

    data: bytes
    partition_key: str


class _Result(Struct, frozen=True, rename="pascal"):
    sequence_number: str | None = None
    shard_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class _Answer(Struct, frozen=True, rename="pascal"):
    records: list[_Result]


class KinesisConnection:
    """Puts records into one stream, in batches."""

    def __init__(self, client: AwsClient, stream: str, key: Template, limits: Limits) -> None:
        self._client = client
        self._stream = stream
        self._key = key
        self._batcher: Batcher[_Record, Receipt] = Batcher(self._put, limits)

    async def send(self, message: Message) -> Receipt:
        record = _Record(enveloped(message), self._key(message)[:_LONGEST_KEY])
        return await self._batcher.send(record, len(record.data) + len(record.partition_key.encode()))

    async def verify(self) -> None:
        await self._client.json(
            "Kinesis_20131202.DescribeStreamSummary",
            {"StreamName": self._stream},
            version=_VERSION,
            action=_LOOK,
            answer=dict[str, Any],
        )

    async def close(self) -> None:
        self._batcher.flush()

    async def _put(self, records: Sequence[_Record]) -> list[Receipt | DeliveryError]:
        answer, response = await self._client.json(
            "Kinesis_20131202.PutRecords",
            {"StreamName": self._stream, "Records": records},
            version=_VERSION,
            action=_PUT,
            answer=_Answer,
        )
        results = dict(enumerate(map(self._result, answer.records)))
        return receipts(response, self._client.in_order(results, range(len(records))))

    def _result(self, result: _Result) -> dict[str, str | None] | DeliveryError:
        if result.error_code is None:
            return {"sequence_number": result.sequence_number, "shard_id": result.shard_id}
        fault = Fault(code=result.error_code, message=result.error_message or "", status=500)
        return self._client.failed(fault, _PUT)
