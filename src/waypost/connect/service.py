"""Posting to a service's HTTP API: what alert channels share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus
from itertools import accumulate
from typing import Any

from waypost.connect.channel import Notice
from waypost.connect.connector import Receipt, Tools
from waypost.core.errors import DeliveryError, SettingsError
from waypost.net.exchange import HttpRequest, HttpResponse, header_line
from waypost.net.http import HttpClient
from waypost.net.retry_after import retry_after
from waypost.net.target import parse_url

_SHOWN_OF_AN_ANSWER = 2_048
_WORTH_A_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_ELLIPSIS = "…"


class Service:
    """One service as a person calls it, behind the HTTP client. `secrets` never appear in what is kept of an answer.

    `meanings` are sentences for refusals, by the text of the answer ("no_service") or its status ("404").
    """

    def __init__(
        self, name: str, http: HttpClient, secrets: Sequence[str] = (), meanings: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._http = http
        self._secrets = [secret for secret in secrets if secret]
        self._meanings = meanings or {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Receipt:
        """Send, and wait for an acknowledgement. Raises DeliveryError."""
        lines = [header_line(name, value) for name, value in headers.items()]
        try:
            response = await self._http.send(HttpRequest(method="POST", url=url, headers=lines, body=body))
        except DeliveryError as error:
            error.request = None  # with many services the URL is a secret
            raise
        if self.accepted(response):
            return Receipt(code=str(response.status), response=self.shown(response))
        raise self.refusal(response)

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Receipt:
        return await self.post(url, body, {"content-type": "application/json", **(headers or {})})

    def accepted(self, response: HttpResponse) -> bool:
        """Whether an answer is an acknowledgement: any 2xx, unless a service says so in the body."""
        return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES

    def refusal(self, response: HttpResponse) -> DeliveryError:
        """Why the service did not take it: 408, 425, 429 and 5xx can be tried again, Retry-After is heard."""
        retryable = response.status in _WORTH_A_RETRY or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code, said = str(response.status), response.body.decode("utf-8", "replace").strip()
        sentence = self._meanings.get(said) or self._meanings.get(code)
        return DeliveryError(
            code,
            sentence or f"{self._name} answered with status {code}",
            retryable=retryable,
            retry_after=retry_after(response.headers.get("retry-after"), now=time.time()),
            response=self.shown(response),
        )

    def shown(self, response: HttpResponse) -> dict[str, Any]:
        """The answer as it is kept on record."""
        body = response.body.decode("utf-8", "replace").replace("\x00", "\ufffd")
        for secret in self._secrets:
            body = body.replace(secret, "****")
        return {"status_code": response.status, "body": body[:_SHOWN_OF_AN_ANSWER]}


class Poster:
    """A connection to a channel that takes JSON at one URL: `render` makes it of a notice."""

    def __init__(self, service: Service, url: str, render: Callable[[Notice], bytes]) -> None:
        self._service = service
        self._url = url
        self._render = render

    async def send(self, notice: Notice) -> Receipt:
        return await self._service.post_json(self._url, self._render(notice))

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""


def base_url(tools: Tools, option: str, usual: str) -> str:
    """Where a service lives: the operator's option, else the vendor's own address; without a slash at the end."""
    return str(tools.options.get(option, usual)).rstrip("/")


def check_base_url(options: Mapping[str, Any], kind: str, *regional: str) -> None:
    """Look at the options of a type that calls a service, `<kind>_base_url` and those named. Raises SettingsError."""
    known = {f"{kind}_{name}" for name in ("base_url", *regional)}
    for name, value in options.items():
        if name in known:
            try:
                parse_url(str(value))
            except ValueError as error:
                raise SettingsError(f"{name} {error}") from error
        elif name.startswith(f"{kind}_"):
            raise SettingsError(f"{name}: there is no such option")


def clip(text: str, most: int) -> str:
    """The text in at most that many characters, the last one an ellipsis where something is missing."""
    return text if len(text) <= most else text[: most - 1] + _ELLIPSIS


def clip_escaped(text: str, most: int, escapes: Mapping[int, str]) -> str:
    """The text with its characters escaped (see `str.maketrans`), clipped like `clip` and never within an escape."""
    escaped = text.translate(escapes)
    if len(escaped) <= most:
        return escaped
    ends = accumulate(len(escapes.get(ord(character), character)) for character in text)
    return text[: sum(end < most for end in ends)].translate(escapes) + _ELLIPSIS


def short_key(notice: Notice, most: int) -> str:
    """The notice's `dedup_key`, or its digest where a service would not take the whole."""
    key = notice.dedup_key
    return key if len(key) <= most else sha256(key.encode()).hexdigest()


def plain_text(notice: Notice) -> str:
    """The notice without its title as plain text: sentences, a line for each fact, the link."""
    facts = "\n".join(f"{label}: {value}" for label, value in notice.facts)
    return "\n\n".join(part for part in (notice.text, facts, notice.link) if part)
