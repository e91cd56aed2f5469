"""Google's Pub/Sub emulator where it is installed (google-cloud-cli-pubsub-emulator, a package of Google's own).

Elsewhere it is Google's in-memory Pub/Sub for Go, with a little REST before it: built once into the cache directory.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.servers import free_port
from msgspec import Struct

from tests.servers.harness import HOST, Server, cache_directory, listens, missing, program, start

PROJECT = "project"
_SDKS = ("/usr/lib/google-cloud-sdk", "/opt/google-cloud-sdk", "/usr/local/google-cloud-sdk")
_SOURCES = Path(__file__).with_name("pubsub-go")
_JARS = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"


class Pulled(Struct, frozen=True):
    """A message as a subscriber gets it."""

    data: bytes
    attributes: dict[str, str]
    id: str
    ordering_key: str


class PubSub:
    """The emulator, and what a customer does there. Every topic has one subscription of the same name."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"http://{server.address}"
        self._http = httpx.Client(base_url=f"{self.url}/v1/projects/{PROJECT}", timeout=20)

    def create(self, topic: str) -> None:
        self._call("PUT", f"/topics/{topic}", {})
        subscription = {"topic": f"projects/{PROJECT}/topics/{topic}", "enableMessageOrdering": True}
        self._call("PUT", f"/subscriptions/{topic}", subscription)

    def pull(self, topic: str, at_least: int) -> list[Pulled]:
        """Messages, until there are as many as expected and nothing more comes."""
        found: dict[str, Pulled] = {}
        while len(found) < at_least:
            asked = {"maxMessages": 1_000, "returnImmediately": True}
            received = self._call("POST", f"/subscriptions/{topic}:pull", asked).get("receivedMessages", [])
            ids = [one["ackId"] for one in received]
            if ids:
                self._call("POST", f"/subscriptions/{topic}:acknowledge", {"ackIds": ids})
            found |= {one["message"]["messageId"]: _pulled(one["message"]) for one in received}
        return list(found.values())

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._http.request(method, path, json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer


def _pulled(message: dict[str, Any]) -> Pulled:
    return Pulled(
        base64.b64decode(message.get("data", "")),
        message.get("attributes", {}),
        message["messageId"],
        message.get("orderingKey", ""),
    )


@pytest.fixture(scope="session")
def pubsub() -> Iterator[PubSub]:
    port = free_port()
    argv = _emulator(port) or [str(_built()), f"--listen={HOST}:{port}"]
    with start("pubsub", argv, port=port, ready=lambda: listens(port), timeout=60) as server:
        emulator = PubSub(server)
        yield emulator
        emulator.close()


def _emulator(port: int) -> list[str] | None:
    jar = next((str(jar) for sdk in _SDKS for jar in sorted(Path(sdk).glob(_JARS))), None)
    if jar is None:
        return None
    java = program("java", package="default-jre-headless")
    return [java, "-Xmx128m", "-XX:+UseSerialGC", "-jar", jar, f"--host={HOST}", f"--port={port}"]


def _built() -> Path:
    """The program of pubsub-go. Several test processes that need it build it once."""
    go = shutil.which("go") or missing("Google's Pub/Sub emulator, or Go (Debian package golang-go) to build another")
    parts = [(_SOURCES / name).read_bytes() for name in ("main.go", "go.mod", "go.sum")]
    folder = cache_directory("pubsub-go")
    built = folder / hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            partial = built.with_suffix(".part")
            environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"}
            argv = [go, "build", "-o", str(partial), "."]
            subprocess.run(argv, cwd=_SOURCES, env=environment, check=True, capture_output=True)
            partial.rename(built)
    return built
