"""A stand-in for a vendor: an HTTP server that takes only what the vendor's OpenAPI document allows.

    async with openapi_sink(document("twilio"), says(201, {"sid": "SM1"})) as sink:
        ...                                     # a channel whose base URL is `sink.url`
    (request,) = sink.accepted                  # as it came; `sink.refused` are the reasons of those that broke a rule

A request that breaks a rule gets a 400 with the reason. `sink.answer` may be changed at any time. A document should
close its objects (`additionalProperties: false`); fields of a form that it does not name are always refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core import OpenAPI
from openapi_core.testing import MockRequest
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue

from tests.net.receivers import Answer, Exchange, Seen, receiver

_DOCUMENTS = Path(__file__).with_name("openapi")
_FORM = "application/x-www-form-urlencoded"


def document(name: str) -> dict[str, Any]:
    """The document `openapi/<name>.json` beside this file."""
    found: dict[str, Any] = json.loads((_DOCUMENTS / f"{name}.json").read_bytes())
    return found


def says(status: int, body: object, **headers: str) -> Answer:
    """An answer in JSON; an underscore in a header's name stands for a dash."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps(body).encode(), f"content-type: application/json\r\n{lines}")

    return answer


class OpenApiSink:
    """Judges requests by a document as if they had come to the document's own server; `answer` is for the good ones."""

    def __init__(self, rules: Mapping[str, Any], answer: Answer) -> None:
        self.answer = answer
        self.url = ""
        self.accepted: list[Seen] = []
        self.refused: list[str] = []
        self._api = OpenAPI.from_dict(rules)
        server = urlsplit(rules["servers"][0]["url"])
        self._host_url = f"{server.scheme}://{server.netloc}"

    async def __call__(self, exchange: Exchange) -> None:
        reason = self.problem(exchange.seen)
        if reason is None:
            self.accepted.append(exchange.seen)
            await self.answer(exchange)
        else:
            self.refused.append(reason)
            await says(400, {"reason": reason})(exchange)

    def problem(self, seen: Seen) -> str | None:
        """The rule of the document that a request breaks."""
        parts = urlsplit(seen.path)
        request = MockRequest(
            self._host_url,
            seen.method,
            parts.path,
            args=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=seen.headers,
            data=seen.body,
            content_type=seen.headers.get("content-type", ""),
        )
        taken = self._api.unmarshal_request(request)
        if taken.errors:
            return "; ".join(_reason(error) for error in taken.errors)
        if request.content_type.partition(";")[0] == _FORM:
            sent = {name for name, _ in parse_qsl(seen.body.decode(), keep_blank_values=True)}
            unknown = sorted(sent.difference(taken.body or ()))
            return f"there are no such fields: {', '.join(unknown)}" if unknown else None
        return None


@asynccontextmanager
async def openapi_sink(rules: Mapping[str, Any], answer: Answer) -> AsyncIterator[OpenApiSink]:
    """A sink that listens on 127.0.0.1 under `url`."""
    sink = OpenApiSink(rules, answer)
    async with receiver(sink) as server:
        sink.url = f"http://127.0.0.1:{server.port}"
        yield sink


def _reason(error: BaseException) -> str:
    """The error with what caused it: openapi-core keeps the broken rules in there."""
    if isinstance(error, InvalidSchemaValue):
        return "; ".join(getattr(broken, "message", str(broken)) for broken in error.schema_errors)
    return f"{type(error).__name__}: {_reason(error.__cause__) if error.__cause__ else error}"
