"""Metadata as headers of an HTTP request."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NO_TOKEN = re.compile(r"[^!#$%&'*+.^_`|~0-9a-z-]+")
_REMEMBERED = 1_000


class HeaderNames:
    """Header names for metadata keys: lower-case under a prefix, with a hyphen for what no header name may have.

    Keys recur, so that their names are remembered. Of keys that come to the same name, the first has it.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.lower()
        self._names: dict[str, str] = {}

    def of(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The values by header name."""
        headers: dict[str, str] = {}
        for key, value in metadata.items():
            headers.setdefault(self._names.get(key) or self._remember(key), value)
        return headers

    def _remember(self, key: str) -> str:
        if len(self._names) >= _REMEMBERED:
            self._names.clear()
        name = self._names[key] = self._prefix + _NO_TOKEN.sub("-", key.lower())
        return name
