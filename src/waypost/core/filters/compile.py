"""Questions as Python closures: compiled once for a version of a filter, run for every event.

Whoever calls a check has spent its price first (`waypost.core.filters.price`): for a whole filter at once, for the
elements of a list some dozens at a time. What depends on the data itself, a check spends when it sees it.
"""

from __future__ import annotations

import ipaddress
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import singledispatch
from types import MappingProxyType
from typing import Any

from waypost.core.filters.ast import (
    CURRENT,
    AllOf,
    AnyOf,
    Compare,
    Comparison,
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
    below,
    ref_of,
)
from waypost.core.filters.document import Scope
from waypost.core.filters.limits import FilterLimits
from waypost.core.filters.price import IN_BULK, Prices, scanning
from waypost.core.filters.regex import Regex
from waypost.core.filters.values import (
    MISSING,
    NUMERAL_MAX_LENGTH,
    Number,
    data_of,
    is_number,
    is_scalar,
    number_in,
    same,
    toll,
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
        self.price = Prices().of
        self._made: dict[int, Check] = {}
        self._numbered: dict[int, bool] = {}

    def of(self, test: Test) -> Check:
        """The closure for a question, which must live as long as this does."""
        check = self._made.get(id(test))
        if check is None:
            check = self._made[id(test)] = _check_of(test, self)
        return check

    def needs_indexes(self, test: Test) -> bool:
        """Whether a question is about the positions in the lists on the way to it."""
        known = self._numbered.get(id(test))
        if known is None:
            ref = ref_of(test)
            known = (ref is not None and CURRENT in ref.path) or any(map(self.needs_indexes, below(test)))
            self._numbered[id(test)] = known
        return known

    def each(self, tests: tuple[Test, ...]) -> tuple[Check, ...]:
        """The closures for parts of a question. Many of them are paid one by one: the first may decide."""
        if sum(map(self.price, tests)) <= IN_BULK:
            return tuple(map(self.of, tests))
        return tuple(map(self.paid, tests))

    def paid(self, test: Test) -> Check:
        """The closure for a question that spends its price itself."""
        check, price = self.of(test), self.price(test)

        def paid(value: Any, scope: Scope) -> bool:
            scope.spend(price)
            return check(value, scope)

        return paid

    def of_event(self, test: Test) -> tuple[Check, int]:
        """The closure for a whole filter and its price: fields of the payload are asked without a way down to it."""
        members = _of_payload(test)
        if members is None:
            return self.of(test), self.price(test)
        whole = self.paid(test)
        inner = tuple(member for _, member in members)
        price = 2 + sum(map(self.price, inner))
        price = price if price <= 2 + IN_BULK else 2
        checks = tuple(zip((name for name, _ in members), self.each(inner), strict=True))

        def check(root: Any, scope: Scope) -> bool:
            data = root.get("data")
            if type(data) is not dict:
                return whole(root, scope)
            for name, member in checks:  # noqa: SIM110  # a generator would cost more than the conditions
                if not member(data.get(name, MISSING), scope):
                    return False
            return True

        return check, price


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
    inner, price = checks.of(test.test), 1 + checks.price(test.test)
    through = _some_numbered if checks.needs_indexes(test.test) else _some

    def in_list(value: Any, scope: Scope) -> bool:
        return type(value) is list and through(value, inner, price, scope)

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
    names, tests = zip(*test.members, strict=True) if test.members else ((), ())
    members = tuple(zip(names, checks.each(tests), strict=True))
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


_AT_ONCE = 32
"""Elements of a list that are paid for together."""


def _some(values: list[Any], check: Check, price: int, scope: Scope) -> bool:
    pending = [values]
    while pending:
        current = pending.pop()
        for piece in (current,) if len(current) <= _AT_ONCE else _pieces(current):
            scope.spend(1 + len(piece) * price)
            for value in piece:
                if type(value) is list:
                    pending.append(value)
                elif check(value, scope):
                    return True
    return False


def _pieces(values: list[Any]) -> Iterator[list[Any]]:
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def _some_numbered(values: list[Any], check: Check, price: int, scope: Scope) -> bool:
    """Like `_some`, with the positions on the way noted in the scope."""
    outer = scope.indexes
    pending = [(outer, values)]
    try:
        while pending:
            place, current = pending.pop()
            scope.spend(1)
            price_here = price + 1 + len(place) // 16
            for index, value in enumerate(current):
                scope.spend(price_here)
                scope.indexes = (*place, index)
                if type(value) is list:
                    pending.append((scope.indexes, value))
                elif check(value, scope):
                    return True
    finally:
        scope.indexes = outer
    return False


@_check_of.register
def _includes(test: Includes, checks: Checks) -> Check:
    wanted = tuple((checks.of(member), 2 + checks.price(member)) for member in test.tests)

    def check(value: Any, scope: Scope) -> bool:
        return type(value) is list and all(_some_direct(value, member, price, scope) for member, price in wanted)

    return check


def _some_direct(values: list[Any], check: Check, price: int, scope: Scope) -> bool:
    outer = scope.indexes
    scope.spend(1)
    try:
        for index, value in enumerate(values):
            scope.spend(price)
            scope.indexes = (*outer, index)
            if check(value, scope):
                return True
    finally:
        scope.indexes = outer
    return False


# --- logic ------------------------------------------------------------------------------------------------------------


@_check_of.register
def _all_of(test: AllOf, checks: Checks) -> Check:
    parts = checks.each(test.tests)

    def check(value: Any, scope: Scope) -> bool:
        for part in parts:  # noqa: SIM110  # a generator would cost more than the conditions
            if not part(value, scope):
                return False
        return True

    return check


@_check_of.register
def _any_of(test: AnyOf, checks: Checks) -> Check:
    parts = checks.each(test.tests)

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
        return lambda value, scope: _present(other := scope.at(path)) and _loosely_equal(value, other, scope)
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
    whole = _whole(number)

    def check(value: Any, scope: Scope) -> bool:
        kind = type(value)
        if kind is int or kind is Decimal:
            return bool(value == whole if kind is int else value == number)
        return value == text or otherwise(value, scope)

    return check


def _whole(number: Number) -> int | None:
    """The number as an integer, None when it is not one of those that data can hold."""
    if isinstance(number, int):
        return number
    within = number.is_zero() or -_LONGEST < number.adjusted() < _LONGEST
    return int(number) if within and number == number.to_integral_value() else None


_LONGEST = 20_000
"""Data has no `int` of so many digits: longer numbers are decimal."""
_BEYOND = int(Decimal(f"1e{_LONGEST}"))


def _equal_number(operand: Number) -> Check:
    whole, number = _whole(operand), Decimal(operand)

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is int:
            return value == whole
        if type(value) is str:
            value = _read(value, scope)
        return type(value) is Decimal and value == number

    return check


def _read(text: str, scope: Scope) -> Decimal | None:
    scope.spend(5 + (len(text) >> 3 if len(text) <= NUMERAL_MAX_LENGTH else 0))
    return number_in(text)


def _loosely_equal(one: object, other: object, scope: Scope) -> bool:
    """Equality where numeric text equals the number it writes; containers are compared as `same` does it."""
    if isinstance(one, str) and is_number(other):
        return _in_any_type(_read(one, scope), other, scope, operator.eq)
    if is_number(one) and isinstance(other, str):
        return _in_any_type(_read(other, scope), one, scope, operator.eq)
    return same(one, other, scope.spend)


@_check_of.register
def _one_of(test: OneOf, _checks: Checks) -> Check:
    others = frozenset((type(member), member) for member in test.members if not is_number(member))
    decimals = frozenset(Decimal(member) for member in test.members if is_number(member))
    wholes = frozenset(map(_whole, decimals)) - {None}

    def check(value: Any, scope: Scope) -> bool:
        kind = type(value)
        if kind is int:
            return value in wholes
        if kind is Decimal:
            scope.spend(0 if -_NEAR < value.adjusted() < _NEAR else _STEPS_OF_A_FAR_HASH)
            return value in decimals
        return kind is not dict and kind is not list and (kind, value) in others

    return check


_NEAR = 100
_STEPS_OF_A_FAR_HASH = 100
"""What it costs to hash a decimal number, unless its exponent is near to 0."""


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
        return lambda value, scope: _compared(value, scope.at(path), scope, in_order)
    if is_number(operand):
        whole, number = _bound(operand, test.operator), Decimal(operand)
        return (_compared_strictly if test.strict else _compared_number)(whole, number, in_order)
    return lambda value, scope: _compared(value, operand, scope, in_order)


def _bound(number: Number, comparison: Comparison) -> int:
    """The integer that integers can be compared with in place of the number: two of one type are the fastest pair."""
    if isinstance(number, int):
        return number
    if number and number.adjusted() > _LONGEST:
        return _BEYOND if number > 0 else -_BEYOND
    return math.ceil(number) if comparison in {"<", ">="} else math.floor(number)


def _compared_strictly(whole: int, number: Decimal, in_order: Callable[[Any, Any], bool]) -> Check:
    def check(value: Any, _scope: Scope) -> bool:
        if type(value) is int:
            return in_order(value, whole)
        return type(value) is Decimal and in_order(value, number)

    return check


def _compared_number(whole: int, number: Decimal, in_order: Callable[[Any, Any], bool]) -> Check:
    def check(value: Any, scope: Scope) -> bool:
        if type(value) is int:
            return in_order(value, whole)
        if type(value) is str:
            value = _read(value, scope)
        return type(value) is Decimal and in_order(value, number)

    return check


def _compared(value: Any, operand: Any, scope: Scope, in_order: Callable[[Any, Any], bool]) -> bool:
    """Two texts by code point; as numbers as soon as one of the two is a number."""
    if type(value) is str and type(operand) is str:
        scope.spend(min(len(value), len(operand)) >> 10)
        return in_order(value, operand)
    return _in_any_type(_as_number(value, scope), _as_number(operand, scope), scope, in_order)


def _as_number(value: Any, scope: Scope) -> Number | None:
    if type(value) is str:
        return _read(value, scope)
    return value if is_number(value) else None


def _in_any_type(left: Number | None, right: Number | None, scope: Scope, in_order: Callable[[Any, Any], bool]) -> bool:
    if left is None or right is None:
        return False
    scope.spend((toll(left) + toll(right)) // 4)
    return in_order(left, right)


@_check_of.register
def _contains(test: Contains, _checks: Checks) -> Check:
    return _scanned(len(test.text), lambda value: test.text in value)


def _scanned(part: int, found: Callable[[str], bool]) -> Check:
    """Whether a text answers when it is scanned for parts of at most so many characters."""

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is not str:
            return False
        scope.spend(scanning(len(value), part))
        return found(value)

    return check


@_check_of.register
def _found_in(test: FoundIn, _checks: Checks) -> Check:
    path = test.ref.path

    def check(value: Any, scope: Scope) -> bool:
        place = scope.at(path)
        if type(place) is list:
            return is_scalar(value) and scope.key(value) in scope.members(place)
        if type(value) is not str or not (type(place) is str or is_number(place)):
            return False
        scope.spend(toll(place) if is_number(place) else 0)
        text = str(Decimal(place)) if type(place) is int else str(place)
        scope.spend(scanning(len(value), len(text)))
        return text in value

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
        if type(value) is not str or type(affix) is not str:
            return False
        scope.spend(len(affix) >> 10)
        return has(value, affix)

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
    return _scanned(max(map(len, test.parts)), lambda value: fits(value, test.parts))


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


_LONGEST_ADDRESS = 64
_STEPS_OF_AN_ADDRESS = 100


@_check_of.register
def _in_network(test: InNetwork, _checks: Checks) -> Check:
    network = ipaddress.ip_network(test.network)

    def check(value: Any, scope: Scope) -> bool:
        if type(value) is not str or len(value) > _LONGEST_ADDRESS:
            return False
        scope.spend(_STEPS_OF_AN_ADDRESS)
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return check
