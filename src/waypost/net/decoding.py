"""JSON of a server that may mean harm."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_json(body: bytes | str, type: type[T]) -> T:  # noqa: A002 - msgspec's name for it
    """As msgspec decodes it. Raises msgspec.DecodeError too for what is nested too deeply, or no UTF-8."""
    try:
        return msgspec.json.decode(body, type=type)
    except (RecursionError, UnicodeError) as error:
        raise msgspec.DecodeError(str(error)) from None
