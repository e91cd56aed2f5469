"""Event Hubs against a namespace on this machine that checks signatures and answers as Azure documents it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.destinations.messages import ODD_BODY, message, said_of
from tests.destinations.rest import connected, fails, tools_for
from tests.servers.authority import Authority
from tests.servers.azure import Namespace, Rule
from tests.servers.https import HttpsServer
from waypost.connect.connector import Connection, Receipt
from waypost.core.errors import DeliveryError
from waypost.destinations.azure_eventhubs import AzureEventHubsType
from waypost.net.guard import AddressGuard

pytestmark = pytest.mark.slow

ODD_METADATA: Any = {"customer": "Zoë ✓", "Odd Key!": "1"}
KIND = AzureEventHubsType()


class Azure:
    """A namespace with the event hub `orders`."""

    def __init__(self, authority: Authority) -> None:
        self.namespace = Namespace("orders")
        self.server = HttpsServer(self.namespace, authority)
        self.authority = authority

    @property
    def hub(self) -> list[Any]:
        return self.namespace.entities["orders"]

    def access(self, key: str | None = None) -> str:
        key = key or self.namespace.rules["sender"].key
        return f"Endpoint=sb://localhost:{self.server.port}/;SharedAccessKeyName=sender;SharedAccessKey={key}"

    def connected(
        self, name: str = "orders", access: str | None = None, **given: Any
    ) -> contextlib.AbstractAsyncContextManager[Connection]:
        credentials = {"connection_string": access or self.access()}
        return connected(KIND, {"name": name} | given, credentials, tools_for(self.authority.ca_file))


@pytest.fixture
async def azure(authority: Authority) -> AsyncIterator[Azure]:
    made = Azure(authority)
    await made.server.start()
    yield made
    await made.server.stop()


async def test_data_and_metadata_arrive_as_they_were(azure: Azure) -> None:
    sent = message(ODD_BODY, **ODD_METADATA)
    async with azure.connected() as connection:
        receipt = await connection.send(sent)
    [kept] = azure.hub
    assert (kept.body, kept.properties, kept.broker) == (ODD_BODY, sent.metadata, {})
    assert receipt.code == "201"
    assert said_of(receipt, messages=1) == {}


async def test_the_partition_key_is_made_from_the_event_and_divides_the_batches(azure: Azure) -> None:
    async with azure.connected(partition_key_template="data.n") as connection:
        sending = (connection.send(message(b'{"n":%d}' % (n % 2), event_id=f"e{n}")) for n in range(50))
        await asyncio.gather(*sending)
    keys = {kept.properties["event-id"]: kept.broker["PartitionKey"] for kept in azure.hub}
    assert keys == {f"e{n}": str(n % 2) for n in range(50)}
    assert len(azure.namespace.requests) == 2


async def test_a_wrong_key_is_refused_without_a_word_of_it(azure: Azure) -> None:
    wrong = "the-wrong-Key-of-a-stranger="
    async with azure.connected(access=azure.access(wrong)) as connection:
        with fails("bad_credentials", retryable=False, hidden=(wrong,)):
            await connection.send(message())
        with fails("bad_credentials", retryable=False, hidden=(wrong,)):
            await connection.verify()


async def test_a_missing_event_hub_is_named(azure: Azure) -> None:
    async with azure.connected("nowhere") as connection:
        with fails("no_such_event_hub", retryable=False) as caught:
            await connection.send(message())
    assert caught.error.sentence.startswith("There is no event hub nowhere")


async def test_an_oversized_event_is_refused_alone(azure: Azure) -> None:
    large = b'{"x":"' + b"a" * 270_000 + b'"}'
    async with azure.connected() as connection:
        came = await asyncio.gather(connection.send(message()), connection.send(message(large)), return_exceptions=True)
    assert isinstance(came[0], Receipt)
    assert isinstance(came[1], DeliveryError)
    assert (came[1].code, came[1].retryable) == ("message_too_large", False)


async def test_throttling_honours_the_hint(azure: Azure) -> None:
    azure.namespace.faults = [(503, "ServerBusy. Wait 4 seconds.", {"retry-after": "4"})]
    async with azure.connected() as connection:
        with fails("throttled", retryable=True) as caught:
            await connection.send(message())
        assert caught.error.retry_after == 4
        await connection.send(message())


async def test_nothing_is_lost_while_azure_is_away(azure: Azure) -> None:
    async with azure.connected() as connection:
        await connection.send(message(event_id="before"))
        await azure.server.stop()
        with fails("connection_refused", retryable=True):
            await connection.send(message(event_id="down"))
        await azure.server.start()
        await connection.send(message(event_id="down"))
    assert [kept.properties["event-id"] for kept in azure.hub] == ["before", "down"]


async def test_verify_proves_the_key_and_where_it_may_the_event_hub(azure: Azure) -> None:
    async with azure.connected() as connection:
        await connection.verify()
    azure.namespace.rules["sender"] = Rule("a-managers-key", rights=frozenset({"Send", "Listen", "Manage"}))
    async with azure.connected() as connection:
        await connection.verify()
    async with azure.connected("nowhere") as connection:
        with fails("no_such_event_hub", retryable=False):
            await connection.verify()
    assert azure.hub == []


async def test_a_forbidden_address_is_refused_at_connect_time(azure: Azure) -> None:
    guarded = tools_for(azure.authority.ca_file, guard=AddressGuard())
    async with connected(KIND, {"name": "orders"}, {"connection_string": azure.access()}, guarded) as connection:
        with fails("blocked_address", retryable=True):
            await connection.send(message())


@pytest.mark.parametrize(
    ("config", "access", "problem"),
    [
        ({}, "Endpoint=sb://[::1]/;SharedAccessKeyName=n;SharedAccessKey=k", "credentials.connection_string is not"),
        ({}, "nonsense", "credentials.connection_string must have Endpoint"),
        ({"partition_key_template": "nothing.there"}, "", "config.partition_key_template must start from one of"),
    ],
)
def test_a_bad_config_is_refused(config: dict[str, str], access: str, problem: str) -> None:
    access = access or "Endpoint=sb://x.net/;SharedAccessKeyName=n;SharedAccessKey=k"
    tools = tools_for(guard=AddressGuard())
    [found] = KIND.check({"name": "orders"} | config, {"connection_string": access}, tools)
    assert found.startswith(problem)
