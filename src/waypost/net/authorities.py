"""The certificate authorities that are trusted: the system's, and those that the operator adds."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from waypost.core.errors import SettingsError

_USUAL_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_bundle() -> str | None:
    """The PEM file of the system's authorities (`SSL_CERT_FILE` is heeded); None when there is no such file."""
    candidates = (ssl.get_default_verify_paths().cafile, *_USUAL_BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), None)


class Authorities:
    """One PEM file for libcurl, which takes no more than one. Written only if something has to be added."""

    def __init__(self, extra: str | None) -> None:
        self._written: str | None = None
        self.path = system_bundle()
        if extra is not None:
            self.path = self._written = _joined(self.path, extra)

    def close(self) -> None:
        """Remove what was written. Idempotent."""
        if self._written is not None:
            Path(self._written).unlink(missing_ok=True)
            self._written = None


def _joined(system: str | None, extra: str) -> str:
    try:
        added = Path(extra).read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=added.decode())
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(f"the CA bundle {extra} cannot be used: {error}") from error
    descriptor, path = tempfile.mkstemp(prefix="waypost-ca-", suffix=".pem")
    with os.fdopen(descriptor, "wb") as file:
        file.write(Path(system).read_bytes() + b"\n" if system else b"")
        file.write(added)
    return path
