"""Bodies straight into typed structs, with a sentence about what does not fit."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from waypost.core.errors import Invalid

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Raises Invalid: `invalid JSON`, or a sentence that names the field."""
    try:
        body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid([_sentence(str(error))]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid(message="invalid JSON") from None


def _sentence(complaint: str) -> str:
    """Turn "Expected `str`, got `int` - at `$.topic`" into "topic: expected str, got int"."""
    what, _, where = complaint.partition(" - at ")
    what = what.replace("`", "")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    return f"{path or 'body'}: {what[:1].lower()}{what[1:]}"
