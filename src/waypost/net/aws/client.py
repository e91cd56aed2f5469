"""A service of AWS in one region: requests in its three encodings, answers or errors with a meaning."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import quote_plus

import msgspec

from waypost.core.errors import DeliveryError
from waypost.net.aws.credentials import Clock, Credentials, Source
from waypost.net.aws.endpoint import Endpoint
from waypost.net.aws.errors import Fault, Service, error_of, fault_of, parse_xml
from waypost.net.aws.sigv4 import Signer
from waypost.net.decoding import read_json
from waypost.net.exchange import HttpRequest, HttpResponse, header_line
from waypost.net.http import HttpClient
from waypost.net.record import answered, sent

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R")
_encode = msgspec.json.Encoder().encode


class AwsClient:
    """Sends signed requests. Safe for any number at once; there is nothing to close."""

    def __init__(
        self,
        http: HttpClient,
        endpoint: Endpoint,
        service: Service,
        *,
        region: str,
        source: Source,
        clock: Clock = time.time,
        owner: str = "",
    ) -> None:
        self._owner = owner
        self.service = service
        self.endpoint = endpoint
        self._http = http
        self._region = region
        self._source = source
        self._clock = clock
        self._signed_with: Credentials | None = None
        self._signer: Signer

    async def json(
        self, target: str, payload: Any, *, version: str, action: str, answer: type[T]
    ) -> tuple[T, HttpResponse]:
        """An action of the JSON protocol. Raises DeliveryError, also for an answer that is not of its type."""
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
        response = await self.request("POST", "/", headers, _encode(payload), action=action)
        try:
            return read_json(response.body, type=answer), response
        except msgspec.DecodeError as error:
            raise self._unreadable(response) from error

    async def query(self, parameters: Mapping[str, str], *, action: str) -> tuple[ET.Element, HttpResponse]:
        """An action of the query protocol; the answer is XML. Names of parameters are plain. Raises DeliveryError."""
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        form = "&".join([f"{name}={form_encoded(value)}" for name, value in parameters.items()])
        response = await self.request("POST", "/", headers, form.encode(), action=action)
        try:
            return parse_xml(response.body), response
        except ValueError as error:
            raise self._unreadable(response) from error

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, action: str
    ) -> HttpResponse:
        """Any request; header names are lower-case, path and query encoded. Raises DeliveryError unless it succeeds.

        When the service calls temporary credentials expired, the request is made once more with new ones.
        """
        credentials = await self._source.current()
        try:
            return await self._exchange(credentials, method, target, headers, body, action)
        except DeliveryError as error:
            if error.code != "expired_credentials" or not self._source.renew(credentials):
                raise
        return await self._exchange(await self._source.current(), method, target, headers, body, action)

    def failed(self, fault: Fault, action: str, credentials: Credentials | None = None) -> DeliveryError:
        """The error for a fault, free of whatever the service repeats of the credentials."""
        hide = (credentials or self._signed_with or _NOBODY).hide
        safe = msgspec.structs.replace(fault, code=hide(fault.code), message=hide(fault.message))
        return error_of(safe, self.service, action)

    def in_order(self, results: Mapping[K, R | DeliveryError], places: Iterable[K]) -> list[R | DeliveryError]:
        """A batch's results in the order of its messages; a message that the answer leaves out has failed."""
        return [results[place] if place in results else self._left_out() for place in places]

    def _left_out(self) -> DeliveryError:
        return DeliveryError("invalid_response", f"The answer of {self.service.label} does not mention this message")

    async def _exchange(
        self, credentials: Credentials, method: str, target: str, headers: Mapping[str, str], body: bytes, action: str
    ) -> HttpResponse:
        digest = sha256(body).hexdigest()
        signed = self._signer_of(credentials).headers(
            method, target, {**headers, "host": self.endpoint.authority}, digest, at=self._clock()
        )
        lines = [header_line(name, value) for name, value in signed.items()]
        response = await self._http.send(
            HttpRequest(method=method, url=self.endpoint.url + target, headers=lines, body=body, owner=self._owner)
        )
        if response.status // 100 == 2:  # noqa: PLR2004 - the class of success
            return response
        raise self._told(response, action, credentials)

    def _told(self, response: HttpResponse, action: str, credentials: Credentials) -> DeliveryError:
        error = self.failed(fault_of(response), action, credentials)
        error.request, error.response = sent(response.request), answered(response) | (error.response or {})
        return error

    def _signer_of(self, credentials: Credentials) -> Signer:
        if credentials is not self._signed_with:
            self._signer = Signer(credentials, service=self.service.name, region=self._region)
            self._signed_with = credentials
        return self._signer

    def _unreadable(self, response: HttpResponse) -> DeliveryError:
        """The request has succeeded, as far as its status says, but for which messages is not known."""
        why = "is longer than what Waypost keeps of answers" if response.truncated else "cannot be understood"
        return DeliveryError(
            "invalid_response",
            f"The answer of {self.service.label} {why}",
            response=answered(response),
            request=sent(response.request),
        )


_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_ESCAPES = [(char, f"%{ord(char):02X}") for char in "%!\"#$&'()*+,/:;<=>?@[\\]^`{|}"] + [(" ", "+")]
"""What a form's values escape of printable ASCII, the percent sign first: the others bring new ones."""


def form_encoded(text: str) -> str:
    """A value of a form (application/x-www-form-urlencoded). Ten times as fast as `quote_plus` for a usual text."""
    if _UNRESERVED.fullmatch(text):
        return text
    if not (text.isascii() and text.isprintable()):
        return quote_plus(text)
    for char, escape in _ESCAPES:
        if char in text:
            text = text.replace(char, escape)
    return text


_NOBODY = Credentials(key="", secret="")
