"""Service Bus against a namespace on this machine that checks signatures and answers as Azure documents it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.destinations.messages import ODD_BODY, message, said_of
from tests.destinations.rest import connected, fails, tools_for
from tests.servers.authority import Authority
from tests.servers.azure import Namespace, Rule
from tests.servers.https import HttpsServer
from waypost.connect.connector import Connection
from waypost.connect.once import delivery_id
from waypost.core.errors import DeliveryError
from waypost.destinations.azure_servicebus import AzureServiceBusType
from waypost.net.guard import AddressGuard

pytestmark = pytest.mark.slow

ODD_METADATA: Any = {"customer": "Zoë ✓", "Odd Key!": "1"}
KIND = AzureServiceBusType()
QUEUE = "orders/eu"


class Azure:
    """A namespace with the queue `orders/eu` and the topic `news`."""

    def __init__(self, authority: Authority) -> None:
        self.namespace = Namespace(QUEUE, "news")
        self.server = HttpsServer(self.namespace, authority)
        self.authority = authority

    @property
    def queue(self) -> list[Any]:
        return self.namespace.entities[QUEUE]

    def access(self, policy: str = "sender", key: str | None = None, **more: str) -> str:
        parts = {
            "Endpoint": f"sb://localhost:{self.server.port}/",
            "SharedAccessKeyName": policy,
            "SharedAccessKey": key or self.namespace.rules[policy].key,
        }
        return ";".join(f"{name}={value}" for name, value in (parts | more).items())

    def connected(
        self, name: str = QUEUE, access: str | None = None, **given: Any
    ) -> contextlib.AbstractAsyncContextManager[Connection]:
        credentials = {"connection_string": access or self.access()}
        return connected(KIND, {"name": name} | given, credentials, tools_for(self.authority.ca_file))


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    made = Azure(authority)
    await made.server.start()
    yield made
    await made.server.stop()


# what arrives


async def test_data_and_metadata_arrive_as_they_were(azure: Azure) -> None:
    sent = message(ODD_BODY, **ODD_METADATA)
    async with azure.connected() as connection:
        receipt = await connection.send(sent)
    [kept] = azure.queue
    assert kept.body == ODD_BODY
    assert kept.properties == sent.metadata
    assert kept.broker == {
        "MessageId": delivery_id(1, sent),
        "Label": "order.created",
        "ContentType": "application/json",
    }
    assert receipt.code == "201"
    assert said_of(receipt, messages=1) == {}


async def test_a_topic_is_sent_to_like_a_queue(azure: Azure) -> None:
    async with azure.connected("news") as connection:
        await connection.send(message())
    assert [kept.body for kept in azure.namespace.entities["news"]] == [ODD_BODY]


async def test_the_session_id_is_made_from_the_event(azure: Azure) -> None:
    async with azure.connected(session_id_template="data.customer") as connection:
        sending = (connection.send(message(b'{"customer":"c%d"}' % (n % 3), event_id=f"e{n}")) for n in range(9))
        await asyncio.gather(*sending)
    sessions = {kept.properties["event-id"]: kept.broker["SessionId"] for kept in azure.queue}
    assert sessions == {f"e{n}": f"c{n % 3}" for n in range(9)}
    assert len(azure.namespace.requests) == 3


async def test_the_partition_key_is_made_from_the_event(azure: Azure) -> None:
    async with azure.connected(partition_key_template="p-{{topic}}") as connection:
        await connection.send(message())
    assert azure.queue[0].broker["PartitionKey"] == "p-order.created"


async def test_a_session_id_that_is_too_long_fails_that_message_alone(azure: Azure) -> None:
    async with azure.connected(session_id_template="data.c") as connection:
        with fails("template_failed", retryable=False):
            await connection.send(message(json.dumps({"c": "x" * 129}).encode()))
        await connection.send(message(json.dumps({"c": "x" * 128}).encode()))
    assert len(azure.queue) == 1


async def test_concurrent_messages_share_batches(azure: Azure) -> None:
    async with azure.connected() as connection:
        receipts = await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
    assert {receipt.code for receipt in receipts} == {"201"}
    assert sorted(kept.properties["event-id"] for kept in azure.queue) == sorted(f"e{n}" for n in range(200))
    assert len(azure.namespace.requests) == 4


async def test_batches_stay_below_the_services_bound(azure: Azure) -> None:
    data = json.dumps({"x": "a" * 60_000}).encode()
    async with azure.connected() as connection:
        await asyncio.gather(*(connection.send(message(data, event_id=f"e{n}")) for n in range(10)))
    assert len(azure.queue) == 10
    assert len(azure.namespace.requests) == 4


# refusals


async def test_a_wrong_key_is_refused_without_a_word_of_it(azure: Azure) -> None:
    wrong = "the-wrong-Key-of-a-stranger="
    async with azure.connected(access=azure.access(key=wrong)) as connection:
        with fails("bad_credentials", retryable=False, hidden=(wrong, *azure.namespace.tokens)) as caught:
            await connection.send(message())
        assert "The token has an invalid signature" in caught.error.sentence
        with fails("bad_credentials", retryable=False, hidden=(wrong,)):
            await connection.verify()
    assert azure.queue == []


async def test_a_policy_that_may_not_send_is_refused(azure: Azure) -> None:
    azure.namespace.rules["reader"] = Rule("a-readers-key", rights=frozenset({"Listen"}))
    async with azure.connected(access=azure.access("reader")) as connection:
        with fails("bad_credentials", retryable=False) as caught:
            await connection.send(message())
    assert "Send claim is required" in caught.error.sentence


async def test_a_policy_of_another_queue_is_refused(azure: Azure) -> None:
    azure.namespace.rules["news"] = Rule("a-news-key", path="/news")
    async with azure.connected(access=azure.access("news")) as connection:
        with fails("bad_credentials", retryable=False):
            await connection.send(message())
    async with azure.connected("news", access=azure.access("news", EntityPath="news")) as connection:
        await connection.send(message())


async def test_a_missing_queue_is_named(azure: Azure) -> None:
    async with azure.connected("nowhere") as connection:
        with fails("no_such_queue", retryable=False) as caught:
            await connection.send(message())
    assert caught.error.sentence.startswith("There is no queue or topic nowhere: The messaging entity")


async def test_an_oversized_message_is_refused_alone(azure: Azure) -> None:
    large = json.dumps({"x": "a" * 270_000}).encode()
    async with azure.connected() as connection:
        came = await asyncio.gather(
            connection.send(message(event_id="small")),
            connection.send(message(large, event_id="large")),
            connection.send(message(event_id="other")),
            return_exceptions=True,
        )
    assert isinstance(came[1], DeliveryError)
    assert (came[1].code, came[1].retryable) == ("message_too_large", False)
    assert {kept.properties["event-id"] for kept in azure.queue} == {"small", "other"}


async def test_what_cannot_share_a_batch_goes_alone(azure: Azure) -> None:
    """A partitioned queue with duplicate detection takes the message id for the partition key."""
    azure.namespace.one_partition_key_a_batch = True
    async with azure.connected() as connection:
        await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(5)))
    assert len(azure.queue) == 5


@pytest.mark.parametrize(
    ("status", "detail", "code", "retryable"),
    [
        (400, "The body is bad.", "invalid_request", False),
        (400, "The message size exceeds the limit.", "message_too_large", False),
        (403, "The maximum entity size quota has been exceeded.", "quota_exceeded", True),
        (403, "The entity is disabled for sending.", "quota_exceeded", True),
        (404, "Not there.", "no_such_queue", False),
        (410, "Gone.", "no_such_queue", False),
        (413, "", "message_too_large", False),
        (408, "Timed out.", "unavailable", True),
        (418, "Teapot.", "unavailable", False),
        (429, "Slow down.", "throttled", True),
        (500, "Oh.", "unavailable", True),
        (503, "ServerBusy.", "throttled", True),
    ],
)
async def test_refusals_are_named(azure: Azure, status: int, detail: str, code: str, retryable: bool) -> None:
    azure.namespace.faults = [(status, detail, {"retry-after": "10"})]
    async with azure.connected() as connection:
        hidden = (azure.namespace.rules["sender"].key,)
        with fails(code, retryable=retryable, hidden=hidden) as caught:
            await connection.send(message())
        assert caught.error.retry_after == 10
        assert not (azure.namespace.tokens & {caught.error.sentence, str(caught.error.response)})
        await connection.send(message())
    assert len(azure.queue) == 1


# the network


async def test_nothing_is_lost_while_azure_is_away(azure: Azure) -> None:
    async def deliver(connection: Connection, event_id: str) -> None:
        while True:
            try:
                await connection.send(message(event_id=event_id))
            except DeliveryError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    async with azure.connected() as connection:
        sending = [asyncio.create_task(deliver(connection, f"e{n}")) for n in range(40)]
        await azure.server.stop()
        with fails("connection_refused", retryable=True):
            await connection.send(message(event_id="down"))
        await azure.server.start()
        await asyncio.gather(*sending)
    assert {kept.properties["event-id"] for kept in azure.queue} >= {f"e{n}" for n in range(40)}


async def test_a_cancelled_send_leaves_the_others_unharmed(azure: Azure) -> None:
    async with azure.connected() as connection:
        sending = [asyncio.create_task(connection.send(message(event_id=f"e{n}"))) for n in range(10)]
        await asyncio.sleep(0)
        sending[0].cancel()
        came = await asyncio.gather(*sending, return_exceptions=True)
        assert isinstance(came[0], asyncio.CancelledError)
        await connection.send(message(event_id="after"))
    assert {kept.properties["event-id"] for kept in azure.queue} >= {*(f"e{n}" for n in range(1, 10)), "after"}


async def test_a_forbidden_address_is_refused_at_connect_time(azure: Azure) -> None:
    guarded = tools_for(azure.authority.ca_file, guard=AddressGuard())
    async with connected(KIND, {"name": QUEUE}, {"connection_string": azure.access()}, guarded) as connection:
        with fails("blocked_address", retryable=True):
            await connection.send(message())
    assert azure.namespace.requests == []


# verify


async def test_verify_reads_the_queue_where_the_key_may(azure: Azure) -> None:
    azure.namespace.rules["manager"] = Rule("a-managers-key", rights=frozenset({"Send", "Listen", "Manage"}))
    async with azure.connected(access=azure.access("manager")) as connection:
        await connection.verify()
    async with azure.connected("nowhere", access=azure.access("manager")) as connection:
        with fails("no_such_queue", retryable=False):
            await connection.verify()
    assert {method for method, _ in azure.namespace.requests} == {"GET"}


async def test_verify_with_a_key_that_may_only_send_proves_the_key(azure: Azure) -> None:
    async with azure.connected() as connection:
        await connection.verify()
    assert azure.queue == []


async def test_verify_says_when_nobody_is_there(azure: Azure) -> None:
    await azure.server.stop()
    async with azure.connected() as connection:
        with fails("connection_refused", retryable=True):
            await connection.verify()


# what may be saved


@pytest.mark.parametrize(
    ("config", "access", "problem"),
    [
        ({}, "Endpoint=sb://10.0.0.1/;SharedAccessKeyName=n;SharedAccessKey=k", "credentials.connection_string is not"),
        ({}, "nonsense", "credentials.connection_string must have Endpoint"),
        (
            {},
            "Endpoint=sb://x.net/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=news",
            "credentials.connection_string is for news, not for orders",
        ),
        ({"session_id_template": "data["}, "", "config.session_id_template must be"),
        (
            {"session_id_template": "id", "partition_key_template": "id"},
            "",
            "config.partition_key_template must be left out",
        ),
    ],
)
def test_a_bad_config_is_refused(config: dict[str, str], access: str, problem: str) -> None:
    access = access or "Endpoint=sb://x.net/;SharedAccessKeyName=n;SharedAccessKey=k"
    tools = tools_for(guard=AddressGuard())
    [found] = KIND.check({"name": "orders"} | config, {"connection_string": access}, tools)
    assert found.startswith(problem)
