"""Google's front door before an emulator: tokens for real assertions, and nothing without a token.

The emulators let everybody in. Here an assertion has to hold by RFC 7523 and Google's rules (signature, issuer, scope,
audience, times), and a call has to carry a token that was given out for it. What passes goes on to the emulator.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.servers.https import Receive, Scope, Send, answer, body_of

EMAIL = "waypost@project.iam.gserviceaccount.com"
KEY_ID = "a-key-id"
_LARGEST_REQUEST = 10_000_000
_PASSED_ON = {"content-type"}


@cache
def account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


@cache
def strangers_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def service_account(token_uri: str, key: rsa.RSAPrivateKey | None = None, **changes: Any) -> str:
    """A key file as Google hands it out."""
    account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": KEY_ID,
        "private_key": pem(key or account_key()),
        "client_email": EMAIL,
        "client_id": "1234567890",
        "token_uri": token_uri,
    }
    return json.dumps(account | changes)


class GoogleDoor:
    """`rights` are the permissions that the account has, `faults` answers to give to the next calls instead."""

    def __init__(self, emulator: str, scope: str) -> None:
        self.emulator = emulator
        self.scope = scope
        self.token_uri = ""
        self.tokens: list[str] = []
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.rights = {"pubsub.topics.publish", "storage.objects.create"}
        self.faults: list[tuple[int, bytes, dict[str, str]]] = []
        self.token_faults: list[tuple[int, bytes]] = []
        self.tokens_asked = 0
        self._passing_on = httpx.AsyncClient(
            base_url=emulator, timeout=20, limits=httpx.Limits(max_keepalive_connections=0)
        )

        self._few = asyncio.Semaphore(4)  # an emulator is no crowd's server

    async def close(self) -> None:
        await self._passing_on.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        if scope["path"] == "/token":
            await answer(send, *self._token(body))
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["raw_path"].decode()
        path += f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        self.calls.append((scope["method"], path, headers))
        self.bodies.append(body)
        status, content, more = await self._call(scope["method"], path, headers, body)
        await answer(send, status, content, headers=more)

    def _token(self, body: bytes) -> tuple[int, bytes]:
        self.tokens_asked += 1
        if self.token_faults:
            return self.token_faults.pop(0)
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        try:
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            assert jwt.get_unverified_header(form["assertion"])["kid"] == KEY_ID
            claims = jwt.decode(
                form["assertion"],
                account_key().public_key(),
                algorithms=["RS256"],
                audience=self.token_uri,
                issuer=EMAIL,
                options={"require": ["exp", "iat", "iss", "aud"]},
            )
            assert claims["exp"] - claims["iat"] <= 3_600
            assert claims["scope"] == self.scope
        except (jwt.InvalidTokenError, AssertionError, KeyError):
            return 400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'
        self.tokens.append(f"ya29.{secrets.token_urlsafe(32)}")
        return 200, json.dumps({"access_token": self.tokens[-1], "expires_in": 3_599, "token_type": "Bearer"}).encode()

    async def _call(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        if headers.get("authorization") not in {f"Bearer {token}" for token in self.tokens}:
            return 401, _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), {}
        if self.faults:
            return self.faults.pop(0)
        if len(body) > _LARGEST_REQUEST:
            return 400, _error(400, "INVALID_ARGUMENT", "The value for request_size is too large."), {}
        if path.endswith(":testIamPermissions"):
            return 200, self._permissions(json.loads(body)["permissions"]), {}
        if "/iam/testPermissions?permissions=" in path:
            return 200, self._permissions([path.rpartition("=")[2]]), {}
        passed = {name: value for name, value in headers.items() if name in _PASSED_ON}
        async with self._few:
            response = await self._passing_on.request(method, path, content=body, headers=passed)
        return response.status_code, response.content, {}

    def _permissions(self, asked: list[str]) -> bytes:
        held = [permission for permission in asked if permission in self.rights]
        return json.dumps({"permissions": held} if held else {}).encode()


def _error(code: int, status: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status}}).encode()
