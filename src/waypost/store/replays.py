"""What a store has to do for replays; a part of `waypost.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from waypost.core.model import Actor, Attempt, DeliveryState, Micros
from waypost.core.replaying import Limits, Standing, Wanted
from waypost.store.alerting import Entry
from waypost.store.paging import Page, Slice
from waypost.store.record import EventQuery

Position = tuple[int, int]
"""How far a replay has looked in the list of events."""


class ReplayState(IntEnum):
    RUNNING = 0
    CANCELLING = 1
    """Nothing more is sent; what is under way comes to its end."""
    COMPLETED = 2
    CANCELLED = 3


class Replay(Struct, frozen=True, kw_only=True):
    """Many deliveries that somebody wants made again.

    `asked` is the filter in the words of the caller, `query` the same as the store takes it; `wanted` says which
    deliveries of these events. Events: `selected` there are, `examined` were looked at, up to `after`; `planned` when
    all were. Deliveries: `total` are made, `delivered` and `failed` had their manual attempt, `skipped` are left out.
    """

    seq: int
    tenant_id: str | None
    asked: dict[str, Any]
    query: EventQuery
    wanted: Wanted
    by: Actor
    selected: int
    created_at: Micros
    destination_id: str | None = None
    state: ReplayState = ReplayState.RUNNING
    examined: int = 0
    planned: bool = False
    after: Position | None = None
    total: int = 0
    delivered: int = 0
    failed: int = 0
    skipped: dict[str, int] = {}
    ended_at: Micros | None = None

    @property
    def waiting(self) -> int:
        """Deliveries whose manual attempt is still to be made."""
        return self.total - self.delivered - self.failed


class ReplayQuery(Struct, frozen=True, kw_only=True):
    """Conditions on replays; an empty tuple means "any"."""

    seqs: tuple[int, ...] = ()
    tenant_ids: tuple[str, ...] = ()
    states: tuple[ReplayState, ...] = ()


class Piece(Struct, frozen=True, kw_only=True):
    """The next events of a replay, planned: how many, up to where, whether they are the last, and what follows.

    `send` are pairs of event and destination number.
    """

    examined: int
    after: Position | None
    last: bool
    send: Sequence[tuple[int, int]]
    skipped: Mapping[str, int]


class Lineup(NamedTuple):
    """Destinations that a replay still has something for: the next ones with a queue; of all, how many are due."""

    queued: tuple[int, ...] = ()
    due: Mapping[int, int] = {}


class Replayed(NamedTuple):
    """A delivery of a replay: what came of its manual attempt (None: not made yet), how it stands now."""

    event_seq: int
    event_id: str
    tenant_id: str
    destination_no: int
    destination_id: str
    ok: bool | None
    state: DeliveryState | None


class Ask(NamedTuple):
    """Who asked for a manual attempt, and with which replay."""

    initiator: str
    replay_seq: int | None


class ReplayStore(Protocol):
    """Replays, and who asked for which manual attempt."""

    async def count(self, query: EventQuery, *, limit: int) -> int:
        """How many events a query without a search selects; `limit` is as good as any larger number."""
        ...

    async def standings(self, event_seqs: Sequence[int]) -> Mapping[int, Standing]:
        """How the deliveries of events stand, and how often each event was sent again by hand."""
        ...

    async def add(self, replay: Replay, entry: Entry, *, limits: Limits) -> Replay:
        """Store a new replay, or give the one that runs which the same actor has asked for in the same words before.

        That one is not charged again. Raises TooMany.
        """
        ...

    async def replays(self, query: ReplayQuery, page: Page) -> Slice[Replay]:
        """Ordered by number (`seq`), which is time."""
        ...

    async def left(self, tenant_id: str, per_hour: int, *, now: Micros) -> int:
        """How many events a tenant may still send again within this hour."""
        ...

    async def working(self) -> tuple[Replay, ...]:
        """Those that have not ended, oldest first."""
        ...

    async def plan(self, seq: int, piece: Piece) -> bool:
        """Queue the deliveries of a piece. False, and nothing changes, when the replay is no longer running."""
        ...

    async def send(
        self, seq: int, room: Mapping[int, int], *, now: Micros, after: int, limit: int
    ) -> tuple[Replay, Lineup]:
        """Count what has been attempted, and make due as many queued deliveries as each destination has room for.

        What is queued for a destination that cannot get it any more, or by a replay that was cancelled, is dropped, a
        part at a time. The line-up is of the first `limit` destinations beyond a destination number.
        """
        ...

    async def cancel(self, seq: int, entry: Entry) -> bool:
        """False when it was not running."""
        ...

    async def end(self, replay: Replay, entry: Entry, *, now: Micros) -> None:
        """It has nothing to do any more. No effect when it was cancelled meanwhile."""
        ...

    async def deliveries(self, seq: int, page: Page, *, oks: Sequence[bool | None] = ()) -> Slice[Replayed]:
        """What a replay sends, ordered by event and destination number; with `oks` only what came out so."""
        ...

    async def asks(self, attempts: Sequence[Attempt]) -> Mapping[int, Ask]:
        """Who asked for these attempts, by their numbers in time; the automatic ones are left out."""
        ...
