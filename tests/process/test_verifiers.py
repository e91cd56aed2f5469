"""The receivers' own libraries verify what really arrives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import standardwebhooks
import svix

from waypost.net.http import HttpClient

from .server import Server
from .sink import Sink

pytestmark = pytest.mark.slow

DATA = '{"n": 1.10, "big": 123456789012345678901234567890, "ü": "\\u00fc"}'


async def arrived(sink: Sink, count: int) -> None:
    async with asyncio.timeout(15):
        while len(sink.requests) < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
async def test_standard_webhooks(tmp_path: Path, http: HttpClient, sink: Sink, library: Any) -> None:
    async with Server(tmp_path, http) as server:
        destination = await server.add_webhook("acme", sink.url)
        await server.call("POST", "/publish", {"tenant_id": "acme", "data": msgspec.Raw(DATA.encode())})
        await arrived(sink, 1)
        (request,) = sink.requests
        assert request.body == DATA.encode()
        verifier = library(destination["credentials"]["secret"])
        verifier.verify(request.body, request.headers)
        with pytest.raises(Exception, match=r"(?i)signature"):
            verifier.verify(request.body + b" ", request.headers)


async def test_both_secrets_verify_during_a_rotation(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http) as server:
        old = await server.add_webhook("acme", sink.url)
        path = f"/tenants/acme/destinations/{old['id']}"
        new = await server.call("PATCH", path, {"credentials": {"rotate_secret": True}})
        assert new["credentials"]["secret"] != old["credentials"]["secret"] == new["credentials"]["previous_secret"]
        await server.call("POST", "/publish", {"tenant_id": "acme", "data": {}})
        await arrived(sink, 1)
        (request,) = sink.requests
        for destination in (old, new):
            standardwebhooks.Webhook(destination["credentials"]["secret"]).verify(request.body, request.headers)


async def test_a_retry_keeps_the_id_and_signs_anew(tmp_path: Path, http: HttpClient, sink: Sink) -> None:
    async with Server(tmp_path, http, retry_schedule="1.1") as server:
        destination = await server.add_webhook("acme", sink.url)
        sink.status = 500
        await server.call("POST", "/publish", {"tenant_id": "acme", "data": {}})
        await arrived(sink, 2)
        first, second = (request.headers for request in sink.requests)
        assert first["webhook-id"] == second["webhook-id"]
        assert first["webhook-timestamp"] != second["webhook-timestamp"]
        for request in sink.requests:
            svix.Webhook(destination["credentials"]["secret"]).verify(request.body, request.headers)
