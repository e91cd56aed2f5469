"""Receivers that take every request and answer none: whoever else is served goes on as if there were none of them."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from waypost.net.http import HttpClient, HttpRequest

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

BATCH = 500


async def until(holds: Any) -> None:
    async with asyncio.timeout(100):
        while not holds():
            await asyncio.sleep(0.02)


async def publish(server: Server, tenants: list[str], each: int) -> None:
    events = [
        {"id": f"{tenant}_{number}", "tenant_id": tenant, "topic": "order.created", "data": {}}
        for number in range(each)
        for tenant in tenants
    ]
    for first in range(0, len(events), BATCH):
        assert (await server.send("POST", "/publish/batch", {"events": events[first : first + BATCH]})).status == 202


class Hanging(Sink):
    """Counts who was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = True
        self.asked = Counter[str]()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked[head.split(b" ", 2)[1].decode()] += 1
            await reader.read()  # until the sender gives up
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            self._open.discard(writer)

    @property
    def waiting(self) -> int:
        return len(self._open)


async def given_up(server: Server) -> float:
    """How many attempts have ended without an answer."""
    return await server.number("waypost_retries_scheduled_total")


async def test_sixteen_of_them(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Hanging() as hanging, Server(tmp_path, http) as server:
        tenants = [f"hanging_{number}" for number in range(16)]
        for tenant in tenants:
            await server.add_webhook(tenant, f"{hanging.url}{tenant}")
        await server.add_webhook("healthy", sink.url)
        await publish(server, tenants, 100)
        await until(lambda: hanging.waiting >= 64)
        await publish(server, ["healthy"], 200)
        await until(lambda: sink.arrived.total() == 200)
        assert hanging.waiting >= 64
        assert await given_up(server) == 0


@pytest.mark.timeout(240)
async def test_five_hundred_tenants_and_the_wave_of_their_retries(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    settings = {"webhook_timeout": "10", "retry_schedule": "1,1,1,1,1,1,1,1"}
    async with Hanging() as hanging, Server(tmp_path, http, **settings) as server:
        tenants = [f"hanging_{number}" for number in range(500)]
        await server.add_webhook("healthy", sink.url)
        for first in range(0, 500, 20):
            await asyncio.gather(
                *[server.add_webhook(tenant, f"{hanging.url}{tenant}") for tenant in tenants[first : first + 20]]
            )
        await publish(server, tenants, 2)
        await until(lambda: hanging.waiting >= 300)
        await publish(server, ["healthy"], 50)
        await until(lambda: sink.arrived.total() == 50)
        assert await given_up(server) == 0
        await until(lambda: hanging.asked.total() >= 1_100)  # all of them are known to hang by now
        before = await given_up(server)
        events = [
            {"id": f"again_{number}", "tenant_id": "healthy", "topic": "order.created", "data": {}}
            for number in range(50)
        ]
        assert (await server.send("POST", "/publish/batch", {"events": events})).status == 202
        await until(lambda: sink.arrived.total() == 100)
        assert await given_up(server) < before + 300


async def test_slow_answers_of_two_tenants_keep_no_third_one_waiting(
    tmp_path: Path, http: HttpClient, sink: Sink
) -> None:
    """The two answer quickly until they are as wide as they may be, and then no more."""
    async with Sink() as slow, Server(tmp_path, http) as server:
        tenants = ["slow_0", "slow_1"]
        for tenant in tenants:
            for number in range(8):
                await server.add_webhook(tenant, slow.url, id=f"des_{tenant}_{number}")
        await server.add_webhook("third", sink.url)
        await publish(server, tenants, 100)
        await until(lambda: slow.arrived.total() == 1600)
        slow.silent = True
        for again in range(2):
            events = [
                {"id": f"{tenant}_{again}_{number}", "tenant_id": tenant, "topic": "order.created", "data": {}}
                for number in range(100)
                for tenant in tenants
            ]
            assert (await server.send("POST", "/publish/batch", {"events": events})).status == 202
        await until(lambda: len(slow._open) >= 500)
        await publish(server, ["third"], 100)
        await until(lambda: sink.arrived.total() == 100)
        assert await given_up(server) == 0


async def test_an_attempt_that_a_stop_cuts_off_is_on_record_and_made_again(
    tmp_path: Path, http: HttpClient, sink: Sink
) -> None:
    server = Server(tmp_path, http, shutdown_timeout="0.5")
    await server.start()
    sink.silent = True
    await server.add_webhook("acme", sink.url)
    await publish(server, ["acme"], 3)
    await until(lambda: len(sink._open) == 3)
    assert await server.stop() == 0
    sink.silent = False
    async with server:
        await until(lambda: sink.arrived.total() >= 3)
        await settled(server)
        made = (await server.call("GET", "/attempts?limit=100"))["models"]
        codes = Counter((attempt["attempt_number"], attempt["code"]) for attempt in made)
        assert codes == {(1, "interrupted"): 3, (2, "200"): 3}
        (destination,) = await server.call("GET", "/tenants/acme/destinations")
        assert destination["disabled_at"] is None


async def test_attempts_for_which_no_descriptor_is_left_are_put_off(
    tmp_path: Path, http: HttpClient, sink: Sink
) -> None:
    # what cannot even be given back, since the store is out of descriptors too, waits until its lease runs out
    lease = {"webhook_timeout": "10", "delivery_timeout": "10", "delivery_lease": "20"}
    async with Server(tmp_path, http, **lease) as server:
        tenants = [f"tenant_{number}" for number in range(30)]
        for tenant in tenants:
            await server.add_webhook(tenant, sink.url)
        assert await put_off(server) == 0  # the connection that asks is open from now on
        pid = server._process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        await publish(server, tenants, 1)
        await until_async(lambda: put_off(server), lambda count: count >= 30)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        await until(lambda: sink.arrived.total() >= 30)
        await settled(server)
        assert await given_up(server) == 0
        made = (await server.call("GET", "/attempts?limit=100"))["models"]
        assert Counter((attempt["attempt_number"], attempt["code"]) for attempt in made) == {(1, "200"): 30}


async def put_off(server: Server) -> float:
    shown = (await server._http.send(HttpRequest(method="GET", url=f"{server.url}/metrics"))).body.decode()
    return sum(
        float(line.split()[-1]) for line in shown.splitlines() if line.startswith("waypost_attempts_put_off_total{")
    )


async def settled(server: Server) -> None:
    await until_async(lambda: server.number("waypost_deliveries_waiting"), lambda count: count == 0)


async def until_async(ask: Any, holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds(await ask()):
            await asyncio.sleep(0.1)
