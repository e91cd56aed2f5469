"""Removing what has been kept long enough, all the time and little by little."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from waypost.core import ids
from waypost.core.bodies import json_object
from waypost.core.errors import Invalid
from waypost.core.incarnations import id_of
from waypost.core.model import SECOND, SYSTEM, Actor, Micros
from waypost.core.retention import LONGEST, Kept, Lifetimes, Walk, walks
from waypost.flow import clock
from waypost.flow.background import Background
from waypost.flow.throttle import Throttle
from waypost.observe.metrics import Metrics, NullMetrics
from waypost.store.alerting import Entry
from waypost.store.base import Store
from waypost.store.retention import Log

_log = structlog.get_logger("waypost")

_LOOKED_AT = 1_000
"""Rows that one look takes in."""
_BUDGET = 0.004
"""Seconds of one transaction, beside its commit: a publish waits no longer for it than for others' publishes."""
_TRIMMED = 200
_MOST_HELD = 100_000
_JUDGED_EVERY = 60.0
"""Seconds after which it is judged whether removing keeps up with what grows too old."""
_NEVER = float("inf")


class _Course:
    """How far a walk has come, and the events it had to pass by: their deliveries are not settled."""

    def __init__(self) -> None:
        self.position = 0
        self.held: set[int] = set()


class Janitor:
    """Knows how long things are kept, and sees to it.

    `default` and `logs` are the server's own lifetimes in seconds, 0 for ever; `now` is the time by which they end.
    Where each walk is, is known in memory only: a start, or a change of lifetimes, begins with the oldest event there
    is.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics | None = None,
        *,
        default: Lifetimes,
        logs: Mapping[Log, int],
        share: float,
        interval: float,
        now: Callable[[], Micros] = clock.now,
    ) -> None:
        self._store = store
        self._metrics = metrics or NullMetrics()
        self._default = default
        self._logs = logs
        self._throttle = Throttle(share)
        self._now = now
        self.background = Background("retention", self._pass, interval, metrics)
        self._woken = self.background.woken
        self._courses: dict[Walk, _Course] = {}
        self._lag = _NEVER
        self._judge_at = 0.0
        self._removed: Counter[str] = Counter()

    async def start(self) -> None:
        await self.background.start()

    async def close(self) -> None:
        await self.background.close()

    # the lifetimes of tenants

    async def lifetimes(self, tenant_id: str) -> tuple[Lifetimes, Lifetimes]:
        """A tenant's own, and what holds for it."""
        own = (await self._store.retention.lifetimes()).get(tenant_id, Lifetimes())
        return own, own.over(self._default)

    async def put_lifetimes(self, tenant_id: str, body: object, *, by: Actor = SYSTEM) -> None:
        """Replace a tenant's own lifetimes whole by those of a JSON object. Raises Invalid."""
        lifetimes = _read(body)
        detail = {f"{kind}_seconds": getattr(lifetimes, kind) for kind in Kept}
        entry = Entry(actor=by, action="tenant.retention", tenant_id=tenant_id, subject=id_of(tenant_id), detail=detail)
        await self._store.retention.put_lifetimes(tenant_id, lifetimes, entry)
        self._woken.set()

    # the work

    async def _pass(self) -> None:
        """Remove all that is too old by now, or until lifetimes change."""
        try:
            await self._remove()
            await self._store.retention.mark(self._now())
        finally:
            if self._removed:
                _log.info("retention", **self._removed)
                self._removed.clear()

    async def _remove(self) -> None:
        own = await self._store.retention.lifetimes()
        self._courses = {walk: self._courses.get(walk) or _Course() for walk in walks(self._default, own)}
        for walk, course in self._courses.items():
            await self._walk(walk, course)
        for log, seconds in self._logs.items():
            if seconds:
                await self._trim(log, ids.bound(self._now() - seconds * SECOND))
        self._throttle.usual()
        self._metrics.retention_lag(0.0)

    async def _walk(self, walk: Walk, course: _Course) -> None:
        self._lag = _NEVER
        held, course.held = sorted(course.held), set()
        for at in range(0, len(held), _LOOKED_AT):
            await self._expire(walk.kind, course, held[at : at + _LOOKED_AT])
        more = True
        while more and not self._woken.is_set():
            before, began = walk.before(self._now()), time.perf_counter()
            found = await self._store.retention.aged(walk.kind, after=course.position, before=before, limit=_LOOKED_AT)
            await self._throttle.rest(time.perf_counter() - began)
            more = len(found) == _LOOKED_AT
            if found:
                self._judge((ids.time_of(before) - ids.time_of(found[0][0])) / SECOND)
                await self._expire(walk.kind, course, [seq for seq, tenant_id in found if walk.takes(tenant_id)])
                course.position = found[-1][0]
        if len(course.held) > _MOST_HELD:  # too many to remember: they are looked for again
            course.held, course.position = set(), 0

    async def _expire(self, kind: Kept, course: _Course, seqs: Sequence[int]) -> None:
        going = seqs if kind is Kept.ATTEMPTS else await self._store.retention.settled(seqs)
        course.held |= set(seqs).difference(going)
        while going and not self._woken.is_set():
            piece = await self._store.retention.expire(kind, going, now=clock.now(), budget=_BUDGET)
            course.held |= set(piece.held)
            going = going[piece.done :]
            self._count(kind, piece.done - len(piece.held))
            await self._throttle.rest(piece.seconds)
        course.held |= set(going)

    async def _trim(self, log: Log, before: int) -> None:
        while True:
            piece = await self._store.retention.trim(log, before=before, limit=_TRIMMED)
            if not piece.done:
                return
            self._count(log, piece.done)
            await self._throttle.rest(piece.seconds)

    def _count(self, what: Kept | Log, removed: int) -> None:
        self._removed[what] += removed
        self._metrics.removed(str(what), removed)

    def _judge(self, lag: float) -> None:
        """Work harder when what is due for removal has waited longer than when it was judged before."""
        self._metrics.retention_lag(lag)
        if time.monotonic() < self._judge_at:
            return
        if lag > self._lag:
            self._throttle.faster()
            _log.warning("retention_falls_behind", seconds=round(lag), share=self._throttle.share)
        self._lag, self._judge_at = lag, time.monotonic() + _JUDGED_EVERY


def _read(body: object) -> Lifetimes:
    body = json_object(body)
    names = {f"{kind}_seconds": kind for kind in Kept}
    problems = [f"{name} is not known: use {', '.join(names)}" for name in body if name not in names]
    problems += [
        f"{name} must be a whole number from 0 to {LONGEST}"
        for name in names
        if not (body.get(name) is None or (type(body[name]) is int and 0 <= body[name] <= LONGEST))
    ]
    if problems:
        raise Invalid(problems)
    return Lifetimes(**{kind: body.get(name) for name, kind in names.items()})
