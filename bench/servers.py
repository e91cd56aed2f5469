"""The servers that are measured: Waypost as its users start it, and the same without a store."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from bench.events import Target
from waypost.cli.client import Client, ServerUnreachable

API_KEY = "the-key-of-the-benchmark"
_START = 30.0
_STOP = 30.0
_PAGE = 1000
_LOG_TAIL = 4000
_PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, so that a server finds its port free after a restart."""
_ATTEMPTS = re.compile(rb"^waypost_attempts_total\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)


class ServerFailed(Exception):
    """The measured server did not start, or ended."""


class Subscriber(Struct, frozen=True):
    """A destination to create: the receiver's URL, whose events of which topic it gets, and its filter."""

    target: Target
    url: str
    filter: dict[str, Any] | None = None


class Server(Protocol):
    """What the measurement needs of a server."""

    port: int

    @property
    def pid(self) -> int: ...

    def subscribe(self, subscribers: Sequence[Subscriber]) -> None: ...

    def recorded(self) -> int | None:
        """Successful attempts on record since the start; None when the server keeps no record."""
        ...

    def disk_bytes(self) -> int: ...


class _Process:
    """A server process in a session of its own, so that Ctrl-C does not reach it before the run has cleaned up."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path, port: int) -> None:
        self.port = port
        self._log = directory / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_it_listens(self) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ServerFailed(f"the server ended with code {self._process.returncode}:\n{self.log_tail()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise ServerFailed(f"the server did not listen within {_START:.0f} s:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.unlink(missing_ok=True)


class WaypostServer:
    """`python -m waypost serve` on a database in `directory`, managed over its API."""

    def __init__(self, directory: Path, settings: Mapping[str, str], python: str = sys.executable) -> None:
        self.port = free_port()
        self._directory = directory
        self._client = Client(f"http://127.0.0.1:{self.port}", API_KEY)
        environment = _clean_environment() | {
            "WAYPOST_PORT": str(self.port),
            "WAYPOST_API_KEY": API_KEY,
            "WAYPOST_DATABASE_URL": f"sqlite:///{directory / 'waypost.db'}",
            "WAYPOST_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            **settings,
        }
        self._process = _Process([python, "-m", "waypost", "serve"], environment, directory, self.port)

    def __enter__(self) -> Self:
        try:
            self._process.wait_until_it_listens()
            self._wait_until_it_answers()
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def subscribe(self, subscribers: Sequence[Subscriber]) -> None:
        """Create the destinations. Those of an earlier run on the same database go: their receivers are gone too."""
        for tenant in {subscriber.target.tenant: None for subscriber in subscribers}:
            if not self._client.ensure_tenant(tenant):
                self._remove_destinations(tenant)
        for subscriber in subscribers:
            target = subscriber.target
            self._client.add_webhook(target.tenant, subscriber.url, [target.topic], filter=subscriber.filter)

    def recorded(self) -> int | None:
        status, text = self._client.exchange("GET", "/metrics")
        if status != 200:
            raise ServerFailed(f"GET /metrics answered {status}")
        return sum(int(float(count)) for labels, count in _ATTEMPTS.findall(text) if b'status="success"' in labels)

    def count_attempts(self, tag: str) -> int:
        """Pairs of event and destination with a successful attempt on record, of the events of one run."""
        pairs: set[tuple[str, str]] = set()
        query: dict[str, Any] = {"limit": _PAGE, "status": "success"}
        following: str | None = None
        while True:
            page = self._client.request(
                "GET", f"/attempts?{urlencode(query | ({'next': following} if following else {}))}"
            )
            own = {(a["event_id"], a["destination_id"]) for a in page["models"] if a["event_id"].startswith(f"{tag}-")}
            pairs |= own
            following = page["pagination"]["next"]
            if not following or not own:
                return len(pairs)

    def disk_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._directory.glob("waypost.db*"))

    def _remove_destinations(self, tenant: str) -> None:
        for destination in self._client.request("GET", f"/tenants/{tenant}/destinations"):
            self._client.delete_destination(tenant, destination["id"])

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + _START
        while True:
            try:
                self._client.request("GET", "/tenants")
            except ServerUnreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                return


class CeilingServer:
    """`python -m bench.ceiling`: Waypost's own endpoint and sender with no store between."""

    def __init__(self, directory: Path, python: str = sys.executable) -> None:
        self.port = free_port()
        self._directory = directory
        self._python = python
        self._process: _Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "subscribe starts it"
        return self._process.pid

    def subscribe(self, subscribers: Sequence[Subscriber]) -> None:
        """Start it with these destinations; it has no API to add them later."""
        plan = self._directory / "ceiling.json"
        plan.write_bytes(msgspec.json.encode(subscribers))
        command = [self._python, "-m", "bench.ceiling", "--port", str(self.port), "--subscribers", str(plan)]
        paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = _clean_environment() | {"PYTHONPATH": os.pathsep.join(paths)}
        self._process = _Process(command, environment, self._directory, self.port)
        self._process.wait_until_it_listens()

    def recorded(self) -> int | None:
        return None

    def disk_bytes(self) -> int:
        return 0


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens at the moment."""
    for port in random.sample(_PORTS, k=len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerFailed("no port is free")


def _clean_environment() -> dict[str, str]:
    """This process's environment without settings of Waypost: a measurement must not depend on the shell it ran in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
