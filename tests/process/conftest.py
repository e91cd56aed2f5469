from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import SystemResolver

from .sink import Sink


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    """A client to talk to the server with."""
    client = HttpClient(HttpSettings(body_cap=1 << 20), SystemResolver(), AddressGuard([ip_network("127.0.0.0/8")]))
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB. Only root can mount one: elsewhere the test is skipped, on CI that is a failure."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=False).returncode == 0
    )
    if not mounted:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
