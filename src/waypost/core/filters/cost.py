"""What a match of a filter costs at most, as a number that can be bounded before the filter is used."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from waypost.core.filters.ast import (
    Contains,
    EndsWith,
    FoundIn,
    InNetwork,
    Matches,
    StartsWith,
    Test,
    Wildcard,
    below,
    every,
)
from waypost.core.filters.errors import FilterError
from waypost.core.filters.limits import FilterLimits

_WEIGHTS: Mapping[type[Test], int] = MappingProxyType(
    {Contains: 2, StartsWith: 2, EndsWith: 2, FoundIn: 2, Wildcard: 5, InNetwork: 5, Matches: 20}
)


def cost(test: Test) -> int:
    """The sum of the conditions' weights; questions made of others cost what these cost."""
    return sum(_WEIGHTS.get(type(part), 1) for part in every(test) if not below(part))


def check_cost(test: Test, limits: FilterLimits) -> int:
    """What it costs. Raises FilterError when that is too much."""
    total = cost(test)
    if total > limits.max_cost:
        raise FilterError(
            f"the filter costs {total}, and {limits.max_cost} is allowed: use fewer or simpler conditions"
        )
    return total
