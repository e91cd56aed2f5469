"""Reads the body of a request: bounded in size, and JSON whatever its content type says."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from math import isinf
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from waypost.api.auth import BackendOf
from waypost.core.errors import BadRequest, Invalid, TooLarge
from waypost.core.filters.values import plain

_EXACT_DIGITS = 15
"""A double keeps so many, and its shortest text is theirs (IEEE 754)."""
_SMALLEST, _LARGEST = 1e-307, 1e307
_MOST_INEXACT = 10_000
"""Numbers of one body that take more than a look."""


class _Numbers:
    """Reads the numbers of one body; most are floats at once, and of others there are not too many."""

    def __init__(self) -> None:
        self._inexact = 0

    def read(self, text: str) -> float | Decimal:
        """The number exactly. Raises ValueError beyond the range of floats, which most readers of JSON share."""
        number = float(text)
        if len(text) <= _EXACT_DIGITS and (_SMALLEST < abs(number) < _LARGEST or not text.strip("-0.")):
            return number
        if isinf(number):
            raise ValueError("a number is out of range")
        self._inexact += 1
        if self._inexact > _MOST_INEXACT:
            raise ValueError("there are too many numbers that a float may change")
        return plain(Decimal(text))


_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation)


async def _bounded(request: Request, most: int) -> bytes:
    """The body's bytes. Raises TooLarge as soon as there are more than `most`, announced or arrived."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > most:
        raise TooLarge(f"the request body must be at most {most} bytes")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise TooLarge(f"the request body must be at most {most} bytes")
    except ClientDisconnect:
        raise BadRequest("the request ended before its body did") from None
    return bytes(body)


def parse(body: bytes) -> Any:
    """The JSON value (RFC 8259, so no NaN and no lone surrogates). Raises Invalid.

    A number that a float would change is a `decimal.Decimal`.
    """
    try:
        return msgspec.json.Decoder(float_hook=_Numbers().read).decode(body)
    except _NOT_JSON:
        raise Invalid(message="invalid JSON") from None


async def _optional(request: Request, backend: BackendOf) -> Any:
    body = await _bounded(request, backend.settings.request_max_bytes)
    return parse(body) if body.strip() else None


async def _raw(request: Request, backend: BackendOf) -> bytes:
    return await _bounded(request, backend.settings.request_max_bytes)


RawBody = Annotated[bytes, Depends(_raw)]
"""The body as it came, for what must stay byte for byte."""


async def _required(body: RawBody) -> Any:
    return parse(body)


Body = Annotated[Any, Depends(_required)]
OptionalBody = Annotated[Any, Depends(_optional)]
"""The body's JSON, or None when there is no body."""
