"""The live stream of a real server: through stops, crashes and clients that take nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import pytest

from waypost.net.http import HttpClient

from .server import KEY, Server
from .sink import Sink

pytestmark = pytest.mark.slow


class Follower:
    """Follows a stream until it ends or is left, and comes back with the last id."""

    def __init__(self, server: Server, query: str = "") -> None:
        self._url = f"{server.url}/api/v1/stream{query}"
        self._headers = {"authorization": f"Bearer {KEY}"}
        self.events: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.gaps: list[Any] = []

    async def __aenter__(self) -> Self:
        self._connected = asyncio.Event()
        self.following = asyncio.create_task(self._follow())
        await asyncio.wait({self.following, asyncio.create_task(self._connected.wait())}, return_when="FIRST_COMPLETED")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)

    async def _follow(self) -> None:
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("GET", self._url, headers=self._headers) as answer,
        ):
            assert answer.status_code == 200
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                self._connected.set()
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                else:
                    self._note(fields)
                    fields = {}

    def _note(self, fields: dict[str, str]) -> None:
        if "data" not in fields:
            return
        item = msgspec.json.decode(fields["data"])
        if fields["event"] == "gap":
            self.gaps.append(item)
            return
        self._headers["last-event-id"] = fields["id"]
        if fields["event"] == "event":
            self.events.append(item["id"])
        else:
            self.attempts[item["event_id"]] += 1

    async def until(self, events: Sequence[str], attempts: Sequence[str] = ()) -> None:
        async with asyncio.timeout(30):
            while not (set(events) <= set(self.events) and set(attempts) <= set(self.attempts)):
                await asyncio.sleep(0.01)


def told_all(follower: Follower, events: Sequence[str]) -> None:
    """Nothing is left out. What was told just before a restart may come again after it, once for each restart."""
    assert set(follower.events) == set(events)
    again = len(follower.events) - len(events)
    assert again <= len(events) // 2


async def publish(server: Server, numbers: range) -> list[str]:
    names = [f"evt_{number}" for number in numbers]
    bodies = [{"id": name, "tenant_id": "acme", "topic": "order.created", "data": {"a": "b"}} for name in names]
    await asyncio.gather(*(server.call("POST", "/publish", body) for body in bodies))
    return names


async def test_a_stop_ends_the_stream_and_a_start_resumes_it(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    server = Server(tmp_path, http)
    follower = Follower(server)
    async with server, follower:
        await server.add_webhook("acme", sink.url)
        first = await publish(server, range(50))
        await follower.until(first, first)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.wait_for(follower.following, 30)  # an answer that broke off would raise
        assert await stopping == 0
    async with server:
        unseen = await publish(server, range(50, 100))
        async with follower:
            fresh = await publish(server, range(100, 150))
            await follower.until(unseen + fresh, unseen + fresh)
    told_all(follower, first + unseen + fresh)
    assert follower.gaps == []


async def test_a_crash_leaves_nothing_out(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    server = Server(tmp_path, http)
    follower, accepted = Follower(server), list[str]()
    async with server:
        await server.add_webhook("acme", sink.url)
        for crash in range(3):
            async with follower:
                accepted += await publish(server, range(crash * 100, crash * 100 + 100))
                await follower.until(accepted[-crash * 40 - 60 : -crash * 40 - 50])
                await server.kill()
            await server.start()
        async with follower:
            accepted += await publish(server, range(400, 410))
            await follower.until(accepted, accepted)
    told_all(follower, accepted)
    assert follower.gaps == []


@contextlib.asynccontextmanager
async def deaf(server: Server) -> AsyncIterator[None]:
    """A client that asks for everything and takes nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1)
    request = f"GET /api/v1/stream?include=event.data HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n\r\n"
    writer.write(request.encode())
    await reader.readexactly(1)
    yield
    writer.close()


async def test_a_client_that_takes_nothing_delays_neither_others_nor_the_stop(tmp_path: Path, http: HttpClient) -> None:
    server = Server(tmp_path, http, stream_queue="10")
    filler = "x" * 100_000
    async with server, deaf(server), Follower(server, "?kind=event") as follower:
        await server.call("PUT", "/tenants/acme")
        for number in range(200):
            body = {"id": f"evt_{number}", "tenant_id": "acme", "data": {"filler": filler}}
            await server.call("POST", "/publish", body)
            await follower.until([f"evt_{number}"])
        assert await asyncio.wait_for(server.stop(), 60) == 0
