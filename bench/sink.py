"""The receivers: a bare HTTP/1.1 server in a process of its own that notes when each event arrived."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop
from msgspec import Struct

from bench.board import Board, Counter
from bench.events import marker, number_after
from bench.worker import ignore_interrupts

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nfailed"
_BACKLOG = 1024


class Receiver(Struct, frozen=True):
    """How one receiver behaves: seconds until it answers, share of 500 answers, whether it never answers.

    `slot` tells the receivers of one event apart.
    """

    slot: int = 0
    delay: float = 0.0
    failure_rate: float = 0.0
    hanging: bool = False


class SinkPlan(Struct, frozen=True):
    board: Path
    events: int
    slots: int
    tag: str
    receivers: tuple[Receiver, ...]


class _Book:
    """Enters arrivals on the board and decides on the answer."""

    def __init__(self, board: Board, receiver: Receiver, tag: str) -> None:
        self._board = board
        self._receiver = receiver
        self._marker = marker(tag)
        self._dice = random.Random(receiver.slot)  # the same failures in every run
        self.delay = receiver.delay

    def enter(self, data: bytes, start: int, stop: int) -> bytes | None:
        """The answer to the request whose body is `data[start:stop]`; None for none, ever."""
        arrived = time.monotonic_ns()
        counters = self._board.counters
        at = data.find(self._marker, start, stop)
        if at < 0:
            counters[Counter.STRAY] += 1
            return _OK
        if self._receiver.hanging:
            counters[Counter.HELD] += 1
            return None
        if self._receiver.failure_rate and self._dice.random() < self._receiver.failure_rate:
            counters[Counter.REFUSED] += 1
            return _FAILURE
        self._note(number_after(data, at + len(self._marker)), arrived)
        return _OK

    def _note(self, number: int, arrived: int) -> None:
        place = number * self._board.slots + self._receiver.slot
        if not self._board.arrived[place]:
            self._board.arrived[place] = arrived
            self._board.counters[Counter.DELIVERED] += 1
        self._board.counters[Counter.ACCEPTED] += 1


class _Conversation(asyncio.Protocol):
    """One kept-alive connection from Waypost to a receiver."""

    def __init__(self, book: _Book, loop: asyncio.AbstractEventLoop) -> None:
        self._book = book
        self._loop = loop
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        while (end := data.find(_END_OF_HEAD, at)) >= 0:
            body = end + len(_END_OF_HEAD)
            length = _LENGTH.search(data, at, end + 2)
            stop = body + (int(length[1]) if length else 0)
            if len(data) < stop:
                break
            self._answer(self._book.enter(data, body, stop))
            at = stop
        self._rest = data[at:]

    def _answer(self, answer: bytes | None) -> None:
        if answer is None:
            return
        if self._book.delay:
            self._loop.call_later(self._book.delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _serve(pipe: Connection, plan: SinkPlan) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    with Board(plan.board, plan.events, plan.slots) as board:
        books = [_Book(board, receiver, plan.tag) for receiver in plan.receivers]
        servers = [
            await loop.create_server(partial(_Conversation, book, loop), "127.0.0.1", 0, backlog=_BACKLOG)
            for book in books
        ]
        pipe.send([_port(server) for server in servers])
        loop.add_reader(pipe.fileno(), ended.set)  # the run's own process says nothing more: it closes the pipe
        await ended.wait()
        loop.remove_reader(pipe.fileno())


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def urls(ports: Sequence[int]) -> list[str]:
    return [f"http://127.0.0.1:{port}/events" for port in ports]


def main(pipe: Connection, plan: SinkPlan) -> None:
    """The process: sends the receivers' ports, then serves until the other end of the pipe is closed."""
    ignore_interrupts()
    uvloop.run(_serve(pipe, plan))
