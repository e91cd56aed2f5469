"""Webhook signatures: Standard Webhooks (https://www.standardwebhooks.com, 1.0.0) and the prefixed kind.

Pure: randomness comes in as bytes, time as a number.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Literal, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with, not a secret
PRIVATE_KEY_PREFIX = "whsk_"
PUBLIC_KEY_PREFIX = "whpk_"
SHORTEST_SECRET = 24
LONGEST_SECRET = 64
"""Bytes of a Standard Webhooks secret, before base64."""

_SEED = 32
_SEED_AND_PUBLIC_KEY = 64

Algorithm = Literal["hmac-sha256", "hmac-sha1", "hmac-sha512"]
Digits = Literal["hex", "base64"]


def make_secret(entropy: bytes) -> str:
    """A secret from 24 to 64 random bytes. Raises ValueError for fewer or more."""
    _check_length(entropy)
    return SECRET_PREFIX + base64.b64encode(entropy).decode()


def parse_secret(secret: str) -> bytes:
    """The key bytes of a secret with or without `whsec_`. Raises ValueError with what is wrong with it."""
    key = _decode(secret.removeprefix(SECRET_PREFIX))
    _check_length(key)
    return key


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64") from error


def _check_length(key: bytes) -> None:
    if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        raise ValueError(f"must hold {SHORTEST_SECRET} to {LONGEST_SECRET} bytes")


class Signer(Protocol):
    """Makes one signature of Standard Webhooks content, version included."""

    def sign(self, content: bytes) -> str: ...


class HmacSigner:
    """Signatures `v1`: HMAC-SHA256 under a shared secret. The key's setup is done once."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod=hashlib.sha256)

    def sign(self, content: bytes) -> str:
        mac = self._mac.copy()
        mac.update(content)
        return "v1," + base64.b64encode(mac.digest()).decode()


class Ed25519Signer:
    """Signatures `v1a`: ed25519 under a private key, which receivers verify with its public key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def parse(cls, text: str) -> Ed25519Signer:
        """From base64 of a seed, or of a seed and its public key, with or without `whsk_`. Raises ValueError."""
        raw = _decode(text.removeprefix(PRIVATE_KEY_PREFIX))
        if len(raw) not in (_SEED, _SEED_AND_PUBLIC_KEY):
            raise ValueError(f"must hold {_SEED} or {_SEED_AND_PUBLIC_KEY} bytes")
        signer = cls(Ed25519PrivateKey.from_private_bytes(raw[:_SEED]))
        if raw[_SEED:] not in (b"", signer._public_bytes()):
            raise ValueError("must hold a public key that belongs to its private key")
        return signer

    def sign(self, content: bytes) -> str:
        return "v1a," + base64.b64encode(self._key.sign(content)).decode()

    @property
    def public_key(self) -> str:
        """What a receiver needs, as `whpk_` and base64."""
        return PUBLIC_KEY_PREFIX + base64.b64encode(self._public_bytes()).decode()

    def _public_bytes(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def verify_ed25519(public_key: str, content: bytes, signature: str) -> bool:
    """Whether a `v1a` signature was made with the private key that belongs to a `whpk_` key."""
    raw = _decode(public_key.removeprefix(PUBLIC_KEY_PREFIX))
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(_decode(signature.removeprefix("v1a,")), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def standard_content(message_id: str, timestamp: int, body: bytes) -> bytes:
    """What Standard Webhooks signs: id, unix seconds of the attempt and body, joined by dots."""
    return b"%b.%d.%b" % (message_id.encode(), timestamp, body)


def standard_signature(signers: tuple[Signer, ...], content: bytes) -> str:
    """The value of `webhook-signature`: one signature for each key that is valid now, separated by spaces."""
    return " ".join(signer.sign(content) for signer in signers)


class Recipe(Struct, frozen=True, kw_only=True):
    """How the signature of mode `default` is made.

    `content` is what is signed, with the placeholders `{timestamp}` (unix seconds), `{event_id}` and `{body}`. `header`
    is the header's value, with `{timestamp}` and `{signatures}`: the signatures joined by commas, newest secret first.
    """

    content: str = "{body}"
    header: str = "v0={signatures}"
    algorithm: Algorithm = "hmac-sha256"
    encoding: Digits = "hex"


class RecipeSigner:
    """Signs as a recipe says. Secrets are used as the text they are. Raises ValueError for a recipe that is wrong."""

    def __init__(self, recipe: Recipe, secrets: tuple[str, ...]) -> None:
        if "{body}" not in recipe.content:
            raise ValueError("the signed content must contain {body}")
        if "{signatures}" not in recipe.header:
            raise ValueError("the signature header must contain {signatures}")
        digest = recipe.algorithm.removeprefix("hmac-")
        self._macs = tuple(hmac.new(secret.encode(), digestmod=digest) for secret in secrets)
        self._recipe = recipe
        self._only_body = recipe.content == "{body}"

    def sign(self, event_id: str, timestamp: int, body: bytes) -> str:
        """The value of the signature header."""
        content = body if self._only_body else self._content(event_id, timestamp, body)
        signatures = ",".join(self._one(mac, content) for mac in self._macs)
        return self._recipe.header.replace("{timestamp}", str(timestamp)).replace("{signatures}", signatures)

    def _content(self, event_id: str, timestamp: int, body: bytes) -> bytes:
        before, _, after = self._recipe.content.partition("{body}")
        return _filled(before, event_id, timestamp) + body + _filled(after, event_id, timestamp)

    def _one(self, keyed: hmac.HMAC, content: bytes) -> str:
        mac = keyed.copy()
        mac.update(content)
        return mac.hexdigest() if self._recipe.encoding == "hex" else base64.b64encode(mac.digest()).decode()


def _filled(template: str, event_id: str, timestamp: int) -> bytes:
    return template.replace("{timestamp}", str(timestamp)).replace("{event_id}", event_id).encode()
