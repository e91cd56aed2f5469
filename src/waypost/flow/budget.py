"""How many bytes of events memory may hold; what is beyond that waits in the store."""

from __future__ import annotations

from waypost.core.model import Event
from waypost.flow.places import HANGING, NEW, PACES, QUICK, SLOW, Pace

_BESIDE = 1_024
"""What an event and its delivery take beside their texts, roughly."""

_SHARES = {NEW: 1 / 4, QUICK: 3 / 4, SLOW: 3 / 8, HANGING: 1 / 8}
"""Of all bytes, what lanes hold together that have answered so."""

_LANE_SHARES = {NEW: 1 / 64, QUICK: 1 / 8, SLOW: 1 / 8, HANGING: 1 / 64}
"""And what one of them holds; room for one event there always is."""


def size_of(event: Event) -> int:
    """In bytes; the metadata is counted by its characters."""
    size = len(event.data) + _BESIDE
    if event.metadata:
        size += sum(map(len, event.metadata)) + sum(map(len, event.metadata.values()))
    return size


class Account:
    """What one lane holds, and how it answers. `owner` adds up the bytes of a tenant's lanes."""

    __slots__ = ("held", "owner", "pace")

    def __init__(self, owner: Owner) -> None:
        self.held = 0
        self.owner = owner
        self.pace: Pace = NEW


class Owner:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class Budget:
    """Counts what is held. `largest` is the size of the largest event that can come.

    Lanes share parts of it by how they answer. A quarter is kept for tenants of whom nothing is held and whose lane
    answers at once. A process that holds nothing takes any event, however large.
    """

    def __init__(self, most: int, largest: int) -> None:
        self.held = 0
        self.largest = largest + _BESIDE
        self._most = most
        self._most_for_all = most - most // 4
        self._of_pace = [0, 0, 0, 0]
        self._most_of_pace = [int(most * _SHARES[pace]) for pace in PACES]
        self._most_of_lane = [max(int(most * _LANE_SHARES[pace]), self.largest) for pace in PACES]

    def left(self, account: Account) -> int:
        """How many more bytes a lane may hold now."""
        pace = account.pace
        left = min(
            self._most_for_all - self.held,
            self._most_of_pace[pace] - self._of_pace[pace],
            self._most_of_lane[pace] - account.held,
        )
        if pace == QUICK and left < self.largest and not account.owner.held:
            left = max(left, min(self.largest, self._most - self.held))
        return max(left, 0 if self.held else self.largest)

    def allows(self, size: int, count: int) -> bool:
        """Whether so many deliveries of one event go in at all."""
        return count == 1 or self.held + size * count <= self._most

    def hold(self, account: Account, size: int) -> None:
        account.held += size
        account.owner.held += size
        self.held += size
        self._of_pace[account.pace] += size

    def free(self, account: Account, size: int) -> None:
        account.held -= size
        account.owner.held -= size
        self.held -= size
        self._of_pace[account.pace] -= size

    def judge(self, account: Account, pace: Pace) -> None:
        """The lane has shown how it answers."""
        if pace != account.pace:
            self._of_pace[account.pace] -= account.held
            self._of_pace[pace] += account.held
            account.pace = pace
