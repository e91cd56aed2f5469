"""Redis of Debian with users, an append-only file that survives a restart, and TLS on a second port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST, Server, listens, program, start

PASSWORD = "a-redis-Secret-7"
WRITER = "writer"
"""A user who may do nothing but XADD to keys that start with `events`."""


class Redis:
    """A running server; the default user has the password too. Over TLS the host is `localhost`."""

    def __init__(self, server: Server, tls_port: int) -> None:
        self.server = server
        self.plain = server.address
        self.tls = f"localhost:{tls_port}"


@pytest.fixture(scope="session")
def redis(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with running(authority, tmp_path_factory.mktemp("redis")) as started:
        yield started


@contextlib.contextmanager
def running(authority: Authority, folder: Path) -> Iterator[Redis]:
    redis_server = program("redis-server")
    port, tls_port = free_port(), free_port()
    config = folder / "redis.conf"
    config.write_text(f"""\
bind {HOST}
port {port}
tls-port {tls_port}
tls-cert-file {authority.certificate_file}
tls-key-file {authority.key_file}
tls-ca-cert-file {authority.ca_file}
tls-auth-clients no
dir {folder}
save ""
appendonly yes
appendfsync always
proto-max-bulk-len 1mb
user default on >{PASSWORD} ~* &* +@all
user {WRITER} on >{PASSWORD} ~events* +xadd
""")
    with start(
        "redis", [redis_server, str(config)], port=port, ready=lambda: listens(port) and listens(tls_port)
    ) as server:
        yield Redis(server, tls_port)
