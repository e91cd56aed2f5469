"""The AWS destination types against Moto: for each an outlet that can be sent to and read back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

from msgspec import Struct

from tests.servers.moto import ACCOUNT, REGION, Moto, unique
from waypost.connect.connector import Connection, DestinationType, Tools
from waypost.core.model import Destination
from waypost.destinations.aws_eventbridge import AwsEventBridgeType
from waypost.destinations.aws_kinesis import AwsKinesisType
from waypost.destinations.aws_s3 import AwsS3Type
from waypost.destinations.aws_sns import AwsSnsType
from waypost.destinations.aws_sqs import AwsSqsType
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver, SystemResolver

LOOPBACK = ip_network("127.0.0.0/8")


def config(**values: str) -> dict[str, str]:
    return values


class Arrived(Struct, frozen=True):
    """An event as it was read back. `extra` is what only one service has."""

    metadata: dict[str, str]
    data: bytes
    extra: dict[str, Any]


class Outlet(Struct, frozen=True):
    """Somewhere to send to: a type, the config that leads there, and a way to read what has arrived.

    `missing` is a config for something that does not exist.
    """

    kind: DestinationType
    config: dict[str, str]
    missing: dict[str, str]
    missing_code: str
    read: Callable[[int], list[Arrived]]


def sqs(moto: Moto, *, fifo: bool = False, **more: str) -> Outlet:
    queue = moto.queue(fifo=fifo)
    public = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{queue.rpartition('/')[2]}"
    shared = {"endpoint": moto.url, **more}

    def read(count: int) -> list[Arrived]:
        return [_of_message(message) for message in moto.received(queue, count)]

    return Outlet(
        AwsSqsType(),
        config(queue_url=public, **shared),
        config(queue_url=f"{public}x", **shared),
        "no_such_queue",
        read,
    )


def _of_message(message: dict[str, Any]) -> Arrived:
    metadata = json.loads(message["MessageAttributes"]["metadata"]["StringValue"])
    return Arrived(metadata, message["Body"].encode(), message["Attributes"])


def sns(moto: Moto, *, fifo: bool = False, **more: str) -> Outlet:
    """A topic with a queue that is subscribed to it."""
    queue = moto.queue(fifo=fifo)
    name = unique("topic") + (".fifo" if fifo else "")
    topic = moto.client("sns").create_topic(Name=name, Attributes={"FifoTopic": "true"} if fifo else {})["TopicArn"]
    moto.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=moto.arn(queue))
    shared = {"region": REGION, "endpoint": moto.url, **more}

    def read(count: int) -> list[Arrived]:
        return [_of_notification(message) for message in moto.received(queue, count)]

    return Outlet(
        AwsSnsType(), config(topic_arn=topic, **shared), config(topic_arn=f"{topic}x", **shared), "no_such_topic", read
    )


def _of_notification(message: dict[str, Any]) -> Arrived:
    notification = json.loads(message["Body"])
    attributes = {name: value["Value"] for name, value in notification["MessageAttributes"].items()}
    metadata = json.loads(attributes.pop("metadata"))
    return Arrived(metadata, notification["Message"].encode(), attributes | message["Attributes"])


def eventbridge(moto: Moto, **more: str) -> Outlet:
    """A bus with a rule that passes every event on to a queue."""
    queue, bus = moto.queue(), unique("bus")
    events = moto.client("events")
    events.create_event_bus(Name=bus)
    events.put_rule(Name=bus, EventBusName=bus, EventPattern='{"account": ["123456789012"]}')
    events.put_targets(Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": moto.arn(queue)}])
    shared = {"region": REGION, "endpoint": moto.url, **more}

    def read(count: int) -> list[Arrived]:
        return [_of_event(json.loads(message["Body"])) for message in moto.received(queue, count)]

    return Outlet(
        AwsEventBridgeType(),
        config(event_bus_name=bus, **shared),
        config(event_bus_name=f"{bus}x", **shared),
        "no_such_event_bus",
        read,
    )


def _of_event(event: dict[str, Any]) -> Arrived:
    detail = event.pop("detail")
    return Arrived(detail["metadata"], json.dumps(detail["data"]).encode(), event)


def kinesis(moto: Moto, *, shards: int = 1, **more: str) -> Outlet:
    stream = unique("stream")
    client = moto.client("kinesis")
    client.create_stream(StreamName=stream, ShardCount=shards)
    shared = {"region": REGION, "endpoint": moto.url, **more}

    def read(count: int) -> list[Arrived]:
        found = []
        for shard in client.list_shards(StreamName=stream)["Shards"]:
            start = client.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            found += client.get_records(ShardIterator=start["ShardIterator"], Limit=10_000)["Records"]
        return [_of_record(record) for record in found]

    return Outlet(
        AwsKinesisType(),
        config(stream_name=stream, **shared),
        config(stream_name=f"{stream}x", **shared),
        "no_such_stream",
        read,
    )


def _of_record(record: dict[str, Any]) -> Arrived:
    head, comma, data = record["Data"].partition(b',"data":')
    assert comma
    return Arrived(json.loads(head + b"}")["metadata"], data.removesuffix(b"}"), record)


def s3(moto: Moto, **more: str) -> Outlet:
    bucket = unique("bucket")
    client = moto.client("s3")
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    shared = {"region": REGION, "endpoint": moto.url, **more}

    def read(count: int) -> list[Arrived]:
        found = []
        for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            answer = client.get_object(Bucket=bucket, Key=item["Key"], ChecksumMode="ENABLED")
            with contextlib.closing(answer["Body"]) as body:
                found.append(Arrived(answer["Metadata"], body.read(), {**answer, "Key": item["Key"]}))
        return found

    return Outlet(
        AwsS3Type(), config(bucket=bucket, **shared), config(bucket=f"{bucket}x", **shared), "no_such_bucket", read
    )


OUTLETS: dict[str, Callable[..., Outlet]] = {
    "aws_sqs": sqs,
    "aws_sns": sns,
    "aws_eventbridge": eventbridge,
    "aws_kinesis": kinesis,
    "aws_s3": s3,
}


def destination(kind: DestinationType, values: dict[str, str], credentials: dict[str, str]) -> Destination:
    return Destination(
        no=1,
        id="des_1",
        tenant_id="acme",
        type=kind.type,
        topics=("*",),
        config=values,
        credentials=credentials,
        created_at=0,
        updated_at=0,
    )


@contextlib.asynccontextmanager
async def lent(
    guard: AddressGuard | None = None, http: HttpSettings | None = None, **options: Any
) -> AsyncIterator[Tools]:
    """Tools with a started HTTP client. Loopback is allowed unless a guard is given."""
    guard = guard or AddressGuard([LOOPBACK])
    resolver = GuardedResolver(SystemResolver(), guard)
    client = HttpClient(http or HttpSettings(), resolver, guard)
    await client.start()
    try:
        yield Tools(http=client, guard=guard, resolver=resolver, options=options)
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def connected(
    kind: DestinationType, values: dict[str, str], credentials: dict[str, str], **options: Any
) -> AsyncIterator[Connection]:
    async with lent(**options) as tools:
        connection = await kind.connect(destination(kind, values, credentials), tools)
        try:
            yield connection
        finally:
            await connection.close()


class Gate:
    """A way to a server that can be shut: connections are then broken and new ones refused. Counts requests."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.seen = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            back, forth = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers |= {writer, forth}
            await asyncio.gather(self._pump(reader, forth, seen=True), self._pump(back, writer, seen=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, seen: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if seen:
                    self.seen += data
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def gate_to(port: int) -> AsyncIterator[Gate]:
    gate = Gate(port)
    await gate.open()
    try:
        yield gate
    finally:
        await gate.shut()


def through(gate: Gate, outlet: Outlet) -> dict[str, str]:
    """The outlet's config with its requests led through the gate."""
    return {**outlet.config, "endpoint": gate.url}


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
