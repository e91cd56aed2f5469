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


class Checks:
    """The closures for the questions of one filter, each made once however often it is asked for."""

    def __init__(self, limits: FilterLimits) -> None:
        self.limits = limits
        self._made: dict[int, Check] = {}

    def of(self, test: Test) -> Check:
        """The closure for a question, which must live as long as this does."""
        check = self._made.get(id(test))
        if check is None:
            check = self._made[id(test)] = _check_of(test, self)
        return check

    def of_event(self, test: Test) -> Check:
        """The closure for a whole filter: what it asks of fields of the payload is asked without a way down to it."""
        whole, members = self.of(test), _of_payload(test)
        if members is None:
            return whole
        checks = tuple((name, self.of(member)) for name, member in members)

        def check(root: Any, scope: Scope) -> bool:
            data = root.get("data")
            if type(data) is not dict:
                return whole(root, scope)
            for name, member in checks:  # noqa: SIM110  # a generator would cost more than the conditions
                if not member(data.get(name, MISSING), scope):
                    return False
            return True

        return check


def _of_payload(test: Test) -> list[tuple[str, Test]] | None:
    """The fields of `data` and what is asked of each, when that is all that the filter asks."""
    members: list[tuple[str, Test]] = []
    for part in test.tests if isinstance(test, AllOf) else (test,):
        match part:
            case Element(Fields((("data", Element(Fields(inner))),))):
                members += inner
            case _:
                return None
    return members


@singledispatch
def _check_of(test: Test, _checks: Checks) -> Check:
    """The closure for a question."""
    raise TypeError(f"{type(test).__name__} cannot be compiled")


# --- shape ------------------------------------------------------------------------------------------------------------


@_check_of.register
def _fields(test: Fields, checks: Checks) -> Check:
    return _object_check(test, checks, lambda _value, _scope: False)


@_check_of.register
def _element(test: Element, checks: Checks) -> Check:
    inner = checks.of(test.test)
    through = _some_numbered if needs_indexes(test.test) else _some

    def in_list(value: Any, scope: Scope) -> bool:
        return type(value) is list and through(value, inner, scope)

    if isinstance(test.test, Fields):
        return _object_check(test.test, checks, in_list)
    if isinstance(test.test, Equal) and isinstance(test.test.operand, str):
        return _text_check(test.test.operand, in_list)

    def check(value: Any, scope: Scope) -> bool:
        return in_list(value, scope) if type(value) is list else inner(value, scope)

    return check


def _object_check(test: Fields, checks: Checks, otherwise: Check) -> Check:
    """Whether an object's members answer; any value that is no object is left to `otherwise`.

    Objects within objects are most of every filter: one call each, and one less where there is a single member.
    """
    members = tuple((name, checks.of(member)) for name, member in test.members)
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


@_check_of.register
def _includes(test: Includes, checks: Checks) -> Check:
    wanted = tuple(checks.of(member) for member in test.tests)

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


@_check_of.register
def _all_of(test: AllOf, checks: Checks) -> Check:
    parts = tuple(checks.of(part) for part in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        for part in parts:  # noqa: SIM110  # a generator would cost more than the conditions
            if not part(value, scope):
                return False
        return True

    return check


@_check_of.register
def _any_of(test: AnyOf, checks: Checks) -> Check:
    parts = tuple(checks.of(part) for part in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        for part in parts:  # noqa: SIM110  # a generator would cost more than the conditions
            if part(value, scope):
                return True
        return False

    return check


@_check_of.register
def _not(test: Not, checks: Checks) -> Check:
    inner = checks.of(test.test)
    return lambda value, scope: not inner(value, scope)


# --- conditions -------------------------------------------------------------------------------------------------------


@_check_of.register
def _exists(_test: Exists, _checks: Checks) -> Check:
    return lambda value, _scope: value is not MISSING


@_check_of.register
def _is_scalar(_test: IsScalar, _checks: Checks) -> Check:
    return lambda value, _scope: is_scalar(value)


@_check_of.register
def _equal(test: Equal, _checks: Checks) -> Check:
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


@_check_of.register
def _one_of(test: OneOf, _checks: Checks) -> Check:
    members = frozenset(typed(member) for member in test.members)

    def check(value: Any, _scope: Scope) -> bool:
        kind = type(value)
        return kind is not dict and kind is not list and typed(value) in members

    return check


@_check_of.register
def _same(test: Same, _checks: Checks) -> Check:
    operand = data_of(test.operand)
    return lambda value, _scope: same(value, operand)


@_check_of.register
def _compare(test: Compare, _checks: Checks) -> Check:
    in_order = _ORDER[test.operator]
    operand = test.operand
    if isinstance(operand, Ref):
        path = operand.path
        return lambda value, scope: _compared(value, scope.at(path), in_order)
    if is_number(operand):
        return _compared_strictly(operand, in_order) if test.strict else _compared_number(operand, in_order)
    return lambda value, _scope: _compared(value, operand, in_order)


def _compared_strictly(operand: Number, in_order: Callable[[Any, Any], bool]) -> Check:
    whole, number = _both(operand)

    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is int:
            return in_order(value, whole)
        return type(value) is Decimal and in_order(value, number)

    return check


def _compared_number(operand: Number, in_order: Callable[[Any, Any], bool]) -> Check:
    whole, number = _both(operand)

    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is int:
            return in_order(value, whole)
        if type(value) is str:
            value = number_in(value)
        return type(value) is Decimal and in_order(value, number)

    return check


def _both(operand: Number) -> tuple[Number, Decimal]:
    """The number for integers and for decimals: two of one type are the fastest pair."""
    number = Decimal(operand)
    return (operand if isinstance(operand, int) else number), number


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


@_check_of.register
def _contains(test: Contains, _checks: Checks) -> Check:
    text = test.text
    return lambda value, _scope: type(value) is str and text in value


@_check_of.register
def _found_in(test: FoundIn, _checks: Checks) -> Check:
    path = test.ref.path

    def check(value: Any, scope: Scope) -> bool:
        place = scope.at(path)
        if type(place) is list:
            return is_scalar(value) and typed(value) in scope.members(place)
        return type(value) is str and (type(place) is str or is_number(place)) and str(place) in value

    return check


@_check_of.register
def _starts_with(test: StartsWith, _checks: Checks) -> Check:
    text = test.text
    if isinstance(text, Ref):
        return _affixed_as_referenced(text, str.startswith)
    if test.fold:
        folded = text.casefold()
        reach = len(folded)  # case folding never shortens a text: the rest cannot matter
        return lambda value, _scope: type(value) is str and value[:reach].casefold().startswith(folded)
    return lambda value, _scope: type(value) is str and value.startswith(text)


@_check_of.register
def _ends_with(test: EndsWith, _checks: Checks) -> Check:
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


@_check_of.register
def _equal_fold(test: EqualFold, _checks: Checks) -> Check:
    folded = test.text.casefold()
    most = len(folded)  # case folding never shortens a text
    return lambda value, _scope: type(value) is str and len(value) <= most and value.casefold() == folded


@_check_of.register
def _matches(test: Matches, checks: Checks) -> Check:
    regex = Regex(test.pattern, checks.limits)

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is not str:
            return False
        scope.spend(regex.steps(value))
        return regex.found_in(value)

    return check


@_check_of.register
def _wildcard(test: Wildcard, _checks: Checks) -> Check:
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


@_check_of.register
def _in_network(test: InNetwork, _checks: Checks) -> Check:
    network = ipaddress.ip_network(test.network)

    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is not str:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return check
