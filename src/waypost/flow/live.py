"""Events and attempts as they happen, for whoever listens.

Publishing and delivering tell each number once it is on disk; a listener reads what it names from the store. So nobody
slows them down: a listener that does not keep up misses something, and is told how much.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Self

from msgspec import Struct

from waypost.core import ids
from waypost.core.errors import TooMany, Unavailable
from waypost.core.model import SECOND, Destination, Micros
from waypost.flow import clock
from waypost.flow.wanted import Wanted
from waypost.observe.metrics import Metrics, NullMetrics
from waypost.store.base import Publication, Result, Store, StoredEvent
from waypost.store.tail import Item, Number, Told

Instant = tuple[Micros, int]
"""When something was told, and its number."""

_READ_AT_ONCE = 32
"""Messages of one batch, at most: a listener holds no more payloads than these, nor more bytes than it may."""
_LOOKED_AT = 1_000
_AGAIN_AFTER = 5
_SEVERAL = 2
_LONG_AGO: Instant = (0, 0)
_TOLD_BY_THEN: Micros = 600 * SECOND
"""Whatever has a number as old as this has been told, or never will be."""
_OVERLAP: Micros = SECOND
"""In the record, the order in which attempts were told is known to this precision only."""


class Bounds(Struct, frozen=True, kw_only=True):
    """See the settings of the same names, `stream_*`. Durations are in seconds."""

    listeners: int = 100
    listeners_per_tenant: int = 10
    queue: int = 1_000
    memory: int = 50_000
    batch_bytes: int = 1 << 20
    reach: float = 3_600.0
    longest_attempt: float = 60.0


class Gap(Struct, frozen=True):
    """Something was left out: how many messages, if that is known."""

    missed: int | None


Message = Told | Gap


class Live:
    """Hears of everything and passes it on; remembers what it heard last, in that order, for those who come back.

    `position` counts what it has heard.
    """

    def __init__(self, bounds: Bounds | None = None, metrics: Metrics | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.metrics = metrics or NullMetrics()
        self.metrics.watch_streams(lambda: len(self._open))
        self.position = 0
        self._told: deque[Number] = deque(maxlen=self.bounds.memory)
        self._open: set[Listener] = set()
        self._joined: defaultdict[str | None, set[Listener]] = defaultdict(set)
        self._closed = False

    # what publishing and delivering tell

    def published(self, publication: Publication) -> None:
        """An event is on disk that was not known before."""
        event = publication.event
        self._remember(event.seq)
        if self._joined:
            names = [destination.id for destination in publication.matched]
            for listener in self._near(event.tenant_id):
                if listener.wanted.takes_event(event.tenant_id, event.topic, names):
                    listener.offer(event.seq)

    def attempted(self, destination: Destination, result: Result) -> None:
        """An attempt is on disk."""
        self._remember(-result.seq)
        if self._joined:
            event, ok = result.delivery.event, result.outcome.ok
            for listener in self._near(event.tenant_id):
                if listener.wanted.takes_attempt(event.tenant_id, event.topic, destination.id, ok=ok):
                    listener.offer(-result.seq)

    def _remember(self, number: Number) -> None:
        self._told.append(number)
        self.position += 1

    def _near(self, tenant_id: str) -> Iterator[Listener]:
        return chain(self._joined.get(tenant_id, ()), self._joined.get(None, ()))

    def told_since(self, position: int) -> tuple[list[Number], bool]:
        """What was told since a position, and whether some of it is no longer remembered."""
        first = self.position - len(self._told)
        return list(islice(self._told, max(position - first, 0), None)), position < first

    # who listens

    def admit(self, listener: Listener) -> None:
        """Raises TooMany, and Unavailable when there are too many altogether or the server stops.

        The last tenth is kept for the operator. The first stream of a tenant for which there is no place takes that of
        a tenant with the most, which may come back.
        """
        if self._closed:
            raise Unavailable("the server stops")
        most = self.bounds.listeners_per_tenant
        if listener.owner is not None and sum(other.owner == listener.owner for other in self._open) >= most:
            limit = {"limit": most, "remaining": 0}
            raise TooMany(f"at most {most} streams of a tenant are open at a time", limit, retry_after=_AGAIN_AFTER)
        kept = 0 if listener.owner is None else self.bounds.listeners // 10
        if len(self._open) >= self.bounds.listeners - kept:
            self._take_a_place(listener)
        self._open.add(listener)

    def _take_a_place(self, listener: Listener) -> None:
        held = Counter(other.owner for other in self._open if other.owner is not None)
        owner, number = held.most_common(1)[0] if held else ("", 0)
        if listener.owner is None or held[listener.owner] or number < _SEVERAL:
            raise Unavailable("as many streams are open as there may be")
        other = next(other for other in self._open if other.owner == owner)
        other.ended.set()
        self._open.discard(other)

    def join(self, listener: Listener) -> None:
        """Offer it what is told from now on."""
        for tenant_id in listener.wanted.tenant_ids or (None,):
            self._joined[tenant_id].add(listener)

    def dismiss(self, listener: Listener) -> None:
        self._open.discard(listener)
        for tenant_id in listener.wanted.tenant_ids or (None,):
            self._joined[tenant_id].discard(listener)
            if not self._joined[tenant_id]:
                del self._joined[tenant_id]

    def end(self, owner: str) -> None:
        """End a tenant's streams: it was deleted."""
        for listener in self._open:
            if listener.owner == owner:
                listener.ended.set()

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for listener in self._open:
            listener.ended.set()


class Listener:
    """One stream; enter it, then take its batches.

    `owner` is the tenant who listens, None the operator. `after` is the last number that the client has seen; None
    begins with what is told from now on. `ended` is set when the stream has to end.
    """

    def __init__(
        self, live: Live, store: Store, wanted: Wanted, *, owner: str | None = None, after: int | None = None
    ) -> None:
        self.wanted = wanted
        self.owner = owner
        self.ended = asyncio.Event()
        self._live = live
        self._tail = store.tail
        self._after = after
        self._queue: deque[Number] = deque()
        self._missed = 0
        self._something = asyncio.Event()

    def __enter__(self) -> Self:
        self._live.admit(self)
        if self._after is None:
            self._live.join(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.dismiss(self)

    def offer(self, number: Number) -> None:
        """Queue a number. When there is no room, count what is missed until all that is queued has been taken."""
        if self._missed or len(self._queue) >= self._live.bounds.queue:
            self._missed += 1
        else:
            self._queue.append(number)
        self._something.set()

    async def batches(self, idle: float) -> AsyncIterator[list[Message]]:
        """What was told while the client was away, and then what is told, for ever.

        An empty batch says that nothing was for so many seconds.
        """
        if self._after is not None:
            async for batch in self._catching_up(self._after):
                yield batch
        while True:
            self._something.clear()
            if self._queue:
                numbers = [self._queue.popleft() for _ in range(min(len(self._queue), _READ_AT_ONCE))]
                async for read in self._pieces(numbers):
                    yield [*await self._kept(read, self.wanted.takes_all_of)]
            elif self._missed:
                missed, self._missed = self._missed, 0
                self._live.metrics.stream_missed(missed)
                yield [Gap(missed)]
            elif not await self._stirred(idle):
                yield []

    async def _stirred(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._something.wait()
        except TimeoutError:
            return False

    async def _pieces(self, numbers: Sequence[Number]) -> AsyncIterator[list[Told]]:
        """What they name, read in pieces of so many messages and bytes; one message at least."""
        for first in range(0, len(numbers), _READ_AT_ONCE):
            some = numbers[first : first + _READ_AT_ONCE]
            for piece in _cut(some, await self._tail.sizes(some), self._live.bounds.batch_bytes):
                yield await self._read(piece)

    async def _kept(self, read: Iterable[Told], takes: Callable[[Item], bool]) -> list[Told]:
        """What is wanted of what was read. A search looks through the data, and others get their turn in between."""
        kept = []
        for each in read:
            kept += [each] if takes(each.item) else []
            if self.wanted.search is not None:
                await asyncio.sleep(0)
        return kept

    async def _read(self, numbers: Sequence[Number]) -> list[Told]:
        return await self._tail.read(numbers, tenant_ids=self.wanted.tenant_ids)

    # what was told before

    async def _catching_up(self, after: int) -> AsyncIterator[list[Message]]:
        """Through what is remembered, after what is on record only, until there is nothing left; then join."""
        position = self._live.position
        told, _ = self._live.told_since(0)
        at = _index(told, after)
        if at is None:
            since = await self._instant(after)
            async for batch in self._from_the_record(after, since, told, position):
                yield batch
        else:
            since, told = _LONG_AGO, told[at + 1 :]
        while True:
            async for read in self._pieces(told):
                kept = await self._kept(read, self.wanted.takes)
                yield [each for each in kept if _follows(each.item, since)]
            since = _LONG_AGO
            told, forgotten = self._live.told_since(position)
            position = self._live.position
            if not told:
                self._live.join(self)
                return
            if forgotten:
                yield [Gap(None)]

    async def _from_the_record(
        self, after: int, since: Instant, told: Sequence[Number], position: int
    ) -> AsyncIterator[list[Message]]:
        """What followed an instant and was told before `told`, in the order of numbers.

        Whatever a page shows has been told once the barrier behind it is passed: then it is known what will come again.
        """
        bounds, now = self._live.bounds, clock.now()
        earliest = (now - round(bounds.reach * SECOND), 0)
        if since < earliest:
            yield [Gap(None)]
        since = max(since, earliest)
        longest, latest = round(bounds.longest_attempt * SECOND), ids.bound(now + SECOND)
        reached, remembered = ids.bound(since[0] - longest - _OVERLAP), set(told)
        while reached < latest and (page := await self._tail.numbers(after=reached, limit=_LOOKED_AT)):
            reached = abs(page[-1][0])
            numbers = [number for number, tenant_id in page if self._may_want(number, tenant_id)]
            numbers = [number for number in numbers if number not in remembered]
            async for read in self._pieces(numbers):
                coming = await self._coming(position) if reached > ids.bound(now - _TOLD_BY_THEN) else ()
                yield [
                    each
                    for each in await self._kept(read, self.wanted.takes)
                    if each.number not in coming and abs(each.number) != after and _follows(each.item, since)
                ]

    async def _coming(self, position: int) -> Container[Number]:
        await self._tail.barrier()
        return set(self._live.told_since(position)[0])

    def _may_want(self, number: Number, tenant_id: str) -> bool:
        asked = self.wanted.events if number > 0 else self.wanted.attempts
        return asked and (not self.wanted.tenant_ids or tenant_id in self.wanted.tenant_ids)

    async def _instant(self, seq: int) -> Instant:
        """When the event or attempt of this number was told, as exactly as it is known."""
        found = await self._read([seq, -seq])
        return _instant_of(found[0].item) if found else (ids.time_of(seq), 0)


def _instant_of(item: Item) -> Instant:
    if isinstance(item, StoredEvent):
        return item.accepted_at, item.event.seq
    return item.attempt.time + item.attempt.latency, item.attempt.seq


def _follows(item: Item, since: Instant) -> bool:
    instant, seq = _instant_of(item)
    return (instant if isinstance(item, StoredEvent) else instant + _OVERLAP, seq) > since


def _cut(numbers: Sequence[Number], sizes: Mapping[Number, int], most: int) -> Iterator[list[Number]]:
    piece: list[Number] = []
    total = 0
    for number in numbers:
        size = sizes.get(number, 0)
        if piece and total + size > most:
            yield piece
            piece, total = [], 0
        piece.append(number)
        total += size
    if piece:
        yield piece


def _index(told: Sequence[Number], seq: int) -> int | None:
    """Where the event or attempt of this number stands."""
    names = (seq, -seq)
    return next((at for at in range(len(told) - 1, -1, -1) if told[at] in names), None)
