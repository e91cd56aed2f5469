"""Prometheus of Debian with Waypost's own rules. It looks every second and scrapes whatever a test tells it to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
from bench.servers import free_port

from tests.servers.harness import Server, program, start

RULES = Path(__file__).parents[2] / "monitoring" / "prometheus" / "waypost.rules.yml"


class Prometheus:
    """A running server."""

    def __init__(self, server: Server, targets: Path) -> None:
        self.server = server
        self._targets = targets

    def scrape(self, url: str) -> str:
        """Watch this Waypost from now on, and no other. Returns its `instance` label."""
        instance = urlsplit(url).netloc
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": [instance]}]))
        fresh.rename(self._targets)
        return instance

    def query(self, expression: str) -> list[float]:
        """The values of an instant query, one a series."""
        return [float(series["value"][1]) for series in self.get("query", query=expression)["result"]]

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API."""
        url = f"http://{self.server.address}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(tmp_path_factory.mktemp("prometheus")) as started:
        yield started


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Prometheus]:
    port, targets, config = free_port(), folder / "targets.json", folder / "prometheus.yml"
    config.write_text(f"""\
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: ["{RULES}"]
scrape_configs:
  - job_name: waypost
    file_sd_configs:
      - files: ["{targets}"]
        refresh_interval: 1s
""")
    argv = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with start("prometheus", argv, port=port, ready=lambda: _ready(port)) as server:
        yield Prometheus(server, targets)


def _ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
            return True
    except URLError:
        return False
