"""What a store has to do to keep things for a time and no longer; a part of `waypost.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct

from waypost.core.model import Micros
from waypost.core.retention import Kept, Lifetimes
from waypost.store.alerting import Entry


class Log(StrEnum):
    """What is kept for the same time for all tenants. What is still to be done is left out, however old."""

    ALERTS = "alerts"
    NEWS = "news"
    AUDIT = "audit"
    REPLAYS = "replays"


class Expired(NamedTuple):
    """How far a piece of removing came: how many of the numbers it was given it is done with, and in what time.

    `held` are those among them that had to stay.
    """

    done: int
    held: tuple[int, ...]
    seconds: float


class Expunging(Struct, frozen=True, kw_only=True):
    """The removal of all data of a tenant that was accepted until then; `after` is how far it has come.

    `events` is how many had data to remove.
    """

    tenant_id: str
    until: int
    after: tuple[Micros, int]
    events: int
    requested_at: Micros
    finished_at: Micros | None = None


class RetentionStore(Protocol):
    """Lifetimes, and removing: in small pieces, each a transaction of its own."""

    async def lifetimes(self) -> Mapping[str, Lifetimes]:
        """The tenants that have lifetimes of their own, deleted ones too."""
        ...

    async def put_lifetimes(self, tenant_id: str, lifetimes: Lifetimes, entry: Entry) -> None:
        """Replace a tenant's own lifetimes. They outlive the tenant."""
        ...

    async def aged(self, kind: Kept, *, after: int, before: int, limit: int) -> Sequence[tuple[int, str]]:
        """The next events, or attempts, between two numbers, exclusively, oldest first: number and tenant."""
        ...

    async def settled(self, event_seqs: Sequence[int]) -> list[int]:
        """Those of these events that have no delivery pending."""
        ...

    async def expire(self, kind: Kept, seqs: Sequence[int], *, now: Micros, budget: float) -> Expired:
        """Remove what has had its time, as much as `budget` seconds allow and a few at least.

        Events with a delivery pending are held. What is kept for a disabled destination goes with its event or data.
        """
        ...

    async def trim(self, log: Log, *, before: int, limit: int) -> Expired:
        """Remove the oldest of what was written before a number."""
        ...

    async def known(self) -> Micros | None:
        """The latest time that was `mark`ed; before the first mark that of the newest event; None without one."""
        ...

    async def mark(self, now: Micros) -> None:
        """Remember that it was this late."""
        ...

    async def expunge(self, event_seq: int, *, now: Micros, entry: Entry) -> Micros:
        """Remove the data of an event, and have whatever waits of it cancelled. Idempotent.

        When it was removed: now, or earlier. Raises NotFound.
        """
        ...

    async def begin_expunging(self, tenant_id: str, *, now: Micros, entry: Entry) -> Expunging:
        """Remove all data of a tenant from now on; one that is under way begins anew."""
        ...

    async def expunging(self, tenant_id: str) -> Expunging | None:
        """The last one of a tenant."""
        ...

    async def unfinished(self) -> tuple[Expunging, ...]: ...

    async def go_on(self, job: Expunging, *, now: Micros, limit: int) -> tuple[Expunging, Sequence[int], float]:
        """Do a piece: how the job stands then, which events it was, and the seconds it took."""
        ...

    async def wipe(self) -> bool:
        """Leave nothing of what was removed beside the database. False while others read: try again."""
        ...
