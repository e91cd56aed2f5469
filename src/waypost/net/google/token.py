"""Access tokens for a Google service account by the JWT bearer grant (RFC 7523), made without Google's libraries."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpRequest, HttpResponse
from waypost.net.failure import copy_of
from waypost.net.http import HttpClient
from waypost.net.target import parse_url

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  an address
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS = 3_600
_RENEWED_BEFORE_SECONDS = 300.0
_LONGEST_REASON = 300


class ServiceAccount(Struct, frozen=True, kw_only=True):
    """The parts of a service account's key file that signing needs. `private_key` is RSA in PEM."""

    client_email: str
    private_key: str
    private_key_id: str | None = None
    token_uri: str = TOKEN_URI


class _Granted(Struct, frozen=True):
    access_token: str
    expires_in: float = _ASSERTION_SECONDS


class _NotGranted(Struct, frozen=True):
    error: str = ""
    error_description: str = ""


def parse_service_account(text: str) -> ServiceAccount:
    """Read a key file as Google hands it out. Raises ValueError with the end of a sentence ("must ...")."""
    try:
        kind = read_json(text, type=dict[str, msgspec.Raw]).get("type")
        account = read_json(text, type=ServiceAccount)
    except (msgspec.DecodeError, UnicodeError):
        raise ValueError(
            "must be the JSON of a service account's key, with client_email and private_key as text"
        ) from None
    if kind is not None and bytes(kind) != b'"service_account"':
        raise ValueError("must be the key of a service account: its type must be service_account")
    _private_key(account)
    if parse_url(account.token_uri).scheme != "https":
        raise ValueError("must have a token_uri that starts with https://")
    return account


def _private_key(account: ServiceAccount) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("must have a private_key that is an RSA key in PEM, without a passphrase") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("must have a private_key that is an RSA key")  # noqa: TRY004  a value's fault
    return key


class AccessTokens:
    """The current token of a service account for one scope: asked for when it is needed, once for all who wait.

    Raises DeliveryError `bad_credentials`, or what the HTTP client raises.
    """

    def __init__(self, http: HttpClient, account: ServiceAccount, scope: str, *, owner: str = "") -> None:
        self._http = http
        self._owner = owner
        self._account = account
        self._key = _private_key(account)
        self._scope = scope
        self._token: str | None = None
        self._renew_at = 0.0
        self._pending: asyncio.Task[str] | None = None

    async def current(self) -> str:
        """A token that is good for some minutes at least. Cancelling one caller leaves the others waiting."""
        if self._token is not None and time.monotonic() < self._renew_at:
            return self._token
        if self._pending is None:
            self._pending = asyncio.create_task(self._fetch())
            self._pending.add_done_callback(self._fetched)
        try:
            return await asyncio.shield(self._pending)
        except DeliveryError as error:
            raise copy_of(error) from None

    def forget(self, token: str) -> None:
        """The service has refused this token: do not use it again."""
        if self._token == token:
            self._token = None

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._pending = None
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; asyncio need not complain when nobody does

    async def _fetch(self) -> str:
        response = await self._http.send(
            HttpRequest(
                method="POST",
                url=self._account.token_uri,
                headers=["content-type: application/x-www-form-urlencoded"],
                body=urlencode({"grant_type": _GRANT, "assertion": self._assertion()}).encode(),
                owner=self._owner,
            )
        )
        if response.status != HTTPStatus.OK:
            raise _not_granted(response)
        granted = _granted(response)
        self._token = granted.access_token
        self._renew_at = time.monotonic() + max(0.0, granted.expires_in - _RENEWED_BEFORE_SECONDS)
        return granted.access_token

    def _assertion(self) -> str:
        now, account = int(time.time()), self._account
        claims = {
            "iss": account.client_email,
            "scope": self._scope,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        headers = {"kid": account.private_key_id} if account.private_key_id else None
        return jwt.encode(claims, self._key, algorithm="RS256", headers=headers)


def _granted(response: HttpResponse) -> _Granted:
    try:
        return read_json(response.body, type=_Granted)
    except (msgspec.DecodeError, UnicodeError):
        why = "was longer than what is kept of an answer" if response.truncated else "is not a token"
        raise DeliveryError("bad_answer", f"What the service account's token_uri answered {why}") from None


def _not_granted(response: HttpResponse) -> DeliveryError:
    status = response.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return DeliveryError("unavailable", f"The service account's token_uri answered with status {status}")
    reason = _reason(response.body)
    return DeliveryError("bad_credentials", f"The service account was not given a token{reason}", retryable=False)


def _reason(body: bytes) -> str:
    try:
        said = read_json(body, type=_NotGranted)
    except (msgspec.DecodeError, UnicodeError):
        return ""
    reason = " ".join(f"{said.error} {said.error_description}".split())[:_LONGEST_REASON]
    return f": {reason}" if reason else ""
