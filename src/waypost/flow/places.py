"""Who may have an attempt in flight: places for those who answer, sockets for those who take their time.

An attempt starts in a place. When the receiver has not answered for a while, the attempt gives its place up and goes on
as one of those that wait: it costs a socket then and delays nobody. What has answered nothing yet, what answers slowly
and what is known to hang each share a part of the places; some are kept for tenants with little in flight.
"""

from __future__ import annotations

import resource
from typing import Final, Literal

from msgspec import Struct

LITTLE = 4
"""A tenant with fewer attempts in places may use those that are kept, for destinations that answer."""


Pace = Literal[0, 1, 2, 3]
"""How a destination has answered so far: not at all yet, at once, slowly, or so late that it hangs."""

NEW: Final = 0
QUICK: Final = 1
SLOW: Final = 2
HANGING: Final = 3
PACES: Final = (NEW, QUICK, SLOW, HANGING)


class Patience(Struct, frozen=True, kw_only=True):
    """In seconds: from when on an attempt waits in a socket, and which answers narrow a lane as no answer does."""

    quick: float = 1.0
    long: float = 10.0

    def pace(self, seconds: float, *, answered: bool) -> Pace:
        """What an attempt that took so long says of its destination."""
        if seconds < self.quick:
            return QUICK
        return SLOW if answered and seconds < self.long else HANGING


class Shares(Struct, frozen=True, kw_only=True):
    """The parts of the places that are kept, and those that are all that others may have: see `delivery_share_*`."""

    kept: float = 0.1
    new: float = 0.5
    slow: float = 0.25
    hanging: float = 0.0625


class Places:
    """Counts what is in flight. `waiting` of them wait long for their answer, in sockets beside the `most` places."""

    def __init__(self, most: int, sockets: int, shares: Shares) -> None:
        self.waiting = 0
        self.sockets = sockets
        self._kept = min(int(most * shares.kept), most - 1)
        self._kept_taken = 0
        self._most = most - self._kept
        self._taken = 0
        self._of_pace = [0, 0, 0, 0]
        self._most_of_pace = [_part(most, shares.new), most, _part(most, shares.slow), _part(most, shares.hanging)]

    def free(self, pace: int) -> bool:
        """Whether a destination of this pace may have one more."""
        return self._taken < self._most and self._of_pace[pace] < self._most_of_pace[pace]

    @property
    def kept_free(self) -> bool:
        """Whether there is one for those for whom some are kept."""
        return self._kept_taken < self._kept

    def take(self, pace: int, *, kept: bool) -> None:
        if kept:
            self._kept_taken += 1
        else:
            self._taken += 1
            self._of_pace[pace] += 1

    def give_up(self, pace: int, *, kept: bool) -> None:
        if kept:
            self._kept_taken -= 1
        else:
            self._taken -= 1
            self._of_pace[pace] -= 1

    @property
    def taken(self) -> int:
        return self._taken + self._kept_taken

    @property
    def in_flight(self) -> int:
        return self.taken + self.waiting

    @property
    def calm(self) -> bool:
        """Whether less than half of the sockets are waited in."""
        return self.waiting * 2 < self.sockets

    @property
    def most_hanging(self) -> int:
        return self._most_of_pace[HANGING]


def sockets_within_limits(wanted: int, places: int) -> int:
    """How many attempts may wait: half of the descriptors that this process may have is left to everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(0, min(wanted, soft // 2 - places))


def _part(most: int, share: float) -> int:
    return max(1, round(most * share))
