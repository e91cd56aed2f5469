"""A log that cannot be written stops nobody, and a stop always comes to an end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import pytest

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[None]:
    """Somebody else has the database for himself."""
    intruder = sqlite3.connect(folder / "waypost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        intruder.execute("ROLLBACK")
        intruder.close()


def full_device() -> tuple[IO[bytes], list[int]]:
    return Path("/dev/full").open("wb", buffering=0), []


def unread_pipe() -> tuple[IO[bytes], list[int]]:
    reader, writer = os.pipe()
    return os.fdopen(writer, "wb", buffering=0), [reader]


def dead_pipe() -> tuple[IO[bytes], list[int]]:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb", buffering=0), []


@pytest.mark.parametrize("made", [full_device, unread_pipe, dead_pipe])
async def test_a_log_that_cannot_be_written_costs_its_lines_only(
    tmp_path: Path, http: HttpClient, sink: Sink, made: object
) -> None:
    assert callable(made)
    log, kept_open = made()
    settings = {"database_busy_timeout": "0.1", "log_events": "true", "log_queue_lines": "200"}
    server = Server(tmp_path, http, **settings)
    try:
        await server.start(log)
        await server.add_webhook("acme", sink.url)
        async with locked(tmp_path):
            event = {"tenant_id": "acme", "data": {"text": "x" * 500}}
            assert {(await server.send("POST", "/publish", event)).status for _ in range(3)} == {503}
        async with asyncio.timeout(60):
            while not await server.number("waypost_log_lines_dropped_total"):
                assert (await server.send("POST", "/publish", {"tenant_id": "acme", "data": {}})).status == 202
        assert await server.stop() == 0
    finally:
        await server.kill()
        log.close()
        for descriptor in kept_open:
            os.close(descriptor)


async def test_a_greeting_that_nobody_can_read_is_no_reason_not_to_serve(tmp_path: Path, http: HttpClient) -> None:
    full, _ = full_device()
    server = Server(tmp_path, http)
    await server.start(full, output=full)
    full.close()
    assert await server.stop() == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, http: HttpClient) -> None:
    async with Sink() as hanging:
        hanging.silent = True
        server = Server(tmp_path, http, shutdown_timeout="600", shutdown_deadline="900", webhook_timeout="60")
        await server.start()
        await server.add_webhook("acme", hanging.url)
        await server.call("POST", "/publish", {"tenant_id": "acme", "data": {}})
        await under_way(server)
        server.signal(signal.SIGTERM)
        await server.gone()
        server.signal(signal.SIGINT)
        assert await server.ended() == 128 + signal.SIGINT


async def test_a_stop_that_hangs_is_ended_at_its_deadline(tmp_path: Path, http: HttpClient) -> None:
    async with Sink() as hanging:
        hanging.silent = True
        server = Server(tmp_path, http, shutdown_timeout="600", shutdown_deadline="1", webhook_timeout="60")
        with (tmp_path / "log").open("wb") as log:
            await server.start(log)
            await server.add_webhook("acme", hanging.url)
            await server.call("POST", "/publish", {"tenant_id": "acme", "data": {}})
            await under_way(server)
            server.signal(signal.SIGTERM)
            assert await server.ended() == 70
    assert b"stop_overdue" in (tmp_path / "log").read_bytes()


HANGING = """
import asyncio, sys, time
from waypost import service
def hang():
    while True:
        time.sleep(0.01)
service.settle_down = lambda: asyncio.get_running_loop().call_soon(hang)
from waypost.cli.main import main
sys.argv = ["waypost", "serve"]
main()
"""


async def test_an_event_loop_that_hangs_is_ended_at_the_deadline(tmp_path: Path, http: HttpClient) -> None:
    server = Server(tmp_path, http, shutdown_deadline="1")
    await server.launch("-c", HANGING, log=None, output=asyncio.subprocess.PIPE)
    assert b"listens on" in await server.output.readline()
    server.signal(signal.SIGTERM)
    assert await server.ended() == 70


async def under_way(server: Server) -> None:
    async with asyncio.timeout(30):
        while not await server.number("waypost_attempts_in_flight"):
            await asyncio.sleep(0.05)
