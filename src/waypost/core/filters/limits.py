"""How much a filter may ask for. The bounds hold whatever the dialect, and before anything recurses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from msgspec import Struct

from waypost.core.filters.errors import Pointer, refuse


class FilterLimits(Struct, frozen=True, kw_only=True):
    """The bounds of one filter. A filter beyond one of them is refused when it is saved.

    `max_depth`: nesting of objects, lists and parentheses, and the parts of a path. `max_characters`: all keys and
    texts together, or the length of a query. `max_values`: objects, lists and scalars in a JSON filter. `max_cost`:
    the sum over all conditions, each weighed by what a match costs (1 for a comparison, 2 for a search in text, 5
    for a wildcard or an address range, 20 for a regular expression). `max_regex_characters` and `max_regex_bytes`:
    the text of one regular expression, and the memory of its compiled form with its cache. `max_alternatives`: what
    the `$or`s of an EventBridge pattern multiply to.

    `max_steps`: what all filters of a tenant may spend on one event together (`waypost.core.filters.price`); a filter
    that needs more than it can get is too costly. `max_data_values`: filters read no data that may hold more values
    than this, counted by its commas and opening brackets. `max_batch_steps`: what they may spend on all events of a
    batch.

    `max_destination_cost`, `max_destination_characters` and `max_destination_values` bound all filters of a
    destination together.
    """

    max_depth: int = 20
    max_characters: int = 16_384
    max_values: int = 1_000
    max_cost: int = 1_000
    max_regex_characters: int = 512
    max_regex_bytes: int = 1 << 20
    max_alternatives: int = 64
    max_steps: int = 100_000
    max_batch_steps: int = 2_000_000
    max_data_values: int = 100_000
    max_destination_cost: int = 4_000
    max_destination_characters: int = 65_536
    max_destination_values: int = 4_000


DEFAULT_LIMITS = FilterLimits()


class Allowance:
    """The steps for several events: each is sure of an equal share, and gets more while others leave theirs."""

    def __init__(self, limits: FilterLimits, events: int) -> None:
        self._most = limits.max_steps
        self._left = limits.max_batch_steps
        self._share = limits.max_batch_steps // max(1, events)
        self._events = events

    def of_next(self) -> int:
        """What the next event may take."""
        self._events -= 1
        return min(self._most, self._left - self._events * self._share)

    def took(self, steps: int) -> None:
        self._left -= steps


class Size(Struct, frozen=True, kw_only=True):
    """How large a filter is, or several together: see FilterLimits."""

    values: int = 0
    characters: int = 0
    cost: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            values=self.values + other.values,
            characters=self.characters + other.characters,
            cost=self.cost + other.cost,
        )

    def too_large(self, limits: FilterLimits) -> str | None:
        """A sentence when the filters of a destination are more than is allowed."""
        for what, most in (
            ("values", limits.max_destination_values),
            ("characters", limits.max_destination_characters),
            ("cost", limits.max_destination_cost),
        ):
            found = getattr(self, what)
            if found > most:
                return f"the filters of the destination come to a total {what} of {found}, and {most} is allowed"
        return None


def check_size(value: object, limits: FilterLimits, at: Pointer = ()) -> Size:
    """Raise FilterError when a JSON filter is too deep, too long or has too many values."""
    pending = [(at, 0, value)]
    values = characters = 0
    while pending:
        pointer, depth, part = pending.pop()
        values += 1
        characters += _own_characters(part)
        if depth > limits.max_depth:
            refuse(pointer, f"the filter is nested deeper than {limits.max_depth} levels")
        if values > limits.max_values:
            refuse(at, f"the filter has more than {limits.max_values} values")
        if characters > limits.max_characters:
            refuse(pointer, f"the filter's keys and texts are longer than {limits.max_characters} characters")
        pending.extend(((*pointer, key), depth + 1, member) for key, member in _members(part))
    return Size(values=values, characters=characters)


def _own_characters(part: object) -> int:
    if isinstance(part, Mapping):
        return sum(len(str(key)) for key in part)
    if isinstance(part, str):
        return len(part)
    return _digits(part) if isinstance(part, int | Decimal) else 0


def _digits(number: int | Decimal) -> int:
    """How many digits a number has, more or less, if they are many."""
    return number.bit_length() // 4 if isinstance(number, int) else 2 * (number.__sizeof__() - Decimal().__sizeof__())


def _members(part: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(part, Mapping):
        return ((str(key), member) for key, member in part.items())
    return enumerate(part) if isinstance(part, list | tuple) else ()
