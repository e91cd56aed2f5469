"""Apache Kafka from Maven Central: one KRaft node with plaintext, SASL (PLAIN and SCRAM) and SASL over TLS.

The jars (some 43 MB) are fetched once into the cache directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.servers import free_port

from tests.servers.authority import Authority
from tests.servers.harness import HOST, Server, cache_directory, listens, missing, program, start

VERSION = "4.1.0"
USER, PASSWORD = "waypost", "a-kafka-Secret-7"
STRANGER = "stranger"
"""A user with the same password who may do nothing."""

UNREACHABLE = "10.255.255.1"
"""What the `lost` listener says the broker's address is: a private one."""

_POM = Path(__file__).with_name("kafka-pom.xml")
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
_JAVA = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LISTENERS = ("PLAINTEXT", "SASL", "SASLSSL", "LOST", "CONTROLLER")


class Kafka:
    """A running broker. Addresses are `host:port`; over TLS the host is `localhost`, as in the certificate."""

    def __init__(self, server: Server, ports: dict[str, int]) -> None:
        self.server = server
        self.plaintext = f"{HOST}:{ports['PLAINTEXT']}"
        self.sasl = f"{HOST}:{ports['SASL']}"
        self.tls = f"localhost:{ports['SASLSSL']}"
        self.lost = f"{HOST}:{ports['LOST']}"


@pytest.fixture(scope="session")
def kafka(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with running(authority, tmp_path_factory.mktemp("kafka")) as started:
        yield started


@contextlib.contextmanager
def running(authority: Authority, folder: Path) -> Iterator[Kafka]:
    jars = _jars()
    ports = {listener: free_port() for listener in _LISTENERS}
    properties = folder / "server.properties"
    properties.write_text(_properties(ports, folder / "data", authority))
    java = [program("java", package="default-jre-headless"), *_JAVA, "-cp", f"{jars}/*"]
    _format(java, properties)
    with start(
        "kafka",
        [*java, "kafka.Kafka", str(properties)],
        port=ports["PLAINTEXT"],
        ready=lambda: all(listens(ports[name]) for name in ("PLAINTEXT", "SASL", "SASLSSL", "LOST")),
        timeout=60,
    ) as server:
        yield Kafka(server, ports)


def _format(java: list[str], properties: Path) -> None:
    scram = [f"{name}=[name={user},password={PASSWORD}]" for name in _SCRAM for user in (USER, STRANGER)]
    tool = ["kafka.tools.StorageTool", "format", "--config", str(properties), "--cluster-id", _CLUSTER, "--standalone"]
    added = [word for entry in scram for word in ("--add-scram", entry)]
    done = subprocess.run([*java, *tool, *added], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.fail(f"kafka's storage could not be formatted:\n{done.stdout}{done.stderr}", pytrace=False)


_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def _properties(ports: dict[str, int], data: Path, authority: Authority) -> str:
    advertised = {"PLAINTEXT": HOST, "SASL": HOST, "SASLSSL": "localhost", "LOST": UNREACHABLE}
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    plain = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_{USER}="{PASSWORD}" user_{STRANGER}="{PASSWORD}";'
    )
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"{HOST}:{ports['CONTROLLER']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": ",".join(f"{name}://{HOST}:{ports[name]}" for name in _LISTENERS),
        "advertised.listeners": ",".join(f"{name}://{host}:{ports[name]}" for name, host in advertised.items()),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLSSL:SASL_SSL,"
        "LOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": authority.certificate.replace("\n", "\\n"),
        "ssl.keystore.key": authority.key.replace("\n", "\\n"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER}",
        "log.dirs": str(data),
        "num.partitions": "1",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "log.cleaner.enable": "false",
        "broker.heartbeat.interval.ms": "250",
        "broker.session.timeout.ms": "1000",
    }
    for listener in ("sasl", "saslssl"):
        values[f"listener.name.{listener}.plain.sasl.jaas.config"] = plain
        for mechanism in _SCRAM:
            values[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = scram
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _jars() -> Path:
    """The folder of the jars; fetched by one process while the others wait."""
    cache = cache_directory("kafka")
    jars = cache / VERSION
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _fetch(jars)
    return jars


def _fetch(jars: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=jars.parent))
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}"]
    maven = [program("mvn", package="maven"), "--batch-mode", "--quiet", "--file", str(_POM), *goal]
    try:
        done = subprocess.run(maven, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            missing(f"Apache Kafka {VERSION} from Maven Central: {done.stdout[-500:]}")
        (folder / "jars").rename(jars)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
