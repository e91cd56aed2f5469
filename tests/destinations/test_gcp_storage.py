"""Cloud Storage against an emulator, behind a door that demands a real service account's token."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.destinations.messages import ODD_BODY, message, said_of
from tests.destinations.rest import connected, fails, tools_for
from tests.servers.authority import Authority
from tests.servers.gcs import BUCKET, CloudStorage
from tests.servers.google import GoogleDoor, pem, service_account, strangers_key
from tests.servers.https import HttpsServer
from waypost.connect.connector import Connection, Receipt
from waypost.core.errors import DeliveryError
from waypost.destinations.gcp_storage import GcpStorageType
from waypost.net.guard import AddressGuard

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("gcs")]

KIND = GcpStorageType()
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class Google:
    """The door and the emulator behind it. Object names under `prefix` are the test's own."""

    def __init__(
        self, door: GoogleDoor, server: HttpsServer, authority: Authority, storage: CloudStorage, prefix: str
    ) -> None:
        self.door = door
        self.server = server
        self.authority = authority
        self.storage = storage
        self.prefix = prefix

    def connected(self, key: str | None = None, **given: Any) -> contextlib.AbstractAsyncContextManager[Connection]:
        values = {
            "bucket": BUCKET,
            "endpoint": self.server.url,
            "key_template": f"{self.prefix}/{{{{id}}}}",
        } | given
        credentials = {"service_account_json": key or service_account(self.door.token_uri)}
        return connected(KIND, values, credentials, tools_for(self.authority.ca_file))


@pytest.fixture
async def google(cloud_storage: CloudStorage, authority: Authority) -> AsyncIterator[Google]:
    door = GoogleDoor(cloud_storage.url, SCOPE)
    server = HttpsServer(door, authority)
    door.token_uri = f"{server.url}/token"
    await server.start()
    yield Google(door, server, authority, cloud_storage, f"t/{uuid.uuid4().hex[:12]}")
    await server.stop()
    await door.close()


async def test_data_and_metadata_are_stored_as_they_were(google: Google) -> None:
    sent = message(ODD_BODY, customer="Zoe")
    async with google.connected() as connection:
        receipt = await connection.send(sent)
    name = f"{google.prefix}/evt_1"
    assert google.storage.content(name) == ODD_BODY
    properties = google.storage.properties(name)
    assert properties["metadata"] == sent.metadata
    assert properties["contentType"] == "application/json"
    md5 = base64.b64encode(hashlib.md5(ODD_BODY).digest()).decode()
    assert receipt.code == "200"
    assert said_of(receipt) == {
        "object": name,
        "generation": properties["generation"],
        "md5Hash": md5,
        "size": str(len(ODD_BODY)),
    }


async def test_metadata_may_have_any_letters(google: Google) -> None:
    async with google.connected() as connection:
        await connection.send(message(customer="Zoë ✓"))
    assert google.storage.properties(f"{google.prefix}/evt_1")["metadata"]["customer"] == "Zoë ✓"


async def test_the_object_is_named_by_the_events_time_and_id(google: Google) -> None:
    event_id = uuid.uuid4().hex
    async with google.connected(key_template=None) as connection:
        receipt = await connection.send(message(event_id=event_id))
    assert receipt.response is not None
    assert receipt.response["object"] == f"2024/01/01/{event_id}.json"
    assert google.storage.content(f"2024/01/01/{event_id}.json") == ODD_BODY


async def test_names_may_have_any_letters(google: Google) -> None:
    async with google.connected(key_template=f"{google.prefix}/{{{{data.n}}}}") as connection:
        receipt = await connection.send(message('{"n":"Grüße & 100% ?#.json"}'.encode()))
    assert receipt.response is not None
    assert f"{google.prefix}/Grüße & 100% ?#.json" in google.storage.names()


async def test_a_repeated_delivery_replaces_the_object(google: Google) -> None:
    async with google.connected() as connection:
        await connection.send(message(b'{"n":1}'))
        await connection.send(message(b'{"n":2}'))
    assert google.storage.content(f"{google.prefix}/evt_1") == b'{"n":2}'


async def test_the_storage_class_is_asked_for(google: Google) -> None:
    """The emulator keeps every object as STANDARD; what is asked for is seen at the door."""
    async with google.connected(storage_class="NEARLINE") as connection:
        await connection.send(message())
    resource = json.loads(google.door.bodies[0].split(b"\r\n\r\n")[1].split(b"\r\n--")[0])
    assert resource["storageClass"] == "NEARLINE"


async def test_many_at_once_each_get_an_object(google: Google) -> None:
    async with google.connected() as connection:
        await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(60)))
    assert google.storage.names() >= {f"{google.prefix}/e{n}" for n in range(60)}
    assert google.door.tokens_asked == 1


async def test_a_missing_bucket_is_named(google: Google) -> None:
    async with google.connected(bucket="nobodys-bucket") as connection:
        with fails("no_such_bucket", retryable=False) as caught:
            await connection.send(message())
        assert "the bucket nobodys-bucket" in caught.error.sentence


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "invalid_request", False),
        (403, "access_denied", False),
        (413, "message_too_large", False),
        (429, "throttled", True),
        (503, "unavailable", True),
    ],
)
async def test_refusals_are_named(google: Google, status: int, code: str, retryable: bool) -> None:
    google.door.faults = [(status, b'{"error":{"message":"Because."}}', {"retry-after": "7"})]
    async with google.connected() as connection:
        with fails(code, retryable=retryable, hidden=tuple(google.door.tokens)) as caught:
            await connection.send(message())
        assert caught.error.retry_after == 7
        await connection.send(message())


async def test_a_strangers_key_is_refused_without_a_word_of_it(google: Google) -> None:
    key = pem(strangers_key())
    async with google.connected(service_account(google.door.token_uri, strangers_key())) as connection:
        with fails("bad_credentials", retryable=False, hidden=(key, key.splitlines()[3])):
            await connection.send(message())


@pytest.mark.parametrize("name", [".", "..", "a\nb", "é" * 513, ".well-known/acme-challenge/x"])
async def test_a_name_that_storage_does_not_take_is_refused(google: Google, name: str) -> None:
    async with google.connected(key_template="data.n") as connection:
        with fails("template_failed", retryable=False):
            await connection.send(message(json.dumps({"n": name}).encode()))
    assert google.door.calls == []


async def test_nothing_is_lost_while_google_is_away(google: Google) -> None:
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

    async with google.connected() as connection:
        sending = [asyncio.create_task(deliver(connection, f"e{n}")) for n in range(20)]
        await google.server.stop()
        with fails("connection_refused", retryable=True):
            await connection.send(message(event_id="down"))
        await google.server.start()
        await asyncio.gather(*sending)
    assert google.storage.names() >= {f"{google.prefix}/e{n}" for n in range(20)}


async def test_a_cancelled_send_leaves_the_connection_usable(google: Google) -> None:
    async with google.connected() as connection:
        sending = asyncio.create_task(connection.send(message(event_id="gone")))
        await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert isinstance(await connection.send(message(event_id="after")), Receipt)


async def test_an_emulator_gets_no_token(google: Google) -> None:
    async with google.connected(endpoint=google.storage.url, key="{}") as connection:
        await connection.verify()
        await connection.send(message())
    assert google.door.tokens_asked == 0
    assert google.storage.content(f"{google.prefix}/evt_1") == ODD_BODY


async def test_verify_asks_for_the_right_to_create_and_creates_nothing(google: Google) -> None:
    async with google.connected() as connection:
        await connection.verify()
        google.door.rights.clear()
        with fails("access_denied", retryable=False) as caught:
            await connection.verify()
        assert "storage.objects.create" in caught.error.sentence
        google.door.faults = [(404, b"", {})]
        with fails("no_such_bucket", retryable=False):
            await connection.verify()
    assert {method for method, _, _ in google.door.calls} == {"GET"}


async def test_a_forbidden_endpoint_is_refused_at_connect_time(google: Google) -> None:
    guarded = tools_for(google.authority.ca_file, guard=AddressGuard())
    credentials = {"service_account_json": service_account(google.door.token_uri)}
    async with connected(KIND, {"bucket": BUCKET, "endpoint": google.server.url}, credentials, guarded) as connection:
        with fails("blocked_address", retryable=True):
            await connection.send(message())
    assert google.door.calls == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"endpoint": "https://192.168.1.1"}, "config.endpoint is not allowed: 192.168.1.1 is a private address"),
        ({"key_template": "{{id"}, "config.key_template must close every {{ with }}"),
    ],
)
def test_a_bad_config_is_refused(config: dict[str, str], problem: str) -> None:
    credentials = {"service_account_json": service_account("https://oauth2.googleapis.com/token")}
    [found] = KIND.check({"bucket": BUCKET} | config, credentials, tools_for(guard=AddressGuard()))
    assert found.startswith(problem)
