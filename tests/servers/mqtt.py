"""Mosquitto of Debian with users, an access list, sessions that survive a restart, and TLS on a second port."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST, Server, listens, program, start

USER, PASSWORD = "waypost", "an-mqtt-Secret-7"
STRANGER = "stranger"
"""A user with the same password who may publish nowhere."""

LARGEST_PACKET = 65_536


class Mqtt:
    """A running broker; over TLS the host is `localhost`, as in the certificate."""

    def __init__(self, server: Server, tls_port: int) -> None:
        self.server = server
        self.plain = server.address
        self.tls = f"localhost:{tls_port}"


@pytest.fixture(scope="session")
def mqtt(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mqtt]:
    with running(authority, tmp_path_factory.mktemp("mqtt")) as started:
        yield started


@contextlib.contextmanager
def running(authority: Authority, folder: Path) -> Iterator[Mqtt]:
    mosquitto, passwd = program("mosquitto"), program("mosquitto_passwd", package="mosquitto")
    port, tls_port = free_port(), free_port()
    users, access, config = folder / "users", folder / "access", folder / "mosquitto.conf"
    users.touch(mode=0o600)
    for user in (USER, STRANGER):
        subprocess.run([passwd, "-b", str(users), user, PASSWORD], check=True, capture_output=True)
    access.write_text(f"user {USER}\ntopic readwrite #\n")
    access.chmod(0o600)
    config.write_text(f"""\
user root
listener {port} {HOST}
listener {tls_port} {HOST}
certfile {authority.certificate_file}
keyfile {authority.key_file}
password_file {users}
acl_file {access}
allow_anonymous false
max_packet_size {LARGEST_PACKET}
max_queued_messages 10000
persistence true
persistence_location {folder}/
""")
    with start(
        "mosquitto", [mosquitto, "-c", str(config)], port=port, ready=lambda: listens(port) and listens(tls_port)
    ) as server:
        yield Mqtt(server, tls_port)
