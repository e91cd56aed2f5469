"""What `bench.hostile` does to a server: as a stranger, as a tenant, and as a broker or receiver of that tenant.

Everything goes to and comes from 127.0.0.0/8, is bounded in number, and ends with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

from bench.servers import API_KEY
from bench.worker import ignore_interrupts

SOURCE = "127.0.0.2"
"""Where the attackers come from."""
_API = "/api/v1"
_MOST_CALLS = 50_000
_LONGEST = 300.0
_ANSWER = 60.0
_PIECE = 65_536
_DESCRIPTORS = 8_192

Attack = Callable[["Enemy"], AsyncIterator[Awaitable[object]]]
"""Prepares, then yields what is to be done at the same time, each without an end of its own."""


class Plan(Struct, frozen=True):
    port: int
    attacks: tuple[str, ...]
    round: int


class Enemy:
    """One attack's tenant, its token, and what the server has said to it so far."""

    def __init__(self, port: int, name: str, number: int, answers: Counter[str]) -> None:
        self.port = port
        self.tenant = f"enemy-{number}-{name}"
        self.answers = answers
        self.token = ""
        self._calls = 0
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        await self.call("PUT", f"/tenants/{self.tenant}", key=API_KEY)
        self.token = (await self.call("GET", f"/tenants/{self.tenant}/token", key=API_KEY))["token"]

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(SOURCE, 0))
        writer.write(sent)
        return reader, writer

    def head(self, method: str, path: str, *headers: str, key: str | None = None) -> bytes:
        lines = [f"{method} {_API}{path} HTTP/1.1", "host: waypost", f"authorization: Bearer {key or self.token}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode()

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """One request; its decoded answer, or {} for an answer that is none."""
        self._calls += 1
        if self._calls > _MOST_CALLS:
            await asyncio.sleep(_LONGEST)
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        head = self.head(method, path, f"content-length: {len(data)}", "connection: close", key=key)
        try:
            async with asyncio.timeout(_ANSWER):
                reader, writer = await self.connect(head + data)
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            self.answers["no answer"] += 1
            return {}
        first, _, content = answer.partition(b"\r\n\r\n")
        self.answers[first[9:12].decode() or "no answer"] += 1
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(content)
        return {}

    async def over_and_over(self, method: str, path: str, body: Any = None, key: str | None = None) -> None:
        data = None if body is None else msgspec.json.encode(body)
        while True:
            await self.call(method, path, data, key)
            await asyncio.sleep(0.002)

    async def destination(self, kind: str, config: Mapping[str, str], **more: Any) -> str:
        body = {"type": kind, "topics": ["*"], "config": dict(config), **more}
        made = await self.call("POST", f"/tenants/{self.tenant}/destinations", body)
        return str(made.get("id", "none"))

    async def publish(self, data: Any = None) -> None:
        await self.call("POST", "/publish", {"tenant_id": self.tenant, "data": data or {}}, key=API_KEY)

    async def publishing(self, data: Any = None, every: float = 0.1) -> None:
        body = msgspec.json.encode({"tenant_id": self.tenant, "data": data or {}})
        while True:
            await self.call("POST", "/publish", body, key=API_KEY)
            await asyncio.sleep(every)

    async def listen(self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> int:
        """A server of the enemy's own; its port."""

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await talk(reader, writer)
            writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def leave(self) -> None:
        for server in self._servers:
            server.close()
        await self.call("DELETE", f"/tenants/{self.tenant}", key=API_KEY)


# without credentials


async def headers(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Heads without end: one value, and many headers."""

    async def endless(piece: bytes) -> None:
        while True:
            reader, writer = await enemy.connect(b"GET / HTTP/1.1\r\nhost: waypost\r\nx: ")
            with contextlib.suppress(OSError):
                for _ in range(1_000):
                    writer.write(piece)
                    await writer.drain()
            with contextlib.suppress(OSError):
                enemy.answers[(await reader.read(12))[9:].decode() or "closed"] += 1
            writer.close()
            await asyncio.sleep(0.01)

    for _ in range(4):
        yield endless(b"a" * _PIECE)
        yield endless(b"a\r\nx: " * (_PIECE // 6))


async def silent(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """1,100 connections that say nothing, opened again when they are closed."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await enemy.connect(b"GET / HTTP/1.1\r\n")
                await reader.read()
                writer.close()
                enemy.answers["closed"] += 1
            await asyncio.sleep(0.5)

    for _ in range(1_100):
        yield one()


async def slow_bodies(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """200 bodies of a megabyte, a byte a second."""
    path = f"/tenants/{enemy.tenant}/destinations"

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await enemy.connect(enemy.head("POST", path, "content-length: 1000000"))
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b"{")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            enemy.answers[(await reader.read(_PIECE))[9:12].decode() or "closed"] += 1
                            break
                writer.close()
            await asyncio.sleep(0.1)

    for _ in range(200):
        yield one()


async def pipelines(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Thousands of requests in one piece."""
    many = b"GET /healthz HTTP/1.1\r\nhost: waypost\r\n\r\n" * 5_000

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await enemy.connect(many)
                while piece := await reader.read(_PIECE):
                    enemy.answers["200"] += piece.count(b"HTTP/1.1 200")
                writer.close()
            await asyncio.sleep(0.05)

    for _ in range(4):
        yield one()


# with a tenant's token

_COSTLY = {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * 450}}}}
_LONG_LIST = {"l": [{"k": number} for number in range(10_000)]}


async def filter_tests(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Filters that cost much, tried out on events that have much."""
    body = {"filter": _COSTLY, "events": [{"data": _LONG_LIST}]}
    for _ in range(4):
        yield enemy.over_and_over("POST", "/filters/test", body)


async def saved_filters(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """The same filters, saved: every publish for this tenant asks them."""
    half = {"data": {"l": {"k": {"$or": [{"$gt": 10_000_000}] * 200}}}}
    for _ in range(20):
        await enemy.destination("webhook", {"url": "http://127.0.0.1:9/"}, filter=half)
    yield enemy.publishing(_LONG_LIST)


async def templates(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """A key made by an expression that multiplies a list with itself."""
    key = "length(data.l[].[" + ", ".join(["@.k"] * 60) + "][].[" + ", ".join(["@"] * 60) + "][])"
    config = {
        "stream_name": "s",
        "region": "eu-west-1",
        "endpoint": "http://127.0.0.1:9",
        "partition_key_template": key,
    }
    await enemy.destination("aws_kinesis", config, credentials={"key": "AKIAIOSFODNN7EXAMPLE", "secret": "s" * 40})
    yield enemy.publishing(_LONG_LIST)


async def retries(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """A hundred quick retries of each event, each answered by much that is kept."""
    filler = b"".join(b"x-%d: %b\r\n" % (number, b"v" * 500) for number in range(50))

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or b"0"))
            writer.write(b"HTTP/1.1 500 X\r\n%bcontent-length: 65536\r\n\r\n%b" % (filler, bytes(_PIECE)))

    port = await enemy.listen(refuse)
    policy = {"schedule": [0.1] * 100}
    for _ in range(5):
        await enemy.destination("webhook", {"url": f"http://127.0.0.1:{port}/"}, retry_policy=policy)
    yield enemy.publishing(every=0.2)


async def test_events(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Test events and verifications without a pause."""
    made = await enemy.destination("webhook", {"url": "http://127.0.0.1:9/"})
    for verb in ("test", "verify"):
        for _ in range(8):
            yield enemy.over_and_over("POST", f"/tenants/{enemy.tenant}/destinations/{made}/{verb}")


async def unread_pages(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Lists of large events that nobody reads."""
    for _ in range(100):
        await enemy.publish({"filler": "x" * 200_000})

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await enemy.connect(enemy.head("GET", "/events?limit=1000"))
                enemy.answers["asked"] += 1
                await asyncio.sleep(5.0)
                writer.close()

    for _ in range(20):
        yield one()


async def streams(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """As many streams as can be had, unread, of a tenant with large events."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await enemy.connect(enemy.head("GET", "/stream?include=event.data"))
                enemy.answers[(await reader.readexactly(12))[9:].decode()] += 1
                await asyncio.sleep(5.0)
                writer.close()
            await asyncio.sleep(0.2)

    for _ in range(50):
        yield one()
    yield enemy.publishing({"filler": "x" * 100_000})


async def mail(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Alerts by e-mail to somebody else."""
    made = await enemy.call("POST", "/alert-channels", {"type": "email", "config": {"to": "victim@example.com"}})
    for _ in range(4):
        yield enemy.over_and_over("POST", f"/alert-channels/{made.get('id', 'none')}/test")


# as brokers and name servers


def _broker(kind: str, config: Mapping[str, str], flood: bytes, **more: Any) -> Attack:
    async def attack(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            enemy.answers["connected"] += 1
            for _ in range(2_000):
                writer.write(flood)
                await writer.drain()

        port = await enemy.listen(talk)
        there = {key: value.format(port=port) for key, value in config.items()}
        for _ in range(5):
            await enemy.destination(kind, there, **more)
        yield enemy.publishing(every=0.2)

    attack.__doc__ = f"A server for {kind} that sends without end what no such server sends."
    return attack


_ACCOUNT = {"credentials": {"username": "u", "password": "p"}}
_FLOOD = b"\xff" * _PIECE


async def hung_names(enemy: Enemy) -> AsyncIterator[Awaitable[object]]:
    """Destinations whose names nobody answers for."""
    for number in range(20):
        await enemy.destination("webhook", {"url": f"https://n{number}.{enemy.tenant}.example/"})
    yield enemy.publishing(every=0.05)


ATTACKS: dict[str, Attack] = {
    "headers": headers,
    "silent": silent,
    "slow-bodies": slow_bodies,
    "pipelines": pipelines,
    "filter-tests": filter_tests,
    "saved-filters": saved_filters,
    "templates": templates,
    "retries": retries,
    "test-events": test_events,
    "unread-pages": unread_pages,
    "streams": streams,
    "mail": mail,
    "mqtt": _broker("mqtt", {"server": "127.0.0.1:{port}", "tls": "false"}, _FLOOD),
    "kafka": _broker("kafka", {"brokers": "127.0.0.1:{port}", "topic": "t", "sasl_mechanism": "none"}, _FLOOD),
    "rabbitmq": _broker(
        "rabbitmq", {"server_url": "127.0.0.1:{port}", "exchange": "e", "tls": "false"}, _FLOOD, **_ACCOUNT
    ),
    "redis": _broker(
        "redis", {"server": "127.0.0.1:{port}", "stream": "s", "tls": "false"}, b"$2147483647\r\n" + b"x" * _PIECE
    ),
    "nats": _broker("nats", {"servers": "127.0.0.1:{port}", "tls": "false"}, b"PING\r\n" * (_PIECE // 6)),
    "hung-names": hung_names,
}


def main(pipe: Connection, plan: Plan) -> None:
    """Says "ready" when the attacks have begun, and how the server answered them when it is asked to stop."""
    ignore_interrupts()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    uvloop.run(_run(pipe, plan))


async def _run(pipe: Connection, plan: Plan) -> None:
    answers: Counter[str] = Counter()
    enemies = [Enemy(plan.port, name, plan.round, answers) for name in plan.attacks]
    doing = []
    for enemy, name in zip(enemies, plan.attacks, strict=True):
        await enemy.open()
        doing += [asyncio.ensure_future(each) async for each in ATTACKS[name](enemy)]
    pipe.send("ready")
    await _asked_to_stop(pipe)
    for task in doing:
        task.cancel()
    await asyncio.gather(*doing, return_exceptions=True)
    told = dict(answers)
    for enemy in enemies:
        await enemy.leave()
    pipe.send(told)


async def _asked_to_stop(pipe: Connection) -> None:
    """Whoever asks may also have died, or forgotten."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), asked.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST):
            await asked.wait()
    loop.remove_reader(pipe.fileno())
