"""Whether hostile tenants, brokers and strangers hurt the others: a tenant's latencies without and with attacks.

uv run python -m bench.hostile
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from bench import attacks, figures, options, proc
from bench.attacks import ATTACKS, Plan
from bench.layout import layout
from bench.measure import Variant, start
from bench.options import Options
from bench.rig import Measurement, Rig
from bench.servers import ServerFailed, WaypostServer
from bench.worker import Worker, WorkerFailed
from waypost.core.errors import WaypostError

TOGETHER = "all together"
_READY = 120.0
_STOP = 120.0
_MOST_SHOWN = 4


class Targets(Struct, frozen=True):
    """What the other tenant may notice: its p99 so many times larger, and the server's peak in MB."""

    ratio: float
    memory: float


class Row(Struct, frozen=True, kw_only=True):
    """One attack in one round. `peak` in bytes; `answers` how often the server gave the attackers which answer."""

    attack: str
    without: Measurement
    beside: Measurement
    peak: int
    answers: dict[str, int]

    def problems(self) -> list[str]:
        return [f"{self.attack}: {problem}" for problem in (*self.without.problems, *self.beside.problems)]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the other tenant stays within the targets, 1 when it does not, or lost an event."""
    found = _parser().parse_args(arguments)
    targets, chosen = Targets(found.most_ratio, found.most_memory), options.of_live(_only_options(found))
    names = [*(found.attacks or ATTACKS), *([] if found.attacks else [TOGETHER])]
    rows: list[Row] = []
    print(_HEADING, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="waypost-bench-", dir=chosen.directory) as directory:
            for number in range(chosen.runs):
                for row in _round(chosen, names, number, Path(directory) / f"run-{number}"):
                    rows.append(row)
                    print(_line(row), flush=True)
    except (ServerFailed, WorkerFailed, WaypostError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    if found.json:
        found.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    problems = [problem for row in rows for problem in row.problems()] + list(_missed(rows, names, targets))
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = options.live_parser("hostile", "Attacks a server while a tenant publishes, one attack after another.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)} (default: all)")
    parser.add_argument("--runs", default="1", help="rounds, each on a server of its own")
    parser.add_argument("--most-ratio", type=float, default=2.0, help="target: p99 with an attack to p99 without")
    parser.add_argument("--most-memory", type=float, default=400.0, help="target: peak resident memory, in MB")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.set_defaults(rate="200", paced_events="1000")
    return parser


def _only_options(found: argparse.Namespace) -> argparse.Namespace:
    unknown = [name for name in found.attacks if name not in ATTACKS]
    if unknown:
        _parser().error(f"there is no attack {unknown[0]!r}; there are {', '.join(ATTACKS)}")
    return argparse.Namespace(**{name: value for name, value in vars(found).items() if name not in {"attacks", "json"}})


def _round(chosen: Options, names: Sequence[str], number: int, home: Path) -> Iterator[Row]:
    """All attacks on one server; the tenant is measured before each, and then beside it."""
    home.mkdir()
    with ExitStack() as stack:
        server = start(chosen, Variant(name="waypost", kind="waypost", python=chosen.python), home, stack)
        assert isinstance(server, WaypostServer)
        room = chosen.paced_events * 2 * len(names) + chosen.paced_events
        rig = stack.enter_context(Rig(chosen, layout(chosen, 0), server, home, room))
        rig.phase(chosen.paced_events, rate=chosen.rate)
        for attack in names:
            yield _one(chosen, attack, number, server, rig)


def _one(chosen: Options, attack: str, number: int, server: WaypostServer, rig: Rig) -> Row:
    without = rig.phase(chosen.paced_events, rate=chosen.rate)
    proc.forget_peak(server.pid)
    names = tuple(ATTACKS) if attack == TOGETHER else (attack,)
    with Worker(attacks.main, Plan(server.port, names, number if attack != TOGETHER else number + 1_000)) as worker:
        worker.answer(_READY)
        beside = rig.phase(chosen.paced_events, rate=chosen.rate)
        peak = proc.resident_bytes(server.pid, "VmHWM")
        answers = worker.ask("stop", _STOP)
    return Row(attack=attack, without=without, beside=beside, peak=peak, answers=answers)


def _missed(rows: Sequence[Row], names: Sequence[str], targets: Targets) -> Iterator[str]:
    for name in names:
        mine = [row for row in rows if row.attack == name]
        for what in ("publish", "delivery"):
            ratio = figures.median([_ratio(row, what) for row in mine])
            if ratio > targets.ratio:
                yield f"{name}: the other tenant's {what} p99 is {ratio:.1f} times as long as without it"
    peak = max((row.peak for row in rows), default=0) / 1e6
    if peak > targets.memory:
        yield f"the server took {peak:.0f} MB of memory"


def _ratio(row: Row, what: str) -> float:
    before = getattr(row.without, what).p99
    return float(getattr(row.beside, what).p99 / before) if before else 0.0


_HEADING = (
    f"{'':14}{'publish p50, p99 ms':>34}{'publish->delivered p50, p99 ms':>40}\n"
    f"{'attack':14}{'without':>14}{'beside':>14}{'x':>6}{'without':>16}{'beside':>16}{'x':>8}{'peak MB':>9}  answers"
)


def _line(row: Row) -> str:
    shown = sorted(row.answers.items(), key=lambda pair: -pair[1])[:_MOST_SHOWN]
    parts = [f"{row.attack:14}"]
    for what, width in (("publish", 14), ("delivery", 16)):
        for side in (row.without, row.beside):
            spread = getattr(side, what)
            parts.append(f"{f'{spread.p50:.1f} {spread.p99:.1f}':>{width}}")
        parts.append(f"{_ratio(row, what):>{width // 2 - 1}.1f}")
    parts.append(f"{row.peak / 1e6:>9.0f}  ")
    return "".join(parts) + " ".join(f"{answer}x{count}" for answer, count in shown)


if __name__ == "__main__":
    sys.exit(main())
