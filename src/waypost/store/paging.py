"""Windows on ordered lists, and bounds on time."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")

LARGEST_PAGE = 16_777_216


class Direction(StrEnum):
    ASC = "asc"
    DESC = "desc"


class Page(Struct, frozen=True, kw_only=True):
    """A window on an ordered list. `after` / `before` are exclusive positions `(sort value, tie-breaker)`.

    It ends before `limit` where its items come to more than so many bytes, but has one item at least.
    """

    limit: int
    most_bytes: int = LARGEST_PAGE
    direction: Direction = Direction.DESC
    after: tuple[int, int | str] | None = None
    before: tuple[int, int | str] | None = None


class Range(Struct, frozen=True, kw_only=True):
    """Bounds on a number; every one that is set must hold."""

    gte: int | None = None
    lte: int | None = None
    gt: int | None = None
    lt: int | None = None

    def holds(self, number: int) -> bool:
        return (
            (self.gte is None or number >= self.gte)
            and (self.lte is None or number <= self.lte)
            and (self.gt is None or number > self.gt)
            and (self.lt is None or number < self.lt)
        )


class TimeRange(Range, frozen=True):
    """Bounds on an instant."""


class Slice(Struct, Generic[T], frozen=True):
    """One page of a list; `has_next` and `has_prev` tell whether there is more on either side."""

    items: tuple[T, ...]
    has_next: bool
    has_prev: bool
