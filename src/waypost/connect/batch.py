"""Several messages in one call: what is sent at the same time is gathered, and each message is settled on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.failure import copy_of

T = TypeVar("T")
R = TypeVar("R")

Call = Callable[[Sequence[T]], Awaitable[Sequence[R | DeliveryError]]]
"""Sends a batch; answers for each item, in their order. Raises DeliveryError when all of them failed together."""

ABOUT_ONE = frozenset({"invalid_request", "message_too_large", "metadata_too_large"})
"""Failures of a whole call for which a single message in it can be to blame."""


class Limits(Struct, frozen=True, kw_only=True):
    """How large a batch may be. `size` is in the caller's own unit; an item that is larger travels alone.

    `wait` is how long a message may be held back while other batches are under way (seconds).
    """

    count: int
    size: int
    wait: float = 0.005


class _Item(Struct, Generic[T, R], kw_only=True, eq=False):
    value: T
    size: int
    future: asyncio.Future[R]
    batch: _Batch[T, R] | None = None


class _Batch(Struct, Generic[T, R], kw_only=True, eq=False):
    items: list[_Item[T, R]]
    task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """Nobody waits for one of the items any more; when that is so for all, the call is cancelled."""
        if self.task is not None and all(item.future.done() for item in self.items):
            self.task.cancel()


class Batcher(Generic[T, R]):
    """Gathers concurrent sends into batches.

    A message that comes while nothing is under way leaves at once, together with those of the same turn of the event
    loop. While calls are under way, messages gather until a batch is full, a call ends, or the wait is over.
    """

    def __init__(self, call: Call[T, R], limits: Limits) -> None:
        self._call = call
        self._limits = limits
        self._waiting: list[_Item[T, R]] = []
        self._under_way: set[_Batch[T, R]] = set()
        self._timer: asyncio.Handle | None = None

    async def send(self, value: T, size: int) -> R:
        """Send one item in a batch. Raises the item's own DeliveryError, or a copy of the whole call's.

        When the task is cancelled, the batch goes on for the others.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        item = _Item(value=value, size=size, future=future)
        self._waiting.append(item)
        self._plan()
        try:
            return await future
        except asyncio.CancelledError:
            if item.batch is not None:
                item.batch.leave()
            raise
        finally:
            del future, item  # a future keeps its exception, which keeps this frame

    def flush(self) -> None:
        """Hold nothing back any longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [item for item in self._waiting if not item.future.done()]
        self._waiting = []
        for items in _packed(waiting, self._limits):
            self._start(items)

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= self._limits.count:
            self.flush()
        elif self._timer is None:
            self._timer = (
                loop.call_later(self._limits.wait, self.flush) if self._under_way else loop.call_soon(self.flush)
            )

    def _start(self, items: list[_Item[T, R]]) -> None:
        batch = _Batch(items=items)
        for item in items:
            item.batch = batch
        self._under_way.add(batch)
        batch.task = asyncio.get_running_loop().create_task(self._run(batch))
        batch.task.add_done_callback(lambda _: self._ended(batch))

    def _ended(self, batch: _Batch[T, R]) -> None:
        self._under_way.discard(batch)
        batch.task = None
        for item in batch.items:
            if item.batch is batch:
                item.batch = None
                item.future.cancel()
        if self._waiting and not self._under_way:
            self.flush()

    async def _run(self, batch: _Batch[T, R]) -> None:
        items = batch.items
        try:
            results = await self._call([item.value for item in items])
            pairs = list(zip(items, results, strict=True))
        except DeliveryError as error:
            if error.request is not None:
                error.request["messages"] = len(items)
            if error.code in ABOUT_ONE and len(items) > 1:
                for item in items:
                    self._start([item])
            else:
                for item in items:
                    _settle(item.future, copy_of(error))
        except Exception as error:  # noqa: BLE001 - a fault in the type is every waiting message's failure
            for item in items:
                _settle(item.future, error)
        else:
            for item, result in pairs:
                _settle(item.future, result)


def _settle(future: asyncio.Future[R], result: R | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _packed(waiting: Sequence[_Item[T, R]], limits: Limits) -> Iterator[list[_Item[T, R]]]:
    """The items in their order, in as few batches as hold them."""
    batch: list[_Item[T, R]] = []
    size = 0
    for item in waiting:
        if batch and (len(batch) >= limits.count or size + item.size > limits.size):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch
