"""The command: measures what the options ask for, round by round, and reports it."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bench import measure, options, report
from bench.measure import Run, Variant
from bench.options import Options
from bench.servers import ServerFailed
from bench.worker import WorkerFailed
from waypost.core.errors import WaypostError

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every event was delivered and recorded in every run, 1 when something is missing, 130 after Ctrl-C."""
    chosen = options.parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="waypost-bench-", dir=chosen.directory) as directory:
            runs = _measure(chosen, Path(directory))
    except KeyboardInterrupt:
        _say("interrupted; everything that was started has ended")
        return _INTERRUPTED
    except (ServerFailed, WorkerFailed, WaypostError) as error:
        _say(f"FAILED: {error}")
        return 1
    print(report.text(chosen, runs))
    if chosen.json:
        chosen.json.write_bytes(report.json(chosen, runs))
    problems = [f"FAILED: {run.variant}: {problem}" for run in runs for problem in run.all_problems]
    for problem in problems:
        _say(problem)
    return 1 if problems else 0


def _measure(chosen: Options, directory: Path) -> list[Run]:
    variants = [*_variants(chosen, directory)]
    runs = []
    for number in range(1, chosen.runs + 1):
        for variant in variants:
            run = measure.run(chosen, variant, directory)
            _say(f"round {number}/{chosen.runs}: {report.line(run)}")
            runs.append(run)
    return runs


def _variants(chosen: Options, directory: Path) -> Iterator[Variant]:
    """What is compared. The first one is what the others are related to."""
    rig = Variant(name=report.RIG, kind="rig", python=chosen.python)
    if chosen.rig_only:
        yield rig
        return
    if chosen.hanging:
        yield _waypost(chosen, "none hanging")
        yield _waypost(chosen, f"{chosen.hanging} hanging", hanging=chosen.hanging)
        return
    if chosen.filtered:
        yield _waypost(chosen, "none filtered")
        yield _waypost(chosen, f"{chosen.filtered} filtered", filtered=chosen.filtered)
        return
    if chosen.prefill:
        for count in chosen.prefill:
            yield _waypost(chosen, f"{count:,} stored", prefilled=_prefilled(chosen, count, directory))
    else:
        yield _waypost(chosen, "waypost")
    if chosen.against or chosen.against_python:
        settings = dict(pair.split("=", 1) for pair in chosen.against)
        python = chosen.against_python or chosen.python
        yield Variant(name="against", kind="waypost", python=python, settings=settings)
    if chosen.ceiling:
        yield Variant(name=report.CEILING, kind="ceiling", python=chosen.python)
    if chosen.rig:
        yield rig


def _waypost(chosen: Options, name: str, **more: Any) -> Variant:
    return Variant(name=name, kind="waypost", python=chosen.python, **more)


def _prefilled(chosen: Options, count: int, directory: Path) -> Path:
    began = time.monotonic()
    home = measure.prefilled(chosen, count, directory)
    _say(f"stored {count:,} events in {time.monotonic() - began:.0f} s")
    return home


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
