"""One spelling of each path: what guards paths in front of Waypost has to see the path that is served.

RFC 3986 knows many spellings of a path that mean the same (6.2.2). Routes are found by the path as it was sent; what is
encoded is decoded afterwards and stands for ids only, which may have any character.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pydantic import BeforeValidator

_NEEDLESS = rb"%(?:2[DEde]|3[0-9]|4[1-9A-Fa-f]|5[0-9AFaf]|6[1-9A-Fa-f]|7[0-9AEFaef])"
"""Letters, digits, `-`, `.`, `_` and `~`, which are written as they are, and DEL."""
_ENCODED = rb"%[2-9A-Fa-f][0-9A-Fa-f]"
_PLAIN = rb"[A-Za-z0-9._~!$&'()*+,;=:@|-]"
_SEGMENT = rb"(?!\.{1,2}(?:/|\Z))(?:%b|(?!%b)%b)+" % (_PLAIN, _NEEDLESS, _ENCODED)
_PATH = re.compile(rb"(?:/%b)+|/" % _SEGMENT)

DECODED = BeforeValidator(unquote)
"""For an id in a path: as it is, and not as it was written there."""


def is_proper(raw: bytes) -> bool:
    """Whether the path is in the one spelling that is served.

    No segment is empty or made of dots, and nothing is encoded that need not be.
    """
    return _PATH.fullmatch(raw) is not None


def raw_path(scope: Any) -> bytes:
    """The path as it was sent (ASGI's `raw_path`)."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw
