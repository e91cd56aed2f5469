"""Secrets at rest: AES-256-GCM under a key that is not in the database, with old keys still able to read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from waypost.core.errors import SettingsError

_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12


class Vault:
    """Seals with the first key and opens with any. A sealed text is key id, nonce, ciphertext and tag.

    `context` binds a sealed text to the row it stands in: moved to another row it does not open. `secret_config` names,
    by destination or channel type, the config values that are sealed with the credentials.
    """

    def __init__(self, keys: Sequence[bytes], secret_config: Mapping[str, Collection[str]] | None = None) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise SettingsError("encryption_key: a key must be 32 bytes in base64")
        self._keys = {_key_id(key): AESGCM(key) for key in reversed(keys)}
        self._current = _key_id(keys[0])
        self._root = keys[0]
        self.secret_config = secret_config or {}

    def seal(self, plain: bytes, context: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._current + nonce + self._keys[self._current].encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The plain text. Raises SettingsError when no key at hand sealed it, or it was tampered with."""
        key = self._keys.get(sealed[:_ID_BYTES])
        if key is None:
            raise SettingsError("encryption_key: the database was encrypted with another key")
        nonce, text = sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], sealed[_ID_BYTES + _NONCE_BYTES :]
        try:
            return key.decrypt(nonce, text, context.encode())
        except InvalidTag:
            raise SettingsError(f"the stored secret of {context} does not open: it was damaged or moved") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the text was sealed with the first key."""
        return sealed[:_ID_BYTES] == self._current

    def derive(self, purpose: str) -> str:
        """A secret for another purpose (hex), always the same for the same key (HKDF, RFC 5869)."""
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=purpose.encode()).derive(self._root).hex()


def parse_key(text: str) -> bytes:
    """A key as written in the settings. Raises SettingsError."""
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError("encryption_key: not base64") from None
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"encryption_key: must be 32 bytes in base64, these are {len(key)}")
    return key


def key_beside(database: Path) -> bytes:
    """The key in the file beside the database (`waypost.db.key`), made on first use and readable by its owner only."""
    path = database.with_name(database.name + ".key")
    try:
        return parse_key(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the encryption key in {path}: {error}") from None
    if database.exists() and database.stat().st_size:
        raise SettingsError(f"{database} has lost its encryption key: put {path} back, or set encryption_key")
    key = secrets.token_bytes(_KEY_BYTES)
    _write_private(path, base64.b64encode(key) + b"\n")
    return key


def _write_private(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise SettingsError(f"cannot write the encryption key to {path}: {error}") from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"waypost key id" + key).digest()[:_ID_BYTES]
