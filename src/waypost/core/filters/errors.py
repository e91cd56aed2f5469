"""What is wrong with a filter, and where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from waypost.core.errors import WaypostError

Pointer = tuple[str | int, ...]
"""The keys and indexes that lead to a place in the filter; RFC 6901 writes them as `/data/price/$gt`."""


class FilterError(WaypostError):
    """A filter that cannot be used, or that a dialect has no words for.

    `pointer` is the JSON pointer (RFC 6901) to the part at fault, within the filter as the caller gave it; "" is the
    filter as a whole. A query text has a `position` too: the index of the character at fault, counted from 0.
    """

    def __init__(self, sentence: str, *, pointer: Pointer = (), position: int | None = None) -> None:
        self.sentence = sentence
        self.pointer = written(pointer)
        self.position = position
        super().__init__(f"{sentence}{self._place()}")

    def _place(self) -> str:
        where = f"at {self.pointer}" if self.pointer else ""
        if self.position is not None:
            where += f", character {self.position + 1}"
        return f" ({where})" if where else ""


def written(pointer: Iterable[str | int]) -> str:
    """The pointer as RFC 6901 writes it.

    >>> written(("data", "a/b", 0))
    '/data/a~1b/0'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in pointer)


def refuse(at: Pointer, sentence: str) -> NoReturn:
    """Raise FilterError for a part of a JSON filter."""
    raise FilterError(sentence, pointer=at)
