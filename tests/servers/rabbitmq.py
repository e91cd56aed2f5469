"""RabbitMQ of Debian with a node, a port mapper and directories of its own; plain and TLS."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST, Server, listens, missing, start

USER, PASSWORD = "waypost", "a-rabbit-Secret-7"
LIMITED = "limited"
"""A user with the same password who may write to the exchange `allowed` and do nothing else."""

LARGEST_MESSAGE = 100_000

_BIN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself: the one on PATH is a wrapper that changes users and refuses other directories."""


class RabbitMQ:
    """A running node. Addresses are `host:port`; over TLS the host is `localhost`, as in the certificate."""

    def __init__(self, server: Server, tls_port: int) -> None:
        self.server = server
        self.plain = server.address
        self.tls = f"localhost:{tls_port}"
        self.url = f"amqp://{USER}:{PASSWORD}@{server.address}/"


@pytest.fixture(scope="session")
def rabbitmq(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with running(authority, tmp_path_factory.mktemp("rabbitmq")) as started:
        yield started


@contextlib.contextmanager
def running(authority: Authority, folder: Path) -> Iterator[RabbitMQ]:
    if not _BIN.exists():
        missing("rabbitmq-server (Debian package rabbitmq-server)")
    port, tls_port, mapper_port = free_port(), free_port(), free_port()
    config = folder / "rabbitmq.conf"
    definitions = folder / "definitions.json"
    definitions.write_text(json.dumps(_definitions()))
    config.write_text(_config(port, tls_port, authority, definitions))
    (folder / "enabled_plugins").write_text("[].\n")
    env = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"waypost-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    mapper = ["epmd", "-port", str(mapper_port), "-address", HOST]
    with (
        start("epmd", mapper, port=mapper_port, ready=lambda: listens(mapper_port)),
        start(
            "rabbitmq",
            [str(_BIN)],
            port=port,
            ready=lambda: listens(port) and listens(tls_port),
            env=env,
            cwd=folder,
            timeout=60,
        ) as server,
    ):
        yield RabbitMQ(server, tls_port)


def _config(port: int, tls_port: int, authority: Authority, definitions: Path) -> str:
    return f"""\
listeners.tcp.1 = {HOST}:{port}
listeners.ssl.1 = {HOST}:{tls_port}
ssl_options.cacertfile = {authority.ca_file}
ssl_options.certfile = {authority.certificate_file}
ssl_options.keyfile = {authority.key_file}
load_definitions = {definitions}
max_message_size = {LARGEST_MESSAGE}
disk_free_limit.absolute = 1MB
log.console = true
log.file = false
"""


def _definitions() -> dict[str, Any]:
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [{"name": user, "password": PASSWORD, "tags": ""} for user in (USER, LIMITED)],
        "permissions": [
            {"user": USER, "vhost": "/", **everything},
            {"user": LIMITED, "vhost": "/", "configure": "", "write": "^allowed$", "read": ""},
        ],
    }
