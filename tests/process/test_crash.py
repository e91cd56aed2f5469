"""Nothing that got a 202 is lost, whenever the process dies and whatever the disk does."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from waypost.core.errors import DeliveryError
from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

PUBLISHES = 20_000
KILLS = 8


class Publishing:
    """Publishes events with ids of its own and remembers which ones got a 202."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.accepted: set[str] = set()
        self.sent = 0

    async def publish(self, count: int, connections: int = 40) -> None:
        """Send the next `count` events; an event whose request broke off counts as sent and not as accepted."""
        following = iter(range(self.sent, self.sent + count))
        self.sent += count
        await asyncio.gather(*(self._publish_each(following) for _ in range(connections)))

    async def _publish_each(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            body = {"id": f"evt_{number}", "tenant_id": "acme", "topic": "order.created", "data": {"n": number}}
            try:
                answer = await self._server.send("POST", "/publish", body)
            except DeliveryError:
                continue
            if answer.status == 202:
                self.accepted.add(f"evt_{number}")


async def everything_arrived(sink: Sink, wanted: set[str], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while wanted - sink.arrived.keys():
            await asyncio.sleep(0.1)


@pytest.mark.timeout(600)
async def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    dice = random.Random()  # a new place to die in every run: the seed would only hide the others
    server = Server(tmp_path, http)
    publishing = Publishing(server)
    await server.start()
    await server.add_webhook("acme", sink.url)
    for _ in range(KILLS):
        load = asyncio.ensure_future(publishing.publish(PUBLISHES // (KILLS + 1)))
        await asyncio.sleep(dice.uniform(0.05, 0.8))
        await server.kill()
        await load
        await server.start()
    await publishing.publish(PUBLISHES - publishing.sent)
    assert publishing.sent == PUBLISHES
    assert len(publishing.accepted) > PUBLISHES // (KILLS + 1)
    await everything_arrived(sink, publishing.accepted)
    async with asyncio.timeout(30):
        while await server.number("waypost_deliveries_waiting"):
            await asyncio.sleep(0.2)
    assert await server.stop() == 0
    with sqlite3.connect(tmp_path / "waypost.db") as database:
        recorded = database.execute(
            "SELECT e.id, count(*) FROM attempts a JOIN events e ON e.seq = a.event_seq WHERE a.ok GROUP BY e.id"
        ).fetchall()
        numbers = database.execute("SELECT max(number) FROM attempts").fetchone()
    database.close()
    on_record = dict(recorded)
    assert publishing.accepted <= on_record.keys()
    assert set(on_record.values()) == {1}
    assert numbers[0] < 10


async def test_a_stop_ends_cleanly_and_a_start_goes_on(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    server = Server(tmp_path, http)
    await server.start()
    await server.add_webhook("acme", sink.url)
    sink.status = 503
    publishing = Publishing(server)
    await publishing.publish(200)
    assert await server.stop() == 0
    sink.status = 200
    sink.arrived.clear()
    async with server:
        await everything_arrived(sink, publishing.accepted)


async def test_a_full_disk_is_an_error_and_never_a_false_202(small_disk: Path, http: HttpClient, sink: Sink) -> None:
    server = Server(small_disk, http)
    await server.start()
    await server.add_webhook("acme", sink.url)
    filler = "x" * 20_000
    accepted, refused = [], 0
    for number in range(300):
        body = {"id": f"evt_{number}", "tenant_id": "acme", "data": {"filler": filler}}
        answer = await server.send("POST", "/publish", body)
        if answer.status == 202:
            accepted.append(f"evt_{number}")
        else:
            assert answer.status == 503
            refused += 1
    assert accepted
    assert refused
    await server.kill()
    remounting = await asyncio.create_subprocess_exec("mount", "-o", "remount,size=64m", str(small_disk))
    assert await remounting.wait() == 0
    async with server:
        await everything_arrived(sink, set(accepted))
        answer = await server.send("POST", "/publish", {"tenant_id": "acme", "data": {"after": True}})
        assert answer.status == 202


async def test_a_locked_file_is_an_error_and_never_a_false_202(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http, database_busy_timeout="0.2") as server:
        await server.add_webhook("acme", sink.url)
        intruder = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
        intruder.execute("BEGIN EXCLUSIVE")
        event = {"id": "evt_locked", "tenant_id": "acme", "data": {}}
        assert (await server.send("POST", "/publish", event)).status == 503
        intruder.execute("ROLLBACK")
        intruder.close()
        answer = await server.call("POST", "/publish", event)
        assert not answer["duplicate"]
        await everything_arrived(sink, {"evt_locked"})
