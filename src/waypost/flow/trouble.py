"""When the store itself fails, alerts cannot wait in it: the operator's channels are told from memory.

Hears of every commit and every failure, in the writing thread. What counts is the share of the pieces of work of each
kind that failed lately: on a full disk, small ones still find room while publishes do not. Trouble that lasts is told
once, and its end once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from msgspec import Struct

from waypost.core.alerts import Book, Channel, Kind, Rule, about_the_whole
from waypost.core.errors import DeliveryError, Unavailable
from waypost.flow import clock
from waypost.flow.notices import Writer
from waypost.flow.notify import Senders
from waypost.observe.metrics import Metrics
from waypost.store.alerting import Alert
from waypost.store.base import Store

_log = structlog.get_logger("waypost")
_LOOK_AGAIN_AFTER = 0.5
_TRIES = 5
_PIECES_OF_THE_WINDOW = 30
_OF_NO_KIND = {"other": 1}


class Bounds(Struct, frozen=True, kw_only=True):
    """The store is in trouble while `percent` of a kind of work fails within `window` seconds.

    `room` is how many bytes the disk must have left for it to be over; `log_bytes` how large the write-ahead log may
    grow before that is said.
    """

    percent: float = 10.0
    window: float = 30.0
    room: int = 0
    log_bytes: int = 268_435_456


class Shares:
    """How much of each kind of work failed lately. Told by one thread, asked by others."""

    def __init__(self, bounds: Bounds, now: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._now = now
        self._width = bounds.window / _PIECES_OF_THE_WINDOW
        self._pieces: deque[tuple[float, Counter[str], Counter[str]]] = deque()
        self._lock = threading.Lock()

    def count(self, kinds: Mapping[str, int], *, ok: bool) -> None:
        with self._lock:
            self._trim()
            if not self._pieces or self._now() >= self._pieces[-1][0] + self._width:
                self._pieces.append((self._now(), Counter(), Counter()))
            _, good, failed = self._pieces[-1]
            (good if ok else failed).update(kinds)

    @property
    def bad(self) -> bool:
        """Whether too much of any kind failed."""
        with self._lock:
            self._trim()
            good, failed = Counter[str](), Counter[str]()
            for _, well, ill in self._pieces:
                good.update(well)
                failed.update(ill)
        return any(100 * failed[kind] >= self._bounds.percent * (failed[kind] + good[kind]) for kind in failed)

    def _trim(self) -> None:
        while self._pieces and self._pieces[0][0] < self._now() - self._bounds.window:
            self._pieces.popleft()


class Trouble:
    """A commit observer. `relearn` after every change of rules or channels: memory is to be up to date when needed."""

    def __init__(self, metrics: Metrics, bounds: Bounds | None = None) -> None:
        self._metrics = metrics
        self._bounds = bounds or Bounds()
        self._shares = Shares(self._bounds)
        self._failed_at = self._stored_at = 0.0
        self._lasts = False
        self._say_from = self._bounds.log_bytes
        self._error = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._book = Book((), ())

    def attach(self, store: Store, senders: Senders, writer: Writer, defaults: tuple[Rule, ...]) -> None:
        """What it takes to tell; the store exists only after its observer."""
        self._store = store
        self._senders = senders
        self._writer = writer
        self._defaults = defaults

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.learn()

    async def close(self) -> None:
        self._loop = None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def relearn(self) -> None:
        """Something has changed."""
        self._learning = asyncio.create_task(self.learn())

    async def learn(self) -> None:
        """Read rules and channels while they can be read."""
        with contextlib.suppress(Unavailable):
            rules, channels = await self._store.alerting.rules(), await self._store.alerting.channels()
            self._book = Book([*self._defaults, *rules], channels)

    @property
    def ill(self) -> bool:
        """Whether the store fails too much of its work just now."""
        return self._shares.bad or self._stored_at < self._failed_at

    @property
    def lasts(self) -> bool:
        """Whether it has done so for as long as the alert rule says."""
        return self._lasts

    # in the store's threads

    def committed(self, size: int, seconds: float, kinds: Mapping[str, int]) -> None:
        self._stored_at = time.monotonic()
        self._shares.count(kinds, ok=True)
        self._metrics.committed(size, seconds)

    def failed(self, error: str, kinds: Mapping[str, int]) -> None:
        self._error, self._failed_at = error, time.monotonic()
        self._shares.count(kinds or _OF_NO_KIND, ok=False)
        self._metrics.store_failed()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(self._watch)

    def logged(self, size: int) -> None:
        """Say that the write-ahead log is large, and again whenever it has doubled."""
        self._metrics.store_log(size)
        if size >= self._say_from:
            _log.warning("store_log_grows", bytes=size, reason="a reader outside Waypost holds it, or the disk is slow")
            self._say_from = 2 * size
        elif size < self._bounds.log_bytes:
            self._say_from = self._bounds.log_bytes

    # in the event loop

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._see_it_through())

    async def _see_it_through(self) -> None:
        began = self._failed_at
        while not self._has_lasted(began):
            if not self.ill:
                return
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
        self._lasts = True
        try:
            await self._tell_of_it(began)
        finally:
            self._lasts = False

    def _has_lasted(self, began: float) -> bool:
        """Whether failures are so far apart; or so much time has passed, if nothing was stored since the first."""
        rule = self._book.of_the_whole(Kind.STORE_TROUBLE)
        least = (rule and rule.thresholds.age_seconds) or 0.0
        return self.ill and (self._failed_at if self._stored_at > began else time.monotonic()) >= began + least

    async def _tell_of_it(self, began: float) -> None:
        rule = self._book.of_the_whole(Kind.STORE_TROUBLE)
        lasted = {"seconds": round(time.monotonic() - began, 1), "error": self._error}
        if rule is not None:
            await self._tell(rule, lasted, recovered=False)
        while self._shares.bad or not await self._is_writable():  # noqa: ASYNC110  what ends it is in another thread
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
        if rule is not None:
            over = {"seconds": round(time.monotonic() - began, 1), "error": self._error}
            await self._tell(rule, over, recovered=True)
            await self._put_on_record(lasted, over)

    async def _is_writable(self) -> bool:
        """Perhaps nobody has tried for a while."""
        try:
            await self._store.probe(self._bounds.room)
        except Unavailable:
            return False
        return True

    async def _tell(self, rule: Rule, data: dict[str, Any], *, recovered: bool) -> None:
        raised = about_the_whole(rule, data, recovered=recovered)
        alert = Alert(
            seq=clock.Sequence().next(),
            kind=raised.kind,
            topic=raised.topic,
            severity=raised.severity,
            audience=raised.audience,
            rule_id=rule.id,
            tenant_id=None,
            destination_id=None,
            data=data,
        )
        self._metrics.alert_raised(raised.kind, raised.severity)
        _log.error("store_recovered" if recovered else "store_in_trouble", **data)
        listeners = self._book.listeners(raised, None, now=clock.now())
        await asyncio.gather(*[self._tell_one(channel, alert) for channel in listeners])

    async def _tell_one(self, channel: Channel, alert: Alert) -> None:
        for tried in range(_TRIES):
            try:
                await self._senders.send(channel, self._writer.of_alert(alert))
            except Unavailable as error:
                _log.warning("alert_not_told", channel_id=channel.id, error=str(error))
                await asyncio.sleep(2**tried)
            except DeliveryError as error:
                _log.warning("alert_not_told", channel_id=channel.id, code=error.code, error=error.sentence)
                if not error.retryable:
                    return
                await asyncio.sleep(2**tried)
            else:
                return

    async def _put_on_record(self, began: dict[str, Any], over: dict[str, Any]) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.alerting.raise_about_the_whole(Kind.STORE_TROUBLE, began, recovered=False)
            await self._store.alerting.raise_about_the_whole(Kind.STORE_TROUBLE, over, recovered=True)
