"""How many bytes of events memory may hold; what is beyond that waits in the store."""

from __future__ import annotations

from waypost.core.model import Event
from waypost.flow.places import HANGING, NEW, QUICK, SLOW, Pace

_BESIDE = 1_024
"""What an event and its delivery take beside their texts, roughly."""

_LANE_SHARE = 8
_DOUBTFUL_LANE_SHARE = 64
"""One lane holds no more than such a part, the smaller one unless it answers at once."""


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

    Lanes that have not answered yet share a quarter, and so do those that answer slowly or hang. Another quarter is
    kept for tenants of whom nothing is held and whose lane answers at once. A process that holds nothing takes any
    event, however large.
    """

    def __init__(self, most: int, largest: int) -> None:
        self.held = 0
        self.largest = largest + _BESIDE
        self._most = most
        self._most_for_all = most - most // 4
        self._of_pace = [0, 0, 0, 0]
        self._most_doubtful = most // 4
        self._most_of_lane = max(most // _LANE_SHARE, self.largest)
        self._most_of_doubtful_lane = max(most // _DOUBTFUL_LANE_SHARE, self.largest)

    def left(self, account: Account) -> int:
        """How many more bytes a lane may hold now."""
        left = self._most_for_all - self.held
        if account.pace == QUICK:
            left = min(left, self._most_of_lane - account.held)
            if left < self.largest and not account.owner.held:
                left = max(left, min(self.largest, self._most - self.held))
        else:
            left = min(left, self._most_of_doubtful_lane - account.held, self._most_doubtful - self._doubtful(account))
        return max(left, 0 if self.held else self.largest, 0)

    def _doubtful(self, account: Account) -> int:
        return self._of_pace[NEW] if account.pace == NEW else self._of_pace[SLOW] + self._of_pace[HANGING]

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
