"""Whether removing what is too old delays publishing, and whether the file stops to grow.

uv run python -m bench.retention
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from bench import options
from bench.layout import layout
from bench.measure import Variant, start
from bench.options import Options
from bench.prefill import prefill
from bench.rig import Measurement, Rig
from bench.servers import API_KEY, ServerFailed, WaypostServer
from bench.worker import WorkerFailed
from waypost.cli.client import Client
from waypost.core.errors import WaypostError
from waypost.core.model import DAY

_OLD = timedelta(days=2)
_KEPT = {
    "WAYPOST_RETENTION_EVENTS": "86400",
    "WAYPOST_RETENTION_INTERVAL": "1",
    "WAYPOST_RETENTION_CLOCK_PATIENCE": "1",  # the record of the past was written just now, which looks like a step
}
_MOST = 500
"""Stretches of live traffic beside the removal."""
_UNUSED = 0.02
"""Share of a file that may be free although it grows."""
_FOR_EVER = {"WAYPOST_RETENTION_EVENTS": "0"}


class File(Struct, frozen=True):
    """A database file: its size, how many events are in it, and the share of it that is free for what comes next."""

    bytes: int
    events: int
    free: float

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:,.0f} MB for {self.events:,} events, {self.free:.0%} of it free"


class Outcome(Struct, frozen=True, kw_only=True):
    """Live traffic alone and while events are removed, in stretches of the same length; the file at three times."""

    alone: list[Measurement]
    beside: list[Measurement]
    seconds: float
    full: File
    removed: File
    refilled: File


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all went well, 1 when a publish took too long, the file grew, or an event is missing."""
    chosen, limit = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="waypost-bench-", dir=chosen.directory) as directory:
            outcome = _measure(chosen, Path(directory))
    except (ServerFailed, WorkerFailed, WaypostError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print(_text(chosen, outcome))
    problems = list(_problems(outcome, limit))
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parse(arguments: Sequence[str] | None) -> tuple[Options, float]:
    parser = options.live_parser(
        "retention", "Removes old events while others are published; looks at the slowest publish and at the file."
    )
    parser.add_argument("--events", default="30000", help="old events; the full size is 1000000")
    parser.add_argument("--tenants", default="10", help="tenants, taken in turn, each with one receiver")
    parser.add_argument("--payload", default="512", help="bytes of each event's data")
    parser.add_argument("--limit", type=float, default=250.0, help="milliseconds that a publish may take at most")
    parser.set_defaults(rate="500", paced_events="2500")
    found = parser.parse_args(arguments)
    return options.of_live(found), found.limit


def _measure(chosen: Options, home: Path) -> Outcome:
    prefill(
        home,
        chosen.events,
        targets=layout(chosen, 0).targets,
        destinations=chosen.destinations,
        payload=chosen.payload,
        age=_OLD // timedelta(days=1) * DAY,
    )
    with _running(chosen, home, _FOR_EVER) as (_, rig):
        alone = [_stretch(chosen, rig) for _ in range(4)]
    full = _file(home)
    with _running(chosen, home, _KEPT) as (client, rig):
        began, beside = time.monotonic(), [_stretch(chosen, rig)]
        while _is_there(client) and len(beside) < _MOST:
            beside.append(_stretch(chosen, rig))
        seconds = time.monotonic() - began
    removed = _file(home)
    prefill(
        home, chosen.events, targets=layout(chosen, 0).targets, destinations=chosen.destinations, payload=chosen.payload
    )
    return Outcome(alone=alone, beside=beside, seconds=seconds, full=full, removed=removed, refilled=_file(home))


@contextlib.contextmanager
def _running(chosen: Options, home: Path, settings: dict[str, str]) -> Iterator[tuple[Client, Rig]]:
    with ExitStack() as stack:
        variant = Variant(name="waypost", kind="waypost", python=chosen.python, settings=settings)
        server = start(chosen, variant, home, stack)
        assert isinstance(server, WaypostServer)
        rig = stack.enter_context(Rig(chosen, layout(chosen, 0), server, home, _MOST * chosen.paced_events))
        yield Client(f"http://127.0.0.1:{server.port}", API_KEY), rig


def _stretch(chosen: Options, rig: Rig) -> Measurement:
    return rig.phase(chosen.paced_events, rate=chosen.rate)


def _is_there(client: Client) -> bool:
    """Whether an old event is left."""
    before = datetime.now(UTC) - _OLD + timedelta(days=1)
    found: dict[str, Any] = client.request("GET", f"/events?{urlencode({'time[lt]': before.isoformat(), 'limit': 1})}")
    return bool(found["models"])


def _file(home: Path) -> File:
    with contextlib.closing(sqlite3.connect(home / "waypost.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        asked = ("PRAGMA freelist_count", "PRAGMA page_count", "SELECT count(*) FROM events")
        free, pages, events = (db.execute(sql).fetchone()[0] for sql in asked)
    return File((home / "waypost.db").stat().st_size, events, free / pages)


def _problems(outcome: Outcome, limit: float) -> Iterator[str]:
    if len(outcome.beside) == _MOST:
        yield "removing took longer than the live traffic beside it: publish longer stretches"
    for each in (*outcome.alone, *outcome.beside):
        yield from each.problems
    slowest = max(each.publish.largest for each in outcome.beside)
    if slowest > limit:
        yield f"a publish took {slowest:.0f} ms while events were removed; the limit is {limit:.0f} ms"
    if outcome.refilled.bytes > outcome.full.bytes and outcome.refilled.free > _UNUSED:
        yield "the file grew although a part of it was free"


def _text(chosen: Options, outcome: Outcome) -> str:
    rows = [
        _line("alone", outcome.alone),
        _line("while removing", outcome.beside),
        f"{chosen.events:,} events removed in {outcome.seconds:.0f} s ({chosen.events / outcome.seconds:,.0f}/s)",
        f"file before    {outcome.full}",
        f"file after     {outcome.removed}",
        f"file refilled  {outcome.refilled}",
    ]
    return "\n".join(rows)


def _line(name: str, stretches: Sequence[Measurement]) -> str:
    p50, p99 = (max(getattr(each.publish, field) for each in stretches) for field in ("p50", "p99"))
    largest = max(each.publish.largest for each in stretches)
    worst = max(each.delivery.p99 for each in stretches)
    return (
        f"{name:15} publish p50 {p50:6.1f}  p99 {p99:6.1f}  slowest {largest:6.1f} ms"
        f"   publish->delivered p99 {worst:6.1f} ms   (the worst of {len(stretches)} stretches)"
    )


if __name__ == "__main__":
    sys.exit(main())
