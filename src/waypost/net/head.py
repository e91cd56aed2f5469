"""The head of an HTTP answer: status, version, headers."""

from __future__ import annotations

from msgspec import Struct

_LINES_REMEMBERED = 4096
_LONGEST_REMEMBERED = 200


class Head(Struct, frozen=True, gc=False):
    """`headers` have lower-case names. `cut` says that some were left out, because there were too many of them."""

    status: int
    version: str
    headers: dict[str, str]
    cut: bool


class HeadReader:
    """Reads heads of up to `cap` bytes. Receivers say much the same every time, so that known lines are remembered."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._known: dict[bytes, tuple[str, str]] = {}

    def read(self, lines: list[bytes]) -> Head:
        """The last head among the lines: interim answers (1xx) may precede it, trailers may follow."""
        if lines.count(b"\r\n") > 1:
            lines = _last_head(lines)
        version, _, rest = lines[0].partition(b" ")
        headers: dict[str, str] = {}
        room = self._cap
        for line in lines[1:]:
            room -= len(line)
            if room < 0:
                break
            name, value = self._known.get(line) or self._parse(line)
            if name in headers:
                value = f"{headers[name]}, {value}"
            if name:
                headers[name] = value
        return Head(int(rest[:3]), version[5:].decode(), headers, room < 0)

    def _parse(self, line: bytes) -> tuple[str, str]:
        """Name and value; an empty name for a line that is not a header."""
        name, colon, value = _text(line).partition(":")
        parsed = (name.strip().lower(), value.strip()) if colon else ("", "")
        if len(line) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _LINES_REMEMBERED:
                self._known.clear()
            self._known[line] = parsed
        return parsed


def _last_head(lines: list[bytes]) -> list[bytes]:
    start = max(index for index, line in enumerate(lines) if line.startswith(b"HTTP/"))
    return lines[start:]


def _text(line: bytes) -> str:
    """UTF-8 where it is that, else Latin-1, which HTTP once prescribed. NUL is what no store takes."""
    try:
        return line.decode().replace("\x00", "")
    except UnicodeDecodeError:
        return line.decode("latin-1").replace("\x00", "")
