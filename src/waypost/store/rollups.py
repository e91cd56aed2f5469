"""What a store has to do to count events and attempts over time; a part of `waypost.store.base.Store`.

Counts are written in the transaction that accepts an event or records an attempt. They outlive what they count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from waypost.core.metering import Count, Question
from waypost.core.model import Micros


class RollupStore(Protocol):
    """Counts of events by their own time, and of attempts by the time when they began."""

    async def count(self, question: Question, *, most: int, scan_limit: int) -> list[Count]:
        """What was counted, in the order of dimensions and steps.

        Combinations of dimensions beyond those that fill `most` points may be left out. Raises BadRequest when more
        than `scan_limit` events or attempts would have to be read one by one.
        """
        ...

    async def fold(self, *, limit: int) -> bool:
        """Move up to `limit` counts from where they were first written to where they are read best; True: go on.

        Changes no answer, however often it is done.
        """
        ...

    async def prune(self, keep_since: Mapping[Micros, Micros], *, after: int, limit: int) -> int | None:
        """Drop the counts of a tier (by width) that are older than that; those of the next `limit` series.

        Returns the number to go on after; None at the end.
        """
        ...
