"""Cloud Storage as PyPI's `gcp-storage-emulator` has it, in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from bench.servers import free_port

from tests.servers.harness import HOST, Server, listens, missing, start

BUCKET = "waypost-events"


class CloudStorage:
    """The emulator with one bucket."""

    def __init__(self, server: Server) -> None:
        self.url = f"http://{server.address}"
        self._http = httpx.Client(base_url=self.url, timeout=20, limits=httpx.Limits(max_keepalive_connections=0))

    def content(self, name: str) -> bytes:
        return self._get(f"/download/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media").content

    def properties(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}").json()
        return found

    def names(self) -> set[str]:
        return {item["name"] for item in self._get(f"/storage/v1/b/{BUCKET}/o").json().get("items", [])}

    def close(self) -> None:
        self._http.close()

    def _get(self, path: str) -> httpx.Response:
        response = self._http.get(path)
        response.raise_for_status()
        return response


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[CloudStorage]:
    executable = Path(sys.executable).with_name("gcp-storage-emulator")
    if not executable.exists():
        missing("gcp-storage-emulator (a development dependency)")
    port = free_port()
    argv = [str(executable), "start", "--host", HOST, "--port", str(port), "--in-memory", "--default-bucket", BUCKET]
    with start("gcs", argv, port=port, ready=lambda: listens(port)) as server:
        storage = CloudStorage(server)
        yield storage
        storage.close()
