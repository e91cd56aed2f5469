"""What a store has to do so that events are found by what is in them; a part of `waypost.store.base.Store`.

A search is part of a query on events (`EventQuery.search`). Whatever a store does to answer it fast may lag behind.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from waypost.core.model import Micros


class Indexed(NamedTuple):
    """A piece of indexing: how many events it took in, how many seconds that took, and whether there is more to do."""

    events: int
    seconds: float
    more: bool


class Progress(NamedTuple):
    """How far the index has come: up to events accepted then. `complete` when searches find all later ones too."""

    until: Micros | None
    complete: bool


class SearchStore(Protocol):
    async def index(self, *, now: Micros) -> Indexed:
        """Take the next events into the index, or what was removed from the record out of it."""
        ...

    async def progress(self) -> Progress: ...
