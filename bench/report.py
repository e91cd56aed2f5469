"""What the figures look like: a table of medians, ratios of paired runs, JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from bench.figures import Ratio, median, ratio
from bench.measure import Run
from bench.options import Options
from bench.rig import Measurement

CEILING, RIG = "ceiling", "rig alone"
LIMITS = (CEILING, RIG)
"""What no server can surpass; Waypost is related to them, not they to Waypost."""
_MEGABYTE = 1_000_000
_LABEL, _COLUMN = 34, 20


class _Row(Struct, frozen=True):
    """A line of the table: its key in JSON, its label, where the figure comes from, how it is printed."""

    key: str
    label: str
    figure: Callable[[Run], float | None]
    form: str = "{:,.0f}"


def text(options: Options, runs: Sequence[Run]) -> str:
    """The whole report."""
    names = list(dict.fromkeys(run.variant for run in runs))
    lines = ["", _heading(options), "", _cells("", names)]
    lines += [_line(row, names, runs) for row in _ROWS if _anything(row, runs)]
    lines += _ratios(names, runs)
    return "\n".join(lines)


def line(run: Run) -> str:
    """One run, as it is reported while the others are still to come."""
    phase = run.full or run.paced
    assert phase is not None, "a run has at least one phase"
    state = f"; {len(run.all_problems)} PROBLEMS" if run.all_problems else ""
    return (
        f"{run.variant}: {phase.events_per_second:,.0f} events/s, {phase.cpu_us:.0f} us/event, "
        f"publish->delivered p99 {phase.delivery.p99:.1f} ms{state}"
    )


def json(options: Options, runs: Sequence[Run]) -> bytes:
    """Every figure of every run, in the order in which they ran, with the options and the machine."""
    names = list(dict.fromkeys(run.variant for run in runs))
    report = {
        "options": structs.asdict(options) | {"directory": str(options.directory), "json": str(options.json)},
        "machine": _machine(),
        "medians": {name: _medians(name, runs) for name in names},
        "ratios": {f"{ours} : {theirs}": _compare(ours, theirs, runs) for ours, theirs in _pairs(names)},
        "runs": runs,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _full(figure: Callable[[Measurement], float]) -> Callable[[Run], float | None]:
    return lambda run: figure(run.full) if run.full else None


def _paced(figure: Callable[[Measurement], float]) -> Callable[[Run], float | None]:
    return lambda run: figure(run.paced) if run.paced else None


_ROWS = (
    _Row("events_per_second", "events/s, published to recorded", _full(lambda phase: phase.events_per_second)),
    _Row("accepted_per_second", "  answered 202, events/s", _full(lambda phase: phase.accepted_per_second)),
    _Row("delivered_per_second", "  delivered, events/s", _full(lambda phase: phase.delivered_per_second)),
    _Row("cpu_us", "CPU us/event", _full(lambda phase: phase.cpu_us), "{:,.1f}"),
    _Row("publish_p50_ms", "publish p50 ms", _full(lambda phase: phase.publish.p50), "{:,.2f}"),
    _Row("publish_p99_ms", "publish p99 ms", _full(lambda phase: phase.publish.p99), "{:,.2f}"),
    _Row("delivery_p50_ms", "publish->delivered p50 ms", _full(lambda phase: phase.delivery.p50), "{:,.2f}"),
    _Row("delivery_p99_ms", "publish->delivered p99 ms", _full(lambda phase: phase.delivery.p99), "{:,.2f}"),
    _Row("attempts_per_event", "attempts per event", _full(lambda phase: phase.attempts / phase.events), "{:,.2f}"),
    _Row("paced_rate", "at a fixed rate of, events/s", _paced(lambda phase: phase.accepted_per_second)),
    _Row("paced_cpu_us", "  CPU us/event", _paced(lambda phase: phase.cpu_us), "{:,.1f}"),
    _Row("paced_publish_p50_ms", "  publish p50 ms", _paced(lambda phase: phase.publish.p50), "{:,.2f}"),
    _Row("paced_publish_p99_ms", "  publish p99 ms", _paced(lambda phase: phase.publish.p99), "{:,.2f}"),
    _Row("paced_delivery_p50_ms", "  publish->delivered p50 ms", _paced(lambda phase: phase.delivery.p50), "{:,.2f}"),
    _Row("paced_delivery_p99_ms", "  publish->delivered p99 ms", _paced(lambda phase: phase.delivery.p99), "{:,.2f}"),
    _Row("idle_rss_mb", "memory idle MB", lambda run: run.idle_rss / _MEGABYTE, "{:,.1f}"),
    _Row("peak_rss_mb", "memory peak MB", lambda run: run.peak_rss / _MEGABYTE, "{:,.1f}"),
    _Row("disk_bytes_per_event", "disk bytes/event", lambda run: run.disk_bytes_per_event),
    _Row("rig_cpu_us", "the rig's own CPU us/event", lambda run: _either(run).rig_cpu_us, "{:,.1f}"),
)

_SPEEDS: dict[str, Callable[[Run], float | None]] = {
    "events/s": _full(lambda phase: phase.events_per_second),
    "CPU/event": lambda run: _either(run).cpu_us,
}
_LATENCIES: dict[str, Callable[[Run], float | None]] = {
    "publish p50": lambda run: _either_paced(run).publish.p50,
    "publish p99": lambda run: _either_paced(run).publish.p99,
    "publish->delivered p50": lambda run: _either_paced(run).delivery.p50,
    "publish->delivered p99": lambda run: _either_paced(run).delivery.p99,
}


def _either(run: Run) -> Measurement:
    phase = run.full or run.paced
    assert phase is not None, "a run has at least one phase"
    return phase


def _either_paced(run: Run) -> Measurement:
    return run.paced or _either(run)


def _heading(options: Options) -> str:
    machine = _machine()
    shape = f"{options.events:,} events of {options.payload:,} bytes to {options.destinations} destination(s)"
    how = f"{options.batch} a request" if options.batch else "one a request"
    return (
        f"{shape}, {how}, {options.connections} connections, {options.tenants} tenant(s); median of {options.runs}\n"
        f"{machine['python']}, {machine['cores']} cores, {machine['system']}"
    )


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _figures(row: Callable[[Run], float | None], name: str, runs: Iterable[Run]) -> list[float]:
    return [value for run in runs if run.variant == name and (value := row(run)) is not None]


def _anything(row: _Row, runs: Sequence[Run]) -> bool:
    return any(row.figure(run) for run in runs)


def _line(row: _Row, names: Sequence[str], runs: Sequence[Run]) -> str:
    figures = [_figures(row.figure, name, runs) for name in names]
    return _cells(row.label, [row.form.format(median(values)) if any(values) else "-" for values in figures])


def _cells(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def _ratios(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    lines = []
    for ours, theirs in _pairs(names):
        lines += ["", f"{ours} : {theirs} (median of the rounds' ratios, smallest to largest)"]
        compared = _compare(ours, theirs, runs)
        lines += [f"  {what:<{_LABEL - 2}}{_ratio(value):>{_COLUMN}}" for what, value in compared.items()]
    return lines


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Which variants are compared: the first one to the ceiling, the others to the first one."""
    first, *others = names
    return [(first, other) if other in LIMITS else (other, first) for other in others]


def _compare(ours: str, theirs: str, runs: Sequence[Run]) -> dict[str, Ratio]:
    """How one variant compares to another, figure by figure; figures that one of them lacks are left out.

    Latencies are left out against a limit: its fixed rate is another one.
    """
    compared = {}
    for what, figure in (_SPEEDS if theirs in LIMITS else _SPEEDS | _LATENCIES).items():
        mine, others = _figures(figure, ours, runs), _figures(figure, theirs, runs)
        if len(mine) == len(others) and any(mine) and any(others):
            compared[what] = ratio(mine, others)
    return compared


def _ratio(value: Ratio) -> str:
    return f"{value.median:.2f} ({value.least:.2f}-{value.most:.2f})"


def _medians(name: str, runs: Sequence[Run]) -> dict[str, float]:
    figures = {row.key: _figures(row.figure, name, runs) for row in _ROWS}
    return {key: median(values) for key, values in figures.items() if values}
