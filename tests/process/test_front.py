"""What strangers do to the port of a server: it goes on for everybody else."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from waypost.net.http import HttpClient

from .server import KEY, Server
from .sink import Sink

AUTHORIZED = f"authorization: Bearer {KEY}\r\n"
FLOOD = 1_100
USUAL_DESCRIPTORS = 1_024


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Lets the test hold the flood open; its hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * FLOOD, hard), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(server: Server, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
    writer.write(sent)
    return reader, writer


async def status(server: Server, request: str, body: bytes = b"") -> int:
    reader, writer = await connect(server, request.encode() + body)
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


def head(method: str, path: str, *headers: str) -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: a", *headers, "", ""])


@pytest.mark.slow
class TestStrangers:
    async def test_silent_connections_stop_nobody(
        self, tmp_path: Path, http: HttpClient, sink: Sink, many_descriptors: int
    ) -> None:
        async with Server(tmp_path, http) as server:
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, many_descriptors))
            await server.add_webhook("acme", sink.url)
            silent = []
            for _ in range(FLOOD):
                silent.append(await connect(server, b"POST /api/v1/publish HTTP/1.1\r\n"))
                if len(silent) % 100 == 0:
                    assert await status(server, head("GET", "/healthz")) == 200
            await server.call("POST", "/publish", {"tenant_id": "acme", "data": {}})
            async with asyncio.timeout(30):
                while not sink.arrived:
                    await asyncio.sleep(0.05)
            for _, writer in silent:
                writer.close()

    async def test_heads_and_bodies_are_bounded(self, tmp_path: Path, http: HttpClient) -> None:
        async with Server(tmp_path, http, request_head_timeout="0.3", request_body_grace="0.3") as server:
            assert await status(server, head("GET", "/healthz", f"x: {'a' * 70_000}")) == 431
            assert await status(server, f"GET /{'a' * 20_000}") == 414
            assert await status(server, "GET /healthz HTTP/1.1\r\n") == 408
            assert await status(server, head("POST", "/api/v1/publish", "content-length: 9")) == 401
            mine = AUTHORIZED.strip()
            assert await status(server, head("POST", "/api/v1/publish", mine, "content-length: 99999")) == 408
            assert await status(server, head("POST", "/api/v1/publish", mine, "content-length: 9999999")) == 413
            assert await status(server, head("PUT", "/api/v1/tenants/a", mine, "content-length: 9999999")) == 413
            assert await status(server, head("GET", "/healthz", "content-length: 99999999")) == 413
            assert await status(server, head("PUT", "/api/v1/tenants/a", "content-length: 99999")) == 401
            assert (await server.send("GET", "/healthz")).status == 200

    async def test_publishing_has_one_spelling(self, tmp_path: Path, http: HttpClient) -> None:
        mine, body = AUTHORIZED.strip(), b'{"tenant_id":"acme","data":{}}'
        async with Server(tmp_path, http) as server:
            for path in (
                "%70ublish",
                "publis%68",
                "/publish",
                "./publish",
                "x/../publish",
                "publish/",
                "publish%2Fbatch",
            ):
                request = head("POST", f"/api/v1/{path}", mine, f"content-length: {len(body)}")
                assert await status(server, request, body) == 404, path
            request = head("POST", "/api/v1/publish", mine, f"content-length: {len(body)}")
            assert await status(server, request, body) == 202

    async def test_a_process_without_descriptors_goes_on(self, tmp_path: Path, http: HttpClient) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with Server(tmp_path, http, webhook_keep_alive="8", delivery_concurrency="8") as server:
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (64, hard))
            flood = [await connect(server) for _ in range(200)]
            spent = _cpu(server.pid)
            for _, writer in flood:
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            await asyncio.gather(*(_line(reader) for reader, _ in flood))
            for _, writer in flood:
                writer.close()
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
            assert await status(server, head("GET", "/healthz")) == 200
            assert _cpu(server.pid) - spent < 5 * os.sysconf("SC_CLK_TCK")


async def _line(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await reader.readline()
        except ConnectionError:
            return b""


def _cpu(pid: int) -> int:
    """Ticks of user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
