"""What the questions mean, as slowly and plainly as possible: the oracle for the compiled filters.

Shares nothing with the compiler but the tree itself. Numbers are fractions, lists are flattened by recursion, sets are
searched one by one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import re2

from waypost.core.filters import ast
from waypost.core.filters.values import JsonObject

GONE = object()
"""What a path finds where there is nothing."""


def holds(test: ast.Test, root: dict[str, Any]) -> bool:
    return _Reading(root).holds(test, root, ())


class _Reading:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def holds(self, test: ast.Test, value: Any, at: tuple[int, ...]) -> bool:  # noqa: PLR0911  # a case for each shape
        match test:
            case ast.Fields(members):
                if value is GONE and members:
                    return all(self.holds(member, GONE, at) for _, member in members)
                return isinstance(value, dict) and all(
                    self.holds(member, value.get(name, GONE), at) for name, member in members
                )
            case ast.Element(inner):
                return any(self.holds(inner, element, place) for element, place in _elements(value, at))
            case ast.Includes(tests):
                return isinstance(value, list) and all(
                    any(self.holds(part, element, (*at, index)) for index, element in enumerate(value))
                    for part in tests
                )
            case ast.AllOf(tests):
                return False not in [self.holds(part, value, at) for part in tests]
            case ast.AnyOf(tests):
                return True in [self.holds(part, value, at) for part in tests]
            case ast.Not(inner):
                return not self.holds(inner, value, at)
            case ast.Exists():
                return value is not GONE
            case _:
                return value is not GONE and self.condition(test, value, at)

    def condition(self, test: ast.Test, value: Any, at: tuple[int, ...]) -> bool:
        match test:
            case ast.IsScalar():
                return not isinstance(value, dict | list)
            case ast.Equal(operand):
                return _equal(value, self.operand(operand, at))
            case ast.OneOf(members):
                return any(_identical(value, member) for member in members)
            case ast.Same(operand):
                return _identical(value, _plain(operand))
            case ast.Compare(operator, operand, strict):
                return _ordered(value, operator, self.operand(operand, at), strict=strict)
            case ast.FoundIn(ref):
                return _found_in(value, self.operand(ref, at))
            case _:
                return isinstance(value, str) and self.text(test, value, at)

    def text(self, test: ast.Test, value: str, at: tuple[int, ...]) -> bool:
        match test:
            case ast.Contains(text):
                return value.count(text) > 0
            case ast.StartsWith(text, fold):
                affix = self.operand(text, at)
                return isinstance(affix, str) and _fold(value, fold)[: len(_fold(affix, fold))] == _fold(affix, fold)
            case ast.EndsWith(text, fold):
                affix = self.operand(text, at)
                reverse, tail = _fold(value, fold)[::-1], _fold(affix, fold)[::-1] if isinstance(affix, str) else None
                return tail is not None and reverse[: len(tail)] == tail
            case ast.EqualFold(text):
                return _fold(value, True) == _fold(text, True)
            case ast.Matches(pattern):
                return re2.search(pattern, value) is not None
            case ast.Wildcard(parts):
                return re.fullmatch("(?s:.*)".join(map(re.escape, parts)), value) is not None
            case ast.InNetwork(network):
                return _in_network(value, network)
            case _:
                raise TypeError(test)

    def operand(self, operand: Any, at: tuple[int, ...]) -> Any:
        if not isinstance(operand, ast.Ref):
            return operand
        value: Any = self.root
        lists = list(at)
        for step in operand.path:
            key: Any = (lists.pop(0) if lists else None) if step == ast.CURRENT else step
            try:
                value = value[key] if isinstance(value, dict if isinstance(step, str) else list) else GONE
            except (KeyError, IndexError, TypeError):
                return GONE
        return value


def _elements(value: Any, at: tuple[int, ...]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    if not isinstance(value, list):
        yield value, at
        return
    for index, element in enumerate(value):
        yield from _elements(element, (*at, index))


def _number(value: Any) -> Fraction | None:
    return None if isinstance(value, bool) or not isinstance(value, int | Decimal) else Fraction(value)


def _numeral(value: Any) -> Fraction | None:
    """The number of a number, or of a text that writes one."""
    if not isinstance(value, str):
        return _number(value)
    written = re.fullmatch(r"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?", value)
    if written is None or not (written[2] or written[3]):
        return None
    digits = Fraction(int((written[2] + written[3]) or "0"), 10 ** len(written[3]))
    return (-digits if written[1] == "-" else digits) * Fraction(10) ** int(written[4] or 0)


def _identical(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_identical(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_identical(one[i], other[i]) for i in range(len(one)))
    if _number(one) is not None and _number(other) is not None:
        return _number(one) == _number(other)
    return type(one) is type(other) and not isinstance(one, dict | list) and bool(one == other)


def _equal(one: Any, other: Any) -> bool:
    if GONE in (one, other):
        return False
    if isinstance(one, str) != isinstance(other, str) and _number(one if isinstance(other, str) else other) is not None:
        return _numeral(one) is not None and _numeral(one) == _numeral(other)
    return _identical(one, other)


def _ordered(one: Any, operator: str, other: Any, *, strict: bool) -> bool:
    both = (one, other)
    if isinstance(one, str) and isinstance(other, str):
        left, right = both
    else:
        left, right = (_number(one), _number(other)) if strict else (_numeral(one), _numeral(other))
    if strict and isinstance(one, str):
        return False
    if left is None or right is None:
        return False
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


def _found_in(value: Any, place: Any) -> bool:
    if isinstance(place, list):
        return not isinstance(value, dict | list) and any(_identical(value, member) for member in place)
    if place is GONE or isinstance(place, bool | dict) or place is None:
        return False
    return isinstance(value, str) and str(place) in value


def _fold(text: str, fold: bool) -> str:
    return text.casefold() if fold else text


def _in_network(text: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    known = ipaddress.ip_network(network)
    return (
        address.version == known.version and address in list(known) if known.num_addresses < 300 else address in known
    )


def _plain(operand: Any) -> Any:
    if isinstance(operand, JsonObject):
        return {key: _plain(member) for key, member in operand.members}
    return [_plain(member) for member in operand] if isinstance(operand, tuple) else operand
