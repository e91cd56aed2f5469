"""How much a filter may ask for. The bounds hold whatever the dialect, and before anything recurses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from waypost.core.filters.errors import Pointer, refuse


class FilterLimits(Struct, frozen=True, kw_only=True):
    """The bounds of one filter. A filter beyond one of them is refused when it is saved.

    `max_depth`: nesting of objects, lists and parentheses, and the parts of a path. `max_characters`: all keys and
    texts together, or the length of a query. `max_values`: objects, lists and scalars in a JSON filter. `max_cost`:
    the sum over all conditions, each weighed by what a match costs (1 for a comparison, 2 for a search in text, 5
    for a wildcard or an address range, 20 for a regular expression). `max_regex_characters` and `max_regex_bytes`:
    the text of one regular expression, and the memory of its compiled form with its cache. `max_alternatives`: what
    the `$or`s of an EventBridge pattern multiply to. `max_steps`: the list elements visited in one match, and the
    searches of regular expressions on the same scale (a step for 64 characters times the instructions of the
    compiled expression); an event that needs more does not pass, and `explain` says so.
    """

    max_depth: int = 20
    max_characters: int = 16_384
    max_values: int = 1_000
    max_cost: int = 1_000
    max_regex_characters: int = 512
    max_regex_bytes: int = 1 << 20
    max_alternatives: int = 64
    max_steps: int = 1_000_000


DEFAULT_LIMITS = FilterLimits()


def check_size(value: object, limits: FilterLimits, at: Pointer = ()) -> None:
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


def _own_characters(part: object) -> int:
    if isinstance(part, Mapping):
        return sum(len(str(key)) for key in part)
    return len(part) if isinstance(part, str) else 0


def _members(part: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(part, Mapping):
        return ((str(key), member) for key, member in part.items())
    return enumerate(part) if isinstance(part, list | tuple) else ()
