"""Load generator, sink and server side by side: publishes a phase, waits until all of it is on record, times it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from msgspec import Struct

from bench import load, proc, sink
from bench.board import Board, Counter
from bench.events import TAG_LENGTH
from bench.figures import Spread, spread
from bench.layout import Layout
from bench.load import LoadPlan, LoadResult, Phase
from bench.options import Options
from bench.servers import API_KEY, Server, ServerFailed
from bench.sink import SinkPlan
from bench.worker import Worker

_POLL = 0.002
_GRACE = 10.0
_SECOND = 1_000_000_000


class Measurement(Struct, frozen=True, kw_only=True):
    """The figures of one phase. Rates in events/s, CPU in us/event, `seconds` from first publish to last record."""

    events: int
    seconds: float
    events_per_second: float
    accepted_per_second: float
    delivered_per_second: float
    cpu_us: float
    rig_cpu_us: float
    publish: Spread
    delivery: Spread
    attempts: int
    problems: list[str]


class Rig:
    """A server with its load generator and sink, while they run. Publishes phases and times them."""

    def __init__(
        self, options: Options, arrangement: Layout, server: Server | None, directory: Path, room: int
    ) -> None:
        self._options, self._layout, self._server = options, arrangement, server
        self.tag = secrets.token_hex(TAG_LENGTH // 2)
        self._next = 0
        self._stack = ExitStack()
        self._board = self._stack.enter_context(Board(directory / f"board-{self.tag}", room, options.destinations))
        try:
            self._bring_up(directory / f"board-{self.tag}", room)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _bring_up(self, board: Path, room: int) -> None:
        options, receivers = self._options, self._layout.receivers
        slots = options.destinations
        plan = SinkPlan(board, room, slots, self.tag, tuple(receiver for _, receiver in receivers))
        self._sink = self._stack.enter_context(Worker(sink.main, plan))
        ports: list[int] = self._sink.answer()
        self._subscribe(ports)
        load_plan = LoadPlan(
            board=board,
            events=room,
            slots=slots,
            tag=self.tag,
            port=self._server.port if self._server else ports[0],
            api_key=API_KEY,
            targets=self._layout.targets,
            payload=options.payload,
            connections=options.connections,
            batch=options.batch,
        )
        self._load = self._stack.enter_context(Worker(load.main, load_plan))
        self._load.answer()

    def _subscribe(self, ports: Sequence[int]) -> None:
        if self._server is not None:
            self._server.subscribe(self._layout.subscribers(sink.urls(ports)))

    def phase(self, count: int, *, rate: float = 0.0) -> Measurement:
        """Publish `count` events, wait until every one is delivered and recorded, and say what it took."""
        first, self._next = self._next, self._next + count
        before = self._snapshot()
        plan = Phase(first=first, count=count, rate=rate, timeout=self._options.timeout)
        result: LoadResult = self._load.ask(plan, self._options.timeout + _GRACE)
        problems = [f"{number} events were refused: {what}" for what, number in result.failures.items()]
        problems += self._wait(first, count, before)
        ended = time.monotonic_ns()
        return self._measurement(plan, result, before, ended, problems)

    def _wait(self, first: int, count: int, before: _Snapshot) -> list[str]:
        """Wait until all is delivered, then until all is on record. What is missing when the time is up."""
        numbers = sum(1 for number in self._layout.healthy_events(first, count) if self._board.acknowledged[number])
        expected = before.delivered + numbers * self._options.destinations
        end = time.monotonic() + self._options.timeout
        while self._board.counters[Counter.DELIVERED] < expected and time.monotonic() < end:
            self._check_server()
            time.sleep(_POLL)
        missing = expected - self._board.counters[Counter.DELIVERED]
        if missing > 0:
            return [f"{missing} deliveries of {numbers * self._options.destinations} did not arrive"]
        return self._wait_for_records(before, end)

    def _wait_for_records(self, before: _Snapshot, end: float) -> list[str]:
        if self._server is None or before.recorded is None:
            return []
        while True:
            wanted = self._board.counters[Counter.ACCEPTED] - before.accepted
            recorded = (self._server.recorded() or 0) - before.recorded
            if recorded >= wanted:
                return []
            if time.monotonic() > end:
                return [f"{wanted - recorded} attempts of {wanted} are not on record"]
            time.sleep(_POLL)

    def _check_server(self) -> None:
        if self._server is not None and not Path(f"/proc/{self._server.pid}").exists():
            raise ServerFailed("the server ended while it was measured")

    def _snapshot(self) -> _Snapshot:
        counters = self._board.counters
        return _Snapshot(
            delivered=counters[Counter.DELIVERED],
            accepted=counters[Counter.ACCEPTED],
            attempts=counters[Counter.ACCEPTED] + counters[Counter.REFUSED],
            recorded=self._server.recorded() if self._server else None,
            cpu=proc.cpu_seconds(self._server.pid) if self._server else 0.0,
            rig_cpu=proc.cpu_seconds(self._sink.pid) + proc.cpu_seconds(self._load.pid),
        )

    def _measurement(
        self, phase: Phase, result: LoadResult, before: _Snapshot, ended: int, problems: list[str]
    ) -> Measurement:
        after = self._snapshot()
        first, count = phase.first, phase.count
        seconds = (ended - result.began) / _SECOND
        arrivals = [arrival for number in range(first, first + count) for arrival in self._arrivals(number)]
        return Measurement(
            events=count,
            seconds=seconds,
            events_per_second=count / seconds,
            accepted_per_second=count * _SECOND / (result.ended - result.began),
            delivered_per_second=count * _SECOND / (max(arrivals, default=ended) - result.began),
            cpu_us=(after.cpu - before.cpu) / count * 1e6,
            rig_cpu_us=(after.rig_cpu - before.rig_cpu) / count * 1e6,
            publish=spread(self._publish_times(first, count)),
            delivery=spread(self._delivery_times(first, count)),
            attempts=after.attempts - before.attempts,
            problems=problems,
        )

    def _arrivals(self, number: int) -> list[int]:
        slots = self._options.destinations
        return [arrival for arrival in self._board.arrived[number * slots : (number + 1) * slots] if arrival]

    def _publish_times(self, first: int, count: int) -> list[float]:
        board = self._board
        return [
            (board.acknowledged[number] - board.sent[number]) / _SECOND
            for number in range(first, first + count)
            if board.acknowledged[number]
        ]

    def _delivery_times(self, first: int, count: int) -> list[float]:
        return [
            (arrival - self._board.sent[number]) / _SECOND
            for number in self._layout.healthy_events(first, count)
            for arrival in self._arrivals(number)
        ]

    @property
    def delivered(self) -> int:
        """Deliveries that arrived since the rig was brought up."""
        return self._board.counters[Counter.DELIVERED]


class _Snapshot(Struct, frozen=True, kw_only=True):
    delivered: int
    accepted: int
    attempts: int
    recorded: int | None
    cpu: float
    rig_cpu: float
