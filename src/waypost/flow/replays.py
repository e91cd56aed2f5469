"""Sending many events again: what somebody asks for, what it comes to, and calling it off (specification, 4.2.5)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from msgspec import Struct, structs

from waypost.core import ids
from waypost.core.errors import BadRequest, Conflict, Invalid, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import Actor, Destination, Event, Micros
from waypost.core.replaying import Limits, Wanted, plan
from waypost.core.routing import Route
from waypost.core.status import Status
from waypost.flow.directory import Directory
from waypost.store.alerting import Entry
from waypost.store.base import Direction, EventQuery, Page, Store, TimeRange
from waypost.store.replays import Piece, Position, Replay, ReplayQuery, ReplayState

_log = structlog.get_logger("waypost")

REPLAY_PREFIX = "rpl"
_PREVIEWED_AT_ONCE = 500
_COUNTED_AT_ONCE = 1_000
_LONGEST_PREVIEW_SECONDS = 10.0


class Wish(Struct, frozen=True, kw_only=True):
    """What somebody wants sent again: to one destination, or to all that the selected events went to.

    `asked` is the filter in the caller's words, `query` the same as the store takes it. `missed`: the destination gets
    also what it never got.
    """

    tenant_id: str | None
    destination_id: str | None
    asked: dict[str, Any]
    query: EventQuery
    missed: bool = False


class Planner:
    """Looks at the events that a replay selects, piece by piece, and says what is to be sent."""

    def __init__(self, store: Store, directory: Directory, limits: Limits) -> None:
        self._store = store
        self._directory = directory
        self._limits = limits

    async def next(self, replay: Replay, limit: int) -> Piece:
        """The next events after those that were examined already."""
        page = Page(limit=limit, direction=Direction.ASC, after=replay.after)
        found = await self._store.events(replay.query, page)
        standings = await self._store.replays.standings([stored.event.seq for stored in found.items])
        routes: dict[str, Mapping[int, Route]] = {}
        send: list[tuple[int, int]] = []
        skipped: Counter[str] = Counter()
        for stored in found.items:
            event = stored.event
            if event.tenant_id not in routes:
                known = await self._directory.routes(event.tenant_id)
                routes[event.tenant_id] = {route.destination.no: route for route in known}
            planned = plan(
                event,
                standings[event.seq],
                replay.wanted,
                routes[event.tenant_id],
                per_event=self._limits.per_event,
                filters=self._directory.limits,
            )
            await asyncio.sleep(0)  # filters may take long
            send += [(event.seq, no) for no in planned.send]
            skipped.update(planned.left_out)
        return Piece(
            examined=len(found.items),
            after=_position(replay.query, found.items[-1].event) if found.items else replay.after,
            last=not found.has_next,
            send=send,
            skipped=skipped,
        )


class Replays:
    """Takes replays in; `wake` has them worked off. What is counted by tenant binds the tenants, not the operator."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        *,
        limits: Limits,
        next_seq: Callable[[], int],
        now: Callable[[], Micros],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._limits = limits
        self._next_seq = next_seq
        self._now = now
        self._wake = wake

    async def preview(self, wish: Wish, *, by: Actor) -> Replay:
        """What a replay would come to if it were made now. Nothing is sent, and nothing stored.

        Of very many events only so many are examined as there is time for. Raises as `create` does.
        """
        replay, deadline = await self._drawn_up(wish, by), time.monotonic() + _LONGEST_PREVIEW_SECONDS
        while not replay.planned and time.monotonic() < deadline:
            replay = _advanced(replay, await self._planner.next(replay, _PREVIEWED_AT_ONCE))
        return replay

    async def create(self, wish: Wish, *, by: Actor) -> Replay:
        """Begin a replay, or give the one that runs when the same caller has asked for the same before.

        Raises NotFound, BadRequest for a disabled destination, Invalid or TooMany for the limits.
        """
        replay = await self._drawn_up(wish, by)
        detail: dict[str, Any] = {"events": replay.asked, "destination_id": replay.destination_id}
        detail |= {"missed": wish.missed, "selected": replay.selected}
        entry = _entry("create", replay, detail, by=by)
        added = await self._store.replays.add(replay, entry, limits=self._limits.of(by))
        if added.seq == replay.seq:
            told = {"replay_id": replay_id(added), "selected": added.selected}
            _log.info("replay_created", tenant_id=id_of(added.tenant_id), **told)
            self._wake()
        return added

    async def left(self, tenant_id: str | None, *, by: Actor) -> int | None:
        """How many events a tenant may still send again within this hour; None for the operator."""
        most = self._limits.of(by).per_hour
        if most is None or tenant_id is None:
            return None
        return await self._store.replays.left(tenant_id, most, now=self._now())

    async def replay(self, seq: int, tenant_id: str | None) -> Replay:
        """Raises NotFound. `tenant_id` bounds what the caller may see; None is everything."""
        query = ReplayQuery(seqs=(seq,), tenant_ids=() if tenant_id is None else (tenant_id,))
        found = await self._store.replays.replays(query, Page(limit=1))
        if not found.items:
            raise NotFound("replay not found")
        return found.items[0]

    async def cancel(self, replay: Replay, *, by: Actor) -> Replay:
        """Send nothing more. Idempotent; raises Conflict when it has come to its end."""
        if await self._store.replays.cancel(replay.seq, _entry("cancel", replay, {}, by=by)):
            self._wake()
        now = await self.replay(replay.seq, None)
        if now.state is ReplayState.COMPLETED:
            raise Conflict("the replay has come to its end")
        return now

    async def _drawn_up(self, wish: Wish, by: Actor) -> Replay:
        destination, now = await self._destination(wish), self._now()
        statuses = wish.query.statuses
        missed = wish.missed and (not statuses or Status.SKIPPED in statuses)
        wanted = Wanted(
            destination_no=None if destination is None else destination.no,
            destination_ids=() if missed else wish.query.destination_ids,
            statuses=statuses,
            missed=missed,
        )
        query = structs.replace(wish.query, accepted=TimeRange(lte=now))
        if missed:  # events say nothing of a destination that came later
            query = structs.replace(query, statuses=())
        elif destination is not None:
            query = structs.replace(query, destination_ids=(destination.id,))
        return Replay(
            seq=self._next_seq(),
            tenant_id=wish.tenant_id,
            destination_id=None if destination is None else destination.id,
            asked=wish.asked,
            query=query,
            wanted=wanted,
            by=by,
            selected=await self._selected(query, self._limits.of(by)),
            created_at=now,
        )

    async def _destination(self, wish: Wish) -> Destination | None:
        if wish.tenant_id is None or wish.destination_id is None:
            return None
        found = await self._store.destination(wish.tenant_id, wish.destination_id)
        if found is None:
            raise NotFound("destination not found")
        if found.disabled_at is not None:
            raise BadRequest("Destination is disabled")
        return found

    async def _selected(self, query: EventQuery, limits: Limits) -> int:
        most, limit = limits.events, "all that one replay may have"
        if limits.per_hour is not None and limits.per_hour < most:
            most, limit = limits.per_hour, "all that a tenant may send again within an hour"
        count = await self._count(query, most + 1)
        if count > most:
            raise Invalid([f"events selects more than {most} events, which is {limit}; narrow it"])
        return count

    async def _count(self, query: EventQuery, limit: int) -> int:
        if query.search is None:
            return await self._store.replays.count(query, limit=limit)
        count, after, more = 0, None, True
        while more and count < limit:
            found = await self._store.events(query, Page(limit=_COUNTED_AT_ONCE, direction=Direction.ASC, after=after))
            count, more = count + len(found.items), found.has_next
            after = _position(query, found.items[-1].event) if found.items else after
        return count


def _position(query: EventQuery, event: Event) -> Position:
    """Where an event stands in the list of those that a query selects."""
    return (event.time if query.search is None else event.seq), event.seq


def replay_id(replay: Replay) -> str:
    return ids.encode(REPLAY_PREFIX, replay.seq)


def ending(replay: Replay) -> Entry:
    """What the audit log says of a replay that has come to its end: who had begun it, and the outcome."""
    outcome = {
        "status": "completed" if replay.state is ReplayState.RUNNING else "cancelled",
        "total": replay.total,
        "delivered": replay.delivered,
        "failed": replay.failed,
        "skipped": replay.skipped,
    }
    return _entry("end", replay, outcome, by=replay.by)


def _entry(verb: str, replay: Replay, detail: dict[str, Any], *, by: Actor) -> Entry:
    return Entry(
        actor=by, action=f"replay.{verb}", tenant_id=replay.tenant_id, subject=replay_id(replay), detail=detail
    )


def _advanced(replay: Replay, piece: Piece) -> Replay:
    return structs.replace(
        replay,
        examined=replay.examined + piece.examined,
        planned=piece.last,
        after=piece.after,
        total=replay.total + len(piece.send),
        skipped=Counter(replay.skipped) + Counter(piece.skipped),
    )
