"""A destination's own retry policy: which numbers it may ask for (specification, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from waypost.core import codes
from waypost.core.model import DAY, SECOND
from waypost.core.retry import RetryOn, RetryOverrides

MOST_RETRIES = 100
LONGEST_WAIT_SECONDS = 30 * DAY // SECOND
SHORTEST_WAIT_SECONDS = 0.1
LARGEST_FACTOR = 100
MOST_CODES = 50

_WAIT = f"from {SHORTEST_WAIT_SECONDS} to {LONGEST_WAIT_SECONDS}"

Rule = tuple[Callable[[Any], bool], str]


def is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and is_number(value, 0, MOST_RETRIES)


def _is_wait(value: object) -> bool:
    return is_number(value, SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)


def _is_schedule(value: object) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= MOST_RETRIES and all(map(_is_wait, value))


def are_codes(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= MOST_CODES
        and all(isinstance(code, str) and codes.is_code(code) for code in value)
    )


_CODES: Rule = (are_codes, f"a list of at most {MOST_CODES} {codes.MEANING}")
_RULES: Mapping[str, Rule] = {
    "limit": (_is_limit, f"a whole number from 0 to {MOST_RETRIES}"),
    "base_seconds": (_is_wait, f"a number {_WAIT}"),
    "factor": (lambda value: is_number(value, 1, LARGEST_FACTOR), f"a number from 1 to {LARGEST_FACTOR}"),
    "max_wait_seconds": (_is_wait, f"a number {_WAIT}"),
    "jitter": (lambda value: is_number(value, 0, 1), "a number from 0 to 1"),
    "schedule": (_is_schedule, f"a list of 1 to {MOST_RETRIES} numbers {_WAIT}"),
    "retry_on": (lambda value: value in get_args(RetryOn), f"one of: {', '.join(get_args(RetryOn))}"),
    "retry_codes": _CODES,
    "no_retry_codes": _CODES,
}


def overrides(values: Mapping[str, Any], *, problems: list[str]) -> RetryOverrides | None:
    """The policy in a JSON object; None for an empty or a wrong one, whose faults go to `problems`."""
    found = [sentence for name, value in values.items() if (sentence := _problem(name, value))]
    problems += found
    return None if found or not values else msgspec.convert(values, RetryOverrides)


def _problem(name: str, value: object) -> str | None:
    rule = _RULES.get(name)
    if rule is None:
        return f"retry_policy.{name} is not a field of a retry policy"
    is_right, wanted = rule
    return None if is_right(value) else f"retry_policy.{name} must be {wanted}"
