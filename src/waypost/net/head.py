"""The headers of an HTTP answer. Status and version are libcurl's to tell."""

from __future__ import annotations

import re

_LINES_REMEMBERED = 4096
_LONGEST_REMEMBERED = 200
_END = (b"\r\n", b"\n")
_INTERIM = re.compile(rb"HTTP/[0-9.]+\s+1(?!01)[0-9][0-9]")


class HeadReader:
    """Reads heads. Receivers say much the same every time, so that known lines are remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, str]] = {}

    def read(self, lines: list[bytes]) -> dict[str, str]:
        """The headers of the final head, with lower-case names; a repeated header's values are joined with a comma.

        Interim answers (1xx) may precede it, trailers may follow, and a line may be anything.
        """
        if lines and _INTERIM.match(lines[0]):
            lines = _final(lines)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, value = self._known.get(line) or self._parse(line)
            if name in headers:
                value = f"{headers[name]}, {value}"
            if name:
                headers[name] = value
        return headers

    def _parse(self, line: bytes) -> tuple[str, str]:
        """Name and value; an empty name for a line that is not a header."""
        name, colon, value = _text(line).partition(":")
        parsed = (name.strip().lower(), value.strip()) if colon else ("", "")
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _LINES_REMEMBERED:
                self._known.clear()
            self._known[line] = parsed
        return parsed


def _final(lines: list[bytes]) -> list[bytes]:
    """The lines from the first head on that is not an interim one; each of those ends with an empty line."""
    while lines and _INTERIM.match(lines[0]):
        end = next((index for index, line in enumerate(lines) if line in _END), len(lines))
        lines = lines[end + 1 :]
    return lines


def _text(line: bytes) -> str:
    """UTF-8 where it is that, else Latin-1, which HTTP once prescribed. NUL is what no store takes."""
    try:
        return line.decode().replace("\x00", "")
    except UnicodeDecodeError:
        return line.decode("latin-1").replace("\x00", "")
