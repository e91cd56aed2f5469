"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from bench.events import SMALLEST_PAYLOAD, has_facts

_PACED_RATE_WITH_HANGING = 1000.0


class Options(Struct, frozen=True, kw_only=True):
    """What to measure. Sizes in bytes, times in seconds, rates in events/s."""

    events: int
    warmup: int
    payload: int
    destinations: int
    tenants: int
    connections: int
    batch: int
    rate: float
    paced_share: float
    paced_events: int
    failure_rate: float
    slow: int
    slow_delay: float
    hanging: int
    filtered: int
    same_tenant: bool
    prefill: tuple[int, ...]
    runs: int
    ceiling: bool
    rig: bool
    rig_only: bool
    verify: bool
    settings: tuple[str, ...]
    against: tuple[str, ...]
    python: str
    against_python: str | None
    directory: Path | None
    json: Path | None
    timeout: float

    @property
    def receivers(self) -> int:
        """Receivers that answer."""
        return self.tenants * self.destinations


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    if given["hanging"] and not given["rate"]:
        given["rate"] = _PACED_RATE_WITH_HANGING
    for name in ("settings", "against", "prefill"):
        given[name] = tuple(given[name])
    options = Options(**given)
    problem = _problem(options)
    if problem:
        parser.error(problem)
    return options


def live_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser for what looks at live traffic while something else goes on. More options may be added."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{module}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rate", default="300", help="live events/s")
    parser.add_argument("--live", dest="paced_events", default="5000", help="live events of each stretch")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="WAYPOST_NAME=VALUE for the server")
    parser.add_argument("--directory", help="where the databases are put (default: the temporary directory)")
    return parser


def of_live(found: argparse.Namespace) -> Options:
    """What such a parser found; options that it does not have are at their defaults."""
    words = []
    for name, value in vars(found).items():
        if name == "settings":
            words += [word for setting in value for word in ("--set", setting)]
        elif name in Options.__struct_fields__ and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return parse(words)


def _problem(options: Options) -> str | None:
    if options.payload < SMALLEST_PAYLOAD:
        return f"--payload: an event of this benchmark has at least {SMALLEST_PAYLOAD} bytes"
    if options.slow > options.receivers:
        return f"--slow: there are only {options.receivers} receivers (--tenants x --destinations)"
    if options.same_tenant and options.destinations > 1:
        return "--same-tenant: each event goes to one of the tenant's destinations; leave --destinations out"
    for pair in (*options.settings, *options.against):
        if not pair.startswith("WAYPOST_") or "=" not in pair:
            return f"--set and --against take WAYPOST_NAME=VALUE, not {pair!r}"
    if sum(map(bool, (options.hanging, options.prefill, options.filtered))) > 1:
        return "--hanging, --prefill and --filtered are different measurements: run one at a time"
    if options.filtered and not has_facts(options.payload):
        return "--filtered: the filters ask about fields that need a larger --payload"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Starts Waypost, a sink and a load generator; prints events/s, latencies, CPU and memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_load(parser.add_argument_group("what is published"))
    _add_receivers(parser.add_argument_group("who receives"))
    _add_comparison(parser.add_argument_group("what is compared"))
    _add_running(parser.add_argument_group("how it runs"))
    return parser


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--events", type=_count(1), default=20_000, help="events measured in each run")
    group.add_argument("--warmup", type=_count(0), default=1_000, help="events published before, unmeasured")
    group.add_argument("--payload", type=_count(1), default=512, help="bytes of each event's data")
    group.add_argument("--tenants", "--receivers", type=_count(1), default=1, help="tenants, taken in turn")
    group.add_argument("--connections", type=_count(1), default=64, help="connections that publish")
    group.add_argument("--batch", type=_count(0), default=0, help="events per batch request; 0 = single publish")
    group.add_argument("--rate", type=_number(0), default=0.0, help="events/s; 0 = as fast as answers come")
    group.add_argument(
        "--paced-share", type=_number(0), default=0.5, help="second, paced phase at this share; 0 = none"
    )
    group.add_argument("--paced-events", type=_count(1), default=5_000, help="events of the paced phase")


def _add_receivers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--destinations", type=_count(1), default=1, help="destinations that get each event")
    group.add_argument("--failure-rate", type=_number(0, 0.9), default=0.0, help="share of requests answered with 500")
    group.add_argument("--slow", type=_count(0), default=0, help="how many of the receivers are slow")
    group.add_argument("--slow-delay", type=_number(0), default=0.2, help="seconds a slow receiver takes")
    group.add_argument(
        "--hanging",
        type=_count(0),
        default=0,
        help="receivers that never answer, beside the healthy ones; measured with and without, at --rate "
        f"(then {_PACED_RATE_WITH_HANGING:.0f} unless given)",
    )
    group.add_argument(
        "--filtered",
        type=_count(0),
        default=0,
        help="further destinations of each tenant whose filter keeps every event from them; measured with and without",
    )
    group.add_argument(
        "--same-tenant", action="store_true", help="all receivers belong to one tenant, each with a topic of its own"
    )


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--prefill", type=_count(1), action="append", default=[], help="events stored beforehand; may be repeated"
    )
    group.add_argument("--no-ceiling", dest="ceiling", action="store_false", help="leave the ceiling out")
    group.add_argument("--rig", action="store_true", help="also measure load generator and sink alone")
    group.add_argument("--rig-only", action="store_true", help="measure nothing but load generator and sink")
    group.add_argument("--set", dest="settings", action="append", default=[], help="WAYPOST_NAME=VALUE for the server")
    group.add_argument(
        "--against",
        action="append",
        default=[],
        help="WAYPOST_NAME=VALUE: measure a second server that differs in this",
    )
    group.add_argument("--python", default=sys.executable, help="interpreter that has the Waypost to measure")
    group.add_argument("--against-python", help="measure a second Waypost, installed for this interpreter")


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--runs", type=_count(1), default=3, help="rounds; each measures everything once, in turn")
    group.add_argument("--directory", type=Path, help="where the databases are put (default: the temporary directory)")
    group.add_argument("--json", type=Path, help="write every figure of every run to this file")
    group.add_argument("--timeout", type=_number(1), default=300.0, help="seconds after which a phase has failed")
    group.add_argument("--no-verify", dest="verify", action="store_false", help="don't count the attempts by the API")


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text.replace("_", "").replace(",", ""))
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return count


def _number(least: float, most: float | None = None) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}" if most else f"must be at least {least}")
        return value

    return number
