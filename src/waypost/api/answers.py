"""How an answer goes out: JSON that no cache keeps and no browser takes for something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

JSON = "application/json"
_encode = msgspec.json.Encoder(decimal_format="number").encode
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON. A `msgspec.Raw` in it goes out byte for byte."""
    return Response(_encode(value), status, {**_HEADERS, **(headers or {})}, JSON)


def plain(text: str) -> Response:
    """Text as it is."""
    return Response(text, 200, _HEADERS, "text/plain")
