"""Google's and Azure's types, against a sink that answers at once with what the service would say.

Google's are sent to without TLS and without a token, as to an emulator. Azure's know no plain HTTP: their sink has a
certificate of a throwaway authority.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvloop

from bench.stages import Stage, StageOf, Unavailable
from bench.stages.http import Answer, Sink, listening, serve

_OBJECT = b'{"generation":"1700000000000000","md5Hash":"1B2M2Y8AsgTpgAmY7PhCfg==","size":"512"}'
_ACCESS = "Endpoint=sb://localhost:{port}/;SharedAccessKeyName=sender;SharedAccessKey=a-key-of-the-benchmark="


def _pubsub(body: bytes) -> bytes:
    return b'{"messageIds":[%b]}' % b",".join([b'"19916711285"'] * body.count(b'"attributes":'))


def _stored(_body: bytes) -> bytes:
    return _OBJECT


def _created(_body: bytes) -> bytes:
    return b""


ANSWERS: dict[str, tuple[int, Answer]] = {
    "gcp_pubsub": (200, _pubsub),
    "gcp_storage": (200, _stored),
    "azure_servicebus": (201, _created),
    "azure_eventhubs": (201, _created),
}
"""Status and body for each type."""


def _google(kind: str, **config: str) -> StageOf:
    @contextlib.contextmanager
    def stage() -> Iterator[Stage]:
        with listening(__name__, kind) as port:
            yield Stage(
                config={**config, "endpoint": f"http://127.0.0.1:{port}"},
                credentials={"service_account_json": "{}"},
                server="sink that answers at once",
            )

    return stage


def _azure(kind: str) -> StageOf:
    @contextlib.contextmanager
    def stage() -> Iterator[Stage]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            ca_file, *certificate = _certificate(Path(folder))
            with listening(__name__, kind, *certificate) as port:
                yield Stage(
                    config={"name": "bench"},
                    credentials={"connection_string": _ACCESS.format(port=port)},
                    server="sink that answers at once, over TLS",
                    ca_bundle=ca_file,
                )

    return stage


def _certificate(folder: Path) -> list[str]:
    """The files of a new authority's certificate, of one from it for localhost, and of the latter's key."""
    try:
        from tests.servers.authority import make_authority  # noqa: PLC0415 - only Azure's stages need it
    except ImportError as error:
        raise Unavailable(f"missing: {error.name} (a development dependency)") from error
    made = make_authority(folder)
    return [str(made.ca_file), str(made.certificate_file), str(made.key_file)]


STAGES: dict[str, StageOf] = {
    "gcp_pubsub": _google("gcp_pubsub", project_id="bench", topic="bench"),
    "gcp_storage": _google("gcp_storage", bucket="bench"),
    "azure_servicebus": _azure("azure_servicebus"),
    "azure_eventhubs": _azure("azure_eventhubs"),
}


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _main(descriptor: str, kind: str, *certificate: str) -> None:
    status, answer = ANSWERS[kind]
    uvloop.run(serve(int(descriptor), partial(Sink, answer, status), _tls(*certificate) if certificate else None))


if __name__ == "__main__":
    _main(*sys.argv[1:])
