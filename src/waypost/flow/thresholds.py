"""The numbers of an alert rule: which of them a kind takes, and how far they may go (specification, 4.1.4, 4.2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import structs

from waypost.core import codes
from waypost.core.alerts import PARAMETERS, Kind, Thresholds
from waypost.core.model import DAY, SECOND
from waypost.flow.overrides import MOST_CODES, are_codes, is_number

MOST_FAILURES = 1_000_000
LONGEST_WINDOW_SECONDS = DAY // SECOND
LONGEST_SECONDS = 90 * LONGEST_WINDOW_SECONDS
MOST_STEPS = 20

Rule = tuple[Callable[[Any], bool], str]


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_steps(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MOST_STEPS
        and all(_whole(step, 1, 100) for step in value)
        and list(value) == sorted(set(value))
    )


def _optional(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


_SECONDS: Rule = (
    lambda value: is_number(value, 1, LONGEST_SECONDS),
    f"a number of seconds from 1 to {LONGEST_SECONDS}",
)
_COUNT: Rule = (lambda value: _whole(value, 1, MOST_FAILURES), f"a whole number from 1 to {MOST_FAILURES}")
_RULES: Mapping[str, Rule] = {
    "count": _COUNT,
    "steps": (_are_steps, f"a growing list of 1 to {MOST_STEPS} whole percentages from 1 to 100"),
    "percent": (lambda value: is_number(value, 1, 100), "a number from 1 to 100"),
    "min_count": _COUNT,
    "window_seconds": (
        lambda value: is_number(value, 1, LONGEST_WINDOW_SECONDS),
        f"a number of seconds from 1 to {LONGEST_WINDOW_SECONDS}",
    ),
    "age_seconds": _SECONDS,
    "failing_seconds": _SECONDS,
    "all_of": (lambda value: isinstance(value, bool), "true or false"),
    "codes": (are_codes, f"a list of at most {MOST_CODES} {codes.MEANING}"),
    "probe_after_seconds": _SECONDS,
}
_MAY_BE_NULL = {Kind.AUTO_DISABLE: frozenset({"count", "failing_seconds", "probe_after_seconds"})}


def read(kind: Kind, base: Thresholds, changes: Mapping[str, Any], problems: list[str]) -> Thresholds:
    """`base` with the changes of a JSON object laid over it; what is wrong with them goes to `problems`."""
    nullable = _MAY_BE_NULL.get(kind, frozenset())
    found = [sentence for name, value in changes.items() if (sentence := _problem(kind, name, value, nullable))]
    problems += found
    return base if found else msgspec.convert({**structs.asdict(base), **changes}, Thresholds)


def shown(kind: Kind, thresholds: Thresholds) -> dict[str, Any]:
    """The numbers that a kind has."""
    return {name: getattr(thresholds, name) for name in PARAMETERS[kind]}


def _problem(kind: Kind, name: str, value: object, nullable: frozenset[str]) -> str | None:
    if name not in PARAMETERS[kind]:
        known = ", ".join(PARAMETERS[kind]) or "none"
        return f"parameters.{name} is not a parameter of {kind}; it has {known}"
    is_right, wanted = _RULES[name]
    if name in nullable:
        is_right, wanted = _optional(is_right), f"{wanted}, or null"
    return None if is_right(value) else f"parameters.{name} must be {wanted}"
