"""Pub/Sub against Google's emulator, behind a door that demands a real service account's token."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.destinations.messages import ODD_BODY, message, said_of
from tests.destinations.rest import connected, fails, tools_for
from tests.servers.authority import Authority
from tests.servers.google import GoogleDoor, pem, service_account, strangers_key
from tests.servers.https import HttpsServer
from tests.servers.pubsub import PROJECT, PubSub
from waypost.connect.connector import Connection, Receipt
from waypost.core.errors import DeliveryError
from waypost.destinations.gcp_pubsub import GcpPubSubType
from waypost.net.guard import AddressGuard

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("pubsub"), pytest.mark.timeout(600)]
"""Where Google's emulator is not installed, another is built first, which takes minutes on a small machine."""

KIND = GcpPubSubType()
SCOPE = "https://www.googleapis.com/auth/pubsub"


class Google:
    """The door and the emulator behind it, with a topic of its own for each test."""

    def __init__(self, door: GoogleDoor, server: HttpsServer, authority: Authority, pubsub: PubSub, topic: str) -> None:
        self.door = door
        self.server = server
        self.authority = authority
        self.pubsub = pubsub
        self.topic = topic

    def connected(self, key: str | None = None, **given: Any) -> contextlib.AbstractAsyncContextManager[Connection]:
        values = {"project_id": PROJECT, "topic": self.topic, "endpoint": self.server.url} | given
        credentials = {"service_account_json": key or service_account(self.door.token_uri)}
        return connected(KIND, values, credentials, tools_for(self.authority.ca_file))


@pytest.fixture
async def google(pubsub: PubSub, authority: Authority) -> AsyncIterator[Google]:
    door = GoogleDoor(pubsub.url, SCOPE)
    server = HttpsServer(door, authority)
    door.token_uri = f"{server.url}/token"
    await server.start()
    topic = f"orders-{uuid.uuid4().hex[:12]}"
    pubsub.create(topic)
    yield Google(door, server, authority, pubsub, topic)
    await server.stop()
    await door.close()


# what arrives


async def test_data_and_metadata_arrive_as_they_were(google: Google) -> None:
    sent = message(ODD_BODY, customer="Zoë ✓")
    async with google.connected() as connection:
        receipt = await connection.send(sent)
    [pulled] = google.pubsub.pull(google.topic, 1)
    assert pulled.data == ODD_BODY
    assert pulled.attributes == sent.metadata
    assert pulled.attributes["customer"] == "Zoë ✓"
    assert pulled.ordering_key == ""
    assert receipt.code == "200"
    assert said_of(receipt, messages=1) == {"message_id": pulled.id}


async def test_the_ordering_key_is_made_from_the_event(google: Google) -> None:
    async with google.connected(ordering_key_template="data.customer") as connection:
        await asyncio.gather(
            *(connection.send(message(b'{"customer":"c%d"}' % (n % 2), event_id=f"e{n}")) for n in range(10)),
            connection.send(message(b"{}", event_id="without")),
        )
    pulled = {one.attributes["event-id"]: one.ordering_key for one in google.pubsub.pull(google.topic, 11)}
    assert pulled == {f"e{n}": f"c{n % 2}" for n in range(10)} | {"without": ""}


async def test_messages_of_one_request_share_their_ordering_key(google: Google) -> None:
    async with google.connected(ordering_key_template="data.n") as connection:
        await asyncio.gather(*(connection.send(message(b'{"n":%d}' % (n % 3), event_id=f"e{n}")) for n in range(9)))
    published = [path for _, path, _ in google.door.calls if path.endswith(":publish")]
    assert len(published) == 3


async def test_concurrent_messages_share_requests_and_each_has_its_own_id(google: Google) -> None:
    async with google.connected() as connection:
        receipts = await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(250)))
    pulled = {one.attributes["event-id"]: one.id for one in google.pubsub.pull(google.topic, 250)}
    assert {f"e{n}": receipt.response["message_id"] for n, receipt in enumerate(receipts) if receipt.response} == pulled
    assert sum(path.endswith(":publish") for _, path, _ in google.door.calls) == 3
    assert google.door.tokens_asked == 1


# tokens


async def test_one_token_serves_all_until_google_refuses_it(google: Google) -> None:
    async with google.connected() as connection:
        await connection.send(message())
        await connection.send(message())
        assert google.door.tokens_asked == 1
        google.door.tokens.clear()
        await connection.send(message())
        assert google.door.tokens_asked == 2
    assert len(google.pubsub.pull(google.topic, 3)) == 3


async def test_a_token_about_to_expire_is_not_used(google: Google) -> None:
    google.door.token_faults = [(200, b'{"access_token":"short","expires_in":299}')]
    google.door.tokens.append("short")
    async with google.connected() as connection:
        await connection.send(message())
        await connection.send(message())
    assert google.door.tokens_asked == 2


async def test_a_strangers_key_is_refused_without_a_word_of_it(google: Google) -> None:
    key = pem(strangers_key())
    secrets = (key, key.splitlines()[3])
    async with google.connected(service_account(google.door.token_uri, strangers_key())) as connection:
        with fails("bad_credentials", retryable=False, hidden=secrets) as caught:
            await connection.send(message())
        assert caught.error.sentence.endswith(": invalid_grant Invalid JWT Signature.")
        with fails("bad_credentials", retryable=False, hidden=secrets):
            await connection.verify()
    assert google.door.calls == []


async def test_a_token_that_is_never_accepted_is_bad_credentials(google: Google) -> None:
    google.door.token_faults = [(200, b'{"access_token":"first-x"}'), (200, b'{"access_token":"second-x"}')]
    async with google.connected() as connection:
        with fails("bad_credentials", retryable=False, hidden=("first-x", "second-x")):
            await connection.send(message())
    assert google.door.tokens_asked == 2


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (503, b"", "unavailable"),
        (429, b"{}", "unavailable"),
        (200, b"<html>", "bad_answer"),
        (200, b"{}", "bad_answer"),
    ],
)
async def test_a_token_that_cannot_be_had_now_is_worth_a_retry(
    google: Google, status: int, body: bytes, code: str
) -> None:
    google.door.token_faults = [(status, body)]
    async with google.connected() as connection:
        with fails(code, retryable=True):
            await connection.send(message())
        await connection.send(message())


async def test_all_who_wait_for_a_token_hear_of_its_failure(google: Google) -> None:
    google.door.token_faults = [(503, b"")]
    async with google.connected(ordering_key_template="id") as connection:
        sending = [connection.send(message(event_id=f"e{n}")) for n in range(20)]
        came = await asyncio.gather(*sending, return_exceptions=True)
    assert {one.code for one in came if isinstance(one, DeliveryError)} == {"unavailable"}
    assert len({id(one) for one in came}) == 20
    assert google.door.tokens_asked == 1


# refusals


async def test_a_missing_topic_is_named(google: Google) -> None:
    async with google.connected(topic="nowhere") as connection:
        with fails("no_such_topic", retryable=False) as caught:
            await connection.send(message())
        assert "the topic nowhere in project project" in caught.error.sentence
        assert caught.error.response is not None
        assert caught.error.response["status_code"] == 404


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "invalid_request", False),
        (403, "access_denied", False),
        (413, "message_too_large", False),
        (409, "unavailable", True),
        (418, "unavailable", False),
        (429, "throttled", True),
        (500, "unavailable", True),
        (503, "unavailable", True),
    ],
)
async def test_refusals_are_named(google: Google, status: int, code: str, retryable: bool) -> None:
    fault = json.dumps({"error": {"code": status, "message": "Because of\nthe test.", "status": "X"}}).encode()
    google.door.faults = [(status, fault, {"retry-after": "7"})]
    async with google.connected() as connection:
        with fails(code, retryable=retryable, hidden=tuple(google.door.tokens)) as caught:
            await connection.send(message())
        assert caught.error.sentence.endswith(": Because of the test")
        assert caught.error.retry_after == 7
        await connection.send(message())


async def test_one_bad_message_does_not_spoil_its_neighbours(google: Google) -> None:
    """The request of three is refused; then each goes alone, and the second is refused again."""
    no: tuple[int, bytes, dict[str, str]] = (400, b'{"error":{"message":"no"}}', {})
    good: tuple[int, bytes, dict[str, str]] = (200, b'{"messageIds":["1"]}', {})
    google.door.faults = [no, good, no, good]
    async with google.connected() as connection:
        sending = [connection.send(message(event_id=f"e{n}")) for n in range(3)]
        came = await asyncio.gather(*sending, return_exceptions=True)
    assert sorted("ok" if isinstance(one, Receipt) else getattr(one, "code", "") for one in came) == [
        "invalid_request",
        "ok",
        "ok",
    ]


async def test_an_oversized_message_is_refused_before_it_is_sent(google: Google) -> None:
    data = b'{"x":"' + b"a" * 7_500_000 + b'"}'
    assert len(base64.b64encode(data)) > 10_000_000
    async with google.connected() as connection:
        with fails("message_too_large", retryable=False):
            await connection.send(message(data))
        await connection.send(message())
    assert len(google.pubsub.pull(google.topic, 1)) == 1


async def test_an_ordering_key_that_is_too_long_is_refused(google: Google) -> None:
    async with google.connected(ordering_key_template="data.k") as connection:
        with fails("template_failed", retryable=False):
            await connection.send(message(json.dumps({"k": "é" * 513}).encode()))


async def test_an_answer_too_long_to_be_kept_is_an_acknowledgement_all_the_same(google: Google) -> None:
    google.door.faults = [(200, b'{"messageIds":["1', {})]
    async with google.connected() as connection:
        assert said_of(await connection.send(message()), messages=1) == {"message_id": None}


# the network


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
        sending = [asyncio.create_task(deliver(connection, f"e{n}")) for n in range(40)]
        await google.server.stop()
        await asyncio.sleep(0.1)
        sending += [asyncio.create_task(deliver(connection, f"e{n}")) for n in range(40, 60)]
        with fails("connection_refused", retryable=True):
            await connection.send(message(event_id="down"))
        await google.server.start()
        await asyncio.gather(*sending)
    arrived = {one.attributes["event-id"] for one in google.pubsub.pull(google.topic, 60)}
    assert arrived >= {f"e{n}" for n in range(60)}


async def test_a_cancelled_send_leaves_the_connection_and_its_neighbours_unharmed(google: Google) -> None:
    async with google.connected() as connection:
        sending = [asyncio.create_task(connection.send(message(event_id=f"e{n}"))) for n in range(10)]
        await asyncio.sleep(0)
        sending[0].cancel()
        came = await asyncio.gather(*sending, return_exceptions=True)
        assert isinstance(came[0], asyncio.CancelledError)
        assert all(isinstance(one, Receipt) for one in came[1:])
        await connection.send(message(event_id="after"))
    arrived = {one.attributes["event-id"] for one in google.pubsub.pull(google.topic, 10)}
    assert arrived >= {*(f"e{n}" for n in range(1, 10)), "after"}


async def test_closing_takes_nothing_from_what_is_under_way(google: Google) -> None:
    async with google.connected() as connection:
        sending = asyncio.create_task(connection.send(message()))
        await asyncio.sleep(0)
        await connection.close()
        assert isinstance(await sending, Receipt)


async def test_a_forbidden_endpoint_is_refused_at_connect_time(google: Google) -> None:
    guarded = tools_for(google.authority.ca_file, guard=AddressGuard())
    values = {"project_id": PROJECT, "topic": google.topic, "endpoint": google.server.url}
    credentials = {"service_account_json": service_account(google.door.token_uri)}
    async with connected(KIND, values, credentials, guarded) as connection:
        with fails("blocked_address", retryable=True):
            await connection.send(message())
        with fails("blocked_address", retryable=True):
            await connection.verify()
    assert (google.door.calls, google.door.tokens_asked) == ([], 0)


# the emulator without the door


async def test_an_emulator_gets_no_token(google: Google) -> None:
    async with google.connected(endpoint=google.pubsub.server.address, key="{}") as connection:
        await connection.verify()
        await connection.send(message())
    assert google.door.tokens_asked == 0
    assert len(google.pubsub.pull(google.topic, 1)) == 1


# verify


async def test_verify_asks_for_the_right_to_publish_and_sends_nothing(google: Google) -> None:
    async with google.connected() as connection:
        await connection.verify()
        google.door.rights.clear()
        with fails("access_denied", retryable=False) as caught:
            await connection.verify()
        assert "pubsub.topics.publish" in caught.error.sentence
    assert not any(path.endswith(":publish") for _, path, _ in google.door.calls)


async def test_verify_finds_a_missing_topic(google: Google) -> None:
    google.door.faults = [(404, b'{"error":{"message":"Resource not found"}}', {})]
    async with google.connected(topic="nowhere") as connection:
        with fails("no_such_topic", retryable=False):
            await connection.verify()


# what may be saved


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"endpoint": "ftp://x"}, "config.endpoint must start with http:// or https://"),
        ({"endpoint": "https://user:pw@x.example"}, "config.endpoint must not contain a user name or password"),
        ({"endpoint": "https://10.0.0.1"}, "config.endpoint is not allowed: 10.0.0.1 is a private address"),
        ({"endpoint": "[::1]:8085"}, "config.endpoint is not allowed: ::1 is a loopback address"),
        ({"ordering_key_template": "data."}, "config.ordering_key_template must be a JMESPath expression"),
    ],
)
def test_a_bad_config_is_refused(config: dict[str, str], problem: str) -> None:
    credentials = {"service_account_json": service_account("https://oauth2.googleapis.com/token")}
    found = KIND.check({"project_id": "p", "topic": "orders"} | config, credentials, tools_for(guard=AddressGuard()))
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"type": "authorized_user"}, "must be the key of a service account: its type must be service_account"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----"}, "must have a private_key that is an RSA key in PEM"),
        ({"private_key": 1}, "must be the JSON of a service account's key"),
        ({"client_email": None}, "must be the JSON of a service account's key"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "must have a token_uri that starts with https://"),
        ({"token_uri": "https://169.254.169.254/"}, "(token_uri) is not allowed: 169.254.169.254"),
    ],
)
def test_a_bad_key_is_refused_without_repeating_it(changes: dict[str, Any], problem: str) -> None:
    key = service_account(**{"token_uri": "https://oauth2.googleapis.com/token"} | changes)
    tools = tools_for(guard=AddressGuard())
    [found] = KIND.check({"project_id": "p", "topic": "orders"}, {"service_account_json": key}, tools)
    assert found.startswith(f"credentials.service_account_json {problem}")
    assert "BEGIN" not in found


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\ud800"])
def test_what_is_no_key_at_all_is_refused(text: str) -> None:
    tools = tools_for()
    [found] = KIND.check({"project_id": "p", "topic": "orders"}, {"service_account_json": text}, tools)
    assert found.startswith("credentials.service_account_json must be the JSON of a service account's key")
