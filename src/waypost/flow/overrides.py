"""A destination's own retry policy: which numbers it may ask for (specification, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec
from msgspec import Struct

from waypost.core import codes
from waypost.core.model import DAY, SECOND
from waypost.core.retry import RetryOn, RetryOverrides

MOST_RETRIES = 100
LONGEST_WAIT_SECONDS = 30 * DAY // SECOND
SHORTEST_WAIT_SECONDS = 0.1
LARGEST_FACTOR = 100
MOST_CODES = 50

Rule = tuple[Callable[[Any], bool], str]


def is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def are_codes(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= MOST_CODES
        and all(isinstance(code, str) and codes.is_code(code) for code in value)
    )


_CODES: Rule = (are_codes, f"a list of at most {MOST_CODES} {codes.MEANING}")


class OverrideBounds(Struct, frozen=True, kw_only=True):
    """How far a retry policy may go: retries, and seconds to wait. As they stand here they hold for everybody."""

    retries: int = MOST_RETRIES
    shortest_wait: float = SHORTEST_WAIT_SECONDS
    longest_wait: float = LONGEST_WAIT_SECONDS

    def rules(self) -> Mapping[str, Rule]:
        """What each field has to be, and the words for it."""
        waits = f"from {self.shortest_wait:g} to {self.longest_wait:.12g}"
        return {
            "limit": (self._is_limit, f"a whole number from 0 to {self.retries}"),
            "base_seconds": (self._is_wait, f"a number {waits}"),
            "factor": (lambda value: is_number(value, 1, LARGEST_FACTOR), f"a number from 1 to {LARGEST_FACTOR}"),
            "max_wait_seconds": (self._is_wait, f"a number {waits}"),
            "jitter": (lambda value: is_number(value, 0, 1), "a number from 0 to 1"),
            "schedule": (self._is_schedule, f"a list of 1 to {self.retries} numbers {waits}"),
            "retry_on": (lambda value: value in get_args(RetryOn), f"one of: {', '.join(get_args(RetryOn))}"),
            "retry_codes": _CODES,
            "no_retry_codes": _CODES,
        }

    def _is_limit(self, value: object) -> bool:
        return isinstance(value, int) and is_number(value, 0, self.retries)

    def _is_wait(self, value: object) -> bool:
        return is_number(value, self.shortest_wait, self.longest_wait)

    def _is_schedule(self, value: object) -> bool:
        return isinstance(value, list | tuple) and 0 < len(value) <= self.retries and all(map(self._is_wait, value))


HARD = OverrideBounds()


def overrides(
    values: Mapping[str, Any],
    *,
    problems: list[str],
    standing: Mapping[str, Any] | None = None,
    tenants: OverrideBounds | None = None,
) -> RetryOverrides | None:
    """The policy in a JSON object; None for an empty or a wrong one, whose faults go to `problems`.

    For a tenant `tenants` are the bounds of whatever differs from what is `standing`.
    """
    found = _problems(values, HARD)
    if not found and tenants is not None:
        changed = {name: value for name, value in values.items() if value != (standing or {}).get(name)}
        found = [f"{sentence}, unless an API key sets it" for sentence in _problems(changed, tenants)]
    problems += found
    return None if found or not values else msgspec.convert(values, RetryOverrides)


def _problems(values: Mapping[str, Any], bounds: OverrideBounds) -> list[str]:
    return [sentence for name, value in values.items() if (sentence := _problem(name, value, bounds))]


def _problem(name: str, value: object, bounds: OverrideBounds) -> str | None:
    rule = bounds.rules().get(name)
    if rule is None:
        return f"retry_policy.{name} is not a field of a retry policy"
    is_right, wanted = rule
    return None if is_right(value) else f"retry_policy.{name} must be {wanted}"
