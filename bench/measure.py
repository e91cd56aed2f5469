"""One run: a variant brought up, warmed up, loaded, checked and taken down."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from bench import proc
from bench.layout import layout, server_settings
from bench.options import Options
from bench.rig import Measurement, Rig
from bench.servers import CeilingServer, WaypostServer


class Variant(Struct, frozen=True, kw_only=True):
    """One of the things that are compared. `settings` are environment variables, `prefilled` holds a database."""

    name: str
    kind: Literal["waypost", "ceiling", "rig"]
    python: str
    settings: dict[str, str] = {}
    hanging: int = 0
    filtered: int = 0
    prefilled: Path | None = None


class Run(Struct, frozen=True, kw_only=True):
    """All figures of one variant in one round: as fast as it goes (`full`), at a fixed rate (`paced`); bytes."""

    variant: str
    full: Measurement | None
    paced: Measurement | None
    idle_rss: int
    peak_rss: int
    disk_bytes_per_event: float
    problems: list[str]

    @property
    def all_problems(self) -> list[str]:
        phases = [phase for phase in (self.full, self.paced) if phase is not None]
        return [*self.problems, *(problem for phase in phases for problem in phase.problems)]


def run(options: Options, variant: Variant, directory: Path) -> Run:
    """Measure one variant once, in a directory of its own that is removed afterwards."""
    home = directory / f"run-{secrets.token_hex(4)}"
    home.mkdir()
    try:
        with ExitStack() as stack:
            return _run(options, variant, home, stack)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(options: Options, variant: Variant, home: Path, stack: ExitStack) -> Run:
    options = _suited(options, variant)
    server = start(options, variant, variant.prefilled or home, stack)
    arrangement = layout(options, variant.hanging, variant.filtered)
    room = options.warmup + options.events + options.paced_events
    rig = stack.enter_context(Rig(options, arrangement, server, home, room))
    idle = proc.resident_bytes(server.pid) if server else 0
    problems = rig.phase(options.warmup, rate=options.rate).problems if options.warmup else []
    disk = server.disk_bytes() if server else 0
    full = rig.phase(options.events, rate=options.rate)
    grown = (server.disk_bytes() if server else 0) - disk
    paced = _paced(options, variant, rig, full)
    return Run(
        variant=variant.name,
        full=None if options.rate else full,
        paced=full if options.rate else paced,
        idle_rss=idle,
        peak_rss=proc.resident_bytes(server.pid, "VmHWM") if server else 0,
        disk_bytes_per_event=grown / options.events,
        problems=problems + _verify(options, server, rig),
    )


def _suited(options: Options, variant: Variant) -> Options:
    """The options as far as they make sense for a variant: only Waypost tries again, only servers fan out."""
    if variant.kind == "waypost":
        return options
    if variant.kind == "ceiling":
        return structs.replace(options, failure_rate=0.0)
    return structs.replace(options, failure_rate=0.0, batch=0, destinations=1, slow=0)


def start(
    options: Options, variant: Variant, directory: Path, stack: ExitStack
) -> WaypostServer | CeilingServer | None:
    """The variant's server, running until the stack unwinds; None when the rig is measured alone."""
    if variant.kind == "waypost":
        settings = server_settings(options, variant.settings)
        return stack.enter_context(WaypostServer(directory, settings, variant.python))
    if variant.kind == "ceiling":
        return stack.enter_context(CeilingServer(directory, variant.python))
    return None


def _paced(options: Options, variant: Variant, rig: Rig, full: Measurement) -> Measurement | None:
    if options.rate or not options.paced_share or variant.kind == "rig" or full.problems:
        return None
    return rig.phase(options.paced_events, rate=full.events_per_second * options.paced_share)


def _verify(options: Options, server: WaypostServer | CeilingServer | None, rig: Rig) -> list[str]:
    if not options.verify or not isinstance(server, WaypostServer):
        return []
    recorded = server.count_attempts(rig.tag)
    if recorded == rig.delivered:
        return []
    return [f"the API lists successful attempts for {recorded} deliveries, but {rig.delivered} arrived"]


def prefilled(options: Options, count: int, directory: Path) -> Path:
    """The directory of a new database with `count` settled events of the tenants that will be measured."""
    from bench.prefill import prefill  # noqa: PLC0415  a second of imports that other measurements do without

    home = directory / f"prefilled-{count}"
    home.mkdir()
    targets = layout(options, 0).targets
    prefill(home, count, targets=targets, destinations=options.destinations, payload=options.payload)
    return home
