"""Amazon SQS: the event's data as the body of a message, standard and FIFO queues."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import UNSET, Struct, UnsetType, field

from waypost.connect.aws import (
    ENDPOINT_FIELD,
    ROLE_FIELDS,
    AwsType,
    FifoIds,
    batch_limits,
    group_field,
    group_problems,
    guarded_problems,
)
from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.envelope import metadata_json
from waypost.connect.fields import Field
from waypost.connect.record import receipts
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.aws import endpoint as endpoints
from waypost.net.aws.client import AwsClient
from waypost.net.aws.endpoint import REGION, Endpoint
from waypost.net.aws.errors import Fault, Service

_SQS = Service(name="sqs", host="sqs", label="Amazon SQS", thing="queue", missing="no_such_queue")
_VERSION = "1.0"
_SEND = "sqs:SendMessage"
_LOOK = "sqs:GetQueueAttributes (which only verifying needs)"
_BATCH = {"count": 10, "size": 256 * 1024}
"""SQS takes 10 messages and 1 MiB in a call (256 KiB until 2025, and in stand-ins for SQS); larger ones go alone."""
_AROUND_A_BODY = 128
"""What the attribute's name and type and the ids of a FIFO message count beside body and metadata, at most (bytes)."""

_QUEUE_URL = re.compile(r"https?://[^/?#]+(/[^/?#]+)*/[A-Za-z0-9_-]{1,80}(\.fifo)?")
_FALLBACK_REGION = "us-east-1"


class AwsSqsType(AwsType):
    type: ClassVar[str] = "aws_sqs"
    label: ClassVar[str] = "Amazon SQS"
    description: ClassVar[str] = "Send events to a queue of Amazon Simple Queue Service."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<rect x="2" y="7" width="5" height="10" rx="1"/><rect x="9.5" y="7" width="5" height="10" rx="1"/>'
        '<path d="M17 12h5M19.5 9.5 22 12l-2.5 2.5"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Create a queue in Amazon SQS and copy its URL.
2. Create an access key for an IAM user, or a role to assume, that may send to it:

```json
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["sqs:SendMessage", "sqs:GetQueueAttributes"], "Resource": "<ARN of the queue>"}
]}
```

`sqs:GetQueueAttributes` is only used to verify the destination. A queue that is encrypted with a KMS key of yours also
needs `kms:GenerateDataKey` and `kms:Decrypt` for that key.

The message body is the event's data. The message attribute `metadata` is a JSON object of text values, with
`event-id`, `topic` and `timestamp` among them. An event can arrive more than once: recognise it by its `event-id`.

On a FIFO queue, SQS itself drops what this destination repeats within five minutes.
The message group is the event's topic, unless a template says otherwise.
"""
    service: ClassVar[Service] = _SQS
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="queue_url",
            label="Queue URL",
            description="The URL of the queue; it also says in which region the queue is.",
            locates=True,
            required=True,
            maxlength=2_048,
            pattern=_QUEUE_URL.pattern,
            pattern_hint="a URL that ends with the name of a queue",
            placeholder="https://sqs.eu-west-1.amazonaws.com/123456789012/events",
        ),
        Field(
            key="region",
            label="Region",
            description="The AWS region, where the queue URL does not name it.",
            pattern=REGION,
            pattern_hint="a region such as eu-west-1",
            advanced=True,
            placeholder="eu-west-1",
        ),
        ENDPOINT_FIELD,
        group_field("queue"),
        *ROLE_FIELDS,
    )

    def region(self, config: Mapping[str, str]) -> str:
        """The region in the queue's host, unless the config names another. `queue.amazonaws.com` is us-east-1's."""
        if config.get("region"):
            return config["region"]
        labels = endpoints.of_url(config["queue_url"]).host.split(".")
        return next((label for label in labels if re.fullmatch(REGION, label)), _FALLBACK_REGION)

    def endpoint(self, config: Mapping[str, str]) -> Endpoint:
        if config.get("endpoint"):
            return endpoints.override(config["endpoint"])
        return endpoints.of_url(config["queue_url"])

    def own_problems(self, config: dict[str, str]) -> list[str]:
        return group_problems(config, config["queue_url"])

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        queue = guarded_problems("config.queue_url", config["queue_url"], tools, whole=False)
        return queue or super().check(config, credentials, tools)

    def foreign_problems(self, config: dict[str, str]) -> list[str]:
        try:
            of_aws = endpoints.of_url(config.get("queue_url", "")).of_aws
        except ValueError:
            return []
        return [] if of_aws else ["config.queue_url must be on a host of AWS where credentials.key is left out"]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["queue_url"].rpartition("/")[2], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        url = config["queue_url"]
        ids = FifoIds(destination.no, config.get("message_group_id_template")) if url.endswith(".fifo") else None
        client = await self.client(destination, tools)
        return SqsConnection(client, url, ids, batch_limits(tools, **_BATCH))


# what is sent


class _Attribute(Struct, frozen=True, rename="pascal"):
    string_value: str
    data_type: str = "String"


class _Entry(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One message; the id is its place in the batch."""

    id: str
    message_body: str
    message_attributes: dict[str, _Attribute]
    message_group_id: str | UnsetType = UNSET
    message_deduplication_id: str | UnsetType = UNSET


class _Outgoing(Struct, frozen=True):
    body: str
    metadata: str
    fifo: tuple[str, str] | None

    def entry(self, place: int) -> _Entry:
        group, deduplication = self.fifo if self.fifo is not None else (UNSET, UNSET)
        return _Entry(
            id=str(place),
            message_body=self.body,
            message_attributes={"metadata": _Attribute(self.metadata)},
            message_group_id=group,
            message_deduplication_id=deduplication,
        )


# what is answered


class _Sent(Struct, frozen=True, rename="pascal"):
    id: str
    message_id: str
    sequence_number: str | None = None


class _Failed(Struct, frozen=True, rename="pascal"):
    id: str
    code: str
    sender_fault: bool = True
    message: str | None = None


class _Answer(Struct, frozen=True, rename="pascal"):
    successful: list[_Sent] = field(default_factory=list)
    failed: list[_Failed] = field(default_factory=list)


class SqsConnection:
    """Sends to one queue, in batches."""

    def __init__(self, client: AwsClient, queue_url: str, ids: FifoIds | None, limits: Limits) -> None:
        self._client = client
        self._queue_url = queue_url
        self._ids = ids
        self._batcher: Batcher[_Outgoing, Receipt] = Batcher(self._send_batch, limits)

    async def send(self, message: Message) -> Receipt:
        metadata = metadata_json(message)
        outgoing = _Outgoing(message.body.decode(), metadata, self._ids.of(message) if self._ids else None)
        return await self._batcher.send(outgoing, len(message.body) + len(metadata.encode()) + _AROUND_A_BODY)

    async def verify(self) -> None:
        payload = {"QueueUrl": self._queue_url, "AttributeNames": ["QueueArn"]}
        await self._client.json(
            "AmazonSQS.GetQueueAttributes",
            payload,
            version=_VERSION,
            action=_LOOK,
            answer=dict[str, Any],
        )

    async def close(self) -> None:
        self._batcher.flush()

    async def _send_batch(self, batch: Sequence[_Outgoing]) -> list[Receipt | DeliveryError]:
        answer, response = await self._client.json(
            "AmazonSQS.SendMessageBatch",
            {"QueueUrl": self._queue_url, "Entries": [outgoing.entry(place) for place, outgoing in enumerate(batch)]},
            version=_VERSION,
            action=_SEND,
            answer=_Answer,
        )
        results: dict[str, dict[str, str] | DeliveryError] = {sent.id: _said(sent) for sent in answer.successful}
        results |= {failed.id: self._client.failed(_fault(failed), _SEND) for failed in answer.failed}
        return receipts(response, self._client.in_order(results, (str(place) for place in range(len(batch)))))


def _said(sent: _Sent) -> dict[str, str]:
    said = {"message_id": sent.message_id, "sequence_number": sent.sequence_number}
    return {name: value for name, value in said.items() if value is not None}


def _fault(failed: _Failed) -> Fault:
    return Fault(code=failed.code, message=failed.message or "", status=400 if failed.sender_fault else 500)
