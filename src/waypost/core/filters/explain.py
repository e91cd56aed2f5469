"""Why an event passes a filter or not: the facts that decided, each with its path.

A teller goes through the document as the compiled check does and says what it found. A fact is a clause that is true
of the event whether the filter holds or not: `data.price is at least 10`, `data.price is not at least 10 (it is 9.99)`.
Every skip is explained, so tellers ask the compiled checks first and put only what decided into words. They spend steps
as a match does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import singledispatch
from typing import Any

from msgspec import Struct

from waypost.core.filters import paths
from waypost.core.filters.ast import (
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
)
from waypost.core.filters.compile import Check, Checks
from waypost.core.filters.document import Scope
from waypost.core.filters.values import MISSING, NUMBERS, shown, toll

_WORDS = 20
"""The steps of putting one condition into words."""

_MOST = 3
"""How many facts one sentence strings together."""


class Fact(Struct, frozen=True, gc=False):
    """Whether the question holds, and the clause that says why."""

    holds: bool
    clause: str


Teller = Callable[[Any, Scope, str], Fact]
"""Tells the fact about a value found under a path."""


@singledispatch
def teller_of(test: Test, checks: Checks) -> Teller:
    """The teller for a condition: what it asks, and what is there instead."""
    check, price = checks.of(test), _WORDS + checks.price(test)
    is_so, is_not_so = _phrase(test)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        scope.spend(price)
        if check(value, scope):
            return Fact(True, f"{_subject(path)} {is_so}")
        if value is MISSING:
            return Fact(False, f"{_subject(path)} is missing")
        if type(value) in NUMBERS:
            scope.spend(toll(value))
        return Fact(False, f"{_subject(path)} {is_not_so} (it is {shown(value)})")

    return tell


def _subject(path: str) -> str:
    return path or "the event"


@teller_of.register
def _fields(test: Fields, checks: Checks) -> Teller:
    if len(test.members) == 1:
        ((name, member),) = test.members
        return _one_member(name, teller_of(member, checks))
    return _several_members(
        tuple((name, checks.paid(member), teller_of(member, checks)) for name, member in test.members)
    )


def _one_member(name: str, tell_member: Teller) -> Teller:
    step = paths.step(name)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        if type(value) is not dict and value is not MISSING:
            return _another_kind(value, path, "an object")
        member = value.get(name, MISSING) if type(value) is dict else MISSING
        return tell_member(member, scope, path + step if path else step.removeprefix("."))

    return tell


def _several_members(members: tuple[tuple[str, Check, Teller], ...]) -> Teller:
    steps = tuple((name, paths.step(name), check, tell) for name, check, tell in members)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        if type(value) is not dict and (value is not MISSING or not steps):
            return _another_kind(value, path, "an object")
        inside = value if type(value) is dict else {}
        holding = []
        for name, step, check, told in steps:
            member, place = inside.get(name, MISSING), path + step if path else step.removeprefix(".")
            if not check(member, scope):
                return told(member, scope, place)
            holding.append((told, member, place))
        clauses = [told(member, scope, place).clause for told, member, place in holding]
        return Fact(True, _joined(clauses) or f"{_subject(path)} is an object")

    return tell


def _another_kind(value: object, path: str, kind: str) -> Fact:
    found = "missing" if value is MISSING else f"not {kind} (it is {shown(value)})"
    return Fact(False, f"{_subject(path)} is {found}")


@teller_of.register
def _element(test: Element, checks: Checks) -> Teller:
    check, tell_one = checks.paid(test.test), teller_of(test.test, checks)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        if type(value) is list:
            return _told_of_list(_elements(value, scope), check, tell_one, scope, path)
        return tell_one(value, scope, path)

    return tell


def _told_of_list(
    elements: Iterable[tuple[tuple[int, ...], Any]], check: Check, tell: Teller, scope: Scope, path: str
) -> Fact:
    """The first element that fits, or what is wrong with the first of those that don't."""
    outer = scope.indexes
    first = None
    count = 0
    try:
        for place, value in elements:
            scope.indexes = (*outer, *place)
            if check(value, scope):
                return tell(value, scope, path + paths.written(place))
            if first is None:
                first = tell(value, scope, path + paths.written(place)).clause
            count += 1
    finally:
        scope.indexes = outer
    return Fact(False, _none_fits(path, count, first))


def _none_fits(path: str, count: int, first: str | None) -> str:
    if first is None:
        return f"{_subject(path)} is an empty list"
    return first if count == 1 else f"none of the {count} elements of {path} fits: {first}"


def _elements(values: list[Any], scope: Scope) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The elements of a list and of the lists within it, with their positions."""
    pending: list[tuple[tuple[int, ...], list[Any]]] = [((), values)]
    while pending:
        place, current = pending.pop()
        price = 3 + len(place) // 16
        for index, value in enumerate(current):
            scope.spend(price)
            if type(value) is list:
                pending.append(((*place, index), value))
            else:
                yield (*place, index), value


@teller_of.register
def _includes(test: Includes, checks: Checks) -> Teller:
    wanted = tuple((checks.paid(member), teller_of(member, checks)) for member in test.tests)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        if type(value) is not list:
            return _another_kind(value, path, "a list")
        if not wanted:
            return Fact(True, f"{_subject(path)} is a list")
        return _all(_told_of_list(_members(value, scope), check, told, scope, path) for check, told in wanted)

    return tell


def _members(values: list[Any], scope: Scope) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The members of one list, lists included, with their positions."""
    scope.spend(3 * len(values))
    return (((index,), value) for index, value in enumerate(values))


@teller_of.register
def _all_of(test: AllOf, checks: Checks) -> Teller:
    parts = tuple((checks.paid(part), teller_of(part, checks)) for part in test.tests)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        for check, told in parts:
            if not check(value, scope):
                return told(value, scope, path)
        return _all(told(value, scope, path) for _, told in parts)

    return tell


def _all(facts: Iterable[Fact]) -> Fact:
    """The first fact that fails, or all that hold."""
    holding = []
    for fact in facts:
        if not fact.holds:
            return fact
        holding.append(fact.clause)
    return Fact(True, _joined(holding) or "nothing is asked")


@teller_of.register
def _any_of(test: AnyOf, checks: Checks) -> Teller:
    parts = tuple((checks.paid(part), teller_of(part, checks)) for part in test.tests)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        for check, told in parts:
            if check(value, scope):
                return told(value, scope, path)
        clauses = [told(value, scope, path).clause for _, told in parts]
        return Fact(False, _joined(clauses) or "no alternative is given")

    return tell


def _joined(clauses: list[str]) -> str:
    clauses = list(dict.fromkeys(clauses))
    kept = clauses[:_MOST]
    more = [f"{len(clauses) - _MOST} more"] if len(clauses) > _MOST else []
    return " and ".join(kept + more)


@teller_of.register
def _not(test: Not, checks: Checks) -> Teller:
    inner = teller_of(test.test, checks)

    def tell(value: Any, scope: Scope, path: str) -> Fact:
        fact = inner(value, scope, path)
        return Fact(not fact.holds, fact.clause)

    return tell


# --- phrases ----------------------------------------------------------------------------------------------------------

_ORDER = {"<": "less than", "<=": "at most", ">": "greater than", ">=": "at least"}


def _phrase(test: Test) -> tuple[str, str]:  # noqa: C901, PLR0911  # one case for each condition
    """The predicate of a condition, and its denial."""
    match test:
        case Equal(operand):
            return f"equals {_shown(operand)}", f"does not equal {_shown(operand)}"
        case Same(operand):
            return f"equals {shown(operand)}", f"does not equal {shown(operand)}"
        case Compare(operator, operand):
            return _is(f"{_ORDER[operator]} {_shown(operand)}")
        case Contains(text):
            return f"contains {shown(text)}", f"does not contain {shown(text)}"
        case StartsWith(text):
            return f"starts with {_shown(text)}", f"does not start with {_shown(text)}"
        case EndsWith(text):
            return f"ends with {_shown(text)}", f"does not end with {_shown(text)}"
        case EqualFold(text):
            return f"equals {shown(text)} in any case", f"does not equal {shown(text)} in any case"
        case Matches(pattern):
            return f"matches {shown(pattern)}", f"does not match {shown(pattern)}"
        case Wildcard(parts):
            return f"matches {shown('*'.join(parts))}", f"does not match {shown('*'.join(parts))}"
        case Exists():
            return "exists", "is missing"
        case _:
            return _is(_predicate(test))


def _predicate(test: Test) -> str:
    match test:
        case OneOf((only,)):
            return shown(only)
        case OneOf(members):
            return "one of " + ", ".join(map(shown, members[:_MOST])) + (", …" if len(members) > _MOST else "")
        case FoundIn(ref):
            return f"in {_shown(ref)}"
        case InNetwork(network):
            return f"in {network}"
        case IsScalar():
            return "a text, number, boolean or null"
        case _:
            return f"what {type(test).__name__} asks"


def _is(predicate: str) -> tuple[str, str]:
    return f"is {predicate}", f"is not {predicate}"


def _shown(operand: object) -> str:
    return paths.written(operand.path) if isinstance(operand, Ref) else shown(operand)
