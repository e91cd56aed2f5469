"""Whatever the OpenAPI permits, and much of what it doesn't, is answered without a fault of the server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from waypost.net.http import HttpClient

from .server import KEY, Server


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_schemathesis_finds_no_server_error(tmp_path: Path, http: HttpClient) -> None:
    async with Server(tmp_path, http) as server:
        await server.call("PUT", "/tenants/acme")
        run = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {KEY}"),
                *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
                *("--exclude-operation-id", "stream"),  # its answer has no end
                *("--max-examples", "15", "--mode", "all", "--workers", "1", "--suppress-health-check", "all"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        selected, tested = re.findall(r"(?:Selected|Tested): (\d+)", run.stdout.replace("/", " "))[:2]
        assert selected == tested != "0"
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
