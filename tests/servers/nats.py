"""NATS of Debian with JetStream: one server with users, one with a token, one with TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST, Server, listens, program, start

USER, PASSWORD = "waypost", "a-nats-Secret-7"
LIMITED = "limited"
"""A user with the same password who may publish to `allowed.>` alone."""

TOKEN = "a-nats-Token-7"
LARGEST_PAYLOAD = 65_536


class Nats:
    """The running servers; over TLS the host is `localhost`, as in the certificate."""

    def __init__(self, users: Server, token: Server, tls: Server) -> None:
        self.server = users
        self.plain = users.address
        self.token = token.address
        self.tls = f"localhost:{tls.port}"


@pytest.fixture(scope="session")
def nats(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with running(authority, tmp_path_factory.mktemp("nats")) as started:
        yield started


@contextlib.contextmanager
def running(authority: Authority, folder: Path) -> Iterator[Nats]:
    users = (
        f'authorization {{ users = [ {{ user: {USER}, password: "{PASSWORD}" }}, {{ user: {LIMITED}, '
        f'password: "{PASSWORD}", permissions: {{ publish: "allowed.>", subscribe: "_INBOX.>" }} }} ] }}'
    )
    tls = f'tls {{ cert_file: "{authority.certificate_file}", key_file: "{authority.key_file}" }}'
    with (
        _server(folder / "users", users) as with_users,
        _server(folder / "token", f'authorization {{ token: "{TOKEN}" }}') as with_token,
        _server(folder / "tls", tls) as with_tls,
    ):
        yield Nats(with_users, with_token, with_tls)


def _server(folder: Path, more: str) -> AbstractContextManager[Server]:
    folder.mkdir()
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(f"""\
host: {HOST}
port: {port}
server_name: "{folder.name}"
max_payload: {LARGEST_PAYLOAD}
jetstream {{ store_dir: "{folder}", max_file_store: 1GB }}
{more}
""")
    return start("nats", [program("nats-server"), "-c", str(config)], port=port, ready=lambda: listens(port))
