"""Whose address the audit log has when a reverse proxy stands before Waypost."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from waypost.net.http import HttpClient

from .server import KEY, Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("trusted", "address"), [("127.0.0.0/8", "203.0.113.9"), ("192.0.2.0/24", "127.0.0.1"), ("", "127.0.0.1")]
)
async def test_a_trusted_proxy_is_believed(tmp_path: Path, http: HttpClient, trusted: str, address: str) -> None:
    async with Server(tmp_path, http, trusted_proxies=trusted) as server, httpx.AsyncClient() as client:
        headers = {"authorization": f"Bearer {KEY}", "x-forwarded-for": "198.51.100.1, 203.0.113.9"}
        answer = await client.put(f"{server.url}/api/v1/tenants/acme", headers=headers)
        assert answer.status_code == 201
        (entry,) = (await server.call("GET", "/audit-log?subject=acme"))["models"]
        assert entry["actor"]["ip"] == address
