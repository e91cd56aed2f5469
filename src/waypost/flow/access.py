"""Who is calling: the operator with an API key, or a tenant with a token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Protocol

import jwt
from msgspec import Struct

from waypost.core import times
from waypost.core.errors import BadRequest, Forbidden, Invalid, NotFound, Unauthorized
from waypost.core.incarnations import FIRST, id_of, incarnation_of, key_of
from waypost.core.model import SECOND, SYSTEM, Actor, Micros, Tenant, TenantSummary
from waypost.flow.background import Background
from waypost.flow.clock import token
from waypost.store.alerting import AlertStore, Entry
from waypost.store.base import ApiKey

ALGORITHM = "HS256"
ISSUER = "waypost"
ACCEPTED_ISSUERS = (ISSUER, "outpost")
KEY_PREFIX = "wpk_"
TOKEN_PREFIX = "tok_"  # noqa: S105  how ids begin
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
_TOKEN_ID = re.compile(rf"{TOKEN_PREFIX}[a-z0-9]+_([0-9a-f]{{1,10}})")
_LONGEST_FOREIGN_ID = 200
_LATEST = 1 << 40

PUBLISH, VIEW, MANAGE, REPLAY, OPERATE = "publish", "view", "manage", "replay", "operate"
RIGHTS_OF_A_TOKEN = (VIEW, MANAGE, REPLAY)
"""See what belongs to the tenant; change it; have events sent again."""
RIGHTS_OF = {
    "publish": frozenset({PUBLISH}),
    "read": frozenset({VIEW}),
    "admin": frozenset({PUBLISH, VIEW, MANAGE, REPLAY, OPERATE}),
}
"""What each scope of an API key allows."""
SCOPES = tuple(RIGHTS_OF)
_ALL_OF_A_TOKEN = frozenset(RIGHTS_OF_A_TOKEN)


class KeyHolder(Struct, frozen=True):
    """Somebody with an API key. `tenant_id` is the only tenant that it is for, None if it is for all."""

    key_name: str
    rights: frozenset[str] = RIGHTS_OF["admin"]
    tenant_id: str | None = None
    expires_at: Micros | None = None


class TenantUser(Struct, frozen=True):
    """Somebody with a token for one tenant, which may have been deleted, or may have revoked it: see `is_let_in_by`."""

    tenant_id: str
    rights: frozenset[str] = _ALL_OF_A_TOKEN
    epoch: int | None = None
    issued_at: Micros | None = None

    def is_let_in_by(self, tenant: Tenant) -> bool:
        """Whether the token is none of those that were revoked with all others, or made for an earlier tenant."""
        if self.epoch is not None:
            return self.epoch == tenant.epoch
        return self.issued_at is not None and self.issued_at >= tenant.tokens_since


Identity = KeyHolder | TenantUser


def actor_of(identity: Identity, ip: str | None) -> Actor:
    """The caller as the audit log names it."""
    if isinstance(identity, KeyHolder):
        return Actor(kind="api_key", name=identity.key_name, ip=ip)
    return Actor(kind="tenant", name=id_of(identity.tenant_id), ip=ip)


def require(identity: Identity, right: str) -> None:
    """Raise Forbidden when the caller has not got a right."""
    if right in identity.rights:
        return
    if isinstance(identity, KeyHolder):
        needed = " or ".join(f"`{scope}`" for scope, rights in RIGHTS_OF.items() if right in rights)
        raise Forbidden(f"this needs an API key with the scope {needed}")
    if right not in RIGHTS_OF_A_TOKEN:
        raise Forbidden("this needs an API key; a tenant's token is not enough")
    raise Forbidden(f"this needs a token with the right `{right}`")


class NewKey(Struct, frozen=True):
    """A key just made: the only time that `secret` can be read."""

    key: ApiKey
    secret: str


class NewToken(Struct, frozen=True, kw_only=True):
    """A token just made, which is not kept; `id` is what it is revoked by."""

    token: str
    id: str
    rights: tuple[str, ...]
    expires_at: Micros


class KeyStore(Protocol):
    """The part of the store that keeps tenants, API keys, revocations and the audit log."""

    def key_of(self, tenant_id: str) -> str: ...

    async def tenant(self, tenant_id: str) -> TenantSummary | None: ...

    async def revoke_tokens(self, tenant_id: str, *, now: Micros, entry: Entry | None = None) -> bool: ...

    async def revoke_token(self, token_id: str, *, expires_at: Micros, entry: Entry | None = None) -> None: ...

    async def revoked_tokens(self, *, now: Micros) -> frozenset[str]: ...

    async def add_api_key(self, key: ApiKey, entry: Entry | None = None) -> None: ...

    async def api_keys(self) -> tuple[ApiKey, ...]: ...

    async def revoke_api_key(self, key_id: str, entry: Entry | None = None) -> bool: ...

    @property
    def alerting(self) -> AlertStore: ...


class Access:
    """Identifies callers, mints and revokes tenant tokens, and manages API keys.

    Keys are stored as SHA-256 digests (they are 200 random bits, so a slow hash would add nothing). The digests, and
    which tokens were revoked, are held in memory and read again every few seconds, so that what another process revoked
    dies within `REFRESH_SECONDS`. `fixed_key` comes from the settings and cannot be revoked here. Lifetimes are in
    seconds.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        jwt_secret: bytes,
        jwt_lifetime: float,
        jwt_max_lifetime: float = 0.0,
        now: Callable[[], Micros],
        forgetting: Callable[[], Micros] | None = None,
        fixed_key: str | None = None,
    ) -> None:
        """`forgetting` is the time by which revocations of tokens that have expired are removed; usually `now`."""
        self._store = store
        # HMAC pads its key with zeros to one block (RFC 2104), so a short secret signs the same when padded here
        self._jwt_secret = jwt_secret.ljust(_HMAC_BLOCK, b"\0")
        self._jwt_lifetime = round(jwt_lifetime)
        self._jwt_max_lifetime = max(self._jwt_lifetime, round(jwt_max_lifetime))
        self._now = now
        self._forgetting = forgetting or now
        holder = KeyHolder(FIXED_KEY_NAME)
        self._fixed = {} if fixed_key is None else dict([_entry(sha256(fixed_key.encode()).digest(), holder)])
        self._holders = self._fixed
        self._revoked: frozenset[str] = frozenset()
        self.background = Background("keys", self.refresh, REFRESH_SECONDS)

    # who it is

    def identify(self, authorization: bytes | str | None) -> Identity:
        """The caller behind an `Authorization` header. Raises Unauthorized.

        A key is found by the start of its digest and believed after a constant-time comparison of the whole digest.
        """
        credential = _credential(authorization)
        digest = sha256(credential).digest()
        found = self._holders.get(digest[:_INDEXED])
        if found is None or not compare_digest(found[0], digest):
            return self._tenant(credential)
        holder = found[1]
        if holder.expires_at is not None and holder.expires_at <= self._now():
            raise Unauthorized("the API key has expired")
        return holder

    async def still(self, authorization: bytes | str | None, tenant_id: str | None) -> None:
        """Raise Unauthorized when a caller who was let in, as this tenant if any, would no longer be."""
        identity = self.identify(authorization)
        if identity.tenant_id != tenant_id:
            raise Unauthorized("the token's tenant does not exist")
        if isinstance(identity, TenantUser):
            await self.summary(identity)

    async def summary(self, user: TenantUser) -> TenantSummary:
        """The tenant that a token is for. Raises Unauthorized when there is none, or it does not let the token in."""
        found = await self._store.tenant(user.tenant_id)
        if found is None:
            raise Unauthorized("the token's tenant does not exist")
        if not user.is_let_in_by(found.tenant):
            raise Unauthorized("the token was revoked")
        return found

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
        if str(claims.get("jti")) in self._revoked:
            raise Unauthorized("the token was revoked")
        user = self._user(claims)
        if user is None:
            raise Unauthorized("invalid credentials")
        return user

    def _user(self, claims: Mapping[str, Any]) -> TenantUser | None:
        """Whom the claims of a token of ours name, or of one that was made elsewhere with our secret."""
        tenant_id, issued = claims["sub"], claims.get("iat")
        incarnation, epoch = claims.get("incarnation"), claims.get("epoch")
        rights = claims.get("rights", RIGHTS_OF_A_TOKEN)
        if not tenant_id or not isinstance(rights, Sequence) or not all(right in RIGHTS_OF_A_TOKEN for right in rights):
            return None
        if incarnation is not None and not (_is_whole(incarnation) and _is_whole(epoch) and incarnation >= FIRST):
            return None
        return TenantUser(
            self._store.key_of(tenant_id) if incarnation is None else key_of(tenant_id, incarnation),
            rights=frozenset(rights),
            epoch=None if incarnation is None else epoch,
            issued_at=round(issued * SECOND) if isinstance(issued, int | float) and 0 <= issued < _LATEST else None,
        )

    def mint(self, tenant_id: str, *, epoch: int = 0) -> str:
        """A token with all rights on what belongs to a tenant, valid for the configured lifetime."""
        return self._new(tenant_id, epoch, RIGHTS_OF_A_TOKEN, self._jwt_lifetime).token

    def _new(self, tenant_id: str, epoch: int, rights: Iterable[str], lifetime: int) -> NewToken:
        issued = self._now() // SECOND
        expires = issued + lifetime
        chosen = tuple(right for right in RIGHTS_OF_A_TOKEN if right in rights)
        claims = {
            "iss": ISSUER,
            "sub": id_of(tenant_id),
            "iat": issued,
            "exp": expires,
            "jti": f"{TOKEN_PREFIX}{token()}_{expires:x}",  # when it is revoked, that is kept for so long
            "incarnation": incarnation_of(tenant_id),
            "epoch": epoch,
            "rights": chosen,
        }
        signed = jwt.encode(claims, self._jwt_secret, algorithm=ALGORITHM)
        return NewToken(token=signed, id=str(claims["jti"]), rights=chosen, expires_at=expires * SECOND)

    async def hand_out(
        self, tenant_id: str, *, rights: Sequence[str] = RIGHTS_OF_A_TOKEN, lifetime: int | None = None, by: Actor
    ) -> NewToken:
        """A token that somebody asked for, once that is written down. Raises NotFound, Invalid for too long a life."""
        if lifetime is not None and not 1 <= lifetime <= self._jwt_max_lifetime:
            longest = self._jwt_max_lifetime
            raise Invalid({"query.lifetime": f"must be a whole number of seconds from 1 to {longest}"})
        found = await self._store.tenant(tenant_id)
        if found is None:
            raise NotFound("tenant not found")
        new = self._new(tenant_id, found.tenant.epoch, rights, lifetime or self._jwt_lifetime)
        detail = {"token": new.id, "rights": new.rights, "expires_at": times.render(new.expires_at)}
        await self._store.alerting.audit(_on_tenant(by, "tenant.token", tenant_id, detail))
        return new

    async def revoke_all(self, tenant_id: str, *, by: Actor = SYSTEM) -> None:
        """Make all tokens of a tenant worthless at once. Raises NotFound."""
        entry = _on_tenant(by, "tenant.tokens_revoke", tenant_id, {})
        if not await self._store.revoke_tokens(tenant_id, now=self._now(), entry=entry):
            raise NotFound("tenant not found")

    async def revoke(self, tenant_id: str, token_id: str, *, by: Actor = SYSTEM) -> None:
        """Make one token worthless at once, by its id (`jti`). Raises Invalid."""
        if not 1 <= len(token_id) <= _LONGEST_FOREIGN_ID:
            raise Invalid([f"id must have 1 to {_LONGEST_FOREIGN_ID} characters"])
        ours = _TOKEN_ID.fullmatch(token_id)
        expires = int(ours[1], 16) * SECOND if ours else self._now() + self._jwt_max_lifetime * SECOND
        entry = _on_tenant(by, "tenant.token_revoke", tenant_id, {"token": token_id})
        await self._store.revoke_token(token_id, expires_at=expires, entry=entry)
        self._revoked |= {token_id}

    async def revoke_text(self, tenant_id: str, text: str, *, by: Actor = SYSTEM) -> None:
        """Make a token worthless by itself. Raises Invalid for one that this server does not know."""
        try:
            claims = jwt.decode(
                text, self._jwt_secret, algorithms=[ALGORITHM], options={"require": ["sub"], "verify_exp": False}
            )
        except jwt.InvalidTokenError:
            raise Invalid(["token is not a token of this server"]) from None
        if claims["sub"] != id_of(tenant_id):
            raise Invalid(["token is for another tenant"])
        if not isinstance(claims.get("jti"), str):
            raise Invalid(["token has no id (`jti`): revoke all tokens of the tenant"])
        await self.revoke(tenant_id, claims["jti"], by=by)

    # keys

    async def refresh(self) -> None:
        """Read the stored keys and revocations. Raises Unavailable; then what is known so far stays valid."""
        self._revoked = await self._store.revoked_tokens(now=self._forgetting())
        stored = await self._store.api_keys()
        self._holders = self._fixed | dict(_entry(key.digest, _holder(key)) for key in stored)

    async def ensure_key(self) -> NewKey | None:
        """When nobody could call for ever, as on a first start, make a key; it is to be shown once. Else None."""
        await self.refresh()
        stored = await self.keys()
        if self._fixed or any(map(_is_lasting, stored)):
            return None
        taken = {key.name for key in stored}
        return await self.add_key(FIRST_KEY_NAME if FIRST_KEY_NAME not in taken else f"{FIRST_KEY_NAME}-{token()}")

    async def add_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("admin",),
        tenant_id: str | None = None,
        expires_at: Micros | None = None,
        by: Actor = SYSTEM,
    ) -> NewKey:
        """Make a key. Raises Invalid for a bad name or time, BadRequest for a taken name, NotFound for no tenant."""
        _check_name(name)
        if expires_at is not None and expires_at <= self._now():
            raise Invalid(["expires_at must be in the future"])
        if tenant_id is not None and await self._store.tenant(tenant_id) is None:
            raise NotFound("tenant not found")
        secret = KEY_PREFIX + token(_RANDOM_LENGTH)
        key = ApiKey(
            id=f"key_{token()}",
            name=name,
            digest=sha256(secret.encode()).digest(),
            hint=secret[:_HINT_LENGTH],
            created_at=self._now(),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            tenant_id=tenant_id,
            expires_at=expires_at,
        )
        detail = {"name": name, "scopes": key.scopes, "expires_at": times.render_optional(expires_at)}
        entry = Entry(actor=by, action="api_key.create", tenant_id=tenant_id, subject=key.id, detail=detail)
        await self._store.add_api_key(key, entry)
        await self.refresh()
        return NewKey(key, secret)

    async def keys(self) -> tuple[ApiKey, ...]:
        """The stored keys; the fixed one of the settings is not among them."""
        return await self._store.api_keys()

    async def revoke_key(self, key_id: str, *, by: Actor = SYSTEM) -> None:
        """Make a key worthless at once. Raises NotFound, and BadRequest for the last one that opens all for ever.

        Without that, nobody could call once the others have expired.
        """
        stored = await self._store.api_keys()
        if not self._fixed and [key.id for key in stored if _is_lasting(key)] == [key_id]:
            raise BadRequest(
                "the last API key with the scope `admin` that is for all tenants and does not expire cannot be revoked;"
                " add another one first"
            )
        entry = Entry(actor=by, action="api_key.revoke", tenant_id=None, subject=key_id)
        if not await self._store.revoke_api_key(key_id, entry):
            raise NotFound("API key not found")
        await self.refresh()

    def forget_tenant(self, tenant_id: str) -> None:
        """The tenant was deleted, and with it the keys that were for it alone."""
        self._holders = {
            index: (digest, holder)
            for index, (digest, holder) in self._holders.items()
            if holder.tenant_id != tenant_id
        }


def _credential(authorization: bytes | str | None) -> bytes:
    if authorization is None:
        raise Unauthorized("missing credentials: send `Authorization: Bearer <API key or token>`")
    header = authorization.encode(errors="replace") if isinstance(authorization, str) else authorization
    scheme, _, credential = header.partition(b" ")
    if scheme.lower() != _SCHEME:
        raise Unauthorized("the Authorization header must be of the form `Bearer <API key or token>`")
    return credential.strip()


def _entry(digest: bytes, holder: KeyHolder) -> tuple[bytes, tuple[bytes, KeyHolder]]:
    return digest[:_INDEXED], (digest, holder)


def _holder(key: ApiKey) -> KeyHolder:
    rights = frozenset[str]().union(*[RIGHTS_OF.get(scope, ()) for scope in key.scopes])
    return KeyHolder(key.name, rights=rights, tenant_id=key.tenant_id, expires_at=key.expires_at)


def _is_lasting(key: ApiKey) -> bool:
    """Whether a key opens everything, and for ever."""
    return "admin" in key.scopes and key.tenant_id is None and key.expires_at is None


def _on_tenant(by: Actor, action: str, tenant_id: str, detail: dict[str, Any]) -> Entry:
    return Entry(actor=by, action=action, tenant_id=tenant_id, subject=id_of(tenant_id), detail=detail)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise Invalid(["name must be printable text"])
    if len(name) > KEY_NAME_MAX_LENGTH:
        raise Invalid([f"name must be at most {KEY_NAME_MAX_LENGTH} characters"])
