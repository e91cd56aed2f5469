"""Working replays off, little by little, so that live traffic keeps its latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import structlog
from msgspec import Struct

from waypost.core.incarnations import id_of
from waypost.core.model import Micros
from waypost.flow import clock
from waypost.flow.background import UNTIL_WOKEN, Background
from waypost.flow.replays import Planner, ending, replay_id
from waypost.observe.metrics import Metrics, NullMetrics
from waypost.store.base import Store
from waypost.store.replays import Lineup, Replay, ReplayState

_log = structlog.get_logger("waypost")

_LEAST_REST = 0.02
_LONGEST_REST = 0.5
_REST_FOR_WORK = 2.0
"""How long to rest after each second of work; work takes longer while others work too."""

_EXAMINED_AT_ONCE = 100
_DESTINATIONS_AT_ONCE = 32


class Pace(Struct, frozen=True, kw_only=True):
    """How fast replays go: deliveries a second, of all together; and how many of one wait for their attempt at most."""

    rate: float = 400.0
    outstanding: int = 64

    @property
    def at_once(self) -> float:
        """How many are made due together at most: so many attempts at once delay nobody else noticeably."""
        return max(1.0, self.rate * _LEAST_REST)


class Road(Protocol):
    """Who delivers."""

    def spare(self, destination_no: int) -> int:
        """How many deliveries of a destination may be replays now, so that others find their way past them."""
        ...

    def ring(self, destination_no: int, due: Micros) -> None:
        """Something for this destination waits in the store and is due then."""
        ...


class ReplayRunner:
    """Truth is in the store: a replay goes on where it was, whoever worked on it before."""

    def __init__(self, store: Store, planner: Planner, road: Road, pace: Pace, metrics: Metrics | None = None) -> None:
        self._store = store
        self._planner = planner
        self._road = road
        self._pace = pace
        self._metrics = metrics or NullMetrics()
        self.background = Background("replays", self._turn, _LONGEST_REST, metrics)
        self._rest = _LEAST_REST
        self._lineups: dict[int, Lineup] = {}
        self._served: dict[int, int] = {}
        self._rounds = 0
        self._allowance = 0.0
        self._allowance_at = time.monotonic()

    async def start(self) -> None:
        await self.background.start()

    async def close(self) -> None:
        await self.background.close()

    def wake(self) -> None:
        """There is a new replay, or one was cancelled."""
        self.background.wake()

    async def _turn(self) -> float:
        """A step with each replay that there is; the seconds until the next ones."""
        began = time.monotonic()
        replays = await self._store.replays.working()
        self._metrics.replays(len(replays))
        if not replays:
            return UNTIL_WOKEN
        moved = await self._round(replays)
        self._rest = _LEAST_REST if moved else min(2 * self._rest, _LONGEST_REST)
        return max(self._rest, _REST_FOR_WORK * (time.monotonic() - began))

    async def _round(self, replays: Sequence[Replay]) -> bool:
        """Take one step with each replay; another one is the first each time. Whether any has got on."""
        self._rounds += 1
        first = self._rounds % len(replays)
        return any([await self._step(replay) for replay in (*replays[first:], *replays[:first])])

    async def _step(self, before: Replay) -> bool:
        if before.state is ReplayState.RUNNING and not before.planned:
            await self._store.replays.plan(before.seq, await self._planner.next(before, _EXAMINED_AT_ONCE))
        room, now = self._room(before), clock.now()
        replay, self._lineups[before.seq] = await self._store.replays.send(
            before.seq, room, now=now, after=self._served.get(before.seq, 0), limit=_DESTINATIONS_AT_ONCE
        )
        for destination_no, places in room.items():
            self._allowance -= places
            self._road.ring(destination_no, now)
        if not replay.waiting and (replay.planned or replay.state is ReplayState.CANCELLING):
            await self._store.replays.end(replay, ending(replay), now=now)
            self._lineups.pop(replay.seq)
            self._served.pop(replay.seq, None)
            _log.info("replay_ended", tenant_id=id_of(replay.tenant_id), replay_id=replay_id(replay))
        return bool(room) or replay != before

    def _room(self, replay: Replay) -> dict[int, int]:
        """How many deliveries may be made due now, by destination; destinations take turns."""
        line = self._lineups.get(replay.seq, Lineup())
        left = min(self._allowed(), self._pace.outstanding - sum(line.due.values()))
        if not line.queued:
            self._served.pop(replay.seq, None)
        room: dict[int, int] = {}
        for destination_no in line.queued:
            if left <= 0:
                break
            self._served[replay.seq] = destination_no
            places = min(left, self._road.spare(destination_no) - line.due.get(destination_no, 0))
            if places > 0:
                room[destination_no] = places
                left -= places
        return room

    def _allowed(self) -> int:
        """How many deliveries may be made due now for the rate to hold."""
        now = time.monotonic()
        self._allowance = min(self._pace.at_once, self._allowance + self._pace.rate * (now - self._allowance_at))
        self._allowance_at = now
        return int(self._allowance)
