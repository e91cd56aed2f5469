"""Telling channels what there is to tell: out of the store's outbox, once or twice, never zero times.

Each channel is served by itself, so a dead one delays no other; what it does not take is tried a bounded number of
times and then given up, which raises no alert.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog
from msgspec import Struct

from waypost.connect.channel import ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Tools
from waypost.core.alerts import Channel
from waypost.core.errors import DeliveryError, Unavailable, WaypostError
from waypost.core.incarnations import id_of
from waypost.core.model import HOUR, SECOND, Micros
from waypost.core.retry import RetryPolicy
from waypost.flow import clock
from waypost.flow.attempt import put_off_if_ours
from waypost.flow.background import Background
from waypost.flow.notices import Writer
from waypost.flow.permits import Permits
from waypost.net.shares import on_behalf_of
from waypost.observe.metrics import Metrics
from waypost.store.alerting import News
from waypost.store.base import Store

_log = structlog.get_logger("waypost")


def next_hour(now: Micros) -> Micros:
    """When what was counted within this hour begins anew."""
    return (now // HOUR + 1) * HOUR


class Effort(Struct, frozen=True, kw_only=True):
    """How hard to try. Durations are in seconds; see the settings of the same names."""

    policy: RetryPolicy = RetryPolicy(limit=9, base_seconds=5.0, factor=2.0, max_wait_seconds=900.0)
    timeout: float = 30.0
    concurrency_per_channel: int = 4
    look_interval: float = 5.0
    shutdown: float = 5.0


class Senders:
    """Open connections to channels, kept under their version, and how one notice goes out."""

    def __init__(
        self, types: Mapping[str, ChannelType], tools: Tools, *, timeout: float, permits: Permits | None = None
    ) -> None:
        self.permits = permits or Permits(types=types)
        self._types = types
        self._tools = tools
        self._timeout = timeout
        self._open: dict[int, tuple[int, ChannelConnection]] = {}

    async def send(self, channel: Channel, notice: Notice) -> None:
        """Raises DeliveryError for what goes wrong over there, Unavailable for what does here."""
        on_behalf_of.set(channel.owner or "")
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection(channel)
                await connection.send(notice)
        except TimeoutError:
            raise DeliveryError("timeout", f"the channel took longer than {self._timeout:g} s") from None
        except DeliveryError as error:
            put_off_if_ours(error)
            raise
        except WaypostError as error:
            put_off_if_ours(error)
            raise DeliveryError("configuration_error", str(error), retryable=False) from error
        except Exception as error:
            put_off_if_ours(error)
            _log.exception("alert_channel_crashed", channel_type=channel.type)
            raise DeliveryError("internal_error", f"the channel failed: {type(error).__name__}") from error

    async def try_out(self, channel: Channel, notice: Notice) -> None:
        """Send over a connection of its own. Raises DeliveryError or Unavailable."""
        alone = Senders(self._types, self._tools, timeout=self._timeout)
        try:
            await alone.send(channel, notice)
        finally:
            await alone.close()

    async def _connection(self, channel: Channel) -> ChannelConnection:
        known = self._open.get(channel.no)
        if known is not None and known[0] == channel.version:
            return known[1]
        kind = self._types.get(channel.type)
        if kind is None:
            raise DeliveryError("unknown_type", f"this Waypost has no alert channel {channel.type}", retryable=False)
        opened = await kind.connect(channel, self._tools)
        await self.forget(channel.no)
        self._open[channel.no] = (channel.version, opened)
        return opened

    async def forget(self, channel_no: int) -> None:
        known = self._open.pop(channel_no, None)
        if known is not None:
            with contextlib.suppress(Exception):
                await known[1].close()

    async def close(self) -> None:
        for channel_no in list(self._open):
            await self.forget(channel_no)


class Notifier:
    """Serves every channel that has something waiting. `ring` after something was put into the outbox."""

    def __init__(
        self, store: Store, senders: Senders, writer: Writer, metrics: Metrics, *, effort: Effort | None = None
    ) -> None:
        self._store = store
        self._senders = senders
        self._writer = writer
        self._metrics = metrics
        self._effort = effort or Effort()
        self._serving: dict[int, asyncio.Task[None]] = {}
        self.background = Background("notifier", self._look, self._effort.look_interval, metrics)

    async def start(self) -> None:
        await self.background.start()

    async def close(self) -> None:
        """Let what is being told end, for a while. What remains stays in the outbox."""
        await self.background.close()
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=self._effort.shutdown)
        for task in list(self._serving.values()):
            task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        await self._senders.close()

    def ring(self) -> None:
        self.background.wake()

    async def _look(self) -> float:
        """Have the channels served that are not yet; the seconds until something else is due."""
        now = clock.now()
        soonest = now + round(self._effort.look_interval * SECOND)
        for channel_no, due in await self._store.alerting.news_waiting():
            if due > now:
                soonest = min(soonest, due)
            elif channel_no not in self._serving:
                self._serve(channel_no, self._tell_all(channel_no))
        return max(0.01, (soonest - now) / SECOND)

    def _serve(self, channel_no: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._serving[channel_no] = task
        task.add_done_callback(lambda done: self._served(channel_no, done))

    def _served(self, channel_no: int, done: asyncio.Task[None]) -> None:
        self._serving.pop(channel_no, None)
        error = None if done.cancelled() else done.exception()
        if isinstance(error, Unavailable):
            _log.warning("notifier_put_off", error=str(error))
        elif error is not None:
            _log.error("notifier_task_failed", exc_info=error)

    async def _tell_all(self, channel_no: int) -> None:
        lease = round(2 * self._effort.timeout * SECOND)
        while True:
            now = clock.now()
            waiting = await self._store.alerting.claim_news(
                channel_no, now=now, lease_until=now + lease, limit=self._effort.concurrency_per_channel
            )
            if not waiting:
                return
            await asyncio.gather(*[self._tell(news) for news in waiting])

    async def _tell(self, news: News) -> None:
        channel, permits = news.channel, self._senders.permits
        refusal = permits.refusal(channel)
        if refusal is not None:
            await self._put_off(news, refusal)
            return
        if permits.is_metered(channel) and not await self._charged(news, permits.per_hour):
            return
        try:
            await self._senders.send(channel, self._notice(news))
        except DeliveryError as error:
            await self._put_off(news, error)
            return
        await self._store.alerting.news_told(news.seq, now=clock.now())
        self._metrics.notice_sent(channel.type, ok=True)
        _log.info("alert_told", channel_id=channel.id, channel_type=channel.type, topic=news.topic)

    async def _charged(self, news: News, most: int) -> bool:
        """Whether the tenant may send one more message in this hour; if not, this one waits for the next."""
        now = clock.now()
        if await self._store.alerting.charge_message(news.channel.owner or "", most=most, now=now):
            return True
        reason = f"too_many: at most {most} messages of a tenant's alert channels are sent within an hour"
        await self._store.alerting.news_put_off(news.seq, reason, until=next_hour(now))
        return False

    def _notice(self, news: News) -> Notice:
        try:
            return self._writer.notice(news)
        except Exception as error:
            _log.exception("notice_failed", topic=news.topic, tenant_id=id_of(news.tenant_id))
            sentence = f"the notice could not be written: {type(error).__name__}"
            raise DeliveryError("internal_error", sentence, retryable=False) from error

    async def _put_off(self, news: News, error: DeliveryError) -> None:
        channel = news.channel
        due = self._next_try(news, error)
        self._metrics.notice_sent(channel.type, ok=False)
        if due is None:
            self._metrics.notice_given_up(channel.type)
        _log.warning(
            "alert_not_told",
            channel_id=channel.id,
            channel_type=channel.type,
            topic=news.topic,
            tries=news.tries + 1,
            code=error.code,
            error=error.sentence,
            given_up=due is None,
        )
        sentence = f"{error.code}: {error.sentence}"
        await self._store.alerting.news_failed(news.seq, sentence, now=clock.now(), due=due)

    def _next_try(self, news: News, error: DeliveryError) -> Micros | None:
        if not error.retryable:
            return None
        wait = self._effort.policy.wait(news.tries, jitter=clock.jitter(), retry_after=error.retry_after)
        return None if wait is None else clock.now() + round(wait * SECOND)
