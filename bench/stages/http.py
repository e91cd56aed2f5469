"""Types that speak HTTP, against a sink that answers at once with what the service would say.

The sink is a process of its own. It checks no signature and keeps nothing: what is measured is Waypost's side alone, at
a speed that the imitations of these services do not reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvloop

from bench.stages import Stage, StageOf
from waypost.core.signing import make_secret

REGION = "eu-west-1"
_KEYS = {"key": "AKIDEXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_SERVER = "sink that answers at once"

Answer = Callable[[bytes], bytes]


def _sqs(body: bytes) -> bytes:
    sent = b'{"Id":"%d","MessageId":"219f8380-5770-4cc2-8c3e-5c715e145f5e","MD5OfMessageBody":"fafb00f5732ab283681e"}'
    return b'{"Successful":[%b],"Failed":[]}' % b",".join(sent % n for n in range(body.count(b'"MessageBody":')))


def _sns(body: bytes) -> bytes:
    sent = b"<member><Id>%d</Id><MessageId>219f8380-5770-4cc2-8c3e-5c715e145f5e</MessageId></member>"
    members = b"".join(sent % n for n in range(1, body.count(b".Message=") + 1))
    head = b'<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult><Successful>'
    return head + members + b"</Successful><Failed/></PublishBatchResult></PublishBatchResponse>"


def _eventbridge(body: bytes) -> bytes:
    put = [b'{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}'] * body.count(b'"DetailType":')
    return b'{"FailedEntryCount":0,"Entries":[%b]}' % b",".join(put)


def _kinesis(body: bytes) -> bytes:
    record = b'{"SequenceNumber":"49543463076548007577105092703039560359975228518395012686","ShardId":"shardId-0"}'
    records = [record] * body.count(b'"PartitionKey":')
    return b'{"FailedRecordCount":0,"Records":[%b]}' % b",".join(records)


def _nothing(_body: bytes) -> bytes:
    return b"{}"


ANSWERS: dict[str, Answer] = {
    "aws_sqs": _sqs,
    "aws_sns": _sns,
    "aws_eventbridge": _eventbridge,
    "aws_kinesis": _kinesis,
    "aws_s3": _nothing,
    "hookdeck": _nothing,
    "webhook": _nothing,
}


class Sink(asyncio.Protocol):
    """Answers each request as soon as its bytes are in, always with the same status."""

    def __init__(self, answer: Answer, status: int = 200) -> None:
        self._answer = answer
        self._head = b"HTTP/1.1 %d Done\r\ncontent-length: " % status
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(length[1]) if length is not None else 0)
            if len(self._received) < whole:
                return
            body = self._answer(self._received[end + 4 : whole])
            self._received = self._received[whole:]
            self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))


async def serve(descriptor: int, made: Callable[[], Sink], tls: ssl.SSLContext | None = None) -> None:
    """Answer on a listening socket for ever."""
    listener = socket.socket(fileno=descriptor)
    server = await asyncio.get_running_loop().create_server(made, sock=listener, ssl=tls)
    await server.serve_forever()


@contextlib.contextmanager
def listening(module: str, *arguments: str) -> Iterator[int]:
    """The port of a process that runs a module, which gets a listening socket's descriptor before its arguments."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        command = [sys.executable, "-m", module, str(listener.fileno()), *arguments]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def sink(kind: str) -> Iterator[str]:
    """The URL of a running sink for a destination type."""
    with listening("bench.stages.http", kind) as port:
        yield f"http://127.0.0.1:{port}"


def _aws(kind: str, **config: str) -> StageOf:
    @contextlib.contextmanager
    def stage() -> Iterator[Stage]:
        with sink(kind) as url:
            yield Stage(config={**config, "endpoint": url}, credentials=_KEYS, server=_SERVER)

    return stage


@contextlib.contextmanager
def _hookdeck() -> Iterator[Stage]:
    token = b64encode(b"src_1:secret").decode()
    with sink("hookdeck") as url:
        yield Stage(config={}, credentials={"token": token}, server=_SERVER, options={"hookdeck_base_url": url})


@contextlib.contextmanager
def _webhook() -> Iterator[Stage]:
    with sink("webhook") as url:
        yield Stage(config={"url": url}, credentials={"secret": make_secret(bytes(32))}, server=_SERVER)


STAGES: dict[str, StageOf] = {
    "aws_sqs": _aws("aws_sqs", queue_url=f"https://sqs.{REGION}.amazonaws.com/123456789012/q"),
    "aws_sns": _aws("aws_sns", topic_arn=f"arn:aws:sns:{REGION}:123456789012:t", region=REGION),
    "aws_eventbridge": _aws("aws_eventbridge", region=REGION),
    "aws_kinesis": _aws("aws_kinesis", stream_name="s", region=REGION),
    "aws_s3": _aws("aws_s3", bucket="bench", region=REGION),
    "hookdeck": _hookdeck,
    "webhook": _webhook,
}


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), partial(Sink, ANSWERS[sys.argv[2]])))
