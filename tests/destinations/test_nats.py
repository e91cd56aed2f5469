from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats as library
import pytest
from msgspec import structs
from nats.js.api import StreamConfig

from tests.destinations.messages import ODD_BODY, message
from tests.destinations.seam import (
    cancelled_while_sending,
    complaints,
    connected,
    deliver_through_an_outage,
    destination,
    refused,
    tools,
)
from tests.servers.authority import Authority
from tests.servers.nats import LARGEST_PAYLOAD, LIMITED, PASSWORD, TOKEN, USER, Nats
from waypost.connect.once import delivery_id
from waypost.destinations.nats import NatsType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("nats")]

KIND = NatsType()
CREDENTIALS = {"username": USER, "password": PASSWORD}
_numbers = itertools.count()


@asynccontextmanager
async def stream_of(
    nats: Nats, prefix: str = "events", address: str | None = None, **options: Any
) -> AsyncIterator[tuple[str, Any]]:
    """A subject that a stream covers with all that is below it, and JetStream seen by NATS's own library."""
    subject, name = f"{prefix}.{next(_numbers)}", f"stream-{next(_numbers)}"
    options = options or {"user": USER, "password": PASSWORD}
    client = await library.connect(f"nats://{address or nats.plain}", **options)
    try:
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name=name, subjects=[f"{subject}.>"], max_msg_size=20_000))
        yield subject, jetstream
    finally:
        await client.close()


def config_of(nats: Nats, subject: str, **more: str) -> dict[str, str]:
    return {"servers": nats.plain, "subject_template": subject + ".{{topic}}", "tls": "false", **more}


async def stored(jetstream: Any, subject: str) -> list[Any]:
    name = await jetstream.find_stream_name_by_subject(f"{subject}.>")
    info = await jetstream.stream_info(name)
    return [await jetstream.get_msg(name, number + 1) for number in range(info.state.messages)]


async def event_ids(jetstream: Any, subject: str) -> set[str]:
    return {found.headers["event-id"] for found in await stored(jetstream, subject)}


async def test_a_message_arrives_byte_for_byte(nats: Nats) -> None:
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            receipt = await connection.send(message(region="eu\r\nx"))
        (found,) = await stored(jetstream, subject)
        name = await jetstream.find_stream_name_by_subject(f"{subject}.>")
    assert found.data == ODD_BODY
    assert found.subject == f"{subject}.order.created"
    assert found.headers == {
        "event-id": "evt_1",
        "topic": "order.created",
        "timestamp": "2024-01-01T12:00:00Z",
        "region": "eu  x",
        "Nats-Msg-Id": delivery_id(1, message()),
    }
    assert receipt.code == "ack"
    assert receipt.response == {"stream": name, "sequence": 1, "duplicate": False}


async def test_a_repetition_is_stored_once_unless_it_was_asked_for(nats: Nats) -> None:
    first = message()
    again, by_hand = structs.replace(first, attempt=2), structs.replace(first, attempt=3, manual=True)
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            receipts = [await connection.send(sent) for sent in (first, again, by_hand)]
        assert len(await stored(jetstream, subject)) == 2
    assert [(receipt.response or {})["duplicate"] for receipt in receipts] == [False, True, False]


async def test_destinations_and_tenants_share_a_stream(nats: Nats) -> None:
    """One event to two destinations, and another tenant's event of the same id: each is stored."""
    sent = message(event_id="order-1001")
    foreign = structs.replace(sent, event=structs.replace(sent.event, seq=sent.event.seq + 1, tenant_id="zeta"))
    async with stream_of(nats) as (subject, jetstream):
        for no, each in ((1, sent), (2, sent), (3, foreign)):
            to = structs.replace(destination(KIND, config_of(nats, subject), CREDENTIALS), no=no)
            connection = await KIND.connect(to, tools())
            receipt = await connection.send(each)
            await connection.close()
            assert (receipt.response or {})["duplicate"] is False
        assert len(await stored(jetstream, subject)) == 3


async def test_what_is_called_a_repetition_the_first_time_is_sent_once_more(nats: Nats) -> None:
    """Somebody else used the id, or this process died before it knew: rather twice than never."""
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            receipts = [await connection.send(message()) for _ in range(2)]
        assert len(await stored(jetstream, subject)) == 2
    assert [(receipt.response or {})["duplicate"] for receipt in receipts] == [False, False]


async def test_a_token(nats: Nats) -> None:
    async with stream_of(nats, address=nats.token, token=TOKEN) as (subject, jetstream):
        config = config_of(nats, subject) | {"servers": nats.token}
        async with connected(KIND, config, {"token": TOKEN}) as connection:
            await connection.verify()
            await connection.send(message())
        async with connected(KIND, config, {"token": "not-the-Token-8"}) as connection:
            await refused(connection.send(message()), "bad_credentials", secret="not-the-Token-8")
        assert await event_ids(jetstream, subject) == {"evt_1"}


async def test_over_tls(nats: Nats, authority: Authority) -> None:

    context = ssl.create_default_context(cadata=authority.ca)
    async with stream_of(nats, address=nats.tls, tls=context) as (subject, jetstream):
        config = config_of(nats, subject) | {"servers": nats.tls, "tls": "true", "ca_certificate": authority.ca}
        async with connected(KIND, config) as connection:
            await connection.verify()
            await connection.send(message())
        assert await event_ids(jetstream, subject) == {"evt_1"}


async def test_the_certificate_is_verified(nats: Nats, authority: Authority) -> None:
    port = nats.tls.rpartition(":")[2]
    async with connected(KIND, {"servers": nats.tls}) as connection:
        await refused(connection.verify(), "tls_error")
    async with connected(KIND, {"servers": f"127.0.0.1:{port}", "ca_certificate": authority.ca}) as connection:
        await refused(connection.verify(), "tls_error")


async def test_credentials_never_travel_without_the_tls_that_was_asked_for(nats: Nats) -> None:
    async with connected(KIND, {"servers": nats.plain, "tls": "true"}, CREDENTIALS) as connection:
        error = await refused(connection.send(message()), "tls_error", secret=PASSWORD)
        assert "offers no TLS" in error.sentence
    async with connected(KIND, {"servers": nats.tls, "tls": "false"}) as connection:
        error = await refused(connection.send(message()), "tls_error")
        assert "wants TLS" in error.sentence


async def test_wrong_credentials(nats: Nats) -> None:
    for credentials in ({"username": USER, "password": "not-the-Secret-8"}, {}):
        async with connected(KIND, config_of(nats, "events"), credentials) as connection:
            error = await refused(connection.send(message()), "bad_credentials", secret="not-the-Secret-8")
            assert not error.retryable
            await refused(connection.verify(), "bad_credentials", secret="not-the-Secret-8")


async def test_no_stream_takes_the_subject(nats: Nats) -> None:
    async with connected(KIND, config_of(nats, "nowhere"), CREDENTIALS) as connection:
        error = await refused(connection.send(message()), "no_such_stream")
        assert "nowhere.order.created" in error.sentence
        await connection.verify()


async def test_a_subject_that_the_user_may_not_publish_to(nats: Nats) -> None:
    credentials = {"username": LIMITED, "password": PASSWORD}
    async with stream_of(nats, "allowed") as (subject, _), stream_of(nats) as (other, _):
        template = f"{{{{data.where || '{subject}'}}}}.x"
        async with connected(KIND, config_of(nats, "") | {"subject_template": template}, credentials) as connection:
            allowed = [asyncio.create_task(connection.send(message())) for _ in range(5)]
            forbidden = message(json.dumps({"where": other}).encode())
            error = await refused(connection.send(forbidden), "access_denied", secret=PASSWORD)
            assert f"{other}.x" in error.sentence
            await asyncio.gather(*allowed)


async def test_too_large(nats: Nats) -> None:
    """Too large for the server, then for the stream; neither disturbs the connection."""
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            for size in (LARGEST_PAYLOAD, 30_000):
                large = message(b'{"x":"' + b"y" * size + b'"}')
                error = await refused(connection.send(large), "message_too_large")
                assert not error.retryable
            await connection.send(message(event_id="e2"))
        assert await event_ids(jetstream, subject) == {"e2"}


@pytest.mark.parametrize("subject", ["a b", "a..b", "a.*", ">", ".a", "a."])
async def test_a_subject_that_is_none(nats: Nats, subject: str) -> None:
    config = config_of(nats, "") | {"subject_template": "data.subject"}
    async with connected(KIND, config, CREDENTIALS) as connection:
        error = await refused(connection.send(message(json.dumps({"subject": subject}).encode())), "invalid_subject")
        assert not error.retryable


async def test_many_at_once(nats: Nats) -> None:
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            receipts = await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
        found = [sent.headers["event-id"] for sent in await stored(jetstream, subject)]
    assert [found[(receipt.response or {})["sequence"] - 1] for receipt in receipts] == [f"e{n}" for n in range(200)]


async def test_cancelled_sends_leave_the_connection_usable(nats: Nats) -> None:
    async with stream_of(nats) as (subject, jetstream):
        async with connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
            await connection.send(message())
            await cancelled_while_sending(connection, [message(event_id=f"gone-{n}") for n in range(20)])
            receipt = await connection.send(message(event_id="last"))
        found = await stored(jetstream, subject)
    assert found[(receipt.response or {})["sequence"] - 1].headers["event-id"] == "last"


async def test_nothing_is_lost_when_the_server_goes_away(nats: Nats) -> None:
    async with stream_of(nats) as (subject, _), connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
        messages = [message(event_id=f"e{n}") for n in range(60)]
        await deliver_through_an_outage(connection, messages, nats.server.stop, nats.server.start)
        client = await library.connect(f"nats://{nats.plain}", user=USER, password=PASSWORD)
        try:
            assert await event_ids(client.jetstream(), subject) == {f"e{n}" for n in range(60)}
        finally:
            await client.close()


async def test_the_next_server_is_tried(nats: Nats) -> None:
    async with stream_of(nats) as (subject, _):
        config = config_of(nats, subject) | {"servers": f"127.0.0.1:1, {nats.plain}"}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await connection.send(message())
    async with connected(KIND, config | {"servers": "127.0.0.1:1"}, CREDENTIALS) as connection:
        assert (await refused(connection.send(message()), "connection_refused")).retryable


async def test_a_server_that_speaks_something_else() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        config = {"servers": f"127.0.0.1:{other.sockets[0].getsockname()[1]}", "tls": "false"}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await refused(connection.send(message()), "protocol_error", secret=PASSWORD)


async def test_forbidden_addresses(nats: Nats) -> None:
    strict = tools(local=False, addresses={"inside.example.com": ("93.184.216.34", "10.0.0.1")})
    config = config_of(nats, "events")
    (problem,) = KIND.check(config, CREDENTIALS, strict)
    assert problem.startswith("config.servers is not allowed: 127.0.0.1 is a loopback address")
    for servers in (nats.plain, "inside.example.com", "localhost:4222"):
        connection = await KIND.connect(destination(KIND, config | {"servers": servers}, CREDENTIALS), strict)
        await refused(connection.send(message()), "blocked_address", secret=PASSWORD)
        await connection.close()


async def test_a_closed_connection_sends_nothing(nats: Nats) -> None:
    async with stream_of(nats) as (subject, _), connected(KIND, config_of(nats, subject), CREDENTIALS) as connection:
        await connection.send(message())
        await connection.close()
        await refused(connection.send(message()), "connection_closed")


GOOD = {"servers": "a.example.com:4222, b.example.com"}


@pytest.mark.parametrize(
    ("changes", "credentials", "sentence"),
    [
        ({"servers": ""}, {}, "config.servers is required"),
        ({"servers": "nats://host:4222"}, {}, "config.servers must be host:port"),
        ({"servers": "192.168.1.1"}, {}, "config.servers is not allowed"),
        ({"subject_template": "orders"}, {}, "config.subject_template must start from one of"),
        ({}, {"username": "u"}, "credentials.password is required"),
        ({}, {"password": "p"}, "credentials.username is required"),
        ({}, {"token": "t", "username": "u", "password": "p"}, "credentials.token must not be given together"),
        ({"subject": "x"}, {}, "config.subject is not a field"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, str], credentials: dict[str, str], sentence: str) -> None:
    assert any(problem.startswith(sentence) for problem in complaints(KIND, GOOD | changes, credentials))


def test_what_can_be_saved() -> None:
    assert complaints(KIND, GOOD, {}) == []
    assert KIND.target(destination(KIND, GOOD, {})) == ("a.example.com:4222, b.example.com", None)
