"""One page of an ordered list, asked of one statement or of several whose answers are merged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from waypost.store.paging import Direction, Page, Slice
from waypost.store.sqlite import rows
from waypost.store.sqlite.conditions import Conditions

T = TypeVar("T")

UNLIMITED = -1


def fitting(found: Iterable[T], most: int, size: Callable[[T], int]) -> tuple[list[T], bool]:
    """As many as fit into so many bytes, but one at least; and whether there were more. Reads no further than that."""
    taken: list[T] = []
    for one in found:
        most -= size(one)
        if most < 0 and taken:
            return taken, True
        taken.append(one)
    return taken, False


def weight(row: rows.Row) -> int:
    """The bytes of a row, nearly: its texts and blobs."""
    return sum([len(value) for value in row if isinstance(value, str | bytes)])


class Way(Struct, frozen=True):
    """A statement that finds a part of a list: what stands behind FROM, index included, and the conditions.

    The index gives the order of the list, unless the part is known to be small.
    """

    source: str
    conditions: Conditions


class Window(Struct, frozen=True):
    """`order` are the columns by which the list is sorted."""

    page: Page
    order: tuple[str, ...]

    @property
    def forwards(self) -> bool:
        """Whether the page is read in ascending order: what lies before a position is read backwards."""
        return (self.page.direction is Direction.ASC) is (self.page.before is None)

    @property
    def position(self) -> tuple[int | str, ...] | None:
        """Where to begin, exclusively."""
        position = self.page.after if self.page.before is None else self.page.before
        return None if position is None else position[-len(self.order) :]

    @property
    def wanted(self) -> int:
        """How many to read: one more than are shown tells whether there are more."""
        return self.page.limit + 1

    def read(self, db: sqlite3.Connection, columns: str, way: Way, *, limit: int = UNLIMITED) -> Iterator[rows.Row]:
        """What a way leads to, in the direction of reading."""
        if self.position is not None:
            way.conditions.beyond(self.order, self.position, forwards=self.forwards)
        ordering = ", ".join(f"{column} {'ASC' if self.forwards else 'DESC'}" for column in self.order)
        sql = f"SELECT {columns} FROM {way.source}{way.conditions.where} ORDER BY {ordering} LIMIT ?"
        return db.execute(sql, (*way.conditions.parameters, limit))

    def keys(self, db: sqlite3.Connection, ways: Iterable[Way]) -> list[rows.Row]:
        """The values of the order's columns, of all ways together."""
        columns = ", ".join(self.order)
        found = [key for way in ways for key in self.read(db, columns, way, limit=self.wanted)]
        return sorted(found, key=tuple, reverse=not self.forwards)[: self.wanted]

    def cut(self, found: Sequence[T], *, short: bool = False) -> Slice[T]:
        """The page that was read, in the direction that was asked for; `short` when its bytes ended it."""
        items, more = tuple(found[: self.page.limit]), short or len(found) > self.page.limit
        if self.page.before is not None:
            return Slice(items[::-1], has_next=True, has_prev=more)
        return Slice(items, has_next=more, has_prev=self.page.after is not None)
