"""The published npm SDK of Outpost drives Waypost unchanged, with all of its methods (`npm/sdk.mjs`)."""

from __future__ import annotations

import asyncio
import fcntl
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers.harness import missing, program
from waypost.net.http import HttpClient

from .server import KEY, Server
from .sink import Sink

PACKAGE = "@hookdeck/outpost-sdk@1.6.0"
SCRIPT = Path(__file__).parent / "npm" / "sdk.mjs"
FOLDER = Path(__file__).parents[2] / ".tools" / "outpost-sdk"

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.xdist_group("npm-sdk")]


@pytest.fixture(scope="module")
def installed() -> Path:
    """The folder that the package is installed in, fetched once."""
    npm = program("npm")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test process at a time
        if not (FOLDER / "node_modules" / "@hookdeck").is_dir():
            done = run(
                [npm, "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
            )
            if done.returncode:
                missing(f"{PACKAGE}: {(done.stderr or done.stdout).strip()[-300:]}")
    return FOLDER


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


async def test_every_method_works(tmp_path: Path, http: HttpClient, sink: Sink, installed: Path) -> None:
    async with Server(tmp_path, http, topics="user.created,user.deleted") as server:
        script = [program("node", package="nodejs"), str(SCRIPT), str(installed), server.url, KEY, sink.url]
        done = await asyncio.to_thread(run, script)
    assert done.returncode == 0, done.stderr
    methods = json.loads(done.stdout)
    assert {"tenants.upsert", "publish", "retry", "metrics.getAttemptMetrics", "health.check"} <= set(methods)
    assert len(methods) >= 28
    assert sink.arrived == {"evt_1": 2}
