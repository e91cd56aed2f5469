"""Rotel, an OpenTelemetry collector: passes on over OTLP/HTTP what came so."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

from bench.servers import free_port

from tests.servers.harness import HOST, Server, listens, missing, start


def rotel(to: str) -> AbstractContextManager[Server]:
    """One that passes on to the collector at this URL."""
    found = find_spec("rotel")
    if found is None or found.origin is None:
        missing("rotel (PyPI package rotel)")
    port, grpc_port = free_port(), free_port()
    argv = [str(Path(found.origin).with_name("rotel-agent")), "start"]
    argv += ["--otlp-http-endpoint", f"{HOST}:{port}", "--otlp-grpc-endpoint", f"{HOST}:{grpc_port}"]
    argv += ["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", to]
    return start("rotel", argv, port=port, ready=lambda: listens(port))
