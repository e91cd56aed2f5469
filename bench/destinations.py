"""What a destination type costs: events a second and CPU per event, through the seam that deliveries go through.

    python -m bench.destinations [TYPE ...] [--events 20000] [--concurrency 64] [--payload 512] [--json FILE]

Each type connects once and sends from `--concurrency` tasks, as the dispatcher does; one type at a time. Servers come
from `bench/stages`; where one is not on this machine, its type is named at the end and the exit status is 1. With
`--config KEY=VALUE` and `--credential KEY=VALUE`, one type sends to a server of your own.
The CPU is this process's alone (user + system, event loop included), not the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from bench.figures import Spread, median, spread
from bench.stages import Stage, StageOf, Unavailable, stages
from waypost.connect.connector import Connection, Message, Tools
from waypost.connect.registry import Registry
from waypost.core.message import merged_metadata
from waypost.core.model import SECOND, Destination, Event
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver, SystemResolver

_WARMUP_SHARE = 20
"""One event in this many is sent before, unmeasured."""


class Round(Struct, frozen=True):
    """One stretch of sending. `cpu` in microseconds an event; the latency is that of one send."""

    events_per_second: float
    cpu: float
    latency: Spread


class Result(Struct, frozen=True):
    type: str
    server: str
    rounds: list[Round]

    def line(self) -> str:
        speed = median([each.events_per_second for each in self.rounds])
        cpu = median([each.cpu for each in self.rounds])
        p50 = median([each.latency.p50 for each in self.rounds])
        p99 = median([each.latency.p99 for each in self.rounds])
        return f"{self.type:18} {speed:9,.0f} {cpu:9.1f} {p50:9.2f} {p99:9.2f}  {self.server}"


HEAD = f"{'type':18} {'events/s':>9} {'us/event':>9} {'p50 ms':>9} {'p99 ms':>9}  server"


def message(number: int, body: bytes) -> Message:
    now = time.time_ns() // 1000
    event = Event(seq=number, id=f"evt_{number:012}", tenant_id="bench", topic="order.created", time=now, data=body)
    return Message(
        event=event, metadata=merged_metadata(event, None, sent_at=now), attempt=1, manual=False, sent_at=now
    )


def payload(size: int) -> bytes:
    start, end = b'{"customer":"c_42","note":"', b'"}'
    return start + b"x" * max(0, size - len(start) - len(end)) + end


async def send_all(connection: Connection, count: int, concurrency: int, body: bytes) -> list[float]:
    """Send so many events; the latency of each in seconds. Raises what a send raises."""
    latencies: list[float] = []
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            began = time.perf_counter()
            await connection.send(message(number, body))
            latencies.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return latencies


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(connection: Connection, options: argparse.Namespace) -> list[Round]:
    body = payload(options.payload)
    await send_all(connection, max(1, options.events // _WARMUP_SHARE), options.concurrency, body)
    rounds = []
    for _ in range(options.rounds):
        gc.collect()
        began, used = time.perf_counter(), _cpu()
        latencies = await send_all(connection, options.events, options.concurrency, body)
        wall, used = time.perf_counter() - began, _cpu() - used
        rounds.append(Round(options.events / wall, used / options.events * 1e6, spread(latencies)))
    return rounds


async def run(name: str, stage: Stage, options: argparse.Namespace) -> Result:
    guard = AddressGuard([ip_network("127.0.0.0/8"), ip_network("::1/128")])
    resolver = GuardedResolver(SystemResolver(), guard)
    http = HttpClient(HttpSettings(ca_bundle=stage.ca_bundle), resolver, guard)
    tools = Tools(http=http, guard=guard, resolver=resolver, options=stage.options)
    await http.start()
    try:
        connection = await Registry.discover()[name].connect(_destination(name, stage), tools)
        try:
            return Result(name, stage.server, await measure(connection, options))
        finally:
            await connection.close()
    finally:
        await http.close()


def _destination(name: str, stage: Stage) -> Destination:
    now = time.time_ns() // 1000 // SECOND * SECOND
    return Destination(
        no=1,
        id="des_bench",
        tenant_id="bench",
        type=name,
        topics=("*",),
        config=stage.config,
        credentials=stage.credentials,
        created_at=now,
        updated_at=now,
    )


# the command line


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.destinations", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("types", nargs="*", metavar="TYPE", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--events", type=int, default=20_000, help="events in each round")
    parser.add_argument("--concurrency", type=int, default=64, help="sends in flight")
    parser.add_argument("--payload", type=int, default=512, help="bytes of each event's data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--config", action="append", default=[], type=_pair, metavar="KEY=VALUE")
    parser.add_argument("--credential", action="append", default=[], type=_pair, metavar="KEY=VALUE")
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


@contextlib.contextmanager
def _own(options: argparse.Namespace) -> Iterator[Stage]:
    yield Stage(config=dict(options.config), credentials=dict(options.credential), server="your own")


def main(arguments: Sequence[str] | None = None) -> None:
    known = stages()
    parser = _parser(list(known))
    options = parser.parse_args(arguments)
    own = bool(options.config or options.credential)
    if own and len(options.types) != 1:
        parser.error("--config and --credential are for one TYPE")
    names = options.types or list(known)
    unknown = [name for name in names if name not in known and not own]
    if unknown:
        parser.error(f"there is no stage for {', '.join(unknown)}: known are {', '.join(known)}")
    results, unavailable = _run_all({name: partial(_own, options) if own else known[name] for name in names}, options)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    if unavailable:
        parser.exit(1, "".join(f"{name} was not measured: {why}\n" for name, why in unavailable.items()))


def _run_all(chosen: Mapping[str, StageOf], options: argparse.Namespace) -> tuple[list[Result], dict[str, str]]:
    """Print and return what was measured, and the reasons why the others were not."""
    results, unavailable = [], {}
    print(HEAD)
    for name, stage_of in chosen.items():
        try:
            with stage_of() as stage:
                results.append(uvloop.run(run(name, stage, options)))
        except Unavailable as error:
            unavailable[name] = str(error)
            continue
        print(results[-1].line(), flush=True)
    return results, unavailable


if __name__ == "__main__":
    main()
