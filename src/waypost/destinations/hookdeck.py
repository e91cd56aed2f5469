"""Hookdeck: a POST to a source of Hookdeck's Event Gateway, which queues, transforms and forwards from there."""

from __future__ import annotations

import binascii
import hmac
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from msgspec import Struct

from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field
from waypost.connect.headers import HeaderNames
from waypost.connect.options import own_options
from waypost.core.errors import DeliveryError, SettingsError
from waypost.core.model import Destination
from waypost.net.exchange import HttpRequest, HttpResponse, clean_header_value, header_line, is_header_name
from waypost.net.http import HttpClient
from waypost.net.record import shown
from waypost.net.retry_after import retry_after
from waypost.net.target import parse_url

_SOURCE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_API_VERSION = "2025-01-01"
_SHOWN_OF_AN_ANSWER = 4_096


class HookdeckOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for all Hookdeck destinations: the options `hookdeck_<name>`.

    - `base_url` is where sources receive, `api_url` where a token is verified.
    - `header_prefix` stands before metadata keys in header names.
    """

    base_url: str = "https://hkdk.events"
    api_url: str = "https://api.hookdeck.com"
    header_prefix: str = "x-waypost-"


def options_of(options: Mapping[str, Any]) -> HookdeckOptions:
    """The options that concern Hookdeck. Raises SettingsError for one that is unknown or wrong."""
    found = own_options("hookdeck", options, HookdeckOptions)
    try:
        for url in (found.base_url, found.api_url):
            parse_url(url)
    except ValueError as error:
        raise SettingsError(f"hookdeck options: {error}") from error
    if not is_header_name(found.header_prefix):
        raise SettingsError(f"hookdeck options: {found.header_prefix!r} cannot begin a header name")
    return found


def source_of(token: str) -> str:
    """The id of the source that a token is for. Raises ValueError with the end of a sentence ("must ...")."""
    try:
        source_id, colon, secret = b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("must be a token as Hookdeck shows it (base64)") from error
    if not colon or not secret or not _SOURCE_ID.fullmatch(source_id):
        raise ValueError("must be a token as Hookdeck shows it: it has to name a source and a secret")
    return source_id


class HookdeckType(DestinationType):
    type: ClassVar[str] = "hookdeck"
    label: ClassVar[str] = "Hookdeck"
    description: ClassVar[str] = "Send events to a source of Hookdeck's Event Gateway."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M4 5h16M4 12h10M4 19h16"/>'
        '<path d="M17 9.500 19.500 12 17 14.500"/></svg>'
    )
    instructions: ClassVar[str] = """\
Enter the token of a source that Hookdeck has made for receiving events from a platform. It is base64 text, in which the
source's id and a secret are kept.

Events arrive at the source as POST requests. The body is the event's data (`application/json`), metadata are headers
under a prefix: `x-waypost-event-id`, `x-waypost-topic`, `x-waypost-timestamp` ... `x-hookdeck-signature` is `v0=` and
the base64 of an HMAC-SHA256 over the body with the token as key; Hookdeck checks it. An event can arrive more than
once: let a deduplication rule of the connection look at `headers.x-waypost-event-id`.
"""
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="token",
            label="Token",
            description="The token of the source.",
            required=True,
            sensitive=True,
            maxlength=1_024,
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        try:
            source_of(credentials["token"])
        except ValueError as error:
            return [f"credentials.token {error}"]
        return []

    def target(self, destination: Destination) -> tuple[str, str | None]:
        if "token" not in destination.credentials:  # of a deleted destination, secrets are gone
            return "source", None
        source_id = source_of(destination.credentials["token"])
        return f"source {source_id}", f"https://dashboard.hookdeck.com/sources/{source_id}"

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        token = destination.credentials["token"]
        try:
            source_id = source_of(token)
        except ValueError as error:
            raise DeliveryError("configuration_error", f"The token cannot be used: it {error}") from error
        return HookdeckConnection(tools.http, source_id, token, options_of(tools.options), owner=destination.tenant_id)


class HookdeckConnection:
    """Posts to one source."""

    def __init__(self, http: HttpClient, source_id: str, token: str, options: HookdeckOptions, *, owner: str) -> None:
        self._http = http
        self._owner = owner
        self._url = f"{options.base_url.rstrip('/')}/{source_id}"
        self._verify_url = f"{options.api_url.rstrip('/')}/{_API_VERSION}/sources/{source_id}/managed/verify"
        self._token = token
        self._key = token.encode()
        self._names = HeaderNames(options.header_prefix)

    async def send(self, message: Message) -> Receipt:
        headers = {
            **{name: clean_header_value(value) for name, value in self._names.of(message.metadata).items()},
            "content-type": "application/json",
            "x-hookdeck-signature": self._signature(message.body),
        }
        lines = [header_line(name, value) for name, value in headers.items()]
        request = {"method": "POST", "url": self._url, "headers": headers, "size": len(message.body)}
        try:
            response = await self._http.send(
                HttpRequest(method="POST", url=self._url, headers=lines, body=message.body, owner=self._owner)
            )
            if not _succeeded(response):
                raise self._refused(response)
        except DeliveryError as error:
            error.request = request
            raise
        return Receipt(code=str(response.status), response=self._shown(response), request=request)

    async def verify(self) -> None:
        header = header_line("x-hookdeck-source-token", self._token)
        request = HttpRequest(method="GET", url=self._verify_url, headers=[header], owner=self._owner)
        response = await self._http.send(request)
        if not _succeeded(response):
            raise self._refused(response)

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""

    def _signature(self, body: bytes) -> str:
        return f"v0={b64encode(hmac.digest(self._key, body, 'sha256')).decode()}"

    def _shown(self, response: HttpResponse) -> dict[str, Any]:
        """The answer as it is kept on the attempt."""
        kept = shown(response)
        kept["body"] = kept["body"][:_SHOWN_OF_AN_ANSWER].replace(self._token, "****")
        return kept

    def _refused(self, response: HttpResponse) -> DeliveryError:
        code, sentence, retryable = _meaning(response.status)
        return DeliveryError(
            code,
            sentence,
            retryable=retryable,
            retry_after=retry_after(response.headers.get("retry-after"), now=time.time()),
            response=self._shown(response),
        )


def _succeeded(response: HttpResponse) -> bool:
    return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES


def _meaning(status: int) -> tuple[str, str, bool]:
    """Code, sentence, and whether to try again."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return "bad_credentials", "Hookdeck does not accept the token", False
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return "no_such_source", "Hookdeck knows no such source, or it is disabled", False
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "message_too_large", "The event is larger than Hookdeck takes", False
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "throttled", "Hookdeck asks to send less at once", True
    retryable = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT
    return str(status), f"Hookdeck answered with status {status}", retryable
