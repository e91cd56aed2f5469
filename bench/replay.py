"""Whether a replay delays live traffic: latencies at a fixed rate without one, and while one runs.

uv run python -m bench.replay
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import figures, options
from bench.layout import layout
from bench.measure import Variant, start
from bench.options import Options
from bench.rig import Measurement, Rig
from bench.servers import API_KEY, ServerFailed, WaypostServer
from bench.worker import WorkerFailed
from waypost.cli.client import Client
from waypost.core.errors import WaypostError

_POLL = 0.1


class Round(Struct, frozen=True, kw_only=True):
    """Live traffic alone and beside a replay; what the replay said in the end, and how long it took in seconds."""

    alone: Measurement
    beside: Measurement
    outlasted: bool
    replay: dict[str, Any]
    seconds: float

    @property
    def problems(self) -> list[str]:
        found = [*self.alone.problems, *self.beside.problems]
        if not self.outlasted:
            found.append("the replay ended before the live traffic beside it did: send more events again")
        if self.replay["delivered"] != self.replay["total"]:
            found.append(f"{self.replay['delivered']} of {self.replay['total']} replayed deliveries succeeded")
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything arrived, live and replayed, 1 when something is missing."""
    chosen = _parse(arguments)
    rounds = []
    try:
        with tempfile.TemporaryDirectory(prefix="waypost-bench-", dir=chosen.directory) as directory:
            for number in range(chosen.runs):
                rounds.append(_round(chosen, Path(directory) / f"run-{number}"))
                print(_line(rounds[-1]), flush=True)
    except (ServerFailed, WorkerFailed, WaypostError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    ratio = figures.ratio([r.beside.delivery.p99 for r in rounds], [r.alone.delivery.p99 for r in rounds])
    print(f"publish->delivered p99, beside : alone   {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})")
    problems = [problem for each in rounds for problem in each.problems]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = options.live_parser("replay", "Sends many events again while others are published.")
    parser.add_argument("--events", default="50000", help="events that are sent again")
    parser.add_argument("--tenants", default="2", help="tenants, taken in turn, each with one receiver")
    parser.add_argument("--runs", default="3", help="rounds, each on a database of its own")
    parser.set_defaults(paced_events="10000")
    return options.of_live(parser.parse_args(arguments))


def _round(chosen: Options, home: Path) -> Round:
    """Whatever is published before the replay is sent again, to the receivers that live traffic goes to as well."""
    home.mkdir()
    with ExitStack() as stack:
        server = start(chosen, Variant(name="waypost", kind="waypost", python=chosen.python), home, stack)
        assert isinstance(server, WaypostServer)
        room = chosen.events + 2 * chosen.paced_events
        rig = stack.enter_context(Rig(chosen, layout(chosen, 0), server, home, room))
        rig.phase(chosen.events)
        published = datetime.now(UTC).isoformat()
        alone = rig.phase(chosen.paced_events, rate=chosen.rate)
        client, began = Client(f"http://127.0.0.1:{server.port}", API_KEY), time.monotonic()
        replay = client.request("POST", "/replays", {"events": {"time": {"lte": published}}})
        beside = rig.phase(chosen.paced_events, rate=chosen.rate)
        path = f"/replays/{replay['id']}"
        outlasted = client.request("GET", path)["status"] == "running"
        while (replay := client.request("GET", path))["status"] == "running":
            time.sleep(_POLL)
        seconds = time.monotonic() - began
        return Round(alone=alone, beside=beside, outlasted=outlasted, replay=replay, seconds=seconds)


def _line(each: Round) -> str:
    alone, beside, replay = each.alone.delivery, each.beside.delivery, each.replay
    return (
        f"alone p50 {alone.p50:.1f} p99 {alone.p99:.1f} ms   beside p50 {beside.p50:.1f} p99 {beside.p99:.1f} ms   "
        f"{replay['delivered']:,} sent again in {each.seconds:.0f} s ({replay['delivered'] / each.seconds:.0f}/s)"
    )


if __name__ == "__main__":
    sys.exit(main())
