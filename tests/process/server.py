"""`waypost serve` as its users run it: a process of its own, settings from the environment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any, Self

import msgspec
from bench.servers import free_port

from waypost.core.errors import DeliveryError
from waypost.net.http import HttpClient, HttpRequest, HttpResponse

KEY = "an-admin-key-for-tests"
_STARTED_WITHIN = 30
_ENDED_WITHIN = 60


class Server:
    def __init__(self, folder: Path, http: HttpClient, **settings: str) -> None:
        self._http = http
        self._port = free_port()
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")},
            "WAYPOST_PORT": str(self._port),
            "WAYPOST_API_KEY": KEY,
            "WAYPOST_DATABASE_URL": f"sqlite:///{folder}/waypost.db",
            "WAYPOST_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WAYPOST_RETRY_SCHEDULE": "0.2,0.5,1,1,1,1,1,1",
            "WAYPOST_LOG_EVENTS": "false",
            **{f"WAYPOST_{name.upper()}": value for name, value in settings.items()},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, log: IO[bytes] | None = None, output: IO[bytes] | int = asyncio.subprocess.DEVNULL) -> None:
        await self.launch("-m", "waypost", "serve", log=log, output=output)
        async with asyncio.timeout(_STARTED_WITHIN):
            while not await self._answers():
                await asyncio.sleep(0.05)

    async def launch(self, *arguments: str, log: IO[bytes] | None, output: IO[bytes] | int) -> None:
        """Start this Python with such arguments, and do not wait for an answer."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=self._folder, env=self._environment, stdout=output, stderr=log
        )

    @property
    def output(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def gone(self) -> None:
        """Wait until it takes no more requests."""
        async with asyncio.timeout(_STARTED_WITHIN):
            while True:
                try:
                    await self._http.send(HttpRequest(method="GET", url=f"{self.url}/healthz"))
                except DeliveryError:
                    return
                await asyncio.sleep(0.05)

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        async with asyncio.timeout(_ENDED_WITHIN):
            return await self._process.wait()

    async def _answers(self) -> bool:
        assert self._process.returncode is None, "the server ended while starting"
        try:
            return (await self._http.send(HttpRequest(method="GET", url=f"{self.url}/healthz"))).status == 200
        except DeliveryError:
            return False

    async def stop(self) -> int:
        """Ask it to end, and wait for its exit status."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def number(self, name: str) -> float:
        """A figure from `/metrics`."""
        shown = (await self._http.send(HttpRequest(method="GET", url=f"{self.url}/metrics"))).body.decode()
        return next(float(line.split()[1]) for line in shown.splitlines() if line.startswith(f"{name} "))

    async def send(self, method: str, path: str, body: Any = None) -> HttpResponse:
        """Raises DeliveryError when no answer comes."""
        request = HttpRequest(
            method=method,
            url=f"{self.url}/api/v1{path}",
            headers=[f"authorization: Bearer {KEY}", "content-type: application/json"],
            body=b"" if body is None else msgspec.json.encode(body),
        )
        return await self._http.send(request)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to a request that must succeed."""
        response = await self.send(method, path, body)
        assert response.status < 300, (response.status, response.body)
        return msgspec.json.decode(response.body)

    async def add_webhook(self, tenant: str, url: str, **fields: Any) -> Any:
        await self.call("PUT", f"/tenants/{tenant}")
        body = {"type": "webhook", "topics": "*", "config": {"url": url}, **fields}
        return await self.call("POST", f"/tenants/{tenant}/destinations", body)
