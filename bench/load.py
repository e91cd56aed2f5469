"""The load generator: bare HTTP/1.1 connections in a process of its own that publish events and time the answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter as Tally
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop
from msgspec import Struct

from bench.board import Board, Counter
from bench.events import Requests, Target
from bench.worker import ignore_interrupts

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_STATUS = slice(9, 12)
_SECOND = 1_000_000_000
_TICK = 0.001


class LoadPlan(Struct, frozen=True, kw_only=True):
    """What stays the same for all phases of a run. `batch` is events per request, 0 for the single publish."""

    board: Path
    events: int
    slots: int
    tag: str
    port: int
    api_key: str
    targets: tuple[Target, ...]
    payload: int
    connections: int
    batch: int


class Phase(Struct, frozen=True, kw_only=True):
    """A stretch of events to publish: the numbers from `first` on.

    `rate` is events/s (0 = as fast as the answers come). `timeout` in seconds ends a phase that does not get on.
    """

    first: int
    count: int
    rate: float = 0.0
    timeout: float = 600.0


class LoadResult(Struct, frozen=True, kw_only=True):
    """`began` and `ended` are the first request and the last answer. `failures` counts what was not answered 2xx."""

    began: int
    ended: int
    failures: dict[str, int]


class _Campaign:
    """One phase: hands the next events to whichever connection is free and notes the answers."""

    def __init__(self, plan: LoadPlan, phase: Phase, requests: Requests, board: Board) -> None:
        self._plan, self._phase, self._requests, self._board = plan, phase, requests, board
        self._batch = max(plan.batch, 1)
        self._next = phase.first
        self._stop = phase.first + phase.count
        self._open = phase.count
        self._connected: set[_Publisher] = set()
        self._idle: list[_Publisher] = []
        self._again: list[tuple[int, int]] = []
        self._sent_twice: set[int] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._failures: Tally[str] = Tally()
        self._loop = asyncio.get_running_loop()
        self._finished = asyncio.Event()

    async def run(self) -> LoadResult:
        for _ in range(self._plan.connections):
            await self._connect()
        self._began = time.monotonic_ns()
        self._tick()
        try:
            await asyncio.wait_for(self._finished.wait(), self._phase.timeout)
        except TimeoutError:
            self._failures["not answered in time"] += self._open
        ended = time.monotonic_ns()
        for publisher in self._connected:
            publisher.close()
        return LoadResult(began=self._began, ended=ended, failures=dict(self._failures))

    def answered(self, publisher: _Publisher, status: bytes, body: bytes) -> None:
        now = time.monotonic_ns()
        if status[:1] == b"2":
            for number in range(publisher.first, publisher.first + publisher.count):
                self._board.acknowledged[number] = now
            self._board.counters[Counter.ACKNOWLEDGED] += publisher.count
        else:
            self._failures[f"{status.decode()} {body[:200].decode(errors='replace')}"] += publisher.count
        self._settled(publisher.count)
        publisher.count = 0
        if not self._proceed(publisher, now, late=True):
            self._idle.append(publisher)

    def lost(self, publisher: _Publisher, reason: str) -> None:
        """The connection broke. Another takes its place; what was in flight is sent once more, as HTTP clients do.

        A server may close a connection that has been idle in the moment in which it is used again. The event's id
        keeps a second request from publishing it twice.
        """
        self._connected.discard(publisher)
        if publisher in self._idle:
            self._idle.remove(publisher)
        if publisher.count and publisher.first not in self._sent_twice:
            self._sent_twice.add(publisher.first)
            self._again.append((publisher.first, publisher.count))
        elif publisher.count:
            self._failures[f"connection lost: {reason}"] += publisher.count
            self._settled(publisher.count)
        task = self._loop.create_task(self._reconnect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        _, publisher = await self._loop.create_connection(lambda: _Publisher(self), "127.0.0.1", self._plan.port)
        self._connected.add(publisher)
        self._idle.append(publisher)

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except OSError as error:
            if not self._connected:
                self._failures[f"no connection left: {error}"] += self._open
                self._finished.set()

    def _settled(self, count: int) -> None:
        self._open -= count
        if self._open == 0:
            self._finished.set()

    def _tick(self) -> None:
        now = time.monotonic_ns()
        while self._idle and self._proceed(self._idle[-1], now, late=False):
            self._idle.pop()
        if not self._finished.is_set():
            self._loop.call_later(_TICK, self._tick)

    def _proceed(self, publisher: _Publisher, now: int, *, late: bool) -> bool:
        """Give a free connection its next request. False when there is none, or none is due yet.

        At a fixed rate, a request that had to wait for a connection (`late`) is timed from when it was due: a server
        that stalls must not be excused from the requests that it kept from being sent.
        """
        if self._again:
            self._send(publisher, *self._again.pop())
            return True
        if self._next >= self._stop:
            return False
        due = self._due(self._next)
        if due > now:
            return False
        first, count = self._next, min(self._batch, self._stop - self._next)
        self._next += count
        sent = due if late and self._phase.rate else now
        for number in range(first, first + count):
            self._board.sent[number] = sent
        self._send(publisher, first, count)
        return True

    def _send(self, publisher: _Publisher, first: int, count: int) -> None:
        publisher.send(first, count, self._requests.make(first, count))

    def _due(self, number: int) -> int:
        if not self._phase.rate:
            return self._began
        return self._began + int((number - self._phase.first) * _SECOND / self._phase.rate)


class _Publisher(asyncio.Protocol):
    """One kept-alive connection to Waypost with at most one request in flight: `count` events from `first` on."""

    def __init__(self, campaign: _Campaign) -> None:
        self._campaign: _Campaign | None = campaign
        self._received = b""
        self.first = 0
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, first: int, count: int, request: bytes) -> None:
        self.first, self.count = first, count
        self._transport.write(request)

    def close(self) -> None:
        """Hang up; the campaign hears no more of this connection."""
        self._campaign = None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._received + data if self._received else data
        end = data.find(_END_OF_HEAD)
        length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if length is None or len(data) < end + len(_END_OF_HEAD) + int(length[1]):
            self._received = data
            return
        self._received = b""
        if self._campaign is not None:
            self._campaign.answered(self, data[_STATUS], data[end + len(_END_OF_HEAD) :])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._campaign is not None:
            self._campaign.lost(self, str(exc or "closed by the server"))


async def _publish(plan: LoadPlan, phase: Phase, requests: Requests, board: Board) -> LoadResult:
    return await _Campaign(plan, phase, requests, board).run()


def main(pipe: Connection, plan: LoadPlan) -> None:
    """The process: takes a Phase, publishes it, sends a LoadResult; until the other end of the pipe is closed."""
    ignore_interrupts()
    requests = Requests(plan.targets, tag=plan.tag, payload=plan.payload, batch=plan.batch, api_key=plan.api_key)
    with Board(plan.board, plan.events, plan.slots) as board:
        pipe.send("ready")
        while True:
            try:
                phase = pipe.recv()
            except EOFError:
                return
            result = uvloop.run(_publish(plan, phase, requests, board))
            with contextlib.suppress(BrokenPipeError):  # interrupted meanwhile
                pipe.send(result)
