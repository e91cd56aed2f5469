"""Google Cloud's REST APIs: requests with a service account's token, and refusals in the words of Waypost."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpRequest, HttpResponse
from waypost.net.google.token import AccessTokens
from waypost.net.http import HttpClient
from waypost.net.refusals import TOO_LARGE, Meaning, refusal


class _Fault(Struct, frozen=True):
    message: str = ""


class _Refusal(Struct, frozen=True):
    error: _Fault = _Fault()


class _Permissions(Struct, frozen=True):
    permissions: tuple[str, ...] = ()


class GoogleApi:
    """Calls with a token, or without where `tokens` is None: emulators take none, and plain HTTP must carry none."""

    def __init__(self, http: HttpClient, tokens: AccessTokens | None, *, owner: str = "") -> None:
        self._http = http
        self._owner = owner
        self._tokens = tokens

    async def call(
        self, method: str, url: str, body: bytes = b"", content_type: str = "application/json"
    ) -> HttpResponse:
        """The answer of any status. A token that is refused is replaced once, since it can be revoked at any time."""
        headers = [f"content-type: {content_type}"] if body else []
        if self._tokens is None:
            return await self._request(method, url, headers, body)
        token = await self._tokens.current()
        response = await self._send(method, url, headers, body, token)
        if response.status != HTTPStatus.UNAUTHORIZED:
            return response
        self._tokens.forget(token)
        return await self._send(method, url, headers, body, await self._tokens.current())

    async def _send(self, method: str, url: str, headers: list[str], body: bytes, token: str) -> HttpResponse:
        return await self._request(method, url, [*headers, f"authorization: Bearer {token}"], body)

    async def _request(self, method: str, url: str, headers: list[str], body: bytes) -> HttpResponse:
        return await self._http.send(HttpRequest(method=method, url=url, headers=headers, body=body, owner=self._owner))


_MEANINGS = {
    400: Meaning("invalid_request", "{service} does not accept the message"),
    401: Meaning("bad_credentials", "{service} does not accept the service account"),
    403: Meaning("access_denied", "The service account has no right to send to {what}"),
    404: Meaning("{missing}", "{service} does not know {what}"),
    408: Meaning("unavailable", "{service} could not take the message in time", retryable=True),
    409: Meaning("unavailable", "{service} could not take the message now", retryable=True),
    413: TOO_LARGE,
    429: Meaning("throttled", "{service} takes no more messages at the moment", retryable=True),
}
"""Google's statuses (https://cloud.google.com/apis/design/errors)."""


def refused(response: HttpResponse, *, service: str, missing: str, what: str) -> DeliveryError:
    """The error of an answer that is not a success.

    `missing` is the code for a 404 and `what` names that which was not found ("the topic orders").
    """
    return refusal(response, _MEANINGS, _reason(response.body), service=service, missing=missing, what=what)


def require(permission: str, answer: HttpResponse, what: str) -> None:
    """Raise DeliveryError unless an answer of testIamPermissions holds the permission."""
    try:
        held = read_json(answer.body, type=_Permissions).permissions
    except (msgspec.DecodeError, UnicodeError):
        raise DeliveryError("bad_answer", f"The answer about the rights on {what} cannot be read") from None
    if permission not in held:
        sentence = f"The service account lacks the permission {permission} on {what}"
        raise DeliveryError("access_denied", sentence, retryable=False)


def _reason(body: bytes) -> str:
    try:
        return read_json(body, type=_Refusal).error.message
    except (msgspec.DecodeError, UnicodeError):
        return ""
