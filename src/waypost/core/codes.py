"""Codes of outcomes as people write them: `404`, a class such as `4xx`, or a word such as `timeout`.

Case does not matter: what a person writes as `4XX` or `Timeout` is meant the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MEANING = "codes such as 404, 4xx, timeout"
_CODE = re.compile(r"[0-9]{3}|[0-9]xx|[a-z][a-z0-9_]{0,63}", re.IGNORECASE)
_CLASS_LENGTH = 3


def is_code(text: str) -> bool:
    """Whether an attempt can have this code, or one of this class."""
    return _CODE.fullmatch(text) is not None


def names(patterns: Iterable[str], code: str) -> bool:
    """Whether one of these codes or classes is that of an attempt."""
    lower = code.lower()
    klass = f"{lower[0]}xx" if len(lower) == _CLASS_LENGTH and lower.isdigit() else lower
    return any(pattern.lower() in {lower, klass} for pattern in patterns)
