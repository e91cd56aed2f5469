"""What a store has to do for the live stream; a part of `waypost.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from waypost.store.record import StoredAttempt, StoredEvent

Number = int
"""Names an event by its sequence number, or an attempt by its own with a minus."""

Item = StoredEvent | StoredAttempt


class Told(NamedTuple):
    """An event or attempt under the number that names it."""

    number: Number
    item: Item


class TailStore(Protocol):
    """Events and attempts side by side, in the order of their sequence numbers."""

    async def numbers(self, *, after: int, limit: int) -> list[tuple[Number, str]]:
        """The next that are on record beyond a sequence number, with their tenants."""
        ...

    async def sizes(self, numbers: Sequence[Number]) -> Mapping[Number, int]:
        """About how many bytes `read` would hold for each of them that is on record."""
        ...

    async def read(self, numbers: Sequence[Number], *, tenant_ids: tuple[str, ...] = ()) -> list[Told]:
        """Those of them that are on record and, where tenants are given, theirs; in the order in which they came."""
        ...

    async def barrier(self) -> None:
        """Returns when whatever was handed to the store before has been answered."""
        ...
