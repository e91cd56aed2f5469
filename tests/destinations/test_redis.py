from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from tests.destinations.messages import ODD_BODY, message
from tests.destinations.seam import (
    cancelled_while_sending,
    complaints,
    connected,
    deliver,
    deliver_through_an_outage,
    destination,
    refused,
    tools,
)
from tests.servers.authority import Authority
from tests.servers.redis import PASSWORD, WRITER, Redis
from waypost.destinations.redis import RedisType

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("redis")]

KIND = RedisType()
CREDENTIALS = {"password": PASSWORD}
LARGE = b'{"x":"' + b"y" * 2_000_000 + b'"}'
_numbers = itertools.count()


def open_config(redis: Redis, **more: str) -> dict[str, str]:
    return {"server": redis.plain, "stream": f"events-{next(_numbers)}", "tls": "false", **more}


@asynccontextmanager
async def client_of(redis: Redis) -> AsyncIterator[Any]:
    async with Client(host="127.0.0.1", port=redis.server.port, password=PASSWORD) as client:
        yield client


async def entries(redis: Redis, stream: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    async with client_of(redis) as client:
        found: list[tuple[bytes, dict[bytes, bytes]]] = await client.xrange(stream)
        return found


async def event_ids(redis: Redis, stream: str) -> set[str]:
    return {fields[b"event-id"].decode() for _, fields in await entries(redis, stream)}


async def test_an_entry_arrives_byte_for_byte(redis: Redis) -> None:
    config = open_config(redis)
    async with connected(KIND, config, CREDENTIALS) as connection:
        receipt = await connection.send(message(region="Süd", data="mine"))
    ((entry, fields),) = await entries(redis, config["stream"])
    assert {key.decode(): value for key, value in fields.items()} == {
        "data": ODD_BODY,
        "region": "Süd".encode(),
        "metadata-data": b"mine",
        "event-id": b"evt_1",
        "topic": b"order.created",
        "timestamp": b"2024-01-01T12:00:00Z",
    }
    assert receipt.code == "ack"
    assert receipt.response == {"id": entry.decode()}


async def test_over_tls_as_a_user_who_may_only_append(redis: Redis, authority: Authority) -> None:
    config = open_config(redis) | {"server": redis.tls, "tls": "true", "ca_certificate": authority.ca}
    async with connected(KIND, config, {"username": WRITER, "password": PASSWORD}) as connection:
        await connection.verify()
        await connection.send(message())
    assert await event_ids(redis, config["stream"]) == {"evt_1"}


async def test_the_certificate_is_verified(redis: Redis, authority: Authority) -> None:
    port = redis.tls.rpartition(":")[2]
    config = open_config(redis) | {"tls": "true"}
    async with connected(KIND, config | {"server": redis.tls}, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)
    trusting = config | {"ca_certificate": authority.ca, "server": f"127.0.0.1:{port}"}
    async with connected(KIND, trusting, CREDENTIALS) as connection:
        await refused(connection.verify(), "tls_error", secret=PASSWORD)


@pytest.mark.parametrize(
    "credentials", [{"password": "not-the-Secret-8"}, {"username": "nobody", "password": "not-the-Secret-8"}, {}]
)
async def test_wrong_credentials(redis: Redis, credentials: dict[str, str]) -> None:
    async with connected(KIND, open_config(redis), credentials) as connection:
        error = await refused(connection.send(message()), "bad_credentials", secret="not-the-Secret-8")
        assert not error.retryable
        await refused(connection.verify(), "bad_credentials", secret="not-the-Secret-8")


async def test_a_user_who_may_not_write_there(redis: Redis) -> None:
    config = open_config(redis) | {"stream": "elsewhere"}
    async with connected(KIND, config, {"username": WRITER, "password": PASSWORD}) as connection:
        await refused(connection.send(message()), "access_denied", secret=PASSWORD)


async def test_a_missing_stream(redis: Redis) -> None:
    config = open_config(redis, create_stream="false")
    async with connected(KIND, config, CREDENTIALS) as connection:
        error = await refused(connection.send(message()), "no_such_stream")
        assert config["stream"] in error.sentence
        async with client_of(redis) as client:
            await client.xadd(config["stream"], {"a": "b"})
        await connection.send(message())


async def test_a_key_that_holds_something_else(redis: Redis) -> None:
    config = open_config(redis)
    async with client_of(redis) as client:
        await client.set(config["stream"], "text")
    async with connected(KIND, config, CREDENTIALS) as connection:
        await refused(connection.send(message()), "wrong_type")


async def test_too_large(redis: Redis) -> None:
    """The server hangs up on it, which the others on the same connection survive by another try."""
    config = open_config(redis)
    async with connected(KIND, config, CREDENTIALS) as connection:
        await connection.send(message(event_id="first"))
        others = [asyncio.create_task(deliver(connection, message(event_id=f"e{n}"))) for n in range(10)]
        await refused(deliver(connection, message(LARGE)), "message_too_large")
        await asyncio.gather(*others)
    assert await event_ids(redis, config["stream"]) == {"first", *(f"e{n}" for n in range(10))}


async def test_no_memory_left(redis: Redis) -> None:
    async with client_of(redis) as client, connected(KIND, open_config(redis), CREDENTIALS) as connection:
        await client.config_set("maxmemory", "1")
        try:
            error = await refused(connection.send(message()), "out_of_memory")
        finally:
            await client.config_set("maxmemory", "0")
        assert error.retryable
        await connection.send(message())


async def test_the_stream_is_kept_short(redis: Redis) -> None:
    config = open_config(redis, max_length="100")
    async with connected(KIND, config, CREDENTIALS) as connection:
        await asyncio.gather(*(connection.send(message()) for _ in range(500)))
    assert 100 <= len(await entries(redis, config["stream"])) < 300


async def test_another_database(redis: Redis) -> None:
    config = open_config(redis, database="3")
    async with connected(KIND, config, CREDENTIALS) as connection:
        await connection.send(message())
    assert await entries(redis, config["stream"]) == []
    async with Client(host="127.0.0.1", port=redis.server.port, password=PASSWORD, db=3) as client:
        assert await client.xlen(config["stream"]) == 1


async def test_many_at_once(redis: Redis) -> None:
    config = open_config(redis)
    async with connected(KIND, config, CREDENTIALS) as connection:
        receipts = await asyncio.gather(*(connection.send(message(event_id=f"e{n}")) for n in range(200)))
    found = {entry.decode(): fields[b"event-id"].decode() for entry, fields in await entries(redis, config["stream"])}
    assert [found[(receipt.response or {})["id"]] for receipt in receipts] == [f"e{n}" for n in range(200)]


async def test_cancelled_sends_leave_the_connection_usable(redis: Redis) -> None:
    """No later send may get the answer to a cancelled one."""
    config = open_config(redis)
    async with connected(KIND, config, CREDENTIALS) as connection:
        await connection.send(message())
        await cancelled_while_sending(connection, [message(event_id=f"gone-{n}") for n in range(20)])
        receipt = await connection.send(message(event_id="last"))
    assert (await entries(redis, config["stream"]))[-1][0].decode() == (receipt.response or {})["id"]


async def test_nothing_is_lost_when_the_server_goes_away(redis: Redis) -> None:
    config = open_config(redis)
    async with connected(KIND, config, CREDENTIALS) as connection:
        messages = [message(event_id=f"e{n}") for n in range(60)]
        await deliver_through_an_outage(connection, messages, redis.server.kill, redis.server.start)
    assert await event_ids(redis, config["stream"]) == {f"e{n}" for n in range(60)}


async def test_a_server_that_is_not_there(redis: Redis) -> None:
    async with connected(KIND, open_config(redis) | {"server": "127.0.0.1:1"}, CREDENTIALS) as connection:
        error = await refused(connection.send(message()), "connection_refused")
        assert error.retryable


async def test_a_server_that_speaks_something_else(redis: Redis) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        config = open_config(redis) | {"server": f"127.0.0.1:{other.sockets[0].getsockname()[1]}"}
        async with connected(KIND, config, CREDENTIALS) as connection:
            await refused(connection.send(message()), "protocol_error", secret=PASSWORD)


async def test_a_server_that_does_not_answer(redis: Redis) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as other:
        config = open_config(redis) | {"server": f"127.0.0.1:{other.sockets[0].getsockname()[1]}"}
        async with connected(KIND, config, {}, tools(redis_timeout=0.3)) as connection:
            sends = (refused(connection.send(message()), "timeout") for _ in range(3))
            await asyncio.gather(*sends)


async def test_forbidden_addresses(redis: Redis) -> None:
    strict = tools(local=False, addresses={"inside.example.com": ("93.184.216.34", "10.0.0.1")})
    config = open_config(redis)
    (problem,) = KIND.check(config, CREDENTIALS, strict)
    assert problem.startswith("config.server is not allowed: 127.0.0.1 is a loopback address")
    for server in (redis.plain, "inside.example.com", "localhost:6379"):
        connection = await KIND.connect(destination(KIND, config | {"server": server}, CREDENTIALS), strict)
        await refused(connection.send(message()), "blocked_address", secret=PASSWORD)
        await connection.close()


async def test_a_closed_connection_sends_nothing(redis: Redis) -> None:
    async with connected(KIND, open_config(redis), CREDENTIALS) as connection:
        await connection.send(message())
        await connection.close()
        await refused(connection.send(message()), "connection_closed")


GOOD = {"server": "redis.example.com:6379", "stream": "events"}


@pytest.mark.parametrize(
    ("changes", "credentials", "sentence"),
    [
        ({"server": ""}, {}, "config.server is required"),
        ({"server": "redis://host:1"}, {}, "config.server must be host:port"),
        ({"server": "a:1,b:2"}, {}, "config.server must be one server"),
        ({"server": "10.0.0.1"}, {}, "config.server is not allowed"),
        ({"stream": ""}, {}, "config.stream is required"),
        ({"max_length": "0"}, {}, "config.max_length failed pattern validation"),
        ({"database": "x"}, {}, "config.database failed pattern validation: a whole number"),
        ({"ca_certificate": "no"}, {}, "config.ca_certificate must be one or more certificates"),
        ({}, {"username": "u"}, "credentials.password is required"),
        ({"maxlen": "3"}, {}, "config.maxlen is not a field"),
    ],
)
def test_what_cannot_be_saved(changes: dict[str, str], credentials: dict[str, str], sentence: str) -> None:
    assert any(problem.startswith(sentence) for problem in complaints(KIND, GOOD | changes, credentials))


def test_what_can_be_saved() -> None:
    assert complaints(KIND, GOOD, {}) == []
    assert complaints(KIND, GOOD | {"server": "[2606:2800:220:1::1]:6379"}, {}) == []
    assert KIND.target(destination(KIND, GOOD, {})) == ("events at redis.example.com:6379", None)
