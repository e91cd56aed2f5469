"""Questions as Python closures: compiled once for a version of a filter, run for every event."""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import singledispatch
from types import MappingProxyType
from typing import Any

from waypost.core.filters.ast import (
    CURRENT,
    AllOf,
    AnyOf,
    Compare,
    Contains,
    Element,
    EndsWith,
    Equal,
    EqualFold,
    Exists,
    Fields,
    FoundIn,
    Includes,
    InNetwork,
    IsScalar,
    Matches,
    Not,
    OneOf,
    Ref,
    Same,
    StartsWith,
    Test,
    Wildcard,
    refs,
)
from waypost.core.filters.document import Scope, typed
from waypost.core.filters.limits import FilterLimits
from waypost.core.filters.regex import Regex
from waypost.core.filters.values import (
    MISSING,
    NUMBERS,
    Number,
    data_of,
    is_number,
    is_scalar,
    loosely_equal,
    number_in,
    same,
)

Check = Callable[[Any, Scope], bool]
"""Whether a value answers the question."""

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)


@singledispatch
def check_of(test: Test, _limits: FilterLimits) -> Check:
    """The closure for a question."""
    raise TypeError(f"{type(test).__name__} cannot be compiled")


# --- shape ------------------------------------------------------------------------------------------------------------


@check_of.register
def _fields(test: Fields, limits: FilterLimits) -> Check:
    return _object_check(test, limits, lambda _value, _scope: False)


@check_of.register
def _element(test: Element, limits: FilterLimits) -> Check:
    inner = check_of(test.test, limits)
    through = _some_numbered if needs_indexes(test.test) else _some

    def in_list(value: Any, scope: Scope) -> bool:
        return type(value) is list and through(value, inner, scope)

    if isinstance(test.test, Fields):
        return _object_check(test.test, limits, in_list)
    if isinstance(test.test, Equal) and isinstance(test.test.operand, str):
        return _text_check(test.test.operand, in_list)

    def check(value: Any, scope: Scope) -> bool:
        return in_list(value, scope) if type(value) is list else inner(value, scope)

    return check


def _object_check(test: Fields, limits: FilterLimits, otherwise: Check) -> Check:
    """Whether an object's members answer; any value that is no object is left to `otherwise`.

    Objects within objects are most of every filter: one call each, and one less where there is a single member.
    """
    members = tuple((name, check_of(member, limits)) for name, member in test.members)
    if len(members) == 1:
        return _one_member(*members[0], otherwise)

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is dict:
            for name, member in members:  # noqa: SIM110  # a generator would cost more than the conditions
                if not member(value.get(name, MISSING), scope):
                    return False
            return True
        if value is MISSING:
            return bool(members) and all(member(MISSING, scope) for _, member in members)
        return otherwise(value, scope)

    return check


def _one_member(name: str, member: Check, otherwise: Check) -> Check:
    def check(value: Any, scope: Scope) -> bool:
        if type(value) is dict:
            return member(value.get(name, MISSING), scope)
        return member(MISSING, scope) if value is MISSING else otherwise(value, scope)

    return check


def _some(values: list[Any], check: Check, scope: Scope) -> bool:
    pending = [values]
    while pending:
        current = pending.pop()
        scope.spend(len(current))
        for value in current:
            if type(value) is list:
                pending.append(value)
            elif check(value, scope):
                return True
    return False


def _some_numbered(values: list[Any], check: Check, scope: Scope) -> bool:
    """Like `_some`, with the positions on the way noted in the scope."""
    outer = scope.indexes
    pending = [(outer, values)]
    try:
        while pending:
            place, current = pending.pop()
            scope.spend(len(current))
            for index, value in enumerate(current):
                scope.indexes = (*place, index)
                if type(value) is list:
                    pending.append((scope.indexes, value))
                elif check(value, scope):
                    return True
    finally:
        scope.indexes = outer
    return False


def needs_indexes(test: Test) -> bool:
    return any(CURRENT in ref.path for ref in refs(test))


@check_of.register
def _includes(test: Includes, limits: FilterLimits) -> Check:
    wanted = tuple(check_of(member, limits) for member in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        return type(value) is list and all(_some_direct(value, member, scope) for member in wanted)

    return check


def _some_direct(values: list[Any], check: Check, scope: Scope) -> bool:
    outer = scope.indexes
    scope.spend(len(values))
    try:
        for index, value in enumerate(values):
            scope.indexes = (*outer, index)
            if check(value, scope):
                return True
    finally:
        scope.indexes = outer
    return False


# --- logic ------------------------------------------------------------------------------------------------------------


@check_of.register
def _all_of(test: AllOf, limits: FilterLimits) -> Check:
    checks = tuple(check_of(part, limits) for part in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        for part in checks:  # noqa: SIM110  # a generator would cost more than the conditions
            if not part(value, scope):
                return False
        return True

    return check


@check_of.register
def _any_of(test: AnyOf, limits: FilterLimits) -> Check:
    checks = tuple(check_of(part, limits) for part in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        for part in checks:  # noqa: SIM110  # a generator would cost more than the conditions
            if part(value, scope):
                return True
        return False

    return check


@check_of.register
def _not(test: Not, limits: FilterLimits) -> Check:
    inner = check_of(test.test, limits)
    return lambda value, scope: not inner(value, scope)


# --- conditions -------------------------------------------------------------------------------------------------------


@check_of.register
def _exists(_test: Exists, _limits: FilterLimits) -> Check:
    return lambda value, _scope: value is not MISSING


@check_of.register
def _is_scalar(_test: IsScalar, _limits: FilterLimits) -> Check:
    return lambda value, _scope: is_scalar(value)


@check_of.register
def _equal(test: Equal, _limits: FilterLimits) -> Check:
    operand = test.operand
    if isinstance(operand, Ref):
        path = operand.path
        return lambda value, scope: _present(other := scope.at(path)) and loosely_equal(value, other)
    if isinstance(operand, str):
        return _equal_text(operand)
    if is_number(operand):
        return _equal_number(operand)
    return lambda value, _scope: value is operand


def _present(value: object) -> bool:
    return value is not MISSING


def _equal_text(text: str) -> Check:
    return _text_check(text, lambda _value, _scope: False)


def _text_check(text: str, otherwise: Check) -> Check:
    """Whether a value is this text, or the number that it writes; any other value is left to `otherwise`."""
    number = number_in(text)
    if number is None:
        return lambda value, scope: value == text or otherwise(value, scope)
    return lambda value, scope: (
        value == text or (value == number if type(value) in NUMBERS else otherwise(value, scope))
    )


def _equal_number(number: Number) -> Check:
    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is str:
            return number_in(value) == number
        return type(value) in NUMBERS and value == number

    return check


@check_of.register
def _one_of(test: OneOf, _limits: FilterLimits) -> Check:
    members = frozenset(typed(member) for member in test.members)

    def check(value: Any, _scope: Scope) -> bool:
        kind = type(value)
        return kind is not dict and kind is not list and typed(value) in members

    return check


@check_of.register
def _same(test: Same, _limits: FilterLimits) -> Check:
    operand = data_of(test.operand)
    return lambda value, _scope: same(value, operand)


@check_of.register
def _compare(test: Compare, _limits: FilterLimits) -> Check:
    in_order = _ORDER[test.operator]
    operand = test.operand
    if isinstance(operand, Ref):
        path = operand.path
        return lambda value, scope: _compared(value, scope.at(path), in_order)
    if is_number(operand):
        number = Decimal(operand)  # a Decimal against a Decimal is the fastest pair
        return _strictly_compared(number, in_order) if test.strict else _compared_number(number, in_order)
    return lambda value, _scope: _compared(value, operand, in_order)


def _strictly_compared(number: Decimal, in_order: Callable[[Any, Any], bool]) -> Check:
    return lambda value, _scope: type(value) in NUMBERS and in_order(value, number)


def _compared_number(number: Decimal, in_order: Callable[[Any, Any], bool]) -> Check:
    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is str:
            value = number_in(value)
        return type(value) in NUMBERS and in_order(value, number)

    return check


def _compared(value: Any, operand: Any, in_order: Callable[[Any, Any], bool]) -> bool:
    """Two texts by code point; as numbers as soon as one of the two is a number."""
    if type(value) is str and type(operand) is str:
        return in_order(value, operand)
    left, right = _as_number(value), _as_number(operand)
    return left is not None and right is not None and in_order(left, right)


def _as_number(value: Any) -> Number | None:
    if type(value) is str:
        return number_in(value)
    return value if is_number(value) else None


@check_of.register
def _contains(test: Contains, _limits: FilterLimits) -> Check:
    text = test.text
    return lambda value, _scope: type(value) is str and text in value


@check_of.register
def _found_in(test: FoundIn, _limits: FilterLimits) -> Check:
    path = test.ref.path

    def check(value: Any, scope: Scope) -> bool:
        place = scope.at(path)
        if type(place) is list:
            return is_scalar(value) and typed(value) in scope.members(place)
        return type(value) is str and (type(place) is str or is_number(place)) and str(place) in value

    return check


@check_of.register
def _starts_with(test: StartsWith, _limits: FilterLimits) -> Check:
    text = test.text
    if isinstance(text, Ref):
        return _affixed_as_referenced(text, str.startswith)
    if test.fold:
        folded = text.casefold()
        reach = len(folded)  # case folding never shortens a text: the rest cannot matter
        return lambda value, _scope: type(value) is str and value[:reach].casefold().startswith(folded)
    return lambda value, _scope: type(value) is str and value.startswith(text)


@check_of.register
def _ends_with(test: EndsWith, _limits: FilterLimits) -> Check:
    text = test.text
    if isinstance(text, Ref):
        return _affixed_as_referenced(text, str.endswith)
    if test.fold:
        folded = text.casefold()
        reach = max(len(folded), 1)
        return lambda value, _scope: type(value) is str and value[-reach:].casefold().endswith(folded)
    return lambda value, _scope: type(value) is str and value.endswith(text)


def _affixed_as_referenced(ref: Ref, has: Callable[[str, str], bool]) -> Check:
    path = ref.path

    def check(value: Any, scope: Scope) -> bool:
        affix = scope.at(path)
        return type(value) is str and type(affix) is str and has(value, affix)

    return check


@check_of.register
def _equal_fold(test: EqualFold, _limits: FilterLimits) -> Check:
    folded = test.text.casefold()
    most = len(folded)  # case folding never shortens a text
    return lambda value, _scope: type(value) is str and len(value) <= most and value.casefold() == folded


@check_of.register
def _matches(test: Matches, limits: FilterLimits) -> Check:
    regex = Regex(test.pattern, limits)

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is not str:
            return False
        scope.spend(regex.steps(value))
        return regex.found_in(value)

    return check


@check_of.register
def _wildcard(test: Wildcard, _limits: FilterLimits) -> Check:
    parts = test.parts
    return lambda value, _scope: type(value) is str and fits(value, parts)


def fits(text: str, parts: tuple[str, ...]) -> bool:
    """Whether the text is made of the parts in order with anything between them; in time linear to the text."""
    if len(parts) == 1:
        return text == parts[0]
    head, *middle, tail = parts
    at, end = len(head), len(text) - len(tail)
    if at > end or not text.startswith(head) or not text.endswith(tail):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@check_of.register
def _in_network(test: InNetwork, _limits: FilterLimits) -> Check:
    network = ipaddress.ip_network(test.network)

    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is not str:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return check
