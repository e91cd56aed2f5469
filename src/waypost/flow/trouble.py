"""When the store itself fails, alerts cannot wait in it: the operator's channels are told from memory.

Hears of every commit and every failure, in the writing thread. Trouble that lasts is told once, and its end once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import structlog

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


class Trouble:
    """A commit observer. `relearn` after every change of rules or channels: memory is to be up to date when needed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._since: float | None = None
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

    # in the writing thread

    def committed(self, size: int, seconds: float, kinds: Mapping[str, int]) -> None:
        self._since = None
        self._metrics.committed(size, seconds)

    def failed(self, error: str, kinds: Mapping[str, int]) -> None:
        self._error = error
        self._metrics.store_failed()
        loop = self._loop
        if self._since is None and loop is not None:
            self._since = time.monotonic()
            with contextlib.suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(self._watch)

    # in the event loop

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._see_it_through())

    async def _see_it_through(self) -> None:
        rule, began = self._book.of_the_whole(Kind.STORE_TROUBLE), self._since
        if rule is None or began is None:
            return
        while time.monotonic() < began + (rule.thresholds.age_seconds or 0.0):
            if self._since is None:
                return
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
        lasted = {"seconds": round(time.monotonic() - began, 1), "error": self._error}
        await self._tell(rule, lasted, recovered=False)
        while self._since is not None:  # noqa: ASYNC110  the commit that ends it happens in another thread
            await asyncio.sleep(_LOOK_AGAIN_AFTER)
        over = {"seconds": round(time.monotonic() - began, 1), "error": self._error}
        await self._tell(rule, over, recovered=True)
        await self._put_on_record(lasted, over)

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
