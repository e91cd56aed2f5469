"""Amazon SNS: the event's data as a message to a topic, standard and FIFO topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from waypost.connect.aws import (
    ENDPOINT_FIELD,
    REGION_FIELD,
    ROLE_FIELDS,
    AwsType,
    FifoIds,
    batch_limits,
    group_field,
    group_problems,
)
from waypost.connect.batch import Batcher, Limits
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.envelope import metadata_json
from waypost.connect.fields import Field
from waypost.connect.record import receipts
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.net.aws.client import AwsClient
from waypost.net.aws.errors import Fault, Service, text_of

_SNS = Service(name="sns", host="sns", label="Amazon SNS", thing="topic", missing="no_such_topic")
_VERSION = "2010-03-31"
_PUBLISH = "sns:Publish"
_LOOK = "sns:GetTopicAttributes (which only verifying needs)"
_BATCH = {"count": 10, "size": 256 * 1024}
"""SNS takes 10 messages and 256 KiB in a call; a message that is larger is refused by itself."""
_AROUND_A_BODY = 256
"""What the attributes' names, types and ids count beside body and metadata, at most (bytes)."""

_TOPIC_ARN = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?"


class AwsSnsType(AwsType):
    type: ClassVar[str] = "aws_sns"
    label: ClassVar[str] = "Amazon SNS"
    description: ClassVar[str] = "Send events to a topic of Amazon Simple Notification Service."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><circle cx="5" cy="12" r="3"/>'
        '<path d="M8 12h11M8 10.5 18 5M8 13.5 18 19"/><circle cx="20" cy="4.5" r="1.5"/>'
        '<circle cx="20.5" cy="12" r="1.5"/><circle cx="20" cy="19.5" r="1.5"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. Create a topic in Amazon SNS and copy its ARN.
2. Create an access key for an IAM user, or a role to assume, that may publish to it:

```json
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["sns:Publish", "sns:GetTopicAttributes"], "Resource": "<ARN of the topic>"}
]}
```

`sns:GetTopicAttributes` is only used to verify the destination. A topic that is encrypted with a KMS key of yours also
needs `kms:GenerateDataKey` and `kms:Decrypt` for that key.

The message is the event's data. It has three attributes: `topic` and `event-id`, by which subscriptions can filter, and
`metadata`, a JSON object of text values. An event can arrive more than once: recognise it by its `event-id`.

On a FIFO topic, SNS itself drops what this destination repeats within five minutes.
The message group is the event's topic, unless a template says otherwise.
"""
    service: ClassVar[Service] = _SNS
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="topic_arn",
            label="Topic ARN",
            description="The ARN of the topic.",
            required=True,
            pattern=_TOPIC_ARN,
            pattern_hint="the ARN of an SNS topic",
            placeholder="arn:aws:sns:eu-west-1:123456789012:events",
        ),
        REGION_FIELD,
        ENDPOINT_FIELD,
        group_field("topic"),
        *ROLE_FIELDS,
    )

    def own_problems(self, config: dict[str, str]) -> list[str]:
        problems = group_problems(config, config["topic_arn"])
        if config["topic_arn"].split(":")[3] != config["region"]:
            problems.append("config.region must be the region in config.topic_arn")
        return problems

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["topic_arn"], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        topic = config["topic_arn"]
        ids = FifoIds(destination.no, config.get("message_group_id_template")) if topic.endswith(".fifo") else None
        client = await self.client(destination, tools)
        return SnsConnection(client, topic, ids, batch_limits(tools, **_BATCH))


class _Outgoing(Struct, frozen=True):
    body: str
    attributes: dict[str, str]
    fifo: tuple[str, str] | None

    def parameters(self, place: int) -> dict[str, str]:
        """The message as parameters of the query protocol; its id is its place in the batch (from 1)."""
        start = f"PublishBatchRequestEntries.member.{place}"
        found = {f"{start}.Id": str(place), f"{start}.Message": self.body}
        for number, (name, value) in enumerate(self.attributes.items(), 1):
            attribute = f"{start}.MessageAttributes.entry.{number}"
            found[f"{attribute}.Name"] = name
            found[f"{attribute}.Value.DataType"] = "String"
            found[f"{attribute}.Value.StringValue"] = value
        if self.fifo is not None:
            found[f"{start}.MessageGroupId"], found[f"{start}.MessageDeduplicationId"] = self.fifo
        return found


class SnsConnection:
    """Publishes to one topic, in batches."""

    def __init__(self, client: AwsClient, topic_arn: str, ids: FifoIds | None, limits: Limits) -> None:
        self._client = client
        self._topic_arn = topic_arn
        self._ids = ids
        self._batcher: Batcher[_Outgoing, Receipt] = Batcher(self._publish_batch, limits)

    async def send(self, message: Message) -> Receipt:
        metadata = metadata_json(message)
        event = message.event
        attributes = {"topic": event.topic, "event-id": event.id, "metadata": metadata}
        fifo = self._ids.of(message) if self._ids is not None else None
        size = len(message.body) + sum(len(value.encode()) for value in attributes.values()) + _AROUND_A_BODY
        return await self._batcher.send(_Outgoing(message.body.decode(), attributes, fifo), size)

    async def verify(self) -> None:
        parameters = {"Action": "GetTopicAttributes", "Version": _VERSION, "TopicArn": self._topic_arn}
        await self._client.query(parameters, action=_LOOK)

    async def close(self) -> None:
        self._batcher.flush()

    async def _publish_batch(self, batch: Sequence[_Outgoing]) -> list[Receipt | DeliveryError]:
        parameters = {"Action": "PublishBatch", "Version": _VERSION, "TopicArn": self._topic_arn}
        for place, outgoing in enumerate(batch, 1):
            parameters |= outgoing.parameters(place)
        answer, response = await self._client.query(parameters, action=_PUBLISH)
        results: dict[str, dict[str, str] | DeliveryError] = {}
        for sent in answer.iterfind(".//Successful/member"):
            said = {"message_id": text_of(sent, "MessageId"), "sequence_number": text_of(sent, "SequenceNumber")}
            results[text_of(sent, "Id")] = {name: value for name, value in said.items() if value}
        for failed in answer.iterfind(".//Failed/member"):
            status = 400 if text_of(failed, "SenderFault") == "true" else 500
            fault = Fault(code=text_of(failed, "Code"), message=text_of(failed, "Message"), status=status)
            results[text_of(failed, "Id")] = self._client.failed(fault, _PUBLISH)
        return receipts(response, self._client.in_order(results, (str(place) for place in range(1, len(batch) + 1))))
