"""Text that others wrote, for terminals and for logs of one record a line."""

from __future__ import annotations

_DEL = "\x7f"


def escaped(text: str, keep: str = "") -> str:
    r"""The text with `\u001b` in place of what steers a terminal, ends a line or turns the direction of writing.

    JSON stays the same JSON: only texts in it can have such characters (RFC 8259, section 7). `keep` are those that
    stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join([letter if letter.isprintable() or letter in keep else _units(letter) for letter in text])


def escaped_line(json: str) -> str:
    """The same for encoded JSON, in which control characters below DEL are escaped already."""
    return json if json.isascii() and _DEL not in json else escaped(json)


def _units(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
