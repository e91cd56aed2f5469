"""Posting to a service's HTTP API: what alert channels share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from waypost.connect.channel import Notice
from waypost.connect.connector import Receipt, Tools
from waypost.core.errors import DeliveryError
from waypost.net.exchange import HttpRequest, HttpResponse, header_line
from waypost.net.http import HttpClient
from waypost.net.retry_after import retry_after

_SHOWN_OF_AN_ANSWER = 2_048
_WORTH_A_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_ELLIPSIS = "…"


class Service:
    """One service as a person calls it, behind the HTTP client. `secrets` never appear in what is kept of an answer."""

    def __init__(self, name: str, http: HttpClient, secrets: Sequence[str] = ()) -> None:
        self._name = name
        self._http = http
        self._secrets = [secret for secret in secrets if secret]

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Receipt:
        """Send, and take any 2xx for an acknowledgement. Raises DeliveryError."""
        lines = [header_line(name, value) for name, value in headers.items()]
        response = await self._http.send(HttpRequest(method="POST", url=url, headers=lines, body=body))
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return Receipt(code=str(response.status), response=self.shown(response))
        raise self.refusal(response)

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Receipt:
        return await self.post(url, body, {"content-type": "application/json", **(headers or {})})

    def refusal(self, response: HttpResponse) -> DeliveryError:
        """Why the service did not take it: 408, 425, 429 and 5xx can be tried again, Retry-After is heard."""
        retryable = response.status in _WORTH_A_RETRY or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return DeliveryError(
            str(response.status),
            f"{self._name} answered with status {response.status}",
            retryable=retryable,
            retry_after=retry_after(response.headers.get("retry-after"), now=time.time()),
            response=self.shown(response),
        )

    def shown(self, response: HttpResponse) -> dict[str, Any]:
        """The answer as it is kept on record."""
        body = response.body[:_SHOWN_OF_AN_ANSWER].decode("utf-8", "replace").replace("\x00", "\ufffd")
        for secret in self._secrets:
            body = body.replace(secret, "****")
        return {"status_code": response.status, "body": body}


def base_url(tools: Tools, option: str, usual: str) -> str:
    """Where a service lives: the operator's option, else the vendor's own address; without a slash at the end."""
    return str(tools.options.get(option, usual)).rstrip("/")


def clip(text: str, most: int) -> str:
    """The text in at most that many characters, the last one an ellipsis where something is missing."""
    return text if len(text) <= most else text[: most - 1] + _ELLIPSIS


def plain_text(notice: Notice) -> str:
    """The notice without its title as plain text: sentences, a line for each fact, the link."""
    facts = "\n".join(f"{label}: {value}" for label, value in notice.facts)
    return "\n\n".join(part for part in (notice.text, facts, notice.link) if part)
