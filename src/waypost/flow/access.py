"""Who is calling: the operator with an API key, or a tenant with a token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol

import jwt
from msgspec import Struct

from waypost.core.errors import BadRequest, Invalid, NotFound, Unauthorized, Unavailable
from waypost.core.model import SECOND, SYSTEM, Actor, Micros
from waypost.flow.clock import token
from waypost.store.alerting import AlertStore, Entry
from waypost.store.base import ApiKey

ALGORITHM = "HS256"
ISSUER = "waypost"
ACCEPTED_ISSUERS = (ISSUER, "outpost")
KEY_PREFIX = "wpk_"
KEY_NAME_MAX_LENGTH = 100
FIRST_KEY_NAME = "first"
FIXED_KEY_NAME = "settings"
REFRESH_SECONDS = 5.0

_SCHEME = b"bearer"
_RANDOM_LENGTH = 40
_HINT_LENGTH = len(KEY_PREFIX) + 4
_HMAC_BLOCK = 64
_INDEXED = 8
_DOTS_OF_A_TOKEN = 2


class Admin(Struct, frozen=True):
    """The operator; `key_name` says with which key."""

    key_name: str


class TenantUser(Struct, frozen=True):
    """Somebody acting for one tenant. That the tenant exists is not yet said."""

    tenant_id: str


Identity = Admin | TenantUser


def actor_of(identity: Identity, ip: str | None) -> Actor:
    """The caller as the audit log names it."""
    if isinstance(identity, Admin):
        return Actor(kind="api_key", name=identity.key_name, ip=ip)
    return Actor(kind="tenant", name=identity.tenant_id, ip=ip)


class NewKey(Struct, frozen=True):
    """A key just made: the only time that `secret` can be read."""

    key: ApiKey
    secret: str


class KeyStore(Protocol):
    """The part of the store that keeps API keys and the audit log."""

    async def add_api_key(self, key: ApiKey, entry: Entry | None = None) -> None: ...

    async def api_keys(self) -> tuple[ApiKey, ...]: ...

    async def revoke_api_key(self, key_id: str, entry: Entry | None = None) -> bool: ...

    @property
    def alerting(self) -> AlertStore: ...


class Access:
    """Identifies callers, mints tenant tokens and manages API keys.

    Keys are stored as SHA-256 digests (they are 200 random bits, so a slow hash would add nothing). The digests are
    held in memory and read again every few seconds, so that a key revoked by another process dies within
    `REFRESH_SECONDS`. `fixed_key` comes from the settings and cannot be revoked here.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        jwt_secret: bytes,
        jwt_lifetime: float,
        now: Callable[[], Micros],
        fixed_key: str | None = None,
    ) -> None:
        self._store = store
        # HMAC pads its key with zeros to one block (RFC 2104), so a short secret signs the same when padded here
        self._jwt_secret = jwt_secret.ljust(_HMAC_BLOCK, b"\0")
        self._jwt_lifetime = jwt_lifetime
        self._now = now
        self._fixed = {} if fixed_key is None else dict([_entry(sha256(fixed_key.encode()).digest(), FIXED_KEY_NAME)])
        self._admins = self._fixed

    # who it is

    def identify(self, authorization: bytes | str | None) -> Identity:
        """The caller behind an `Authorization` header. Raises Unauthorized.

        A key is found by the start of its digest and believed after a constant-time comparison of the whole digest.
        """
        credential = _credential(authorization)
        digest = sha256(credential).digest()
        found = self._admins.get(digest[:_INDEXED])
        if found is not None and compare_digest(found[0], digest):
            return found[1]
        return self._tenant(credential)

    def _tenant(self, credential: bytes) -> TenantUser:
        if credential.count(b".") != _DOTS_OF_A_TOKEN:
            raise Unauthorized("invalid credentials")
        try:
            claims = jwt.decode(
                credential,
                self._jwt_secret,
                algorithms=[ALGORITHM],
                issuer=ACCEPTED_ISSUERS,
                options={"require": ["exp", "iss", "sub"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired") from None
        except jwt.InvalidTokenError:
            raise Unauthorized("invalid credentials") from None
        if not claims["sub"]:
            raise Unauthorized("invalid credentials")
        return TenantUser(claims["sub"])

    def mint(self, tenant_id: str) -> str:
        """A token for everything that one tenant may do, valid for the configured lifetime."""
        issued = self._now() // SECOND
        claims = {"iss": ISSUER, "sub": tenant_id, "iat": issued, "exp": issued + round(self._jwt_lifetime)}
        return jwt.encode(claims, self._jwt_secret, algorithm=ALGORITHM)

    async def hand_out(self, tenant_id: str, *, by: Actor) -> str:
        """A token that somebody asked for, once that is written down."""
        await self._store.alerting.audit(Entry(actor=by, action="tenant.token", tenant_id=tenant_id, subject=tenant_id))
        return self.mint(tenant_id)

    # keys

    async def refresh(self) -> None:
        """Read the stored keys. Raises Unavailable; then the keys known so far stay valid."""
        stored = await self._store.api_keys()
        self._admins = self._fixed | dict(_entry(key.digest, key.name) for key in stored)

    async def keep_fresh(self) -> None:
        """Refresh every `REFRESH_SECONDS` until cancelled; an unavailable store is asked again the next time."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.refresh()

    async def ensure_key(self) -> NewKey | None:
        """On a first start, when nobody could call, make a key; it is to be shown once. None when there is a key."""
        await self.refresh()
        return None if self._admins else await self.add_key(FIRST_KEY_NAME)

    async def add_key(self, name: str, *, by: Actor = SYSTEM) -> NewKey:
        """Make a key. Raises Invalid for a bad name, BadRequest for a taken one."""
        _check_name(name)
        secret = KEY_PREFIX + token(_RANDOM_LENGTH)
        key = ApiKey(
            id=f"key_{token()}",
            name=name,
            digest=sha256(secret.encode()).digest(),
            hint=secret[:_HINT_LENGTH],
            created_at=self._now(),
        )
        entry = Entry(actor=by, action="api_key.create", tenant_id=None, subject=key.id, detail={"name": name})
        await self._store.add_api_key(key, entry)
        await self.refresh()
        return NewKey(key, secret)

    async def keys(self) -> tuple[ApiKey, ...]:
        """The stored keys; the fixed one of the settings is not among them."""
        return await self._store.api_keys()

    async def revoke_key(self, key_id: str, *, by: Actor = SYSTEM) -> None:
        """Make a key worthless at once. Raises NotFound, and BadRequest for the last key: nobody could call then."""
        stored = await self._store.api_keys()
        if not self._fixed and [key.id for key in stored] == [key_id]:
            raise BadRequest("the last API key cannot be revoked; add another one first")
        entry = Entry(actor=by, action="api_key.revoke", tenant_id=None, subject=key_id)
        if not await self._store.revoke_api_key(key_id, entry):
            raise NotFound("API key not found")
        await self.refresh()


def _credential(authorization: bytes | str | None) -> bytes:
    if authorization is None:
        raise Unauthorized("missing credentials: send `Authorization: Bearer <API key or token>`")
    header = authorization.encode(errors="replace") if isinstance(authorization, str) else authorization
    scheme, _, credential = header.partition(b" ")
    if scheme.lower() != _SCHEME:
        raise Unauthorized("the Authorization header must be of the form `Bearer <API key or token>`")
    return credential.strip()


def _entry(digest: bytes, name: str) -> tuple[bytes, tuple[bytes, Admin]]:
    return digest[:_INDEXED], (digest, Admin(name))


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise Invalid(["name must be printable text"])
    if len(name) > KEY_NAME_MAX_LENGTH:
        raise Invalid([f"name must be at most {KEY_NAME_MAX_LENGTH} characters"])
