"""Moto: SQS, SNS, EventBridge, Kinesis, S3, IAM and STS in one process, with signatures and permissions checked.

Moto checks every request from the moment when an administrator exists; that one sets up and reads back. It looks at the
actions of a policy, not at its resources. What it does not imitate: limits of throughput, regional redirects, KMS.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import Any

import pytest
from bench.servers import free_port
from msgspec import Struct

from tests.servers import harness

REGION = "eu-west-1"
ACCOUNT = "123456789012"
SENDING = (
    "sqs:SendMessage",
    "sqs:SendMessageBatch",  # AWS has no such action: sqs:SendMessage covers it
    "sqs:GetQueueAttributes",
    "sns:Publish",
    "sns:PublishBatch",  # likewise
    "sns:GetTopicAttributes",
    "events:PutEvents",
    "events:DescribeEventBus",
    "kinesis:PutRecords",
    "kinesis:DescribeStreamSummary",
    "s3:PutObject",
    "s3:ListBucket",
)


class User(Struct, frozen=True):
    """Somebody with an access key."""

    name: str
    key: str
    secret: str

    @property
    def credentials(self) -> dict[str, str]:
        """As a destination has them."""
        return {"key": self.key, "secret": self.secret}


class Moto:
    """The server, and clients of the vendor's own library for its administrator."""

    def __init__(self, server: harness.Server) -> None:
        self.server = server
        self.url = f"http://{server.address}"
        self._clients: dict[str, Any] = {}
        self._admin = User("nobody", "AKIANOBODY", "nobody")
        self._set_checks(on=False)
        self._admin = self.user("admin", "*")
        self._clients = {}
        self._set_checks(on=True)
        self.sender = self.user("sender", *SENDING)
        self.stranger = self.user("stranger", "iam:GetUser")
        self.role_caller = self.user("role-caller", "sts:AssumeRole")

    def client(self, service: str) -> Any:
        """A boto3 client of the administrator."""
        import boto3  # noqa: PLC0415 - heavy, and this module is loaded for every test
        from botocore.config import Config  # noqa: PLC0415

        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=self._admin.key,
                aws_secret_access_key=self._admin.secret,
                config=Config(retries={"max_attempts": 1}),
            )
        return self._clients[service]

    def user(self, name: str, *actions: str) -> User:
        """A new user who may do these things, to everything."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=policy(*actions))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return User(name, key["AccessKeyId"], key["SecretAccessKey"])

    def role(self, *actions: str, external_id: str | None = None) -> str:
        """A new role that anybody in the account may assume, with the external id if one is named; its ARN."""
        name = unique("role")
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": "sts:AssumeRole",
        }
        if external_id is not None:
            statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam = self.client("iam")
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=policy(*actions))
        return arn

    def queue(self, *, fifo: bool = False) -> str:
        """The URL of a new queue."""
        name = unique("queue") + (".fifo" if fifo else "")
        attributes = {"FifoQueue": "true"} if fifo else {}
        created = self.client("sqs").create_queue(QueueName=name, Attributes=attributes)
        url: str = created["QueueUrl"]
        return url

    def received(self, queue_url: str, count: int) -> list[dict[str, Any]]:
        """The first `count` messages of a queue, taken off it; fewer when no more come."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            answer = self.client("sqs").receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            if not messages:
                break
            found += messages
            read = [{"Id": each["MessageId"], "ReceiptHandle": each["ReceiptHandle"]} for each in messages]
            self.client("sqs").delete_message_batch(QueueUrl=queue_url, Entries=read)
        return found

    def arn(self, queue_url: str) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue_url.rpartition('/')[2]}"

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _set_checks(self, *, on: bool) -> None:
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", data=b"0" if on else b"inf", headers={"content-type": "text/plain"}
        )
        urllib.request.urlopen(request).close()


def policy(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def unique(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    if find_spec("moto") is None or find_spec("flask") is None:
        harness.missing("moto (PyPI moto[s3,sqs,sns,events,kinesis,sts,iam], flask, flask-cors)")
    port = free_port()
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", harness.HOST, "-p", str(port)]
    with (
        harness.start("moto", argv, port=port, ready=lambda: harness.listens(port)) as server,
        closing(Moto(server)) as found,
    ):
        yield found
